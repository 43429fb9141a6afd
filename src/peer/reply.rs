//! The head of an answer. Sans-IO: `connection` has it written into a buffer, `body` sends it.

use super::body::Gift;
use super::refusal::Refused;
use super::request::etag;
use crate::clock;
use crate::link::digest;
use crate::link::digest::REPR_DIGEST;
use httpdate::HttpDate;
use std::time::Duration;
use std::time::SystemTime;

/// What the answer says about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Persistence {
    /// HTTP/1.1: nothing to say.
    Stays,
    /// HTTP/1.0: must be said.
    StaysSaid,
    Closes,
}

/// 200 or 206: everything before the bytes.
pub(super) fn gift(gift: &Gift, persistence: Persistence) -> Vec<u8> {
    let status = if gift.part.is_range { 206 } else { 200 };
    let mut head = begin(status, persistence);
    field(&mut head, "ETag", &etag(gift.object.digest));
    field(&mut head, REPR_DIGEST, &digest::text(gift.object.digest));
    field(&mut head, "Content-Length", &gift.part.length.to_string());
    field(&mut head, "Content-Type", "application/octet-stream");
    field(&mut head, "Accept-Ranges", "bytes");
    if gift.part.is_range {
        let (first, all) = (gift.part.first, gift.object.length);
        let last = first + gift.part.length - 1;
        field(
            &mut head,
            "Content-Range",
            &format!("bytes {first}-{last}/{all}"),
        );
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// The whole of a refusal. HEAD has no body, whatever its answer.
pub(super) fn refusal(mut refused: Refused, is_head: bool, persistence: Persistence) -> Vec<u8> {
    let mut head = begin(refused.status, persistence);
    for (name, value) in std::mem::take(&mut refused.extra) {
        field(&mut head, name, &value);
    }
    let json = refused.json();
    field(&mut head, "Content-Type", "application/json");
    field(&mut head, "Content-Length", &json.len().to_string());
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    if !is_head {
        bytes.extend(json);
    }
    bytes
}

fn begin(status: u16, persistence: Persistence) -> String {
    let mut head = format!("HTTP/1.1 {status} {}\r\n", words(status));
    field(&mut head, "Date", &date());
    match persistence {
        Persistence::Stays => {}
        Persistence::StaysSaid => field(&mut head, "Connection", "keep-alive"),
        Persistence::Closes => field(&mut head, "Connection", "close"),
    }
    head
}

fn field(head: &mut String, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        head.push_str(part);
    }
}

/// RFC 9110 section 6.6.1.
fn date() -> String {
    // httpdate panics outside its range; a clock that far off is no clock.
    const LAST_SECOND: u64 = 253_402_300_799;
    let second = clock::unix_seconds(clock::wall()).min(LAST_SECOND);
    HttpDate::from(SystemTime::UNIX_EPOCH + Duration::from_secs(second)).to_string()
}

/// RFC 9110 section 15; nobody reads them but people.
fn words(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        412 => "Precondition Failed",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}
