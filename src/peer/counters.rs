//! What happened, counted. Never waits.

use super::refusal::Reason;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connections: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) responses: AtomicU64,
    pub(super) bytes_sent: AtomicU64,
    refusals: [AtomicU64; Reason::ALL.len()],
    last: Mutex<Option<String>>,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    /// `who`: a box's name or an address.
    pub(super) fn refuse(&self, reason: Reason, who: &str, message: &str) {
        Self::add(&self.refusals[reason as usize], 1);
        // A box that does not hold an object, or not all of it, is asked for it every night.
        if !matches!(reason, Reason::NotHeld | Reason::NotYet) {
            let told = format!("{who}: {message}");
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
        }
    }

    pub(super) fn refusals(&self) -> BTreeMap<String, u64> {
        let counts = Reason::ALL
            .iter()
            .map(|reason| (*reason, Self::get(&self.refusals[*reason as usize])));
        counts
            .filter(|(_, count)| *count > 0)
            .map(|(reason, count)| (reason.as_str().to_owned(), count))
            .collect()
    }

    pub(super) fn last_refusal(&self) -> Option<String> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.clone()
    }
}
