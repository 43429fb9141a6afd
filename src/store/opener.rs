//! From which of several disks an object is read.
//!
//! `handle` asks before it opens, again after each that failed. The fastest disk has it; of those
//! as fast as each other always the same one, by rendezvous as `place` chooses, so that a page is
//! in memory once; and only while so many more reads wait there, the one where the fewest do.

use super::core::Shared;
use super::index::Places;
use super::rendezvous::Lot;
use super::speed::Speed;
use super::volume::Volume;
use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A second copy of a page in memory is worth it when so many more reads wait for the first disk:
/// more than what one crowd's hard disk does in a moment, and seconds before it refuses.
const MORE_WAITING: usize = 8;

/// What is asked of one of several disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holder {
    lot: Lot,
    waiting: usize,
}

/// The best volume that holds an object and was not tried.
pub(super) fn untried(shared: &Shared, number: u32, tried: Places) -> Option<&Arc<Volume>> {
    let mut holders = shared.holders(number);
    holders.retain(|volume| !tried.has(volume.number));
    let first = holders.first()?;
    let rank = |volume: &Volume| (volume.state().is_readable(), Speed::of(&volume.config));
    let like_it = rank(first);
    holders.retain(|volume| rank(volume) == like_it);
    if holders.len() > 1 {
        let name = shared
            .index
            .digest(number)
            .map_or([0; 32], |digest| digest.0);
        let asked = holders.iter().map(|volume| asked(volume, &name));
        let best = best(&asked.collect::<Vec<_>>());
        return holders.get(best).copied();
    }
    holders.first().copied()
}

fn asked(volume: &Volume, name: &[u8]) -> Holder {
    let home = volume.home();
    let uuid = home.as_ref().map_or("", |home| &home.uuid);
    Holder {
        lot: Lot::draw(name, uuid, volume.tally.size.load(Ordering::Relaxed)),
        waiting: volume.fills.under_way(),
    }
}

/// Which one, by its place. Of equals the first.
fn best(holders: &[Holder]) -> usize {
    let all = || holders.iter().enumerate();
    let usual = all().max_by_key(|(at, holder)| (holder.lot, Reverse(*at)));
    let idlest = all().min_by_key(|(at, holder)| (holder.waiting, Reverse(holder.lot), *at));
    match (usual, idlest) {
        (Some((_, usual)), Some((at, idlest)))
            if usual.waiting >= idlest.waiting + MORE_WAITING =>
        {
            at
        }
        (Some((at, _)), _) => at,
        (None, _) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two of one size, for a name of which the second is the usual one.
    fn two(waiting: [usize; 2]) -> [Holder; 2] {
        let lots = ["one", "other"].map(|uuid| Lot::draw(b"film", uuid, 1000));
        let mut lots = lots;
        lots.sort();
        [0, 1].map(|at| Holder {
            lot: lots[at],
            waiting: waiting[at],
        })
    }

    #[test]
    fn a_disk_stays_the_usual_one_until_many_more_wait_for_it_than_for_the_other() {
        for (waiting, expected) in [
            ([0, 0], 1),
            ([0, 7], 1),
            ([0, 8], 0),
            ([100, 107], 1),
            ([100, 108], 0),
            ([9, 0], 1),
        ] {
            assert_eq!(best(&two(waiting)), expected, "{waiting:?}");
        }
        let [one, other] = two([0, 20]);
        let third = Holder { waiting: 3, ..one };
        assert_eq!(best(&[third, other, one]), 2, "where the fewest wait");
        assert_eq!(best(&[one, one]), 0, "of equals the first");
    }
}
