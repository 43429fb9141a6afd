//! The request target: which object, and which part of it the path itself names.
//!
//! Sans-IO; called by `request` and `answer`. The query is not looked at: tokens and CMCD, which
//! live there, never change which object is meant.

use super::request::Fault;
use super::request::Method;
use crate::key;
use crate::key::KeyError;

/// RFC 1035 section 2.3.4, and a bound for address literals.
const HOST_BYTES_MAX: usize = 255;

/// A parsed request target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'b> {
    /// `*`, with OPTIONS only.
    Asterisk,
    /// The path, which begins with `/`, without its query.
    Path(&'b [u8]),
}

/// A request target and what came with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed<'b> {
    pub target: Target<'b>,
    /// After the first `?`, without it; empty where there is none.
    pub query: &'b [u8],
    /// Host and port of an absolute-form target: it takes the place of the Host field (RFC 9112
    /// section 3.2.2).
    pub authority: Option<&'b [u8]>,
}

/// What a path names: `/<key>` or `/<key>/range/<first>-<last>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'b> {
    pub key: &'b str,
    /// Inclusive; `first <= last`.
    pub range: Option<(u64, u64)>,
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'b> {
    /// An object; by `/t/<token>/<key>` with the token that admits to it, unchecked.
    Content(Place<'b>, Option<&'b str>),
    /// `/speedtest`, with an inclusive range of it.
    Speedtest(Option<(u64, u64)>),
}

/// Why a path names nothing here. The text goes to the viewer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// Could name something of another kind, but not an object: 404.
    #[error("not found")]
    NotFound,
    /// No object can ever have this name: 400.
    #[error("the path is not a key: {0}")]
    Key(KeyError),
    #[error("the path range must be `/range/<first>-<last>` with first <= last")]
    Range,
}

impl<'b> Target<'b> {
    /// RFC 9112 section 3.2: origin-form, absolute-form, and asterisk-form with OPTIONS.
    pub fn parse(raw: &'b [u8], method: Method) -> Result<Parsed<'b>, Fault> {
        // Most targets have neither, and all their bytes together are looked at faster than each.
        let is_mark = |byte: &u8| matches!(byte, b'?' | b'#');
        let mark = match raw.iter().fold(false, |any, byte| any | is_mark(byte)) {
            true => raw.iter().position(is_mark),
            false => None,
        };
        if mark.is_some_and(|at| raw[at..].contains(&b'#')) {
            return Err(Fault::TargetSyntax);
        }
        match raw {
            b"*" if method == Method::Options => Ok(Parsed {
                target: Self::Asterisk,
                query: b"",
                authority: None,
            }),
            [b'/', ..] => {
                let (path, query) = match mark {
                    Some(mark) => (&raw[..mark], &raw[mark + 1..]),
                    None => (raw, &b""[..]),
                };
                Ok(Parsed {
                    target: Self::Path(path),
                    query,
                    authority: None,
                })
            }
            _ => absolute(raw),
        }
    }
}

impl<'b> Route<'b> {
    /// `path` begins with `/`. The names of the other routes are reserved in the key grammar.
    pub fn parse(path: &'b [u8]) -> Result<Self, PlaceError> {
        let path = path.strip_prefix(b"/").ok_or(PlaceError::NotFound)?;
        if let Some(rest) = path.strip_prefix(b"t/") {
            let end = rest.iter().position(|byte| *byte == b'/');
            let (token, key) = rest.split_at(end.ok_or(PlaceError::NotFound)?);
            let token = std::str::from_utf8(token).map_err(|_| PlaceError::NotFound)?;
            return Ok(Self::Content(Place::parse(&key[1..])?, Some(token)));
        }
        if path == b"speedtest" {
            return Ok(Self::Speedtest(None));
        }
        if let Some(spec) = path.strip_prefix(b"speedtest/range/") {
            return Ok(Self::Speedtest(Some(path_range(spec)?)));
        }
        Ok(Self::Content(Place::parse(path)?, None))
    }
}

impl<'b> Place<'b> {
    /// Without the `/` in front.
    pub fn parse(path: &'b [u8]) -> Result<Self, PlaceError> {
        let (key, range) = match split_range(path) {
            Some((key, spec)) => (key, Some(path_range(spec)?)),
            None => (path, None),
        };
        match key::check(key) {
            Ok(key) => Ok(Self { key, range }),
            Err(KeyError::Empty | KeyError::Reserved(_)) => Err(PlaceError::NotFound),
            Err(error) => Err(PlaceError::Key(error)),
        }
    }
}

/// `name`, `name:port`, `192.0.2.1`, `[2001:db8::1]:443`. Percent-encoding is refused: one
/// spelling a host.
pub(super) fn is_host(text: &[u8]) -> bool {
    if text.len() > HOST_BYTES_MAX {
        return false;
    }
    let Some(literal) = text.strip_prefix(b"[") else {
        let ends = |byte: &u8| *byte == b'/' || !key::may_stand(*byte);
        let end = text.iter().position(ends).unwrap_or(text.len());
        return end > 0 && is_port(&text[end..]);
    };
    let Some(end) = literal.iter().position(|byte| *byte == b']') else {
        return false;
    };
    let address = std::str::from_utf8(&literal[..end]).ok();
    let is_address = address.is_some_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok());
    is_address && is_port(&literal[end + 1..])
}

/// Nothing, or `:` and up to five digits.
fn is_port(text: &[u8]) -> bool {
    match text {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

fn absolute(raw: &[u8]) -> Result<Parsed<'_>, Fault> {
    let scheme_ends = raw.windows(3).position(|window| window == b"://");
    let (scheme, rest) = raw.split_at(scheme_ends.ok_or(Fault::TargetSyntax)?);
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(Fault::TargetSyntax);
    }
    let rest = &rest[3..];
    let ends = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
    let (host, path) = rest.split_at(ends.unwrap_or(rest.len()));
    if !is_host(host) {
        return Err(Fault::HostSyntax);
    }
    let (path, query) = split_query(path);
    Ok(Parsed {
        target: Target::Path(if path.is_empty() { b"/" } else { path }),
        query,
        authority: Some(host),
    })
}

/// Path and query; the first `?` belongs to neither.
fn split_query(target: &[u8]) -> (&[u8], &[u8]) {
    match target.iter().position(|byte| *byte == b'?') {
        Some(mark) => (&target[..mark], &target[mark + 1..]),
        None => (target, b""),
    }
}

/// Cuts `key/range/spec`, where `spec` is the last segment.
fn split_range(path: &[u8]) -> Option<(&[u8], &[u8])> {
    const MARK: &[u8] = b"/range/";
    let slash = path.iter().rposition(|byte| *byte == b'/')?;
    let spec = &path[slash + 1..];
    let key = path[..=slash].strip_suffix(MARK)?;
    Some((key, spec))
}

fn path_range(spec: &[u8]) -> Result<(u64, u64), PlaceError> {
    let dash = spec.iter().position(|byte| *byte == b'-');
    let (first, last) = spec.split_at(dash.ok_or(PlaceError::Range)?);
    let first = super::range::digits(first).ok_or(PlaceError::Range)?;
    let last = super::range::digits(&last[1..]).ok_or(PlaceError::Range)?;
    if first > last {
        return Err(PlaceError::Range);
    }
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(path: &str) -> Result<Place<'_>, PlaceError> {
        Place::parse(path.strip_prefix('/').unwrap().as_bytes())
    }

    #[test]
    fn a_route_is_an_object_with_or_without_a_token_or_the_speed_test() {
        let route = |path: &'static str| Route::parse(path.as_bytes());
        let place = |key, range| Place { key, range };
        assert_eq!(route("/a/b"), Ok(Route::Content(place("a/b", None), None)));
        let whole = route("/t/xyz.1/a/b/range/0-9").unwrap();
        assert_eq!(
            whole,
            Route::Content(place("a/b", Some((0, 9))), Some("xyz.1"))
        );
        assert_eq!(route("/speedtest"), Ok(Route::Speedtest(None)));
        assert_eq!(
            route("/speedtest/range/0-9"),
            Ok(Route::Speedtest(Some((0, 9))))
        );
        for path in [
            "/t/",
            "/t",
            "/t/x",
            "/t/x/",
            "/t/x/t/y/a",
            "/speedtest/",
            "/fill/ab",
        ] {
            assert_eq!(route(path), Err(PlaceError::NotFound), "{path}");
        }
        assert_eq!(
            route("/t/x/a//b"),
            Err(PlaceError::Key(KeyError::EmptySegment))
        );
        assert_eq!(route("/speedtest/range/9-0"), Err(PlaceError::Range));
    }

    #[test]
    fn a_path_is_a_key_or_a_key_with_a_range() {
        let plain = place("/a/b.m4s").unwrap();
        assert_eq!((plain.key, plain.range), ("a/b.m4s", None));
        let part = place("/a/b.m4s/range/0-99").unwrap();
        assert_eq!((part.key, part.range), ("a/b.m4s", Some((0, 99))));
        for bad in [
            "/a/range/9-1",
            "/a/range/x-1",
            "/a/range/1",
            "/a/range/-1",
            "/a/range/",
        ] {
            assert_eq!(place(bad), Err(PlaceError::Range), "{bad}");
        }
        let inner = place("/a/range/0-1/b");
        assert_eq!(inner, Err(PlaceError::Key(KeyError::RangeSegment)));
        let huge = place("/a/range/5-99999999999999999999999").unwrap();
        assert_eq!(huge.range, Some((5, u64::MAX)));
    }

    #[test]
    fn what_is_reserved_or_empty_is_not_found_and_other_spellings_are_refused() {
        for path in [
            "/",
            "/t/x/y",
            "/fill/ab",
            "/speedtest",
            "/speedtest/range/0-9",
            "/range/0-1",
        ] {
            let expected = path == "/range/0-1";
            assert!(place(path).is_err(), "{path}");
            assert_eq!(place(path) != Err(PlaceError::NotFound), expected, "{path}");
        }
        for path in ["/a%2fb", "//a", "/a/", "/a/../b", "/a/./b", "/a b"] {
            assert!(matches!(place(path), Err(PlaceError::Key(_))), "{path}");
        }
    }

    #[test]
    fn targets_have_three_forms_and_no_fourth() {
        let parse = |raw: &'static str| Target::parse(raw.as_bytes(), Method::Get);
        let get = |raw| parse(raw).map(|parsed| parsed.target);
        assert_eq!(get("/a?b=/c"), Ok(Target::Path(b"/a")));
        assert_eq!(get("http://h.example:80/a?x"), Ok(Target::Path(b"/a")));
        assert_eq!(get("HTTPS://[2001:db8::1]/a"), Ok(Target::Path(b"/a")));
        assert_eq!(get("http://h"), Ok(Target::Path(b"/")));
        assert_eq!(get("http://h?q"), Ok(Target::Path(b"/")));
        assert_eq!(get("http://u@h/a"), Err(Fault::HostSyntax));
        for bad in ["*", "a", "ftp://h/a", "/a#b", "h:443"] {
            assert_eq!(get(bad), Err(Fault::TargetSyntax), "{bad}");
        }
        let options = Target::parse(b"*", Method::Options).unwrap();
        assert_eq!(options.target, Target::Asterisk);
        let whole = parse("http://h:1/a?x=/?y").unwrap();
        assert_eq!(
            (whole.query, whole.authority),
            (&b"x=/?y"[..], Some(&b"h:1"[..]))
        );
        assert_eq!(parse("/a?").unwrap().query, b"");
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        for good in ["a", "a.example:8443", "192.0.2.1", "[2001:db8::1]:1", "a:"] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "", ":80", "a b", "a/b", "a@b", "[::1", "[a]", "a:b", "a:999999", "a%2e", "a,b",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_key_is_reached_by_its_own_path_alone(
            key in "[a-zA-Z0-9._~-]{1,8}(/[a-zA-Z0-9._~-]{1,8}){0,3}",
            first in 0u64..100, more in 0u64..100) {
            let last = first + more;
            if key::check(key.as_bytes()).is_ok() {
                let path = format!("/{key}");
                prop_assert_eq!(place(&path).unwrap(), Place { key: &key, range: None });
                let path = format!("/{key}/range/{first}-{last}");
                let range = Some((first, last));
                prop_assert_eq!(place(&path).unwrap(), Place { key: &key, range });
            }
        }

        #[test]
        fn no_path_panics_and_what_is_found_obeys_the_key_grammar(
            path in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Route::Content(place, _)) = Route::parse(&path) {
                prop_assert!(key::check(place.key.as_bytes()).is_ok());
            }
        }
    }
}
