//! What other boxes fetch from this one: `GET /fill/<digest>` over mutual TLS.
//!
//! `net` binds → `listener` accepts on a thread of its own, within the limits of `crowd` →
//! `credentials` has the box's own certificate at the moment → `connection` shakes hands, reads
//! which box asks, and loops over requests → `request` checks the control plane's ticket (asker,
//! source, digest, times; SAFETY: fill), opens the object and selects the `range` → `budget` keeps
//! the ticket's bytes → `reply` writes the head → `body` gives each piece its turn (`pacer`) and
//! sends it. `refusal` is everything else that can be answered; `counters` counts, `metrics` tells.
//!
//! The bytes take a viewer's way (`serve::Carrier`): from the page cache to the socket inside the
//! kernel where it seals TLS, and no read waits for a disk on the thread.
//!
//! Nothing that is not verified is ever sent; of an object that is on its way in, the chunks that
//! are here (`unfinished`). 404 and 429 are normal answers. The gate does not matter here: a box
//! that is drained still gives to others.

mod body;
mod budget;
mod connection;
mod counters;
mod credentials;
mod crowd;
mod listener;
mod metrics;
pub mod net;
mod range;
mod refusal;
mod reply;
mod request;
mod unfinished;

use crate::ids::BoxId;
use crate::link::identity::Identity;
use crate::link::manifest::Verifier;
use crate::serve::Offload;
use crate::serve::listener::Bind;
use crate::serve::listener::SpawnWorker;
use crate::store;
use crate::task::PhaseRx;
use crate::telemetry;
use crate::units::BytesPerSecond;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use listener::Handle;
pub use listener::start;

/// `[serve.peer]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    /// Empty, the default: other boxes fetch nothing here. A fleet's boxes write `[::]:7443`.
    pub listen: Vec<SocketAddr>,
    /// Connections at a time; more are refused with 429. Default 64.
    pub connections: usize,
    /// All of them together. Default 1.2 Gbit/s.
    pub rate_limit: BytesPerSecond,
}

/// The box's certificate and the keys that sign tickets, as they are at the moment of the call;
/// `None` until it is enrolled. Asked for each connection and each request: must not wait.
pub type IdentitySource = Arc<dyn Fn() -> Option<(Identity, Verifier)> + Send + Sync>;

/// What the listener needs from the wiring.
#[derive(Clone)]
pub struct Deps {
    /// This box: the source that tickets must name.
    pub id: BoxId,
    pub identity: IdentitySource,
    pub store: store::Handle,
    /// [`net::Tcp`] in the daemon.
    pub bind: Arc<dyn Bind>,
    /// [`net::ThreadBehind`] in the daemon.
    pub spawn: Arc<dyn SpawnWorker>,
    /// `[serve.tls] tls_offload`: who seals large bodies.
    pub offload: Offload,
    pub phase: PhaseRx,
    pub metrics: telemetry::Registry,
    pub limits: Limits,
}

/// The bounds that are no configuration. Tests lower them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A box fetches a handful of objects at a time, from several sources.
    pub connections_per_asker: usize,
    /// Connections that have not shown who they are, in all and from one address (a /64): a few
    /// addresses must not lock all boxes out. Each has tens of KiB, for ten seconds.
    pub strangers: usize,
    pub strangers_per_address: usize,
    /// From TCP to the end of the TLS handshake.
    pub handshake: Duration,
    /// For a request to come in whole, after the handshake or the last answer.
    pub idle: Duration,
    /// Not one byte has left for so long: the asker does not read.
    pub stall: Duration,
    /// One response; a fetch that takes longer goes on with another ticket.
    pub response: Duration,
    /// No request is taken later on one connection: certificates are shown again.
    pub connection: Duration,
}

/// The listener at one moment, for `oca show fill`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct View {
    pub listen: Vec<SocketAddr>,
    /// Open connections of boxes.
    pub connections: u64,
    pub connections_total: u64,
    pub requests: u64,
    /// Answered with bytes of an object.
    pub responses: u64,
    pub bytes_sent: u64,
    /// Connections whose large bodies the kernel seals.
    pub sealed_by_kernel: u64,
    /// By reason; those that never happened are left out.
    pub refusals: BTreeMap<String, u64>,
    /// The last one that was not a plain "not held", in words.
    pub last_refusal: Option<String>,
}

/// Why the listener could not be started. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    #[error(
        "[serve.peer] listen {address}: {error}; stop what listens there, or choose another \
         address"
    )]
    Bind {
        address: SocketAddr,
        error: std::io::Error,
    },
    #[error("[serve.peer] has no thread: {0}; is a limit on threads or descriptors too low?")]
    Thread(std::io::Error),
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_per_asker: 8,
            strangers: 1_024,
            strangers_per_address: 16,
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            stall: Duration::from_secs(30),
            response: Duration::from_secs(3_600),
            connection: Duration::from_secs(3_600),
        }
    }
}

impl fmt::Debug for Deps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deps")
            .field("id", &self.id)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
