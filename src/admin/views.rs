//! What the other rooms show, as this room reads it: cheap calls that never wait.
//!
//! `appliance` builds one [`Views`]; the closures clone an `Arc` or read a `watch`.

use crate::bgp;
use crate::clock::Instant;
use crate::gate::Gate;
use crate::ids::Identity;
use crate::store;
use serde_json::Value;
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;

/// A room's view as JSON.
pub type ValueFn = Arc<dyn Fn() -> Value + Send + Sync>;

/// `store::Handle::view`.
pub type StoreFn = Arc<dyn Fn() -> Arc<store::View> + Send + Sync>;

/// `bgp::Handle::snapshot`; an empty snapshot where there is no `[bgp]`.
pub type BgpFn = Arc<dyn Fn() -> Arc<bgp::Snapshot> + Send + Sync>;

/// `bgp::Handle::table_dump`; `None` where there is no `[bgp]`.
pub type TableFn = Arc<dyn Fn() -> Option<bgp::TableDump> + Send + Sync>;

/// `bgp::Handle::tap`.
pub type TapFn = Arc<dyn Fn(Option<u64>) -> Option<bgp::TapPage> + Send + Sync>;

/// `store::Handle::catalogue`: prefix, after, most.
pub type CatalogueFn =
    Arc<dyn Fn(&str, Option<&str>, usize) -> Vec<store::CatalogueRow> + Send + Sync>;

/// Everything that questions are answered from.
#[derive(Clone)]
pub struct Views {
    pub identity: Identity,
    pub version: &'static str,
    pub started: Instant,
    pub gate: watch::Receiver<Gate>,
    /// `health::drain::Record`.
    pub drain: ValueFn,
    pub store: StoreFn,
    pub catalogue: CatalogueFn,
    pub bgp: BgpFn,
    /// `bgp::Handle::details`: an array in the order of the snapshot's neighbours.
    pub bgp_detail: ValueFn,
    pub bgp_table: TableFn,
    pub bgp_tap: TapFn,
    /// `serve`'s view; its member `connections`, if there is one, is repeated in status.
    pub serve: ValueFn,
    /// An array, one object an open connection; bounded by whoever makes it.
    pub viewers: ValueFn,
    pub tls: ValueFn,
    /// Delivery by client network; bounded by whoever makes it.
    pub quality: ValueFn,
    /// The configuration in effect: an object; `settings` in it is an array of
    /// `{key, value, origin, reload}` for people.
    pub config: ValueFn,
    /// `health::ControlView::value`: how the box stands with its control plane; null without one.
    pub control: ValueFn,
    /// Progress of the running prefill and outcome of the last one.
    pub prefill: ValueFn,
    /// How the fill stands, its pace, and what other boxes fetch here; null on a box that does not
    /// fill.
    pub fill: ValueFn,
}

impl fmt::Debug for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Views")
            .field("identity", &self.identity)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}
