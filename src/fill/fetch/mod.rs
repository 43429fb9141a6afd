//! One transfer: the missing chunks of an object from its sources, verified as they come.
//!
//! `share` says what a stream may hold. `place` reads where the source is → `resolve` turns its
//! name into addresses that are allowed → `dial` connects with a receive buffer of known size,
//! `handshake` shakes hands and `sealed` opens the records, by way of one of the `buffers`, or
//! `pool` has a connection → `purse` pays for bytes before they may reach the wire, `meter` lets
//! no more be read and has its `socket` not polled meanwhile → `exchange` asks, `answer` checks
//! the head → `gather` makes chunks of the `body` that verify, while `watch` looks for slowness by
//! the `norm` of all sources → `transfer`, which leads all this on one `stream`, stages them.
//! `several` leads some streams for one object, each with a source of its own: `work` says who
//! brings what, by the `tempo` of each.
//! Redirects are never followed; nothing that does not verify is ever staged.
//!
//! I/O: resolves names, connects, reads; the files that do say so.

mod answer;
mod body;
mod buffers;
mod dial;
mod exchange;
mod gather;
mod handshake;
mod meter;
mod norm;
mod place;
mod pool;
mod purse;
mod resolve;
mod sealed;
mod several;
mod share;
mod socket;
mod stream;
mod tempo;
mod transfer;
mod watch;
mod work;

use super::Fetch;
use super::Job;
use super::Outcome;
use super::Receive;
use super::Turns;
use crate::link::message::FillSource;
use dial::Dialler;
use futures_util::future::BoxFuture;
use norm::Norm;
use pool::Pool;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use resolve::Resolve;
pub use resolve::SystemResolver;
pub use share::Share;

/// How to be a client of another box, or of the control plane's link for a path of it: mutual TLS
/// with the box's certificate, believing the pinned authority and, for a box, only the name
/// `oca://box/<source id>`. `Err`: in words.
pub type TlsFor = Arc<dyn Fn(&FillSource) -> Result<Arc<ClientConfig>, String> + Send + Sync>;

/// What the fill's configuration and the link say of transfers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// May sources have private, loopback or link-local addresses?
    pub private_sources: bool,
    /// May the origin be asked over plain HTTP?
    pub plain_origin: bool,
    /// Certificate authorities of the origin, PEM; none: the system's.
    pub origin_ca: Option<PathBuf>,
    /// Where paths of the link (`/v1/origin/<digest>`) are.
    pub gateway: Option<Gateway>,
    pub limits: Limits,
}

/// The control plane's link, as the box is configured to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    pub host: String,
    pub port: u16,
    pub server_name: ServerName<'static>,
}

/// Patience and sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For name, TCP and TLS together.
    pub connect: Duration,
    /// From the request to the end of the answer's head.
    pub head: Duration,
    /// Without a single byte, while bytes may come.
    pub stall: Duration,
    /// Bytes a second over `rate_time`, below which another source is better in any case.
    pub rate_floor: u64,
    pub rate_time: Duration,
}

/// Fetches objects over HTTPS, for [`super::task`].
pub struct Fetcher {
    parts: Arc<Parts>,
}

/// What transfers share.
struct Parts {
    dialler: Dialler,
    pool: Arc<Pool>,
    receive: Arc<dyn Receive>,
    norm: Arc<Norm>,
    limits: Limits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            head: Duration::from_secs(20),
            stall: Duration::from_secs(20),
            rate_floor: 16 << 10,
            rate_time: Duration::from_secs(30),
        }
    }
}

impl Fetcher {
    /// `resolver` is the system's in the daemon. Connects nowhere yet.
    pub fn new(
        config: Config,
        tls: TlsFor,
        resolver: Arc<dyn Resolve>,
        receive: Arc<dyn Receive>,
    ) -> Self {
        let limits = config.limits;
        let parts = Parts {
            dialler: Dialler::new(config, tls, resolver),
            pool: Arc::default(),
            receive,
            norm: Arc::default(),
            limits,
        };
        Self {
            parts: Arc::new(parts),
        }
    }
}

impl Fetch for Fetcher {
    fn fetch(&self, job: Job, turns: Arc<dyn Turns>) -> BoxFuture<'static, Outcome> {
        let parts = Arc::clone(&self.parts);
        Box::pin(transfer::run(parts, job, turns))
    }
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher")
            .field("limits", &self.parts.limits)
            .finish_non_exhaustive()
    }
}
