//! Bytes that rot on a disk are found by the box itself, past what memory remembers of them.

use crate::ailing_disk::AilingDisk;
use crate::held_pages::HeldPages;
use crate::loop_disk::LoopDisk;
use crate::tools::Lab;
use crate::tools::assert_serves;
use crate::tools::block;
use crate::tools::bytes;
use crate::tools::disk;
use crate::tools::feed;
use crate::tools::forget_snapshots;
use crate::tools::object_path;
use crate::tools::opened;
use crate::tools::read;
use crate::tools::receive;
use crate::tools::run;
use crate::tools::until;
use crate::tools::was_logged;
use oca::key::Key;
use oca::object::Digest;
use oca::store::Binding;
use oca::store::Config;
use oca::store::DiskClass;
use oca::store::DiskOrderError;
use oca::store::Finding;
use oca::store::Handle;
use oca::sys::page_cache;
use oca::units::Bytes;
use oca::units::BytesPerSecond;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

const FILES: [(&str, usize); 4] = [
    ("film/large.m4s", 3_000_000),
    ("film/chunk.m4s", 262_144),
    ("film/odd.m4s", 600_001),
    ("film/small.m4s", 5000),
];

/// Of a small ext4.
const BLOCK: usize = 1024;

fn digest(at: usize) -> Digest {
    Digest::of(&bytes(FILES[at].0, FILES[at].1))
}

/// A laboratory whose one disk is a loop device.
struct Yard {
    lab: Lab,
    disk: LoopDisk,
    image: PathBuf,
}

impl Yard {
    fn new() -> Self {
        let mut lab = Lab::new(0);
        let (image, place) = (lab.path("image"), lab.path("mount"));
        std::fs::create_dir(&place).unwrap();
        let disk = LoopDisk::mount(&image, &place, 64);
        lab.add(&place, DiskClass::Ssd, false);
        Self { lab, disk, image }
    }

    /// Changes a byte of an object on the medium: the file system and memory learn nothing of it.
    fn rot(&self, content: &[u8], at: usize) {
        nix::unistd::syncfs(File::open(self.disk.place()).unwrap()).unwrap();
        let image = std::fs::read(&self.image).unwrap();
        // Blocks lie whole on the medium, each at a multiple of its size.
        let block = at / BLOCK * BLOCK;
        let needle = &content[block..content.len().min(block + BLOCK)];
        let mut blocks = image.chunks(BLOCK).enumerate();
        let (number, _) = blocks
            .find(|(_, found)| found.starts_with(needle))
            .expect("the object is not on the medium");
        let file = File::options().write(true).open(&self.image).unwrap();
        let offset = (number * BLOCK + at - block) as u64;
        file.write_all_at(&[content[at] ^ 1], offset).unwrap();
        file.sync_all().unwrap();
    }
}

/// A scrub that is through every second.
fn hurried(lab: &Lab) -> Config {
    let mut config = lab.config();
    config.upkeep.scrub_every = Duration::from_secs(1);
    config.upkeep.scrub_rate = BytesPerSecond(1_250_000_000);
    config
}

/// A control plane lists everything: what is not held is wanted.
fn list(store: &Handle) {
    let rows = FILES.iter().enumerate().map(|(rank, (key, length))| {
        let binding = Binding {
            digest: digest(rank),
            length: *length as u64,
            last_modified: 1,
            rank: u32::try_from(rank).unwrap(),
        };
        (Key::parse(key.as_bytes()).unwrap(), binding)
    });
    store.adopt(1, 1, rows.collect()).unwrap();
}

fn wanted(store: &Handle) -> Vec<Digest> {
    store
        .wanted(&[])
        .iter()
        .map(|wanted| wanted.digest)
        .collect()
}

/// The pages of a file that are in memory.
fn cached(path: &Path) -> Vec<u64> {
    let file = File::open(path).unwrap();
    let pages = file.metadata().unwrap().len().div_ceil(4096);
    let is_there = |page: &u64| page_cache::pages_cached(&file, page * 4096, 1).unwrap() == 1;
    (0..pages).filter(is_there).collect()
}

/// Every object was read once more.
fn await_round(store: &Handle) {
    let begun = disk(store, 0).scrub.objects;
    let held = disk(store, 0).objects;
    until("everything was verified twice", || {
        store.view().disks[0].scrub.objects > begun + 2 * held
    });
}

fn reason(disk: &Path, digest: Digest) -> String {
    let path = disk.join("quarantine").join(format!("{digest}.reason"));
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_byte_that_flips_beneath_the_file_system_is_found_put_aside_and_fetched_again() {
    let yard = Yard::new();
    let store = opened(&hurried(&yard.lab));
    run(&store, &yard.lab.media(&FILES));
    list(&store);
    await_round(&store);
    assert_eq!(disk(&store, 0).scrub.found, 0);
    let content = bytes(FILES[0].0, FILES[0].1);
    let path = object_path(yard.disk.place(), digest(0));
    assert_eq!(std::fs::read(&path).unwrap(), content);
    let file = File::open(&path).unwrap();

    let held = HeldPages::of(&path);
    yard.rot(&content, 2_222_222);
    let mut kept = vec![0; content.len()];
    file.read_exact_at(&mut kept, 0).unwrap();
    assert!(kept == content, "memory still has the good bytes");
    drop(held);
    until("it is out of the catalogue", || {
        store.find(FILES[0].0) == Finding::Unavailable
    });
    let moved = yard
        .disk
        .place()
        .join("quarantine")
        .join(digest(0).to_string());
    until("it is in quarantine", || moved.exists() && !path.exists());
    let told = reason(yard.disk.place(), digest(0));
    assert!(told.contains("its bytes from 2097152 on"), "{told}");
    assert!(told.contains("removed after 20"), "{told}");
    let name = digest(0).to_string();
    assert!(was_logged(&[&name, "is corrupt"]));
    until("the view tells", || {
        let view = disk(&store, 0);
        let last = view.scrub.last_found.unwrap_or_default();
        (view.scrub.found, view.quarantined) == (1, 1) && last.contains(&name)
    });
    assert_eq!(wanted(&store), [digest(0)]);
    assert_serves(&store, &FILES[1..]);
    assert_eq!(disk(&store, 0).state, "online", "one object is not a disk");

    let mut staged = receive(&store, &content).unwrap();
    feed(&mut staged, &content, |_| true).unwrap();
    block(staged.commit()).unwrap();
    assert_serves(&store, &FILES);
    assert!(wanted(&store).is_empty());
    await_round(&store);
    assert_eq!(disk(&store, 0).scrub.found, 1);
}

#[test]
fn what_is_cut_short_and_what_lost_or_changed_its_sidecar_is_found_without_a_reader() {
    let yard = Yard::new();
    let store = opened(&hurried(&yard.lab));
    run(&store, &yard.lab.media(&FILES));
    let at = |number: usize| object_path(yard.disk.place(), digest(number));
    let file = File::options().write(true).open(at(0)).unwrap();
    file.set_len(1_048_576).unwrap();
    let sidecar = at(2).with_extension("meta");
    yard.rot(&std::fs::read(&sidecar).unwrap(), 60);
    std::fs::remove_file(at(1).with_extension("meta")).unwrap();
    for (number, word) in [(0, "bytes long"), (1, "missing"), (2, "checksum")] {
        until("it is found", || {
            store.find(FILES[number].0) == Finding::Unavailable
        });
        let note = yard.disk.place().join("quarantine");
        let note = note.join(format!("{}.reason", digest(number)));
        until("it is put aside", || !at(number).exists() && note.exists());
        let told = reason(yard.disk.place(), digest(number));
        assert!(told.contains(word), "{told}");
    }
    assert_serves(&store, &FILES[3..]);
    std::fs::remove_file(at(3)).unwrap();
    until("what is gone is found too", || {
        store.find(FILES[3].0) == Finding::Unavailable
    });
}

#[test]
fn the_other_copy_of_a_damaged_object_goes_on_serving() {
    let mut yard = Yard::new();
    let other = yard.lab.path("other");
    std::fs::create_dir(&other).unwrap();
    yard.lab.add(&other, DiskClass::Ssd, true);
    let store = opened(&hurried(&yard.lab));
    run(&store, &yard.lab.media(&FILES));
    list(&store);
    store.stop();
    drop(store);
    // Both disks have everything.
    let mut found: Vec<PathBuf> = Vec::new();
    for root in [yard.disk.place(), &other] {
        let there = crate::tools::objects(root);
        found.extend(
            there
                .keys()
                .map(|p| p.strip_prefix(root).unwrap().to_owned()),
        );
    }
    for path in &found {
        let [from, to] = [yard.disk.place(), other.as_path()].map(|root| root.join(path));
        let (from, to) = if from.exists() {
            (from, to)
        } else {
            (to, from)
        };
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, to).unwrap();
    }
    forget_snapshots(&yard.lab.disks);
    let store = opened(&hurried(&yard.lab));
    assert_eq!((disk(&store, 0).objects, disk(&store, 1).objects), (4, 4));
    yard.rot(&bytes(FILES[2].0, FILES[2].1), 600_000);
    until("it is found", || disk(&store, 0).scrub.found == 1);
    assert_serves(&store, &FILES);
    assert!(wanted(&store).is_empty());
    until("one copy is left", || disk(&store, 0).objects == 3);
    assert_eq!(disk(&store, 1).objects, 4);
}

#[test]
fn a_scrub_leaves_memory_to_viewers_and_takes_none_of_it() {
    let yard = Yard::new();
    let store = opened(&hurried(&yard.lab));
    run(&store, &yard.lab.media(&FILES));
    let at = |number: usize| object_path(yard.disk.place(), digest(number));
    yard.disk.forget();
    read(&store, FILES[0].0).unwrap();
    let held = HeldPages::of(&at(0));
    let hot = cached(&at(0));
    assert!(hot.len() > 600, "the viewer's object is in memory");
    drop(held);
    assert!(cached(&at(2)).is_empty(), "this one is not");
    let before = yard.disk.bytes_read();
    await_round(&store);
    let read = yard.disk.bytes_read() - before;
    assert!(read >= 3_867_145, "{read} bytes came from the disk");
    let still = cached(&at(0));
    let gone: Vec<_> = hot.iter().filter(|page| !still.contains(page)).collect();
    // What the kernel itself took meanwhile it would have taken without any scrub as well; one that
    // drops what it read would leave none of 733 pages.
    let file = File::open(at(0)).unwrap();
    let taken = page_cache::pages_evicted(&file, 0, 0).unwrap();
    let dropped = gone.len().saturating_sub(usize::try_from(taken).unwrap());
    assert!(
        dropped < 183,
        "{dropped} of the pages {gone:?} were dropped"
    );
    assert!(cached(&at(2)).is_empty());
    assert!(cached(&at(2).with_extension("meta")).is_empty());
}

#[test]
fn what_is_put_aside_goes_when_its_time_is_over_or_when_it_takes_too_much_room() {
    let lab = Lab::new(1);
    let mut config = hurried(&lab);
    config.upkeep.quarantine_bytes = Bytes(700_000);
    let store = opened(&config);
    run(&store, &lab.media(&FILES));
    let root = &lab.disks[0].path;
    let quarantine = root.join("quarantine");
    let damage = |number: usize| {
        let path = object_path(root, digest(number));
        let file = File::options().write(true).open(path).unwrap();
        file.write_all_at(b"rotten", 1000).unwrap();
    };
    for number in [1, 2] {
        damage(number);
        let name = quarantine.join(digest(number).to_string());
        until("it is put aside", || name.exists());
    }
    until("the older one went for want of room", || {
        !quarantine.join(digest(1).to_string()).exists()
    });
    assert!(quarantine.join(digest(2).to_string()).exists());
    until("the view tells", || {
        let view = disk(&store, 0);
        view.quarantined == 1 && (600_001..=700_000).contains(&view.quarantined_bytes)
    });
    drop(store);
    config.upkeep.quarantine_time = Duration::from_millis(1);
    let store = opened(&config);
    assert_eq!(disk(&store, 0).quarantined, 1, "who says what day it is?");
    store.clock_is_sane(true);
    until("its time is over", || {
        std::fs::read_dir(&quarantine).unwrap().count() == 0
    });
    until("the view tells", || disk(&store, 0).quarantined == 0);
}

#[test]
fn how_far_a_scrub_came_outlives_the_process() {
    let lab = Lab::new(1);
    let store = opened(&hurried(&lab));
    run(&store, &lab.media(&FILES));
    let kept = lab.disks[0].path.join("scrub.kept");
    until("it is written down", || kept.exists());
    await_round(&store);
    store.stop();
    drop(store);
    let written = std::fs::read_to_string(&kept).unwrap();
    let store = opened(&lab.config());
    let since = || disk(&store, 0).scrub.verified_since;
    until("it goes on", || since().is_some());
    let since: jiff::Timestamp = since().unwrap().parse().unwrap();
    assert!(
        written.contains(&since.as_millisecond().to_string()),
        "{since}"
    );
    until("it rests", || disk(&store, 0).scrub.state == "resting");
}

#[test]
fn a_disk_that_is_pulled_while_it_is_scrubbed_is_out_of_service_and_nothing_on_it_is_condemned() {
    let mut lab = Lab::new(0);
    let at = lab.path("pulled");
    std::fs::create_dir(&at).unwrap();
    let mut ailing = AilingDisk::mount(&lab.path("image"), &at, 64);
    lab.add(&at, DiskClass::Ssd, false);
    let store = opened(&hurried(&lab));
    // So many that the scrub has one of them in hand, whenever it is.
    let names: Vec<String> = (0..40).map(|number| format!("film/{number}")).collect();
    let files: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 50_000)).collect();
    run(&store, &lab.media(&files));
    await_round(&store);
    // A file system that lost its disk may turn read-only before anybody is told.
    for turns_read_only in [true, false] {
        let before = disk(&store, 0).scrub.found;
        if turns_read_only {
            ailing.turn_read_only();
        }
        ailing.pull();
        until("it is missed", || disk(&store, 0).state == "suspect");
        until("the round ends", || {
            disk(&store, 0).scrub.state == "waiting"
        });
        let found = disk(&store, 0).scrub.found;
        assert!(
            found <= before + 3,
            "three say that it is the disk: {found}"
        );

        ailing.put_back();
        // It may have been looked at unasked meanwhile.
        match block(store.recheck(&at)) {
            Ok(()) | Err(DiskOrderError::State { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        until("it is back", || disk(&store, 0).state == "online");
        assert_serves(&store, &files);
        assert_eq!(std::fs::read_dir(at.join("quarantine")).unwrap().count(), 0);
        let view = disk(&store, 0);
        assert_eq!(
            (view.scrub.found, view.objects, view.reason),
            (found, 40, None)
        );
    }
}
