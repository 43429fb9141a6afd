//! What is counted while the fleet runs: calls by outcome, how long they took, connections.

use super::Outcome;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Different complaints that are kept; more of the same say nothing.
const COMPLAINTS_MAX: usize = 20;

/// Calls of one sort.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls {
    pub(crate) sent: u64,
    pub(crate) accepted: u64,
    /// Of the accepted ones, in milliseconds.
    times: Vec<f32>,
    /// So many of them came before the fleet had settled.
    unsettled: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Enrolment,
    Heartbeat,
    Report,
    Manifest,
    Question,
    Withdrawal,
}

/// Shared by every box and the viewer.
#[derive(Debug, Default)]
pub(super) struct Tally {
    calls: [Mutex<Calls>; 6],
    dials: AtomicU64,
    named: AtomicU64,
    complaints: Mutex<Vec<String>>,
}

impl Calls {
    pub(crate) fn refused(&self) -> u64 {
        self.sent - self.accepted
    }

    /// Milliseconds; not a number when nothing was accepted.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        percentile(&self.times, percent)
    }

    /// The same without the start, when everybody comes at once.
    pub(crate) fn settled_percentile(&self, percent: usize) -> f64 {
        let settled = self.times.get(self.unsettled..);
        percentile(settled.unwrap_or_default(), percent)
    }
}

fn percentile(times: &[f32], percent: usize) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f32::total_cmp);
    let index = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times.get(index).copied().map_or(f64::NAN, f64::from)
}

impl Tally {
    /// A call that took so long, or why it failed. Returns what it was given.
    pub(super) fn count<T, E: std::fmt::Display>(
        &self,
        sort: Sort,
        took: Duration,
        outcome: Result<T, E>,
    ) -> Result<T, E> {
        let mut calls = lock(&self.calls[sort as usize]);
        calls.sent += 1;
        match &outcome {
            Ok(_) => {
                calls.accepted += 1;
                calls.times.push(took.as_secs_f32() * 1e3);
            }
            Err(error) => self.complain(format!("{sort:?}: {error}")),
        }
        outcome
    }

    pub(super) fn complain(&self, complaint: String) {
        let mut complaints = lock(&self.complaints);
        if complaints.len() < COMPLAINTS_MAX && !complaints.contains(&complaint) {
            complaints.push(complaint);
        }
    }

    pub(super) fn dialled(&self) {
        self.dials.fetch_add(1, Ordering::Relaxed);
    }

    /// From here on the start is over.
    pub(super) fn settle(&self) {
        for calls in &self.calls {
            let mut calls = lock(calls);
            calls.unsettled = calls.times.len();
        }
    }

    /// Steering named a box.
    pub(super) fn named(&self) {
        self.named.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn dials(&self) -> u64 {
        self.dials.load(Ordering::Relaxed)
    }

    /// The outcome with what was counted.
    pub(super) fn told(&self, outcome: Outcome) -> Outcome {
        let calls = |sort: Sort| lock(&self.calls[sort as usize]).clone();
        Outcome {
            enrolments: calls(Sort::Enrolment),
            heartbeats: calls(Sort::Heartbeat),
            reports: calls(Sort::Report),
            manifests: calls(Sort::Manifest),
            questions: calls(Sort::Question),
            withdrawals: calls(Sort::Withdrawal),
            named: self.named.load(Ordering::Relaxed),
            complaints: lock(&self.complaints).clone(),
            ..outcome
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
