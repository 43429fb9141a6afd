//! Bodies that lie, swell or break off: refused with a reason, and the old state stays.

use crate::lab::BODIES;
use crate::lab::Lab;
use crate::lab::heartbeat;
use crate::lab::objects;
use crate::lab::parsed;
use crate::lab::refusal;
use crate::lab::report;
use hyper::StatusCode;
use oca::link::body;
use oca::link::message::Code;
use oca::link::message::ReportReply;
use oca::object::Digest;
use std::io::Write as _;

/// A report of three objects was taken; whatever comes next must leave it so.
async fn reported() -> (Lab, crate::lab::Wire) {
    let lab = Lab::new(2).listen();
    let mut wire = lab.dial(1).await;
    let _: ReportReply = parsed(&wire.say("/v1/report", &report(1, &objects(3))).await);
    lab.see(1, |view| view.open.is_ok() && view.objects == 3)
        .await;
    (lab, wire)
}

async fn must_be_unchanged(lab: &Lab, wire: &mut crate::lab::Wire) {
    // The same connection goes on, and what it says arrives after what was refused.
    let beat = wire.say("/v1/heartbeat", &heartbeat(1, Vec::new())).await;
    assert_eq!(beat.status(), StatusCode::OK);
    let view = lab.see(1, |_| true).await;
    assert_eq!((view.objects, view.open.clone()), (3, Ok(())));
}

#[tokio::test]
async fn a_wrong_digest_or_position_changes_nothing() {
    let (lab, mut wire) = reported().await;
    let mut wrong = report(2, &objects(4));
    wrong.catalogue.digest = Digest::of(b"other");
    let (status, code, message) = refusal(&wire.say("/v1/report", &wrong).await);
    assert_eq!((status, code), (StatusCode::CONFLICT, Code::WrongDigest));
    assert!(message.contains("set hash"), "{message}");
    let mut wrong = report(2, &objects(4));
    wrong.catalogue.from = 9;
    wrong.catalogue.to = 10;
    let (status, code, _) = refusal(&wire.say("/v1/report", &wrong).await);
    assert_eq!((status, code), (StatusCode::CONFLICT, Code::WrongPosition));
    let mut wrong = report(2, &objects(4));
    wrong.catalogue.added[3] = wrong.catalogue.added[0];
    assert_eq!(
        refusal(&wire.say("/v1/report", &wrong).await).1,
        Code::WrongDigest
    );
    must_be_unchanged(&lab, &mut wire).await;
    let _: ReportReply = parsed(&wire.say("/v1/report", &report(2, &objects(4))).await);
    lab.see(1, |view| view.objects == 4).await;
}

#[tokio::test]
async fn broken_and_foreign_bodies_are_refused() {
    let (lab, mut wire) = reported().await;
    let good = serde_json::to_vec(&report(2, &objects(4))).unwrap();
    let packed = body::encode(&report(2, &objects(4))).unwrap();
    let cases: [(Option<&str>, Vec<u8>); 7] = [
        (None, good[..good.len() / 2].to_vec()),
        (None, Vec::new()),
        (None, b"[[[[[[".repeat(5_000)),
        (Some("zstd"), good.clone()),
        (Some("zstd"), packed[..packed.len() / 2].to_vec()),
        (None, packed.clone()),
        (Some("br"), good.clone()),
    ];
    for (encoding, bytes) in cases {
        let answer = wire.post("/v1/report", encoding, bytes).await.unwrap();
        let (status, code, _) = refusal(&answer);
        assert_eq!((status, code), (StatusCode::BAD_REQUEST, Code::BadRequest));
    }
    let mut text = String::from_utf8(good).unwrap();
    text = text.replace("\"serving\"", "\"half open\"");
    let answer = wire.post("/v1/report", None, text).await.unwrap();
    assert_eq!(refusal(&answer).1, Code::BadRequest);
    must_be_unchanged(&lab, &mut wire).await;
}

#[tokio::test]
async fn a_bomb_and_an_oversize_body_are_refused_while_they_swell() {
    let (lab, mut wire) = reported().await;
    // 256 MB of blanks around a good report, in some ten kilobytes.
    let mut bomb = zstd::Encoder::new(Vec::new(), 1).unwrap();
    for _ in 0..256 {
        bomb.write_all(&vec![b' '; 1_000_000]).unwrap();
    }
    serde_json::to_writer(&mut bomb, &report(2, &objects(4))).unwrap();
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 100_000, "{}", bomb.len());
    let answer = wire.post("/v1/report", Some("zstd"), bomb).await.unwrap();
    let (status, code, message) = refusal(&answer);
    assert_eq!(
        (status, code),
        (StatusCode::PAYLOAD_TOO_LARGE, Code::TooLarge),
        "{message}"
    );
    must_be_unchanged(&lab, &mut wire).await;
    // The declared length alone is enough; the connection may end with the unread rest.
    let oversize = vec![b' '; usize::try_from(BODIES.compressed).unwrap() + 1];
    if let Ok(answer) = wire.post("/v1/report", None, oversize).await {
        assert_eq!(refusal(&answer).1, Code::TooLarge);
    }
    let mut wire = lab.dial(1).await;
    let big_beat = vec![b' '; 100_000];
    if let Ok(answer) = wire.post("/v1/heartbeat", None, big_beat).await {
        assert_eq!(refusal(&answer).1, Code::TooLarge);
    }
    let mut wire = lab.dial(1).await;
    must_be_unchanged(&lab, &mut wire).await;
}

#[tokio::test]
async fn a_large_report_is_read_beside_the_others() {
    let lab = Lab::new(1).listen();
    let mut wire = lab.dial(1).await;
    let many = objects(20_000);
    let reply = wire.say("/v1/report", &report(1, &many)).await;
    let _: ReportReply = parsed(&reply);
    lab.see(1, |view| view.objects == 20_000).await;
}
