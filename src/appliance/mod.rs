//! The wiring of the daemon: every channel and task, start order, stop order, what a dead child
//! means.
//!
//! Start: `store` → drain record → gate → `serve` → `bgp` → control link → fill and peer listener
//! → `admin` → watchdog → READY. Stop, in reverse: gate closed (`stopping`), which the control
//! plane is told → transfers end, `serve` drains until its deadline, BGP neighbours get their CEASE
//! → control link → `admin` → `store`.
//! [`gatekeeper`] gathers facts for the gate, [`reload`] prepares everything before it switches
//! anything, [`prefill_job`] runs one prefill at a time on a thread of its own, [`operator`]
//! carries out commands, [`night`] wires the fill. A dead data-plane worker, BGP
//! speaker, fill or control link ends the process; a sick disk, a failed prefill or a bad reload
//! do not.
//!
//! I/O: waits for signals, commands, deadlines and the news of other rooms.

mod certificate_job;
mod drain_saver;
mod gatekeeper;
mod night;
mod operator;
mod prefill_job;
mod pressure;
mod reload;
mod start;
mod traffic;
mod viewer_keys;

use crate::admin;
use crate::bgp;
use crate::clock;
use crate::command;
use crate::config;
use crate::health;
use crate::link::client::LinkError;
use crate::link::dial::Dial;
use crate::peer;
use crate::serve;
use crate::serve::listener::Bind;
use crate::serve::listener::SpawnWorker;
use crate::store;
use crate::sys::clock_sync;
use crate::task::Heartbeat;
use crate::task::PhaseTx;
use crate::task::notify::Notifier;
use crate::telemetry;
use gatekeeper::Gatekeeper;
use night::Night;
use prefill_job::PrefillJob;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Commands waiting for their turn; more are refused by `admin`.
pub const COMMANDS_MAX: usize = 16;

/// The clock's synchronisation is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// For the control plane to take the last gate; it finds out by itself, later.
const TELL_TIME: Duration = Duration::from_secs(2);

/// After `Stopped` the workers have this long to end before the process goes without them.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// What the operating system asks of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// HUP.
    Reload,
    /// USR1.
    ReopenLogs,
    /// TERM or INT; the second one stops at once.
    Terminate,
}

/// What differs between the daemon and the world test.
pub struct Seams {
    pub bind: Arc<dyn Bind>,
    pub spawn: Arc<dyn SpawnWorker>,
    /// How BGP neighbours are reached, and how the control plane is.
    pub bgp: bgp::Seams,
    pub dial: Arc<dyn Dial>,
    pub notifier: Notifier,
    /// `None` where somebody else owns the process's logs.
    pub logs: Option<telemetry::Handle>,
    /// The world test asks through `commands` alone.
    pub admin_sockets: bool,
}

/// How a running box is told what to do.
#[derive(Debug)]
pub struct Controls {
    pub signals: mpsc::Receiver<Signal>,
    pub commands: mpsc::Receiver<command::Request>,
    /// The sender for `commands` that `admin` is given.
    pub sender: mpsc::Sender<command::Request>,
}

/// Why the process ends with an error. Each names what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ApplianceError {
    #[error("store: {0}")]
    Store(#[from] store::StoreError),
    #[error("serve: {0}")]
    Serve(#[from] serve::ServeError),
    #[error("bgp: {0}")]
    Bgp(#[from] bgp::BgpError),
    #[error("fill: {0}")]
    Link(#[from] LinkError),
    #[error("peer: {0}")]
    Peer(#[from] peer::PeerError),
    #[error("admin: {0}")]
    Admin(#[from] admin::AdminError),
    #[error("a data-plane worker ended by itself: a fault of oca; the log has the panic")]
    Worker,
    #[error("{0} ended by itself: a fault of oca; the log has the panic")]
    Ended(&'static str),
}

/// For the access log's last lines, once no viewer is left to write more.
const LOG_TIME: Duration = Duration::from_secs(1);

/// Everything that lives, owned by one task.
#[derive(Debug)]
struct Appliance {
    main_file: PathBuf,
    effective: Arc<std::sync::Mutex<Effective>>,
    logs: Option<telemetry::Handle>,
    notifier: Notifier,
    store: store::Handle,
    serve: serve::Handle,
    bgp: Option<bgp::Handle>,
    control: Option<health::Handle>,
    /// `None` without a control plane.
    night: Option<Arc<Night>>,
    admin: Option<admin::Handle>,
    gatekeeper: Gatekeeper,
    /// What serving is told of keys and clock.
    tokens: serve::TokenFeed,
    prefill: PrefillJob,
    /// A reload under way.
    reloading: Option<JoinHandle<reload::Outcome>>,
    phase: PhaseTx,
    watchdog: JoinHandle<()>,
    heartbeat: JoinHandle<()>,
    /// Without a night, which has its own.
    presser: Option<JoinHandle<()>>,
}

/// The configuration in effect; `admin` shows it, a reload replaces it.
#[derive(Debug)]
struct Effective {
    config: config::Config,
    settings: Vec<config::Setting>,
}

impl fmt::Debug for Seams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seams")
            .field("admin_sockets", &self.admin_sockets)
            .finish_non_exhaustive()
    }
}

/// Runs a box until it is told to stop. `main_file` is read again by a reload.
pub async fn run(
    main_file: PathBuf,
    loaded: config::Loaded,
    seams: Seams,
    mut controls: Controls,
) -> Result<(), ApplianceError> {
    let mut appliance = start::start(main_file, loaded, seams, &controls.sender)?;
    let outcome = appliance.serve_until_told(&mut controls).await;
    appliance.stop(&mut controls.signals, outcome).await
}

impl Appliance {
    /// `Ok` when asked to stop, an error when a child that the box cannot be without has died.
    async fn serve_until_told(&mut self, controls: &mut Controls) -> Result<(), ApplianceError> {
        let mut news = self.store.subscribe();
        let mut look_again = clock::now() + LOOK_EVERY;
        loop {
            let wake = self
                .gatekeeper
                .deadline()
                .map_or(look_again, |at| at.min(look_again));
            tokio::select! {
                signal = controls.signals.recv() => match signal {
                    Some(Signal::Reload) => self.begin_reload(None),
                    Some(Signal::ReopenLogs) => self.serve.reopen_access_log(),
                    Some(Signal::Terminate) | None => return Ok(()),
                },
                Some(request) = controls.commands.recv() => self.carry_out(request),
                // The store lives as long as this task, so its news cannot end.
                _ = news.changed() => self.refresh(),
                news = self.gatekeeper.news() => match news {
                    Ok(()) => self.refresh(),
                    Err(room) => return Err(ApplianceError::Ended(room)),
                },
                () = clock::sleep_until(wake) => {
                    if clock::now() >= look_again {
                        look_again = clock::now() + LOOK_EVERY;
                    }
                    self.gatekeeper.tick();
                    self.refresh();
                }
                outcome = reloaded(&mut self.reloading) => {
                    self.reloading = None;
                    self.finish_reload(outcome);
                }
                () = self.serve.worker_ended() => return Err(ApplianceError::Worker),
                () = night::ended(self.night.as_ref()) => {
                    return Err(ApplianceError::Ended("the fill"));
                }
            }
        }
    }

    /// Decides the gate anew and tells systemd what became of it.
    fn refresh(&mut self) {
        let sane = self.clock_is_sane();
        self.tokens.clock_is_sane(sane);
        self.store.clock_is_sane(sane);
        if let Some(text) = self.gatekeeper.refresh(&self.store.view()) {
            self.notifier.status(&text);
        }
        if let Some(bgp) = &self.bgp {
            bgp.offer(self.gatekeeper.welcomes());
        }
    }

    /// Somebody who should know says so, and nobody says otherwise (SAFETY: cap and clock).
    fn clock_is_sane(&self) -> bool {
        let told = self.control.as_ref().map(health::Handle::view);
        match (&self.night, told) {
            (Some(night), Some(view)) => night.clock_is_sane(&view),
            (None, _) | (_, None) => clock_sync::is_synchronised().unwrap_or(false),
        }
    }

    /// Ends everything in reverse order of its start.
    async fn stop(
        mut self,
        signals: &mut mpsc::Receiver<Signal>,
        outcome: Result<(), ApplianceError>,
    ) -> Result<(), ApplianceError> {
        let time = self.stop_time();
        self.notifier.stopping(time + STOP_GRACE);
        tracing::info!(
            seconds = time.as_secs(),
            "stopping: running responses may finish"
        );
        self.gatekeeper.stopping(&self.store.view());
        self.prefill.stop();
        let deadline = clock::now() + time;
        self.phase.drain(deadline);
        let cease = tokio::spawn(cease(self.bgp.take()));
        let night = tokio::spawn(night::stop(self.night.take()));
        if outcome.is_ok() {
            self.wait_for_viewers(signals, deadline).await;
            self.tell_control().await;
        }
        self.phase.stop();
        // Bounded by itself.
        let _ = cease.await;
        if clock::within(STOP_GRACE, night).await.is_err() {
            tracing::error!("transfers did not end in time; leaving without them");
        }
        drop(self.control.take());
        if clock::within(STOP_GRACE, self.serve.finished())
            .await
            .is_err()
        {
            tracing::error!("data-plane workers did not end in time; leaving without them");
        }
        if clock::within(LOG_TIME, self.serve.access_log_settled())
            .await
            .is_err()
        {
            tracing::warn!("the access log's disk does not answer; its last lines are lost");
        }
        self.watchdog.abort();
        self.heartbeat.abort();
        self.presser.iter().for_each(JoinHandle::abort);
        if let Some(admin) = self.admin.take() {
            admin.stop();
        }
        // Disks that still write, and the snapshot of what is on each.
        let patience = { start::effective(&self.effective).config.store.deadline };
        self.notifier.extend_timeout(patience + STOP_GRACE);
        self.store.stop();
        tracing::info!("stopped");
        outcome
    }

    /// Until the last connection ends, the deadline passes, or somebody insists.
    async fn wait_for_viewers(
        &self,
        signals: &mut mpsc::Receiver<Signal>,
        deadline: clock::Instant,
    ) {
        loop {
            tokio::select! {
                () = self.serve.finished() => return,
                () = clock::sleep_until(deadline) => return,
                signal = signals.recv() => match signal {
                    Some(Signal::Terminate) | None => return,
                    Some(Signal::Reload) => tracing::warn!("stopping; the reload is ignored"),
                    Some(Signal::ReopenLogs) => self.serve.reopen_access_log(),
                },
            }
        }
    }

    /// Whoever steers should know before viewers meet a closed door.
    async fn tell_control(&self) {
        if let Some(control) = &self.control
            && control.view().state == health::LinkState::Connected
        {
            let gate = self.gatekeeper.subscribe().borrow().clone();
            let told = clock::within(TELL_TIME, control.told(&gate)).await;
            if told.is_err() {
                tracing::warn!("the control plane was not told that this box stops");
            }
        }
    }

    fn stop_time(&self) -> Duration {
        start::effective(&self.effective).config.stop_time
    }
}

/// Ends the sessions in so many words for the neighbours' operators.
async fn cease(bgp: Option<bgp::Handle>) {
    if let Some(bgp) = bgp {
        bgp.stop("oca stops").await;
    }
}

/// The end of the reload under way; never, when there is none.
async fn reloaded(reloading: &mut Option<JoinHandle<reload::Outcome>>) -> reload::Outcome {
    let Some(task) = reloading else {
        return std::future::pending().await;
    };
    task.await
        .unwrap_or_else(|error| reload::Outcome::failed(&error))
}

/// The heartbeat of this room's own scheduler.
fn own_heartbeat() -> Heartbeat {
    Heartbeat::new("control", clock::now())
}
