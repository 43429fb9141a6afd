//! What the fleet's machine counts. Read by metrics and tests, written by the machine and the
//! listener.

use crate::link::message::Code;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// Every code a refusal may carry, in the order of [`Counters::refused`].
const CODES: [(Code, &str); 10] = [
    (Code::BadRequest, "bad-request"),
    (Code::TooLarge, "too-large"),
    (Code::WrongDigest, "wrong-digest"),
    (Code::WrongPosition, "wrong-position"),
    (Code::Identity, "identity"),
    (Code::Token, "token"),
    (Code::Quarantined, "quarantined"),
    (Code::NotFound, "not-found"),
    (Code::Busy, "busy"),
    (Code::Internal, "internal"),
];

#[derive(Debug, Default)]
pub struct Counters {
    /// Accepted and new.
    pub(super) reports: AtomicU64,
    /// Repeated or late: answered, nothing changed.
    pub(super) repeated: AtomicU64,
    pub(super) heartbeats: AtomicU64,
    pub(super) quarantines: AtomicU64,
    refused: [AtomicU64; CODES.len()],
}

impl Counters {
    /// Counts a refusal that was told to a box.
    pub fn refuse(&self, code: Code) {
        let at = CODES.iter().position(|(known, _)| *known == code);
        if let Some(counter) = at.and_then(|at| self.refused.get(at)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn refused(&self, code: Code) -> u64 {
        let mut counts = self.refusals_by_code();
        counts
            .find_map(|(known, count)| (known == code).then_some(count))
            .unwrap_or(0)
    }

    pub fn reports(&self) -> u64 {
        self.reports.load(Ordering::Relaxed)
    }

    pub fn heartbeats(&self) -> u64 {
        self.heartbeats.load(Ordering::Relaxed)
    }

    pub(super) fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = CODES.iter().zip(&self.refused);
        counts.map(|((_, name), count)| (*name, count.load(Ordering::Relaxed)))
    }

    fn refusals_by_code(&self) -> impl Iterator<Item = (Code, u64)> + '_ {
        let counts = CODES.iter().zip(&self.refused);
        counts.map(|((code, _), count)| (*code, count.load(Ordering::Relaxed)))
    }

    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
