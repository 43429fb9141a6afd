//! What is on the disks: objects, found by key, opened for reading, published whole.
//!
//! Path of an object: [`prefill`] (or a fill) → [`place`] chooses a volume → [`writer`] stages,
//! makes durable and renames → [`index`] knows it → [`Handle::find`] and [`Handle::open`] serve it.
//! At start [`volume`] checks identity and locks each disk, and a scan per disk fills the index.
//! Asynchronous reads of cold pages (`residency`), moves, eviction and scrub come with later work.

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
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DiskConfig {
    pub path: PathBuf,
    pub class: DiskClass,
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

/// What a key leads to. Cheap to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub digest: Digest,
    pub length: u64,
    /// Seconds since the Unix epoch, from the manifest.
    pub last_modified: u64,
    pub rank: u32,
}

/// An open, verified, immutable object.
#[derive(Debug)]
pub struct ObjectFile {
    pub file: std::fs::File,
    pub length: u64,
    pub digest: Digest,
    pub volume: u16,
}

/// Why an object cannot be read now. `serve` answers 404 to the first, 503 to the others.
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
    pub disks: Vec<DiskView>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ManifestView {
    pub epoch: u64,
    pub generation: u64,
    pub keys: u64,
    /// Keys whose object no readable disk holds.
    pub missing: u64,
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

/// The store could not be opened at all (one bad disk is not an error: it shows in [`View`]).
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{path}: {problem}")]
    State { path: PathBuf, problem: String },
}

/// Everybody's way to the store. Clones share it.
#[derive(Clone, Debug)]
pub struct Handle {
    _inner: Arc<()>,
}

/// Opens, identifies and locks the disks and starts their scans; returns before they end.
/// A disk that is refused shows in the view with the remedy; the others go on.
pub fn start(config: &Config) -> Result<Handle, StoreError> {
    let _ = config;
    todo!()
}

impl Handle {
    /// What `key` names, if the manifest has it and a readable disk holds it. No I/O, no allocation.
    pub fn find(&self, key: &str) -> Option<Entry> {
        let _ = key;
        todo!()
    }

    /// Opens an object for reading, on its disk's own thread and within the deadline.
    pub async fn open(&self, digest: Digest) -> Result<Arc<ObjectFile>, OpenError> {
        let _ = digest;
        todo!()
    }

    /// A read of an open object failed: the disk's health and the object's fate are the store's.
    pub fn read_failed(&self, object: &ObjectFile, error: &std::io::Error) {
        let _ = (object, error);
        todo!()
    }

    pub fn view(&self) -> Arc<View> {
        todo!()
    }

    /// Told of each new view.
    pub fn subscribe(&self) -> tokio::sync::watch::Receiver<Arc<View>> {
        todo!()
    }

    /// Rows in key order: those whose key starts with `prefix` and is greater than `after`.
    pub fn catalogue(&self, prefix: &str, after: Option<&str>, most: usize) -> Vec<CatalogueRow> {
        let _ = (prefix, after, most);
        todo!()
    }

    /// Every scan has ended.
    pub async fn ready(&self) {
        todo!()
    }

    /// Stops the disk threads and releases the locks.
    pub fn stop(&self) {
        todo!()
    }
}
