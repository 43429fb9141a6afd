//! THE OPERATOR'S SOCKET: everything `oca control` asks and orders, as HTTP and JSON.
//!
//! `server` binds the socket and its read-only twin and lets `local` do the talking → `routes` has
//! every path → `partners`, `sites`, `clusters` (with policies), `appliances` (with tokens),
//! `titles` and `import` take what there is to take → `views` answers questions from snapshots.
//! What fleet and steering know comes through closures, so that a wedged task can still be asked
//! about.

mod appliances;
mod clusters;
mod gauges;
mod import;
mod partners;
mod quality;
mod routes;
mod server;
mod sites;
mod titles;
mod views;

use crate::clock::Instant;
use crate::control::ImportConfig;
use crate::control::authority::Authority;
use crate::control::books::Books;
use crate::control::fleet;
use crate::control::liveness::Liveness;
use crate::telemetry;
use serde::Deserialize;
use serde_json::Value;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use server::Handle;
pub use server::start;

/// For a command or a question; the command line waits twice as long.
const REPLY_TIME: Duration = Duration::from_secs(30);

/// `fleet`'s latest view.
pub type FleetFn = Arc<dyn Fn() -> Arc<fleet::View> + Send + Sync>;

/// Steering's answer, or what is wrong with the question.
pub type SteerFn = Arc<dyn Fn(&SteerQuestion) -> Result<Value, String> + Send + Sync>;

/// A question as the operator wrote it; steering reads and checks it as it does a viewer's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SteerQuestion {
    pub client: Option<String>,
    /// A key or a directory.
    pub key: Option<String>,
    pub n: Option<String>,
    /// `<latitude>,<longitude>`.
    pub at: Option<String>,
    /// `ipv4` or `ipv6`.
    pub family: Option<String>,
    /// `1`: with everybody who lost, and why.
    pub explain: Option<String>,
}

/// What the door needs from the wiring.
#[derive(Clone)]
pub struct Deps {
    pub books: Books,
    pub authority: Arc<Authority>,
    pub fleet: FleetFn,
    pub steer: SteerFn,
    pub liveness: Arc<Liveness>,
    /// `[fill] urgent_max`.
    pub urgent_max: usize,
    pub import: ImportConfig,
    /// What box names end in.
    pub domain: String,
    /// `https://<host>:<port>` of the link listener, as boxes reach it.
    pub link_url: String,
    pub metrics: telemetry::Registry,
    pub version: &'static str,
    pub started: Instant,
}

impl fmt::Debug for Deps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deps")
            .field("books", &self.books)
            .field("domain", &self.domain)
            .field("link_url", &self.link_url)
            .finish_non_exhaustive()
    }
}
