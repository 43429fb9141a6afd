//! A disk that retires: emptied while viewers are served, over restarts, with numbers for what has
//! no room; what is damaged on it stays behind.

use crate::ailing_disk::AilingDisk;
use crate::tools::Lab;
use crate::tools::Mount;
use crate::tools::assert_serves;
use crate::tools::block;
use crate::tools::bytes;
use crate::tools::disk;
use crate::tools::feed;
use crate::tools::object_path;
use crate::tools::objects_on;
use crate::tools::read;
use crate::tools::read_all;
use crate::tools::receive;
use crate::tools::run;
use crate::tools::staging;
use crate::tools::until;
use oca::key::Key;
use oca::object::Digest;
use oca::store;
use oca::store::Binding;
use oca::store::DiskClass;
use oca::store::Handle;
use oca::store::Probe;
use oca::store::RetireError;
use oca::store::RetireView;
use oca::store::Step;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

const MEDIA: [(&str, usize); 6] = [
    ("a", 5_000),
    ("b", 2_600_001),
    ("c", 1 << 20),
    ("d", 1),
    ("e", 300_000),
    ("f", 4096),
];

fn view(store: &Handle, number: usize) -> RetireView {
    disk(store, number).retire.unwrap_or_default()
}

fn is_retired(store: &Handle, number: usize) -> bool {
    view(store, number).state == "retired"
}

fn until_retired(store: &Handle, number: usize) {
    until("the disk is empty", || is_retired(store, number));
}

/// All of [`MEDIA`] on disk 0 of two.
fn filled(lab: &Lab) -> Handle {
    let store = lab.open();
    store.retire(&lab.disks[1].path, false).unwrap();
    run(&store, &lab.media(&MEDIA));
    store.retire(&lab.disks[1].path, true).unwrap();
    assert_eq!(objects_on(&lab.disks[0].path).len(), MEDIA.len());
    store
}

#[test]
fn a_disk_that_retires_is_emptied_while_viewers_are_served_and_stays_empty_over_a_restart() {
    let lab = Lab::in_memory(2);
    let store = filled(&lab);
    // One who has it open reads on.
    let entry = store.find("b").entry().unwrap();
    let open = block(store.open(entry.digest)).unwrap();
    let (stop, watched) = (Arc::new(AtomicBool::new(false)), store.clone());
    let stopped = Arc::clone(&stop);
    let viewer = std::thread::spawn(move || {
        let mut reads = 0;
        while !stopped.load(Ordering::Acquire) || reads == 0 {
            assert_serves(&watched, &MEDIA);
            reads += 1;
        }
        reads
    });
    let generation = store.view().generation;
    let told = store.retire(&lab.disks[0].path, false).unwrap();
    assert_eq!(told.state, "retiring");
    until_retired(&store, 0);
    stop.store(true, Ordering::Release);
    assert!(viewer.join().unwrap() > 0);
    assert!(read_all(&open).unwrap() == bytes("b", 2_600_001));
    assert_eq!(objects_on(&lab.disks[0].path).len(), 0);
    assert_eq!(staging(&lab.disks[0].path), [""; 0]);
    let shown = view(&store, 0);
    assert_eq!((shown.objects_left, shown.bytes_left), (0, 0));
    assert_eq!(shown.objects_moved, MEDIA.len() as u64);
    assert!(shown.reason.unwrap().contains("may be pulled"));
    let changes = store.changes(generation).unwrap();
    assert_eq!((changes.added, changes.removed), (vec![], vec![]));
    drop((open, store));

    let store = lab.open();
    assert_eq!(
        disk(&store, 1).scan.from,
        "snapshot",
        "nothing was in doubt"
    );
    until_retired(&store, 0);
    run(
        &store,
        &lab.media(&[("g", 9_000), ("h", 10_000), ("i", 11_000)]),
    );
    let content = bytes("j", 12_000);
    let mut staged = receive(&store, &content).unwrap();
    feed(&mut staged, &content, |_| true).unwrap();
    block(staged.commit()).unwrap();
    assert_eq!(objects_on(&lab.disks[0].path).len(), 0);
    assert_eq!(objects_on(&lab.disks[1].path).len(), MEDIA.len() + 4);
    store.retire(&lab.disks[0].path, true).unwrap();
    let error = store.retire(&lab.disks[0].path, true).unwrap_err();
    assert!(matches!(error, RetireError::NotRetiring { .. }), "{error}");
    assert_eq!(disk(&store, 0).retire, None);
    drop(store);
    assert_eq!(disk(&lab.open(), 0).retire, None);
}

#[test]
fn what_is_most_popular_goes_first_and_only_after_it_is_durable_elsewhere() {
    let lab = Lab::in_memory(2);
    let store = filled(&lab);
    let ranks = [5, 3, 4, 1, 0, 2];
    let rows = MEDIA.iter().zip(ranks).map(|((name, length), rank)| {
        let binding = Binding {
            digest: Digest::of(&bytes(name, *length)),
            length: *length as u64,
            last_modified: 5,
            rank,
        };
        (Key::parse(name.as_bytes()).unwrap(), binding)
    });
    store.adopt(4, 2, rows.collect()).unwrap();
    drop(store);
    let told = Arc::new(Mutex::new(Vec::new()));
    let (telling, target) = (Arc::clone(&told), lab.disks[1].path.clone());
    let probe = Probe::new(move |step| {
        let held = objects_on(&target).len();
        telling.lock().unwrap().push((step, held));
    });
    let store = store::start_probed(&lab.config(), &probe).unwrap();
    block(store.ready());
    store.retire(&lab.disks[0].path, false).unwrap();
    until_retired(&store, 0);
    let told = std::mem::take(&mut *told.lock().unwrap());
    let of = |wanted: &[Step]| -> Vec<(Step, usize)> {
        let steps = told.iter().filter(|(step, _)| wanted.contains(step));
        steps.copied().collect()
    };
    let order = [
        Step::DataSynced,
        Step::SidecarSynced,
        Step::ObjectRenamed,
        Step::ObjectDirectorySynced,
        Step::StagingSynced,
        Step::ObjectUnlinked,
        Step::UnlinkSynced,
        Step::SidecarUnlinked,
    ];
    let expected: Vec<(Step, usize)> = (0..MEDIA.len())
        .flat_map(|before| {
            order.map(|step| (step, before + usize::from(step >= Step::ObjectRenamed)))
        })
        .collect();
    assert_eq!(of(&order), expected);
    drop(store);
    let mut copied: Vec<_> = { objects_on(&lab.disks[1].path).into_iter() }
        .map(|path| (path.metadata().unwrap().modified().unwrap(), path))
        .collect();
    copied.sort();
    let first = Digest::of(&bytes("e", 300_000));
    assert_eq!(
        copied[0].1,
        object_path(&lab.disks[1].path, first),
        "rank 0"
    );
}

#[test]
fn what_is_damaged_on_it_is_put_aside_and_not_copied() {
    let lab = Lab::in_memory(2);
    let store = filled(&lab);
    let digest = Digest::of(&bytes("b", 2_600_001));
    let path = object_path(&lab.disks[0].path, digest);
    let mut rotten = std::fs::read(&path).unwrap();
    rotten[2_000_000] ^= 1;
    std::fs::write(&path, rotten).unwrap();
    store.retire(&lab.disks[0].path, false).unwrap();
    until_retired(&store, 0);
    assert!(!store.holds(digest));
    assert_eq!(view(&store, 0).objects_moved, MEDIA.len() as u64 - 1);
    let kept = lab.disks[0]
        .path
        .join("quarantine")
        .join(digest.to_string());
    until("it is put aside", || kept.exists());
    assert_eq!(objects_on(&lab.disks[1].path).len(), MEDIA.len() - 1);
    let left = |name: &str| staging(&lab.path(name)).is_empty();
    until("nothing half is left", || left("disk0") && left("disk1"));
    read(&store, "b").unwrap_err();
    let rest: Vec<_> = MEDIA.into_iter().filter(|(name, _)| *name != "b").collect();
    assert_serves(&store, &rest);
}

#[test]
fn what_has_no_room_elsewhere_is_told_in_numbers_and_goes_when_there_is_room() {
    let mut lab = Lab::in_memory(1);
    let small = lab.path("small");
    let _mount = Mount::tmpfs(&small, "size=4m");
    lab.add(&small, DiskClass::Ssd, false);
    let store = filled(&lab);
    let thirteen = vec![("big", 2_000_000), ("bigger", 2_500_000)];
    store.retire(&small, false).unwrap();
    run(&store, &lab.media(&thirteen));
    store.retire(&small, true).unwrap();
    store.retire(&lab.disks[0].path, false).unwrap();
    until("what fits is moved", || view(&store, 0).no_room_objects > 0);
    until("the pass is through", || view(&store, 0).objects_moved >= 3);
    let shown = view(&store, 0);
    assert_eq!(shown.state, "retiring");
    assert!(shown.no_room_bytes >= 2_000_000, "{shown:?}");
    let reason = shown.reason.unwrap();
    assert!(
        reason.contains("no room") && reason.contains("add a disk"),
        "{reason}"
    );
    assert_serves(&store, &MEDIA);
    assert_serves(&store, &thirteen);
    assert_eq!(disk(&store, 0).state, "online");
    drop(store);
    // A disk that was added.
    let more = lab.path("more");
    std::fs::create_dir(&more).unwrap();
    lab.add(&more, DiskClass::Hdd, true);
    let store = lab.open();
    until_retired(&store, 0);
    assert_eq!(objects_on(&lab.disks[0].path).len(), 0);
    assert_serves(&store, &MEDIA);
    assert_serves(&store, &thirteen);
}

/// Nothing can be removed from it, and what it has is elsewhere all the same.
#[test]
fn a_disk_that_is_mounted_read_only_is_retired_when_others_have_all_of_it() {
    let mut lab = Lab::in_memory(0);
    let old = lab.path("old");
    let mount = Mount::tmpfs(&old, "size=16m");
    lab.add(&old, DiskClass::Ssd, false);
    let store = lab.open();
    run(&store, &lab.media(&MEDIA));
    drop(store);
    mount.remount("ro");
    let fresh = lab.path("fresh");
    std::fs::create_dir(&fresh).unwrap();
    lab.add(&fresh, DiskClass::Ssd, true);
    for again in [false, true] {
        let store = lab.open();
        assert_eq!(disk(&store, 0).state, "read-only");
        if !again {
            store.retire(&old, false).unwrap();
        }
        until_retired(&store, 0);
        let moved = if again { 0 } else { MEDIA.len() as u64 };
        assert_eq!(view(&store, 0).objects_moved, moved);
        assert_eq!(objects_on(&old).len(), MEDIA.len());
        assert_eq!(objects_on(&fresh).len(), MEDIA.len());
        assert_serves(&store, &MEDIA);
    }
}

#[test]
fn moves_wait_while_viewers_leave_them_nothing() {
    let lab = Lab::in_memory(2);
    let store = filled(&lab);
    store.ease_moves(0, Some("a worker is busy 95 % of its time".to_owned()));
    store.retire(&lab.disks[0].path, false).unwrap();
    until("it says why", || {
        let reason = view(&store, 0).reason.unwrap_or_default();
        reason.contains("viewers come first") && reason.contains("95 %")
    });
    assert_eq!(objects_on(&lab.disks[1].path).len(), 0);
    store.ease_moves(25, None);
    until_retired(&store, 0);
    assert_serves(&store, &MEDIA);
}

#[test]
fn a_transfer_to_a_disk_that_retires_ends_before_it_may_be_pulled() {
    let lab = Lab::in_memory(2);
    let store = filled(&lab);
    store.retire(&lab.disks[1].path, false).unwrap();
    let content = bytes("x", 1_000_000);
    let mut staged = receive(&store, &content).unwrap();
    feed(&mut staged, &content, |chunk| chunk < 2).unwrap();
    store.retire(&lab.disks[1].path, true).unwrap();
    store.retire(&lab.disks[0].path, false).unwrap();
    until("all else is moved", || {
        let reason = view(&store, 0).reason.unwrap_or_default();
        reason.contains("a transfer to it ends first")
    });
    assert!(!is_retired(&store, 0));
    feed(&mut staged, &content, |_| true).unwrap();
    block(staged.commit()).unwrap();
    until_retired(&store, 0);
    assert_eq!(objects_on(&lab.disks[1].path).len(), MEDIA.len() + 1);
    assert!(store.holds(Digest::of(&content)));
}

#[test]
fn a_path_that_is_no_disk_or_a_disk_that_nobody_knows_does_not_retire() {
    let mut lab = Lab::in_memory(1);
    let foreign = lab.path("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("letters"), b"mine").unwrap();
    lab.add(&foreign, DiskClass::Ssd, true);
    let store = lab.open();
    let error = store.retire(&lab.path("none"), false).unwrap_err();
    assert!(matches!(error, RetireError::Unknown(_)), "{error}");
    let error = store.retire(&foreign, false).unwrap_err();
    assert!(matches!(error, RetireError::Unidentified { .. }), "{error}");
}

/// All of [`MEDIA`] on disk 0 of a laboratory whose disk 1 is the next to be chosen, before disk 2.
fn filled_before_a_faster_one(lab: &mut Lab, faster: &Path, plain: bool) -> Handle {
    lab.add(faster, DiskClass::Nvme, plain);
    let slower = lab.path("slower");
    std::fs::create_dir(&slower).unwrap();
    lab.add(&slower, DiskClass::Hdd, true);
    let store = lab.open();
    for others in &lab.disks[1..] {
        store.retire(&others.path, false).unwrap();
    }
    run(&store, &lab.media(&MEDIA));
    for others in &lab.disks[1..] {
        store.retire(&others.path, true).unwrap();
    }
    assert_eq!(objects_on(&lab.disks[0].path).len(), MEDIA.len());
    store
}

#[test]
fn when_the_target_falls_ill_under_a_copy_another_disk_takes_that_and_all_the_rest() {
    let mut lab = Lab::in_memory(1);
    let at = lab.path("ailing");
    std::fs::create_dir(&at).unwrap();
    let ailing = AilingDisk::mount(&lab.path("image"), &at, 64);
    let store = filled_before_a_faster_one(&mut lab, &at, false);
    store.ease_moves(0, None);
    store.retire(&lab.disks[0].path, false).unwrap();
    until("a copy is begun", || {
        let reason = view(&store, 0).reason.unwrap_or_default();
        reason.contains("viewers come first")
    });
    assert_eq!(staging(&at).len(), 1);
    ailing.pull();
    until("it is missed", || disk(&store, 1).state == "suspect");
    store.ease_moves(100, None);
    until_retired(&store, 0);
    assert_eq!(objects_on(&lab.disks[2].path).len(), MEDIA.len());
    assert_eq!(view(&store, 0).objects_moved, MEDIA.len() as u64);
    assert_eq!(disk(&store, 0).quarantined + disk(&store, 2).quarantined, 0);
    assert_serves(&store, &MEDIA);
}

#[test]
fn a_target_whose_copy_reads_back_damaged_gets_no_other_object_in_that_pass() {
    let mut lab = Lab::in_memory(1);
    let rotten = lab.path("rotten");
    std::fs::create_dir(&rotten).unwrap();
    drop(filled_before_a_faster_one(&mut lab, &rotten, true));
    let rots = Arc::new(AtomicBool::new(true));
    let (still, place) = (Arc::clone(&rots), rotten.clone());
    let probe = Probe::new(move |step| {
        // It is published, and not read back yet.
        if step == Step::StagingSynced && still.load(Ordering::Acquire) {
            for object in objects_on(&place) {
                let length = object.metadata().unwrap().len();
                std::fs::write(&object, vec![0; usize::try_from(length).unwrap()]).unwrap();
            }
        }
    });
    let store = store::start_probed(&lab.config(), &probe).unwrap();
    block(store.ready());
    let retire = || store.retire(&lab.disks[0].path, false).unwrap();
    retire();
    let moved = MEDIA.len() as u64 - 1;
    until("the rest is moved", || {
        view(&store, 0).objects_moved == moved
    });
    until("the pass is through", || view(&store, 0).reason.is_some());
    let told = view(&store, 0).reason.unwrap();
    assert!(told.contains("it is damaged"), "{told}");
    until("its copy is put aside", || disk(&store, 1).quarantined == 1);
    let on = |number: usize| objects_on(&lab.disks[number].path).len();
    assert_eq!((on(0), on(1), on(2)), (1, 0, MEDIA.len() - 1));
    assert_serves(&store, &MEDIA);
    // Another pass may find it well.
    rots.store(false, Ordering::Release);
    retire();
    until_retired(&store, 0);
    assert_eq!((on(0), on(1), on(2)), (0, 1, MEDIA.len() - 1));
    assert_serves(&store, &MEDIA);
}
