//! What a request is answered with: the decision, before anything is opened or written.
//!
//! Called by `connection` with a parsed head and the gate's word; asks the catalogue, then the
//! preconditions and ranges in the order of RFC 9110 section 13.2.2. Never waits, never reads.

use super::Content;
use super::admit::Admission;
use super::condition;
use super::condition::Validators;
use super::condition::Verdict;
use super::counters::Refusal;
use super::range;
use super::range::Part;
use super::range::Selected;
use super::request::Fault;
use super::request::Head;
use super::request::Method;
use super::speedtest;
use super::speedtest::Measure;
use super::target::PlaceError;
use super::target::Route;
use super::target::Target;
use super::token::Guard;
use crate::media_type;
use crate::store::Entry;
use crate::store::Finding;
use std::borrow::Cow;
use std::time::Duration;

/// Seconds after which a viewer may ask a closed box again; steering will have moved it by then.
const CLOSED_RETRY_SECONDS: u32 = 30;

/// Seconds after which an object on a sick disk may be back, from another disk.
const UNAVAILABLE_RETRY_SECONDS: u32 = 5;

/// The decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// 204 to OPTIONS, preflight or not.
    Options,
    /// 200, or 206 with a part.
    Content(Found, Option<Part>),
    /// 304.
    NotModified(Found),
    /// 416.
    Unsatisfiable(Found),
    /// 200, 204 or 206: of the speed test.
    Speedtest(Measure),
    Refused(Refused),
}

/// An object the catalogue holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) entry: Entry,
    pub(super) media_type: &'static str,
    /// How long its disk took for the first bytes, once that is known; `None`: they were in memory.
    pub(super) waited: Option<Duration>,
}

/// An error answer with a short text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) status: u16,
    pub(super) text: Cow<'static, str>,
    pub(super) retry_after: Option<u32>,
    /// The connection cannot or shall not go on.
    pub(super) close: bool,
    pub(super) counted: Option<Refusal>,
}

impl Answer {
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::Options => 204,
            Self::Content(_, None) => 200,
            Self::Content(_, Some(_)) => 206,
            Self::NotModified(_) => 304,
            Self::Unsatisfiable(_) => 416,
            Self::Speedtest(Measure::Preflight) => 204,
            Self::Speedtest(Measure::Download(Some(_))) => 206,
            Self::Speedtest(Measure::Download(None) | Measure::Upload(_)) => 200,
            Self::Refused(refused) => refused.status,
        }
    }

    /// Bytes of an upload that was taken.
    pub(super) fn received(&self) -> Option<u64> {
        match self {
            Self::Speedtest(Measure::Upload(upload)) => Some(upload.length),
            Self::Options
            | Self::Content(..)
            | Self::NotModified(_)
            | Self::Unsatisfiable(_)
            | Self::Speedtest(_)
            | Self::Refused(_) => None,
        }
    }

    /// The viewer got what it came for; it may linger when the box closes.
    pub(super) fn is_content(&self) -> bool {
        match self {
            Self::Content(..) | Self::NotModified(_) => true,
            Self::Options | Self::Unsatisfiable(_) | Self::Speedtest(_) | Self::Refused(_) => false,
        }
    }
}

impl Refused {
    pub(super) fn plain(status: u16, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            text: text.into(),
            retry_after: None,
            close: false,
            counted: None,
        }
    }

    pub(super) fn closed(reasons: &str) -> Self {
        Self {
            retry_after: Some(CLOSED_RETRY_SECONDS),
            close: true,
            counted: Some(Refusal::Gate),
            ..Self::plain(503, format!("closed: {reasons}"))
        }
    }

    /// `is_ours`: the fault is this box's and passes.
    pub(super) fn by_token(is_ours: bool, text: String, counted: Refusal) -> Self {
        Self {
            retry_after: is_ours.then_some(CLOSED_RETRY_SECONDS),
            counted: Some(counted),
            ..Self::plain(if is_ours { 503 } else { 403 }, text)
        }
    }

    /// The box should hold the object and cannot read it. Which disk and why is the operator's
    /// business, not the viewer's.
    pub(super) fn unavailable() -> Self {
        Self {
            retry_after: Some(UNAVAILABLE_RETRY_SECONDS),
            counted: Some(Refusal::Unavailable),
            ..Self::plain(503, "the object cannot be read at the moment")
        }
    }
}

impl Refused {
    /// The viewer left in the middle of its body. Nobody will read this; the access log keeps it.
    pub(super) fn cut_short() -> Self {
        Self {
            close: true,
            ..Self::plain(400, "the body ended before its length")
        }
    }
}

impl From<Fault> for Refused {
    /// After a head that cannot be trusted, neither can where the next one begins.
    fn from(fault: Fault) -> Self {
        let counted = if fault == Fault::Slow {
            Refusal::HeadTime
        } else if fault == Fault::SlowBody {
            Refusal::Progress
        } else {
            Refusal::BadRequest
        };
        Self {
            close: true,
            counted: Some(counted),
            ..Self::plain(fault.status(), fault.to_string())
        }
    }
}

impl From<PlaceError> for Refused {
    fn from(error: PlaceError) -> Self {
        match error {
            PlaceError::NotFound => Self::plain(404, "not found"),
            PlaceError::Key(_) | PlaceError::Range => Self::plain(400, error.to_string()),
        }
    }
}

/// Decides. `Refused` is also an answer; the two arms only save words here.
pub(super) fn answer(
    head: &Head<'_, '_>,
    admission: &Admission,
    content: &dyn Content,
    guard: &mut Guard<'_>,
) -> Result<Answer, Refused> {
    guard.admit(head, admission)?;
    if let Some(upload) = head.upload {
        return Ok(Answer::Speedtest(Measure::Upload(upload)));
    }
    let path = match (head.method, head.target) {
        (Method::Options, Target::Path(speedtest::PATH)) => {
            return Ok(Answer::Speedtest(Measure::Preflight));
        }
        (Method::Options | Method::Post, _) => return Ok(Answer::Options),
        (Method::Get | Method::Head, Target::Path(path)) => path,
        (Method::Get | Method::Head, Target::Asterisk) => return Err(Fault::TargetSyntax.into()),
    };
    let place = match Route::parse(path)? {
        // The token, if it counts, was judged at the door.
        Route::Content(place, _) => place,
        Route::Speedtest(range) => return measured(range),
    };
    let entry = match content.find(place.key) {
        Finding::Found(entry) => entry,
        Finding::Unavailable => return Err(Refused::unavailable()),
        Finding::Unknown => return Err(PlaceError::NotFound.into()),
    };
    let found = Found {
        entry,
        media_type: media_type::of(place.key),
        waited: None,
    };
    let validators = Validators {
        digest: entry.digest,
        last_modified: entry.last_modified,
    };
    let ranged = match condition::evaluate(head, validators) {
        Verdict::NotModified => return Ok(Answer::NotModified(found)),
        Verdict::Failed => return Err(Refused::plain(412, "the precondition does not hold")),
        Verdict::Proceed { range } => range,
    };
    let selected = match place.range {
        // The path names the bytes; a Range header on top is ignored (RFC 9110 section 14.2).
        Some((first, last)) => range::path(first, last, entry.length),
        // Section 14.2: ranges are defined for GET alone.
        None if ranged && head.method == Method::Get => match head.single("range") {
            Some(value) => range::header(value, entry.length),
            None => Selected::Whole,
        },
        None => Selected::Whole,
    };
    Ok(match selected {
        Selected::Whole => Answer::Content(found, None),
        Selected::Part(part) => Answer::Content(found, Some(part)),
        Selected::Unsatisfiable => Answer::Unsatisfiable(found),
    })
}

/// The whole file of the speed test, or a range of it.
fn measured(range: Option<(u64, u64)>) -> Result<Answer, Refused> {
    let part = match range {
        None => None,
        Some((first, last)) => match range::path(first, last, speedtest::FILE_BYTES) {
            Selected::Part(part) => Some(part),
            Selected::Whole => None,
            Selected::Unsatisfiable => {
                return Err(Refused::plain(416, "the speed test has fewer bytes"));
            }
        },
    };
    Ok(Answer::Speedtest(Measure::Download(part)))
}
