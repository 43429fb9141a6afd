//! Every answer that is not an object: its status, its reason for the counters, and a sentence.
//!
//! Bodies have the form of the link's refusals (docs/LINK.md).

use super::body::Body;
use super::body::full;
use crate::link::message::Code;
use crate::link::message::Refusal;
use hyper::Response;
use hyper::StatusCode;
use hyper::header;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;

/// When a box that found no room is to come again.
const RETRY_AFTER_S: u64 = 10;

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
    status: StatusCode,
    code: Code,
    pub(super) message: String,
    extra: Option<(HeaderName, HeaderValue)>,
}

impl Reason {
    /// In the order of the declaration: a reason is an index.
    pub(super) const ALL: [Self; 21] = [
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

    fn status(self) -> (StatusCode, Code) {
        match self {
            Self::NoTicket => (StatusCode::UNAUTHORIZED, Code::Token),
            Self::Ticket | Self::Budget => (StatusCode::FORBIDDEN, Code::Token),
            Self::NotHeld => (StatusCode::NOT_FOUND, Code::NotFound),
            Self::Precondition => (StatusCode::PRECONDITION_FAILED, Code::BadRequest),
            Self::Range => (StatusCode::RANGE_NOT_SATISFIABLE, Code::BadRequest),
            Self::Crowded | Self::Asker | Self::Stranger | Self::Tickets => {
                (StatusCode::TOO_MANY_REQUESTS, Code::Busy)
            }
            Self::Stopping | Self::NotEnrolled | Self::Unavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, Code::Busy)
            }
            Self::Head | Self::Request | Self::Handshake => {
                (StatusCode::BAD_REQUEST, Code::BadRequest)
            }
            Self::Disk | Self::Stalled | Self::TooLong | Self::Broken | Self::Panic => {
                (StatusCode::INTERNAL_SERVER_ERROR, Code::Internal)
            }
        }
    }
}

impl Refused {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        let (status, code) = reason.status();
        let extra = match status {
            StatusCode::UNAUTHORIZED => {
                let scheme = HeaderValue::from_static(crate::link::ticket::SCHEME);
                Some((header::WWW_AUTHENTICATE, scheme))
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Some((header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S)))
            }
            _ => None,
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
        refused.status = StatusCode::METHOD_NOT_ALLOWED;
        refused.extra = Some((header::ALLOW, HeaderValue::from_static("GET, HEAD")));
        refused
    }

    /// 416, with the length that there is.
    pub(super) fn range(length: u64) -> Self {
        let message = format!("the range begins behind the object's {length} bytes");
        let mut refused = Self::new(Reason::Range, message);
        let value = HeaderValue::from_str(&format!("bytes */{length}"));
        refused.extra = value.ok().map(|value| (header::CONTENT_RANGE, value));
        refused
    }

    /// HEAD has no body, whatever its answer.
    pub(super) fn response(self, is_head: bool, closes: bool) -> Response<Body> {
        let refusal = Refusal::new(self.code, self.message);
        let json = serde_json::to_vec(&refusal).unwrap_or_default();
        let length = json.len();
        let body = if is_head { Vec::new() } else { json };
        let mut response = Response::new(full(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, kind);
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        headers.extend(self.extra);
        if closes {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
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
