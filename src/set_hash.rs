//! An incremental hash of a set: two sides that add and remove the same items agree on it.
//!
//! The sum, modulo 2^256, of the BLAKE3-256 digests of the items, each read as a little-endian
//! number. Order does not matter, an item is removed by subtraction, and a set costs 32 bytes. It
//! tells two sides that apply the same changes that they have drifted apart, and no more: whoever
//! chooses many items, as a router does the routes, can choose some that cancel out, so that a
//! drift in these is not seen. Nothing is believed or shared for its hash alone. docs/LINK.md has
//! vectors.

use crate::object::Digest;

/// The hash of a set; [`SetHash::default`] is that of the empty set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SetHash([u64; 4]);

impl SetHash {
    /// The hash of all `items`.
    pub fn of<T: AsRef<[u8]>>(items: impl IntoIterator<Item = T>) -> Self {
        let mut hash = Self::default();
        for item in items {
            hash.add(item.as_ref());
        }
        hash
    }

    /// Adds an item that is not in the set.
    pub fn add(&mut self, item: &[u8]) {
        self.add_words(words(item));
    }

    /// Removes an item that is in the set.
    pub fn remove(&mut self, item: &[u8]) {
        let mut borrow = false;
        for (word, value) in self.0.iter_mut().zip(words(item)) {
            let (rest, under) = word.overflowing_sub(value);
            let (rest, again) = rest.overflowing_sub(u64::from(borrow));
            (*word, borrow) = (rest, under || again);
        }
    }

    /// Adds all items of another set that shares none with this one.
    pub fn merge(&mut self, other: Self) {
        self.add_words(other.0);
    }

    fn add_words(&mut self, other: [u64; 4]) {
        let mut carry = false;
        for (word, value) in self.0.iter_mut().zip(other) {
            let (sum, over) = word.overflowing_add(value);
            let (sum, again) = sum.overflowing_add(u64::from(carry));
            (*word, carry) = (sum, over || again);
        }
    }

    /// 32 bytes, little-endian, as the wire carries them (in hexadecimal).
    pub fn digest(&self) -> Digest {
        let mut bytes = [0; 32];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        Digest(bytes)
    }
}

fn words(item: &[u8]) -> [u64; 4] {
    let hash = blake3::hash(item);
    let mut words = [0; 4];
    for (word, chunk) in words.iter_mut().zip(hash.as_bytes().chunks_exact(8)) {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(chunk);
        *word = u64::from_le_bytes(bytes);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_item_hashes_to_its_own_digest() {
        assert_eq!(SetHash::of(["item"]).digest(), Digest::of(b"item"));
        assert_eq!(SetHash::default().digest(), Digest([0; 32]));
    }

    proptest! {
        #[test]
        fn order_does_not_matter_and_removal_undoes(
            mut items in proptest::collection::btree_set(".{0,8}", 0..20),
            more in ".{9}",
        ) {
            let forward = SetHash::of(&items);
            let backward = SetHash::of(items.iter().rev());
            prop_assert_eq!(forward, backward);
            let mut grown = forward;
            grown.add(more.as_bytes());
            prop_assert_ne!(grown, forward);
            items.insert(more.clone());
            prop_assert_eq!(grown, SetHash::of(&items));
            let mut merged = SetHash::of([&more]);
            merged.merge(forward);
            prop_assert_eq!(merged, grown);
            grown.remove(more.as_bytes());
            prop_assert_eq!(grown, forward);
        }
    }
}
