//! A box that is filled before it is shipped: neither window nor cap, and only while the control
//! plane has it so.

use super::ration::ANSWERS_MAX;
use super::world::TB;
use super::world::World;
use super::world::objects;
use super::world::position;
use super::world::wall;
use super::world::window;
use oca::fill::Class;

const START: &str = "2026-03-02T15:00:00Z";

fn world() -> World {
    let world = World::new(window("Europe/Paris", 12), START);
    world
        .content
        .list(position(1, 1), objects("film", 40, TB / 4));
    world
}

#[tokio::test(start_paused = true)]
async fn ten_terabytes_come_in_the_afternoon_and_the_cap_holds_again_after_them() {
    let world = world();
    world.until("2026-03-02T15:01:00Z").await;
    let refused = world.fill.prefill().await.unwrap_err().to_string();
    assert!(
        refused.contains("does not have this box as prefilling"),
        "{refused}"
    );
    world.order(|orders| orders.prefilling = true);
    world.until("2026-03-02T15:02:00Z").await;
    assert!(world.fill.view().prefill.allowed);
    assert_eq!(world.content.held(), 0, "nobody ordered it");
    let refused = world.fill.start().await.unwrap_err().to_string();
    assert!(refused.contains("the fill window is shut"), "{refused}");

    world.fill.prefill().await.unwrap();
    world.until("2026-03-02T15:03:00Z").await;
    let view = world.fill.view();
    assert!(
        view.prefill.running && view.reason.is_none(),
        "{:?}",
        view.reason
    );
    // Ten terabytes at 1.2 Gbit/s are eighteen hours.
    world.until("2026-03-02T16:00:00Z").await;
    let view = world.fill.view();
    assert_eq!(world.content.held(), 40);
    assert_eq!((view.prefill.running, view.prefill.completed), (false, 1));
    assert_eq!(view.cap_bps, 1_200_000_000);
    assert!(!view.window.open);
    let night = view.nights[0].night;
    assert_eq!((night.done, night.outside_bytes), (40, 10_000_000_000_000));
    assert_eq!(night.urgent_bytes, 0);

    // What it has received counts for a day, like all else: the night has nothing left.
    world
        .content
        .list(position(1, 2), objects("more", 2, TB / 10));
    world.until("2026-03-03T13:00:00Z").await;
    let opens = wall("2026-03-03T01:00:00Z");
    let closes = wall("2026-03-03T13:00:00Z");
    assert_eq!(world.ration.granted(Class::Night, opens, closes), 0);
    world.until("2026-03-04T13:00:00Z").await;
    let opens = wall("2026-03-04T01:00:00Z");
    let night = world
        .ration
        .granted(Class::Night, opens, wall("2026-03-04T13:00:00Z"));
    let filled = 200_000_000_000..200_000_000_000 + ANSWERS_MAX;
    assert!(filled.contains(&night), "a day later it fills as ever");
}

#[tokio::test(start_paused = true)]
async fn a_restart_forgets_the_order_and_keeps_what_came() {
    let mut world = world();
    world.order(|orders| orders.prefilling = true);
    world.until("2026-03-02T15:01:00Z").await;
    world.fill.prefill().await.unwrap();
    world.until("2026-03-02T15:09:00Z").await;
    let held = world.content.held();
    assert!((1..40).contains(&held), "{held}");
    world.restart().await;
    world.until("2026-03-02T18:00:00Z").await;
    assert!(!world.fill.view().prefill.running);
    assert_eq!(world.content.held(), held);
    world.fill.prefill().await.unwrap();
    world.until("2026-03-02T19:00:00Z").await;
    assert_eq!(world.content.held(), 40);
    assert_eq!(world.fill.view().prefill.completed, 1);
}
