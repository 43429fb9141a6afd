//! The Adj-RIB-In beside a plain map: contents, counts, the set hash, what is told, stale routes.

use super::*;
use crate::route::Attributes;
use crate::route::Community;
use crate::route::Packer;
use crate::route::Route;
use crate::route_table::RouteTable;
use crate::route_table::Source;
use crate::route_table::Table;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

#[derive(Clone, Debug)]
enum Step {
    Announce(Vec<(Prefix, u32)>, Attributes, Option<Filtered>),
    Withdraw(Prefix, u32),
    MarkStale(Family),
    SweepStale(Family),
    SweepOn,
    Take,
    Clear,
}

fn prefix() -> impl Strategy<Value = Prefix> {
    let ipv4 = (0_u32..8, 24_u8..=26).prop_map(|(n, length)| {
        Prefix::new(Ipv4Addr::from(0xC000_0200 | n << 5).into(), length).unwrap()
    });
    let ipv6 = (0_u128..8, 62_u8..=64).prop_map(|(n, length)| {
        let address = Ipv6Addr::from(0x2001_0db8 << 96 | n << 64);
        Prefix::new(address.into(), length).unwrap()
    });
    prop_oneof![ipv4, ipv6]
}

fn attributes() -> impl Strategy<Value = Attributes> {
    (0_u32..4, 0_u32..2).prop_map(|(path, med)| Attributes {
        med: Some(med),
        communities: vec![Community(med)],
        ..Attributes::new(
            format!("64500 {path}").parse().unwrap(),
            Ipv4Addr::new(192, 0, 2, 1).into(),
        )
    })
}

fn step() -> impl Strategy<Value = Step> {
    let filtered = prop_oneof![Just(None), Just(Some(Filtered::Bogon))];
    let place = || (prefix(), prop_oneof![3 => Just(0_u32), 1 => 1_u32..3]);
    let places = proptest::collection::vec(place(), 0..4);
    let family = || prop_oneof![Just(Family::Ipv4), Just(Family::Ipv6)];
    prop_oneof![
        12 => (places, attributes(), filtered)
            .prop_map(|(places, attributes, filtered)| {
                Step::Announce(places, attributes, filtered)
            }),
        4 => place().prop_map(|(prefix, path_id)| Step::Withdraw(prefix, path_id)),
        1 => family().prop_map(Step::MarkStale),
        1 => family().prop_map(Step::SweepStale),
        2 => Just(Step::SweepOn),
        4 => Just(Step::Take),
        1 => Just(Step::Clear),
    ]
}

#[derive(Default)]
struct Model {
    routes: BTreeMap<(Prefix, u32), (Attributes, Option<Filtered>)>,
    stale: BTreeSet<(Prefix, u32)>,
    doomed: BTreeSet<(Prefix, u32)>,
}

impl Model {
    fn routes(&self) -> Vec<Route> {
        let routes = self.routes.iter();
        routes
            .map(|((prefix, path_id), (attributes, filtered))| Route {
                prefix: *prefix,
                neighbour: "edge".into(),
                path_id: *path_id,
                class: Class::Peering,
                attributes: Arc::new(attributes.clone()),
                filtered: *filtered,
            })
            .collect()
    }
}

fn source() -> Source {
    Source {
        neighbour: "edge".into(),
        class: Class::Peering,
        is_internal: false,
        router_id: None,
        address: Ipv4Addr::new(192, 0, 2, 1).into(),
    }
}

fn rib() -> Rib {
    Rib::new(Class::Peering, "edge".into())
}

fn apply(rib: &mut Rib, model: &mut Model, step: Step) -> Result<(), TestCaseError> {
    match step {
        Step::Announce(places, attributes, filtered) => {
            let held = rib.hold(Packer::default().pack(&attributes)).unwrap();
            for (prefix, path_id) in places {
                let value = (attributes.clone(), filtered);
                let place = (prefix, path_id);
                model.stale.remove(&place);
                model.doomed.remove(&place);
                let changed = model.routes.insert(place, value.clone()) != Some(value);
                prop_assert_eq!(rib.announce(&prefix, path_id, &held, filtered), changed);
            }
            rib.release(&held);
        }
        Step::Withdraw(prefix, path_id) => {
            let place = (prefix, path_id);
            model.stale.remove(&place);
            model.doomed.remove(&place);
            let was_there = model.routes.remove(&place).is_some();
            prop_assert_eq!(rib.withdraw(&prefix, path_id), was_there);
        }
        Step::MarkStale(family) => {
            let all = model.routes.keys();
            model
                .stale
                .extend(all.filter(|place| place.0.family() == family));
            rib.mark_stale(family);
        }
        Step::SweepStale(family) => {
            let before = model.doomed.len();
            let stale = |place: &&(Prefix, u32)| place.0.family() == family;
            model.doomed.extend(model.stale.iter().filter(stale));
            prop_assert_eq!(rib.sweep_stale(family), model.doomed.len() - before);
        }
        Step::SweepOn => {
            // Fewer than a piece.
            rib.sweep_on();
            prop_assert!(!rib.is_sweeping());
            for place in std::mem::take(&mut model.doomed) {
                model.routes.remove(&place);
                model.stale.remove(&place);
            }
        }
        Step::Take | Step::Clear => {}
    }
    Ok(())
}

proptest! {
    #[test]
    fn it_holds_what_a_plain_map_holds_and_tells_every_change(
        steps in proptest::collection::vec(step(), 0..80),
    ) {
        let (mut rib, mut model) = (rib(), Model::default());
        let mut table = Table::new(source());
        for step in steps.into_iter().chain([Step::Take]) {
            match step {
                Step::Take => {
                    if let Some(batch) = rib.take() {
                        prop_assert_eq!(batch.routes, model.routes.len());
                        table = table.changed(source(), batch.changes, batch.pages);
                    }
                    let shown = RouteTable::new([Arc::new(table.clone())]);
                    let shown: Vec<Route> = shown.iter().map(|seen| seen.route()).collect();
                    prop_assert_eq!(shown, model.routes());
                }
                Step::Clear => {
                    rib.clear();
                    model = Model::default();
                    table = Table::new(source());
                }
                Step::Announce(..)
                | Step::Withdraw(..)
                | Step::MarkStale(_)
                | Step::SweepStale(_)
                | Step::SweepOn => apply(&mut rib, &mut model, step)?,
            }
            for family in [Family::Ipv4, Family::Ipv6] {
                let count = model.routes.keys().filter(|p| p.0.family() == family).count();
                prop_assert_eq!(rib.family_len(family), count);
                let stale = model.stale.iter().filter(|p| p.0.family() == family).count();
                prop_assert_eq!(rib.stale.of(family), stale);
            }
            let sets: BTreeSet<_> = model.routes.values().map(|(a, _)| a).collect();
            prop_assert_eq!(rib.sets.len(), sets.len());
            let filtered = model.routes.values().filter(|(_, f)| f.is_some()).count();
            prop_assert_eq!(rib.filtered, filtered);
            let items = model.routes().into_iter().map(|route| route.item());
            prop_assert_eq!(rib.hash, SetHash::of(items));
        }
    }
}

#[test]
fn an_emptied_table_gives_its_memory_back() {
    let mut rib = rib();
    let attributes = Attributes::new("64500".parse().unwrap(), Ipv4Addr::new(192, 0, 2, 1).into());
    let prefix = |n: u32| Prefix::new(Ipv4Addr::from_bits(n << 8).into(), 24).unwrap();
    let held = rib.hold(Packer::default().pack(&attributes)).unwrap();
    (0..100_000).for_each(|n| assert!(rib.announce(&prefix(n), 0, &held, None)));
    rib.release(&held);
    assert_eq!(rib.take().map(|batch| batch.routes), Some(100_000));
    let full = rib.ipv4.capacity();
    (0..99_000).for_each(|n| assert!(rib.withdraw(&prefix(n), 0)));
    assert_eq!(rib.take().map(|batch| batch.withdraws), Some(true));
    assert!(rib.ipv4.capacity() < full / 8, "{}", rib.ipv4.capacity());
    assert_eq!((rib.len(), rib.sets.len(), rib.pending()), (1_000, 1, 0));
}

#[test]
fn a_sweep_goes_in_pieces_and_leaves_what_comes_again_meanwhile() {
    let mut rib = rib();
    let attributes = Attributes::new("64500".parse().unwrap(), Ipv4Addr::new(192, 0, 2, 1).into());
    let prefix = |n: u32| Prefix::new(Ipv4Addr::from_bits(n << 8).into(), 24).unwrap();
    let held = rib.hold(Packer::default().pack(&attributes)).unwrap();
    (0..5_000).for_each(|n| assert!(rib.announce(&prefix(n), 0, &held, None)));
    rib.mark_stale(Family::Ipv4);
    assert_eq!(rib.sweep_stale(Family::Ipv4), 5_000);
    assert_eq!(rib.sweep_stale(Family::Ipv4), 0, "told twice");
    rib.sweep_on();
    assert_eq!((rib.len(), rib.is_sweeping()), (5_000 - SWEEP_ROWS, true));
    // The session fell and came back in the midst: what is fresh is stale only in its turn.
    for n in 0..5_000 {
        rib.announce(&prefix(n), 0, &held, None);
    }
    rib.mark_stale(Family::Ipv4);
    while rib.is_sweeping() {
        rib.sweep_on();
    }
    assert_eq!((rib.len(), rib.stale.of(Family::Ipv4)), (5_000, 5_000));
    assert_eq!(rib.sweep_stale(Family::Ipv4), 5_000);
    rib.sweep_on();
    rib.clear();
    assert!(!rib.is_sweeping() && rib.len() == 0 && rib.stale.of(Family::Ipv4) == 0);
}

#[test]
fn what_a_router_left_behind_counts_half_and_never_for_nothing() {
    let mut rib = rib();
    let attributes = Attributes::new("64500".parse().unwrap(), Ipv4Addr::new(192, 0, 2, 1).into());
    let held = rib.hold(Packer::default().pack(&attributes)).unwrap();
    let prefix: Prefix = "203.0.113.0/24".parse().unwrap();
    // With ADD-PATH the same routes come again under other identifiers.
    (1..=100).for_each(|path| assert!(rib.announce(&prefix, path, &held, None)));
    assert_eq!(rib.family_counted(Family::Ipv4), 100);
    rib.mark_stale(Family::Ipv4);
    assert_eq!(rib.family_counted(Family::Ipv4), 50);
    (101..=200).for_each(|path| assert!(rib.announce(&prefix, path, &held, None)));
    assert_eq!(rib.family_counted(Family::Ipv4), 100);
    // A refresh within a refresh keeps nobody from being counted.
    rib.mark_stale(Family::Ipv4);
    (201..=300).for_each(|path| assert!(rib.announce(&prefix, path, &held, None)));
    assert_eq!(rib.family_counted(Family::Ipv4), 150);
}

#[test]
fn a_route_that_must_not_live_long_goes_when_the_long_time_begins() {
    let mut rib = rib();
    let plain = Attributes::new("64500".parse().unwrap(), Ipv4Addr::new(192, 0, 2, 1).into());
    let barred = Attributes {
        communities: vec!["64500:1".parse().unwrap(), "65535:7".parse().unwrap()],
        ..plain.clone()
    };
    for (n, attributes) in [&plain, &barred, &barred].into_iter().enumerate() {
        let held = rib.hold(Packer::default().pack(attributes)).unwrap();
        let prefix = format!("203.0.113.{n}/32").parse().unwrap();
        rib.announce(&prefix, 0, &held, None);
        rib.release(&held);
    }
    assert_eq!(rib.sweep_not_long_lived(Family::Ipv4), 0, "none is stale");
    rib.mark_stale(Family::Ipv4);
    assert_eq!(rib.sweep_not_long_lived(Family::Ipv4), 2);
    rib.sweep_on();
    assert_eq!((rib.len(), rib.is_sweeping()), (1, false));
}
