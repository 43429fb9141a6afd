//! NOTIFICATION: why a session ends, as numbers and in words (RFC 4271 section 4.5, RFC 4486,
//! RFC 6608, RFC 7313, RFC 8538, RFC 9003, RFC 9687).

use super::reader::Reader;
use crate::help;

/// Longest shutdown communication (RFC 9003 section 2).
pub const SHUTDOWN_TEXT_BYTES_MAX: usize = 255;

/// Bytes of a neighbour's data that are shown to people.
const SHOWN_BYTES_MAX: usize = 160;

/// Error code and subcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fault(pub u8, pub u8);

/// Owned where we send it, borrowed from the message where we receive it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification<Data = Vec<u8>> {
    pub fault: Fault,
    pub data: Data,
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
    pub const ROLE_MISMATCH: Self = Self(2, 11);
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
    pub const DECONFIGURED: Self = Self(6, 3);
    pub const RESET: Self = Self(6, 4);
    pub const REJECTED: Self = Self(6, 5);
    pub const CONFIGURATION_CHANGE: Self = Self(6, 6);
    pub const COLLISION: Self = Self(6, 7);
    pub const OUT_OF_RESOURCES: Self = Self(6, 8);
    pub const HARD_RESET: Self = Self(6, 9);
    pub const REFRESH_LENGTH: Self = Self(7, 1);

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
            (2, 5) => "authentication failure",
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
            (3, 7) => "AS routing loop",
            (3, 8) => "invalid NEXT_HOP",
            (3, 9) => "optional attribute error",
            (3, 10) => "invalid network field",
            (3, 11) => "malformed AS_PATH",
            (3, _) => "UPDATE message error",
            (4, _) => "hold timer expired",
            (8, _) => "send hold timer expired",
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

    /// RFC 8538 section 3: ends the session without keeping its routes, for the reason given.
    pub fn hard(&self) -> Self {
        let mut data = vec![self.fault.0, self.fault.1];
        data.extend_from_slice(&self.data);
        Self::new(Fault::HARD_RESET, data)
    }

    pub fn borrowed(&self) -> Notification<&[u8]> {
        Notification {
            fault: self.fault,
            data: &self.data,
        }
    }
}

impl<'a> Notification<&'a [u8]> {
    pub(super) fn decode(mut body: Reader<'a>) -> Option<Self> {
        let fault = Fault(body.u8()?, body.u8()?);
        let data = body.rest();
        Some(Self { fault, data })
    }

    /// At most one message's worth of bytes, copied where a session ends and nowhere else.
    pub fn into_owned(self) -> Notification {
        Notification::new(self.fault, self.data)
    }
}

impl<Data: AsRef<[u8]>> Notification<Data> {
    /// What a hard reset carries inside it (RFC 8538 section 3); otherwise this itself. One level
    /// only: a hard reset in a hard reset is no reason.
    pub fn reason(&self) -> Notification<&[u8]> {
        let data = self.data.as_ref();
        let inner = match self.fault {
            Fault::HARD_RESET => Notification::decode(Reader::new(data)),
            Fault(..) => None,
        };
        let fault = self.fault;
        inner.unwrap_or(Notification { fault, data })
    }

    /// The routes may not be kept for a restart, whatever was negotiated (RFC 8538 section 3).
    pub fn is_hard_reset(&self) -> bool {
        self.fault == Fault::HARD_RESET
    }

    /// The shutdown communication, if this carries one whose length fits (RFC 9003 section 2).
    pub fn text(&self) -> Option<String> {
        let reason = self.reason();
        if !matches!(reason.fault, Fault(6, 2 | 4)) {
            return None;
        }
        let mut data = Reader::new(reason.data);
        let length = usize::from(data.u8()?);
        let text = data.take(length).filter(|text| !text.is_empty())?;
        Some(help::printable(text, SHOWN_BYTES_MAX))
    }

    /// `6/2 administrative shutdown: "maintenance"`: bounded and printable.
    pub fn words(&self) -> String {
        let reason = self.reason();
        let Fault(code, subcode) = reason.fault;
        let words = reason.fault.words();
        let hard = match self.fault == reason.fault {
            true => "",
            false => "6/9 hard reset: ",
        };
        match self.text() {
            Some(text) => format!("{hard}{code}/{subcode} {words}: \"{text}\""),
            None => format!("{hard}{code}/{subcode} {words}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hard_reset_is_unwrapped_once_and_told_with_its_reason() {
        let shutdown = Notification::shutdown("moving to rack 7");
        let hard = shutdown.hard();
        assert!(hard.is_hard_reset() && !shutdown.is_hard_reset());
        assert_eq!(hard.reason(), shutdown.borrowed());
        let expected = "6/9 hard reset: 6/2 administrative shutdown: \"moving to rack 7\"";
        assert_eq!(hard.words(), expected);
        let twice = hard.hard();
        assert_eq!(twice.reason(), hard.borrowed());
        assert!(twice.words().len() < 100, "{}", twice.words());
        // Too short to hold a reason.
        for data in [&[][..], &[6]] {
            let bare = Notification::new(Fault::HARD_RESET, data);
            assert_eq!(
                (bare.reason(), bare.words()),
                (bare.borrowed(), "6/9 hard reset".into())
            );
        }
    }

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
