//! The parser's rules one by one, then properties over arbitrary bytes.

use super::*;
use crate::serve::head_scan::HeadScan;
use crate::serve::head_scan::Scan;
use proptest::prelude::*;

const LIMIT: usize = 16 * 1024;

/// Scans and parses as `connection` does; tells the length of what was read as one head.
fn read(bytes: &[u8]) -> Result<Option<(Method, bool, usize)>, Fault> {
    match HeadScan::default().step(bytes, LIMIT)? {
        Scan::Incomplete => Ok(None),
        Scan::Complete { start, end } => {
            let mut room = [const { MaybeUninit::uninit() }; FIELDS_MAX];
            let head = Head::parse(&bytes[start..end], &mut room, 64)?;
            Ok(Some((head.method, head.keep_alive, end)))
        }
    }
}

fn fault(bytes: &str) -> Fault {
    match read(bytes.as_bytes()) {
        Err(fault) => fault,
        Ok(other) => panic!("{bytes:?} was accepted: {other:?}"),
    }
}

fn get(fields: &str) -> String {
    format!("GET /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
}

fn keeps(request: &str) -> bool {
    read(request.as_bytes()).unwrap().unwrap().1
}

#[test]
fn bodies_are_refused_however_they_are_framed() {
    assert!(read(get("Content-Length: 0\r\n").as_bytes()).is_ok());
    for (fields, expected) in [
        ("Transfer-Encoding: chunked\r\n", Fault::TransferEncoding),
        ("transfer-encoding: identity\r\n", Fault::TransferEncoding),
        ("Transfer-Encoding:\r\n", Fault::TransferEncoding),
        ("Content-Length: 5\r\n", Fault::Body),
        ("Content-Length: 00\r\n", Fault::ContentLength),
        ("Content-Length: +0\r\n", Fault::ContentLength),
        ("Content-Length: -1\r\n", Fault::ContentLength),
        ("Content-Length: 0, 0\r\n", Fault::ContentLength),
        ("Content-Length: 0x0\r\n", Fault::ContentLength),
        ("Content-Length:\r\n", Fault::ContentLength),
        (
            "Content-Length: 0\r\nContent-Length: 0\r\n",
            Fault::ContentLength,
        ),
        (
            "Content-Length: 0\r\nContent-Length: 5\r\n",
            Fault::ContentLength,
        ),
        (
            "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
            Fault::TransferEncoding,
        ),
        ("Expect: 100-continue\r\n", Fault::Expect),
    ] {
        assert_eq!(fault(&get(fields)), expected, "{fields}");
    }
}

#[test]
fn hosts_are_needed_once() {
    assert_eq!(fault("GET / HTTP/1.1\r\n\r\n"), Fault::HostMissing);
    assert_eq!(
        fault("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n"),
        Fault::HostTwice
    );
    assert_eq!(
        fault("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
        Fault::HostSyntax
    );
    assert_eq!(fault("GET / HTTP/1.1\r\nHost:\r\n\r\n"), Fault::HostSyntax);
    assert!(read(b"GET / HTTP/1.0\r\n\r\n").is_ok());
    assert_eq!(
        fault("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"),
        Fault::HostTwice
    );
}

#[test]
fn lines_and_fields_have_one_form() {
    for (request, expected) in [
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Fault::FieldName),
        ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", Fault::FieldName),
        ("GET / HTTP/1.1\r\nHost: a\r\nA\r\n\r\n", Fault::FieldName),
        ("GET / HTTP/1.1\r\nHost: a\r\n B: c\r\n\r\n", Fault::Folded),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Fault::RequestLine),
        ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", Fault::RequestLine),
        ("GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", Fault::RequestLine),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Fault::RequestLine),
        (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", Fault::RequestLine),
        ("GET /\r\n\r\n", Fault::RequestLine),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", Fault::RequestLine),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Fault::Version),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", Fault::Version),
        ("PRI * HTTP/2.0\r\n\r\n", Fault::Version),
        ("POST / HTTP/1.1\r\nHost: a\r\n\r\n", Fault::NotAllowed),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", Fault::NotAllowed),
        ("get / HTTP/1.1\r\nHost: a\r\n\r\n", Fault::UnknownMethod),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", Fault::TargetSyntax),
    ] {
        assert_eq!(fault(request), expected, "{request:?}");
    }
}

#[test]
fn counts_and_lengths_are_bounded() {
    let many: String = (0..64).map(|n| format!("X-{n}: y\r\n")).collect();
    assert_eq!(fault(&get(&many)), Fault::TooManyFields(64));
    let fewer: String = (0..63).map(|n| format!("X-{n}: y\r\n")).collect();
    assert!(read(get(&fewer).as_bytes()).is_ok());
    let long = format!("GET /a?{} HTTP/1.1\r\nHost: h\r\n\r\n", "q".repeat(9000));
    assert_eq!(fault(&long), Fault::TargetTooLong);
    let huge = get(&format!("X: {}\r\n", "y".repeat(LIMIT)));
    assert_eq!(fault(&huge), Fault::TooLarge(LIMIT));
}

#[test]
fn persistence_follows_version_and_connection_tokens() {
    assert!(keeps(&get("")));
    assert!(!keeps(&get("Connection: close\r\n")));
    assert!(!keeps(&get("Connection: keep-alive, Close\r\n")));
    assert!(!keeps(&get("Connection: x\r\nConnection: CLOSE\r\n")));
    assert!(keeps(&get(
        "Connection: close-not, upgrade\r\nUpgrade: h2c\r\n"
    )));
    assert!(!keeps("GET / HTTP/1.0\r\n\r\n"));
    assert!(keeps("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
    assert!(!keeps(
        "GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n"
    ));
}

#[test]
fn every_fault_has_a_status_and_a_text_that_fits_a_line() {
    for fault in [
        Fault::BareLf,
        Fault::Control(7),
        Fault::TooLarge(1),
        Fault::Slow,
        Fault::Version,
    ] {
        assert!((400..=505).contains(&fault.status()));
        assert!(!fault.to_string().contains(['\r', '\n']));
    }
}

/// Pieces from which requests and near-requests are built.
fn piece() -> impl Strategy<Value = &'static [u8]> {
    prop::sample::select(vec![
        &b"GET "[..],
        b"HEAD ",
        b"OPTIONS ",
        b"POST ",
        b"/",
        b"a",
        b"*",
        b" ",
        b"\t",
        b"\0",
        b" HTTP/1.1",
        b" HTTP/1.0",
        b"\r\n",
        b"\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"Host: h",
        b"Host:",
        b"Content-Length: 0",
        b"Content-Length: 3",
        b"Transfer-Encoding: chunked",
        b"abc",
        b": ",
        b"Range: bytes=0-1",
        b"Connection: close",
        b"\xff",
        b"0",
        b"http://h",
    ])
}

fn nearly_a_request() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(piece(), 0..16).prop_map(|pieces| pieces.concat())
}

fn valid_then_junk() -> impl Strategy<Value = Vec<u8>> {
    let fields = prop::collection::vec(piece(), 0..5);
    (fields, any::<Vec<u8>>()).prop_map(|(fields, junk)| {
        let mut bytes = b"GET /a HTTP/1.1\r\nHost: h\r\n".to_vec();
        bytes.extend(fields.concat());
        bytes.extend(b"\r\n\r\n");
        bytes.extend(junk);
        bytes
    })
}

/// How a reader who knows nothing but CRLF would frame an accepted head.
fn check_framing(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Ok(Some((_, _, end))) = read(bytes) else {
        return Ok(());
    };
    let head = &bytes[..end];
    prop_assert!(head.ends_with(b"\r\n\r\n"));
    let text = String::from_utf8_lossy(head);
    let body = text.trim_start_matches("\r\n");
    // The empty line is the only one, so nobody ends this head elsewhere.
    prop_assert_eq!(body.find("\r\n\r\n"), Some(body.len() - 4));
    prop_assert_eq!(body.matches('\n').count(), body.matches("\r\n").count());
    prop_assert_eq!(body.matches('\r').count(), body.matches("\r\n").count());
    let fields: Vec<(String, String)> = body
        .split("\r\n")
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let named = |name: &str| fields.iter().filter(|field| field.0 == name).count();
    prop_assert_eq!(named("transfer-encoding"), 0);
    prop_assert!(named("content-length") <= 1 && named("host") <= 1);
    for (name, value) in &fields {
        prop_assert!(name != "content-length" || value == "0");
        prop_assert!(!name.ends_with([' ', '\t']) && !name.starts_with([' ', '\t']));
    }
    // The same bytes cut anywhere are no shorter request.
    for cut in 0..end {
        prop_assert_eq!(read(&bytes[..cut]), Ok(None), "cut at {}", cut);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in any::<Vec<u8>>()) {
        let _ = read(&bytes);
    }

    #[test]
    fn what_is_accepted_has_one_framing_only(
        bytes in prop_oneof![nearly_a_request(), valid_then_junk()]) {
        check_framing(&bytes)?;
    }

    #[test]
    fn bytes_after_a_head_do_not_change_it(junk in any::<Vec<u8>>()) {
        let request = get("Range: bytes=0-1\r\n").into_bytes();
        let mut more = request.clone();
        more.extend(&junk);
        prop_assert_eq!(read(&more).unwrap().unwrap().2, request.len());
    }
}

/// Every committed corpus file is refused, or is plainly incomplete. The same files are sent over
/// a socket by the tests of the whole server.
#[test]
fn the_hostile_corpus_is_refused() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/http");
    let mut seen = 0;
    for file in std::fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        assert!(
            !matches!(read(&bytes), Ok(Some(_))),
            "{} was accepted",
            path.display()
        );
        seen += 1;
    }
    assert!(seen >= 20, "only {seen} corpus files");
}
