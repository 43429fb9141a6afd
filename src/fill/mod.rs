//! AT 2 AM: what the box should hold and does not is fetched, inside the window and under the cap.
//!
//! `plan` says what to announce, delete and download, in order → `machine` owns the night: it asks
//! the control plane for sources, starts and ends transfers, pauses and resumes (sans-IO) →
//! `sources` keeps what is known of who has what, with back-off and demotion → `fetch` is one
//! transfer: HTTPS ranges, chunks verified as they come → `pace` gives every byte its turn under
//! the cap (`bucket`) and within the budget (`ledger`, durable) → the store publishes.
//! `deletion` keeps what was announced, its grace and its pace. `task` runs the machine.

mod bucket;
mod ledger;
mod ledger_file;
mod meter;
mod nights;
mod overhead;
mod pace;
mod queue;

use crate::clock::Wall;
use crate::link::message::DeletionOverride;
use crate::link::message::FillSource;
use crate::link::message::FillSources;
use crate::link::message::FillSourcesRequest;
use crate::link::message::Position;
use crate::object::ChunkTree;
use crate::object::Digest;
use crate::store;
use crate::store::PublishError;
use crate::units::Bytes;
use crate::units::BytesPerSecond;
use crate::window::Window;
use futures_util::future::BoxFuture;
use serde::Serialize;
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use ledger::BUILT;
pub use ledger::Book;
pub use ledger_file::ContentKeeper;
pub use ledger_file::KeepLedger;
pub use ledger_file::MemoryKeeper;
pub use nights::Night;
pub use nights::Nights;
pub use nights::SourceBytes;
pub use overhead::stream;
pub use overhead::wire;
pub use pace::Budget;
pub use pace::Free;
pub use pace::Pace;
pub use pace::PaceView;
pub use queue::Limits;

/// `[fill]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    /// `window_start`, `window_length` in `[appliance] timezone`; the control plane's word for the
    /// site replaces it. Default 02:00, 12 h.
    pub window: Window,
    /// The smaller of the profile's cap (storage 1.2 Gbit/s, global 0.4, flash 0.3) and
    /// `rate_limit`.
    pub rate_limit: BytesPerSecond,
    /// Urgent bytes of any 24 h. Default 200 GB.
    pub urgent_bytes: Bytes,
    /// Transfers at a time. Default 8.
    pub streams: usize,
    /// Do bytes from boxes of the same cluster count against the cap? Default true.
    pub count_peers: bool,
    /// Between a deletion's acknowledgement and the unlink. Default 3 h.
    pub deletion_grace: Duration,
    /// Percent of held bytes that 24 h may delete without an override. At most 5, the default.
    pub deletion_share: u32,
    /// May sources have private, loopback or link-local addresses? Default false.
    pub private_sources: bool,
    /// May the origin be asked over plain HTTP? Its bytes are verified all the same. Default false.
    pub plain_origin: bool,
    /// Certificate authorities of the origin, PEM; none: the system's.
    pub origin_ca: Option<PathBuf>,
}

/// What the control plane and the rest of the box say, as `appliance` puts it together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// The site's, when the control plane has spoken.
    pub window: Option<Window>,
    /// Lowers the configured rate, never raises it.
    pub rate_limit: Option<BytesPerSecond>,
    /// Directories of bundles to be fetched at any hour.
    pub urgent: Vec<String>,
    /// As received: `deletion` verifies it.
    pub deletion_override: Option<DeletionOverride>,
    /// The last manifest position that a report told and the control plane took.
    pub acknowledged: Option<Position>,
    /// Synchronised, above the floor, and not contradicted by the control plane.
    pub clock_sane: bool,
    /// The control plane answers: sources can be asked for.
    pub connected: bool,
}

/// An object that the manifest lists and no readable disk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    pub digest: Digest,
    pub length: u64,
    /// Best of its keys; 0 is the most popular.
    pub rank: u32,
    pub urgent: bool,
}

/// Which budget a byte is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    Night,
    Urgent,
}

/// One transfer: an object, or what is missing of it, from one source.
#[derive(Clone, Debug)]
pub struct Job {
    pub want: Want,
    pub class: Class,
    pub tree: ChunkTree,
    pub source: FillSource,
    /// Text of the `Authorization` header's ticket.
    pub ticket: Option<String>,
}

/// How a transfer ended. `received`: bytes on the wire, as the cap counts them.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub received: u64,
    /// Verified bytes of the object that this transfer brought.
    pub verified: u64,
    /// From the request to the end, without waiting for turns.
    pub seconds: f64,
    pub end: Result<(), Fault>,
}

/// Why a transfer ended without the whole object. What was verified stays staged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the source does not have it")]
    NotFound,
    #[error("the source is busy")]
    Busy { retry_after: Option<Duration> },
    #[error("the ticket or address was refused: {0}")]
    Refused(String),
    /// Bytes that are not the object's: the source lies or is broken.
    #[error("the source sent wrong bytes: {0}")]
    WrongBytes(String),
    /// Another ETag or length than it had.
    #[error("the source has another file: {0}")]
    Changed(String),
    #[error("the source is too slow: {0}")]
    Slow(String),
    #[error("the source cannot be reached, or broke off: {0}")]
    Broken(String),
    /// Ours: no room, a sick disk.
    #[error(transparent)]
    Store(#[from] PublishError),
    #[error("stopped")]
    Stopped,
}

/// Gives every byte its turn. Clones share it.
///
/// A transfer pays before it lets bytes onto the wire: `ahead` of the reading by what the socket
/// may hold, so that the interface never carries more than was paid for.
pub trait Turns: Send + Sync + Debug {
    /// Waits until `bytes` may be received in `class`, first come first served a quantum at a time
    /// between streams. `Err`: the window has closed, the budget is spent, or it is paused; the
    /// transfer ends with [`Fault::Stopped`].
    fn take(&self, class: Class, bytes: u64) -> BoxFuture<'_, Result<(), Closed>>;

    /// Paid and not used: the transfer ended early.
    fn give_back(&self, class: Class, bytes: u64);
}

/// No more turns for this class at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no turns: the window has closed, the budget is spent, or the fill is paused")]
pub struct Closed;

/// Fetches one object; the real one is `fetch`, worlds have their own.
pub trait Fetch: Send + Sync + Debug {
    /// Runs until its end; dropping the future stops it and keeps what is durable.
    fn fetch(&self, job: Job, turns: Arc<dyn Turns>) -> BoxFuture<'static, Outcome>;
}

/// The control plane's answer to what is wanted.
pub trait Ask: Send + Sync + Debug {
    /// `Err`: in words; asked again after a back-off.
    fn ask(&self, request: FillSourcesRequest) -> BoxFuture<'_, Result<FillSources, String>>;
}

/// The store, as the machine sees it. Blocking: called on blocking threads.
pub trait Content: Send + Sync + Debug {
    /// In the order of the plan: urgent first, then rank, then digest. `urgent`: directories.
    fn wanted(&self, urgent: &[String]) -> Vec<Want>;

    /// Objects that only unlisted keys name, or none: they are for deletion. With their lengths.
    fn surplus(&self) -> Vec<(Digest, u64)>;

    fn space(&self) -> Space;

    /// Forgets their keys durably, then unlinks. Returns the bytes freed.
    fn delete(&self, digests: &[Digest]) -> Result<u64, store::StoreError>;

    /// Staged and not wanted any more.
    fn discard(&self, digest: Digest);

    /// Small durable state under a name: on the node's state directory and two data disks.
    fn keep(&self, name: &str, bytes: &[u8]) -> Result<(), store::StoreError>;

    /// Every readable copy of it, the newest first by file time; the caller's checksum decides.
    fn kept(&self, name: &str) -> Vec<Vec<u8>>;
}

/// Room on the disks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Free bytes beyond each writable volume's reserve; staging files are allocated and counted
    /// as used already.
    pub free: Vec<u64>,
    /// Bytes of held objects.
    pub held: u64,
    /// Staged objects: digest, length, verified bytes.
    pub staged: Vec<(Digest, u64, u64)>,
    pub manifest: Option<Position>,
}

/// The calendar as the ledger needs it: both times of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub wall: Wall,
    pub boot: crate::clock::Boot,
}
