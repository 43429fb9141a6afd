//! NOTIFICATION: why a session ends, as numbers and in words (RFC 4271 section 4.5, RFC 4486,
//! RFC 6608, RFC 9003).

use super::reader::Reader;
use crate::help;

/// Longest shutdown communication (RFC 9003 section 2).
pub const SHUTDOWN_TEXT_BYTES_MAX: usize = 255;

/// Bytes of a neighbour's data that are shown to people.
const SHOWN_BYTES_MAX: usize = 160;

/// Error code and subcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fault(pub u8, pub u8);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    pub fault: Fault,
    pub data: Vec<u8>,
}

impl Fault {
    pub const NOT_SYNCHRONISED: Self = Self(1, 1);
    pub const BAD_LENGTH: Self = Self(1, 2);
    pub const BAD_TYPE: Self = Self(1, 3);
    pub const OPEN_MALFORMED: Self = Self(2, 0);
    pub const BAD_VERSION: Self = Self(2, 1);
    pub const BAD_PEER_AS: Self = Self(2, 2);
    pub const BAD_IDENTIFIER: Self = Self(2, 3);
    pub const BAD_PARAMETER: Self = Self(2, 4);
    pub const BAD_HOLD_TIME: Self = Self(2, 6);
    pub const UNSUPPORTED_CAPABILITY: Self = Self(2, 7);
    pub const ATTRIBUTE_LIST: Self = Self(3, 1);
    pub const UNKNOWN_WELL_KNOWN: Self = Self(3, 2);
    pub const MISSING_ATTRIBUTE: Self = Self(3, 3);
    pub const ATTRIBUTE_FLAGS: Self = Self(3, 4);
    pub const ATTRIBUTE_LENGTH: Self = Self(3, 5);
    pub const BAD_ORIGIN: Self = Self(3, 6);
    pub const BAD_NEXT_HOP: Self = Self(3, 8);
    pub const OPTIONAL_ATTRIBUTE: Self = Self(3, 9);
    pub const BAD_NETWORK: Self = Self(3, 10);
    pub const BAD_AS_PATH: Self = Self(3, 11);
    pub const HOLD_TIME_ENDED: Self = Self(4, 0);
    pub const UNEXPECTED_IN_OPEN_SENT: Self = Self(5, 1);
    pub const UNEXPECTED_IN_OPEN_CONFIRM: Self = Self(5, 2);
    pub const UNEXPECTED_IN_ESTABLISHED: Self = Self(5, 3);
    pub const TOO_MANY_PREFIXES: Self = Self(6, 1);
    pub const SHUTDOWN: Self = Self(6, 2);
    pub const REJECTED: Self = Self(6, 5);
    pub const COLLISION: Self = Self(6, 7);
    pub const OUT_OF_RESOURCES: Self = Self(6, 8);

    /// For people; a number without a name is shown as it came.
    pub fn words(self) -> &'static str {
        match (self.0, self.1) {
            (1, 1) => "connection not synchronised",
            (1, 2) => "bad message length",
            (1, 3) => "bad message type",
            (1, _) => "message header error",
            (2, 1) => "unsupported version number",
            (2, 2) => "bad peer AS",
            (2, 3) => "bad BGP identifier",
            (2, 4) => "unsupported optional parameter",
            (2, 6) => "unacceptable hold time",
            (2, 7) => "unsupported capability",
            (2, 11) => "role mismatch",
            (2, _) => "OPEN message error",
            (3, 1) => "malformed attribute list",
            (3, 2) => "unrecognised well-known attribute",
            (3, 3) => "missing well-known attribute",
            (3, 4) => "attribute flags error",
            (3, 5) => "attribute length error",
            (3, 6) => "invalid ORIGIN",
            (3, 8) => "invalid NEXT_HOP",
            (3, 9) => "optional attribute error",
            (3, 10) => "invalid network field",
            (3, 11) => "malformed AS_PATH",
            (3, _) => "UPDATE message error",
            (4, _) => "hold timer expired",
            (5, 1) => "unexpected message in OpenSent",
            (5, 2) => "unexpected message in OpenConfirm",
            (5, 3) => "unexpected message in Established",
            (5, _) => "state machine error",
            (6, 1) => "maximum number of prefixes reached",
            (6, 2) => "administrative shutdown",
            (6, 3) => "peer de-configured",
            (6, 4) => "administrative reset",
            (6, 5) => "connection rejected",
            (6, 6) => "other configuration change",
            (6, 7) => "connection collision resolution",
            (6, 8) => "out of resources",
            (6, 9) => "hard reset",
            (6, 10) => "BFD down",
            (6, _) => "cease",
            (7, 1) => "invalid ROUTE-REFRESH length",
            (7, _) => "ROUTE-REFRESH message error",
            (_, _) => "unknown error",
        }
    }
}

impl From<Fault> for Notification {
    fn from(fault: Fault) -> Self {
        Self::new(fault, [])
    }
}

impl Notification {
    pub fn new(fault: Fault, data: impl Into<Vec<u8>>) -> Self {
        let data = data.into();
        Self { fault, data }
    }

    /// CEASE with a text for the other side's operator, cut at a character (RFC 9003).
    pub fn shutdown(text: &str) -> Self {
        let cut = text.floor_char_boundary(SHUTDOWN_TEXT_BYTES_MAX);
        let mut data = vec![u8::try_from(cut).unwrap_or(0)];
        data.extend_from_slice(&text.as_bytes()[..cut]);
        Self::new(Fault::SHUTDOWN, data)
    }

    pub(super) fn decode(mut body: Reader<'_>) -> Option<Self> {
        let fault = Fault(body.u8()?, body.u8()?);
        Some(Self::new(fault, body.rest()))
    }

    /// The shutdown communication, if this carries one whose length fits (RFC 9003 section 2).
    pub fn text(&self) -> Option<String> {
        if !matches!(self.fault, Fault(6, 2 | 4)) {
            return None;
        }
        let mut data = Reader::new(&self.data);
        let length = usize::from(data.u8()?);
        let text = data.take(length).filter(|text| !text.is_empty())?;
        Some(help::printable(text, SHOWN_BYTES_MAX))
    }

    /// `6/2 administrative shutdown: "maintenance"`: bounded and printable.
    pub fn words(&self) -> String {
        let Fault(code, subcode) = self.fault;
        let words = self.fault.words();
        match self.text() {
            Some(text) => format!("{code}/{subcode} {words}: \"{text}\""),
            None => format!("{code}/{subcode} {words}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shutdown_text_is_bounded_printable_and_believed_only_if_its_length_fits() {
        let sent = Notification::shutdown("drained for disk work");
        assert_eq!(
            sent.words(),
            "6/2 administrative shutdown: \"drained for disk work\""
        );
        let long = Notification::shutdown(&"é".repeat(200));
        assert_eq!((long.data[0], long.data.len()), (254, 255));
        let hostile = Notification::new(Fault::SHUTDOWN, b"\x04a\x1b[2".as_slice());
        assert_eq!(hostile.text().unwrap(), "a\\x1b[2");
        // The length says more than there is.
        let liar = Notification::new(Fault::SHUTDOWN, b"\xffab".as_slice());
        assert_eq!(liar.words(), "6/2 administrative shutdown");
        assert_eq!(
            Notification::new(Fault(99, 1), []).words(),
            "99/1 unknown error"
        );
    }
}
