//! The control plane under test: one `oca control run` process, its doors, what it costs.
//!
//! I/O: writes files below a temporary directory, starts a process, reads /proc.

use super::Options;
use super::operator;
use super::operator::Provisioning;
use anyhow::Context as _;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use nix::unistd::SysconfVar;
use nix::unistd::sysconf;
use oca::clock;
use std::fs;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;

/// Until the process has read its database and listens.
const START_TIME_MAX: Duration = Duration::from_secs(60);
const STOP_TIME_MAX: Duration = Duration::from_secs(30);

pub(super) struct Plane {
    child: Child,
    link: SocketAddr,
    public: SocketAddr,
    dir: TempDir,
}

impl Plane {
    pub(super) async fn start(options: &Options) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let (link, public) = (free_port()?, free_port()?);
        let config = dir.path().join("control.toml");
        fs::write(&config, config_text(dir.path(), options, link, public))?;
        let log = fs::File::create(dir.path().join("log"))?;
        let child = Command::new(&options.oca)
            .args(["control", "run", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| options.oca.display().to_string())?;
        let mut plane = Self {
            child,
            link,
            public,
            dir,
        };
        let begun = clock::now();
        let listens = |door| TcpStream::connect(door).is_ok();
        while !listens(link) || !listens(public) || !plane.socket().exists() {
            plane.check_alive()?;
            anyhow::ensure!(
                begun.elapsed() < START_TIME_MAX,
                "the control plane does not listen:\n{}",
                plane.tail()
            );
            clock::sleep(Duration::from_millis(50)).await;
        }
        Ok(plane)
    }

    pub(super) fn link(&self) -> SocketAddr {
        self.link
    }

    pub(super) fn public(&self) -> SocketAddr {
        self.public
    }

    /// Fills the registry and imports content, and brings a token for every box.
    pub(super) async fn provision(&self, options: &Options) -> anyhow::Result<Provisioning> {
        let (socket, media) = (self.socket(), self.dir.path().join("media"));
        let options = options.clone();
        let work = move || operator::provision(&socket, &media, &options);
        tokio::task::spawn_blocking(work).await?
    }

    pub(super) async fn open_boxes(&self) -> anyhow::Result<u64> {
        let socket = self.socket();
        tokio::task::spawn_blocking(move || operator::open_boxes(&socket)).await?
    }

    /// User and system time of all its threads so far.
    pub(super) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = self.proc("stat")?;
        // After the name, which may hold anything: state is field 3, utime 14, stime 15.
        let (_, rest) = stat.rsplit_once(") ").context("a strange /proc/stat")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let ticks = |field: usize| -> anyhow::Result<u32> {
            Ok(fields.get(field - 3).context("a short stat")?.parse()?)
        };
        let hertz = sysconf(SysconfVar::CLK_TCK)?.context("no clock tick")?;
        Ok(f64::from(ticks(14)? + ticks(15)?) / f64::from(i32::try_from(hertz)?))
    }

    pub(super) fn rss_bytes(&self) -> anyhow::Result<u64> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(kilobytes.context("no VmRSS")?.parse::<u64>()? * 1_024)
    }

    pub(super) fn check_alive(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(exit) => anyhow::bail!("the control plane ended, {exit}:\n{}", self.tail()),
        }
    }

    /// Asks it to end and waits for that.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        kill(self.pid()?, Signal::SIGTERM)?;
        let begun = clock::now();
        loop {
            if let Some(exit) = self.child.try_wait()? {
                anyhow::ensure!(exit.success(), "{exit}:\n{}", self.tail());
                return Ok(());
            }
            anyhow::ensure!(begun.elapsed() < STOP_TIME_MAX, "it does not stop");
            clock::sleep(Duration::from_millis(50)).await;
        }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    fn pid(&self) -> anyhow::Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.child.id())?))
    }

    fn proc(&self, file: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path).context(path)
    }

    /// The end of its log.
    fn tail(&self) -> String {
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Plane {
    /// A simulation that failed leaves no process behind.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nobody else takes it in the moment before the process does.
fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn config_text(dir: &Path, options: &Options, link: SocketAddr, public: SocketAddr) -> String {
    let dir = dir.display();
    let report_every = options.report_every.as_millis();
    format!(
        "[control]\nstate_dir = \"{dir}/state\"\ndomain = \"oca.example.net\"\n\
         report_every = \"{report_every}ms\"\n\
         [link]\nlisten = [\"{link}\"]\nnames = [\"127.0.0.1\"]\n\
         [public]\nplain_listen = [\"{public}\"]\n\
         [admin]\nsocket = \"{dir}/control.sock\"\n"
    )
}
