//! Connections in memory on a paused clock: what viewers are answered, when they are cut, and how
//! the gate, the limits and the phases of shutdown treat them.

use super::tests_support::Response;
use super::tests_support::World;
use super::tests_support::address;
use super::tests_support::limits;
use super::*;
use crate::clock;
use crate::gate::Reason;
use tokio::io::AsyncWriteExt;

const DIGITS: &[u8] = b"0123456789";

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
        "Content-Range, Content-Length, Date, Server-Timing, Cache-Status"
    );
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

#[tokio::test(start_paused = true)]
async fn silence_and_slow_heads_end_when_their_time_is_up_and_not_before() {
    let world = world();
    let second = Duration::from_secs(1);
    let start = clock::now();
    let mut idle = world.viewer("192.0.2.1").await;
    assert_eq!(idle.get("/a/b.m4s", "").await.unwrap().status, 200);
    assert!(idle.is_closed().await);
    assert_eq!((clock::now() - start).as_secs(), 60);
    // One byte every 3 s gains nothing: the head has 10 s in all.
    let mut slow = world.viewer("192.0.2.1").await;
    let start = clock::now();
    for byte in ["G", "E", "T", " "] {
        slow.say(byte).await;
        clock::sleep(second * 3).await;
    }
    let got = slow.hear(true).await.unwrap();
    assert_eq!((got.status, got.closes()), (408, true));
    assert!(slow.is_closed().await);
    assert!((clock::now() - start).as_secs() <= 14);
    assert_eq!(world.refused("head-time"), 1);
    // Closing waits a moment for the viewer's own end, and no longer.
    clock::sleep(Duration::from_secs(3)).await;
    assert_eq!(world.handle.view().connections.open, 0);
}

#[tokio::test(start_paused = true)]
async fn a_viewer_that_takes_too_little_is_cut_and_one_that_takes_enough_is_not() {
    let big = vec![7u8; 1_000_000];
    let world = World::new(limits(), &[("big", &big)]);
    let mut stalled = world.viewer("192.0.2.1").await;
    stalled.say("GET /big HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let start = clock::now();
    clock::sleep(Duration::from_secs(19)).await;
    assert_eq!(world.handle.view().connections.open, 1);
    clock::sleep(Duration::from_secs(22)).await;
    assert_eq!(world.handle.view().connections.open, 0);
    assert_eq!(world.refused("progress"), 1);
    // 20 KiB every 10 s is twice what is asked for: slow, but served to the end.
    let mut steady = world.viewer("192.0.2.2").await;
    steady.say("GET /big HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut taken = 0;
    let mut piece = vec![0; 20 * 1024];
    while taken < big.len() {
        clock::sleep(Duration::from_secs(10)).await;
        let count = tokio::io::AsyncReadExt::read_exact(&mut steady.stream, &mut piece).await;
        if count.is_err() {
            break;
        }
        taken += piece.len();
    }
    assert!(taken + piece.len() >= big.len(), "{taken}");
    assert_eq!(world.refused("progress"), 1);
    assert!(clock::now() - start > Duration::from_secs(400));
}

#[tokio::test(start_paused = true)]
async fn connections_are_limited_by_address_and_in_all() {
    let limits = Limits {
        connections: 3,
        connections_per_address: 2,
        ..limits()
    };
    let world = World::new(limits, &[("a", DIGITS)]);
    let mut first = world.viewer("192.0.2.1").await;
    assert_eq!(first.get("/a", "").await.unwrap().status, 200);
    let mut second = world.viewer("192.0.2.1").await;
    assert_eq!(second.get("/a", "").await.unwrap().status, 200);
    assert!(world.viewer("192.0.2.1").await.is_closed().await);
    assert_eq!(world.refused("connections-per-address"), 1);
    let mut third = world.viewer("192.0.2.2").await;
    assert_eq!(third.get("/a", "").await.unwrap().status, 200);
    assert!(world.viewer("192.0.2.3").await.is_closed().await);
    assert_eq!(world.refused("connections"), 1);
    drop(first);
    clock::sleep(Duration::from_secs(3)).await;
    let mut again = world.viewer("192.0.2.1").await;
    assert_eq!(again.get("/a", "").await.unwrap().status, 200);
    let limits = Limits {
        requests: 2,
        ..super::tests_support::limits()
    };
    let world = World::new(limits, &[("a", DIGITS)]);
    let mut viewer = world.viewer("192.0.2.1").await;
    assert!(!viewer.get("/a", "").await.unwrap().closes());
    assert!(viewer.get("/a", "").await.unwrap().closes());
    assert!(viewer.is_closed().await);
}

#[tokio::test(start_paused = true)]
async fn a_drained_box_refuses_new_viewers_and_lets_the_running_one_finish() {
    let world = world();
    let mut runs = world.viewer("127.0.0.2").await;
    assert_eq!(runs.get("/a/b.m4s", "").await.unwrap().status, 200);
    world.gate.send_replace(Gate::Closed(vec![Reason::Drained]));
    let mut fresh = world.viewer("127.0.0.3").await;
    let got = fresh.get("/a/b.m4s", "").await.unwrap();
    assert_eq!((got.status, got.closes()), (503, true));
    assert_eq!(got.body, b"closed: drained\n");
    assert!(got.field("retry-after").is_some());
    assert!(fresh.is_closed().await);
    for _ in 0..100 {
        clock::sleep(Duration::from_secs(50)).await;
        assert_eq!(runs.get("/a/b.m4s", "").await.unwrap().status, 200);
    }
    // Its further connections are welcome as well, until the limit of two hours.
    let mut other = world.viewer("127.0.0.2").await;
    assert_eq!(other.get("/a/b.m4s", "").await.unwrap().status, 200);
    for _ in 0..43 {
        clock::sleep(Duration::from_secs(50)).await;
        assert_eq!(runs.get("/a/b.m4s", "").await.unwrap().status, 200);
    }
    clock::sleep(Duration::from_secs(51)).await;
    let mut late = world.viewer("127.0.0.2").await;
    assert_eq!(late.get("/a/b.m4s", "").await.unwrap().status, 503);
    world.gate.send_replace(Gate::Serving);
    let mut fresh = world.viewer("127.0.0.3").await;
    assert_eq!(fresh.get("/a/b.m4s", "").await.unwrap().status, 200);
    fresh.say("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(fresh.hear(true).await.unwrap().status, 204);
    assert_eq!(world.refused("gate"), 2);
}

#[tokio::test(start_paused = true)]
async fn stopping_lets_responses_end_and_cuts_at_the_deadline() {
    let big = vec![7u8; 300_000];
    let world = World::new(limits(), &[("big", &big), ("a", DIGITS)]);
    let mut idle = world.viewer("192.0.2.1").await;
    let mut watching = world.viewer("192.0.2.2").await;
    assert_eq!(watching.get("/a", "").await.unwrap().status, 200);
    let mut reading = world.viewer("192.0.2.3").await;
    reading.say("GET /big HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut stalled = world.viewer("192.0.2.4").await;
    stalled.say("GET /big HTTP/1.1\r\nHost: h\r\n\r\n").await;
    clock::sleep(Duration::from_millis(10)).await;
    let start = clock::now();
    world.phase.drain(start + Duration::from_secs(15));
    assert!(idle.is_closed().await);
    assert!(clock::now() - start < Duration::from_secs(1));
    // Nobody new comes in.
    let peer = address("192.0.2.5:1");
    let refused = world.net.connect(peer, address("192.0.2.80:80")).await;
    assert!(refused.is_err());
    // A viewer that was watching gets its next segment, and is told to go.
    let got = watching.get("/a", "").await.unwrap();
    assert!(got.status == 200 && got.closes());
    assert_eq!(reading.hear(true).await.unwrap().body.len(), big.len());
    world.handle.finished().await;
    let taken = (clock::now() - start).as_millis();
    assert!((15_000..16_000).contains(&taken), "{taken} ms");
    let cut = stalled.hear(true).await.unwrap();
    assert!(cut.body.len() < big.len());
    assert!(!world.handle.view().workers[0].alive);
}

#[tokio::test(start_paused = true)]
async fn stopped_ends_everything_at_once_and_an_idle_watcher_does_not_hold_up_a_drain() {
    let world = world();
    let mut watching = world.viewer("192.0.2.2").await;
    assert_eq!(watching.get("/a/b.m4s", "").await.unwrap().status, 200);
    let start = clock::now();
    world.phase.drain(start + Duration::from_secs(30));
    world.handle.finished().await;
    assert!(clock::now() - start < Duration::from_secs(10));
    let world = super::tests::world();
    let _stalled = world.viewer("192.0.2.2").await;
    world.phase.stop();
    let start = clock::now();
    world.handle.finished().await;
    assert!(clock::now() - start < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_its_own_connection_only_and_is_counted() {
    let world = world();
    let mut neighbour = world.viewer("192.0.2.1").await;
    assert_eq!(neighbour.get("/a/b.m4s", "").await.unwrap().status, 200);
    let mut unlucky = world.viewer("192.0.2.1").await;
    assert!(unlucky.get("/panic", "").await.is_none());
    assert_eq!(neighbour.get("/a/b.m4s", "").await.unwrap().status, 200);
    let view = world.handle.view();
    assert_eq!((view.panics, view.connections.open), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_to_its_end_is_cut_and_reported() {
    let world = World::new(limits(), &[("big", &vec![1; 100_000]), ("gone", b"x")]);
    std::fs::File::options()
        .write(true)
        .open(world.files.path("big"))
        .unwrap()
        .set_len(50_000)
        .unwrap();
    let mut viewer = world.viewer("192.0.2.1").await;
    let got = viewer.get("/big", "").await.unwrap();
    assert_eq!(
        (got.status, got.field("content-length")),
        (200, Some("100000"))
    );
    assert_eq!(got.body.len(), 50_000);
    assert!(viewer.is_closed().await);
    let reported = world.files.read_errors.lock().unwrap().join(" ");
    assert!(reported.contains("50000"), "{reported}");
    assert_eq!(world.refused("read"), 1);
    std::fs::remove_file(world.files.path("gone")).unwrap();
    let got = one(&world, "/gone", "").await;
    assert_eq!((got.status, got.field("retry-after")), (503, Some("5")));
    assert!(!String::from_utf8_lossy(&got.body).contains("secret"));
}

#[tokio::test(start_paused = true)]
async fn a_reload_changes_limits_and_addresses_and_open_connections_live_on() {
    let world = world();
    let mut old = world.viewer("192.0.2.1").await;
    assert_eq!(old.get("/a/b.m4s", "").await.unwrap().status, 200);
    let mut new = world.config.clone();
    new.plain_listen = vec![address("192.0.2.81:80")];
    new.limits.head = 256;
    let prepared = world.handle.prepare(&new).unwrap();
    assert_eq!(
        world.handle.view().listeners[0].address,
        address("192.0.2.80:80")
    );
    prepared.commit();
    clock::sleep(Duration::from_millis(10)).await;
    assert_eq!(world.handle.view().listeners.len(), 1);
    let peer = address("192.0.2.9:9");
    assert!(
        world
            .net
            .connect(peer, address("192.0.2.80:80"))
            .await
            .is_err()
    );
    assert!(
        world
            .net
            .connect(peer, address("192.0.2.81:80"))
            .await
            .is_ok()
    );
    assert_eq!(old.get("/a/b.m4s", "").await.unwrap().status, 200);
    let long = format!("X: {}\r\n", "y".repeat(300));
    assert_eq!(old.get("/a/b.m4s", &long).await.unwrap().status, 431);
}

#[tokio::test(start_paused = true)]
async fn half_a_head_and_a_vanished_viewer_leave_nothing_behind() {
    let world = world();
    let mut viewer = world.viewer("192.0.2.1").await;
    viewer.say("GET /a/b.m4s HT").await;
    viewer.stream.shutdown().await.unwrap();
    drop(viewer);
    let mut viewer = world.viewer("192.0.2.1").await;
    viewer.say("GET /a/b.m4s HTTP/1.1\r\nHost: h\r\n\r\n").await;
    viewer.stream.shutdown().await.unwrap();
    // The end of the viewer's half does not take its response away.
    assert_eq!(viewer.hear(true).await.unwrap().body, DIGITS);
    drop(viewer);
    clock::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.handle.view().connections.open, 0);
}
