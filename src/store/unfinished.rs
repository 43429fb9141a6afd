//! What other boxes may have of an object that is not whole yet.
//!
//! The peer listener asks, after [`Handle::open`] found nothing. SAFETY: partial objects. A chunk
//! counts when this process wrote it verified, or hashed it again after an earlier one claimed it;
//! a claim alone is never given away.
//!
//! I/O: opens the staging file on the disk's readers' thread.

use super::Handle;
use super::ObjectFile;
use super::OpenError;
use super::layout;
use super::root;
use super::staging::Partial;
use super::volume::CallError;
use crate::object::Digest;
use crate::sys::page_cache;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// An object on its way in, at one moment: chunks only come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    pub length: u64,
    /// Verified bytes, whole chunks but for the object's end, in order; neighbours joined.
    pub held: Vec<Range<u64>>,
}

impl Unfinished {
    /// Is all of this there?
    pub fn has(&self, range: &Range<u64>) -> bool {
        let is_in = |held: &Range<u64>| held.start <= range.start && range.end <= held.end;
        self.held.iter().any(is_in)
    }
}

impl Handle {
    /// None: nobody receives it here, and nothing of it is left. No I/O.
    pub fn unfinished(&self, digest: Digest) -> Option<Unfinished> {
        let partial = self.shared().staging.find(digest)?;
        if !partial.volume.state().is_readable() {
            return None;
        }
        // Who receives it waits for the lock: what takes long is done without.
        let written = partial.lock().written.clone();
        let held = written.runs();
        let is_of_use = partial.is_open() || !held.is_empty();
        is_of_use.then_some(Unfinished {
            length: partial.length,
            held,
        })
    }

    /// The file of an unfinished object, of which only what [`Handle::unfinished`] tells may be
    /// read. `NotHeld`: it has been published, or given up.
    pub async fn open_unfinished(&self, digest: Digest) -> Result<Arc<ObjectFile>, OpenError> {
        let shared = self.shared();
        let partial = shared.staging.find(digest).ok_or(OpenError::NotHeld)?;
        let Partial { length, volume, .. } = &*partial;
        if shared.is_stopping() || !volume.state().is_readable() {
            return Err(volume.unavailable(None));
        }
        let opened = volume.read(move |volume| {
            let staging = volume.root()?.dir(layout::STAGING)?;
            root::open_file(&staging, &layout::partial_name(digest))
        });
        match opened.await {
            Ok(Ok(file)) => {
                // As for whole objects: pieces are asked for, not guessed.
                let _ = page_cache::no_readahead(&file);
                Ok(Arc::new(ObjectFile {
                    file,
                    length: *length,
                    digest,
                    volume: volume.number,
                }))
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Err(OpenError::NotHeld),
            Ok(Err(error)) => {
                shared.note_read_error(volume, digest, &error);
                Err(volume.unavailable(Some(error.to_string())))
            }
            Err(error @ (CallError::Busy | CallError::NoAnswer)) => {
                Err(volume.unavailable(Some(error.to_string())))
            }
        }
    }
}

#[cfg(test)]
#[path = "unfinished_tests.rs"]
mod tests;
