//! Since when a region wants an object, and who was sent to the origin for it.
//!
//! Escalation counts from the first question of any box of the region; a lease keeps the number of
//! boxes at the origin at the region's number of masters, whoever is elected when. Sans-IO.

use super::stage::Who;
use crate::clock::Instant;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::time::Duration;

/// Some 100 bytes each; the oldest go first, and what was forgotten is asked anew.
const ASKED_MAX: usize = 1_000_000;

/// Nobody asked for so long: whoever wants it next begins a new wait. Longer than the pause
/// between two questions of a box that has much to do, shorter than from night to night.
const IDLE: Duration = Duration::from_secs(6 * 3600);

/// What a box may fetch with one answer ends by then, with its ticket; one that is still at it
/// asks again and keeps its lease.
pub(super) const LEASE: Duration = super::GRANTED;

/// A region and an object's number.
type Key = (u64, u32);

#[derive(Debug, Default)]
pub(super) struct Asked {
    wants: BTreeMap<Key, Want>,
    /// In the order in which they came; keys that are gone may be in it.
    order: VecDeque<(Key, Instant)>,
}

#[derive(Debug)]
struct Want {
    first: Instant,
    last: Instant,
    leases: Vec<Lease>,
}

/// This box was sent to the origin.
#[derive(Clone, Copy, Debug)]
struct Lease {
    who: Who,
    at: Instant,
}

impl Asked {
    /// Somebody of the region asks; returns since when the region does.
    pub(super) fn ask(&mut self, now: Instant, region: u64, object: u32) -> Instant {
        let key = (region, object);
        let fresh = |at| Want {
            first: at,
            last: at,
            leases: Vec::new(),
        };
        let mut is_new = false;
        let want = self.wants.entry(key).or_insert_with(|| {
            is_new = true;
            fresh(now)
        });
        if now.saturating_duration_since(want.last) > IDLE {
            is_new = true;
            *want = fresh(now);
        }
        want.last = now;
        let first = want.first;
        if is_new {
            self.order.push_back((key, first));
            self.forget_oldest();
        }
        first
    }

    /// Boxes with a lease, as far as `is_alive` says so.
    pub(super) fn leased(
        &self,
        now: Instant,
        region: u64,
        object: u32,
        is_alive: impl Fn(Who) -> bool,
    ) -> Vec<Who> {
        let Some(want) = self.wants.get(&(region, object)) else {
            return Vec::new();
        };
        let leases = want.leases.iter();
        leases
            .filter(|lease| now.saturating_duration_since(lease.at) < LEASE && is_alive(lease.who))
            .map(|lease| lease.who)
            .collect()
    }

    /// The box is sent to the origin; false if it was there already.
    pub(super) fn lease(&mut self, now: Instant, region: u64, object: u32, who: Who) -> bool {
        let Some(want) = self.wants.get_mut(&(region, object)) else {
            return true;
        };
        let is_new = want.leases.iter().all(|lease| lease.who != who);
        want.leases
            .retain(|lease| lease.who != who && now.saturating_duration_since(lease.at) < LEASE);
        want.leases.push(Lease { who, at: now });
        is_new
    }

    pub(super) fn len(&self) -> usize {
        self.wants.len()
    }

    fn forget_oldest(&mut self) {
        // Entries that began anew are in the order twice, the first time for nothing.
        while self.wants.len() > ASKED_MAX || self.order.len() > 2 * ASKED_MAX {
            let Some((key, first)) = self.order.pop_front() else {
                return;
            };
            if self.wants.get(&key).is_some_and(|want| want.first == first) {
                self.wants.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[tokio::test(start_paused = true)]
    async fn a_region_waits_from_its_first_question_and_anew_after_a_silence() {
        let mut asked = Asked::default();
        let start = clock::now();
        assert_eq!(asked.ask(start, 1, 7), start);
        let later = start + Duration::from_secs(1_800);
        assert_eq!(asked.ask(later, 1, 7), start);
        assert_eq!(asked.ask(later, 2, 7), later, "another region");
        let next_night = later + IDLE + Duration::from_secs(1);
        assert_eq!(asked.ask(next_night, 1, 7), next_night);
        assert_eq!(asked.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_ends_with_its_time_or_its_box() {
        let mut asked = Asked::default();
        let now = clock::now();
        asked.ask(now, 1, 7);
        asked.lease(now, 1, 7, Who(5));
        asked.lease(now, 1, 7, Who(6));
        let leased = |asked: &Asked, now, dead| asked.leased(now, 1, 7, |who| who != Who(dead));
        assert_eq!(leased(&asked, now, 0), [Who(5), Who(6)]);
        assert_eq!(leased(&asked, now, 5), [Who(6)]);
        let half = now + LEASE / 2;
        asked.lease(half, 1, 7, Who(5));
        assert_eq!(leased(&asked, now + LEASE, 0), [Who(5)], "it asked again");
        assert!(leased(&asked, half + LEASE, 0).is_empty());
    }
}
