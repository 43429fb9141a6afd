//! Network layer reachability: prefixes as length and as many octets as it needs (RFC 4271 section
//! 4.3, RFC 4760 section 5).

use super::reader::Reader;
use crate::prefix::Family;
use crate::prefix::Prefix;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

/// Appends every prefix of `field`. `None`: a length is too great or cuts the last one off, and
/// nothing of the field can be believed (RFC 7606 section 5.3).
pub(super) fn decode(mut field: Reader<'_>, family: Family, into: &mut Vec<Prefix>) -> Option<()> {
    while !field.is_empty() {
        let length = field.u8().filter(|length| *length <= family.bits())?;
        let octets = field.take(usize::from(length).div_ceil(8))?;
        // Bits beyond the length are irrelevant; `Prefix` drops them.
        let address = match family {
            Family::Ipv4 => {
                let mut bytes = [0; 4];
                bytes[..octets.len()].copy_from_slice(octets);
                IpAddr::V4(Ipv4Addr::from(bytes))
            }
            Family::Ipv6 => {
                let mut bytes = [0; 16];
                bytes[..octets.len()].copy_from_slice(octets);
                IpAddr::V6(Ipv6Addr::from(bytes))
            }
        };
        into.push(Prefix::new(address, length).ok()?);
    }
    Some(())
}

pub(super) fn encode(prefix: &Prefix, out: &mut Vec<u8>) {
    out.push(prefix.length());
    let octets = usize::from(prefix.length()).div_ceil(8);
    out.extend_from_slice(&prefix.bits().to_be_bytes()[..octets]);
}

/// Octets that [`encode`] writes.
pub(super) fn encoded_bytes(prefix: &Prefix) -> usize {
    1 + usize::from(prefix.length()).div_ceil(8)
}
