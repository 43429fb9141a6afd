//! Who fetched lately: a bounded table of keys and times. `admit` keeps one of addresses,
//! `sessions` one of signed sessions. Shared by the workers; never waits.

use crate::clock::Instant;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Lately<K> {
    tables: Mutex<Generations<K>>,
    most: usize,
}

/// Two tables: the young one becomes the old one when it is full, so the size is bounded and
/// forgetting costs nothing.
#[derive(Debug)]
struct Generations<K> {
    young: HashMap<K, Instant>,
    old: HashMap<K, Instant>,
}

impl<K: Hash + Eq> Lately<K> {
    pub(super) fn bounded(most: usize) -> Self {
        let (young, old) = (HashMap::new(), HashMap::new());
        Self {
            tables: Mutex::new(Generations { young, old }),
            most,
        }
    }

    /// `key` was answered with content.
    pub(super) fn record(&self, key: K, now: Instant) {
        let mut tables = self.lock();
        if tables.young.len() >= self.most / 2 && !tables.young.contains_key(&key) {
            tables.old = std::mem::take(&mut tables.young);
        }
        tables.young.insert(key, now);
    }

    /// Did `key` fetch content within `time`?
    pub(super) fn fetched_within(&self, key: &K, time: Duration, now: Instant) -> bool {
        let tables = self.lock();
        let last = tables.young.get(key).or(tables.old.get(key));
        last.is_some_and(|last| now.saturating_duration_since(*last) <= time)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let tables = self.lock();
        tables.young.len() + tables.old.len()
    }

    fn lock(&self) -> MutexGuard<'_, Generations<K>> {
        // A panic elsewhere ends one connection; the tables are consistent between statements.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
