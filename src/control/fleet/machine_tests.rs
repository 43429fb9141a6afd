//! The machine: reports whole or not at all, one life a box, and a view that changes only when
//! something did.

use super::*;
use crate::clock;
use crate::control::fleet::Shut;
use crate::control::fleet::fixtures;
use crate::control::fleet::fixtures::BOOT_A;
use crate::control::fleet::fixtures::BOOT_B;
use crate::control::fleet::fixtures::Sim;
use crate::control::fleet::fixtures::digest;
use crate::control::fleet::fixtures::id;
use crate::control::fleet::fixtures::library;
use crate::control::fleet::fixtures::registry;
use crate::control::orders;
use crate::control::steer::testing::World;
use crate::link::manifest::Signer;
use crate::link::message::Delivery;
use crate::link::message::NetworkDelivery;
use crate::link::message::QUALITY_NETWORKS_MAX;
use crate::link::message::Quality;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Two boxes, two bundles of two objects each: 0 and 1, 2 and 3.
struct Lab {
    fleet: Fleet,
    now: Instant,
    wall: Wall,
    registry: Registry,
}

impl Lab {
    fn new(boxes: usize) -> Self {
        let now = clock::now();
        let mut fleet = Fleet::new(now, fixtures::config(), Arc::default());
        let registry = registry(boxes);
        fleet.registry(Arc::new(registry.clone()));
        fleet.library(Arc::new(library(&[&[0, 1], &[2, 3]])));
        Self {
            fleet,
            now,
            wall: fixtures::wall(),
            registry,
        }
    }

    fn report(&mut self, sim: &Sim) -> Result<ReportReply, Refused> {
        self.fleet
            .report(self.now, self.wall, &sim.id, sim.report())
    }

    fn beat(&mut self, sim: &Sim, sequence: u64) -> Result<HeartbeatReply, Refused> {
        let beat = sim.heartbeat(sequence);
        self.fleet.heartbeat(self.now, self.wall, &sim.id, beat)
    }

    fn open(&mut self, number: usize) -> Result<(), Shut> {
        self.fleet.view().boxes[&id(number)].open.clone()
    }

    fn bundles(&mut self, number: usize) -> Vec<u32> {
        let view = self.fleet.view();
        let bundles = Arc::clone(&view.boxes[&id(number)].bundles);
        (0..100).filter(|n| bundles.contains(*n)).collect()
    }

    fn change(&mut self, number: usize, change: impl FnOnce(&mut Appliance)) {
        change(self.registry.appliances.get_mut(&id(number)).unwrap());
        self.registry.revision += 1;
        self.fleet.registry(Arc::new(self.registry.clone()));
    }

    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            self.fleet.tick(self.now);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_box_is_unknown_until_its_report_and_then_steps_from_there() {
    let mut lab = Lab::new(2);
    let mut sim = Sim::new(0, BOOT_A);
    assert_eq!(lab.open(0), Err(Shut::Unknown));
    let beat = lab.beat(&sim, 1).unwrap();
    assert!(beat.orders.report_now, "nothing is known of it");
    assert_eq!(lab.open(0), Err(Shut::Unknown), "a heartbeat is no report");
    sim.hold([0, 1, 2]);
    let reply = lab.report(&sim).unwrap();
    assert_eq!(lab.open(0), Ok(()));
    assert_eq!(lab.bundles(0), [0]);
    assert!(reply.orders.enabled && reply.orders.lease_s == 1_800);
    sim.acknowledge(&reply);
    sim.hold([0, 2, 3, 77]);
    let reply = lab.report(&sim).unwrap();
    assert_eq!(lab.bundles(0), [1]);
    assert_eq!(lab.fleet.view().boxes[&id(0)].objects, 4);
    sim.acknowledge(&reply);
    let generation = lab.fleet.view().generation;
    sim.sequence += 1;
    let same = lab.report(&sim).unwrap();
    assert_eq!(
        same.acked, reply.acked,
        "an empty step at the acknowledged position"
    );
    assert_eq!(lab.fleet.view().generation, generation, "nothing to notice");
}

#[tokio::test(start_paused = true)]
async fn a_repeated_report_is_answered_again_and_an_older_one_changes_nothing() {
    let mut lab = Lab::new(1);
    let mut sim = Sim::new(0, BOOT_A);
    sim.hold([0, 1]);
    let old = sim.clone();
    let first = lab.report(&sim).unwrap();
    assert_eq!(lab.report(&sim).unwrap(), first);
    sim.acknowledge(&first);
    sim.hold([2, 3]);
    let second = lab.report(&sim).unwrap();
    assert_eq!(lab.report(&old).unwrap().acked, second.acked);
    assert_eq!(lab.bundles(0), [1]);
    assert_eq!(lab.fleet.counters.reports(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_report_that_is_wrong_in_one_set_changes_neither() {
    let mut lab = Lab::new(1);
    let mut sim = Sim::new(0, BOOT_A);
    sim.hold([0, 1]);
    sim.announce([24]);
    let reply = lab.report(&sim).unwrap();
    sim.acknowledge(&reply);
    sim.hold([2, 3]);
    sim.announce([24, 25]);
    let mut report = sim.report();
    report.routes.digest = digest(9);
    report.gate = fixtures::closed();
    let refused = lab
        .fleet
        .report(lab.now, lab.wall, &id(0), report)
        .unwrap_err();
    assert_eq!(refused.code, Code::WrongDigest);
    assert_eq!(lab.bundles(0), [0]);
    assert_eq!(lab.open(0), Ok(()), "its gate is not taken either");
    assert_eq!(lab.fleet.view().boxes[&id(0)].routes.len(), 1);
    assert_eq!(lab.fleet.counters.refused(Code::WrongDigest), 1);
    let mut report = sim.report();
    report.catalogue.from += 1;
    report.catalogue.to += 1;
    let refused = lab
        .fleet
        .report(lab.now, lab.wall, &id(0), report)
        .unwrap_err();
    assert_eq!(refused.code, Code::WrongPosition);
    // The same sequence, put right, is welcome.
    assert!(lab.report(&sim).is_ok());
    assert_eq!(lab.bundles(0), [1]);
}

#[tokio::test(start_paused = true)]
async fn forms_that_the_contract_does_not_know_are_refused() {
    let mut lab = Lab::new(1);
    let sim = Sim::new(0, BOOT_A);
    let broken: [fn(&mut Report); 7] = [
        |report| report.v = 2,
        |report| report.boot_id = "x".repeat(32),
        |report| report.boot_id.truncate(31),
        |report| report.sequence = 0,
        |report| report.gate.state = "ajar".to_owned(),
        |report| report.gate.state = "closed".to_owned(),
        |report| report.version = "9".repeat(2_000),
    ];
    for change in broken {
        let mut report = sim.report();
        change(&mut report);
        let refused = lab
            .fleet
            .report(lab.now, lab.wall, &id(0), report)
            .unwrap_err();
        assert!(
            matches!(refused.code, Code::BadRequest | Code::TooLarge),
            "{refused}"
        );
    }
    assert_eq!(lab.open(0), Err(Shut::Unknown));
    let stranger = Sim::new(7, BOOT_A);
    assert_eq!(lab.report(&stranger).unwrap_err().code, Code::Identity);
}

#[tokio::test(start_paused = true)]
async fn a_restart_is_fine_and_a_clone_is_quarantined_until_it_is_replaced() {
    let mut lab = Lab::new(1);
    let (one, two) = (Sim::new(0, BOOT_A), Sim::new(0, BOOT_B));
    lab.report(&one).unwrap();
    lab.pass(5);
    lab.beat(&two, 1).unwrap();
    assert!(lab.beat(&two, 2).is_ok());
    assert_eq!(lab.open(0), Ok(()), "a restart");
    lab.pass(5);
    let refused = lab.beat(&one, 9).unwrap_err();
    assert_eq!(refused.code, Code::Quarantined);
    assert_eq!(
        lab.beat(&two, 3).unwrap_err().code,
        Code::Quarantined,
        "both are"
    );
    assert_eq!(lab.open(0), Err(Shut::Quarantined));
    let Action::Quarantine { id: told, reason } = lab.fleet.actions().remove(0);
    assert_eq!(told, id(0));
    lab.pass(59);
    assert_eq!(lab.fleet.actions(), []);
    lab.pass(1);
    assert_eq!(
        lab.fleet.actions().len(),
        1,
        "the store has not kept it yet"
    );
    lab.change(0, |appliance| appliance.quarantined = Some(reason));
    lab.pass(61);
    assert_eq!(lab.fleet.actions(), []);
    assert_eq!(lab.beat(&two, 4).unwrap_err().code, Code::Quarantined);
    lab.change(0, |appliance| appliance.quarantined = None);
    assert_eq!(lab.open(0), Err(Shut::Unknown), "it starts over");
    assert!(lab.report(&one).is_ok());
    assert_eq!(lab.open(0), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_report_that_was_on_its_way_during_a_restart_is_no_clone() {
    let mut lab = Lab::new(1);
    let (old, new) = (Sim::new(0, BOOT_A), Sim::new(0, BOOT_B));
    lab.beat(&old, 1).unwrap();
    let late = Prepared::new(old.report(), &lab.fleet.library, lab.now).unwrap();
    lab.pass(1);
    lab.report(&new).unwrap();
    let refused = lab
        .fleet
        .report_prepared(lab.now, lab.wall, &id(0), late)
        .unwrap_err();
    assert_eq!(refused.code, Code::BadRequest);
    assert_eq!(lab.open(0), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn the_operator_decides_who_serves_and_for_how_long_at_a_time() {
    let mut lab = Lab::new(1);
    let sim = Sim::new(0, BOOT_A);
    lab.report(&sim).unwrap();
    lab.change(0, |appliance| appliance.enabled = false);
    assert_eq!(lab.open(0), Err(Shut::NotEnabled));
    let orders = lab.beat(&sim, 1).unwrap().orders;
    assert_eq!((orders.enabled, orders.lease_s), (false, 0));
    lab.change(0, |appliance| appliance.enabled = true);
    assert_eq!(lab.open(0), Err(Shut::Silent), "not heard since");
    let ends = lab
        .wall
        .checked_add(Duration::from_secs(6 * 24 * 3600))
        .unwrap();
    lab.change(0, |appliance| appliance.certificate_ends = Some(ends));
    let orders = lab.beat(&sim, 2).unwrap().orders;
    assert_eq!(
        (orders.enabled, orders.lease_s, orders.renew),
        (true, 1_800, true)
    );
    assert_eq!(lab.open(0), Ok(()));
    let position = Position {
        epoch: 3,
        generation: 4,
    };
    lab.fleet.manifests([(id(0), position)].into());
    assert_eq!(lab.beat(&sim, 3).unwrap().orders.manifest, Some(position));
    lab.change(0, |appliance| appliance.revoked = true);
    assert_eq!(lab.open(0), Err(Shut::Revoked));
    assert_eq!(lab.beat(&sim, 4).unwrap_err().code, Code::Identity);
    lab.registry.appliances.clear();
    lab.fleet.registry(Arc::new(lab.registry.clone()));
    assert!(lab.fleet.view().boxes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_closed_gate_is_seen_at_once_and_heartbeats_alone_rebuild_nothing() {
    let mut lab = Lab::new(2);
    let (one, two) = (Sim::new(0, BOOT_A), Sim::new(1, BOOT_A));
    lab.report(&one).unwrap();
    lab.report(&two).unwrap();
    lab.beat(&one, 1).unwrap();
    let before = lab.fleet.view();
    lab.pass(1);
    let mut beat = one.heartbeat(2);
    beat.load.connections = 99;
    lab.fleet
        .heartbeat(lab.now, lab.wall, &id(0), beat)
        .unwrap();
    assert!(Arc::ptr_eq(&before, &lab.fleet.view()));
    let fresh = lab.fleet.refreshed_view();
    assert_eq!(fresh.generation, before.generation);
    assert_eq!(fresh.boxes[&id(0)].load.connections, 99);
    let mut beat = one.heartbeat(3);
    beat.gate = fixtures::closed();
    lab.fleet
        .heartbeat(lab.now, lab.wall, &id(0), beat)
        .unwrap();
    assert_eq!(lab.open(0), Err(Shut::Gate("closed: drained".to_owned())));
    let after = lab.fleet.view();
    assert_eq!(after.generation, before.generation + 1);
    assert!(
        Arc::ptr_eq(&after.boxes[&id(1)], &before.boxes[&id(1)]),
        "reused"
    );
}

#[tokio::test(start_paused = true)]
async fn the_busiest_networks_of_the_last_report_are_kept_and_too_many_are_refused() {
    let mut lab = Lab::new(1);
    let mut sim = Sim::new(0, BOOT_A);
    let row = |number: usize| NetworkDelivery {
        prefix: format!("10.{}.{}.0/24", number / 256, number % 256)
            .parse()
            .unwrap(),
        delivery: Delivery::default(),
    };
    let quality = |rows| {
        Some(Quality {
            networks: 999,
            rows: (0..rows).map(row).collect(),
            ..Quality::default()
        })
    };
    let mut told = |lab: &mut Lab, quality| {
        let mut report = sim.report();
        report.quality = quality;
        sim.sequence += 1;
        lab.fleet.report(lab.now, lab.wall, &id(0), report)
    };
    told(&mut lab, quality(QUALITY_NETWORKS_MAX)).unwrap();
    let view = lab.fleet.refreshed_view();
    let kept = view.boxes[&id(0)].quality.clone().unwrap();
    assert_eq!((kept.networks, kept.rows.len()), (999, 64));
    assert_eq!(kept.rows[1].prefix.to_string(), "10.0.1.0/24");
    let refused = told(&mut lab, quality(QUALITY_NETWORKS_MAX + 1)).unwrap_err();
    assert_eq!(refused.code, Code::TooLarge);
    told(&mut lab, None).unwrap();
    let view = lab.fleet.refreshed_view();
    assert_eq!(view.boxes[&id(0)].quality, None);
}

#[tokio::test(start_paused = true)]
async fn a_silent_box_leaves_and_returns_with_its_next_word() {
    let mut lab = Lab::new(3);
    let sims: Vec<Sim> = (0..3).map(|number| Sim::new(number, BOOT_A)).collect();
    for sim in &sims {
        lab.report(sim).unwrap();
    }
    for beat in 1..4 {
        lab.pass(9);
        lab.beat(&sims[0], beat).unwrap();
        lab.beat(&sims[2], beat).unwrap();
    }
    assert_eq!(lab.open(1), Err(Shut::Silent));
    assert_eq!((lab.open(0), lab.open(2)), (Ok(()), Ok(())));
    lab.beat(&sims[1], 1).unwrap();
    assert_eq!(lab.open(1), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_full_sets_are_asked_for_a_few_at_a_time() {
    let mut lab = Lab::new(200);
    let sims: Vec<Sim> = (0..200).map(|number| Sim::new(number, BOOT_A)).collect();
    let asked: Vec<&Sim> = sims
        .iter()
        .filter(|sim| lab.beat(sim, 1).unwrap().orders.report_now)
        .collect();
    assert_eq!(asked.len(), 32);
    // A step from a position that this life of ours never saw waits for its turn as well.
    let mut behind = Sim::new(150, BOOT_A);
    behind.acknowledge_own();
    behind.hold([0]);
    let refused = lab.report(&behind).unwrap_err();
    assert_eq!(refused.code, Code::Busy);
    assert!(refused.retry_after.unwrap() >= Duration::from_secs(15));
    lab.report(asked[0]).unwrap();
    assert_eq!(
        lab.report(&behind).unwrap_err().code,
        Code::WrongPosition,
        "its turn"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_imported_later_is_found_in_what_boxes_hold_already() {
    let mut lab = Lab::new(2);
    let (mut one, mut two) = (Sim::new(0, BOOT_A), Sim::new(1, BOOT_A));
    one.hold([0, 1, 4, 5]);
    two.hold([0, 1, 4, 5]);
    lab.report(&one).unwrap();
    lab.report(&two).unwrap();
    let view = lab.fleet.view();
    let (a, b) = (&view.boxes[&id(0)], &view.boxes[&id(1)]);
    assert!(
        Arc::ptr_eq(&a.bundles, &b.bundles),
        "equal sets are kept once"
    );
    lab.fleet
        .library(Arc::new(library(&[&[0, 1], &[2, 3], &[4, 5], &[6]])));
    assert_eq!(lab.bundles(0), [0, 2]);
    // A bundle that grew is not whole any more.
    lab.fleet
        .library(Arc::new(library(&[&[0, 1, 6], &[2, 3], &[4, 5], &[6]])));
    assert_eq!(lab.bundles(1), [2]);
    let generation = lab.fleet.view().generation;
    let mut popular = library(&[&[0, 1, 6], &[2, 3], &[4, 5], &[6]]);
    popular.revision += 9;
    lab.fleet.library(Arc::new(popular));
    assert_eq!(
        lab.fleet.view().generation,
        generation,
        "popularity is no news here"
    );
}

proptest! {
    /// Any walk of steps ends in the same bundles as telling everything at once.
    #[test]
    fn steps_end_where_a_whole_would(
        walk in proptest::collection::vec(
            (proptest::collection::btree_set(0_u32..12, 0..12),
             proptest::collection::btree_set(8_u8..33, 0..8),
             any::<bool>()),
            1..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _inside = runtime.enter();
        let mut lab = Lab::new(2);
        lab.fleet.library(Arc::new(library(&[&[0, 1], &[2, 3], &[1, 4], &[5, 6, 7]])));
        let (mut walker, mut teller) = (Sim::new(0, BOOT_A), Sim::new(1, BOOT_A));
        for (objects, lengths, forgets) in &walk {
            walker.hold(objects.iter().copied());
            walker.announce(lengths.iter().copied());
            let reply = lab.report(&walker).unwrap();
            walker.acknowledge(&reply);
            if *forgets {
                walker.forget();
            }
        }
        let (objects, lengths, _) = walk.last().unwrap();
        teller.hold(objects.iter().copied());
        teller.announce(lengths.iter().copied());
        lab.report(&teller).unwrap();
        prop_assert_eq!(lab.bundles(0), lab.bundles(1));
        let view = lab.fleet.view();
        let (a, b) = (&view.boxes[&id(0)], &view.boxes[&id(1)]);
        prop_assert_eq!(&a.routes, &b.routes);
        prop_assert_eq!(a.objects, objects.len() as u64);
        let lengths: BTreeSet<u8> = a.routes.iter().map(|route| route.prefix.length()).collect();
        prop_assert_eq!(&lengths, &walk.last().unwrap().1);
    }
}

#[tokio::test(start_paused = true)]
async fn reports_and_heartbeats_are_answered_with_the_orders_of_the_night() {
    let mut lab = Lab::new(1);
    let sim = Sim::new(0, BOOT_A);
    assert_eq!(lab.beat(&sim, 1).unwrap().orders.fill, None);
    let mut world = World::new();
    let site = world.site("TLS001.isp", "isp", (43.6, 1.4));
    let ground = orders::Ground {
        registry: &world.registry,
        library: &world.library,
        positions: &BTreeMap::new(),
        signer: &Signer::generate().unwrap(),
        urgent_max: 1,
    };
    let book = FillBook::new(&ground, &FillBook::default(), lab.wall);
    let expected = book.orders(&id(0), &site);
    assert!(expected.is_some());
    lab.fleet.fill(Arc::new(book));
    assert_eq!(lab.beat(&sim, 2).unwrap().orders.fill, expected);
    assert_eq!(lab.report(&sim).unwrap().orders.fill, expected);
}
