//! `quarantine/`: what is not what its name says, with the reason beside it, for a while.
//!
//! `core`, `verdict`, `lengths` and the scrub put objects here, `suspects` files whose flush
//! failed. Somebody may want to see what a disk made of them; nobody needs them, and they take room
//! from what is served: the oldest go when their time is over, or when there are too many. Their
//! time is not over before somebody vouches for the clock: one that is years ahead ends nothing.
//!
//! I/O: renames and removes, on the disk's own thread.

use super::core::Shared;
use super::layout;
use super::root;
use super::state::State;
use super::volume::Volume;
use crate::clock;
use crate::clock::Wall;
use crate::object::Digest;
use std::collections::BTreeMap;
use std::io;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Objects kept here, however small: a directory of millions would be slow to list.
const ENTRIES_MAX: usize = 4096;

/// Looked through after as many have come: a disk that rots as a whole is bounded too.
const LOOK_AFTER: u64 = 64;

const REASON_SUFFIX: &str = ".reason";
const SIDECAR_SUFFIX: &str = ".meta";
/// A reason is a line.
const REASON_BYTES_MAX: u64 = 4096;

/// What belongs together here.
#[derive(Debug, Default)]
struct Entry {
    names: Vec<String>,
    bytes: u64,
    /// `None`: whoever put it here did not say when.
    since: Option<Wall>,
}

/// Moves an object and its sidecar here, with a file that says why and until when. `beat` is called
/// before each call that may take the disk's deadline.
pub(super) fn set_aside(
    shared: &Shared,
    volume: &Volume,
    digest: Digest,
    reason: &str,
    beat: &dyn Fn(),
) {
    match try_set_aside(shared, volume, digest, reason, beat) {
        Ok(()) => {
            volume.damaged.settled(&shared.state_dir, digest);
            volume.census.settle(digest);
            let count = volume.tally.quarantined.fetch_add(1, Ordering::Relaxed) + 1;
            if count.is_multiple_of(LOOK_AFTER) {
                reap_logged(shared, volume, beat);
            }
        }
        Err(error) => {
            let disk = volume.name();
            tracing::warn!(disk, %digest, %error, "cannot move the object to quarantine: {error}");
            // Where it stays, the next scan takes it for whole. Of a disk that is lost it says
            // nothing: the object may be as sound as the disk is when it is back. A file
            // system that lost its disk may turn read-only first.
            let is_lost = root::is_medium_error(&error) || volume.state() == State::Suspect;
            let home = volume.home().filter(|_| !is_lost);
            if let Some(home) = home {
                volume
                    .damaged
                    .keep(&shared.state_dir, &home.uuid, &disk, digest);
            }
            volume.census.note(digest);
        }
    }
}

fn try_set_aside(
    shared: &Shared,
    volume: &Volume,
    digest: Digest,
    reason: &str,
    beat: &dyn Fn(),
) -> io::Result<()> {
    let root = volume.root()?;
    let from = root.dir(&layout::object_dir(digest))?;
    let to = root.dir(layout::QUARANTINE)?;
    let (object, sidecar) = (digest.to_string(), layout::sidecar_name(digest));
    let note = format!("{object}{REASON_SUFFIX}");
    root::remove(&to, &note)?;
    let mut file = root::create_in(&to, &note)?;
    let now = clock::wall();
    writeln!(file, "{now} {reason}")?;
    if let Ok(until) = now.checked_add(volume.upkeep.quarantine_time) {
        writeln!(file, "removed after {until}")?;
    }
    for name in [&object, &sidecar] {
        beat();
        match root::rename(&from, name, &to, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            moved => moved?,
        }
    }
    // A crash that undid the move would put it back among the objects, where a scan, which does not
    // read what they consist of, takes it for whole.
    for dir in [&to, &from] {
        beat();
        let synced = dir.sync_all();
        synced.inspect_err(|error| shared.flush_failed(volume, error))?;
    }
    Ok(())
}

/// Has the disk's own thread [`reap`].
pub(super) fn ask(shared: &Arc<Shared>, volume: &Arc<Volume>) {
    if volume.state().is_writable() {
        let own = Arc::clone(shared);
        // Refused or dropped: there is a next time.
        let _ = volume.write(volume.deadline(), move |volume, pulse| {
            reap_logged(&own, volume, &|| pulse.beat(volume.deadline()));
        });
    }
}

fn reap_logged(shared: &Shared, volume: &Volume, beat: &dyn Fn()) {
    if let Err(error) = reap(shared, volume, beat) {
        let disk = volume.name();
        tracing::warn!(disk, %error, "disk {disk}: quarantine cannot be looked through: {error}");
    }
}

/// Counts what is here, and removes what is here too long or too much. A failed removal, as on a
/// read-only disk, leaves it to the next time. `beat` is called before each entry: thousands of
/// them take a sick disk longer than its deadline, and a healthy hard disk too.
pub(super) fn reap(shared: &Shared, volume: &Volume, beat: &dyn Fn()) -> io::Result<()> {
    let root = volume.root()?;
    let dir = root.dir(layout::QUARANTINE)?;
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    beat();
    for name in root::list(dir.try_clone()?)? {
        beat();
        let base = name.text.strip_suffix(REASON_SUFFIX);
        let base = base.or_else(|| name.text.strip_suffix(SIDECAR_SUFFIX));
        let entry = entries.entry(base.unwrap_or(&name.text).to_owned());
        let entry = entry.or_default();
        if name.text.ends_with(REASON_SUFFIX) {
            entry.since = since(&dir, &name.text);
        }
        if let Ok(stat) = root::stat(&dir, &name.text) {
            entry.bytes = entry.bytes.saturating_add(stat.length);
        }
        entry.names.push(name.text);
    }
    let mut oldest_last: Vec<Entry> = entries.into_values().collect();
    oldest_last.sort_by_key(|entry| std::cmp::Reverse(entry.since));
    let (now, upkeep) = (clock::wall(), &volume.upkeep);
    let is_dated = shared.clock_is_sane.load(Ordering::Acquire);
    let (mut bytes, mut count) = (0_u64, 0_usize);
    for entry in oldest_last {
        beat();
        let is_over = |since: Wall| {
            let until = since.checked_add(upkeep.quarantine_time);
            is_dated && until.is_ok_and(|until| until <= now)
        };
        let with_it = bytes.saturating_add(entry.bytes);
        let is_too_much = with_it > upkeep.quarantine_bytes.0 || count == ENTRIES_MAX;
        let goes = entry.since.is_some_and(is_over) || is_too_much;
        if goes
            && entry
                .names
                .iter()
                .all(|name| root::remove(&dir, name).is_ok())
        {
            continue;
        }
        (bytes, count) = (with_it, count + 1);
    }
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    volume.tally.quarantined.store(count, Ordering::Relaxed);
    volume
        .tally
        .quarantined_bytes
        .store(bytes, Ordering::Relaxed);
    Ok(())
}

/// When something was put here: the first word of its reason.
fn since(dir: &std::fs::File, note: &str) -> Option<Wall> {
    let file = root::open_file(dir, note).ok()?;
    let text = root::read_small(&file, REASON_BYTES_MAX).ok()?;
    let text = String::from_utf8(text).ok()?;
    text.split_whitespace().next()?.parse().ok()
}
