//! While a router changes every route over and over, who asks is answered at once, and from a
//! snapshot that holds together.

use super::learning::until;
use oca::bgp;
use oca::bgp::Bogons;
use oca::bgp::Config;
use oca::bgp::NeighbourConfig;
use oca::bgp::Seams;
use oca::bgp::SessionConfig;
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
use std::time::Duration;
use tokio::task::spawn_blocking;

const ROUTER_IP: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 7);
const ROUTES: u32 = 30_000;

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
            .map(|n| Ipv4Addr::from_bits(0x0b00_0000 | (100 * block + n) << 8))
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
            name: "stormy".to_owned(),
            address: ROUTER_IP.into(),
            port: 179,
            asn: Asn(64500),
            class: Class::Embedded,
            local_address: None,
            passive: true,
            hold_time: Duration::from_secs(90),
            connect_retry: Duration::from_secs(30),
            max_prefixes: 100_000,
            bogons: Bogons::None,
            transport: TransportConfig {
                ttl_security: false,
                ..TransportConfig::default()
            },
            session: SessionConfig::default(),
        }],
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

#[tokio::test]
async fn what_covers_an_address_is_told_in_milliseconds_while_every_route_changes() {
    let handle = bgp::start(&config(), Seams::real()).unwrap();
    let address = handle.addresses()[0];
    // Whoever writes must not hold up the runtime that reads.
    let begun = spawn_blocking(move || {
        let mut stream = connect(address);
        stream.write_all(&announced(0)).unwrap();
        stream
    });
    let mut stream = begun.await.unwrap();
    until(&handle, |snapshot| snapshot.routes.len() == ROUTES as usize).await;
    static STOP: AtomicBool = AtomicBool::new(false);
    let storm = spawn_blocking(move || {
        let rounds: Vec<Vec<u8>> = (1..4).map(announced).collect();
        for round in rounds.iter().cycle() {
            if STOP.load(Relaxed) || stream.write_all(round).is_err() {
                break;
            }
        }
        // The session ends with it: the checks come first.
        stream
    });
    let asked = handle.clone();
    // As the admin socket: a thread of its own.
    let questions = spawn_blocking(move || {
        let (mut slow, mut generations) = (Vec::new(), Vec::new());
        for number in 0..400_u32 {
            let begun = clock::now();
            let snapshot = asked.snapshot();
            let address = IpAddr::V4(Ipv4Addr::from_bits(0x0b00_0009 | (number * 71) << 8));
            let found = snapshot.routes.covering(address);
            let routes: Vec<_> = found.iter().map(|seen| seen.route()).collect();
            slow.push(begun.elapsed());
            assert_eq!(routes.len(), 1, "{address}");
            assert!(routes[0].prefix.contains(address));
            let steerable = snapshot.routes.steerable(address).map(|seen| seen.prefix);
            assert_eq!(steerable, Some(routes[0].prefix));
            generations.push(snapshot.generation);
            std::thread::sleep(Duration::from_millis(5));
        }
        slow.sort();
        (slow[slow.len() * 95 / 100], generations)
    });
    let (slowest, mut generations) = questions.await.unwrap();
    let snapshot = handle.snapshot();
    let items = snapshot.routes.iter().map(|seen| seen.route().item());
    assert_eq!(SetHash::of(items), snapshot.hash);
    STOP.store(true, Relaxed);
    let stream = storm.await.unwrap();
    assert!(slowest < ANSWER_MAX, "{slowest:?}");
    generations.dedup();
    assert!(generations.len() > 3, "no storm: {generations:?}");
    drop(stream);
    handle.stop("the end").await;
}
