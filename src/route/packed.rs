//! Attributes in one piece of bytes: how a box keeps each set once, and what the routes' set hash
//! is made over (docs/LINK.md).
//!
//! `bgp` packs what a router sent, without allocating; everybody else reads a [`Packed`] in place
//! or unpacks it. Equal attributes have equal bytes, and no packed form begins with another one.
//! Nothing here panics on bytes of any form; bytes that nobody packed mean nothing.

use super::Aggregator;
use super::AsPath;
use super::Asn;
use super::Attributes;
use super::Community;
use super::ExtendedCommunity;
use super::LargeCommunity;
use super::Origin;
use super::Segment;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

/// The numbers of a path, of communities and so on that one set may have: the counts are 16 bits
/// wide. No message has room for more than a quarter of that.
const COUNT_MAX: usize = u16::MAX as usize;

const HOP_IPV6: u8 = 1;
const HAS_MED: u8 = 2;
const HAS_LOCAL_PREF: u8 = 4;
const HAS_AGGREGATOR: u8 = 8;
const IS_ATOMIC: u8 = 16;
const HAS_OTC: u8 = 32;
const HAS_COMMUNITIES: u8 = 64;
const HAS_OTHERS: u8 = 128;

/// Segment types of RFC 4271 section 4.3.
const SET: u8 = 1;
const SEQUENCE: u8 = 2;

/// What has a fixed size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed {
    pub origin: Origin,
    pub next_hop: IpAddr,
    pub med: Option<u32>,
    pub local_pref: Option<u32>,
    pub aggregator: Option<Aggregator>,
    pub atomic_aggregate: bool,
    pub otc: Option<Asn>,
}

/// Packs one set after the other into the same memory.
#[derive(Clone, Debug, Default)]
pub struct Packer {
    path: Vec<u8>,
    /// Where in `path` the last segment begins, if that is a sequence.
    sequence: Option<usize>,
    communities: Vec<u32>,
    extended: Vec<u64>,
    large: Vec<[u32; 3]>,
    packed: Vec<u8>,
}

/// One set, packed; there may be other bytes behind it.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a>(&'a [u8]);

/// Where the lists of a set begin, and what stands before them.
struct Layout<'a> {
    fixed: Fixed,
    path: &'a [u8],
    communities: &'a [u8],
    extended: &'a [u8],
    large: &'a [u8],
    length: usize,
}

impl Packer {
    /// Forgets the lists of the set before.
    pub fn begin(&mut self) {
        self.path.clear();
        self.sequence = None;
        self.communities.clear();
        self.extended.clear();
        self.large.clear();
    }

    /// The next segment of the AS path. A sequence behind a sequence continues it, and an empty
    /// one is none: routers cut paths where they like (a segment of a message has room for 255
    /// numbers), and the text of a path cannot tell where.
    pub fn segment(&mut self, is_set: bool, numbers: impl IntoIterator<Item = u32>) {
        let before = self.path.len();
        let continued = self.sequence.filter(|_| !is_set);
        let at = continued.unwrap_or(before);
        if continued.is_none() {
            self.path.extend([0; 4]);
        }
        let first = self.path.len();
        for number in numbers {
            self.path.extend(number.to_be_bytes());
        }
        if !is_set && self.path.len() == first {
            return self.path.truncate(before);
        }
        self.sequence = (!is_set).then_some(at);
        let count = (self.path.len() - at) / 4 - 1;
        let [_, high, middle, low] = u32::try_from(count).unwrap_or(0).to_be_bytes();
        let kind = if is_set { SET } else { SEQUENCE };
        if let Some(head) = self.path.get_mut(at..at + 4) {
            head.copy_from_slice(&[kind, high, middle, low]);
        }
    }

    /// Communities in any order, repeated or not.
    pub fn communities(&mut self, communities: impl IntoIterator<Item = u32>) {
        self.communities.extend(communities);
    }

    pub fn extended(&mut self, communities: impl IntoIterator<Item = u64>) {
        self.extended.extend(communities);
    }

    pub fn large(&mut self, communities: impl IntoIterator<Item = [u32; 3]>) {
        self.large.extend(communities);
    }

    /// The set of the lists since [`Packer::begin`] and of what is `fixed`.
    pub fn finish(&mut self, fixed: &Fixed) -> &[u8] {
        tidy(&mut self.communities);
        tidy(&mut self.extended);
        tidy(&mut self.large);
        self.path.truncate(4 * COUNT_MAX);
        let out = &mut self.packed;
        out.clear();
        out.extend([fixed.origin as u8, 0]);
        let mut flags = 0;
        match fixed.next_hop {
            IpAddr::V4(hop) => out.extend(hop.octets()),
            IpAddr::V6(hop) => {
                flags |= HOP_IPV6;
                out.extend(hop.octets());
            }
        }
        let mut word = |flag: u8, value: Option<u32>| {
            if let Some(value) = value {
                flags |= flag;
                out.extend(value.to_be_bytes());
            }
        };
        word(HAS_MED, fixed.med);
        word(HAS_LOCAL_PREF, fixed.local_pref);
        if let Some(Aggregator { asn, address }) = fixed.aggregator {
            word(HAS_AGGREGATOR, Some(asn.0));
            word(HAS_AGGREGATOR, Some(address.to_bits()));
        }
        word(HAS_OTC, fixed.otc.map(|asn| asn.0));
        if fixed.atomic_aggregate {
            flags |= IS_ATOMIC;
        }
        let mut count = |count: usize| out.extend(u16::try_from(count).unwrap_or(0).to_be_bytes());
        if !self.communities.is_empty() {
            flags |= HAS_COMMUNITIES;
            count(self.communities.len());
        }
        if !self.extended.is_empty() || !self.large.is_empty() {
            flags |= HAS_OTHERS;
            count(self.extended.len());
            count(self.large.len());
        }
        count(self.path.len() / 4);
        out.extend_from_slice(&self.path);
        for community in &self.communities {
            out.extend(community.to_be_bytes());
        }
        for community in &self.extended {
            out.extend(community.to_be_bytes());
        }
        for part in self.large.iter().flatten() {
            out.extend(part.to_be_bytes());
        }
        if let Some(place) = out.get_mut(1) {
            *place = flags;
        }
        out
    }

    pub fn pack(&mut self, attributes: &Attributes) -> &[u8] {
        self.begin();
        for segment in &attributes.as_path.0 {
            match segment {
                Segment::Sequence(numbers) => self.segment(false, numbers.iter().map(|n| n.0)),
                Segment::Set(numbers) => self.segment(true, numbers.iter().map(|n| n.0)),
            }
        }
        self.communities(attributes.communities.iter().map(|c| c.0));
        self.extended(attributes.extended_communities.iter().map(|c| c.0));
        self.large(attributes.large_communities.iter().map(|c| c.0));
        self.finish(&Fixed {
            origin: attributes.origin,
            next_hop: attributes.next_hop,
            med: attributes.med,
            local_pref: attributes.local_pref,
            aggregator: attributes.aggregator,
            atomic_aggregate: attributes.atomic_aggregate,
            otc: attributes.otc,
        })
    }
}

impl<'a> Packed<'a> {
    /// Of bytes that begin with what [`Packer`] wrote.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Exactly this set.
    pub fn bytes(self) -> &'a [u8] {
        self.0.get(..self.layout().length).unwrap_or(self.0)
    }

    pub fn fixed(self) -> Fixed {
        self.layout().fixed
    }

    pub fn path(self) -> PackedPath<'a> {
        PackedPath(self.layout().path)
    }

    /// Sorted, each once.
    pub fn communities(self) -> impl Iterator<Item = Community> + 'a {
        words(self.layout().communities).map(Community)
    }

    /// Looked for in the sorted list.
    pub fn has_community(self, wanted: Community) -> bool {
        let communities = self.layout().communities.as_chunks::<4>().0;
        communities
            .binary_search_by_key(&wanted.0, |octets| u32::from_be_bytes(*octets))
            .is_ok()
    }

    /// As [`Attributes::has_any`].
    pub fn has_any(self, communities: &[Community]) -> bool {
        communities.iter().any(|one| self.has_community(*one))
    }

    /// As [`Attributes::is_leaving`].
    pub fn is_leaving(self) -> bool {
        self.has_community(Community::GRACEFUL_SHUTDOWN)
    }

    pub fn attributes(self) -> Attributes {
        let Layout {
            fixed,
            path,
            communities,
            extended,
            large,
            ..
        } = self.layout();
        let extended = extended.as_chunks::<8>().0.iter();
        let large = large.as_chunks::<12>().0.iter();
        Attributes {
            origin: fixed.origin,
            as_path: PackedPath(path).path(),
            next_hop: fixed.next_hop,
            med: fixed.med,
            local_pref: fixed.local_pref,
            communities: words(communities).map(Community).collect(),
            extended_communities: extended
                .map(|octets| ExtendedCommunity(u64::from_be_bytes(*octets)))
                .collect(),
            large_communities: large
                .map(|octets| {
                    let mut parts = words(octets);
                    LargeCommunity([(); 3].map(|()| parts.next().unwrap_or(0)))
                })
                .collect(),
            aggregator: fixed.aggregator,
            atomic_aggregate: fixed.atomic_aggregate,
            otc: fixed.otc,
        }
    }

    #[inline]
    fn layout(self) -> Layout<'a> {
        let mut rest = self.0;
        let [origin, flags] = octets(&mut rest);
        let next_hop = match flags & HOP_IPV6 {
            0 => IpAddr::V4(Ipv4Addr::from(octets::<4>(&mut rest))),
            _ => IpAddr::V6(Ipv6Addr::from(octets::<16>(&mut rest))),
        };
        let mut word = |flag: u8| {
            let has = flags & flag != 0;
            has.then(|| u32::from_be_bytes(octets(&mut rest)))
        };
        let (med, local_pref) = (word(HAS_MED), word(HAS_LOCAL_PREF));
        let aggregator = word(HAS_AGGREGATOR).zip(word(HAS_AGGREGATOR));
        let fixed = Fixed {
            origin: Origin::from_code(origin).unwrap_or(Origin::Incomplete),
            next_hop,
            med,
            local_pref,
            aggregator: aggregator.map(|(asn, address)| Aggregator {
                asn: Asn(asn),
                address: Ipv4Addr::from_bits(address),
            }),
            atomic_aggregate: flags & IS_ATOMIC != 0,
            otc: word(HAS_OTC).map(Asn),
        };
        let mut count = |flag: u8| match flags & flag {
            0 => 0,
            _ => usize::from(u16::from_be_bytes(octets(&mut rest))),
        };
        let communities = count(HAS_COMMUNITIES);
        let (extended, large) = (count(HAS_OTHERS), count(HAS_OTHERS));
        let path = usize::from(u16::from_be_bytes(octets(&mut rest)));
        let mut list = |bytes: usize| {
            let (list, after) = rest.split_at_checked(bytes).unwrap_or((rest, &[]));
            rest = after;
            list
        };
        Layout {
            fixed,
            path: list(4 * path),
            communities: list(4 * communities),
            extended: list(8 * extended),
            large: list(12 * large),
            length: self.0.len() - rest.len(),
        }
    }
}

/// An AS path in a packed set.
#[derive(Clone, Copy, Debug)]
pub struct PackedPath<'a>(&'a [u8]);

impl<'a> PackedPath<'a> {
    /// As [`AsPath::length`].
    pub fn length(self) -> usize {
        self.segments()
            .map(|(is_set, numbers)| if is_set { 1 } else { numbers.len() / 4 })
            .sum()
    }

    /// As [`AsPath::first`].
    pub fn first(self) -> Option<Asn> {
        let (is_set, numbers) = self.segments().next()?;
        words(numbers).next().filter(|_| !is_set).map(Asn)
    }

    /// As [`AsPath::numbers`].
    pub fn numbers(self) -> impl Iterator<Item = Asn> + 'a {
        self.segments()
            .flat_map(|(_, numbers)| words(numbers).map(Asn))
    }

    fn path(self) -> AsPath {
        let segments = self.segments().map(|(is_set, numbers)| {
            let numbers = words(numbers).map(Asn).collect();
            match is_set {
                true => Segment::Set(numbers),
                false => Segment::Sequence(numbers),
            }
        });
        AsPath(segments.collect())
    }

    fn segments(self) -> impl Iterator<Item = (bool, &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let head: &[u8; 4] = rest.first_chunk()?;
            let [kind, high, middle, low] = *head;
            let count = u32::from_be_bytes([0, high, middle, low]) as usize;
            let behind = rest.get(4..)?;
            let (numbers, after) = behind.split_at_checked(4 * count)?;
            rest = after;
            Some((kind == SET, numbers))
        })
    }
}

#[inline]
fn words(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    let words = bytes.as_chunks::<4>().0.iter();
    words.map(|octets| u32::from_be_bytes(*octets))
}

/// The next octets; zeros where nothing is left.
#[inline]
fn octets<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    match rest.split_first_chunk::<N>() {
        Some((octets, after)) => {
            *rest = after;
            *octets
        }
        None => [0; N],
    }
}

fn tidy<T: Ord>(list: &mut Vec<T>) {
    if !list.is_sorted_by(|one, other| one < other) {
        list.sort_unstable();
        list.dedup();
    }
    list.truncate(COUNT_MAX);
}

#[cfg(test)]
#[path = "packed_tests.rs"]
mod tests;
