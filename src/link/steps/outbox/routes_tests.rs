//! The steps of the routes, to a control plane that holds a plain set.

use super::*;
use crate::link::message::Ack;
use crate::link::steps::Place;
use crate::link::steps::Step;
use crate::link::steps::take_routes;
use crate::route::Attributes;
use crate::route::Class;
use crate::route::Route;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Route number → what tells its attributes apart.
type Model = BTreeMap<u8, u32>;

fn list(model: &Model) -> BTreeSet<Route> {
    let routes = model.iter().map(|(number, med)| Route {
        prefix: format!("10.{}.0.0/16", number / 4).parse().unwrap(),
        neighbour: if number & 1 == 0 { "a" } else { "b" }.into(),
        path_id: u32::from(number >> 1 & 1),
        class: Class::Peering,
        attributes: Arc::new(Attributes {
            med: Some(*med),
            ..Attributes::new("64500".parse().unwrap(), "198.51.100.1".parse().unwrap())
        }),
        filtered: None,
    });
    routes.collect()
}

#[derive(Default)]
struct Plane {
    place: Option<Place>,
    routes: BTreeSet<Route>,
    wholes: usize,
}

impl Plane {
    /// `None`: refused.
    fn take(&mut self, step: &Routes) -> Option<Ack> {
        match take_routes(self.place.as_ref(), step).ok()? {
            Step::Same => {}
            Step::Whole { place, items } => {
                self.wholes += 1;
                self.place = Some(place);
                self.routes = items.into_iter().collect();
            }
            Step::Change {
                place,
                added,
                removed,
            } => {
                self.place = Some(place);
                removed
                    .iter()
                    .for_each(|route| assert!(self.routes.remove(route)));
                added
                    .into_iter()
                    .for_each(|route| assert!(self.routes.insert(route)));
            }
        }
        self.place.map(|place| place.ack)
    }
}

fn step(outbox: &mut Outbox, generation: u64, model: &Model) -> Routes {
    let hash = SetHash::of(list(model).iter().map(Route::item));
    let table: RouteTable = list(model).into_iter().collect();
    outbox.routes(generation, &hash, &table)
}

/// One report; was it taken, and its answer heard?
fn report(
    outbox: &mut Outbox,
    plane: &mut Plane,
    generation: u64,
    model: &Model,
    is_lost: bool,
) -> bool {
    let step = step(outbox, generation, model);
    match (plane.take(&step), is_lost) {
        (_, true) => outbox.unanswered(),
        (Some(ack), false) => {
            outbox.acknowledge(Acked {
                catalogue: None,
                routes: Some(ack),
            });
            assert_eq!(plane.routes, list(model));
            return true;
        }
        (None, false) => {
            assert_ne!(step.from, 0, "everything is never refused");
            outbox.refused();
        }
    }
    false
}

proptest! {
    #[test]
    fn whatever_is_lost_both_end_with_the_same_routes(
        rounds in proptest::collection::vec(
            (proptest::collection::vec((0_u8..24, 0_u32..3), 0..6), any::<bool>()),
            1..16,
        ),
    ) {
        let (mut outbox, mut plane, mut model) = (Outbox::new(5), Plane::default(), Model::new());
        let mut generation = 0;
        for (changes, is_lost) in rounds {
            let before = model.clone();
            for (number, med) in changes {
                match med {
                    0 => drop(model.remove(&number)),
                    _ => drop(model.insert(number, med)),
                }
            }
            generation += u64::from(model != before);
            report(&mut outbox, &mut plane, generation, &model, is_lost);
        }
        let mut tries = 0;
        while !report(&mut outbox, &mut plane, generation, &model, false) {
            tries += 1;
            prop_assert!(tries <= 3);
        }
        let quiet = step(&mut outbox, generation, &model);
        prop_assert!(quiet.from == quiet.to && quiet.added.is_empty());
    }
}

#[test]
fn a_change_costs_its_size_and_a_lost_reply_not_everything() {
    let (mut outbox, mut plane) = (Outbox::new(5), Plane::default());
    let mut model: Model = (0..200).map(|number| (number, 1)).collect();
    assert!(report(&mut outbox, &mut plane, 1, &model, false));
    model.remove(&7);
    model.insert(9, 2);
    let change = step(&mut outbox, 2, &model);
    assert_eq!((change.from, change.to, change.count), (2, 3, 199));
    let count = |groups: &[RouteGroup]| groups.iter().map(|g| g.prefixes.len()).sum::<usize>();
    assert_eq!((count(&change.added), count(&change.removed)), (1, 2));
    // Its reply is lost, and another change comes.
    assert!(plane.take(&change).is_some());
    outbox.unanswered();
    model.insert(11, 2);
    let mut tries = 1;
    while !report(&mut outbox, &mut plane, 3, &model, false) {
        tries += 1;
    }
    assert_eq!((tries, plane.wholes), (2, 1));
    // Nearly everything went: that is shorter said whole.
    model.retain(|number, _| *number < 5);
    assert_eq!(step(&mut outbox, 4, &model).from, 0);
}

#[test]
fn what_no_report_has_room_for_is_cut_and_told_as_a_set_of_its_own() {
    let (mut outbox, mut plane) = (Outbox::new(5), Plane::default());
    let model: Model = (0..20).map(|number| (number, 1)).collect();
    let table: RouteTable = list(&model).into_iter().collect();
    let hash = SetHash::of(list(&model).iter().map(Route::item));
    let heard = |outbox: &mut Outbox, routes| {
        outbox.acknowledge(Acked {
            catalogue: None,
            routes,
        });
    };
    let room = 500;
    let step = outbox.routes_within(room, 1, &hash, &table);
    let ack = plane.take(&step);
    assert!(ack.is_some(), "refused for ever");
    assert!(plane.routes.len() < 20 && !plane.routes.is_empty());
    assert!(plane.routes.is_subset(&list(&model)));
    heard(&mut outbox, ack);
    // Nothing has changed, and what was told stands.
    let quiet = outbox.routes_within(room, 1, &hash, &table);
    assert_eq!((quiet.from, quiet.to, quiet.added.len()), (2, 2, 0));
    let ack = plane.take(&quiet);
    assert!(ack.is_some());
    heard(&mut outbox, ack);
    // A change goes whole: there is nothing that it would be a change of.
    let less: Model = model
        .into_iter()
        .filter(|(number, _)| *number < 2)
        .collect();
    let table: RouteTable = list(&less).into_iter().collect();
    let hash = SetHash::of(list(&less).iter().map(Route::item));
    let step = outbox.routes_within(usize::MAX, 2, &hash, &table);
    assert_eq!((step.from, step.count), (0, 2));
    assert!(plane.take(&step).is_some());
    assert_eq!(plane.routes, list(&less));
}

#[test]
fn routes_that_differ_in_their_path_identifier_share_their_attributes() {
    let attributes = Arc::new(Attributes::new(
        "64500".parse().unwrap(),
        "198.51.100.1".parse().unwrap(),
    ));
    let routes: Vec<Route> = (0..200)
        .map(|path_id| Route {
            prefix: "203.0.113.0/24".parse().unwrap(),
            neighbour: "edge".into(),
            path_id,
            class: Class::Peering,
            attributes: Arc::clone(&attributes),
            filtered: (path_id % 2 == 1).then_some(crate::route::Filtered::Bogon),
        })
        .collect();
    let table: RouteTable = routes.iter().cloned().collect();
    let groups = group_seen(table.iter());
    assert_eq!(groups.len(), 2, "one of each filter");
    assert!(Arc::ptr_eq(&groups[0].attributes, &groups[1].attributes));
    let text = serde_json::to_string(&groups).unwrap();
    let read: Vec<RouteGroup> = serde_json::from_str(&text).unwrap();
    let mut back = crate::link::steps::ungroup(&read);
    back.sort();
    assert_eq!(back, routes);
}
