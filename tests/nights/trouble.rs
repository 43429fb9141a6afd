//! Nights in which something fails: a source lies, the control plane is silent, an operator pauses.

use super::world::TB;
use super::world::World;
use super::world::objects;
use super::world::position;
use super::world::wall;
use super::world::window;
use oca::fill::Class;
use oca::link::message::SourceKind;

#[tokio::test(start_paused = true)]
async fn a_lying_source_is_left_and_everything_completes_all_the_same() {
    let sources = [
        ("liar-1", SourceKind::Peer),
        ("panic-1", SourceKind::Tier),
        ("origin", SourceKind::Origin),
    ];
    let world =
        World::new(window("Europe/Paris", 12), "2026-03-02T00:30:00Z").with_sources(&sources);
    let listed = objects("film", 40, TB / 100);
    world.content.list(position(1, 1), listed.clone());
    world.until("2026-03-02T01:30:00Z").await;
    assert_eq!(world.fill.view().quarantined, ["liar-1"]);
    world.until("2026-03-02T03:00:00Z").await;
    assert!(listed.iter().all(|object| world.content.holds(object)));
    // The complaint goes with the next question.
    world
        .content
        .list(position(1, 2), objects("film", 41, TB / 100));
    world.until("2026-03-02T03:10:00Z").await;
    let log = world.log.lock().unwrap();
    let asked = |id: &str| log.iter().filter(|(source, _, _)| source == id).count();
    assert!(
        asked("liar-1") <= 16,
        "asked {} times: once a stream and hour",
        asked("liar-1")
    );
    let complaints = world.complaints.lock().unwrap();
    let lie = complaints
        .iter()
        .find(|complaint| complaint.source == "liar-1");
    assert_eq!(lie.unwrap().problem, "wrong-bytes");
    assert!(world.fill.view().ended["done"] == 41);
}

#[tokio::test(start_paused = true)]
async fn a_box_whose_control_plane_is_silent_goes_on_when_it_returns() {
    let world = World::new(window("Europe/Paris", 12), "2026-03-02T00:30:00Z");
    world.order(|orders| orders.connected = false);
    world
        .content
        .list(position(1, 1), objects("film", 30, TB / 10));
    world.until("2026-03-02T04:00:00Z").await;
    assert_eq!(world.content.held(), 0);
    assert!(world.log.lock().unwrap().is_empty());
    let reason = world.fill.view().reason.clone().unwrap();
    assert!(reason.contains("control plane is silent"), "{reason}");
    world.order(|orders| orders.connected = true);
    world.until("2026-03-02T04:00:02Z").await;
    assert_eq!(world.fill.view().transfers.len(), 8, "at once");
    world.until("2026-03-02T10:00:00Z").await;
    assert_eq!(world.content.held(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_pause_stops_everything_and_a_restart_does_not_forget_it() {
    let mut world = World::new(window("Europe/Paris", 12), "2026-03-02T00:30:00Z");
    world
        .content
        .list(position(1, 1), objects("film", 30, TB / 10));
    world.until("2026-03-02T02:00:00Z").await;
    assert_eq!(world.fill.pause().await.unwrap()["paused"], true);
    let paused = wall("2026-03-02T02:00:01Z");
    world.until("2026-03-02T03:00:00Z").await;
    world.restart().await;
    world.until("2026-03-02T04:00:00Z").await;
    let moved = world
        .ration
        .granted(Class::Night, paused, wall("2026-03-02T04:00:01Z"));
    assert_eq!(moved, 0);
    let view = world.fill.view();
    assert!(view.paused && view.transfers.is_empty());
    assert!(
        world
            .fill
            .start()
            .await
            .unwrap_err()
            .to_string()
            .contains("oca fill resume")
    );
    world.fill.resume().await.unwrap();
    world.until("2026-03-02T04:00:02Z").await;
    assert_eq!(world.fill.view().transfers.len(), 8);
    world.until("2026-03-02T12:00:00Z").await;
    assert_eq!(world.content.held(), 30);
    world.restart().await;
    world.until("2026-03-02T12:01:00Z").await;
    assert!(!world.fill.view().paused);
}

#[tokio::test(start_paused = true)]
async fn without_a_believed_clock_nothing_is_filled() {
    let world = World::new(window("Europe/Paris", 12), "2026-03-02T00:30:00Z");
    world.order(|orders| orders.clock_sane = false);
    world
        .content
        .list(position(1, 1), objects("film", 3, TB / 10));
    world.until("2026-03-02T05:00:00Z").await;
    assert_eq!(world.content.held(), 0);
    assert!(world.fill.view().reason.clone().unwrap().contains("clock"));
    world.order(|orders| orders.clock_sane = true);
    world.until("2026-03-02T06:00:00Z").await;
    assert_eq!(world.content.held(), 3);
}
