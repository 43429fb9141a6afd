//! Every answer that is not an object: its status, its reason for the counters, and a sentence.
//!
//! Bodies have the form of the link's refusals (docs/LINK.md).

use crate::link::held;
use crate::link::message::Code;
use crate::link::message::Refusal;
use crate::serve::Fault;
use std::ops::Range;

/// When a box that found no room is to come again.
const RETRY_AFTER_S: u64 = 10;

/// When there is more of an object that is on its way in: some chunks at any rate.
const NOT_YET_RETRY_S: u64 = 2;

/// Why somebody got no object, or not the whole of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// This box has no certificate to show.
    NotEnrolled,
    Stranger,
    Handshake,
    Crowded,
    Asker,
    Head,
    Request,
    NoTicket,
    Ticket,
    Budget,
    Tickets,
    NotHeld,
    NotYet,
    Unavailable,
    Precondition,
    Range,
    Stopping,
    Disk,
    Stalled,
    TooLong,
    Broken,
    Panic,
}

/// A refusal on its way out.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) reason: Reason,
    pub(super) status: u16,
    code: Code,
    pub(super) message: String,
    /// Fields that the status asks for: names and values.
    pub(super) extra: Vec<(&'static str, String)>,
}

impl Reason {
    /// In the order of the declaration: a reason is an index.
    pub(super) const ALL: [Self; 22] = [
        Self::NotEnrolled,
        Self::Stranger,
        Self::Handshake,
        Self::Crowded,
        Self::Asker,
        Self::Head,
        Self::Request,
        Self::NoTicket,
        Self::Ticket,
        Self::Budget,
        Self::Tickets,
        Self::NotHeld,
        Self::NotYet,
        Self::Unavailable,
        Self::Precondition,
        Self::Range,
        Self::Stopping,
        Self::Disk,
        Self::Stalled,
        Self::TooLong,
        Self::Broken,
        Self::Panic,
    ];

    /// As metrics and `oca show` have it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::NotEnrolled => "not-enrolled",
            Self::Stranger => "too-many-strangers",
            Self::Handshake => "handshake",
            Self::Crowded => "connections",
            Self::Asker => "connections-of-box",
            Self::Head => "head",
            Self::Request => "request",
            Self::NoTicket => "no-ticket",
            Self::Ticket => "ticket",
            Self::Budget => "budget",
            Self::Tickets => "too-many-tickets",
            Self::NotHeld => "not-held",
            Self::NotYet => "not-yet",
            Self::Unavailable => "unavailable",
            Self::Precondition => "precondition",
            Self::Range => "range",
            Self::Stopping => "stopping",
            Self::Disk => "disk",
            Self::Stalled => "stalled",
            Self::TooLong => "too-long",
            Self::Broken => "broken-off",
            Self::Panic => "panic",
        }
    }

    fn status(self) -> (u16, Code) {
        match self {
            Self::NoTicket => (401, Code::Token),
            Self::Ticket | Self::Budget => (403, Code::Token),
            Self::NotHeld | Self::NotYet => (404, Code::NotFound),
            Self::Precondition => (412, Code::BadRequest),
            Self::Range => (416, Code::BadRequest),
            Self::Crowded | Self::Asker | Self::Stranger | Self::Tickets => (429, Code::Busy),
            Self::Stopping | Self::NotEnrolled | Self::Unavailable => (503, Code::Busy),
            Self::Head | Self::Request | Self::Handshake => (400, Code::BadRequest),
            Self::Disk | Self::Stalled | Self::TooLong | Self::Broken | Self::Panic => {
                (500, Code::Internal)
            }
        }
    }
}

impl Refused {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        let (status, code) = reason.status();
        let extra = match status {
            401 => vec![("WWW-Authenticate", crate::link::ticket::SCHEME.to_owned())],
            429 | 503 => vec![("Retry-After", RETRY_AFTER_S.to_string())],
            _ => Vec::new(),
        };
        Self {
            reason,
            status,
            code,
            message: message.into(),
            extra,
        }
    }

    /// 405.
    pub(super) fn method() -> Self {
        let message = "objects are fetched with GET and looked for with HEAD";
        let mut refused = Self::new(Reason::Request, message);
        refused.status = 405;
        refused.extra = vec![("Allow", "GET, HEAD".to_owned())];
        refused
    }

    /// 416, with the length that there is.
    pub(super) fn range(length: u64) -> Self {
        let message = format!("the range begins behind the object's {length} bytes");
        let mut refused = Self::new(Reason::Range, message);
        refused.extra = vec![("Content-Range", format!("bytes */{length}"))];
        refused
    }

    /// 404 for a part that is not here yet, with those that are.
    pub(super) fn not_yet(there: &[Range<u64>]) -> Self {
        let message = "this box is receiving the object itself and has not got that part yet";
        let mut refused = Self::new(Reason::NotYet, message);
        refused.extra = vec![
            ("Retry-After", NOT_YET_RETRY_S.to_string()),
            (held::FIELD, held::text(there)),
        ];
        refused
    }

    /// A head that could not be read, or that announces what is not taken here.
    pub(super) fn head(fault: &Fault) -> Self {
        match fault {
            Fault::NotAllowed | Fault::UnknownMethod => Self::method(),
            Fault::Body
            | Fault::TransferEncoding
            | Fault::ContentLength
            | Fault::Expect
            | Fault::LengthRequired
            | Fault::SlowBody => Self::new(Reason::Request, fault.to_string()),
            Fault::BareLf
            | Fault::BareCr
            | Fault::Control(_)
            | Fault::Folded
            | Fault::EmptyLines
            | Fault::TooLarge(_)
            | Fault::TooManyFields(_)
            | Fault::RequestLine
            | Fault::Version
            | Fault::FieldName
            | Fault::FieldValue
            | Fault::HostMissing
            | Fault::HostTwice
            | Fault::HostSyntax
            | Fault::TargetTooLong
            | Fault::TargetSyntax
            | Fault::Slow => Self::new(Reason::Head, fault.to_string()),
        }
    }

    /// The body, in the form of the link's refusals.
    pub(super) fn json(self) -> Vec<u8> {
        serde_json::to_vec(&Refusal::new(self.code, self.message)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_counter_and_its_own_name() {
        let names: std::collections::BTreeSet<_> =
            Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
    }
}
