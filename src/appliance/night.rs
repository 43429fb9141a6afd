//! The wiring of the fill and of what other boxes fetch here.
//!
//! `start` calls [`Rooms::start`] when there is a control plane: without one there is nobody to say
//! what is wanted, and nobody to ask. [`follow`] puts together what the control plane orders and
//! whether the clock may be believed.
//!
//! I/O: binds the peer listener, spawns the task that follows.

use super::ApplianceError;
use crate::clock;
use crate::config::Config;
use crate::fill;
use crate::fill::fetch;
use crate::health;
use crate::link;
use crate::link::message::FillOrders;
use crate::link::message::FillSource;
use crate::link::message::FillSources;
use crate::link::message::FillSourcesRequest;
use crate::link::message::SourceKind;
use crate::link::peering;
use crate::peer;
use crate::store;
use crate::sys::clock_sync;
use crate::task::PhaseRx;
use crate::telemetry;
use crate::units::BytesPerSecond;
use crate::window;
use crate::window::Window;
use futures_util::future::BoxFuture;
use rustls::ClientConfig;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The clock's synchronisation is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How the fill stands, for reports: empty until the fill has started.
pub(super) type Progress = Arc<OnceLock<fill::Handle>>;

/// What runs at night.
#[derive(Debug)]
pub(super) struct Night {
    pub(super) fill: fill::Handle,
    pub(super) peer: Option<peer::Handle>,
    follower: JoinHandle<()>,
}

/// What the night is made from.
pub(super) struct Ground<'a> {
    pub(super) config: &'a Config,
    pub(super) control: &'a link::Config,
    pub(super) store: &'a store::Handle,
    pub(super) line: health::Line,
    pub(super) phase: PhaseRx,
    pub(super) metrics: &'a telemetry::Registry,
}

/// Asks over the control link.
#[derive(Debug)]
struct Asker(health::Line);

impl fill::Ask for Asker {
    fn ask(&self, request: FillSourcesRequest) -> BoxFuture<'_, Result<FillSources, String>> {
        self.0.fill_sources(request)
    }
}
