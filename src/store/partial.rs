//! The map of an object that is being received: which chunks are durable in its staging file.
//!
//! `staged` writes it after each flush, never before; `staging` reads it at start and believes a
//! chunk only when it has been hashed again. It has the form of [`super::record`] and adds one bit
//! a chunk. A map of another version is thrown away: what it tells can be fetched again.

use super::record::EMPTY_BYTES;
use super::record::Kind;
use super::record::RecordError;
use crate::object::CHUNK_BYTES;
use crate::object::ChunkTree;
use crate::object::Digest;
use crate::object::OBJECT_BYTES_MAX;
use std::ops::Range;

const VERSION: u32 = 1;
const KIND: Kind = Kind {
    magic: b"OCA-PART",
    version: VERSION,
};
const CHUNKS_MAX: u64 = OBJECT_BYTES_MAX.div_ceil(CHUNK_BYTES);

/// Follows from the largest object; a longer file is not read.
pub(super) const MAP_BYTES_MAX: u64 = EMPTY_BYTES + 32 * CHUNKS_MAX + CHUNKS_MAX.div_ceil(8);

/// A set of an object's chunks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chunks {
    length: u64,
    bits: Vec<u8>,
}

/// Why a map is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MapError {
    #[error("the map is {0} bytes long, which no map is")]
    Size(usize),
    #[error("the map's checksum is wrong")]
    Checksum,
    #[error("the map is no map of this program")]
    Magic,
    #[error("the map has format version {0}; this program knows {VERSION}")]
    Version(u32),
    #[error("the map belongs to object {0}")]
    OtherObject(Digest),
    #[error("the map's chunk tree does not hash to the digest")]
    Tree,
}

impl Chunks {
    /// None of the chunks of an object of `length` bytes.
    pub(super) fn none(length: u64) -> Self {
        let bytes = length.div_ceil(CHUNK_BYTES).div_ceil(8);
        Self {
            length,
            bits: vec![0; usize::try_from(bytes).unwrap_or(0)],
        }
    }

    /// Of the object.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// An object without bytes has no chunks.
    pub(super) fn count(&self) -> u64 {
        self.length.div_ceil(CHUNK_BYTES)
    }

    /// Bytes of chunk `chunk`; 0 if there is no such chunk.
    pub(super) fn bytes_of(&self, chunk: u64) -> u64 {
        let range = self.range(chunk);
        range.end - range.start
    }

    /// Where chunk `chunk` lies.
    pub(super) fn range(&self, chunk: u64) -> Range<u64> {
        let from = chunk.saturating_mul(CHUNK_BYTES).min(self.length);
        from..from.saturating_add(CHUNK_BYTES).min(self.length)
    }

    pub(super) fn has(&self, chunk: u64) -> bool {
        let (byte, bit) = at(chunk);
        self.bits.get(byte).is_some_and(|bits| bits & bit != 0)
    }

    pub(super) fn add(&mut self, chunk: u64) {
        let (byte, bit) = at(chunk);
        if chunk < self.count()
            && let Some(bits) = self.bits.get_mut(byte)
        {
            *bits |= bit;
        }
    }

    pub(super) fn remove(&mut self, chunk: u64) {
        let (byte, bit) = at(chunk);
        if let Some(bits) = self.bits.get_mut(byte) {
            *bits &= !bit;
        }
    }

    /// Adds the chunks of `other`, a set of the same object.
    pub(super) fn merge(&mut self, other: &Self) {
        for (bits, more) in self.bits.iter_mut().zip(&other.bits) {
            *bits |= more;
        }
    }

    /// Bytes of its chunks.
    pub(super) fn bytes(&self) -> u64 {
        let ones: u32 = self.bits.iter().map(|bits| bits.count_ones()).sum();
        let whole = u64::from(ones) * CHUNK_BYTES;
        let last = self.count().saturating_sub(1);
        if self.has(last) {
            whole - (CHUNK_BYTES - self.bytes_of(last))
        } else {
            whole
        }
    }

    /// The byte ranges of the chunks it has not, neighbours joined.
    pub(super) fn gaps(&self) -> Vec<Range<u64>> {
        self.joined(|chunk| !self.has(chunk))
    }

    /// The byte ranges of the chunks it has, neighbours joined.
    pub(super) fn runs(&self) -> Vec<Range<u64>> {
        self.joined(|chunk| self.has(chunk))
    }

    fn joined(&self, is_meant: impl Fn(u64) -> bool) -> Vec<Range<u64>> {
        let mut joined: Vec<Range<u64>> = Vec::new();
        for chunk in (0..self.count()).filter(|chunk| is_meant(*chunk)) {
            let range = self.range(chunk);
            match joined.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                Some(_) | None => joined.push(range),
            }
        }
        joined
    }

    /// Its chunks in order.
    pub(super) fn list(&self) -> Vec<u64> {
        (0..self.count()).filter(|n| self.has(*n)).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bits.iter().all(|bits| *bits == 0)
    }
}

fn at(chunk: u64) -> (usize, u8) {
    let byte = usize::try_from(chunk / 8).unwrap_or(usize::MAX);
    (byte, 1 << (chunk % 8))
}

impl From<RecordError> for MapError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Size(bytes) => Self::Size(bytes),
            RecordError::Checksum => Self::Checksum,
            RecordError::Magic => Self::Magic,
            RecordError::Version(version) => Self::Version(version),
            RecordError::OtherObject(other) => Self::OtherObject(other),
            RecordError::Tree => Self::Tree,
        }
    }
}

pub(super) fn encode(tree: &ChunkTree, durable: &Chunks) -> Vec<u8> {
    KIND.encode(tree, &durable.bits)
}

/// Reads a map: the chunks of `digest` that were durable.
pub(super) fn decode(bytes: &[u8], digest: Digest) -> Result<Chunks, MapError> {
    let (tree, bits) = KIND.decode(bytes, digest)?;
    let mut chunks = Chunks::none(tree.length());
    if bits.len() != chunks.bits.len() {
        return Err(MapError::Size(bytes.len()));
    }
    let told = Chunks {
        length: tree.length(),
        bits: bits.to_vec(),
    };
    // Bits beyond the last chunk mean nothing.
    for chunk in (0..chunks.count()).filter(|chunk| told.has(*chunk)) {
        chunks.add(chunk);
    }
    Ok(chunks)
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests {
    use super::super::record::CHECKSUM;
    use super::*;
    use crate::object::TreeBuilder;
    use proptest::prelude::*;

    fn tree(length: usize) -> ChunkTree {
        let mut builder = TreeBuilder::new();
        builder.update(&vec![7; length]);
        builder.finish()
    }

    fn some(length: u64, chunks: &[u64]) -> Chunks {
        let mut set = Chunks::none(length);
        chunks.iter().for_each(|chunk| set.add(*chunk));
        set
    }

    #[test]
    fn a_map_survives_the_disk_and_no_flipped_bit_does() {
        for (length, held) in [(1, vec![0]), (300_000, vec![1]), (800_000, vec![0, 3])] {
            let (tree, chunks) = (tree(length), some(length as u64, &held));
            let bytes = encode(&tree, &chunks);
            let digest = tree.digest();
            assert_eq!(decode(&bytes, digest), Ok(chunks));
            for at in 0..bytes.len() {
                let mut bad = bytes.clone();
                bad[at] ^= 1;
                assert!(decode(&bad, digest).is_err(), "byte {at}");
            }
            assert!(decode(&bytes[..bytes.len() - 1], digest).is_err());
            let other = Digest::of(b"other");
            assert_eq!(decode(&bytes, other), Err(MapError::OtherObject(digest)));
        }
    }

    #[test]
    fn a_later_version_is_named() {
        let bytes = encode(&tree(5), &some(5, &[0]));
        let mut later = bytes[..bytes.len() - CHECKSUM].to_vec();
        later[8] = 2;
        later.extend_from_slice(&Digest::of(&later).0);
        assert_eq!(decode(&later, tree(5).digest()), Err(MapError::Version(2)));
    }

    #[test]
    fn gaps_are_joined_and_the_last_chunk_is_as_long_as_it_is() {
        let length = 5 * CHUNK_BYTES + 7;
        let mut set = some(length, &[1, 5]);
        assert_eq!(set.bytes(), CHUNK_BYTES + 7);
        let gaps = [0..CHUNK_BYTES, 2 * CHUNK_BYTES..5 * CHUNK_BYTES];
        assert_eq!(set.gaps(), gaps);
        set.remove(5);
        assert_eq!(set.gaps()[1], 2 * CHUNK_BYTES..length);
        assert_eq!((set.bytes_of(5), set.bytes_of(6)), (7, 0));
        assert_eq!(Chunks::none(0).gaps(), []);
        assert_eq!(Chunks::none(0).bytes(), 0);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(decode(&bytes, Digest::of(b"x")).is_err());
        }

        /// A checksum that is right says nothing about the rest.
        #[test]
        fn well_summed_nonsense_is_refused(
            count in any::<u32>(),
            length in any::<u64>(),
            rest in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            prop_assume!(length > CHUNK_BYTES);
            let digest = Digest::of(b"x");
            let mut bytes = KIND.magic.to_vec();
            bytes.extend_from_slice(&VERSION.to_le_bytes());
            bytes.extend_from_slice(&count.to_le_bytes());
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(&digest.0);
            bytes.extend(rest);
            let sum = Digest::of(&bytes);
            bytes.extend_from_slice(&sum.0);
            prop_assert!(decode(&bytes, digest).is_err());
        }

        #[test]
        fn sets_count_their_bytes(length in 0..40 * CHUNK_BYTES, held in any::<u64>()) {
            let held: Vec<u64> = (0..40).filter(|chunk| held & 1 << chunk != 0).collect();
            let set = some(length, &held);
            let missing: u64 = set.gaps().iter().map(|gap| gap.end - gap.start).sum();
            prop_assert_eq!(set.bytes() + missing, length);
            let there = held.iter().filter(|chunk| **chunk < set.count());
            prop_assert_eq!(set.list(), there.copied().collect::<Vec<_>>());
        }
    }
}
