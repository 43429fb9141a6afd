//! `oca control run`: the daemon. Configuration, logs, signals, then the control plane.
//!
//! I/O: reads the configuration, listens for signals.

use super::super::Exit;
use crate::clock;
use crate::config;
use crate::control;
use crate::task::phase;
use crate::telemetry;
use anyhow::Context as _;
use clap::Args;
use std::path::PathBuf;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The main file; `control.d/*.toml` beside it is merged in lexical order.
    #[arg(long, value_name = "FILE", default_value = "/etc/oca/control.toml")]
    config: PathBuf,
}

pub(super) fn run(args: &RunArgs) -> anyhow::Result<Exit> {
    let config = match config::load_control(&args.config) {
        Ok(loaded) => loaded.config,
        Err(problems) => {
            eprintln!("oca: the configuration has problems:\n{problems}");
            return Ok(Exit::Config);
        }
    };
    telemetry::start(&config.telemetry)?;
    // The authority's key lives in this memory: no core dump, no debugger of another user.
    nix::sys::prctl::set_dumpable(false).context("core dumps cannot be turned off")?;
    super::super::run::raise_descriptors();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("oca-control")
        .build()
        .context("the runtime cannot be started")?;
    let outcome = runtime.block_on(async {
        let (owner, phase) = phase::channel();
        let mut hangup = signal(SignalKind::hangup()).context("no signals")?;
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                tracing::warn!("SIGHUP: no key of the control plane is reloaded; restart it");
            }
        });
        let mut terminate = signal(SignalKind::terminate()).context("no signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("no signals")?;
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            owner.drain(clock::now());
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            owner.stop();
        });
        let ran = control::run(config, phase).await;
        ran.map_err(anyhow::Error::from)
    });
    // An import that reads a hung disk must not keep the process.
    runtime.shutdown_background();
    outcome.map(|()| Exit::Ok)
}
