//! What leaves: after its grace, inside the window, at the box's pace, whatever restarts.

use super::world::TB;
use super::world::World;
use super::world::objects;
use super::world::position;
use super::world::window;
use oca::ids::BoxId;
use oca::link::manifest::Signer;
use oca::link::manifest::Verifier;
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn a_deletion_keeps_its_grace_over_a_restart_and_waits_for_the_window() {
    let mut world = World::new(window("Europe/Paris", 12), "2026-03-01T20:00:00Z");
    let listed = objects("film", 100, TB / 100);
    world.content.hold(&listed);
    // Five of a hundred are five percent.
    world.content.list(position(1, 7), listed[..95].to_vec());
    world.until("2026-03-01T20:01:00Z").await;
    assert_eq!(world.fill.progress().leaving_objects, 5);
    // Nobody was told yet: the grace has not begun.
    world.order(|orders| orders.acknowledged = Some(position(1, 6)));
    world.until("2026-03-01T23:30:00Z").await;
    world.order(|orders| orders.acknowledged = Some(position(1, 7)));
    world.until("2026-03-02T00:30:00Z").await;
    world.restart().await;
    // The window has been open for an hour and more, and the grace ends at 02:30.
    world.until("2026-03-02T02:25:00Z").await;
    assert_eq!(world.content.deleted(), []);
    world.until("2026-03-02T02:45:00Z").await;
    assert_eq!(world.content.deleted().len(), 5);
    assert_eq!(world.content.held(), 95);
    assert_eq!(world.fill.progress().leaving_objects, 0);
}

#[tokio::test(start_paused = true)]
async fn a_shrunken_manifest_empties_a_box_only_at_its_pace_unless_permitted() {
    let signer = Signer::generate().unwrap();
    let verifier = Verifier::new(&[signer.public_hex()]).unwrap();
    let window = window("Europe/Paris", 12);
    let world = World::believing(window, "2026-03-01T20:00:00Z", Some(verifier));
    let listed = objects("film", 100, TB / 100);
    world.content.hold(&listed);
    world.content.list(position(1, 7), listed[..10].to_vec());
    world.order(|orders| orders.acknowledged = Some(position(1, 7)));
    world.until("2026-03-02T12:59:00Z").await;
    assert_eq!(world.content.deleted().len(), 5, "of the first day");
    world.until("2026-03-03T12:59:00Z").await;
    assert_eq!(world.content.deleted().len(), 9, "5 % of 95 are four");
    let id = BoxId::parse("c001-tls001-example-isp").unwrap();
    let now = oca::clock::unix_seconds(oca::clock::wall());
    // Twenty objects more; one that another box was given is worth nothing.
    let other = BoxId::parse("c002-tls001-example-isp").unwrap();
    let permit = |id, bytes| signer.permit(id, position(1, 7), bytes, now, now + 86_400);
    world.order(|orders| orders.deletion_override = Some(permit(&other, TB)));
    world.until("2026-03-04T00:00:00Z").await;
    assert!(
        world
            .fill
            .view()
            .problem
            .clone()
            .unwrap()
            .contains("another box")
    );
    world.order(|orders| orders.deletion_override = Some(permit(&id, TB / 5)));
    world.until("2026-03-04T01:10:00Z").await;
    let deleted = world.content.deleted().len();
    assert!(
        (29..=33).contains(&deleted),
        "{deleted}: twenty more, and the day's own pace"
    );
    // The permission is spent.
    world.until("2026-03-04T12:00:00Z").await;
    assert!(world.content.deleted().len() <= 33);
}

/// Nobody vouches for such a calendar (`appliance/night` asks); the boot-time clock goes on as it
/// did.
#[tokio::test(start_paused = true)]
async fn a_calendar_that_leaps_opens_no_window_and_ends_no_grace() {
    let world = World::new(window("Europe/Paris", 12), "2026-03-01T20:00:00Z");
    let listed = objects("film", 101, TB / 100);
    world.content.hold(&listed[..100]);
    // Five leave, one is to come.
    world.content.list(position(1, 7), listed[5..].to_vec());
    world.order(|orders| orders.acknowledged = Some(position(1, 7)));
    world.until("2026-03-01T20:01:00Z").await;
    assert_eq!(world.fill.progress().leaving_objects, 5);
    for leap in [
        "1970-01-01T01:30:00Z",
        "2026-02-28T01:30:00Z",
        // The window is open by it, and the grace over.
        "2026-03-02T02:30:00Z",
        "2096-03-02T02:30:00Z",
    ] {
        let (before, since) = (oca::clock::wall(), oca::clock::now());
        oca::clock::pin_wall(leap.parse().unwrap());
        world.order(|orders| orders.clock_sane = false);
        oca::clock::sleep(Duration::from_secs(600)).await;
        assert_eq!(world.content.deleted(), [], "{leap}");
        assert_eq!(world.content.held(), 100, "{leap}");
        assert!(world.log.lock().unwrap().is_empty(), "{leap}");
        let reason = world.fill.view().reason.clone().unwrap();
        assert!(reason.contains("the clock is not synchronised"), "{reason}");
        oca::clock::pin_wall(before + since.elapsed());
        world.order(|orders| orders.clock_sane = true);
        oca::clock::sleep(Duration::from_secs(600)).await;
        assert_eq!(
            world.content.deleted(),
            [],
            "the grace is what it was: {leap}"
        );
    }
    world.until("2026-03-02T02:45:00Z").await;
    assert_eq!(world.content.deleted().len(), 5);
    assert!(world.content.holds(&listed[100]));
}
