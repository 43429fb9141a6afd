//! Routers that announce without end, against the real daemon: each ends as its limit says, and
//! neither another neighbour nor a viewer notices.
//!
//! `OCA_BGP_FLOOD` is how many prefixes a router has: 2000000 is far beyond the internet.
//!
//! I/O: starts a box on loopback, below a temporary directory that goes with the test.

use super::punctual::machine_lateness;
use oca::bgp::wire;
use oca::bgp::wire::Capabilities;
use oca::bgp::wire::Capability;
use oca::bgp::wire::Fault;
use oca::bgp::wire::Message;
use oca::bgp::wire::Open;
use oca::clock;
use oca::demo::Appliance;
use oca::demo::Scratch;
use oca::demo::Settings;
use oca::prefix::Family;
use oca::prefix::Prefix;
use oca::route::Asn;
use oca::route::Attributes;
use oca::route::Community;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::Read as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

const OUR_IP: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const STEADY_IP: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 51);
const STEADY_ASN: Asn = Asn(64_501);

/// A keepalive every second at the latest.
const STEADY_HOLD_S: u16 = 3;
const STEADY_ROUTES: usize = 20;

/// Of the attributes of the routers that send 4 kB with each route, in the configuration's words.
const ATTRIBUTE_MIB: u64 = 8;

/// What the box may take beyond what the limits name: routes of this size each, and this in all.
const ROUTE_BYTES: u64 = 120;
const REST_BYTES: u64 = 16 << 20;

/// Who floods, in the order of the configuration: name, address, AS, key and value of its limits.
const FLOODS: [Flood; 4] = [
    Flood("junk", 52, "restart"),
    Flood("heavy", 53, "stop"),
    Flood("junk-dropped", 54, "drop"),
    Flood("heavy-dropped", 55, "drop"),
];

struct Flood(&'static str, u8, &'static str);

impl Flood {
    fn ip(&self) -> Ipv4Addr {
        Ipv4Addr::new(127, 0, 0, self.1)
    }

    fn asn(&self) -> Asn {
        Asn(64_500 + u32::from(self.1))
    }
}

fn prefixes() -> u32 {
    std::env::var("OCA_BGP_FLOOD").map_or(200_000, |text| text.parse().unwrap())
}

/// A connection on which OPENs and KEEPALIVEs have been sent.
fn connect(to: SocketAddr, ip: Ipv4Addr, asn: Asn, hold_time: u16) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((ip, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    let open = wire::open(&Open {
        asn,
        hold_time,
        router_id: ip,
        capabilities: Capabilities::of(&[
            Capability::unicast(Family::Ipv4),
            Capability::FourOctetAs(asn),
        ]),
    });
    stream.write_all(&open).unwrap();
    stream.write_all(&wire::keepalive()).unwrap();
    stream
}

fn prefix(number: u32) -> Prefix {
    let address = Ipv4Addr::from_bits(0x0a00_0000 + (number << 6));
    Prefix::new(address.into(), 26).unwrap()
}

/// UPDATEs of `count` prefixes, whole messages of them with little to say.
fn junk(asn: Asn, count: u32) -> impl Iterator<Item = Vec<u8>> {
    (0..count.div_ceil(500)).flat_map(move |block| {
        let path = format!("{} {}", asn.0, 65_551 + block % 1_000);
        let hop = Ipv4Addr::new(198, 51, 100, 1);
        let attributes = Attributes::new(path.parse().unwrap(), hop.into());
        let last = count.min(500 * (block + 1));
        let all: Vec<Prefix> = (500 * block..last).map(prefix).collect();
        wire::announce(&attributes, &all, true).unwrap()
    })
}

/// UPDATEs of one prefix each, with nearly 4 kB of attributes that no other has.
fn heavy(asn: Asn, count: u32) -> impl Iterator<Item = Vec<u8>> {
    (0..count).flat_map(move |number| {
        let path = format!("{}{}", asn.0, " 65551".repeat(200));
        let own = (0..720).map(|one| Community(number ^ (one << 20)));
        let mut communities: Vec<Community> = own.collect();
        communities.sort_unstable();
        let hop = Ipv4Addr::new(198, 51, 100, 1);
        let attributes = Attributes {
            communities,
            ..Attributes::new(path.parse().unwrap(), hop.into())
        };
        wire::announce(&attributes, &[prefix(number)], true).unwrap()
    })
}

/// Sends until everything is sent or the box has closed; what the box said last, and whether the
/// connection still stands.
fn flood(
    mut stream: TcpStream,
    updates: impl Iterator<Item = Vec<u8>>,
) -> (TcpStream, Option<(Fault, String)>) {
    let heard = Arc::new(AtomicBool::new(false));
    let reader = std::thread::spawn({
        let (mut stream, heard) = (stream.try_clone().unwrap(), Arc::clone(&heard));
        move || {
            let last = last_words(&mut stream);
            heard.store(true, Relaxed);
            last
        }
    });
    let mut piece = Vec::new();
    for update in updates {
        piece.extend_from_slice(&update);
        if piece.len() > 64 * 1024 {
            if heard.load(Relaxed) || stream.write_all(&piece).is_err() {
                return (stream, reader.join().unwrap());
            }
            piece.clear();
        }
    }
    let _ = stream.write_all(&piece);
    // What a limit ends is ended by now, or the box goes on reading.
    let patience = clock::now() + Duration::from_secs(2);
    while !heard.load(Relaxed) && clock::now() < patience {
        clock::block_for(Duration::from_millis(20));
    }
    if heard.load(Relaxed) {
        return (stream, reader.join().unwrap());
    }
    (stream, None)
}

fn last_words(stream: &mut TcpStream) -> Option<(Fault, String)> {
    let (mut unread, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut piece) {
        unread.extend_from_slice(&piece[..read]);
        while let Ok(Some(length)) = wire::frame(&unread, wire::MESSAGE_BYTES_MAX)
            && length <= unread.len()
        {
            let message: Vec<u8> = unread.drain(..length).collect();
            if let Ok(Message::Notification(said)) = wire::decode(&message, None) {
                return Some((said.fault, said.words()));
            }
        }
    }
    None
}

/// A neighbour that says little and listens well: the longest time between two messages of the box,
/// and whether the box never closed.
fn steady(to: SocketAddr, done: Arc<AtomicBool>) -> JoinHandle<(Duration, bool)> {
    let mut stream = connect(to, STEADY_IP, STEADY_ASN, STEADY_HOLD_S);
    std::thread::spawn(move || {
        let path = STEADY_ASN.0.to_string().parse().unwrap();
        let attributes = Attributes::new(path, Ipv4Addr::new(198, 51, 100, 1).into());
        let all: Vec<Prefix> = (0..STEADY_ROUTES)
            .map(|n| prefix(u32::try_from(n).unwrap()))
            .collect();
        for update in wire::announce(&attributes, &all, true).unwrap() {
            stream.write_all(&update).unwrap();
        }
        let nap = Some(Duration::from_millis(20));
        stream.set_read_timeout(nap).unwrap();
        let (mut last, mut spoken, mut widest) = (clock::now(), clock::now(), Duration::ZERO);
        let mut piece = [0; 4096];
        while !done.load(Relaxed) {
            match stream.read(&mut piece) {
                Ok(0) => return (widest, false),
                Ok(_) => {
                    widest = widest.max(last.elapsed());
                    last = clock::now();
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return (widest, false),
            }
            if spoken.elapsed() > Duration::from_millis(500) {
                stream.write_all(&wire::keepalive()).unwrap();
                spoken = clock::now();
            }
        }
        (widest.max(last.elapsed()), true)
    })
}

/// A viewer who takes one segment after another: how many, and the longest time that one took.
fn viewer(to: SocketAddr, done: Arc<AtomicBool>) -> JoinHandle<(u32, Duration)> {
    let title = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/media/title");
    let expected = std::fs::read(title.join("360p/seg-1.m4s")).unwrap();
    std::thread::spawn(move || {
        let (mut count, mut worst) = (0, Duration::ZERO);
        while !done.load(Relaxed) {
            let begun = clock::now();
            let mut stream = TcpStream::connect(to).unwrap();
            let request = "GET /360p/seg-1.m4s HTTP/1.1\r\nHost: localhost\r\n\
                           Connection: close\r\n\r\n";
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", answer.len());
            assert!(answer.ends_with(&expected), "{} bytes", answer.len());
            (count, worst) = (count + 1, worst.max(begun.elapsed()));
            clock::block_for(Duration::from_millis(5));
        }
        (count, worst)
    })
}

/// Octets: what the process has in memory, and the most that it ever had.
fn memory(process: u32) -> (u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = |name: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(name));
        let words = found.unwrap().split_whitespace().next().unwrap();
        words.parse::<u64>().unwrap() * 1024
    };
    (line("VmRSS:"), line("VmHWM:"))
}

fn sections(port: u16) -> String {
    let mut text = format!(
        "[bgp]\nasn = 64510\nrouter_id = \"192.0.2.9\"\nlisten = [\"{OUR_IP}:{port}\"]\n\
         [[bgp.neighbour]]\nname = \"steady\"\naddress = \"{STEADY_IP}\"\nasn = {STEADY_ASN}\n\
         hold_time = \"{STEADY_HOLD_S}s\"\n{COMMON}"
    );
    for flood in &FLOODS {
        let Flood(name, _, action) = flood;
        let (ip, asn, most) = (flood.ip(), flood.asn(), prefixes() / 2);
        let _ = write!(
            text,
            "[[bgp.neighbour]]\nname = \"{name}\"\naddress = \"{ip}\"\nasn = {asn}\n\
             max_prefixes = {most}\nlimit_action = \"{action}\"\n\
             attribute_memory = \"{ATTRIBUTE_MIB} MiB\"\n{COMMON}"
        );
    }
    text
}

const COMMON: &str = "class = \"embedded\"\nimport = \"all\"\nbogons = \"none\"\npassive = true\n\
                      ttl_security = false\n";

/// What the box says of a neighbour, once `wanted` of it is so.
async fn until(appliance: &Appliance, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let begun = clock::now();
    loop {
        let answer = appliance
            .ask(&format!("/v1/bgp/all?neighbour={name}"))
            .await;
        let view = answer.map_or(Value::Null, |answer| answer["bgp"][0].clone());
        if wanted(&view) {
            return view;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{name}: {view}");
        clock::sleep(Duration::from_millis(50)).await;
    }
}

/// Did it end as its limit says, and does the box say so?
async fn judge(appliance: &Appliance, one: &Flood, last: Option<(Fault, String)>, count: u32) {
    let Flood(name, _, action) = one;
    let is_heavy = name.starts_with("heavy");
    let ended = last.map(|(fault, _)| fault);
    if *action == "drop" {
        assert_eq!(ended, None);
        let dropped = |view: &Value| view["dropped"].as_u64().unwrap_or(0);
        let sent = u64::from(if is_heavy { count / 20 } else { count });
        let all = |view: &Value| dropped(view) > 0 && dropped(view) + routes(view) == sent;
        let view = until(appliance, name, all).await;
        assert_eq!(view["state"], "established");
        let held = view["limits"][2]["held"].as_u64().unwrap();
        assert!(held <= ATTRIBUTE_MIB << 20, "{held}");
        assert!(is_heavy || dropped(&view) == sent / 2, "{view}");
        return;
    }
    let (fault, words) = if is_heavy {
        (Fault::OUT_OF_RESOURCES, "6/8 ")
    } else {
        (Fault::TOO_MANY_PREFIXES, "6/1 ")
    };
    assert_eq!(ended, Some(fault), "{name}");
    let view = until(appliance, name, |view| view["state"] == "idle").await;
    assert_eq!(
        (routes(&view), &view["administratively_down"]),
        (0, &false.into())
    );
    let told = view["last_error"].as_str().unwrap();
    assert!(told.contains(words), "{told}");
}

fn routes(view: &Value) -> u64 {
    view["routes"].as_u64().unwrap_or(0)
}

/// The box, with a title to serve and whom it listens to.
async fn start(scratch: &Scratch, port: TcpListener) -> Appliance {
    let settings = Settings {
        workers: 1,
        disks: 1,
        access_log: false,
        role: oca::demo::Role::Alone,
    };
    let oca = Path::new(env!("CARGO_BIN_EXE_oca"));
    let mut appliance = Appliance::new(oca, scratch.path(), settings).unwrap();
    let sections = sections(port.local_addr().unwrap().port());
    let text = std::fs::read_to_string(appliance.config()).unwrap() + &sections;
    std::fs::write(appliance.config(), text).unwrap();
    let title = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/media/title");
    appliance.prefill(&title).await.unwrap();
    drop(port);
    appliance.start().await.unwrap();
    appliance
}

#[tokio::test]
async fn a_flood_ends_as_its_limit_says_and_neighbours_and_viewers_notice_nothing() {
    let count = prefixes();
    let probe = TcpListener::bind((OUR_IP, 0)).unwrap();
    let to = probe.local_addr().unwrap();
    let scratch = Scratch::new("oca-flood").unwrap();
    let appliance = start(&scratch, probe).await;
    let process = appliance.process().unwrap();

    let done = Arc::new(AtomicBool::new(false));
    let steady = steady(to, Arc::clone(&done));
    let viewer = viewer(appliance.addresses().unwrap().plain, Arc::clone(&done));
    let until_done = Arc::clone(&done);
    let machine = std::thread::spawn(move || machine_lateness(&until_done));
    until(&appliance, "steady", |view| {
        routes(view) == STEADY_ROUTES as u64
    })
    .await;
    let (before, _) = memory(process);

    let mut connections = Vec::new();
    let begun = clock::now();
    for one in &FLOODS {
        let (ip, asn) = (one.ip(), one.asn());
        let stream = connect(to, ip, asn, 90);
        let is_heavy = one.0.starts_with("heavy");
        let ended = tokio::task::spawn_blocking(move || {
            if is_heavy {
                flood(stream, heavy(asn, count / 20))
            } else {
                flood(stream, junk(asn, count))
            }
        });
        let (stream, last) = ended.await.unwrap();
        println!("{}: {:?}, {last:?}", one.0, begun.elapsed());
        connections.push(stream);
        judge(&appliance, one, last, count).await;
    }
    let took = begun.elapsed();
    let (after, most) = memory(process);
    let view = until(&appliance, "steady", |view| view["state"] == "established").await;
    done.store(true, Relaxed);
    let (widest, stood) = steady.join().unwrap();
    let ((fetched, slowest), machine) = (viewer.join().unwrap(), machine.join().unwrap());
    println!(
        "{count} prefixes, {took:?}: memory {} MB before, {} MB after, {} MB at most; {fetched} \
         segments, the slowest {slowest:?}; messages at most {widest:?} apart; the machine itself \
         was late by {machine:?}",
        before >> 20,
        after >> 20,
        most >> 20
    );
    let allowed =
        before + REST_BYTES + u64::from(count / 2) * ROUTE_BYTES + 2 * (ATTRIBUTE_MIB << 20);
    assert!(
        most <= allowed,
        "{most} bytes in memory, {allowed} are allowed"
    );
    assert!(stood, "the steady neighbour's session was closed");
    assert_eq!(routes(&view), STEADY_ROUTES as u64);
    assert_eq!(view["history"].as_array().unwrap().len(), 1, "{view}");
    let third = Duration::from_secs(STEADY_HOLD_S.into()) / 3;
    let late = Duration::from_millis(150) + 3 * machine;
    assert!(widest <= third + late, "keepalives {widest:?} apart");
    assert!(fetched > 20, "{fetched} segments");
    assert!(
        slowest < Duration::from_secs(1) + 3 * machine,
        "{slowest:?}"
    );
    drop(connections);
}
