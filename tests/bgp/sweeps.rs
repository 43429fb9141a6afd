//! Keepalives leave in time while a whole table goes, however it goes: after a refresh, with its
//! family, with its session, with the time of a restart. On a runtime of one thread.
//!
//! `OCA_BGP_ROUTES` is the size of the table: 1200000 is today's internet.

use super::bird::OUR_ASN;
use super::bird::OUR_IP;
use super::punctual;
use oca::bgp;
use oca::bgp::Bogons;
use oca::bgp::Config;
use oca::bgp::Handle;
use oca::bgp::NeighbourConfig;
use oca::bgp::OwnPolicy;
use oca::bgp::Seams;
use oca::bgp::SessionConfig;
use oca::bgp::TransportConfig;
use oca::bgp::wire;
use oca::bgp::wire::Capabilities;
use oca::bgp::wire::Capability;
use oca::bgp::wire::GracefulRestart;
use oca::bgp::wire::Kept;
use oca::bgp::wire::Open;
use oca::bgp::wire::Refresh;
use oca::clock;
use oca::prefix::Family;
use oca::route::Asn;
use oca::route::Class;
use oca::telemetry;
use std::io::Read as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

const FULL: (Ipv4Addr, u32) = (Ipv4Addr::new(127, 0, 0, 17), 64_507);
const QUIET: (Ipv4Addr, u32) = (Ipv4Addr::new(127, 0, 0, 18), 64_508);

/// For a router that restarts.
const RESTART_SECONDS: u16 = 2;

fn neighbour(name: &str, (address, asn): (Ipv4Addr, u32), hold_s: u64) -> NeighbourConfig {
    NeighbourConfig {
        local_address: Some(OUR_IP.into()),
        passive: true,
        hold_time: Duration::from_secs(hold_s),
        max_prefixes: 5_000_000,
        bogons: Bogons::None,
        transport: TransportConfig {
            ttl_security: false,
            ..TransportConfig::default()
        },
        session: SessionConfig {
            idle_hold: Duration::ZERO,
            ..SessionConfig::default()
        },
        ..NeighbourConfig::new(name, address.into(), Asn(asn), Class::Transit)
    }
}

fn connect(
    to: SocketAddr,
    (own, asn): (Ipv4Addr, u32),
    hold_time: u16,
    more: &[Capability<'static>],
) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.unwrap();
    socket.bind(&SocketAddr::from((own, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    let mut capabilities = vec![
        Capability::unicast(Family::Ipv4),
        Capability::unicast(Family::Ipv6),
        Capability::FourOctetAs(Asn(asn)),
        Capability::RouteRefresh,
        Capability::EnhancedRouteRefresh,
    ];
    capabilities.extend_from_slice(more);
    let open = wire::open(&Open {
        asn: Asn(asn),
        hold_time,
        router_id: own,
        capabilities: Capabilities::of(&capabilities),
    });
    stream.write_all(&open).unwrap();
    stream.write_all(&wire::keepalive()).unwrap();
    stream
}

/// A neighbour with the shortest hold time there is, that only listens; ends with `done`.
fn listen(mut stream: TcpStream, done: &AtomicBool) {
    let every = Duration::from_millis(200);
    stream.set_read_timeout(Some(every)).unwrap();
    let mut piece = [0; 4096];
    while !done.load(Relaxed) {
        stream.write_all(&wire::keepalive()).unwrap();
        while matches!(stream.read(&mut piece), Ok(4096)) {}
        clock::block_for(every);
    }
}

/// The table of `full` comes, whole.
async fn learned(handle: &Handle, mut stream: TcpStream, routes: u32) -> TcpStream {
    let sending = tokio::task::spawn_blocking(move || {
        punctual::send(&mut stream, routes);
        stream
    });
    let stream = sending.await.unwrap();
    held(handle, usize::try_from(routes).unwrap()).await;
    stream
}

async fn held(handle: &Handle, routes: usize) {
    let mut snapshots = handle.subscribe();
    let all = snapshots.wait_for(|snapshot| snapshot.neighbours[0].routes == routes);
    let all = clock::within(Duration::from_secs(300), all).await;
    all.expect("never so many routes").unwrap();
}

/// The latest keepalive of the quiet neighbour so far.
fn late(registry: &telemetry::Registry) -> Duration {
    let page = registry.render();
    let name = "oca_bgp_keepalive_late_seconds_max{neighbour=\"quiet\"} ";
    let late = page.lines().find_map(|line| line.strip_prefix(name));
    Duration::from_secs_f64(late.unwrap().parse().unwrap())
}

fn config() -> Config {
    Config {
        asn: OUR_ASN,
        router_id: Ipv4Addr::new(192, 0, 2, 3),
        listen: vec![SocketAddr::from((OUR_IP, 0))],
        neighbours: vec![neighbour("full", FULL, 240), neighbour("quiet", QUIET, 3)],
        policy: OwnPolicy::default(),
    }
}

#[tokio::test]
async fn keepalives_leave_in_time_while_a_whole_table_goes() {
    let routes = std::env::var("OCA_BGP_ROUTES").map_or(60_000, |n| n.parse().unwrap());
    let routes: u32 = routes / 16 * 16;
    let handle = bgp::start(&config(), Seams::real()).unwrap();
    let registry = telemetry::Registry::new("9.9", clock::now());
    handle.register(&registry);
    let to = handle.addresses()[0];
    let done = Arc::new(AtomicBool::new(false));
    let quiet = connect(to, QUIET, 3, &[]);
    let threads = [
        std::thread::spawn({
            let done = Arc::clone(&done);
            move || {
                listen(quiet, &done);
                Duration::ZERO
            }
        }),
        std::thread::spawn({
            let done = Arc::clone(&done);
            move || punctual::machine_lateness(&done)
        }),
    ];
    let kept = Some(Kept { forwarding: true });
    let restart = [Capability::GracefulRestart(GracefulRestart {
        restarted: false,
        notification: false,
        seconds: RESTART_SECONDS,
        ipv4: kept,
        ipv6: kept,
    })];
    let mut told = Vec::new();
    // A refresh that brings nothing.
    let mut stream = learned(&handle, connect(to, FULL, 240, &restart), routes).await;
    for mark in [Refresh::Begin, Refresh::End] {
        let mark = wire::refresh(Family::Ipv4, mark);
        stream.write_all(&mark).unwrap();
    }
    held(&handle, 0).await;
    told.push(("refresh", late(&registry)));
    // An MP_UNREACH_NLRI with a prefix of 33 bits: the family is given up.
    let mut stream = learned(&handle, stream, routes).await;
    let body = [0, 0, 0, 12, 0x80, 15, 9, 0, 1, 1, 33, 0, 0, 0, 0, 0];
    stream.write_all(&super::check::framed(2, &body)).unwrap();
    held(&handle, 0).await;
    told.push(("family", late(&registry)));
    drop(stream);
    // A router that does not come back in its time.
    let stream = learned(&handle, connect(to, FULL, 240, &restart), routes).await;
    drop(stream);
    held(&handle, 0).await;
    told.push(("restart", late(&registry)));
    // One that does not restart.
    let stream = learned(&handle, connect(to, FULL, 240, &[]), routes).await;
    drop(stream);
    held(&handle, 0).await;
    told.push(("session", late(&registry)));
    let quiet = &handle.snapshot().neighbours[1];
    assert_eq!((quiet.state, &quiet.last_error), ("established", &None));
    done.store(true, Relaxed);
    let joined = tokio::task::spawn_blocking(move || threads.map(|one| one.join().unwrap()));
    let machine = joined.await.unwrap().into_iter().max().unwrap();
    println!("{routes} routes: {told:?}; the machine itself was late by {machine:?}");
    let allowed = punctual::allowed(machine);
    for (what, late) in told {
        assert!(
            late <= allowed,
            "{what}: {late:?}, {machine:?} of it the machine"
        );
    }
    handle.stop("done").await;
}
