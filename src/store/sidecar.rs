//! The sidecar `<digest>.meta`: length and chunk tree of an object, checksummed.
//!
//! `writer` writes one before its object is committed, `scan` believes an object only with it. It
//! has the form of [`super::record`] and adds nothing.

use super::record::EMPTY_BYTES;
use super::record::Kind;
use super::record::RecordError;
use crate::object::CHUNK_BYTES;
use crate::object::ChunkTree;
use crate::object::Digest;

pub use crate::object::OBJECT_BYTES_MAX;

const VERSION: u32 = 1;
const KIND: Kind = Kind {
    magic: b"OCA-META",
    version: VERSION,
};

/// Follows from [`OBJECT_BYTES_MAX`]; a longer file is not read.
pub(super) const SIDECAR_BYTES_MAX: u64 = EMPTY_BYTES + 32 * OBJECT_BYTES_MAX.div_ceil(CHUNK_BYTES);

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

impl From<RecordError> for SidecarError {
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

/// How long the sidecar of an object is.
pub(super) fn bytes_of(length: u64) -> u64 {
    let chunks = match length <= CHUNK_BYTES {
        true => 0,
        false => length.div_ceil(CHUNK_BYTES),
    };
    EMPTY_BYTES + 32 * chunks
}

/// The bytes of an object's sidecar.
pub fn encode(tree: &ChunkTree) -> Vec<u8> {
    KIND.encode(tree, &[])
}

/// Reads a sidecar and checks that it is whole and belongs to `digest`.
pub(super) fn decode(bytes: &[u8], digest: Digest) -> Result<ChunkTree, SidecarError> {
    match KIND.decode(bytes, digest)? {
        (tree, []) => Ok(tree),
        (_, _) => Err(SidecarError::Size(bytes.len())),
    }
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

    #[test]
    fn a_sidecar_survives_the_disk_and_no_flipped_bit_does() {
        for length in [1, 262_144, 262_145, 300_000, 800_000] {
            let tree = tree(length);
            let bytes = encode(&tree);
            assert_eq!(bytes.len() as u64, bytes_of(length as u64));
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
            let mut bytes = KIND.magic.to_vec();
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
