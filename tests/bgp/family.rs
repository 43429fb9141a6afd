//! A family whose routes cannot be read, through the whole room on a network in memory.

use super::check::framed;
use super::memory::GOOD;
use super::memory::Router;
use super::memory::neighbour;
use super::memory::start;
use super::memory::until;
use oca::bgp::MemoryNet;
use oca::bgp::Snapshot;
use oca::bgp::wire;
use oca::prefix::Family;
use oca::route::Attributes;
use oca::telemetry;

/// RFC 4760 section 7: its routes go, it is ignored, the session and the other family stay.
#[tokio::test(start_paused = true)]
async fn a_family_that_cannot_be_read_is_given_up_and_its_error_is_counted_by_kind() {
    let net = MemoryNet::default();
    let handle = start(&net, vec![neighbour("good", GOOD, 64500)]);
    let registry = telemetry::Registry::new("9.9", oca::clock::now());
    handle.register(&registry);
    let mut router = Router::up(&net, GOOD, 64500, true).await;
    let ipv6 = Attributes::new("64500".parse().unwrap(), "2001:db8::1".parse().unwrap());
    let ipv6 = wire::announce(&ipv6, &["2001:db8:1::/48".parse().unwrap()], true).unwrap();
    router.send(&ipv6[0]).await;
    router.announce("64500", &["203.0.113.0/24"]).await;
    until(&handle, |snapshot| snapshot.routes.len() == 2).await;
    // MP_UNREACH_NLRI with a prefix of 129 bits.
    let broken = [0, 0, 0, 7, 0x80, 15, 4, 0, 2, 1, 129];
    router.send(&framed(2, &broken)).await;
    let left = until(&handle, |snapshot| snapshot.routes.len() == 1).await;
    let first = |snapshot: &Snapshot| snapshot.routes.iter().next().unwrap().prefix.family();
    assert_eq!(first(&left), Family::Ipv4);
    let disabled = |snapshot: &Snapshot| snapshot.neighbours[0].session.disabled == ["ipv6"];
    let told = until(&handle, disabled).await;
    assert_eq!(told.neighbours[0].session.families, ["ipv4"]);
    let error = told.neighbours[0].last_error.as_deref().unwrap();
    assert!(error.starts_with("ipv6 is ignored: "), "{error}");
    router.send(&ipv6[0]).await;
    router.announce("64500", &["198.51.100.0/24"]).await;
    let after = until(&handle, |snapshot| snapshot.routes.len() == 2).await;
    let mut families = after.routes.iter().map(|seen| seen.prefix.family());
    assert!(
        families.all(|family| family == Family::Ipv4) && after.neighbours[0].state == "established"
    );
    let line = "oca_bgp_update_faults_total{neighbour=\"good\",kind=\"mp-unreach\"} 1.0\n";
    let page = registry.render();
    assert!(page.contains(line), "{page}");
    // The next session speaks both again.
    drop(router);
    let is_down = |snapshot: &Snapshot| snapshot.neighbours[0].state != "established";
    until(&handle, is_down).await;
    let mut again = Router::up(&net, GOOD, 64500, true).await;
    again.send(&ipv6[0]).await;
    let back = until(&handle, |snapshot| snapshot.routes.len() == 1).await;
    assert_eq!(first(&back), Family::Ipv6);
}
