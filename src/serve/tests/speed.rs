//! The speed test: what it answers, whom it refuses, and that its upload is the one body there is.

use super::*;
use crate::clock;
use crate::gate::Reason;
use crate::serve::tests_support::Viewer;
use crate::serve::tests_support::speedtest;
use crate::units::Bytes;
use crate::units::BytesPerSecond;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

fn measured(config: SpeedtestConfig) -> World {
    let world = World::new(limits(), &[("a/b.m4s", DIGITS)]);
    let speedtest = SpeedtestConfig {
        enabled: true,
        ..config
    };
    let config = Config {
        speedtest,
        ..world.config.clone()
    };
    world.handle.prepare(&config).unwrap().commit();
    // The file is made on a thread of its own, in real time.
    while world.handle.view().speedtest.state == "making" {
        std::thread::yield_now();
    }
    world
}

async fn post(viewer: &mut Viewer, fields: &str, body: &[u8]) -> Response {
    let head = format!("POST /speedtest HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    viewer.say(&head).await;
    viewer.stream.write_all(body).await.unwrap();
    viewer.hear(true).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_file_comes_whole_or_in_part_and_is_never_cached() {
    let world = measured(speedtest());
    let mut viewer = world.viewer("192.0.2.1").await;
    let probe = viewer.get("/speedtest/range/0-0", "").await.unwrap();
    assert_eq!((probe.status, probe.body.len()), (206, 1));
    let range = probe.field("content-range");
    assert_eq!(range, Some("bytes 0-0/26214401"));
    let part = viewer.get("/speedtest/range/5-1000004", "").await.unwrap();
    assert_eq!((part.status, part.body.len()), (206, 1_000_000));
    let whole = viewer.get("/speedtest?x=1", "").await.unwrap();
    assert_eq!((whole.status, whole.body.len()), (200, 26_214_401));
    assert_eq!(part.body[..], whole.body[5..1_000_005]);
    assert_eq!(probe.body[0], whole.body[0]);
    let end = viewer.get("/speedtest/range/0-26214400", "").await.unwrap();
    assert!(end.body == whole.body);
    for got in [&probe, &whole] {
        assert_eq!(got.field("cache-control"), Some("no-store"));
        assert_eq!(got.field("access-control-allow-origin"), Some("*"));
        assert_eq!(got.field("content-type"), Some("application/octet-stream"));
    }
    // What cannot be compressed has every byte about as often as any other.
    let mut seen = [0_u32; 256];
    whole
        .body
        .iter()
        .for_each(|byte| seen[usize::from(*byte)] += 1);
    assert!(seen.iter().all(|count| (98_000..107_000).contains(count)));
    let beyond = viewer.get("/speedtest/range/26214401-26214402", "").await;
    assert_eq!(beyond.unwrap().status, 416);
    viewer
        .say("HEAD /speedtest HTTP/1.1\r\nHost: h\r\n\r\n")
        .await;
    let head = viewer.hear(false).await.unwrap();
    assert_eq!(head.field("content-length"), Some("26214401"));
    viewer
        .say("OPTIONS /speedtest HTTP/1.1\r\nHost: h\r\n\r\n")
        .await;
    let preflight = viewer.hear(true).await.unwrap();
    assert_eq!(preflight.status, 204);
    let methods = preflight.field("access-control-allow-methods").unwrap();
    assert!(methods.contains("POST"));
    let view = world.handle.view();
    // Probes are no transfers, and none of it is anybody's content.
    assert_eq!((view.speedtest.downloads, view.speedtest.running), (3, 0));
    assert_eq!(view.speedtest.bytes_sent, 1 + 1_000_000 + 2 * 26_214_401);
    assert_eq!(view.bytes_sent, 0);
}

#[tokio::test(start_paused = true)]
async fn an_upload_is_counted_forgotten_and_the_next_request_begins_right_after_it() {
    let world = measured(speedtest());
    let mut viewer = world.viewer("192.0.2.1").await;
    for length in [0_usize, 1, 70_000] {
        let got = post(
            &mut viewer,
            &format!("Content-Length: {length}\r\n"),
            &vec![b'x'; length],
        )
        .await;
        assert_eq!(got.status, 200, "{length}");
        assert_eq!(got.body, format!("{{\"bytes\":{length}}}\n").as_bytes());
        assert_eq!(got.field("cache-control"), Some("no-store"));
        assert_eq!(got.field("connection"), None);
    }
    // A body that looks like requests is a body, and one byte behind it is not.
    let inner = "GET /a/b.m4s HTTP/1.1\r\nHost: h\r\n\r\n".repeat(3);
    let both = format!("{inner}GET /a/b.m4s HTTP/1.1\r\nHost: h\r\n\r\n");
    let fields = format!("Content-Length: {}\r\n", inner.len());
    let got = post(&mut viewer, &fields, both.as_bytes()).await;
    assert_eq!(
        got.body,
        format!("{{\"bytes\":{}}}\n", inner.len()).as_bytes()
    );
    let next = viewer.hear(true).await.unwrap();
    assert_eq!((next.status, &next.body[..]), (200, DIGITS));
    let view = world.handle.view();
    assert_eq!(view.speedtest.uploads, 4);
    assert_eq!(view.speedtest.bytes_received, 70_001 + inner.len() as u64);
    assert_eq!(view.statuses[&200], 5);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_leave_to_send_gets_it() {
    let world = measured(speedtest());
    let mut viewer = world.viewer("192.0.2.1").await;
    viewer
        .say("POST /speedtest HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-Continue\r\n\r\n")
        .await;
    let leave = viewer.hear(false).await.unwrap();
    assert_eq!(leave.head, "HTTP/1.1 100 Continue\r\n\r\n");
    viewer.say("abc").await;
    assert_eq!(viewer.hear(true).await.unwrap().status, 200);
    // What is refused is refused before it is sent.
    let fields = format!("Content-Length: {}\r\nExpect: 100-continue\r\n", 65 << 20);
    let got = post(&mut viewer, &fields, b"").await;
    assert!(got.status == 413 && got.closes(), "{}", got.head);
}

#[tokio::test(start_paused = true)]
async fn there_is_no_other_body_and_no_other_framing() {
    let world = measured(speedtest());
    for (line, fields, status) in [
        ("POST /speedtest", "", 411),
        ("POST /speedtest", "Transfer-Encoding: chunked\r\n", 400),
        (
            "POST /speedtest",
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
            400,
        ),
        (
            "POST /speedtest",
            "Content-Length: 3\r\nContent-Length: 3\r\n",
            400,
        ),
        ("POST /speedtest", "Content-Length: 3, 3\r\n", 400),
        ("POST /speedtest", "Content-Length: 03\r\n", 400),
        ("POST /speedtest", "Content-Length: +3\r\n", 400),
        (
            "POST /speedtest",
            "Content-Length: 99999999999999999999999\r\n",
            413,
        ),
        (
            "POST /speedtest",
            "Content-Length: 3\r\nExpect: tea\r\n",
            417,
        ),
        (
            "POST /speedtest",
            "Content-Length: 3\r\nExpect: 100-continue\r\nExpect: 100-continue\r\n",
            417,
        ),
        ("POST /speedtest/range/0-0", "Content-Length: 3\r\n", 405),
        ("POST /speedtest/", "Content-Length: 3\r\n", 405),
        ("POST /%73peedtest", "Content-Length: 3\r\n", 405),
        ("POST /a/b.m4s", "Content-Length: 3\r\n", 405),
        ("POST /a/b.m4s?/speedtest", "Content-Length: 3\r\n", 405),
        ("GET /speedtest", "Content-Length: 3\r\n", 413),
        ("PUT /speedtest", "Content-Length: 3\r\n", 405),
        ("post /speedtest", "Content-Length: 3\r\n", 501),
        ("GET /speedtest/range/0-0", "Expect: 100-continue\r\n", 417),
    ] {
        let mut viewer = world.viewer("192.0.2.1").await;
        viewer
            .say(&format!("{line} HTTP/1.1\r\nHost: h\r\n{fields}\r\nabc"))
            .await;
        let got = viewer.hear(true).await.unwrap();
        assert_eq!(
            (got.status, got.closes()),
            (status, true),
            "{line} {fields}"
        );
        assert!(viewer.is_closed().await);
    }
    assert_eq!(world.handle.view().speedtest.uploads, 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_or_ends_early_frees_its_place() {
    let world = measured(speedtest());
    let mut slow = world.viewer("192.0.2.1").await;
    slow.say("POST /speedtest HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nabc")
        .await;
    let begun = clock::now();
    let got = slow.hear(true).await.unwrap();
    assert_eq!((got.status, got.closes()), (408, true));
    assert_eq!(clock::now() - begun, limits().progress_time);
    assert_eq!(world.refused("progress"), 1);
    // One that goes on just fast enough is cut when its time is up.
    let mut steady = world.viewer("192.0.2.1").await;
    steady
        .say("POST /speedtest HTTP/1.1\r\nHost: h\r\nContent-Length: 10000000\r\n\r\n")
        .await;
    let begun = clock::now();
    while world.refused("progress") == 1 {
        steady.stream.write_all(&[0; 2000]).await.unwrap();
        clock::sleep(Duration::from_secs(1)).await;
    }
    let time = (clock::now() - begun).as_secs();
    assert!((58..=62).contains(&time), "{time} s");
    // And one that leaves.
    let mut lost = world.viewer("192.0.2.1").await;
    lost.say("POST /speedtest HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc")
        .await;
    drop(lost);
    clock::sleep(Duration::from_secs(3)).await;
    assert_eq!(world.handle.view().speedtest.running, 0);
}

#[tokio::test(start_paused = true)]
async fn no_transfer_outlasts_its_time_however_slowly_it_goes_on() {
    // A rate at which one upload of this size would wait for minutes.
    let world = measured(SpeedtestConfig {
        rate_limit: BytesPerSecond(20_000),
        ..speedtest()
    });
    let mut upload = world.viewer("192.0.2.1").await;
    upload
        .say("POST /speedtest HTTP/1.1\r\nHost: h\r\nContent-Length: 50000000\r\n\r\n")
        .await;
    let begun = clock::now();
    let sending = async {
        // Always more than the box wants to take.
        while upload.stream.write_all(&[0; 60_000]).await.is_ok() {}
    };
    clock::within(Duration::from_secs(90), sending)
        .await
        .unwrap();
    let time = (clock::now() - begun).as_secs();
    assert!((58..=63).contains(&time), "{time} s up");
    assert_eq!(world.handle.view().speedtest.running, 0);
    // A viewer that takes a piece of a download byte by byte, always enough for its progress.
    let world = measured(speedtest());
    let mut download = world.viewer("192.0.2.1").await;
    let begun = clock::now();
    download
        .say("GET /speedtest HTTP/1.1\r\nHost: h\r\n\r\n")
        .await;
    let mut piece = [0; 2_000];
    while tokio::io::AsyncReadExt::read(&mut download.stream, &mut piece)
        .await
        .is_ok_and(|count| count > 0)
        && world.handle.view().speedtest.running > 0
    {
        clock::sleep(Duration::from_secs(1)).await;
    }
    let time = (clock::now() - begun).as_secs();
    assert!((58..=62).contains(&time), "{time} s down");
}

#[tokio::test(start_paused = true)]
async fn transfers_are_few_in_all_and_fewer_from_one_address() {
    let world = measured(SpeedtestConfig {
        connections: 17,
        ..speedtest()
    });
    let ask = "GET /speedtest HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut running = Vec::new();
    for _ in 0..16 {
        let mut viewer = world.viewer("192.0.2.1").await;
        viewer.say(ask).await;
        // It is under way once something has come.
        let mut some = [0; 10];
        tokio::io::AsyncReadExt::read_exact(&mut viewer.stream, &mut some)
            .await
            .unwrap();
        running.push(viewer);
    }
    let mut same = world.viewer("192.0.2.1").await;
    let got = same.get("/speedtest", "").await.unwrap();
    assert_eq!((got.status, got.field("retry-after")), (429, Some("15")));
    // Latency is measured all the same.
    let probe = same.get("/speedtest/range/0-0", "").await.unwrap();
    assert_eq!(probe.status, 206);
    let mut other = world.viewer("192.0.2.2").await;
    other.say(ask).await;
    let mut some = [0; 10];
    tokio::io::AsyncReadExt::read_exact(&mut other.stream, &mut some)
        .await
        .unwrap();
    let mut third = world.viewer("192.0.2.3").await;
    let got = third.get("/speedtest", "").await.unwrap();
    assert_eq!((got.status, got.field("retry-after")), (503, Some("15")));
    let refused = post(&mut third, "Content-Length: 3\r\n", b"").await;
    assert_eq!((refused.status, refused.closes()), (503, true));
    assert_eq!(world.refused("speedtest"), 3);
    drop((running, other));
    clock::sleep(Duration::from_secs(1)).await;
    let mut again = world.viewer("192.0.2.1").await;
    assert_eq!(again.get("/speedtest", "").await.unwrap().status, 200);
}

#[tokio::test(start_paused = true)]
async fn both_directions_keep_to_the_rate_of_all_of_them_together() {
    // 1 MB a second on a clock that knows no noise.
    let world = measured(SpeedtestConfig {
        rate_limit: BytesPerSecond(1_000_000),
        upload_max: Bytes(8_000_000),
        ..speedtest()
    });
    let begun = clock::now();
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let mut viewer = world.viewer("192.0.2.1").await;
        tasks.push(tokio::spawn(async move {
            let got = viewer.get("/speedtest/range/0-1999999", "").await.unwrap();
            assert_eq!(got.body.len(), 2_000_000);
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let time = (clock::now() - begun).as_secs_f64();
    assert!((7.9..8.1).contains(&time), "{time} s down");
    let begun = clock::now();
    let mut viewer = world.viewer("192.0.2.1").await;
    let body = vec![0; 4_000_000];
    let got = post(&mut viewer, "Content-Length: 4000000\r\n", &body).await;
    assert_eq!(got.status, 200);
    let time = (clock::now() - begun).as_secs_f64();
    assert!((3.9..4.1).contains(&time), "{time} s up");
}

#[tokio::test(start_paused = true)]
async fn a_closed_box_measures_nothing_and_neither_does_one_that_is_told_not_to() {
    let world = measured(speedtest());
    world.gate.send_replace(Gate::Closed(vec![Reason::Drained]));
    let mut viewer = world.viewer("192.0.2.1").await;
    let got = viewer.get("/speedtest/range/0-0", "").await.unwrap();
    assert_eq!(got.status, 503);
    let mut viewer = world.viewer("192.0.2.1").await;
    let got = post(&mut viewer, "Content-Length: 3\r\n", b"abc").await;
    assert_eq!((got.status, got.closes()), (503, true));
    world.gate.send_replace(Gate::Serving);
    world.handle.prepare(&world.config).unwrap().commit();
    assert_eq!(world.handle.view().speedtest.state, "off");
    let mut viewer = world.viewer("192.0.2.1").await;
    let got = viewer.get("/speedtest", "").await.unwrap();
    assert_eq!((got.status, got.closes()), (404, false));
    let got = post(&mut viewer, "Content-Length: 3\r\n", b"abc").await;
    assert_eq!((got.status, got.closes()), (404, true));
}
