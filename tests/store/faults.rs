//! Full, failing and read-only disks: a sick disk harms only itself.

use crate::tools::Lab;
use crate::tools::Mount;
use crate::tools::assert_serves;
use crate::tools::block;
use crate::tools::bytes;
use crate::tools::disk;
use crate::tools::opened;
use crate::tools::read;
use crate::tools::read_all;
use crate::tools::run;
use crate::tools::until;
use crate::tools::was_logged;
use oca::store::DiskClass;
use oca::store::Finding;
use oca::store::PublishError;
use std::collections::BTreeSet;
use std::path::Path;

const MB: usize = 1_000_000;

fn add_tmpfs(lab: &mut Lab) -> Mount {
    let at = lab.path("full");
    let mount = Mount::tmpfs(&at, "size=16m");
    lab.add(&at, DiskClass::Nvme, false);
    mount
}

#[test]
fn a_full_disk_refuses_what_does_not_fit_and_harms_nothing() {
    let mut lab = Lab::new(0);
    let _mount = add_tmpfs(&mut lab);
    let first = [("a.m4s", 4 * MB), ("b.m4s", 4 * MB)];
    let store = lab.open();
    run(&store, &lab.media(&first));
    let media = lab.media(&[("c.m4s", 20 * MB), ("d.m4s", MB)]);
    let summary = run(&store, &media);
    assert_eq!((summary.published, summary.already_held), (1, 2));
    let [refused] = &summary.refused[..] else {
        panic!("{:?}", summary.refused)
    };
    assert!(refused.path.ends_with("c.m4s"));
    assert!(
        refused.problem.contains("bytes are missing"),
        "{}",
        refused.problem
    );
    assert_eq!(disk(&store, 0).state, "online");
    assert_serves(&store, &first);
    assert_serves(&store, &[("d.m4s", MB)]);
}

#[test]
fn what_somebody_left_between_the_objects_takes_no_disk_out_of_service() {
    let lab = Lab::new(1);
    let files = [("a.m4s", MB), ("b.m4s", MB)];
    let store = lab.open();
    run(&store, &lab.media(&files));
    store.stop();
    let objects = lab.path("disk0").join("objects");
    std::fs::write(objects.join("note.txt"), "x").unwrap();
    std::os::unix::fs::symlink("/etc", objects.join("link")).unwrap();
    let free = (0..=255).find(|ab| {
        let inside = std::fs::read_dir(objects.join(format!("{ab:02x}")));
        inside.unwrap().next().is_none()
    });
    let free = objects.join(format!("{:02x}", free.unwrap()));
    std::fs::write(free.join("ab"), "a file where a directory belongs").unwrap();
    std::fs::write(free.join(".note"), "x").unwrap();
    let store = opened(&lab.config());
    assert_eq!(disk(&store, 0).state, "online");
    assert_serves(&store, &files);
}

#[test]
fn a_disk_that_fills_up_in_the_middle_of_a_publication_loses_that_publication_only() {
    let mut lab = Lab::new(0);
    let mount = add_tmpfs(&mut lab);
    let first = [("a.m4s", 4 * MB)];
    let store = lab.open();
    run(&store, &lab.media(&first));
    // Less is announced than comes, and somebody else takes the rest of the room.
    let mut publication = store.stage(b"k", 10, &BTreeSet::new()).unwrap();
    let ballast = mount.0.join("ballast");
    let room = usize::try_from(disk(&store, 0).free).unwrap();
    let _ = std::fs::write(&ballast, vec![1; room + MB]);
    let outcome = (0..4)
        .try_for_each(|_| publication.write(vec![7; MB]))
        .and_then(|()| publication.commit(None).map(drop));
    assert!(
        matches!(outcome, Err(PublishError::Full { .. })),
        "{outcome:?}"
    );
    assert_eq!(disk(&store, 0).state, "online");
    assert_serves(&store, &first);
    until("staging is empty", || {
        std::fs::read_dir(mount.0.join("staging")).unwrap().count() == 0
    });
    std::fs::remove_file(&ballast).unwrap();
    let mut publication = store.stage(b"k", 4, &BTreeSet::new()).unwrap();
    publication.write(b"good".to_vec()).unwrap();
    assert!(!publication.commit(None).unwrap().already_held);
}

#[test]
fn when_the_fast_disk_is_full_the_next_class_takes_the_object() {
    let mut lab = Lab::new(1);
    let _mount = add_tmpfs(&mut lab);
    let store = lab.open();
    let files = [("a.m4s", 9 * MB), ("b.m4s", 9 * MB)];
    assert_eq!(run(&store, &lab.media(&files)).published, 2);
    assert_eq!((disk(&store, 0).objects, disk(&store, 1).objects), (1, 1));
    assert_serves(&store, &files);
}

const GOOD: [(&str, usize); 3] = [("good/a", MB), ("good/b", MB), ("good/c", MB)];
const BAD: [(&str, usize); 5] = [
    ("bad/a", MB),
    ("bad/b", MB),
    ("bad/c", MB),
    ("bad/d", MB),
    ("bad/e", MB),
];

/// A good plain disk with `GOOD` on it and an ext4 on a loop device with `BAD`.
fn good_and_bad(lab: &mut Lab) -> Mount {
    let good = lab.media(&GOOD);
    run(&lab.open(), &good);
    let at = lab.path("bad");
    let mount = Mount::ext4(&lab.path("image"), 64, &at);
    lab.add(&at, DiskClass::Nvme, false);
    let store = lab.open();
    assert_eq!(run(&store, &lab.media(&BAD)).published, 5);
    assert_eq!((disk(&store, 0).objects, disk(&store, 1).objects), (3, 5));
    mount
}

/// Every block of the loop device behind `image` fails.
fn fail(image: &Path) {
    nix::unistd::sync();
    let file = std::fs::File::options().write(true).open(image).unwrap();
    file.set_len(0).unwrap();
    std::fs::write("/proc/sys/vm/drop_caches", "3").expect("dropping caches needs root");
}

#[test]
fn a_disk_that_answers_eio_leaves_the_catalogue_and_the_other_goes_on() {
    let mut lab = Lab::new(1);
    let _mount = good_and_bad(&mut lab);
    let store = lab.open();
    let open: Vec<_> = BAD[..2]
        .iter()
        .map(|(key, _)| block(store.open(store.find(key).entry().unwrap().digest)).unwrap())
        .collect();

    // Two are found by readers of open files, the rest when nothing can be read.
    for object in &open {
        store.read_failed(object, &std::io::Error::from_raw_os_error(libc::EIO));
    }
    for key in ["bad/a", "bad/b"] {
        assert_eq!(store.find(key), Finding::Unavailable);
    }
    assert!(
        store.find("bad/c").entry().is_some(),
        "two bad objects are not yet a bad disk"
    );
    fail(&lab.path("image"));
    let error = read_all(&open[0]).map(drop).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    assert!(read(&store, "bad/c").is_err());
    for (key, _) in BAD {
        assert_eq!(store.find(key), Finding::Unavailable, "{key}");
    }
    until("the view says so", || disk(&store, 1).state == "suspect");
    let view = store.view();
    assert_eq!(
        (view.objects, view.manifest.as_ref().unwrap().missing),
        (3, 5)
    );
    let bad = lab.path("bad");
    assert!(was_logged(&[bad.to_str().unwrap(), "out of the catalogue"]));
    assert_serves(&store, &GOOD);
    drop((store, open));

    let store = lab.open();
    assert!(
        ["refused", "suspect"].contains(&disk(&store, 1).state),
        "{:?}",
        disk(&store, 1)
    );
    assert_serves(&store, &GOOD);
    let more = [("good/later", MB)];
    let summary = run(&store, &lab.media(&more));
    assert_eq!(
        summary.published, 6,
        "what the bad disk held is healed, and one is new"
    );
    assert_serves(&store, &more);
    assert_serves(&store, &BAD);
}

#[test]
fn a_disk_that_turns_read_only_goes_on_serving_and_takes_no_more() {
    let mut lab = Lab::new(1);
    let mount = good_and_bad(&mut lab);
    let store = lab.open();
    mount.remount("ro");
    let media = lab.media(&[("new", MB)]);
    let summary = run(&store, &media);
    assert_eq!(
        (summary.published, summary.refused_total),
        (1, 0),
        "the other disk took it"
    );
    until("the view says so", || disk(&store, 1).state == "read-only");
    assert_eq!((disk(&store, 0).objects, disk(&store, 1).objects), (4, 5));
    assert_serves(&store, &BAD);
    drop(store);

    let store = lab.open();
    assert_eq!(disk(&store, 1).state, "read-only");
    assert_serves(&store, &BAD);
    drop(store);
    mount.remount("rw");
    let store = opened(&lab.config());
    assert_eq!(disk(&store, 1).state, "online");
    assert!(read(&store, "new").unwrap() == bytes("new", MB));
}
