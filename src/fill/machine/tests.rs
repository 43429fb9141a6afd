//! The machine against values, and against any order of faults.

mod asks;
mod prefill;
mod several;
mod streams;
mod waits;

use super::*;
use crate::clock;
use crate::fill::Fault;
use crate::fill::Want;
use crate::fill::plan::Plan;
use crate::link::message::FillSource;
use crate::link::message::ObjectSources;
use crate::link::message::SourceKind;
use crate::store::PublishError;
use crate::units::Bytes;
use proptest::prelude::*;
use std::time::Duration;

/// At which both streams have a share.
const RATE: BytesPerSecond = BytesPerSecond(150_000_000);

/// 2026-03-02, 02:00 in Paris and after: the window is open for twelve hours.
const OPENS: &str = "2026-03-02T01:00:00Z";

struct World {
    machine: Machine,
    began: Instant,
    elapsed: Duration,
    /// Actions that nobody has looked at.
    actions: Vec<Action>,
}

impl World {
    fn new() -> Self {
        let window = Window::new("Europe/Paris", 2 * 3_600, Duration::from_secs(12 * 3_600));
        let config = Config {
            window: window.unwrap(),
            rate_limit: RATE,
            urgent_bytes: Bytes(1_000),
            streams: 2,
            sources_at_once: 3,
            count_peers: true,
            deletion_grace: Duration::from_secs(3),
            deletion_share: 5,
            private_sources: false,
            plain_origin: false,
            origin_ca: None,
        };
        let (began, elapsed) = (clock::now(), Duration::ZERO);
        let machine = Machine::new(now(began, elapsed), config, false);
        let mut world = Self {
            machine,
            began,
            elapsed,
            actions: Vec::new(),
        };
        world.step(Input::Orders(Orders {
            clock_sane: true,
            connected: true,
            ..Orders::default()
        }));
        world
    }

    fn now(&self) -> Now {
        now(self.began, self.elapsed)
    }

    fn step(&mut self, input: Input) {
        let actions = self.machine.step(self.now(), input);
        self.actions.extend(actions);
    }

    fn pass(&mut self, seconds: u64) {
        self.elapsed += Duration::from_secs(seconds);
        self.step(Input::Tick);
    }

    fn plan(&mut self, download: Vec<(Want, Class)>) {
        let plan = Plan {
            download,
            ..Plan::default()
        };
        self.step(Input::Surveyed(Survey {
            plan,
            ..Survey::default()
        }));
    }

    /// Answers the outstanding question; every object has these sources.
    fn answer(&mut self, sources: &[FillSource]) -> Vec<Digest> {
        let asked = self
            .actions
            .iter()
            .position(|action| matches!(action, Action::Ask(_)));
        let Some(Action::Ask(Inquiry { request, .. })) = asked.map(|at| self.actions.remove(at))
        else {
            return Vec::new();
        };
        let objects = request.wanted.iter().map(|digest| ObjectSources {
            digest: *digest,
            length: 10,
            tree: String::new(),
            sources: sources.to_vec(),
            problem: None,
        });
        self.step(Input::Answered(Ok(FillSources {
            v: 1,
            objects: objects.collect(),
            tickets: Vec::new(),
            ask_again_s: 0,
        })));
        request.wanted
    }

    /// Transfers that were begun since the last call.
    fn begun(&mut self) -> Vec<(u64, Job)> {
        let (begun, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.actions)
            .into_iter()
            .partition(|action| matches!(action, Action::Transfer { .. }));
        self.actions = rest;
        let begun = begun.into_iter().filter_map(|action| {
            let Action::Transfer { id, job } = action else {
                return None;
            };
            Some((id, *job))
        });
        begun.collect()
    }

    fn end(&mut self, id: u64, end: Result<(), Fault>) {
        let outcome = several::outcome(10, end);
        self.step(Input::Ended { id, outcome });
    }

    fn stopped(&self) -> Vec<u64> {
        let stops = self.actions.iter().filter_map(|action| {
            let Action::Stop(id) = action else {
                return None;
            };
            Some(*id)
        });
        stops.collect()
    }
}

fn now(began: Instant, elapsed: Duration) -> Now {
    let opens: Wall = OPENS.parse().unwrap();
    Now {
        at: began + elapsed,
        moment: Moment {
            wall: opens.checked_add(elapsed).unwrap(),
            boot: clock::Boot::default() + elapsed,
        },
    }
}

fn want(rank: u32) -> Want {
    Want {
        digest: Digest::of(&rank.to_le_bytes()),
        length: 10,
        rank,
        urgent: false,
    }
}

fn nightly(ranks: std::ops::Range<u32>) -> Vec<(Want, Class)> {
    ranks.map(|rank| (want(rank), Class::Night)).collect()
}

fn source(id: &str, not_before_s: u64) -> FillSource {
    FillSource {
        id: id.to_owned(),
        kind: if id == "origin" {
            SourceKind::Origin
        } else {
            SourceKind::Peer
        },
        urls: vec!["https://192.0.2.1/fill/x".to_owned()],
        not_before_s,
        ticket: None,
        etag: None,
        expires_s: 900,
    }
}

#[test]
fn no_source_is_asked_before_its_time_and_the_first_in_order_is_first() {
    let mut world = World::new();
    world.plan(nightly(0..2));
    world.answer(&[source("near", 5), source("far", 8)]);
    assert!(world.begun().is_empty());
    let (now, deadline) = (world.now(), world.machine.deadline(world.now()));
    assert_eq!(deadline, now.at + Duration::from_secs(5));
    world.pass(4);
    assert!(world.begun().is_empty());
    world.pass(1);
    let begun = world.begun();
    assert_eq!(begun.len(), 2);
    assert!(begun.iter().all(|(_, job)| job.source.id == "near"));
}

#[test]
fn each_fault_moves_to_the_next_source_and_only_lies_count_for_every_object() {
    let faults = [
        Fault::NotFound,
        Fault::Busy { retry_after: None },
        Fault::Refused(String::new()),
        Fault::WrongBytes(String::new()),
        Fault::Changed(String::new()),
        Fault::Slow(String::new()),
        Fault::Broken(String::new()),
    ];
    for fault in faults {
        let mut world = World::new();
        world.plan(nightly(0..4));
        world.answer(&[source("near", 0), source("far", 0)]);
        let (first, second) = (world.begun()[0].0, 1);
        world.end(first, Err(fault.clone()));
        assert_eq!(world.begun()[0].1.source.id, "far", "{fault:?}");
        world.end(second, Ok(()));
        let next = world.begun()[0].1.source.id.clone();
        // A source that gave something whole meanwhile is as good as any, if it has not lied.
        let expected = if matches!(fault, Fault::Busy { .. }) {
            "near"
        } else if matches!(fault, Fault::WrongBytes(_)) {
            "far"
        } else {
            next.as_str()
        };
        assert_eq!(next, expected, "{fault:?}");
    }
}

#[test]
fn a_liar_is_left_alone_for_an_hour_and_complained_of() {
    let mut world = World::new();
    world.plan(nightly(0..40));
    world.answer(&[source("near", 0), source("origin", 0)]);
    let begun = world.begun();
    world.end(begun[0].0, Err(Fault::WrongBytes("chunk 3".to_owned())));
    world.end(begun[1].0, Err(Fault::WrongBytes("chunk 4".to_owned())));
    assert_eq!(world.machine.quarantined(world.now().at), ["near"]);
    for _ in 0..30 {
        for (id, job) in world.begun() {
            assert_eq!(job.source.id, "origin");
            world.end(id, Ok(()));
        }
    }
    world.plan(nightly(100..101));
    world.pass(1);
    // A question that failed has told nothing.
    for _ in 0..2 {
        let asks = world.actions.iter().find_map(|action| {
            let Action::Ask(Inquiry { request, .. }) = action else {
                return None;
            };
            Some(request.complaints.clone())
        });
        let asks = asks.unwrap();
        assert_eq!((asks.len(), &*asks[0].problem), (2, "wrong-bytes"));
        world.actions.clear();
        world.step(Input::Answered(Err("busy".to_owned())));
        world.pass(2);
    }
    world.pass(3_600);
    assert!(world.machine.quarantined(world.now().at).is_empty());
}

#[test]
fn our_own_disk_blames_no_source_and_other_objects_go_on() {
    let mut world = World::new();
    world.plan(nightly(0..3));
    world.answer(&[source("near", 0)]);
    let begun = world.begun();
    let full = PublishError::NoRoom { missing: 1 };
    world.end(begun[0].0, Err(Fault::Store(full)));
    let next = world.begun();
    assert_eq!(
        (next[0].1.want.rank, next[0].1.source.id.as_str()),
        (2, "near")
    );
    world.pass(59);
    assert!(
        !world
            .actions
            .iter()
            .any(|action| matches!(action, Action::Ask(_)))
    );
    world.pass(1);
    assert_eq!(world.answer(&[source("near", 0)]), [want(0).digest]);
}

#[test]
fn the_end_of_the_window_stops_the_night_and_not_what_is_urgent() {
    let mut world = World::new();
    let mut plan = nightly(0..2);
    let mut urgent = want(9);
    urgent.urgent = true;
    plan.insert(0, (urgent, Class::Urgent));
    world.plan(plan);
    world.answer(&[source("near", 0)]);
    world.pass(1);
    // The night's are asked for by themselves.
    world.answer(&[source("near", 0)]);
    let begun = world.begun();
    // Of two streams the urgent object has one.
    assert_eq!(begun.len(), 2);
    world.elapsed = Duration::from_secs(12 * 3_600 - 1);
    world.step(Input::Tick);
    assert!(world.stopped().is_empty());
    assert_eq!(
        world.machine.deadline(world.now()),
        world.now().at + Duration::from_secs(1)
    );
    world.pass(1);
    let night: Vec<_> = begun
        .iter()
        .filter(|(_, job)| job.class == Class::Night)
        .collect();
    assert_eq!(world.stopped(), [night[0].0]);
    let shuts = |action: &Action| matches!(action, Action::Shut(Class::Night));
    assert!(world.actions.iter().any(shuts));
    world.end(night[0].0, Err(Fault::Stopped));
    assert!(world.begun().is_empty());
    world.step(Input::Pause(true));
    assert_eq!(world.stopped().len(), 2, "a pause stops both");
}

#[test]
fn a_class_without_turns_rests_and_does_not_spin() {
    let mut world = World::new();
    world.plan(nightly(0..2));
    world.answer(&[source("near", 0)]);
    let mut begun = 0;
    for _ in 0..600 {
        for (id, _) in world.begun() {
            begun += 1;
            let outcome = several::outcome(0, Err(Fault::Stopped));
            world.step(Input::Ended { id, outcome });
        }
        world.pass(1);
        world.answer(&[source("near", 0)]);
    }
    assert!(begun <= 40, "{begun} times in ten minutes");
    assert!(begun >= 10, "and not given up");
}

#[test]
fn a_silent_control_plane_is_asked_ever_less_often_and_hostile_answers_change_nothing() {
    let mut world = World::new();
    world.plan(nightly(0..3));
    let mut asked = 0;
    for _ in 0..600 {
        if let Some(at) = world
            .actions
            .iter()
            .position(|action| matches!(action, Action::Ask(_)))
        {
            world.actions.remove(at);
            asked += 1;
            world.step(Input::Answered(Err("silence".to_owned())));
        }
        world.pass(1);
    }
    assert!(
        (8..=20).contains(&asked),
        "{asked} questions in ten minutes"
    );
    world.pass(60);
    world
        .actions
        .retain(|action| !matches!(action, Action::Ask(_)));
    let object = |digest, length, tree: &str| ObjectSources {
        digest,
        length,
        tree: tree.to_owned(),
        sources: vec![source("near", u64::MAX), source("near", 0)],
        problem: None,
    };
    let mut ticketless = object(want(2).digest, 10, "");
    ticketless
        .sources
        .iter_mut()
        .for_each(|source| source.ticket = Some(7));
    world.step(Input::Answered(Ok(FillSources {
        v: 1,
        objects: vec![
            object(Digest::of(b"never asked"), 10, ""),
            object(want(0).digest, 11, ""),
            object(want(1).digest, 10, "zz"),
            ticketless,
        ],
        tickets: Vec::new(),
        ask_again_s: u64::MAX,
    })));
    assert!(world.begun().is_empty());
    world.pass(3_600);
    assert!(
        world
            .actions
            .iter()
            .any(|action| matches!(action, Action::Ask(_))),
        "after an hour"
    );
}

#[test]
fn another_plan_stops_what_it_does_not_have_and_keeps_what_runs() {
    let mut world = World::new();
    world.plan(nightly(0..4));
    world.answer(&[source("near", 0)]);
    let begun = world.begun();
    let mut plan = nightly(1..2);
    plan.insert(0, (want(50), Class::Night));
    world.plan(plan);
    assert_eq!(world.stopped(), [begun[0].0]);
    world.pass(1);
    world.answer(&[source("near", 0)]);
    assert!(world.begun().is_empty(), "its stream is not free yet");
    world.end(begun[0].0, Err(Fault::Stopped));
    assert_eq!(world.begun()[0].1.want.rank, 50);
    world.end(begun[1].0, Ok(()));
    assert_eq!(world.machine.queue.len(), 1);
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::NotFound),
        (0_u64..1_000).prop_map(|s| Fault::Busy {
            retry_after: Some(Duration::from_secs(s))
        }),
        Just(Fault::Refused("x".to_owned())),
        Just(Fault::WrongBytes("x".to_owned())),
        Just(Fault::Changed("x".to_owned())),
        Just(Fault::Slow("x".to_owned())),
        Just(Fault::Broken("x".to_owned())),
        Just(Fault::Store(PublishError::NoVolume)),
        Just(Fault::Stopped),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever fails for a while, in any order: in the end everything is there, never more runs
    /// than there are streams, and nothing waits for a moment that has passed.
    #[test]
    fn everything_completes_once_the_sources_work(
        faults in prop::collection::vec(fault(), 0..60),
        count in 1_u32..30,
    ) {
        let mut world = World::new();
        world.plan(nightly(0..count));
        let mut faults = faults.into_iter();
        let (mut running, mut done) = (Vec::new(), BTreeSet::new());
        let sources = [source("near", 0), source("mid", 3), source("origin", 30)];
        for round in 0..5_000 {
            running.extend(world.begun());
            prop_assert!(running.len() <= 2);
            if let Some((id, job)) = running.pop() {
                let end = faults.next().map_or(Ok(()), Err);
                if end.is_ok() {
                    prop_assert!(done.insert(job.want.digest), "twice");
                }
                world.end(id, end);
            } else if world.answer(&sources).is_empty() {
                let deadline = world.machine.deadline(world.now());
                let wait = deadline.saturating_duration_since(world.now().at);
                world.elapsed += wait.max(Duration::from_millis(1));
                prop_assert!(world.elapsed < Duration::from_secs(11 * 3_600), "stuck");
                world.step(Input::Tick);
            }
            world.actions.retain(|action| !matches!(action, Action::Survey));
            if done.len() == count as usize {
                break;
            }
            prop_assert!(round < 4_999, "it spins");
        }
    }
}

#[test]
fn a_store_that_is_not_ready_is_looked_at_again_soon() {
    let mut world = World::new();
    world.machine.store.manifest = Some((1, 1));
    for _ in 0..3 {
        world.plan(Vec::new());
        world.actions.clear();
        world.pass(2);
        assert!(matches!(world.actions.last(), Some(Action::Survey)));
    }
}
