//! `oca run`: the daemon. Configuration, logs, signals, then the wiring.
//!
//! I/O: reads the configuration, listens for signals.

use super::ConfigArgs;
use super::Exit;
use crate::appliance;
use crate::appliance::Controls;
use crate::appliance::Seams;
use crate::appliance::Signal;
use crate::bgp;
use crate::config;
use crate::link::dial::TcpDial;
use crate::serve::socket::TcpBind;
use crate::serve::socket::ThreadWorkers;
use crate::task::notify::Notifier;
use crate::telemetry;
use anyhow::Context as _;
use nix::sys::resource::Resource;
use nix::sys::resource::getrlimit;
use nix::sys::resource::setrlimit;
use std::sync::Arc;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::mpsc;

pub(super) fn run(args: &ConfigArgs) -> anyhow::Result<Exit> {
    let loaded = match config::load(&args.config) {
        Ok(loaded) => loaded,
        Err(problems) => {
            eprintln!("oca: the configuration has problems:\n{problems}");
            return Ok(Exit::Config);
        }
    };
    let logs = telemetry::start(&loaded.config.telemetry)?;
    // Keys of viewers' sessions live in this memory: no core dump, no debugger of another user.
    nix::sys::prctl::set_dumpable(false).context("core dumps cannot be turned off")?;
    raise_descriptors();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("oca-control")
        .build()
        .context("the control runtime cannot be started")?;
    let outcome = runtime.block_on(async {
        let seams = Seams {
            bind: Arc::new(TcpBind),
            spawn: Arc::new(ThreadWorkers),
            bgp: bgp::Seams::real(),
            dial: Arc::new(TcpDial::default()),
            notifier: Notifier::from_env().context("NOTIFY_SOCKET cannot be used")?,
            logs: Some(logs),
            admin_sockets: true,
        };
        let controls = controls()?;
        appliance::run(args.config.clone(), loaded, seams, controls)
            .await
            .map_err(anyhow::Error::from)
    });
    // A prefill that reads a hung disk must not keep the process.
    runtime.shutdown_background();
    outcome.map(|()| Exit::Ok)
}

/// A viewer and an object each take a descriptor; the soft limit is for programs that use select.
pub(super) fn raise_descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit on open files stays as it is");
    }
}

fn controls() -> anyhow::Result<Controls> {
    let (sender, commands) = mpsc::channel(appliance::COMMANDS_MAX);
    let (news, signals) = mpsc::channel(appliance::COMMANDS_MAX);
    for (kind, meaning) in [
        (SignalKind::hangup(), Signal::Reload),
        (SignalKind::user_defined1(), Signal::ReopenLogs),
        (SignalKind::terminate(), Signal::Terminate),
        (SignalKind::interrupt(), Signal::Terminate),
    ] {
        let mut stream = signal(kind).context("signals cannot be received")?;
        let news = news.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                if news.send(meaning).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(Controls {
        signals,
        commands,
        sender,
    })
}
