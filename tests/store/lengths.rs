//! Files that are not as long as their objects: a scan takes lengths from files, so whoever says
//! otherwise has the sidecars read. Nothing of a wrong length is served, kept, or in the way.

use crate::downgrade::later_sidecar;
use crate::tools::Lab;
use crate::tools::assert_serves;
use crate::tools::block;
use crate::tools::bytes;
use crate::tools::disk;
use crate::tools::feed;
use crate::tools::forget_snapshots;
use crate::tools::object_path;
use crate::tools::objects_on;
use crate::tools::receive;
use crate::tools::run;
use crate::tools::until;
use crate::tools::was_logged;
use oca::key::Key;
use oca::object::Digest;
use oca::object::OBJECT_BYTES_MAX;
use oca::store::Binding;
use oca::store::Finding;
use oca::store::Handle;
use std::path::Path;
use std::path::PathBuf;

const FILES: [(&str, usize); 3] = [("a.m4s", 300_000), ("b.m4s", 5_000), ("c.m4s", 6_000)];

fn digest(at: usize) -> Digest {
    Digest::of(&bytes(FILES[at].0, FILES[at].1))
}

fn row(at: usize, length: u64) -> (Key, Binding) {
    let binding = Binding {
        digest: digest(at),
        length,
        last_modified: 5,
        rank: 1,
    };
    (Key::parse(FILES[at].0.as_bytes()).unwrap(), binding)
}

fn cut(path: &Path, length: u64) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_len(length).unwrap();
}

fn aside(disk: &Path, at: usize) -> PathBuf {
    disk.join("quarantine").join(digest(at).to_string())
}

fn assert_put_aside(store: &Handle, disk: &Path, at: usize) {
    until("it is put aside", || aside(disk, at).exists());
    assert!(!object_path(disk, digest(at)).exists());
    let note = aside(disk, at).with_extension("reason");
    let told = std::fs::read_to_string(note).unwrap();
    assert!(told.contains("bytes long and should be"), "{told}");
    assert!(store.view().disks.iter().all(|disk| disk.state == "online"));
}

/// Publishes an object without a key.
fn publish(store: &Handle, at: usize) {
    let content = bytes(FILES[at].0, FILES[at].1);
    let mut staged = receive(store, &content).unwrap();
    feed(&mut staged, &content, |_| true).unwrap();
    block(staged.commit()).unwrap();
}

/// What the disks say that they hold, in bytes.
fn held(store: &Handle) -> u64 {
    store.view().disks.iter().map(|disk| disk.bytes).sum()
}

#[test]
fn of_two_copies_the_right_one_is_served_and_the_other_put_aside_whichever_disk_has_it() {
    for short in [0, 1] {
        let lab = Lab::new(2);
        run(&lab.open(), &lab.media(&FILES));
        // Each object on both disks.
        for (from, to) in [(0, 1), (1, 0)].map(|(from, to)| (&lab.disks[from], &lab.disks[to])) {
            for path in objects_on(&from.path) {
                let there = to.path.join(path.strip_prefix(&from.path).unwrap());
                std::fs::create_dir_all(there.parent().unwrap()).unwrap();
                std::fs::copy(&path, &there).unwrap();
                let meta = there.with_extension("meta");
                std::fs::copy(path.with_extension("meta"), meta).unwrap();
            }
        }
        let place = &lab.disks[short].path;
        cut(&object_path(place, digest(0)), 299_999);
        forget_snapshots(&lab.disks);
        let store = lab.open();
        until("it is served", || {
            store.find(FILES[0].0) != Finding::Unavailable && block(store.open(digest(0))).is_ok()
        });
        assert_serves(&store, &FILES);
        assert_put_aside(&store, place, 0);
        assert_eq!(disk(&store, 1 - short).objects, 3);
    }
}

#[test]
fn a_file_that_is_longer_than_any_object_is_judged_by_its_sidecar_at_once() {
    let lab = Lab::new(1);
    let store = lab.open();
    publish(&store, 0);
    drop(store);
    let place = &lab.disks[0].path;
    // No key names it, so nobody else would ever say that it is too long.
    cut(&object_path(place, digest(0)), OBJECT_BYTES_MAX + 1);
    forget_snapshots(&lab.disks);
    let store = lab.open();
    assert_put_aside(&store, place, 0);
    assert!(!store.holds(digest(0)));
    assert_eq!(held(&store), 0);
}

#[test]
fn what_no_key_names_is_looked_at_when_a_manifest_or_a_publication_names_it() {
    for by_manifest in [true, false] {
        let lab = Lab::new(1);
        let store = lab.open();
        publish(&store, 0);
        drop(store);
        let place = &lab.disks[0].path;
        cut(&object_path(place, digest(0)), 300_001);
        forget_snapshots(&lab.disks);
        let store = lab.open();
        assert!(store.holds(digest(0)), "nobody has said otherwise yet");
        assert_eq!(held(&store), 300_001);
        if by_manifest {
            store.adopt(1, 1, vec![row(0, 300_000)]).unwrap();
            assert_eq!(store.find(FILES[0].0), Finding::Unavailable);
            assert_put_aside(&store, place, 0);
            let wanted = store.wanted(&[]);
            assert_eq!(wanted.len(), 1, "it is fetched again");
        } else {
            let summary = run(&store, &lab.media(&FILES[..1]));
            assert_eq!((summary.published, summary.refused_total), (0, 1));
            assert_put_aside(&store, place, 0);
        }
        run(&store, &lab.media(&FILES));
        assert_serves(&store, &FILES);
        until("what is told follows", || held(&store) == 311_000);
    }
}

#[test]
fn a_disk_that_comes_back_later_is_looked_at_too() {
    let lab = Lab::new(1);
    let uuid = {
        let store = lab.open();
        run(&store, &lab.media(&FILES));
        disk(&store, 0).uuid.unwrap()
    };
    let record = lab.path("state").join(format!("suspect-{uuid}.json"));
    let text = r#"{"v":1,"since":"2026-01-01","reason":"a flush failed: EIO"}"#;
    std::fs::write(record, text).unwrap();
    let store = lab.open();
    assert_eq!(disk(&store, 0).state, "suspect");
    let place = &lab.disks[0].path;
    cut(&object_path(place, digest(1)), 10);
    block(store.recheck(place)).unwrap();
    until("it is back", || disk(&store, 0).state == "online");
    assert_put_aside(&store, place, 1);
    assert_eq!(store.find(FILES[1].0), Finding::Unavailable);
    assert_serves(&store, &[FILES[0], FILES[2]]);
}

#[test]
fn where_a_sidecar_agrees_with_its_file_the_key_is_named_and_where_it_is_none_the_file_goes() {
    let lab = Lab::new(1);
    let store = lab.open();
    run(&store, &lab.media(&FILES));
    let sidecar = object_path(&lab.disks[0].path, digest(0)).with_extension("meta");
    std::fs::write(sidecar, "none").unwrap();
    let rows = vec![row(0, 300_001), row(1, 4_999), row(2, 6_000)];
    store.adopt(1, 1, rows).unwrap();
    until("the key is named", || {
        was_logged(&["key `b.m4s` is not served", "4999 bytes", "has 5000"])
    });
    assert_eq!(store.find(FILES[1].0), Finding::Unavailable);
    assert!(store.holds(digest(1)) && object_path(&lab.disks[0].path, digest(1)).exists());
    assert_serves(&store, &FILES[2..]);
    until("it is told", || disk(&store, 0).quarantined == 1);
    assert!(aside(&lab.disks[0].path, 0).exists() && !store.holds(digest(0)));
    assert!(!was_logged(&["key `a.m4s` is not served"]));
}

/// A newer release's sidecar is not for this one to judge: its object is had again.
#[test]
fn what_cannot_be_judged_is_left_and_in_nobodys_way() {
    let lab = Lab::new(1);
    run(&lab.open(), &lab.media(&FILES));
    let place = &lab.disks[0].path;
    let object = object_path(place, digest(1));
    let later = later_sidecar(&object.with_extension("meta"));
    std::fs::write(object.with_extension("meta"), &later).unwrap();
    cut(&object, 4_000);
    forget_snapshots(&lab.disks);
    let store = lab.open();
    until("it is not served", || !store.holds(digest(1)));
    assert!(was_logged(&[&digest(1).to_string(), "format version 2"]));
    assert_eq!(std::fs::metadata(&object).unwrap().len(), 4_000);
    assert!(std::fs::read(object.with_extension("meta")).unwrap() == later);
    publish(&store, 1);
    assert_serves(&store, &FILES);
    drop(store);
    assert_serves(&lab.open(), &FILES);
}

/// The proof that a scan does without: what sidecars say is not known until the scrub reads them.
#[test]
fn a_scan_reads_no_sidecar() {
    let lab = Lab::new(1);
    run(&lab.open(), &lab.media(&FILES));
    for (at, _) in FILES.iter().enumerate() {
        let sidecar = object_path(&lab.disks[0].path, digest(at)).with_extension("meta");
        std::fs::write(sidecar, "none").unwrap();
    }
    forget_snapshots(&lab.disks);
    let store = lab.open();
    assert_eq!(disk(&store, 0).scan.from, "scan");
    assert_serves(&store, &FILES);
}
