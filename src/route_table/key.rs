//! What a route is found by: address, length, and path identifier where ADD-PATH gives one.
//!
//! Octets in the order of the sort, without padding: 5 and 17 of them without a path identifier, 9
//! and 21 with one. A full table has one such key in the hash table and one in the snapshot.

use crate::prefix::Family;
use crate::prefix::Prefix;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

/// Octets of the address, the length, the path identifier if `N` has room for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key<const N: usize>(pub(super) [u8; N]);

/// IPv4 and IPv6, without and with path identifiers.
pub const IPV4: usize = 5;
pub const IPV4_PATHS: usize = 9;
pub const IPV6: usize = 17;
pub const IPV6_PATHS: usize = 21;

impl<const N: usize> Key<N> {
    const FAMILY: Family = match N {
        IPV4 | IPV4_PATHS => Family::Ipv4,
        _ => Family::Ipv6,
    };
    const ADDRESS: usize = match Self::FAMILY {
        Family::Ipv4 => 4,
        Family::Ipv6 => 16,
    };

    /// `prefix` is of the key's family; `path_id` is 0 where there is no room for one.
    #[inline]
    pub fn new(prefix: &Prefix, path_id: u32) -> Self {
        let mut octets = [0; N];
        let bits = prefix.bits().to_be_bytes();
        octets[..Self::ADDRESS].copy_from_slice(&bits[..Self::ADDRESS]);
        octets[Self::ADDRESS] = prefix.length();
        octets[Self::ADDRESS + 1..]
            .copy_from_slice(&path_id.to_be_bytes()[..N - Self::ADDRESS - 1]);
        Self(octets)
    }

    #[inline]
    pub fn prefix(&self) -> Prefix {
        let length = self.0[Self::ADDRESS];
        let mut bits = [0; 16];
        bits[..Self::ADDRESS].copy_from_slice(&self.0[..Self::ADDRESS]);
        let bits = u128::from_be_bytes(bits);
        #[allow(
            clippy::cast_possible_truncation,
            reason = "the upper 32 of 128 bits fit"
        )]
        let address = match Self::FAMILY {
            Family::Ipv4 => IpAddr::V4(Ipv4Addr::from_bits((bits >> 96) as u32)),
            Family::Ipv6 => IpAddr::V6(Ipv6Addr::from_bits(bits)),
        };
        // Made of a prefix, so that the length fits.
        Prefix::new(address, length).unwrap_or(Prefix::host(address))
    }

    #[inline]
    pub fn path_id(&self) -> u32 {
        let octets = self.0[Self::ADDRESS + 1..].first_chunk();
        octets.map_or(0, |octets| u32::from_be_bytes(*octets))
    }

    /// Two numbers that sort as the octets do, and faster.
    #[inline]
    pub(super) fn rank(&self) -> (u128, u64) {
        let (mut high, mut low) = ([0; 16], [0; 8]);
        let split = N.min(16);
        high[..split].copy_from_slice(&self.0[..split]);
        low[..N - split].copy_from_slice(&self.0[split..]);
        (u128::from_be_bytes(high), u64::from_be_bytes(low))
    }

    /// The first eight octets: the whole of a shorter key.
    #[inline]
    pub(super) fn front(&self) -> u64 {
        let [front, _] = halves(self.rank().0);
        front
    }

    /// For a hash table; `seed` is drawn at random, because routers choose the keys.
    #[inline]
    pub fn hash(&self, seed: Seed) -> u64 {
        if N <= 8 {
            return fold(self.front() ^ seed.0, seed.1);
        }
        let (high, low) = self.rank();
        let [a, b] = halves(high);
        fold(fold(a ^ seed.0, b ^ seed.1) ^ low, seed.0 | 1)
    }
}

/// Of the hash tables of one owner.
#[derive(Clone, Copy, Debug)]
pub struct Seed(u64, u64);

impl Seed {
    /// From the operating system's randomness, through the standard library's hasher.
    pub fn random() -> Self {
        use std::hash::BuildHasher as _;
        let draw = || std::collections::hash_map::RandomState::new().hash_one(0_u8);
        // A multiplier must not be even.
        Self(draw(), draw() | 1)
    }

    /// Of bytes of any length.
    #[allow(clippy::cast_possible_truncation, reason = "the upper half fits")]
    #[inline]
    pub(super) fn short_hash(self, bytes: &[u8]) -> u32 {
        let (pairs, rest) = bytes.as_chunks::<16>();
        let mut hash = self.0 ^ bytes.len() as u64;
        let mut mix = |octets: &[u8; 16]| {
            let [a, b] = halves(u128::from_be_bytes(*octets));
            hash = fold(a ^ hash, b ^ self.1);
        };
        pairs.iter().for_each(&mut mix);
        let mut last = [0; 16];
        last[..rest.len()].copy_from_slice(rest);
        mix(&last);
        (fold(hash, self.1) >> 32) as u32
    }
}

/// Both halves of a product: every bit of the result depends on all of both factors.
#[allow(
    clippy::cast_possible_truncation,
    reason = "the two halves of 128 bits are what is wanted"
)]
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "the two halves of 128 bits are what is wanted"
)]
#[inline]
fn halves(value: u128) -> [u64; 2] {
    [(value >> 64) as u64, value as u64]
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_prefix() -> impl Strategy<Value = Prefix> {
        (any::<IpAddr>(), 0_u8..=128).prop_map(|(address, length)| {
            Prefix::new(address, length.min(Family::of(address).bits())).unwrap()
        })
    }

    fn round<const N: usize>(prefix: &Prefix, path_id: u32) -> (Prefix, u32) {
        let key = Key::<N>::new(prefix, path_id);
        (key.prefix(), key.path_id())
    }

    proptest! {
        #[test]
        fn a_key_holds_its_prefix_and_path_and_sorts_as_they_do(
            one in any_prefix(),
            other in any_prefix(),
            paths in any::<(u32, u32)>(),
        ) {
            let (plain, with) = match one.family() {
                Family::Ipv4 => (round::<IPV4>(&one, 0), round::<IPV4_PATHS>(&one, paths.0)),
                Family::Ipv6 => (round::<IPV6>(&one, 0), round::<IPV6_PATHS>(&one, paths.0)),
            };
            prop_assert_eq!(plain, (one, 0));
            prop_assert_eq!(with, (one, paths.0));
            if one.family() == other.family() && one.family() == Family::Ipv6 {
                let key = |prefix, path| Key::<IPV6_PATHS>::new(prefix, path);
                let (a, b) = (key(&one, paths.0), key(&other, paths.1));
                prop_assert_eq!(a.cmp(&b), (one, paths.0).cmp(&(other, paths.1)));
                prop_assert_eq!(a.rank().cmp(&b.rank()), a.cmp(&b));
            }
            if one.family() == other.family() && one.family() == Family::Ipv4 {
                let key = |prefix, path| Key::<IPV4_PATHS>::new(prefix, path);
                let (a, b) = (key(&one, paths.0), key(&other, paths.1));
                prop_assert_eq!(a.cmp(&b), (one, paths.0).cmp(&(other, paths.1)));
                prop_assert_eq!(a.rank().cmp(&b.rank()), a.cmp(&b));
            }
        }
    }

    #[test]
    fn keys_in_a_row_spread_over_the_table_and_each_seed_spreads_them_otherwise() {
        let (one, other) = (Seed::random(), Seed::random());
        let keys = (0..4096_u32).map(|n| {
            let address = Ipv4Addr::from_bits(0x0a00_0000 | n << 8);
            Key::<IPV4>::new(&Prefix::new(address.into(), 24).unwrap(), 0)
        });
        let mut rows = vec![0; 4096];
        let mut same = 0;
        for key in keys {
            let hash = key.hash(one);
            rows[(hash % 4096) as usize] += 1;
            same += usize::from(hash == key.hash(other));
        }
        assert!(rows.iter().max() < Some(&12), "{:?}", rows.iter().max());
        assert_eq!(same, 0);
    }
}
