//! Objects that are fetched from several sources: who is asked beside whom, and what it takes.

use super::*;
use crate::fill::Part;

const LARGE: u64 = 32 << 20;

impl World {
    fn with_large(streams: usize, count: u32) -> Self {
        let mut world = Self::new();
        world.machine.config.streams = streams;
        world.machine.set_rate(BytesPerSecond(0), &mut Vec::new());
        world.step(Input::Tick);
        world.plan(large(0..count));
        world
    }

    /// As [`World::answer`], for large objects, each with the tree that is its own.
    fn answer_large(&mut self, sources: &[FillSource]) {
        let asked = self
            .actions
            .iter()
            .position(|one| matches!(one, Action::Ask(_)));
        let Some(Action::Ask(Inquiry { request, .. })) = asked.map(|at| self.actions.remove(at))
        else {
            return;
        };
        let objects = request.wanted.iter().map(|digest| ObjectSources {
            digest: *digest,
            length: LARGE,
            tree: tree_of(*digest),
            sources: sources.to_vec(),
            problem: None,
        });
        self.step(Input::Answered(Ok(FillSources {
            v: 1,
            objects: objects.collect(),
            tickets: Vec::new(),
            ask_again_s: 0,
        })));
    }

    fn end_parted(&mut self, id: u64, parts: Vec<Part>, end: Result<(), Fault>) {
        let outcome = Outcome {
            received: 10,
            verified: parts.iter().map(|part| part.verified).sum(),
            wasted: 0,
            seconds: 1.0,
            end,
            parts,
        };
        self.step(Input::Ended { id, outcome });
    }
}

/// A tree whose root is what it is: objects of these tests are named by it.
fn trees() -> &'static [(Digest, String)] {
    static TREES: std::sync::OnceLock<Vec<(Digest, String)>> = std::sync::OnceLock::new();
    TREES.get_or_init(|| {
        let tree = |number: u8| {
            let mut builder = crate::object::TreeBuilder::new();
            let chunk = vec![number; usize::try_from(LARGE / 16).unwrap()];
            (0..16).for_each(|_| builder.update(&chunk));
            let tree = builder.finish();
            (tree.digest(), ObjectSources::tree_text(&tree))
        };
        (0..4).map(tree).collect()
    })
}

fn tree_of(digest: Digest) -> String {
    let found = trees().iter().find(|(other, _)| *other == digest);
    found.unwrap().1.clone()
}

fn large(ranks: std::ops::Range<u32>) -> Vec<(Want, Class)> {
    let large = |rank: u32| Want {
        digest: trees()[usize::try_from(rank).unwrap()].0,
        length: LARGE,
        rank,
        urgent: false,
    };
    ranks.map(|rank| (large(rank), Class::Night)).collect()
}

/// From one source.
pub(super) fn outcome(received: u64, end: Result<(), Fault>) -> Outcome {
    Outcome {
        received,
        verified: if end.is_ok() { received } else { 0 },
        wasted: 0,
        seconds: 1.0,
        end,
        parts: Vec::new(),
    }
}

fn of_kind(id: &str, kind: SourceKind) -> FillSource {
    FillSource {
        kind,
        ..source(id, 0)
    }
}

fn ids(job: &Job) -> Vec<&str> {
    job.others
        .iter()
        .map(|offer| offer.source.id.as_str())
        .collect()
}

fn part(source: usize, verified: u64, end: Result<(), Fault>) -> Part {
    Part {
        source,
        verified,
        end,
    }
}

#[test]
fn a_large_object_has_a_stream_for_each_of_three_sources_and_the_streams_are_counted() {
    let mut world = World::with_large(8, 4);
    let sources: Vec<_> = ["a", "b", "c", "d"].map(|id| source(id, 0)).into();
    world.answer_large(&sources);
    let begun = world.begun();
    let streams: Vec<usize> = begun.iter().map(|(_, job)| job.streams).collect();
    assert_eq!(streams, [3, 3, 2]);
    assert_eq!(begun[0].1.source.id, "a");
    assert_eq!(ids(&begun[0].1), ["b", "c", "d"]);
    assert_eq!(world.machine.queue.streams_busy(), 8);
    // The end of one makes room for as many.
    world.end_parted(begun[0].0, vec![part(0, LARGE, Ok(()))], Ok(()));
    let next = world.begun();
    assert_eq!((next.len(), next[0].1.streams), (1, 3));
}

#[test]
fn only_boxes_that_are_no_farther_are_asked_beside_and_the_origin_is_asked_alone() {
    let mut world = World::with_large(8, 1);
    world.answer_large(&[
        source("near", 0),
        of_kind("tier", SourceKind::Tier),
        source("near", 0),
        source("later", 30),
        source("beside", 0),
        source("origin", 0),
    ]);
    let begun = world.begun();
    assert_eq!(ids(&begun[0].1), ["beside"]);
    assert_eq!(begun[0].1.streams, 2);
    let mut world = World::with_large(8, 1);
    world.answer_large(&[source("origin", 0), of_kind("origin-2", SourceKind::Origin)]);
    let begun = world.begun();
    assert_eq!((begun[0].1.streams, begun[0].1.others.len()), (1, 0));
}

#[test]
fn small_objects_and_a_configured_one_go_to_one_source_at_a_time() {
    let mut world = World::new();
    world.plan(nightly(0..1));
    world.answer(&[source("a", 0), source("b", 0)]);
    assert_eq!(world.begun()[0].1.streams, 1);
    let mut world = World::with_large(8, 1);
    world.machine.config.sources_at_once = 1;
    world.answer_large(&[source("a", 0), source("b", 0)]);
    let begun = world.begun();
    assert_eq!((begun[0].1.streams, begun[0].1.others.len()), (1, 0));
}

#[test]
fn each_source_answers_for_itself_and_a_liar_is_left_alone_for_every_object() {
    let mut world = World::with_large(3, 2);
    world.answer_large(&[source("good", 0), source("liar", 0), source("slow", 0)]);
    let begun = world.begun();
    assert_eq!(ids(&begun[0].1), ["liar", "slow"]);
    let parts = vec![
        part(0, LARGE, Ok(())),
        part(1, 1 << 20, Err(Fault::WrongBytes("chunk 4".to_owned()))),
        part(2, 0, Err(Fault::Slow("0 bytes a second".to_owned()))),
    ];
    world.end_parted(begun[0].0, parts, Ok(()));
    let now = world.now().at;
    assert_eq!(world.machine.quarantined(now), ["liar"]);
    let next = world.begun();
    assert_eq!(next[0].1.source.id, "good");
    assert_eq!(ids(&next[0].1), ["slow"], "its slowness is that object's");
    let said: Vec<_> = { world.machine.complaints.iter() }
        .map(|complaint| (complaint.source.as_str(), complaint.problem.as_str()))
        .collect();
    assert_eq!(said, [("liar", "wrong-bytes"), ("slow", "slow")]);
}

#[test]
fn a_lie_is_told_of_before_the_object_is_there_and_the_others_go_on_in_the_same_step() {
    let mut world = World::with_large(3, 1);
    world.answer_large(&[source("good", 0), source("liar", 0), source("slow", 0)]);
    let begun = world.begun();
    let lie = || Err(Fault::WrongBytes("chunk 4".to_owned()));
    let parts = vec![part(1, 1 << 20, lie()), part(0, 8 << 20, Ok(()))];
    world.end_parted(begun[0].0, parts, lie());
    assert_eq!(world.machine.quarantined(world.now().at), ["liar"]);
    assert_eq!(world.machine.complaints.len(), 1);
    let next = world.begun();
    assert_eq!(next[0].1.source.id, "good");
    assert_eq!(ids(&next[0].1), ["slow"]);
}

#[test]
fn a_ticket_that_ends_before_its_object_is_nobodys_fault_and_another_is_asked_for() {
    for (seconds, blamed) in [(899, 2), (901, 0)] {
        let mut world = World::with_large(3, 1);
        world.answer_large(&[source("a", 0), source("b", 0)]);
        let begun = world.begun();
        world.pass(seconds);
        let refused = || Err(Fault::Refused("403 Forbidden".to_owned()));
        let parts = vec![part(0, 8 << 20, refused()), part(1, 8 << 20, refused())];
        world.end_parted(begun[0].0, parts, refused());
        assert_eq!(world.machine.complaints.len(), blamed, "{seconds} s");
        // The wait of the answer is over: it is asked for again at once.
        world.pass(1);
        world.answer_large(&[source("a", 0), source("b", 0)]);
        assert_eq!(world.begun().len(), 1, "{seconds} s");
    }
}

#[test]
fn when_all_sources_of_an_object_fail_it_goes_to_the_next_kind() {
    let mut world = World::with_large(3, 1);
    world.answer_large(&[
        source("a", 0),
        source("b", 0),
        of_kind("far", SourceKind::Network),
    ]);
    let begun = world.begun();
    let gone = || Err(Fault::NotFound);
    world.end_parted(
        begun[0].0,
        vec![part(0, 0, gone()), part(1, 0, gone())],
        gone(),
    );
    let next = world.begun();
    assert_eq!(
        (next[0].1.source.id.as_str(), next[0].1.streams),
        ("far", 1)
    );
}

#[test]
fn what_is_urgent_gets_the_streams_of_as_few_transfers_as_will_do() {
    let mut world = World::with_large(6, 2);
    world.answer_large(&[source("a", 0), source("b", 0), source("c", 0)]);
    let night = world.begun();
    assert_eq!(night.len(), 2);
    let urgent = |rank| Want {
        urgent: true,
        ..want(rank)
    };
    let mut plan: Vec<_> = (10..12).map(|rank| (urgent(rank), Class::Urgent)).collect();
    plan.extend(large(0..2));
    world.plan(plan);
    world.pass(2);
    world.answer(&[source("near", 0)]);
    assert_eq!(
        world.stopped(),
        [night[1].0],
        "three streams are enough for two"
    );
    world.pass(1);
    assert_eq!(world.stopped(), [night[1].0]);
    world.end(night[1].0, Err(Fault::Stopped));
    let begun = world.begun();
    let classes: Vec<_> = begun.iter().map(|(_, job)| job.class).collect();
    assert_eq!(classes[..2], [Class::Urgent; 2]);
    assert_eq!(world.machine.queue.streams_busy(), 6);
}

/// Whatever the rate: streams are counted, not transfers.
#[test]
fn all_streams_of_large_objects_hold_no_more_than_the_bucket_at_the_rate_in_effect() {
    for rate in [
        1_562_500,
        3_000_000,
        6_250_000,
        12_500_000,
        50_000_000,
        150_000_000,
    ] {
        let mut world = World::with_large(8, 4);
        world.step(Input::Orders(Orders {
            rate_limit: Some(BytesPerSecond(rate)),
            clock_sane: true,
            connected: true,
            ..Orders::default()
        }));
        world.answer_large(&["a", "b", "c", "d"].map(|id| source(id, 0)));
        let begun = world.begun();
        let streams: usize = begun.iter().map(|(_, job)| job.streams).sum();
        let held: u64 = { begun.iter() }
            .map(|(_, job)| job.share.hold() * u64::try_from(job.streams).unwrap())
            .sum();
        assert!((1..=8).contains(&streams), "{streams}");
        assert_eq!(world.machine.queue.streams_busy(), streams);
        assert!(held <= rate * 45 / 1_000, "{streams} hold {held} at {rate}");
    }
}
