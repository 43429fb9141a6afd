//! Tests of [`super::ours`]: disks that served another box, and a box that forgot its own.

use super::Binding;
use super::Config;
use super::DiskClass;
use super::DiskConfig;
use super::Handle;
use super::Upkeep;
use super::start;
use super::tests_support::until;
use crate::key::Key;
use crate::object::Digest;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

const LEDGER: &str = "ledger";

/// A store with its state in `dir/state-NAME` and these disks, made if they are missing.
pub(super) fn store(dir: &Path, name: &str, disks: &[&str], upkeep: &Upkeep) -> Handle {
    let disk = |disk: &&str| DiskConfig {
        path: dir.join(disk),
        class: DiskClass::Ssd,
        zone: crate::store::Zone::None,
        plain_directory: true,
    };
    let config = Config {
        disks: disks.iter().map(disk).collect(),
        state_dir: dir.join(format!("state-{name}")),
        deadline: Duration::from_secs(10),
        upkeep: upkeep.clone(),
    };
    let store = start(&config).unwrap();
    until(|| store.is_ready());
    store
}

/// Publishes an object of these bytes, under a key of the same name.
pub(super) fn publish(store: &Handle, name: &str) -> Digest {
    let mut publication = store.stage(name.as_bytes(), 1, &BTreeSet::new()).unwrap();
    publication.write(name.as_bytes().to_vec()).unwrap();
    let digest = publication.commit(None).unwrap().digest;
    let row = (key(name), binding(digest, name));
    store.bind(&BTreeMap::from([row])).unwrap();
    digest
}

fn key(name: &str) -> Key {
    Key::parse(name.as_bytes()).unwrap()
}

fn binding(digest: Digest, name: &str) -> Binding {
    Binding {
        digest,
        length: name.len() as u64,
        last_modified: 0,
        rank: 0,
    }
}

fn open(dir: &Path, name: &str, disks: &[&str]) -> Handle {
    for disk in disks {
        std::fs::create_dir_all(dir.join(disk)).unwrap();
    }
    store(dir, name, disks, &Upkeep::default())
}

fn position(store: &Handle) -> (u64, u64) {
    let view = store.view();
    let manifest = view.manifest.as_ref().unwrap();
    (manifest.epoch, manifest.generation)
}

fn read(path: PathBuf) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

/// A box with a disk and a manifest, which has stopped. The disk has one object, of its name.
fn lived(dir: &Path, name: &str, disk: &str, generation: u64) -> Digest {
    let store = open(dir, name, &[disk]);
    let digest = publish(&store, disk);
    let row = (key(disk), binding(digest, disk));
    store.adopt(1, generation, vec![row]).unwrap();
    store.keep(LEDGER, name.as_bytes()).unwrap();
    store.stop();
    digest
}

fn ours(dir: &Path, name: &str) -> usize {
    let names = std::fs::read_dir(dir.join(format!("state-{name}"))).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name());
    names
        .filter(|name| name.to_string_lossy().ends_with(".ours"))
        .count()
}

fn forget_records(dir: &Path, name: &str) {
    for entry in std::fs::read_dir(dir.join(format!("state-{name}"))).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().ends_with(".ours") {
            std::fs::remove_file(path).unwrap();
        }
    }
}

/// What is true once a box `a` of generation 2 has taken a disk of a box `b` of generation 9.
fn assert_taken(dir: &Path, store: &Handle, theirs: Digest) {
    assert_eq!(position(store), (1, 2), "its manifest is not taken");
    assert_eq!(store.binding("theirs"), None);
    assert!(store.holds(theirs), "its object is known");
    assert!(store.find("ours").entry().is_some());
    assert!(store.kept(LEDGER).iter().all(|copy| copy == b"a"));
    until(|| ours(dir, "a") == 2);
    let copy = || read(dir.join("theirs/manifest"));
    assert_eq!(copy(), read(dir.join("state-a/manifest")));
    assert!(!dir.join("theirs/ledger.kept").exists());
    assert!(dir.join("theirs/DISK.json").exists());
    // From then on it is a disk like any other.
    until(|| store.shared().volumes.iter().all(|v| v.is_ours()));
    store.adopt(1, 3, Vec::new()).unwrap();
    assert_eq!(copy(), read(dir.join("state-a/manifest")));
    store.keep(LEDGER, b"a").unwrap();
    assert_eq!(store.kept(LEDGER), vec![b"a".to_vec(); 3]);
}

#[test]
fn a_disk_of_another_box_brings_its_objects_and_neither_manifest_nor_ledger() {
    let dir = tempfile::tempdir().unwrap();
    lived(dir.path(), "a", "ours", 2);
    let theirs = lived(dir.path(), "b", "theirs", 9);
    let store = open(dir.path(), "a", &["ours", "theirs"]);
    assert_taken(dir.path(), &store, theirs);
    drop(store);
    let store = open(dir.path(), "a", &["ours", "theirs"]);
    assert_eq!(position(&store), (1, 3));
    assert!(store.holds(theirs));
}

#[tokio::test]
async fn a_disk_of_another_box_that_comes_later_changes_nothing_but_what_is_held() {
    let dir = tempfile::tempdir().unwrap();
    lived(dir.path(), "a", "ours", 2);
    let theirs = lived(dir.path(), "b", "theirs", 9);
    let away = dir.path().join("away");
    std::fs::rename(dir.path().join("theirs"), &away).unwrap();
    let store = store(dir.path(), "a", &["ours", "theirs"], &Upkeep::default());
    let place = dir.path().join("theirs");
    std::fs::rename(&away, &place).unwrap();
    // The watch thread may be faster.
    let _ = store.admit(&place, false).await;
    until(|| store.view().disks[1].state == "online");
    assert_taken(dir.path(), &store, theirs);
}

#[test]
fn a_wiped_state_directory_takes_the_newest_copy_and_the_ledger_of_any_disk() {
    let dir = tempfile::tempdir().unwrap();
    let disks = ["one", "two"];
    let store = open(dir.path(), "a", &disks);
    store.adopt(1, 2, Vec::new()).unwrap();
    let old = read(dir.path().join("one/manifest"));
    store.adopt(1, 5, Vec::new()).unwrap();
    store.keep(LEDGER, b"a").unwrap();
    drop(store);
    std::fs::write(dir.path().join("one/manifest"), old).unwrap();
    std::fs::remove_dir_all(dir.path().join("state-a")).unwrap();
    let store = open(dir.path(), "a", &disks);
    assert_eq!(position(&store), (1, 5));
    assert_eq!(store.kept(LEDGER), vec![b"a".to_vec(); 2]);
    drop(store);
    assert_eq!(ours(dir.path(), "a"), 2, "from then on they are known");
    let store = open(dir.path(), "a", &disks);
    assert_eq!(position(&store), (1, 5));
}

#[test]
fn a_state_directory_of_an_earlier_release_knows_the_disks_that_it_finds() {
    let dir = tempfile::tempdir().unwrap();
    let disks = ["one", "two"];
    let store = open(dir.path(), "a", &disks);
    store.adopt(1, 2, Vec::new()).unwrap();
    let old = read(dir.path().join("state-a/manifest"));
    store.adopt(1, 5, Vec::new()).unwrap();
    store.keep(LEDGER, b"a").unwrap();
    drop(store);
    std::fs::write(dir.path().join("state-a/manifest"), old).unwrap();
    forget_records(dir.path(), "a");
    let store = open(dir.path(), "a", &disks);
    assert_eq!(position(&store), (1, 5));
    assert_eq!(store.kept(LEDGER), vec![b"a".to_vec(); 3]);
    assert_eq!(ours(dir.path(), "a"), 2);
}
