//! The box's client against a control plane that keeps the contract, refuses, closes or stalls.

use crate::golden;
use crate::lab;
use crate::lab::Asked;
use crate::lab::Authority;
use crate::lab::BOX;
use crate::lab::Lab;
use crate::lab::Reply;
use oca::link::client::LinkError;
use oca::link::identity::Identity;
use oca::link::identity::box_of;
use oca::link::message::Code;
use oca::link::message::Enrol;
use oca::link::message::FillSources;
use oca::link::message::FillSourcesRequest;
use oca::link::message::HeartbeatReply;
use oca::link::message::Position;
use oca::link::message::Refusal;
use oca::link::message::Renew;
use oca::link::message::ReportReply;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn beat() -> oca::link::message::Heartbeat {
    golden::read("heartbeat")
}

fn beat_reply() -> Reply {
    lab::json(200, &golden::read::<HeartbeatReply>("heartbeat-reply"))
}

#[tokio::test]
async fn a_box_enrols_with_its_token_and_is_known_by_its_certificate_from_then_on() {
    let authority = Arc::new(Authority::new());
    let issuer = Arc::clone(&authority);
    let lab = Lab::right(&authority, move |asked| match asked.line.as_str() {
        "POST /v1/enrol" => {
            let enrol: Enrol = serde_json::from_slice(&asked.body).unwrap();
            assert_eq!(enrol.token, "a-token");
            assert!(asked.peer.is_none());
            lab::json(200, &issuer.issue(&enrol.csr))
        }
        "POST /v1/renew" => {
            let renew: Renew = serde_json::from_slice(&asked.body).unwrap();
            lab::json(200, &issuer.issue(&renew.csr))
        }
        _ => beat_reply(),
    });
    let client = lab::stranger(&lab, &authority.pin());
    assert_eq!(client.heartbeat(&beat()).await, Err(LinkError::NotEnrolled));
    assert!(client.verifier().is_err());
    assert_eq!(lab.dials(), 0, "nothing is sent without a certificate");

    client.enrol(" a-token\n").await.unwrap();
    let identity = client.identity();
    assert_eq!(identity.credentials().unwrap().id.as_str(), BOX);
    assert!(client.verifier().is_ok());
    client.heartbeat(&beat()).await.unwrap();
    let before = lab.asked().pop().unwrap().peer.unwrap();
    assert_eq!(box_of(&before).unwrap().as_str(), BOX);

    client.renew().await.unwrap();
    client.heartbeat(&beat()).await.unwrap();
    let after = lab.asked().pop().unwrap().peer.unwrap();
    assert_ne!(before, after, "the old certificate is not shown again");
    assert_eq!(after, client.identity().credentials().unwrap().chain[0]);
}

#[tokio::test]
async fn the_golden_messages_go_over_the_wire_as_they_are() {
    let authority = Authority::new();
    let lab = Lab::right(&authority, |asked| match asked.line.as_str() {
        "POST /v1/report" => {
            assert!(
                asked.head.contains("content-encoding: zstd"),
                "{}",
                asked.head
            );
            let text = zstd::decode_all(asked.body.as_slice()).unwrap();
            let sent: Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(sent, golden::read::<Value>("report"));
            // A compressed reply is read as well as a plain one.
            let reply = zstd::encode_all(golden::text("report-reply.json").as_bytes(), 1).unwrap();
            Reply::Send(lab::response(200, "content-encoding: zstd\r\n", &reply))
        }
        "POST /v1/heartbeat" => {
            let sent: Value = serde_json::from_slice(&asked.body).unwrap();
            assert_eq!(sent, golden::read::<Value>("heartbeat"));
            beat_reply()
        }
        other => panic!("{other}"),
    });
    let client = lab::member(&lab, &authority);
    let reply = client.report(Arc::new(golden::read("report"))).await;
    assert_eq!(reply, Ok(golden::read::<ReportReply>("report-reply")));
    let reply = client.heartbeat(&beat()).await;
    assert_eq!(reply, Ok(golden::read("heartbeat-reply")));
    for asked in lab.asked() {
        assert!(asked.head.contains("host: control.example.net:8443\r\n"));
        assert!(asked.head.contains("content-type: application/json\r\n"));
    }
}

#[tokio::test]
async fn a_manifest_that_is_there_already_is_not_sent_again() {
    let authority = Authority::new();
    let lab = Lab::right(&authority, |asked| {
        assert_eq!(asked.line, "GET /v1/manifest");
        if asked.head.contains("if-none-match: \"3.7\"\r\n") {
            Reply::Send(b"HTTP/1.1 304 x\r\netag: \"3.7\"\r\n\r\n".to_vec())
        } else {
            Reply::Send(lab::response(200, "etag: \"3.7\"\r\n", &golden::manifest()))
        }
    });
    let client = lab::member(&lab, &authority);
    let (here, old) = (
        golden::read("position"),
        Position {
            epoch: 3,
            generation: 6,
        },
    );
    assert_eq!(client.manifest(Some(here)).await, Ok(None));
    assert_eq!(
        client.manifest(Some(old)).await,
        Ok(Some(golden::manifest()))
    );
    assert_eq!(client.manifest(None).await, Ok(Some(golden::manifest())));
    assert_eq!(lab.dials(), 1, "one connection for all three");
}

#[tokio::test]
async fn a_refusal_comes_with_its_code_its_words_and_its_time() {
    let authority = Authority::new();
    let lab = Lab::right(&authority, |asked| match asked.line.as_str() {
        "POST /v1/report" => lab::json(409, &golden::read::<Refusal>("refusal-wrong-digest")),
        "POST /v1/renew" => lab::json(403, &Refusal::new(Code::Identity, "revoked \u{1b}[2J")),
        "GET /v1/manifest" => lab::json(404, &golden::read::<Refusal>("refusal-not-found")),
        _ => {
            let body = golden::text("refusal-busy.json");
            Reply::Send(lab::response(429, "retry-after: 7\r\n", body.as_bytes()))
        }
    });
    let client = lab::member(&lab, &authority);
    let error = client.heartbeat(&beat()).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Busy));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    let error = client
        .report(Arc::new(golden::read("report")))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(Code::WrongDigest));
    assert!(error.to_string().contains("(wrong-digest)"), "{error}");
    let error = client.renew().await.unwrap_err();
    assert!(error.is_identity());
    assert!(error.to_string().contains("\\x1b[2J"), "{error}");
    let error = client.manifest(None).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::NotFound));
    // Refusals leave the connections usable.
    assert_eq!(lab.dials(), 3);
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_replaced_without_a_word() {
    let authority = Authority::new();
    let lab = Lab::right(&authority, |asked| match (asked.connection, beat_reply()) {
        (1, Reply::Send(bytes)) => Reply::SendAndClose(bytes),
        (_, reply) => reply,
    });
    let client = lab::member(&lab, &authority);
    for _ in 0..3 {
        client.heartbeat(&beat()).await.unwrap();
    }
    let connections: Vec<usize> = lab.asked().iter().map(|asked| asked.connection).collect();
    assert_eq!(connections, [1, 2, 2]);
}

#[tokio::test]
async fn a_kept_connection_that_swallows_a_request_gets_it_repeated_once_and_only_once() {
    let authority = Authority::new();
    let requests = AtomicUsize::new(0);
    let lab = Lab::right(&authority, move |_| {
        match requests.fetch_add(1, Ordering::Relaxed) {
            0 | 2 => beat_reply(),
            // The second request is read and the connection closed; so is each after the third.
            _ => Reply::SendAndClose(Vec::new()),
        }
    });
    let client = lab::member(&lab, &authority);
    client.heartbeat(&beat()).await.unwrap();
    client.heartbeat(&beat()).await.unwrap();
    assert_eq!((lab.asked().len(), lab.dials()), (3, 2));
    let error = client.heartbeat(&beat()).await.unwrap_err();
    assert!(error.is_unreachable(), "{error}");
    assert_eq!((lab.asked().len(), lab.dials()), (5, 3), "no endless retry");
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_that_stalls_costs_the_time_limit_and_no_more() {
    let authority = Authority::new();
    let lab = Lab::right(&authority, |_| Reply::Stall);
    let client = lab::member(&lab, &authority);
    let begun = oca::clock::now();
    let error = client.heartbeat(&beat()).await.unwrap_err();
    assert!(error.is_unreachable(), "{error}");
    assert_eq!(begun.elapsed(), Duration::from_secs(8));
    let error = client.enrol("a-token").await.unwrap_err();
    assert!(error.to_string().contains("within 30s"), "{error}");
    let error = client.manifest(None).await.unwrap_err();
    assert!(error.to_string().contains("within 120s"), "{error}");
    let begun = oca::clock::now();
    let report = Arc::new(golden::read("report"));
    assert!(client.report(report).await.unwrap_err().is_unreachable());
    assert_eq!(begun.elapsed(), Duration::from_secs(120));
}

/// Connects to nothing, for ever.
#[derive(Debug)]
struct Nowhere;

impl oca::link::dial::Dial for Nowhere {
    fn dial<'a>(&'a self, _host: &'a str, _port: u16) -> oca::link::dial::Dialling<'a> {
        Box::pin(std::future::pending())
    }
}

/// Connects to somebody who never says a word.
#[derive(Debug, Default)]
struct Mute(std::sync::Mutex<Vec<tokio::io::DuplexStream>>);

impl oca::link::dial::Dial for Mute {
    fn dial<'a>(&'a self, _host: &'a str, _port: u16) -> oca::link::dial::Dialling<'a> {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        self.0.lock().unwrap().push(theirs);
        let ours: Box<dyn oca::link::dial::Stream> = Box::new(ours);
        Box::pin(std::future::ready(Ok(ours)))
    }
}

#[tokio::test(start_paused = true)]
async fn a_dial_or_a_handshake_that_stalls_ends_too() {
    let pin = Authority::new().pin();
    let identity = || Identity::transient(&pin).unwrap();
    let dials: [Arc<dyn oca::link::dial::Dial>; 2] = [Arc::new(Nowhere), Arc::new(Mute::default())];
    for dial in dials {
        let client = oca::link::client::Client::new(&lab::config(&pin), identity(), dial).unwrap();
        let begun = oca::clock::now();
        let error = client.enrol("a-token").await.unwrap_err();
        assert!(
            error.to_string().contains("no connection within 15s"),
            "{error}"
        );
        assert_eq!(begun.elapsed(), Duration::from_secs(15));
    }
}

#[tokio::test]
async fn heartbeats_go_on_while_a_report_hangs() {
    let authority = Authority::new();
    let lab = Lab::right(&authority, |asked: &Asked| {
        if asked.line == "POST /v1/report" {
            Reply::Stall
        } else {
            beat_reply()
        }
    });
    let client = Arc::new(lab::member(&lab, &authority));
    let reporting = Arc::clone(&client);
    let report =
        tokio::spawn(async move { reporting.report(Arc::new(golden::read("report"))).await });
    while !lab
        .asked()
        .iter()
        .any(|asked| asked.line == "POST /v1/report")
    {
        tokio::task::yield_now().await;
    }
    client.heartbeat(&beat()).await.unwrap();
    assert!(!report.is_finished());
    report.abort();
}

#[tokio::test]
async fn reports_go_on_while_a_manifest_is_on_its_way() {
    let authority = Authority::new();
    let lab = Lab::right(&authority, |asked: &Asked| match asked.line.as_str() {
        "GET /v1/manifest" => Reply::Stall,
        _ => lab::json(200, &golden::read::<ReportReply>("report-reply")),
    });
    let client = Arc::new(lab::member(&lab, &authority));
    let fetching = Arc::clone(&client);
    let manifest = tokio::spawn(async move { fetching.manifest(None).await });
    while lab.asked().is_empty() {
        tokio::task::yield_now().await;
    }
    let report = client.report(Arc::new(golden::read("report")));
    let reply = oca::clock::within(Duration::from_secs(30), report).await;
    reply.unwrap().unwrap();
    assert!(!manifest.is_finished());
    manifest.abort();
}

#[tokio::test]
async fn reports_and_heartbeats_go_on_while_sources_are_asked_for() {
    let authority = Authority::new();
    let lab = Lab::right(&authority, |asked: &Asked| match asked.line.as_str() {
        "POST /v1/fill-sources" => Reply::Stall,
        "POST /v1/report" => lab::json(200, &golden::read::<ReportReply>("report-reply")),
        _ => beat_reply(),
    });
    let client = Arc::new(lab::member(&lab, &authority));
    let asking = Arc::clone(&client);
    let question: FillSourcesRequest = golden::read("fill-sources-request");
    let sources = tokio::spawn(async move { asking.fill_sources(&question).await });
    while lab.asked().is_empty() {
        tokio::task::yield_now().await;
    }
    let report = client.report(Arc::new(golden::read("report")));
    let reply = oca::clock::within(Duration::from_secs(30), report).await;
    reply.unwrap().unwrap();
    client.heartbeat(&beat()).await.unwrap();
    assert!(!sources.is_finished());
    sources.abort();
}

#[tokio::test]
async fn sources_are_asked_for_and_taken_within_their_bounds() {
    let authority = Authority::new();
    let lab = Lab::right(&authority, |asked| {
        assert_eq!(asked.line, "POST /v1/fill-sources");
        let sent: FillSourcesRequest = serde_json::from_slice(&asked.body).unwrap();
        let mut reply: FillSources = golden::read("fill-sources");
        match sent.complaints.len() {
            1 => assert_eq!(sent, golden::read("fill-sources-request")),
            2 => reply.v = 2,
            3 => reply.objects[0].digest = oca::object::Digest::of(b"another"),
            // More than any other answer may have, and within what this one may.
            4 => reply.tickets = vec!["x".repeat(8_000); 500],
            _ => return Reply::SendAndClose(lab::response(200, "", &vec![b' '; 17 << 20])),
        }
        let text = serde_json::to_vec(&reply).unwrap();
        let packed = zstd::encode_all(text.as_slice(), 1).unwrap();
        Reply::Send(lab::response(200, "content-encoding: zstd\r\n", &packed))
    });
    let client = lab::member(&lab, &authority);
    let mut question: FillSourcesRequest = golden::read("fill-sources-request");
    let reply = client.fill_sources(&question).await;
    assert_eq!(reply, Ok(golden::read("fill-sources")));
    for problem in ["version 2", "not asked for", "", "16777216 compressed"] {
        let complaint = question.complaints[0].clone();
        question.complaints.push(complaint);
        match client.fill_sources(&question).await {
            Ok(reply) => assert_eq!((reply.tickets.len(), problem), (500, "")),
            Err(error) => {
                assert!(!problem.is_empty(), "{error}");
                assert!(error.to_string().contains(problem), "{error}");
            }
        }
    }
    assert_eq!(lab.dials(), 1);
    question.wanted = vec![question.wanted[0]; 257];
    let error = client.fill_sources(&question).await.unwrap_err();
    assert!(error.to_string().contains("257 objects"), "{error}");
    assert_eq!(lab.asked().len(), 5, "that one was not sent");
}

#[tokio::test]
async fn a_control_plane_without_sources_refuses_in_words() {
    let authority = Authority::new();
    let lab = Lab::right(&authority, |_| {
        lab::json(404, &golden::read::<Refusal>("refusal-not-found"))
    });
    let client = lab::member(&lab, &authority);
    let question: FillSourcesRequest = golden::read("fill-sources-request");
    let error = client.fill_sources(&question).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::NotFound));
}

#[tokio::test]
async fn a_call_that_is_given_up_leaves_a_link_that_works() {
    let authority = Authority::new();
    let lab = Lab::right(&authority, |asked| match asked.connection {
        1 => Reply::Stall,
        _ => beat_reply(),
    });
    let client = lab::member(&lab, &authority);
    let beat = beat();
    {
        let mut first = std::pin::pin!(client.heartbeat(&beat));
        while lab.asked().is_empty() {
            assert!(futures_util::poll!(first.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
    }
    client.heartbeat(&beat).await.unwrap();
    assert_eq!(lab.dials(), 2);
}
