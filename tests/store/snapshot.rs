//! A clean stop writes the index down; whatever else happens to that file, nothing is lost by it.

use crate::tools::Lab;
use crate::tools::Mount;
use crate::tools::assert_serves;
use crate::tools::block;
use crate::tools::disk;
use crate::tools::object_path;
use crate::tools::objects;
use crate::tools::opened;
use crate::tools::run;
use crate::tools::until;
use crate::tools::was_logged;
use crate::victim;
use oca::object::Digest;
use oca::store;
use oca::store::DiskClass;
use oca::store::Finding;
use oca::store::Handle;
use oca::store::Step;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const FILES: [(&str, usize); 5] = [
    ("s/a.m4s", 700_000),
    ("s/b.m4s", 10),
    ("s/c.m4s", 300_000),
    ("s/d.m4s", 262_144),
    ("s/e.m4s", 5),
];

/// Disks with all files on them, left by a clean stop.
fn stopped(disks: usize) -> Lab {
    let lab = Lab::in_memory(disks);
    run(&lab.open(), &lab.media(&FILES));
    lab
}

fn file(lab: &Lab, number: usize) -> PathBuf {
    lab.disks[number].path.join("index.snapshot")
}

/// How each disk's objects came to be known.
fn from(store: &Handle) -> Vec<&'static str> {
    store.view().disks.iter().map(|d| d.scan.from).collect()
}

/// Every name on the disks has been looked at.
fn looked_through(store: &Handle) {
    until("the disks are looked through", || {
        // Not from the view, which is built now and then.
        store.view().disks.iter().all(|d| d.scan.percent == 100)
    });
}

fn digest(number: usize) -> Digest {
    let (name, length) = FILES[number];
    Digest::of(&crate::tools::bytes(name, length))
}

/// The disk that holds a file.
fn holder(lab: &Lab, number: usize) -> PathBuf {
    let mut disks = lab.disks.iter();
    let holder = disks.find(|disk| object_path(&disk.path, digest(number)).exists());
    holder.unwrap().path.clone()
}

#[test]
fn a_clean_stop_is_followed_by_a_start_without_a_scan_and_only_once() {
    let lab = stopped(2);
    assert!(file(&lab, 0).exists() && file(&lab, 1).exists());
    let store = lab.open();
    assert_eq!(from(&store), ["snapshot", "snapshot"]);
    assert_serves(&store, &FILES);
    let held: u64 = store.view().disks.iter().map(|disk| disk.objects).sum();
    assert_eq!(held, FILES.len() as u64);
    assert!(!file(&lab, 0).exists() && !file(&lab, 1).exists());
    looked_through(&store);
    for disk in &store.view().disks {
        assert_eq!((disk.state, disk.scan.corrected), ("online", 0));
    }
    // What a crash would leave at this moment.
    let copy = Lab::in_memory(0);
    for disk in &lab.disks {
        let to = copy.path("").join(disk.path.file_name().unwrap());
        let mut copying = Command::new("cp");
        let copied = copying.arg("-a").arg(&disk.path).arg(&to).status();
        assert!(copied.unwrap().success());
    }
    let mut crashed = lab.config();
    crashed.state_dir = copy.path("state");
    for disk in &mut crashed.disks {
        disk.path = copy.path("").join(disk.path.file_name().unwrap());
    }
    let after = opened(&crashed);
    assert_eq!(from(&after), ["scan", "scan"]);
    assert_serves(&after, &FILES);
}

#[test]
fn a_snapshot_that_is_not_exactly_what_was_written_is_ignored_and_the_disk_scanned() {
    let lab = stopped(1);
    let whole = fs::read(file(&lab, 0)).unwrap();
    let mut damaged: Vec<(Vec<u8>, &str)> = Vec::new();
    for at in (0..whole.len()).step_by(29).chain([8, 12, whole.len() - 1]) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        damaged.push((flipped, "snapshot is ignored"));
    }
    for length in [0, 7, 71, 72, whole.len() - 40, whole.len() - 1] {
        damaged.push((whole[..length].to_vec(), "snapshot is ignored"));
    }
    let mut later = whole.clone();
    later[8] = 2;
    damaged.push((later, "format version 2"));
    // Counts as no memory has them.
    let mut huge = whole.clone();
    huge[64..72].fill(0xff);
    damaged.push((huge, "should be 18446744073709551615"));
    damaged.push(([whole.clone(), whole.clone()].concat(), "should be"));
    for (bytes, words) in damaged {
        fs::write(file(&lab, 0), &bytes).unwrap();
        let store = lab.open();
        assert_eq!(from(&store), ["scan"]);
        assert_eq!(disk(&store, 0).objects, FILES.len() as u64);
        assert!(
            was_logged(&[lab.disks[0].path.to_str().unwrap(), words]),
            "{words}"
        );
        assert_serves(&store, &FILES);
    }
    assert_eq!(from(&lab.open()), ["snapshot"]);
}

#[test]
fn what_stands_in_a_snapshots_place_hangs_and_harms_nobody() {
    let lab = stopped(1);
    let at = file(&lab, 0);
    let elsewhere = lab.path("elsewhere");
    fs::rename(&at, &elsewhere).unwrap();
    let plant: [&dyn Fn(); 3] = [
        &|| std::os::unix::fs::symlink(&elsewhere, &at).unwrap(),
        &|| nix::unistd::mkfifo(&at, nix::sys::stat::Mode::S_IRUSR).unwrap(),
        &|| fs::create_dir(&at).unwrap(),
    ];
    for plant in plant {
        plant();
        let store = lab.open();
        assert_eq!(
            (from(&store), disk(&store, 0).state),
            (vec!["scan"], "online")
        );
        assert_serves(&store, &FILES);
        drop(store);
        assert!(elsewhere.exists());
        if at.is_dir() {
            fs::remove_dir(&at).unwrap();
        } else {
            fs::remove_file(&at).unwrap();
        }
    }
}

#[test]
fn a_snapshot_of_another_disk_or_of_an_earlier_day_is_ignored() {
    let lab = stopped(2);
    let (first, second) = (
        fs::read(file(&lab, 0)).unwrap(),
        fs::read(file(&lab, 1)).unwrap(),
    );
    fs::write(file(&lab, 0), &second).unwrap();
    fs::write(file(&lab, 1), &first).unwrap();
    let store = lab.open();
    assert_eq!(from(&store), ["scan", "scan"]);
    assert!(was_logged(&[
        lab.disks[0].path.to_str().unwrap(),
        "it is of disk"
    ]));
    assert_serves(&store, &FILES);
    drop(store);
    // Somebody puts the disk's own back, of before a later publication.
    let before = [
        fs::read(file(&lab, 0)).unwrap(),
        fs::read(file(&lab, 1)).unwrap(),
    ];
    let store = lab.open();
    let mut later = Vec::new();
    for other in [0, 1] {
        let mut publication = store.stage(b"later", 1, &BTreeSet::from([other])).unwrap();
        publication
            .write(vec![b'0' + u8::try_from(other).unwrap()])
            .unwrap();
        later.push(publication.commit(None).unwrap().digest);
    }
    drop(store);
    for (number, bytes) in before.iter().enumerate() {
        fs::write(file(&lab, number), bytes).unwrap();
    }
    let store = lab.open();
    assert_eq!(from(&store), ["scan", "scan"]);
    assert!(later.iter().all(|digest| store.holds(*digest)));
}

#[test]
fn what_was_added_or_removed_behind_the_daemons_back_is_found_while_it_serves() {
    let lab = stopped(2);
    let (lost, other) = (0, usize::from(holder(&lab, 1) == lab.disks[0].path));
    fs::remove_file(object_path(&holder(&lab, lost), digest(lost))).unwrap();
    // A second copy of an object, and one that nobody knows, with a sidecar that is none.
    let (path, copy) = (holder(&lab, 1), &lab.disks[other].path);
    let (kept, broken) = (object_path(&path, digest(1)), Digest::of(b"broken"));
    let copied = object_path(copy, digest(1));
    fs::create_dir_all(copied.parent().unwrap()).unwrap();
    fs::copy(&kept, &copied).unwrap();
    fs::copy(kept.with_extension("meta"), copied.with_extension("meta")).unwrap();
    let planted = object_path(copy, broken);
    fs::create_dir_all(planted.parent().unwrap()).unwrap();
    fs::write(&planted, "broken").unwrap();
    fs::write(planted.with_extension("meta"), "none").unwrap();

    let store = lab.open();
    assert_eq!(from(&store), ["snapshot", "snapshot"]);
    looked_through(&store);
    let corrected: u64 = store.view().disks.iter().map(|d| d.scan.corrected).sum();
    assert_eq!(corrected, 2, "one gone, one more");
    assert_eq!(store.find(FILES[lost].0), Finding::Unavailable);
    assert_serves(&store, &FILES[1..]);
    let held: u64 = store.view().disks.iter().map(|disk| disk.objects).sum();
    assert_eq!(held, FILES.len() as u64);
    assert!(!store.holds(broken) && !planted.exists(), "put aside");
    assert!(was_logged(&[&digest(lost).to_string(), "is gone"]));
    drop(store);
    // What was found is known the next time.
    fs::remove_file(&kept).unwrap();
    let store = lab.open();
    assert_eq!(from(&store), ["snapshot", "snapshot"]);
    looked_through(&store);
    assert_serves(&store, &FILES[1..]);
}

/// An object that is forgotten and stays on the disk would be lost by a snapshot without it.
#[test]
fn a_disk_with_an_object_in_doubt_gets_no_snapshot() {
    let lab = stopped(1);
    let store = lab.open();
    let object = block(store.open(digest(2))).unwrap();
    store.read_failed(&object, &io::Error::from_raw_os_error(nix::libc::EIO));
    assert!(!store.holds(digest(2)));
    drop(store);
    assert!(!file(&lab, 0).exists());
    let store = lab.open();
    assert_eq!(from(&store), ["scan"]);
    assert_serves(&store, &FILES);
}

#[test]
fn whenever_a_start_is_interrupted_the_next_one_knows_everything() {
    let lab = stopped(2);
    for round in 0..16_u64 {
        if round % 2 == 0 {
            // The scan is what is interrupted.
            let _ = (
                fs::remove_file(file(&lab, 0)),
                fs::remove_file(file(&lab, 1)),
            );
        }
        let store = store::start(&lab.config()).unwrap();
        oca::clock::block_for(Duration::from_micros(round * 400));
        drop(store);
        let store = lab.open();
        let held: u64 = store.view().disks.iter().map(|disk| disk.objects).sum();
        assert_eq!(held, FILES.len() as u64, "round {round}");
    }
}

#[test]
fn a_disk_mounted_read_only_keeps_its_snapshot_and_a_full_one_does_without() {
    let mut lab = Lab::new(0);
    let (at, image) = (lab.path("disk"), lab.path("image"));
    let mount = Mount::ext4(&image, 32, &at);
    lab.add(&at, DiskClass::Ssd, false);
    run(&lab.open(), &lab.media(&FILES));
    mount.remount("ro");
    for _ in 0..2 {
        let store = lab.open();
        assert_eq!(
            (from(&store), disk(&store, 0).state),
            (vec!["snapshot"], "read-only")
        );
        assert_serves(&store, &FILES);
    }
    mount.remount("rw");
    let store = lab.open();
    assert_eq!(
        (from(&store), disk(&store, 0).state),
        (vec!["snapshot"], "online")
    );
    let filler = fs::File::create(at.join("filler")).unwrap();
    let mut bytes = vec![7; 1 << 20];
    while !bytes.is_empty() {
        if io::Write::write(&mut &filler, &bytes).is_err() {
            bytes.truncate(bytes.len() / 2);
        }
    }
    drop(store);
    assert!(!file(&lab, 0).exists() && !at.join("index.snapshot.new").exists());
    fs::remove_file(at.join("filler")).unwrap();
    let store = lab.open();
    assert_eq!(
        (from(&store), disk(&store, 0).state),
        (vec!["scan"], "online")
    );
    assert_serves(&store, &FILES);
}

/// Runs only as the child of the test below: opens, publishes, stops, and kills itself at the step
/// that it is told.
#[test]
fn the_child_that_is_killed() {
    let Some(told) = victim::told() else {
        return;
    };
    let store = store::start_probed(&told.config(1), &told.probe()).unwrap();
    block(store.ready());
    let mut publication = store.stage(b"x", 4, &BTreeSet::new()).unwrap();
    publication.write(b"more".to_vec()).unwrap();
    publication.commit(None).unwrap();
}

#[test]
fn killed_at_any_step_of_a_snapshot_the_next_start_knows_exactly_what_is_there() {
    let removed = [Step::SnapshotRemoved, Step::ObjectRenamed];
    for step in removed.into_iter().chain(Step::STOPPING) {
        let lab = stopped(1);
        let child = "snapshot::the_child_that_is_killed";
        victim::kill_at(child, lab.dir.path(), "", step, 1);
        let store = lab.open();
        let named = [Step::SnapshotRenamed, Step::SnapshotDirectorySynced].contains(&step);
        let expected = if named { "snapshot" } else { "scan" };
        assert_eq!(from(&store), [expected], "{step:?}");
        let on_disk = objects(&lab.disks[0].path);
        let whole = on_disk.keys().filter(|path| path.extension().is_none());
        assert_eq!(disk(&store, 0).objects, whole.count() as u64, "{step:?}");
        let published = step != Step::SnapshotRemoved;
        assert_eq!(store.holds(Digest::of(b"more")), published, "{step:?}");
        assert_serves(&store, &FILES);
    }
}
