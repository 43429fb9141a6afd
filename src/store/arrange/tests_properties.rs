//! What a plan promises on any box.

use super::Disk;
use super::Errand;
use super::Item;
use super::tests_model::World;
use super::tests_model::disk;
use super::tests_model::placed;
use super::tests_model::promoted;
use super::tests_model::two_speeds;
use crate::store::manifest::UNLISTED_RANK;
use crate::store::place;
use crate::store::speed::Speed;
use proptest::prelude::*;

fn volumes() -> impl Strategy<Value = Vec<Disk>> {
    let one = (0..5_usize, 200_u64..5000, 0..4_u16, 0..12_u8);
    prop::collection::vec(one, 1..8).prop_map(|disks| {
        let numbered = (0_u16..).zip(disks);
        let disks = numbered.map(|(number, (speed, size, device, fate))| {
            let mut disk = disk(number * 18, Speed::ALL[speed], size);
            disk.device = device;
            disk.takes_objects = fate > 1;
            disk.retires = fate == 1;
            disk.is_readable = fate != 2;
            disk
        });
        disks.collect()
    })
}

fn worlds() -> impl Strategy<Value = World> {
    let objects = (
        0_u32..120,
        1_u64..120,
        prop::collection::vec(any::<u8>(), 1..4),
    );
    let objects = prop::collection::vec(objects, 0..150);
    (volumes(), objects, 0_u32..60, 0_u64..3000).prop_map(|(disks, objects, percent, to_come)| {
        let mut world = World::of(disks, percent);
        world.to_come = to_come;
        for (rank, length, on) in objects {
            let mut volumes: Vec<u16> = Vec::new();
            for disk in on {
                let disk = &world.disks[usize::from(disk) % world.disks.len()].candidate;
                if disk.free >= length && !volumes.contains(&disk.volume) {
                    volumes.push(disk.volume);
                }
            }
            let rank = if rank > 110 { UNLISTED_RANK } else { rank };
            world.add(rank, length, &volumes);
        }
        world
    })
}

/// Could this object go up, for room or for one that deserves it less?
fn is_left_behind(world: &World, item: &Item) -> bool {
    let borders = world.borders();
    let up = borders.up(item.rank);
    let (copies, speeds) = (world.copies(item), world.speeds(item.number));
    if copies.len() != 1 || speeds[0] <= up || item.rank == UNLISTED_RANK {
        return false;
    }
    let better = world.disks.iter().filter(|disk| {
        let speed = disk.candidate.speed;
        disk.is_open() && up <= speed && speed < speeds[0]
    });
    better.map(|disk| &disk.candidate).any(|host| {
        let yields = |victim: &Item| {
            let is_there = world.copies(victim) == [host.volume];
            let is_wrong = host.speed < borders.deserved(victim.rank);
            let mut slower = world.disks.iter().filter(|d| d.is_open());
            let refuge = slower.any(|d| {
                let is_slower = d.candidate.speed > host.speed;
                is_slower && place::room(&d.candidate) >= victim.length
            });
            let reserve = host.size - place::capacity(host.size);
            let free = host.free + victim.length;
            is_there && is_wrong && refuge && free >= item.length + reserve
        };
        place::room(host) >= item.length || world.items.iter().any(yields)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Each errand is checked as it is done (`World::one`).
    #[test]
    fn plans_can_be_done_and_come_to_an_end(
        world in worlds(),
        done in prop::collection::vec(1_usize..40, 40),
    ) {
        let mut world = world;
        let all: u64 = world.items.iter().map(|item| item.length).sum();
        let mut written = 0;
        // A night that ends in the middle of a plan.
        for done in done {
            let plan = world.plan();
            let up = promoted(&world, &plan);
            let ranks = up.iter().map(|number| world.items[*number as usize].rank);
            prop_assert!(ranks.is_sorted(), "the worthiest first");
            written += world.execute(&plan[..done.min(plan.len())]);
        }
        written += world.settle();
        prop_assert!(written <= 8 * all, "{written} of {all}");
        let borders = world.borders();
        prop_assert!(world.second_bytes() <= borders.replica_bytes);
        for item in &world.items {
            let copies = world.copies(item);
            prop_assert!(copies.len() < 2 || borders.keeps_replica(item.rank));
            let mut devices: Vec<u16> = copies.iter().map(|v| world.disk(*v).device).collect();
            devices.dedup();
            prop_assert!(devices.len() == copies.len() && copies.len() < 3);
            prop_assert!(!is_left_behind(&world, item), "{item:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Within 1 % of the border, where all lie as they deserve, or not: nothing moves.
    #[test]
    fn ranks_that_tremble_move_nothing(
        nights in prop::collection::vec(prop::collection::vec(0_u32..3, 1500), 3),
    ) {
        let mut world = placed(two_speeds(), 1500, 0);
        for tremble in nights {
            let mut order: Vec<(u32, u32)> =
                (0_u32..).zip(&tremble).map(|(n, by)| (n + by, n)).collect();
            order.sort_unstable();
            for (rank, (_, number)) in (0_u32..).zip(order) {
                world.items[number as usize].rank = rank;
            }
            prop_assert_eq!(world.plan(), []);
        }
    }

    /// Second copies near their border are made once at most, and none is removed.
    #[test]
    fn second_copies_of_ranks_that_tremble_stay(
        nights in prop::collection::vec(prop::collection::vec(0_u32..9, 300), 6),
    ) {
        let mut world = placed(two_speeds(), 1500, 5);
        world.settle();
        let mut made = 0;
        for tremble in nights {
            let mut order: Vec<(u32, u32)> =
                (0_u32..).zip(&tremble).map(|(n, by)| (n + by, n)).collect();
            order.sort_unstable();
            for (rank, (_, number)) in (0_u32..).zip(order) {
                world.items[number as usize].rank = rank;
            }
            let plan = world.plan();
            let is_copy = |errand: &Errand| matches!(errand, Errand::Copy { .. });
            prop_assert!(plan.iter().all(is_copy), "{plan:?}");
            made += plan.len();
            world.execute(&plan);
        }
        prop_assert!(made <= 9, "{made}");
    }

    /// A disk that is added draws its share of what comes, and nothing of what is there.
    #[test]
    fn disks_of_one_speed_are_not_levelled(on in prop::collection::vec(0_u16..3, 0..200)) {
        let disks = [0, 1, 2].map(|volume| disk(volume, Speed::Hdd, 10_000));
        let mut world = World::of(disks.to_vec(), 0);
        for (rank, volume) in (0_u32..).zip(on) {
            world.add(rank, 10, &[volume]);
        }
        prop_assert_eq!(world.plan(), []);
    }
}
