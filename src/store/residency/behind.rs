//! Drop behind: what one viewer streams and nobody else reads need not stay in memory.
//!
//! A [`Reader`] says which chunks it has passed. They are dropped [`DROP_AFTER_MS`] later, because
//! pages that still wait in a socket cannot be, and only if at that time nobody else reads the
//! object. Only what came from the disk for this reader is told: a chunk that was in memory
//! before has served more than one.

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
use std::sync::Weak;

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
    /// Dead when the response has ended.
    life: Arc<()>,
}

/// A range that may go.
#[derive(Debug)]
pub(super) struct Passed {
    object: Arc<ObjectFile>,
    at: u64,
    length: u64,
    reader: Weak<()>,
    due_ms: u64,
}

/// What is passed, and who reads what.
#[derive(Debug, Default)]
pub(super) struct Behind {
    passed: Mutex<VecDeque<Passed>>,
    readers: Mutex<BTreeMap<Digest, usize>>,
}

impl Fills {
    /// A response begins to read `object`: others' passed chunks of it stay.
    pub fn reader(&self, object: &Arc<ObjectFile>) -> Reader {
        *lock(&self.0.behind.readers)
            .entry(object.digest)
            .or_default() += 1;
        Reader {
            pool: Arc::clone(&self.0),
            object: Arc::clone(object),
            life: Arc::default(),
        }
    }
}

impl Reader {
    /// The reader is done with this range, which came from the disk for it.
    pub fn passed(&self, at: u64, length: u64) {
        let length = length.min(self.object.length.saturating_sub(at));
        let mut passed = lock(&self.pool.behind.passed);
        if passed.len() < DROPS_MAX {
            passed.push_back(Passed {
                object: Arc::clone(&self.object),
                at,
                length,
                reader: Arc::downgrade(&self.life),
                due_ms: self.pool.ticks.now_ms() + DROP_AFTER_MS,
            });
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut readers = lock(&self.pool.behind.readers);
        if let Some(count) = readers.get_mut(&self.object.digest) {
            *count -= 1;
            if *count == 0 {
                readers.remove(&self.object.digest);
            }
        }
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
        lock(&self.passed).clear();
    }

    /// On the disk's thread. True if it was dropped, false if somebody else reads the object.
    pub(super) fn carry_out(&self, passed: &Passed) -> bool {
        let own = usize::from(passed.reader.strong_count() > 0);
        let readers = lock(&self.readers);
        let others = readers.get(&passed.object.digest).copied().unwrap_or(0);
        drop(readers);
        if others > own {
            return false;
        }
        page_cache::drop_cached(&passed.object.file, passed.at, passed.length).is_ok()
    }
}
