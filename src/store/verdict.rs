//! Is an object what its names say? By the length of its file, or by its sidecar.
//!
//! `scan`, `compare` and `lengths` ask. What is not whole is put aside; what cannot be read is not
//! judged. Bytes are the scrub's.
//!
//! I/O: a stat; reads sidecars; renames what is put aside. On the disk's own threads.

use super::core::Shared;
use super::index::IndexError;
use super::lane::Pulse;
use super::layout;
use super::quarantine;
use super::root;
use super::sidecar;
use super::sidecar::SidecarError;
use super::volume::Volume;
use crate::object::Digest;
use crate::object::OBJECT_BYTES_MAX;
use nix::fcntl::OFlag;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// What became of an object that was looked at.
pub(super) enum Judged {
    /// Its number and its length.
    Whole(u32, u64),
    PutAside,
    /// It stays where it is, and is not served.
    Unread,
}

/// What is looked at of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// It has no sidecar.
    Bare,
    /// The length of its file, beside which there is a sidecar.
    Names,
    Sidecar,
}

/// Why an object cannot be relied on.
pub(super) enum Problem {
    Corrupt(String),
    Unread(io::Error),
}

/// Looks at one object, so deeply. Is it whole, for all that is seen then? One that is not is put
/// aside.
pub(super) fn judge(
    shared: &Shared,
    volume: &Volume,
    pulse: &Pulse,
    dir: &File,
    digest: Digest,
    depth: Depth,
) -> Judged {
    let beat = || pulse.beat(volume.deadline());
    beat();
    let disk = volume.name();
    let vouched = volume.damaged.vouch(digest).map_err(Problem::Corrupt);
    let judged = vouched.and_then(|()| match depth {
        Depth::Bare => Err(bare(dir, digest)),
        Depth::Names => match measure(dir, digest)? {
            // No object is: such a length is never added to any sum.
            length if length > OBJECT_BYTES_MAX => vouch(shared, dir, digest),
            length => match shared.index.number(digest, length) {
                // Another disk, or an earlier look, says otherwise: that copy is looked at, too.
                Err(IndexError::Length { .. }) => {
                    shared.disputes.note(digest);
                    vouch(shared, dir, digest)
                }
                Err(full @ IndexError::Full) => Err(Problem::Unread(io::Error::other(full))),
                Ok(number) => Ok((number, length)),
            },
        },
        Depth::Sidecar => vouch(shared, dir, digest),
    });
    match judged {
        Ok((number, length)) => Judged::Whole(number, length),
        Err(Problem::Corrupt(reason)) => {
            tracing::error!(disk, %digest, "disk {disk}: object {digest} is corrupt: {reason}");
            quarantine::set_aside(shared, volume, digest, &reason, &beat);
            Judged::PutAside
        }
        Err(Problem::Unread(error)) => {
            tracing::error!(disk, %digest, "disk {disk}: object {digest}: {error}; not served");
            volume.census.note(digest);
            shared.note_read_error(volume, digest, &error);
            Judged::Unread
        }
    }
}

/// Number and length of an object whose sidecar vouches for it. Copies that are not as long are to
/// be looked at.
fn vouch(shared: &Shared, dir: &File, digest: Digest) -> Result<(u32, u64), Problem> {
    let length = check(dir, digest)?;
    let index = &shared.index;
    let number = match index.number(digest, length) {
        Err(IndexError::Length { .. }) => index.number_unseen(digest),
        numbered => numbered,
    };
    let number = number.map_err(|full| Problem::Unread(io::Error::other(full)))?;
    if shared.correct(number, length) {
        shared.disputes.note(digest);
    }
    Ok((number, length))
}

/// What is wrong with an object without a sidecar.
fn bare(dir: &File, digest: Digest) -> Problem {
    match measure(dir, digest) {
        Ok(_) => Problem::Corrupt("its sidecar is missing".into()),
        Err(problem) => problem,
    }
}

/// The length of the object's file.
fn measure(dir: &File, digest: Digest) -> Result<u64, Problem> {
    let stat = root::stat(dir, &digest.to_string()).map_err(Problem::Unread)?;
    match stat.is_file {
        true => Ok(stat.length),
        false => Err(Problem::Corrupt("it is not a regular file".into())),
    }
}

/// The object's length, if its sidecar vouches for it.
pub(super) fn check(dir: &File, digest: Digest) -> Result<u64, Problem> {
    let corrupt = |reason: String| Err(Problem::Corrupt(reason));
    let length = measure(dir, digest)?;
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    let bytes = root::open_in(dir, &layout::sidecar_name(digest), flags)
        .and_then(|file| read_sidecar(&file, length));
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(error) if speaks_of_the_file(&error) => {
            return corrupt(format!("its sidecar cannot be read: {error}"));
        }
        Err(error) => return Err(Problem::Unread(error)),
    };
    match sidecar::decode(&bytes, digest) {
        Ok(tree) if tree.length() == length => Ok(length),
        Ok(tree) => corrupt(format!(
            "it is {length} bytes long and should be {}",
            tree.length()
        )),
        // A later release wrote it: its object is not for this one to judge, or to move.
        Err(later @ SidecarError::Version(_)) => Err(Problem::Unread(io::Error::other(later))),
        Err(error) => corrupt(error.to_string()),
    }
}

/// At once, where it is as long as the sidecar of such an object has to be.
fn read_sidecar(file: &File, length: u64) -> io::Result<Vec<u8>> {
    let expected = sidecar::bytes_of(length).min(sidecar::SIDECAR_BYTES_MAX);
    let mut bytes = vec![0; usize::try_from(expected).unwrap_or(0) + 1];
    let count = file.read_at(&mut bytes, 0)?;
    if count as u64 == expected {
        bytes.truncate(count);
        return Ok(bytes);
    }
    root::read_small(file, sidecar::SIDECAR_BYTES_MAX)
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
