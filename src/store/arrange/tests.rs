//! What a plan promises, on boxes whose errands are done.

use super::Arranger;
use super::Disk;
use super::Errand;
use super::Item;
use super::Terms;
use super::tests_model::World;
use super::tests_model::disk;
use super::tests_model::placed;
use super::tests_model::promoted;
use super::tests_model::two_speeds;
use crate::store::manifest::UNLISTED_RANK;
use crate::store::place;
use crate::store::speed::Capacities;
use crate::store::speed::Demand;
use crate::store::speed::Speed;

#[test]
fn what_place_put_there_stays() {
    let world = placed(two_speeds(), 1500, 0);
    assert_eq!(place::room(&world.disks[0].candidate), 0);
    assert_eq!(world.plan(), []);
}

#[test]
fn without_a_manifest_nothing_is_arranged() {
    let mut world = placed(two_speeds(), 1500, 10);
    let terms = Terms {
        replica_percent: 10,
    };
    world.add(UNLISTED_RANK, 10, &[2, 3]);
    let mut arranger = Arranger::new(world.disks.clone(), &Demand::default(), terms);
    world.items.iter().for_each(|item| arranger.offer(item));
    assert_eq!(arranger.errands(), []);
    assert_ne!(world.plan(), []);
}

#[test]
fn a_newcomer_goes_up_at_once_and_the_least_popular_makes_room() {
    let mut world = placed(two_speeds(), 1500, 0);
    for item in &mut world.items {
        item.rank += 1;
    }
    world.items[1400].rank = 0;
    let plan = world.plan();
    // All of the fast disks' objects are within the band, so only what is beyond the border goes.
    let last = (0..1500).rev().find(|n| world.speeds(*n) == [Speed::Nvme]);
    assert_eq!(plan.len(), 2, "{plan:?}");
    assert_eq!(plan[0].number(), last.unwrap());
    assert_eq!(promoted(&world, &plan), [1400]);
    assert_eq!(world.settle(), 20);
}

#[test]
fn a_hot_set_that_shifts_moves_twice_its_bytes() {
    for shift in [1_u32, 7, 30, 150] {
        let mut world = placed(two_speeds(), 1500, 0);
        for item in &mut world.items {
            item.rank = (item.rank + shift) % 1500;
        }
        let moved = world.settle();
        assert!(moved <= u64::from(shift) * 20, "{shift}: {moved}");
        // Clear of the band all are where they deserve to be.
        let hot = world.items.iter().filter(|item| item.rank < 185);
        for item in hot {
            assert_eq!(world.speeds(item.number), [Speed::Nvme], "{item:?}");
        }
    }
}

#[test]
fn while_the_fast_disk_has_room_nothing_is_demoted() {
    let mut world = World::of(two_speeds(), 0);
    for rank in 0..190 {
        world.add(rank, 10, &[2]);
    }
    world.add(5000, 10, &[0]);
    world.add(UNLISTED_RANK, 10, &[1]);
    world.to_come = 10_000;
    let plan = world.plan();
    let speed = |volume| world.disk(volume).candidate.speed;
    let demoted = plan.iter().filter(|errand| match errand {
        Errand::Move { from, to, .. } => speed(*to) > speed(*from),
        Errand::Copy { .. } | Errand::Remove { .. } => true,
    });
    assert_eq!(demoted.count(), 0, "{plan:?}");
    // Below 95 % of 198.
    assert_eq!(promoted(&world, &plan), (0..189).collect::<Vec<u32>>());
}

#[test]
fn several_small_ones_make_room_for_a_long_one_and_no_more_than_are_needed() {
    let mut world = World::of(
        vec![disk(0, Speed::Ssd, 1000), disk(1, Speed::Hdd, 9000)],
        0,
    );
    // The 990 bytes of the fast disk.
    for (rank, length) in [(1, 690), (100, 90), (90, 110), (80, 100)] {
        world.add(rank, length, &[0]);
    }
    world.add(0, 105, &[1]);
    world.add(2, 500, &[1]);
    let plan = world.plan();
    // The 90 bytes of rank 100 are not enough, and with those of 90 not needed.
    let [demoted, up] = plan[..] else {
        panic!("{plan:?}");
    };
    assert_eq!((demoted.number(), up.number()), (2, 4));
}

#[test]
fn room_is_made_down_the_whole_stair() {
    let disks = vec![
        disk(0, Speed::Nvme, 101),
        disk(1, Speed::Ssd, 101),
        disk(2, Speed::Hdd, 1000),
    ];
    let mut world = placed(disks, 60, 0);
    for item in &mut world.items {
        item.rank = (item.rank + 1) % 60;
    }
    let plan = world.plan();
    assert_eq!(plan.len(), 3, "{plan:?}");
    assert_eq!(world.settle(), 30);
    assert_eq!(world.speeds(59), [Speed::Nvme]);
}

#[test]
fn what_deserves_a_full_disk_goes_to_the_next_best() {
    let disks = vec![
        disk(0, Speed::Nvme, 1000),
        disk(1, Speed::Ssd, 1000),
        disk(2, Speed::Hdd, 1000),
    ];
    let mut world = World::of(disks, 0);
    world.add(0, 500, &[2]);
    // Somebody else's bytes.
    world.disks[0].candidate.free = 400;
    assert_eq!(
        world.plan(),
        [Errand::Move {
            number: 0,
            from: 2,
            to: 1
        }]
    );
}

#[test]
fn what_lies_on_disks_that_take_nothing_is_left_to_others() {
    let mut disks = two_speeds();
    disks.extend([4, 5, 6].map(|volume| disk(volume, Speed::Hdd, 1000)));
    let mut world = World::of(disks, 10);
    world.disks[4].takes_objects = false;
    world.disks[5].takes_objects = false;
    world.disks[5].retires = true;
    world.disks[6].is_readable = false;
    for volume in [4, 5, 6] {
        world.add(5000, 10, &[volume]);
        // One more than deserved, but the other may not last.
        world.add(5000, 10, &[volume, 2]);
    }
    let surplus = world.add(5000, 10, &[2, 3, 4]);
    world.to_come = 10_000;
    let plan = world.plan();
    assert!(
        matches!(plan[..], [Errand::Remove { number, .. }] if number == surplus),
        "{plan:?}"
    );
}

#[test]
fn retiring_disks_and_dead_ones_count_in_no_border() {
    let speeds = |change: fn(&mut Disk)| {
        let mut world = World::of(two_speeds(), 0);
        for rank in 0..300 {
            let volume = if rank < 90 { 0 } else { 2 };
            world.add(rank, 10, &[volume]);
        }
        world.disks[0].takes_objects = false;
        change(&mut world.disks[0]);
        (85..200)
            .filter(|rank| world.borders().deserved(*rank) == Speed::Nvme)
            .count()
    };
    // 99 on disk 1, and what disk 0 holds.
    assert_eq!(speeds(|_| {}), 189 - 85);
    assert_eq!(speeds(|disk| disk.retires = true), 99 - 85);
    assert_eq!(speeds(|disk| disk.is_readable = false), 99 - 85);
}

#[test]
fn the_worst_of_too_many_copies_goes() {
    let mut world = World::of(two_speeds(), 0);
    let hot = world.add(0, 10, &[0, 2]);
    let cold = world.add(4999, 10, &[0, 2]);
    let gone = world.add(UNLISTED_RANK, 10, &[1, 3]);
    world.to_come = 15_000;
    let mut removed: Vec<(u32, u16, u16)> = Vec::new();
    for errand in world.plan() {
        if let Errand::Remove {
            number,
            from,
            stays,
        } = errand
        {
            removed.push((number, from, stays));
        }
    }
    // The least popular first; a cold object's fast copy is the wrong one.
    assert_eq!(removed, [(gone, 1, 3), (cold, 0, 2), (hot, 2, 0)]);
}

#[test]
fn the_most_popular_have_second_copies_on_another_device_as_far_as_spare_room_goes() {
    let mut world = placed(two_speeds(), 1500, 5);
    // 5 % of 21,780 bytes, of which four fifths are for new ones: 87 of 10 bytes, and a part.
    let copied = world.settle() / 10;
    assert_eq!(copied, 88);
    for item in &world.items {
        let copies = world.copies(item).len();
        assert_eq!(copies, if item.rank < 88 { 2 } else { 1 }, "{item:?}");
    }
    // What is to come leaves 800 bytes, so 400 are for second copies.
    world.to_come = 21_780 - 15_000 - 800;
    world.settle();
    assert_eq!(world.second_bytes(), 400);
    world.to_come += 800;
    world.settle();
    assert_eq!(world.second_bytes(), 0);
}

#[test]
fn one_device_has_no_second_copies() {
    let mut disks = vec![
        disk(0, Speed::HddOuter, 10_000),
        disk(1, Speed::HddInner, 10_000),
    ];
    disks[1].device = 0;
    let mut world = World::of(disks, 50);
    world.add(0, 10, &[0]);
    let both = world.add(1, 10, &[0, 1]);
    let removed = Errand::Remove {
        number: both,
        from: 1,
        stays: 0,
    };
    assert_eq!(world.plan(), [removed]);
    world.disks[1].device = 1;
    assert_eq!(world.plan().len(), 1, "the other one gets its second copy");
}

#[test]
fn second_copies_give_way_to_objects_that_deserve_their_speed() {
    let mut world = World::of(two_speeds(), 50);
    for rank in 0..80 {
        world.add(rank, 10, &[0]);
    }
    world.settle();
    let pairs = |world: &World, speeds: [Speed; 2]| {
        let numbers = 0..80;
        numbers
            .filter(|number| world.speeds(*number) == speeds)
            .count()
    };
    assert_eq!(pairs(&world, [Speed::Nvme; 2]), 80);
    for rank in 80..180 {
        world.add(rank, 10, &[3]);
    }
    world.settle();
    for number in 80..180 {
        assert_eq!(world.speeds(number)[0], Speed::Nvme, "{number}");
    }
    assert_eq!(pairs(&world, [Speed::Nvme; 2]), 18);
    assert_eq!(pairs(&world, [Speed::Nvme, Speed::Hdd]), 62);
}

#[test]
fn a_plan_follows_ranks_and_not_the_order_of_offers() {
    let mut world = placed(two_speeds(), 1500, 5);
    for item in &mut world.items {
        item.rank = item.rank.wrapping_mul(7919) % 1500;
    }
    let offered = |items: &mut dyn Iterator<Item = &Item>| {
        let terms = Terms { replica_percent: 5 };
        let mut arranger = Arranger::new(world.disks.clone(), &world.demand(), terms);
        items.for_each(|item| arranger.offer(item));
        arranger.errands()
    };
    let plan = offered(&mut world.items.iter());
    assert_eq!(plan, offered(&mut world.items.iter().rev()));
    assert!(plan.len() > 100);
}

#[test]
fn borders_agree_with_what_new_objects_are_placed_by() {
    let mut world = placed(two_speeds(), 1500, 0);
    world.disks[1].takes_objects = false;
    let mut capacities = Capacities::default();
    capacities.add_writable(Speed::Nvme, 1000);
    capacities.add_read_only(Speed::Nvme, world.disks[1].held);
    capacities.add_writable(Speed::Hdd, 20_000);
    for rank in (0..1600).chain([UNLISTED_RANK]) {
        let deserved = world.demand().speed(rank, &capacities);
        assert_eq!(world.borders().deserved(rank), deserved, "{rank}");
    }
}

#[test]
fn a_disk_that_lacks_of_its_reserve_is_cleared_for_that_too() {
    let mut world = World::of(
        vec![disk(0, Speed::Ssd, 1000), disk(1, Speed::Hdd, 9000)],
        0,
    );
    // 4 bytes are free, where 10 are kept.
    for (rank, length) in [(1, 700), (100, 196), (90, 100)] {
        world.add(rank, length, &[0]);
    }
    let guest = world.add(0, 195, &[1]);
    world.add(2, 500, &[1]);
    let plan = world.plan();
    assert_eq!(plan.len(), 3, "the 196 bytes of rank 100 are not enough");
    world.execute(&plan);
    assert_eq!(world.speeds(guest), [Speed::Ssd]);
}
