//! One box as a child process: its configuration, its life, its admin socket.
//!
//! The demo's box, and the fixture of the tests with real peers and of the benches. Ports are
//! chosen by the kernel at the first start and kept for the next ones, as a viewer expects.
//! Dropping it kills the process and waits until it is gone.
//!
//! I/O: writes files, starts processes, asks the admin socket.

use super::authority::Authority;
use super::child;
use super::child::Daemon;
use anyhow::Context as _;
use serde_json::Value;
use std::fs;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::process::Command;

/// A box with a few files on a busy machine is ready long before.
pub(super) const READY_WITHIN: Duration = Duration::from_secs(20);

/// `[appliance] stop_time` of the demo's box.
pub(super) const STOP_TIME: Duration = Duration::from_secs(5);

/// What differs between the demo, a test and a bench.
#[derive(Clone, Debug)]
pub struct Settings {
    pub workers: usize,
    pub disks: usize,
    pub access_log: bool,
    pub role: Role,
}

/// A box alone, or one of a fleet.
#[derive(Clone, Debug, Default)]
pub enum Role {
    /// Serves viewers without a control plane or routes.
    #[default]
    Alone,
    Member(Member),
}

/// What a box of a fleet is told.
#[derive(Clone, Debug)]
pub struct Member {
    /// `c001-tls001-example-isp`.
    pub id: String,
    /// `TLS001.example.isp`.
    pub site: String,
    /// Where it listens; an address of its own on loopback.
    pub https: SocketAddr,
    /// The sections `[gate]`, `[control]`, `[bgp]` and `[[bgp.neighbour]]`, as text.
    pub sections: String,
}

/// A box below one directory.
#[derive(Debug)]
pub struct Appliance {
    program: PathBuf,
    dir: PathBuf,
    settings: Settings,
    authority: Authority,
    daemon: Daemon,
    addresses: Option<Addresses>,
}

/// Where viewers connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    pub https: SocketAddr,
    pub plain: SocketAddr,
}

impl Appliance {
    /// Makes certificate, disks and configuration of a box below `dir`. `program` is `oca`.
    pub fn new(program: &Path, dir: &Path, settings: Settings) -> anyhow::Result<Self> {
        Self::certified(program, dir, settings, Authority::make(dir)?)
    }

    /// As [`Appliance::new`], with a certificate that is there.
    pub fn certified(
        program: &Path,
        dir: &Path,
        settings: Settings,
        authority: Authority,
    ) -> anyhow::Result<Self> {
        for disk in 1..=settings.disks {
            let path = dir.join(format!("disk{disk}"));
            fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        let made = Self {
            program: program.to_owned(),
            dir: dir.to_owned(),
            settings,
            authority,
            daemon: Daemon::new(
                program,
                [
                    "run".as_ref(),
                    "--config".as_ref(),
                    dir.join("oca.toml").as_os_str(),
                ],
                dir.join("oca.log"),
            ),
            addresses: None,
        };
        made.write_config()?;
        Ok(made)
    }

    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    pub fn config(&self) -> PathBuf {
        self.dir.join("oca.toml")
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("oca.sock")
    }

    pub fn access_log(&self) -> PathBuf {
        self.dir.join("access.log")
    }

    /// Where viewers connect, once it has been started.
    pub fn addresses(&self) -> anyhow::Result<Addresses> {
        self.addresses.context("the box was never started")
    }

    pub fn process(&self) -> Option<u32> {
        self.daemon.process()
    }

    /// `oca prefill DIR --json`; returns the object it prints at the end.
    pub async fn prefill(&self, media: &Path) -> anyhow::Result<Value> {
        let config = self.config();
        let mut command = self.command("prefill");
        command.arg(media).arg("--json").arg("--config").arg(config);
        let output = command.output().await.context("cannot run oca prefill")?;
        // A directory with files that are refused is no success, but what it told counts.
        serde_json::from_slice(&output.stdout).with_context(|| {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            format!("oca prefill ended with {}: {}", output.status, said.trim())
        })
    }

    /// A command that asks the running box, such as `drain`, with its standard output.
    pub async fn oca(&self, arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
        let (name, rest) = arguments.split_first().context("no command")?;
        let mut command = self.command(name);
        command.args(rest).arg("--socket").arg(self.socket());
        let output = child::finished(&mut command, &format!("oca {name}")).await?;
        Ok(output.stdout)
    }

    /// Starts the box and waits until it is ready: alone, until it serves everything it holds; as
    /// a member, until every disk has been scanned. Returns how long it took.
    pub async fn start(&mut self) -> anyhow::Result<Duration> {
        let (socket, alone) = (self.socket(), matches!(self.settings.role, Role::Alone));
        let is_ready = || async { is_ready(&socket, alone).await.unwrap_or(false) };
        let took = self.daemon.start(READY_WITHIN, is_ready).await?;
        if self.addresses.is_none() {
            self.addresses = Some(self.listeners().await?);
            self.write_config()?;
        }
        Ok(took)
    }

    async fn listeners(&self) -> anyhow::Result<Addresses> {
        let connections = self.ask("/v1/connections").await?;
        let find = |tls: bool| -> anyhow::Result<SocketAddr> {
            connections["listeners"]
                .as_array()
                .and_then(|list| list.iter().find(|listener| listener["tls"] == tls))
                .and_then(|listener| listener["address"].as_str())
                .with_context(|| format!("no listener with tls = {tls} in {connections}"))?
                .parse()
                .context("a listener's address")
        };
        Ok(Addresses {
            https: find(true)?,
            plain: find(false)?,
        })
    }

    /// A question to the admin socket.
    pub async fn ask(&self, path: &str) -> anyhow::Result<Value> {
        child::ask(&self.socket(), path).await
    }

    /// SIGKILL: what a power button does to a process.
    pub fn kill(&mut self) {
        self.daemon.kill();
    }

    /// SIGTERM; waits at most `within` for the end.
    pub async fn terminate(&mut self, within: Duration) -> anyhow::Result<(ExitStatus, Duration)> {
        self.daemon.terminate(within).await
    }

    fn command(&self, name: &str) -> Command {
        let mut command = child::command(&self.program);
        command.arg(name);
        command
    }

    /// The end of the box's log, for an error message.
    pub fn tail(&self) -> String {
        self.daemon.tail()
    }

    fn write_config(&self) -> anyhow::Result<()> {
        let path = self.config();
        fs::write(&path, self.config_text())
            .with_context(|| format!("cannot write {}", path.display()))
    }

    fn config_text(&self) -> String {
        let quoted = |path: &Path| toml::Value::from(path.to_string_lossy().as_ref()).to_string();
        let below = |name: &str| quoted(&self.dir.join(name));
        let loopback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let (id, site, any, rest) = match &self.settings.role {
            Role::Alone => (
                "c001-tls001-example-isp",
                "TLS001.example.isp",
                loopback,
                "\n[gate]\nrequire = []\n",
            ),
            Role::Member(member) => (
                member.id.as_str(),
                member.site.as_str(),
                member.https,
                member.sections.as_str(),
            ),
        };
        let (https, plain) = self
            .addresses
            .map_or((any, SocketAddr::new(any.ip(), 0)), |known| {
                (known.https, known.plain)
            });
        let mut text = format!(
            "[appliance]\n\
             id = \"{id}\"\n\
             site = \"{site}\"\n\
             profile = \"storage\"\n\
             timezone = \"Europe/Paris\"\n\
             state_dir = {state}\n\
             stop_time = \"{stop}s\"\n\
             \n[serve]\n\
             listen = [\"{https}\"]\n\
             plain_listen = [\"{plain}\"]\n\
             workers = {workers}\n",
            state = below("state"),
            stop = STOP_TIME.as_secs(),
            workers = self.settings.workers,
        );
        if self.settings.access_log {
            text += &format!("access_log = {}\n", quoted(&self.access_log()));
        }
        text += &format!(
            "\n[[serve.tls.certificate]]\nchain = {}\nkey = {}\n",
            quoted(&self.authority.chain),
            quoted(&self.authority.key),
        );
        for disk in 1..=self.settings.disks {
            text += &format!(
                "\n[[disk]]\npath = {}\nclass = \"ssd\"\nplain_directory = true\n",
                below(&format!("disk{disk}"))
            );
        }
        text += rest;
        text += &format!(
            "\n[admin]\nsocket = {}\nread_only_socket = {}\n",
            quoted(&self.socket()),
            below("oca-ro.sock"),
        );
        text
    }
}

/// Every disk has been scanned; and where no control plane decides it, viewers may come.
async fn is_ready(socket: &Path, alone: bool) -> anyhow::Result<bool> {
    let status = child::ask(socket, "/v1/status").await?;
    let disks = child::ask(socket, "/v1/disks").await?;
    let disks = disks["disks"].as_array().context("no list of disks")?;
    let scanning = disks.iter().any(|disk| disk["state"] == "scanning");
    Ok((!alone || status["gate"]["state"] == "serving") && !scanning)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::Scratch;

    #[test]
    fn the_configuration_is_toml_that_says_what_was_asked_for() {
        let scratch = Scratch::new("oca-appliance-test").unwrap();
        let settings = Settings {
            workers: 2,
            disks: 3,
            access_log: true,
            role: Role::Alone,
        };
        let program = Path::new("/nonexistent/oca");
        let appliance = Appliance::new(program, scratch.path(), settings).unwrap();
        let text = fs::read_to_string(appliance.config()).unwrap();
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["disk"].as_array().unwrap().len(), 3);
        assert_eq!(table["serve"]["workers"].as_integer(), Some(2));
        assert_eq!(table["gate"]["require"].as_array().unwrap().len(), 0);
        let socket = table["admin"]["socket"].as_str().unwrap();
        assert_eq!(Path::new(socket), appliance.socket());
    }

    #[tokio::test]
    async fn a_box_that_cannot_be_started_says_so() {
        let scratch = Scratch::new("oca-appliance-test").unwrap();
        let settings = Settings {
            workers: 1,
            disks: 1,
            access_log: false,
            role: Role::Alone,
        };
        let program = Path::new("/nonexistent/oca");
        let mut appliance = Appliance::new(program, scratch.path(), settings).unwrap();
        let error = appliance.start().await.unwrap_err().to_string();
        assert!(error.contains("cannot start oca run"), "{error}");
    }
}
