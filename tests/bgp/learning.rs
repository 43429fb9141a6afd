//! Everything that a real router announces is learned exactly, whoever connects; what it takes
//! back is gone.

use super::bird::Active;
use super::bird::Announced;
use super::bird::Bird;
use super::bird::Ports;
use super::bird::config;
use super::bird::routes;
use oca::bgp;
use oca::bgp::Handle;
use oca::bgp::Seams;
use oca::bgp::Snapshot;
use oca::clock;
use oca::set_hash::SetHash;
use std::sync::Arc;
use std::time::Duration;

/// For a real router that retries once a second, on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a snapshot that satisfies `wanted`.
pub(crate) async fn until(handle: &Handle, wanted: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
    let mut snapshots = handle.subscribe();
    let found = snapshots.wait_for(|snapshot| wanted(snapshot));
    match clock::within(PATIENCE, found).await {
        Ok(found) => Arc::clone(&found.unwrap()),
        Err(_) => panic!(
            "never seen; the last was {:?}",
            handle.snapshot().neighbours
        ),
    }
}

pub(crate) fn learned(snapshot: &Snapshot) -> Announced {
    let steerable = snapshot.routes.iter().filter(|route| route.is_steerable());
    steerable
        .map(|route| (route.prefix, route.packed().attributes()))
        .collect()
}

async fn learn_and_lose(active: Active) {
    let ports = Ports::choose();
    let mut announced = routes(10_000, 2_000);
    let bird = Bird::start(ports, active, &announced);
    let handle = bgp::start(&config(ports, active), Seams::real()).unwrap();
    let snapshot = until(&handle, |snapshot| snapshot.routes.len() >= 12_000).await;
    let exported = bird.exported();
    assert_eq!(exported.len(), 12_000);
    assert!(
        exported == announced,
        "birdc shows other routes than were configured"
    );
    assert!(
        learned(&snapshot) == exported,
        "learned other routes than birdc shows"
    );
    assert!(snapshot.routes.iter().is_sorted_by_key(|seen| seen.place()));
    assert_eq!(snapshot.steerable, 12_000);
    assert_eq!(
        snapshot.hash,
        SetHash::of(snapshot.routes.iter().map(|seen| seen.route().item()))
    );
    let view = &snapshot.neighbours[0];
    assert_eq!(
        (view.state, view.routes, view.filtered),
        ("established", 12_000, 0)
    );
    assert_eq!(view.last_error, None);

    // One route is withdrawn, another changes its attributes.
    let mut prefixes = announced.keys().copied().collect::<Vec<_>>().into_iter();
    let (lost, changed) = (prefixes.next().unwrap(), prefixes.next_back().unwrap());
    announced.remove(&lost);
    announced.get_mut(&changed).unwrap().med = Some(4_000_000_000);
    bird.announce(&announced);
    let begun = clock::now();
    until(&handle, |snapshot| {
        !snapshot.routes.iter().any(|route| route.prefix == lost)
    })
    .await;
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    until(&handle, |snapshot| learned(snapshot) == announced).await;
    shut_down_and_come_back(&bird, &handle, &announced).await;
    stop_with_words(&bird, &handle).await;
}

async fn shut_down_and_come_back(bird: &Bird, handle: &Handle, announced: &Announced) {
    let generation = handle.snapshot().generation;
    bird.ask("disable~to_oca~\"planned work\"");
    let snapshot = until(handle, |snapshot| snapshot.routes.is_empty()).await;
    assert!(snapshot.generation > generation);
    assert_eq!(snapshot.hash, SetHash::default());
    let error = snapshot.neighbours[0].last_error.clone().unwrap();
    assert!(error.contains("6/2 administrative shutdown"), "{error}");
    assert!(error.contains("planned work"), "{error}");
    bird.ask("enable~to_oca");
    until(handle, |snapshot| learned(snapshot) == *announced).await;
}

async fn stop_with_words(bird: &Bird, handle: &Handle) {
    handle.stop("drained for disk work").await;
    assert!(handle.snapshot().routes.is_empty());
    assert_eq!(handle.snapshot().neighbours[0].state, "idle");
    let begun = clock::now();
    while !bird.log().contains("drained for disk work") {
        assert!(begun.elapsed() < Duration::from_secs(10), "{}", bird.log());
        clock::sleep(Duration::from_millis(20)).await;
    }
    assert!(
        bird.log().contains("Received: Administrative shutdown"),
        "{}",
        bird.log()
    );
}

#[tokio::test]
async fn a_router_that_connects_to_us_is_learned_exactly_and_forgotten_when_it_goes() {
    learn_and_lose(Active::Bird).await;
}

#[tokio::test]
async fn a_router_that_we_connect_to_is_learned_exactly_and_forgotten_when_it_goes() {
    learn_and_lose(Active::Us).await;
}
