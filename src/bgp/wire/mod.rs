//! BGP-4 messages on the wire: framing, decoding with bounds, encoding. Sans-IO.
//!
//! `frame` finds a message in a stream → [`decode`] turns it into a [`Message`] by what was
//! negotiated, never by what the bytes look like → `open` (with `capability`), `update` (with
//! `attribute`, `path`, `values`, `nlri`), `notification`. A message borrows from its bytes and
//! nothing is allocated to read one. Malformed attributes cost a route, not the session (RFC 7606,
//! `fault`); what must end the session is an `Err` with the NOTIFICATION to send. No bytes panic.
//! `encode` is the other direction; the routers of tests and of the demo use it too.

mod attribute;
mod capability;
mod encode;
mod fault;
mod nlri;
mod notification;
mod open;
mod path;
mod reader;
mod update;
mod values;

use crate::prefix::Family;
use reader::Reader;

pub use capability::AddPath;
pub use capability::Capability;
pub use capability::GracefulRestart;
pub use capability::Kept;
pub use capability::LongLived;
pub use capability::Role;
pub use encode::Announcement;
pub use encode::announce;
pub use encode::announce_on;
pub use encode::end_of_rib;
pub use encode::keepalive;
pub use encode::notification;
pub use encode::open;
pub use encode::refresh;
pub use encode::route_refresh;
pub use encode::withdraw;
pub use encode::withdraw_on;
pub use fault::FaultKind;
pub use fault::Faults;
pub use fault::Handling;
pub use fault::Malformed;
pub use fault::UpdateFault;
pub use nlri::Nlri;
pub use nlri::Prefixes;
pub use notification::Fault;
pub use notification::Notification;
pub use notification::SHUTDOWN_TEXT_BYTES_MAX;
pub use open::AS_TRANS;
pub use open::Capabilities;
pub use open::Open;
pub use path::PATH_NUMBERS_KEPT;
pub use path::Path;
pub use path::Segment;
pub use path::SegmentKind;
pub use update::Reach;
pub use update::Update;
pub use values::Aggregator;
pub use values::Attributes;
pub use values::Origin;
pub use values::Values;

pub const HEADER_BYTES: usize = 19;

/// Of any message before OPENs are exchanged, and of every OPEN and KEEPALIVE.
pub const MESSAGE_BYTES_MAX: usize = 4096;

/// With extended messages (RFC 8654): all that the header's length can say.
pub const EXTENDED_MESSAGE_BYTES_MAX: usize = 65_535;

const MARKER: [u8; 16] = [0xff; 16];

const OPEN: u8 = 1;
const UPDATE: u8 = 2;
const NOTIFICATION: u8 = 3;
const KEEPALIVE: u8 = 4;
const ROUTE_REFRESH: u8 = 5;
const ROUTE_REFRESH_BYTES: usize = HEADER_BYTES + 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "lives on the stack while it is applied; a box would be an allocation"
)]
pub enum Message<'a> {
    Open(Open<'a>),
    Update(Update<'a>),
    Notification(Notification<&'a [u8]>),
    Keepalive,
    RouteRefresh {
        afi: u16,
        safi: u8,
        subtype: Refresh,
    },
}

/// What a ROUTE-REFRESH says (RFC 7313 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// Send everything again: we announce nothing.
    Request,
    /// What comes from here to the end replaces what was sent before.
    Begin,
    End,
    /// To be ignored (RFC 7313 section 5).
    Unknown(u8),
}

/// What both sides said in their OPENs: the only thing that decides how bytes are read. The default
/// is a session of two octets without any family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Negotiated {
    /// AS numbers of paths have four octets (RFC 6793).
    pub four_octets: bool,
    pub ipv4: bool,
    pub ipv6: bool,
    /// The neighbour has another AS than we: LOCAL_PREF and its like are not believed.
    pub external: bool,
    /// The neighbour sends path identifiers and we said that we read them (RFC 7911).
    pub add_path_ipv4: bool,
    pub add_path_ipv6: bool,
    /// Both sides take messages beyond 4096 bytes (RFC 8654).
    pub extended_messages: bool,
    /// IPv4 routes may have an IPv6 next hop (RFC 8950).
    pub extended_next_hop: bool,
}

impl Negotiated {
    /// What nearly every session comes to: both families and four octets, with another AS.
    pub const ORDINARY: Self = Self {
        four_octets: true,
        ipv4: true,
        ipv6: true,
        external: true,
        add_path_ipv4: false,
        add_path_ipv6: false,
        extended_messages: false,
        extended_next_hop: false,
    };

    pub fn has(&self, family: Family) -> bool {
        match family {
            Family::Ipv4 => self.ipv4,
            Family::Ipv6 => self.ipv6,
        }
    }

    pub fn add_path(&self, family: Family) -> bool {
        match family {
            Family::Ipv4 => self.add_path_ipv4,
            Family::Ipv6 => self.add_path_ipv6,
        }
    }

    /// The limit that [`frame`] needs; before OPENs are exchanged it is [`MESSAGE_BYTES_MAX`].
    pub fn message_bytes_max(&self) -> usize {
        if self.extended_messages {
            EXTENDED_MESSAGE_BYTES_MAX
        } else {
            MESSAGE_BYTES_MAX
        }
    }

    /// Without a family whose prefixes could not be read ([`Update::disabled`]).
    pub fn without(self, family: Family) -> Self {
        match family {
            Family::Ipv4 => Self {
                ipv4: false,
                ..self
            },
            Family::Ipv6 => Self {
                ipv6: false,
                ..self
            },
        }
    }
}

impl From<u8> for Refresh {
    fn from(subtype: u8) -> Self {
        match subtype {
            0 => Self::Request,
            1 => Self::Begin,
            2 => Self::End,
            3.. => Self::Unknown(subtype),
        }
    }
}

impl From<Refresh> for u8 {
    fn from(refresh: Refresh) -> Self {
        match refresh {
            Refresh::Request => 0,
            Refresh::Begin => 1,
            Refresh::End => 2,
            Refresh::Unknown(subtype) => subtype,
        }
    }
}

/// Length of the message that `bytes` begins with, as soon as its header is there (RFC 4271
/// section 6.1). `most` is the limit in force: [`Negotiated::message_bytes_max`].
pub fn frame(bytes: &[u8], most: usize) -> Result<Option<usize>, Notification> {
    let Some((marker, header)) = bytes.split_first_chunk::<16>() else {
        let is_begun = bytes == &MARKER[..bytes.len()];
        return is_begun
            .then_some(None)
            .ok_or(Fault::NOT_SYNCHRONISED.into());
    };
    if *marker != MARKER {
        return Err(Fault::NOT_SYNCHRONISED.into());
    }
    let mut header = Reader::new(header);
    let (Some(length), Some(kind)) = (header.u16(), header.u8()) else {
        return Ok(None);
    };
    let bytes = usize::from(length);
    let (least, most) = match kind {
        // RFC 8654 section 4: these never grow.
        OPEN => (29, MESSAGE_BYTES_MAX),
        KEEPALIVE => (HEADER_BYTES, HEADER_BYTES),
        UPDATE => (23, most),
        NOTIFICATION => (21, most),
        // A length that is wrong for its subtype is told with the whole message (RFC 7313).
        ROUTE_REFRESH => (ROUTE_REFRESH_BYTES, most),
        // The length of what is not understood cannot be judged by its type.
        _ => return Err(Notification::new(Fault::BAD_TYPE, [kind])),
    };
    if (least..=most).contains(&bytes) {
        Ok(Some(bytes))
    } else {
        let data = length.to_be_bytes();
        Err(Notification::new(Fault::BAD_LENGTH, data))
    }
}

/// A whole message, as [`frame`] cut it out. `session` is `None` until OPENs are exchanged: an
/// UPDATE cannot be read before, and is an error of the state machine then.
pub fn decode<'a>(bytes: &'a [u8], session: Option<&Negotiated>) -> Result<Message<'a>, Malformed> {
    let wrong_length = || {
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        Malformed::from(Notification::new(Fault::BAD_LENGTH, length.to_be_bytes()))
    };
    let most = session.map_or(MESSAGE_BYTES_MAX, Negotiated::message_bytes_max);
    if frame(bytes, most)? != Some(bytes.len()) {
        return Err(wrong_length());
    }
    let mut reader = Reader::new(bytes);
    let kind = reader.take(HEADER_BYTES - 1).and_then(|_| reader.u8());
    match kind {
        Some(OPEN) => Ok(Message::Open(Open::decode(reader)?)),
        Some(UPDATE) => match session {
            Some(session) => Update::decode(reader, session).map(Message::Update),
            // RFC 6608: OpenSent is the only state without a `session` that reads UPDATEs.
            None => Err(Fault::UNEXPECTED_IN_OPEN_SENT.into()),
        },
        Some(NOTIFICATION) => Notification::decode(reader)
            .map(Message::Notification)
            .ok_or_else(wrong_length),
        Some(KEEPALIVE) => Ok(Message::Keepalive),
        Some(ROUTE_REFRESH) => {
            let fields = (reader.u16(), reader.u8().map(Refresh::from), reader.u8());
            match (fields, reader.is_empty()) {
                ((Some(afi), Some(subtype @ Refresh::Unknown(_)), Some(safi)), _)
                | ((Some(afi), Some(subtype), Some(safi)), true) => {
                    Ok(Message::RouteRefresh { afi, safi, subtype })
                }
                // RFC 7313 section 5: with the whole message.
                ((_, Some(Refresh::Begin | Refresh::End), _), _) => {
                    Err(Notification::new(Fault::REFRESH_LENGTH, bytes).into())
                }
                // Filters (RFC 5291) are not offered.
                ((_, _, _), _) => Err(wrong_length()),
            }
        }
        Some(kind) => Err(Notification::new(Fault::BAD_TYPE, [kind]).into()),
        None => Err(wrong_length()),
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod update_tests;
#[cfg(test)]
mod vectors;
