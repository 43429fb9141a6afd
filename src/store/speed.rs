//! How fast a volume is, and how fast an object should be: the hottest ranks fill the fastest
//! volumes.
//!
//! A signed manifest lists all that the box should hold, so each speed is for as many of its bytes,
//! from the most popular on, as the volumes of that speed can hold. `place` is told the answer. It
//! follows manifest and volumes alone, not what happens to lie where: an object that comes today
//! and one that comes next week go by the same border. Pure; moves nothing.

use super::DiskClass;
use super::DiskConfig;
use super::Zone;
use super::manifest::Row;
use super::manifest::UNLISTED_RANK;
use super::place;

/// Borders between speeds are known to this part of all bytes: far below what a day moves them by.
const STEPS_MAX: u64 = 4096;

/// Fastest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Speed {
    Nvme,
    Ssd,
    /// A hard disk reads about twice as fast at its rim as at its hub …
    HddOuter,
    /// … and, as a whole, in between.
    Hdd,
    HddInner,
}

impl Speed {
    pub(super) const ALL: [Self; 5] = [
        Self::Nvme,
        Self::Ssd,
        Self::HddOuter,
        Self::Hdd,
        Self::HddInner,
    ];

    pub(super) const FASTEST: Self = Self::Nvme;

    pub(super) fn of(disk: &DiskConfig) -> Self {
        match (disk.class, disk.zone) {
            (DiskClass::Nvme, _) => Self::Nvme,
            (DiskClass::Ssd, _) => Self::Ssd,
            (DiskClass::Hdd, Zone::Outer) => Self::HddOuter,
            (DiskClass::Hdd, Zone::None) => Self::Hdd,
            (DiskClass::Hdd, Zone::Inner) => Self::HddInner,
        }
    }

    /// How many speeds lie between the two, whichever is faster.
    pub(super) fn steps_from(self, other: Self) -> u8 {
        (self as u8).abs_diff(other as u8)
    }
}

/// What the volumes of each speed can hold together.
#[derive(Debug, Default)]
pub(super) struct Capacities([u64; Speed::ALL.len()]);

impl Capacities {
    /// Adds a volume that takes objects, by its size.
    pub(super) fn add_writable(&mut self, speed: Speed, size: u64) {
        self.add(speed, place::capacity(size));
    }

    /// Adds a volume that serves what it has and takes no more.
    pub(super) fn add_read_only(&mut self, speed: Speed, held: u64) {
        self.add(speed, held);
    }

    fn add(&mut self, speed: Speed, bytes: u64) {
        let own = &mut self.0[speed as usize];
        *own = own.saturating_add(bytes);
    }

    /// Each speed there is, fastest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Speed, u64)> {
        let all = Speed::ALL.into_iter().zip(self.0);
        all.filter(|(_, bytes)| *bytes > 0)
    }
}

/// How many bytes are listed with which ranks.
#[derive(Debug, Default)]
pub(super) struct Demand {
    /// Ranks, ascending, and how many bytes come before each.
    steps: Vec<(u32, u64)>,
}

impl Demand {
    /// Of all listed keys. An object counts once, with the best of its ranks. `numbers`: objects
    /// are numbered below this.
    pub(super) fn of(rows: &[Row], numbers: u32) -> Self {
        let listed = (0_u32..).zip(rows);
        let listed = listed.filter(|(_, row)| row.rank != UNLISTED_RANK && row.object < numbers);
        let (mut ranked, mut most) = (Vec::with_capacity(rows.len()), 0_u64);
        for (at, row) in listed {
            most = most.saturating_add(row.length());
            ranked.push((row.rank, at));
        }
        ranked.sort_unstable();
        let mut seen = vec![0_u64; numbers as usize / 64 + 1];
        let once = ranked.into_iter().filter_map(|(rank, at)| {
            let row = rows.get(at as usize)?;
            let (word, bit) = (row.object as usize / 64, 1 << (row.object % 64));
            let is_first = seen[word] & bit == 0;
            seen[word] |= bit;
            is_first.then(|| (rank, row.length()))
        });
        Self::of_ranked(once, most / STEPS_MAX)
    }

    /// Of ranks in order, each with a length. Steps are more than `width` bytes apart.
    pub(super) fn of_ranked(objects: impl Iterator<Item = (u32, u64)>, width: u64) -> Self {
        let mut steps = Vec::new();
        let (mut rank_before, mut total, mut told) = (0, 0_u64, 0_u64);
        for (rank, length) in objects {
            if rank != rank_before && total - told > width {
                told = total;
                steps.push((rank_before + 1, told));
            }
            rank_before = rank;
            total = total.saturating_add(length);
        }
        // What is listed with a worse rank than any, or not at all, comes after everything.
        steps.push((rank_before.saturating_add(1), total));
        steps.shrink_to_fit();
        Self { steps }
    }

    /// The speed that this rank deserves: the fastest that what is more popular does not fill.
    pub(super) fn speed(&self, rank: u32, capacities: &Capacities) -> Speed {
        let before = self.before(rank);
        let (mut held, mut slowest) = (0_u64, Speed::FASTEST);
        for (speed, bytes) in capacities.iter() {
            held = held.saturating_add(bytes);
            if before < held {
                return speed;
            }
            slowest = speed;
        }
        slowest
    }

    /// All listed bytes.
    pub(super) fn total(&self) -> u64 {
        self.steps.last().map_or(0, |(_, bytes)| *bytes)
    }

    /// Made without a manifest.
    pub(super) fn is_unknown(&self) -> bool {
        self.steps.is_empty()
    }

    /// The first rank that so many bytes come before; `None`: there is none, listed or not.
    pub(super) fn first_beyond(&self, bytes: u64) -> Option<u32> {
        if bytes == 0 {
            return Some(0);
        }
        let reached = self.steps.partition_point(|(_, before)| *before < bytes);
        self.steps.get(reached).map(|(rank, _)| *rank)
    }

    /// Bytes of the ranks before this one.
    fn before(&self, rank: u32) -> u64 {
        let reached = self.steps.partition_point(|(first, _)| *first <= rank);
        let step = reached.checked_sub(1).and_then(|at| self.steps.get(at));
        step.map_or(0, |(_, bytes)| *bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Digest;
    use crate::store::index::Index;
    use crate::store::manifest::Binding;
    use crate::store::manifest::Builder;
    use crate::store::manifest::Position;
    use proptest::prelude::*;

    fn capacities(all: &[(Speed, u64)]) -> Capacities {
        let mut capacities = Capacities::default();
        for (speed, held) in all {
            capacities.add_read_only(*speed, *held);
        }
        capacities
    }

    fn demand(objects: &[(u32, u64)]) -> Demand {
        Demand::of_ranked(objects.iter().copied(), 0)
    }

    #[test]
    fn zones_stand_on_both_sides_of_a_whole_disk_and_below_every_flash() {
        let speed = |class, zone| {
            Speed::of(&DiskConfig {
                path: "/d".into(),
                class,
                zone,
                plain_directory: false,
            })
        };
        let order = [
            speed(DiskClass::Nvme, Zone::None),
            speed(DiskClass::Ssd, Zone::None),
            speed(DiskClass::Hdd, Zone::Outer),
            speed(DiskClass::Hdd, Zone::None),
            speed(DiskClass::Hdd, Zone::Inner),
        ];
        assert!(order.is_sorted() && order == Speed::ALL);
        assert_eq!(order[0], Speed::FASTEST);
    }

    #[test]
    fn the_hottest_bytes_fill_the_fastest_speed_and_the_rest_the_next() {
        let demand = demand(&[(0, 60), (1, 30), (1, 30), (2, 100), (7, 500)]);
        let disks = [
            (Speed::Nvme, 100),
            (Speed::HddOuter, 110),
            (Speed::HddInner, 900),
        ];
        for (rank, speed) in [
            (0, Speed::Nvme),
            (1, Speed::Nvme),
            (2, Speed::HddOuter),
            (3, Speed::HddInner),
            (7, Speed::HddInner),
            (8, Speed::HddInner),
            (UNLISTED_RANK, Speed::HddInner),
        ] {
            assert_eq!(demand.speed(rank, &capacities(&disks)), speed, "{rank}");
        }
        // A fast volume that is gone is not waited for; one that holds all takes all.
        assert_eq!(demand.speed(0, &capacities(&disks[1..])), Speed::HddOuter);
        let all = capacities(&[(Speed::Ssd, 721), (Speed::Hdd, 5)]);
        assert_eq!(demand.speed(UNLISTED_RANK, &all), Speed::Ssd);
        // More than there is room for: the rest deserves the slowest there is.
        let few = capacities(&[(Speed::Nvme, 1), (Speed::Hdd, 5)]);
        assert_eq!(demand.speed(7, &few), Speed::Hdd);
        assert_eq!(Demand::default().speed(7, &few), Speed::Nvme);
        assert_eq!(demand.speed(7, &Capacities::default()), Speed::FASTEST);
    }

    #[test]
    fn a_volume_counts_without_its_reserve_and_a_read_only_one_with_what_it_holds() {
        let demand = demand(&[(0, 990), (1, 10), (2, 5)]);
        let mut capacities = Capacities::default();
        capacities.add_writable(Speed::Nvme, 1000);
        capacities.add_writable(Speed::Hdd, 1000);
        assert_eq!(demand.speed(1, &capacities), Speed::Hdd);
        capacities.add_read_only(Speed::Nvme, 10);
        assert_eq!(demand.speed(1, &capacities), Speed::Nvme);
        assert_eq!(demand.speed(2, &capacities), Speed::Hdd);
    }

    #[test]
    fn an_object_of_several_keys_counts_once_with_its_best_rank_and_an_unlisted_one_not() {
        let index = Index::default();
        let mut builder = Builder::default();
        let keys = [
            ("a", 9, "x"),
            ("b", 3, "x"),
            ("c", UNLISTED_RANK, "y"),
            ("d", 5, "z"),
        ];
        for (key, rank, object) in keys {
            let binding = Binding {
                digest: Digest::of(object.as_bytes()),
                length: 100,
                last_modified: 0,
                rank,
            };
            builder.push(key, binding).unwrap();
        }
        let position = Position {
            epoch: 1,
            ..Position::default()
        };
        let demand = builder.build(position, &index).demand;
        let before = [3, 4, 5, 6, 9, UNLISTED_RANK].map(|rank| demand.before(rank));
        assert_eq!(before, [0, 100, 100, 200, 200, 200]);
    }

    #[test]
    fn the_first_rank_beyond_a_border_is_that_whose_predecessors_fill_it() {
        let demand = demand(&[(0, 60), (1, 60), (2, 100), (7, 500)]);
        for (bytes, first) in [
            (0, Some(0)),
            (60, Some(1)),
            (61, Some(2)),
            (220, Some(3)),
            (221, Some(8)),
            (720, Some(8)),
            (721, None),
        ] {
            assert_eq!(demand.first_beyond(bytes), first, "{bytes}");
            let is_beyond = |rank: &u32| demand.before(*rank) >= bytes;
            assert_eq!((0..20).find(is_beyond), first, "{bytes}");
        }
        assert_eq!(demand.total(), 720);
        assert!(!demand.is_unknown() && Demand::default().is_unknown());
    }

    proptest! {
        /// However many ranks there are: few steps, none off by more than one.
        #[test]
        fn steps_are_few_and_close(
            lengths in prop::collection::vec((0_u32..3, 0_u64..1000), 0..3000),
            most in 1_u64..500,
        ) {
            let mut rank = 0;
            let objects: Vec<(u32, u64)> = lengths
                .into_iter()
                .map(|(more, length)| {
                    rank += more;
                    (rank, length)
                })
                .collect();
            let total: u64 = objects.iter().map(|(_, length)| length).sum();
            let width = total / most;
            let demand = Demand::of_ranked(objects.iter().copied(), width);
            prop_assert!(demand.steps.len() as u64 <= most + 1);
            let mut objects = objects.into_iter().peekable();
            let mut exact = 0;
            for rank in 0..=rank + 1 {
                let before = demand.before(rank);
                prop_assert!(before <= exact && exact - before <= width, "{rank}");
                while let Some((_, length)) = objects.next_if(|(own, _)| *own == rank) {
                    exact += length;
                }
            }
            prop_assert_eq!(demand.before(u32::MAX), total);
        }

        #[test]
        fn a_worse_rank_never_deserves_a_faster_volume(
            objects in prop::collection::vec((0_u32..50, 1_u64..100), 0..50),
            bytes in prop::collection::vec(0_u64..1000, 5),
        ) {
            let mut objects = objects;
            objects.sort_unstable();
            let demand = demand(&objects);
            let disks: Vec<(Speed, u64)> = Speed::ALL.into_iter().zip(bytes).collect();
            let disks = capacities(&disks);
            let speeds: Vec<Speed> = (0..60).map(|rank| demand.speed(rank, &disks)).collect();
            prop_assert!(speeds.is_sorted());
        }
    }
}
