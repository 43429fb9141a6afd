//! Floods and dawdlers, over in-memory streams on a paused clock where time matters.

use crate::lab::Lab;
use crate::lab::Pass;
use crate::lab::Wire;
use crate::lab::heartbeat;
use crate::lab::id;
use crate::lab::refusal;
use crate::lab::wire;
use hyper::StatusCode;
use oca::clock;
use oca::control::api::link;
use oca::link::message::Code;
use oca::link::message::Enrol;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

fn somewhere() -> SocketAddr {
    "192.0.2.7:40000".parse().unwrap()
}

async fn in_memory(lab: &Lab, door: &link::Door, number: usize) -> Wire {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let door = door.clone();
    tokio::spawn(async move { door.serve_connection(theirs, somewhere()).await });
    let pass = lab.authority.pass(&id(number), 10);
    wire(ours, lab.authority.client(Some(pass))).await.unwrap()
}

#[tokio::test]
async fn connections_beyond_the_limit_are_refused_and_room_is_given_back() {
    let limits = link::Limits {
        connections_per_address: 1,
        ..link::Limits::default()
    };
    let lab = Lab::with(1, limits).listen();
    let wire = lab.dial(1).await;
    let mut second = TcpStream::connect(lab.address()).await.unwrap();
    let mut nothing = Vec::new();
    let read = clock::within(Duration::from_secs(20), second.read_to_end(&mut nothing)).await;
    assert_eq!(read.unwrap().unwrap_or(0), 0, "closed without a word");
    drop(wire);
    let found_room = async {
        loop {
            let pass = lab.authority.pass(&id(1), 10);
            if let Ok(mut wire) = lab.dial_with(Some(pass)).await {
                let beat = serde_json::to_vec(&heartbeat(1, Vec::new())).unwrap();
                if wire.post("/v1/heartbeat", None, beat).await.is_ok() {
                    return;
                }
            }
            tokio::task::yield_now().await;
        }
    };
    assert!(
        clock::within(Duration::from_secs(20), found_room)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_box_that_asks_too_often_is_told_when_to_come_again() {
    let limits = link::Limits {
        others: 2,
        ..link::Limits::default()
    };
    let lab = Lab::with(1, limits).listen();
    let mut wire = lab.dial(1).await;
    let mut statuses = Vec::new();
    for sequence in 1..=3 {
        let answer = wire
            .say("/v1/heartbeat", &heartbeat(sequence, Vec::new()))
            .await;
        statuses.push(answer.status());
        if sequence == 3 {
            assert_eq!(refusal(&answer).1, Code::Busy);
            assert!(answer.headers().contains_key("retry-after"));
        }
    }
    let expected = [
        StatusCode::OK,
        StatusCode::OK,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    assert_eq!(statuses, expected);
}

#[tokio::test(start_paused = true)]
async fn somebody_who_never_shakes_hands_is_cut() {
    let lab = Lab::new(1);
    let door = link::Door::new(lab.deps.clone());
    let (mut ours, theirs) = tokio::io::duplex(1024);
    let begun = clock::now();
    let serving = tokio::spawn(async move { door.serve_connection(theirs, somewhere()).await });
    ours.write_all(&[22, 3, 1]).await.unwrap();
    serving.await.unwrap();
    let took = clock::now() - begun;
    assert_eq!(took.as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_comes_is_answered_and_a_silent_connection_ends() {
    let lab = Lab::new(1);
    let door = link::Door::new(lab.deps.clone());
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let serving = tokio::spawn(async move { door.serve_connection(theirs, somewhere()).await });
    let config = lab.authority.client(Some(lab.authority.pass(&id(1), 10)));
    let connector = tokio_rustls::TlsConnector::from(config);
    let name = "localhost".try_into().unwrap();
    let mut stream = connector.connect(name, ours).await.unwrap();
    let begun = clock::now();
    let head = "POST /v1/heartbeat HTTP/1.1\r\nhost: localhost\r\ncontent-length: 50\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("too slowly"), "{answer}");
    assert_eq!((clock::now() - begun).as_secs(), 10);
    drop(stream);
    serving.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_after_a_minute() {
    let lab = Lab::new(1);
    let door = link::Door::new(lab.deps.clone());
    let mut wire = in_memory(&lab, &door, 1).await;
    let beat = heartbeat(1, Vec::new());
    assert_eq!(
        wire.say("/v1/heartbeat", &beat).await.status(),
        StatusCode::OK
    );
    let begun = clock::now();
    let _ = (&mut wire.ended).await;
    assert_eq!((clock::now() - begun).as_secs(), 60);
}

#[tokio::test]
async fn large_bodies_beyond_their_places_are_put_off() {
    let limits = link::Limits {
        large_bodies: 0,
        ..link::Limits::default()
    };
    let lab = Lab::with(1, limits).listen();
    let mut wire = lab.dial(1).await;
    let large = vec![b' '; 200 * 1024];
    if let Ok(answer) = wire.post("/v1/report", None, large).await {
        let (status, code, _) = refusal(&answer);
        assert_eq!((status, code), (StatusCode::TOO_MANY_REQUESTS, Code::Busy));
    }
    let beat = heartbeat(1, Vec::new());
    let mut wire = lab.dial(1).await;
    assert_eq!(
        wire.say("/v1/heartbeat", &beat).await.status(),
        StatusCode::OK
    );
}

/// Sends the head of a request and nothing of its body.
async fn dawdle(lab: &Lab, pass: Option<Pass>, path: &str, length: u64) -> impl Sized {
    let tcp = TcpStream::connect(lab.address()).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let tls = tokio_rustls::TlsConnector::from(lab.authority.client(pass));
    let mut stream = tls.connect(name, tcp).await.unwrap();
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

#[tokio::test]
async fn strangers_who_send_slowly_keep_nobody_from_enrolling() {
    let lab = Lab::new(1).listen();
    let mut slow = Vec::new();
    for _ in 0..2 * link::Limits::default().enrolments {
        slow.push(dawdle(&lab, None, "/v1/enrol", 1000).await);
    }
    let enrol = Enrol {
        v: 1,
        token: "good".to_owned(),
        csr: String::new(),
    };
    // Long enough for every head above to have been read, whoever is scheduled first.
    for _ in 0..20 {
        let mut wire = lab.dial_with(None).await.unwrap();
        let answer = wire.say("/v1/enrol", &enrol).await;
        assert_eq!(answer.status(), StatusCode::OK, "{:?}", answer.body());
    }
}
