//! The whole system on one machine: `oca demo`.
//!
//! [`title`] is the built-in film → [`content`] what is to be played, with its digests →
//! [`authority`] makes a private CA → [`appliance`] runs boxes as child processes in a [`scratch`]
//! directory → [`viewer`], [`playlist`] and [`play`] fetch as a player does, [`edge`] asks what
//! players seldom ask → [`proof`] goes through the steps of one box.
//! [`system`] is the whole: a control plane ([`plane`]), boxes ([`unit`]), and a [`router`] a site
//! (a [`speaker`], or BIRD) → [`steering`] and [`outage`] go through its steps.
//! [`camp`] is another fleet, which holds next to nothing: [`night`] fills it while a [`lookout`]
//! watches, with a [`filler`] beside the film and windows just past [`midnight`]. [`report`] shows
//! all.
//!
//! [`Appliance`], [`Authority`] and [`Scratch`] are also the fixture of the tests with real peers
//! and of the benches. Nothing here runs in a daemon.
//!
//! I/O: makes a temporary directory, starts processes, talks to them over loopback.

mod appliance;
mod authority;
mod camp;
mod child;
mod content;
mod edge;
mod filler;
mod lookout;
mod midnight;
mod night;
mod outage;
mod plane;
mod play;
mod playlist;
mod proof;
mod report;
mod router;
mod scratch;
mod speaker;
mod steering;
mod system;
mod title;
mod unit;
mod viewer;

pub use appliance::Addresses;
pub use appliance::Appliance;
pub use appliance::Member;
pub use appliance::Role;
pub use appliance::Settings;
pub use authority::Authority;
pub use authority::Issuer;
pub use midnight::time_from_here;
pub use plane::Pace;
pub use plane::Plane;
pub use router::RouterKind;
pub use scratch::Scratch;
pub use speaker::run as run_router;
pub use title::TITLE;

use crate::cli::Exit;
use anyhow::Context as _;
use clap::Args;
use content::Content;
use proof::Proof;
use report::Report;
use std::path::Path;
use std::path::PathBuf;
use system::System;
use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Play this directory of media instead of the built-in title.
    #[arg(long, value_name = "DIR")]
    pub content: Option<PathBuf>,
    /// End after the proof; the exit code tells whether every step held.
    #[arg(long)]
    pub check: bool,
    /// One JSON line a step: {"step","ok","measured","expected"}.
    #[arg(long)]
    pub json: bool,
    /// Who plays the sites' routers: the demo's own speaker, or a real BIRD.
    #[arg(long, value_enum, default_value_t)]
    pub router: RouterKind,
    /// Heartbeats, leases and their like at a tenth of their times: for tests.
    #[arg(long, hide = true)]
    pub brisk: bool,
    /// Ends before the night: for tests of something else.
    #[arg(long, hide = true)]
    pub without_night: bool,
}

/// Runs the demo. Whatever ends it (a failed step, a signal, a panic), dropping the proof kills
/// its box and removes its directory.
pub fn run(args: &DemoArgs) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the demo's runtime")?;
    let outcome = runtime.block_on(async {
        let mut signals = Signals::watch()?;
        let proof = tokio::select! {
            proof = prove(args) => proof?,
            name = signals.next() => anyhow::bail!("stopped by {name} before the end"),
        };
        let Some((mut proof, system)) = proof else {
            return Ok(Exit::Failed);
        };
        if !args.check {
            proof.start().await?;
            report::invite(&proof.places(&system)?, args.json)?;
            signals.next().await;
            proof.terminate().await?;
        }
        Ok(Exit::Ok)
    });
    // A hash of a large file may be running on a helper thread; nobody waits for it.
    runtime.shutdown_background();
    outcome
}

/// The proof from end to end; `None` when a step failed.
async fn prove(args: &DemoArgs) -> anyhow::Result<Option<(Proof, System)>> {
    let scratch = Scratch::new("oca-demo")?;
    let media = match &args.content {
        Some(dir) => absolute(dir)?,
        None => title::write(&scratch.path().join("media"))?,
    };
    let content = tokio::task::spawn_blocking(move || Content::read(&media))
        .await
        .context("the media could not be hashed")??;
    let mut report = Report::new(args.json);
    let mut both = None;
    if let Some(mut proof) = proof::prepare(&mut report, scratch, content)? {
        proof.run(&mut report).await?;
        let stage = steering::Stage {
            program: std::env::current_exe().context("cannot find this program's own file")?,
            dir: proof.dir().join("system"),
            content: proof.content(),
            routers: args.router,
            pace: if args.brisk { Pace::BRISK } else { Pace::LIFE },
        };
        let system = steering::run(&mut report, stage).await?;
        if system.is_some() && !args.without_night {
            let stage = night::Stage {
                program: std::env::current_exe().context("cannot find this program's own file")?,
                dir: proof.dir().join("night"),
                content: proof.content(),
            };
            night::run(&mut report, stage, !args.json).await?;
        }
        both = system.map(|system| (proof, system));
    }
    report.finish()?;
    Ok(both.filter(|_| report.all_ok()))
}

fn absolute(dir: &Path) -> anyhow::Result<PathBuf> {
    std::fs::canonicalize(dir)
        .with_context(|| format!("cannot read the directory of media {}", dir.display()))
}

/// The signals with which a person or a supervisor ends the demo.
#[derive(Debug)]
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn watch() -> anyhow::Result<Self> {
        let watch = |kind| signal(kind).context("cannot watch for signals");
        Ok(Self {
            interrupt: watch(SignalKind::interrupt())?,
            terminate: watch(SignalKind::terminate())?,
            hangup: watch(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}
