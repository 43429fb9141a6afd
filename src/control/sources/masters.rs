//! Who goes to the origin for a title: elected per title and region, without a memory.
//!
//! Rendezvous hashing over the boxes that should hold the bundle and are at work, so that titles
//! spread over the region and a box that dies hands on only its own. Sans-IO.

use super::stage::Region;
use super::stage::Seat;
use super::stage::Stage;
use super::stage::Who;

/// Beyond the masters themselves: who is next, should some of them not come.
const RESERVES: usize = 8;

/// Members of a region that may be elected.
#[derive(Debug)]
pub(super) struct Electorate<'a> {
    stage: &'a Stage,
    members: Vec<u32>,
    masters: usize,
}

impl<'a> Electorate<'a> {
    /// Boxes whose window is open and who give on what they get; without any, all that are alive
    /// and not paused. Who is `shunned` would be asked by nobody for what it fetched.
    pub(super) fn of(stage: &'a Stage, region: &Region, shunned: impl Fn(Who) -> bool) -> Self {
        let alive = || {
            let members = region.members.iter().copied();
            members.filter(|place| {
                let seat = stage.seat(*place);
                seat.is_some_and(|seat| {
                    seat.alive.is_ok() && seat.gives && !seat.paused && !shunned(seat.who)
                })
            })
        };
        let works = |place: &u32| stage.seat(*place).is_some_and(|seat| seat.works);
        let mut members: Vec<u32> = alive().filter(works).collect();
        if members.is_empty() {
            members = alive().collect();
        }
        Self {
            stage,
            members,
            masters: usize::try_from(region.policy.masters.max(1)).unwrap_or(usize::MAX),
        }
    }

    pub(super) fn masters(&self) -> usize {
        self.masters
    }

    /// Who should fetch a bundle of a title from the origin, the first first: the masters and
    /// their reserves.
    pub(super) fn elect(&self, title: u64, bundle: u32) -> Vec<Who> {
        let most = self.masters.saturating_add(RESERVES);
        let mut best: Vec<(u64, Who)> = Vec::new();
        for seat in self.members.iter().filter_map(|at| self.stage.seat(*at)) {
            if !self.is_eligible(seat, bundle) {
                continue;
            }
            let score = mix(title ^ seat.who.0);
            let place = best.partition_point(|(other, _)| *other >= score);
            if place < most {
                best.insert(place, (score, seat.who));
                best.truncate(most);
            }
        }
        best.into_iter().map(|(_, who)| who).collect()
    }

    fn is_eligible(&self, seat: &Seat, bundle: u32) -> bool {
        self.stage.content.is_allocated(seat.capacity, bundle)
    }
}

/// The finaliser of SplitMix64: every bit of the outcome depends on every bit of the input.
pub(super) fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Yard;
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn titles_spread_over_the_region_and_a_death_moves_only_the_dead_ones_titles() {
        let mut yard = Yard::new(12, 3);
        let stage = yard.stage();
        let region = &stage.regions[0];
        let first = |stage: &Stage, title: u64| {
            Electorate::of(stage, region, |_| false).elect(mix(title), 0)[0]
        };
        let before: Vec<Who> = (0..600).map(|title| first(&stage, title)).collect();
        let mut shares: BTreeMap<Who, usize> = BTreeMap::new();
        for who in &before {
            *shares.entry(*who).or_default() += 1;
        }
        assert_eq!(shares.len(), 12);
        assert!(
            shares.values().all(|share| (25..=80).contains(share)),
            "{shares:?}"
        );
        yard.kill(4);
        let dead = stage.seats[4].who;
        let stage = yard.stage();
        for (title, old) in (0..600).zip(before) {
            let new = first(&stage, title);
            assert_eq!(new == old, old != dead, "{title}");
        }
    }

    #[test]
    fn only_boxes_that_should_hold_the_bundle_and_give_it_on_are_elected() {
        let mut yard = Yard::new(4, 1);
        yard.fill(0, |fill| fill.gives = false);
        yard.fill(1, |fill| fill.window_open = false);
        yard.fill(2, |fill| fill.paused = true);
        let elected = |yard: &Yard| {
            let stage = yard.stage();
            Electorate::of(&stage, &stage.regions[0], |_| false).elect(1, 0)
        };
        let stage = yard.stage();
        assert_eq!(elected(&yard), [stage.seats[3].who]);
        yard.fill(3, |fill| fill.window_open = false);
        let all = elected(&yard).len();
        assert_eq!(all, 2, "outside the window: all that give, but paused ones");
        let nobody = Electorate::of(&stage, &stage.regions[0], |_| false).elect(1, 99);
        assert!(nobody.is_empty(), "no such bundle is allocated to anybody");
    }
}
