//! Capabilities (RFC 5492): those that decide something here, and all others skipped by length.
//!
//! Of what a capability says about address families only IPv4 and IPv6 unicast are read: the rest
//! is the neighbour's business. An optional capability whose contents have no proper form counts as
//! one we do not know, never as an error of the OPEN.

use super::reader::Reader;
use crate::prefix::Family;
use crate::route::Asn;

const MULTI_PROTOCOL: u8 = 1;
const ROUTE_REFRESH: u8 = 2;
const EXTENDED_NEXT_HOP: u8 = 5;
const EXTENDED_MESSAGE: u8 = 6;
const ROLE: u8 = 9;
const GRACEFUL_RESTART: u8 = 64;
const FOUR_OCTET_AS: u8 = 65;
const ADD_PATH: u8 = 69;
const ENHANCED_ROUTE_REFRESH: u8 = 70;
const LONG_LIVED_GRACEFUL_RESTART: u8 = 71;
const HOSTNAME: u8 = 73;

/// SAFI of unicast routes.
pub(super) const UNICAST: u8 = 1;

/// RFC 4724 section 3 and RFC 8538 section 2.
const RESTARTED: u16 = 0x8000;
const KEEPS_AFTER_NOTIFICATION: u16 = 0x4000;
const RESTART_SECONDS: u16 = 0x0fff;
const FORWARDING: u8 = 0x80;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability<'a> {
    /// RFC 4760. Families we do not know stay here too.
    MultiProtocol { afi: u16, safi: u8 },
    /// RFC 2918.
    RouteRefresh,
    /// RFC 7313.
    EnhancedRouteRefresh,
    /// RFC 6793: the sender's real AS.
    FourOctetAs(Asn),
    /// RFC 8654.
    ExtendedMessage,
    /// RFC 8950: IPv4 routes may have IPv6 next hops.
    ExtendedNextHop { ipv4: bool },
    /// RFC 4724.
    GracefulRestart(GracefulRestart),
    /// RFC 9494.
    LongLivedGracefulRestart {
        ipv4: Option<LongLived>,
        ipv6: Option<LongLived>,
    },
    /// RFC 7911: what the sender is able to do.
    AddPath {
        ipv4: Option<AddPath>,
        ipv6: Option<AddPath>,
    },
    /// RFC 9234.
    Role(Role),
    /// draft-walton-bgp-hostname-capability: not printable until made so.
    Hostname { host: &'a [u8], domain: &'a [u8] },
    /// Skipped by its length.
    Other { code: u8, value: &'a [u8] },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GracefulRestart {
    /// The sender has just restarted.
    pub restarted: bool,
    /// A NOTIFICATION does not end the restart either (RFC 8538).
    pub notification: bool,
    /// At most 4095.
    pub seconds: u16,
    pub ipv4: Option<Kept>,
    pub ipv6: Option<Kept>,
}

/// A family of a graceful restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The sender went on forwarding while it restarted.
    pub forwarding: bool,
}

/// A family of a long-lived graceful restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LongLived {
    pub forwarding: bool,
    /// Three octets of them.
    pub seconds: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddPath {
    Receive,
    Send,
    Both,
}

/// The sender's, as seen from itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Provider,
    RouteServer,
    RouteServerClient,
    Customer,
    Peer,
    /// Not assigned yet.
    Unknown(u8),
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

impl AddPath {
    pub fn sends(self) -> bool {
        matches!(self, Self::Send | Self::Both)
    }

    pub fn receives(self) -> bool {
        matches!(self, Self::Receive | Self::Both)
    }
}

impl<'a> Capability<'a> {
    pub fn unicast(family: Family) -> Self {
        Self::MultiProtocol {
            afi: afi(family),
            safi: UNICAST,
        }
    }

    /// One capability; `None` if a length does not fit.
    pub(super) fn decode(bytes: &mut Reader<'a>) -> Option<Self> {
        let code = bytes.u8()?;
        let length = bytes.u8()?;
        let value = bytes.part(length.into())?;
        let other = Self::Other {
            code,
            value: value.bytes(),
        };
        match (code, length) {
            (MULTI_PROTOCOL, 4) => {
                let mut value = value;
                let (afi, _reserved, safi) = (value.u16()?, value.u8()?, value.u8()?);
                Some(Self::MultiProtocol { afi, safi })
            }
            (FOUR_OCTET_AS, 4) => {
                let mut value = value;
                value.u32().map(|asn| Self::FourOctetAs(Asn(asn)))
            }
            (ROUTE_REFRESH, 0) => Some(Self::RouteRefresh),
            // No session without these can be understood.
            (MULTI_PROTOCOL | FOUR_OCTET_AS | ROUTE_REFRESH, _) => None,
            (ENHANCED_ROUTE_REFRESH, 0) => Some(Self::EnhancedRouteRefresh),
            (EXTENDED_MESSAGE, 0) => Some(Self::ExtendedMessage),
            (ROLE, 1) => {
                let mut value = value;
                value.u8().map(|role| Self::Role(Role::from(role)))
            }
            (EXTENDED_NEXT_HOP, _) => Some(extended_next_hop(value).unwrap_or(other)),
            (GRACEFUL_RESTART, _) => Some(graceful_restart(value).unwrap_or(other)),
            (LONG_LIVED_GRACEFUL_RESTART, _) => Some(long_lived(value).unwrap_or(other)),
            (ADD_PATH, _) => Some(add_path(value).unwrap_or(other)),
            (HOSTNAME, _) => Some(hostname(value).unwrap_or(other)),
            (_, _) => Some(other),
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[self.code(), 0]);
        match *self {
            Self::MultiProtocol { afi, safi } => {
                let [high, low] = afi.to_be_bytes();
                out.extend_from_slice(&[high, low, 0, safi]);
            }
            Self::RouteRefresh | Self::EnhancedRouteRefresh | Self::ExtendedMessage => {}
            Self::FourOctetAs(Asn(asn)) => out.extend_from_slice(&asn.to_be_bytes()),
            Self::ExtendedNextHop { ipv4: true } => {
                out.extend_from_slice(&[0, 1, 0, UNICAST, 0, 2]);
            }
            Self::ExtendedNextHop { ipv4: false } => {}
            Self::GracefulRestart(restart) => restart.encode(out),
            Self::LongLivedGracefulRestart { ipv4, ipv6 } => {
                for (family, kept) in named(ipv4, ipv6) {
                    let [_, seconds @ ..] = kept.seconds.min(0x00ff_ffff).to_be_bytes();
                    out.extend_from_slice(&afi(family).to_be_bytes());
                    out.extend_from_slice(&[UNICAST, flag(kept.forwarding)]);
                    out.extend_from_slice(&seconds);
                }
            }
            Self::AddPath { ipv4, ipv6 } => {
                for (family, direction) in named(ipv4, ipv6) {
                    let direction = match direction {
                        AddPath::Receive => 1,
                        AddPath::Send => 2,
                        AddPath::Both => 3,
                    };
                    out.extend_from_slice(&afi(family).to_be_bytes());
                    out.extend_from_slice(&[UNICAST, direction]);
                }
            }
            Self::Role(role) => out.push(role.into()),
            Self::Hostname { host, domain } => {
                let mut room = NAMES_BYTES_MAX;
                for name in [host, domain] {
                    let name = &name[..name.len().min(room)];
                    room -= name.len();
                    out.push(u8::try_from(name.len()).unwrap_or(0));
                    out.extend_from_slice(name);
                }
            }
            Self::Other { value, .. } => {
                out.extend_from_slice(&value[..value.len().min(usize::from(u8::MAX))]);
            }
        }
        let length = out.len() - start - 2;
        out[start + 1] = u8::try_from(length).unwrap_or(u8::MAX);
    }

    fn code(&self) -> u8 {
        match self {
            Self::MultiProtocol { .. } => MULTI_PROTOCOL,
            Self::RouteRefresh => ROUTE_REFRESH,
            Self::EnhancedRouteRefresh => ENHANCED_ROUTE_REFRESH,
            Self::FourOctetAs(_) => FOUR_OCTET_AS,
            Self::ExtendedMessage => EXTENDED_MESSAGE,
            Self::ExtendedNextHop { .. } => EXTENDED_NEXT_HOP,
            Self::GracefulRestart(_) => GRACEFUL_RESTART,
            Self::LongLivedGracefulRestart { .. } => LONG_LIVED_GRACEFUL_RESTART,
            Self::AddPath { .. } => ADD_PATH,
            Self::Role(_) => ROLE,
            Self::Hostname { .. } => HOSTNAME,
            Self::Other { code, .. } => *code,
        }
    }
}

/// So that both names and their lengths fit into one capability.
const NAMES_BYTES_MAX: usize = 253;

impl GracefulRestart {
    fn encode(self, out: &mut Vec<u8>) {
        let mut head = self.seconds.min(RESTART_SECONDS);
        head |= if self.restarted { RESTARTED } else { 0 };
        head |= if self.notification {
            KEEPS_AFTER_NOTIFICATION
        } else {
            0
        };
        out.extend_from_slice(&head.to_be_bytes());
        for (family, kept) in named(self.ipv4, self.ipv6) {
            out.extend_from_slice(&afi(family).to_be_bytes());
            out.extend_from_slice(&[UNICAST, flag(kept.forwarding)]);
        }
    }
}

impl From<u8> for Role {
    fn from(number: u8) -> Self {
        match number {
            0 => Self::Provider,
            1 => Self::RouteServer,
            2 => Self::RouteServerClient,
            3 => Self::Customer,
            4 => Self::Peer,
            5.. => Self::Unknown(number),
        }
    }
}

impl From<Role> for u8 {
    fn from(role: Role) -> Self {
        match role {
            Role::Provider => 0,
            Role::RouteServer => 1,
            Role::RouteServerClient => 2,
            Role::Customer => 3,
            Role::Peer => 4,
            Role::Unknown(number) => number,
        }
    }
}

fn flag(forwarding: bool) -> u8 {
    if forwarding { FORWARDING } else { 0 }
}

fn named<T>(ipv4: Option<T>, ipv6: Option<T>) -> impl Iterator<Item = (Family, T)> {
    let ipv4 = ipv4.map(|of| (Family::Ipv4, of));
    ipv4.into_iter().chain(ipv6.map(|of| (Family::Ipv6, of)))
}

/// Reads a list of families with `read` behind each; of a family named twice the last counts.
/// `None`: the list does not end with one of its entries.
fn families<'a, T>(
    mut value: Reader<'a>,
    read: impl Fn(&mut Reader<'a>) -> Option<Option<T>>,
) -> Option<(Option<T>, Option<T>)> {
    let (mut ipv4, mut ipv6) = (None, None);
    while !value.is_empty() {
        let (afi, safi) = (value.u16()?, value.u8()?);
        let said = read(&mut value)?;
        match family(afi, safi) {
            Some(Family::Ipv4) => ipv4 = said,
            Some(Family::Ipv6) => ipv6 = said,
            None => {}
        }
    }
    Some((ipv4, ipv6))
}

fn graceful_restart(mut value: Reader<'_>) -> Option<Capability<'_>> {
    let head = value.u16()?;
    let (ipv4, ipv6) = families(value, |value| {
        let forwarding = value.u8()? & FORWARDING != 0;
        Some(Some(Kept { forwarding }))
    })?;
    Some(Capability::GracefulRestart(GracefulRestart {
        restarted: head & RESTARTED != 0,
        notification: head & KEEPS_AFTER_NOTIFICATION != 0,
        seconds: head & RESTART_SECONDS,
        ipv4,
        ipv6,
    }))
}

fn long_lived(value: Reader<'_>) -> Option<Capability<'_>> {
    let (ipv4, ipv6) = families(value, |value| {
        let forwarding = value.u8()? & FORWARDING != 0;
        let seconds = value.u24()?;
        Some(Some(LongLived {
            forwarding,
            seconds,
        }))
    })?;
    Some(Capability::LongLivedGracefulRestart { ipv4, ipv6 })
}

/// A direction that does not exist is no direction (RFC 7911 section 4).
fn add_path(value: Reader<'_>) -> Option<Capability<'_>> {
    let (ipv4, ipv6) = families(value, |value| {
        Some(match value.u8()? {
            1 => Some(AddPath::Receive),
            2 => Some(AddPath::Send),
            3 => Some(AddPath::Both),
            0 | 4.. => None,
        })
    })?;
    Some(Capability::AddPath { ipv4, ipv6 })
}

/// Family, SAFI of two octets here, and the family of the next hop.
fn extended_next_hop(mut value: Reader<'_>) -> Option<Capability<'_>> {
    let mut ipv4 = false;
    while !value.is_empty() {
        let entry = (value.u16()?, value.u16()?, value.u16()?);
        ipv4 |= entry == (1, u16::from(UNICAST), 2);
    }
    Some(Capability::ExtendedNextHop { ipv4 })
}

fn hostname(mut value: Reader<'_>) -> Option<Capability<'_>> {
    let mut name = || {
        let length = value.u8()?;
        value.take(length.into())
    };
    let (host, domain) = (name()?, name()?);
    value
        .is_empty()
        .then_some(Capability::Hostname { host, domain })
}
