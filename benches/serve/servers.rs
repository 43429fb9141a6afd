//! The two servers on the first core, with the very same files and the same certificate.
//!
//! nginx is tuned as its users tune it for files: sendfile, tcp_nopush, open_file_cache, no access
//! log, one worker. Our box runs one worker and no access log.
//!
//! I/O: writes files, starts processes, reads /proc.

use crate::load::Target;
use crate::load::Transport;
use anyhow::Context as _;
use oca::clock;
use oca::demo::Appliance;
use oca::demo::Scratch;
use oca::demo::Settings;
use oca::object::Digest;
use rustls::ClientConfig;
use rustls::RootCertStore;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

/// The core of both servers; `benches/run` puts the clients on core 1.
const SERVER_CORE: &str = "0";

/// How long nginx may take to listen.
const STARTED_WITHIN: Duration = Duration::from_secs(10);

/// Two sizes of file, each many: one hot file would live in the processor's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Small,
    Large,
}

impl Kind {
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Small => 16 << 10,
            Self::Large => 1_000_000,
        }
    }

    fn count(self) -> u64 {
        match self {
            Self::Small => 2_000,
            Self::Large => 500,
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
        }
    }
}

/// Both servers. Field order is drop order.
#[derive(Debug)]
pub(crate) struct Servers {
    oca: Appliance,
    nginx: Nginx,
    client: Arc<ClientConfig>,
    _scratch: Scratch,
}

/// nginx in the foreground as one process; killed with it.
#[derive(Debug)]
struct Nginx {
    child: Child,
    plain: SocketAddr,
    tls: SocketAddr,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // An error means that it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Servers {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let scratch = Scratch::new("oca-bench")?;
        let media = scratch.path().join("media");
        for kind in [Kind::Small, Kind::Large] {
            write_files(&media, kind)?;
        }
        let settings = Settings {
            workers: 1,
            disks: 1,
            access_log: false,
            role: oca::demo::Role::Alone,
        };
        let program = pinned(scratch.path())?;
        let mut oca = Appliance::new(&program, scratch.path(), settings)?;
        oca.prefill(&media).await?;
        for kind in [Kind::Small, Kind::Large] {
            share_files(scratch.path(), &media, kind)?;
        }
        oca.start().await?;
        let nginx = Nginx::start(scratch.path(), &media, &oca).await?;
        let client = client(&oca)?;
        Ok(Self {
            oca,
            nginx,
            client,
            _scratch: scratch,
        })
    }

    pub(crate) fn target(
        &self,
        kind: Kind,
        transport: Transport,
        ours: bool,
    ) -> anyhow::Result<Target> {
        let known = self.oca.addresses()?;
        let (address, tls) = match (transport, ours) {
            (Transport::Plain, true) => (known.plain, None),
            (Transport::Plain, false) => (self.nginx.plain, None),
            (Transport::Tls, true) => (known.https, Some(Arc::clone(&self.client))),
            (Transport::Tls, false) => (self.nginx.tls, Some(Arc::clone(&self.client))),
        };
        Ok(Target {
            address,
            tls,
            prefix: kind.prefix(),
            count: kind.count(),
            bytes: kind.bytes(),
        })
    }

    /// CPU time of all threads of a server since it started.
    pub(crate) fn cpu_ns(&self, ours: bool) -> anyhow::Result<u64> {
        let process = match ours {
            true => self.oca.process().context("oca has ended")?,
            false => self.nginx.child.id(),
        };
        let mut total = 0;
        for task in fs::read_dir(format!("/proc/{process}/task"))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let first = text.split(' ').next().context("an empty schedstat")?;
            total += first.parse::<u64>().context("a strange schedstat")?;
        }
        Ok(total)
    }

    /// What anybody who compares these figures has to know.
    pub(crate) fn conditions(&self) -> anyhow::Result<String> {
        let read = |path: &str| fs::read_to_string(path).with_context(|| path.to_owned());
        let stream = std::net::TcpStream::connect(self.nginx.plain)?;
        let congestion = socket2::SockRef::from(&stream).tcp_congestion()?;
        let congestion = String::from_utf8_lossy(&congestion).into_owned();
        let version = nginx().arg("-v").output()?.stderr;
        Ok(format!(
            "congestion control of both: {}; peer: {}; load average {}",
            congestion.trim_end_matches('\0'),
            String::from_utf8_lossy(&version).trim(),
            read("/proc/loadavg")?.trim(),
        ))
    }
}

impl Nginx {
    async fn start(dir: &Path, media: &Path, oca: &Appliance) -> anyhow::Result<Self> {
        let (plain, tls) = (free_address()?, free_address()?);
        let config = dir.join("nginx.conf");
        fs::write(&config, nginx_config(dir, media, oca, plain, tls)?)?;
        let child = Command::new("taskset")
            .args(["--cpu-list", SERVER_CORE])
            .arg(nginx().get_program())
            .arg("-c")
            .arg(&config)
            .args(["-p"])
            .arg(dir)
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
}

/// nginx by name, where Debian puts it.
fn nginx() -> Command {
    let sbin = Path::new("/usr/sbin/nginx");
    Command::new(if sbin.is_file() {
        sbin
    } else {
        Path::new("nginx")
    })
}

fn nginx_config(
    dir: &Path,
    media: &Path,
    oca: &Appliance,
    plain: SocketAddr,
    tls: SocketAddr,
) -> anyhow::Result<String> {
    let mut text = String::new();
    let (dir, media) = (dir.display(), media.display());
    let (chain, key) = (
        oca.authority().chain.display(),
        oca.authority().key.display(),
    );
    write!(
        text,
        "daemon off; master_process off; worker_processes 1;\n\
         pid {dir}/nginx.pid; error_log stderr error;\n\
         events {{ worker_connections 4096; use epoll; }}\n\
         http {{\n\
           access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; server_tokens off;\n\
           keepalive_timeout 60s; keepalive_requests 100000000;\n\
           open_file_cache max=10000 inactive=600s; open_file_cache_valid 600s;\n\
           client_body_temp_path {dir}/nginx-body; proxy_temp_path {dir}/nginx-proxy;\n\
           fastcgi_temp_path {dir}/nginx-fastcgi; uwsgi_temp_path {dir}/nginx-uwsgi;\n\
           scgi_temp_path {dir}/nginx-scgi;\n\
           default_type application/octet-stream;\n\
           ssl_certificate {chain}; ssl_certificate_key {key};\n\
           ssl_protocols TLSv1.3; ssl_buffer_size 16k;\n\
           server {{ listen {plain} backlog=4096; root {media}; }}\n\
           server {{ listen {tls} ssl backlog=4096; root {media}; }}\n\
         }}\n"
    )?;
    Ok(text)
}

/// A wrapper that starts our binary on the server's core.
fn pinned(dir: &Path) -> anyhow::Result<std::path::PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = dir.join("oca-pinned");
    let program = env!("CARGO_BIN_EXE_oca");
    let text = format!("#!/bin/sh\nexec taskset --cpu-list {SERVER_CORE} '{program}' \"$@\"\n");
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
    Ok(path)
}

/// Nothing else asks the kernel for ports in the bench's namespace.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Different bytes in each file; which ones does not matter.
fn write_files(media: &Path, kind: Kind) -> anyhow::Result<()> {
    let dir = media.join(kind.prefix());
    fs::create_dir_all(&dir)?;
    for number in 0..kind.count() {
        let mut bytes = vec![0; kind.bytes()];
        let mut stream = blake3::Hasher::new();
        stream.update(&number.to_le_bytes());
        stream.finalize_xof().fill(&mut bytes);
        fs::write(dir.join(format!("{number}.bin")), bytes)?;
    }
    Ok(())
}

/// Lets nginx serve the very files of our store: the same pages in the page cache, laid out the
/// same way, for both. Copies differ in the sizes of their folios, which decides more than code.
fn share_files(dir: &Path, media: &Path, kind: Kind) -> anyhow::Result<()> {
    for number in 0..kind.count() {
        let path = media.join(format!("{}/{number}.bin", kind.prefix()));
        let digest = Digest::of(&fs::read(&path)?).to_string();
        let object = dir
            .join("disk1/objects")
            .join(&digest[..2])
            .join(&digest[2..4])
            .join(&digest);
        anyhow::ensure!(object.is_file(), "there is no {}", object.display());
        fs::remove_file(&path)?;
        std::os::unix::fs::symlink(&object, &path)?;
    }
    Ok(())
}

/// One cipher for both, so that the libraries' preferences do not decide.
fn client(oca: &Appliance) -> anyhow::Result<Arc<ClientConfig>> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    let wanted = rustls::CipherSuite::TLS13_AES_128_GCM_SHA256;
    provider
        .cipher_suites
        .retain(|suite| suite.suite() == wanted);
    let mut roots = RootCertStore::empty();
    roots.add(oca.authority().root.clone())?;
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
