//! What the head of an answer means: the bytes that were asked for, or which [`Fault`].
//!
//! [`super::transfer`] shows it every head. It reads nothing but heads.

use crate::fill::Fault;
use crate::help::printable;
use crate::link::digest;
use crate::link::digest::REPR_DIGEST;
use crate::link::held;
use crate::object::Digest;
use hyper::HeaderMap;
use hyper::StatusCode;
use hyper::header;
use hyper::header::HeaderName;
use std::ops::Range;
use std::time::Duration;

/// No head is larger: `dial` tells the parser so.
pub(super) const HEAD_BYTES_MAX: usize = 16 << 10;

/// A source cannot send us away for longer.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked<'a> {
    pub(super) range: Range<u64>,
    /// Of the whole object.
    pub(super) length: u64,
    pub(super) etag: Option<&'a str>,
    pub(super) digest: Digest,
}

/// `Ok`: the body is the range, byte for byte.
pub(super) fn check(
    status: StatusCode,
    headers: &HeaderMap,
    asked: &Asked<'_>,
) -> Result<(), Fault> {
    match status.as_u16() {
        206 => {
            right_range(headers, asked)?;
            right_body(headers, asked)
        }
        200 if asked.range == (0..asked.length) => right_body(headers, asked),
        200 => Err(Fault::Broken("it sends whole objects and no ranges".into())),
        300..=399 => Err(Fault::Refused(format!(
            "redirected ({status}), which is not followed"
        ))),
        401 | 403 => Err(Fault::Refused(status.to_string())),
        404 => Err(not_found(headers, asked)),
        410 => Err(Fault::NotFound),
        412 => Err(Fault::Changed("its ETag is another".into())),
        416 => Err(Fault::Changed("it is shorter than the object".into())),
        429 | 503 => Err(Fault::Busy {
            retry_after: retry_after(headers),
        }),
        _ => Err(Fault::Broken(format!("it answers {status}"))),
    }
}

/// RFC 9110 section 14.4.
fn right_range(headers: &HeaderMap, asked: &Asked<'_>) -> Result<(), Fault> {
    let told = text(headers, &header::CONTENT_RANGE)?.unwrap_or_default();
    let wrong = || Fault::Broken(format!("wrong Content-Range `{}`", shown(told)));
    let (range, length) = told
        .strip_prefix("bytes ")
        .and_then(|rest| rest.split_once('/'))
        .ok_or_else(wrong)?;
    if number(length).is_some_and(|length| length != asked.length) {
        let problem = format!("it has {length} bytes and not {}", asked.length);
        return Err(Fault::Changed(problem));
    }
    let (first, last) = range.split_once('-').ok_or_else(wrong)?;
    let right = number(length).is_some()
        && number(first) == Some(asked.range.start)
        && number(last).and_then(|last| last.checked_add(1)) == Some(asked.range.end);
    right.then_some(()).ok_or_else(wrong)
}

fn right_body(headers: &HeaderMap, asked: &Asked<'_>) -> Result<(), Fault> {
    if let Some(encoding) = text(headers, &header::CONTENT_ENCODING)?
        && !encoding.eq_ignore_ascii_case("identity")
    {
        let problem = format!("it is encoded as `{}`, unasked", shown(encoding));
        return Err(Fault::Broken(problem));
    }
    // Once is enough for a proxy to split it; only one that says another digest matters.
    let told = headers.get_all(REPR_DIGEST).iter();
    let mut told = told.filter_map(|value| digest::names(value.to_str().ok()?, asked.digest));
    if told.any(|is_ours| !is_ours) {
        let problem = "its `Repr-Digest` is another object's";
        return Err(Fault::Changed(problem.to_owned()));
    }
    let expected = asked.range.end - asked.range.start;
    if let Some(told) = text(headers, &header::CONTENT_LENGTH)?
        && number(told) != Some(expected)
    {
        let problem = format!("{} bytes come and not {expected}", shown(told));
        return Err(Fault::Changed(problem));
    }
    if let (Some(wanted), Some(told)) = (asked.etag, text(headers, &header::ETAG)?)
        && opaque(wanted) != opaque(told)
    {
        return Err(Fault::Changed(format!("its ETag is {}", shown(told))));
    }
    Ok(())
}

/// It may be on its way there.
fn not_found(headers: &HeaderMap, asked: &Asked<'_>) -> Fault {
    let told = headers
        .get(held::FIELD)
        .and_then(|value| value.to_str().ok());
    let Some(held) = told.and_then(held::parse) else {
        return Fault::NotFound;
    };
    // What it says to have and does not give is not asked for over and over.
    let gives = held
        .iter()
        .any(|held| held.start <= asked.range.start && asked.range.end <= held.end);
    if gives || held.last().is_some_and(|last| last.end > asked.length) {
        return Fault::Broken("it has what it says it has not".to_owned());
    }
    Fault::NotYet {
        held,
        retry_after: retry_after(headers),
    }
}

/// Whole seconds (RFC 9110 section 10.2.3); a date counts as no word at all.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = number(headers.get(header::RETRY_AFTER)?.to_str().ok()?)?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Fault> {
    let mut all = headers.get_all(name).iter();
    let first = all.next();
    if all.next().is_some() {
        return Err(Fault::Broken(format!("it sends `{name}` more than once")));
    }
    let unreadable = |_| Fault::Broken(format!("its `{name}` cannot be read"));
    first
        .map(|value| value.to_str().map_err(unreadable))
        .transpose()
}

/// Digits alone; `parse` would take a sign.
fn number(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// A proxy on the way may weaken a tag; the chunks are verified all the same.
fn opaque(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

fn shown(text: &str) -> String {
    printable(text.as_bytes(), 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Asked<'_> = Asked {
        range: 100..200,
        length: 300,
        etag: Some("\"one\""),
        digest: Digest([7; 32]),
    };

    fn headers(list: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in list {
            let name: HeaderName = name.parse().unwrap();
            map.append(name, value.parse().unwrap());
        }
        map
    }

    fn status(code: u16) -> StatusCode {
        StatusCode::from_u16(code).unwrap()
    }

    fn judged(code: u16, list: &[(&str, &str)], asked: &Asked<'_>) -> Result<(), Fault> {
        check(status(code), &headers(list), asked)
    }

    #[test]
    fn exactly_the_range_that_was_asked_for_is_taken() {
        let good = ("content-range", "bytes 100-199/300");
        assert_eq!(judged(206, &[good], &ASKED), Ok(()));
        let more = [good, ("content-length", "100"), ("etag", "W/\"one\"")];
        assert_eq!(judged(206, &more, &ASKED), Ok(()));
        for wrong in [
            "bytes 100-199/*",
            "bytes 0-99/300",
            "bytes 100-200/300",
            "bytes 99-199/300",
            "bytes */300",
            "bytes 100-199",
            "bytes 100-18446744073709551615/300",
            "bytes +100-199/300",
            "items 100-199/300",
            "",
        ] {
            let judged = judged(206, &[("content-range", wrong)], &ASKED);
            assert!(
                matches!(judged, Err(Fault::Broken(_))),
                "{wrong}: {judged:?}"
            );
        }
        let judged = judged(206, &[good, good], &ASKED);
        assert!(matches!(judged, Err(Fault::Broken(_))), "{judged:?}");
    }

    #[test]
    fn another_file_is_told_by_length_or_tag() {
        let good = ("content-range", "bytes 100-199/300");
        for headers in [
            &[("content-range", "bytes 100-199/299")][..],
            &[good, ("content-length", "101")],
            &[good, ("etag", "\"two\"")],
        ] {
            let judged = judged(206, headers, &ASKED);
            assert!(matches!(judged, Err(Fault::Changed(_))), "{headers:?}");
        }
        for status in [412, 416] {
            assert!(matches!(
                judged(status, &[], &ASKED),
                Err(Fault::Changed(_))
            ));
        }
    }

    #[test]
    fn a_digest_of_other_bytes_is_told_before_they_come() {
        let good = ("content-range", "bytes 100-199/300");
        let own = digest::text(ASKED.digest);
        let other = digest::text(Digest([8; 32]));
        let unknown = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:";
        for fine in [own.as_str(), unknown] {
            let judged = judged(206, &[good, ("repr-digest", fine)], &ASKED);
            assert_eq!(judged, Ok(()));
        }
        let judged = judged(206, &[good, ("repr-digest", &other)], &ASKED);
        assert!(matches!(judged, Err(Fault::Changed(_))), "{judged:?}");
    }

    #[test]
    fn an_object_on_its_way_there_is_not_missing() {
        let told = |held: &str| judged(404, &[("oca-held", held), ("retry-after", "2")], &ASKED);
        let not_yet = |held| {
            let retry_after = Some(Duration::from_secs(2));
            Err(Fault::NotYet { held, retry_after })
        };
        assert_eq!(told(""), not_yet(vec![]));
        assert_eq!(told("0-99, 150-299"), not_yet(vec![0..100, 150..300]));
        for nonsense in ["0-299", "100-199", "0-99, 200-300"] {
            assert!(
                matches!(told(nonsense), Err(Fault::Broken(_))),
                "{nonsense}"
            );
        }
        assert_eq!(told("5-4"), Err(Fault::NotFound));
    }

    #[test]
    fn a_whole_answer_is_taken_only_for_a_whole_question() {
        let whole = Asked {
            range: 0..300,
            ..ASKED
        };
        assert_eq!(judged(200, &[("content-length", "300")], &whole), Ok(()));
        assert!(matches!(judged(200, &[], &ASKED), Err(Fault::Broken(_))));
        let other = judged(200, &[("content-length", "301")], &whole);
        assert!(matches!(other, Err(Fault::Changed(_))));
        let packed = judged(200, &[("content-encoding", "gzip")], &whole);
        assert!(matches!(packed, Err(Fault::Broken(_))));
    }

    #[test]
    fn refusals_say_whose_turn_it_is() {
        let busy = judged(503, &[("retry-after", "7")], &ASKED);
        let seven = Some(Duration::from_secs(7));
        assert_eq!(busy, Err(Fault::Busy { retry_after: seven }));
        let busy = judged(429, &[("retry-after", "99999999")], &ASKED);
        let hour = Some(RETRY_AFTER_MAX);
        assert_eq!(busy, Err(Fault::Busy { retry_after: hour }));
        let busy = judged(503, &[("retry-after", "soon")], &ASKED);
        assert_eq!(busy, Err(Fault::Busy { retry_after: None }));
        assert_eq!(judged(404, &[], &ASKED), Err(Fault::NotFound));
        for status in [301, 302, 304, 307, 308, 401, 403] {
            let judged = judged(status, &[("location", "http://127.0.0.1/")], &ASKED);
            assert!(matches!(judged, Err(Fault::Refused(_))), "{status}");
        }
        for status in [204, 400, 500, 502] {
            assert!(matches!(judged(status, &[], &ASKED), Err(Fault::Broken(_))));
        }
    }
}
