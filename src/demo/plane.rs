//! The control plane as a child process: its configuration, its life, its verbs.
//!
//! Ports are chosen before the first start, because boxes are told the URL of the link.
//!
//! I/O: writes files, starts processes, asks the admin socket.

use super::child;
use super::child::Daemon;
use crate::clock;
use crate::tls::token;
use crate::tls::token::FleetKey;
use crate::tls::token::FleetSecret;
use crate::tls::token::KeyId;
use crate::tls::token::Secret;
use anyhow::Context as _;
use serde_json::Value;
use std::fs;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// What box names of the demo end in.
pub(super) const DOMAIN: &str = "oca.example.net";

/// Of viewers' URLs, beside the configuration.
const SECRET: &str = "viewer-secret";

/// A database of a few rows on a busy machine is ready long before.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// A running control plane stops within this.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// How fast the fleet's clocks run: as in life, or for tests that cannot wait.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub report_every: Duration,
    pub heartbeat_every: Duration,
    /// Silence after which a box counts as dead.
    pub silence: Duration,
    pub lease: Duration,
    /// A box that misses a source asks again so soon.
    pub ask_again: Duration,
}

impl Pace {
    /// The defaults, but for the lease: half an hour is long for a demo.
    pub const LIFE: Self = Self {
        report_every: Duration::from_secs(300),
        heartbeat_every: Duration::from_secs(10),
        silence: Duration::from_secs(25),
        lease: Duration::from_secs(30),
        ask_again: Duration::from_secs(10),
    };

    pub const BRISK: Self = Self {
        report_every: Duration::from_secs(30),
        heartbeat_every: Duration::from_secs(1),
        silence: Duration::from_secs(3),
        lease: Duration::from_secs(5),
        ask_again: Duration::from_secs(1),
    };
}

/// A control plane below one directory.
#[derive(Debug)]
pub struct Plane {
    program: PathBuf,
    dir: PathBuf,
    daemon: Daemon,
    pub link: SocketAddr,
    pub public: SocketAddr,
}

impl Plane {
    /// Writes the configuration below `dir`. `program` is `oca`.
    pub fn new(program: &Path, dir: &Path, pace: Pace) -> anyhow::Result<Self> {
        let host = Ipv4Addr::LOCALHOST;
        let link = SocketAddr::new(IpAddr::V4(host), free_port(host)?);
        let public = SocketAddr::new(IpAddr::V4(host), free_port(host)?);
        let config = dir.join("control.toml");
        let made = Self {
            program: program.to_owned(),
            dir: dir.to_owned(),
            daemon: Daemon::new(
                program,
                [
                    "control".as_ref(),
                    "run".as_ref(),
                    "--config".as_ref(),
                    config.as_os_str(),
                ],
                dir.join("control.log"),
            ),
            link,
            public,
        };
        token::save_fleet(&dir.join(SECRET), &fleet_secret()?)?;
        fs::write(&config, made.config_text(pace))
            .with_context(|| format!("cannot write {}", config.display()))?;
        Ok(made)
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("control.sock")
    }

    pub fn process(&self) -> Option<u32> {
        self.daemon.process()
    }

    /// Starts it and waits until it answers. Returns how long it took.
    pub async fn start(&mut self) -> anyhow::Result<Duration> {
        let socket = self.socket();
        let is_ready = || async { child::ask(&socket, "/v1/status").await.is_ok() };
        self.daemon.start(READY_WITHIN, is_ready).await
    }

    /// SIGTERM.
    pub async fn terminate(&mut self) -> anyhow::Result<(ExitStatus, Duration)> {
        self.daemon.terminate(STOP_WITHIN).await
    }

    /// `oca control <arguments> --json`, and the object it prints.
    pub async fn control(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let mut command = child::command(&self.program);
        command
            .arg("control")
            .args(arguments)
            .arg("--json")
            .arg("--socket")
            .arg(self.socket());
        let name = format!("oca control {}", arguments.join(" "));
        let output = command
            .output()
            .await
            .with_context(|| format!("cannot run {name}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        // Long work prints a line of progress at a time; the last one is the outcome. A directory
        // with files that are refused is no success, but what was told counts.
        let last = text.trim().lines().last().unwrap_or_default();
        serde_json::from_str(text.trim())
            .or_else(|_| serde_json::from_str(last))
            .with_context(|| {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                format!("{name} ended with {}: {}", output.status, said.trim())
            })
    }

    /// The sum over the labels of a counter.
    pub async fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let text = child::text(&self.socket(), "/metrics").await?;
        let of_it = |line: &&str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
        };
        let value = |line: &str| line.rsplit_once(' ')?.1.parse::<f64>().ok();
        Ok(text.lines().filter(of_it).filter_map(value).sum())
    }

    /// The end of its log, for an error message.
    pub fn tail(&self) -> String {
        self.daemon.tail()
    }

    fn config_text(&self, pace: Pace) -> String {
        let below = |name: &str| toml::Value::from(self.dir.join(name).to_string_lossy().as_ref());
        format!(
            "[control]\n\
             state_dir = {state}\n\
             domain = \"{DOMAIN}\"\n\
             lease = \"{lease}s\"\n\
             report_every = \"{report}s\"\n\
             \n[link]\n\
             listen = [\"{link}\"]\n\
             names = [\"127.0.0.1\"]\n\
             \n[public]\n\
             plain_listen = [\"{public}\"]\n\
             \n[tokens]\n\
             secret_file = {secret}\n\
             \n[admin]\n\
             socket = {socket}\n\
             \n[fill]\n\
             ask_again = \"{ask_again}s\"\n\
             \n[staleness]\n\
             heartbeat = \"{silence}s\"\n",
            ask_again = pace.ask_again.as_secs(),
            state = below("control-state"),
            lease = pace.lease.as_secs(),
            report = pace.report_every.as_secs(),
            link = self.link,
            public = self.public,
            secret = below(SECRET),
            socket = below("control.sock"),
            silence = pace.silence.as_secs(),
        )
    }
}

/// What signs viewers' URLs for the day that a demo lasts at most.
fn fleet_secret() -> anyhow::Result<FleetSecret> {
    let from = clock::unix_seconds(clock::wall());
    let key = FleetKey {
        id: KeyId::parse("demo")?,
        from,
        until: from.saturating_add(86_400),
        secret: Secret::random()?,
    };
    Ok(FleetSecret::new(vec![key])?)
}

/// A port that is free at this moment; nobody on this machine is likely to take it in the next.
pub(super) fn free_port(address: Ipv4Addr) -> anyhow::Result<u16> {
    let any = SocketAddr::new(IpAddr::V4(address), 0);
    let listener = TcpListener::bind(any).context("no free port on loopback")?;
    Ok(listener.local_addr().context("no address")?.port())
}
