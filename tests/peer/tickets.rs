//! The control plane's word, and everything that is not it (SAFETY: fill).

use crate::lab::Lab;
use crate::lab::Plane;
use crate::lab::THIRD;
use crate::lab::get;
use crate::lab::name;
use oca::clock;
use oca::object::Digest;

const KIB: u64 = 1024;

#[tokio::test]
async fn a_ticket_is_good_for_one_box_one_source_its_objects_and_its_time() {
    let lab = Lab::start().await;
    let (digest, bytes) = lab.publish(1, 1000);
    let (other, _) = lab.publish(2, 1000);
    let now = clock::unix_seconds(clock::wall());
    let good = lab.ticket(&[digest], 1 << 30);
    let third = lab.plane.enrol(THIRD);
    let mut thief = lab.connect_as(&third).await.unwrap();
    let stolen = thief.get(digest, &lab.sign(&good), "").await;
    assert_eq!(stolen.status, 403);
    assert!(stolen.message().contains("not for the box that shows it"));
    let mut client = lab.connect().await;
    let mut early = good.clone();
    early.not_before = now + 120;
    early.expires = now + 600;
    let mut ended = good.clone();
    ended.not_before = now - 600;
    ended.expires = now - 70;
    let mut elsewhere = good.clone();
    elsewhere.source = THIRD.to_owned();
    let mut gateway = good.clone();
    gateway.source = "origin".to_owned();
    let mut foreign = good.clone();
    foreign.digests = vec![other];
    for (ticket, words) in [
        (early, "not valid before"),
        (ended, "ended at"),
        (elsewhere, "for the source c003"),
        (gateway, "for the source origin"),
        (foreign, "does not name the object"),
    ] {
        let answer = client.get(digest, &lab.sign(&ticket), "").await;
        assert_eq!(answer.status, 403, "{ticket:?}");
        let message = answer.message();
        assert!(message.contains(words), "{message}");
    }
    let answer = client.get(digest, &lab.sign(&good), "").await;
    assert!(answer.status == 200 && answer.body == bytes);
    let view = lab.handle.view();
    assert_eq!(view.refusals.get("ticket"), Some(&6));
    assert_eq!(view.bytes_sent, 1000);
}

#[tokio::test]
async fn clocks_may_be_a_minute_apart() {
    let lab = Lab::start().await;
    let (digest, _) = lab.publish(1, 10);
    let now = clock::unix_seconds(clock::wall());
    let mut client = lab.connect().await;
    let mut ticket = lab.ticket(&[digest], 100);
    (ticket.not_before, ticket.expires) = (now + 30, now + 600);
    assert_eq!(client.get(digest, &lab.sign(&ticket), "").await.status, 200);
    (ticket.not_before, ticket.expires) = (now - 600, now - 30);
    assert_eq!(client.get(digest, &lab.sign(&ticket), "").await.status, 200);
}

#[tokio::test]
async fn what_is_no_ticket_of_our_control_plane_opens_nothing() {
    let lab = Lab::start().await;
    let (digest, _) = lab.publish(1, 1000);
    let good = lab.ticket(&[digest], 1 << 30);
    let text = lab.sign(&good);
    let mut client = lab.connect().await;
    let line = format!("Authorization: OCA-Ticket {text}\r\n");
    let plain = get(digest, &text, "");
    for without in [
        plain.replace(&line, ""),
        plain.replace("OCA-Ticket", "Bearer"),
        plain.replace(&line, "Authorization: OCA-Ticket\r\n"),
        plain.replace(&line, "Authorization: \u{e9}\r\n"),
    ] {
        let answer = client.ask(&without).await;
        assert_eq!(answer.status, 401, "{without}");
        assert_eq!(answer.header("www-authenticate"), "OCA-Ticket");
    }
    let twice = plain.replace(&line, &line.repeat(2));
    assert_eq!(client.ask(&twice).await.status, 400);
    let forger = Plane::new();
    for forged in [
        forger.authority.signer().ticket(&good),
        text.to_uppercase(),
        text.replace('.', ""),
        format!("{text}00"),
        format!("00{text}"),
        "x".to_owned(),
        ".".to_owned(),
        "7b7d.".to_owned() + &"0".repeat(128),
        "0".repeat(9_000),
    ] {
        let answer = client.get(digest, &forged, "").await;
        assert_eq!(answer.status, 403, "{forged}");
    }
    let lower = plain.replace("OCA-Ticket", "oca-ticket");
    assert_eq!(client.ask(&lower).await.status, 200);
}

#[tokio::test]
async fn a_ticket_buys_exactly_its_bytes_over_all_connections() {
    let lab = Lab::start().await;
    let (digest, bytes) = lab.publish(1, 600 * 1024);
    let ticket = lab.sign(&lab.ticket(&[digest], 1000 * KIB));
    let mut one = lab.connect().await;
    assert!(one.get(digest, &ticket, "").await.body == bytes);
    drop(one);
    let mut two = lab.connect().await;
    let over = two.get(digest, &ticket, "").await;
    assert_eq!(over.status, 403);
    let message = over.message();
    assert!(
        message.contains("409600 of 1024000 bytes are left"),
        "{message}"
    );
    let last = 400 * KIB - 1;
    let rest = two
        .get(digest, &ticket, &format!("Range: bytes=0-{last}\r\n"))
        .await;
    assert_eq!(rest.status, 206);
    assert!(rest.body == bytes[..400 * 1024]);
    for lines in ["Range: bytes=0-0\r\n", "Range: bytes=-1\r\n", ""] {
        assert_eq!(two.get(digest, &ticket, lines).await.status, 403);
    }
    let view = lab.handle.view();
    assert_eq!(view.bytes_sent, 1000 * KIB);
    assert_eq!(view.refusals.get("budget"), Some(&4));
    assert!(view.last_refusal.unwrap().contains("budget is spent"));
    let another = lab.sign(&lab.ticket(&[digest, Digest::of(b"x")], 1));
    let byte = two.get(digest, &another, "Range: bytes=7-7\r\n").await;
    assert_eq!((byte.status, byte.body), (206, vec![bytes[7]]));
}

#[tokio::test]
async fn two_responses_at_once_cannot_share_the_same_bytes() {
    let lab = Lab::start().await;
    let (digest, _) = lab.publish(1, 48 << 20);
    let ticket = lab.sign(&lab.ticket(&[digest], 64 << 20));
    let mut one = lab.connect().await;
    one.send(get(digest, &ticket, "").as_bytes()).await.unwrap();
    assert_eq!(one.head().await.unwrap().status, 200);
    let mut two = lab.connect().await;
    assert_eq!(two.get(digest, &ticket, "").await.status, 403);
    // Whoever breaks off gets back what was never sent.
    drop(one);
    let view = lab.until("the end", |view| view.connections == 1).await;
    let spent = view.bytes_sent;
    assert!(spent < 40 << 20, "{spent}");
    let last = (64 << 20) - spent;
    let range = format!("Range: bytes=0-{}\r\n", last.min(48 << 20) - 1);
    assert_eq!(two.get(digest, &ticket, &range).await.status, 206);
}

#[tokio::test]
async fn without_keys_to_believe_no_ticket_is_good() {
    let lab = Lab::start().await;
    let (digest, _) = lab.publish(1, 10);
    let ticket = lab.good(&[digest]);
    let mut client = lab.connect().await;
    assert_eq!(client.get(digest, &ticket, "").await.status, 200);
    *lab.giver.lock().unwrap() = None;
    assert_eq!(client.get(digest, &ticket, "").await.status, 503);
    assert_eq!(name(THIRD).as_str(), THIRD);
}
