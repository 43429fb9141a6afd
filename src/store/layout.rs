//! Names on a volume: `DISK.json`, `objects/ab/cd/<digest>`, `<digest>.meta`, `staging/`,
//! `quarantine/`, `manifest`.
//!
//! The 256 directories `objects/ab` are made when the volume is formatted. The 65,536 below them
//! are not: on a hard disk they cost a minute and 256 MiB of blocks that a small box never fills. A
//! missing `objects/ab/cd` is made, and its parent fsynced, *before* anything is staged, so that at
//! the commit point the directory exists and is durable, which is what the publish order needs.

use super::root;
use super::root::Root;
use crate::object::Digest;
use std::fs::File;
use std::io;

pub(super) const DISK_FILE: &str = "DISK.json";
/// A new `DISK.json` before its rename; a crash in the middle of formatting leaves at most this.
pub(super) const DISK_FILE_NEW: &str = "DISK.json.new";
pub(super) const OBJECTS: &str = "objects";
pub(super) const STAGING: &str = "staging";
pub(super) const QUARANTINE: &str = "quarantine";
pub(super) const MANIFEST: &str = "manifest";
pub(super) const MANIFEST_NEW: &str = "manifest.new";

const SIDECAR_SUFFIX: &str = ".meta";

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

/// Makes what is missing of the fixed directories and makes them durable.
pub(super) fn ensure(root: &Root) -> io::Result<()> {
    let mut made = false;
    for name in [OBJECTS, STAGING, QUARANTINE] {
        made |= root::make_dir(root.top(), name)?;
    }
    let objects = root.dir(OBJECTS)?;
    let names = root::list(root.dir(OBJECTS)?)?;
    let present = names.iter().filter(|name| is_fan_out(&name.text));
    if present.count() < 256 {
        for ab in 0..=255_u8 {
            root::make_dir(&objects, &format!("{ab:02x}"))?;
        }
        objects.sync_all()?;
        made = true;
    }
    if made {
        root.top().sync_all()?;
    }
    Ok(())
}

/// Opens `objects/ab/cd`, making it durable first if it is missing.
pub(super) fn open_object_dir(root: &Root, digest: Digest) -> io::Result<File> {
    let path = object_dir(digest);
    match root.dir(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return found,
    }
    let hex = digest.to_string();
    let parent = root.dir(&format!("{OBJECTS}/{}", &hex[..2]))?;
    root::make_dir(&parent, &hex[2..4])?;
    parent.sync_all()?;
    root.dir(&path)
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
        open_object_dir(&root, Digest::of(b"x")).unwrap();
        assert!(dir.path().join(object_dir(Digest::of(b"x"))).is_dir());
    }
}
