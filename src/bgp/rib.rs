//! Adj-RIB-In: what one neighbour announces, with attributes stored once for all routes that share
//! them.
//!
//! Owned by the neighbour's task. Keys are packed and hashers are seeded at random, because the
//! neighbour chooses the keys. Nothing here decides anything; limits are told, not enforced.

use crate::prefix::Family;
use crate::prefix::Prefix;
use crate::route::AsPath;
use crate::route::Asn;
use crate::route::Attributes;
use crate::route::Community;
use crate::route::Filtered;
use crate::route::Segment;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// One neighbour's routes.
#[derive(Debug, Default)]
pub(super) struct Rib {
    attributes: Interner,
    /// Address and length in one word.
    ipv4: HashMap<u64, Entry>,
    /// Octets, then the length: no padding.
    ipv6: HashMap<[u8; 17], Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    slot: Slot,
    filtered: Option<Filtered>,
}

/// Place of an attribute set in the interner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot(u32);

/// Attribute sets by value, counted by use.
#[derive(Debug, Default)]
struct Interner {
    slots: Vec<Option<Interned>>,
    free: Vec<Slot>,
    index: HashMap<Arc<Attributes>, Slot>,
    bytes: usize,
}

#[derive(Debug)]
struct Interned {
    attributes: Arc<Attributes>,
    uses: u32,
}

/// A set of attributes held while the routes of one UPDATE are applied; give it back to
/// [`Rib::release`].
#[derive(Debug)]
pub(super) struct Held {
    slot: Slot,
    pub(super) attributes: Arc<Attributes>,
}

impl Rib {
    /// Routes, filtered ones too.
    pub(super) fn family_len(&self, family: Family) -> usize {
        match family {
            Family::Ipv4 => self.ipv4.len(),
            Family::Ipv6 => self.ipv6.len(),
        }
    }

    /// Memory of all attribute sets, nearly.
    pub(super) fn attribute_bytes(&self) -> usize {
        self.attributes.bytes
    }

    pub(super) fn hold(&mut self, attributes: Attributes) -> Held {
        self.attributes.hold(attributes)
    }

    pub(super) fn release(&mut self, held: Held) {
        let slot = held.slot;
        drop(held);
        self.attributes.release(slot);
    }

    /// True if anything changed.
    pub(super) fn announce(
        &mut self,
        prefix: Prefix,
        held: &Held,
        filtered: Option<Filtered>,
    ) -> bool {
        let slot = held.slot;
        let entry = Entry { slot, filtered };
        let old = match packed(&prefix) {
            Packed::Ipv4(key) => self.ipv4.insert(key, entry),
            Packed::Ipv6(key) => self.ipv6.insert(key, entry),
        };
        self.attributes.reuse(slot);
        if let Some(old) = old {
            self.attributes.release(old.slot);
        }
        old != Some(entry)
    }

    /// Forgets all of a family; what there was.
    pub(super) fn withdraw_family(&mut self, family: Family) -> Vec<Prefix> {
        let all: Vec<(Option<Prefix>, Slot)> = match family {
            Family::Ipv4 => {
                let all = self.ipv4.drain();
                all.map(|(key, entry)| (unpacked_ipv4(key), entry.slot))
                    .collect()
            }
            Family::Ipv6 => {
                let all = self.ipv6.drain();
                all.map(|(key, entry)| (unpacked_ipv6(key), entry.slot))
                    .collect()
            }
        };
        let mut prefixes = Vec::with_capacity(all.len());
        for (prefix, slot) in all {
            self.attributes.release(slot);
            prefixes.extend(prefix);
        }
        prefixes
    }

    /// True if it was there.
    pub(super) fn withdraw(&mut self, prefix: &Prefix) -> bool {
        let old = match packed(prefix) {
            Packed::Ipv4(key) => self.ipv4.remove(&key),
            Packed::Ipv6(key) => self.ipv6.remove(&key),
        };
        if let Some(old) = old {
            self.attributes.release(old.slot);
        }
        old.is_some()
    }
}

impl Interner {
    fn hold(&mut self, attributes: Attributes) -> Held {
        if let Some(slot) = self.index.get(&attributes).copied() {
            self.reuse(slot);
            let known = self.slots[slot.index()].as_ref();
            if let Some(known) = known {
                let attributes = Arc::clone(&known.attributes);
                return Held { slot, attributes };
            }
        }
        let attributes = Arc::new(shrunk(attributes));
        self.bytes += bytes_of(&attributes);
        let interned = Interned {
            attributes: Arc::clone(&attributes),
            uses: 1,
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot.index()] = Some(interned);
                slot
            }
            None => {
                self.slots.push(Some(interned));
                // A neighbour's routes are bounded far below 2^32, and so are its sets.
                Slot(u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX))
            }
        };
        self.index.insert(Arc::clone(&attributes), slot);
        Held { slot, attributes }
    }

    fn reuse(&mut self, slot: Slot) {
        if let Some(interned) = &mut self.slots[slot.index()] {
            interned.uses += 1;
        }
    }

    fn release(&mut self, slot: Slot) {
        let place = &mut self.slots[slot.index()];
        if let Some(interned) = place {
            interned.uses -= 1;
            if interned.uses == 0 {
                self.bytes -= bytes_of(&interned.attributes);
                self.index.remove(&interned.attributes);
                *place = None;
                self.free.push(slot);
            }
        }
    }
}

impl Slot {
    fn index(self) -> usize {
        self.0 as usize
    }
}

enum Packed {
    Ipv4(u64),
    Ipv6([u8; 17]),
}

fn packed(prefix: &Prefix) -> Packed {
    match prefix.address() {
        IpAddr::V4(v4) => Packed::Ipv4(u64::from(u32::from(v4)) << 8 | u64::from(prefix.length())),
        IpAddr::V6(v6) => {
            let mut key = [0; 17];
            key[..16].copy_from_slice(&v6.octets());
            key[16] = prefix.length();
            Packed::Ipv6(key)
        }
    }
}

/// `None`: not one of ours.
fn unpacked_ipv4(key: u64) -> Option<Prefix> {
    let [.., a, b, c, d, length] = key.to_be_bytes();
    Prefix::new(IpAddr::from([a, b, c, d]), length).ok()
}

fn unpacked_ipv6(key: [u8; 17]) -> Option<Prefix> {
    let [octets @ .., length] = key;
    Prefix::new(IpAddr::from(octets), length).ok()
}

/// Without spare room: sets live long.
fn shrunk(mut attributes: Attributes) -> Attributes {
    attributes.communities.shrink_to_fit();
    attributes.as_path.0.shrink_to_fit();
    for segment in &mut attributes.as_path.0 {
        match segment {
            Segment::Sequence(numbers) | Segment::Set(numbers) => numbers.shrink_to_fit(),
        }
    }
    attributes
}

/// With the counters of the `Arc` and a hash table's row.
fn bytes_of(attributes: &Attributes) -> usize {
    const ROWS: usize = size_of::<Attributes>() + 2 * size_of::<usize>() + 48;
    let AsPath(segments) = &attributes.as_path;
    let numbers = attributes.as_path.numbers().count() * size_of::<Asn>();
    let communities = attributes.communities.len() * size_of::<Community>();
    ROWS + segments.len() * size_of::<Segment>() + numbers + communities
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;
    use std::net::Ipv6Addr;

    #[derive(Clone, Debug)]
    enum Step {
        Announce(Vec<Prefix>, Attributes, Option<Filtered>),
        Withdraw(Prefix),
    }

    fn prefix() -> impl Strategy<Value = Prefix> {
        let ipv4 = (0_u32..8, 24_u8..=26).prop_map(|(n, length)| {
            Prefix::new(Ipv4Addr::from(0xC000_0200 | n << 5).into(), length).unwrap()
        });
        let ipv6 = (0_u128..8, 62_u8..=64).prop_map(|(n, length)| {
            let address = Ipv6Addr::from(0x2001_0db8 << 96 | n << 64);
            Prefix::new(address.into(), length).unwrap()
        });
        prop_oneof![ipv4, ipv6]
    }

    fn attributes() -> impl Strategy<Value = Attributes> {
        (0_u32..4, 0_u32..2).prop_map(|(path, med)| Attributes {
            as_path: format!("64500 {path}").parse().unwrap(),
            med: Some(med),
            communities: vec![Community(med)],
            next_hop: Ipv4Addr::new(192, 0, 2, 1).into(),
        })
    }

    fn step() -> impl Strategy<Value = Step> {
        let filtered = prop_oneof![Just(None), Just(Some(Filtered::Bogon))];
        let prefixes = proptest::collection::vec(prefix(), 0..4);
        prop_oneof![
            3 => (prefixes, attributes(), filtered)
                .prop_map(|(prefixes, attributes, filtered)| {
                    Step::Announce(prefixes, attributes, filtered)
                }),
            1 => prefix().prop_map(Step::Withdraw),
        ]
    }

    proptest! {
        #[test]
        fn it_holds_what_a_plain_map_holds_and_each_set_of_attributes_once(
            steps in proptest::collection::vec(step(), 0..60),
        ) {
            let mut rib = Rib::default();
            let mut model: BTreeMap<Prefix, (Attributes, Option<Filtered>)> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Announce(prefixes, attributes, filtered) => {
                        let held = rib.hold(attributes.clone());
                        prop_assert_eq!(&*held.attributes, &attributes);
                        for prefix in prefixes {
                            let value = (attributes.clone(), filtered);
                            let changed = model.insert(prefix, value.clone()) != Some(value);
                            prop_assert_eq!(rib.announce(prefix, &held, filtered), changed);
                        }
                        rib.release(held);
                    }
                    Step::Withdraw(prefix) => {
                        prop_assert_eq!(rib.withdraw(&prefix), model.remove(&prefix).is_some());
                    }
                }
                for family in [Family::Ipv4, Family::Ipv6] {
                    let count = model.keys().filter(|p| p.family() == family).count();
                    prop_assert_eq!(rib.family_len(family), count);
                }
                let sets: BTreeSet<_> = model.values().map(|(a, _)| a).collect();
                prop_assert_eq!(rib.attributes.index.len(), sets.len());
                let bytes: usize = sets.iter().map(|a| bytes_of(a)).sum();
                prop_assert_eq!(rib.attribute_bytes(), bytes);
            }
            for prefix in model.keys() {
                prop_assert!(rib.withdraw(prefix));
            }
            prop_assert_eq!((rib.ipv4.len(), rib.ipv6.len(), rib.attribute_bytes()), (0, 0, 0));
            prop_assert_eq!(rib.attributes.free.len(), rib.attributes.slots.len());
        }
    }
}
