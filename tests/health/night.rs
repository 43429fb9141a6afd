//! What the link carries of a fill: orders, progress, what came and what went, questions.

use crate::golden;
use crate::plane::Plane;
use crate::world;
use crate::world::seconds;
use oca::clock;
use oca::health::LinkState;
use oca::link::message::FillOrders;
use oca::link::message::FillProgress;
use oca::link::message::FillSourcesRequest;
use oca::link::message::Position;
use oca::link::message::Row;
use oca::object::Digest;
use serde_json::json;
use std::sync::Arc;

async fn connected(plane: &Arc<Plane>) -> world::Box {
    let own = world::start(plane, |_| {});
    own.until("contact", |view| view.last_report.is_some())
        .await;
    clock::sleep(seconds(10)).await;
    own
}

#[tokio::test(start_paused = true)]
async fn orders_of_the_fill_come_with_heartbeats_too_and_are_shown() {
    let plane = Plane::new();
    let own = connected(&plane).await;
    let view = own.view();
    assert_eq!((view.fill.clone(), view.clock_agrees), (None, Some(true)));
    assert_eq!(view.value(clock::boot())["fill"], json!(null));
    let (orders, ordered) = (golden::read::<FillOrders>("fill-orders"), clock::now());
    let reports = plane.asked().0;
    plane.mind().fill = Some(orders.clone());
    own.until("orders", |view| view.fill.is_some()).await;
    assert!(clock::now() - ordered <= seconds(11));
    assert_eq!(plane.asked().0, reports, "no report was needed");
    assert_eq!(own.view().fill, Some(orders));
    let shown = own.view().value(clock::boot());
    let window = json!({"start": "02:00", "length_s": 43_200, "timezone": "Europe/Paris"});
    assert_eq!(shown["fill"]["window"], window);
    assert_eq!(shown["fill"]["urgent"], json!(["title/v1"]));
    assert_eq!(shown["fill"]["deletion_override"]["from"]["generation"], 8);
    plane.mind().fill = None;
    own.until("end of orders", |view| view.fill.is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_with_another_time_is_seen_and_not_obeyed_less() {
    let plane = Plane::new();
    let own = connected(&plane).await;
    plane.mind().ahead = seconds(90);
    own.until("disagreement", |view| view.clock_agrees == Some(false))
        .await;
    assert_eq!(own.view().state, LinkState::Connected);
    assert!(own.view().lease_fresh);
    plane.mind().ahead = seconds(50);
    own.until("agreement", |view| view.clock_agrees == Some(true))
        .await;
}

#[tokio::test(start_paused = true)]
async fn what_comes_in_a_fill_is_told_each_minute_by_itself_and_what_is_lost_at_once() {
    let plane = Plane::new();
    let own = connected(&plane).await;
    let (begun, reports) = (clock::now(), plane.asked().0);
    for number in 0..600 {
        own.toggle(number);
        clock::sleep(seconds(1)).await;
    }
    {
        let mind = plane.mind();
        let told = &mind.reports[reports..];
        assert!((9..=13).contains(&told.len()), "{}", told.len());
        for report in told {
            let step = &report.catalogue;
            assert!(step.from > 0 && step.removed.is_empty());
            assert!(step.added.len() <= 70, "{}", step.added.len());
        }
        assert!(mind.items.len() >= 5 + 600 - 63);
        assert_eq!(mind.out_of_step, 0);
    }
    assert!(clock::now() - begun < seconds(601));
    clock::sleep(seconds(61)).await;
    assert_eq!(plane.mind().items, own.shelf.set());
    let reports = plane.asked().0;
    own.toggle(17);
    clock::sleep(seconds(3)).await;
    let mind = plane.mind();
    assert_eq!(mind.reports.len(), reports + 1);
    let step = &mind.reports[reports].catalogue;
    assert_eq!(step.removed, [Digest::of(&17_u32.to_le_bytes())]);
    assert_eq!(mind.items, own.shelf.set());
}

#[tokio::test(start_paused = true)]
async fn urgent_objects_outside_the_window_are_told_within_seconds() {
    let plane = Plane::new();
    plane.mind().fill = Some(golden::read("fill-orders"));
    let own = connected(&plane).await;
    *own.fill.lock().unwrap() = Some(FillProgress::default());
    clock::sleep(seconds(70)).await;
    let reports = plane.asked().0;
    for number in 0..3 {
        own.toggle(number);
        clock::sleep(seconds(6)).await;
    }
    assert!(plane.asked().0 >= reports + 3);
    assert_eq!(plane.mind().items, own.shelf.set());
}

#[tokio::test(start_paused = true)]
async fn the_progress_of_the_fill_is_reported_and_a_pause_at_once() {
    let plane = Plane::new();
    let own = connected(&plane).await;
    assert_eq!(plane.mind().reports.last().unwrap().fill, None);
    let mut progress: FillProgress = golden::read("fill-progress");
    *own.fill.lock().unwrap() = Some(progress.clone());
    clock::sleep(seconds(9)).await;
    let told = plane.mind().reports.last().unwrap().fill.clone();
    assert_eq!(told, Some(progress.clone()));
    let reports = plane.asked().0;
    progress.wanted_objects -= 1;
    *own.fill.lock().unwrap() = Some(progress.clone());
    clock::sleep(seconds(9)).await;
    assert_eq!(plane.asked().0, reports, "progress waits for its report");
    progress.paused = true;
    *own.fill.lock().unwrap() = Some(progress.clone());
    clock::sleep(seconds(9)).await;
    let mind = plane.mind();
    assert_eq!(mind.reports.len(), reports + 1);
    assert_eq!(mind.reports.last().unwrap().fill, Some(progress));
}

#[tokio::test(start_paused = true)]
async fn an_adopted_manifest_is_told_at_once_and_acknowledged_only_when_it_was() {
    let plane = Plane::new();
    let own = connected(&plane).await;
    assert_eq!(own.view().acknowledged, None);
    let place = |generation| Position {
        epoch: 2,
        generation,
    };
    let rows = vec![Row::Bundle {
        bundle: "film/v1".to_owned(),
        rank: 3,
    }];
    plane.mind().manifest = Some((place(1), rows.clone()));
    own.until("manifest", |view| view.manifest_held == Some(place(1)))
        .await;
    let adopted = clock::now();
    own.until("word", |view| view.acknowledged == Some(place(1)))
        .await;
    assert!(clock::now() - adopted < seconds(4));
    assert_eq!(
        plane.mind().reports.last().unwrap().manifest,
        Some(place(1))
    );

    // The report of the next one gets no answer.
    clock::sleep(seconds(10)).await;
    {
        let mut mind = plane.mind();
        mind.loses = usize::MAX;
        mind.manifest = Some((place(2), rows));
    }
    own.until("manifest", |view| view.manifest_held == Some(place(2)))
        .await;
    clock::sleep(seconds(60)).await;
    assert!(plane.mind().reports.last().unwrap().manifest == Some(place(2)));
    assert_eq!(own.view().acknowledged, Some(place(1)), "nobody said so");
    plane.mind().loses = 0;
    own.until("word", |view| view.acknowledged == Some(place(2)))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_report_whose_answer_was_lost_is_followed_by_a_step_from_where_it_led() {
    let plane = Plane::new();
    let own = connected(&plane).await;
    let wholes = |mind: &crate::plane::Mind| {
        let wholes = mind.reports.iter().filter(|r| r.catalogue.from == 0);
        wholes.count()
    };
    assert_eq!(wholes(&plane.mind()), 1);
    // The kept connection and the one that replaces it.
    plane.mind().loses = 2;
    own.toggle(1);
    clock::sleep(seconds(70)).await;
    assert_eq!(plane.mind().loses, 0);
    own.toggle(2);
    clock::sleep(seconds(300)).await;
    let mind = plane.mind();
    assert_eq!(mind.items, own.shelf.set());
    assert_eq!((wholes(&mind), mind.out_of_step), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn whatever_is_lost_and_forgotten_the_control_plane_ends_with_the_boxs_set() {
    for seed in 1..=4 {
        let plane = Plane::new();
        let own = connected(&plane).await;
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..60 {
            match random.u8(0..10) {
                0 => plane.mind().loses = random.usize(1..4),
                1 => plane.mind().forgets = true,
                2 => plane.mind().down = true,
                3 | 4 => plane.mind().down = false,
                _ => own.toggle(random.u32(0..12)),
            }
            clock::sleep(seconds(random.u64(0..40))).await;
        }
        {
            let mut mind = plane.mind();
            (mind.down, mind.loses) = (false, 0);
        }
        clock::sleep(seconds(500)).await;
        assert_eq!(plane.mind().items, own.shelf.set(), "seed {seed}");
        own.control.stop();
    }
}

#[tokio::test(start_paused = true)]
async fn sources_are_asked_for_over_the_link_and_refused_in_words_without_it() {
    let plane = Plane::new();
    plane.mind().down = true;
    let own = world::start(&plane, |_| {});
    let question: FillSourcesRequest = golden::read("fill-sources-request");
    let refused = own.control.fill_sources(question.clone()).await;
    assert!(
        refused.as_ref().unwrap_err().contains("not reached"),
        "{refused:?}"
    );
    assert!(own.control.identity().is_none() && own.control.verifier().is_none());
    plane.mind().down = false;
    own.until("contact", |view| view.state == LinkState::Connected)
        .await;
    let line = own.control.line();
    let answered = line.fill_sources(question.clone()).await;
    assert_eq!(answered, Ok(golden::read("fill-sources")));
    assert!(line.verifier().is_some());

    let chain = || line.identity().unwrap().credentials().unwrap().chain[0].clone();
    let before = chain();
    plane.mind().renew = true;
    clock::sleep(seconds(120)).await;
    assert_eq!(plane.mind().renewals, 1);
    assert_ne!(chain(), before, "the peer listener shows the renewed one");

    plane.mind().down = true;
    own.until("outage", |view| view.state == LinkState::Outage)
        .await;
    let refused = line.fill_sources(question.clone()).await.unwrap_err();
    assert!(refused.contains("silent since"), "{refused}");
    plane.mind().down = false;
    own.until("back", |view| view.state == LinkState::Connected)
        .await;
    own.control.stop();
    // Aborted tasks end when the runtime next looks at them.
    clock::sleep(seconds(1)).await;
    let refused = line.fill_sources(question).await.unwrap_err();
    assert!(refused.contains("nobody can be asked"), "{refused}");
}
