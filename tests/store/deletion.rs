//! What is wanted, what is surplus, deletion, the journal of changes, kept state.

use crate::tools::Lab;
use crate::tools::Mount;
use crate::tools::assert_serves;
use crate::tools::block;
use crate::tools::bytes;
use crate::tools::disk;
use crate::tools::object_path;
use crate::tools::objects;
use crate::tools::read_all;
use crate::tools::run;
use oca::key::Key;
use oca::object::Digest;
use oca::store::Binding;
use oca::store::DiskClass;
use oca::store::Finding;
use oca::store::Handle;
use std::collections::BTreeSet;

const MEDIA: [(&str, usize); 4] = [
    ("film/a.m4s", 5000),
    ("film/b.m4s", 6000),
    ("other/c.m4s", 7000),
    ("other/d.m4s", 8000),
];

fn digest(at: usize) -> Digest {
    let (name, length) = MEDIA[at];
    Digest::of(&bytes(name, length))
}

fn row(key: &str, digest: Digest, length: u64, rank: u32) -> (Key, Binding) {
    let binding = Binding {
        digest,
        length,
        last_modified: 5,
        rank,
    };
    (Key::parse(key.as_bytes()).unwrap(), binding)
}

fn listed(at: usize, rank: u32) -> (Key, Binding) {
    let (name, length) = MEDIA[at];
    row(name, digest(at), length as u64, rank)
}

/// Four prefilled objects, and a manifest that lists the first two.
fn half_listed(disks: usize) -> (Lab, Handle) {
    let lab = Lab::new(disks);
    let store = lab.open();
    run(&store, &lab.media(&MEDIA));
    store.adopt(1, 1, vec![listed(0, 0), listed(1, 1)]).unwrap();
    (lab, store)
}

fn surplus(store: &Handle) -> BTreeSet<(Digest, u64)> {
    store.surplus().into_iter().collect()
}

#[test]
fn a_box_without_a_control_planes_manifest_deletes_and_wants_nothing() {
    let lab = Lab::new(1);
    let store = lab.open();
    run(&store, &lab.media(&MEDIA));
    let lost = object_path(&lab.disks[0].path, digest(0));
    std::fs::remove_file(lost).unwrap();
    drop(store);
    let store = lab.open();
    assert_eq!((store.surplus(), store.wanted(&[])), (vec![], vec![]));
    assert_eq!(store.delete(&[digest(1), digest(2)]).unwrap(), 0);
    assert_eq!(store.space().manifest, None);
    assert_serves(&store, &MEDIA[1..]);
}

#[test]
fn surplus_goes_with_its_keys_and_what_is_listed_stays() {
    let (lab, store) = half_listed(2);
    let expected = BTreeSet::from([(digest(2), 7000), (digest(3), 8000)]);
    assert_eq!(surplus(&store), expected);
    let room = store.space();
    assert_eq!((room.held, room.manifest), (26_000, Some((1, 1))));
    let reader = block(store.open(digest(2))).unwrap();
    let all = [digest(0), digest(1), digest(2), digest(2), Digest::of(b"?")];
    assert_eq!(store.delete(&all).unwrap(), 7000);
    assert_eq!(store.find(MEDIA[2].0), Finding::Unknown);
    assert!(block(store.open(digest(2))).is_err());
    let open = read_all(&reader).unwrap();
    assert!(open == bytes(MEDIA[2].0, 7000), "an open object is read on");
    for disk in &lab.disks {
        let name = digest(2).to_string();
        let left = objects(&disk.path).into_keys();
        let left = left.filter(|path| path.to_str().unwrap().contains(&name));
        assert_eq!(left.count(), 0);
    }
    assert_serves(&store, &[MEDIA[0], MEDIA[1], MEDIA[3]]);
    assert_eq!(surplus(&store), BTreeSet::from([(digest(3), 8000)]));
    drop(store);
    let store = lab.open();
    assert_eq!(store.find(MEDIA[2].0), Finding::Unknown);
    assert_serves(&store, &[MEDIA[0], MEDIA[1], MEDIA[3]]);
    let manifest = store.view().manifest.clone().unwrap();
    assert_eq!(
        (manifest.epoch, manifest.generation, manifest.keys),
        (1, 1, 3)
    );
    assert!(store.adopt(1, 1, vec![]).unwrap().again);
    // Every copy knows, so that a wiped system disk brings no key back.
    drop(store);
    std::fs::remove_dir_all(lab.path("state")).unwrap();
    assert_eq!(lab.open().find(MEDIA[2].0), Finding::Unknown);
}

#[test]
fn keys_with_equal_bytes_outlive_each_others_deletion() {
    let lab = Lab::new(1);
    let store = lab.open();
    run(&store, &lab.media(&MEDIA[..1]));
    let twin = |key, rank| row(key, digest(0), 5000, rank);
    store
        .adopt(1, 1, vec![twin("twin/1", 0), twin("twin/2", 9)])
        .unwrap();
    assert_eq!(store.delete(&[digest(0)]).unwrap(), 0);
    store.adopt(1, 2, vec![twin("twin/2", 9)]).unwrap();
    assert_eq!(store.surplus(), []);
    assert_eq!(store.delete(&[digest(0)]).unwrap(), 0);
    for key in ["twin/1", "twin/2", MEDIA[0].0] {
        assert!(store.find(key).entry().is_some(), "{key}");
    }
    store.adopt(1, 3, vec![]).unwrap();
    assert_eq!(store.delete(&[digest(0)]).unwrap(), 5000);
    for key in ["twin/1", "twin/2", MEDIA[0].0] {
        assert_eq!(store.find(key), Finding::Unknown, "{key}");
    }
    // Wanted again, it comes again.
    store.adopt(1, 4, vec![twin("twin/1", 0)]).unwrap();
    assert_eq!(store.wanted(&[]).len(), 1);
}

#[test]
fn what_was_listed_and_never_came_leaves_the_manifest_with_the_next_deletion() {
    let (_lab, store) = half_listed(1);
    let absent = |at: u8| row(&format!("absent/{at}"), Digest::of(&[at]), 9, 7);
    let all = vec![listed(0, 0), listed(1, 1), absent(1), absent(2)];
    store.adopt(1, 2, all).unwrap();
    store.adopt(1, 3, vec![listed(0, 0), absent(1)]).unwrap();
    assert_eq!(store.delete(&[digest(1)]).unwrap(), 6000);
    // Still listed; held without being listed; gone.
    assert_eq!(store.wanted(&[]).len(), 1);
    assert!(store.find(MEDIA[2].0).entry().is_some());
    assert_eq!(store.find("absent/2"), Finding::Unknown);
    assert_eq!(store.view().manifest.clone().unwrap().keys, 4);
}

#[test]
fn an_object_that_no_key_names_is_surplus() {
    let (lab, store) = half_listed(1);
    let mut publication = store.stage(b"x", 4, &BTreeSet::new()).unwrap();
    publication.write(b"lone".to_vec()).unwrap();
    let lone = publication.commit(None).unwrap().digest;
    assert!(surplus(&store).contains(&(lone, 4)));
    let manifest = std::fs::read(lab.path("state/manifest")).unwrap();
    assert_eq!(store.delete(&[lone]).unwrap(), 4);
    assert!(!store.holds(lone));
    let after = std::fs::read(lab.path("state/manifest")).unwrap();
    assert!(manifest == after, "no key named it");
}

#[test]
fn what_is_wanted_comes_urgent_first_then_by_rank_and_each_object_once() {
    let (_lab, store) = half_listed(1);
    let absent = |n: u8| Digest::of(&[n]);
    let rows = vec![
        listed(0, 0),
        row("show/x/1", absent(1), 10, 7),
        row("show/x/2", absent(2), 20, 5),
        // The same object by a better key, and in a directory that is urgent.
        row("zoo/y", absent(1), 10, 3),
        row("news/today/1", absent(3), 30, 900),
        row("news/todays", absent(4), 40, 4),
    ];
    store.adopt(1, 2, rows).unwrap();
    let order = |urgent: &[&str]| {
        let urgent: Vec<String> = urgent.iter().map(|&d| d.to_owned()).collect();
        let wanted = store.wanted(&urgent);
        let told = wanted
            .iter()
            .map(|w| (w.digest, w.length, w.rank, w.urgent));
        told.collect::<Vec<_>>()
    };
    let night = [
        (absent(1), 10, 3, false),
        (absent(4), 40, 4, false),
        (absent(2), 20, 5, false),
        (absent(3), 30, 900, false),
    ];
    assert_eq!(order(&[]), night);
    let urgent = [
        (absent(1), 10, 3, true),
        (absent(3), 30, 900, true),
        (absent(4), 40, 4, false),
        (absent(2), 20, 5, false),
    ];
    assert_eq!(order(&["news/today", "zoo/"]), urgent);
    // An unlisted key wants nothing back.
    store.adopt(1, 3, vec![listed(0, 0)]).unwrap();
    assert_eq!(order(&["show"]), []);
}

#[test]
fn the_journal_tells_exactly_what_came_and_went_until_a_disk_comes_or_goes() {
    let mut lab = Lab::new(1);
    let at = lab.path("mounted");
    let mount = Mount::ext4(&lab.path("image"), 64, &at);
    lab.add(&at, DiskClass::Nvme, false);
    let store = lab.open();
    let start = store.held();
    assert_eq!(start.digests, []);
    run(&store, &lab.media(&MEDIA));
    let changes = store.changes(start.generation).unwrap();
    let all: BTreeSet<Digest> = (0..4).map(digest).collect();
    assert_eq!(changes.added, all.iter().copied().collect::<Vec<_>>());
    assert_eq!(changes.removed, []);
    let held = store.held();
    assert_eq!(held.digests.iter().copied().collect::<BTreeSet<_>>(), all);
    store.adopt(1, 1, vec![listed(0, 0)]).unwrap();
    store.delete(&[digest(1), digest(3)]).unwrap();
    let changes = store.changes(held.generation).unwrap();
    let mut gone = [digest(1), digest(3)];
    gone.sort();
    assert_eq!((changes.added, changes.removed), (vec![], gone.to_vec()));
    let changes = store.changes(start.generation).unwrap();
    assert_eq!(changes.removed, [], "they came and went");
    assert_eq!(changes.added.len(), 2);
    let nothing = store.changes(changes.generation).unwrap();
    assert_eq!((nothing.added, nothing.removed), (vec![], vec![]));
    assert_eq!(store.changes(u64::MAX), None, "another process's");
    let before = store.held().generation;
    let (objects, _) = (disk(&store, 1).objects, mount.remount("ro"));
    assert_eq!(objects, 2);
    // Read-only disks go on serving: nothing came or went.
    let changes = store.changes(before).unwrap();
    assert_eq!((changes.added, changes.removed), (vec![], vec![]));
}

#[test]
fn small_state_is_kept_on_three_disks_and_each_copy_can_be_read() {
    let lab = Lab::new(3);
    let store = lab.open();
    assert_eq!(store.kept("ledger"), [b""; 0]);
    store.keep("ledger", b"one").unwrap();
    store.keep("ledger", b"two").unwrap();
    store.keep("deletion-2", b"").unwrap();
    assert_eq!(store.kept("ledger"), [b"two", b"two", b"two"]);
    drop(store);
    std::fs::remove_dir_all(lab.path("state")).unwrap();
    std::fs::write(lab.path("disk1/ledger.kept"), b"spoilt").unwrap();
    let store = lab.open();
    assert_eq!(store.kept("ledger"), [b"spoilt".to_vec(), b"two".to_vec()]);
    assert_eq!(store.kept("deletion-2").len(), 2);
    for name in ["", "Ledger", "a/b", "..", "a.b", &"x".repeat(65)] {
        let refused = store.keep(name, b"x").unwrap_err().to_string();
        assert!(refused.contains("lower-case"), "{name}: {refused}");
        assert_eq!(store.kept(name).len(), 0);
    }
    let large = vec![0; oca::store::KEPT_BYTES_MAX + 1];
    assert!(store.keep("large", &large).is_err());
    assert_eq!(store.kept("large").len(), 0);
}
