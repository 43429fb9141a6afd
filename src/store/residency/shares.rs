//! What is wanted of one disk, and whose turn it is.
//!
//! The disk's time is shared by bytes, twice (self-clocked fair queueing): between households, so
//! that nobody has more of it by asking over more connections; and within one, where what is wanted
//! has its turn when as much has been read for others as it needs itself. A response wants one
//! chunk at a time, so the connections of a household get equal shares of the household's, and a
//! playlist or the end of a segment does not wait for a whole chunk of everybody who streams.
//!
//! Plain data under the lock of [`super::pool`]; nothing here waits.

use super::Household;
use super::queue::Job;
use std::collections::BTreeMap;

/// Jobs by household, and households by turn.
#[derive(Default)]
pub(super) struct Shares {
    households: BTreeMap<Household, Share>,
    /// Those that want something, by the turn and the arrival of the first job of each.
    order: BTreeMap<(u64, u64), Household>,
    /// Of the household that was served last.
    turn: u64,
    arrivals: u64,
    jobs: usize,
}

/// What one household wants.
#[derive(Default)]
struct Share {
    /// By turn; of equal turns, in the order of arrival.
    wanted: BTreeMap<(u64, u64), Job>,
    /// Of the job that was taken last.
    turn: u64,
    /// The turn of all from which this household's next job counts.
    since: u64,
    /// Its place in [`Shares::order`].
    place: (u64, u64),
}

impl Shares {
    /// Jobs of everybody.
    pub(super) fn len(&self) -> usize {
        self.jobs
    }

    /// Jobs of one household.
    pub(super) fn len_of(&self, household: Household) -> usize {
        let share = self.households.get(&household);
        share.map_or(0, |share| share.wanted.len())
    }

    pub(super) fn push(&mut self, household: Household, job: Job) {
        self.arrivals += 1;
        self.jobs += 1;
        let turn = self.turn;
        let share = self.households.entry(household).or_insert_with(|| Share {
            since: turn,
            ..Share::default()
        });
        let due = (share.turn + job.cost(), self.arrivals);
        share.wanted.insert(due, job);
        self.arrange(household);
    }

    /// The next job, whoever wants it. What `is_wanted` denies is dropped and costs nobody a turn.
    pub(super) fn pop(&mut self, mut is_wanted: impl FnMut(&Job) -> bool) -> Option<Job> {
        loop {
            let (&(turn, _), &household) = self.order.first_key_value()?;
            let share = self.households.get_mut(&household)?;
            let ((due, _), job) = share.wanted.pop_first()?;
            share.turn = due;
            self.jobs -= 1;
            let is_wanted = is_wanted(&job);
            if is_wanted {
                share.since = turn;
                self.turn = turn;
            }
            self.arrange(household);
            if is_wanted {
                return Some(job);
            }
        }
    }

    /// Takes out every job for which `is_old`.
    pub(super) fn extract(&mut self, mut is_old: impl FnMut(&Job) -> bool) -> Vec<Job> {
        let mut old = Vec::new();
        for share in self.households.values_mut() {
            let wanted = share.wanted.extract_if(.., |_, job| is_old(job));
            old.extend(wanted.map(|(_, job)| job));
        }
        if old.is_empty() {
            return old;
        }
        self.jobs -= old.len();
        let all: Vec<_> = self.households.keys().copied().collect();
        all.into_iter()
            .for_each(|household| self.arrange(household));
        old
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Puts a household at its place. One that wants nothing is forgotten: it has saved nothing up,
    /// and owes nothing, since its last turn was the last of all.
    fn arrange(&mut self, household: Household) {
        let Some(share) = self.households.get_mut(&household) else {
            return;
        };
        self.order.remove(&share.place);
        let Some((&(_, arrival), job)) = share.wanted.first_key_value() else {
            self.households.remove(&household);
            return;
        };
        share.place = (share.since + job.cost(), arrival);
        self.order.insert(share.place, household);
    }
}
