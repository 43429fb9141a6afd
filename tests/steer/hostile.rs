//! Questions that are wrong, huge, slow or many.

use crate::stage::Fleet;
use crate::stage::KEY;
use crate::stage::Stage;
use crate::stage::converse;
use crate::stage::names;
use crate::stage::route;
use oca::control::api::public::Limits;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

fn stage() -> Stage {
    let heard = vec![route("192.0.2.0/24", "64500", 0)];
    Stage::of(&Fleet::new(heard.clone(), heard))
}

#[tokio::test]
async fn wrong_parameters_are_refused_with_what_to_write() {
    let stage = stage();
    let long = format!("client=192.0.2.7&key={}", "a".repeat(1025));
    for (query, words) in [
        ("client=nobody", "write `client=`"),
        ("client=", "write `client=`"),
        ("client=192.0.2.7/24", "write `client=`"),
        ("client=fe80::1%25eth0", "write `client=`"),
        ("client=fe80::1", "link-local"),
        ("client=169.254.1.1", "link-local"),
        ("client=::ffff:169.254.1.1", "link-local"),
        ("client=224.0.0.1", "multicast"),
        ("client=ff02::1", "multicast"),
        ("client=0.0.0.0", "unspecified"),
        ("client=255.255.255.255", "broadcast"),
        ("client=192.0.2.7&n=0", "write 1 to 16"),
        ("client=192.0.2.7&n=-1", "write 1 to 16"),
        ("client=192.0.2.7&n=two", "write 1 to 16"),
        ("client=192.0.2.7&n=", "write 1 to 16"),
        ("client=192.0.2.7&at=91,0", "<latitude>,<longitude>"),
        ("client=192.0.2.7&at=NaN,NaN", "<latitude>,<longitude>"),
        ("client=192.0.2.7&family=ipv5", "`ipv4` or `ipv6`"),
        ("client=192.0.2.7&explain=maybe", "`1` or `0`"),
        ("client=192.0.2.7&client=192.0.2.8", "given twice"),
        ("client=192.0.2.7&key=", "key is empty"),
        ("client=192.0.2.7&key=/film", "leading"),
        ("client=192.0.2.7&key=a/../b", "`..`"),
        ("client=192.0.2.7&key=a%00b", "0x00"),
        ("client=192.0.2.7&key=%ff%fe", "keys are made of"),
        (&long, "at most 1024"),
    ] {
        let reply = stage.get(&format!("/v1/steer?{query}")).await;
        assert_eq!(reply.status, 400, "{query}: {reply:?}");
        let error = reply.error();
        assert!(error.contains(words), "{query}: {error}");
        assert!(
            error.is_ascii() && !error.contains('\0'),
            "{query}: {error}"
        );
    }
}

#[tokio::test]
async fn more_boxes_than_there_may_be_are_as_many_as_there_are() {
    let stage = stage();
    for n in ["17", "1000000000", "99999999999999999999999999"] {
        let target = format!("/v1/steer?client=192.0.2.7&n={n}");
        assert_eq!(names(&stage.get(&target).await.json()).0.len(), 3, "{n}");
    }
}

#[tokio::test]
async fn an_ipv4_client_in_ipv6_form_is_an_ipv4_client() {
    let stage = stage();
    let mapped = stage.get("/v1/steer?client=::ffff:192.0.2.7").await.json();
    let plain = stage.get("/v1/steer?client=192.0.2.7").await.json();
    assert_eq!(mapped["boxes"], plain["boxes"]);
    assert_eq!(mapped["client"], "192.0.2.7");
}

#[tokio::test]
async fn a_head_beyond_all_bounds_is_refused() {
    let stage = stage();
    let reply = stage
        .get(&format!("/v1/steer?key={}", "a".repeat(100_000)))
        .await;
    assert!([414, 431].contains(&reply.status), "{reply:?}");
    assert_eq!(stage.get("/v1/health").await.status, 200);
}

#[tokio::test]
async fn a_body_beyond_its_bound_is_refused_declared_or_not() {
    let stage = stage();
    let reply = stage
        .post("/v1/steer?client=192.0.2.7", &vec![b' '; 10 << 20])
        .await;
    assert_eq!(reply.status, 413, "{reply:?}");
    let mut request = b"POST /v1/steer?client=192.0.2.7 HTTP/1.1\r\nHost: x\r\n\
        Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        .to_vec();
    for _ in 0..160 {
        request.extend_from_slice(b"10000\r\n");
        request.extend_from_slice(&[b' '; 0x10000]);
        request.extend_from_slice(b"\r\n");
    }
    let reply = converse(stage.connect().await, &request).await;
    assert_eq!(reply.status, 413, "{reply:?}");
}

#[tokio::test]
async fn bodies_that_are_no_list_of_keys_are_refused() {
    let stage = stage();
    let many = format!("[{}\"a\"]", "\"a\",".repeat(100));
    let deep = "[".repeat(60_000);
    for (body, words) in [
        ("", "not a JSON array"),
        ("{}", "not a JSON array"),
        ("[1]", "not a JSON array"),
        ("[\"a\",", "not a JSON array"),
        ("[]", "send a JSON array"),
        ("[\"a\",\"../b\"]", "`..`"),
        (&many, "101 keys"),
        (&deep, "not a JSON array"),
    ] {
        let reply = stage
            .post("/v1/steer?client=192.0.2.7", body.as_bytes())
            .await;
        assert_eq!(reply.status, 400, "{body:.20}: {reply:?}");
        let error = reply.error();
        assert!(error.contains(words), "{body:.20}: {error}");
    }
    let reply = stage
        .post("/v1/steer?client=192.0.2.7", b"[\"\xff\"]")
        .await;
    assert_eq!(reply.status, 400);
}

#[tokio::test]
async fn whoever_stalls_is_cut_and_others_go_on() {
    let limits = Limits {
        idle: Duration::from_millis(200),
        body_time: Duration::from_millis(200),
        ..Limits::default()
    };
    let stage = Stage::without_fleet(limits);
    let mut silent = stage.connect().await;
    let mut slow = stage.connect().await;
    slow.write_all(b"GET /v1/st").await.unwrap();
    let stalled =
        b"POST /v1/steer?client=192.0.2.7 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n[";
    let reply = converse(stage.connect().await, stalled).await;
    assert_eq!(reply.status, 408, "{reply:?}");
    let mut rest = Vec::new();
    let patience = Duration::from_secs(10);
    for stream in [&mut silent, &mut slow] {
        let ended = oca::clock::within(patience, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "the connection was kept");
    }
    assert_eq!(stage.get("/v1/health").await.status, 503);
}

#[tokio::test]
async fn too_many_connections_are_turned_away_and_room_comes_back() {
    let limits = Limits {
        connections: 2,
        ..Limits::default()
    };
    let stage = Stage::without_fleet(limits);
    let ask = b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = stage.connect().await;
        stream.write_all(ask).await.unwrap();
        // Its answer shows that it has its place.
        assert_eq!(stream.read_u8().await.unwrap(), b'H');
        held.push(stream);
    }
    assert_eq!(stage.get("/v1/health").await.status, 0);
    drop(held.pop());
    for _ in 0..1_000 {
        if stage.get("/v1/health").await.status == 503 {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("no room came back");
}

#[tokio::test]
async fn bytes_that_are_no_http_end_their_connection_only() {
    let stage = stage();
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"\r\n\r\n\r\n",
        b"\0\0\0\0",
        b"GET\r\n\r\n",
    ] {
        let mut stream = stage.connect().await;
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let patience = Duration::from_secs(10);
        let ended = oca::clock::within(patience, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok());
    }
    let target = format!("/v1/steer?client=192.0.2.7&key={KEY}");
    assert_eq!(stage.get(&target).await.status, 200);
}
