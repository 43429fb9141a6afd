//! What a disk's cold reads count, and how it is told.

use serde::Serialize;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// One disk's cold reads, as `oca show disks` and the metrics tell them. Counts are since the
/// start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ColdView {
    /// Chunks wanted that no thread has taken yet.
    pub queued: u64,
    /// Threads that read at this moment.
    pub reading: u64,
    /// Times a response came upon absent pages.
    pub misses: u64,
    /// Chunks brought, for a response or ahead of one.
    pub fills: u64,
    /// Of these, asked for ahead.
    pub prefetches: u64,
    /// Responses that shared a read with another, or with a prefetch.
    pub joined: u64,
    /// Waits for a chunk that have ended, and how long they were together and at most.
    pub waits: u64,
    pub wait_ms: u64,
    pub wait_ms_max: u64,
    /// Chunks that were gone again when their reader looked.
    pub retries: u64,
    /// Pieces read past the page cache's users, because it does not keep them.
    pub copies: u64,
    pub errors: u64,
    /// Chunks refused because the queue was full or they had waited too long.
    pub refused: u64,
    /// Chunks dropped behind their only reader.
    pub dropped: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) misses: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) copies: AtomicU64,
    pub(super) fills: AtomicU64,
    pub(super) prefetches: AtomicU64,
    pub(super) joined: AtomicU64,
    waits: AtomicU64,
    wait_us: AtomicU64,
    wait_us_max: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) dropped: AtomicU64,
}

impl Counts {
    pub(super) fn add(&self, count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn waited(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.waits.fetch_add(1, Ordering::Relaxed);
        self.wait_us.fetch_add(us, Ordering::Relaxed);
        self.wait_us_max.fetch_max(us, Ordering::Relaxed);
    }

    /// With what the queue holds at this moment.
    pub(super) fn view(&self, queued: usize, reading: usize) -> ColdView {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        ColdView {
            queued: u64::try_from(queued).unwrap_or(u64::MAX),
            reading: u64::try_from(reading).unwrap_or(u64::MAX),
            misses: read(&self.misses),
            fills: read(&self.fills),
            prefetches: read(&self.prefetches),
            joined: read(&self.joined),
            waits: read(&self.waits),
            wait_ms: read(&self.wait_us) / 1000,
            wait_ms_max: read(&self.wait_us_max) / 1000,
            retries: read(&self.retries),
            copies: read(&self.copies),
            errors: read(&self.errors),
            refused: read(&self.refused),
            dropped: read(&self.dropped),
        }
    }
}
