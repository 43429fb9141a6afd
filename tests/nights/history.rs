//! What is told of a night when it is over.

use super::world::TB;
use super::world::World;
use super::world::objects;
use super::world::position;
use super::world::window;
use oca::fill::Refused;
use oca::link::message::SourceKind;

#[tokio::test(start_paused = true)]
async fn a_night_tells_what_was_wanted_what_came_and_what_it_did_to_the_line() {
    let world = World::new(window("Europe/Paris", 12), "2026-03-02T00:30:00Z");
    world
        .content
        .list(position(1, 1), objects("film", 20, TB / 10));
    world.until("2026-03-02T13:00:00Z").await;
    let view = world.fill.view();
    let night = view.nights[0].night;
    assert_eq!(view.nights[0].date, "2026-03-02");
    let whole = 2_000_000_000_000_u64;
    assert_eq!((night.wanted, night.done, night.carried_over), (20, 20, 0));
    assert_eq!((night.bytes.origin, night.outside_bytes), (whole, 0));
    // Content is a millionth of what the wire carries here.
    assert_eq!(night.done_bytes, whole / 1_000_000);
    assert_eq!(night.wanted_bytes, night.done_bytes);
    assert_eq!((night.no_room, night.refused), (0, Refused::default()));
    let highest = night.highest_second_bps;
    // A piece of this wire is 1.6 Gbit.
    assert!(
        (1_190_000_000..=2_800_000_000).contains(&highest),
        "{highest}"
    );
    // Of twelve hours and a half the fill had almost four at the cap: more than one in twenty.
    let p95 = night.inbound_p95_bps;
    assert!((1_150_000_000..=1_250_000_000).contains(&p95), "{p95}");
    assert_eq!(night.inbound_p95_without_fill_bps, 0);
    assert_eq!(view.nights_total.night, night);
}

/// The plan never carries over what there would be time for.
#[tokio::test(start_paused = true)]
async fn what_no_source_gave_is_carried_over_and_every_refusal_is_counted() {
    let world = World::new(window("Europe/Paris", 12), "2026-03-02T00:30:00Z")
        .with_sources(&[("liar-1", SourceKind::Peer)]);
    world
        .content
        .list(position(1, 1), objects("film", 5, TB / 1000));
    world.until("2026-03-02T12:00:00Z").await;
    let night = world.fill.view().nights[0].night;
    assert_eq!((night.wanted, night.carried_over), (5, 0), "time is left");
    world.until("2026-03-02T13:03:00Z").await;
    let view = world.fill.view();
    let night = view.nights[0].night;
    assert_eq!((night.wanted, night.done), (5, 0));
    assert_eq!((night.carried_over, night.no_room), (5, 0));
    assert_eq!(night.carried_over_bytes, night.wanted_bytes);
    assert!(night.refused.wrong_bytes > 0, "{:?}", night.refused);
    // A manifest of the day is for the next night.
    world
        .content
        .list(position(1, 2), objects("film", 9, TB / 1000));
    world.until("2026-03-02T15:00:00Z").await;
    let night = world.fill.view().nights[0].night;
    assert_eq!((night.wanted, night.carried_over), (5, 5));
}

#[tokio::test(start_paused = true)]
async fn a_month_of_traffic_outlives_a_restart() {
    let mut world = World::new(window("Europe/Paris", 12), "2026-03-01T23:00:00Z");
    world
        .content
        .list(position(1, 1), objects("film", 20, TB / 10));
    world.until("2026-03-02T13:00:00Z").await;
    let before = world.fill.view().nights[0].night.inbound_p95_bps;
    world.restart().await;
    world.until("2026-03-02T15:00:00Z").await;
    let after = world.fill.view().nights[0].night.inbound_p95_bps;
    let is_high = |p95: u64| p95 > 1_100_000_000;
    assert!(is_high(before) && is_high(after), "{before} {after}");
}
