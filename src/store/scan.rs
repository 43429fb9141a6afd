//! What lies on a disk gets into the index: by its `snapshot`, or by its names and one stat an
//! object.
//!
//! `open` runs it on the writers' thread of each disk, side by side; a scan takes some threads
//! more, for what is not in memory is waited for, and a disk does several things at once. An object
//! without a sidecar beside it is set aside and named; what a crash left in `staging/` is kept
//! where it can be gone on with, and removed elsewhere. A publication makes the sidecar durable
//! before it names it, and both names before it counts: a file with both was whole. Whether it is
//! still so long is looked at where somebody says otherwise (`lengths`), what it consists of by the
//! scrub: millions of objects must be ready in minutes.
//!
//! I/O: reads the whole tree of one disk, or one file of it; spawns threads for the former.

use super::DiskClass;
use super::compare;
use super::core::Shared;
use super::lane::Pulse;
use super::layout;
use super::layout::Kind;
use super::lengths;
use super::quarantine;
use super::root;
use super::root::Root;
use super::snapshot;
use super::staging;
use super::state::Event;
use super::state::State;
use super::verdict;
use super::verdict::Depth;
use super::verdict::Judged;
use super::volume::Volume;
use crate::clock;
use crate::lock::lock;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Foreign names are counted, and the first few of each thread named.
const FOREIGN_SHOWN: u64 = 3;

/// Threads that scan one disk: what it can do at once, as far as names and inodes are concerned.
/// A hard disk sorts two requests; more of them only make its arm travel.
const fn threads(class: DiskClass) -> usize {
    match class {
        DiskClass::Hdd => 2,
        DiskClass::Ssd => 4,
        DiskClass::Nvme => super::census::THREADS_MAX,
    }
}

#[derive(Debug, Default)]
struct Found {
    objects: u64,
    corrupt: u64,
    orphans: u64,
    foreign: u64,
    is_from_snapshot: bool,
}

/// Fills the index from one volume and reports it as scanned.
pub(super) fn scan(shared: &Arc<Shared>, volume: &Arc<Volume>, pulse: &Pulse) {
    let started = clock::now();
    let mut found = Found::default();
    let outcome = run(shared, volume, pulse, &mut found);
    let disk = volume.name();
    let ms = u64::try_from(clock::now().duration_since(started).as_millis()).unwrap_or(0);
    let (objects, corrupt) = (found.objects, found.corrupt);
    match outcome {
        Ok(read_only) => {
            let from = volume.census.view().from;
            tracing::info!(
                disk,
                objects,
                corrupt,
                ms,
                from,
                "disk {disk}: {objects} objects found by its {from}"
            );
            let reason = if read_only { "mounted read-only" } else { "" };
            volume.report(shared, Event::Scanned { read_only }, reason);
            lengths::ask_if_settled(shared);
            if found.is_from_snapshot {
                compare::start(shared, volume);
            }
        }
        Err(error) => {
            let reason = format!("a directory cannot be read: {error}; check the file system");
            volume.report(shared, Event::Broken, &reason);
        }
    }
}

fn run(
    shared: &Shared,
    volume: &Arc<Volume>,
    pulse: &Pulse,
    found: &mut Found,
) -> io::Result<bool> {
    let root = volume.root()?;
    let space = root.space()?;
    volume.note_space(space);
    quarantine::reap(shared, volume, &|| pulse.beat(volume.deadline()))?;
    expect(shared, volume);
    if let Some(objects) = snapshot::take(shared, volume, pulse)? {
        volume.census.begin(true);
        (found.objects, found.is_from_snapshot) = (objects, true);
    } else {
        volume.census.begin(false);
        // Anew: a snapshot that came to no good end may have met some.
        expect(shared, volume);
        // The lane's own pulse rests: those of the threads are watched.
        pulse.beat(Duration::MAX);
        if !look_through(shared, volume, found)? {
            return Ok(space.read_only);
        }
        pulse.beat(volume.deadline());
    }
    forget_unmet(shared, volume);
    volume.census.whole();
    if found.foreign + found.orphans > 0 {
        let (disk, foreign, orphans) = (volume.name(), found.foreign, found.orphans);
        tracing::warn!(
            disk,
            "disk {disk}: {foreign} foreign names ignored, {orphans} lone sidecars removed"
        );
    }
    if !space.read_only {
        // Last, so that what was published is known.
        staging::sift(shared, volume, pulse)?;
    }
    Ok(space.read_only)
}

/// What a disk that is back in service held before stays in the index until the scan has ended: it
/// is what a lost disk held, if the scan comes to no end.
fn expect(shared: &Shared, volume: &Volume) {
    let index = &shared.index;
    let known = match volume.tally.objects.load(Ordering::Relaxed) {
        0 => 0,
        _ => index.len(),
    };
    let held = (0..known).filter(|number| index.places(*number).has(volume.number));
    volume.census.expect(held);
}

fn forget_unmet(shared: &Shared, volume: &Volume) {
    let unmet = volume.census.take_unmet();
    if !unmet.is_empty() {
        let (disk, count) = (volume.name(), unmet.len());
        tracing::warn!(
            disk,
            count,
            "disk {disk}: {count} objects that it held are gone"
        );
    }
    for digest in { unmet.into_iter() }.filter_map(|number| shared.index.digest(number)) {
        shared.forget_scanned(digest, volume);
    }
}

/// All directories, on several threads. False if somebody ended it.
fn look_through(shared: &Shared, volume: &Arc<Volume>, found: &mut Found) -> io::Result<bool> {
    let root = volume.root()?;
    let outer = fan_out(&root, volume, layout::OBJECTS, found)?;
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<io::Error>> = Mutex::new(None);
    let work = |pulse: &Pulse| {
        let mut own = Found::default();
        while let Some(path) = outer.get(next.fetch_add(1, Ordering::Relaxed)) {
            match part(shared, volume, pulse, path, &mut own) {
                Ok(true) => volume.census.passed(),
                Ok(false) => next.store(outer.len(), Ordering::Relaxed),
                Err(error) => {
                    next.store(outer.len(), Ordering::Relaxed);
                    lock(&failed).get_or_insert(error);
                }
            }
        }
        pulse.rest();
        own
    };
    let (own, others) = volume.census.pulses[..threads(volume.config.class)]
        .split_first()
        .ok_or(io::ErrorKind::InvalidInput)?;
    let work = &work;
    std::thread::scope(|scope| {
        let spawn = |pulse| {
            let name = format!("disk{}-scan", volume.number);
            let thread = std::thread::Builder::new().name(name);
            // With fewer threads it takes longer.
            thread.spawn_scoped(scope, move || work(pulse)).ok()
        };
        let spawned: Vec<_> = others.iter().filter_map(spawn).collect();
        found.add(&work(own));
        for thread in spawned {
            let panicked = |_| io::Error::other("a thread of the scan panicked");
            found.add(&thread.join().map_err(panicked)?);
        }
        Ok::<(), io::Error>(())
    })?;
    match lock(&failed).take() {
        Some(error) => Err(error),
        None => Ok(!is_ended(shared, volume)),
    }
}

fn is_ended(shared: &Shared, volume: &Volume) -> bool {
    shared.is_stopping() || volume.state() == State::Suspect
}

/// One `objects/ab`. False if somebody ended it.
fn part(
    shared: &Shared,
    volume: &Volume,
    pulse: &Pulse,
    outer: &str,
    found: &mut Found,
) -> io::Result<bool> {
    let root = volume.root()?;
    pulse.beat(volume.deadline());
    for path in fan_out(&root, volume, outer, found)? {
        if is_ended(shared, volume) {
            return Ok(false);
        }
        pulse.beat(volume.deadline());
        let Some(dir) = enter(&root, volume, &path, found)? else {
            continue;
        };
        let names = root::list(dir.try_clone()?)?;
        directory(shared, volume, pulse, &dir, &names, found);
    }
    Ok(true)
}

impl Found {
    fn add(&mut self, other: &Self) {
        self.objects += other.objects;
        self.corrupt += other.corrupt;
        self.orphans += other.orphans;
        self.foreign += other.foreign;
    }
}

/// The paths of the two-digit directories in `path`. Whatever else somebody left there is foreign:
/// it harms nobody, and is no reason to take the disk out of service.
fn fan_out(root: &Root, volume: &Volume, path: &str, found: &mut Found) -> io::Result<Vec<String>> {
    let Some(dir) = enter(root, volume, path, found)? else {
        return Ok(Vec::new());
    };
    let mut paths = Vec::new();
    for name in root::list(dir)? {
        let path = format!("{path}/{}", name.text);
        if layout::is_fan_out(&name.text) {
            paths.push(path);
        } else {
            note_foreign(volume, &path, found);
        }
    }
    Ok(paths)
}

/// Opens a directory; `None` if a file, a link or another file system is in its place.
fn enter(root: &Root, volume: &Volume, path: &str, found: &mut Found) -> io::Result<Option<File>> {
    match root.dir(path) {
        Ok(dir) => Ok(Some(dir)),
        Err(error)
            if path != layout::OBJECTS
                && matches!(
                    error.raw_os_error(),
                    Some(libc::ENOTDIR | libc::ELOOP | libc::EXDEV)
                ) =>
        {
            note_foreign(volume, path, found);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn note_foreign(volume: &Volume, name: &str, found: &mut Found) {
    found.foreign += 1;
    if found.foreign <= FOREIGN_SHOWN {
        let shown = crate::help::printable(name.as_bytes(), 80);
        tracing::warn!(disk = volume.name(), "`{shown}` is no object; ignored");
    }
}

/// One `objects/ab/cd`.
fn directory(
    shared: &Shared,
    volume: &Volume,
    pulse: &Pulse,
    dir: &File,
    names: &[root::Name],
    found: &mut Found,
) {
    let mut sidecars = BTreeSet::new();
    for name in names {
        match layout::kind(&name.text) {
            Kind::Sidecar(digest) => {
                sidecars.insert(digest);
            }
            Kind::Object(_) => {}
            Kind::Foreign => note_foreign(volume, &name.text, found),
        }
    }
    for name in names {
        let Kind::Object(digest) = layout::kind(&name.text) else {
            continue;
        };
        let held = sidecars.remove(&digest);
        let depth = match held {
            true => Depth::Names,
            false => Depth::Bare,
        };
        match verdict::judge(shared, volume, pulse, dir, digest, depth) {
            Judged::Whole(number, length) => {
                found.objects += 1;
                shared.add_scanned(number, length, volume);
            }
            Judged::PutAside => found.corrupt += 1,
            Judged::Unread => {}
        }
    }
    // A crash between the rename of a sidecar and that of its object leaves the first alone.
    for digest in sidecars {
        found.orphans += 1;
        // On a read-only disk it stays, and harms nobody.
        let _ = root::remove(dir, &layout::sidecar_name(digest));
    }
}
