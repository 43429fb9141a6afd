//! One request: is it well formed, may this box have this object, do we hold it, which part?
//!
//! The answers come in this order, so that nobody learns what is held without a ticket for it.
//!
//! An object that is on its way in is looked for last (`unfinished`).
//!
//! I/O: opens objects and waits for the first bytes of what is asked for.

use super::body::Gift;
use super::budget::BudgetError;
use super::listener::Shared;
use super::range;
use super::range::Part;
use super::range::RangeError;
use super::refusal::Reason;
use super::refusal::Refused;
use super::unfinished;
use crate::clock;
use crate::help::printable;
use crate::ids::BoxId;
use crate::link::ticket::SCHEME;
use crate::link::ticket::Ticket;
use crate::object::Digest;
use crate::serve::Content;
use crate::serve::Head;
use crate::serve::Load;
use crate::serve::Method;
use crate::serve::Target;
use crate::store::Household;
use crate::store::ObjectFile;
use crate::store::OpenError;
use crate::task::Phase;
use std::sync::Arc;

/// Before the digest in the path.
const PATH: &[u8] = b"/fill/";

pub(super) const STOPPING: &str = "this box is stopping";

/// What the box at the other end is to have. The first bytes are in memory.
pub(super) async fn decide(
    shared: &Arc<Shared>,
    asker: &BoxId,
    head: &Head<'_, '_>,
) -> Result<Gift, Refused> {
    if shared.deps.phase.now() != Phase::Serving {
        return Err(Refused::new(Reason::Stopping, STOPPING));
    }
    let digest = target(head)?;
    let (text, ticket) = ticket(shared, asker, digest, head)?;
    let (object, part) = match open(shared, digest).await {
        Ok(object) => {
            let part = select((digest, object.length), head)?;
            (object, part)
        }
        Err(refused) if refused.reason == Reason::NotHeld => {
            unfinished::find(shared, digest, head, refused).await?
        }
        Err(refused) => return Err(refused),
    };
    let bytes = match head.method {
        Method::Get => part.length,
        Method::Head | Method::Options | Method::Post => 0,
    };
    let reserved = shared
        .budgets
        .reserve(clock::wall(), text, &ticket, bytes)
        .map_err(|error| over_budget(error, &ticket, bytes))?;
    if bytes > 0 {
        let content: &dyn Content = &shared.deps.store;
        let load = Load {
            content,
            object: &object,
            first: part.first,
            last: part.first + bytes - 1,
            household: Household::named(asker.as_str()),
        };
        load.begin().await.map_err(|error| {
            let message = format!("{digest} cannot be had here: {error}");
            Refused::new(Reason::Unavailable, message)
        })?;
    }
    Ok(Gift {
        object,
        part,
        bytes,
        reserved,
    })
}

/// Which object is asked for.
fn target(head: &Head<'_, '_>) -> Result<Digest, Refused> {
    if !matches!(head.method, Method::Get | Method::Head) {
        return Err(Refused::method());
    }
    let path = match head.target {
        Target::Path(path) => path,
        Target::Asterisk => b"*",
    };
    let digest = path.strip_prefix(PATH).filter(|_| head.query.is_empty());
    let digest = digest.and_then(|digest| std::str::from_utf8(digest).ok());
    digest
        .and_then(|digest| digest.parse().ok())
        .ok_or_else(|| {
            let path = printable(path, 100);
            let message = format!("`{path}` is not `/fill/<digest>` with 64 hexadecimal digits");
            Refused::new(Reason::Request, message)
        })
}

/// The control plane's word that this box may have this object from us, at this moment.
fn ticket<'a>(
    shared: &Shared,
    asker: &BoxId,
    digest: Digest,
    head: &Head<'_, 'a>,
) -> Result<(&'a str, Ticket), Refused> {
    let none = || {
        let message = format!("show the control plane's ticket: `Authorization: {SCHEME} <text>`");
        Refused::new(Reason::NoTicket, message)
    };
    let value = single(head, "authorization")?.ok_or_else(none)?;
    let value = std::str::from_utf8(value).map_err(|_| none())?;
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

pub(super) async fn open(shared: &Shared, digest: Digest) -> Result<Arc<ObjectFile>, Refused> {
    let opening = Content::open(&shared.deps.store, digest);
    opening.await.map_err(|error| {
        let reason = match error {
            OpenError::NotHeld => Reason::NotHeld,
            OpenError::Unavailable { .. } => Reason::Unavailable,
        };
        Refused::new(reason, format!("{digest} cannot be had here: {error}"))
    })
}

/// Preconditions, then the range (RFC 9110 section 13.2.2).
pub(super) fn select(
    (digest, length): (Digest, u64),
    head: &Head<'_, '_>,
) -> Result<Part, Refused> {
    let tag = etag(digest);
    if let Some(wanted) = single(head, "if-match")? {
        let is_named =
            |one: &[u8]| matches!(one.trim_ascii(), b"*") || one.trim_ascii() == tag.as_bytes();
        if !wanted.split(|byte| *byte == b',').any(is_named) {
            let message = format!("the object has the tag {tag}, which is its digest");
            return Err(Refused::new(Reason::Precondition, message));
        }
    }
    let mut range = single(head, "range")?;
    // RFC 9110 section 13.1.5: another version is sent whole.
    if let Some(version) = single(head, "if-range")?
        && version != tag.as_bytes()
    {
        range = None;
    }
    range::select(range, length).map_err(|error| match error {
        RangeError::Syntax => {
            let message = "the range is not one of `bytes=<first>-<last>`, `bytes=<first>-` and \
                           `bytes=-<last bytes>`";
            Refused::new(Reason::Request, message)
        }
        RangeError::Unsatisfiable => Refused::range(length),
    })
}

/// A field that may come once.
fn single<'b>(head: &Head<'_, 'b>, name: &'static str) -> Result<Option<&'b [u8]>, Refused> {
    let mut values = head.values(name);
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

/// A strong tag: the object is its digest.
pub(super) fn etag(digest: Digest) -> String {
    format!("\"{digest}\"")
}
