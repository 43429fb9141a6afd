//! Tables of several neighbours beside plain maps: order, cover, the decision, what changed.

use super::*;
use crate::route::Attributes;
use crate::route::Origin;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

const NEIGHBOURS: [&str; 3] = ["edge-1", "edge-2", "transit"];

fn prefix() -> impl Strategy<Value = Prefix> {
    let ipv4 = (0_u32..64, 0_u8..=32).prop_map(|(n, length)| {
        Prefix::new(Ipv4Addr::from_bits(0xC000_0200 | n << 2).into(), length).unwrap()
    });
    let ipv6 = (0_u128..16, prop_oneof![Just(0_u8), 28_u8..=64]).prop_map(|(n, length)| {
        let address = Ipv6Addr::from_bits(0x2001_0db8 << 96 | n << 64);
        Prefix::new(address.into(), length).unwrap()
    });
    prop_oneof![3 => ipv4, 1 => ipv6]
}

fn route() -> impl Strategy<Value = Route> {
    let filtered = prop_oneof![
        2 => Just(None),
        1 => Just(Some(Filtered::DefaultRoute)),
        1 => Just(Some(Filtered::Bogon))
    ];
    (prefix(), 0..NEIGHBOURS.len(), 0_u32..2, 0_u32..4, filtered).prop_map(
        |(prefix, neighbour, path_id, med, filtered)| {
            let path = if med % 2 == 0 { "64500" } else { "64500 64501" };
            let mut attributes =
                Attributes::new(path.parse().unwrap(), Ipv4Addr::new(192, 0, 2, 1).into());
            attributes.med = Some(med);
            Route {
                prefix,
                neighbour: NEIGHBOURS[neighbour].into(),
                path_id,
                class: Class::Embedded,
                attributes: Arc::new(attributes),
                filtered,
            }
        },
    )
}

/// One route a place.
fn plain(routes: Vec<Route>) -> Vec<Route> {
    let by_place: BTreeMap<_, _> = routes
        .into_iter()
        .map(|route| {
            (
                (route.prefix, Arc::clone(&route.neighbour), route.path_id),
                route,
            )
        })
        .collect();
    by_place.into_values().collect()
}

proptest! {
    #[test]
    fn it_answers_as_a_sorted_list_would(
        routes in proptest::collection::vec(route(), 0..120),
        asked in prefix(),
    ) {
        let table: RouteTable = routes.clone().into_iter().collect();
        let list = plain(routes);
        prop_assert_eq!(table.len(), list.len());
        let found: Vec<Route> = table.iter().map(|seen| seen.route()).collect();
        prop_assert_eq!(&found, &list);
        let from: Vec<Route> = table.iter_from(&asked).map(|seen| seen.route()).collect();
        let expected: Vec<Route> =
            list.iter().filter(|route| route.prefix >= asked).cloned().collect();
        prop_assert_eq!(from, expected);
        for address in [asked.address(), Ipv4Addr::new(192, 0, 2, 77).into()] {
            let mut expected: Vec<Route> =
                list.iter().filter(|route| route.prefix.contains(address)).cloned().collect();
            expected.sort_by_key(|route| Reverse(route.prefix.length()));
            let found: Vec<Route> =
                table.covering(address).iter().map(Seen::route).collect();
            prop_assert_eq!(&found, &expected);
            let longest = |is_asked: &dyn Fn(&Route) -> bool| {
                expected.iter().find(|route| is_asked(route)).map(|route| route.prefix)
            };
            let steerable = table.steerable(address).map(|seen| seen.prefix);
            prop_assert_eq!(steerable, longest(&Route::is_steerable));
            let reachable = table.reachable(address).map(|seen| seen.prefix);
            prop_assert_eq!(reachable, longest(&|_| true));
        }
    }

    #[test]
    fn what_changed_leads_from_one_table_to_the_other(
        before in proptest::collection::vec(route(), 0..80),
        after in proptest::collection::vec(route(), 0..80),
    ) {
        let old: RouteTable = before.clone().into_iter().collect();
        let new: RouteTable = after.clone().into_iter().collect();
        let mut told: BTreeSet<Route> = plain(before).into_iter().collect();
        let mut failed = false;
        new.compare(&old, |was, is| {
            failed |= was.is_some_and(|seen| !told.remove(&seen.route()));
            failed |= is.is_some_and(|seen| !told.insert(seen.route()));
        });
        prop_assert!(!failed);
        prop_assert_eq!(told, plain(after).into_iter().collect::<BTreeSet<Route>>());
        prop_assert!(new == new.clone());
    }
}

#[test]
fn the_decision_is_that_of_the_rfc_in_its_order() {
    let address = Ipv4Addr::new(192, 0, 2, 1);
    let source = |name: &str, router_id: u8, is_internal: bool| Source {
        neighbour: name.into(),
        class: Class::Transit,
        is_internal,
        router_id: Some(Ipv4Addr::new(192, 0, 2, router_id)),
        address: address.into(),
    };
    let plain = Attributes::new("64500 64501".parse().unwrap(), address.into());
    let with = |change: &dyn Fn(&mut Attributes)| {
        let mut attributes = plain.clone();
        change(&mut attributes);
        attributes
    };
    // Each is better than what stands after it, whatever the rest says.
    let order = [
        (source("a", 9, true), with(&|a| a.local_pref = Some(101))),
        (
            source("b", 9, true),
            with(&|a| {
                a.as_path = "64500".parse().unwrap();
                a.origin = Origin::Incomplete;
            }),
        ),
        (
            source("c", 9, true),
            with(&|a| {
                a.as_path = "{64500 64502 64503} 64501".parse().unwrap();
                a.med = Some(0);
            }),
        ),
        (source("d", 1, false), with(&|a| a.med = Some(7))),
        (source("e", 3, false), with(&|a| a.med = Some(8))),
        (source("f", 4, false), with(&|a| a.med = Some(8))),
        (source("g", 2, true), with(&|a| a.med = Some(8))),
        (source("h", 1, false), with(&|a| a.origin = Origin::Egp)),
        (
            source("i", 1, false),
            with(&|a| a.as_path = "64500 {1} 64501".parse().unwrap()),
        ),
    ];
    let prefix: Prefix = "203.0.113.0/24".parse().unwrap();
    let tables: Vec<Arc<Table>> = order
        .iter()
        .map(|(source, attributes)| {
            let mut sets = Sets::default();
            let set = sets.acquire(Packer::default().pack(attributes)).unwrap();
            let mut changes = Changes::default();
            changes.push(&prefix, 0, 0, set);
            let empty = Table::new(source.clone());
            Arc::new(empty.changed(source.clone(), changes, sets.pages()))
        })
        .collect();
    for first in 0..tables.len() {
        let table = RouteTable::new(tables[first..].iter().rev().cloned());
        let best = table.best(&prefix).unwrap();
        assert_eq!(&**best.neighbour(), &*order[first].0.neighbour);
    }
    assert_eq!(
        RouteTable::default().best(&prefix).map(|seen| seen.prefix),
        None
    );
}

#[test]
fn the_default_route_and_filtered_ones_reach_but_never_steer() {
    let route = |prefix: &str, filtered| Route {
        prefix: prefix.parse().unwrap(),
        neighbour: "edge-1".into(),
        path_id: 0,
        class: Class::Embedded,
        attributes: Arc::new(Attributes::new(
            "64500".parse().unwrap(),
            Ipv4Addr::new(192, 0, 2, 1).into(),
        )),
        filtered,
    };
    let table: RouteTable = [
        route("0.0.0.0/0", Some(Filtered::DefaultRoute)),
        route("203.0.0.0/16", None),
        route("203.0.113.0/24", Some(Filtered::Bogon)),
    ]
    .into_iter()
    .collect();
    let prefix = |seen: Option<Seen<'_>>| seen.map(|seen| seen.prefix.to_string());
    let both = |address: [u8; 4]| {
        let address = IpAddr::from(address);
        (
            prefix(table.steerable(address)),
            prefix(table.reachable(address)),
        )
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        both([203, 0, 113, 9]),
        (some("203.0.0.0/16"), some("203.0.113.0/24"))
    );
    assert_eq!(
        both([203, 0, 112, 9]),
        (some("203.0.0.0/16"), some("203.0.0.0/16"))
    );
    assert_eq!(both([198, 51, 100, 9]), (None, some("0.0.0.0/0")));
}
