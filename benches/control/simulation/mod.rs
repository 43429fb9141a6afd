//! A simulated fleet against one real `oca control run`: many boxes that enrol, fetch their
//! manifests, report and beat over mutual TLS, while a viewer asks the public listener.
//!
//! [`plane`] starts the process → [`operator`] fills it over its admin socket → [`machine`] is one
//! box, over the real link client ([`lines`] makes its connections, [`routes`] has what it learned
//! over BGP) → [`viewer`] asks steering → [`tally`] counts. `benches/run control` runs it for ten
//! minutes with 1,000 boxes, `tests/simulated_fleet.rs` for seconds with some.
//!
//! I/O: starts a process, opens sockets, sleeps.

mod lines;
mod machine;
mod operator;
mod plane;
mod routes;
mod tally;
mod viewer;

use anyhow::Context as _;
use machine::Machine;
use nix::sys::resource::Resource;
use nix::sys::resource::getrlimit;
use nix::sys::resource::setrlimit;
use oca::clock;
use operator::Provisioning;
use plane::Plane;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tally::Tally;
use tokio::task::JoinSet;

pub(crate) use tally::Calls;

/// Boxes that enrol at once: the control plane takes eight at a time and tells others to wait.
const ENROLLING: usize = 8;

/// Boxes of one site, and so of one partner.
const SITE_BOXES: u32 = 2;

/// Boxes of one cluster.
const CLUSTER_BOXES: u32 = 10;

/// By then every box has reported, fetched its manifest and reported again.
const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// Descriptors of a box: two connections, with room for one that is being replaced.
const DESCRIPTORS_OF_BOX: u64 = 4;

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) boxes: u32,
    /// Of load, once every box is enrolled.
    pub(crate) time: Duration,
    pub(crate) report_every: Duration,
    pub(crate) heartbeat_every: Duration,
    /// Steering questions a second.
    pub(crate) questions: u32,
    /// The program.
    pub(crate) oca: PathBuf,
}

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) enrolments: Calls,
    pub(crate) enrol_seconds: f64,
    pub(crate) heartbeats: Calls,
    pub(crate) reports: Calls,
    pub(crate) manifests: Calls,
    pub(crate) questions: Calls,
    /// Answers that name a box; those before the first reports name none.
    pub(crate) named: u64,
    /// From a withdrawal's report being sent to the first answer without it.
    pub(crate) withdrawals: Calls,
    /// Connections that boxes made under load, the first two of each included.
    pub(crate) dials: u64,
    /// Of the control plane, under load.
    pub(crate) cpu_seconds: f64,
    pub(crate) rss_start_bytes: u64,
    /// When the start is over, and at the end.
    pub(crate) rss_settled_bytes: u64,
    pub(crate) rss_end_bytes: u64,
    pub(crate) seconds: f64,
    /// Boxes that the control plane would send viewers to, at the end.
    pub(crate) open: u64,
    /// What was refused or failed, some of each sort, in words.
    pub(crate) complaints: Vec<String>,
}

/// Runs the whole of it. `Err` is a simulation that could not be made; refusals are counted.
pub(crate) async fn run(options: &Options) -> anyhow::Result<Outcome> {
    raise_descriptors(u64::from(options.boxes) * DESCRIPTORS_OF_BOX + 512)?;
    let mut plane = Plane::start(options).await?;
    let tally = Arc::new(Tally::default());
    let begun = clock::now();
    let provisioning = plane.provision(options).await?;
    let boxes = options.boxes;
    eprintln!(
        "{boxes} boxes provisioned in {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    let begun = clock::now();
    let machines = enrol(options, &plane, &provisioning, &tally).await?;
    let enrol_seconds = begun.elapsed().as_secs_f64();
    eprintln!("{boxes} boxes enrolled in {enrol_seconds:.1} s");

    let (cpu, rss) = (plane.cpu_seconds()?, plane.rss_bytes()?);
    let dials = tally.dials();
    let viewer = viewer::Viewer::start(plane.public(), options, Arc::clone(&tally));
    let begun = clock::now();
    let mut running = JoinSet::new();
    for machine in machines {
        running.spawn(machine.run(options.clone(), plane.public()));
    }
    let mut rss_settled = None;
    while begun.elapsed() < options.time {
        clock::sleep(Duration::from_secs(1).min(options.time)).await;
        plane.check_alive()?;
        if let Some(ended) = running.try_join_next() {
            ended.context("a box panicked")?;
            anyhow::bail!("a box ended");
        }
        if rss_settled.is_none() && begun.elapsed() >= SETTLED_AFTER.min(options.time / 2) {
            tally.settle();
            rss_settled = Some(plane.rss_bytes()?);
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let outcome = Outcome {
        enrol_seconds,
        open: plane.open_boxes().await?,
        cpu_seconds: plane.cpu_seconds()? - cpu,
        rss_start_bytes: rss,
        rss_settled_bytes: rss_settled.unwrap_or(0),
        rss_end_bytes: plane.rss_bytes()?,
        dials: tally.dials() - dials,
        seconds,
        ..Outcome::default()
    };
    running.shutdown().await;
    viewer.stop()?;
    plane.stop().await?;
    Ok(tally.told(outcome))
}

/// Every box with its own key and a certificate from the control plane.
async fn enrol(
    options: &Options,
    plane: &Plane,
    provisioning: &Provisioning,
    tally: &Arc<Tally>,
) -> anyhow::Result<Vec<Machine>> {
    let mut waiting = (0..options.boxes).rev().collect::<Vec<_>>();
    let mut enrolling = JoinSet::new();
    let mut machines = Vec::new();
    while machines.len() < options.boxes as usize {
        while let Some(number) = waiting.pop_if(|_| enrolling.len() < ENROLLING) {
            let pin = &provisioning.ca;
            let machine = Machine::new(number, plane.link(), pin, Arc::clone(tally))?;
            let token = provisioning.tokens.get(machine.id());
            let token = token.context("a box without a token")?.clone();
            enrolling.spawn(async move { machine.enrol(&token).await });
        }
        let enrolled = enrolling.join_next().await.context("nobody enrols")?;
        machines.push(enrolled.context("an enrolment panicked")??);
    }
    Ok(machines)
}

/// Raises the soft limit of open files of this process, and so of its children.
fn raise_descriptors(wanted: u64) -> anyhow::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    anyhow::ensure!(
        hard >= wanted,
        "{wanted} open files are needed and {hard} are allowed; raise it with `ulimit -Hn {wanted}`"
    );
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?;
    }
    Ok(())
}
