//! What the desk offers to whom, and when.

use super::complaints::Problem;
use super::desk::Desk;
use super::desk::Offers;
use super::desk::Plan;
use super::desk::Wanted;
use super::stage::Stage;
use super::testing::Yard;
use super::testing::library;
use crate::clock;
use crate::clock::Instant;
use crate::control::fleet::Shut;
use crate::control::model::FillCluster;
use crate::control::steer::testing::route;
use crate::link::message::SourceKind;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

fn wanted(objects: Range<u32>) -> Vec<Wanted> {
    let length = 1_000_000;
    objects.map(|object| Wanted { object, length }).collect()
}

fn ask(desk: &mut Desk, stage: &Stage, asker: u32, objects: Range<u32>, now: Instant) -> Plan {
    desk.plan(stage, asker, &wanted(objects), now)
}

/// Places of the boxes that may be asked at once.
fn usable(offers: &Offers) -> Vec<u32> {
    let boxes = offers.boxes.iter();
    boxes
        .filter(|offer| offer.not_before.is_zero())
        .map(|offer| offer.place)
        .collect()
}

fn goes_to_origin(offers: &Offers) -> bool {
    offers.origin == Some(Duration::ZERO)
}

/// Who of the region is sent to the origin for the first object.
fn masters(desk: &mut Desk, stage: &Stage, now: Instant) -> Vec<u32> {
    let boxes = 0..u32::try_from(stage.seats.len()).unwrap();
    boxes
        .filter(|asker| goes_to_origin(&ask(desk, stage, *asker, 0..1, now).objects[0]))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn as_many_boxes_as_there_are_masters_go_to_the_origin_and_the_others_wait() {
    let mut yard = Yard::new(12, 3);
    let now = clock::now();
    for count in 1..=3 {
        yard.policy().masters = count;
        let stage = yard.stage();
        let mut desk = Desk::default();
        let first = masters(&mut desk, &stage, now);
        assert_eq!(first.len(), usize::try_from(count).unwrap());
        let again = masters(&mut desk, &stage, now + MINUTE / 2);
        assert_eq!(again, first, "the same ones");
        let other = u32::from(first[0] == 0);
        let offers = &ask(&mut desk, &stage, other, 0..1, now).objects[0];
        if !first.contains(&other) {
            assert_eq!(offers.origin, Some(60 * MINUTE));
            assert_eq!(offers.boxes.len(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_master_that_dies_or_does_not_come_is_replaced() {
    let mut yard = Yard::new(12, 3);
    let now = clock::now();
    let stage = yard.stage();
    let mut desk = Desk::default();
    let first = masters(&mut desk, &stage, now)[0];
    yard.kill(usize::try_from(first).unwrap());
    let second = masters(&mut desk, &yard.stage(), now);
    assert_eq!(second.len(), 2, "the dead one may ask, and somebody alive");
    let mut desk = Desk::default();
    let stage = Yard::new(12, 3).stage();
    let others: Vec<u32> = (0..12).filter(|place| *place != first).collect();
    let round = |desk: &mut Desk, at| {
        let mut origin = others
            .iter()
            .filter(|asker| goes_to_origin(&ask(desk, &stage, **asker, 0..1, at).objects[0]));
        origin.next().copied()
    };
    assert_eq!(round(&mut desk, now), None, "the elected one is waited for");
    assert_eq!(round(&mut desk, now + MINUTE / 2), None);
    let reserve = round(&mut desk, now + MINUTE);
    assert!(reserve.is_some());
    assert_eq!(round(&mut desk, now + MINUTE + MINUTE / 2), reserve);
}

#[tokio::test(start_paused = true)]
async fn a_box_alone_in_its_region_is_the_master_of_everything() {
    let mut yard = Yard::new(2, 2);
    yard.kill(1);
    yard.fill(0, |fill| fill.gives = false);
    let plan = ask(&mut Desk::default(), &yard.stage(), 0, 0..256, clock::now());
    assert!(plan.objects.iter().all(goes_to_origin));
    assert_eq!(plan.objects.len(), 256);
}

#[tokio::test(start_paused = true)]
async fn peers_come_at_once_the_network_after_its_wait_and_the_origin_last() {
    let mut yard = Yard::new(6, 2);
    // 0, 2 and 4 are of one cluster, 1, 3 and 5 of the other.
    yard.hold(2, 0..1);
    yard.hold(1, 0..2);
    let stage = yard.stage();
    let mut desk = Desk::default();
    let start = clock::now();
    for asker in [0, 2, 3, 4, 5] {
        let plan = ask(&mut desk, &stage, asker, 1..2, start);
        let origin = goes_to_origin(&plan.objects[0]);
        assert!(!origin, "somebody of the region has it: {asker}");
    }
    let plan = ask(&mut desk, &stage, 0, 0..2, start);
    assert_eq!(usable(&plan.objects[0])[0], 2, "the peer");
    let far = &plan.objects[1];
    assert!(usable(far).is_empty(), "in another cluster");
    let asker = 0;
    let at = |desk: &mut Desk, wait| {
        let mut plan = ask(desk, &stage, asker, 1..2, start + wait);
        plan.objects.remove(0)
    };
    let early = at(&mut desk, MINUTE);
    assert!(usable(&early).is_empty());
    assert_eq!(early.boxes[0].kind, SourceKind::Network);
    assert_eq!(early.boxes[0].not_before, 29 * MINUTE);
    assert_eq!(early.origin, Some(59 * MINUTE));
    assert_eq!(usable(&at(&mut desk, 30 * MINUTE)), [1]);
    assert_eq!(at(&mut desk, 59 * MINUTE).origin, Some(MINUTE));
    assert!(goes_to_origin(&at(&mut desk, 60 * MINUTE)));
    yard.policy().escalation.origin_wait = None;
    yard.policy().escalation.network_wait = None;
    let stage = yard.stage();
    let plan = ask(&mut desk, &stage, asker, 1..2, start + 600 * MINUTE);
    let offers = &plan.objects[0];
    assert!(
        offers.boxes.is_empty() && offers.origin.is_none(),
        "{offers:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn tier_needs_routes_both_ways_and_its_wait() {
    let mut yard = Yard::new(2, 2);
    yard.policy().escalation.hops_wait = MINUTE;
    yard.hold(1, 0..1);
    yard.change(0, |view| {
        view.routes = [route("192.0.2.0/24", "r", "64500", 0)].into();
    });
    let now = clock::now();
    let kind = |yard: &Yard, desk: &mut Desk| {
        // Its own region's master may go anywhere at once: the other is master here.
        let plan = ask(desk, &yard.stage(), 0, 0..1, now);
        let offer = &plan.objects[0].boxes[0];
        (offer.kind, offer.not_before)
    };
    yard.fill(0, |fill| fill.gives = false);
    let one_way = kind(&yard, &mut Desk::default());
    assert_eq!(one_way, (SourceKind::Network, 30 * MINUTE));
    yard.change(1, |view| {
        view.routes = [route("192.0.2.0/24", "r", "64500 64501", 0)].into();
    });
    let both = kind(&yard, &mut Desk::default());
    assert_eq!(both, (SourceKind::Tier, MINUTE));
}

#[tokio::test(start_paused = true)]
async fn only_boxes_that_are_alive_and_give_are_offered() {
    let mut yard = Yard::new(8, 1);
    (1..8).for_each(|number| yard.hold(number, 0..1));
    yard.change(1, |view| {
        view.open = Err(Shut::Gate("closed: drained".to_owned()))
    });
    yard.change(2, |view| view.open = Err(Shut::Stale));
    yard.change(3, |view| view.open = Err(Shut::Quarantined));
    yard.fill(4, |fill| fill.gives = false);
    yard.change(5, |view| {
        view.open = Err(Shut::NotEnabled);
        view.last_report = Some("2029-12-31T23:50:00Z".to_owned());
        view.last_heartbeat = Some("2029-12-31T23:59:50Z".to_owned());
    });
    yard.change(6, |view| {
        view.open = Err(Shut::NotEnabled);
        view.last_report = Some("2029-12-31T23:50:00Z".to_owned());
    });
    let id = yard.ids[7].clone();
    yard.registry.appliances.get_mut(&id).unwrap().ipv4 = None;
    let plan = ask(&mut Desk::default(), &yard.stage(), 0, 0..1, clock::now());
    let mut offered = usable(&plan.objects[0]);
    offered.sort_unstable();
    assert_eq!(offered, [1, 5], "drained, and being filled before shipping");
}

#[tokio::test(start_paused = true)]
async fn no_more_than_four_are_named_and_the_objects_spread_over_them() {
    let mut yard = Yard::new(9, 1);
    (1..9).for_each(|number| yard.hold(number, 0..256));
    let mut desk = Desk::default();
    let plan = ask(&mut desk, &yard.stage(), 0, 0..256, clock::now());
    assert!(plan.objects.iter().all(|offers| usable(offers).len() == 4));
    let first: Vec<u32> = plan
        .objects
        .iter()
        .map(|offers| usable(offers)[0])
        .collect();
    for place in 1..9 {
        let share = first.iter().filter(|first| **first == place).count();
        assert!((8..=100).contains(&share), "{place}: {share}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_has_no_more_than_its_askers_and_bytes_on_the_way_count() {
    let mut yard = Yard::new(40, 1);
    yard.hold(0, 0..256);
    let stage = yard.stage();
    let mut desk = Desk::default();
    let now = clock::now();
    let is_given = |desk: &mut Desk, asker| {
        let plan = ask(desk, &stage, asker, 0..256, now);
        let given = !usable(&plan.objects[0]).is_empty();
        assert_eq!(plan.objects[0].are_busy, !given);
        given
    };
    let given = (1..40).filter(|asker| is_given(&mut desk, *asker)).count();
    assert_eq!(given, 32);
    assert!(is_given(&mut desk, 1), "who has a grant keeps it");
    assert!(!is_given(&mut desk, 39));
    let later = now + Duration::from_secs(600);
    let plan = ask(&mut desk, &stage, 39, 0..256, later);
    assert_eq!(usable(&plan.objects[0]), [0], "grants end");
    yard.hold(38, 0..256);
    let plan = ask(&mut desk, &yard.stage(), 1, 0..1, later);
    assert_eq!(
        usable(&plan.objects[0]),
        [38, 0],
        "the one with nothing to do"
    );
}

#[tokio::test(start_paused = true)]
async fn who_got_wrong_bytes_is_not_sent_there_again_and_others_are_sent_there_last() {
    let mut yard = Yard::new(6, 1);
    (1..4).for_each(|number| yard.hold(number, 0..2));
    let stage = yard.stage();
    let mut desk = Desk::default();
    let now = clock::now();
    let who = |place: u32| stage.seat(place).unwrap().who;
    desk.complaints
        .take(now, (who(0), who(2), 0), Problem::WrongBytes);
    let offered = |desk: &mut Desk, asker, at| -> Vec<Vec<u32>> {
        let plan = ask(desk, &stage, asker, 0..2, at);
        plan.objects.iter().map(usable).collect()
    };
    let own = offered(&mut desk, 0, now);
    assert!(!own[0].contains(&2) && own[0].len() == 2, "{own:?}");
    assert_eq!(own[1].last(), Some(&2));
    let others = offered(&mut desk, 5, now);
    assert!(
        others.iter().all(|list| list.last() == Some(&2)),
        "{others:?}"
    );
    let later = offered(&mut desk, 0, now + super::complaints::WRONG_BYTES);
    assert!(later[0].contains(&2), "{later:?}");
}

#[tokio::test(start_paused = true)]
async fn a_master_whose_only_source_lies_goes_to_the_origin() {
    let mut yard = Yard::new(2, 1);
    yard.hold(1, 0..1);
    yard.fill(1, |fill| fill.window_open = false);
    let stage = yard.stage();
    let mut desk = Desk::default();
    let now = clock::now();
    let plan = ask(&mut desk, &stage, 0, 0..1, now);
    assert!(!goes_to_origin(&plan.objects[0]), "a peer has it");
    let who = |place: u32| stage.seat(place).unwrap().who;
    let key = (who(0), who(1), 0);
    desk.complaints.take(now, key, Problem::WrongBytes);
    let plan = ask(&mut desk, &stage, 0, 0..1, now + 60 * MINUTE);
    assert!(goes_to_origin(&plan.objects[0]), "its time has come");
}

#[tokio::test(start_paused = true)]
async fn masters_are_elected_by_title_so_that_titles_spread() {
    let mut yard = Yard::new(4, 2);
    let names: Vec<String> = (0..64).map(|title| format!("title{title}/hd")).collect();
    let rows = (0..64).zip(&names);
    let bundles: Vec<_> = rows
        .map(|(number, name)| (name.as_str(), number..number + 1))
        .collect();
    yard.library = library(&bundles);
    let stage = yard.stage();
    let mut desk = Desk::default();
    let now = clock::now();
    let mut shares = Vec::new();
    for asker in 0..4 {
        let plan = ask(&mut desk, &stage, asker, 0..64, now);
        shares.push(plan.objects.iter().filter(|o| goes_to_origin(o)).count());
    }
    assert_eq!(
        shares.iter().sum::<usize>(),
        64,
        "each title has one master"
    );
    assert!(shares.iter().all(|share| *share > 4), "{shares:?}");
}

#[tokio::test(start_paused = true)]
async fn regions_wait_and_elect_for_themselves() {
    let mut yard = Yard::new(8, 2);
    let other = FillCluster::named("far");
    yard.registry
        .fill_clusters
        .insert(other.name.clone(), other);
    yard.registry
        .clusters
        .get_mut("cluster1")
        .unwrap()
        .fill_cluster = "far".to_owned();
    let now = clock::now();
    let first = masters(&mut Desk::default(), &yard.stage(), now);
    let regions: BTreeSet<u32> = first.iter().map(|place| place % 2).collect();
    assert_eq!((first.len(), regions.len()), (2, 2), "{first:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn nobody_is_offered_anything_before_its_time_or_from_where_it_is_not(
        holds in proptest::collection::vec((0_usize..12, 0_u32..16, 1_u32..16), 0..12),
        dead in proptest::collection::vec(0_usize..12, 0..4),
        waits in proptest::collection::vec(0_u64..7_200, 1..12),
        policy in (1_u32..3, 0_u64..600, 0_u64..3_600, 0_u64..7_200),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let _guard = runtime.enter();
        let mut yard = Yard::new(12, 3);
        let (count, hops, network, origin) = policy;
        let (tier, net, last) = (
            Duration::from_secs(hops), Duration::from_secs(network), Duration::from_secs(origin),
        );
        yard.policy().masters = count;
        yard.policy().escalation.hops_wait = tier;
        yard.policy().escalation.network_wait = Some(net);
        yard.policy().escalation.origin_wait = Some(last);
        for (number, first, more) in holds {
            yard.hold(number, first..first + more);
        }
        dead.iter().for_each(|number| yard.kill(*number));
        let stage = yard.stage();
        let mut desk = Desk::default();
        let start = clock::now();
        let mut times: Vec<u64> = waits;
        times[0] = 0;
        times.sort_unstable();
        for (turn, seconds) in (0_u32..).zip(times) {
            let asker = turn * 5 % 12;
            let waited = Duration::from_secs(seconds);
            let plan = ask(&mut desk, &stage, asker, 0..16, start + waited);
            let mut at_origin = 0;
            for (object, offers) in (0_u32..).zip(&plan.objects) {
                prop_assert!(usable(offers).len() <= 4);
                for offer in &offers.boxes {
                    let seat = stage.seat(offer.place).unwrap();
                    prop_assert!(offer.place != asker && seat.known.contains(object));
                    prop_assert!(seat.alive.is_ok() && !offer.addresses.is_empty());
                }
                at_origin += usize::from(goes_to_origin(offers));
                if let Some(later) = offers.origin.filter(|later| !later.is_zero()) {
                    prop_assert_eq!(waited + later, last);
                }
                let far = offers.boxes.iter().filter(|o| o.kind == SourceKind::Network);
                for offer in far.filter(|offer| !offer.not_before.is_zero()) {
                    prop_assert_eq!(waited + offer.not_before, net);
                }
            }
            let region = stage.regions[0].key;
            for object in 0..16 {
                let leased = desk.asked.leased(start + waited, region, object, |_| true);
                prop_assert!(waited >= last || leased.len() <= usize::try_from(count).unwrap()
                    + dead.len());
            }
            prop_assert!(at_origin <= 16);
        }
    }
}

/// Objects that take a while.
fn large(desk: &mut Desk, stage: &Stage, asker: u32, now: Instant) -> Plan {
    let length = 1 << 30;
    let wanted = [Wanted { object: 0, length }];
    desk.plan(stage, asker, &wanted, now)
}

#[tokio::test(start_paused = true)]
async fn a_large_object_may_be_had_from_the_master_that_is_fetching_it_and_a_small_one_not() {
    let mut yard = Yard::new(4, 1);
    let now = clock::now();
    let stage = yard.stage();
    let mut desk = Desk::default();
    let master = masters(&mut desk, &stage, now)[0];
    let others: Vec<u32> = (0..4).filter(|place| *place != master).collect();
    for other in &others {
        let plan = large(&mut desk, &stage, *other, now);
        let offers = &plan.objects[0];
        assert_eq!(usable(offers), [master]);
        let load = desk.loads.of(stage.seat(master).unwrap().who);
        assert_eq!((load.bytes, load.askers), (1 << 30, 1), "it counts");
        assert!(offers.boxes[0].is_unfinished && !offers.is_usable());
        assert_eq!(offers.boxes[0].kind, SourceKind::Peer);
        assert!(plan.is_master_at_work, "it may be told again soon");
        assert_eq!(offers.origin, Some(60 * MINUTE), "the origin gives no more");
        let small = &ask(&mut desk, &stage, *other, 0..1, now).objects[0];
        assert_eq!(small.boxes.len(), 0);
    }
    let own = &large(&mut desk, &stage, master, now).objects[0];
    assert!(own.boxes.is_empty() && goes_to_origin(own));
    // Whoever has it whole is better, and a dead master gives nothing.
    let holder = usize::try_from(others[0]).unwrap();
    yard.hold(holder, 0..1);
    let offers = &large(&mut desk, &yard.stage(), others[1], now).objects[0];
    assert_eq!(usable(offers), [others[0]]);
    assert!(!offers.boxes[0].is_unfinished);
    yard.hold(holder, 0..0);
    yard.kill(usize::try_from(master).unwrap());
    let offers = &large(&mut desk, &yard.stage(), others[1], now).objects[0];
    assert!(offers.boxes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_master_in_another_cluster_is_asked_for_what_it_has_when_its_kind_may_be() {
    let yard = Yard::new(4, 4);
    let now = clock::now();
    let stage = yard.stage();
    let mut desk = Desk::default();
    let master = masters(&mut desk, &stage, now)[0];
    let other = u32::from(master == 0);
    let offers = |desk: &mut Desk, at| {
        let plan = large(desk, &stage, other, at);
        usable(&plan.objects[0])
    };
    assert!(
        offers(&mut desk, now).is_empty(),
        "the network has its wait"
    );
    let wait = FillCluster::named("x").escalation.network_wait.unwrap();
    // It is at work still.
    ask(&mut desk, &stage, master, 0..1, now + wait / 2);
    ask(&mut desk, &stage, master, 0..1, now + wait);
    assert_eq!(offers(&mut desk, now + wait), [master]);
}
