//! Keepalives leave in time while a whole table comes in, on a runtime of one thread.
//!
//! `OCA_BGP_ROUTES` is the size of the table: 1200000 is today's internet.

use super::bird::OUR_ASN;
use super::bird::OUR_IP;
use oca::bgp;
use oca::bgp::Bogons;
use oca::bgp::Config;
use oca::bgp::NeighbourConfig;
use oca::bgp::OwnPolicy;
use oca::bgp::Seams;
use oca::bgp::TransportConfig;
use oca::bgp::wire;
use oca::bgp::wire::Capabilities;
use oca::bgp::wire::Capability;
use oca::bgp::wire::Open;
use oca::clock;
use oca::clock::Instant;
use oca::prefix::Prefix;
use oca::route::Asn;
use oca::route::Attributes;
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

const ROUTER_IP: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 7);
const ROUTER_ASN: Asn = Asn(64_507);

/// The smallest there is: a keepalive every second.
const HOLD_SECONDS: u16 = 3;

/// Of one UPDATE, about what routers send.
const PREFIXES: u32 = 16;

fn config() -> Config {
    Config {
        asn: OUR_ASN,
        router_id: Ipv4Addr::new(192, 0, 2, 3),
        listen: vec![SocketAddr::from((OUR_IP, 0))],
        neighbours: vec![NeighbourConfig {
            local_address: Some(OUR_IP.into()),
            passive: true,
            hold_time: Duration::from_secs(HOLD_SECONDS.into()),
            max_prefixes: 5_000_000,
            bogons: Bogons::None,
            transport: TransportConfig {
                ttl_security: false,
                ..TransportConfig::default()
            },
            ..NeighbourConfig::new("full", ROUTER_IP.into(), ROUTER_ASN, Class::Transit)
        }],
        policy: OwnPolicy::default(),
    }
}

/// A router that says hello and then sends its table as fast as it is taken.
fn connect(to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.unwrap();
    let own = SocketAddr::from((ROUTER_IP, 0));
    socket.bind(&own.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    let open = wire::open(&Open {
        asn: ROUTER_ASN,
        hold_time: HOLD_SECONDS,
        router_id: ROUTER_IP,
        capabilities: Capabilities::of(&[
            Capability::MultiProtocol { afi: 1, safi: 1 },
            Capability::FourOctetAs(ROUTER_ASN),
        ]),
    });
    stream.write_all(&open).unwrap();
    stream.write_all(&wire::keepalive()).unwrap();
    stream
}

pub(crate) fn send(stream: &mut TcpStream, routes: u32) {
    for batch in 0..routes.div_ceil(PREFIXES) {
        let prefixes: Vec<Prefix> = (0..PREFIXES)
            .map(|n| {
                let address = Ipv4Addr::from(0x0A00_0000 + ((batch * PREFIXES + n) << 3));
                Prefix::new(address.into(), 29).unwrap()
            })
            .collect();
        let path = format!("{ROUTER_ASN} 65551 {}", 65_600 + batch % 50_000);
        let path = path.parse().unwrap();
        let attributes = Attributes {
            med: Some(batch % 100),
            ..Attributes::new(path, Ipv4Addr::new(198, 51, 100, 1).into())
        };
        for message in wire::announce(&attributes, &prefixes, true).unwrap() {
            stream.write_all(&message).unwrap();
        }
    }
}

/// When keepalives came; the first one confirms the OPEN.
fn keepalives(stream: &mut TcpStream) -> Vec<Instant> {
    let (mut unread, mut piece, mut times) = (Vec::new(), [0; 4096], Vec::new());
    while let Ok(read @ 1..) = stream.read(&mut piece) {
        unread.extend_from_slice(&piece[..read]);
        while let Ok(Some(length)) = wire::frame(&unread, wire::MESSAGE_BYTES_MAX)
            && length <= unread.len()
        {
            let message: Vec<u8> = unread.drain(..length).collect();
            if message == wire::keepalive() {
                times.push(clock::now());
            }
        }
    }
    times
}

/// How late a thread that only sleeps is woken here: that much is the machine's.
pub(crate) fn machine_lateness(done: &AtomicBool) -> Duration {
    let (nap, mut worst) = (Duration::from_millis(5), Duration::ZERO);
    while !done.load(Relaxed) {
        let begun = clock::now();
        clock::block_for(nap);
        worst = worst.max(begun.elapsed().saturating_sub(nap));
    }
    worst
}

/// How late a keepalive may leave. Who works is put off longer than who only sleeps, several times
/// in a row where the machine is busy with other things.
pub(crate) fn allowed(machine: Duration) -> Duration {
    Duration::from_millis(100) + 3 * machine
}

#[tokio::test]
async fn keepalives_leave_in_time_while_a_whole_table_comes_in() {
    let routes = std::env::var("OCA_BGP_ROUTES").map_or(200_000, |n| n.parse().unwrap());
    let handle = bgp::start(&config(), Seams::real()).unwrap();
    let registry = telemetry::Registry::new("9.9", clock::now());
    handle.register(&registry);
    let to = handle.addresses()[0];
    let done = Arc::new(AtomicBool::new(false));
    let machine = {
        let done = Arc::clone(&done);
        std::thread::spawn(move || machine_lateness(&done))
    };
    let begun = clock::now();
    let router = std::thread::spawn({
        let done = Arc::clone(&done);
        move || {
            let mut stream = connect(to);
            let mut reader = stream.try_clone().unwrap();
            let reader = std::thread::spawn(move || keepalives(&mut reader));
            send(&mut stream, routes);
            while !done.load(Relaxed) {
                stream.write_all(&wire::keepalive()).unwrap();
                clock::block_for(Duration::from_millis(200));
            }
            drop(stream.shutdown(std::net::Shutdown::Both));
            reader.join().unwrap()
        }
    });
    let wanted = usize::try_from(routes.div_ceil(PREFIXES) * PREFIXES).unwrap();
    let mut snapshots = handle.subscribe();
    let whole = snapshots.wait_for(|snapshot| snapshot.neighbours[0].routes == wanted);
    clock::within(Duration::from_secs(300), whole)
        .await
        .expect("the table never came whole")
        .unwrap();
    let took = begun.elapsed();
    // At least one keepalive more, however fast it was.
    clock::sleep(Duration::from_millis(1_200)).await;
    done.store(true, Relaxed);
    let (times, machine) =
        tokio::task::spawn_blocking(move || (router.join().unwrap(), machine.join().unwrap()))
            .await
            .unwrap();
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    let widest = gaps.max().expect("no keepalives");
    let page = registry.render();
    let late = page
        .lines()
        .find_map(|line| {
            line.strip_prefix("oca_bgp_keepalive_late_seconds_max{neighbour=\"full\"} ")
        })
        .unwrap();
    let late = Duration::from_secs_f64(late.parse().unwrap());
    println!(
        "{wanted} routes in {took:?}: {} keepalives, the latest {late:?} after it was due, at \
         most {widest:?} apart; the machine itself was late by {machine:?}",
        times.len()
    );
    let allowed = allowed(machine);
    assert!(
        late <= allowed,
        "{late:?} late, {machine:?} of it the machine"
    );
    let third = Duration::from_secs(HOLD_SECONDS.into()) / 3;
    assert!(widest <= third + allowed, "{widest:?} apart");
    handle.stop("done").await;
}
