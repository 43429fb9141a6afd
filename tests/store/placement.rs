//! Which disk an object comes to: by its rank, by what each speed can hold, by room.

use crate::tools::CHUNK;
use crate::tools::Lab;
use crate::tools::block;
use crate::tools::bytes;
use crate::tools::disk;
use crate::tools::tree;
use oca::fill::Receive;
use oca::fill::StoreContent;
use oca::key::Key;
use oca::object::Digest;
use oca::store::Binding;
use oca::store::DiskClass;
use oca::store::Handle;
use oca::store::OBJECT_BYTES_MAX;
use oca::store::Zone;
use std::collections::BTreeSet;

const INNER: usize = 0;
const NVME: usize = 1;
const OUTER: usize = 2;

/// Three directories of one file system that are as large as each other, as three speeds.
fn lab() -> Lab {
    let mut lab = Lab::in_memory(3);
    let kinds = [
        (DiskClass::Hdd, Zone::Inner),
        (DiskClass::Nvme, Zone::None),
        (DiskClass::Hdd, Zone::Outer),
    ];
    for (disk, (class, zone)) in lab.disks.iter_mut().zip(kinds) {
        (disk.class, disk.zone) = (class, zone);
    }
    lab
}

fn row(key: &str, digest: Digest, length: u64, rank: u32) -> (Key, Binding) {
    let binding = Binding {
        digest,
        length,
        last_modified: 1,
        rank,
    };
    (Key::parse(key.as_bytes()).unwrap(), binding)
}

/// Listed objects that never come, with as many bytes as one of the disks has, reserve and all.
fn as_large_as_a_disk(lab: &Lab, rank: u32) -> Vec<(Key, Binding)> {
    let size = nix::sys::statvfs::statvfs(&lab.disks[NVME].path).unwrap();
    let size = size.blocks() * size.fragment_size();
    let count = size / OBJECT_BYTES_MAX + 1;
    let rows = (0..count).map(|number| {
        let key = format!("{rank}/{number}");
        row(&key, Digest::of(key.as_bytes()), size / count, rank)
    });
    rows.collect()
}

/// Receives an object as a fill does and tells which disk it is on.
fn comes_to(store: &Handle, name: &str, rank: u32) -> usize {
    let content = bytes(name, CHUNK);
    let before = counts(store);
    let tree = tree(&content);
    let receiver = StoreContent::new(store.clone());
    let received = receiver.receive(tree.digest(), CHUNK as u64, rank, tree);
    let mut staging = block(received).unwrap();
    block(staging.write(0, content.into())).unwrap();
    block(staging.commit()).unwrap();
    let after = counts(store);
    (0..3).find(|at| after[*at] > before[*at]).unwrap()
}

/// Objects on each disk, by their files: a view may be of the moment before.
fn counts(store: &Handle) -> [usize; 3] {
    [0, 1, 2].map(|number| files_below(&disk(store, number).path.join("objects")))
}

fn files_below(dir: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let counts = entries.map(|entry| {
        if entry.file_type().unwrap().is_dir() {
            files_below(&entry.path())
        } else {
            1
        }
    });
    counts.sum()
}

#[test]
fn the_hottest_ranks_come_to_the_fastest_disk_and_the_rest_to_the_zones() {
    let lab = lab();
    let store = lab.open();
    assert_eq!(disk(&store, INNER).zone, Zone::Inner);
    let large = as_large_as_a_disk(&lab, 1).into_iter();
    let rows = large.chain(as_large_as_a_disk(&lab, 3));
    store.adopt(1, 1, rows.collect()).unwrap();
    // The cold ones first: room for the hot is kept whoever comes when.
    assert_eq!(comes_to(&store, "unlisted", 4), INNER);
    assert_eq!(comes_to(&store, "cold", 3), OUTER);
    assert_eq!(comes_to(&store, "warm", 2), OUTER);
    assert_eq!(comes_to(&store, "hot", 1), NVME);
    assert_eq!(comes_to(&store, "hottest", 0), NVME);
    // By key: listed with rank 1, and not listed at all.
    for (key, expected) in [("1/0", NVME), ("prefilled", INNER)] {
        let before = counts(&store);
        let mut publication = store.stage(key.as_bytes(), 4, &BTreeSet::new()).unwrap();
        publication.write(key.as_bytes()[..3].to_vec()).unwrap();
        publication.commit(None).unwrap();
        assert!(counts(&store)[expected] > before[expected], "{key}");
    }
}

#[test]
fn without_a_signed_manifest_everything_comes_to_the_fastest_disk() {
    let lab = lab();
    let store = lab.open();
    for rank in [0, 7, u32::MAX] {
        assert_eq!(comes_to(&store, &format!("{rank}"), rank), NVME);
    }
}
