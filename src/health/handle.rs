//! The way into the control link: what the wiring gives, and what it gets.
//!
//! `appliance` calls [`start`] once and keeps the [`Handle`].
//!
//! I/O: spawns the task.

use super::line::Line;
use super::report;
use super::task::Task;
use super::view::ControlView;
use crate::bgp;
use crate::clock;
use crate::gate::Gate;
use crate::ids::BoxId;
use crate::key::Key;
use crate::link;
use crate::link::body::Pay;
use crate::link::dial::Dial;
use crate::link::identity::Identity;
use crate::link::manifest::Verified;
use crate::link::manifest::Verifier;
use crate::link::message::FillProgress;
use crate::link::message::FillSources;
use crate::link::message::FillSourcesRequest;
use crate::link::message::Position;
use crate::link::message::ViewerKeys;
use crate::link::steps::CatalogueChanges;
use crate::prefix::Prefix;
use crate::serve;
use crate::store;
use futures_util::future::BoxFuture;
use std::fmt;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Commands waiting; there is one kind, and a second one means the same as the first.
const COMMANDS_MAX: usize = 4;

/// `store::Handle::held`.
pub type HeldFn = Arc<dyn Fn() -> store::Held + Send + Sync>;

/// What changed in the catalogue since a generation of the store's: net. `None` when its journal
/// does not go back so far, or there is none.
pub type ChangesFn = Arc<dyn Fn(u64) -> Option<CatalogueChanges> + Send + Sync>;

/// How the fill stands; `None`: this box fills nothing. Cheap: asked every few seconds.
pub type FillFn = Arc<dyn Fn() -> Option<FillProgress> + Send + Sync>;

/// `serve::Handle::view`.
pub type ServeFn = Arc<dyn Fn() -> serve::View + Send + Sync>;

/// `serve::Handle::quality`.
pub type QualityFn = Arc<dyn Fn() -> serve::QualityView + Send + Sync>;

/// [`report::interfaces`], or a fixed list.
pub type InterfacesFn = Arc<dyn Fn() -> Vec<Prefix> + Send + Sync>;

/// `store::Handle::adopt`; called on a blocking thread.
pub type AdoptFn =
    Arc<dyn Fn(SignedManifest) -> Result<store::Adopted, store::AdoptError> + Send + Sync>;

/// Takes the keys of viewers' tokens; never waits.
pub type ViewerKeysFn = Arc<dyn Fn(ViewerKeys) + Send + Sync>;

/// A manifest that was verified for this box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedManifest {
    pub position: Position,
    pub rows: Vec<(Key, store::Binding)>,
}

/// What the task needs from the wiring.
#[derive(Clone)]
pub struct Deps {
    /// The box of the configuration: a certificate for another one is not used.
    pub id: BoxId,
    pub gate: watch::Receiver<Gate>,
    pub store: watch::Receiver<Arc<store::View>>,
    pub held: HeldFn,
    pub changes: ChangesFn,
    pub fill: FillFn,
    pub adopt: AdoptFn,
    pub viewer_keys: ViewerKeysFn,
    /// `None` without BGP.
    pub bgp: Option<watch::Receiver<Arc<bgp::Snapshot>>>,
    pub serve: ServeFn,
    pub quality: QualityFn,
    pub interfaces: InterfacesFn,
    pub dial: Arc<dyn Dial>,
    /// For manifests.
    pub pay: Arc<dyn Pay>,
    /// Of boot id and jitter: [`entropy`] in the daemon.
    pub seed: u64,
}

/// The link's control side, from outside. Stops with its last handle's drop or [`Handle::stop`].
#[derive(Debug)]
pub struct Handle {
    line: Line,
    task: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    ReportNow,
}

/// A seed that no other box has.
pub fn entropy() -> u64 {
    let mut bytes = [0; 8];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        // Better a seed that two boxes might share than none: it makes jitter and a boot id.
        return clock::unix_seconds(clock::wall());
    }
    u64::from_le_bytes(bytes)
}

/// Starts the task on this runtime. Cannot fail: what is wrong with identity, token or control
/// plane shows in the view, and is tried again.
pub fn start(config: &link::Config, deps: Deps) -> Handle {
    let (view, client) = (watch::Sender::default(), watch::Sender::default());
    let (sender, commands) = mpsc::channel(COMMANDS_MAX);
    let line = Line::new(
        deps.id.clone(),
        client.subscribe(),
        view.subscribe(),
        sender,
    );
    let task = Task::new(config.clone(), deps, view, client);
    Handle {
        line,
        task: tokio::spawn(task.run(commands)),
    }
}

impl Handle {
    pub fn view(&self) -> Arc<ControlView> {
        self.line.view()
    }

    /// Told of each change: a lease that ends is one.
    pub fn subscribe(&self) -> watch::Receiver<Arc<ControlView>> {
        self.line.subscribe()
    }

    /// For the rooms that speak with the control plane, or in the box's name.
    pub fn line(&self) -> Line {
        self.line.clone()
    }

    /// A report at once, spaced as the schedule allows.
    pub fn report_now(&self) {
        self.line.report_now();
    }

    /// [`Line::fill_sources`].
    pub fn fill_sources(
        &self,
        request: FillSourcesRequest,
    ) -> BoxFuture<'static, Result<FillSources, String>> {
        self.line.fill_sources(request)
    }

    /// [`Line::identity`].
    pub fn identity(&self) -> Option<Identity> {
        self.line.identity()
    }

    /// [`Line::verifier`].
    pub fn verifier(&self) -> Option<Verifier> {
        self.line.verifier()
    }

    /// Until the control plane has taken `gate` in a report or heartbeat: for a box that stops.
    /// May wait for ever.
    pub async fn told(&self, gate: &Gate) {
        let wanted = report::gate_state(gate);
        let mut view = self.line.subscribe();
        let told = |view: &Arc<ControlView>| view.told.as_ref() == Some(&wanted);
        if view.wait_for(told).await.is_err() {
            // The task is gone and will tell nobody.
            std::future::pending::<()>().await;
        }
    }

    /// Ends the task; calls under way are dropped.
    pub fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl From<Verified> for SignedManifest {
    fn from(verified: Verified) -> Self {
        let rows = verified.keys.into_iter().map(|row| {
            let binding = store::Binding {
                digest: row.digest,
                length: row.length,
                last_modified: row.last_modified,
                rank: row.rank,
            };
            (row.key, binding)
        });
        Self {
            position: verified.position,
            rows: rows.collect(),
        }
    }
}

impl fmt::Debug for Deps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deps")
            .field("id", &self.id)
            .field("dial", &self.dial)
            .finish_non_exhaustive()
    }
}
