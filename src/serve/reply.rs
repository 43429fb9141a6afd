//! The response head.
//!
//! Sans-IO: `connection` gives the decision and a buffer, `send` moves the result. Every answer
//! carries the CORS fields: a player on another origin must be able to read errors too.

use super::answer::Answer;
use super::answer::Found;
use super::answer::Refused;
use super::http_date;
use super::range::Part;
use super::request::Method;
use super::speedtest;
use super::speedtest::Measure;
use std::time::Duration;

/// On every answer. `Timing-Allow-Origin` lets players measure, and see in `Server-Timing` how long
/// a disk took for the first bytes.
const ALWAYS: &str = "Access-Control-Allow-Origin: *\r\n\
    Access-Control-Expose-Headers: \
    Content-Range, Content-Length, Date, Retry-After, Server-Timing, Cache-Status\r\n\
    Timing-Allow-Origin: *\r\n\
    X-Content-Type-Options: nosniff\r\n";

/// Objects never change under a key, so a copy is good for ever.
const CONTENT: &str = "Cache-Control: public, max-age=31536000, immutable\r\n\
    Cache-Status: oca; hit\r\n\
    Accept-Ranges: bytes\r\n";

/// A day is the longest that browsers keep a preflight's answer, or longer than they do.
const PREFLIGHT: &str = "Allow: GET, HEAD, OPTIONS\r\n\
    Access-Control-Allow-Methods: GET, HEAD, OPTIONS\r\n\
    Access-Control-Allow-Headers: Range, If-None-Match, \
    CMCD-Object, CMCD-Request, CMCD-Session, CMCD-Status\r\n\
    Access-Control-Max-Age: 86400\r\n\
    Cache-Control: no-store\r\n";

/// What lets a page of another origin upload to the speed test.
const SPEED_PREFLIGHT: &str = "Allow: GET, HEAD, POST, OPTIONS\r\n\
    Access-Control-Allow-Methods: GET, HEAD, POST, OPTIONS\r\n\
    Access-Control-Allow-Headers: Content-Type\r\n\
    Access-Control-Max-Age: 86400\r\n\
    Cache-Control: no-store\r\n";

const UNCACHED: &str = "Cache-Control: no-store\r\n";

/// Longer than the head of an object's response, so that it is written into one piece of memory.
const HEAD_BYTES: usize = 768;

/// What the response says about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Persistence {
    /// HTTP/1.1: nothing to say.
    Stays,
    /// HTTP/1.0: must be said.
    StaysSaid,
    Closes,
}

/// Appends the head, and the text of an error unless it answers HEAD.
pub(super) fn write(
    out: &mut Vec<u8>,
    answer: &Answer,
    method: Method,
    persistence: Persistence,
    date: &[u8],
) {
    out.reserve(HEAD_BYTES);
    put(out, &[status_line(answer.status())]);
    out.extend_from_slice(date);
    put(out, &["\r\n"]);
    match persistence {
        Persistence::Stays => {}
        Persistence::StaysSaid => put(out, &["Connection: keep-alive\r\n"]),
        Persistence::Closes => put(out, &["Connection: close\r\n"]),
    }
    put(out, &[ALWAYS]);
    match answer {
        Answer::Options => put(out, &[PREFLIGHT, "\r\n"]),
        Answer::NotModified(found) => {
            validators(out, found);
            put(out, &[CONTENT, "\r\n"]);
        }
        Answer::Content(found, part) => content(out, found, *part),
        Answer::Unsatisfiable(found) => {
            put(out, &["Content-Range: bytes */"]);
            number(out, found.entry.length);
            put(out, &["\r\n"]);
            error(out, "the range lies beyond the object", method);
        }
        Answer::Speedtest(measure) => speed(out, *measure),
        Answer::Refused(refused) => refusal(out, refused, method),
    }
}

fn content(out: &mut Vec<u8>, found: &Found, part: Option<Part>) {
    let length = part.map_or(found.entry.length, Part::length);
    put(
        out,
        &["Content-Type: ", found.media_type, "\r\nContent-Length: "],
    );
    number(out, length);
    put(out, &["\r\n"]);
    if let Some(part) = part {
        content_range(out, part, found.entry.length);
    }
    validators(out, found);
    if let Some(waited) = found.waited {
        disk_time(out, waited);
    }
    put(out, &[CONTENT, "\r\n"]);
}

/// What came from memory has no such line, and costs nothing.
fn disk_time(out: &mut Vec<u8>, waited: Duration) {
    let tenths = u64::try_from(waited.as_micros() / 100).unwrap_or(u64::MAX);
    put(out, &["Server-Timing: disk;dur="]);
    number(out, tenths / 10);
    put(out, &["."]);
    number(out, tenths % 10);
    put(out, &["\r\n"]);
}

/// The speed test: nothing of it may come from a cache.
fn speed(out: &mut Vec<u8>, measure: Measure) {
    match measure {
        Measure::Preflight => put(out, &[SPEED_PREFLIGHT, "\r\n"]),
        Measure::Download(part) => {
            let length = part.map_or(speedtest::FILE_BYTES, Part::length);
            put(
                out,
                &[UNCACHED, "Content-Type: application/octet-stream\r\n"],
            );
            put(out, &["Content-Length: "]);
            number(out, length);
            put(out, &["\r\n"]);
            if let Some(part) = part {
                content_range(out, part, speedtest::FILE_BYTES);
            }
            put(out, &["\r\n"]);
        }
        Measure::Upload(upload) => {
            let text = format!("{{\"bytes\":{}}}\n", upload.length);
            put(out, &[UNCACHED, "Content-Type: application/json\r\n"]);
            put(out, &["Content-Length: "]);
            number(out, text.len() as u64);
            put(out, &["\r\n\r\n", &text]);
        }
    }
}

fn content_range(out: &mut Vec<u8>, part: Part, length: u64) {
    put(out, &["Content-Range: bytes "]);
    number(out, part.first);
    put(out, &["-"]);
    number(out, part.last);
    put(out, &["/"]);
    number(out, length);
    put(out, &["\r\n"]);
}

/// In one piece, because all of it has its length.
fn validators(out: &mut Vec<u8>, found: &Found) {
    let [tag, between, end] = [&b"ETag: \""[..], b"\"\r\nLast-Modified: ", b"\r\n"];
    let mut block = [0; 7 + 64 + 18 + http_date::LENGTH + 2];
    let date = http_date::text(found.entry.last_modified);
    let digest = hex(&found.entry.digest.0);
    let mut rest = &mut block[..];
    for piece in [tag, digest.as_flattened(), between, &date, end] {
        let (place, after) = rest.split_at_mut(piece.len());
        place.copy_from_slice(piece);
        rest = after;
    }
    out.extend_from_slice(&block);
}

fn refusal(out: &mut Vec<u8>, refused: &Refused, method: Method) {
    if refused.status == 405 {
        put(out, &["Allow: GET, HEAD, OPTIONS\r\n"]);
    }
    if let Some(seconds) = refused.retry_after {
        put(out, &["Retry-After: "]);
        number(out, seconds.into());
        put(out, &["\r\n"]);
    }
    error(out, &refused.text, method);
}

fn error(out: &mut Vec<u8>, text: &str, method: Method) {
    put(
        out,
        &[UNCACHED, "Content-Type: text/plain; charset=utf-8\r\n"],
    );
    put(out, &["Content-Length: "]);
    number(out, text.len() as u64 + 1);
    put(out, &["\r\n\r\n"]);
    if method != Method::Head {
        put(out, &[text, "\n"]);
    }
}

fn put(out: &mut Vec<u8>, pieces: &[&str]) {
    for piece in pieces {
        out.extend_from_slice(piece.as_bytes());
    }
}

/// In lower case, two digits a byte.
fn hex(bytes: &[u8; 32]) -> [[u8; 2]; 32] {
    // Arithmetic and no table: so the compiler can do all of them at once.
    let digit = |value: u8| value + if value < 10 { b'0' } else { b'a' - 10 };
    let mut text = [[0; 2]; 32];
    for (pair, byte) in text.iter_mut().zip(bytes) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
    text
}

fn number(out: &mut Vec<u8>, value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = value;
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// The status line and the name of the first field, which is the date.
fn status_line(status: u16) -> &'static str {
    macro_rules! line {
        ($status:literal) => {
            concat!("HTTP/1.1 ", $status, "\r\nDate: ")
        };
    }
    match status {
        200 => line!("200 OK"),
        204 => line!("204 No Content"),
        206 => line!("206 Partial Content"),
        304 => line!("304 Not Modified"),
        400 => line!("400 Bad Request"),
        403 => line!("403 Forbidden"),
        404 => line!("404 Not Found"),
        405 => line!("405 Method Not Allowed"),
        408 => line!("408 Request Timeout"),
        411 => line!("411 Length Required"),
        412 => line!("412 Precondition Failed"),
        413 => line!("413 Content Too Large"),
        414 => line!("414 URI Too Long"),
        416 => line!("416 Range Not Satisfiable"),
        417 => line!("417 Expectation Failed"),
        429 => line!("429 Too Many Requests"),
        431 => line!("431 Request Header Fields Too Large"),
        501 => line!("501 Not Implemented"),
        503 => line!("503 Service Unavailable"),
        505 => line!("505 HTTP Version Not Supported"),
        _ => line!("500 Internal Server Error"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_status_that_is_counted_has_a_phrase() {
        for status in super::super::counters::STATUSES {
            let line = format!("HTTP/1.1 {status} ");
            assert!(status_line(status).starts_with(&line));
        }
    }

    proptest! {
        #[test]
        fn digests_are_written_as_another_library_writes_them(bytes in any::<[u8; 32]>()) {
            let digits = hex(&bytes);
            let expected = blake3::Hash::from_bytes(bytes).to_hex();
            prop_assert_eq!(digits.as_flattened(), expected.as_bytes());
        }

        #[test]
        fn numbers_are_written_as_the_standard_library_writes_them(value in any::<u64>()) {
            let mut out = Vec::new();
            number(&mut out, value);
            prop_assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }
}
