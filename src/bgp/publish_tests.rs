//! The publisher against a plain map, and its times.

use super::super::rib::Rib;
use super::super::tests_support::config;
use super::super::tests_support::neighbour;
use super::*;
use crate::prefix::Prefix;
use crate::route::Asn;
use crate::route::Attributes;
use crate::route::Class;
use crate::route::Filtered;
use crate::route::Packer;
use crate::route::Route;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn publisher(now: Instant) -> Publisher {
    // Names in another order than the configuration's.
    let neighbours = ["c", "a", "b"].map(|name| neighbour(name, Asn(64500)));
    Publisher::new(&config(Asn(64510), neighbours.into()), now)
}

fn attributes(med: u32) -> Arc<Attributes> {
    Arc::new(Attributes {
        med: Some(med),
        ..Attributes::new("64500".parse().unwrap(), "192.0.2.1".parse().unwrap())
    })
}

/// The neighbours' own tables, which make the batches.
struct Ribs([Rib; 3]);

impl Ribs {
    fn new() -> Self {
        Self(["c", "a", "b"].map(|name| Rib::new(Class::Embedded, name.into())))
    }

    /// `None`: nothing changed.
    #[allow(clippy::unwrap_in_result)]
    fn change(&mut self, of: usize, third: u8, med: Option<u32>) -> Option<Event> {
        let (prefix, to) = change(third, med);
        let rib = &mut self.0[of];
        match to {
            Some((attributes, filtered)) => {
                let held = rib.hold(Packer::default().pack(&attributes)).unwrap();
                rib.announce(&prefix, 0, &held, filtered);
                rib.release(&held);
            }
            None => {
                rib.withdraw(&prefix, 0);
            }
        }
        rib.take().map(|batch| Event::Routes(Index(of), batch))
    }
}

type To = Option<(Arc<Attributes>, Option<Filtered>)>;

fn change(third: u8, med: Option<u32>) -> (Prefix, To) {
    let prefix = format!("198.51.{third}.0/24").parse().unwrap();
    let to = med.map(|med| (attributes(med), (med == 0).then_some(Filtered::Bogon)));
    (prefix, to)
}

type Model = BTreeMap<(Prefix, &'static str), (Arc<Attributes>, Option<Filtered>)>;

#[derive(Clone, Debug)]
enum Step {
    Change(usize, u8, Option<u32>),
    Gone(usize),
    Publish,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_usize..3, 0_u8..6, proptest::option::of(0_u32..3))
            .prop_map(|(of, third, med)| Step::Change(of, third, med)),
        1 => (0_usize..3).prop_map(Step::Gone),
        2 => Just(Step::Publish),
    ]
}

proptest! {
    #[test]
    fn a_snapshot_is_what_a_plain_map_would_say(
        steps in proptest::collection::vec(step(), 0..80),
    ) {
        let now = clock_for_tests();
        let mut publisher = publisher(now);
        let names = ["c", "a", "b"];
        let mut ribs = Ribs::new();
        let mut model: Model = BTreeMap::new();
        let mut last = publisher.publish(now);
        for step in steps.into_iter().chain([Step::Publish]) {
            match step {
                Step::Change(of, third, med) => {
                    let (prefix, to) = change(third, med);
                    match to {
                        Some(to) => model.insert((prefix, names[of]), to),
                        None => model.remove(&(prefix, names[of])),
                    };
                    if let Some(event) = ribs.change(of, third, med) {
                        publisher.apply(now, event);
                    }
                }
                Step::Gone(of) => {
                    model.retain(|(_, name), _| *name != names[of]);
                    ribs.0[of].clear();
                    publisher.apply(now, Event::Gone(Index(of), SessionView::default()));
                }
                Step::Publish => {
                    let snapshot = publisher.publish(now);
                    let expected: Vec<Route> = model.iter().map(|((prefix, name), to)| Route {
                        prefix: *prefix,
                        neighbour: (*name).into(),
                        path_id: 0,
                        class: Class::Embedded,
                        attributes: Arc::clone(&to.0),
                        filtered: to.1,
                    }).collect();
                    let shown: Vec<Route> =
                        snapshot.routes.iter().map(|seen| seen.route()).collect();
                    prop_assert_eq!(&shown, &expected);
                    let hash = SetHash::of(expected.iter().map(Route::item));
                    prop_assert_eq!(snapshot.hash, hash);
                    let steerable = expected.iter().filter(|r| r.is_steerable()).count();
                    prop_assert_eq!(snapshot.steerable, steerable);
                    for view in &snapshot.neighbours {
                        let of = |r: &&Route| *r.neighbour == *view.name;
                        prop_assert_eq!(view.routes, expected.iter().filter(of).count());
                    }
                    let same = snapshot.routes == last.routes;
                    prop_assert_eq!(snapshot.generation, last.generation + u64::from(!same));
                    last = snapshot;
                }
            }
        }
    }
}

fn clock_for_tests() -> Instant {
    clock::now()
}

#[test]
fn a_withdrawal_and_an_end_are_published_at_once_and_streams_are_gathered() {
    let start = clock::now();
    let mut publisher = publisher(start);
    let ms = Duration::from_millis;
    let mut ribs = Ribs::new();
    let mut routes = |third, med| ribs.change(0, third, med).unwrap();
    publisher.apply(start, routes(3, Some(1)));
    publisher.publish(start);
    publisher.rest(start, start);
    let start = start + Duration::from_secs(1);
    publisher.apply(start, routes(1, Some(1)));
    assert_eq!(publisher.due, Some(start + ms(50)));
    publisher.apply(start, routes(1, None));
    assert_eq!(publisher.due, Some(start));
    publisher.publish(start);
    publisher.rest(start, start);
    assert_eq!(publisher.due, None);
    // Fresh after a snapshot, everything waits its turn.
    publisher.apply(
        start + ms(10),
        Event::Gone(Index(0), SessionView::default()),
    );
    assert_eq!(publisher.due, Some(start + ms(250)));
    // A merge that takes long earns announcements a longer rest, a withdrawal none.
    publisher.publish(start + ms(250));
    publisher.rest(start + ms(250), start + ms(350));
    publisher.apply(start + ms(360), routes(2, Some(1)));
    assert_eq!(publisher.due, Some(start + ms(750)));
    publisher.apply(start + ms(370), routes(3, None));
    assert_eq!(publisher.due, Some(start + ms(600)));
}

#[tokio::test(start_paused = true)]
async fn readers_see_a_withdrawal_within_a_second_while_announcements_stream() {
    let publisher = publisher(clock::now());
    let board = Arc::new(Board::new(&publisher, clock::now()));
    let (sender, receiver) = mpsc::channel(8);
    let task = tokio::spawn(run(publisher, receiver, Arc::clone(&board)));
    let mut seen = board.snapshots.subscribe();
    let mut ribs = Ribs::new();
    sender
        .send(ribs.change(0, 1, Some(1)).unwrap())
        .await
        .unwrap();
    seen.wait_for(|snapshot| snapshot.routes.len() == 1)
        .await
        .unwrap();
    let begun = clock::now();
    sender.send(ribs.change(0, 1, None).unwrap()).await.unwrap();
    let streaming = async {
        for third in 2..200 {
            clock::sleep(Duration::from_millis(5)).await;
            let event = ribs.change(1, third, Some(2)).unwrap();
            sender.send(event).await.unwrap();
        }
    };
    let gone = |snapshot: &Arc<Snapshot>| !snapshot.routes.iter().any(|r| &**r.neighbour() == "c");
    tokio::select! {
        () = streaming => panic!("the withdrawal was not seen"),
        found = seen.wait_for(gone) => drop(found.unwrap()),
    }
    assert!(clock::now() - begun < Duration::from_millis(300));
    drop(sender);
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_dies_leaves_no_routes_behind() {
    let publisher = publisher(clock::now());
    let board = Arc::new(Board::new(&publisher, clock::now()));
    let (sender, receiver) = mpsc::channel(8);
    let task = tokio::spawn(run(publisher, receiver, Arc::clone(&board)));
    let mut seen = board.snapshots.subscribe();
    let learned = Ribs::new().change(0, 1, Some(1)).unwrap();
    sender.send(learned).await.unwrap();
    let before = seen.wait_for(|snapshot| snapshot.routes.len() == 1).await;
    let generation = before.unwrap().generation;
    // No neighbour has this place.
    let broken = Event::Session(Index(99), SessionView::default());
    sender.send(broken).await.unwrap();
    assert!(task.await.unwrap_err().is_panic());
    let last = board.snapshot(clock::now());
    assert_eq!((last.routes.len(), last.steerable), (0, 0));
    assert_eq!(last.hash, SetHash::default());
    assert!(last.generation > generation);
    assert!(
        last.neighbours
            .iter()
            .all(|neighbour| neighbour.last_error.is_some())
    );
}
