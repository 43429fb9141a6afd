//! A store on a real disk that is slow, or breaks.
//!
//! I/O: temporary directories, and what [`LoopDisk`] does; dropping a [`SlowDisk`] removes all.

// Support code of tests is a test, which clippy cannot see.
#![allow(clippy::unwrap_used, clippy::unwrap_in_result)]

use super::held_pages::HeldPages;
use super::loop_disk::LoopDisk;
use oca::clock;
use oca::key::Key;
use oca::object::Digest;
use oca::store;
use oca::store::Binding;
use oca::store::DiskClass;
use oca::store::DiskConfig;
use oca::sys::page_cache;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

/// Nothing in these tests takes this long unless it is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// The configuration's default.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// The disk and what a store needs beside it. Field order is drop order.
pub(crate) struct SlowDisk {
    disk: LoopDisk,
    dir: TempDir,
}

impl SlowDisk {
    pub(crate) fn new(megabytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("mount");
        std::fs::create_dir(&place).unwrap();
        let disk = LoopDisk::mount(&dir.path().join("image"), &place, megabytes);
        Self { disk, dir }
    }

    #[allow(dead_code, reason = "for the tests of `peer`")]
    pub(crate) fn mount_point(&self) -> PathBuf {
        self.dir.path().join("mount")
    }

    /// See [`LoopDisk::throttle`].
    pub(crate) fn throttle(&mut self, bytes_per_second: u64) {
        self.disk.throttle(bytes_per_second);
    }

    /// See [`LoopDisk::release`].
    pub(crate) fn release(&mut self) {
        self.disk.release();
    }

    /// See [`LoopDisk::tear_off`].
    pub(crate) fn tear_off(&self, from_megabytes: u64) {
        self.disk.tear_off(from_megabytes);
    }

    /// A store with this disk alone, holding `objects`.
    pub(crate) fn store(&self, deadline: Duration, objects: &[(String, Vec<u8>)]) -> store::Handle {
        let disk = DiskConfig {
            path: self.disk.place().to_owned(),
            class: DiskClass::Ssd,
            zone: oca::store::Zone::None,
            plain_directory: false,
        };
        store_on(disk, self.dir.path(), deadline, objects)
    }

    /// Forgets what is in memory of an object, from a byte on.
    pub(crate) fn forget(&self, object: &[u8], from: u64) {
        forget_in(self.disk.place(), object, from);
    }

    /// Keeps the first `bytes` of an object in memory.
    pub(crate) fn hold(&self, object: &[u8], bytes: u64) -> HeldPages {
        HeldPages::first(&object_path(self.disk.place(), object), bytes)
    }
}

/// A store on a directory.
pub(crate) fn store_in(path: &Path, dir: &Path, objects: &[(String, Vec<u8>)]) -> store::Handle {
    let disk = DiskConfig {
        path: path.to_owned(),
        class: DiskClass::Ssd,
        zone: oca::store::Zone::None,
        plain_directory: true,
    };
    store_on(disk, dir, DEADLINE, objects)
}

fn store_on(
    disk: DiskConfig,
    dir: &Path,
    deadline: Duration,
    objects: &[(String, Vec<u8>)],
) -> store::Handle {
    let store = store::start(&store::Config {
        disks: vec![disk],
        state_dir: dir.join("state"),
        deadline,
        upkeep: store::Upkeep::default(),
    })
    .unwrap();
    let begun = clock::now();
    while !store.is_ready() {
        assert!(begun.elapsed() < PATIENCE, "{:?}", store.view());
        clock::block_for(Duration::from_millis(5));
    }
    let mut rows = BTreeMap::new();
    for (key, bytes) in objects {
        let length = bytes.len() as u64;
        let mut publication = store
            .stage(key.as_bytes(), length, &BTreeSet::new())
            .unwrap();
        publication.write(bytes.clone()).unwrap();
        let published = publication.commit(None).unwrap();
        let binding = Binding {
            digest: published.digest,
            length,
            last_modified: 1_700_000_000,
            rank: 0,
        };
        rows.insert(Key::parse(key.as_bytes()).unwrap(), binding);
    }
    store.bind(&rows).unwrap();
    store
}

/// The file of an object.
pub(crate) fn object_file(disk: &Path, object: &[u8]) -> File {
    File::open(object_path(disk, object)).unwrap()
}

/// Keeps an object in memory.
pub(crate) fn hold_in(disk: &Path, object: &[u8]) -> HeldPages {
    HeldPages::of(&object_path(disk, object))
}

fn object_path(disk: &Path, object: &[u8]) -> PathBuf {
    let name = Digest::of(object).to_string();
    let path = disk.join("objects").join(&name[..2]).join(&name[2..4]);
    path.join(name)
}

pub(crate) fn forget_in(disk: &Path, object: &[u8], from: u64) {
    let file = object_file(disk, object);
    page_cache::drop_cached(&file, from, 0).unwrap();
}
