//! Moves that are interrupted: the target goes away, the source is deleted, a viewer is between
//! two disks. What ends the whole process is for `tests/store`.

use super::super::state::Event;
use super::super::state::State;
use super::super::tests_support::store_of;
use super::super::tests_support::until;
use super::*;
use crate::store::Binding;
use crate::store::Handle;
use crate::store::Upkeep;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicU32;

/// Four pieces, the last of them short.
const LENGTH: usize = 3 * (1 << 20) + 12_345;

fn opened(dir: &Path) -> Handle {
    store_of(dir, &["disk0", "disk1"], Upkeep::default())
}

fn content() -> Vec<u8> {
    let mut bytes = vec![0; LENGTH];
    blake3::Hasher::new()
        .update(b"moved")
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// One object on disk 0, under the key `x`.
fn published(store: &Handle) -> Digest {
    let length = LENGTH as u64;
    let mut publication = store.stage(b"x", length, &BTreeSet::from([1])).unwrap();
    publication.write(content()).unwrap();
    let digest = publication.commit(None).unwrap().digest;
    let binding = Binding {
        digest,
        length,
        last_modified: 0,
        rank: 0,
    };
    let key = crate::key::Key::parse(b"x").unwrap();
    store.bind(&BTreeMap::from([(key, binding)])).unwrap();
    digest
}

fn relocate(
    store: &Handle,
    digest: Digest,
    go_on: &dyn Fn(u64) -> bool,
) -> Result<(), RelocateError> {
    relocate_to(store, digest, 1, go_on)
}

fn relocate_to(
    store: &Handle,
    digest: Digest,
    to: usize,
    go_on: &dyn Fn(u64) -> bool,
) -> Result<(), RelocateError> {
    let shared = store.shared();
    let relocation = Relocation {
        shared,
        number: shared.index.find(digest).unwrap(),
        digest,
        length: LENGTH as u64,
        from: &shared.volumes[0],
        to: &shared.volumes[to],
        go_on,
    };
    relocation.run()
}

fn is_on(store: &Handle, digest: Digest, number: u16) -> bool {
    let index = &store.shared().index;
    let places = index.places(index.find(digest).unwrap());
    let path = &store.shared().volumes[usize::from(number)].config.path;
    let is_there = path.join(layout::object_path(digest)).exists();
    assert_eq!(places.has(number), is_there, "disk {number}");
    is_there
}

fn staging_is_empty(dir: &Path, number: usize) -> bool {
    let entries = std::fs::read_dir(dir.join(format!("disk{number}/staging")));
    entries.unwrap().count() == 0
}

/// Its disk may be the best again when the operator has changed his mind.
#[test]
fn an_object_is_never_taken_for_its_own_copy() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let store = opened(dir.path());
    let digest = published(&store);
    let moved = relocate_to(&store, digest, 0, &|_| true);
    assert_eq!(moved, Err(RelocateError::Stopped));
    assert!(is_on(&store, digest, 0));
}

#[test]
fn a_move_that_is_stopped_at_any_piece_leaves_the_object_where_it_was_or_is_gone_on_with() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let store = opened(dir.path());
    let digest = published(&store);
    // Four pieces are copied, and four are read back.
    for last in 0..8_u32 {
        let asked = AtomicU32::new(0);
        let go_on = |_| asked.fetch_add(1, Ordering::Relaxed) < last % 4;
        let moved = relocate(&store, digest, &go_on);
        assert_eq!(moved, Err(RelocateError::Stopped), "{last}");
        assert!(is_on(&store, digest, 0));
        assert_eq!(is_on(&store, digest, 1), last >= 4, "{last}");
        if last == 3 {
            // Copied whole, and stopped before the copy is read back.
            let asked = AtomicU32::new(0);
            let go_on = |_| asked.fetch_add(1, Ordering::Relaxed) < 4;
            relocate(&store, digest, &go_on).unwrap_err();
        }
        until(|| staging_is_empty(dir.path(), 1));
    }
    relocate(&store, digest, &|_| true).unwrap();
    assert!(!is_on(&store, digest, 0) && is_on(&store, digest, 1));
    assert_eq!(
        relocate(&store, digest, &|_| true),
        Err(RelocateError::Gone)
    );
    for volume in &store.shared().volumes {
        assert!(volume.census.is_complete(), "nothing is astray");
    }
    let sizes = store.shared().volumes.iter();
    let sizes: Vec<u64> = sizes
        .map(|v| v.tally.bytes.load(Ordering::Relaxed))
        .collect();
    assert_eq!(sizes, [0, LENGTH as u64]);
}

#[test]
fn a_target_that_goes_away_at_any_piece_leaves_the_object_where_it_was() {
    for event in [Event::Broken, Event::Hung, Event::TurnedReadOnly] {
        for at in 0..8_u32 {
            let dir = tempfile::tempdir_in("/dev/shm").unwrap();
            let store = opened(dir.path());
            let digest = published(&store);
            let asked = AtomicU32::new(0);
            let go_on = |_| {
                if asked.fetch_add(1, Ordering::Relaxed) == at {
                    let shared = store.shared();
                    shared.volumes[1].report(shared, event, "it is a test");
                }
                true
            };
            let moved = relocate(&store, digest, &go_on);
            if event == Event::Broken {
                assert!(moved.is_err(), "{at}");
            }
            // One that only seemed to hang, or reads on, may be the survivor.
            let is_here = is_on(&store, digest, 0);
            assert_eq!(is_here, moved.is_err(), "{event:?} at {at}: {moved:?}");
            assert!(is_here || is_on(&store, digest, 1), "{event:?} at {at}");
            until(|| store.find("x").entry().is_some());
        }
    }
}

#[test]
fn an_object_that_is_deleted_in_the_middle_does_not_come_back_on_the_target() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let store = opened(dir.path());
    let digest = published(&store);
    let asked = AtomicU32::new(0);
    let go_on = |_| {
        if asked.fetch_add(1, Ordering::Relaxed) == 2 {
            store.adopt(1, 1, Vec::new()).unwrap();
            assert_eq!(store.delete(&[digest]).unwrap(), LENGTH as u64);
        }
        true
    };
    let moved = relocate(&store, digest, &go_on).unwrap_err();
    assert!(matches!(moved, RelocateError::Target(_)), "{moved}");
    assert!(!is_on(&store, digest, 0) && !is_on(&store, digest, 1));
    until(|| staging_is_empty(dir.path(), 1));
    assert_eq!(store.surplus(), []);
}

/// The copy is read back from its medium: one that is not what it should be is no survivor.
#[test]
fn a_copy_that_rots_before_it_is_read_back_goes_to_quarantine_and_the_old_one_stays() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let store = opened(dir.path());
    let digest = published(&store);
    let asked = AtomicU32::new(0);
    let go_on = |_| {
        if asked.fetch_add(1, Ordering::Relaxed) == 4 {
            let path = dir.path().join("disk1").join(layout::object_path(digest));
            let mut bytes = content();
            bytes[LENGTH - 1] ^= 1;
            std::fs::write(path, bytes).unwrap();
        }
        true
    };
    let moved = relocate(&store, digest, &go_on).unwrap_err();
    assert!(matches!(moved, RelocateError::Damaged { .. }), "{moved}");
    let kept = dir.path().join(format!("disk1/quarantine/{digest}"));
    until(|| kept.exists());
    assert!(is_on(&store, digest, 0) && !is_on(&store, digest, 1));
    relocate(&store, digest, &|_| true).unwrap();
    assert!(!is_on(&store, digest, 0) && is_on(&store, digest, 1));
}

/// A disk is out of service, and back as another mount, as after a pulled cable.
fn mount_anew(store: &Handle, number: usize) {
    let (shared, volume) = (store.shared(), &store.shared().volumes[number]);
    volume.report(shared, Event::Broken, "it is a test");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let checked = store.recheck(&volume.config.path);
    runtime.unwrap().block_on(checked).unwrap();
    until(|| volume.state() == State::Online);
}

/// What is open gives rubbish, as of a mount that is gone; who opens it anew finds it sound.
fn spoil_what_is_open(path: &Path) {
    let gone = path.with_extension("gone");
    std::fs::rename(path, &gone).unwrap();
    std::fs::write(path, content()).unwrap();
    std::fs::write(&gone, vec![0; LENGTH]).unwrap();
    std::fs::remove_file(&gone).unwrap();
}

fn assert_nothing_is_condemned(store: &Handle, dir: &Path) {
    for (number, volume) in store.shared().volumes.iter().enumerate() {
        let kept = std::fs::read_dir(dir.join(format!("disk{number}/quarantine")));
        assert_eq!(kept.unwrap().count(), 0, "disk {number}");
        assert_eq!(volume.state(), State::Online, "disk {number}");
    }
}

#[test]
fn what_is_read_of_a_disk_that_was_mounted_anew_meanwhile_ends_the_move_and_condemns_nothing() {
    // Four pieces of the source, and four of the survivor.
    for at in 0..8_u32 {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let store = opened(dir.path());
        let digest = published(&store);
        let number = usize::from(at >= 4);
        let asked = AtomicU32::new(0);
        let go_on = |_| {
            if asked.fetch_add(1, Ordering::Relaxed) == at {
                let disk = dir.path().join(format!("disk{number}"));
                spoil_what_is_open(&disk.join(layout::object_path(digest)));
                mount_anew(&store, number);
            }
            true
        };
        let moved = relocate(&store, digest, &go_on).unwrap_err();
        let told = moved.to_string();
        assert!(told.contains("it was mounted anew"), "{at}: {told}");
        assert!(is_on(&store, digest, 0), "{at}");
        assert_eq!(is_on(&store, digest, 1), at >= 4, "{at}");
        until(|| staging_is_empty(dir.path(), 1));
        assert_nothing_is_condemned(&store, dir.path());
        relocate(&store, digest, &|_| true).unwrap();
        assert!(
            !is_on(&store, digest, 0) && is_on(&store, digest, 1),
            "{at}"
        );
    }
}

#[test]
fn what_is_audited_on_a_disk_that_was_mounted_anew_meanwhile_is_not_condemned() {
    for at in 0..4_u32 {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let store = opened(dir.path());
        let digest = published(&store);
        let asked = AtomicU32::new(0);
        let mut go_on = |bytes| {
            // The sidecar is read before the first piece.
            let is_piece = bytes >= 12_345;
            if is_piece && asked.fetch_add(1, Ordering::Relaxed) == at {
                spoil_what_is_open(&dir.path().join("disk0").join(layout::object_path(digest)));
                mount_anew(&store, 0);
            }
            true
        };
        let mut buffer = crate::store::AuditBuffer::new();
        let error = store.audit(digest, &mut buffer, &mut go_on).unwrap_err();
        assert!(
            error.to_string().contains("it was mounted anew"),
            "{at}: {error}"
        );
        assert!(is_on(&store, digest, 0), "{at}");
        assert_nothing_is_condemned(&store, dir.path());
        store.audit(digest, &mut buffer, &mut |_| true).unwrap();
    }
}

#[test]
fn a_target_that_is_mounted_anew_under_the_copy_keeps_nothing_of_it() {
    for at in 0..4_u32 {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let store = opened(dir.path());
        let digest = published(&store);
        let asked = AtomicU32::new(0);
        let go_on = |_| {
            if asked.fetch_add(1, Ordering::Relaxed) == at {
                mount_anew(&store, 1);
            }
            true
        };
        let moved = relocate(&store, digest, &go_on).unwrap_err();
        let told = moved.to_string();
        assert!(told.contains("has given up"), "{at}: {told}");
        assert!(
            is_on(&store, digest, 0) && !is_on(&store, digest, 1),
            "{at}"
        );
        until(|| staging_is_empty(dir.path(), 1));
        assert_nothing_is_condemned(&store, dir.path());
        relocate(&store, digest, &|_| true).unwrap();
        assert!(
            !is_on(&store, digest, 0) && is_on(&store, digest, 1),
            "{at}"
        );
    }
}

/// Who asks while the only holder is the old disk, and is served after the file is gone there.
#[tokio::test]
async fn a_viewer_whose_open_waits_while_the_object_moves_gets_it_from_the_other_disk() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let store = opened(dir.path());
    let digest = published(&store);
    let (release, held) = std::sync::mpsc::sync_channel::<()>(0);
    let (started, begun) = sync_channel(1);
    let volume = Arc::clone(&store.shared().volumes[0]);
    let _busy = volume.queue_read(move |_| {
        started.send(()).unwrap();
        let _ = held.recv();
    });
    begun.recv().unwrap();
    let mut opening = Box::pin(store.open(digest));
    let asked = std::future::poll_fn(|context| {
        let is_waiting = opening.as_mut().poll(context).is_pending();
        std::task::Poll::Ready(is_waiting)
    });
    assert!(asked.await, "it waits in the queue of the old disk");
    relocate(&store, digest, &|_| true).unwrap();
    assert!(!is_on(&store, digest, 0));
    drop(release);
    let object = opening.await.unwrap();
    assert_eq!(object.volume, 1);
    assert_eq!(object.file.metadata().unwrap().len(), LENGTH as u64);
}
