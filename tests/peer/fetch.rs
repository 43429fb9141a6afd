//! What a box with a good ticket gets, and how a response ends that cannot be whole.

use crate::lab::Lab;
use crate::lab::Setting;
use crate::lab::get;
use oca::clock;
use oca::object::Digest;
use oca::peer::Limits;
use oca::units::BytesPerSecond;
use std::time::Duration;

const MIB: usize = 1 << 20;

#[tokio::test]
async fn an_object_and_each_part_of_it_arrive_byte_for_byte_over_one_connection() {
    let lab = Lab::start().await;
    let (digest, bytes) = lab.publish(1, 3 * MIB + 17);
    let ticket = lab.good(&[digest]);
    let mut client = lab.connect().await;
    let whole = client.get(digest, &ticket, "").await;
    assert_eq!(whole.status, 200);
    assert!(whole.body == bytes);
    assert_eq!(whole.header("etag"), format!("\"{digest}\""));
    assert_eq!(whole.header("content-type"), "application/octet-stream");
    assert_eq!(whole.header("accept-ranges"), "bytes");
    assert_eq!(whole.header("content-range"), "");
    let size = bytes.len();
    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=262143-262144", 262_143, 262_144),
        ("bytes=1000000-", 1_000_000, size - 1),
        ("bytes=-5", size - 5, size - 1),
        ("bytes=5-99999999", 5, size - 1),
    ] {
        let part = client
            .get(digest, &ticket, &format!("Range: {range}\r\n"))
            .await;
        assert_eq!(part.status, 206, "{range}");
        assert!(part.body == bytes[first..=last], "{range}");
        let expected = format!("bytes {first}-{last}/{size}");
        assert_eq!(part.header("content-range"), expected);
    }
    let view = lab.handle.view();
    assert_eq!((view.requests, view.responses), (6, 6));
    assert_eq!((view.connections, view.connections_total), (1, 1));
    let sent = 2 * size + 3 + (size - 1_000_000);
    assert_eq!(view.bytes_sent, u64::try_from(sent).unwrap());
    assert!(view.refusals.is_empty(), "{view:?}");
}

#[tokio::test]
async fn ranges_and_preconditions_that_cannot_be_met_are_told_with_the_right_status() {
    let lab = Lab::start().await;
    let (digest, bytes) = lab.publish(1, 1000);
    let ticket = lab.good(&[digest]);
    let mut client = lab.connect().await;
    let other = Digest::of(b"other");
    for (lines, status) in [
        ("Range: bytes=1000-\r\n".to_owned(), 416),
        ("Range: bytes=-0\r\n".to_owned(), 416),
        ("Range: bytes=0-1,5-6\r\n".to_owned(), 400),
        ("Range: bytes=9-8\r\n".to_owned(), 400),
        ("Range: bytes=0-1\r\nRange: bytes=0-1\r\n".to_owned(), 400),
        (format!("If-Match: \"{other}\"\r\n"), 412),
        (format!("If-Match: W/\"{digest}\"\r\n"), 412),
        (format!("If-Match: \"{other}\", \"{digest}\"\r\n"), 200),
        ("If-Match: *\r\n".to_owned(), 200),
        (
            format!("If-Match: \"{digest}\"\r\nRange: bytes=3-4\r\n"),
            206,
        ),
        (
            format!("If-Range: \"{other}\"\r\nRange: bytes=3-4\r\n"),
            200,
        ),
        (
            format!("If-Range: \"{digest}\"\r\nRange: bytes=3-4\r\n"),
            206,
        ),
    ] {
        let answer = client.get(digest, &ticket, &lines).await;
        assert_eq!(answer.status, status, "{lines}");
        match status {
            200 => assert!(answer.body == bytes, "{lines}"),
            206 => assert!(answer.body == bytes[3..=4], "{lines}"),
            416 => assert_eq!(answer.header("content-range"), "bytes */1000"),
            _ => assert!(!answer.message().is_empty()),
        }
    }
}

#[tokio::test]
async fn head_tells_everything_but_the_bytes_and_costs_no_budget() {
    let lab = Lab::start().await;
    let (digest, _) = lab.publish(1, 1000);
    let ticket = lab.sign(&lab.ticket(&[digest], 0));
    let mut client = lab.connect().await;
    let request = get(digest, &ticket, "").replace("GET", "HEAD");
    for _ in 0..2 {
        let answer = client.ask(&request).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-length"), "1000");
        assert_eq!(answer.header("etag"), format!("\"{digest}\""));
    }
    let absent = get(Digest::of(b"absent"), &ticket, "").replace("GET", "HEAD");
    assert_eq!(client.ask(&absent).await.status, 403);
    // Nothing followed the heads, or this would not be an answer.
    assert_eq!(client.ask(&request).await.status, 200);
    assert_eq!(lab.handle.view().bytes_sent, 0);
}

#[tokio::test]
async fn an_object_that_is_not_held_is_a_plain_404_and_other_requests_are_refused() {
    let lab = Lab::start().await;
    let (held, _) = lab.publish(1, 10);
    let absent = Digest::of(b"absent");
    let ticket = lab.good(&[held, absent]);
    let mut client = lab.connect().await;
    assert_eq!(client.get(absent, &ticket, "").await.status, 404);
    let plain = get(held, &ticket, "");
    let upper = held.to_string().to_uppercase();
    for (request, status) in [
        (plain.replace("/fill/", "/fil/"), 400),
        (plain.replace("/fill/", "/fill/0"), 400),
        (plain.replace(" HTTP", "?x=1 HTTP"), 400),
        (plain.replace(&held.to_string(), &upper), 400),
        (plain.replace(&format!("/fill/{held}"), "/"), 400),
    ] {
        let answer = client.ask(&request).await;
        assert_eq!(answer.status, status, "{request}");
        assert!(!answer.message().is_empty());
    }
    assert_eq!(client.ask(&plain).await.status, 200);
    // What is not taken here may have a body that nobody reads: its connection ends.
    let mut other = lab.connect().await;
    let told = other.ask(&plain.replace("GET", "DELETE")).await;
    assert_eq!((told.status, told.header("allow")), (405, "GET, HEAD"));
    assert_eq!(told.header("connection"), "close");
    assert!(other.rest().await.0.is_empty());
    lab.until("one", |view| view.connections == 1).await;
    let view = lab.handle.view();
    assert_eq!(view.refusals.get("not-held"), Some(&1));
    assert_eq!(view.refusals.get("request"), Some(&6));
    let page = lab.metrics.render();
    for line in [
        "oca_peer_refusals_total{reason=\"not-held\"} 1.0\n",
        "oca_peer_connections_open 1.0\n",
        "oca_peer_requests_total 8.0\n",
        "oca_peer_bytes_sent_total 10.0\n",
    ] {
        assert!(page.contains(line), "{line} is missing in\n{page}");
    }
}

#[tokio::test]
async fn an_old_client_and_one_that_asks_ahead_are_answered_in_order() {
    let lab = Lab::start().await;
    let (one, first) = lab.publish(1, 700_000);
    let (two, second) = lab.publish(2, 10);
    let ticket = lab.good(&[one, two]);
    let mut client = lab.connect().await;
    let absent = get(Digest::of(b"absent"), &ticket, "");
    let ahead = [get(one, &ticket, ""), get(two, &ticket, ""), absent].concat();
    client.send(ahead.repeat(2).as_bytes()).await.unwrap();
    for _ in 0..2 {
        assert!(client.answer(false).await.unwrap().body == first);
        assert!(client.answer(false).await.unwrap().body == second);
        assert_eq!(client.answer(false).await.unwrap().status, 403);
    }
    let mut old = lab.connect().await;
    let request = get(one, &ticket, "").replace("HTTP/1.1", "HTTP/1.0");
    assert!(old.ask(&request).await.body == first);
    let (more, ended) = old.rest().await;
    assert!(more.is_empty() && ended.is_ok(), "{ended:?}");
}

#[tokio::test]
async fn all_connections_together_stay_below_the_rate() {
    let rate = BytesPerSecond(8_000_000);
    let lab = Lab::with(Setting {
        rate_limit: rate,
        ..Setting::default()
    })
    .await;
    let (digest, bytes) = lab.publish(1, 2 * MIB);
    let ticket = lab.good(&[digest]);
    let (mut one, mut two) = (lab.connect().await, lab.connect().await);
    let started = clock::now();
    let both = tokio::join!(one.get(digest, &ticket, ""), two.get(digest, &ticket, ""));
    let took = clock::now() - started;
    assert!(both.0.body == bytes && both.1.body == bytes);
    // The last piece goes when all before it have had their time.
    let least = (4 * MIB - 256 * 1024 - 200_000) as f64 / 8e6;
    assert!(took.as_secs_f64() >= least, "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn a_file_that_ends_early_cuts_the_response_and_the_store_is_told() {
    let lab = Lab::start().await;
    let (digest, bytes) = lab.publish(1, 48 * MIB);
    let ticket = lab.good(&[digest]);
    let mut client = lab.connect().await;
    client
        .send(get(digest, &ticket, "").as_bytes())
        .await
        .unwrap();
    assert_eq!(client.head().await.unwrap().status, 200);
    assert!(client.read(MIB).await.unwrap() == bytes[..MIB]);
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(lab.file(digest));
    file.unwrap().set_len(40 * 1_048_576 + 5).unwrap();
    let (rest, ended) = client.rest().await;
    assert!(ended.is_err() || rest.len() < 47 * MIB);
    assert!(rest == bytes[MIB..MIB + rest.len()], "only true bytes");
    assert!(rest.len() <= 39 * MIB + 5);
    let view = lab.until("the cut", |view| !view.refusals.is_empty()).await;
    assert_eq!(view.refusals.get("disk"), Some(&1));
    let end = clock::now() + Duration::from_secs(10);
    while lab.store.holds(digest) {
        assert!(clock::now() < end, "the store was not told");
        clock::sleep(Duration::from_millis(5)).await;
    }
    let mut again = lab.connect().await;
    assert_eq!(again.get(digest, &ticket, "").await.status, 404);
}

#[tokio::test]
async fn an_object_that_is_deleted_during_the_send_ends_whole_or_cut_and_never_hangs() {
    let lab = Lab::start().await;
    let (digest, bytes) = lab.publish(1, 16 * MIB);
    let ticket = lab.good(&[digest]);
    let mut client = lab.connect().await;
    client
        .send(get(digest, &ticket, "").as_bytes())
        .await
        .unwrap();
    client.head().await.unwrap();
    std::fs::remove_file(lab.file(digest)).unwrap();
    // An open file outlives its name.
    assert!(client.read(16 * MIB).await.unwrap() == bytes);
    let gone = client.get(digest, &ticket, "").await;
    assert!(matches!(gone.status, 404 | 503), "{gone:?}");
}

#[tokio::test]
async fn an_asker_that_does_not_read_is_cut_and_what_was_not_sent_is_not_charged() {
    let limits = Limits {
        stall: Duration::from_millis(300),
        ..Limits::default()
    };
    let lab = Lab::with(Setting {
        limits,
        ..Setting::default()
    })
    .await;
    let (digest, bytes) = lab.publish(1, 48 * MIB);
    let ticket = lab.sign(&lab.ticket(&[digest], 60 << 20));
    let mut client = lab.connect().await;
    client
        .send(get(digest, &ticket, "").as_bytes())
        .await
        .unwrap();
    let view = lab.until("the cut", |view| !view.refusals.is_empty()).await;
    assert_eq!(view.refusals.get("stalled"), Some(&1), "{view:?}");
    let view = lab.until("its place", |view| view.connections == 0).await;
    assert!(view.bytes_sent < 40 << 20, "{view:?}");
    let left = (60 << 20) - view.bytes_sent;
    let mut again = lab.connect().await;
    let range = format!("Range: bytes=0-{}\r\n", left.min(48 << 20) - 1);
    let part = again.get(digest, &ticket, &range).await;
    assert_eq!(part.status, 206);
    assert!(part.body == bytes[..part.body.len()]);
}

#[tokio::test]
async fn a_box_that_stops_says_so_finishes_what_it_sends_and_then_cuts() {
    let rate_limit = BytesPerSecond(4_000_000);
    let lab = Lab::with(Setting {
        rate_limit,
        ..Setting::default()
    })
    .await;
    let (digest, bytes) = lab.publish(1, 2 * MIB);
    let (large, _) = lab.publish(2, 48 * MIB);
    let ticket = lab.good(&[digest, large]);
    let mut busy = lab.connect().await;
    busy.send(get(digest, &ticket, "").as_bytes())
        .await
        .unwrap();
    assert_eq!(busy.head().await.unwrap().status, 200);
    let mut idle = lab.connect().await;
    assert_eq!(
        idle.get(digest, &ticket, "Range: bytes=0-0\r\n")
            .await
            .status,
        206
    );
    lab.phase.drain(clock::now() + Duration::from_secs(60));
    let (nothing, ended) = idle.rest().await;
    assert!(
        nothing.is_empty() && ended.is_ok(),
        "an idle connection is closed"
    );
    let mut late = lab.connect().await;
    let told = late.get(digest, &ticket, "").await;
    assert_eq!((told.status, told.header("connection")), (503, "close"));
    assert_eq!(told.header("retry-after"), "10");
    assert!(
        busy.read(2 * MIB).await.unwrap() == bytes,
        "what is under way ends"
    );
    lab.phase.stop();
    lab.until("the end", |view| view.connections == 0).await;
    let address = lab.address();
    let end = clock::now() + Duration::from_secs(10);
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        assert!(clock::now() < end, "somebody still listens");
        clock::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn stopping_the_handle_cuts_what_is_under_way() {
    let lab = Lab::start().await;
    let (digest, _) = lab.publish(1, 48 * MIB);
    let ticket = lab.good(&[digest]);
    let mut client = lab.connect().await;
    client
        .send(get(digest, &ticket, "").as_bytes())
        .await
        .unwrap();
    client.head().await.unwrap();
    lab.handle.stop();
    let (rest, _) = client.rest().await;
    assert!(rest.len() < 48 * MIB);
    lab.until("the end", |view| view.connections == 0).await;
}
