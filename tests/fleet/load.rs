//! Many boxes at once: nobody is lost or refused. Prints how fast it went; the bench judges that.

use crate::lab::BOOT;
use crate::lab::Lab;
use crate::lab::fleet_config;
use crate::lab::heartbeat;
use crate::lab::id;
use crate::lab::objects;
use crate::lab::registry;
use crate::lab::report;
use hyper::StatusCode;
use oca::clock;
use oca::control::fleet::Fleet;
use std::sync::Arc;
use std::time::Duration;

const BOXES: usize = 200;

fn rate(what: &str, count: usize, took: Duration) {
    println!("{what}: {:.0} /s", count as f64 / took.as_secs_f64());
}

#[tokio::test]
async fn the_fleet_takes_reports_and_heartbeats_of_many_boxes() {
    let mut fleet = Fleet::new(clock::now(), fleet_config(), Arc::default());
    fleet.registry(Arc::new(registry(BOXES)));
    let held = objects(1_000);
    let begun = clock::now();
    for number in 1..=BOXES {
        let (now, wall) = (clock::now(), clock::wall());
        let full = report(1, &held);
        fleet.report(now, wall, &id(number), full).unwrap();
    }
    rate(
        "fleet, full reports of 1,000 objects",
        BOXES,
        clock::now() - begun,
    );
    let begun = clock::now();
    for sequence in 2..12 {
        for number in 1..=BOXES {
            let mut step = report(sequence, &held[..1]);
            step.catalogue.from = 1;
            step.catalogue.to = 1;
            step.catalogue.count = 1_000;
            step.catalogue.digest = oca::set_hash::SetHash::of(held.iter().map(|d| d.0)).digest();
            step.catalogue.added.clear();
            step.routes.from = 1;
            step.routes.to = 1;
            fleet
                .report(clock::now(), clock::wall(), &id(number), step)
                .unwrap();
        }
    }
    rate(
        "fleet, reports without news",
        10 * BOXES,
        clock::now() - begun,
    );
    let begun = clock::now();
    for sequence in 1..=20 {
        for number in 1..=BOXES {
            let beat = heartbeat(sequence, Vec::new());
            fleet
                .heartbeat(clock::now(), clock::wall(), &id(number), beat)
                .unwrap();
        }
        fleet.view();
    }
    rate("fleet, heartbeats", 20 * BOXES, clock::now() - begun);
    let view = fleet.view();
    assert!(view.boxes.values().all(|view| view.open.is_ok()));
    assert_eq!(view.boxes[&id(1)].boot_id.as_deref(), Some(BOOT));
}

#[tokio::test]
async fn the_listener_takes_the_reports_and_heartbeats_of_many_boxes() {
    let lab = Arc::new(Lab::new(BOXES).listen());
    let begun = clock::now();
    let mut wires = Vec::new();
    for number in 1..=BOXES {
        wires.push(lab.dial(number).await);
    }
    rate("listener, connections", BOXES, clock::now() - begun);
    let held = objects(200);
    let begun = clock::now();
    let wires = each(wires, move |wire| {
        let held = held.clone();
        async move {
            let mut wire = wire;
            for sequence in 1..=5 {
                let answer = wire.say("/v1/report", &report(sequence, &held)).await;
                assert_eq!(answer.status(), StatusCode::OK);
            }
            wire
        }
    });
    let wires = wires.await;
    rate(
        "listener, full reports of 200 objects",
        5 * BOXES,
        clock::now() - begun,
    );
    let begun = clock::now();
    each(wires, |wire| async move {
        let mut wire = wire;
        for sequence in 1..=20 {
            let beat = heartbeat(sequence, Vec::new());
            let answer = wire.say("/v1/heartbeat", &beat).await;
            assert_eq!(answer.status(), StatusCode::OK);
        }
        wire
    })
    .await;
    rate("listener, heartbeats", 20 * BOXES, clock::now() - begun);
    for number in 1..=BOXES {
        lab.see(number, |view| view.open.is_ok()).await;
    }
}

async fn each<F>(
    wires: Vec<crate::lab::Wire>,
    talk: impl Fn(crate::lab::Wire) -> F,
) -> Vec<crate::lab::Wire>
where
    F: Future<Output = crate::lab::Wire> + Send + 'static,
{
    let tasks: Vec<_> = wires
        .into_iter()
        .map(|wire| tokio::spawn(talk(wire)))
        .collect();
    let mut wires = Vec::new();
    for task in tasks {
        wires.push(task.await.unwrap());
    }
    wires
}
