//! Drop behind: what one viewer streams and nobody else reads need not stay in memory.
//!
//! A [`Reader`] says which chunks it has passed. They are dropped [`DROP_AFTER_MS`] later, because
//! pages that still wait in a socket cannot be, and only if nobody else has read the object since
//! it was passed: whoever finds a chunk in memory may rely on it for a while ([`DROP_AFTER_MS`] is
//! longer). Only what came from the disk for this reader is told: a chunk that was in memory before
//! has served more than one.

use super::super::ObjectFile;
use super::Fills;
use super::pool::Pool;
use crate::lock::lock;
use crate::object::Digest;
use crate::sys::page_cache;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// Passed chunks remembered a disk. Each keeps its file open for a moment; more than this stay in
/// memory, where the kernel evicts them in its own time.
const DROPS_MAX: usize = 256;

/// From passing to dropping: what a viewer has not acknowledged by then is an exception.
const DROP_AFTER_MS: u64 = 2_000;

/// One response that reads an object, while it lives.
#[derive(Debug)]
pub struct Reader {
    pool: Arc<Pool>,
    object: Arc<ObjectFile>,
}

/// A range that may go.
#[derive(Debug)]
pub(super) struct Passed {
    object: Arc<ObjectFile>,
    at: u64,
    length: u64,
    /// [`Readers::begun`] when it was passed.
    begun: u64,
    due_ms: u64,
}

/// Those of one object. Remembered while there are any, or a passed chunk waits for its time.
#[derive(Debug, Default)]
struct Readers {
    reading: usize,
    passed: usize,
    /// How many have begun since this was first remembered.
    begun: u64,
}

/// What is passed, and who reads what.
#[derive(Debug, Default)]
pub(super) struct Behind {
    passed: Mutex<VecDeque<Passed>>,
    /// How many that are until they have been carried out, to be asked without a lock.
    waiting: AtomicUsize,
    readers: Mutex<BTreeMap<Digest, Readers>>,
}

impl Fills {
    /// A response begins to read `object`: passed chunks of it stay.
    pub fn reader(&self, object: &Arc<ObjectFile>) -> Reader {
        let mut readers = lock(&self.0.behind.readers);
        let of_object = readers.entry(object.digest).or_default();
        of_object.reading += 1;
        of_object.begun += 1;
        Reader {
            pool: Arc::clone(&self.0),
            object: Arc::clone(object),
        }
    }

    /// Somebody who drops nothing behind him finds `object` in memory: passed chunks of it stay.
    pub fn keep(&self, object: &ObjectFile) {
        let behind = &self.0.behind;
        if behind.waiting.load(Relaxed) > 0 {
            behind.change(object.digest, |of_object| of_object.begun += 1);
        }
    }
}

impl Reader {
    /// The reader is done with this range, which came from the disk for it.
    pub fn passed(&self, at: u64, length: u64) {
        let length = length.min(self.object.length.saturating_sub(at));
        let behind = &self.pool.behind;
        let mut passed = lock(&behind.passed);
        if passed.len() >= DROPS_MAX {
            return;
        }
        let mut readers = lock(&behind.readers);
        let of_object = readers.entry(self.object.digest).or_default();
        if of_object.reading > 1 {
            return;
        }
        of_object.passed += 1;
        passed.push_back(Passed {
            object: Arc::clone(&self.object),
            at,
            length,
            begun: of_object.begun,
            due_ms: self.pool.ticks.now_ms() + DROP_AFTER_MS,
        });
        behind.waiting.fetch_add(1, Relaxed);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let leave = |of_object: &mut Readers| of_object.reading -= 1;
        self.pool.behind.change(self.object.digest, leave);
    }
}

impl Behind {
    /// The next range whose time has come.
    pub(super) fn due(&self, now_ms: u64) -> Option<Passed> {
        lock(&self.passed).pop_front_if(|passed| passed.due_ms <= now_ms)
    }

    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        let passed = lock(&self.passed);
        passed.front().is_some_and(|passed| passed.due_ms <= now_ms)
    }

    pub(super) fn clear(&self) {
        for passed in lock(&self.passed).drain(..) {
            self.change(passed.object.digest, |of_object| of_object.passed -= 1);
            self.waiting.fetch_sub(1, Relaxed);
        }
    }

    /// On the disk's thread. True if it was dropped, false if somebody else has read the object.
    pub(super) fn carry_out(&self, passed: &Passed) -> bool {
        let mut begun = passed.begun;
        self.change(passed.object.digest, |of_object| {
            of_object.passed -= 1;
            begun = of_object.begun;
        });
        self.waiting.fetch_sub(1, Relaxed);
        begun == passed.begun
            && page_cache::drop_cached(&passed.object.file, passed.at, passed.length).is_ok()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        lock(&self.passed).is_empty() && lock(&self.readers).is_empty()
    }

    fn change(&self, object: Digest, change: impl FnOnce(&mut Readers)) {
        let mut readers = lock(&self.readers);
        if let Some(of_object) = readers.get_mut(&object) {
            change(of_object);
            if of_object.reading == 0 && of_object.passed == 0 {
                readers.remove(&object);
            }
        }
    }
}
