//! What is on the disks: objects, found by key, opened for reading, published whole.
//!
//! Path of an object: [`prefill`] (or a fill) → `place` chooses a volume by `speed` and by
//! `rendezvous` → `writer` stages, makes
//! durable and renames → `index` knows it → `manifest` binds keys to it (`adopt`: as the control
//! plane signed it), `copies` keeps that and `catch_up` mends it → [`Handle::find`] and
//! [`Handle::open`] serve it (`opener`: from which of several disks).
//! A fill [`Handle::receive`]s: `staging` says who may go on with what, `staged` takes chunks,
//! `landing` is what the disk's threads do with them, `writes` how, and `partial` the map of what
//! is durable. `query` compares manifest and disks: what is wanted, what is surplus; `delete`
//! forgets and unlinks the latter. `journal` tells what came and went, `kept` keeps small state of
//! others.
//! At start (`open`) `identity` checks and locks each disk and a `scan` per disk fills the index.
//! After a clean stop it reads a `snapshot` instead, whose names `compare` looks at again behind
//! the viewers; `census` knows where disk and index may differ. Whether an object is what its names
//! say is a `verdict`; whose length is disputed, `lengths` has looked at.
//! Copies count on disks of this box (`ours`), objects on any. `watcher` looks after all disks.
//! A disk that was refused is looked at again (`comeback`), and so is a suspect one that was
//! mounted anew or that somebody looked at (`recheck`); what a lost one held, or one that was not
//! there at the start (`absent`), is not fetched again at once (`hold`). Whether a disk is there is
//! asked all the time (`alive`); what is damaged and cannot be moved is remembered (`damaged`).
//! A `volume` is one disk: its `root` descriptor, its threads (`lane`) and its `state`.
//! What viewers read and is not in memory, `residency` brings there, on threads of the disk.
//! An object goes from one disk to another by `relocate`, when `mover` says so: `retire` empties a
//! disk that is to leave, and `arrange` plans what goes where as ranks move.
//! What lies on a disk is read again and verified by `scrub`, and by `audit` when it is asked for;
//! what is damaged goes to `quarantine`.

mod absent;
mod adopt;
mod alive;
mod arrange;
mod audit;
mod catch_up;
mod census;
mod comeback;
mod compare;
mod copies;
mod core;
mod damaged;
mod delete;
mod handle;
mod hold;
mod identity;
mod index;
mod journal;
mod kept;
mod key_hash;
mod landing;
mod lane;
mod layout;
mod lengths;
mod manifest;
mod manifest_file;
mod mover;
mod open;
mod opener;
mod order;
mod ours;
#[cfg(test)]
mod ours_tests;
mod partial;
mod place;
pub mod prefill;
mod quarantine;
#[cfg(test)]
mod quarantine_tests;
mod query;
mod recheck;
mod record;
mod relocate;
mod rendezvous;
mod residency;
mod retire;
mod root;
mod scan;
mod scrub;
mod sidecar;
mod snapshot;
mod speed;
mod staged;
mod staging;
mod state;
mod step;
mod suspects;
mod table;
#[cfg(test)]
mod tests_support;
mod unfinished;
mod upkeep;
mod verdict;
mod view;
mod volume;
mod watcher;
mod writer;
mod writes;

pub use adopt::AdoptError;
pub use adopt::Adopted;
pub use adopt::RefusedRow;
pub use audit::AuditBuffer;
pub use audit::AuditError;
pub use census::ScanView;
pub use handle::BindError;
pub use index::VOLUMES_MAX;
pub use journal::Changes;
pub use kept::KEPT_BYTES_MAX;
pub use manifest::Binding;
pub use manifest::UNLISTED_RANK;
pub use mover::MovedView;
pub use mover::MovesView;
pub use mover::Night;
pub use order::DiskOrderError;
pub use query::Room;
pub use query::Wanted;
pub use residency::CHUNK_BYTES;
pub use residency::ColdView;
pub use residency::FillError;
pub use residency::Fills;
pub use residency::Household;
pub use residency::Reader;
pub use residency::Supply;
pub use residency::Urgency;
pub use retire::RetireError;
pub use retire::RetireView;
pub use root::is_medium_error;
pub use scrub::ScrubView;
pub use sidecar::OBJECT_BYTES_MAX;
pub use sidecar::encode as encode_sidecar;
pub use staged::Staged;
pub use state::FAILED_OBJECTS_MAX;
pub use state::FAILURE_WINDOW;
pub use step::Probe;
pub use step::Step;
pub use unfinished::Unfinished;
pub use upkeep::Upkeep;
pub use writer::Publication;
pub use writer::PublishError;
pub use writer::Published;

use crate::object::Digest;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// `[[disk]]` and the node state directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    pub disks: Vec<DiskConfig>,
    /// Small node state: manifest, drain, boot facts. Default `/var/lib/oca`.
    pub state_dir: PathBuf,
    /// A metadata call that takes longer isolates its volume (SAFETY: a sick disk harms only
    /// itself). Default 10 s.
    pub deadline: Duration,
    pub upkeep: Upkeep,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DiskConfig {
    pub path: PathBuf,
    pub class: DiskClass,
    pub zone: Zone,
    /// Accept a directory that is not a mount point (laboratories, the demo).
    pub plain_directory: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskClass {
    Nvme,
    Ssd,
    Hdd,
}

/// Which part of a hard disk a volume is: partitions of one disk differ in speed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Zone {
    /// All of it, or no hard disk.
    #[default]
    None,
    /// Its first half: at the rim, where a turn passes more bytes.
    Outer,
    Inner,
}

/// What a key leads to. Cheap to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub digest: Digest,
    pub length: u64,
    /// Seconds since the Unix epoch, from the manifest.
    pub last_modified: u64,
    pub rank: u32,
}

/// What [`Handle::find`] says of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    Found(Entry),
    /// The box should hold it, but no readable disk does at present: a scan runs, a disk is out of
    /// service, the object was lost, or the manifest is not loaded yet.
    Unavailable,
    /// The manifest has no such key.
    Unknown,
}

impl Finding {
    pub fn entry(self) -> Option<Entry> {
        match self {
            Self::Found(entry) => Some(entry),
            Self::Unavailable | Self::Unknown => None,
        }
    }
}

/// An open, verified, immutable object.
#[derive(Debug)]
pub struct ObjectFile {
    pub file: std::fs::File,
    pub length: u64,
    pub digest: Digest,
    pub volume: u16,
}

/// Why an object cannot be read now. `serve` answers 503: the manifest has led it here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("not held")]
    NotHeld,
    #[error("disk {disk} is {state}: {reason}")]
    Unavailable {
        disk: String,
        state: &'static str,
        reason: String,
    },
}

/// One disk as `oca show disks` tells it.
#[derive(Clone, Debug, Serialize)]
pub struct DiskView {
    pub path: PathBuf,
    pub uuid: Option<String>,
    pub class: DiskClass,
    pub zone: Zone,
    /// `scanning`, `online`, `read-only`, `suspect`, `isolated`, `refused`.
    pub state: &'static str,
    /// Why it is not online, with the remedy.
    pub reason: Option<String>,
    /// RFC 3339, when it entered this state.
    pub since: String,
    pub objects: u64,
    pub bytes: u64,
    pub free: u64,
    pub quarantined: u64,
    pub quarantined_bytes: u64,
    /// How fills write: `direct io_uring`, `direct`, `buffered`; `None` before it was tried.
    pub writes: Option<&'static str>,
    pub cold: ColdView,
    pub scrub: ScrubView,
    pub scan: ScanView,
    /// `None`: it does not retire.
    pub retire: Option<RetireView>,
}

/// The store at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct View {
    /// Grows with each change of what viewers can be served.
    pub generation: u64,
    /// Keys of the manifest whose objects are held.
    pub objects: u64,
    pub bytes: u64,
    pub manifest: Option<ManifestView>,
    /// False until it was read from the disks: `None` means nothing before.
    #[serde(skip)]
    pub manifest_loaded: bool,
    pub disks: Vec<DiskView>,
    pub moves: MovesView,
}

#[derive(Clone, Debug, Serialize)]
pub struct ManifestView {
    /// 0: the box's own, from local bindings; otherwise the control plane's.
    pub epoch: u64,
    /// As it was signed; in epoch 0 it counts local bindings.
    pub generation: u64,
    pub keys: u64,
    /// Keys whose object no readable disk holds.
    pub missing: u64,
}

/// What [`Handle::held`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub generation: u64,
    /// Each once, in no order.
    pub digests: Vec<Digest>,
}

/// One row of `oca show catalogue`.
#[derive(Clone, Debug, Serialize)]
pub struct CatalogueRow {
    pub key: String,
    pub digest: Digest,
    pub bytes: u64,
    /// Path of the disk; `None` when no readable disk holds it.
    pub disk: Option<PathBuf>,
    pub rank: u32,
}

/// The store could not be opened at all (one bad disk is not an error: it shows in [`View`]), or
/// its own state cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{path}: {problem}; check `[appliance] state_dir` and its file system")]
    State { path: PathBuf, problem: String },
    #[error("{path} is in use by another oca process{by}; stop that one, or send it the command")]
    Locked { path: PathBuf, by: String },
    #[error("{configured} disks are configured; at most {VOLUMES_MAX} are possible")]
    TooManyDisks { configured: usize },
    #[error("cannot start a thread: {0}; check the limit of tasks")]
    Thread(std::io::Error),
}

/// Everybody's way to the store. Clones share it; the last one stops it.
#[derive(Clone, Debug)]
pub struct Handle {
    inner: Arc<handle::Guard>,
}

/// Opens, identifies and locks the disks and starts their scans; returns before they end. A blank
/// disk is formatted. A disk that is refused shows in the view with the remedy; the others go on.
/// Blocks for at most the deadline when a disk hangs.
pub fn start(config: &Config) -> Result<Handle, StoreError> {
    start_probed(config, &Probe::default())
}

/// As [`start`], telling `probe` of each durable step: for tests that end the process there.
pub fn start_probed(config: &Config, probe: &Probe) -> Result<Handle, StoreError> {
    let shared = open::start(config, probe)?;
    Ok(Handle {
        inner: Arc::new(handle::Guard(shared)),
    })
}
