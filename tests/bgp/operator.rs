//! What an operator does and sees: orders for one session, its history, and MRT that a tool of
//! others reads.

use super::memory::GOOD;
use super::memory::Router;
use super::memory::neighbour;
use super::memory::start_with;
use super::memory::until;
use super::policy::raw;
use oca::bgp::Handle;
use oca::bgp::MemoryNet;
use oca::bgp::Order;
use oca::bgp::OrderError;
use oca::bgp::OwnPolicy;
use oca::bgp::wire;
use oca::bgp::wire::Capability;
use oca::bgp::wire::Fault;
use oca::prefix::Family;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

fn one(net: &MemoryNet) -> Handle {
    let neighbours = vec![
        neighbour("edge-1", GOOD, 64500),
        neighbour("edge-2", "192.0.2.2", 64501),
    ];
    start_with(net, neighbours, OwnPolicy::default())
}

#[tokio::test(start_paused = true)]
async fn a_session_taken_down_says_why_and_stays_down_until_it_is_brought_up() {
    let net = MemoryNet::default();
    let handle = one(&net);
    let mut router = Router::up(&net, GOOD, 64500, true).await;
    router.announce("64500", &["203.0.113.0/24"]).await;
    until(&handle, |snapshot| snapshot.routes.len() == 1).await;
    let text = "disk work until noon".to_owned();
    let done = handle.order("edge-1", Order::Down(text)).await;
    assert_eq!(done, Ok("edge-1".to_owned()));
    let words = router.last_words().await.unwrap();
    assert_eq!(words.fault, Fault::SHUTDOWN);
    assert_eq!(words.text().as_deref(), Some("disk work until noon"));
    let snapshot = until(&handle, |snapshot| snapshot.routes.is_empty()).await;
    assert_eq!(snapshot.neighbours[0].state, "idle");
    oca::clock::sleep(Duration::from_secs(86_400)).await;
    let mut early = Router::connect(&net, GOOD, 64500, true).await;
    assert_eq!(early.last_words().await.unwrap().fault, Fault::REJECTED);
    let detail = handle.details().remove(0);
    assert!(detail.administratively_down);
    let told = detail.last_error_sent.unwrap().error;
    assert!(told.starts_with("6/"), "{told}");
    handle.order("edge-1", Order::Up).await.unwrap();
    oca::clock::sleep(Duration::from_secs(5)).await;
    let _router = Router::up(&net, GOOD, 64500, true).await;
    until(&handle, |s| s.neighbours[0].state == "established").await;
    let detail = handle.details().remove(0);
    assert!(!detail.administratively_down);
    let history: Vec<_> = detail.history.iter().map(|change| change.to).collect();
    assert_eq!(history, ["up", "down", "up"]);
    assert_eq!(detail.timers.hold_time_s, Some(30));
    assert_eq!((detail.received.update, detail.received.open), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn of_two_routes_that_say_the_same_the_lower_router_identifier_wins() {
    let net = MemoryNet::default();
    let handle = one(&net);
    let (low, high) = (
        Ipv4Addr::new(198, 51, 100, 1),
        Ipv4Addr::new(198, 51, 100, 2),
    );
    // The lower address has the higher identifier.
    let mut first = Router::up_as(&net, GOOD, 64500, high).await;
    let mut second = Router::up_as(&net, "192.0.2.2", 64501, low).await;
    first.announce("64500 64502", &["203.0.113.0/24"]).await;
    second.announce("64501 64502", &["203.0.113.0/24"]).await;
    let snapshot = until(&handle, |snapshot| snapshot.routes.len() == 2).await;
    let prefix = "203.0.113.0/24".parse().unwrap();
    let best = snapshot.routes.best(&prefix).unwrap();
    assert_eq!(&**best.neighbour(), "edge-2");
    let ids = snapshot.neighbours.iter().map(|one| one.session.router_id);
    assert_eq!(ids.collect::<Vec<_>>(), [Some(high), Some(low)]);
}

#[tokio::test(start_paused = true)]
async fn routes_are_asked_for_again_where_the_router_offers_that() {
    let net = MemoryNet::default();
    let handle = one(&net);
    let refresh = |family| Order::Refresh(family);
    let nobody = handle.order("edge-1", refresh(None)).await;
    assert_eq!(nobody, Err(OrderError::NotEstablished));
    let mut router = Router::up_with(&net, &[Capability::RouteRefresh]).await;
    until(&handle, |s| s.neighbours[0].state == "established").await;
    handle.order("edge-1", refresh(None)).await.unwrap();
    for family in [Family::Ipv4, Family::Ipv6] {
        assert_eq!(raw(&mut router).await, Some(wire::route_refresh(family)));
    }
    let only = refresh(Some(Family::Ipv6));
    handle.order("edge-1", only).await.unwrap();
    assert_eq!(
        raw(&mut router).await,
        Some(wire::route_refresh(Family::Ipv6))
    );
    let _plain = Router::up(&net, "192.0.2.2", 64501, true).await;
    until(&handle, |s| s.neighbours[1].state == "established").await;
    let refused = handle.order("edge-2", refresh(None)).await;
    assert_eq!(refused, Err(OrderError::NoRefresh));
    let ambiguous = handle.order("edge", Order::Up).await.unwrap_err();
    assert!(ambiguous.to_string().contains("edge-1 or edge-2"));
    assert!(handle.order("peer", Order::Up).await.is_err());
}

/// What `bgpdump -m` says of MRT bytes, a line a route or message.
fn dumped(bytes: &[u8]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mrt");
    std::fs::write(&file, bytes).unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|dir| dir.join("bgpdump"));
    let Some(program) = found.find(|path: &PathBuf| path.is_file()) else {
        panic!("bgpdump is missing; install it with: apt-get install bgpdump");
    };
    let output = Command::new(program).arg("-m").arg(&file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    // The time differs.
    let cut = |line: &str| {
        let mut fields = line.splitn(3, '|');
        let kind = fields.next().unwrap_or_default().to_owned();
        format!("{kind}|{}", fields.nth(1).unwrap_or_default())
    };
    text.lines().map(cut).collect()
}

#[tokio::test(start_paused = true)]
async fn a_table_as_mrt_is_what_an_independent_reader_sees() {
    let net = MemoryNet::default();
    let handle = one(&net);
    let mut first = Router::up(&net, GOOD, 64500, true).await;
    let mut second = Router::up(&net, "192.0.2.2", 64501, true).await;
    first
        .announce(
            "64500 4200000000 {64502 64503}",
            &["203.0.113.0/24", "0.0.0.0/0"],
        )
        .await;
    first.announce("64500 64504", &["2001:db8:1::/48"]).await;
    second.announce("64501 64505", &["203.0.113.0/24"]).await;
    until(&handle, |snapshot| snapshot.routes.len() == 4).await;
    let bytes: Vec<u8> = handle.table_dump().flatten().collect();
    let rows = dumped(&bytes);
    let path = "64500 4200000000 {64502,64503}";
    for expected in [
        format!("TABLE_DUMP2|B|192.0.2.1|64500|0.0.0.0/0|{path}|IGP|198.51.100.7|0|5||NAG||"),
        format!("TABLE_DUMP2|B|192.0.2.1|64500|203.0.113.0/24|{path}|IGP|198.51.100.7|0|5||NAG||"),
        "TABLE_DUMP2|B|192.0.2.2|64501|203.0.113.0/24|64501 64505|IGP|198.51.100.7|0|5||NAG||"
            .to_owned(),
        "TABLE_DUMP2|B|192.0.2.1|64500|2001:db8:1::/48|64500 64504|IGP|2001:db8::7|0|5||NAG||"
            .to_owned(),
    ] {
        assert!(rows.contains(&expected), "{expected} is not in {rows:#?}");
    }
    assert_eq!(rows.len(), 4, "{rows:#?}");
}

#[tokio::test(start_paused = true)]
async fn messages_as_they_pass_are_what_an_independent_reader_sees() {
    let net = MemoryNet::default();
    let handle = one(&net);
    let mut before = Router::up(&net, "192.0.2.2", 64501, true).await;
    before.announce("64501", &["198.51.100.0/24"]).await;
    until(&handle, |snapshot| snapshot.routes.len() == 1).await;
    let begun = handle.tap(None);
    assert!(begun.bytes.is_empty());
    let mut router = Router::up(&net, GOOD, 64500, true).await;
    router.announce("64500 70000", &["203.0.113.0/24"]).await;
    router.announce("64500", &["2001:db8:1::/48"]).await;
    let prefix = "203.0.113.0/24".parse().unwrap();
    router.send(&wire::withdraw(&[prefix]).unwrap()[0]).await;
    until(&handle, |snapshot| snapshot.routes.len() == 2).await;
    handle
        .order("edge-1", Order::Down(String::new()))
        .await
        .unwrap();
    let page = handle.tap(Some(begun.next));
    assert_eq!(page.lost, 0);
    let rows = dumped(&page.bytes);
    for expected in [
        "BGP4MP|STATE|192.0.2.1|64500|5|6",
        "BGP4MP|A|192.0.2.1|64500|203.0.113.0/24|64500 70000|IGP|198.51.100.7|0|5||NAG||",
        "BGP4MP|A|192.0.2.1|64500|2001:db8:1::/48|64500|IGP|2001:db8::7|0|5||NAG||",
        "BGP4MP|W|192.0.2.1|64500|203.0.113.0/24",
        "BGP4MP|STATE|192.0.2.1|64500|6|1",
    ] {
        let is_there = rows.iter().any(|row| row.replace("_ET", "") == *expected);
        assert!(is_there, "{expected} is not in {rows:#?}");
    }
}
