//! Capabilities (RFC 5492): the ones we speak, and all others kept as bytes and never interpreted.

use super::reader::Reader;
use crate::prefix::Family;
use crate::route::Asn;

const MULTI_PROTOCOL: u8 = 1;
const ROUTE_REFRESH: u8 = 2;
const FOUR_OCTET_AS: u8 = 65;

/// SAFI of unicast routes.
pub(super) const UNICAST: u8 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capability {
    /// RFC 4760. Families we do not know stay here too: they are the neighbour's business.
    MultiProtocol { afi: u16, safi: u8 },
    /// RFC 2918.
    RouteRefresh,
    /// RFC 6793: the sender's real AS.
    FourOctetAs(Asn),
    /// Skipped by its length.
    Other { code: u8, value: Vec<u8> },
}

/// AFI 1 or 2 with SAFI 1.
pub(super) fn family(afi: u16, safi: u8) -> Option<Family> {
    match (afi, safi) {
        (1, UNICAST) => Some(Family::Ipv4),
        (2, UNICAST) => Some(Family::Ipv6),
        (_, _) => None,
    }
}

/// The inverse of [`family`].
pub(super) fn afi(family: Family) -> u16 {
    match family {
        Family::Ipv4 => 1,
        Family::Ipv6 => 2,
    }
}

impl Capability {
    pub fn unicast(family: Family) -> Self {
        Self::MultiProtocol {
            afi: afi(family),
            safi: UNICAST,
        }
    }

    /// One capability; `None` if a length does not fit. One that we speak must have its length.
    pub(super) fn decode(bytes: &mut Reader<'_>) -> Option<Self> {
        let code = bytes.u8()?;
        let length = bytes.u8()?;
        let mut value = bytes.part(length.into())?;
        match (code, length) {
            (MULTI_PROTOCOL, 4) => {
                let (afi, _reserved, safi) = (value.u16()?, value.u8()?, value.u8()?);
                Some(Self::MultiProtocol { afi, safi })
            }
            (FOUR_OCTET_AS, 4) => value.u32().map(|asn| Self::FourOctetAs(Asn(asn))),
            (ROUTE_REFRESH, 0) => Some(Self::RouteRefresh),
            (MULTI_PROTOCOL | FOUR_OCTET_AS | ROUTE_REFRESH, _) => None,
            (_, _) => Some(Self::Other {
                code,
                value: value.rest().to_vec(),
            }),
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::MultiProtocol { afi, safi } => {
                let [high, low] = afi.to_be_bytes();
                out.extend_from_slice(&[MULTI_PROTOCOL, 4, high, low, 0, *safi]);
            }
            Self::RouteRefresh => out.extend_from_slice(&[ROUTE_REFRESH, 0]),
            Self::FourOctetAs(Asn(asn)) => {
                out.extend_from_slice(&[FOUR_OCTET_AS, 4]);
                out.extend_from_slice(&asn.to_be_bytes());
            }
            Self::Other { code, value } => {
                let length = u8::try_from(value.len()).unwrap_or(u8::MAX);
                out.extend_from_slice(&[*code, length]);
                out.extend_from_slice(&value[..usize::from(length)]);
            }
        }
    }
}
