//! A map from prefixes to values, asked for every prefix that covers an address.
//!
//! One hash table a family and length: an answer costs one probe for each length in use, longest
//! first. Hashers are seeded at random, because routers choose the keys.

use crate::prefix::Family;
use crate::prefix::Prefix;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::IpAddr;

/// Values by prefix; one value a prefix.
#[derive(Clone, Debug)]
pub struct PrefixMap<T> {
    /// By length; empty tables are removed.
    ipv4: BTreeMap<u8, HashMap<u128, T>>,
    ipv6: BTreeMap<u8, HashMap<u128, T>>,
    len: usize,
}

impl<T> Default for PrefixMap<T> {
    fn default() -> Self {
        Self {
            ipv4: BTreeMap::new(),
            ipv6: BTreeMap::new(),
            len: 0,
        }
    }
}

impl<T> PrefixMap<T> {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value that was there before.
    pub fn insert(&mut self, prefix: Prefix, value: T) -> Option<T> {
        let table = self.family_mut(prefix.family()).entry(prefix.length());
        let old = table.or_default().insert(prefix.bits(), value);
        self.len += usize::from(old.is_none());
        old
    }

    pub fn remove(&mut self, prefix: &Prefix) -> Option<T> {
        let tables = self.family_mut(prefix.family());
        let table = tables.get_mut(&prefix.length())?;
        let old = table.remove(&prefix.bits());
        if table.is_empty() {
            tables.remove(&prefix.length());
        }
        self.len -= usize::from(old.is_some());
        old
    }

    /// The value of exactly this prefix.
    pub fn get(&self, prefix: &Prefix) -> Option<&T> {
        self.family(prefix.family())
            .get(&prefix.length())?
            .get(&prefix.bits())
    }

    /// As [`PrefixMap::get`], with room for a value that is not there.
    pub fn get_or_insert_with(&mut self, prefix: Prefix, make: impl FnOnce() -> T) -> &mut T {
        let is_new = self.get(&prefix).is_none();
        self.len += usize::from(is_new);
        let tables = self.family_mut(prefix.family());
        let table = tables.entry(prefix.length()).or_default();
        table.entry(prefix.bits()).or_insert_with(make)
    }

    /// Every prefix that contains `address`, longest first.
    pub fn matches(&self, address: IpAddr) -> impl Iterator<Item = (Prefix, &T)> {
        self.covering(Prefix::host(address))
    }

    /// Every prefix that covers `prefix` (itself too), longest first.
    pub fn covering(&self, prefix: Prefix) -> impl Iterator<Item = (Prefix, &T)> {
        let tables = self.family(prefix.family()).range(..=prefix.length()).rev();
        tables.filter_map(move |(length, table)| {
            let short = prefix.shortened(*length)?;
            Some((short, table.get(&short.bits())?))
        })
    }

    fn family(&self, family: Family) -> &BTreeMap<u8, HashMap<u128, T>> {
        match family {
            Family::Ipv4 => &self.ipv4,
            Family::Ipv6 => &self.ipv6,
        }
    }

    fn family_mut(&mut self, family: Family) -> &mut BTreeMap<u8, HashMap<u128, T>> {
        match family {
            Family::Ipv4 => &mut self.ipv4,
            Family::Ipv6 => &mut self.ipv6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn near_prefix() -> impl Strategy<Value = Prefix> {
        (0_u32..64, 0_u8..=32).prop_map(|(low, length)| {
            let address = IpAddr::from((0xC000_0200_u32 | (low << 2)).to_be_bytes());
            Prefix::new(address, length).unwrap()
        })
    }

    proptest! {
        #[test]
        fn it_answers_as_a_list_that_is_walked_would(
            added in proptest::collection::vec((near_prefix(), 0_u8..255), 0..40),
            removed in proptest::collection::vec(near_prefix(), 0..10),
            asked in near_prefix(),
        ) {
            let mut map = PrefixMap::new();
            let mut list: Vec<(Prefix, u8)> = Vec::new();
            for (prefix, value) in added {
                let old = list.iter().position(|(p, _)| *p == prefix).map(|at| list.remove(at).1);
                prop_assert_eq!(map.insert(prefix, value), old);
                list.push((prefix, value));
            }
            for prefix in removed {
                let old = list.iter().position(|(p, _)| *p == prefix).map(|at| list.remove(at).1);
                prop_assert_eq!(map.remove(&prefix), old);
            }
            prop_assert_eq!(map.len(), list.len());
            let mut expected: Vec<(Prefix, u8)> =
                list.into_iter().filter(|(p, _)| p.contains(asked.address())).collect();
            expected.sort_by_key(|(p, _)| std::cmp::Reverse(p.length()));
            let found: Vec<(Prefix, u8)> =
                map.matches(asked.address()).map(|(p, v)| (p, *v)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
