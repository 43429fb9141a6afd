//! Bad blocks under two objects: a viewer runs into one, the scrub into the other.
//!
//! Each costs its object and nothing else, both are wanted again at once, and what is received
//! again is whole, on other blocks or on the same ones, which a write heals as a drive does.
//!
//! I/O: a disk of memory behind `dust` of the device-mapper.

use super::device;
use super::device::FileSystem;
use super::device::Mapped;
use super::device::SECTORS;
use super::device::ram;
use super::tools::block;
use super::tools::feed;
use super::tools::object_path;
use super::tools::opened;
use super::tools::read;
use super::tools::receive;
use super::tools::until;
use super::work;
use super::work::State;
use super::work::Work;
use crate::disks;
use oca::object::Digest;
use oca::store::Finding;
use oca::store::Handle;
use oca::units::BytesPerSecond;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

const OBJECTS: [usize; 4] = [0, 1, 2, 3];

/// Met by a viewer, and met by the scrub.
const READ: usize = 0;
const SCRUBBED: usize = 3;

/// Bytes of a bad block.
const BLOCK: u64 = 512;

fn is_right(store: &Handle, object: usize) -> bool {
    read(store, work::key(object).as_str()).is_ok_and(|bytes| bytes == work::content(object))
}

fn is_gone(store: &Handle, object: usize) -> bool {
    store.find(work::key(object).as_str()) == Finding::Unavailable
}

fn wanted(store: &Handle) -> Vec<Digest> {
    let wanted = store.wanted(&[]);
    wanted.iter().map(|wanted| wanted.digest).collect()
}

/// Makes the middle of an object unreadable on the disk, of which memory has nothing.
fn spoil(disk: &Mapped, volume: &Path, object: usize) {
    let file = object_path(volume, work::digest(object));
    let middle = work::content(object).len() as u64 / 2;
    let place = disks::sector_of(&file, middle).to_string();
    disk.tell(&["addbadblock", &place]);
    disks::forget(&file);
}

pub(crate) fn rotten() -> String {
    device::blank_disks();
    let at = std::env::temp_dir().join("dust");
    let table = format!("0 {SECTORS} dust {} 0 {BLOCK}", ram(0).display());
    let disk = Mapped::new("dust", &table);
    let kind = FileSystem::Ext4;
    kind.make(&disk.node);
    let mounted = kind.mount(&disk.node, &at);
    let mut config = work::config(&at);
    config.disks.truncate(1);
    let volume = config.disks[0].path.clone();
    std::fs::create_dir(&volume).unwrap();
    let store = opened(&config);
    for object in OBJECTS {
        work::publish(&store, object).unwrap();
    }
    let listed = Work::Adopt(OBJECTS.to_vec());
    work::perform(&store, &State::default(), &listed);
    nix::unistd::syncfs(File::open(&at).unwrap()).unwrap();
    disk.tell(&["enable"]);

    spoil(&disk, &volume, READ);
    let failed = read(&store, work::key(READ).as_str()).unwrap_err();
    assert_eq!(failed.raw_os_error(), Some(libc::EIO), "{failed}");
    until("the reader's loss", || is_gone(&store, READ));
    assert_eq!(wanted(&store), [work::digest(READ)]);
    let others = OBJECTS.iter().filter(|object| **object != READ);
    assert!({ others }.all(|object| is_right(&store, *object)));
    come_again(&store, READ);

    drop(store);
    spoil(&disk, &volume, SCRUBBED);
    config.upkeep.scrub_every = Duration::from_secs(1);
    config.upkeep.scrub_rate = BytesPerSecond(1_250_000_000);
    let store = opened(&config);
    until("the scrub's loss", || is_gone(&store, SCRUBBED));
    assert_eq!(wanted(&store), [work::digest(SCRUBBED)]);
    come_again(&store, SCRUBBED);
    let begun = store.view().disks[0].scrub.objects;
    until("two more rounds", || {
        let objects = OBJECTS.len() as u64;
        store.view().disks[0].scrub.objects > begun + 2 * objects
    });
    assert!(OBJECTS.iter().all(|object| is_right(&store, *object)));
    assert!(wanted(&store).is_empty());
    let view = store.view().disks[0].clone();
    drop(store);
    drop(mounted);
    assert_eq!(view.state, "online", "two bad blocks are not a bad disk");
    format!(
        "{} objects lost to bad blocks and received again; {} put aside",
        view.scrub.found + 1,
        view.quarantined
    )
}

fn come_again(store: &Handle, object: usize) {
    let content = work::content(object);
    let mut staged = receive(store, &content).unwrap();
    feed(&mut staged, &content, |_| true).unwrap();
    block(staged.commit()).unwrap();
    assert!(is_right(store, object), "received again and not right");
}
