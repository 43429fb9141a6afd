//! nginx in the foreground as one process, tuned as its users tune it for files: sendfile,
//! tcp_nopush, `open_file_cache`, no access log, one worker, which accepts all that waits at once.
//!
//! I/O: writes files, starts a process.

use anyhow::Context as _;
use oca::clock;
use oca::demo::Appliance;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

/// How long it may take to listen.
const STARTED_WITHIN: Duration = Duration::from_secs(10);

/// Killed when dropped.
#[derive(Debug)]
pub(crate) struct Nginx {
    child: Child,
    pub(crate) plain: SocketAddr,
    pub(crate) tls: SocketAddr,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // An error means that it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Nginx {
    /// Starts `program`, which is nginx on its core, with the box's certificate. With `threads`
    /// the files are sent by a pool of threads, so that a slow disk does not stop the worker.
    pub(crate) async fn start(
        program: &Path,
        dir: &Path,
        media: &Path,
        oca: &Appliance,
        threads: bool,
    ) -> anyhow::Result<Self> {
        let name = if threads { "nginx-threads" } else { "nginx" };
        let config = dir.join(format!("{name}.conf"));
        let own = dir.join(name);
        fs::create_dir(&own)?;
        let (plain, tls) = (free_address()?, free_address()?);
        fs::write(&config, text(&own, media, oca, [plain, tls], threads)?)?;
        let child = Command::new(program)
            .arg("-c")
            .arg(&config)
            .arg("-p")
            .arg(&own)
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start nginx")?;
        let started = Self { child, plain, tls };
        let listening = async {
            while tokio::net::TcpStream::connect(plain).await.is_err() {
                clock::sleep(Duration::from_millis(20)).await;
            }
        };
        clock::within(STARTED_WITHIN, listening)
            .await
            .context("nginx does not listen; its messages are above")?;
        Ok(started)
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }
}

/// nginx by name, where Debian puts it.
pub(crate) fn program() -> &'static str {
    let sbin = "/usr/sbin/nginx";
    if Path::new(sbin).is_file() {
        sbin
    } else {
        "nginx"
    }
}

/// `nginx version: …`.
pub(crate) fn version() -> anyhow::Result<String> {
    let said = Command::new(program()).arg("-v").output()?.stderr;
    Ok(String::from_utf8_lossy(&said).trim().to_owned())
}

fn text(
    own: &Path,
    media: &Path,
    oca: &Appliance,
    [plain, tls]: [SocketAddr; 2],
    threads: bool,
) -> anyhow::Result<String> {
    let mut text = String::new();
    let (own, media) = (own.display(), media.display());
    let authority = oca.authority();
    let (chain, key) = (authority.chain.display(), authority.key.display());
    let threads = if threads { "aio threads;" } else { "" };
    write!(
        text,
        "daemon off; master_process off; worker_processes 1;\n\
         pid {own}/nginx.pid; error_log stderr error;\n\
         events {{ worker_connections 16384; use epoll; multi_accept on; }}\n\
         http {{\n\
           access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; server_tokens off;\n\
           keepalive_timeout 300s; keepalive_requests 100000000; {threads}\n\
           open_file_cache max=10000 inactive=600s; open_file_cache_valid 600s;\n\
           client_body_temp_path {own}/body; proxy_temp_path {own}/proxy;\n\
           fastcgi_temp_path {own}/fastcgi; uwsgi_temp_path {own}/uwsgi;\n\
           scgi_temp_path {own}/scgi;\n\
           default_type application/octet-stream;\n\
           ssl_certificate {chain}; ssl_certificate_key {key};\n\
           ssl_protocols TLSv1.3; ssl_buffer_size 16k;\n\
           server {{ listen {plain} backlog=4096; root {media}; }}\n\
           server {{ listen {tls} ssl backlog=4096; root {media}; }}\n\
         }}\n"
    )?;
    Ok(text)
}

/// Nothing else asks the kernel for ports in the bench's namespace.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
