//! Preconditions (RFC 9110 section 13), in the order of section 13.2.2.
//!
//! Sans-IO; called by `answer`. The entity tag is the object's digest and always strong; objects
//! never change under a key, so `Last-Modified` is a strong validator as well.

use super::request::Head;
use crate::object::Digest;
use std::time::Duration;
use std::time::UNIX_EPOCH;

/// What the preconditions decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Go on. `range` is false when `If-Range` says that the viewer's copy is another one.
    Proceed { range: bool },
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

/// The validators of the selected object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validators {
    pub digest: Digest,
    /// Seconds since the Unix epoch.
    pub last_modified: u64,
}

/// Section 13.2.2, steps 1 to 5, for GET and HEAD.
pub(super) fn evaluate(head: &Head<'_, '_>, own: Validators) -> Verdict {
    if head.is_conditional() {
        let tag = |wanted: &[u8], strong: bool| matches_tag(wanted, own.digest, strong);
        let date = |name| head.single(name).and_then(unix_seconds);
        // Step 1 and 2.
        let mut if_match = head.values("if-match").peekable();
        if if_match.peek().is_some() {
            if !if_match.any(|value| tag(value, true)) {
                return Verdict::Failed;
            }
        } else if date("if-unmodified-since").is_some_and(|date| own.last_modified > date) {
            return Verdict::Failed;
        }
        // Step 3 and 4. Section 13.1.3: the date is ignored where If-None-Match stands.
        let mut if_none_match = head.values("if-none-match").peekable();
        if if_none_match.peek().is_some() {
            if if_none_match.any(|value| tag(value, false)) {
                return Verdict::NotModified;
            }
        } else if date("if-modified-since").is_some_and(|date| own.last_modified <= date) {
            return Verdict::NotModified;
        }
    }
    // Step 5.
    let range = head.has_range() && if_range(head, own);
    Verdict::Proceed { range }
}

/// Section 13.1.5: a strong tag or the exact date; anything else makes the range void.
fn if_range(head: &Head<'_, '_>, own: Validators) -> bool {
    let mut values = head.values("if-range");
    let Some(value) = values.next() else {
        return true;
    };
    if values.next().is_some() {
        return false;
    }
    if value.starts_with(b"\"") || value.starts_with(b"W/") {
        return matches!(next_tag(value), Some((tag, [])) if is_own(tag, own.digest, true));
    }
    unix_seconds(value) == Some(own.last_modified)
}

/// Does a list of entity tags, or `*`, name the object? A list that is not well formed matches
/// with what could be read of it.
fn matches_tag(mut list: &[u8], own: Digest, strong: bool) -> bool {
    if list == b"*" {
        return true;
    }
    loop {
        list = match list {
            [b',' | b' ' | b'\t', rest @ ..] => rest,
            _ => match next_tag(list) {
                Some((tag, _)) if is_own(tag, own, strong) => return true,
                Some((_, rest)) => rest,
                None => return false,
            },
        }
    }
}

/// An entity tag as it stood, and what follows it. Section 8.8.3.
fn next_tag(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let opaque = text.strip_prefix(b"W/").unwrap_or(text);
    let inner = opaque.strip_prefix(b"\"")?;
    let close = inner.iter().position(|byte| *byte == b'"')?;
    let end = text.len() - inner.len() + close + 1;
    Some(text.split_at(end))
}

/// Sections 8.8.3.2: a weak tag never matches in a strong comparison.
fn is_own(tag: &[u8], own: Digest, strong: bool) -> bool {
    let opaque = match tag.strip_prefix(b"W/") {
        Some(_) if strong => return false,
        Some(opaque) => opaque,
        None => tag,
    };
    let inner = opaque
        .strip_prefix(b"\"")
        .and_then(|tag| tag.strip_suffix(b"\""));
    let hex = inner.and_then(|inner| std::str::from_utf8(inner).ok());
    hex.and_then(|hex| hex.parse::<Digest>().ok()) == Some(own)
}

/// Any of the three date forms (section 5.6.7). Invalid dates are ignored by every precondition.
fn unix_seconds(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    let time = httpdate::parse_http_date(text).ok()?;
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Some(since.as_secs())
}

#[cfg(test)]
mod tests;
