//! How many transfers run, and with what share of the cap: at any rate, and when it falls.

use super::*;
use proptest::collection::vec;

impl World {
    fn ordered(&mut self, rate: u64) {
        self.step(Input::Orders(Orders {
            rate_limit: Some(BytesPerSecond(rate)),
            clock_sane: true,
            connected: true,
            ..Orders::default()
        }));
    }

    fn with_streams(streams: usize) -> Self {
        let mut world = Self::new();
        world.machine.config.streams = streams;
        // The rate in effect is another one for a moment.
        world.machine.set_rate(BytesPerSecond(0), &mut Vec::new());
        world.step(Input::Tick);
        world
    }
}

fn urgent(ranks: std::ops::Range<u32>) -> Vec<(Want, Class)> {
    let urgent = |rank| Want {
        urgent: true,
        ..want(rank)
    };
    ranks.map(|rank| (urgent(rank), Class::Urgent)).collect()
}

#[test]
fn a_lower_rate_ends_what_runs_and_it_goes_on_with_less() {
    let mut world = World::with_streams(16);
    world.plan(nightly(0..20));
    world.answer(&[source("near", 0)]);
    let begun = world.begun();
    assert_eq!(begun.len(), 16);
    let before = begun[0].1.share;
    // 100 Mbit/s: half as many streams have the least buffer.
    world.ordered(12_500_000);
    let ids: Vec<u64> = begun.iter().map(|(id, _)| *id).collect();
    assert_eq!(world.stopped(), ids);
    for id in &ids {
        assert!(world.begun().iter().all(|(_, job)| job.share != before));
        world.end(*id, Err(Fault::Stopped));
    }
    let all = world.machine.queue.running();
    assert_eq!(all.count(), 8);
    let share = Share::of(BytesPerSecond(12_500_000), 16).1;
    assert_eq!(world.machine.share, share);
    assert!(share.receive_buffer < before.receive_buffer / 4);
    assert!(!world.machine.is_dry(Class::Night, world.now().at));
}

#[test]
fn a_higher_rate_ends_nothing_and_what_begins_has_more() {
    let mut world = World::with_streams(2);
    world.ordered(12_500_000);
    world.plan(nightly(0..3));
    world.answer(&[source("near", 0)]);
    let begun = world.begun();
    world.ordered(37_500_000);
    assert!(world.stopped().is_empty());
    world.end(begun[0].0, Ok(()));
    let next = world.begun();
    assert!(next[0].1.share.receive_buffer > begun[0].1.share.receive_buffer);
}

/// 24 Mbit/s have one stream, with more than half of what 25.6 Mbit/s have for two.
#[test]
fn a_higher_rate_with_more_streams_ends_what_holds_more_than_its_share() {
    let mut world = World::with_streams(8);
    world.ordered(3_000_000);
    world.plan(nightly(0..3));
    world.answer(&[source("near", 0)]);
    let begun = world.begun();
    assert_eq!(begun.len(), 1);
    world.ordered(3_200_000);
    assert_eq!(world.stopped(), [begun[0].0]);
    world.end(begun[0].0, Err(Fault::Stopped));
    let begun = world.begun();
    let held: u64 = begun.iter().map(|(_, job)| job.share.hold()).sum();
    assert!(held <= 3_200_000 * 45 / 1_000, "{held}");
}

#[test]
fn urgent_and_night_together_are_never_more_than_the_streams() {
    let mut world = World::with_streams(4);
    world.plan(nightly(0..6));
    world.answer(&[source("near", 0)]);
    let night = world.begun();
    assert_eq!(night.len(), 4);
    let mut plan = urgent(100..102);
    plan.extend(nightly(0..6));
    world.plan(plan);
    world.pass(1);
    world.answer(&[source("near", 0)]);
    assert!(world.begun().is_empty(), "no stream is free");
    // The two that have begun last make room, and no more of them however often it looks.
    world.pass(1);
    assert_eq!(world.stopped(), [night[3].0, night[2].0]);
    world.end(night[3].0, Err(Fault::Stopped));
    world.end(night[2].0, Err(Fault::Stopped));
    let begun = world.begun();
    let classes: Vec<_> = begun.iter().map(|(_, job)| job.class).collect();
    assert_eq!(classes, [Class::Urgent; 2]);
    assert_eq!(world.machine.queue.streams_busy(), 4);
    // When they are done the night has all streams again.
    for (id, _) in begun {
        world.end(id, Ok(()));
    }
    assert!(
        world
            .begun()
            .iter()
            .all(|(_, job)| job.class == Class::Night)
    );
    assert_eq!(world.machine.queue.streams_busy(), 4);
}

proptest! {
    /// At every moment of any history of rates, ends and plans.
    #[test]
    fn what_runs_never_holds_more_than_the_bucket_at_the_rate_in_effect(
        streams in 1_usize..=64,
        steps in vec((1_562_500_u64..=150_000_000, 0_u32..40, 0_usize..70), 1..20),
    ) {
        let mut world = World::with_streams(streams);
        let mut running = BTreeMap::new();
        for (round, (rate, count, ends)) in steps.into_iter().enumerate() {
            world.ordered(rate);
            let first = 1_000 * u32::try_from(round).unwrap();
            let mut plan = urgent(first..first + count / 4);
            plan.extend(nightly(first + 500..first + 500 + count));
            world.plan(plan);
            world.pass(2);
            world.answer(&[source("near", 0)]);
            for _ in 0..ends {
                let stopped = world.stopped();
                world.actions.retain(|action| !matches!(action, Action::Stop(_)));
                running.extend(world.begun().into_iter().map(|(id, job)| (id, job.share)));
                for id in stopped {
                    running.remove(&id);
                    world.end(id, Err(Fault::Stopped));
                }
                running.extend(world.begun().into_iter().map(|(id, job)| (id, job.share)));
                prop_assert!(running.len() <= streams);
                let held: u64 = running.values().map(Share::hold).sum();
                prop_assert!(held <= rate * 45 / 1_000, "{held} at {rate}");
                if let Some((id, _)) = running.pop_first() {
                    world.end(id, Ok(()));
                }
            }
        }
    }
}
