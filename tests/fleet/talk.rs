//! Boxes that behave: reports, heartbeats, enrolment, renewal, manifests.

use crate::lab::Lab;
use crate::lab::heartbeat;
use crate::lab::id;
use crate::lab::objects;
use crate::lab::parsed;
use crate::lab::refusal;
use crate::lab::report;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::StatusCode;
use oca::control::fleet::Shut;
use oca::gate::Reason;
use oca::link::message::Ack;
use oca::link::message::Code;
use oca::link::message::Enrol;
use oca::link::message::Enrolled;
use oca::link::message::HeartbeatReply;
use oca::link::message::Renew;
use oca::link::message::ReportReply;

#[tokio::test]
async fn a_box_reports_beats_and_closes_over_one_connection() {
    let lab = Lab::new(2).listen();
    let mut wire = lab.dial(1).await;
    let beat: HeartbeatReply = parsed(&wire.say("/v1/heartbeat", &heartbeat(1, Vec::new())).await);
    assert!(beat.orders.report_now && beat.orders.enabled);
    lab.see(1, |view| view.open == Err(Shut::Unknown)).await;
    let reply: ReportReply = parsed(&wire.say("/v1/report", &report(1, &objects(3))).await);
    let ack = Some(Ack {
        epoch: 5,
        position: 1,
    });
    assert_eq!((reply.acked.catalogue, reply.acked.routes), (ack, ack));
    assert_eq!(reply.orders.lease_s, 1_800);
    assert!(reply.next_report_s >= 300);
    let view = lab.see(1, |view| view.open.is_ok()).await;
    assert_eq!(view.objects, 3);
    let drained = heartbeat(2, vec![Reason::Drained]);
    assert_eq!(
        wire.say("/v1/heartbeat", &drained).await.status(),
        StatusCode::OK
    );
    let shut = Err(Shut::Gate("closed: drained".to_owned()));
    lab.see(1, |view| view.open == shut).await;
    lab.see(2, |view| view.open == Err(Shut::Unknown)).await;
    let page = lab.metrics.render();
    for line in [
        "oca_fleet_reports_total 1.0\n",
        "oca_fleet_heartbeats_total 2.0\n",
        "oca_fleet_boxes{state=\"closed\"} 1.0\n",
        "oca_fleet_boxes{state=\"unknown\"} 1.0\n",
        "oca_fleet_frozen 0.0\n",
        "oca_link_connections_open 1.0\n",
        "oca_link_handshakes_total{result=\"ok\"} 1.0\n",
        "oca_link_refusals_total{code=\"identity\"} 0.0\n",
    ] {
        assert!(page.contains(line), "{line} is missing in\n{page}");
    }
}

#[tokio::test]
async fn plain_json_with_fields_of_a_later_version_is_understood() {
    let lab = Lab::new(1).listen();
    let mut wire = lab.dial(1).await;
    let mut body = serde_json::to_value(report(1, &objects(1))).unwrap();
    body["colour"] = "blue".into();
    body["catalogue"]["shape"] = serde_json::json!({"round": true});
    let answer = wire.post("/v1/report", None, body.to_string()).await;
    let _: ReportReply = parsed(&answer.unwrap());
}

#[tokio::test]
async fn a_manifest_is_fetched_once_and_then_only_if_it_changed() {
    let lab = Lab::new(2).listen();
    let mut wire = lab.dial(1).await;
    let get = |tag: Option<&str>| {
        let request = Request::get("/v1/manifest").header("host", "localhost");
        let request = match tag {
            Some(tag) => request.header("if-none-match", tag),
            None => request,
        };
        request.body(Full::<Bytes>::default()).unwrap()
    };
    let first = wire.send(get(None)).await.unwrap();
    assert_eq!(first.status(), StatusCode::OK);
    assert_eq!(*first.body(), format!("manifest of {}", id(1)));
    let tag = first.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(tag, "\"2.7\"");
    let again = wire.send(get(Some(&tag))).await.unwrap();
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    assert!(again.body().is_empty());
    let older = wire.send(get(Some("\"2.6\""))).await.unwrap();
    assert_eq!(older.status(), StatusCode::OK);
    let mut other = lab.dial(2).await;
    let (status, code, _) = refusal(&other.send(get(None)).await.unwrap());
    assert_eq!((status, code), (StatusCode::NOT_FOUND, Code::NotFound));
}

#[tokio::test]
async fn enrolment_needs_no_certificate_and_everything_else_does() {
    let lab = Lab::new(1).listen();
    let enrol = |token: &str| Enrol {
        v: 1,
        token: token.to_owned(),
        csr: String::new(),
    };
    let mut stranger = lab.dial_with(None).await.unwrap();
    let enrolled: Enrolled = parsed(&stranger.say("/v1/enrol", &enrol("good")).await);
    assert_eq!(enrolled.id, id(1).to_string());
    let mut stranger = lab.dial_with(None).await.unwrap();
    let (status, code, _) = refusal(&stranger.say("/v1/enrol", &enrol("used")).await);
    assert_eq!((status, code), (StatusCode::FORBIDDEN, Code::Token));
    for path in ["/v1/report", "/v1/heartbeat", "/v1/renew"] {
        let mut stranger = lab.dial_with(None).await.unwrap();
        let (status, code, message) = refusal(&stranger.say(path, &enrol("good")).await);
        assert_eq!((status, code), (StatusCode::FORBIDDEN, Code::Identity));
        assert!(message.contains("enrol first"), "{message}");
    }
    let mut wire = lab.dial(1).await;
    let renew = Renew {
        v: 1,
        csr: String::new(),
    };
    let renewed: Enrolled = parsed(&wire.say("/v1/renew", &renew).await);
    assert_eq!(renewed.id, id(1).to_string());
}

#[tokio::test]
async fn paths_outside_the_contract_are_named() {
    let lab = Lab::new(1).listen();
    let mut wire = lab.dial(1).await;
    for (path, code) in [
        ("/v1/catalogue", Code::NotFound),
        ("/v1/routes", Code::NotFound),
        ("/", Code::NotFound),
        ("/v1/manifest", Code::BadRequest),
    ] {
        let answer = wire.post(path, None, "").await.unwrap();
        assert_eq!(refusal(&answer).1, code, "{path}");
    }
}

#[tokio::test]
async fn a_report_s_reply_brings_the_keys_of_the_box_s_own_names_and_a_rotation_follows() {
    use oca::control::signing::Signing;
    use oca::tls::token::FleetKey;
    use oca::tls::token::FleetSecret;
    use oca::tls::token::KeyId;
    use oca::tls::token::Secret;
    let now = oca::clock::unix_seconds(oca::clock::wall());
    let key = |id: &str, byte, until| FleetKey {
        id: KeyId::parse(id).unwrap(),
        from: now - 100,
        until,
        secret: Secret::from_bytes([byte; 32]),
    };
    let signing = |keys| {
        Some(std::sync::Arc::new(Signing {
            secret: FleetSecret::new(keys).unwrap(),
            lifetime: std::time::Duration::from_secs(7_200),
            domain: "oca.example.net".to_owned(),
        }))
    };
    let lab = Lab::new(2).listen();
    let mut wire = lab.dial(1).await;
    let (old, young) = (key("old", 1, now + 50), key("young", 2, now + 90_000));
    let gone = key("gone", 3, now - 1);
    lab.signing
        .send_replace(signing(vec![old.clone(), young.clone(), gone]));
    // While it is answered the fleet's task sees what was sent before.
    let beat: serde_json::Value =
        parsed(&wire.say("/v1/heartbeat", &heartbeat(1, Vec::new())).await);
    assert_eq!(beat.get("viewer_keys"), None);
    let reply: ReportReply = parsed(&wire.say("/v1/report", &report(1, &objects(3))).await);
    let told = reply.viewer_keys.unwrap();
    assert_eq!(told.lifetime_s, 7_200);
    let name = format!("{}.oca.example.net", id(1));
    let names = [name.clone(), format!("ipv4-{name}"), format!("ipv6-{name}")];
    let expected = [&old, &young].map(|key| names.each_ref().map(|host| key.host_key(host)));
    let expected: Vec<_> = expected.into_iter().flatten().map(Result::unwrap).collect();
    assert_eq!(told.keys, expected);
    // No word of the fleet's secret, nor of another box's keys.
    let other = young
        .host_key(&format!("{}.oca.example.net", id(2)))
        .unwrap();
    assert!(
        told.keys
            .iter()
            .all(|key| key.key != young.secret && key.key != other.key)
    );
}
