//! What came from the disk for one response, and may leave memory behind it.
//!
//! Kept by [`super::Pages`] where the operator wants it; `store::residency` drops the chunks.

use crate::store::CHUNK_BYTES;
use crate::store::Reader;

/// Which chunks came from the disk for this response, to be dropped behind it.
pub(super) struct Behind {
    reader: Reader,
    /// First bytes of chunks; at most the present one and the next.
    brought: [Option<u64>; 2],
}

impl Behind {
    pub(super) fn new(reader: Reader) -> Self {
        Self {
            reader,
            brought: [None; 2],
        }
    }

    /// The chunk from `at` comes from the disk.
    pub(super) fn brought(&mut self, at: u64) {
        if self.brought.contains(&Some(at)) {
            return;
        }
        if let Some(free) = self.brought.iter_mut().find(|chunk| chunk.is_none()) {
            *free = Some(at);
        }
    }

    /// The response is at `at`: chunks before that may go.
    pub(super) fn pass(&mut self, at: u64) {
        for place in &mut self.brought {
            if let Some(chunk) = place.take_if(|chunk| *chunk + CHUNK_BYTES <= at) {
                self.reader.passed(chunk, CHUNK_BYTES);
            }
        }
    }
}

/// However the response ended, it reads no more.
impl Drop for Behind {
    fn drop(&mut self) {
        self.pass(u64::MAX);
    }
}
