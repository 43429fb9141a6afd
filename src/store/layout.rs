//! Names on a volume: `DISK.json`, `objects/ab/cd/<digest>`, `<digest>.meta`, `staging/`,
//! `quarantine/`, `manifest`, `index.snapshot`; `manifest.v<n>`, a later release's.
//!
//! The 256 directories `objects/ab` are made when the volume is formatted. The 65,536 below them
//! are not: on a hard disk they cost a minute and 256 MiB of blocks that a small box never fills. A
//! missing `objects/ab/cd` is made, and its parent fsynced, before the data is, so that at the
//! commit point the directory exists and is durable, which is what the publish order needs. That
//! one exists does not say that it is durable (a process may have been killed between mkdir and
//! fsync), so each parent is fsynced at its first use in the life of a process as well.

use super::root;
use super::root::Root;
use crate::object::Digest;
use std::fs::File;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

pub(super) const DISK_FILE: &str = crate::tree::CONTENT_DISK_FILE;
/// A new `DISK.json` before its rename; a crash in the middle of formatting leaves at most this.
pub(super) const DISK_FILE_NEW: &str = "DISK.json.new";
pub(super) const OBJECTS: &str = "objects";
pub(super) const STAGING: &str = "staging";
pub(super) const QUARANTINE: &str = "quarantine";
pub(super) const MANIFEST: &str = "manifest";
pub(super) const MANIFEST_NEW: &str = "manifest.new";
/// Of a disk that catches up.
pub(super) const MANIFEST_COPY: &str = "manifest.copy";
/// What a clean stop leaves: see `snapshot`.
pub(super) const SNAPSHOT: &str = "index.snapshot";
pub(super) const SNAPSHOT_NEW: &str = "index.snapshot.new";

const SIDECAR_SUFFIX: &str = ".meta";
const PARTIAL_SUFFIX: &str = ".part";
const MAP_SUFFIX: &str = ".map";

/// What a name in a fan-out directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Object(Digest),
    Sidecar(Digest),
    Foreign,
}

/// `objects/ab/cd`.
pub(super) fn object_dir(digest: Digest) -> String {
    let hex = digest.to_string();
    format!("{OBJECTS}/{}/{}", &hex[..2], &hex[2..4])
}

pub(super) fn object_path(digest: Digest) -> String {
    format!("{}/{digest}", object_dir(digest))
}

pub(super) fn sidecar_name(digest: Digest) -> String {
    format!("{digest}{SIDECAR_SUFFIX}")
}

/// The sidecar of a staging file.
pub(super) fn staged_sidecar(name: &str) -> String {
    format!("{name}{SIDECAR_SUFFIX}")
}

/// A manifest of format `version`, which is not known here.
pub(super) fn other_manifest(version: u64) -> String {
    format!("{MANIFEST}.v{version}")
}

/// The staging file of an object that is received in pieces.
pub(super) fn partial_name(digest: Digest) -> String {
    format!("{digest}{PARTIAL_SUFFIX}")
}

/// What is known to be durable of it.
pub(super) fn map_name(digest: Digest) -> String {
    format!("{digest}{MAP_SUFFIX}")
}

/// A map before its rename.
pub(super) fn map_new_name(digest: Digest) -> String {
    format!("{digest}{MAP_SUFFIX}.new")
}

/// Whose map a name in staging is.
pub(super) fn mapped(name: &str) -> Option<Digest> {
    name.strip_suffix(MAP_SUFFIX)?.parse().ok()
}

pub(super) fn kind(name: &str) -> Kind {
    match name.strip_suffix(SIDECAR_SUFFIX) {
        Some(hex) => hex.parse().map_or(Kind::Foreign, Kind::Sidecar),
        None => name.parse().map_or(Kind::Foreign, Kind::Object),
    }
}

/// Is this the name of a directory `ab` or `cd` in `objects/ab/cd`?
pub(super) fn is_fan_out(name: &str) -> bool {
    name.len() == 2
        && name
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Which `objects/ab` were fsynced by this process: all that they had then is durable.
#[derive(Debug, Default)]
pub(super) struct FanOut([AtomicU64; 4]);

impl FanOut {
    /// Opens `objects/ab/cd`, which is durable then. `sync` is final when it fails.
    pub(super) fn open(
        &self,
        root: &Root,
        digest: Digest,
        sync: &dyn Fn(&File) -> io::Result<()>,
    ) -> io::Result<File> {
        let path = object_dir(digest);
        let [ab, ..] = digest.0;
        let (word, bit) = (&self.0[usize::from(ab / 64)], 1_u64 << (ab % 64));
        if word.load(Ordering::Acquire) & bit != 0 {
            match root.dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                found => return found,
            }
        }
        // Until the fsync succeeds, this parent is as unknown as one never used.
        word.fetch_and(!bit, Ordering::AcqRel);
        let hex = digest.to_string();
        let parent = root.dir(&format!("{OBJECTS}/{}", &hex[..2]))?;
        root::make_dir(&parent, &hex[2..4])?;
        sync(&parent)?;
        word.fetch_or(bit, Ordering::AcqRel);
        root.dir(&path)
    }

    /// The file system was mounted anew: what memory had of it before says nothing.
    pub(super) fn forget(&self) {
        for word in &self.0 {
            word.store(0, Ordering::Release);
        }
    }
}

/// Makes what is missing of the fixed directories, and all of them durable: that one exists does
/// not say that an earlier process came to its fsync. Removes what a kill has left beside them.
pub(super) fn ensure(root: &Root) -> io::Result<()> {
    for name in [MANIFEST_NEW, MANIFEST_COPY] {
        root::remove(root.top(), name)?;
    }
    for name in [OBJECTS, STAGING, QUARANTINE] {
        root::make_dir(root.top(), name)?;
    }
    let objects = root.dir(OBJECTS)?;
    let names = root::list(root.dir(OBJECTS)?)?;
    let present = names.iter().filter(|name| is_fan_out(&name.text));
    if present.count() < 256 {
        for ab in 0..=255_u8 {
            root::make_dir(&objects, &format!("{ab:02x}"))?;
        }
    }
    objects.sync_all()?;
    root.top().sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_on_disk_are_read_back_and_others_are_foreign() {
        let digest = Digest::of(b"x");
        assert_eq!(kind(&digest.to_string()), Kind::Object(digest));
        assert_eq!(kind(&sidecar_name(digest)), Kind::Sidecar(digest));
        for name in ["", ".meta", "abc", "lost+found", &"A".repeat(64)] {
            assert_eq!(kind(name), Kind::Foreign, "{name}");
        }
        assert!(object_path(digest).starts_with(&object_dir(digest)));
    }

    #[test]
    fn the_layout_is_made_once_and_completed_when_a_part_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        ensure(&root).unwrap();
        std::fs::remove_dir(dir.path().join("objects/7f")).unwrap();
        // A foreign name must not be counted in its place.
        std::fs::write(dir.path().join("objects/foreign"), "").unwrap();
        ensure(&root).unwrap();
        assert!(dir.path().join("objects/7f").is_dir());
    }

    #[test]
    fn a_parent_is_synced_at_its_first_use_and_a_failed_sync_makes_nothing_durable() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        ensure(&root).unwrap();
        let synced = AtomicU64::new(0);
        let good = |_: &File| {
            synced.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        let bad = |_: &File| Err(io::Error::from_raw_os_error(libc::EIO));
        let count = || synced.load(Ordering::Relaxed);
        let mut digest = Digest::of(b"x");
        let fan_out = FanOut::default();
        assert!(fan_out.open(&root, digest, &bad).is_err());
        let made = dir.path().join(object_dir(digest));
        assert!(made.is_dir(), "made, and not known to be durable");
        fan_out.open(&root, digest, &good).unwrap();
        fan_out.open(&root, digest, &good).unwrap();
        assert_eq!(count(), 1);
        digest.0[1] ^= 1;
        fan_out.open(&root, digest, &good).unwrap();
        assert_eq!(count(), 2, "a fresh directory in a known parent");
        // Another process finds both, and knows of neither.
        let fan_out = FanOut::default();
        fan_out.open(&root, digest, &good).unwrap();
        assert_eq!(count(), 3);
    }
}
