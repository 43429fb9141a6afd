//! A player's web site, and the browser that visits it.
//!
//! The site is a plain HTTP server on a port of its own: a page, hls.js, and a place where the page
//! reports with a POST.
//!
//! I/O: starts Chromium, listens on loopback.

use crate::support::peer;
use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Stdio;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// More than a page ever posts.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Reports that wait for the test; a page sends a few.
const REPORTS_MAX: usize = 16;

/// One browser at a time: two would take each other's processor, and then it is the machine that
/// stalls a film.
pub(crate) static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A headless Chromium in a process group of its own; killed with it.
#[derive(Debug)]
pub(crate) struct Browser {
    child: Child,
    log: PathBuf,
}

impl Browser {
    /// Opens `page`, with a profile below `dir`; trusts the box whose key this is.
    pub(crate) fn start(dir: &Path, public_key_info: &[u8], page: &str) -> Self {
        let log = dir.join("chromium.log");
        let out = fs::File::create(&log).unwrap();
        let pin = public_key_pin(public_key_info);
        let mut command = peer("chromium", "chromium");
        command
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
            ])
            .args(["--no-first-run", "--disable-background-networking"])
            .args([
                "--disable-component-update",
                "--disable-sync",
                "--mute-audio",
            ])
            .args(["--disable-dev-shm-usage", "--no-proxy-server"])
            .arg("--autoplay-policy=no-user-gesture-required")
            // Exactly the box's key is trusted; every other certificate error stays an error.
            .arg(format!("--ignore-certificate-errors-spki-list={pin}"))
            .arg(format!("--user-data-dir={}", dir.join("profile").display()))
            .arg(page)
            // Its sockets go with the directory.
            .env("TMPDIR", dir)
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .process_group(0);
        let child = command.spawn().unwrap();
        Self { child, log }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let group = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        // An error means that it has ended by itself.
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// The form that Chromium takes: base64 of SHA-256 of the SubjectPublicKeyInfo.
fn public_key_pin(info: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, info);
    base64(digest.as_ref())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let word = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            if digit <= group.len() {
                let value = usize::try_from(word >> (18 - 6 * digit) & 63).unwrap();
                text.push(char::from(DIGITS[value]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[test]
fn base64_is_that_of_rfc_4648() {
    for (bytes, text) in [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foobar", "Zm9vYmFy"),
    ] {
        assert_eq!(base64(bytes.as_bytes()), text);
    }
}

/// The site. Its thread ends with the test's process.
pub(crate) fn serve(page: String) -> (SocketAddr, Receiver<String>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = root.join("tests/.tools/node_modules/hls.js/dist/hls.min.js");
    let script = fs::read(&script).unwrap_or_else(|_| {
        panic!(
            "hls.js is missing; install it with: tests/run, or mkdir -p tests/.tools && \
             cp tests/tools/package*.json tests/.tools && npm ci --prefix tests/.tools"
        )
    });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = sync_channel(REPORTS_MAX);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A browser that goes away in the middle is no news.
            let _ = answer(stream, page.as_bytes(), &script, &sender);
        }
    });
    (address, receiver)
}

fn answer(
    mut stream: TcpStream,
    page: &[u8],
    script: &[u8],
    results: &SyncSender<String>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut line, mut length) = (String::new(), 0);
    reader.read_line(&mut line)?;
    let request = line.clone();
    while line.trim() != "" {
        line.clear();
        reader.read_line(&mut line)?;
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0).min(BODY_BYTES_MAX);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let (kind, content): (_, &[u8]) = match request.split(' ').nth(1) {
        Some("/") => ("text/html; charset=utf-8", page),
        Some("/hls.js") => ("text/javascript", script),
        Some("/result") => {
            // A page that reports more than it should is not heard.
            let _ = results.try_send(String::from_utf8_lossy(&body).into_owned());
            ("text/plain", b"")
        }
        _ => ("text/plain", b""),
    };
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        content.len()
    )?;
    stream.write_all(content)?;
    stream.flush()?;
    Ok(())
}
