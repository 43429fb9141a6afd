//! How questions were decided, and why some got no box: counters for `telemetry`.

use super::decide::DecidedBy;
use crate::telemetry::Collector;
use crate::telemetry::Exposition;
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// Why a list is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Empty {
    /// Nobody announces the client, and no site is open to such clients.
    NoRoute,
    /// Boxes are there for the client and open, but none has the content.
    NoBoxHoldsIt,
    /// Nobody imported it.
    UnknownKey,
    /// Boxes are there for the client, and all of them are closed.
    NoOpenBox,
    /// Open boxes that hold it are about to delete it.
    Leaving,
    /// An operator took its title away.
    Withdrawn,
}

/// Shared by whoever counts and whoever shows.
#[derive(Clone, Debug, Default)]
pub struct Counters(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    decided: [AtomicU64; DecidedBy::ALL.len()],
    empty: [AtomicU64; Empty::ALL.len()],
    fallback: AtomicU64,
}

impl Empty {
    pub(super) const ALL: [Self; 6] = [
        Self::NoRoute,
        Self::NoBoxHoldsIt,
        Self::UnknownKey,
        Self::NoOpenBox,
        Self::Leaving,
        Self::Withdrawn,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::NoRoute => "no-route",
            Self::NoBoxHoldsIt => "no-box-holds-it",
            Self::UnknownKey => "unknown-key",
            Self::NoOpenBox => "no-open-box",
            Self::Leaving => "leaving",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// What an operator does about it.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::NoRoute => {
                "no box hears a route for this client that may steer, and no site is open to \
                 unannounced clients; ask with explain=1 for routes that were refused"
            }
            Self::NoBoxHoldsIt => {
                "boxes that may serve this client are open, but none of them holds the content yet"
            }
            Self::UnknownKey => "nothing with this key was imported; check its spelling",
            Self::NoOpenBox => {
                "every box that may serve this client is closed; ask with explain=1 for the reasons"
            }
            Self::Leaving => {
                "the open boxes that hold the content are about to delete it: their manifests do \
                 not list it"
            }
            Self::Withdrawn => {
                "its title was withdrawn; `oca control title restore` brings it back"
            }
        }
    }
}

impl Counters {
    /// `first`: what decided the first place.
    pub(super) fn answered(&self, first: DecidedBy, by_fallback: bool) {
        let all = DecidedBy::ALL.iter().zip(&self.0.decided);
        count(all, first);
        if by_fallback {
            self.0.fallback.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn empty(&self, reason: Empty) {
        count(Empty::ALL.iter().zip(&self.0.empty), reason);
    }

    #[cfg(test)]
    pub(super) fn read(&self, name: &str) -> u64 {
        let decided = DecidedBy::ALL.iter().map(|which| which.as_str());
        let empty = Empty::ALL.iter().map(|which| which.as_str());
        let counters = self.0.decided.iter().chain(&self.0.empty);
        let mut named = decided.chain(empty).zip(counters);
        let found = named.find(|(known, _)| *known == name);
        found.map_or(0, |(_, counter)| counter.load(Ordering::Relaxed))
    }
}

fn count<'a, T: PartialEq + 'a>(mut all: impl Iterator<Item = (&'a T, &'a AtomicU64)>, which: T) {
    if let Some((_, counter)) = all.find(|(known, _)| **known == which) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Collector for Counters {
    fn collect(&self, into: &mut Exposition<'_>) -> fmt::Result {
        let decided: Vec<_> = DecidedBy::ALL
            .iter()
            .zip(&self.0.decided)
            .map(|(which, counter)| (vec![("decided_by", which.as_str())], value(counter)))
            .collect();
        let help = "Questions answered, by the step that chose the first box.";
        into.counters("steer_answers", help, &decided)?;
        let empty: Vec<_> = Empty::ALL
            .iter()
            .zip(&self.0.empty)
            .map(|(which, counter)| (vec![("reason", which.as_str())], value(counter)))
            .collect();
        let help = "Questions without a box to name, by reason.";
        into.counters("steer_empty", help, &empty)?;
        let help = "Answers from open sites, for clients that nobody announces.";
        into.counter("steer_fallback", help, value(&self.0.fallback))
    }
}

#[allow(clippy::cast_precision_loss, reason = "exact to 2^53")]
fn value(counter: &AtomicU64) -> f64 {
    counter.load(Ordering::Relaxed) as f64
}
