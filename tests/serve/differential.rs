//! The request parser beside hyper's: the same bytes to both; what they accept and where each
//! request ends must agree, or the difference is listed here with its reason.
//!
//! A cache that reads a request otherwise than the proxy before it can be made to answer one
//! viewer with another's request (RFC 9112 section 11.2).

#![allow(clippy::unwrap_used, clippy::unwrap_in_result, reason = "a test")]

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::Empty;
use hyper::Request;
use hyper::Response;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use oca::serve::FIELDS_MAX;
use oca::serve::Head;
use oca::serve::HeadScan;
use oca::serve::Route;
use oca::serve::Scan;
use oca::serve::Target;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::convert::Infallible;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::Mutex;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;

/// As `[serve.limits]` has them.
const HEAD_BYTES: usize = 16 * 1024;
const FIELDS: usize = 64;

/// Faults that hyper does not find, and why we refuse all the same.
const STRICTER: [(&str, &str); 16] = [
    (
        "LF without CR",
        "two readers may disagree about where a line ends",
    ),
    ("CR without LF", "the same"),
    ("control byte", "no header of this protocol has one"),
    (
        "obsolete folding",
        "two readers may disagree about whose value it is",
    ),
    (
        "too many empty lines",
        "one is asked for by RFC 9112 section 2.2",
    ),
    ("larger than", "the limits are the operator's"),
    ("header fields", "the limits are the operator's"),
    ("exactly one Host", "RFC 9112 section 3.2"),
    ("more than one Host", "RFC 9112 section 3.2"),
    ("the host is not", "it is part of what a token signs"),
    ("Transfer-Encoding", "no request here has a body"),
    (
        "Content-Length",
        "no request here has a body, and lists are read in two ways",
    ),
    ("requests with bodies", "no request here has a body"),
    ("Expect", "no request here has a body"),
    (
        "target",
        "longer than any key, or of a form that only proxies need",
    ),
    ("method", "not a method of this server"),
];

/// One request as a parser understood it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Understood {
    method: String,
    path: String,
    query: String,
}

/// What a parser made of a connection's bytes.
#[derive(Debug, Default)]
struct Reading {
    accepted: Vec<Understood>,
    /// Why the next one was refused; `None`: the bytes ended.
    refused: Option<String>,
}

fn ours(mut bytes: &[u8]) -> Reading {
    let mut reading = Reading::default();
    loop {
        let (start, end) = match HeadScan::default().step(bytes, HEAD_BYTES) {
            Ok(Scan::Complete { start, end }) => (start, end),
            Ok(Scan::Incomplete) => return reading,
            Err(fault) => {
                reading.refused = Some(fault.to_string());
                return reading;
            }
        };
        let mut room = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        match Head::parse(&bytes[start..end], &mut room, FIELDS) {
            Ok(head) => {
                let path = match head.target {
                    Target::Asterisk => b"*",
                    Target::Path(path) => path,
                };
                reading.accepted.push(Understood {
                    method: head.method.as_str().to_owned(),
                    path: String::from_utf8_lossy(path).into_owned(),
                    query: String::from_utf8_lossy(head.query).into_owned(),
                });
                if !head.keep_alive {
                    return reading;
                }
            }
            Err(fault) => {
                reading.refused = Some(fault.to_string());
                return reading;
            }
        }
        bytes = &bytes[end..];
    }
}

async fn hypers(bytes: &[u8]) -> Reading {
    let seen: Arc<Mutex<Vec<Understood>>> = Arc::default();
    let service = service_fn(|request: Request<Incoming>| {
        let seen = Arc::clone(&seen);
        async move {
            let uri = request.uri();
            let understood = Understood {
                method: request.method().as_str().to_owned(),
                path: uri.path().to_owned(),
                query: uri.query().unwrap_or_default().to_owned(),
            };
            let body = request.into_body().collect().await;
            // A request whose body cannot be framed was not understood.
            if body.is_ok() {
                seen.lock().unwrap().push(understood);
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let (mut near, far) = tokio::io::duplex(1 << 20);
    near.write_all(bytes).await.unwrap();
    near.shutdown().await.unwrap();
    let connection = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .serve_connection(TokioIo::new(far), service);
    let outcome = connection.await;
    let mut answers = Vec::new();
    near.read_to_end(&mut answers).await.unwrap();
    let text = String::from_utf8_lossy(&answers).into_owned();
    let is_refused = text.contains("HTTP/1.1 4") || outcome.is_err();
    let accepted = seen.lock().unwrap().clone();
    Reading {
        accepted,
        refused: is_refused.then(|| format!("{outcome:?} {text}")),
    }
}

/// Ours may refuse earlier for a listed reason, and never accept what hyper does not.
fn compare(bytes: &[u8], ours: &Reading, hypers: &Reading) -> Result<(), String> {
    let shown = String::from_utf8_lossy(bytes).into_owned();
    for (number, own) in ours.accepted.iter().enumerate() {
        match hypers.accepted.get(number) {
            Some(other) if other == own => {}
            // `http::Uri` has an empty path where RFC 9112 section 3.2.2 sends `/`.
            Some(other) => return Err(format!("{shown:?}: {own:?}, and hyper {other:?}")),
            // hyper refuses targets by the bytes of their path: ours are answered with 404 or 400
            // by the grammar of keys, and end where they end all the same.
            None if is_nobodys(own) => return Ok(()),
            None => {
                return Err(format!(
                    "{shown:?}: {own:?}, and hyper {:?}",
                    hypers.refused
                ));
            }
        }
    }
    let Some(reason) = &ours.refused else {
        let (own, other) = (ours.accepted.len(), hypers.accepted.len());
        // The last one of ours may have said `close`, as hyper understands it too.
        return if own == other {
            Ok(())
        } else {
            Err(format!("{shown:?}: {own} requests, and {other} by hyper"))
        };
    };
    let is_listed = STRICTER.iter().any(|(fault, _)| reason.contains(fault));
    let hyper_goes_on = hypers.accepted.len() > ours.accepted.len();
    if hyper_goes_on && !is_listed {
        return Err(format!("{shown:?}: refused ({reason}), and hyper accepts"));
    }
    Ok(())
}

fn is_nobodys(one: &Understood) -> bool {
    let odd = |byte: u8| !byte.is_ascii_graphic() || b"\"<>\\^`{|}".contains(&byte);
    Route::parse(one.path.as_bytes()).is_err() || one.query.bytes().any(odd)
}

fn check(bytes: &[u8]) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let other = runtime.block_on(hypers(bytes));
    compare(bytes, &ours(bytes), &other)
}

/// A line of a head: mostly right, often not.
fn field() -> impl Strategy<Value = String> {
    let known = select(vec![
        "Host: h",
        "Host: h:80",
        "host:h",
        "Host : h",
        "Host: h\r\nHost: h",
        "Host: a b",
        "Connection: close",
        "Connection: keep-alive",
        "Connection: close, keep-alive",
        "Content-Length: 0",
        "Content-Length: 5",
        "Content-Length: +5",
        "Content-Length: 5, 5",
        "Content-Length: 00",
        "Content-Length: 5\r\nContent-Length: 6",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\tchunked",
        "Expect: 100-continue",
        "Upgrade: h2c",
        "Range: bytes=0-9",
        "A: b\r\n c",
        "A: b\n",
        "A: \u{1}",
        "A: b\rc",
        "",
        ":",
        "A",
        " A: b",
    ])
    .prop_map(str::to_owned);
    prop_oneof![6 => known, 1 => "[A-Za-z-]{1,8}: [ -~]{0,12}"]
}

fn request() -> impl Strategy<Value = String> {
    let method = select(vec![
        "GET", "GET", "GET", "HEAD", "OPTIONS", "POST", "get", "CONNECT", "G T", "",
    ]);
    let target = prop_oneof![
        6 => select(vec![
            "/a/b", "/a", "*", "http://h/a", "http://h", "http://h?x", "https://u@h/", "/a?b=c",
            "/a#b", "//a", "a", "", "/%00", "/a b", "/\u{e9}", "h:443", "/a?\"",
        ]).prop_map(str::to_owned),
        1 => "/[ -~]{0,12}",
    ];
    let version = select(vec![
        "HTTP/1.1",
        "HTTP/1.1",
        "HTTP/1.1",
        "HTTP/1.0",
        "HTTP/2.0",
        "HTTP/1.2",
        "HTTP/1.1 ",
        "",
    ]);
    let ends = select(vec!["\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r"]);
    let host = select(vec!["Host: h\r\n", "Host: h\r\n", "Host: h\r\n", ""]);
    let parts = (method, target, version, ends, host, vec(field(), 0..4));
    parts.prop_map(|(method, target, version, ends, host, fields)| {
        let fields: String = fields
            .iter()
            .map(|field| format!("{field}{ends}"))
            .collect();
        format!("{method} {target} {version}{ends}{host}{fields}{ends}")
    })
}

#[test]
fn a_plain_conversation_is_read_alike() {
    let bytes = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nHEAD /b?c HTTP/1.1\r\nHost: h\r\n\r\n";
    let (own, other) = (ours(bytes), {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(hypers(bytes))
    });
    assert_eq!(own.accepted.len(), 2);
    assert_eq!(own.accepted, other.accepted);
    assert_eq!((own.refused, other.refused), (None, None));
}

/// The comparison is able to fail.
#[test]
fn a_parser_that_reads_a_body_as_a_request_is_found_out() {
    let bytes = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 31\r\n\r\n\
        GET /b HTTP/1.1\r\nHost: h\r\n\r\n...";
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let other = runtime.unwrap().block_on(hypers(bytes));
    let one = |method: &str, path: &str| Understood {
        method: method.to_owned(),
        path: path.to_owned(),
        query: String::new(),
    };
    let smuggled = Reading {
        accepted: vec![one("POST", "/a"), one("GET", "/b")],
        refused: None,
    };
    assert!(compare(bytes, &smuggled, &other).is_err());
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 1_500,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn hyper_accepts_what_we_accept_and_ends_it_where_we_do(
        requests in vec(request(), 1..4),
        flip in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut bytes = requests.concat().into_bytes();
        if let Some((at, value)) = flip {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        prop_assert_eq!(check(&bytes), Ok(()));
    }
}
