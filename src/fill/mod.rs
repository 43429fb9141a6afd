//! AT 2 AM: what the box should hold and does not is fetched, inside the window and under the cap.
//!
//! `plan` says what to announce, delete and download, in order → `machine` owns the night: it asks
//! the control plane for sources, starts and ends transfers, pauses and resumes (sans-IO) →
//! `sources` keeps what is known of who has what, with back-off and demotion → `fetch` is one
//! transfer: HTTPS ranges, chunks verified as they come → `pace` gives every byte its turn under
//! the cap (`bucket`) and within the budget (`ledger`, durable) → the store publishes.
//! `deletion` keeps what was announced, its grace and its pace; a `survey` looks at the store and
//! deletes what is due. `task` runs the machine, `view` and `metrics` show it.
//! `nights` and `traffic` are its history; a `certificate` says what a box held that was filled
//! before it was shipped.
//!
//! The room is held together by a few traits, so that worlds may play the rest of the box:
//!
//! * [`Turns`] is the cap as a transfer sees it, [`Ration`] the same cap with budget and history as
//!   the task drives it. One [`Larder`] is both: it speaks for a [`Pace`], where `queue` gives the
//!   turns, `bucket` has the rate and `ledger` the budget, kept through [`KeepLedger`].
//! * [`Content`] is the store as the machine sees it, [`Receive`] and [`Staging`] as a transfer
//!   does. One [`StoreContent`] is both.
//! * [`Fetch`] is one transfer, which is a [`Fetcher`]'s; [`Ask`] is the control link.

mod bucket;
mod certificate;
mod content;
mod deletion;
mod fetch;
mod larder;
mod ledger;
mod ledger_file;
mod machine;
mod meter;
mod metrics;
mod nights;
mod overhead;
mod pace;
mod places;
mod plan;
mod queue;
mod sources;
mod survey;
mod task;
mod traffic;
mod transfers;
mod view;

use crate::clock::Wall;
use crate::ids::BoxId;
use crate::link::manifest::Verifier;
use crate::link::message::DeletionOverride;
use crate::link::message::FillSource;
use crate::link::message::FillSources;
use crate::link::message::FillSourcesRequest;
use crate::link::message::Position;
use crate::link::message::SourceKind;
use crate::object::ChunkTree;
use crate::object::Digest;
use crate::store;
use crate::store::PublishError;
use crate::units::Bytes;
use crate::units::BytesPerSecond;
use crate::window::Window;
use bytes::Bytes as ChunkBytes;
use futures_util::future::BoxFuture;
use jiff::civil::Date;
use serde::Serialize;
use std::fmt::Debug;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

pub use certificate::Certificate;
pub use certificate::CertificateError;
pub use certificate::HEAD_BYTES_MAX;
pub use certificate::LINE_BYTES_MAX;
pub use certificate::Line;
pub use certificate::List;
pub use content::StoreContent;
pub use fetch::Config as FetchConfig;
pub use fetch::Fetcher;
pub use fetch::Gateway;
pub use fetch::Limits as FetchLimits;
pub use fetch::Resolve;
pub use fetch::Share;
pub use fetch::SystemResolver;
pub use fetch::TlsFor;
pub use larder::Larder;
pub use ledger::BUILT;
pub use ledger::Book;
pub use ledger_file::ContentKeeper;
pub use ledger_file::KeepLedger;
pub use ledger_file::MemoryKeeper;
pub use nights::Night;
pub use nights::Nights;
pub use nights::Refused;
pub use pace::Budget;
pub use pace::Pace;
pub use pace::PaceView;
pub use queue::Limits;
pub use task::Handle;
pub use task::start;
pub use traffic::Counters;
pub use traffic::CountersFn;
pub use view::PrefillView;
pub use view::TransferView;
pub use view::View;
pub use view::WindowView;

/// What the room needs from the wiring.
#[derive(Clone)]
pub struct Deps {
    pub id: BoxId,
    pub content: Arc<dyn Content>,
    pub fetch: Arc<dyn Fetch>,
    pub ask: Arc<dyn Ask>,
    pub ration: Arc<dyn Ration>,
    pub orders: watch::Receiver<Orders>,
    /// A change of it is the sign to plan again.
    pub store: watch::Receiver<Arc<store::View>>,
    /// The manifest keys that this box believes at present.
    pub verifier: VerifierFn,
    /// Other boxes may fetch from its peer listener: told in reports.
    pub gives: bool,
    /// What its interfaces received, and what it gave: for the history alone.
    pub traffic: CountersFn,
}

/// None before enrolment: no override is believed then.
pub type VerifierFn = Arc<dyn Fn() -> Option<Verifier> + Send + Sync>;

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
    /// Transfers at a time, urgent ones included; fewer at low rates, see [`Share`]. Default 8.
    pub streams: usize,
    /// Sources that one large object is fetched from at a time, each on a stream of its own; 1: one
    /// after the other. Default 3.
    pub sources_at_once: usize,
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
    /// The control plane says that the box is filled before it is shipped.
    pub prefilling: bool,
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

/// One transfer: an object, or what is missing of it, from one source or several at a time.
#[derive(Clone, Debug)]
pub struct Job {
    pub want: Want,
    pub class: Class,
    pub tree: ChunkTree,
    pub source: FillSource,
    /// Text of the `Authorization` header's ticket.
    pub ticket: Option<String>,
    /// Of the same kind: asked beside the first, or in the place of one that fails.
    pub others: Vec<Offer>,
    /// Sources that it may ask at a time, each on a stream of its own; at least one.
    pub streams: usize,
    /// What each of its streams may hold, by the rate in effect when it begins.
    pub share: Share,
}

/// A source, and what it wants to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    pub source: FillSource,
    pub ticket: Option<String>,
}

/// How a transfer ended. `received`: bytes on the wire, as the cap counts them.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub received: u64,
    /// Verified bytes of the object that this transfer brought.
    pub verified: u64,
    /// Bytes of the object that came and were of no use: they were wrong, or another source had
    /// brought them first.
    pub wasted: u64,
    /// From the request to the end, without waiting for turns.
    pub seconds: f64,
    pub end: Result<(), Fault>,
    /// Of a transfer from several sources, each that took part; empty: the first alone.
    pub parts: Vec<Part>,
}

/// What one of several sources did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// 0 is the job's first one, then the others.
    pub source: usize,
    /// Verified bytes that it gave.
    pub verified: u64,
    pub end: Result<(), Fault>,
}

/// Why a transfer ended without the whole object. What was verified stays staged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the source does not have it")]
    NotFound,
    /// It is receiving the object itself: what it had of it when it was asked.
    #[error("the source has not got all of it yet")]
    NotYet {
        held: Vec<Range<u64>>,
        retry_after: Option<Duration>,
    },
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

    /// As [`Turns::take`], for bytes that come later, whenever a source sends them. Each of them
    /// is told by [`Turns::came`] or given back; until then it may come in a burst, and as much
    /// less is saved up.
    fn lend(&self, class: Class, bytes: u64) -> BoxFuture<'_, Result<(), Closed>> {
        self.take(class, bytes)
    }

    /// So much of what was lent has come.
    fn came(&self, _bytes: u64) {}

    /// Paid and not used: the transfer ended early.
    fn give_back(&self, class: Class, bytes: u64);
}

/// No more turns for this class at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no turns: the window has closed, the budget is spent, or the fill is paused")]
pub struct Closed;

/// The keeper of rate and budget, as the task drives it; `pace` is the real one.
pub trait Ration: Turns {
    /// The site's window and the rate in effect. The rolling 24 h of night bytes are at most
    /// `rate` × the window's length.
    fn order(&self, window: &Window, rate: BytesPerSecond);

    /// Turns of `class` may be given until then, by the calendar; `None`: until it is shut. Again:
    /// another end.
    fn open(&self, class: Class, until: Option<Wall>);

    /// No turns of `class`; who waits for one gets [`Closed`].
    fn shut(&self, class: Class);

    /// What receiving this many bytes of content costs, in bytes as the cap counts.
    fn cost(&self, content: u64) -> u64;

    /// For the history. `date`: of the night, or the site's day outside of one.
    fn note(&self, date: Date, note: Note);

    fn account(&self, at: Moment) -> Account;
}

/// What the history of a night is told. The bytes are paid already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    Received {
        class: Class,
        kind: SourceKind,
        bytes: u64,
        /// The window was open.
        inside: bool,
    },
    /// An object is complete.
    Done { bytes: u64 },
    /// A transfer ended without its object, in one word.
    Refused(&'static str),
    /// A plan was made: what it wants, and what the window will not finish.
    Planned {
        wanted: u64,
        wanted_bytes: u64,
        carried_over: u64,
        carried_over_bytes: u64,
        no_room: u64,
    },
    /// Five minutes of the day's traffic have passed: what went out in them, and the percentile.
    Traffic {
        egress: u64,
        p95_bps: u64,
        p95_without_bps: u64,
    },
}

/// How rate and budget stand.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Account {
    /// Received in the last second or so.
    pub rate: BytesPerSecond,
    /// The highest that is allowed.
    pub cap: BytesPerSecond,
    /// What each class may still receive of its 24 h.
    pub night_left: u64,
    pub urgent_left: u64,
    /// Of both, since the start.
    pub granted: u64,
    /// The newest first.
    pub nights: Vec<NightView>,
}

/// One night of the history, with the urgent bytes of its day.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NightView {
    /// The site's date on which the window opened.
    pub date: String,
    #[serde(flatten)]
    pub night: Night,
    /// Bytes given for each that was received; `None` where none was.
    pub egress_per_fill: Option<f64>,
}

/// Fetches one object; the real one is `fetch`, worlds have their own.
pub trait Fetch: Send + Sync + Debug {
    /// Runs until its end; dropping the future stops it and keeps what is durable.
    fn fetch(&self, job: Job, turns: Arc<dyn Turns>) -> BoxFuture<'static, Outcome>;
}

/// Where fetched objects go; the store, or memory in tests.
pub trait Receive: Send + Sync + Debug {
    /// Begins an object, or goes on with what is staged of it. `rank`: the best of its keys. `tree`
    /// is the object's: it hashes to `digest` for `length` bytes.
    fn receive(
        &self,
        digest: Digest,
        length: u64,
        rank: u32,
        tree: ChunkTree,
    ) -> BoxFuture<'static, Result<Box<dyn Staging>, PublishError>>;
}

/// One object on its way in. Dropped before its commit, it keeps what is durable of it.
pub trait Staging: Send {
    /// What is not there yet: byte ranges in order, aligned to chunks but for the object's end.
    fn missing(&self) -> Vec<Range<u64>>;

    /// A whole chunk that the caller has verified.
    fn write(&mut self, chunk: u64, bytes: ChunkBytes) -> BoxFuture<'_, Result<(), PublishError>>;

    /// Nothing is missing: publishes the object.
    fn commit(self: Box<Self>) -> BoxFuture<'static, Result<(), PublishError>>;
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

impl Debug for Deps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deps")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
