//! Ciphertext in, contents out: the receiving side of a session whose keys the kernel has. Sans-IO.
//!
//! [`super::opened`] feeds it after the handover; how a record is opened and what may be in it is
//! `tls::record`'s. It holds one record at most beyond what it was given at once.

use crate::sys::ktls::Version;
use crate::tls::record;
use crate::tls::record::Content;
use crate::tls::record::Key;
use crate::tls::record::RecordFault;
use std::ops::Range;

/// Records without contents cost work and move nothing; an honest library sends none or one.
const EMPTY_RECORDS_MAX: u8 = 32;

pub(super) struct Records {
    key: Key,
    held: Vec<u8>,
    start: usize,
    empty: u8,
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records")
            .field("held", &(self.held.len() - self.start))
            .finish_non_exhaustive()
    }
}

impl Records {
    pub(super) fn new(key: Key) -> Self {
        Self {
            key,
            held: Vec::new(),
            start: 0,
            empty: 0,
        }
    }

    /// Ciphertext arrived. The caller takes every content before it gives more.
    pub(super) fn push(&mut self, ciphertext: &[u8]) {
        self.held.extend_from_slice(ciphertext);
    }

    /// Opens the records to come with `key`. What is held is of the peer's next epoch already.
    pub(super) fn rekey(&mut self, key: Key) {
        self.key = key;
    }

    pub(super) fn version(&self) -> Version {
        self.key.version
    }

    /// The next record's content; `None` until more arrives.
    pub(super) fn next(&mut self) -> Result<Option<Content<'_>>, RecordFault> {
        let Some(bytes) = self.record()? else {
            self.held.drain(..self.start);
            self.start = 0;
            if self.held.is_empty() {
                // An idle connection keeps no buffer.
                self.held = Vec::new();
            }
            return Ok(None);
        };
        let content = self.key.content(&mut self.held[bytes])?;
        if let Content::Data(data) = &content {
            self.empty = match data.len() {
                0 => self.empty + 1,
                _ => 0,
            };
            if self.empty > EMPTY_RECORDS_MAX {
                return Err(RecordFault::TooMany);
            }
        }
        Ok(Some(content))
    }

    /// The place of the next whole record.
    fn record(&mut self) -> Result<Option<Range<usize>>, RecordFault> {
        let from = self.start;
        let whole = record::whole(self.key.version, &self.held[from..])?;
        self.start += whole.unwrap_or(0);
        Ok(whole.map(|length| from..from + length))
    }
}
