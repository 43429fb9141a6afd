//! The sidecar `<digest>.meta`: length and chunk tree of an object, checksummed.
//!
//! `writer` writes one before its object is committed, `scan` believes an object only with it.
//! Little-endian: magic (8), version (4), chunk count (4), length (8), digest (32), one chaining
//! value of 32 bytes a chunk, then the BLAKE3 of everything before.

use crate::object::CHUNK_BYTES;
use crate::object::ChunkTree;
use crate::object::Digest;

pub use crate::object::OBJECT_BYTES_MAX;

const MAGIC: &[u8; 8] = b"OCA-META";
const VERSION: u32 = 1;
const HEAD: usize = 8 + 4 + 4 + 8 + 32;
const CHECKSUM: usize = 32;

/// Follows from [`OBJECT_BYTES_MAX`]; a longer file is not read.
pub(super) const SIDECAR_BYTES_MAX: u64 =
    (HEAD + CHECKSUM) as u64 + 32 * OBJECT_BYTES_MAX.div_ceil(CHUNK_BYTES);

/// Why a sidecar is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SidecarError {
    #[error("the sidecar is {0} bytes long, which no sidecar is")]
    Size(usize),
    #[error("the sidecar's checksum is wrong")]
    Checksum,
    #[error("the sidecar is no sidecar of this program")]
    Magic,
    #[error("the sidecar has format version {0}; this program knows {VERSION}")]
    Version(u32),
    #[error("the sidecar belongs to object {0}")]
    OtherObject(Digest),
    #[error("the sidecar's chunk tree does not hash to the digest")]
    Tree,
}

pub(super) fn encode(tree: &ChunkTree) -> Vec<u8> {
    let count = u32::try_from(tree.chunks().len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEAD + CHECKSUM + 32 * tree.chunks().len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&count.to_le_bytes());
    bytes.extend_from_slice(&tree.length().to_le_bytes());
    bytes.extend_from_slice(&tree.digest().0);
    for chunk in tree.chunks() {
        bytes.extend_from_slice(chunk);
    }
    let checksum = Digest::of(&bytes);
    bytes.extend_from_slice(&checksum.0);
    bytes
}

/// Reads a sidecar and checks that it is whole and belongs to `digest`.
pub(super) fn decode(bytes: &[u8], digest: Digest) -> Result<ChunkTree, SidecarError> {
    let size = SidecarError::Size(bytes.len());
    let (body, checksum) = bytes
        .split_last_chunk::<CHECKSUM>()
        .filter(|(body, _)| body.len() >= HEAD)
        .ok_or_else(|| size.clone())?;
    let (magic, rest) = body.split_first_chunk::<8>().ok_or_else(|| size.clone())?;
    if magic != MAGIC {
        return Err(SidecarError::Magic);
    }
    if Digest::of(body).0 != *checksum {
        return Err(SidecarError::Checksum);
    }
    let (version, rest) = rest.split_first_chunk::<4>().ok_or_else(|| size.clone())?;
    let version = u32::from_le_bytes(*version);
    if version != VERSION {
        return Err(SidecarError::Version(version));
    }
    let (count, rest) = rest.split_first_chunk::<4>().ok_or_else(|| size.clone())?;
    let (length, rest) = rest.split_first_chunk::<8>().ok_or_else(|| size.clone())?;
    let (owner, rest) = rest.split_first_chunk::<32>().ok_or_else(|| size.clone())?;
    if Digest(*owner) != digest {
        return Err(SidecarError::OtherObject(Digest(*owner)));
    }
    let (chunks, left_over) = rest.as_chunks::<32>();
    if !left_over.is_empty() || u32::try_from(chunks.len()) != Ok(u32::from_le_bytes(*count)) {
        return Err(size);
    }
    ChunkTree::verified(digest, u64::from_le_bytes(*length), chunks.to_vec())
        .map_err(|_| SidecarError::Tree)
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests {
    use super::*;
    use crate::object::TreeBuilder;
    use proptest::prelude::*;

    fn tree(length: usize) -> ChunkTree {
        let mut builder = TreeBuilder::new();
        builder.update(&vec![7; length]);
        builder.finish()
    }

    #[test]
    fn a_sidecar_survives_the_disk_and_no_flipped_bit_does() {
        for length in [1, 300_000, 800_000] {
            let tree = tree(length);
            let bytes = encode(&tree);
            assert_eq!(decode(&bytes, tree.digest()), Ok(tree.clone()));
            for at in 0..bytes.len() {
                let mut bad = bytes.clone();
                bad[at] ^= 1;
                assert!(decode(&bad, tree.digest()).is_err(), "byte {at}");
            }
            assert!(decode(&bytes[..bytes.len() - 1], tree.digest()).is_err());
        }
    }

    #[test]
    fn a_sidecar_of_another_object_or_a_later_version_is_named() {
        let bytes = encode(&tree(5));
        let other = Digest::of(b"other");
        assert_eq!(
            decode(&bytes, other),
            Err(SidecarError::OtherObject(tree(5).digest()))
        );
        let mut later = bytes[..bytes.len() - CHECKSUM].to_vec();
        later[8] = 2;
        later.extend_from_slice(&Digest::of(&later).0);
        assert_eq!(decode(&later, other), Err(SidecarError::Version(2)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(decode(&bytes, Digest::of(b"x")).is_err());
        }

        /// A checksum that is right says nothing about the rest: the tree must hash to the digest.
        #[test]
        fn well_summed_nonsense_is_refused(
            count in any::<u32>(),
            length in any::<u64>(),
            chunks in proptest::collection::vec(any::<[u8; 32]>(), 0..5),
        ) {
            prop_assume!(length > CHUNK_BYTES);
            let digest = Digest::of(b"x");
            let mut bytes = MAGIC.to_vec();
            bytes.extend_from_slice(&VERSION.to_le_bytes());
            bytes.extend_from_slice(&count.to_le_bytes());
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(&digest.0);
            bytes.extend(chunks.concat());
            let sum = Digest::of(&bytes);
            bytes.extend_from_slice(&sum.0);
            prop_assert!(decode(&bytes, digest).is_err());
        }
    }
}
