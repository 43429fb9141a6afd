//! Memory for chunks, used again: a fresh 256 KiB from the system is 64 page faults each time.
//!
//! [`super::gather`] takes one a chunk; it comes back when the disk's thread has written it.
//! Never waits: without a used one there is a fresh one.

use crate::object::CHUNK_BYTES;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

/// Kept while nobody needs them: 8 MiB, what eight streams have under way on average.
const IDLE_MAX: usize = 32;

#[derive(Clone, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// A chunk's bytes, which lend their memory.
struct Lent {
    bytes: Vec<u8>,
    buffers: Buffers,
}

impl Buffers {
    /// Empty, with room for `length` bytes.
    pub(super) fn take(&self, length: usize) -> Vec<u8> {
        let used = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut bytes = used.unwrap_or_default();
        bytes.reserve_exact(length);
        bytes
    }

    /// Its memory comes back with the last of its clones.
    pub(super) fn lend(&self, bytes: Vec<u8>) -> Bytes {
        let buffers = self.clone();
        Bytes::from_owner(Lent { bytes, buffers })
    }

    fn put(&self, mut bytes: Vec<u8>) {
        bytes.clear();
        let is_chunk = u64::try_from(bytes.capacity()) == Ok(CHUNK_BYTES);
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if is_chunk && idle.len() < IDLE_MAX {
            idle.push(bytes);
        }
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.buffers.put(std::mem::take(&mut self.bytes));
    }
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffers").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: usize = 256 << 10;

    fn idle(buffers: &Buffers) -> usize {
        buffers.0.lock().unwrap().len()
    }

    #[test]
    fn memory_is_used_again_and_no_byte_of_before_is_in_it() {
        let buffers = Buffers::default();
        let mut first = buffers.take(CHUNK);
        let at = first.as_ptr();
        first.resize(CHUNK, 7);
        let lent = buffers.lend(first);
        let clone = lent.clone();
        drop(lent);
        assert_eq!((idle(&buffers), &clone[..3]), (0, &[7, 7, 7][..]));
        drop(clone);
        let second = buffers.take(10);
        assert_eq!((second.as_ptr(), second.len()), (at, 0));
    }

    #[test]
    fn what_is_kept_is_bounded_and_of_one_size() {
        let buffers = Buffers::default();
        let many: Vec<Bytes> = (0..2 * IDLE_MAX)
            .map(|_| buffers.lend(buffers.take(CHUNK)))
            .collect();
        drop(buffers.lend(buffers.take(100)));
        assert_eq!(idle(&buffers), 0, "a small one is not worth it");
        drop(many);
        assert_eq!(idle(&buffers), IDLE_MAX);
    }
}
