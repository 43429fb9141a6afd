//! Whole nights: how much fits, in every kind of night, and what stays for the next one.

use super::ration::ANSWERS_MAX;
use super::world::RATE;
use super::world::TB;
use super::world::WIRE_PER_BYTE;
use super::world::World;
use super::world::objects;
use super::world::position;
use super::world::wall;
use super::world::window;
use oca::fill::Class;
use std::collections::BTreeSet;

/// What a whole night carries: 12 h at 1.2 Gbit/s.
const NIGHT: u64 = 6_480_000_000_000;

#[tokio::test(start_paused = true)]
async fn a_night_brings_six_and_a_half_terabytes_and_not_a_byte_outside_of_it() {
    // 2 March in Paris: the window opens at 01:00 UTC and closes at 13:00.
    let world = World::new(window("Europe/Paris", 12), "2026-03-01T22:00:00Z");
    let listed = objects("film", 100, NIGHT / WIRE_PER_BYTE / 100);
    world.content.list(position(1, 1), listed.clone());
    world.until("2026-03-02T00:59:59Z").await;
    let view = world.fill.view();
    assert!(!view.window.open);
    assert_eq!((view.wanted, view.carried_over), (100, 0));
    assert_eq!(view.window.opens.as_deref(), Some("2026-03-02T01:00:00Z"));
    let reason = view.reason.clone().unwrap();
    assert!(reason.contains("opens at 2026-03-02T01:00:00Z"), "{reason}");
    assert!(
        world
            .fill
            .start()
            .await
            .unwrap_err()
            .to_string()
            .contains("opens at 2026-03-02T01")
    );

    world.until("2026-03-02T06:00:00Z").await;
    let view = world.fill.view();
    assert_eq!(view.transfers.len(), 8);
    assert!(
        view.transfers.iter().all(|transfer| transfer.rank < 50),
        "{view:?}"
    );
    assert_eq!(view.cap_bps, 1_200_000_000);
    assert_eq!(view.reason, None);

    world.until("2026-03-02T14:00:00Z").await;
    let (opens, closes) = (wall("2026-03-02T01:00:00Z"), wall("2026-03-02T13:00:00Z"));
    let night = world.ration.granted(Class::Night, opens, closes);
    assert!(
        (NIGHT / 1_000 * 999..=NIGHT).contains(&night),
        "{night} bytes"
    );
    let ever = world.ration.granted(
        Class::Night,
        wall("2026-01-01T00:00:00Z"),
        wall("2027-01-01T00:00:00Z"),
    );
    assert_eq!(ever, night, "outside of the window");
    assert!(
        world.content.held() >= 90,
        "{} are held",
        world.content.held()
    );

    // The rest of the last ones goes on where it ended.
    world.until("2026-03-03T01:10:00Z").await;
    assert!(listed.iter().all(|object| world.content.holds(object)));
    let ever = world
        .ration
        .granted(Class::Night, opens, wall("2027-01-01T00:00:00Z"));
    let answers = ever.checked_sub(NIGHT).expect("all of it was paid for");
    assert!(answers > 0, "what the control plane answers is paid for");
    assert!(answers < ANSWERS_MAX, "nothing was fetched twice");
    let view = world.fill.view();
    assert_eq!((view.wanted, view.wanted_bytes), (0, 0));
    let opened = view.nights.iter().filter(|shown| shown.night.opened);
    assert_eq!(opened.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn nights_in_which_the_clock_changes_are_as_long_as_they_really_are() {
    for (zone, start, opens, closes, hours) in [
        // The skipped hour: 02:00 does not exist, and the clock's end stays.
        (
            "America/New_York",
            "2026-03-08T05:00:00Z",
            "2026-03-08T07:00:00Z",
            "2026-03-08T18:00:00Z",
            11.0,
        ),
        // The repeated hour: the first 02:00, and twelve hours from it.
        (
            "Europe/Paris",
            "2026-10-24T22:00:00Z",
            "2026-10-25T00:00:00Z",
            "2026-10-25T12:00:00Z",
            12.0,
        ),
        // Half an hour is skipped.
        (
            "Australia/Lord_Howe",
            "2026-10-03T12:00:00Z",
            "2026-10-03T15:30:00Z",
            "2026-10-04T03:00:00Z",
            11.5,
        ),
    ] {
        let world = World::new(window(zone, 12), start);
        world
            .content
            .list(position(1, 1), objects("film", 70, TB / 10));
        world.until(closes).await;
        let expected = RATE.0 as f64 * hours * 3_600.0;
        let night = world
            .ration
            .granted(Class::Night, wall(opens), wall(closes)) as f64;
        assert!(
            night <= expected && night > 0.999 * expected,
            "{zone}: {night} of {expected}"
        );
        let later = wall(closes) + jiff::SignedDuration::from_hours(20);
        world.until(&later.to_string()).await;
        let before = world.ration.granted(Class::Night, wall(start), wall(opens));
        assert_eq!(before, 0, "{zone}");
        let next = wall(closes) + jiff::SignedDuration::from_hours(10);
        assert_eq!(
            world.ration.granted(Class::Night, wall(closes), next),
            0,
            "{zone}"
        );
        assert_eq!(
            world.content.held(),
            70,
            "{zone}: the next night brings the rest"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_too_much_for_a_night_is_carried_over_from_the_lowest_ranks() {
    let world = World::new(window("Europe/Paris", 12), "2026-03-01T22:00:00Z");
    let listed = objects("film", 125, 75 * TB / 10 / 125);
    world.content.list(position(1, 1), listed.clone());
    world.until("2026-03-02T00:00:00Z").await;
    let view = world.fill.view();
    assert_eq!(view.carried_over_bytes, 102 * TB / 100, "1.02 TB");
    assert_eq!(
        (view.carried_over, view.carried_over_from_rank),
        (17, Some(108))
    );
    assert_eq!(world.fill.progress().carried_over_bytes, 102 * TB / 100);

    world.until("2026-03-02T13:00:10Z").await;
    let missing: BTreeSet<u32> = listed
        .iter()
        .filter(|object| !world.content.holds(object))
        .map(|object| object.rank)
        .collect();
    // Eight streams share the last minutes.
    assert!(
        missing
            .first()
            .is_some_and(|rank| (100..=108).contains(rank)),
        "{missing:?}"
    );
    assert!(
        (109..125).all(|rank| missing.contains(&rank)),
        "{missing:?}"
    );
    world.until("2026-03-03T13:00:00Z").await;
    assert_eq!(world.content.held(), 125);
}

#[tokio::test(start_paused = true)]
async fn a_second_manifest_in_the_window_replaces_the_plan_of_the_first() {
    let world = World::new(window("Europe/Paris", 12), "2026-03-02T00:30:00Z");
    let first = objects("first", 40, TB / 10);
    world.content.list(position(1, 1), first.clone());
    world.until("2026-03-02T03:00:00Z").await;
    let held: Vec<_> = first
        .iter()
        .filter(|object| world.content.holds(object))
        .collect();
    assert!(held.len() >= 5 && held.len() <= 12, "{}", held.len());
    // Half of the first stays, ranked behind what comes.
    let mut second = objects("second", 20, TB / 10);
    second.extend(first.iter().take(20).map(|object| super::world::Listed {
        rank: object.rank + 100,
        ..*object
    }));
    world.content.list(position(1, 2), second.clone());
    world.until("2026-03-02T03:00:05Z").await;
    let view = world.fill.view();
    assert!(
        view.transfers.iter().all(|transfer| transfer.rank < 20),
        "{:?}",
        view.transfers
    );
    world.until("2026-03-02T13:00:00Z").await;
    assert!(second.iter().all(|object| world.content.holds(object)));
    let gone = first[20..]
        .iter()
        .filter(|object| world.content.holds(object))
        .count();
    assert_eq!(gone, 0, "what is not listed any more was fetched");
    assert_eq!(world.content.staged(), 0, "and nothing of it is left");
}

#[tokio::test(start_paused = true)]
async fn an_urgent_object_comes_at_noon_within_its_own_budget_and_nothing_else_moves() {
    let world = World::new(window("Europe/Paris", 6), "2026-03-02T07:30:00Z");
    let mut listed = objects("film", 50, TB / 10);
    for urgent in &mut listed[20..23] {
        // 90 GB each, of 200 GB that are allowed.
        (urgent.urgent, urgent.length) = (true, 9 * TB / 100);
    }
    world.content.list(position(1, 1), listed.clone());
    let (noon, night) = (wall("2026-03-02T11:00:00Z"), wall("2026-03-03T01:00:00Z"));
    world.until("2026-03-02T11:00:00Z").await;
    assert_eq!(world.content.held(), 0);
    world.order(|orders| orders.urgent = vec!["urgent".to_owned()]);
    world.until("2026-03-02T11:05:00Z").await;
    let view = world.fill.view();
    assert!(
        view.transfers
            .iter()
            .all(|transfer| transfer.class == Class::Urgent),
        "{view:?}"
    );
    world.until("2026-03-03T00:59:00Z").await;
    assert_eq!(
        world.content.held(),
        2,
        "the third does not fit into its budget"
    );
    let urgent = world.ration.granted(Class::Urgent, noon, night);
    assert!((180_000_000_000..180_000_000_000 + ANSWERS_MAX).contains(&urgent));
    assert_eq!(
        world
            .ration
            .granted(Class::Night, wall("2026-03-02T07:00:00Z"), night),
        0
    );
    // In the window it is the first, and counts as the night's.
    world.until("2026-03-03T01:00:05Z").await;
    let view = world.fill.view();
    let first = view.transfers.iter().find(|transfer| transfer.rank == 22);
    assert_eq!(first.unwrap().class, Class::Night);
    world.until("2026-03-03T07:00:00Z").await;
    assert!(world.content.holds(&listed[22]));
}
