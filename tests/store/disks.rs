//! What a start finds: corrupt objects are set aside and named, the rest is served.

use crate::tools::Lab;
use crate::tools::assert_serves;
use crate::tools::block;
use crate::tools::bytes;
use crate::tools::disk;
use crate::tools::forget_snapshots;
use crate::tools::object_path;
use crate::tools::run;
use crate::tools::until;
use crate::tools::was_logged;
use oca::object::Digest;
use oca::store::Finding;
use oca::store::OpenError;
use std::io;

const FILES: [(&str, usize); 5] = [
    ("short.m4s", 5000),
    ("damaged.m4s", 600_000),
    ("bare.m4s", 7000),
    ("link.m4s", 8000),
    ("good.m4s", 9000),
];

#[test]
fn a_corrupt_object_found_at_start_is_quarantined_named_and_not_served() {
    let lab = Lab::new(1);
    let media = lab.media(&FILES);
    run(&lab.open(), &media);
    let root = &lab.disks[0].path;
    let at = |n: usize| {
        let digest = Digest::of(&bytes(FILES[n].0, FILES[n].1));
        (digest, object_path(root, digest))
    };
    let truncated = std::fs::File::options().write(true).open(at(0).1).unwrap();
    truncated.set_len(4999).unwrap();
    std::fs::remove_file(at(1).1).unwrap();
    std::fs::create_dir(at(1).1).unwrap();
    std::fs::remove_file(at(2).1.with_extension("meta")).unwrap();
    std::fs::remove_file(at(3).1).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", at(3).1).unwrap();
    forget_snapshots(&lab.disks);

    let store = lab.open();
    // The short one shows when the manifest is compared.
    until("all are set aside", || disk(&store, 0).quarantined == 4);
    let view = disk(&store, 0);
    assert_eq!((view.state, view.objects), ("online", 1));
    for (n, (key, _)) in FILES[..4].iter().enumerate() {
        let (digest, path) = at(n);
        let name = digest.to_string();
        assert_eq!(store.find(key), Finding::Unavailable, "{key}");
        assert_eq!(block(store.open(digest)).unwrap_err(), OpenError::NotHeld);
        assert!(was_logged(&[&name, "is corrupt"]), "{name}");
        assert!(
            path.symlink_metadata().is_err(),
            "it is not among the objects"
        );
        assert!(
            root.join("quarantine")
                .join(&name)
                .symlink_metadata()
                .is_ok()
        );
        let reason = root.join("quarantine").join(format!("{name}.reason"));
        assert!(!std::fs::read_to_string(reason).unwrap().is_empty());
    }
    assert_serves(&store, &FILES[4..]);
    assert_eq!(store.view().manifest.as_ref().unwrap().missing, 4);

    let summary = run(&store, &media);
    assert_eq!(
        (summary.published, summary.already_held),
        (4, 1),
        "prefill heals"
    );
    assert_eq!(summary.generation, 1, "the keys were bound already");
    assert_serves(&store, &FILES);
}

#[test]
fn an_object_truncated_beneath_a_reader_or_before_an_open_is_quarantined() {
    let lab = Lab::new(1);
    run(&lab.open(), &lab.media(&FILES));
    let store = lab.open();
    let root = &lab.disks[0].path;
    for (key, reader_notices) in [("good.m4s", true), ("bare.m4s", false)] {
        let digest = store.find(key).entry().unwrap().digest;
        let object = block(store.open(digest)).unwrap();
        let file = std::fs::File::options();
        let file = file
            .clone()
            .write(true)
            .open(object_path(root, digest))
            .unwrap();
        file.set_len(10).unwrap();
        if reader_notices {
            store.read_failed(&object, &io::ErrorKind::UnexpectedEof.into());
        } else {
            assert!(block(store.open(digest)).is_err());
        }
        assert_eq!(store.find(key), Finding::Unavailable);
        let moved = root.join("quarantine").join(digest.to_string());
        until("moved to quarantine", || moved.exists());
    }
    assert_eq!(
        disk(&store, 0).state,
        "online",
        "one bad object is not a bad disk"
    );
}

#[test]
fn read_errors_of_three_objects_take_the_disk_out_and_one_takes_only_itself() {
    let lab = Lab::new(1);
    run(&lab.open(), &lab.media(&FILES));
    let store = lab.open();
    let fail = |key: &str| {
        let object = block(store.open(store.find(key).entry().unwrap().digest)).unwrap();
        for _ in 0..5 {
            store.read_failed(&object, &io::Error::from_raw_os_error(libc::EIO));
        }
    };
    fail("good.m4s");
    assert_eq!(store.find("good.m4s"), Finding::Unavailable);
    assert!(store.find("bare.m4s").entry().is_some());
    fail("bare.m4s");
    assert!(store.find("short.m4s").entry().is_some());
    fail("link.m4s");
    assert_eq!(
        store.find("short.m4s"),
        Finding::Unavailable,
        "the disk is out of the catalogue at once"
    );
    until("the view says so", || disk(&store, 0).state == "suspect");
    let digest = store.catalogue("short", None, 1)[0].digest;
    let refused = block(store.open(digest)).unwrap_err();
    assert!(
        matches!(
            refused,
            OpenError::Unavailable {
                state: "suspect",
                ..
            }
        ),
        "{refused}"
    );
}
