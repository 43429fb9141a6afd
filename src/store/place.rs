//! Which volume gets an object. Pure: `prefill` (and fills) ask, nothing is read or written here.
//!
//! An object has the speed that its rank deserves (`speed`), as long as there is room. Otherwise it
//! goes to the next slower volumes, and only where all of these are full to faster ones, whose room
//! is for what is more popular. Volumes of one speed share by weighted rendezvous hashing on their
//! sizes: one that is full is passed over and the others' objects stay where they are; one that is
//! added takes its share and moves nothing else. Room is a limit, and never a weight: it changes
//! with each object, and so would the answer.

use super::rendezvous::Lot;
use super::speed::Speed;
use std::cmp::Reverse;

/// Kept free on every volume, as a part of its size: metadata, the manifest's copies, sidecars,
/// and the file systems' own need of room to stay fast.
const RESERVE_PARTS: u64 = 100;

/// A volume that may be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) volume: u16,
    pub(super) uuid: String,
    pub(super) speed: Speed,
    pub(super) free: u64,
    pub(super) size: u64,
}

/// No volume has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRoom {
    /// Bytes that the roomiest volume lacks; the whole length when there is no writable volume.
    pub(super) missing: u64,
}

/// The volume for `length` bytes named `name`, which deserve `speed`.
pub(super) fn choose(
    name: &[u8],
    length: u64,
    speed: Speed,
    candidates: &[Candidate],
) -> Result<u16, NoRoom> {
    let first = order(name, length, speed, candidates).first().copied();
    first.ok_or_else(|| {
        let missing = candidates.iter().map(|c| length - room(c)).min();
        NoRoom {
            missing: missing.unwrap_or(length),
        }
    })
}

/// Every volume with room, the best first. Each is where the object would go without those before
/// it; so who wants it on two disks takes the first two, and keeps the one if the other is lost.
pub(super) fn order(name: &[u8], length: u64, speed: Speed, candidates: &[Candidate]) -> Vec<u16> {
    let roomy = candidates.iter().filter(|c| room(c) >= length);
    let keyed = roomy.map(|candidate| {
        let lot = Lot::draw(name, &candidate.uuid, candidate.size);
        let is_faster = candidate.speed < speed;
        // Slower ones in their order, then faster ones, the nearest first.
        let distance = candidate.speed.steps_from(speed);
        // Two lots are never alike in earnest; if they were, the answer would still be one.
        (is_faster, distance, Reverse(lot), candidate.volume)
    });
    let mut order: Vec<_> = keyed.collect();
    order.sort_unstable();
    order.into_iter().map(|(_, _, _, volume)| volume).collect()
}

/// Free bytes beyond the reserve.
pub(super) fn room(candidate: &Candidate) -> u64 {
    candidate.free.saturating_sub(reserve(candidate.size))
}

/// What is missing of the reserve.
pub(super) fn lack(candidate: &Candidate) -> u64 {
    reserve(candidate.size).saturating_sub(candidate.free)
}

/// What a volume of this size can hold when nothing else is on it.
pub(super) fn capacity(size: u64) -> u64 {
    size - reserve(size)
}

fn reserve(size: u64) -> u64 {
    size / RESERVE_PARTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GB: u64 = 1_000_000_000;
    /// Enough that chance is a few per cent of a fair share.
    const NAMES: u32 = 4000;

    /// A volume of 1 TB.
    fn volume(number: u16, speed: Speed, free: u64) -> Candidate {
        Candidate {
            volume: number,
            uuid: format!("uuid-{number}"),
            speed,
            free,
            size: 1000 * GB,
        }
    }

    /// Empty volumes of one speed, of these sizes in GB.
    fn empty(sizes: &[u64]) -> Vec<Candidate> {
        let numbered = (0_u16..).zip(sizes);
        let volume = |(number, size): (u16, &u64)| Candidate {
            size: size * GB,
            ..volume(number, Speed::Hdd, size * GB)
        };
        numbered.map(volume).collect()
    }

    fn name(seed: u32, number: u32) -> [u8; 8] {
        (u64::from(seed) << 32 | u64::from(number)).to_le_bytes()
    }

    fn chosen(name: &[u8], candidates: &[Candidate]) -> u16 {
        choose(name, 1, Speed::Nvme, candidates).unwrap()
    }

    /// Is a count of throws what a share of `p` gives? Beyond five standard deviations it is not.
    fn is_fair(count: u32, p: f64) -> bool {
        let throws = f64::from(NAMES);
        let deviation = (throws * p * (1.0 - p)).sqrt();
        (f64::from(count) - throws * p).abs() <= 5.0 * deviation + 3.0
    }

    fn share(own: u64, all: u64) -> f64 {
        f64::from(u32::try_from(own).unwrap()) / f64::from(u32::try_from(all).unwrap())
    }

    #[test]
    fn the_fastest_speed_with_room_is_taken_and_full_disks_are_skipped() {
        let disks = [
            volume(0, Speed::Hdd, 900 * GB),
            volume(1, Speed::Nvme, 20 * GB),
            volume(2, Speed::Ssd, 30 * GB),
        ];
        let choose = |length| choose(b"k", length, Speed::Nvme, &disks);
        assert_eq!(choose(GB), Ok(1));
        assert_eq!(choose(15 * GB), Ok(2), "10 GB of the 20 are reserve");
        assert_eq!(choose(500 * GB), Ok(0));
    }

    #[test]
    fn no_room_names_what_is_missing() {
        let disks = [volume(0, Speed::Hdd, 30 * GB), volume(1, Speed::Ssd, GB)];
        let choose = |length, disks| choose(b"k", length, Speed::Ssd, disks);
        assert_eq!(choose(25 * GB, &disks), Err(NoRoom { missing: 5 * GB }));
        assert_eq!(choose(7, &[]), Err(NoRoom { missing: 7 }));
    }

    #[test]
    fn an_object_gets_its_speed_then_a_slower_one_and_a_faster_one_only_when_all_else_is_full() {
        for (deserved, order) in [
            (Speed::Nvme, [0, 1, 2, 3, 4]),
            (Speed::Ssd, [1, 2, 3, 4, 0]),
            (Speed::HddOuter, [2, 3, 4, 1, 0]),
            (Speed::Hdd, [3, 4, 2, 1, 0]),
            (Speed::HddInner, [4, 3, 2, 1, 0]),
        ] {
            let numbered = (0_u16..).zip(Speed::ALL);
            let mut disks: Vec<Candidate> = numbered
                .map(|(n, speed)| volume(n, speed, 900 * GB))
                .collect();
            for expected in order {
                assert_eq!(choose(b"k", GB, deserved, &disks), Ok(expected));
                disks[usize::from(expected)].free = 0;
            }
            assert!(choose(b"k", GB, deserved, &disks).is_err());
        }
    }

    #[test]
    fn what_is_on_the_disks_moves_no_choice_until_one_is_full() {
        let empty = empty(&[400, 1000, 600]);
        for number in 0..1000 {
            let name = name(0, number);
            let before = chosen(&name, &empty);
            let mut used = empty.clone();
            for disk in &mut used {
                disk.free = disk.size / 100 + 1 + u64::from(number) * u64::from(disk.volume);
            }
            assert_eq!(chosen(&name, &used), before);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn each_disk_has_its_share_by_size(
            sizes in prop::collection::vec(100_u64..20_000, 1..8),
            seed in any::<u32>(),
        ) {
            let disks = empty(&sizes);
            let mut counts = vec![0_u32; disks.len()];
            for number in 0..NAMES {
                counts[usize::from(chosen(&name(seed, number), &disks))] += 1;
            }
            let all: u64 = sizes.iter().sum();
            for (size, count) in sizes.iter().zip(&counts) {
                prop_assert!(is_fair(*count, share(*size, all)), "{sizes:?} {counts:?}");
            }
        }

        /// Both ways: what is lost with a disk is what it would take, spread over all others.
        #[test]
        fn a_disk_that_is_added_takes_its_share_and_moves_nothing_else(
            sizes in prop::collection::vec(100_u64..20_000, 2..8),
            seed in any::<u32>(),
            at in any::<prop::sample::Index>(),
        ) {
            let disks = empty(&sizes);
            let added = &disks[at.index(disks.len())];
            let others = disks.iter().filter(|disk| *disk != added);
            let before: Vec<Candidate> = others.cloned().collect();
            let mut moved = 0_u32;
            for number in 0..NAMES {
                let name = name(seed, number);
                let (old, new) = (chosen(&name, &before), chosen(&name, &disks));
                prop_assert!(new == old || new == added.volume);
                moved += u32::from(new != old);
            }
            let p = share(added.size / GB, sizes.iter().sum());
            prop_assert!(is_fair(moved, p), "{moved} of {NAMES} for {p} by {sizes:?}");
        }

        /// The next in the order is what is left to choose from without the first.
        #[test]
        fn the_order_is_that_of_one_choice_after_the_other(
            sizes in prop::collection::vec((0..5_usize, 100_u64..20_000), 1..8),
            deserved in 0..5_usize,
            seed in any::<u32>(),
        ) {
            let numbered = (0_u16..).zip(sizes);
            let disks = numbered.map(|(number, (speed, size))| Candidate {
                size: size * GB,
                ..volume(number, Speed::ALL[speed], size * GB)
            });
            let mut left: Vec<Candidate> = disks.collect();
            let (name, speed) = (name(seed, 0), Speed::ALL[deserved]);
            let order = order(&name, GB, speed, &left);
            prop_assert_eq!(order.len(), left.len());
            for next in order {
                prop_assert_eq!(choose(&name, GB, speed, &left), Ok(next));
                left.retain(|disk| disk.volume != next);
            }
        }

        /// Full, or not among the candidates (retiring, not writable): the next in the order.
        #[test]
        fn a_full_disk_is_passed_over_as_if_it_were_not_there(
            sizes in prop::collection::vec(100_u64..20_000, 2..8),
            full in prop::collection::vec(any::<bool>(), 8),
            seed in any::<u32>(),
        ) {
            let mut disks = empty(&sizes);
            for (disk, full) in disks.iter_mut().zip(full) {
                if full {
                    // Of what is left, all is reserve.
                    disk.free = disk.size / 100;
                }
            }
            let open = disks.iter().filter(|disk| room(disk) > 0);
            let open: Vec<Candidate> = open.cloned().collect();
            for number in 0..200 {
                let name = name(seed, number);
                let one = choose(&name, 1, Speed::Hdd, &disks);
                let other = choose(&name, 1, Speed::Hdd, &open);
                prop_assert_eq!(one.ok(), other.ok());
            }
        }

        /// The reserve is never touched, whatever is asked for.
        #[test]
        fn nothing_is_put_where_it_has_no_room(
            disks in prop::collection::vec((0..5_usize, 0_u64..2000, 0_u64..2000), 0..8),
            length in 1_u64..2000,
            deserved in 0..5_usize,
        ) {
            let numbered = (0_u16..).zip(disks);
            let disks: Vec<Candidate> = numbered
                .map(|(number, (speed, size, free))| Candidate {
                    size: size * GB,
                    ..volume(number, Speed::ALL[speed], free.min(size) * GB)
                })
                .collect();
            let length = length * GB;
            match choose(b"k", length, Speed::ALL[deserved], &disks) {
                Ok(chosen) => {
                    let chosen = &disks[usize::from(chosen)];
                    prop_assert!(chosen.free - length >= chosen.size / 100);
                }
                Err(NoRoom { missing }) => {
                    let most = disks.iter().map(room).max().unwrap_or(0);
                    prop_assert!(missing > 0 && most + missing == length);
                }
            }
        }
    }
}
