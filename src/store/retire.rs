//! A disk that is to leave the box: it takes no more objects, and what it has goes to the others.
//!
//! `oca disk retire PATH` → [`Handle::retire`] records it (`retiring-<uuid>.json` in the state
//! directory, beside what `suspects` knows) → `place` passes the disk over, also after a restart →
//! `mover` relocates its objects, the most popular first → `oca show disks` says how much is left,
//! and that it may be pulled when nothing is. Viewers are served from it until then. The record
//! goes by the disk's uuid: one that takes its place is not concerned.
//!
//! I/O: a small file of the state directory.

use super::Handle;
use super::copies::StateDir;
use super::core::Shared;
use super::order;
use super::view;
use super::volume::Volume;
use crate::clock;
use crate::durable;
use crate::lock::lock;
use crate::units::Bytes;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

/// A record has some 200 bytes.
const RECORD_BYTES_MAX: u64 = 4096;

/// A disk on its way out, as `oca show disks` tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RetireView {
    /// `retiring`, or `retired`: it may be pulled.
    pub state: &'static str,
    /// RFC 3339, when the operator said so.
    pub since: String,
    /// What no other disk has yet …
    pub objects_left: u64,
    pub bytes_left: u64,
    /// … and what of it has no room on any.
    pub no_room_objects: u64,
    pub no_room_bytes: u64,
    /// Since the start of the process.
    pub objects_moved: u64,
    pub bytes_moved: u64,
    /// Why it does not go on, or what to do next.
    pub reason: Option<String>,
}

/// Whether a disk retires, and how far that is.
#[derive(Debug, Default)]
pub(super) struct Retire {
    /// Asked wherever an object is placed.
    is_on: AtomicBool,
    view: Mutex<RetireView>,
}

/// Why a disk does not retire, or goes on retiring.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetireError {
    #[error("{0} is the path of no [[disk]]; `oca show disks` lists them")]
    Unknown(String),
    #[error("disk {disk} is {state}, so it is not known which disk it is: {remedy}")]
    Unidentified {
        disk: String,
        state: &'static str,
        remedy: &'static str,
    },
    #[error("disk {disk} does not retire: there is nothing to undo")]
    NotRetiring { disk: String },
    #[error("that disk {disk} {what} cannot be kept in {path}: {problem}; check `state_dir`")]
    State {
        disk: String,
        what: &'static str,
        path: PathBuf,
        problem: String,
    },
}

impl Handle {
    /// The disk takes no more objects, restarts included, and those it has go to the other disks;
    /// `undo` ends that. A disk that retires already goes on. Blocks for a small file: for threads
    /// outside runtimes.
    pub fn retire(&self, path: &Path, undo: bool) -> Result<RetireView, RetireError> {
        let shared = self.shared();
        let volume = order::disk_at(shared, path).map_err(RetireError::Unknown)?;
        let disk = volume.name();
        let Some(home) = volume.home() else {
            return Err(RetireError::Unidentified {
                disk,
                state: volume.state().as_str(),
                remedy: "`oca show disks` says what to do about that first",
            });
        };
        let retire = &volume.retire;
        let (uuid, was_on) = (&home.uuid, retire.is_on());
        match (undo, was_on) {
            (true, false) => return Err(RetireError::NotRetiring { disk }),
            // Once more, at once.
            (false, true) => retire.show(|view| {
                (view.no_room_objects, view.no_room_bytes) = (0, 0);
                view.reason = None;
            }),
            (true, true) => {
                let what = "does not retire any more";
                let removed = remove(&shared.state_dir, uuid);
                removed.map_err(|error| not_kept(shared, (disk.clone(), uuid), what, &error))?;
                retire.set(None);
                tracing::warn!(disk, uuid, "disk {disk} does not retire any more");
            }
            (false, false) => {
                let since = clock::wall().to_string();
                let kept = record(&shared.state_dir, uuid, &disk, &since);
                kept.map_err(|error| not_kept(shared, (disk.clone(), uuid), "retires", &error))?;
                retire.set(Some(since));
                tracing::warn!(
                    disk,
                    uuid,
                    "disk {disk} retires: its objects go to the others"
                );
            }
        }
        shared.mover.wake();
        // Who asked sees it.
        view::refresh_disks(shared);
        Ok(volume.retire_view().unwrap_or_default())
    }
}

impl Retire {
    /// Reads whether the disk retires. Before its home is set: nobody places anything there.
    pub(super) fn load(&self, state_dir: &StateDir, uuid: &str) {
        self.set(recorded(state_dir, uuid));
    }

    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Acquire)
    }

    fn set(&self, since: Option<String>) {
        let mut view = lock(&self.view);
        self.is_on.store(since.is_some(), Ordering::Release);
        *view = RetireView {
            state: "retiring",
            since: since.unwrap_or_default(),
            ..RetireView::default()
        };
    }

    pub(super) fn show(&self, change: impl FnOnce(&mut RetireView)) {
        change(&mut lock(&self.view));
    }
}

impl Volume {
    /// May an object be placed here?
    pub(super) fn takes_objects(&self) -> bool {
        self.state().is_writable() && !self.retire.is_on()
    }

    /// How far it is. `None`: it does not retire.
    pub(super) fn retire_view(&self) -> Option<RetireView> {
        if !self.retire.is_on() {
            return None;
        }
        let mut view = lock(&self.retire.view).clone();
        let held = self.tally.objects.load(Ordering::Relaxed);
        if view.state == "retired" && self.state().is_writable() && held > 0 {
            // It landed there since, and the mover has not come back to this disk.
            (view.state, view.reason) = ("retiring", None);
        }
        if view.state != "retired" && view.reason.is_none() && view.objects_left == 0 {
            // Before the mover has looked: all that is known.
            let tally = &self.tally;
            view.objects_left = tally.objects.load(Ordering::Relaxed);
            view.bytes_left = tally.bytes.load(Ordering::Relaxed);
        }
        if view.no_room_objects > 0 {
            let (objects, bytes) = (view.no_room_objects, Bytes(view.no_room_bytes));
            view.reason = Some(format!(
                "the other disks have no room for {objects} objects with {bytes}: add a disk, or \
                 `oca disk retire --undo`"
            ));
        }
        Some(view)
    }
}

fn path(state_dir: &StateDir, uuid: &str) -> PathBuf {
    state_dir.path.join(format!("retiring-{uuid}.json"))
}

/// Durable before anybody is told.
fn record(state_dir: &StateDir, uuid: &str, disk: &str, since: &str) -> io::Result<()> {
    let record = json!({ "v": 1, "uuid": uuid, "disk": disk, "since": since });
    let text = format!("{record}\n");
    durable::replace(&path(state_dir, uuid), text.as_bytes(), 0o644)
}

fn remove(state_dir: &StateDir, uuid: &str) -> io::Result<()> {
    match std::fs::remove_file(path(state_dir, uuid)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => state_dir.dir.sync_all(),
    }
}

/// Since when it retires. A record that cannot be read counts: nobody removed it.
fn recorded(state_dir: &StateDir, uuid: &str) -> Option<String> {
    use std::io::Read as _;
    let mut text = Vec::new();
    let opened = std::fs::File::open(path(state_dir, uuid));
    match opened.and_then(|file| file.take(RECORD_BYTES_MAX).read_to_end(&mut text)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Ok(_) | Err(_) => {}
    }
    let record: Value = serde_json::from_slice(&text).unwrap_or_default();
    let since = record["since"].as_str().unwrap_or("unknown");
    Some(crate::help::printable(since.as_bytes(), 64))
}

fn not_kept(
    shared: &Shared,
    (disk, uuid): (String, &str),
    what: &'static str,
    error: &io::Error,
) -> RetireError {
    RetireError::State {
        disk,
        what,
        path: path(&shared.state_dir, uuid),
        problem: error.to_string(),
    }
}
