//! A box's life with a control plane that keeps the contract.

use crate::plane::Plane;
use crate::world;
use crate::world::digests;
use crate::world::seconds;
use crate::world::snapshot;
use oca::clock;
use oca::gate::Gate;
use oca::gate::Reason;
use oca::health::LinkState;
use oca::link::message::Position;
use oca::link::message::Row;
use oca::object::Digest;
use oca::set_hash::SetHash;
use std::sync::Arc;

#[tokio::test(start_paused = true)]
async fn a_box_enrols_reports_beats_and_adopts_what_it_should_hold() {
    let plane = Plane::new();
    plane.mind().manifest = Some((
        Position {
            epoch: 2,
            generation: 9,
        },
        vec![
            Row::Bundle {
                bundle: "film/v1".to_owned(),
                rank: 3,
            },
            Row::Key {
                k: "a.m4s".to_owned(),
                d: Digest::of(&[0]),
                n: 1,
                t: 7,
            },
        ],
    ));
    let started = clock::now();
    let own = world::start(&plane, |_| {});
    own.until("contact", |view| view.state == LinkState::Connected)
        .await;
    own.until("manifest", |view| view.manifest_held.is_some())
        .await;
    assert!(clock::now() - started < seconds(15), "all of it at once");
    let view = own.view();
    assert!(view.enabled && view.lease_fresh);
    assert_eq!(view.last_error, None);
    assert_eq!(view.manifest_held, view.manifest_wanted);
    {
        let mind = plane.mind();
        assert_eq!((mind.enrolments, mind.fetches), (1, 1));
        let report = &mind.reports[0];
        assert_eq!(
            (report.sequence, report.gate.state.as_str()),
            (1, "serving")
        );
        assert_eq!(report.boot_id.len(), 32);
        assert_eq!((report.catalogue.from, report.catalogue.count), (0, 5));
        let hash = SetHash::of(digests().iter().map(|digest| digest.0));
        assert_eq!(report.catalogue.digest, hash.digest());
        assert_eq!((report.routes.count, report.manifest), (2, None));
        assert_eq!(report.interfaces, ["203.0.113.0/24".parse().unwrap()]);
    }
    let adopted = own.adopted.lock().unwrap().clone();
    assert_eq!(adopted.len(), 1);
    let (key, binding) = &adopted[0].rows[0];
    assert_eq!((key.as_str(), binding.rank), ("film/v1/a.m4s", 3));

    // An hour: a report in five minutes, a heartbeat in ten seconds, and nothing sent twice.
    let before = plane.asked();
    clock::sleep(seconds(3_600)).await;
    let mind = plane.mind();
    let reports = mind.reports.len() - before.0;
    let beats = mind.beats.len() - before.1;
    assert!((9..=20).contains(&reports), "{reports}");
    assert!((355..=450).contains(&beats), "{beats}");
    let last = mind.reports.last().unwrap();
    assert_eq!(
        last.catalogue.from, last.catalogue.to,
        "it has the catalogue"
    );
    assert!(last.catalogue.added.is_empty() && last.routes.added.is_empty());
    assert_eq!(last.manifest, view.manifest_held);
    let sequences: Vec<u64> = mind.reports.iter().map(|report| report.sequence).collect();
    let expected: Vec<u64> = (1..=sequences.len() as u64).collect();
    assert_eq!(sequences, expected);
    assert_eq!((mind.fetches, mind.enrolments), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_closed_gate_and_a_withdrawn_route_are_told_within_seconds() {
    let plane = Plane::new();
    let own = world::start(&plane, |_| {});
    own.until("contact", |view| view.last_report.is_some())
        .await;
    clock::sleep(seconds(5)).await;
    let reports = plane.mind().reports.len();
    let closed = Gate::Closed(vec![Reason::Drained]);
    let told = clock::now();
    own.gate.send_replace(closed.clone());
    own.control.told(&closed).await;
    assert!(clock::now() - told < seconds(10));
    clock::sleep(seconds(3)).await;
    {
        let mind = plane.mind();
        assert_eq!(mind.reports.len(), reports + 1, "a change is one report");
        assert_eq!(mind.reports.last().unwrap().gate.reasons, [Reason::Drained]);
    }

    own.bgp
        .send_replace(Arc::new(snapshot(2, &["192.0.2.0/24"])));
    clock::sleep(seconds(3)).await;
    {
        let mind = plane.mind();
        assert_eq!(mind.reports.len(), reports + 2);
        let routes = &mind.reports.last().unwrap().routes;
        assert_eq!((routes.count, routes.from), (1, 2));
        let (gone, come) = (&routes.removed, &routes.added);
        assert_eq!(
            (gone.len(), come.len()),
            (1, 0),
            "a step tells the change alone"
        );
    }
    // What is announced is told too, but not in a hurry.
    own.bgp
        .send_replace(Arc::new(snapshot(3, &["192.0.2.0/24", "203.0.113.0/24"])));
    clock::sleep(seconds(3)).await;
    assert_eq!(plane.mind().reports.len(), reports + 2);
    clock::sleep(seconds(22)).await;
    let mind = plane.mind();
    assert_eq!(mind.reports.last().unwrap().routes.count, 2);
}

#[tokio::test(start_paused = true)]
async fn a_lost_disk_is_told_within_seconds() {
    let plane = Plane::new();
    let own = world::start(&plane, |_| {});
    own.disk("online");
    own.until("contact", |view| view.last_report.is_some())
        .await;
    clock::sleep(seconds(30)).await;
    let reports = plane.asked().0;
    own.disk("isolated");
    clock::sleep(seconds(2)).await;
    let mind = plane.mind();
    assert_eq!(mind.reports.len(), reports + 1);
    assert_eq!(mind.reports.last().unwrap().disks[0].state, "isolated");
}

#[tokio::test(start_paused = true)]
async fn a_restarted_box_keeps_its_identity_and_needs_no_token() {
    let plane = Plane::new();
    let own = world::start(&plane, |_| {});
    own.until("contact", |view| view.last_report.is_some())
        .await;
    let identity = own.dir.path().join("identity");
    own.control.stop();
    let again = world::start(&plane, |config| {
        config.identity = identity;
        config.token_file = None;
    });
    again
        .until("contact", |view| view.last_report.is_some())
        .await;
    assert_eq!(plane.mind().enrolments, 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_in_an_outage_and_comes_back_with_the_control_plane() {
    let plane = Plane::new();
    let own = world::start(&plane, |_| {});
    own.until("contact", |view| view.last_report.is_some())
        .await;
    let left = clock::now();
    plane.mind().down = true;
    own.until("outage", |view| view.state == LinkState::Outage)
        .await;
    assert!(clock::now() - left < seconds(20));
    assert!(own.view().lease_fresh, "it goes on until its lease ends");
    assert!(
        own.view()
            .last_error
            .as_ref()
            .unwrap()
            .contains("no answer")
    );
    let beats = plane.mind().beats.len();
    own.until("lease end", |view| !view.lease_fresh).await;
    let lasted = clock::now() - left;
    assert!(
        lasted <= seconds(1_800) && lasted > seconds(1_780),
        "{lasted:?}"
    );
    let view = own.view();
    assert!(view.enabled && !view.is_lease_fresh(clock::boot()));
    assert!(view.summary(clock::boot()).contains("silent since"));
    clock::sleep(seconds(3_600)).await;
    assert_eq!(plane.mind().beats.len(), beats);

    let back = clock::now();
    {
        let mut mind = plane.mind();
        mind.down = false;
        // It was restarted, and remembers nothing of the box.
        mind.forgets = true;
        mind.report_now = true;
    }
    own.until("recovery", |view| view.lease_fresh).await;
    assert!(clock::now() - back < seconds(15));
    own.until("report", |view| view.state == LinkState::Connected)
        .await;
    clock::sleep(seconds(5)).await;
    let mind = plane.mind();
    let last = mind.reports.last().unwrap();
    assert_eq!(
        (last.catalogue.from, last.catalogue.added.len()),
        (0, 5),
        "all of it again"
    );
    assert_eq!(own.view().last_error, None);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_slept_through_its_lease_knows_it_at_once() {
    let plane = Plane::new();
    // Nothing else wakes the task.
    plane.mind().next_report_s = 3_600;
    let own = world::start(&plane, |config| config.heartbeat_every = seconds(36_000));
    own.until("contact", |view| view.last_report.is_some())
        .await;
    clock::sleep(seconds(60)).await;
    assert!(own.view().lease_fresh);
    let woke = clock::now();
    clock::pin_boot(clock::boot() + seconds(3_600));
    own.until("lease end", |view| !view.lease_fresh).await;
    assert!(
        clock::now() - woke <= seconds(5),
        "monotonic time stood still"
    );
}

#[tokio::test(start_paused = true)]
async fn a_box_that_is_disabled_says_so_and_an_enabled_one_again() {
    let plane = Plane::new();
    plane.mind().enabled = false;
    let own = world::start(&plane, |_| {});
    own.until("contact", |view| view.last_report.is_some())
        .await;
    let view = own.view();
    assert!(!view.enabled && view.lease_fresh);
    assert!(view.summary(clock::boot()).contains("not enabled"));
    plane.mind().enabled = true;
    let asked = clock::now();
    own.until("enabled", |view| view.enabled).await;
    assert!(
        clock::now() - asked <= seconds(11),
        "with the next heartbeat"
    );
}

#[tokio::test(start_paused = true)]
async fn keys_of_viewers_tokens_are_handed_on_with_each_reply_that_brings_them() {
    let plane = Plane::new();
    let told: oca::link::message::ReportReply = crate::golden::read("report-reply-signing");
    plane.mind().viewer_keys = told.viewer_keys.clone();
    let own = world::start(&plane, |_| {});
    own.until("a report", |view| view.last_report.is_some())
        .await;
    let delivered = own.delivered.lock().unwrap().clone();
    assert_eq!(delivered.first(), told.viewer_keys.as_ref());
    let shown = format!("{:?}", own.view());
    assert!(!shown.contains("Secret"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn delivery_by_client_network_is_in_every_report() {
    let plane = Plane::new();
    let own = world::start(&plane, |_| {});
    own.until("contact", |view| view.state == LinkState::Connected)
        .await;
    let told = plane.mind().reports.last().unwrap().quality.clone();
    let (told, said) = (told.unwrap(), world::quality());
    assert_eq!((told.window_s, told.networks), (300, 2));
    let prefixes: Vec<_> = told.rows.iter().map(|row| row.prefix).collect();
    assert_eq!(prefixes, [said.rows[0].prefix, said.rows[1].prefix]);
    for delivery in [told.total, told.rows[0].delivery, told.rows[1].delivery] {
        assert_eq!((delivery.responses, delivery.bytes), (4, 9_000));
        assert_eq!((delivery.starvations, delivery.p50_kbps), (1, Some(25_000)));
        assert_eq!(delivery.rtt_us, None);
    }
}
