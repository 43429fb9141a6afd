//! BGP-4 messages on the wire: framing, decoding with bounds, encoding. Sans-IO.
//!
//! `frame` finds a message in a stream → [`decode`] turns it into a [`Message`] by what was
//! negotiated, never by what the bytes look like → `open`, `update` (with `attribute`, `nlri`),
//! `notification`. Malformed attributes cost a route, not the session (RFC 7606); everything that
//! must end the session is an `Err` with the NOTIFICATION to send. No bytes panic, and nothing is
//! allocated that the message does not pay for. `encode` is the other direction; the routers of
//! tests and of the demo use it too.

mod attribute;
mod capability;
mod encode;
mod nlri;
mod notification;
mod open;
mod path;
mod reader;
mod update;

use crate::prefix::Family;
use reader::Reader;

pub use capability::Capability;
pub use encode::announce;
pub use encode::end_of_rib;
pub use encode::keepalive;
pub use encode::notification;
pub use encode::open;
pub use encode::route_refresh;
pub use encode::withdraw;
pub use notification::Fault;
pub use notification::Notification;
pub use notification::SHUTDOWN_TEXT_BYTES_MAX;
pub use open::AS_TRANS;
pub use open::Open;
pub use update::Reach;
pub use update::Update;
pub use update::UpdateFault;

pub const HEADER_BYTES: usize = 19;

/// Without extended messages (RFC 8654), which are not offered.
pub const MESSAGE_BYTES_MAX: usize = 4096;

const MARKER: [u8; 16] = [0xff; 16];

const OPEN: u8 = 1;
const UPDATE: u8 = 2;
const NOTIFICATION: u8 = 3;
const KEEPALIVE: u8 = 4;
const ROUTE_REFRESH: u8 = 5;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    Open(Open),
    Update(Update),
    Notification(Notification),
    Keepalive,
    /// Asks us to send everything again: we announce nothing.
    RouteRefresh {
        afi: u16,
        safi: u8,
    },
}

/// What both sides said in their OPENs: the only thing that decides how bytes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// AS numbers of paths have four octets (RFC 6793).
    pub four_octets: bool,
    pub ipv4: bool,
    pub ipv6: bool,
    /// The neighbour has another AS than we: LOCAL_PREF and its like are not believed.
    pub external: bool,
}

impl Negotiated {
    pub fn has(&self, family: Family) -> bool {
        match family {
            Family::Ipv4 => self.ipv4,
            Family::Ipv6 => self.ipv6,
        }
    }
}

/// Length of the message that `bytes` begins with, as soon as its header is there (RFC 4271
/// section 6.1).
pub fn frame(bytes: &[u8]) -> Result<Option<usize>, Notification> {
    let seen = bytes.len().min(MARKER.len());
    if bytes[..seen] != MARKER[..seen] {
        return Err(Fault::NOT_SYNCHRONISED.into());
    }
    let mut header = Reader::new(&bytes[seen..]);
    let (Some(length), Some(kind)) = (header.u16(), header.u8()) else {
        return Ok(None);
    };
    let bytes = usize::from(length);
    let (least, most) = match kind {
        OPEN => (29, MESSAGE_BYTES_MAX),
        UPDATE => (23, MESSAGE_BYTES_MAX),
        NOTIFICATION => (21, MESSAGE_BYTES_MAX),
        KEEPALIVE => (HEADER_BYTES, HEADER_BYTES),
        ROUTE_REFRESH => (23, 23),
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
pub fn decode(bytes: &[u8], session: Option<&Negotiated>) -> Result<Message, Notification> {
    let wrong_length = || {
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        Notification::new(Fault::BAD_LENGTH, length.to_be_bytes())
    };
    if frame(bytes)? != Some(bytes.len()) {
        return Err(wrong_length());
    }
    let mut reader = Reader::new(bytes);
    let kind = reader.part(HEADER_BYTES).and_then(|header| {
        let mut last = header;
        last.take(HEADER_BYTES - 1)?;
        last.u8()
    });
    match kind {
        Some(OPEN) => Open::decode(reader).map(Message::Open),
        Some(UPDATE) => match session {
            Some(session) => Update::decode(reader, session).map(Message::Update),
            // RFC 6608: OpenSent is the only state without a `session` that reads UPDATEs.
            None => Err(Fault::UNEXPECTED_IN_OPEN_SENT.into()),
        },
        Some(NOTIFICATION) => Notification::decode(reader)
            .map(Message::Notification)
            .ok_or_else(wrong_length),
        Some(KEEPALIVE) => Ok(Message::Keepalive),
        Some(ROUTE_REFRESH) => match (reader.u16(), reader.u8(), reader.u8()) {
            (Some(afi), Some(_reserved), Some(safi)) => Ok(Message::RouteRefresh { afi, safi }),
            (_, _, _) => Err(wrong_length()),
        },
        Some(kind) => Err(Notification::new(Fault::BAD_TYPE, [kind])),
        None => Err(wrong_length()),
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod update_tests;
