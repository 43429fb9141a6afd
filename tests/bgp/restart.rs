//! Routes that outlive their session, refreshes and an operator's commands, through the whole room
//! on a network in memory.

use super::memory::GOOD;
use super::memory::Router;
use super::memory::neighbour;
use super::memory::start;
use super::memory::until;
use oca::bgp::Handle;
use oca::bgp::MemoryNet;
use oca::bgp::Order;
use oca::bgp::OrderError;
use oca::bgp::Snapshot;
use oca::bgp::wire;
use oca::bgp::wire::Capability;
use oca::bgp::wire::GracefulRestart;
use oca::bgp::wire::Kept;
use oca::bgp::wire::Refresh;
use oca::prefix::Family;
use std::time::Duration;

/// A router that keeps forwarding for 90 s.
fn restart() -> Capability<'static> {
    let kept = Some(Kept { forwarding: true });
    Capability::GracefulRestart(GracefulRestart {
        restarted: false,
        notification: false,
        seconds: 90,
        ipv4: kept,
        ipv6: kept,
    })
}

fn shown(snapshot: &Snapshot) -> Vec<String> {
    let routes = snapshot.routes.iter();
    routes.map(|route| route.prefix.to_string()).collect()
}

/// Two routes, and the session that they came on is gone.
async fn left_behind(net: &MemoryNet, more: &[Capability<'static>]) -> Handle {
    let handle = start(net, vec![neighbour("good", GOOD, 64500)]);
    let mut router = Router::up_with(net, more).await;
    let both = ["203.0.113.0/25", "203.0.113.128/25"];
    router.announce("64500", &both).await;
    until(&handle, |snapshot| snapshot.routes.len() == 2).await;
    drop(router);
    until(&handle, |s| s.neighbours[0].state != "established").await;
    handle
}

#[tokio::test(start_paused = true)]
async fn a_router_that_restarts_replaces_its_routes_and_loses_what_it_does_not_send_again() {
    let net = MemoryNet::default();
    let handle = left_behind(&net, &[restart()]).await;
    oca::clock::sleep(Duration::from_secs(60)).await;
    let snapshot = handle.snapshot();
    assert_eq!(snapshot.routes.len(), 2);
    assert_eq!(snapshot.neighbours[0].session.stale, ["ipv4", "ipv6"]);
    let generation = snapshot.generation;
    let mut router = Router::up_with(&net, &[restart()]).await;
    // The same route again is no change for anybody.
    router.announce("64500", &["203.0.113.0/25"]).await;
    oca::clock::sleep(Duration::from_secs(5)).await;
    let snapshot = handle.snapshot();
    assert_eq!(
        (snapshot.routes.len(), snapshot.generation),
        (2, generation)
    );
    router.send(&wire::end_of_rib(Family::Ipv4)).await;
    let snapshot = until(&handle, |snapshot| snapshot.routes.len() == 1).await;
    assert_eq!(shown(&snapshot), ["203.0.113.0/25"]);
    let session = until(&handle, |s| !s.neighbours[0].session.end_of_rib.is_empty()).await;
    let session = &session.neighbours[0].session;
    assert_eq!(
        (&session.stale[..], &session.end_of_rib[..]),
        (&["ipv6"][..], &["ipv4"][..])
    );
}

#[tokio::test(start_paused = true)]
async fn a_router_that_does_not_come_back_in_its_time_loses_its_routes() {
    let net = MemoryNet::default();
    let handle = left_behind(&net, &[restart()]).await;
    let begun = oca::clock::now();
    until(&handle, |snapshot| snapshot.routes.is_empty()).await;
    let waited = oca::clock::now() - begun;
    assert!(
        waited > Duration::from_secs(85) && waited < Duration::from_secs(95),
        "{waited:?}"
    );
    until(&handle, |s| s.neighbours[0].session.stale.is_empty()).await;
    // Without graceful restart they go at once.
    let net = MemoryNet::default();
    let handle = left_behind(&net, &[]).await;
    let begun = oca::clock::now();
    until(&handle, |snapshot| snapshot.routes.is_empty()).await;
    assert!(oca::clock::now() - begun < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_router_that_comes_before_its_end_was_noticed_keeps_its_routes() {
    let net = MemoryNet::default();
    let handle = start(&net, vec![neighbour("good", GOOD, 64500)]);
    let mut old = Router::up_with(&net, &[restart()]).await;
    old.announce("64500", &["203.0.113.0/25"]).await;
    until(&handle, |snapshot| snapshot.routes.len() == 1).await;
    let mut new = Router::up_with(&net, &[restart()]).await;
    let replaced = |s: &Snapshot| s.neighbours[0].session.stale == ["ipv4", "ipv6"];
    let snapshot = until(&handle, replaced).await;
    assert_eq!(snapshot.routes.len(), 1);
    assert_eq!(snapshot.neighbours[0].state, "established");
    // The old connection is closed without a word: keepalives and ends of our table before.
    while let Some(message) = old.next().await {
        assert_ne!(message[18], 3, "a NOTIFICATION");
    }
    new.announce("64500", &["203.0.113.128/25"]).await;
    for family in [Family::Ipv4, Family::Ipv6] {
        new.send(&wire::end_of_rib(family)).await;
    }
    let done = |s: &Snapshot| s.neighbours[0].session.stale.is_empty();
    let end = until(&handle, done).await;
    assert_eq!(shown(&end), ["203.0.113.128/25"]);
}

#[tokio::test(start_paused = true)]
async fn an_operator_refreshes_takes_down_and_brings_up_a_session() {
    let net = MemoryNet::default();
    let handle = start(&net, vec![neighbour("good", GOOD, 64500)]);
    let done = || Ok("good".to_owned());
    assert_eq!(
        handle.order("good", Order::Refresh(None)).await,
        Err(OrderError::NotEstablished)
    );
    let plain = Router::up_with(&net, &[]).await;
    until(&handle, |s| s.neighbours[0].state == "established").await;
    assert_eq!(
        handle.order("good", Order::Refresh(None)).await,
        Err(OrderError::NoRefresh)
    );
    drop(plain);
    until(&handle, |s| s.neighbours[0].state != "established").await;
    let enhanced = [Capability::RouteRefresh, Capability::EnhancedRouteRefresh];
    let mut router = Router::up_with(&net, &enhanced).await;
    router
        .announce("64500", &["203.0.113.0/25", "203.0.113.128/25"])
        .await;
    until(&handle, |snapshot| snapshot.routes.len() == 2).await;
    assert_eq!(handle.order("good", Order::Refresh(None)).await, done());
    for family in [Family::Ipv4, Family::Ipv6] {
        assert_eq!(router.next().await, Some(wire::route_refresh(family)));
    }
    router
        .send(&wire::refresh(Family::Ipv4, Refresh::Begin))
        .await;
    router.announce("64500", &["203.0.113.128/25"]).await;
    router
        .send(&wire::refresh(Family::Ipv4, Refresh::End))
        .await;
    let snapshot = until(&handle, |snapshot| snapshot.routes.len() == 1).await;
    assert_eq!(shown(&snapshot), ["203.0.113.128/25"]);

    let down = Order::Down("rack move".to_owned());
    assert_eq!(handle.order("good", down).await, done());
    let words = router.last_words().await.unwrap();
    assert_eq!(words.words(), "6/2 administrative shutdown: \"rack move\"");
    let snapshot = until(&handle, |snapshot| snapshot.routes.is_empty()).await;
    assert_eq!(snapshot.neighbours[0].state, "idle");
    let mut refused = Router::connect(&net, GOOD, 64500, true).await;
    let fault = refused.last_words().await.unwrap().fault;
    assert_eq!(fault, wire::Fault::REJECTED);
    assert_eq!(handle.order("good", Order::Up).await, done());
    let mut router = Router::up_with(&net, &[]).await;
    until(&handle, |s| s.neighbours[0].state == "established").await;
    let reset = Order::Reset("new policy".to_owned());
    assert_eq!(handle.order("good", reset).await, done());
    let words = router.last_words().await.unwrap();
    assert_eq!(words.words(), "6/4 administrative reset: \"new policy\"");
}

#[tokio::test(start_paused = true)]
async fn a_router_that_asks_again_and_again_is_answered_and_keeps_its_session() {
    let net = MemoryNet::default();
    let handle = start(&net, vec![neighbour("good", GOOD, 64500)]);
    let enhanced = [Capability::RouteRefresh, Capability::EnhancedRouteRefresh];
    let mut router = Router::up_with(&net, &enhanced).await;
    router.announce("64500", &["203.0.113.0/25"]).await;
    let both = [Family::Ipv4, Family::Ipv6]
        .map(wire::route_refresh)
        .concat();
    router.send(&both.repeat(200)).await;
    for family in [Family::Ipv4, Family::Ipv6] {
        for mark in [Refresh::Begin, Refresh::End] {
            assert_eq!(router.next().await, Some(wire::refresh(family, mark)));
        }
    }
    router.announce("64500", &["203.0.113.128/25"]).await;
    until(&handle, |snapshot| snapshot.routes.len() == 2).await;
    // The answers have left: whoever asks now is answered again.
    while let Ok(message) = oca::clock::within(Duration::from_secs(1), router.next()).await {
        assert!(message.is_some(), "closed");
    }
    router.send(&wire::route_refresh(Family::Ipv6)).await;
    for mark in [Refresh::Begin, Refresh::End] {
        assert_eq!(router.next().await, Some(wire::refresh(Family::Ipv6, mark)));
    }
    let neighbour = &handle.snapshot().neighbours[0];
    assert_eq!(
        (neighbour.state, &neighbour.last_error),
        ("established", &None)
    );
}
