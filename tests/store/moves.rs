//! Ranks that change: objects follow them from disk to disk in the night, within its budget; the
//! most popular have second copies, which a lost disk does not take with it; spare copies go.

use crate::tools::Lab;
use crate::tools::Mount;
use crate::tools::block;
use crate::tools::bytes;
use crate::tools::forget_snapshots;
use crate::tools::object_path;
use crate::tools::objects_on;
use crate::tools::opened;
use crate::tools::read;
use crate::tools::until;
use oca::clock;
use oca::key::Key;
use oca::object::Digest;
use oca::store::Binding;
use oca::store::Config;
use oca::store::DiskClass;
use oca::store::Handle;
use oca::store::MovesView;
use oca::store::Night;
use oca::units::Bytes;
use std::collections::BTreeSet;
use std::time::Duration;

const LENGTH: usize = 1_000_000;

/// Two disks of so many MiB.
fn lab(sizes: [(u32, DiskClass); 2]) -> (Lab, Vec<Mount>) {
    let mut lab = Lab::new(0);
    let mut mounts = Vec::new();
    for (at, (size, class)) in sizes.into_iter().enumerate() {
        let path = lab.path(&format!("mount{at}"));
        mounts.push(Mount::tmpfs(&path, &format!("size={size}m")));
        lab.add(&path, class, false);
    }
    (lab, mounts)
}

fn config(lab: &Lab, moves_per_night: usize, replicas_percent: u32) -> Config {
    let mut config = lab.config();
    config.upkeep.moves_per_night = Bytes(moves_per_night as u64);
    config.upkeep.replicas_percent = replicas_percent;
    config
}

fn name(object: u32) -> String {
    format!("film/{object}.m4s")
}

fn digest(object: u32) -> Digest {
    Digest::of(&bytes(&name(object), LENGTH))
}

/// A control plane ranks the objects below `count`.
fn rank(store: &Handle, generation: u64, count: u32, rank: impl Fn(u32) -> u32) {
    let rows = (0..count).map(|object| {
        let binding = Binding {
            digest: digest(object),
            length: LENGTH as u64,
            last_modified: 1,
            rank: rank(object),
        };
        (Key::parse(name(object).as_bytes()).unwrap(), binding)
    });
    store.adopt(1, generation, rows.collect()).unwrap();
}

/// By its rank, or on a disk that is not one of `without`.
fn publish(store: &Handle, object: u32, without: &[u16]) {
    let (key, length) = (name(object), LENGTH as u64);
    let without: BTreeSet<u16> = without.iter().copied().collect();
    let mut publication = store.stage(key.as_bytes(), length, &without).unwrap();
    publication.write(bytes(&key, LENGTH)).unwrap();
    publication.commit(Some(digest(object))).unwrap();
}

fn is_on(lab: &Lab, object: u32, disk: usize) -> bool {
    object_path(&lab.disks[disk].path, digest(object)).exists()
}

fn copies(lab: &Lab, object: u32) -> usize {
    (0..lab.disks.len())
        .filter(|disk| is_on(lab, object, *disk))
        .count()
}

fn assert_serves(store: &Handle, objects: impl Iterator<Item = u32>) {
    for object in objects {
        let key = name(object);
        let found = read(store, &key).unwrap_or_else(|error| panic!("{key}: {error}"));
        assert!(found == bytes(&key, LENGTH), "{key} has other bytes");
    }
}

fn moves(store: &Handle) -> MovesView {
    store.view().moves.clone()
}

fn begin(store: &Handle, later: i8) {
    store.allow_moves(Some(Night {
        date: jiff::civil::date(2026, 11, 1 + later),
        until: clock::now() + Duration::from_secs(600),
    }));
}

fn end(store: &Handle) {
    store.allow_moves(None);
    until("the night ends", || {
        { moves(store).reason }.is_some_and(|reason| reason.contains("outside the night's window"))
    });
}

#[test]
fn objects_follow_their_ranks_to_the_disk_of_their_speed_in_as_many_nights_as_it_takes() {
    const COUNT: u32 = 24;
    const HOT: u32 = 10;
    const BUDGET: usize = 7 * LENGTH;
    let (lab, _mounts) = lab([(12, DiskClass::Nvme), (64, DiskClass::Hdd)]);
    let config = config(&lab, BUDGET, 0);
    let mut store = opened(&config);
    rank(&store, 1, COUNT, |object| object);
    (0..COUNT).for_each(|object| publish(&store, object, &[]));
    assert!((0..HOT).all(|object| is_on(&lab, object, 0)));
    // The last is the first from here on.
    rank(&store, 2, COUNT, |object| COUNT - 1 - object);
    let hottest = COUNT - HOT..COUNT;
    let placed = || {
        hottest
            .clone()
            .filter(|object| is_on(&lab, *object, 0))
            .count()
    };
    assert_eq!(placed(), 0);
    let mut by_night = Vec::new();
    while placed() < hottest.len() {
        let night = i8::try_from(by_night.len()).unwrap();
        assert!(night < 8, "{by_night:?}");
        begin(&store, night);
        until("the night's budget is used, or all is done", || {
            let reason = moves(&store).reason;
            let is_used = reason.is_some_and(|reason| reason.contains("this night's budget"));
            is_used || placed() == hottest.len()
        });
        if night == 0 {
            // A restart has no budget of its own.
            drop(store);
            store = opened(&config);
            let before = placed();
            begin(&store, night);
            until("the rest of the budget is seen", || {
                let reason = moves(&store).reason;
                reason.is_some_and(|reason| reason.contains("this night's budget"))
            });
            assert_eq!(placed(), before);
        }
        end(&store);
        let shown = moves(&store);
        assert!(shown.budget_used_bytes <= BUDGET as u64, "{shown:?}");
        by_night.push(placed());
        assert!(shown.tonight.moved_bytes <= BUDGET as u64, "{shown:?}");
    }
    assert!(by_night.len() > 2, "{by_night:?}");
    assert!(
        by_night.windows(2).all(|pair| pair[0] < pair[1]),
        "{by_night:?}"
    );
    assert!((0..COUNT).all(|object| copies(&lab, object) == 1));
    assert_serves(&store, 0..COUNT);
}

#[test]
fn the_most_popular_have_a_second_copy_which_a_lost_disk_does_not_take_with_it() {
    const COUNT: u32 = 14;
    const HOT: u32 = 3;
    let (lab, mut mounts) = lab([(20, DiskClass::Ssd), (20, DiskClass::Ssd)]);
    // Of both disks together, four megabytes.
    let mut config = config(&lab, 100 * LENGTH, 10);
    (config.upkeep.refill_after, config.upkeep.refill_hot_after) = Default::default();
    let store = opened(&config);
    rank(&store, 1, COUNT, |object| object);
    (0..COUNT).for_each(|object| publish(&store, object, &[1]));
    begin(&store, 0);
    let are_two = |objects: std::ops::Range<u32>| {
        let mut objects = objects;
        objects.all(|object| copies(&lab, object) == 2)
    };
    until("the most popular are on both", || are_two(0..HOT));
    assert_eq!(copies(&lab, COUNT - 1), 1);
    end(&store);
    let shown = moves(&store);
    assert!(shown.tonight.copied_objects >= u64::from(HOT), "{shown:?}");
    let rows = store.catalogue("", None, usize::MAX);
    assert_eq!(rows.len(), COUNT as usize, "each is told once");
    // Others are the most popular: their second copies come, and spare ones go.
    rank(&store, 2, COUNT, |object| COUNT - 1 - object);
    begin(&store, 1);
    until("the others are on both", || are_two(COUNT - HOT..COUNT));
    until("spare copies are gone", || copies(&lab, 0) == 1);
    end(&store);
    assert!(moves(&store).total.removed_objects > 0);
    assert_serves(&store, 0..COUNT);
    drop(store);

    drop(mounts.remove(0));
    let store = opened(&config);
    assert_eq!(store.view().disks[0].state, "refused");
    assert_serves(&store, COUNT - HOT..COUNT);
    let wanted = store.wanted(&[]);
    let is_wanted = |object| wanted.iter().any(|wanted| wanted.digest == digest(object));
    let mut hottest = COUNT - HOT..COUNT;
    assert!(hottest.all(|object| !is_wanted(object)), "{wanted:?}");
    let is_missed = is_wanted(COUNT / 2);
    assert!(is_missed, "what was there alone is fetched again");
}

/// As a retirement leaves it that was killed between publishing and unlinking, and then undone.
#[test]
fn a_copy_that_a_crash_left_is_removed_in_the_next_night() {
    let (lab, _mounts) = lab([(16, DiskClass::Ssd), (16, DiskClass::Ssd)]);
    let config = config(&lab, 100 * LENGTH, 0);
    let store = opened(&config);
    rank(&store, 1, 2, |object| object);
    (0..2).for_each(|object| publish(&store, object, &[1]));
    drop(store);
    let [from, to] = [0, 1].map(|disk| object_path(&lab.disks[disk].path, digest(0)));
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    let beside = from.parent().unwrap().to_owned();
    for entry in std::fs::read_dir(beside).unwrap() {
        let entry = entry.unwrap();
        let target = to.with_file_name(entry.file_name());
        std::fs::copy(entry.path(), target).unwrap();
    }
    forget_snapshots(&lab.disks);
    let store = opened(&config);
    assert_eq!(copies(&lab, 0), 2);
    assert_eq!(store.held().digests.len(), 2);
    begin(&store, 0);
    until("one copy is left", || copies(&lab, 0) == 1);
    end(&store);
    assert_eq!(moves(&store).total.removed_objects, 1);
    assert_eq!(moves(&store).budget_used_bytes, 0);
    let files = lab.disks.iter().flat_map(|disk| objects_on(&disk.path));
    assert_eq!(files.count(), 2);
    assert_serves(&store, 0..2);
    let open = block(store.open(digest(0))).unwrap();
    assert_eq!(open.length, LENGTH as u64);
}
