//! OPEN (RFC 4271 section 4.2) with optional parameters in both encodings (RFC 9072).

use super::capability;
use super::capability::Capability;
use super::notification::Fault;
use super::notification::Notification;
use super::reader::Reader;
use crate::prefix::Family;
use crate::route::Asn;
use std::net::Ipv4Addr;

/// Stands for an AS number that does not fit into two octets (RFC 6793).
pub const AS_TRANS: Asn = Asn(23456);

const VERSION: u8 = 4;
/// The one optional parameter there is; all others have been withdrawn.
const CAPABILITIES: u8 = 2;
/// In the place of a parameter's type: lengths have two octets (RFC 9072 section 2).
const EXTENDED: u8 = 255;

/// What a side says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open<'a> {
    /// The real AS: the capability's where there is one.
    pub asn: Asn,
    /// Seconds; 1 and 2 never get here.
    pub hold_time: u16,
    pub router_id: Ipv4Addr,
    pub capabilities: Capabilities<'a>,
}

/// In the order of the message.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities<'a>(Source<'a>);

#[derive(Clone, Copy, Debug)]
enum Source<'a> {
    /// To be sent.
    Listed(&'a [Capability<'a>]),
    /// As received, and checked.
    Parameters(Parameters<'a>),
}

/// The field of optional parameters, capability by capability.
#[derive(Clone, Copy, Debug)]
struct Parameters<'a> {
    is_extended: bool,
    rest: Reader<'a>,
    /// Of the parameter that is being read.
    value: Reader<'a>,
}

impl<'a> Open<'a> {
    /// Everything that is wrong with an OPEN by itself (RFC 4271 section 6.2, RFC 7607).
    pub(super) fn decode(mut body: Reader<'a>) -> Result<Self, Notification> {
        let malformed = || Notification::from(Fault::OPEN_MALFORMED);
        let version = body.u8().ok_or_else(malformed)?;
        if version != VERSION {
            let supported = u16::from(VERSION).to_be_bytes();
            return Err(Notification::new(Fault::BAD_VERSION, supported));
        }
        let short_asn = body.u16().ok_or_else(malformed)?;
        let hold_time = body.u16().ok_or_else(malformed)?;
        let router_id = body.ipv4().ok_or_else(malformed)?;
        let capabilities = Capabilities::decode(body)?;
        let asn = four_octet_as(capabilities).unwrap_or(Asn(short_asn.into()));
        // RFC 6793 section 4.1: a number that fits is in both places; AS_TRANS goes with any.
        let agree = short_asn == short(asn) || short_asn == short(AS_TRANS);
        if asn.0 == 0 || !agree {
            return Err(Fault::BAD_PEER_AS.into());
        }
        if matches!(hold_time, 1 | 2) {
            return Err(Fault::BAD_HOLD_TIME.into());
        }
        if router_id.is_unspecified() {
            return Err(Fault::BAD_IDENTIFIER.into());
        }
        Ok(Self {
            asn,
            hold_time,
            router_id,
            capabilities,
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.extend_from_slice(&short(self.asn).to_be_bytes());
        out.extend_from_slice(&self.hold_time.to_be_bytes());
        out.extend_from_slice(&self.router_id.octets());
        let mut value = Vec::new();
        for capability in self.capabilities {
            capability.encode(&mut value);
        }
        match (u8::try_from(value.len()), u8::try_from(value.len() + 2)) {
            (Ok(0), _) => out.push(0),
            (Ok(length), Ok(whole)) if whole < EXTENDED => {
                out.extend_from_slice(&[whole, CAPABILITIES, length]);
            }
            (_, _) => {
                let length = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes();
                out.extend_from_slice(&[EXTENDED, EXTENDED]);
                out.extend_from_slice(&length(value.len() + 3));
                out.push(CAPABILITIES);
                out.extend_from_slice(&length(value.len()));
            }
        }
        out.extend_from_slice(&value);
    }

    pub fn speaks_four_octets(&self) -> bool {
        four_octet_as(self.capabilities).is_some()
    }

    /// Who names no family at all speaks IPv4 unicast alone (RFC 4760 section 8).
    pub fn speaks(&self, family: Family) -> bool {
        let mut names_any = false;
        for capability in self.capabilities {
            if let Capability::MultiProtocol { afi, safi } = capability {
                names_any = true;
                if capability::family(afi, safi) == Some(family) {
                    return true;
                }
            }
        }
        !names_any && family == Family::Ipv4
    }
}

impl<'a> Capabilities<'a> {
    pub const NONE: Self = Self::of(&[]);

    pub const fn of(listed: &'a [Capability<'a>]) -> Self {
        Self(Source::Listed(listed))
    }

    fn decode(mut body: Reader<'a>) -> Result<Self, Notification> {
        let malformed = || Notification::from(Fault::OPEN_MALFORMED);
        let length = body.u8().ok_or_else(malformed)?;
        let mut peek = body;
        let is_extended = length > 0 && peek.u8() == Some(EXTENDED);
        let length = if is_extended {
            body = peek;
            usize::from(body.u16().ok_or_else(malformed)?)
        } else {
            usize::from(length)
        };
        if length != body.len() {
            return Err(malformed());
        }
        let parameters = Parameters {
            is_extended,
            rest: body,
            value: Reader::NONE,
        };
        let mut check = parameters;
        while check.next()?.is_some() {}
        Ok(Self(Source::Parameters(parameters)))
    }
}

impl<'a> Parameters<'a> {
    /// Every call that finds a capability has moved on by two octets at least.
    fn next(&mut self) -> Result<Option<Capability<'a>>, Notification> {
        let malformed = || Notification::from(Fault::OPEN_MALFORMED);
        while self.value.is_empty() {
            if self.rest.is_empty() {
                return Ok(None);
            }
            let kind = self.rest.u8();
            let length = if self.is_extended {
                self.rest.u16().map(usize::from)
            } else {
                self.rest.u8().map(usize::from)
            };
            let (Some(kind), Some(length)) = (kind, length) else {
                return Err(malformed());
            };
            self.value = self.rest.part(length).ok_or_else(malformed)?;
            if kind != CAPABILITIES {
                return Err(Fault::BAD_PARAMETER.into());
            }
        }
        let capability = Capability::decode(&mut self.value);
        capability.map(Some).ok_or_else(malformed)
    }
}

/// Iterates [`Capabilities`].
#[derive(Clone, Debug)]
pub struct Listing<'a>(Source<'a>);

impl<'a> Iterator for Listing<'a> {
    type Item = Capability<'a>;

    fn next(&mut self) -> Option<Capability<'a>> {
        match &mut self.0 {
            Source::Listed(listed) => {
                let (first, rest) = listed.split_first()?;
                *listed = rest;
                Some(*first)
            }
            Source::Parameters(parameters) => parameters.next().ok().flatten(),
        }
    }
}

impl<'a> IntoIterator for Capabilities<'a> {
    type Item = Capability<'a>;
    type IntoIter = Listing<'a>;

    fn into_iter(self) -> Listing<'a> {
        Listing(self.0)
    }
}

impl PartialEq for Capabilities<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.into_iter().eq(*other)
    }
}

impl Eq for Capabilities<'_> {}

fn four_octet_as(capabilities: Capabilities<'_>) -> Option<Asn> {
    capabilities.into_iter().find_map(|capability| {
        if let Capability::FourOctetAs(asn) = capability {
            Some(asn)
        } else {
            None
        }
    })
}

/// As the two octets of the fixed part say it.
fn short(asn: Asn) -> u16 {
    u16::try_from(asn.0).unwrap_or(23456)
}
