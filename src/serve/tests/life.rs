//! Connections in memory on a paused clock: time limits, counts, the gate, the phases of shutdown,
//! panics, unreadable objects, reload.

use super::DIGITS;
use super::one;
use super::world;
use crate::clock;
use crate::gate::Gate;
use crate::gate::Reason;
use crate::serve::Limits;
use crate::serve::tests_support::World;
use crate::serve::tests_support::address;
use crate::serve::tests_support::limits;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

#[tokio::test(start_paused = true)]
async fn silence_and_slow_heads_end_when_their_time_is_up_and_not_before() {
    let world = world();
    let second = Duration::from_secs(1);
    let start = clock::now();
    let mut idle = world.viewer("192.0.2.1").await;
    assert_eq!(idle.get("/a/b.m4s", "").await.unwrap().status, 200);
    assert!(idle.is_closed().await);
    assert_eq!((clock::now() - start).as_secs(), 60);
    // Whoever has never asked has as long as for a head.
    let start = clock::now();
    assert!(world.viewer("192.0.2.1").await.is_closed().await);
    assert_eq!((clock::now() - start).as_secs(), 10);
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
    let mut last = clock::now();
    while taken < big.len() {
        clock::sleep(Duration::from_secs(10)).await;
        let count = tokio::io::AsyncReadExt::read_exact(&mut steady.stream, &mut piece).await;
        if count.is_err() {
            break;
        }
        taken += piece.len();
        last = clock::now();
    }
    assert!(taken + piece.len() >= big.len(), "{taken}");
    // The wait for a last whole piece ended with the connection, which is idle from the end of its
    // response on and not from its request, ten minutes ago.
    let silent = (clock::now() - last).as_secs();
    assert!((20..=70).contains(&silent), "{silent}");
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
        ..crate::serve::tests_support::limits()
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
    let world = super::world();
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
async fn what_no_readable_disk_holds_at_present_is_unavailable_and_not_absent() {
    let world = world();
    let mut viewer = world.viewer("192.0.2.1").await;
    for fields in ["", "Range: bytes=0-0\r\n", "If-None-Match: *\r\n"] {
        let got = viewer.get("/scanning/a.m4s", fields).await.unwrap();
        assert_eq!((got.status, got.field("retry-after")), (503, Some("5")));
        assert_eq!(got.field("cache-control"), Some("no-store"));
    }
    assert_eq!(viewer.get("/absent", "").await.unwrap().status, 404);
    assert_eq!(
        world.refused("unavailable"),
        3,
        "an absent key is no refusal"
    );
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

#[tokio::test(start_paused = true)]
async fn a_refused_viewer_may_finish_its_sentence_but_not_talk_for_ever() {
    let world = world();
    let mut viewer = world.viewer("192.0.2.1").await;
    viewer
        .say("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 900000\r\n\r\n")
        .await;
    assert_eq!(viewer.hear(true).await.unwrap().status, 405);
    // Were the rest not read, a socket would be reset, and the answer might be lost with it.
    viewer.stream.write_all(&[b'x'; 200_000]).await.unwrap();
    assert!(viewer.stream.write_all(&[b'x'; 700_000]).await.is_err());
    assert_eq!(world.handle.view().connections.open, 0);
}
