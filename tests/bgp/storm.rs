//! While a router changes every route over and over, who asks is answered at once, and from a
//! snapshot that holds together.

use super::learning::PATIENCE;
use oca::bgp;
use oca::bgp::Bogons;
use oca::bgp::Config;
use oca::bgp::Handle;
use oca::bgp::NeighbourConfig;
use oca::bgp::OwnPolicy;
use oca::bgp::Seams;
use oca::bgp::TransportConfig;
use oca::bgp::wire;
use oca::bgp::wire::Capabilities;
use oca::bgp::wire::Capability;
use oca::bgp::wire::Open;
use oca::clock;
use oca::prefix::Family;
use oca::prefix::Prefix;
use oca::route::Asn;
use oca::route::Attributes;
use oca::route::Class;
use oca::route::Community;
use oca::set_hash::SetHash;
use std::io::Read as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

const ROUTER_IP: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 7);
const ROUTES: u32 = 100_000;

/// Of this unoptimised program, on a machine that builds other things. A full table's answer takes
/// microseconds (`benches/run bgp`); one that waited for a merge would take far longer.
const ANSWER_MAX: Duration = Duration::from_millis(50);

/// Every route, with attributes that tell the round.
fn announced(round: u32) -> Vec<u8> {
    let mut out = Vec::new();
    for block in 0..ROUTES / 100 {
        let attributes = Attributes {
            med: Some(round),
            communities: vec![Community(64500 << 16 | block)],
            ..Attributes::new(
                "64500 64501".parse().unwrap(),
                Ipv4Addr::new(198, 51, 100, 1).into(),
            )
        };
        let prefixes: Vec<Prefix> = (0..100)
            .map(|n| Ipv4Addr::from_bits(0x0b00_0000 + ((100 * block + n) << 8)))
            .map(|address| Prefix::new(address.into(), 24).unwrap())
            .collect();
        let messages = wire::announce(&attributes, &prefixes, true).unwrap();
        messages.iter().for_each(|message| out.extend(message));
    }
    out
}

fn config() -> Config {
    Config {
        asn: Asn(64510),
        router_id: Ipv4Addr::new(192, 0, 2, 3),
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        neighbours: vec![NeighbourConfig {
            passive: true,
            max_prefixes: 100_000,
            bogons: Bogons::None,
            transport: TransportConfig {
                ttl_security: false,
                ..TransportConfig::default()
            },
            ..NeighbourConfig::new("stormy", ROUTER_IP.into(), Asn(64500), Class::Embedded)
        }],
        policy: OwnPolicy::default(),
    }
}

fn connect(to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::from((ROUTER_IP, 0)).into())
        .unwrap();
    socket.connect(&to.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    let hello = wire::open(&Open {
        asn: Asn(64500),
        hold_time: 90,
        router_id: ROUTER_IP,
        capabilities: Capabilities::of(&[
            Capability::unicast(Family::Ipv4),
            Capability::FourOctetAs(Asn(64500)),
        ]),
    });
    stream
        .write_all(&[hello, wire::keepalive()].concat())
        .unwrap();
    let mut reader = stream.try_clone().unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while reader.read(&mut bytes).is_ok_and(|count| count > 0) {}
    });
    stream
}

/// The speaker on a thread of its own, as in the daemon; it ends with `stop`.
fn start() -> (Handle, oneshot::Sender<()>, JoinHandle<()>) {
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(async {
            let handle = bgp::start(&config(), Seams::real()).unwrap();
            tell.send(handle.clone()).unwrap();
            let _ = stopped.await;
            handle.stop("the end").await;
        });
    });
    (told.recv().unwrap(), stop, thread)
}

/// Asks as the admin socket does, many times; the time that most answers stay below, and the
/// generations they were of.
fn ask(handle: &Handle) -> (Duration, Vec<u64>) {
    let (mut slow, mut generations) = (Vec::new(), Vec::new());
    for number in 0..400_u32 {
        let begun = clock::now();
        let snapshot = handle.snapshot();
        let address = IpAddr::V4(Ipv4Addr::from_bits(0x0b00_0009 + ((number * 241) << 8)));
        let found = snapshot.routes.covering(address);
        let routes: Vec<_> = found.iter().map(|seen| seen.route()).collect();
        slow.push(begun.elapsed());
        assert_eq!(routes.len(), 1, "{address}");
        assert!(routes[0].prefix.contains(address));
        let steerable = snapshot.routes.steerable(address).map(|seen| seen.prefix);
        assert_eq!(steerable, Some(routes[0].prefix));
        generations.push(snapshot.generation);
        clock::block_for(Duration::from_millis(5));
    }
    slow.sort();
    generations.dedup();
    (slow[slow.len() * 95 / 100], generations)
}

#[test]
fn what_covers_an_address_is_told_in_milliseconds_while_every_route_changes() {
    let (handle, stop, speaker) = start();
    let mut stream = connect(handle.addresses()[0]);
    stream.write_all(&announced(0)).unwrap();
    let begun = clock::now();
    while handle.snapshot().routes.len() < ROUTES as usize {
        assert!(
            begun.elapsed() < PATIENCE,
            "{:?}",
            handle.snapshot().neighbours
        );
        clock::block_for(Duration::from_millis(10));
    }
    let over = AtomicBool::new(false);
    let (slowest, generations) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let rounds: Vec<Vec<u8>> = (1..4).map(announced).collect();
            let mut rounds = rounds.iter().cycle();
            while !over.load(Relaxed) {
                if stream.write_all(rounds.next().unwrap()).is_err() {
                    break;
                }
            }
        });
        let asked = ask(&handle);
        let snapshot = handle.snapshot();
        let items = snapshot.routes.iter().map(|seen| seen.route().item());
        assert_eq!(SetHash::of(items), snapshot.hash);
        over.store(true, Relaxed);
        asked
    });
    assert!(slowest < ANSWER_MAX, "{slowest:?}");
    assert!(generations.len() > 3, "no storm: {generations:?}");
    stop.send(()).unwrap();
    speaker.join().unwrap();
}
