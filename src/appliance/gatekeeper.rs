//! Gathers the facts, asks `health` for the decision, publishes it.
//!
//! I/O: reads the drain record at start, asks the kernel whether the clock is synchronised.

use super::drain_saver::DrainSaver;
use super::drain_saver::Saving;
use crate::bgp;
use crate::clock;
use crate::clock::Instant;
use crate::gate::Gate;
use crate::health;
use crate::health::drain;
use crate::health::drain_file;
use crate::store;
use crate::sys::clock_sync;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::watch;

/// Owner of the gate's sending side.
#[derive(Debug)]
pub(super) struct Gatekeeper {
    sender: watch::Sender<Gate>,
    require: Vec<health::Requirement>,
    drain: health::Drain,
    /// What `admin` shows of the drain.
    shown: Arc<Mutex<drain::Record>>,
    saver: DrainSaver,
    /// `None` without `[control]` and `[bgp]`: what they would say is never so.
    control: Option<watch::Receiver<Arc<health::ControlView>>>,
    bgp: Option<watch::Receiver<Arc<bgp::Snapshot>>>,
    stopping: bool,
}

impl Gatekeeper {
    /// Begins with what the last life left on disk and decides at once.
    pub(super) fn new(config: &health::Config, state_dir: PathBuf, view: &store::View) -> Self {
        let record = drain_file::load(&state_dir);
        let keeper = Self {
            sender: watch::Sender::new(Gate::Serving),
            require: config.require.clone(),
            shown: Arc::new(Mutex::new(record.clone())),
            drain: health::Drain::new(record),
            saver: DrainSaver::start(state_dir),
            control: None,
            bgp: None,
            stopping: false,
        };
        keeper.sender.send_replace(keeper.decide(view));
        keeper
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Gate> {
        self.sender.subscribe()
    }

    pub(super) fn shown_drain(&self) -> Arc<Mutex<drain::Record>> {
        Arc::clone(&self.shown)
    }

    /// Whom to ask for routes.
    pub(super) fn listen_to_bgp(&mut self, snapshots: watch::Receiver<Arc<bgp::Snapshot>>) {
        self.bgp = Some(snapshots);
    }

    /// Whom to ask for permission.
    pub(super) fn listen_to_control(&mut self, view: watch::Receiver<Arc<health::ControlView>>) {
        self.control = Some(view);
    }

    /// News of either; never, when there is neither. An error names the room whose task is gone.
    pub(super) async fn news(&mut self) -> Result<(), &'static str> {
        tokio::select! {
            told = changed(&mut self.control) => told.map_err(|()| "the control link"),
            told = changed(&mut self.bgp) => told.map_err(|()| "bgp"),
        }
    }

    pub(super) fn require(&mut self, config: &health::Config) {
        self.require.clone_from(&config.require);
    }

    /// When [`Self::tick`] is due for the drain's sake.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.drain.deadline(clock::now(), clock::wall())
    }

    pub(super) fn tick(&mut self) {
        if let Some(saving) = self.step(drain::Input::Tick) {
            tokio::spawn(async move {
                if let Err(error) = saving.done().await {
                    tracing::error!(error, "the end of the drain could not be saved");
                }
            });
        }
    }

    /// Counts at once; `None` when there is nothing to save.
    pub(super) fn drain(&mut self, time: Option<Duration>) -> Option<Saving> {
        self.step(drain::Input::Drain { time })
    }

    /// As [`Self::drain`].
    pub(super) fn undrain(&mut self) -> Option<Saving> {
        self.step(drain::Input::Undrain)
    }

    /// The last decision of this life.
    pub(super) fn stopping(&mut self, view: &store::View) {
        self.stopping = true;
        self.refresh(view);
    }

    /// Whether traffic is welcome here. Other reasons for being closed come and go by themselves;
    /// a route that came and went with them would be damped by the routers.
    pub(super) fn welcomes(&self) -> bool {
        !self.drain.is_drained() && !self.stopping
    }

    /// Publishes a changed decision; its words for people, when it changed.
    pub(super) fn refresh(&mut self, view: &store::View) -> Option<String> {
        let gate = self.decide(view);
        let changed = self.sender.send_if_modified(|old| {
            let differs = *old != gate;
            if differs {
                old.clone_from(&gate);
            }
            differs
        });
        changed.then(|| {
            let text = gate.to_string();
            tracing::info!(gate = %text, "the gate changed");
            text
        })
    }

    fn step(&mut self, input: drain::Input) -> Option<Saving> {
        let drain::Action::Save(record) = self.drain.step(clock::now(), clock::wall(), input)?;
        if let Ok(mut shown) = self.shown.lock() {
            shown.clone_from(&record);
        }
        // The wish holds in this life even where it cannot be kept for the next.
        Some(self.saver.save(record))
    }

    fn decide(&self, view: &store::View) -> Gate {
        let control = self.control.as_ref().map(|view| view.borrow().clone());
        let lease_fresh = control
            .as_ref()
            .is_some_and(|view| view.is_lease_fresh(clock::boot()));
        let needs_clock = self.require.contains(&health::Requirement::Clock);
        let facts = health::Facts {
            manifest: view.manifest.is_some(),
            readable_disks: health::readable_disks(view),
            drained: self.drain.is_drained(),
            stopping: self.stopping,
            clock_synchronised: !needs_clock || clock_sync::is_synchronised().unwrap_or(false),
            enabled: control.is_some_and(|view| view.enabled),
            lease_fresh,
            routes: self.bgp.as_ref().map_or(0, |bgp| bgp.borrow().steerable),
        };
        health::decide(&facts, &self.require)
    }
}

/// The next news of a room that is there; an error when it ended.
async fn changed<T>(receiver: &mut Option<watch::Receiver<T>>) -> Result<(), ()> {
    match receiver {
        Some(receiver) => receiver.changed().await.map_err(|_| ()),
        None => std::future::pending().await,
    }
}
