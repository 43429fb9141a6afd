//! Brings a chunk into memory, and waits for it.
//!
//! I/O: reads the disk. Runs on the disk's own threads only.

use super::super::ObjectFile;
use super::presence;
use super::presence::Presence;
use crate::sys::page_cache;
use std::io;
use std::os::unix::fs::FileExt;

/// What a kernel takes of one advice at least.
const ADVICE_BYTES: u64 = 64 * 1024;

/// The whole of `length` bytes from `at` is asked for at once, which a disk answers much faster
/// than the small steps in which `sendfile` would; then touched, to wait for it.
pub(super) fn bring(object: &ObjectFile, at: u64, length: u64) -> io::Result<()> {
    // Advice only: the touches find out what became of it.
    let _ = page_cache::will_need(&object.file, at, length);
    touch(object, at, length)?;
    if presence::look(&object.file, at, length) == Presence::Absent {
        // The kernel takes no more of one advice than the disk takes at once.
        for at in pieces(at, length, ADVICE_BYTES) {
            let _ = page_cache::will_need(&object.file, at, ADVICE_BYTES);
        }
        touch(object, at, length)?;
    }
    Ok(())
}

/// One byte of each page: requests end in any order, and `sendfile` waits for a page that has not
/// come, on a disk that hangs for ever. Nothing tells so of pages but reading them.
fn touch(object: &ObjectFile, at: u64, length: u64) -> io::Result<()> {
    let last = at + length.max(1) - 1;
    for at in pieces(at, length, page_cache::page_bytes()).chain([last]) {
        match object.file.read_exact_at(&mut [0], at) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(shorter(at));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn pieces(at: u64, length: u64, stride: u64) -> impl Iterator<Item = u64> {
    let stride = usize::try_from(stride).unwrap_or(usize::MAX);
    (at..at + length).step_by(stride)
}

/// Reads some bytes, at least one, into memory of our own.
pub(super) fn copy(object: &ObjectFile, at: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length.max(1)).unwrap_or(usize::MAX)];
    let count = object.file.read_at(&mut bytes, at)?;
    if count == 0 {
        return Err(shorter(at));
    }
    bytes.truncate(count);
    Ok(bytes)
}

fn shorter(at: u64) -> io::Error {
    let text = format!("the file ends at or before byte {at}, short of its object's length");
    io::Error::new(io::ErrorKind::UnexpectedEof, text)
}
