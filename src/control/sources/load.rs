//! What each source is about to be asked for: bytes granted and who has a grant. Sans-IO.
//!
//! A grant is what the last answer let a box fetch first; its next question replaces it, because a
//! box asks again for whatever it still misses.

use super::stage::Who;
use crate::clock::Instant;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::time::Duration;

/// Grants that ended are looked for this often.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// A box that takes longer than this for what it was granted gets it slowly from somebody who has
/// room for others.
const BYTES_PER_SECOND_MIN: u64 = 4_000_000;

/// For the way to the source and back.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Loads {
    /// By asker. Only boxes of the registry ask, so this is as long as the registry at most.
    grants: BTreeMap<Who, Grant>,
    sources: HashMap<Who, Load>,
    swept: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) bytes: u64,
    pub(super) askers: usize,
}

#[derive(Debug)]
struct Grant {
    until: Instant,
    /// Each source once.
    bytes: Vec<(Who, u64)>,
}

impl Loads {
    pub(super) fn of(&self, source: Who) -> Load {
        self.sources.get(&source).copied().unwrap_or_default()
    }

    /// Does `asker` have a grant for it already?
    pub(super) fn is_granted(&self, asker: Who, source: Who) -> bool {
        let grant = self.grants.get(&asker);
        grant.is_some_and(|grant| grant.bytes.iter().any(|(who, _)| *who == source))
    }

    /// The asker's earlier grant is void.
    pub(super) fn take_back(&mut self, asker: Who) {
        let Some(grant) = self.grants.remove(&asker) else {
            return;
        };
        for (source, bytes) in grant.bytes {
            let Some(load) = self.sources.get_mut(&source) else {
                continue;
            };
            load.bytes = load.bytes.saturating_sub(bytes);
            load.askers = load.askers.saturating_sub(1);
            if load.askers == 0 {
                self.sources.remove(&source);
            }
        }
    }

    /// Replaces what the asker was granted.
    pub(super) fn grant(&mut self, now: Instant, asker: Who, bytes: BTreeMap<Who, u64>) {
        self.take_back(asker);
        if bytes.is_empty() {
            return;
        }
        let mut all = 0_u64;
        for (source, bytes) in &bytes {
            let load = self.sources.entry(*source).or_default();
            load.bytes = load.bytes.saturating_add(*bytes);
            load.askers += 1;
            all = all.saturating_add(*bytes);
        }
        let time = GRACE + Duration::from_secs(all / BYTES_PER_SECOND_MIN);
        let grant = Grant {
            until: now + time.min(super::GRANTED),
            bytes: bytes.into_iter().collect(),
        };
        self.grants.insert(asker, grant);
    }

    /// Forgets grants that ended.
    pub(super) fn sweep(&mut self, now: Instant) {
        let is_due = |swept: Instant| now.saturating_duration_since(swept) >= SWEEP_EVERY;
        if !self.swept.is_none_or(is_due) {
            return;
        }
        self.swept = Some(now);
        let grants = self.grants.iter();
        let ended = grants.filter(|(_, grant)| now >= grant.until);
        let ended: Vec<Who> = ended.map(|(asker, _)| *asker).collect();
        for asker in ended {
            self.take_back(asker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[tokio::test(start_paused = true)]
    async fn a_grant_counts_until_it_is_replaced_or_ends() {
        let mut loads = Loads::default();
        let now = clock::now();
        let (asker, other, source) = (Who(1), Who(2), Who(9));
        loads.grant(now, asker, [(source, 100)].into());
        loads.grant(now, other, [(source, 40_000_000)].into());
        let load = |loads: &Loads| (loads.of(source).bytes, loads.of(source).askers);
        assert_eq!(load(&loads), (40_000_100, 2));
        assert!(loads.is_granted(asker, source) && !loads.is_granted(source, asker));
        loads.grant(now, asker, [(source, 7)].into());
        assert_eq!(load(&loads), (40_000_007, 2));
        loads.sweep(now + GRACE);
        assert_eq!(load(&loads), (40_000_000, 1), "the small one ended");
        loads.sweep(now + GRACE * 2);
        assert_eq!(load(&loads), (0, 0));
        assert!(loads.sources.is_empty() && loads.grants.is_empty());
    }
}
