//! What a snapshot said is looked at again: every name on the disk, behind the viewers.
//!
//! A start that believed a `snapshot` serves at once. Somebody may have changed the disk in between
//! all the same: copied objects onto it, removed some, run a release that knows no snapshots. A
//! thread of its own, politely, lists all directories (no stat, no sidecar: lengths are looked at
//! when an object is opened, bytes by the scrub). Where names and index differ, the disk's own
//! thread looks itself, so that nothing under way is taken for a difference: what is unknown is
//! taken in if its sidecar vouches for it, what is not there is forgotten.
//!
//! I/O: spawns one thread, which reads directories and waits; the rest on the disk's own thread.

use super::core::Shared;
use super::lane::Pulse;
use super::layout;
use super::layout::Kind;
use super::lengths;
use super::root;
use super::state::Event;
use super::verdict;
use super::verdict::Depth;
use super::verdict::Judged;
use super::volume::Volume;
use crate::clock;
use crate::lock::lock;
use crate::object::Digest;
use crate::sys::priority;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Behind everybody, as the scrub.
const NICE: i32 = 15;

/// After each directory: 65,536 of them take a minute or two of a disk that is busy elsewhere.
const PAUSE: Duration = Duration::from_millis(1);

/// Looked at in one call on the disk's thread: fills wait behind it.
const BATCH: usize = 64;

/// How often a disk whose queue is full is asked again, and after what pause.
const TRIES: u32 = 100;
const TRY_PAUSE: Duration = Duration::from_millis(50);

/// Differences that are named in the log; more are counted.
const NAMED_MAX: u64 = 10;

/// Objects whose names were seen, by number.
#[derive(Debug, Default)]
struct Seen(Vec<u64>);

/// Nobody wants to know any more.
pub(super) struct Stopped;

/// Starts to compare a disk that came into service by its snapshot.
pub(super) fn start(shared: &Arc<Shared>, volume: &Arc<Volume>) {
    let (own, disk) = (Arc::clone(shared), Arc::clone(volume));
    let spawned = std::thread::Builder::new()
        .name(format!("disk{}-names", volume.number))
        .spawn(move || {
            // Without these it is less polite.
            let _ = priority::stand_back(NICE).and(priority::stand_back_at_disks());
            let outcome = run(&own, &disk);
            pulse(&disk).rest();
            if let Ok(()) = outcome {
                tell(&disk);
                // What it took in may be of another length than a copy, or than its key claims.
                lengths::ask_if_settled(&own);
            }
        });
    match spawned {
        Ok(thread) => *lock(&volume.census.thread) = Some(thread),
        Err(error) => {
            let disk = volume.name();
            tracing::warn!(disk, %error, "disk {disk}: its names are not looked at: {error}");
        }
    }
}

/// Nobody scans any more when this begins.
fn pulse(volume: &Volume) -> &Pulse {
    &volume.census.pulses[0]
}

fn tell(volume: &Volume) {
    let (disk, corrected) = (volume.name(), volume.census.view().corrected);
    match corrected {
        0 => tracing::info!(disk, "disk {disk}: its snapshot said what lies on it"),
        _ => tracing::warn!(
            disk,
            corrected,
            "disk {disk}: {corrected} objects were not as its snapshot said; somebody changed it"
        ),
    }
}

fn run(shared: &Arc<Shared>, volume: &Arc<Volume>) -> Result<(), Stopped> {
    // Numbers that come later are published by this process.
    let known = shared.index.len();
    let mut seen = Seen::default();
    for part in 0..=255_u8 {
        let mut strays = Vec::new();
        look_through(shared, volume, part, &mut seen, &mut strays)?;
        on_its_thread(shared, volume, &strays, take_in)?;
        volume.census.passed();
    }
    let index = &shared.index;
    let absent = (0..known).filter(|n| !seen.has(*n) && index.places(*n).has(volume.number));
    let absent: Vec<Digest> = absent.filter_map(|number| index.digest(number)).collect();
    on_its_thread(shared, volume, &absent, forget_absent)?;
    volume.census.ended();
    Ok(())
}

/// The names below one `objects/ab`; `strays` are those that the index does not have there.
fn look_through(
    shared: &Shared,
    volume: &Volume,
    part: u8,
    seen: &mut Seen,
    strays: &mut Vec<Digest>,
) -> Result<(), Stopped> {
    let outer = format!("{}/{part:02x}", layout::OBJECTS);
    let Some(names) = names(shared, volume, &outer)? else {
        return Ok(());
    };
    for inner in names.iter().filter(|name| layout::is_fan_out(&name.text)) {
        let path = format!("{outer}/{}", inner.text);
        for name in names_of(shared, volume, &path)? {
            let Kind::Object(digest) = layout::kind(&name.text) else {
                continue;
            };
            match shared.index.find(digest) {
                Some(number) if shared.index.places(number).has(volume.number) => {
                    seen.add(number);
                }
                Some(_) | None => strays.push(digest),
            }
        }
    }
    Ok(())
}

fn names_of(shared: &Shared, volume: &Volume, path: &str) -> Result<Vec<root::Name>, Stopped> {
    clock::block_for(PAUSE);
    Ok(names(shared, volume, path)?.unwrap_or_default())
}

/// `None` where there is no such directory, or none that can be read at this moment: what is in it
/// is looked for one by one.
fn names(shared: &Shared, volume: &Volume, path: &str) -> Result<Option<Vec<root::Name>>, Stopped> {
    if shared.is_stopping() || !volume.state().is_readable() {
        return Err(Stopped);
    }
    pulse(volume).beat(volume.deadline());
    let listed = volume.root().and_then(|root| root::list(root.dir(path)?));
    pulse(volume).rest();
    match listed {
        Ok(names) => Ok(Some(names)),
        Err(error) if root::is_medium_error(&error) => {
            let reason = format!("a directory cannot be read: {error}; check the file system");
            volume.report(shared, Event::Broken, &reason);
            Err(Stopped)
        }
        Err(_) => Ok(None),
    }
}

/// Has the disk's own thread look at some objects, in batches, and waits for it.
pub(super) fn on_its_thread(
    shared: &Arc<Shared>,
    volume: &Arc<Volume>,
    digests: &[Digest],
    look: fn(&Arc<Shared>, &Arc<Volume>, &Pulse, Digest),
) -> Result<(), Stopped> {
    for batch in digests.chunks(BATCH) {
        let mut tries = 0;
        let answer = loop {
            if shared.is_stopping() {
                return Err(Stopped);
            }
            let (own, disk, batch) = (Arc::clone(shared), Arc::clone(volume), batch.to_vec());
            let queued = volume.write(Duration::MAX, move |volume, pulse| {
                for digest in batch {
                    pulse.beat(volume.deadline());
                    look(&own, &disk, pulse, digest);
                }
            });
            match queued {
                Ok(answer) => break answer,
                Err(_) if tries < TRIES => tries += 1,
                Err(_) => return Err(Stopped),
            }
            clock::block_for(TRY_PAUSE);
        };
        if volume.wait(&answer).is_err() {
            return Err(Stopped);
        }
    }
    Ok(())
}

/// An object that the index does not have there. On the disk's thread.
fn take_in(shared: &Arc<Shared>, volume: &Arc<Volume>, pulse: &Pulse, digest: Digest) {
    let index = &shared.index;
    let is_known = index
        .find(digest)
        .is_some_and(|number| index.places(number).has(volume.number));
    // It is being published, or was forgotten: its fate is another's.
    if is_known || volume.census.is_astray(digest) {
        return;
    }
    let path = layout::object_dir(digest);
    let listed = volume.root().and_then(|root| {
        let dir = root.dir(&path)?;
        Ok((root::list(dir.try_clone()?)?, dir))
    });
    let Ok((names, dir)) = listed else {
        return;
    };
    let has = |name: &str| names.iter().any(|found| found.text == name);
    if !has(&digest.to_string()) {
        // Deleted meanwhile.
        return;
    }
    // Somebody put it there: it was not published here.
    let depth = match has(&layout::sidecar_name(digest)) {
        true => Depth::Sidecar,
        false => Depth::Bare,
    };
    let judged = verdict::judge(shared, volume, pulse, &dir, digest, depth);
    if let Judged::Whole(number, _) = judged {
        shared.add(number, volume);
        note(volume, digest, "lies on it and was not in its snapshot");
    }
}

/// An object that was not seen. On the disk's thread.
fn forget_absent(shared: &Arc<Shared>, volume: &Arc<Volume>, _: &Pulse, digest: Digest) {
    let found = volume.root().and_then(|root| {
        let dir = root.dir(&layout::object_dir(digest))?;
        root::stat(&dir, &digest.to_string())
    });
    let is_absent = found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    if is_absent && shared.forget(digest, volume) {
        volume.census.settle(digest);
        note(volume, digest, "was in its snapshot and is gone");
    }
}

fn note(volume: &Volume, digest: Digest, what: &str) {
    let before = volume.census.corrected.fetch_add(1, Ordering::Relaxed);
    if before < NAMED_MAX {
        let disk = volume.name();
        tracing::warn!(disk, %digest, "disk {disk}: object {digest} {what}");
    }
}

impl Seen {
    fn add(&mut self, number: u32) {
        let word = number as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (number % 64);
    }

    fn has(&self, number: u32) -> bool {
        let word = self.0.get(number as usize / 64);
        word.is_some_and(|word| word & 1 << (number % 64) != 0)
    }
}
