//! Cold pages never block a data-plane worker: a disk's own threads bring them into memory.
//!
//! Path of a chunk: the sender asks [`Fills::is_ready`] (`presence`: no wait) → absent: it awaits
//! [`Fills::supply`], which joins or starts the one flight of that chunk (`pool`: bounded queue, a
//! few threads a disk) → `bring` asks the disk for the whole chunk and waits for it there → every
//! waiter looks again. Who waits has a turn by `shares`: each household as much of the disk as any
//! other. When a chunk starts to be sent, the next one is asked for
//! ([`Fills::prefetch`]). What only one viewer streams may be dropped again (`behind`).
//!
//! ```text
//! present ──────────────────────────────→ send
//! absent → flight (joined by all) → present → send
//!                                 → absent: again, 3 times, then read into memory of our own
//!                                 → I/O error → that response fails, the disk's health is told
//! disk isolated, or queue full ──→ 503 before the head; a response that runs is cut
//! ```
//! A call that hangs is seen by the store's watch, as on the disk's lanes: the volume is isolated
//! and every waiter released. A wait is over after two of the store's deadlines at the latest: one
//! in the queue, one on the disk.
//!
//! I/O: waits for the disk's threads.

mod behind;
mod bring;
mod counts;
mod pool;
mod presence;
mod queue;
mod shares;
#[cfg(test)]
mod tests;

pub use behind::Reader;
pub use counts::ColdView;

use super::DiskClass;
use super::ObjectFile;
use super::lane::Ticks;
use crate::clock;
use crate::object::Digest;
use pool::Bring;
use pool::Pool;
use presence::Presence;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What is asked of a disk at once: a hard disk moves this in the time of one seek.
pub const CHUNK_BYTES: u64 = 512 * 1024;

/// Flights for one chunk before it is read into memory of our own: who evicts it so quickly will
/// go on.
const FLIGHTS_MAX: u32 = 3;

/// Bytes read so at once. They wait in memory for their viewer.
const COPY_BYTES: u64 = 128 * 1024;

/// One disk's way from absent to present pages. Clones share it.
#[derive(Clone, Debug)]
pub struct Fills(Arc<Pool>);

/// Who reads, as far as a disk's time is concerned: a viewer's address (IPv6: its network), or a
/// box. Each has an equal share while many wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Household(pub u64);

/// How much a chunk matters when the queue is long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// A response under way: it would have to be cut.
    Runs,
    /// A response without a head yet: it can still be refused.
    Begins,
    /// The chunk after the one that is being sent.
    Ahead,
}

/// What [`Fills::supply`] brought.
#[derive(Debug)]
pub enum Supply {
    /// The pages are in memory, or nothing can tell: send from the file.
    Cached,
    /// The first bytes asked for, at least one, because their pages do not stay in memory.
    Bytes(Vec<u8>),
}

/// Why absent pages did not come.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FillError {
    #[error("too many reads wait for its disk")]
    Busy,
    #[error("its disk does not answer")]
    NoAnswer,
    #[error(transparent)]
    Read(Arc<io::Error>),
}

impl Household {
    /// Of a name. As a number of addresses, these would be multicast: no viewer has them.
    pub fn named(name: &str) -> Self {
        let mut head = [0; 8];
        head.copy_from_slice(&Digest::of(name.as_bytes()).0[..8]);
        head[0] = 0xff;
        Self(u64::from_be_bytes(head))
    }
}

impl Fills {
    /// For tests: pages that come are gone when their reader looks.
    #[cfg(test)]
    pub(crate) fn forgetful() -> Self {
        let ticks = Ticks::default();
        let nothing = Box::new(|_: &ObjectFile, _: u64, _: u64| Ok(()));
        Self::with(0, 1, Duration::from_secs(10), ticks, nothing).expect("a thread")
    }

    pub(super) fn start(
        disk: u16,
        class: DiskClass,
        deadline: Duration,
        ticks: Ticks,
    ) -> io::Result<Self> {
        Self::with(
            disk,
            threads(class),
            deadline,
            ticks,
            Box::new(bring::bring),
        )
    }

    fn with(
        disk: u16,
        threads: usize,
        deadline: Duration,
        ticks: Ticks,
        bring: Bring,
    ) -> io::Result<Self> {
        let pool = Arc::new(Pool::new(disk, threads, deadline, ticks, bring));
        pool.start()?;
        Ok(Self(pool))
    }

    /// May `length` bytes from `at`, all in one chunk, be read without waiting for the disk?
    pub fn is_ready(&self, object: &ObjectFile, at: u64, length: u64) -> bool {
        // Pages that are under way are counted as present, so ours are asked for first.
        !self.0.is_flying(object.digest, at / CHUNK_BYTES)
            && presence::look(&object.file, at, length) == Presence::Present
    }

    /// As [`Fills::is_ready`], of what was ready a moment ago, in several chunks perhaps, and
    /// cheaper: pages are counted, also those that are being read.
    pub fn is_still_there(&self, object: &ObjectFile, at: u64, length: u64) -> bool {
        let mut chunks = at / CHUNK_BYTES..(at + length).div_ceil(CHUNK_BYTES);
        !chunks.any(|chunk| self.0.is_flying(object.digest, chunk))
            && presence::is_counted(&object.file, at, length)
    }

    /// Asks for the chunk at `at` if it is absent, and waits for nothing. True if it was.
    pub fn prefetch(&self, object: &Arc<ObjectFile>, at: u64) -> bool {
        let at = at / CHUNK_BYTES * CHUNK_BYTES;
        let length = CHUNK_BYTES.min(object.length.saturating_sub(at));
        if length == 0 {
            return false;
        }
        if self.0.is_flying(object.digest, at / CHUNK_BYTES) {
            return true;
        }
        if presence::look(&object.file, at, length) == Presence::Present {
            return false;
        }
        // A full queue leaves it to the moment when it is wanted.
        let nobody = Household::default();
        let _ = (self.0).join(object, at / CHUNK_BYTES, Urgency::Ahead, nobody);
        true
    }

    /// Waits until `length` bytes from `at`, all in one chunk, are in memory.
    pub async fn supply(
        &self,
        object: &Arc<ObjectFile>,
        at: u64,
        length: u64,
        urgency: Urgency,
        household: Household,
    ) -> Result<Supply, FillError> {
        let counts = &self.0.counts;
        counts.add(&counts.misses);
        for _ in 0..FLIGHTS_MAX {
            let since = clock::now();
            let flight = (self.0).join(object, at / CHUNK_BYTES, urgency, household)?;
            let outcome = self.0.arrival(&flight).await;
            counts.waited(clock::now().saturating_duration_since(since));
            outcome?;
            if presence::look(&object.file, at, length) != Presence::Absent {
                return Ok(Supply::Cached);
            }
            counts.add(&counts.retries);
        }
        let bytes = self.copy(object, at, length, household).await?;
        Ok(Supply::Bytes(bytes))
    }

    /// Reads at least one byte from `at`, at most `length`, on the disk's thread into memory.
    pub async fn copy(
        &self,
        object: &Arc<ObjectFile>,
        at: u64,
        length: u64,
        household: Household,
    ) -> Result<Vec<u8>, FillError> {
        let counts = &self.0.counts;
        counts.add(&counts.copies);
        let length = length.min(COPY_BYTES);
        self.0.copy(object, at, length, household).await
    }

    /// Has the disk left a question unanswered for longer than it should? Then it may hang, and
    /// nothing of its files is touched on a worker but what is read without waiting.
    pub fn is_in_doubt(&self) -> bool {
        self.0.in_doubt.load(Ordering::Acquire)
    }

    pub(crate) fn set_in_doubt(&self, in_doubt: bool) {
        self.0.in_doubt.store(in_doubt, Ordering::Release);
    }

    /// The disk went out of reach, or answers again.
    pub(super) fn set_answering(&self, answering: bool) {
        self.0.set_answering(answering);
    }

    /// Called by the watch thread: gives up what has waited too long, drops what is due.
    pub(super) fn watch(&self) {
        self.0.watch();
    }

    /// Chunks wanted or guessed that are not in memory yet. Without a lock.
    pub(super) fn under_way(&self) -> usize {
        self.0.under_way()
    }

    pub(super) fn is_overdue(&self) -> bool {
        self.0.is_overdue()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.0.is_idle()
    }

    pub(super) fn close(&self) {
        self.0.close();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.0.has_ended()
    }

    /// What this disk's cold reads are doing.
    pub fn view(&self) -> ColdView {
        self.0.view()
    }
}

impl FillError {
    /// The disk's own words, for its health.
    pub fn into_io(self) -> Option<io::Error> {
        match self {
            Self::Busy | Self::NoAnswer => None,
            Self::Read(error) => Some(match error.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::new(error.kind(), error.to_string()),
            }),
        }
    }
}

impl From<io::Error> for FillError {
    fn from(error: io::Error) -> Self {
        Self::Read(Arc::new(error))
    }
}

/// Threads of one disk: as many reads as it does well at once. Each is a few KiB while it waits.
fn threads(class: DiskClass) -> usize {
    match class {
        DiskClass::Nvme => 16,
        DiskClass::Ssd => 8,
        // More heads there are not; the second has its request ready when the first is done.
        DiskClass::Hdd => 2,
    }
}
