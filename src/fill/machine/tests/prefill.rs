//! A fill without window and cap: who may have it, and how it ends.

use super::super::gates::PREFILL_RATE;
use super::*;
use crate::fill::plan::Totals;

/// A box whose window is shut, in the state *prefilling* or not.
fn shut(prefilling: bool) -> World {
    let mut world = World::new();
    world.pass(13 * 3_600);
    orders(&mut world, prefilling);
    world.actions.clear();
    world
}

fn orders(world: &mut World, prefilling: bool) {
    world.step(Input::Orders(Orders {
        clock_sane: true,
        connected: true,
        prefilling,
        ..Orders::default()
    }));
}

fn surveyed(world: &mut World, wanted: u64, homeless: u64) {
    let totals = Totals {
        wanted_objects: wanted,
        homeless_objects: homeless,
        ..Totals::default()
    };
    let plan = Plan {
        download: nightly(0..3),
        totals,
        ..Plan::default()
    };
    let manifest = crate::link::message::Position {
        epoch: 1,
        generation: 1,
    };
    world.step(Input::Surveyed(Survey {
        plan,
        manifest: Some(manifest),
        ..Survey::default()
    }));
}

fn is_done(world: &World) -> bool {
    let mut actions = world.actions.iter();
    actions.any(|action| matches!(action, Action::Prefilled))
}

fn last_rate(world: &World) -> Option<BytesPerSecond> {
    let mut rates = world.actions.iter().filter_map(|action| {
        let Action::Order { rate, .. } = action else {
            return None;
        };
        Some(*rate)
    });
    rates.next_back()
}

#[test]
fn it_fills_at_any_hour_and_rate_and_window_and_cap_hold_again_when_all_is_there() {
    let mut world = shut(true);
    assert!(!world.machine.is_open(Class::Night));
    world.step(Input::Prefill);
    assert!(world.machine.is_open(Class::Night));
    assert_eq!(last_rate(&world), Some(PREFILL_RATE));
    assert!(!world.machine.may_delete(), "deletions keep to the window");
    let opened = world.actions.iter();
    let opened = opened.filter(|action| matches!(action, Action::Open { until: None, .. }));
    assert_eq!(opened.count(), 1);
    surveyed(&mut world, 3, 0);
    assert!(!is_done(&world), "three are wanted");
    world.answer(&[source("origin", 0)]);
    assert_eq!(world.begun().len(), 2, "transfers begin");
    surveyed(&mut world, 0, 0);
    assert!(is_done(&world));
    assert_eq!(last_rate(&world), Some(RATE));
    assert!(!world.machine.is_open(Class::Night));
    assert_eq!(world.stopped().len(), 2, "what still ran is stopped");
    world.actions.clear();
    surveyed(&mut world, 0, 0);
    assert!(!is_done(&world), "once");
}

#[test]
fn what_no_disk_has_room_for_does_not_keep_it_from_its_end() {
    let mut world = shut(true);
    world.step(Input::Prefill);
    surveyed(&mut world, 5, 4);
    assert!(!is_done(&world));
    surveyed(&mut world, 4, 4);
    assert!(is_done(&world));
}

#[test]
fn the_control_plane_ends_it_whenever_it_says_so() {
    let mut world = shut(true);
    world.step(Input::Prefill);
    orders(&mut world, false);
    assert!(!world.machine.is_open(Class::Night));
    assert_eq!(last_rate(&world), Some(RATE));
    orders(&mut world, true);
    assert!(
        !world.machine.is_open(Class::Night),
        "it takes another order"
    );
    surveyed(&mut world, 0, 0);
    assert!(!is_done(&world));
}

#[test]
fn a_pause_and_a_doubtful_clock_hold_it_like_every_other_fill() {
    let mut world = shut(true);
    world.step(Input::Prefill);
    world.step(Input::Pause(true));
    assert!(!world.machine.is_open(Class::Night));
    world.step(Input::Pause(false));
    assert!(world.machine.is_open(Class::Night));
    world.step(Input::Orders(Orders {
        connected: true,
        prefilling: true,
        ..Orders::default()
    }));
    assert!(!world.machine.is_open(Class::Night));
}
