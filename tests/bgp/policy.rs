//! What a neighbour may send and what it is told: limits with each action, and the one route that
//! the box announces. On a paused clock and a network in memory.

use super::memory::GOOD;
use super::memory::Router;
use super::memory::neighbour;
use super::memory::start_with;
use super::memory::until;
use oca::bgp::LimitAction;
use oca::bgp::MemoryNet;
use oca::bgp::NeighbourConfig;
use oca::bgp::Order;
use oca::bgp::OwnPolicy;
use oca::bgp::Policy;
use oca::bgp::wire;
use oca::bgp::wire::Fault;
use oca::prefix::Family;
use oca::prefix::Prefix;
use oca::route::Attributes;
use oca::route::Filtered;
use oca::units::Bytes;
use std::time::Duration;

const PREFIXES: [&str; 5] = [
    "203.0.113.0/26",
    "203.0.113.64/26",
    "203.0.113.128/26",
    "203.0.113.192/27",
    "203.0.113.224/27",
];

fn limited(limit_action: LimitAction) -> NeighbourConfig {
    NeighbourConfig {
        max_prefixes: 3,
        policy: Policy {
            limit_action,
            limit_idle: Duration::from_secs(60),
            ..Policy::default()
        },
        ..neighbour("good", GOOD, 64500)
    }
}

/// The next message, keepalives left out; `None` once we have closed.
pub(crate) async fn raw(router: &mut Router) -> Option<Vec<u8>> {
    loop {
        let message = router.next().await?;
        if message != wire::keepalive() {
            return Some(message);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_neighbour_beyond_its_limit_is_tried_again_after_the_idle_time_of_its_own() {
    let net = MemoryNet::default();
    let handle = start_with(
        &net,
        vec![limited(LimitAction::Restart)],
        OwnPolicy::default(),
    );
    let mut router = Router::up(&net, GOOD, 64500, true).await;
    router.announce("64500", &PREFIXES[..3]).await;
    until(&handle, |snapshot| snapshot.routes.len() == 3).await;
    router.announce("64500", &PREFIXES[3..]).await;
    let words = router.last_words().await.unwrap();
    assert_eq!(words.fault, Fault::TOO_MANY_PREFIXES);
    oca::clock::sleep(Duration::from_secs(50)).await;
    let mut early = Router::connect(&net, GOOD, 64500, true).await;
    assert_eq!(early.last_words().await.unwrap().fault, Fault::REJECTED);
    oca::clock::sleep(Duration::from_secs(15)).await;
    Router::up(&net, GOOD, 64500, true).await;
    let told = handle.details()[0].last_error_sent.clone().unwrap();
    assert!(told.error.contains("6/"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_a_limit_has_stopped_waits_for_a_person() {
    let net = MemoryNet::default();
    let handle = start_with(&net, vec![limited(LimitAction::Stop)], OwnPolicy::default());
    let mut router = Router::up(&net, GOOD, 64500, true).await;
    router.announce("64500", &PREFIXES).await;
    let words = router.last_words().await.unwrap();
    assert_eq!(words.fault, Fault::TOO_MANY_PREFIXES);
    oca::clock::sleep(Duration::from_secs(86_400)).await;
    let mut early = Router::connect(&net, GOOD, 64500, true).await;
    assert_eq!(early.last_words().await.unwrap().fault, Fault::REJECTED);
    assert_eq!(handle.order("go", Order::Up).await, Ok("good".to_owned()));
    oca::clock::sleep(Duration::from_secs(5)).await;
    Router::up(&net, GOOD, 64500, true).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_beyond_the_limit_is_dropped_and_the_rest_goes_on() {
    let net = MemoryNet::default();
    let handle = start_with(&net, vec![limited(LimitAction::Drop)], OwnPolicy::default());
    let mut router = Router::up(&net, GOOD, 64500, true).await;
    router.announce("64500", &PREFIXES).await;
    // The other family has a limit of its own.
    router.announce("64500 64501", &["2001:db8::/48"]).await;
    // Replacing one of the three is no fourth.
    router.announce("64500 64502", &PREFIXES[..1]).await;
    let changed = |path: &str| path == "64500 64502";
    let snapshot = until(&handle, |snapshot| {
        let first = snapshot.routes.iter().next();
        first.is_some_and(|seen| changed(&seen.route().attributes.as_path.to_string()))
    })
    .await;
    let kept: Vec<String> = snapshot
        .routes
        .iter()
        .map(|r| r.prefix.to_string())
        .collect();
    let other = "2001:db8::/48";
    assert_eq!(
        (&kept[..3], kept[3].as_str()),
        (&PREFIXES.map(str::to_owned)[..3], other)
    );
    assert_eq!(snapshot.neighbours[0].state, "established");
    let detail = handle.details().remove(0);
    assert_eq!(detail.dropped, 2);
    let limits = serde_json::to_value(&detail.limits).unwrap();
    assert_eq!(
        (&limits[0]["held"], &limits[0]["percent"]),
        (&3.into(), &100.into())
    );
    // Room comes back with a withdrawal.
    for message in wire::withdraw(&[PREFIXES[1].parse().unwrap()]).unwrap() {
        router.send(&message).await;
    }
    router.announce("64500", &PREFIXES[4..]).await;
    until(&handle, |snapshot| {
        let all: Vec<_> = snapshot
            .routes
            .iter()
            .map(|r| r.prefix.to_string())
            .collect();
        all == [PREFIXES[0], PREFIXES[2], PREFIXES[4], other]
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn attributes_beyond_their_memory_end_the_session_or_are_dropped() {
    for action in [LimitAction::Restart, LimitAction::Drop] {
        let net = MemoryNet::default();
        let one = limited(action);
        let greedy = NeighbourConfig {
            max_prefixes: 10_000,
            policy: Policy {
                attribute_memory: Bytes(100_000),
                ..one.policy
            },
            ..one
        };
        let handle = start_with(&net, vec![greedy], OwnPolicy::default());
        let mut router = Router::up(&net, GOOD, 64500, true).await;
        // Each route with a long path of its own.
        let tail = " 64501".repeat(200);
        for number in 0..250_u32 {
            let path = format!("64500 {}{tail}", 65_536 + number);
            router
                .announce(&path, &[&format!("198.18.{number}.0/24")])
                .await;
        }
        if action == LimitAction::Restart {
            let words = router.last_words().await.unwrap();
            assert_eq!(words.fault, Fault::OUT_OF_RESOURCES);
            until(&handle, |snapshot| snapshot.routes.is_empty()).await;
        } else {
            router.announce("64500", &["198.51.100.0/24"]).await;
            oca::clock::sleep(Duration::from_secs(1)).await;
            let snapshot = handle.snapshot();
            let count = snapshot.routes.len();
            assert_eq!(snapshot.neighbours[0].state, "established");
            assert!((50..200).contains(&count), "{count}");
            let detail = handle.details().remove(0);
            let limits = serde_json::to_value(&detail.limits).unwrap();
            assert!(limits[2]["held"].as_u64().unwrap() <= 100_000, "{limits}");
            assert!(detail.dropped >= 50, "{}", detail.dropped);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_route_that_the_operator_does_not_want_stays_visible_with_its_reason() {
    let net = MemoryNet::default();
    let policy = Policy {
        no_steer: vec!["64500:666".parse().unwrap()],
        prefixes: vec!["203.0.113.0/24".parse().unwrap()],
        ..Policy::default()
    };
    let picky = NeighbourConfig {
        policy,
        ..neighbour("good", GOOD, 64500)
    };
    let handle = start_with(&net, vec![picky], OwnPolicy::default());
    let mut router = Router::up(&net, GOOD, 64500, true).await;
    router
        .announce("64500", &["203.0.113.0/25", "198.51.100.0/24"])
        .await;
    let tagged = Attributes {
        communities: vec!["64500:666".parse().unwrap()],
        ..Attributes::new("64500".parse().unwrap(), "198.51.100.7".parse().unwrap())
    };
    let prefix: Prefix = "203.0.113.128/25".parse().unwrap();
    for message in wire::announce(&tagged, &[prefix], true).unwrap() {
        router.send(&message).await;
    }
    let snapshot = until(&handle, |snapshot| snapshot.routes.len() == 3).await;
    let shown: Vec<_> = snapshot.routes.iter().map(|seen| seen.filtered()).collect();
    assert_eq!(
        shown,
        [Some(Filtered::NotListed), None, Some(Filtered::NoSteer)]
    );
    assert_eq!(
        (snapshot.steerable, snapshot.neighbours[0].filtered),
        (1, 2)
    );
}

fn service() -> OwnPolicy {
    OwnPolicy {
        service_addresses: vec![
            "203.0.113.9".parse().unwrap(),
            "2001:db8::9".parse().unwrap(),
        ],
        ..OwnPolicy::default()
    }
}

fn expected() -> Vec<u8> {
    let attributes = Attributes {
        communities: vec!["64500:1".parse().unwrap(), "64500:2".parse().unwrap()],
        ..Attributes::new("64510".parse().unwrap(), "192.0.2.9".parse().unwrap())
    };
    let prefix = "203.0.113.9/32".parse().unwrap();
    wire::announce(&attributes, &[prefix], true)
        .unwrap()
        .remove(0)
}

fn withdrawn() -> Vec<u8> {
    let prefix = "203.0.113.9/32".parse().unwrap();
    wire::withdraw(&[prefix]).unwrap().remove(0)
}

#[tokio::test(start_paused = true)]
async fn exactly_the_service_address_is_announced_and_taken_back_while_the_box_wants_no_traffic() {
    let net = MemoryNet::default();
    let policy = Policy {
        announce: true,
        announce_communities: vec!["64500:2".parse().unwrap(), "64500:1".parse().unwrap()],
        ..Policy::default()
    };
    let told = NeighbourConfig {
        policy,
        ..neighbour("good", GOOD, 64500)
    };
    let quiet = neighbour("quiet", "192.0.2.2", 64501);
    let handle = start_with(&net, vec![told, quiet], service());
    let mut router = Router::up(&net, GOOD, 64500, true).await;
    let mut other = Router::up(&net, "192.0.2.2", 64501, true).await;
    until(&handle, |snapshot| {
        snapshot.neighbours.iter().all(|n| n.state == "established")
    })
    .await;
    // Nothing before the box says that it wants traffic.
    handle.offer(true);
    assert_eq!(raw(&mut router).await, Some(expected()));
    assert_eq!(
        handle.details()[0].announced,
        ["203.0.113.9/32".parse().unwrap()]
    );
    handle.offer(true);
    handle.offer(false);
    assert_eq!(raw(&mut router).await, Some(withdrawn()));
    assert!(handle.details()[0].announced.is_empty());
    handle.offer(true);
    assert_eq!(raw(&mut router).await, Some(expected()));
    // The router asks for everything again.
    router.send(&wire::route_refresh(Family::Ipv4)).await;
    assert_eq!(raw(&mut router).await, Some(expected()));
    handle.stop("done").await;
    assert_eq!(raw(&mut router).await, Some(withdrawn()));
    let cease = raw(&mut router).await.unwrap();
    assert_eq!(cease[18..21], [3, 6, 2]);
    let cease = raw(&mut other).await.unwrap();
    assert_eq!(cease[18..21], [3, 6, 2], "and nothing before it");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_comes_up_later_is_told_at_once() {
    let net = MemoryNet::default();
    let policy = Policy {
        announce: true,
        ..Policy::default()
    };
    let told = NeighbourConfig {
        policy,
        ..neighbour("good", GOOD, 64500)
    };
    let handle = start_with(&net, vec![told], service());
    handle.offer(true);
    for _ in 0..2 {
        let mut router = Router::up(&net, GOOD, 64500, true).await;
        let update = raw(&mut router).await.unwrap();
        assert_eq!(update[18], 2);
        assert!(update.ends_with(&[32, 203, 0, 113, 9]), "{update:?}");
        drop(router);
        until(&handle, |snapshot| {
            snapshot.neighbours[0].state != "established"
        })
        .await;
        oca::clock::sleep(Duration::from_secs(2)).await;
    }
}
