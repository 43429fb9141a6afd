//! Connections in memory on a paused clock: what viewers are answered. When they are turned away
//! or cut is in [`life`].

use super::tests_support::Response;
use super::tests_support::World;
use super::tests_support::limits;
use super::*;

mod at_once;
mod delivery;
mod life;
mod speed;
mod token;

const DIGITS: &[u8] = b"0123456789";

#[test]
fn an_idle_connection_keeps_little_room_for_responses() {
    fn bytes<F: Future>(_: fn(connection::Connection) -> F) -> usize {
        size_of::<F>()
    }
    let (own, whole) = (
        size_of::<connection::Connection>(),
        bytes(connection::Connection::run),
    );
    // Ten thousand of them are silent at a time.
    assert!(whole < own + 2_048, "{whole} bytes, of them {own} its own");
}

fn world() -> World {
    World::new(limits(), &[("a/b.m4s", DIGITS), ("empty.vtt", b"")])
}

async fn one(world: &World, path: &str, fields: &str) -> Response {
    world
        .viewer("192.0.2.1")
        .await
        .get(path, fields)
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_object_comes_whole_with_everything_a_player_needs() {
    let world = world();
    let got = one(&world, "/a/b.m4s?CMCD=br%3D100", "").await;
    assert_eq!((got.status, &got.body[..]), (200, DIGITS));
    let etag = format!("\"{}\"", Digest::of(DIGITS));
    for (name, value) in [
        ("content-type", "video/iso.segment"),
        ("content-length", "10"),
        ("etag", etag.as_str()),
        ("last-modified", "Tue, 14 Nov 2023 22:13:20 GMT"),
        ("cache-control", "public, max-age=31536000, immutable"),
        ("accept-ranges", "bytes"),
        ("access-control-allow-origin", "*"),
        ("timing-allow-origin", "*"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(got.field(name), Some(value), "{name}");
    }
    assert!(got.field("date").unwrap().ends_with("GMT"));
    let exposed = got.field("access-control-expose-headers").unwrap();
    assert_eq!(
        exposed,
        "Content-Range, Content-Length, Date, Retry-After, Server-Timing, Cache-Status"
    );
    let document = include_str!("../../docs/PLAYERS.md");
    for name in exposed.split(", ") {
        assert!(document.contains(&format!("`{name}`")), "{name}");
    }
    assert_eq!(got.field("server-timing"), None, "no disk was waited for");
    let empty = one(&world, "/empty.vtt", "").await;
    assert_eq!(
        (empty.status, empty.field("content-length")),
        (200, Some("0"))
    );
}

#[tokio::test(start_paused = true)]
async fn ranges_come_by_header_and_by_path() {
    let world = world();
    for (path, fields, status, body, content_range) in [
        (
            "/a/b.m4s",
            "Range: bytes=2-4\r\n",
            206,
            &b"234"[..],
            Some("bytes 2-4/10"),
        ),
        (
            "/a/b.m4s",
            "Range: bytes=-2\r\n",
            206,
            b"89",
            Some("bytes 8-9/10"),
        ),
        (
            "/a/b.m4s",
            "Range: bytes=7-\r\n",
            206,
            b"789",
            Some("bytes 7-9/10"),
        ),
        ("/a/b.m4s", "Range: bytes=0-1,3-4\r\n", 200, DIGITS, None),
        (
            "/a/b.m4s",
            "Range: bytes=0-1\r\nRange: bytes=2-3\r\n",
            200,
            DIGITS,
            None,
        ),
        ("/a/b.m4s", "Range: lines=1-2\r\n", 200, DIGITS, None),
        ("/a/b.m4s/range/3-5", "", 206, b"345", Some("bytes 3-5/10")),
        (
            "/a/b.m4s/range/3-500",
            "",
            206,
            b"3456789",
            Some("bytes 3-9/10"),
        ),
        (
            "/a/b.m4s/range/3-5",
            "Range: bytes=0-0\r\n",
            206,
            b"345",
            Some("bytes 3-5/10"),
        ),
        ("/a/b.m4s/range/0-9", "", 206, DIGITS, Some("bytes 0-9/10")),
        (
            "/a/b.m4s",
            "Range: bytes=2-4\r\nIf-Range: \"x\"\r\n",
            200,
            DIGITS,
            None,
        ),
    ] {
        let got = one(&world, path, fields).await;
        let found = (got.status, &got.body[..], got.field("content-range"));
        assert_eq!(found, (status, body, content_range), "{path} {fields}");
        assert!(got.field("etag").is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_range_beyond_the_end_is_416_with_the_length() {
    let world = world();
    for (path, fields) in [
        ("/a/b.m4s", "Range: bytes=10-\r\n"),
        ("/a/b.m4s/range/10-11", ""),
        ("/empty.vtt/range/0-0", ""),
    ] {
        let got = one(&world, path, fields).await;
        let length = if path.starts_with("/a") { 10 } else { 0 };
        assert_eq!(got.status, 416, "{path}");
        assert_eq!(
            got.field("content-range"),
            Some(format!("bytes */{length}").as_str())
        );
        assert_eq!(got.field("cache-control"), Some("no-store"));
    }
}

#[tokio::test(start_paused = true)]
async fn preconditions_answer_304_and_412() {
    let world = world();
    let etag = format!("\"{}\"", Digest::of(DIGITS));
    let got = one(&world, "/a/b.m4s", &format!("If-None-Match: {etag}\r\n")).await;
    assert_eq!((got.status, got.field("content-length")), (304, None));
    assert_eq!(got.field("etag"), Some(etag.as_str()));
    assert!(got.field("cache-control").unwrap().contains("immutable"));
    let got = one(&world, "/a/b.m4s", "If-Match: \"x\"\r\n").await;
    assert_eq!(got.status, 412);
    // The path form is subject to them too.
    let got = one(
        &world,
        "/a/b.m4s/range/0-1",
        &format!("If-None-Match: {etag}\r\n"),
    )
    .await;
    assert_eq!(got.status, 304);
}

#[tokio::test(start_paused = true)]
async fn head_tells_what_get_would_and_ignores_range() {
    let world = world();
    let mut viewer = world.viewer("192.0.2.1").await;
    for path in [
        "/a/b.m4s",
        "/a/b.m4s/range/1-3",
        "/absent",
        "/a/b.m4s/range/99-100",
    ] {
        let get = viewer.get(path, "").await.unwrap();
        viewer
            .say(&format!(
                "HEAD {path} HTTP/1.1\r\nHost: h\r\nRange: bytes=0-0\r\n\r\n"
            ))
            .await;
        let head = viewer.hear(false).await.unwrap();
        assert_eq!(head.head, get.head, "{path}");
    }
    assert_eq!(viewer.get("/a/b.m4s", "").await.unwrap().body, DIGITS);
}

#[tokio::test(start_paused = true)]
async fn preflights_and_errors_can_be_read_from_another_origin() {
    let world = world();
    let mut viewer = world.viewer("192.0.2.1").await;
    for target in ["/a/b.m4s", "*", "/nothing"] {
        viewer
            .say(&format!("OPTIONS {target} HTTP/1.1\r\nHost: h\r\n\r\n"))
            .await;
        let got = viewer.hear(true).await.unwrap();
        assert_eq!((got.status, got.field("content-length")), (204, None));
        assert_eq!(got.field("access-control-max-age"), Some("86400"));
        let allowed = got.field("access-control-allow-headers").unwrap();
        for name in ["Range", "If-None-Match", "CMCD-Object", "CMCD-Status"] {
            assert!(allowed.contains(name));
        }
    }
    for (path, status) in [
        ("/absent", 404),
        ("/", 404),
        ("/t/x/y", 404),
        ("/fill/ab", 404),
        ("/speedtest", 404),
        ("/a%2Fb.m4s", 400),
        ("/a/../b", 400),
        ("/a/b.m4s/range/x", 400),
    ] {
        let got = viewer.get(path, "").await.unwrap();
        assert_eq!(got.status, status, "{path}");
        assert_eq!(got.field("access-control-allow-origin"), Some("*"));
        assert_eq!(got.field("cache-control"), Some("no-store"));
        assert!(!got.body.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn pipelined_requests_are_answered_in_order_and_a_fault_ends_them() {
    let world = world();
    let mut viewer = world.viewer("192.0.2.1").await;
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
    let all = [
        ask("/a/b.m4s/range/0-0"),
        ask("/absent"),
        ask("/a/b.m4s/range/1-1"),
        "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
        ask("/a/b.m4s"),
    ];
    viewer.say(&all.concat()).await;
    for status in [206, 404, 206, 400] {
        let got = viewer.hear(true).await.unwrap();
        assert_eq!(got.status, status);
        assert_eq!(got.closes(), status == 400);
    }
    assert!(viewer.is_closed().await);
}

#[tokio::test(start_paused = true)]
async fn http_1_0_and_close_end_the_connection_and_keep_alive_is_said() {
    let world = world();
    let mut viewer = world.viewer("192.0.2.1").await;
    viewer
        .say("GET /a/b.m4s HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        .await;
    let got = viewer.hear(true).await.unwrap();
    assert_eq!(got.field("connection"), Some("keep-alive"));
    viewer.say("GET /a/b.m4s HTTP/1.0\r\n\r\n").await;
    let got = viewer.hear(true).await.unwrap();
    assert!(got.closes() && got.body == DIGITS && viewer.is_closed().await);
    let mut viewer = world.viewer("192.0.2.1").await;
    let got = viewer
        .get("/a/b.m4s", "Connection: close\r\n")
        .await
        .unwrap();
    assert!(got.closes() && viewer.is_closed().await);
}
