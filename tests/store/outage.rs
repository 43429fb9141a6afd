//! Disks that fail together, that were not there at first and come back: what leaves the catalogue
//! when, and what is fetched again.

use crate::loop_disk::LoopDisk;
use crate::tools::Lab;
use crate::tools::Mount;
use crate::tools::assert_serves;
use crate::tools::block;
use crate::tools::bytes;
use crate::tools::disk;
use crate::tools::opened;
use crate::tools::read;
use crate::tools::run;
use crate::tools::until;
use oca::clock;
use oca::key::Key;
use oca::object::Digest;
use oca::store::Binding;
use oca::store::DiskClass;
use oca::store::DiskOrderError;
use oca::store::Finding;
use oca::store::Handle;
use oca::store::Wanted;
use std::time::Duration;

const MB: usize = 1_000_000;

/// Far more than a tenth is not hot.
fn files(count: usize) -> Vec<(String, usize)> {
    (0..count)
        .map(|n| (format!("film/{n:03}.m4s"), MB / 10))
        .collect()
}

fn borrowed(files: &[(String, usize)]) -> Vec<(&str, usize)> {
    let each = files.iter();
    each.map(|(name, length)| (name.as_str(), *length))
        .collect()
}

/// A control plane lists all of it, in this order.
fn list(store: &Handle, files: &[(&str, usize)]) {
    let rows = (0_u32..).zip(files).map(|(rank, (key, length))| {
        let binding = Binding {
            digest: Digest::of(&bytes(key, *length)),
            length: *length as u64,
            last_modified: 1,
            rank,
        };
        (Key::parse(key.as_bytes()).unwrap(), binding)
    });
    store.adopt(1, 1, rows.collect()).unwrap();
}

fn refill_bytes(wanted: &[Wanted]) -> u64 {
    wanted.iter().map(|wanted| wanted.length).sum()
}

#[test]
fn when_every_disk_answers_errors_nothing_is_fetched_again_until_they_had_time_to_come_back() {
    let mut lab = Lab::new(0);
    let mut disks = Vec::new();
    for number in 0..2 {
        let place = lab.path(&format!("mount{number}"));
        std::fs::create_dir(&place).unwrap();
        let image = lab.path(&format!("image{number}"));
        disks.push(LoopDisk::mount(&image, &place, 64));
        lab.add(&place, DiskClass::Ssd, false);
    }
    let files = files(40);
    let files = borrowed(&files);
    let mut config = lab.config();
    config.upkeep.refill_hot_after = Duration::from_secs(4);
    let store = opened(&config);
    run(&store, &lab.media(&files));
    list(&store, &files);
    assert!(store.wanted(&[]).is_empty());
    for disk in &disks {
        disk.forget();
        disk.tear_off(0);
    }
    std::fs::write("/proc/sys/vm/drop_caches", "3").expect("dropping caches needs root");
    // The least popular first: what their errors cost is not what is missed soon.
    for (key, _) in files.iter().rev() {
        if store.find(key).entry().is_some() {
            let began = clock::now();
            assert!(read(&store, key).is_err());
            assert_eq!(store.find(key), Finding::Unavailable, "{key}");
            assert!(clock::now() - began < Duration::from_secs(1), "{key}");
        }
    }
    let failed = clock::now();
    until("both are out, with the reason and since when", || {
        store
            .view()
            .disks
            .iter()
            .all(|disk| disk.state == "suspect" && disk.reason.is_some() && !disk.since.is_empty())
    });
    assert!(clock::now() - failed < Duration::from_secs(2));
    // Those too whose errors made the disks suspect: it was the disks and not they.
    assert_eq!(refill_bytes(&store.wanted(&[])), 0);
    let ranks = || -> Vec<u32> { store.wanted(&[]).iter().map(|w| w.rank).collect() };
    until("the hot tenth is missed", || {
        ranks().starts_with(&[0, 1, 2, 3])
    });
    assert_eq!(ranks(), [0, 1, 2, 3]);
}

#[test]
fn a_disk_that_was_not_mounted_at_first_joins_when_it_is_and_nothing_of_it_is_fetched_again() {
    let mut lab = Lab::new(1);
    let first = [("good/a", MB)];
    run(&lab.open(), &lab.media(&first));
    let (image, at) = (lab.path("image"), lab.path("late"));
    let late = [("late/a", MB), ("late/b", MB)];
    let mount = Mount::ext4(&image, 64, &at);
    lab.add(&at, DiskClass::Nvme, false);
    run(&lab.open(), &lab.media(&late));
    mount.remount("ro");
    drop(mount);

    let store = lab.open();
    let refused = disk(&store, 1);
    assert_eq!(refused.state, "refused");
    assert!(refused.reason.unwrap().contains("not a mount point"));
    assert_serves(&store, &first);
    assert_eq!(store.find("late/a"), Finding::Unavailable);
    assert_eq!(
        std::fs::read_dir(&at).unwrap().count(),
        0,
        "nothing is put there"
    );
    let _mount = Mount::again(&image, &at);
    until("it joins", || disk(&store, 1).state == "online");
    assert_serves(&store, &late);
    assert_serves(&store, &first);
    list(&store, &[first[0], late[0], late[1]]);
    assert!(store.wanted(&[]).is_empty());
}

/// Epoch and generation in effect.
fn position(store: &Handle) -> (u64, u64) {
    let view = store.view();
    let manifest = view.manifest.as_ref().unwrap();
    (manifest.epoch, manifest.generation)
}

#[test]
fn a_disk_that_comes_late_brings_the_highest_position_and_nothing_older_is_adopted_after_it() {
    let mut lab = Lab::new(1);
    let (image, at) = (lab.path("image"), lab.path("late"));
    let mount = Mount::ext4(&image, 64, &at);
    lab.add(&at, DiskClass::Nvme, false);
    let store = lab.open();
    store.adopt(1, 1, Vec::new()).unwrap();
    let copy = lab.disks[0].path.join("manifest");
    let old = std::fs::read(&copy).unwrap();
    store.adopt(1, 5, Vec::new()).unwrap();
    drop(store);
    std::fs::write(&copy, old).unwrap();
    std::fs::remove_dir_all(lab.path("state")).unwrap();
    mount.remount("ro");
    drop(mount);
    let store = lab.open();
    assert_eq!(position(&store), (1, 1));
    let _mount = Mount::again(&image, &at);
    until("it joins", || disk(&store, 1).state == "online");
    assert_eq!(position(&store), (1, 5));
    assert!(store.adopt(1, 3, Vec::new()).is_err());
}

#[test]
fn a_blank_disk_that_is_mounted_later_is_left_alone_until_somebody_says_format() {
    let mut lab = Lab::new(1);
    let at = lab.path("late");
    std::fs::create_dir(&at).unwrap();
    lab.add(&at, DiskClass::Nvme, false);
    let store = lab.open();
    assert_eq!(disk(&store, 1).state, "refused");
    let _mount = Mount::tmpfs(&at, "size=16m");
    until("it says what to do", || {
        let reason = disk(&store, 1).reason.unwrap_or_default();
        reason.contains("oca disk format")
    });
    assert_eq!(std::fs::read_dir(&at).unwrap().count(), 0);
    let blank = block(store.admit(&at, false)).unwrap_err().to_string();
    assert!(blank.contains("is blank"), "{blank}");
    block(store.admit(&at, true)).unwrap();
    until("it joins", || disk(&store, 1).state == "online");
    assert!(at.join("DISK.json").exists());
    let again = block(store.admit(&at, true)).unwrap_err().to_string();
    assert!(again.contains("is online"), "{again}");
    let unknown = block(store.admit(&lab.path("none"), true)).unwrap_err();
    assert!(matches!(unknown, DiskOrderError::Unknown(_)), "{unknown}");
    let files = [("late/a", MB)];
    run(&store, &lab.media(&files));
    assert_serves(&store, &files);
    assert_eq!(disk(&store, 1).objects, 1, "the faster class");
}

#[test]
fn an_error_is_never_taken_for_a_blank_disk() {
    let mut lab = Lab::new(0);
    let (image, at) = (lab.path("image"), lab.path("torn"));
    std::fs::create_dir(&at).unwrap();
    let torn = LoopDisk::mount(&image, &at, 64);
    lab.add(&at, DiskClass::Nvme, false);
    torn.tear_off(0);
    std::fs::write("/proc/sys/vm/drop_caches", "3").expect("dropping caches needs root");
    let store = lab.open();
    for format in [false, true] {
        let refused = block(store.admit(&at, format)).unwrap_err().to_string();
        assert!(refused.contains("cannot be"), "{refused}");
    }
    let view = disk(&store, 0);
    assert_eq!((view.state, view.uuid), ("refused", None));
}
