//! Who may speak: forged, foreign, ended and revoked certificates.

use crate::lab::Authority;
use crate::lab::Lab;
use crate::lab::Wire;
use crate::lab::heartbeat;
use crate::lab::id;
use crate::lab::objects;
use crate::lab::parsed;
use crate::lab::refusal;
use crate::lab::report;
use hyper::StatusCode;
use oca::clock;
use oca::control::fleet::Action;
use oca::control::fleet::Shut;
use oca::link::message::Code;
use oca::link::message::Enrolled;
use oca::link::message::HeartbeatReply;
use oca::link::message::Renew;
use oca::link::message::ReportReply;
use std::time::Duration;

/// In TLS 1.3 a client learns of its refusal with its first request.
async fn must_be_cut(wire: std::io::Result<Wire>) {
    let Ok(mut wire) = wire else {
        return;
    };
    let beat = serde_json::to_vec(&heartbeat(1, Vec::new())).unwrap();
    assert!(wire.post("/v1/heartbeat", None, beat).await.is_err());
}

fn failed_handshakes(lab: &Lab) -> bool {
    let page = lab.metrics.render();
    page.contains("oca_link_handshakes_total{result=\"failed\"} 1.0\n")
}

#[tokio::test]
async fn the_certificate_says_who_speaks_and_the_body_does_not() {
    let lab = Lab::new(2).listen();
    let mut wire = lab.dial(1).await;
    let mut body = serde_json::to_value(report(1, &objects(3))).unwrap();
    for field in ["id", "box", "name"] {
        body[field] = id(2).to_string().into();
    }
    let answer = wire.post("/v1/report", None, body.to_string()).await;
    let _: ReportReply = parsed(&answer.unwrap());
    lab.see(1, |view| view.objects == 3).await;
    let other = lab.see(2, |_| true).await;
    assert_eq!((other.objects, other.open.clone()), (0, Err(Shut::Unknown)));
}

#[tokio::test]
async fn a_certificate_of_another_authority_does_not_get_in() {
    let lab = Lab::new(1).listen();
    let forger = Authority::new();
    must_be_cut(lab.dial_with(Some(forger.pass(&id(1), 10))).await).await;
    assert!(failed_handshakes(&lab));
    assert_eq!(lab.see(1, |_| true).await.last_heartbeat, None);
}

#[tokio::test]
async fn a_certificate_of_our_authority_that_names_no_box_does_not_get_in() {
    let lab = Lab::new(1).listen();
    let name = rcgen::SanType::DnsName("c001-tls001-example-isp".try_into().unwrap());
    must_be_cut(lab.dial_with(Some(lab.authority.issue(name, 10))).await).await;
    assert!(failed_handshakes(&lab));
    let uri = "oca://box/../admin".try_into().unwrap();
    let pass = lab.authority.issue(rcgen::SanType::URI(uri), 10);
    must_be_cut(lab.dial_with(Some(pass)).await).await;
}

#[tokio::test]
async fn an_ended_certificate_renews_itself_and_does_nothing_else() {
    let lab = Lab::new(1).listen();
    let mut wire = lab
        .dial_with(Some(lab.authority.pass(&id(1), -5)))
        .await
        .unwrap();
    let answer = wire.say("/v1/heartbeat", &heartbeat(1, Vec::new())).await;
    let (status, code, message) = refusal(&answer);
    assert_eq!((status, code), (StatusCode::FORBIDDEN, Code::Identity));
    assert!(message.contains("ended at"), "{message}");
    let answer = wire.say("/v1/report", &report(1, &objects(1))).await;
    assert_eq!(refusal(&answer).1, Code::Identity);
    let renew = Renew {
        v: 1,
        csr: String::new(),
    };
    let _: Enrolled = parsed(&wire.say("/v1/renew", &renew).await);
    assert_eq!(*lab.renewed.lock().unwrap(), [id(1)]);
    assert_eq!(lab.see(1, |_| true).await.last_heartbeat, None);
}

#[tokio::test]
async fn a_certificate_that_ended_too_long_ago_does_not_get_in() {
    let lab = Lab::new(1).listen();
    must_be_cut(lab.dial_with(Some(lab.authority.pass(&id(1), -40))).await).await;
    assert!(failed_handshakes(&lab));
    // Nor does an ended one of somebody else.
    let forger = Authority::new();
    must_be_cut(lab.dial_with(Some(forger.pass(&id(1), -5))).await).await;
}

#[tokio::test]
async fn a_box_that_is_not_in_the_registry_is_told_so() {
    let lab = Lab::new(1).listen();
    let mut wire = lab.dial(2).await;
    let answer = wire.say("/v1/heartbeat", &heartbeat(1, Vec::new())).await;
    let (status, code, message) = refusal(&answer);
    assert_eq!((status, code), (StatusCode::FORBIDDEN, Code::Identity));
    assert!(message.contains("registry"), "{message}");
}

#[tokio::test]
async fn revocation_cuts_the_live_connection_and_the_next_one_is_refused() {
    let lab = Lab::new(2).listen();
    let (mut wire, mut other) = (lab.dial(1).await, lab.dial(2).await);
    for wire in [&mut wire, &mut other] {
        let _: ReportReply = parsed(&wire.say("/v1/report", &report(1, &objects(1))).await);
    }
    lab.see(1, |view| view.open.is_ok()).await;
    lab.change(|registry| registry.appliances.get_mut(&id(1)).unwrap().revoked = true);
    let ended = clock::within(Duration::from_secs(20), &mut wire.ended).await;
    assert!(ended.is_ok(), "the connection outlives the revocation");
    lab.see(1, |view| view.open == Err(Shut::Revoked)).await;
    let mut again = lab.dial(1).await;
    let answer = again.say("/v1/heartbeat", &heartbeat(1, Vec::new())).await;
    let (_, code, message) = refusal(&answer);
    assert_eq!(code, Code::Identity);
    assert!(message.contains("revoked"), "{message}");
    let beat = other.say("/v1/heartbeat", &heartbeat(1, Vec::new())).await;
    let _: HeartbeatReply = parsed(&beat);
}

#[tokio::test]
async fn a_machine_that_was_replaced_is_cut_and_its_certificate_is_worth_nothing() {
    let lab = Lab::new(1).listen();
    let mut wire = lab.dial(1).await;
    let _: ReportReply = parsed(&wire.say("/v1/report", &report(1, &objects(1))).await);
    // By `appliance replace`, and then by the enrolment of the machine that comes after it.
    for key in [None, Some("ab".repeat(32))] {
        lab.change(|registry| {
            let appliance = registry.appliances.get_mut(&id(1)).unwrap();
            appliance.key_fingerprint = key;
        });
        let ended = clock::within(Duration::from_secs(20), &mut wire.ended).await;
        assert!(ended.is_ok(), "the connection outlives the replacement");
        let mut again = lab.dial(1).await;
        let answer = again.say("/v1/heartbeat", &heartbeat(2, Vec::new())).await;
        let (_, code, message) = refusal(&answer);
        assert_eq!(code, Code::Identity);
        assert!(message.contains("not bound to this machine's key"));
        let answer = again.say("/v1/report", &report(2, &objects(2))).await;
        assert_eq!(refusal(&answer).1, Code::Identity);
        wire = again;
    }
    assert_eq!(lab.see(1, |_| true).await.objects, 0);
}

#[tokio::test]
async fn a_cloned_disk_is_quarantined_with_its_original() {
    let mut lab = Lab::new(1).listen();
    let (mut one, mut two) = (lab.dial(1).await, lab.dial(1).await);
    let mut of_two = heartbeat(1, Vec::new());
    of_two.boot_id = "f".repeat(32);
    let _: HeartbeatReply = parsed(&one.say("/v1/heartbeat", &heartbeat(1, Vec::new())).await);
    let _: HeartbeatReply = parsed(&two.say("/v1/heartbeat", &of_two).await);
    let answer = one.say("/v1/heartbeat", &heartbeat(2, Vec::new())).await;
    assert_eq!(refusal(&answer).1, Code::Quarantined);
    of_two.sequence = 2;
    let answer = two.say("/v1/heartbeat", &of_two).await;
    assert_eq!(refusal(&answer).1, Code::Quarantined);
    let told = clock::within(Duration::from_secs(20), lab.actions.recv()).await;
    let Action::Quarantine { id: told, .. } = told.unwrap().unwrap();
    assert_eq!(told, id(1));
    lab.see(1, |view| view.open == Err(Shut::Quarantined)).await;
}
