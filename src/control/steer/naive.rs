//! Steering said the simple way, over lists, to check the fast way against.
//!
//! Every box, every route, every approval is looked at for each question. Shares with the real one
//! only the hash.

use super::decide::DecidedBy;
use super::decide::Query;
use super::decide::Scratch;
use super::decide::score;
use super::decide::seed;
use super::snapshot::Snapshot;
use super::testing::World;
use super::testing::of_class;
use super::testing::route;
use crate::control::model::Approval;
use crate::control::model::Registry;
use crate::ids::BoxId;
use crate::ids::Profile;
use crate::prefix::Family;
use crate::prefix::Prefix;
use crate::route::Asn;
use crate::route::Class;
use crate::route::Filtered;
use crate::route::Route;
use proptest::collection::vec;
use proptest::prelude::*;
use std::net::IpAddr;
use std::sync::Arc;

/// What can be compared of one place.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    id: BoxId,
    /// Prefix, AS path, MED; `None` at an open site.
    by: Option<(Prefix, u32, u32)>,
    distance: Option<u32>,
    decided_by: DecidedBy,
    against: Option<BoxId>,
}

/// A box on its way to its place.
#[derive(Clone, Debug)]
struct Able {
    id: BoxId,
    site: String,
    by: Option<(Prefix, u32, u32)>,
    distance: u32,
    score: f64,
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and 20,016"
)]
fn haversine(a: (f64, f64), b: (f64, f64)) -> u32 {
    let [from, to] = [a.0, b.0].map(f64::to_radians);
    let half = |x: f64, y: f64| ((y - x).to_radians() / 2.0).sin().powi(2);
    let h = half(a.0, b.0) + from.cos() * to.cos() * half(a.1, b.1);
    (2.0 * 6371.009 * h.sqrt().min(1.0).asin()).round() as u32
}

/// Holders of the longest approved prefix over `prefix`.
fn owners(registry: &Registry, prefix: Prefix) -> Vec<&str> {
    let mut held: Vec<(u8, &str)> = Vec::new();
    for partner in registry.partners.values() {
        for approval in &partner.approvals {
            if let Approval::Prefix(approved) = approval
                && approved.covers(&prefix)
            {
                held.push((approved.length(), &partner.name));
            }
        }
    }
    let longest = held.iter().map(|(length, _)| *length).max();
    held.retain(|(length, _)| Some(*length) == longest);
    held.into_iter().map(|(_, name)| name).collect()
}

fn may_steer(registry: &Registry, partner: &str, route: &Route, client: IpAddr) -> bool {
    if route.filtered.is_some() || route.prefix.is_default() || !route.prefix.contains(client) {
        return false;
    }
    let Some(found) = registry.partners.get(partner) else {
        return false;
    };
    let by_prefix = found.approvals.iter().any(
        |approval| matches!(approval, Approval::Prefix(approved) if approved.covers(&route.prefix)),
    );
    let origin = route.attributes.as_path.origin();
    let by_origin = found
        .approvals
        .iter()
        .any(|approval| matches!(approval, Approval::Origin(asn) if Some(*asn) == origin));
    let is_mine = |prefix| {
        let owners = owners(registry, prefix);
        owners.is_empty() || owners.contains(&partner)
    };
    (by_prefix || by_origin)
        && is_mine(route.prefix)
        && (by_prefix || is_mine(Prefix::host(client)))
}

fn able(world: &World, query: &Query) -> Vec<Able> {
    let mut all = Vec::new();
    for appliance in world.registry.appliances.values() {
        let Some(site) = world.registry.sites.get(&appliance.site) else {
            continue;
        };
        let view = world.view.boxes.get(&appliance.id);
        let Some(view) = view.filter(|view| view.open.is_ok()) else {
            continue;
        };
        let has_family = match query.family {
            None => true,
            Some(Family::Ipv4) => appliance.ipv4.is_some(),
            Some(Family::Ipv6) => appliance.ipv6.is_some(),
        };
        if !has_family || query.bundle.is_some_and(|b| !view.bundles.contains(b)) {
            continue;
        }
        let steering = view
            .routes
            .iter()
            .filter(|route| may_steer(&world.registry, &site.partner, route, query.client));
        let by = steering
            .map(|route| {
                let med = route.attributes.med.unwrap_or(0);
                let med = med.saturating_add(route.class.med_penalty());
                let path = u32::try_from(route.attributes.as_path.length()).unwrap();
                let leaving = u32::from(route.attributes.is_leaving());
                (route.prefix, path + 1_000 * leaving, med)
            })
            .min_by_key(|(prefix, path, med)| (std::cmp::Reverse(prefix.length()), *path, *med));
        let weight = match appliance.profile {
            Profile::Storage => 200.0,
            Profile::Global => 80.0,
            Profile::Flash => 100.0,
        };
        let hash = blake3::hash(appliance.id.as_str().as_bytes());
        let box_seed = u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap());
        all.push(Able {
            id: appliance.id.clone(),
            site: appliance.site.clone(),
            by,
            distance: query.at.map_or(0, |at| {
                let text = at.to_string();
                let (latitude, longitude) = text.split_once(',').unwrap();
                let client = (latitude.parse().unwrap(), longitude.parse().unwrap());
                haversine(client, (site.latitude, site.longitude))
            }),
            score: score(seed(query), box_seed, weight),
        });
    }
    if all.iter().any(|able| able.by.is_some()) {
        all.retain(|able| able.by.is_some());
    } else {
        all.retain(|able| world.registry.sites[&able.site].open);
    }
    all
}

fn steps(able: &Able) -> (i16, u32, u32, u32) {
    let (prefix, path, med) = able
        .by
        .map_or((-1, 0, 0), |(p, a, m)| (i16::from(p.length()), a, m));
    (-prefix, path, med, able.distance)
}

fn decided(winner: &Able, loser: &Able) -> DecidedBy {
    let (a, b) = (steps(winner), steps(loser));
    match () {
        () if a.0 != b.0 => DecidedBy::PrefixLength,
        () if a.1 != b.1 => DecidedBy::AsPath,
        () if a.2 != b.2 => DecidedBy::Med,
        () if a.3 != b.3 => DecidedBy::Distance,
        () => DecidedBy::Hash,
    }
}

fn naive(world: &World, query: &Query) -> Vec<Row> {
    let mut all = able(world, query);
    all.sort_by(|a, b| {
        steps(a)
            .cmp(&steps(b))
            .then(a.score.total_cmp(&b.score))
            .then(a.id.cmp(&b.id))
    });
    let mut rows = Vec::new();
    for (place, winner) in all.iter().enumerate().take(query.answers) {
        let behind = &all[place + 1..];
        let against = behind
            .iter()
            .find(|other| other.site != winner.site)
            .or(behind.first());
        rows.push(Row {
            id: winner.id.clone(),
            by: winner.by,
            distance: query.at.map(|_| winner.distance),
            decided_by: match against {
                Some(loser) => decided(winner, loser),
                None if place == 0 => DecidedBy::OnlyCandidate,
                None => DecidedBy::Last,
            },
            against: against.map(|loser| loser.id.clone()),
        });
    }
    rows
}

fn fast(snapshot: &Snapshot, query: &Query, scratch: &mut Scratch) -> Vec<Row> {
    let choices = snapshot.decide(query, scratch);
    let id = |number| snapshot.machine(number).id.clone();
    choices
        .iter()
        .map(|choice| Row {
            id: id(choice.candidate.number),
            by: choice.candidate.group.map(|group| {
                let (_, best) = snapshot.index.best(&group);
                (best.prefix, best.as_path, best.med)
            }),
            distance: query.at.map(|_| choice.candidate.distance),
            decided_by: choice.decided_by,
            against: choice.against.map(|other| id(other.number)),
        })
        .collect()
}

/// Few addresses, so that prefixes cover each other often.
fn near() -> impl Strategy<Value = Prefix> {
    let ipv4 = (0_u32..16, 22_u8..=32).prop_map(|(low, length)| {
        let address = IpAddr::from((0xC000_0200_u32 | (low << 4)).to_be_bytes());
        Prefix::new(address, length).unwrap()
    });
    let ipv6 = (0_u128..4, 30_u8..=50).prop_map(|(low, length)| {
        let address = IpAddr::from((0x2001_0db8_u128 << 96 | (low << 80)).to_be_bytes());
        Prefix::new(address, length).unwrap()
    });
    let default = Just("0.0.0.0/0".parse().unwrap());
    prop_oneof![10 => ipv4, 4 => ipv6, 1 => default]
}

fn some_route() -> impl Strategy<Value = Route> {
    let path = prop_oneof![
        Just("64500"),
        Just("64501"),
        Just("64500 64501"),
        Just("64501 64502"),
        Just("64500 {64501 64502}"),
        Just(""),
    ];
    let class = prop_oneof![
        Just(Class::Embedded),
        Just(Class::Peering),
        Just(Class::Transit)
    ];
    let med = prop_oneof![Just(0), Just(50), Just(100), Just(u32::MAX)];
    let neighbour = prop_oneof![Just("r1"), Just("r2")];
    (near(), path, class, med, neighbour, 0..12_u8).prop_map(
        |(prefix, path, class, med, neighbour, filtered)| {
            let mut route = of_class(class, route(&prefix.to_string(), neighbour, path, med));
            route.filtered = (filtered == 0).then_some(Filtered::Bogon);
            route
        },
    )
}

fn some_approval() -> impl Strategy<Value = Approval> {
    prop_oneof![
        near().prop_map(Approval::Prefix),
        (64500_u32..64503).prop_map(|asn| Approval::Origin(Asn(asn))),
    ]
}

const PLACES: [(f64, f64); 4] = [
    (43.6291, 1.3638),
    (51.4706, -0.4619),
    (-33.9461, 151.1772),
    (43.6291, 1.3638),
];

/// Of one site: partner, open, routes that all boxes hear, and each box.
type SomeSite = (usize, bool, Vec<Route>, Vec<SomeBox>);

/// Open, bundles 0 and 1 held, has IPv6, extra routes.
type SomeBox = (bool, bool, bool, bool, Vec<Route>);

fn some_world() -> impl Strategy<Value = World> {
    let flag = || prop::bool::weighted(0.8);
    let one_box = (flag(), flag(), flag(), flag(), vec(some_route(), 0..2));
    let site = (
        0..4_usize,
        any::<bool>(),
        vec(some_route(), 0..5),
        vec(one_box, 0..3),
    );
    let approvals = vec(vec(some_approval(), 0..3), 3);
    (approvals, vec(site, 0..5)).prop_map(|(approvals, sites)| world_of(approvals, sites))
}

fn world_of(approvals: Vec<Vec<Approval>>, sites: Vec<SomeSite>) -> World {
    let mut world = World::new();
    world.registry.partners.clear();
    for (name, approvals) in ["a", "b", "c"].into_iter().zip(approvals) {
        world.partner(name, approvals);
    }
    for (place, (partner, open, routes, boxes)) in sites.into_iter().enumerate() {
        // `d` is nobody.
        let partner = ["a", "b", "c", "d"][partner];
        let at = PLACES[place % PLACES.len()];
        let site = world.site(&format!("TLS{place:03}.isp"), partner, at);
        world.registry.sites.get_mut(&site).unwrap().open = open;
        for (one, number) in boxes.into_iter().zip(1..) {
            let (is_open, first, second, ipv6, more) = one;
            let heard = routes.iter().cloned().chain(more).collect();
            let id = world.appliance(number, &site, heard);
            let view = Arc::make_mut(world.view.boxes.get_mut(&id).unwrap());
            if !is_open {
                view.open = Err(crate::control::fleet::Shut::Silent);
            }
            let mut held = crate::control::fleet::Bitmap::default();
            for (bundle, holds) in [(0, first), (1, second)] {
                if holds {
                    held.insert(bundle);
                }
            }
            view.bundles = Arc::new(held);
            let appliance = world.registry.appliances.get_mut(&id).unwrap();
            appliance.ipv6 = appliance.ipv6.filter(|_| ipv6);
            if number == 2 {
                appliance.profile = Profile::Flash;
            }
        }
    }
    world
}

fn some_query() -> impl Strategy<Value = Query> {
    let at = prop_oneof![
        Just(None),
        Just(Some("48.85,2.35".parse().unwrap())),
        Just(Some("-30,150".parse().unwrap())),
    ];
    let family = prop_oneof![3 => Just(None), 1 => Just(Some(Family::Ipv6))];
    let bundle = prop_oneof![Just(None), Just(Some(0)), Just(Some(1)), Just(Some(7))];
    (near(), bundle, 1_usize..6, at, family).prop_map(|(near, bundle, answers, at, family)| Query {
        client: near.address(),
        bundle,
        answers,
        at,
        family,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn the_fast_way_answers_as_the_simple_one(
        world in some_world(),
        queries in vec(some_query(), 1..12),
    ) {
        let snapshot = Snapshot::build(world.inputs(), None);
        let mut scratch = Scratch::default();
        for query in &queries {
            prop_assert_eq!(fast(&snapshot, query, &mut scratch), naive(&world, query));
        }
    }

    #[test]
    fn a_snapshot_grown_from_another_answers_as_one_from_nothing(
        worlds in vec(some_world(), 2..4),
        shut in any::<bool>(),
        query in some_query(),
    ) {
        let mut scratch = Scratch::default();
        let mut snapshot = Snapshot::empty();
        for mut world in worlds {
            snapshot = Snapshot::build(world.inputs(), Some(&snapshot));
            prop_assert_eq!(fast(&snapshot, &query, &mut scratch), naive(&world, &query));
            // The same routes, other states: the index is taken over.
            let mut inputs = world.inputs();
            if let (true, Some(id)) = (shut, world.view.boxes.keys().next().cloned()) {
                world.shut(&id, crate::control::fleet::Shut::Silent);
            }
            inputs.view = Arc::new(world.view.clone());
            let next = Snapshot::build(inputs, Some(&snapshot));
            prop_assert!(Arc::ptr_eq(&next.index, &snapshot.index));
            prop_assert_eq!(fast(&next, &query, &mut scratch), naive(&world, &query));
            snapshot = next;
        }
    }
}
