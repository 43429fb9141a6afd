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
