//! The whole room on a paused clock and a network in memory, with routers that a test plays.

use super::corpus;
use super::corpus::Fate;
use futures_util::future::BoxFuture;
use oca::bgp;
use oca::bgp::Bogons;
use oca::bgp::Config;
use oca::bgp::Dial;
use oca::bgp::Expected;
use oca::bgp::Handle;
use oca::bgp::MemoryNet;
use oca::bgp::NeighbourConfig;
use oca::bgp::Net;
use oca::bgp::OwnPolicy;
use oca::bgp::Seams;
use oca::bgp::SessionConfig;
use oca::bgp::Snapshot;
use oca::bgp::wire;
use oca::bgp::wire::Capabilities;
use oca::bgp::wire::Capability;
use oca::bgp::wire::Fault;
use oca::bgp::wire::Message;
use oca::bgp::wire::Open;
use oca::prefix::Family;
use oca::prefix::Prefix;
use oca::route::Asn;
use oca::route::Attributes;
use oca::route::Class;
use oca::telemetry;
use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;

/// The type of an OPEN, in the last octet of its header.
const OPEN: u8 = 1;

const OURS: &str = "192.0.2.9:179";
pub(crate) const GOOD: &str = "192.0.2.1";
const BAD: &str = "192.0.2.2";

/// One connection of a router that the test plays.
pub(crate) struct Router {
    link: bgp::Link,
    unread: Vec<u8>,
    router_id: IpAddr,
    asn: Asn,
    four_octets: bool,
    /// Said in the OPEN beside families and the AS.
    more: Vec<Capability<'static>>,
}

pub(crate) fn neighbour(name: &str, address: &str, asn: u32) -> NeighbourConfig {
    NeighbourConfig {
        passive: true,
        max_prefixes: 10_000,
        bogons: Bogons::None,
        // A test's neighbour is let in again however it ended.
        session: SessionConfig {
            idle_hold: Duration::ZERO,
            ..SessionConfig::default()
        },
        ..NeighbourConfig::new(name, address.parse().unwrap(), Asn(asn), Class::Peering)
    }
}

pub(crate) fn start(net: &MemoryNet, neighbours: Vec<NeighbourConfig>) -> Handle {
    start_on(Arc::new(net.clone()), neighbours)
}

pub(crate) fn start_with(
    net: &MemoryNet,
    neighbours: Vec<NeighbourConfig>,
    policy: OwnPolicy,
) -> Handle {
    let config = Config {
        policy,
        ..config(neighbours)
    };
    let net = Arc::new(net.clone());
    bgp::start(&config, Seams { net, seed: 1 }).unwrap()
}

fn start_on(net: Arc<dyn Net>, neighbours: Vec<NeighbourConfig>) -> Handle {
    bgp::start(&config(neighbours), Seams { net, seed: 1 }).unwrap()
}

fn config(neighbours: Vec<NeighbourConfig>) -> Config {
    Config {
        asn: Asn(64510),
        router_id: Ipv4Addr::new(192, 0, 2, 9),
        listen: vec![OURS.parse().unwrap()],
        neighbours,
        policy: OwnPolicy::default(),
    }
}

pub(crate) async fn until(handle: &Handle, wanted: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
    let mut snapshots = handle.subscribe();
    let found = snapshots.wait_for(|snapshot| wanted(snapshot));
    let found = oca::clock::within(Duration::from_secs(600), found).await;
    Arc::clone(&found.expect("never seen").unwrap())
}

impl Router {
    pub(crate) async fn connect(net: &MemoryNet, ip: &str, asn: u32, four_octets: bool) -> Self {
        let ip: IpAddr = ip.parse().unwrap();
        let link = net.connect(Dial::new(Some(ip), OURS.parse().unwrap()));
        let link = link.await.unwrap();
        Self {
            link,
            unread: Vec::new(),
            router_id: ip,
            asn: Asn(asn),
            four_octets,
            more: Vec::new(),
        }
    }

    /// With OPENs and KEEPALIVEs exchanged.
    pub(crate) async fn up(net: &MemoryNet, ip: &str, asn: u32, four_octets: bool) -> Self {
        let mut router = Self::connect(net, ip, asn, four_octets).await;
        router.come_up().await;
        router
    }

    /// The same for one that calls itself by another address than its own.
    pub(crate) async fn up_as(net: &MemoryNet, ip: &str, asn: u32, router_id: Ipv4Addr) -> Self {
        let mut router = Self::connect(net, ip, asn, true).await;
        router.router_id = router_id.into();
        router.come_up().await;
        router
    }

    /// The same for one that has more capabilities.
    pub(crate) async fn up_with(net: &MemoryNet, more: &[Capability<'static>]) -> Self {
        let mut router = Self::connect(net, GOOD, 64500, true).await;
        router.more = more.to_vec();
        router.come_up().await;
        router
    }

    async fn come_up(&mut self) {
        let router = self;
        router.send(&router.open(30)).await;
        assert_eq!(router.next().await.map(|bytes| bytes[18]), Some(OPEN));
        assert_eq!(router.next().await, Some(wire::keepalive()));
        router.send(&wire::keepalive()).await;
    }

    fn open(&self, hold_time: u16) -> Vec<u8> {
        let IpAddr::V4(router_id) = self.router_id else {
            panic!("IPv4 only");
        };
        let mut capabilities = vec![
            Capability::unicast(Family::Ipv4),
            Capability::unicast(Family::Ipv6),
        ];
        if self.four_octets {
            capabilities.push(Capability::FourOctetAs(self.asn));
        }
        capabilities.extend_from_slice(&self.more);
        wire::open(&Open {
            asn: self.asn,
            hold_time,
            router_id,
            capabilities: Capabilities::of(&capabilities),
        })
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        // We may have closed already; what comes back says so.
        let _ = self.link.stream.write_all(bytes).await;
    }

    pub(crate) async fn announce(&mut self, path: &str, prefixes: &[&str]) {
        let prefixes: Vec<Prefix> = prefixes.iter().map(|p| p.parse().unwrap()).collect();
        let next_hop = match prefixes[0].family() {
            Family::Ipv4 => "198.51.100.7",
            Family::Ipv6 => "2001:db8::7",
        };
        let attributes = Attributes {
            med: Some(5),
            ..Attributes::new(path.parse().unwrap(), next_hop.parse().unwrap())
        };
        for message in wire::announce(&attributes, &prefixes, self.four_octets).unwrap() {
            self.send(&message).await;
        }
    }

    /// The next message; `None` once we have closed.
    pub(crate) async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Ok(Some(length)) = wire::frame(&self.unread, wire::MESSAGE_BYTES_MAX)
                && length <= self.unread.len()
            {
                return Some(self.unread.drain(..length).collect());
            }
            let read = self
                .link
                .stream
                .read_buf(&mut self.unread)
                .await
                .unwrap_or(0);
            if read == 0 {
                return None;
            }
        }
    }

    /// Skips keepalives.
    pub(crate) async fn last_words(&mut self) -> Option<wire::Notification> {
        loop {
            match wire::decode(&self.next().await?, None).unwrap() {
                Message::Keepalive => {}
                Message::Notification(notification) => return Some(notification.into_owned()),
                other @ (Message::Open(_) | Message::Update(_) | Message::RouteRefresh { .. }) => {
                    panic!("{other:?}")
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_hostile_neighbour_gets_its_answer_and_disturbs_nobody() {
    let net = MemoryNet::default();
    let neighbours = vec![neighbour("good", GOOD, 64500), neighbour("bad", BAD, 64501)];
    let handle = start(&net, neighbours);
    let mut good = Router::up(&net, GOOD, 64500, true).await;
    good.announce("64500 64502", &["203.0.113.0/24", "198.51.100.0/25"])
        .await;
    let before = until(&handle, |snapshot| snapshot.routes.len() == 2).await;
    let up = |snapshot: &Snapshot| snapshot.neighbours[1].state == "established";
    for (name, fate) in corpus::TABLE {
        // Between two tries of a neighbour that is closed each time.
        oca::clock::sleep(Duration::from_secs(2)).await;
        good.send(&wire::keepalive()).await;
        let mut bad = Router::up(&net, BAD, 64501, true).await;
        until(&handle, up).await;
        bad.send(&corpus::file(name)).await;
        match fate {
            Fate::Refused(fault) => {
                let words = bad.last_words().await;
                assert_eq!(words.map(|n| n.fault), Some(*fault), "{name}");
            }
            Fate::Ended => assert_eq!(bad.last_words().await, None, "{name}"),
            Fate::Announced(count) => {
                let distinct = if *count == 900 { 1 } else { *count };
                let wanted = 2 + distinct;
                until(&handle, |snapshot| snapshot.routes.len() == wanted).await;
            }
            Fate::Survived => {
                bad.announce("64501", &["192.0.2.128/25"]).await;
                until(&handle, |snapshot| snapshot.routes.len() == 3).await;
            }
        }
        drop(bad);
        let after = until(&handle, |snapshot| {
            !up(snapshot) && snapshot.routes.len() == 2
        })
        .await;
        assert_eq!(after.hash, before.hash, "{name}");
        assert_eq!(after.neighbours[0].state, "established", "{name}");
        let error = after.neighbours[1].last_error.clone().unwrap();
        assert!(
            error.bytes().all(|byte| (0x20..0x7f).contains(&byte)),
            "{error}"
        );
    }
    assert_eq!(good.link.remote, OURS.parse::<SocketAddr>().unwrap());
}

/// Panics on the way to one neighbour, as a bug of ours would.
#[derive(Debug)]
struct Trap(MemoryNet);

impl Net for Trap {
    fn listen(
        &self,
        address: SocketAddr,
        expected: &Arc<[Expected]>,
    ) -> io::Result<Box<dyn bgp::Listener>> {
        self.0.listen(address, expected)
    }

    fn connect(&self, dial: Dial) -> BoxFuture<'static, io::Result<bgp::Link>> {
        assert_ne!(dial.remote.ip().to_string(), BAD, "as a bug would");
        self.0.connect(dial)
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_over_one_neighbour_is_told_and_leaves_the_others_alone() {
    let net = MemoryNet::default();
    let bad = NeighbourConfig {
        passive: false,
        ..neighbour("bad", BAD, 64501)
    };
    let neighbours = vec![neighbour("good", GOOD, 64500), bad];
    let handle = start_on(Arc::new(Trap(net.clone())), neighbours);
    let mut good = Router::up(&net, GOOD, 64500, true).await;
    good.announce("64500", &["203.0.113.0/24"]).await;
    for _ in 0..20 {
        oca::clock::sleep(Duration::from_secs(9)).await;
        good.send(&wire::keepalive()).await;
    }
    let snapshot = handle.snapshot();
    assert_eq!(snapshot.neighbours[0].uptime_s, Some(180));
    assert_eq!(
        (snapshot.routes.len(), snapshot.neighbours[1].state),
        (1, "idle")
    );
    let error = snapshot.neighbours[1].last_error.as_deref().unwrap();
    assert!(error.contains("internal error"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_stranger_is_closed_before_anything_is_read_and_a_known_one_with_the_wrong_as_is_told() {
    let net = MemoryNet::default();
    let handle = start(&net, vec![neighbour("good", GOOD, 64500)]);
    let mut stranger = Router::connect(&net, "203.0.113.77", 64500, true).await;
    assert_eq!(stranger.next().await, None);
    let mut other = Router::connect(&net, GOOD, 64499, true).await;
    other.send(&other.open(30)).await;
    assert_eq!(other.next().await.map(|bytes| bytes[18]), Some(OPEN));
    let words = other.last_words().await.unwrap();
    assert_eq!(words.fault, Fault::BAD_PEER_AS);
    let told = |snapshot: &Snapshot| snapshot.neighbours[0].last_error.is_some();
    let snapshot = until(&handle, told).await;
    assert_eq!(
        snapshot.neighbours[0].last_error.as_deref(),
        Some("sent 2/2 bad peer AS")
    );
}

#[tokio::test(start_paused = true)]
async fn silence_ends_the_session_with_the_hold_time_and_its_routes_with_it() {
    let net = MemoryNet::default();
    let handle = start(&net, vec![neighbour("good", GOOD, 64500)]);
    let mut router = Router::up(&net, GOOD, 64500, true).await;
    router.announce("64500", &["203.0.113.0/24"]).await;
    let first = until(&handle, |snapshot| snapshot.routes.len() == 1).await;
    let begun = oca::clock::now();
    let words = router.last_words().await.unwrap();
    assert_eq!(words.fault, Fault::HOLD_TIME_ENDED);
    let waited = oca::clock::now() - begun;
    assert!(
        waited >= Duration::from_secs(29) && waited <= Duration::from_secs(30),
        "{waited:?}"
    );
    let last = until(&handle, |snapshot| snapshot.routes.is_empty()).await;
    assert_eq!(last.generation, first.generation + 1);
}

#[tokio::test(start_paused = true)]
async fn more_prefixes_than_allowed_end_the_session_and_bar_the_neighbour() {
    let net = MemoryNet::default();
    let few = NeighbourConfig {
        max_prefixes: 3,
        ..neighbour("good", GOOD, 64500)
    };
    let handle = start(&net, vec![few]);
    let mut router = Router::up(&net, GOOD, 64500, true).await;
    let prefixes = ["203.0.113.0/26", "203.0.113.64/26", "203.0.113.128/26"];
    router.announce("64500", &prefixes).await;
    // The same again is no more.
    router.announce("64500 64502", &prefixes).await;
    until(&handle, |snapshot| snapshot.routes.len() == 3).await;
    router.announce("64500", &["203.0.113.192/26"]).await;
    let words = router.last_words().await.unwrap();
    assert_eq!(words.fault, Fault::TOO_MANY_PREFIXES);
    until(&handle, |snapshot| snapshot.routes.is_empty()).await;
    let mut again = Router::connect(&net, GOOD, 64500, true).await;
    assert_eq!(again.last_words().await.unwrap().fault, Fault::REJECTED);
    oca::clock::sleep(Duration::from_secs(31 * 60)).await;
    Router::up(&net, GOOD, 64500, true).await;
}

#[tokio::test(start_paused = true)]
async fn a_router_of_two_octets_is_understood_and_filtered_routes_stay_visible() {
    let net = MemoryNet::default();
    let strict = NeighbourConfig {
        bogons: Bogons::Default,
        ..neighbour("old", GOOD, 64500)
    };
    let handle = start(&net, vec![strict]);
    let mut router = Router::up(&net, GOOD, 64500, false).await;
    router
        .announce(
            "64500 3333 131073",
            &["9.1.0.0/16", "0.0.0.0/0", "203.0.113.0/24"],
        )
        .await;
    router.announce("64500 64510 3333", &["9.2.0.0/16"]).await;
    let snapshot = until(&handle, |snapshot| snapshot.routes.len() == 4).await;
    let shown: Vec<_> = snapshot
        .routes
        .iter()
        .map(|route| {
            let reason = route.filtered().map_or("", oca::route::Filtered::as_str);
            let path = route.packed().attributes().as_path;
            format!("{} {path} {reason}", route.prefix)
        })
        .collect();
    let expected = [
        "0.0.0.0/0 64500 3333 131073 default-route",
        "9.1.0.0/16 64500 3333 131073 ",
        "9.2.0.0/16 64500 64510 3333 as-loop",
        "203.0.113.0/24 64500 3333 131073 bogon",
    ];
    assert_eq!(shown, expected);
    assert_eq!(snapshot.steerable, 1);
    let view = &snapshot.neighbours[0];
    assert_eq!((view.routes, view.filtered), (4, 3));
    oca::clock::sleep(Duration::from_secs(7)).await;
    assert_eq!(handle.snapshot().neighbours[0].uptime_s, Some(7));
}

#[tokio::test(start_paused = true)]
async fn the_metrics_count_and_the_last_handle_takes_everything_with_it() {
    let net = MemoryNet::default();
    let handle = start(&net, vec![neighbour("good", GOOD, 64500)]);
    let registry = telemetry::Registry::new("9.9", oca::clock::now());
    handle.register(&registry);
    let mut router = Router::up(&net, GOOD, 64500, true).await;
    router
        .announce("64500", &["203.0.113.0/24", "0.0.0.0/0"])
        .await;
    until(&handle, |snapshot| snapshot.routes.len() == 2).await;
    let page = registry.render();
    for line in [
        "oca_bgp_session_up{neighbour=\"good\"} 1.0\n",
        "oca_bgp_routes{neighbour=\"good\",state=\"steerable\"} 1.0\n",
        "oca_bgp_routes{neighbour=\"good\",state=\"filtered\"} 1.0\n",
        "oca_bgp_updates_total{neighbour=\"good\"} 1.0\n",
        "oca_bgp_sessions_established_total{neighbour=\"good\"} 1.0\n",
    ] {
        assert!(page.contains(line), "{line} is missing in\n{page}");
    }
    drop((registry, handle));
    assert_eq!(router.next().await, None);
}

/// We connect and are connected to at the same moment, again and again: a session stands in the
/// end, with either side's identifier the greater.
#[tokio::test(start_paused = true)]
async fn two_speakers_that_connect_to_each_other_at_once_end_with_one_session() {
    for ids in [[1, 2], [2, 1]] {
        let net = MemoryNet::default();
        let sides = [
            ("192.0.2.9", 64510, GOOD, 64500),
            (GOOD, 64500, "192.0.2.9", 64510),
        ];
        let handles: Vec<Handle> = sides
            .iter()
            .zip(ids)
            .map(|((ip, asn, other, other_asn), id)| {
                let config = Config {
                    asn: Asn(*asn),
                    router_id: Ipv4Addr::new(203, 0, 113, id),
                    listen: vec![format!("{ip}:179").parse().unwrap()],
                    neighbours: vec![NeighbourConfig {
                        passive: false,
                        local_address: Some(ip.parse().unwrap()),
                        ..neighbour("other", other, *other_asn)
                    }],
                    policy: OwnPolicy::default(),
                };
                let seams = Seams {
                    net: Arc::new(net.clone()),
                    seed: u64::from(id),
                };
                bgp::start(&config, seams).unwrap()
            })
            .collect();
        oca::clock::sleep(Duration::from_secs(120)).await;
        for handle in &handles {
            let view = &handle.snapshot().neighbours[0];
            assert_eq!(view.state, "established", "{view:?}");
            assert!(view.uptime_s > Some(60), "{view:?}");
        }
        handles[0].stop("done").await;
        let told = |snapshot: &Snapshot| {
            let error = snapshot.neighbours[0].last_error.as_deref();
            error.is_some_and(|error| error.contains("\"done\""))
        };
        until(&handles[1], told).await;
    }
}
