//! The attributes of an UPDATE as they are used: small values, and slices of the message.

use super::path::Path;
use super::reader::Reader;
use crate::route;
use crate::route::Asn;
use crate::route::Community;
use std::net::IpAddr;
use std::net::Ipv4Addr;

/// What the routes of one UPDATE share, next hops apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes<'a> {
    pub origin: Origin,
    pub as_path: Path<'a>,
    pub med: Option<u32>,
    /// From an internal neighbour only.
    pub local_pref: Option<u32>,
    pub atomic_aggregate: bool,
    pub aggregator: Option<Aggregator>,
    pub communities: Values<'a, 4>,
    pub extended_communities: Values<'a, 8>,
    pub large_communities: Values<'a, 12>,
    /// RFC 9234.
    pub only_to_customer: Option<Asn>,
}

/// RFC 4271 section 5.1.1. The least is preferred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    #[default]
    Igp,
    Egp,
    Incomplete,
}

/// Who made one route of several (RFC 4271 section 5.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Aggregator {
    pub asn: Asn,
    pub address: Ipv4Addr,
}

/// An attribute that is a list of values of `N` octets, in the order of the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Values<'a, const N: usize>(Reader<'a>);

impl<'a, const N: usize> Values<'a, N> {
    /// `None`: not a multiple of the size, or none at all.
    pub(super) fn decode(value: Reader<'a>) -> Option<Self> {
        let fits = !value.is_empty() && value.len().is_multiple_of(N);
        fits.then_some(Self(value))
    }

    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    pub fn len(self) -> usize {
        self.0.len() / N
    }

    /// As they lie in the message.
    pub fn bytes(self) -> &'a [u8] {
        self.0.bytes()
    }
}

impl<const N: usize> Iterator for Values<'_, N> {
    type Item = [u8; N];

    fn next(&mut self) -> Option<[u8; N]> {
        self.0.array()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let count = self.0.len() / N;
        (count, Some(count))
    }
}

impl Attributes<'_> {
    /// A copy to keep, for routes by this next hop.
    pub fn into_owned(self, next_hop: IpAddr) -> route::Attributes {
        let number = |octets| Community(u32::from_be_bytes(octets));
        let mut communities: Vec<Community> = self.communities.map(number).collect();
        communities.sort_unstable();
        communities.dedup();
        route::Attributes {
            as_path: self.as_path.into_owned(),
            med: self.med,
            communities,
            next_hop,
        }
    }
}

impl Origin {
    pub(super) fn from_wire(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Igp),
            1 => Some(Self::Egp),
            2 => Some(Self::Incomplete),
            3.. => None,
        }
    }

    pub(super) fn code(self) -> u8 {
        match self {
            Self::Igp => 0,
            Self::Egp => 1,
            Self::Incomplete => 2,
        }
    }
}
