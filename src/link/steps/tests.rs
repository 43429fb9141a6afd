//! Steps between two sides that agree, and between two that do not.

use super::*;
use crate::link::message::Acked;
use crate::route::Attributes;
use crate::route::Class;
use crate::route::Filtered;
use proptest::prelude::*;

fn digest(number: u8) -> Digest {
    Digest::of(&[number])
}

fn hash_of(items: &[Digest]) -> SetHash {
    SetHash::of(items.iter().map(|item| item.0))
}

fn whole(epoch: u64, to: u64, items: &[Digest]) -> Catalogue {
    Catalogue {
        epoch,
        from: 0,
        to,
        count: items.len() as u64,
        digest: hash_of(items).digest(),
        added: items.to_vec(),
        removed: vec![],
    }
}

fn place_of<T: std::fmt::Debug>(step: Step<T>) -> Place {
    match step {
        Step::Whole { place, .. } | Step::Change { place, .. } => place,
        Step::Same => panic!("nothing was taken"),
    }
}

fn route(text: &str, neighbour: &str, med: Option<u32>) -> Route {
    Route {
        prefix: text.parse().unwrap(),
        neighbour: neighbour.into(),
        path_id: 0,
        class: Class::Embedded,
        attributes: Arc::new(Attributes {
            med,
            ..Attributes::new(
                "64500 64501".parse().unwrap(),
                "198.51.100.1".parse().unwrap(),
            )
        }),
        filtered: None,
    }
}

#[test]
fn an_acknowledged_set_is_not_sent_again_and_a_new_epoch_starts_over() {
    let items = [digest(2), digest(1)];
    let never = || -> Vec<Digest> { panic!("the items are not needed") };
    let mut outbox = Outbox::new(9);
    let first = outbox.catalogue(4, || items.to_vec());
    assert_eq!((first.from, first.to), (0, 5));
    let step = take_catalogue(None, &first).unwrap();
    let Step::Whole { place, items: held } = step else {
        panic!("{step:?}");
    };
    assert_eq!(held.len(), 2);
    assert!(held.is_sorted());

    outbox.acknowledge(Acked {
        catalogue: Some(place.ack),
        routes: None,
    });
    let second = outbox.catalogue(4, never);
    assert_eq!((second.from, second.to), (5, 5));
    assert_eq!(take_catalogue(Some(&place), &second), Ok(Step::Same));
    let moved = outbox.catalogue(5, || items[..1].to_vec());
    assert_eq!((moved.from, moved.to), (0, 6));

    let mut reborn = Outbox::new(10);
    let third = reborn.catalogue(4, || items.to_vec());
    assert_eq!((third.epoch, third.from), (10, 0));
    assert!(take_catalogue(Some(&place), &third).is_ok());
    outbox.forget();
    assert_eq!(outbox.catalogue(4, || items.to_vec()), first);
}

#[test]
fn an_empty_set_has_a_position_too() {
    let empty = Outbox::new(1).catalogue(0, Vec::new);
    assert_eq!((empty.from, empty.to, empty.count), (0, 1, 0));
    let place = place_of(take_catalogue(None, &empty).unwrap());
    assert_eq!((place.ack.position, place.count), (1, 0));
}

#[test]
fn a_step_that_does_not_add_up_is_refused_with_its_code() {
    let good = whole(1, 5, &[digest(1), digest(2)]);
    let place = place_of(take_catalogue(None, &good).unwrap());
    let code =
        |held: Option<&Place>, step: &Catalogue| take_catalogue(held, step).unwrap_err().code();
    let mut wrong = good.clone();
    wrong.digest = digest(1);
    assert_eq!(code(None, &wrong), Code::WrongDigest);
    let mut wrong = good.clone();
    wrong.count = 3;
    assert_eq!(code(None, &wrong), Code::WrongDigest);
    let twice = whole(1, 5, &[digest(1), digest(1)]);
    assert_eq!(code(None, &twice), Code::WrongDigest);
    let mut removes = good.clone();
    removes.removed = vec![digest(1)];
    assert_eq!(code(None, &removes), Code::WrongDigest);

    let step = |epoch, from, to, added: &[u8], removed: &[u8]| {
        let mut items = vec![digest(1), digest(2)];
        items.retain(|item| !removed.iter().any(|number| digest(*number) == *item));
        items.extend(added.iter().map(|number| digest(*number)));
        Catalogue {
            from,
            added: added.iter().map(|number| digest(*number)).collect(),
            removed: removed.iter().map(|number| digest(*number)).collect(),
            ..whole(epoch, to, &items)
        }
    };
    for (held, bad) in [
        (None, step(1, 5, 6, &[3], &[])),
        (Some(&place), step(1, 4, 6, &[3], &[])),
        (Some(&place), step(2, 5, 6, &[3], &[])),
        (Some(&place), step(1, 5, 4, &[3], &[])),
        (Some(&place), step(1, 5, 5, &[3], &[])),
    ] {
        assert_eq!(code(held, &bad), Code::WrongPosition, "{bad:?}");
    }
    let change = take_catalogue(Some(&place), &step(1, 5, 6, &[3], &[1])).unwrap();
    let moved = place_of(change);
    assert_eq!((moved.ack.position, moved.count), (6, 2));
    assert_eq!(moved.hash, hash_of(&[digest(2), digest(3)]));
    // Removes what is not there: the sum tells.
    let mut foreign = step(1, 5, 6, &[], &[1]);
    foreign.removed = vec![digest(7)];
    assert_eq!(code(Some(&place), &foreign), Code::WrongDigest);
}

#[test]
fn routes_are_grouped_by_what_they_share_and_taken_back() {
    let routes = [
        route("198.51.100.0/24", "edge-1", Some(1)),
        route("192.0.2.0/24", "edge-1", Some(1)),
        route("192.0.2.0/24", "edge-2", Some(1)),
        route("203.0.113.0/24", "edge-1", None),
    ];
    let groups = group(&routes);
    assert_eq!(groups.len(), 3);
    let shared: Vec<_> = groups.iter().map(|group| group.prefixes.len()).collect();
    assert_eq!(shared.iter().sum::<usize>(), 4);
    let hash = SetHash::of(routes.iter().map(Route::item));
    let table: RouteTable = routes.iter().cloned().collect();
    let step = Outbox::new(1).routes(8, &hash, &table);
    assert_eq!(step.added.len(), 3);
    let Ok(Step::Whole { place, items }) = take_routes(None, &step) else {
        panic!("refused");
    };
    assert_eq!((place.count, place.hash), (4, hash));
    let mut sorted = routes.to_vec();
    sorted.sort();
    assert_eq!(items, sorted);

    let mut outbox = Outbox::new(1);
    outbox.routes(8, &hash, &table);
    outbox.acknowledge(Acked {
        catalogue: None,
        routes: Some(place.ack),
    });
    let nothing = outbox.routes(8, &hash, &table);
    assert_eq!(nothing.added, []);
    assert_eq!(take_routes(Some(&place), &nothing), Ok(Step::Same));
    let mut changed = step;
    changed.added[0].class = Class::Transit;
    assert_eq!(
        take_routes(None, &changed).unwrap_err().code(),
        Code::WrongDigest
    );
}

fn any_route() -> impl Strategy<Value = Route> {
    let address = prop_oneof![
        any::<u32>().prop_map(|bits| std::net::IpAddr::from(bits.to_be_bytes())),
        any::<u128>().prop_map(|bits| std::net::IpAddr::from(bits.to_be_bytes())),
    ];
    (
        address,
        0_u8..33,
        0_usize..3,
        proptest::option::of(0_u32..3),
        any::<bool>(),
    )
        .prop_map(|(address, length, neighbour, med, bogon)| Route {
            prefix: crate::prefix::Prefix::new(address, length).unwrap(),
            path_id: med.unwrap_or(0),
            filtered: bogon.then_some(Filtered::Bogon),
            ..route("192.0.2.0/24", ["a", "b", "c"][neighbour], med)
        })
}

proptest! {
    #[test]
    fn any_routes_survive_the_wire_in_any_order(
        routes in proptest::collection::btree_set(any_route(), 0..40),
        turn in 0_usize..40,
    ) {
        let mut sorted: Vec<Route> = routes.into_iter().collect();
        // A neighbour has one route for a prefix and path identifier.
        sorted.dedup_by_key(|route| (route.prefix, Arc::clone(&route.neighbour), route.path_id));
        let mut turned = sorted.clone();
        turned.rotate_left(turn % sorted.len().max(1));
        let hash = SetHash::of(sorted.iter().map(Route::item));
        let table = |routes: &[Route]| routes.iter().cloned().collect::<RouteTable>();
        let step = Outbox::new(1).routes(0, &hash, &table(&turned));
        prop_assert_eq!(&step, &Outbox::new(1).routes(0, &hash, &table(&sorted)));
        let json = serde_json::to_string(&step).unwrap();
        let read: Routes = serde_json::from_str(&json).unwrap();
        let Ok(Step::Whole { place, items }) = take_routes(None, &read) else {
            panic!("refused");
        };
        prop_assert_eq!(place.hash, hash);
        prop_assert_eq!(items, sorted);
    }

    #[test]
    fn any_change_leads_where_the_whole_does(
        before in proptest::collection::btree_set(0_u8..30, 0..20),
        after in proptest::collection::btree_set(0_u8..30, 0..20),
    ) {
        let digests = |set: &std::collections::BTreeSet<u8>| -> Vec<Digest> {
            set.iter().map(|number| digest(*number)).collect()
        };
        let held = place_of(take_catalogue(None, &whole(1, 1, &digests(&before))).unwrap());
        let step = Catalogue {
            from: 1,
            added: digests(&after.difference(&before).copied().collect()),
            removed: digests(&before.difference(&after).copied().collect()),
            ..whole(1, 2, &digests(&after))
        };
        let changed = place_of(take_catalogue(Some(&held), &step).unwrap());
        let direct = place_of(take_catalogue(None, &whole(1, 2, &digests(&after))).unwrap());
        prop_assert_eq!(changed, direct);
    }
}
