//! Disks that had a place in this box and were not there at the start.
//!
//! What such a disk holds nobody knows: it was not scanned. It may be back after a technician's
//! visit, so what was listed at the start and is on no disk is left alone as long as what a lost
//! disk held (`hold`), counted from when the disk was first missed, restarts included. The state
//! directory remembers which disk was where (`place-<hash of the path>.json`); a path that never
//! had a disk of this box is not missed.
//!
//! I/O: small files of the state directory.

use super::copies::StateDir;
use super::core::Shared;
use super::hold::Hold;
use super::state::State;
use super::volume::Volume;
use crate::clock;
use crate::clock::Instant;
use crate::clock::Wall;
use crate::durable;
use crate::lock::lock;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A record has some 200 bytes and a path.
const RECORD_BYTES_MAX: u64 = 8192;

#[derive(Debug, Default)]
pub(super) struct Absent {
    missed: Mutex<BTreeMap<u16, Missed>>,
    listed_below: AtomicU32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Missed {
    /// `None` until somebody vouches for the clock.
    since: Option<Wall>,
    /// The state directory has a record to date.
    is_recorded: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    v: u32,
    path: PathBuf,
    uuid: String,
    /// RFC 3339; none while it is there.
    missed_since: Option<String>,
}

impl Absent {
    /// Objects numbered below were listed when the manifest was loaded.
    pub(super) fn listed_below(&self, number: u32) {
        self.listed_below.fetch_max(number, Ordering::AcqRel);
    }

    /// It went out of service before its scan ended: what it holds is not known. Objects numbered
    /// below were named until then.
    pub(super) fn doubt(&self, volume: u16, number: u32) {
        self.listed_below(number);
        lock(&self.missed).entry(volume).or_default();
    }

    /// It was scanned: what it holds is known from here on.
    pub(super) fn found(&self, volume: u16) {
        lock(&self.missed).remove(&volume);
    }

    /// Tells for how long disks are missed.
    pub(super) fn presume(&self, shared: &Shared, now: Instant, hold: &mut Hold) {
        let is_dated = shared.clock_is_sane.load(Ordering::Acquire);
        let wall = clock::wall();
        let mut fresh = Vec::new();
        let mut missed = lock(&self.missed);
        let gone = missed.iter_mut().map(|(number, missed)| {
            let volume = shared.volume(*number);
            let lost = volume.and_then(|volume| volume.status().lost);
            let here = lost.map_or(Duration::ZERO, |lost| now.saturating_duration_since(lost));
            // Across restarts only the calendar tells, once somebody vouches for it.
            if is_dated && missed.since.is_none() {
                let since = wall.checked_sub(here).unwrap_or(wall);
                missed.since = Some(since);
                fresh.extend(volume.filter(|_| missed.is_recorded).map(|v| (v, since)));
            }
            let dated = missed.since.filter(|_| is_dated);
            let dated = dated.and_then(|since| Duration::try_from(wall.duration_since(since)).ok());
            here.max(dated.unwrap_or_default())
        });
        let below = self.listed_below.load(Ordering::Acquire);
        hold.presume(&shared.upkeep, gone, below);
        // Under the lock: one that is found meanwhile is not dated after that.
        for (volume, since) in fresh {
            date(&shared.state_dir, volume, since);
        }
    }
}

/// After the disks were identified: remembers those that are there and misses those that are not.
pub(super) fn note(shared: &Shared) {
    let identified: Vec<String> = { shared.volumes.iter() }
        .filter_map(|volume| Some(volume.home()?.uuid.clone()))
        .collect();
    for volume in &shared.volumes {
        let will_be_scanned = volume.state() == State::Scanning;
        match volume.home() {
            Some(home) if will_be_scanned => remember(&shared.state_dir, volume, &home.uuid),
            // One that is suspect from an earlier life is here and unknown.
            home => {
                let record = load(&shared.state_dir, volume);
                let moved = record
                    .as_ref()
                    .is_some_and(|r| identified.contains(&r.uuid));
                if let Some(record) = record.filter(|_| !moved || home.is_some()) {
                    miss(shared, volume, record);
                }
            }
        }
    }
}

fn miss(shared: &Shared, volume: &Volume, record: Record) {
    let told = record.missed_since.as_ref();
    // A clock that nobody vouches for may be years behind: what it says is not kept.
    let since: Option<Wall> = told.and_then(|since| since.parse().ok());
    let words = since.map_or_else(|| "this start".to_owned(), |since| since.to_string());
    let (disk, uuid) = (volume.name(), &record.uuid);
    tracing::warn!(
        disk,
        uuid,
        "disk {disk} is missed since {words}: what is listed and on no disk is not fetched again \
         before it had time to come back"
    );
    let is_recorded = true;
    lock(&shared.absent.missed).insert(volume.number, Missed { since, is_recorded });
}

/// Since when it is missed, restarts included.
fn date(state_dir: &StateDir, volume: &Volume, since: Wall) {
    if let Some(record) = load(state_dir, volume) {
        let missed_since = Some(since.to_string());
        let missed = Record {
            missed_since,
            ..record
        };
        keep(state_dir, volume, &missed);
    }
}

/// The disk is where it is.
pub(super) fn remember(state_dir: &StateDir, volume: &Volume, uuid: &str) {
    let record = Record {
        v: 1,
        path: volume.config.path.clone(),
        uuid: uuid.to_owned(),
        missed_since: None,
    };
    keep(state_dir, volume, &record);
}

fn keep(state_dir: &StateDir, volume: &Volume, record: &Record) {
    if load(state_dir, volume).as_ref() == Some(record) {
        return;
    }
    let path = path(state_dir, volume);
    let kept = serde_json::to_vec(record)
        .map_err(io::Error::from)
        .and_then(|text| durable::replace(&path, &text, 0o644));
    if let Err(error) = kept {
        let path = path.display();
        tracing::error!(%error, "{path} cannot be written: {error}; check `state_dir`");
    }
}

fn load(state_dir: &StateDir, volume: &Volume) -> Option<Record> {
    let mut text = Vec::new();
    let file = File::open(path(state_dir, volume)).ok()?;
    file.take(RECORD_BYTES_MAX).read_to_end(&mut text).ok()?;
    let record: Record = serde_json::from_slice(&text).ok()?;
    (record.v == 1 && record.path == volume.config.path).then_some(record)
}

fn path(state_dir: &StateDir, volume: &Volume) -> PathBuf {
    let hash = blake3::hash(volume.config.path.as_os_str().as_encoded_bytes());
    let hex = hash.to_hex();
    state_dir.path.join(format!("place-{}.json", &hex[..16]))
}
