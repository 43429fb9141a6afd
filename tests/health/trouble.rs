//! A control plane that refuses, is overloaded or is not ours; a box that is not ready for it.

use crate::lab::BOX;
use crate::plane::Plane;
use crate::plane::TOKEN;
use crate::world;
use crate::world::seconds;
use oca::clock;
use oca::health::LinkState;
use oca::link::message::Code;
use oca::link::message::Position;
use oca::link::message::Row;
use oca::object::Digest;

#[tokio::test(start_paused = true)]
async fn a_quarantined_box_says_so_asks_seldom_and_is_back_by_itself() {
    let plane = Plane::new();
    let own = world::start(&plane, |_| {});
    own.until("contact", |view| view.last_report.is_some())
        .await;
    plane.mind().refuses = Some((Code::Quarantined, None));
    own.until("refusal", |view| view.state == LinkState::Refused)
        .await;
    let error = own.view().last_error.clone().unwrap();
    assert!(error.contains("quarantined"), "{error}");
    let before = plane.asked();
    clock::sleep(seconds(3_600)).await;
    let after = plane.asked();
    let tries = after.0 + after.1 - before.0 - before.1;
    assert!((10..60).contains(&tries), "{tries} in an hour");
    assert!(!own.view().lease_fresh);
    plane.mind().refuses = None;
    let mended = clock::now();
    own.until("back", |view| {
        view.state == LinkState::Connected && view.lease_fresh
    })
    .await;
    assert!(clock::now() - mended <= seconds(300));
}

#[tokio::test(start_paused = true)]
async fn an_overloaded_control_plane_is_left_alone_for_as_long_as_it_asks() {
    let plane = Plane::new();
    plane.mind().refuses = Some((Code::Busy, Some(120)));
    let own = world::start(&plane, |_| {});
    own.until("refusal", |view| view.last_error.is_some()).await;
    clock::sleep(seconds(600)).await;
    let reports = plane.mind().reports.len();
    assert!((4..=6).contains(&reports), "{reports} in ten minutes");
    assert_ne!(
        own.view().state,
        LinkState::Refused,
        "that is no operator's matter"
    );
}

#[tokio::test(start_paused = true)]
async fn a_missing_token_is_told_with_its_path_and_taken_when_it_comes() {
    let plane = Plane::new();
    let mut path = None;
    let own = world::start(&plane, |config| {
        let missing = config.identity.with_file_name("later");
        path = Some(missing.clone());
        config.token_file = Some(missing);
    });
    let path = path.unwrap();
    own.until("complaint", |view| view.last_error.is_some())
        .await;
    let error = own.view().last_error.clone().unwrap();
    assert!(error.contains(path.to_str().unwrap()), "{error}");
    assert_eq!(own.view().state, LinkState::Unenrolled);
    clock::sleep(seconds(3_600)).await;
    assert_eq!(
        plane.mind().enrolments,
        0,
        "nothing was sent without a token"
    );
    std::fs::write(&path, TOKEN).unwrap();
    own.until("contact", |view| view.state == LinkState::Connected)
        .await;
    assert_eq!(own.view().last_error, None);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_token_is_refused_in_words_and_not_tried_in_a_loop() {
    let plane = Plane::new();
    let own = world::start(&plane, |config| {
        std::fs::write(config.token_file.as_ref().unwrap(), "another").unwrap();
    });
    own.until("refusal", |view| view.state == LinkState::Refused)
        .await;
    clock::sleep(seconds(3_600)).await;
    let tries = plane.mind().enrolments;
    assert!((10..60).contains(&tries), "{tries} in an hour");
}

#[tokio::test(start_paused = true)]
async fn a_certificate_of_another_box_is_not_used() {
    let plane = Plane::new();
    let own = world::start_as(&plane, "c010-tls001-example-isp", |_| {});
    own.until("refusal", |view| view.state == LinkState::Refused)
        .await;
    let error = own.view().last_error.clone().unwrap();
    assert!(error.contains(BOX) && error.contains("c010"), "{error}");
    clock::sleep(seconds(3_600)).await;
    let mind = plane.mind();
    assert_eq!(
        (mind.reports.len(), mind.beats.len(), mind.enrolments),
        (0, 0, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_that_is_not_the_pinned_one_gets_nothing() {
    let (plane, other) = (Plane::new(), Plane::new());
    let own = world::start(&plane, |config| config.ca.clone_from(&other.pin));
    own.until("complaint", |view| view.last_error.is_some())
        .await;
    clock::sleep(seconds(3_600)).await;
    let error = own.view().last_error.clone().unwrap();
    assert!(error.contains(&other.pin), "{error}");
    assert_eq!(plane.mind().enrolments, 0);
}

#[tokio::test(start_paused = true)]
async fn a_replayed_manifest_is_fetched_seldom_and_never_adopted() {
    let plane = Plane::new();
    let place = |generation| Position {
        epoch: 1,
        generation,
    };
    plane.mind().manifest = Some((place(5), Vec::new()));
    let own = world::start(&plane, |_| {});
    own.until("manifest", |view| view.manifest_held == Some(place(5)))
        .await;
    // It announces the next one and delivers an old one.
    plane.mind().manifest = Some((place(6), Vec::new()));
    plane.mind().delivers = Some(place(4));
    own.until("refusal", |view| view.last_error.is_some()).await;
    let error = own.view().last_error.clone().unwrap();
    assert!(error.contains("older"), "{error}");
    clock::sleep(seconds(3_600)).await;
    assert_eq!(own.adopted.lock().unwrap().len(), 1);
    let fetches = plane.mind().fetches;
    assert!((5..60).contains(&fetches), "{fetches} in an hour");
    assert_eq!(own.view().state, LinkState::Connected);
    plane.mind().delivers = None;
    own.until("manifest", |view| view.manifest_held == Some(place(6)))
        .await;
}

/// However long that takes, the box tells that it lives.
#[tokio::test(start_paused = true)]
async fn a_manifest_is_paid_for_as_it_comes_and_nothing_else_is() {
    let plane = Plane::new();
    let own = world::start(&plane, |_| {});
    own.until("contact", |view| view.last_report.is_some())
        .await;
    clock::sleep(seconds(600)).await;
    let paid = plane.mind().paid.clone();
    assert!(
        paid.is_empty(),
        "reports and heartbeats are small: {paid:?}"
    );
    let place = Position {
        epoch: 1,
        generation: 5,
    };
    let row = |number: u32| Row::Key {
        k: format!("{number}.m4s"),
        d: Digest::of(&number.to_le_bytes()),
        n: 1,
        t: 7,
    };
    let film = Row::Bundle {
        bundle: "film".to_owned(),
        rank: 1,
    };
    {
        let mut mind = plane.mind();
        let rows = std::iter::once(film).chain((0..4_000).map(row));
        mind.manifest = Some((place, rows.collect()));
        mind.waits = seconds(20);
    }
    own.until("payment", |_| !plane.mind().paid.is_empty())
        .await;
    assert!(plane.mind().expected > 100_000, "what comes ahead of it");
    let (begun, beats) = (clock::now(), plane.mind().beats.len());
    own.until("manifest", |view| view.manifest_held == Some(place))
        .await;
    let mind = plane.mind();
    assert_eq!(mind.expected, 0, "nothing comes any more");
    let (pieces, sum) = (mind.paid.len() as u64, mind.paid.iter().sum::<u64>());
    assert!((150_000..400_000).contains(&sum), "{sum} B of 4,000 keys");
    assert!(
        mind.paid.iter().all(|piece| *piece <= 48 << 10),
        "{:?}",
        mind.paid
    );
    let took = clock::now() - begun;
    assert!(
        took >= seconds(20 * (pieces - 1)),
        "{pieces} pieces in {took:?}"
    );
    assert!(mind.beats.len() > beats + 2, "silent for {took:?}");
}

/// With millions of keys that takes longer than to reach the control plane.
#[tokio::test(start_paused = true)]
async fn while_the_disks_manifest_is_read_none_is_fetched_and_then_only_a_newer_one() {
    let plane = Plane::new();
    let place = |generation| Position {
        epoch: 1,
        generation,
    };
    plane.mind().manifest = Some((place(5), Vec::new()));
    let own = world::start(&plane, |_| {});
    own.has_read(None);
    own.until("contact", |view| view.last_report.is_some())
        .await;
    clock::sleep(seconds(900)).await;
    assert_eq!(plane.mind().fetches, 0);
    own.has_read(Some(place(5)));
    own.until("manifest", |view| view.manifest_held == Some(place(5)))
        .await;
    clock::sleep(seconds(900)).await;
    assert_eq!(plane.mind().fetches, 0, "it is the one that is wanted");
    plane.mind().manifest = Some((place(6), Vec::new()));
    own.until("manifest", |view| view.manifest_held == Some(place(6)))
        .await;
    assert_eq!(plane.mind().fetches, 1);
}

#[tokio::test(start_paused = true)]
async fn an_identity_that_cannot_be_opened_is_told_and_tried_again() {
    let plane = Plane::new();
    let mut blocked = None;
    let own = world::start(&plane, |config| {
        std::fs::write(&config.identity, "a file where a directory belongs").unwrap();
        blocked = Some(config.identity.clone());
    });
    own.until("complaint", |view| view.last_error.is_some())
        .await;
    assert!(
        own.view()
            .last_error
            .as_ref()
            .unwrap()
            .starts_with("identity")
    );
    std::fs::remove_file(blocked.unwrap()).unwrap();
    own.until("contact", |view| view.state == LinkState::Connected)
        .await;
}
