//! One box as a child process: its configuration, its life, its admin socket.
//!
//! The demo's box, and the fixture of the tests with real peers and of the benches. Ports are
//! chosen by the kernel at the first start and kept for the next ones, as a viewer expects.
//! Dropping it kills the process and waits until it is gone.
//!
//! I/O: writes files, starts processes, asks the admin socket.

use super::authority::Authority;
use crate::cli::client::Client;
use crate::clock;
use anyhow::Context as _;
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Child;
use tokio::process::Command;

/// A box with a few files on a busy machine is ready long before.
pub(super) const READY_WITHIN: Duration = Duration::from_secs(20);

/// `[appliance] stop_time` of the demo's box.
pub(super) const STOP_TIME: Duration = Duration::from_secs(5);

/// How much of the child's log an error message carries.
const LOG_TAIL_BYTES: usize = 2_000;

/// How often a starting box is asked.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// What differs between the demo, a test and a bench.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub workers: usize,
    pub disks: usize,
    pub access_log: bool,
}

/// A box below one directory.
#[derive(Debug)]
pub struct Appliance {
    program: PathBuf,
    dir: PathBuf,
    settings: Settings,
    authority: Authority,
    child: Option<Child>,
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
        let authority = Authority::make(dir)?;
        for disk in 1..=settings.disks {
            let path = dir.join(format!("disk{disk}"));
            fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        let made = Self {
            program: program.to_owned(),
            dir: dir.to_owned(),
            settings,
            authority,
            child: None,
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
        self.child.as_ref().and_then(Child::id)
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
        let output = finished(&mut command, &format!("oca {name}")).await?;
        Ok(output.stdout)
    }

    /// Starts the box and waits until it serves everything it holds. Returns how long it took.
    pub async fn start(&mut self) -> anyhow::Result<Duration> {
        anyhow::ensure!(self.child.is_none(), "the box runs already");
        let begun = clock::now();
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())
            .with_context(|| format!("cannot write {}", self.log().display()))?;
        let mut command = self.command("run");
        command
            .arg("--config")
            .arg(self.config())
            .stdout(log.try_clone().context("the log file")?)
            .stderr(log)
            // Ctrl-C in a terminal goes to the whole group; the demo ends its box in its own way.
            .process_group(0);
        let child = command.spawn().context("cannot start oca run")?;
        self.child = Some(child);
        clock::within(READY_WITHIN, self.ready())
            .await
            .with_context(|| {
                let seconds = READY_WITHIN.as_secs();
                format!("not ready after {seconds} s; its log ends: {}", self.tail())
            })??;
        if self.addresses.is_none() {
            self.addresses = Some(self.listeners().await?);
            self.write_config()?;
        }
        Ok(clock::now() - begun)
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        loop {
            let child = self.child.as_mut().context("the box does not run")?;
            if let Some(status) = child.try_wait().context("cannot watch the box")? {
                self.child = None;
                anyhow::bail!("oca run ended with {status}; its log ends: {}", self.tail());
            }
            if self.is_ready().await.unwrap_or(false) {
                return Ok(());
            }
            clock::sleep(ASK_EVERY).await;
        }
    }

    /// Open to viewers, and every disk has been scanned.
    async fn is_ready(&self) -> anyhow::Result<bool> {
        let status = self.ask("/v1/status").await?;
        let disks = self.ask("/v1/disks").await?;
        let disks = disks["disks"].as_array().context("no list of disks")?;
        let scanning = disks.iter().any(|disk| disk["state"] == "scanning");
        Ok(status["gate"]["state"] == "serving" && !scanning)
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

    /// A question to the admin socket. The client blocks, so it asks from a thread of its own.
    pub async fn ask(&self, path: &str) -> anyhow::Result<Value> {
        let (socket, path) = (self.socket(), path.to_owned());
        tokio::task::spawn_blocking(move || Ok(Client::new(&socket)?.get(&path)?))
            .await
            .context("the question panicked")?
    }

    /// SIGKILL: what a power button does to a process.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            end(&mut child);
        }
    }

    /// SIGTERM; waits at most `within` for the end.
    pub async fn terminate(&mut self, within: Duration) -> anyhow::Result<(ExitStatus, Duration)> {
        let mut child = self.child.take().context("the box does not run")?;
        let begun = clock::now();
        let id = child.id().context("the box has ended already")?;
        let id = i32::try_from(id).context("a process id")?;
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(id),
            nix::sys::signal::Signal::SIGTERM,
        )
        .context("cannot send SIGTERM")?;
        let ended = clock::within(within, child.wait()).await;
        let took = clock::now() - begun;
        match ended {
            Ok(status) => Ok((status.context("cannot watch the box")?, took)),
            Err(_) => {
                end(&mut child);
                anyhow::bail!("still running {} s after SIGTERM", within.as_secs())
            }
        }
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg(name)
            // Variables of the caller must not lead to another box or change the log.
            .env_remove("OCA_SOCKET")
            .env_remove("NOTIFY_SOCKET")
            .env_remove("JOURNAL_STREAM")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    fn log(&self) -> PathBuf {
        self.dir.join("oca.log")
    }

    /// The end of the child's log, for an error message.
    pub fn tail(&self) -> String {
        let bytes = fs::read(self.log()).unwrap_or_default();
        let from = bytes.len().saturating_sub(LOG_TAIL_BYTES);
        String::from_utf8_lossy(&bytes[from..]).into_owned()
    }

    fn write_config(&self) -> anyhow::Result<()> {
        let path = self.config();
        fs::write(&path, self.config_text())
            .with_context(|| format!("cannot write {}", path.display()))
    }

    fn config_text(&self) -> String {
        let quoted = |path: &Path| toml::Value::from(path.to_string_lossy().as_ref()).to_string();
        let below = |name: &str| quoted(&self.dir.join(name));
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (https, plain) = self
            .addresses
            .map_or((any, any), |known| (known.https, known.plain));
        let mut text = format!(
            "[appliance]\n\
             id = \"c001-tls001-example-isp\"\n\
             site = \"TLS001.example.isp\"\n\
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
        text += &format!(
            "\n[gate]\nrequire = []\n\
             \n[admin]\nsocket = {}\nread_only_socket = {}\n",
            quoted(&self.socket()),
            below("oca-ro.sock"),
        );
        text
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Kills a child and waits until the kernel has taken it down, so that its files stand still.
fn end(child: &mut Child) {
    // An error means that it has ended already.
    let _ = child.start_kill();
    for _ in 0..500 {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        clock::block_for(Duration::from_millis(10));
    }
}

async fn finished(command: &mut Command, name: &str) -> anyhow::Result<Output> {
    let output = command
        .output()
        .await
        .with_context(|| format!("cannot run {name}"))?;
    anyhow::ensure!(
        output.status.success(),
        "{name} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(output)
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
        };
        let program = Path::new("/nonexistent/oca");
        let mut appliance = Appliance::new(program, scratch.path(), settings).unwrap();
        let error = appliance.start().await.unwrap_err().to_string();
        assert!(error.contains("cannot start oca run"), "{error}");
    }
}
