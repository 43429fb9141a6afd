//! What strangers and bad neighbours can do: nothing that others notice for long.

use crate::lab::Lab;
use crate::lab::Setting;
use crate::lab::THIRD;
use crate::lab::get;
use oca::clock;
use oca::peer::Limits;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

fn short() -> Limits {
    Limits {
        handshake: Duration::from_millis(500),
        idle: Duration::from_millis(700),
        ..Limits::default()
    }
}

#[tokio::test]
async fn a_hundred_strangers_leave_room_for_a_box_and_are_gone_soon() {
    let lab = Lab::with(Setting {
        limits: short(),
        ..Setting::default()
    })
    .await;
    let (digest, bytes) = lab.publish(1, 1000);
    let ticket = lab.good(&[digest]);
    let mut strangers = Vec::new();
    for number in 0..100_u32 {
        let mut stream = lab.tcp(9).await;
        // Silence, noise, and the first bytes of a handshake that never goes on.
        let words: &[u8] = match number % 3 {
            0 => b"",
            1 => b"GET /fill/ HTTP/1.1\r\n\r\n",
            _ => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        };
        // The listener may have closed it by then.
        let _ = stream.write_all(words).await;
        strangers.push(stream);
    }
    let mut client = lab.connect().await;
    assert!(client.get(digest, &ticket, "").await.body == bytes);
    let crowded = |view: &oca::peer::View| view.refusals.contains_key("too-many-strangers");
    let view = lab.until("the crowd's refusal", crowded).await;
    assert_eq!((view.connections, view.connections_total), (1, 1));
    for mut stream in strangers {
        let mut byte = [0; 64];
        let closed = async { while stream.read(&mut byte).await.is_ok_and(|n| n > 0) {} };
        let within = clock::within(Duration::from_secs(10), closed).await;
        within.expect("a stranger's connection stays open");
    }
    // All of its places are free again.
    let (from, config) = (lab.tcp(9).await, &lab.asker);
    let config =
        oca::link::peering::box_client_config(config, &crate::lab::name(crate::lab::GIVER));
    let again = crate::lab::Client::open(from, config.unwrap()).await;
    assert!(again.unwrap().get(digest, &ticket, "").await.body == bytes);
}

#[tokio::test]
async fn a_box_has_its_share_of_connections_and_all_boxes_have_theirs() {
    let limits = Limits {
        connections_per_asker: 2,
        ..Limits::default()
    };
    let lab = Lab::with(Setting {
        limits,
        connections: 3,
        ..Setting::default()
    })
    .await;
    let (digest, _) = lab.publish(1, 10);
    let ticket = lab.good(&[digest]);
    let mut first = lab.connect().await;
    let second = lab.connect().await;
    assert_eq!(first.get(digest, &ticket, "").await.status, 200);
    lab.until("two", |view| view.connections == 2).await;
    let mut third = lab.connect().await;
    let told = third.get(digest, &ticket, "").await;
    assert_eq!(told.status, 429);
    assert_eq!(
        (told.header("retry-after"), told.header("connection")),
        ("10", "close")
    );
    assert!(told.message().contains("your box"));
    let neighbour = lab.plane.enrol(THIRD);
    let kept = lab.connect_as(&neighbour).await.unwrap();
    lab.until("three", |view| view.connections == 3).await;
    let mut full = lab.connect_as(&neighbour).await.unwrap();
    let told = full.get(digest, &ticket, "").await;
    assert_eq!(told.status, 429);
    assert!(told.message().contains("all connections"));
    drop(second);
    lab.until("a free place", |view| view.connections == 2)
        .await;
    let mut again = lab.connect().await;
    assert_eq!(again.get(digest, &ticket, "").await.status, 200);
    drop(kept);
}

#[tokio::test]
async fn heads_without_end_without_sense_or_without_haste_are_cut() {
    let lab = Lab::with(Setting {
        limits: short(),
        ..Setting::default()
    })
    .await;
    let (digest, bytes) = lab.publish(1, 10);
    let ticket = lab.good(&[digest]);
    let long = "GET /fill/x HTTP/1.1\r\nX: ".to_owned() + &"x".repeat(40_000);
    let many = "GET /fill/x HTTP/1.1\r\n".to_owned() + &"x: y\r\n".repeat(200) + "\r\n";
    let folded = get(digest, &ticket, "X: y\r\n z\r\n");
    for garbage in [
        long.as_str(),
        many.as_str(),
        folded.as_str(),
        "\0\0\0\0\r\n\r\n",
        "GET\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /fill/x HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        "GET /fill/x HTTP/1.1\r\n: y\r\n\r\n",
    ] {
        let mut client = lab.connect().await;
        // An endless head is cut while it is being sent.
        let _ = client.send(garbage.as_bytes()).await;
        let (answer, _) = client.rest().await;
        let text = String::from_utf8_lossy(&answer);
        assert!(!text.contains(" 200 "), "{garbage:.40}: {text}");
    }
    let with_body = get(digest, &ticket, "Content-Length: 5\r\n") + "hello";
    let chunked = get(digest, &ticket, "Transfer-Encoding: chunked\r\n") + "0\r\n\r\n";
    for request in [with_body, chunked] {
        let mut client = lab.connect().await;
        let told = client.ask(&request).await;
        assert_eq!((told.status, told.header("connection")), (400, "close"));
        assert!(client.rest().await.0.is_empty());
    }
    let mut slow = lab.connect().await;
    let started = clock::now();
    let mut sent = 0;
    for byte in get(digest, &ticket, "").bytes() {
        if slow.send(&[byte]).await.is_err() {
            break;
        }
        sent += 1;
        let (pause, gone) = (Duration::from_millis(50), Duration::from_secs(8));
        clock::sleep(pause).await;
        assert!(
            clock::now() - started < gone,
            "{sent} bytes in, still there"
        );
    }
    let idle = lab.connect().await;
    lab.until("the idle one's end", |view| view.connections == 0)
        .await;
    drop(idle);
    let mut client = lab.connect().await;
    assert!(client.get(digest, &ticket, "").await.body == bytes);
}
