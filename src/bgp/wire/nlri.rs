//! Network layer reachability: prefixes as length and as many octets as it needs (RFC 4271 section
//! 4.3, RFC 4760 section 5), each with a path identifier where that was negotiated (RFC 7911).

use super::Negotiated;
use super::reader::Reader;
use crate::prefix::Family;
use crate::prefix::Prefix;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

/// One route's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nlri {
    pub prefix: Prefix,
    /// 0 where ADD-PATH is not negotiated.
    pub path_id: u32,
}

/// A field of prefixes, checked, as it lies in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefixes<'a> {
    field: Reader<'a>,
    family: Family,
    add_path: bool,
}

impl From<Prefix> for Nlri {
    fn from(prefix: Prefix) -> Self {
        Self { prefix, path_id: 0 }
    }
}

impl<'a> Prefixes<'a> {
    pub(super) const NONE: Self = Self {
        field: Reader::NONE,
        family: Family::Ipv4,
        add_path: false,
    };

    /// `None`: a length is too great or cuts the last one off, and nothing of the field can be
    /// believed (RFC 7606 section 5.3).
    pub(super) fn decode(field: Reader<'a>, family: Family, session: &Negotiated) -> Option<Self> {
        let add_path = session.add_path(family);
        let most = family.bits();
        let mut rest = field;
        while !rest.is_empty() {
            if add_path {
                rest.u32()?;
            }
            let length = rest.u8().filter(|length| *length <= most)?;
            rest.take(octets(length))?;
        }
        Some(Self {
            field,
            family,
            add_path,
        })
    }

    pub fn is_empty(&self) -> bool {
        self.field.is_empty()
    }

    pub fn family(&self) -> Family {
        self.family
    }
}

impl Iterator for Prefixes<'_> {
    type Item = Nlri;

    fn next(&mut self) -> Option<Nlri> {
        if self.field.is_empty() {
            return None;
        }
        let path_id = if self.add_path { self.field.u32()? } else { 0 };
        let length = self.field.u8()?;
        let taken = self.field.take(octets(length))?;
        // Bits beyond the length are irrelevant (RFC 4271 section 4.3); `Prefix` drops them.
        let missing = |width: usize| 8 * width.saturating_sub(taken.len());
        let address = match self.family {
            Family::Ipv4 => {
                let bits = taken
                    .iter()
                    .fold(0, |bits, octet| bits << 8 | u64::from(*octet));
                let [_, _, _, _, octets @ ..] = (bits << missing(4)).to_be_bytes();
                IpAddr::V4(Ipv4Addr::from(octets))
            }
            Family::Ipv6 => {
                let bits = taken
                    .iter()
                    .fold(0, |bits, octet| bits << 8 | u128::from(*octet));
                let bits = if taken.is_empty() {
                    0
                } else {
                    bits << missing(16)
                };
                IpAddr::V6(Ipv6Addr::from(bits))
            }
        };
        let prefix = Prefix::new(address, length).ok()?;
        Some(Nlri { prefix, path_id })
    }
}

fn octets(length: u8) -> usize {
    usize::from(length).div_ceil(8)
}

pub(super) fn encode(nlri: &Nlri, add_path: bool, out: &mut Vec<u8>) {
    if add_path {
        out.extend_from_slice(&nlri.path_id.to_be_bytes());
    }
    out.push(nlri.prefix.length());
    let bits = nlri.prefix.bits().to_be_bytes();
    out.extend_from_slice(&bits[..octets(nlri.prefix.length())]);
}

/// Octets that [`encode`] writes.
pub(super) fn encoded_bytes(nlri: &Nlri, add_path: bool) -> usize {
    let path_id = if add_path { 4 } else { 0 };
    path_id + 1 + octets(nlri.prefix.length())
}
