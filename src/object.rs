//! Objects: immutable bytes named by their digest, and the chunk tree that verifies parts of them.
//!
//! The digest is BLAKE3-256 of the bytes. BLAKE3 is itself a binary tree over 1 KiB blocks, so the
//! chaining values of aligned 256 KiB chunks (the *chunk tree*) are enough to verify each chunk on
//! its own, and they are verified against the digest before they are believed: no second hash is
//! needed. Tree shape: BLAKE3 specification, section 2.1.

use blake3::hazmat::ChainingValue;
use blake3::hazmat::HasherExt;
use blake3::hazmat::Mode;
use blake3::hazmat::left_subtree_len;
use blake3::hazmat::merge_subtrees_non_root;
use blake3::hazmat::merge_subtrees_root;
use serde::Deserialize;
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// Bytes of one chunk: the unit of verification and of resuming. A power of two of BLAKE3 blocks.
pub const CHUNK_BYTES: u64 = 256 * 1024;

/// No object is larger: 64 GiB is hours of the best picture in one file, and its chunk tree 8 MiB.
pub const OBJECT_BYTES_MAX: u64 = 64 << 30;

/// BLAKE3-256 of an object's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest(pub [u8; 32]);

/// The text is not 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a digest: 64 lower-case hexadecimal digits are expected")]
pub struct DigestError(String);

/// Length, digest and the chaining value of each chunk. Empty `chunks` means one chunk or none:
/// the digest itself verifies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkTree {
    length: u64,
    digest: Digest,
    chunks: Vec<[u8; 32]>,
}

/// The chunk list does not belong to the digest and length it came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the chunk tree does not hash to the object's digest")]
pub struct TreeError;

/// Verifies one chunk from bytes fed in order, in pieces of any size: what is hashed as it comes is
/// still in the processor's cache.
#[derive(Clone, Debug)]
pub struct ChunkCheck<'a> {
    tree: &'a ChunkTree,
    index: u64,
    /// Of the chunk; `None`: the object has no such chunk.
    length: Option<u64>,
    fed: u64,
    hasher: blake3::Hasher,
}

/// Builds a [`ChunkTree`] from bytes fed in order, in pieces of any size.
#[derive(Clone, Debug)]
pub struct TreeBuilder {
    length: u64,
    chunk: blake3::Hasher,
    chunk_filled: u64,
    chunks: Vec<[u8; 32]>,
}

impl Digest {
    /// The digest of bytes already in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(blake3::Hash::from_bytes(self.0).to_hex().as_str())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let refused = || DigestError(text.chars().take(80).collect());
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(refused());
        }
        let hash = blake3::Hash::from_hex(text).map_err(|_| refused())?;
        Ok(Self(*hash.as_bytes()))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl ChunkTree {
    /// Accepts a chunk list from outside only if it hashes to `digest` for `length` bytes.
    pub fn verified(digest: Digest, length: u64, chunks: Vec<[u8; 32]>) -> Result<Self, TreeError> {
        let expected = if length <= CHUNK_BYTES {
            0
        } else {
            length.div_ceil(CHUNK_BYTES)
        };
        if u64::try_from(chunks.len()) != Ok(expected) {
            return Err(TreeError);
        }
        if !chunks.is_empty() && root(&chunks, length) != digest {
            return Err(TreeError);
        }
        Ok(Self {
            length,
            digest,
            chunks,
        })
    }

    pub fn length(&self) -> u64 {
        self.length
    }

    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Chaining values, one a chunk; empty when the object fits in one chunk.
    pub fn chunks(&self) -> &[[u8; 32]] {
        &self.chunks
    }

    /// Is `bytes` chunk number `index` of this object?
    pub fn verify_chunk(&self, index: u64, bytes: &[u8]) -> bool {
        let mut check = self.check(index);
        check.update(bytes);
        check.verifies()
    }

    /// A check of chunk `index` that is fed in pieces; beyond the object it never verifies.
    pub fn check(&self, index: u64) -> ChunkCheck<'_> {
        let offset = index.saturating_mul(CHUNK_BYTES);
        let is_there = offset == 0 || offset < self.length;
        let length = is_there.then(|| (self.length - offset).min(CHUNK_BYTES));
        let mut hasher = blake3::Hasher::new();
        if length.is_some() {
            hasher.set_input_offset(offset);
        }
        ChunkCheck {
            tree: self,
            index,
            length,
            fed: 0,
            hasher,
        }
    }
}

impl ChunkCheck<'_> {
    /// Bytes of the chunk; none if the object has no such chunk.
    pub fn length(&self) -> u64 {
        self.length.unwrap_or(0)
    }

    /// The next bytes. What goes beyond the chunk is not hashed: it does not verify any more.
    pub fn update(&mut self, bytes: &[u8]) {
        self.fed += bytes.len() as u64;
        if self.fed <= self.length() {
            self.hasher.update(bytes);
        }
    }

    /// Were these the bytes of the chunk, all of them and no more?
    pub fn verifies(self) -> bool {
        if self.length != Some(self.fed) {
            return false;
        }
        let chunks = &self.tree.chunks;
        if chunks.is_empty() {
            return Digest(*self.hasher.finalize().as_bytes()) == self.tree.digest;
        }
        let at = usize::try_from(self.index).ok();
        let chunk = at.and_then(|at| chunks.get(at));
        chunk == Some(&self.hasher.finalize_non_root())
    }
}

impl Default for TreeBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl TreeBuilder {
    pub fn new() -> Self {
        Self {
            length: 0,
            chunk: blake3::Hasher::new(),
            chunk_filled: 0,
            chunks: Vec::new(),
        }
    }

    /// Adds the next bytes of the object.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            // A full chunk is closed only when more follows: alone it would be the root.
            if self.chunk_filled == CHUNK_BYTES {
                self.chunks.push(self.chunk.finalize_non_root());
                self.chunk = blake3::Hasher::new();
                self.chunk.set_input_offset(self.length);
                self.chunk_filled = 0;
            }
            let room = usize::try_from(CHUNK_BYTES - self.chunk_filled).unwrap_or(bytes.len());
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            self.chunk.update(now);
            self.chunk_filled += now.len() as u64;
            self.length += now.len() as u64;
            bytes = rest;
        }
    }

    /// Bytes fed so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    pub fn finish(mut self) -> ChunkTree {
        let digest = if self.chunks.is_empty() {
            Digest(*self.chunk.finalize().as_bytes())
        } else {
            self.chunks.push(self.chunk.finalize_non_root());
            root(&self.chunks, self.length)
        };
        ChunkTree {
            length: self.length,
            digest,
            chunks: self.chunks,
        }
    }
}

/// Root of two or more chunks.
fn root(chunks: &[[u8; 32]], length: u64) -> Digest {
    let (left, right) = halves(chunks, length);
    Digest(*merge_subtrees_root(&left, &right, Mode::Hash).as_bytes())
}

fn halves(chunks: &[[u8; 32]], length: u64) -> (ChainingValue, ChainingValue) {
    let left_length = left_subtree_len(length);
    let split = usize::try_from(left_length / CHUNK_BYTES).unwrap_or(0);
    let (left, right) = chunks.split_at(split.clamp(1, chunks.len() - 1));
    (
        subtree(left, left_length),
        subtree(right, length - left_length),
    )
}

/// Chaining value of one or more chunks. Depth is the logarithm of the chunk count.
fn subtree(chunks: &[[u8; 32]], length: u64) -> ChainingValue {
    if let [only] = chunks {
        return *only;
    }
    let (left, right) = halves(chunks, length);
    merge_subtrees_non_root(&left, &right, Mode::Hash)
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 31 % 251) as u8).collect()
    }

    fn tree(data: &[u8], piece: usize) -> ChunkTree {
        let mut builder = TreeBuilder::new();
        data.chunks(piece.max(1))
            .for_each(|part| builder.update(part));
        builder.finish()
    }

    #[test]
    fn a_chunk_verifies_in_pieces_of_any_size_whole_and_in_order_alone() {
        let chunk = CHUNK_BYTES as usize;
        for length in [1, 5_000, chunk, chunk + 1, 2 * chunk + 70_001] {
            let data = bytes(length);
            let tree = tree(&data, length);
            for (index, whole) in data.chunks(chunk).enumerate() {
                for piece in [1_000, 16 << 10, 100_000] {
                    let feed = |pieces: &[&[u8]]| {
                        let mut check = tree.check(index as u64);
                        pieces.iter().for_each(|piece| check.update(piece));
                        check.verifies()
                    };
                    let pieces: Vec<&[u8]> = whole.chunks(piece).collect();
                    assert!(feed(&pieces), "{length} {index} {piece}");
                    assert!(!feed(&pieces[1..]), "its start is missing");
                    let more = [&pieces[..], &[&[0][..]]].concat();
                    assert!(!feed(&more), "a byte too many");
                    let mut wrong = whole.to_vec();
                    wrong[whole.len() / 2] ^= 1;
                    assert!(!feed(&wrong.chunks(piece).collect::<Vec<_>>()));
                }
            }
            assert!(!tree.check(9).verifies());
        }
    }

    #[test]
    fn the_root_of_the_tree_is_the_blake3_of_the_bytes() {
        let chunk = CHUNK_BYTES as usize;
        for length in [
            0,
            1,
            1024,
            chunk - 1,
            chunk,
            chunk + 1,
            2 * chunk,
            3 * chunk,
            5 * chunk + 7,
        ] {
            let data = bytes(length);
            let tree = tree(&data, 100_000);
            assert_eq!(tree.digest(), Digest::of(&data), "{length}");
            let again = ChunkTree::verified(tree.digest(), tree.length(), tree.chunks().to_vec());
            assert_eq!(again.unwrap(), tree);
        }
    }

    #[test]
    fn a_flipped_bit_fails_its_own_chunk_only() {
        let mut data = bytes(3 * CHUNK_BYTES as usize + 5);
        let tree = tree(&data, usize::MAX);
        data[300_000] ^= 1;
        let good = data.chunks(CHUNK_BYTES as usize).enumerate();
        let verdicts: Vec<bool> = good.map(|(i, c)| tree.verify_chunk(i as u64, c)).collect();
        assert_eq!(verdicts, [true, false, true, true]);
        assert!(!tree.verify_chunk(9, &[]));
        assert!(!tree.verify_chunk(u64::MAX, &[]));
    }

    #[test]
    fn a_foreign_chunk_list_is_refused() {
        let tree = tree(&bytes(2 * CHUNK_BYTES as usize), usize::MAX);
        let mut chunks = tree.chunks().to_vec();
        chunks.swap(0, 1);
        assert_eq!(
            ChunkTree::verified(tree.digest(), tree.length(), chunks),
            Err(TreeError)
        );
        assert_eq!(
            ChunkTree::verified(tree.digest(), u64::MAX, vec![]),
            Err(TreeError)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn pieces_do_not_matter(length in 0_usize..1_200_000, piece in 1_usize..700_000) {
            let data = bytes(length);
            prop_assert_eq!(tree(&data, piece).digest(), Digest::of(&data));
        }

        #[test]
        fn digests_survive_text(raw in any::<[u8; 32]>()) {
            let digest = Digest(raw);
            prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
        }
    }
}
