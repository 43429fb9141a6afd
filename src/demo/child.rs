//! A daemon of the demo as a child process: its log, its admin socket, its end.
//!
//! [`super::appliance`], [`super::plane`] and [`super::router`] each have one. Dropping it kills
//! the process and waits until it is gone.
//!
//! I/O: starts processes, sends signals, asks admin sockets.

use crate::cli::client::Client;
use crate::clock;
use anyhow::Context as _;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Child;
use tokio::process::Command;

/// How much of the child's log an error message carries.
const LOG_TAIL_BYTES: usize = 2_000;

/// How often a starting daemon is asked.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// A program, its arguments, and the process while it runs.
#[derive(Debug)]
pub(super) struct Daemon {
    program: PathBuf,
    arguments: Vec<OsString>,
    log: PathBuf,
    child: Option<Child>,
}

impl Daemon {
    pub(super) fn new<T: Into<OsString>>(
        program: &Path,
        arguments: impl IntoIterator<Item = T>,
        log: PathBuf,
    ) -> Self {
        Self {
            program: program.to_owned(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            log,
            child: None,
        }
    }

    pub(super) fn process(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Starts the process and waits until `is_ready` says so. Returns how long it took.
    pub(super) async fn start<F>(
        &mut self,
        within: Duration,
        mut is_ready: impl FnMut() -> F,
    ) -> anyhow::Result<Duration>
    where
        F: Future<Output = bool>,
    {
        let name = self.name();
        anyhow::ensure!(self.child.is_none(), "{name} runs already");
        let begun = clock::now();
        self.spawn()?;
        let ready = async {
            loop {
                self.check()?;
                if is_ready().await {
                    return Ok(());
                }
                clock::sleep(ASK_EVERY).await;
            }
        };
        let outcome: Result<anyhow::Result<()>, _> = clock::within(within, ready).await;
        outcome.with_context(|| {
            let seconds = within.as_secs();
            let tail = self.tail();
            format!("{name} is not ready after {seconds} s; its log ends: {tail}")
        })??;
        Ok(clock::now() - begun)
    }

    fn spawn(&mut self) -> anyhow::Result<()> {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("cannot write {}", self.log.display()))?;
        let mut command = command(&self.program);
        command
            .args(&self.arguments)
            .stdout(log.try_clone().context("the log file")?)
            .stderr(log)
            // Ctrl-C in a terminal goes to the whole group; the demo ends its own in its own way.
            .process_group(0);
        let child = command.spawn();
        self.child = Some(child.with_context(|| format!("cannot start {}", self.name()))?);
        Ok(())
    }

    /// An error if the process has ended by itself.
    fn check(&mut self) -> anyhow::Result<()> {
        let name = self.name();
        let child = self.child.as_mut().context("it does not run")?;
        if let Some(status) = child.try_wait().context("cannot watch the process")? {
            self.child = None;
            anyhow::bail!("{name} ended with {status}; its log ends: {}", self.tail());
        }
        Ok(())
    }

    /// SIGKILL: what a power button does to a process.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            end(&mut child);
        }
    }

    pub(super) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = self.process().context("the process has ended")?;
        let id = i32::try_from(id).context("a process id")?;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), signal)
            .with_context(|| format!("cannot send {signal}"))
    }

    /// SIGTERM; waits at most `within` for the end.
    pub(super) async fn terminate(
        &mut self,
        within: Duration,
    ) -> anyhow::Result<(ExitStatus, Duration)> {
        self.signal(Signal::SIGTERM)?;
        let mut child = self.child.take().context("the process does not run")?;
        let begun = clock::now();
        let ended = clock::within(within, child.wait()).await;
        let took = clock::now() - begun;
        match ended {
            Ok(status) => Ok((status.context("cannot watch the process")?, took)),
            Err(_) => {
                end(&mut child);
                anyhow::bail!("still running {} s after SIGTERM", within.as_secs())
            }
        }
    }

    /// The end of the log, for an error message.
    pub(super) fn tail(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let from = bytes.len().saturating_sub(LOG_TAIL_BYTES);
        String::from_utf8_lossy(&bytes[from..]).into_owned()
    }

    /// `oca run`, `bird`.
    fn name(&self) -> String {
        let program = self.program.file_name().unwrap_or_default();
        let verb = self.arguments.first().cloned().unwrap_or_default();
        format!("{} {}", program.display(), verb.display())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `program` with an environment that leads to no other box and changes no log.
pub(super) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_remove("OCA_SOCKET")
        .env_remove("OCA_CONTROL_SOCKET")
        .env_remove("NOTIFY_SOCKET")
        .env_remove("JOURNAL_STREAM")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Runs a command to its end; an error carries what it said.
pub(super) async fn finished(command: &mut Command, name: &str) -> anyhow::Result<Output> {
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

/// A question to an admin socket. The client blocks, so it asks from a thread of its own.
pub(super) async fn ask(socket: &Path, path: &str) -> anyhow::Result<Value> {
    let (socket, path) = (socket.to_owned(), path.to_owned());
    tokio::task::spawn_blocking(move || Ok(Client::new(&socket)?.get(&path)?))
        .await
        .context("the question panicked")?
}

/// As [`ask`], for what is not JSON: the metrics.
pub(super) async fn text(socket: &Path, path: &str) -> anyhow::Result<String> {
    let (socket, path) = (socket.to_owned(), path.to_owned());
    tokio::task::spawn_blocking(move || Ok(Client::new(&socket)?.get_text(&path)?))
        .await
        .context("the question panicked")?
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
