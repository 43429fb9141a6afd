//! One request: is it well formed, may this box have this object, do we hold it, which part?
//!
//! The answers come in this order, so that nobody learns what is held without a ticket for it.

use super::body;
use super::body::Body;
use super::budget::BudgetError;
use super::counters::Counters;
use super::listener::Shared;
use super::range;
use super::range::Part;
use super::range::RangeError;
use super::refusal::Reason;
use super::refusal::Refused;
use crate::clock;
use crate::help::printable;
use crate::ids::BoxId;
use crate::link::ticket::SCHEME;
use crate::link::ticket::Ticket;
use crate::object::Digest;
use crate::store::ObjectFile;
use crate::store::OpenError;
use crate::task::Phase;
use hyper::HeaderMap;
use hyper::Method;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Body as _;
use hyper::body::Incoming;
use hyper::header;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use std::sync::Arc;

/// Before the digest in the path.
const PATH: &str = "/fill/";

pub(super) const STOPPING: &str = "this box is stopping";

/// What the box at the other end is told, and what the connection becomes.
pub(super) async fn answer(
    shared: &Arc<Shared>,
    asker: &BoxId,
    request: Request<Incoming>,
) -> Response<Body> {
    Counters::add(&shared.counters.requests, 1);
    let is_head = request.method() == Method::HEAD;
    // Nobody reads a body here, so what follows on the connection could be anything.
    let has_body = !request.body().is_end_stream();
    let outcome = if has_body {
        Err(Refused::new(Reason::Request, "requests have no body here"))
    } else {
        give(shared, asker, &request).await
    };
    match outcome {
        Ok(response) => {
            Counters::add(&shared.counters.responses, 1);
            response
        }
        Err(refused) => {
            shared.refuse(refused.reason, asker.as_str(), &refused.message);
            let closes = has_body || refused.reason == Reason::Stopping;
            refused.response(is_head, closes)
        }
    }
}

async fn give(
    shared: &Arc<Shared>,
    asker: &BoxId,
    request: &Request<Incoming>,
) -> Result<Response<Body>, Refused> {
    if shared.deps.phase.now() != Phase::Serving {
        return Err(Refused::new(Reason::Stopping, STOPPING));
    }
    let digest = target(request)?;
    let (text, ticket) = ticket(shared, asker, digest, request.headers())?;
    let object = open(shared, digest).await?;
    let part = select(&object, request.headers())?;
    let is_head = request.method() == Method::HEAD;
    let bytes = if is_head { 0 } else { part.length };
    let reserved = shared
        .budgets
        .reserve(clock::wall(), text, &ticket, bytes)
        .map_err(|error| over_budget(error, &ticket, bytes))?;
    let length = object.length;
    let body = if is_head {
        body::full(Vec::new())
    } else {
        body::part(shared, asker, object, part, reserved)
    };
    Ok(response(digest, part, length, body))
}

/// Which object is asked for.
fn target(request: &Request<Incoming>) -> Result<Digest, Refused> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Refused::method());
    }
    let path = request.uri().path_and_query().map(|path| path.as_str());
    let digest = path.and_then(|path| path.strip_prefix(PATH));
    digest
        .and_then(|digest| digest.parse().ok())
        .ok_or_else(|| {
            let path = printable(path.unwrap_or_default().as_bytes(), 100);
            let message = format!("`{path}` is not `/fill/<digest>` with 64 hexadecimal digits");
            Refused::new(Reason::Request, message)
        })
}

/// The control plane's word that this box may have this object from us, at this moment.
fn ticket<'a>(
    shared: &Shared,
    asker: &BoxId,
    digest: Digest,
    headers: &'a HeaderMap,
) -> Result<(&'a str, Ticket), Refused> {
    let none = || {
        let message = format!("show the control plane's ticket: `Authorization: {SCHEME} <text>`");
        Refused::new(Reason::NoTicket, message)
    };
    let value = single(headers, &header::AUTHORIZATION)?.ok_or_else(none)?;
    let value = value.to_str().map_err(|_| none())?;
    let (scheme, text) = value.split_once(' ').ok_or_else(none)?;
    // RFC 9110 section 11.1: schemes are case-insensitive.
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Err(none());
    }
    let text = text.trim_matches(' ');
    let (_, verifier) = (shared.deps.identity)()
        .ok_or_else(|| Refused::new(Reason::NotEnrolled, "this box is not enrolled yet"))?;
    let refused =
        |error: crate::link::ticket::TicketError| Refused::new(Reason::Ticket, error.to_string());
    let ticket = verifier.ticket(text).map_err(refused)?;
    ticket
        .check(asker, shared.deps.id.as_str(), digest, clock::wall())
        .map_err(refused)?;
    Ok((text, ticket))
}

async fn open(shared: &Shared, digest: Digest) -> Result<Arc<ObjectFile>, Refused> {
    shared.deps.store.open(digest).await.map_err(|error| {
        let reason = match error {
            OpenError::NotHeld => Reason::NotHeld,
            OpenError::Unavailable { .. } => Reason::Unavailable,
        };
        Refused::new(reason, format!("{digest} cannot be had here: {error}"))
    })
}

/// Preconditions, then the range (RFC 9110 section 13.2.2).
fn select(object: &ObjectFile, headers: &HeaderMap) -> Result<Part, Refused> {
    let tag = etag(object.digest);
    if let Some(wanted) = single(headers, &header::IF_MATCH)? {
        let is_named =
            |one: &[u8]| matches!(one.trim_ascii(), b"*") || one.trim_ascii() == tag.as_bytes();
        if !wanted.as_bytes().split(|byte| *byte == b',').any(is_named) {
            let message = format!("the object has the tag {tag}, which is its digest");
            return Err(Refused::new(Reason::Precondition, message));
        }
    }
    let mut range = single(headers, &header::RANGE)?;
    // RFC 9110 section 13.1.5: another version is sent whole.
    if let Some(version) = single(headers, &header::IF_RANGE)?
        && version.as_bytes() != tag.as_bytes()
    {
        range = None;
    }
    let value = range.map(HeaderValue::as_bytes);
    range::select(value, object.length).map_err(|error| match error {
        RangeError::Syntax => {
            let message = "the range is not one of `bytes=<first>-<last>`, `bytes=<first>-` and \
                           `bytes=-<last bytes>`";
            Refused::new(Reason::Request, message)
        }
        RangeError::Unsatisfiable => Refused::range(object.length),
    })
}

/// A field that may come once.
fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, Refused> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (first, None) => Ok(first),
        (_, Some(_)) => {
            let message = format!("the field `{name}` comes more than once");
            Err(Refused::new(Reason::Request, message))
        }
    }
}

fn over_budget(error: BudgetError, ticket: &Ticket, bytes: u64) -> Refused {
    match error {
        BudgetError::Spent { left } => {
            let all = ticket.bytes;
            let message = format!(
                "the ticket's byte budget is spent: {left} of {all} bytes are left, {bytes} are \
                 asked for; ask the control plane for another ticket"
            );
            Refused::new(Reason::Budget, message)
        }
        BudgetError::Full => {
            let message = "too many tickets are in use here; come again";
            Refused::new(Reason::Tickets, message)
        }
    }
}

fn response(digest: Digest, part: Part, length: u64, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let mut extra = vec![
        (header::ETAG, HeaderValue::from_str(&etag(digest)).ok()),
        (header::CONTENT_LENGTH, Some(HeaderValue::from(part.length))),
        (
            header::CONTENT_TYPE,
            Some(HeaderValue::from_static("application/octet-stream")),
        ),
        (
            header::ACCEPT_RANGES,
            Some(HeaderValue::from_static("bytes")),
        ),
    ];
    if part.is_range {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let last = part.first + part.length - 1;
        let range = format!("bytes {}-{last}/{length}", part.first);
        extra.push((header::CONTENT_RANGE, HeaderValue::from_str(&range).ok()));
    }
    for (name, value) in extra {
        if let Some(value) = value {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn etag(digest: Digest) -> String {
    format!("\"{digest}\"")
}
