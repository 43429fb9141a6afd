//! Durable steps of the store, told to whoever asked: a test stops the process at each.
//!
//! `writer`, `staged`, `delete`, `copies`, `identity` and `snapshot` report them; the daemon's
//! probe is empty.

use std::sync::Arc;

/// What has just been made durable, or is about to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    DiskFileSynced,
    DiskFileRenamed,
    DirectoryMade,
    Staged,
    DataWritten,
    DataSynced,
    SidecarWritten,
    SidecarSynced,
    SidecarRenamed,
    ObjectRenamed,
    ObjectDirectorySynced,
    StagingSynced,
    ManifestWritten,
    ManifestSynced,
    ManifestRenamed,
    ManifestDirectorySynced,
    PartialMade,
    ChunkBegun,
    ChunkWritten,
    PartialSynced,
    MapWritten,
    MapSynced,
    MapRenamed,
    MapDirectorySynced,
    MapRemoved,
    ObjectUnlinked,
    UnlinkSynced,
    SidecarUnlinked,
    KeptWritten,
    KeptSynced,
    KeptRenamed,
    KeptDirectorySynced,
    SnapshotWritten,
    SnapshotSynced,
    SnapshotRenamed,
    SnapshotDirectorySynced,
    SnapshotRemoved,
}

/// Told of each durable step. The default does nothing; tests end the process in it.
#[derive(Clone, Default)]
pub struct Probe(Option<Arc<dyn Fn(Step) + Send + Sync>>);

impl Step {
    /// Of a prefill on blank disks, in order.
    pub const PREFILLING: [Self; 16] = [
        Self::DiskFileSynced,
        Self::DiskFileRenamed,
        Self::DirectoryMade,
        Self::Staged,
        Self::DataWritten,
        Self::DataSynced,
        Self::SidecarWritten,
        Self::SidecarSynced,
        Self::SidecarRenamed,
        Self::ObjectRenamed,
        Self::ObjectDirectorySynced,
        Self::StagingSynced,
        Self::ManifestWritten,
        Self::ManifestSynced,
        Self::ManifestRenamed,
        Self::ManifestDirectorySynced,
    ];

    /// Of an object that is received in pieces, in order.
    pub const RECEIVING: [Self; 17] = [
        Self::PartialMade,
        Self::ChunkBegun,
        Self::ChunkWritten,
        Self::PartialSynced,
        Self::MapWritten,
        Self::MapSynced,
        Self::MapRenamed,
        Self::MapDirectorySynced,
        Self::DirectoryMade,
        Self::DataSynced,
        Self::SidecarWritten,
        Self::SidecarSynced,
        Self::SidecarRenamed,
        Self::ObjectRenamed,
        Self::ObjectDirectorySynced,
        Self::StagingSynced,
        Self::MapRemoved,
    ];

    /// Of a deletion, in order.
    pub const DELETING: [Self; 7] = [
        Self::ManifestWritten,
        Self::ManifestSynced,
        Self::ManifestRenamed,
        Self::ManifestDirectorySynced,
        Self::ObjectUnlinked,
        Self::UnlinkSynced,
        Self::SidecarUnlinked,
    ];

    /// Of a small file that is kept, in order.
    pub const KEEPING: [Self; 4] = [
        Self::KeptWritten,
        Self::KeptSynced,
        Self::KeptRenamed,
        Self::KeptDirectorySynced,
    ];

    /// Of a clean stop, in order.
    pub const STOPPING: [Self; 4] = [
        Self::SnapshotWritten,
        Self::SnapshotSynced,
        Self::SnapshotRenamed,
        Self::SnapshotDirectorySynced,
    ];
}

impl Probe {
    pub fn new(told: impl Fn(Step) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(told)))
    }

    pub(super) fn reached(&self, step: Step) {
        if let Some(told) = &self.0 {
            told(step);
        }
    }
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() {
            "Probe(set)"
        } else {
            "Probe"
        })
    }
}
