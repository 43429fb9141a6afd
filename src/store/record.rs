//! What is written down about one object and its chunk tree, whole or not at all: the form that
//! sidecars and the maps of unfinished objects share.
//!
//! Little-endian: magic (8), version (4), count of tree entries (4), length (8), digest (32), one
//! chaining value of 32 bytes an entry, what the kind adds, then the BLAKE3 of everything before.
//! [`super::sidecar`] and [`super::partial`] say which kind it is, and name its errors. Reads and
//! writes no files.

use crate::object::ChunkTree;
use crate::object::Digest;
use crate::object::OBJECT_BYTES_MAX;

const HEAD: usize = 8 + 4 + 4 + 8 + 32;
pub(super) const CHECKSUM: usize = 32;

/// Of a record without tree entries, to which its kind adds nothing.
pub(super) const EMPTY_BYTES: u64 = (HEAD + CHECKSUM) as u64;

/// How a kind of records begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) magic: &'static [u8; 8],
    pub(super) version: u32,
}

/// Why a record is not believed; the kind has the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordError {
    Size(usize),
    Checksum,
    Magic,
    Version(u32),
    OtherObject(Digest),
    Tree,
}

impl Kind {
    /// `more`: what the kind adds.
    pub(super) fn encode(self, tree: &ChunkTree, more: &[u8]) -> Vec<u8> {
        let count = u32::try_from(tree.chunks().len()).unwrap_or(u32::MAX);
        let size = HEAD + CHECKSUM + 32 * tree.chunks().len() + more.len();
        let mut bytes = Vec::with_capacity(size);
        bytes.extend_from_slice(self.magic);
        bytes.extend_from_slice(&self.version.to_le_bytes());
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&tree.length().to_le_bytes());
        bytes.extend_from_slice(&tree.digest().0);
        for chunk in tree.chunks() {
            bytes.extend_from_slice(chunk);
        }
        bytes.extend_from_slice(more);
        let checksum = Digest::of(&bytes);
        bytes.extend_from_slice(&checksum.0);
        bytes
    }

    /// The tree of `digest`, which hashes to it, and what the kind added.
    pub(super) fn decode(
        self,
        bytes: &[u8],
        digest: Digest,
    ) -> Result<(ChunkTree, &[u8]), RecordError> {
        let size = RecordError::Size(bytes.len());
        let (body, checksum) = bytes
            .split_last_chunk::<CHECKSUM>()
            .filter(|(body, _)| body.len() >= HEAD)
            .ok_or(size)?;
        let (magic, rest) = body.split_first_chunk::<8>().ok_or(size)?;
        if magic != self.magic {
            return Err(RecordError::Magic);
        }
        if Digest::of(body).0 != *checksum {
            return Err(RecordError::Checksum);
        }
        let (version, rest) = rest.split_first_chunk::<4>().ok_or(size)?;
        let version = u32::from_le_bytes(*version);
        if version != self.version {
            return Err(RecordError::Version(version));
        }
        let (count, rest) = rest.split_first_chunk::<4>().ok_or(size)?;
        let (length, rest) = rest.split_first_chunk::<8>().ok_or(size)?;
        let (owner, rest) = rest.split_first_chunk::<32>().ok_or(size)?;
        if Digest(*owner) != digest {
            return Err(RecordError::OtherObject(Digest(*owner)));
        }
        let length = u64::from_le_bytes(*length);
        if length > OBJECT_BYTES_MAX {
            return Err(RecordError::Tree);
        }
        let entries = usize::try_from(u32::from_le_bytes(*count)).unwrap_or(usize::MAX);
        let (tree, more) = rest
            .split_at_checked(entries.saturating_mul(32))
            .ok_or(size)?;
        let (tree, _) = tree.as_chunks::<32>();
        let tree = ChunkTree::verified(digest, length, tree.to_vec());
        Ok((tree.map_err(|_| RecordError::Tree)?, more))
    }
}
