//! Prefill: idempotent, interruptible, and never confused by a file that changes.

use crate::tools::Lab;
use crate::tools::assert_serves;
use crate::tools::bytes;
use crate::tools::forget_snapshots;
use crate::tools::object_path;
use crate::tools::run;
use oca::object::Digest;
use oca::store;
use oca::store::Finding;
use std::fs::File;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

const FILES: [(&str, usize); 3] = [("s/a.m4s", 5000), ("s/b.m4s", 3_000_000), ("u.m3u8", 70)];

#[test]
fn a_second_prefill_writes_nothing_and_does_not_touch_the_manifest() {
    let lab = Lab::new(2);
    let media = lab.media(&FILES);
    let store = lab.open();
    let before = store.view().generation;
    let first = run(&store, &media);
    assert_eq!((first.files, first.bytes), (3, 3_005_070));
    assert_eq!(
        (first.published, first.already_held, first.generation),
        (3, 0, 1)
    );
    let view = store.view();
    assert!(view.generation > before);
    assert_eq!((view.objects, view.bytes), (3, 3_005_070));
    let manifest = std::fs::metadata(lab.path("state/manifest")).unwrap();
    for fresh in [false, true] {
        let store = if fresh {
            store.stop();
            lab.open()
        } else {
            store.clone()
        };
        let again = run(&store, &media);
        assert_eq!(
            (again.published, again.already_held, again.generation),
            (0, 3, 1)
        );
        let same = std::fs::metadata(lab.path("state/manifest")).unwrap();
        assert_eq!(manifest.modified().unwrap(), same.modified().unwrap());
        assert_serves(&store, &FILES);
    }
}

#[test]
fn a_touched_file_is_hashed_again_and_found_to_be_the_same() {
    let lab = Lab::new(1);
    let media = lab.media(&FILES);
    let store = lab.open();
    run(&store, &media);
    let before = store.find("s/a.m4s").entry().unwrap();
    let file = File::options()
        .write(true)
        .open(media.join("s/a.m4s"))
        .unwrap();
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1000))
        .unwrap();
    let again = run(&store, &media);
    assert_eq!((again.published, again.generation), (0, 1));
    assert_eq!(store.find("s/a.m4s").entry().unwrap(), before);
}

#[test]
fn keys_carry_the_time_of_their_file_and_equal_files_are_one_object() {
    let lab = Lab::new(1);
    let media = lab.media(&[("a.m4s", 5000)]);
    std::fs::copy(media.join("a.m4s"), media.join("b.m4s")).unwrap();
    let file = File::options()
        .write(true)
        .open(media.join("b.m4s"))
        .unwrap();
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1000))
        .unwrap();
    let store = lab.open();
    let summary = run(&store, &media);
    assert_eq!((summary.published, summary.already_held), (1, 1));
    let (a, b) = (
        store.find("a.m4s").entry().unwrap(),
        store.find("b.m4s").entry().unwrap(),
    );
    assert_eq!((a.digest, a.length), (b.digest, b.length));
    assert_eq!(b.last_modified, 1000);
    let view = store.view();
    assert_eq!(
        (view.objects, view.bytes, view.disks[0].objects),
        (2, 5000, 1)
    );
}

#[test]
fn an_interrupted_prefill_keeps_what_is_done_and_the_next_completes_it() {
    let lab = Lab::new(1);
    let media = lab.media(&FILES);
    let store = lab.open();
    let stop = AtomicBool::new(false);
    let first = store::prefill::run(&store, &media, &stop, &mut |progress| {
        if progress.files_done == 1 {
            stop.store(true, Ordering::Release);
        }
    })
    .unwrap();
    assert!(first.interrupted);
    assert_eq!((first.published, first.generation), (1, 1));
    assert_serves(&store, &FILES[..1]);
    assert_eq!(store.find("s/b.m4s"), Finding::Unknown);
    let second = run(&store, &media);
    assert_eq!(
        (second.published, second.already_held, second.generation),
        (2, 1, 2)
    );
    assert!(!second.interrupted);
    assert_serves(&store, &FILES);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_refused_and_the_rest_goes_on() {
    let lab = Lab::new(1);
    let media = lab.media(&FILES);
    let store = lab.open();
    let stop = AtomicBool::new(false);
    let victim = media.join("s/b.m4s");
    let summary = store::prefill::run(&store, &media, &stop, &mut |progress| {
        // The first piece of the second file has been read.
        if progress.files_done == 1 && progress.bytes_done > 5000 {
            let file = File::options().write(true).open(&victim).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, b"changed", 2_900_000).unwrap();
        }
    })
    .unwrap();
    assert_eq!((summary.published, summary.refused_total), (2, 1));
    assert_eq!(summary.refused[0].path, victim);
    assert!(
        summary.refused[0]
            .problem
            .contains("changed while it was read")
    );
    assert_eq!(store.find("s/b.m4s"), Finding::Unknown);
    let again = run(&store, &media);
    assert_eq!((again.published, again.refused_total), (1, 0));
    let digest = store.find("s/b.m4s").entry().unwrap().digest;
    assert_eq!(digest, Digest::of(&std::fs::read(&victim).unwrap()));
}

#[test]
fn a_key_is_bound_for_ever_and_keys_outside_the_directory_stay() {
    let lab = Lab::new(1);
    let media = lab.media(&FILES);
    let store = lab.open();
    run(&store, &media);
    // Of another length, and of the same.
    std::fs::write(media.join("u.m3u8"), bytes("other", 71)).unwrap();
    std::fs::write(media.join("s/a.m4s"), bytes("other", 5000)).unwrap();
    let a = File::options()
        .write(true)
        .open(media.join("s/a.m4s"))
        .unwrap();
    a.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(7))
        .unwrap();
    std::fs::remove_file(media.join("s/b.m4s")).unwrap();
    for fresh in [false, true] {
        if fresh {
            // Also when the object itself is lost: only its own bytes may come back.
            let digest = store.find("s/a.m4s").entry().unwrap().digest;
            std::fs::remove_file(object_path(&lab.disks[0].path, digest)).unwrap();
            store.stop();
            forget_snapshots(&lab.disks);
        }
        let store = if fresh { lab.open() } else { store.clone() };
        assert_eq!(store.find("s/a.m4s").entry().is_none(), fresh);
        let summary = run(&store, &media);
        assert_eq!((summary.published, summary.refused_total), (0, 2));
        for refused in &summary.refused {
            assert!(
                refused.problem.contains("versioned path"),
                "{}",
                refused.problem
            );
        }
        assert_eq!(summary.generation, 1);
        assert_serves(&store, &FILES[1..]);
    }
}

#[test]
fn the_catalogue_is_paged_in_key_order() {
    let lab = Lab::new(1);
    let store = lab.open();
    assert!(store.catalogue("", None, 9).is_empty());
    run(&store, &lab.media(&FILES));
    let keys = |prefix: &str, after: Option<&str>, most| -> Vec<String> {
        let rows = store.catalogue(prefix, after, most);
        rows.into_iter().map(|row| row.key).collect()
    };
    assert_eq!(keys("", None, 2), ["s/a.m4s", "s/b.m4s"]);
    assert_eq!(keys("", Some("s/b.m4s"), 2), ["u.m3u8"]);
    assert_eq!(keys("s/", Some("s/a.m4s"), 9), ["s/b.m4s"]);
    let row = &store.catalogue("u", None, 1)[0];
    assert_eq!((row.bytes, row.rank), (70, 2));
    assert_eq!(row.disk.as_ref(), Some(&lab.disks[0].path));
}

#[test]
fn empty_and_active_files_are_refused_and_the_count_says_so() {
    let lab = Lab::new(1);
    let media = lab.media(&[("a.m4s", 0), ("b.html", 10), ("c.m4s", 10), (".d", 1)]);
    let summary = run(&lab.open(), &media);
    assert_eq!((summary.files, summary.published), (3, 1));
    assert_eq!((summary.refused_total, summary.skipped), (2, 1));
}
