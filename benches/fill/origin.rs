//! nginx over TLS with the films, which are in the page cache, on a core of its own.
//!
//! I/O: writes files, starts a process; both go with their owner.

use anyhow::Context as _;
use oca::clock;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::IsCa;
use rcgen::KeyPair;
use std::fs;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

/// An object of a night: 45 GB are some 1,100 files.
pub(crate) const OBJECT_BYTES: usize = 40_000_000;

/// The last is not a multiple of anything.
const ODD_BYTES: usize = 12_345;

const CORE: &str = "0";
const STARTED_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Origin {
    child: Child,
    pub(crate) port: u16,
    pub(crate) authority: PathBuf,
    /// On the machine's disk: where fetched files go.
    pub(crate) scratch: PathBuf,
    media: PathBuf,
}

impl Drop for Origin {
    fn drop(&mut self) {
        // An error means that it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Origin {
    pub(crate) fn start(dir: &Path, objects: usize) -> anyhow::Result<Self> {
        let media = dir.join("media");
        fs::create_dir(&media)?;
        for number in 0..objects {
            let name = name(number);
            fs::write(media.join(&name), content(&name))?;
        }
        // Written out, and in memory.
        nix::unistd::sync();
        let authority = certificates(dir)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let config = dir.join("nginx.conf");
        let (own, root) = (dir.display(), media.display());
        fs::write(
            &config,
            format!(
                "daemon off; master_process off; worker_processes 1; user root;\n\
                 pid {own}/nginx.pid; error_log stderr error;\n\
                 events {{ worker_connections 1024; use epoll; multi_accept on; }}\n\
                 http {{ access_log off; sendfile on; tcp_nopush on; server_tokens off;\n\
                   keepalive_requests 100000; open_file_cache max=1000;\n\
                   client_body_temp_path {own}/b; proxy_temp_path {own}/p;\n\
                   fastcgi_temp_path {own}/f; uwsgi_temp_path {own}/u; scgi_temp_path {own}/s;\n\
                   default_type application/octet-stream;\n\
                   ssl_certificate {own}/leaf.pem; ssl_certificate_key {own}/leaf.key;\n\
                   ssl_protocols TLSv1.3; ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;\n\
                   ssl_buffer_size 16k;\n\
                   server {{ listen 127.0.0.1:{port} ssl; root {root}; autoindex on; }}\n\
                 }}\n"
            ),
        )?;
        let child = Command::new("taskset")
            .args(["--cpu-list", CORE, program()])
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start nginx")?;
        let started = Self {
            child,
            port,
            authority,
            scratch: dir.to_owned(),
            media,
        };
        let end = clock::now() + STARTED_WITHIN;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            anyhow::ensure!(clock::now() < end, "nginx does not listen");
            clock::block_for(Duration::from_millis(20));
        }
        Ok(started)
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("https://localhost:{}/{name}", self.port)
    }

    pub(crate) fn media(&self) -> &Path {
        &self.media
    }
}

pub(crate) fn name(number: usize) -> String {
    format!("{number}.bin")
}

fn content(name: &str) -> Vec<u8> {
    let mut bytes = vec![0; OBJECT_BYTES + ODD_BYTES];
    let mut stream = blake3::Hasher::new();
    stream.update(name.as_bytes());
    stream.finalize_xof().fill(&mut bytes);
    bytes
}

fn certificates(dir: &Path) -> anyhow::Result<PathBuf> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new(vec!["localhost".to_owned()])?.signed_by(&key, &issuer)?;
    let authority = dir.join("authority.pem");
    fs::write(&authority, issuer.pem())?;
    fs::write(dir.join("leaf.pem"), leaf.pem())?;
    fs::write(dir.join("leaf.key"), key.serialize_pem())?;
    Ok(authority)
}

/// nginx by name, where Debian puts it.
fn program() -> &'static str {
    let sbin = "/usr/sbin/nginx";
    if Path::new(sbin).is_file() {
        sbin
    } else {
        "nginx"
    }
}
