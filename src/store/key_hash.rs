//! A hash of keys for the manifest's table: a third of the cost of the standard library's, once a
//! request.
//!
//! Seeded at random, so that nobody outside can choose paths that meet in the table; the keys that
//! are *in* it come from the control plane, signed, and are not chosen against us. It stays in
//! memory and is never compared with that of another process.

use std::hash::BuildHasher;
use std::hash::RandomState;

/// An odd number whose bits are as good as random: the fraction of the golden ratio.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// One table's.
#[derive(Debug)]
pub(super) struct KeyHasher {
    seed: [u64; 2],
}

impl KeyHasher {
    pub(super) fn new() -> Self {
        let random = RandomState::new();
        Self::seeded([random.hash_one(0), random.hash_one(1)])
    }

    fn seeded(seed: [u64; 2]) -> Self {
        Self { seed }
    }

    /// Eight bytes at a time, folded into the product of 64 and 64 bits.
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        let [first, second] = self.seed;
        let mut state = first ^ (key.len() as u64).wrapping_mul(MIX);
        let (words, rest) = key.as_chunks::<8>();
        for word in words {
            state = fold(state ^ u64::from_le_bytes(*word), second | 1);
        }
        // The last eight bytes once more, or all of a shorter key: the length tells them apart.
        let tail = match (rest, key.last_chunk::<8>()) {
            ([], _) => 0,
            (_, Some(last)) => u64::from_le_bytes(*last),
            (short, None) => short
                .iter()
                .fold(0, |tail, byte| tail << 8 | u64::from(*byte)),
        };
        fold(state ^ tail, second ^ MIX)
    }
}

/// Both halves of the product, one over the other: every bit of either factor reaches every bit.
fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    let high = u64::try_from(product >> 64).unwrap_or(0);
    high ^ left.wrapping_mul(right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const SEED: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

    #[test]
    fn keys_of_a_catalogue_fall_into_slots_as_if_at_random() {
        let slots = 1 << 16;
        let keys: Vec<String> = (0..slots)
            .map(|number| format!("title-{}/v1/seg-{}.m4s", number / 600, number % 600))
            .collect();
        // Of n slots that n random hashes point at, 1 in e stays empty.
        for seed in [SEED, [1, 2], [u64::MAX, 77]] {
            let hasher = KeyHasher::seeded(seed);
            let used: BTreeSet<u64> = keys
                .iter()
                .map(|key| hasher.hash(key.as_bytes()) % slots)
                .collect();
            let share = used.len() as f64 / slots as f64;
            assert!((0.62..0.645).contains(&share), "{share}");
        }
    }

    #[test]
    fn two_tables_hash_differently() {
        let key = b"title/v1/seg-1.m4s";
        assert_ne!(KeyHasher::new().hash(key), KeyHasher::new().hash(key));
    }

    proptest! {
        #[test]
        fn keys_that_differ_in_one_byte_or_in_length_differ(
            key in proptest::collection::vec(any::<u8>(), 1..40),
            place in any::<proptest::sample::Index>(),
            more in 1_u8..=255,
        ) {
            let hasher = KeyHasher::seeded(SEED);
            let hash = hasher.hash(&key);
            let mut other = key.clone();
            let at = place.index(key.len());
            other[at] = other[at].wrapping_add(more);
            prop_assert_ne!(hasher.hash(&other), hash);
            prop_assert_ne!(hasher.hash(&key[..key.len() - 1]), hash);
        }
    }
}
