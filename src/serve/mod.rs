//! A viewer gets a segment.
//!
//! `life` accepts (`listener`: sockets or memory) → `admit` counts and refuses → `guest` hosts:
//! `handshake`, then `connection`, which loops over heads (`head_scan`) and calls `exchange` for
//! each: `request` and `target` parse → `answer` decides (`token` admits, `condition`, `range`) →
//! `files` opens → `pages` waits for the disk → `reply` writes the head (`http_date`) → `delivery`
//! sets the rate (`pacing`, `cmcd`) and notes how it went (`quality`), around `send`, which moves
//! the file's bytes → `access` writes the line. `at_once` takes the same steps without a wait,
//! where none is needed: most small responses of plain HTTP. At the first large body `kernel` hands
//! a TLS session to the kernel, and `send` goes on as for plain HTTP. `speedtest` leaves after
//! `answer`.
//!
//! `carrier` is the way of the bytes without a viewer's rules, for `peer`: handshake, handover,
//! wait for the disk and send loop are the same.
//!
//! Beside the path: `handle` starts, reloads and looks; `worker` is a worker's state, `card` a
//! connection's; `sessions` remembers signed sessions (in a `lately`); `counters`, `metrics` and
//! `view` tell.
//!
//! Serving never waits for the control plane, BGP or fill: it sees a `watch` of the gate and a
//! handle to the store, nothing else.

pub mod listener;
pub mod memory;
pub mod socket;

mod access;
mod access_file;
mod admit;
mod alarm;
mod answer;
mod at_once;
mod card;
mod carrier;
mod cmcd;
mod condition;
mod connection;
mod counters;
mod delivery;
mod exchange;
mod files;
mod guest;
mod handle;
mod handshake;
mod head_scan;
mod histogram;
mod http_date;
mod kernel;
mod lately;
mod life;
mod metrics;
mod pacing;
mod pages;
mod places;
mod quality;
mod quality_metrics;
mod range;
mod reply;
mod request;
mod scratch;
mod send;
mod session;
mod sessions;
mod speedtest;
mod target;
mod token;
mod transport;
mod view;
mod worker;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_support;

// What `peer` sends its objects with, and reads its requests with.
pub use carrier::Carrier;
pub use carrier::CarryError;
pub use carrier::Load;
pub use carrier::Received;
pub use carrier::Terms;
pub use handle::Handle;
pub use handle::Prepared;
pub use handle::start;
pub use quality::DeliveryView;
pub use quality::NetworkView;
pub use quality::QualityView;
// The parsers, for `tests/fuzz`.
pub use cmcd::Cmcd;
pub use head_scan::HeadScan;
pub use head_scan::Scan;
pub use kernel::CipherView;
pub use kernel::Offload;
pub use kernel::TlsOffloadView;
pub use kernel::Verdict;
pub use range::header as parse_range;
pub use request::FIELDS_MAX;
pub use request::Fault;
pub use request::Head;
pub use request::Method;
pub use request::Upload;
pub use speedtest::Config as SpeedtestConfig;
pub use speedtest::View as SpeedtestView;
pub use target::Parsed;
pub use target::Place;
pub use target::Route;
pub use target::Target;
pub use token::TokenFeed;
pub use token::TokenMode;
pub use token::TokensConfig;
pub use token::TokensView;
pub use view::AccessLogView;
pub use view::ConnectionCounts;
pub use view::ConnectionView;
pub use view::Handshakes;
pub use view::ListenerView;
pub use view::TlsView;
pub use view::View;
pub use view::WorkerView;

use crate::gate::Gate;
use crate::object::Digest;
use crate::store;
use crate::store::Fills;
use crate::store::Finding;
use crate::store::ObjectFile;
use crate::store::OpenError;
use crate::sys::page_cache;
use crate::task::PhaseRx;
use crate::tls;
use crate::units::BytesPerSecond;
use send::Patience;
use serde::Serialize;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// `[serve]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    /// HTTPS. Default `["[::]:443"]`.
    pub listen: Vec<SocketAddr>,
    /// Plain HTTP. Default none.
    pub plain_listen: Vec<SocketAddr>,
    /// Data-plane workers; 0 means one a core.
    pub workers: usize,
    /// One line a request, JSON; none when absent.
    pub access_log: Option<PathBuf>,
    /// Of successful answers, one in so many has a line; all others always have. Default 1.
    pub access_log_sample: u64,
    /// Chunks that came from a disk for one viewer leave memory behind it, unless somebody else
    /// reads the object. Default off.
    pub drop_behind: bool,
    pub limits: Limits,
    pub pacing: Pacing,
    pub tls: tls::Config,
    pub tokens: TokensConfig,
    pub speedtest: SpeedtestConfig,
    /// `[serve.tls] tls_offload`: who seals large responses.
    pub tls_offload: Offload,
}

/// `[serve.pacing]`. How fast one response may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Pacing {
    /// The most that one connection gets; no cap when absent, which is the default.
    pub rate_limit: Option<BytesPerSecond>,
    /// Players may ask for less (CMCD). Default true.
    pub cmcd: bool,
}

/// `[serve.limits]`. Every one of them ends in a counted, visible refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Open connections in all; more are refused at once. Default 100,000.
    pub connections: usize,
    /// Open connections from one address (IPv6: one /64). Default 1,000.
    pub connections_per_address: usize,
    /// TLS handshakes under way from one address (IPv6: one /64). Default 200.
    pub handshakes_per_address: usize,
    /// Request line and headers together. Default 16 KiB.
    pub head: usize,
    /// Header fields of one request. Default 64.
    pub headers: usize,
    /// TLS handshake, from accept to Finished. Default 10 s.
    pub handshake_time: Duration,
    /// From the first byte of a head to its last: absolute, so slow senders gain nothing. 10 s.
    pub head_time: Duration,
    /// Keep-alive silence between requests. Default 60 s.
    pub idle_time: Duration,
    /// A response that moves fewer bytes than `progress` in this time is cut. Default 20 s.
    pub progress_time: Duration,
    /// See `progress_time`. Default 16 KiB.
    pub progress: u64,
    /// Requests on one connection; then it is closed. Default 10,000.
    pub requests: u32,
    /// A closed box still serves addresses that fetched within this time … Default 10 min.
    pub linger_time: Duration,
    /// … until the box has been closed this long. Default 2 h.
    pub linger_limit: Duration,
}

/// What serving needs from the rest of the box.
pub struct Deps {
    pub content: Arc<dyn Content>,
    pub gate: watch::Receiver<Gate>,
    pub tokens: TokenFeed,
    pub phase: PhaseRx,
    /// Where the speed test's file is made; without it there is none.
    pub speedtest_file: Option<PathBuf>,
}

/// Where viewers come from and where workers run: real in the daemon, in memory in tests.
pub struct Seams {
    pub bind: Arc<dyn listener::Bind>,
    pub spawn: Arc<dyn listener::SpawnWorker>,
}

/// The answer of [`Content::open`].
pub type Opening<'a> =
    Pin<Box<dyn Future<Output = Result<Arc<ObjectFile>, OpenError>> + Send + 'a>>;

/// What serving sees of the store. Tests give a directory instead.
pub trait Content: Send + Sync + 'static {
    /// See [`store::Handle::find`].
    fn find(&self, key: &str) -> Finding;

    /// See [`store::Handle::open`].
    fn open(&self, digest: Digest) -> Opening<'_>;

    /// See [`store::Handle::read_failed`].
    fn read_failed(&self, object: &ObjectFile, error: &io::Error);

    /// Where absent pages of an object are brought from. `None`: reads of it never wait for a
    /// disk, or may.
    fn fills(&self, _object: &ObjectFile) -> Option<&Fills> {
        None
    }
}

/// Why serving cannot start, or cannot change. The old configuration goes on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(
        "cannot listen on {address}: {source}; is the address this box's own, and the port free?"
    )]
    Bind {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("{0} is listed twice in `listen` and `plain_listen`; each address has one use")]
    Twice(SocketAddr),
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    #[error("[serve.tokens] key_file {0}")]
    Keys(#[from] tls::token::KeyFileError),
    #[error(
        "cannot open the access log {path}: {source}; create its directory and make it writable"
    )]
    AccessLog { path: PathBuf, source: io::Error },
    #[error(
        "`tls_offload` is `require`, but {0}; load the module `tls` and those of the ciphers, or \
         write `tls_offload = \"auto\"`"
    )]
    TlsOffload(String),
    #[error("cannot start a worker: {0}; is a limit on threads or descriptors too low?")]
    Worker(io::Error),
}

impl Limits {
    fn patience(&self) -> Patience {
        Patience {
            time: self.progress_time,
            bytes: self.progress,
        }
    }
}

impl Content for store::Handle {
    fn find(&self, key: &str) -> Finding {
        Self::find(self, key)
    }

    fn open(&self, digest: Digest) -> Opening<'_> {
        Box::pin(async move {
            let object = Self::open(self, digest).await?;
            // Whole chunks are asked for; the small steps of the kernel would be taken on a
            // worker. Where it does not listen, nothing is lost but that.
            let _ = page_cache::no_readahead(&object.file);
            Ok(object)
        })
    }

    fn read_failed(&self, object: &ObjectFile, error: &io::Error) {
        Self::read_failed(self, object, error);
    }

    fn fills(&self, object: &ObjectFile) -> Option<&Fills> {
        Self::fills(self, object.volume)
    }
}

impl std::fmt::Debug for Deps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deps").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Seams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seams").finish_non_exhaustive()
    }
}
