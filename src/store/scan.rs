//! The scan at start: one stat and one sidecar an object, and the index is there.
//!
//! `open` runs it on the writers' thread of each disk, side by side. An object without a valid
//! sidecar of its length is set aside and named; what a crash left in `staging/` is kept
//! where it can be gone on with, and removed elsewhere.
//! Bytes are not hashed here: millions of objects must be ready in minutes.
//!
//! I/O: reads the whole tree of one disk.

use super::core::Shared;
use super::core::set_aside;
use super::lane::Pulse;
use super::layout;
use super::layout::Kind;
use super::root;
use super::root::Root;
use super::sidecar;
use super::staging;
use super::state::Event;
use super::state::State;
use super::volume::Volume;
use crate::clock;
use crate::object::Digest;
use nix::fcntl::OFlag;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Foreign names are counted, and the first few named.
const FOREIGN_SHOWN: u64 = 3;

#[derive(Debug, Default)]
struct Found {
    objects: u64,
    corrupt: u64,
    orphans: u64,
    foreign: u64,
}

/// Why an object is not indexed.
enum Verdict {
    Corrupt(String),
    Failed(io::Error),
}

/// Fills the index from one volume and reports it as scanned.
pub(super) fn scan(shared: &Shared, volume: &Arc<Volume>, pulse: &Pulse) {
    let started = clock::now();
    let mut found = Found::default();
    let outcome = run(shared, volume, pulse, &mut found);
    let disk = volume.name();
    let ms = u64::try_from(clock::now().duration_since(started).as_millis()).unwrap_or(0);
    let (objects, corrupt) = (found.objects, found.corrupt);
    match outcome {
        Ok(read_only) => {
            tracing::info!(
                disk,
                objects,
                corrupt,
                ms,
                "disk {disk}: {objects} objects found"
            );
            let reason = if read_only { "mounted read-only" } else { "" };
            volume.report(shared, Event::Scanned { read_only }, reason);
        }
        Err(error) => {
            let reason = format!("a directory cannot be read: {error}; check the file system");
            volume.report(shared, Event::Broken, &reason);
        }
    }
}

fn run(
    shared: &Shared,
    volume: &Arc<Volume>,
    pulse: &Pulse,
    found: &mut Found,
) -> io::Result<bool> {
    let root = volume.root()?;
    let space = root.space()?;
    volume.note_space(space);
    count_quarantine(root, volume)?;
    for outer in fan_out(root, volume, layout::OBJECTS, found)? {
        for path in fan_out(root, volume, &outer, found)? {
            if shared.is_stopping() || volume.state() == State::Suspect {
                return Ok(space.read_only);
            }
            pulse.beat(volume.deadline());
            let Some(dir) = enter(root, volume, &path, found)? else {
                continue;
            };
            let names = root::list(dir.try_clone()?)?;
            directory(shared, volume, pulse, &dir, &names, found);
        }
    }
    if found.foreign + found.orphans > 0 {
        let (disk, foreign, orphans) = (volume.name(), found.foreign, found.orphans);
        tracing::warn!(
            disk,
            "disk {disk}: {foreign} foreign names ignored, {orphans} lone sidecars removed"
        );
    }
    if !space.read_only {
        // Last, so that what was published is known.
        staging::sift(shared, volume, pulse)?;
    }
    Ok(space.read_only)
}

/// The paths of the two-digit directories in `path`. Whatever else somebody left there is foreign:
/// it harms nobody, and is no reason to take the disk out of service.
fn fan_out(root: &Root, volume: &Volume, path: &str, found: &mut Found) -> io::Result<Vec<String>> {
    let Some(dir) = enter(root, volume, path, found)? else {
        return Ok(Vec::new());
    };
    let mut paths = Vec::new();
    for name in root::list(dir)? {
        let path = format!("{path}/{}", name.text);
        if layout::is_fan_out(&name.text) {
            paths.push(path);
        } else {
            note_foreign(volume, &path, found);
        }
    }
    Ok(paths)
}

/// Opens a directory; `None` if a file, a link or another file system is in its place.
fn enter(root: &Root, volume: &Volume, path: &str, found: &mut Found) -> io::Result<Option<File>> {
    match root.dir(path) {
        Ok(dir) => Ok(Some(dir)),
        Err(error)
            if path != layout::OBJECTS
                && matches!(
                    error.raw_os_error(),
                    Some(libc::ENOTDIR | libc::ELOOP | libc::EXDEV)
                ) =>
        {
            note_foreign(volume, path, found);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn note_foreign(volume: &Volume, name: &str, found: &mut Found) {
    found.foreign += 1;
    if found.foreign <= FOREIGN_SHOWN {
        let shown = crate::help::printable(name.as_bytes(), 80);
        tracing::warn!(disk = volume.name(), "`{shown}` is no object; ignored");
    }
}

/// One `objects/ab/cd`.
fn directory(
    shared: &Shared,
    volume: &Volume,
    pulse: &Pulse,
    dir: &File,
    names: &[root::Name],
    found: &mut Found,
) {
    let mut sidecars = BTreeSet::new();
    for name in names {
        match layout::kind(&name.text) {
            Kind::Sidecar(digest) => {
                sidecars.insert(digest);
            }
            Kind::Object(_) => {}
            Kind::Foreign => note_foreign(volume, &name.text, found),
        }
    }
    for name in names {
        let Kind::Object(digest) = layout::kind(&name.text) else {
            continue;
        };
        pulse.beat(volume.deadline());
        let held = sidecars.remove(&digest);
        match check(dir, &name.text, digest, held).and_then(|length| {
            let number = shared.index.number(digest, length);
            number.map_err(|error| Verdict::Corrupt(error.to_string()))
        }) {
            Ok(number) => {
                found.objects += 1;
                shared.add(number, volume);
            }
            Err(Verdict::Corrupt(reason)) => {
                found.corrupt += 1;
                let disk = volume.name();
                tracing::error!(disk, %digest, "disk {disk}: object {digest} is corrupt: {reason}");
                set_aside(volume, digest, &reason);
            }
            Err(Verdict::Failed(error)) => {
                let disk = volume.name();
                tracing::error!(disk, %digest, "disk {disk}: object {digest}: {error}; not served");
                shared.note_read_error(volume, digest, &error);
            }
        }
    }
    // A crash between the rename of a sidecar and that of its object leaves the first alone.
    for digest in sidecars {
        found.orphans += 1;
        // On a read-only disk it stays, and harms nobody.
        let _ = root::remove(dir, &layout::sidecar_name(digest));
    }
}

/// The object's length, if its sidecar vouches for it.
fn check(dir: &File, name: &str, digest: Digest, has_sidecar: bool) -> Result<u64, Verdict> {
    let corrupt = |reason: String| Err(Verdict::Corrupt(reason));
    let stat = root::stat(dir, name).map_err(Verdict::Failed)?;
    if !stat.is_file {
        return corrupt("it is not a regular file".into());
    }
    if !has_sidecar {
        return corrupt("its sidecar is missing".into());
    }
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    let bytes = root::open_in(dir, &layout::sidecar_name(digest), flags)
        .and_then(|file| root::read_small(&file, sidecar::SIDECAR_BYTES_MAX));
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(error) if speaks_of_the_file(&error) => {
            return corrupt(format!("its sidecar cannot be read: {error}"));
        }
        Err(error) => return Err(Verdict::Failed(error)),
    };
    match sidecar::decode(&bytes, digest) {
        Ok(tree) if tree.length() == stat.length => Ok(stat.length),
        Ok(tree) => corrupt(format!(
            "it is {} bytes long and should be {}",
            stat.length,
            tree.length()
        )),
        Err(error) => corrupt(error.to_string()),
    }
}

/// Is the sidecar itself wrong? Anything else (descriptors or memory used up, no permission, a
/// sick disk) says nothing about the object, which must not be thrown away for it.
fn speaks_of_the_file(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
        || matches!(
            error.raw_os_error(),
            Some(libc::ELOOP | libc::EXDEV | libc::EISDIR | libc::ENOENT)
        )
}

fn count_quarantine(root: &Root, volume: &Volume) -> io::Result<()> {
    let names = root::list(root.dir(layout::QUARANTINE)?)?;
    let notes = names.iter().filter(|name| name.text.ends_with(".reason"));
    let count = u64::try_from(notes.count()).unwrap_or(u64::MAX);
    volume.tally.quarantined.store(count, Ordering::Relaxed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_descriptors_or_permission_condemns_no_object() {
        for code in [
            libc::EMFILE,
            libc::ENFILE,
            libc::ENOMEM,
            libc::EACCES,
            libc::EIO,
        ] {
            let error = io::Error::from_raw_os_error(code);
            assert!(!speaks_of_the_file(&error), "{error}");
        }
        for code in [libc::ELOOP, libc::EISDIR] {
            let error = io::Error::from_raw_os_error(code);
            assert!(speaks_of_the_file(&error), "{error}");
        }
    }
}
