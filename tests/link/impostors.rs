//! Control planes that are not ours, not ours any more, or hostile: what the box says of each.

use crate::golden;
use crate::lab;
use crate::lab::Authority;
use crate::lab::HOST;
use crate::lab::Lab;
use crate::lab::Presented;
use crate::lab::Reply;
use oca::link::client::LinkError;
use oca::link::message::Heartbeat;
use rcgen::CertificateParams;
use rcgen::ExtendedKeyUsagePurpose;

fn beat() -> Heartbeat {
    golden::read("heartbeat")
}

/// Nobody may be asked anything before he is believed.
fn unasked(presented: Presented, trusts: &Authority) -> std::sync::Arc<Lab> {
    Lab::new(trusts, presented, |asked| {
        panic!("{} was asked", asked.line)
    })
}

#[tokio::test]
async fn a_fake_authority_is_refused_with_both_fingerprints_before_and_after_enrolment() {
    let (ours, fake) = (Authority::new(), Authority::new());
    let lab = unasked(fake.server(|_| {}), &fake);
    let before = lab::stranger(&lab, &ours.pin()).enrol("a-token").await;
    let after = lab::member(&lab, &ours)
        .heartbeat(&beat())
        .await
        .map(|_| ());
    for result in [before, after] {
        let error = result.unwrap_err();
        assert!(error.is_authority());
        assert_eq!(
            error.to_string(),
            format!(
                "the control plane at https://{HOST}:8443 presented a certificate authority with \
                 fingerprint {}, provisioning pins {}: wrong control plane, or somebody in between",
                fake.pin(),
                ours.pin()
            )
        );
    }
}

#[tokio::test]
async fn the_right_authority_behind_a_leaf_it_did_not_sign_is_refused() {
    let (ours, fake) = (Authority::new(), Authority::new());
    let mixed = || {
        let mut presented = fake.server(|_| {});
        presented.chain[1] = ours.der();
        unasked(presented, &ours)
    };
    let error = lab::stranger(&mixed(), &ours.pin())
        .enrol("x")
        .await
        .unwrap_err();
    assert!(matches!(error, LinkError::Certificate { .. }), "{error}");
    let error = lab::member(&mixed(), &ours)
        .heartbeat(&beat())
        .await
        .unwrap_err();
    assert!(error.is_authority(), "{error}");
}

#[tokio::test]
async fn before_enrolment_the_chain_must_contain_the_authority() {
    let ours = Authority::new();
    let alone = || {
        let mut presented = ours.server(|_| {});
        presented.chain.truncate(1);
        presented
    };
    let lab = unasked(alone(), &ours);
    let error = lab::stranger(&lab, &ours.pin())
        .enrol("x")
        .await
        .unwrap_err();
    assert!(matches!(error, LinkError::Authority { .. }), "{error}");
    // Afterwards the stored one serves.
    let lab = Lab::new(&ours, alone(), |_| {
        Reply::Send(lab::response(
            200,
            "",
            golden::text("heartbeat-reply.json").as_bytes(),
        ))
    });
    lab::member(&lab, &ours).heartbeat(&beat()).await.unwrap();
}

#[tokio::test]
async fn an_ended_a_coming_a_misnamed_and_a_misused_certificate_are_refused_in_words() {
    type Change = fn(&mut CertificateParams);
    let cases: [(Change, &str); 4] = [
        (
            |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1),
            "must be renewed there",
        ),
        (
            |params| params.not_before = rcgen::date_time_ymd(2090, 1, 1),
            "this box's clock",
        ),
        (
            |params| {
                let other = "other.example.net".try_into().unwrap();
                params.subject_alt_names = vec![rcgen::SanType::DnsName(other)];
            },
            "`[link] names`",
        ),
        (
            |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
            "cannot be believed",
        ),
    ];
    let ours = Authority::new();
    for (change, words) in cases {
        for enrolled in [false, true] {
            let lab = unasked(ours.server(change), &ours);
            let error = if enrolled {
                lab::member(&lab, &ours)
                    .heartbeat(&beat())
                    .await
                    .unwrap_err()
            } else {
                lab::stranger(&lab, &ours.pin())
                    .enrol("x")
                    .await
                    .unwrap_err()
            };
            assert!(matches!(error, LinkError::Certificate { .. }), "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}

#[tokio::test]
async fn a_box_that_is_not_known_is_told_so() {
    let (ours, other) = (Authority::new(), Authority::new());
    // The listener is right, but believes only the other authority's boxes.
    let lab = unasked(ours.server(|_| {}), &other);
    let error = lab::member(&lab, &ours)
        .heartbeat(&beat())
        .await
        .unwrap_err();
    assert!(matches!(error, LinkError::Rejected { .. }), "{error:?}");
    assert!(error.is_identity());
}

#[tokio::test]
async fn an_enrolment_that_issues_for_somebody_else_changes_nothing() {
    let (ours, other) = (Authority::new(), Authority::new());
    let stranger = oca::link::identity::Identity::transient(&ours.pin()).unwrap();
    let wrong_key = ours.issue(&stranger.csr().unwrap());
    let wrong_ca = other.issue(&stranger.csr().unwrap());
    for enrolled in [wrong_key, wrong_ca] {
        let lab = Lab::right(&ours, move |_| lab::json(200, &enrolled));
        let client = lab::stranger(&lab, &ours.pin());
        let error = client.enrol("x").await.unwrap_err();
        assert!(matches!(error, LinkError::Identity(_)), "{error}");
        assert!(client.identity().credentials().is_none());
    }
}

#[tokio::test]
async fn answers_that_are_cut_too_large_or_bombs_are_refused() {
    let bomb = zstd::encode_all(vec![b' '; 2 << 20].as_slice(), 1).unwrap();
    let good = golden::text("heartbeat-reply.json");
    let head = |length: usize| format!("HTTP/1.1 200 x\r\ncontent-length: {length}\r\n\r\n{good}");
    let of_version_2 = good.replacen("\"v\": 1", "\"v\": 2", 1);
    let cases: [(Vec<u8>, bool, &str); 8] = [
        (head(good.len() + 1).into_bytes(), true, "broke off at byte"),
        (head(1 << 30).into_bytes(), false, "262144"),
        (
            lab::response(200, "content-encoding: zstd\r\n", &bomb),
            false,
            "1048576",
        ),
        (
            lab::response(200, "content-encoding: br\r\n", b"x"),
            false,
            "br",
        ),
        (lab::response(200, "", b"{}"), false, "missing field"),
        (
            lab::response(200, "", of_version_2.as_bytes()),
            false,
            "version 2",
        ),
        (lab::response(502, "", b"<html>"), false, "502"),
        (
            lab::response(302, "location: https://example.net/\r\n", b""),
            false,
            "302",
        ),
    ];
    for (bytes, unreachable, words) in cases {
        let ours = Authority::new();
        let lab = Lab::right(&ours, move |_| Reply::SendAndClose(bytes.clone()));
        let error = lab::member(&lab, &ours)
            .heartbeat(&beat())
            .await
            .unwrap_err();
        assert_eq!(error.is_unreachable(), unreachable, "{error}");
        assert!(error.to_string().contains(words), "{words}: {error}");
        assert_eq!(lab.dials(), 1, "an answer is an answer");
    }
}

#[tokio::test]
async fn a_body_without_end_is_cut_at_the_limit() {
    let ours = Authority::new();
    let lab = Lab::right(&ours, |_| {
        let mut bytes = b"HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for _ in 0..1_000 {
            bytes.extend_from_slice(b"1000\r\n");
            bytes.extend_from_slice(&[b' '; 0x1000]);
            bytes.extend_from_slice(b"\r\n");
        }
        Reply::SendAndClose(bytes)
    });
    let error = lab::member(&lab, &ours)
        .heartbeat(&beat())
        .await
        .unwrap_err();
    assert!(matches!(error, LinkError::Protocol { .. }), "{error}");
    assert!(error.to_string().contains("262144"), "{error}");
}
