//! A real BIRD 2 on loopback: its configuration, its routes, and what it says of them.
//!
//! I/O: starts a process that ends with its value, writes below a temporary directory.

use oca::bgp::Bogons;
use oca::bgp::Config;
use oca::bgp::NeighbourConfig;
use oca::bgp::OwnPolicy;
use oca::bgp::TransportConfig;
use oca::clock;
use oca::prefix::Family;
use oca::prefix::Prefix;
use oca::route::Asn;
use oca::route::Attributes;
use oca::route::Class;
use oca::route::Community;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

pub(crate) const BIRD_ASN: Asn = Asn(64500);
pub(crate) const OUR_ASN: Asn = Asn(64510);
pub(crate) const BIRD_IP: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
pub(crate) const OUR_IP: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

const NEXT_HOP_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const NEXT_HOP_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// A running router; dropping it kills the process by its id.
#[derive(Debug)]
pub(crate) struct Bird {
    child: Child,
    dir: tempfile::TempDir,
}

/// Who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Active {
    Bird,
    Us,
}

/// Two ports for a test of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) bird: u16,
    pub(crate) ours: u16,
}

impl Ports {
    pub(crate) fn choose() -> Self {
        let free = |ip: Ipv4Addr| {
            let listener = TcpListener::bind((ip, 0)).unwrap();
            listener.local_addr().unwrap().port()
        };
        Self {
            bird: free(BIRD_IP),
            ours: free(OUR_IP),
        }
    }
}

/// What the router announces: prefix → the attributes of its static route.
pub(crate) type Announced = BTreeMap<Prefix, Attributes>;

/// `ipv4` and `ipv6` routes with paths, MEDs and communities that differ and repeat. Benchmark
/// space (RFC 2544): documentation prefixes are too few for ten thousand.
pub(crate) fn routes(ipv4: u32, ipv6: u32) -> Announced {
    let attributes = |n: u32, next_hop: IpAddr| {
        let mut path = format!("{BIRD_ASN}");
        for hop in 0..n % 5 {
            let _ = write!(path, " {}", 65536 + (n / 7 + hop) % 16);
        }
        let mut communities: Vec<_> = (0..n % 4)
            .map(|c| Community(64500 << 16 | (n / 3 + c)))
            .collect();
        communities.sort_unstable();
        Attributes {
            med: (!n.is_multiple_of(3)).then_some(n % 50),
            communities,
            ..Attributes::new(path.parse().unwrap(), next_hop)
        }
    };
    let mut all = Announced::new();
    for n in 0..ipv4 {
        let address = Ipv4Addr::from(0xC612_0000 + (n << 3));
        let prefix = Prefix::new(address.into(), 29).unwrap();
        all.insert(prefix, attributes(n, NEXT_HOP_V4.into()));
    }
    for n in 0..ipv6 {
        let address = Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(n) << 80);
        let prefix = Prefix::new(address.into(), 48).unwrap();
        all.insert(prefix, attributes(n + 1, NEXT_HOP_V6.into()));
    }
    all
}

/// Our side of it.
pub(crate) fn config(ports: Ports, active: Active) -> Config {
    Config {
        asn: OUR_ASN,
        router_id: Ipv4Addr::new(192, 0, 2, 3),
        listen: vec![SocketAddr::from((OUR_IP, ports.ours))],
        neighbours: vec![NeighbourConfig {
            port: ports.bird,
            local_address: Some(OUR_IP.into()),
            passive: active == Active::Bird,
            hold_time: Duration::from_secs(9),
            connect_retry: Duration::from_secs(1),
            max_prefixes: 100_000,
            bogons: Bogons::None,
            transport: TransportConfig {
                ttl_security: false,
                ..TransportConfig::default()
            },
            ..NeighbourConfig::new("bird", BIRD_IP.into(), BIRD_ASN, Class::Embedded)
        }],
        policy: OwnPolicy::default(),
    }
}

impl Bird {
    /// Starts BIRD and waits until it answers.
    pub(crate) fn start(ports: Ports, active: Active, announced: &Announced) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        write_routes(&dir, announced);
        let passive = match active {
            Active::Bird => "",
            Active::Us => "passive;",
        };
        let text = format!(
            "log \"{log}\" all;\n\
             router id 192.0.2.1;\n\
             protocol device {{}}\n\
             filter to_ours {{ if defined(bgp_med) then bgp_med = bgp_med; accept; }}\n\
             protocol static s4 {{ ipv4;\ninclude \"{dir}/ipv4.inc\";\n}}\n\
             protocol static s6 {{ ipv6;\ninclude \"{dir}/ipv6.inc\";\n}}\n\
             protocol bgp to_oca {{\n\
               local {BIRD_IP} port {} as {BIRD_ASN}; strict bind yes; multihop 2; {passive}\n\
               neighbor {OUR_IP} port {} as {OUR_ASN};\n\
               hold time 9; connect retry time 1; connect delay time 1; error wait time 1,2;\n\
               ipv4 {{ import none; export filter to_ours; next hop address {NEXT_HOP_V4}; }};\n\
               ipv6 {{ import none; export filter to_ours; next hop address {NEXT_HOP_V6}; }};\n\
             }}\n",
            ports.bird,
            ports.ours,
            log = path("bird.log").display(),
            dir = dir.path().display(),
        );
        std::fs::write(path("bird.conf"), text).unwrap();
        let child = peer("bird")
            .args(["-f", "-c"])
            .arg(path("bird.conf"))
            .arg("-s")
            .arg(path("bird.ctl"))
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let bird = Self { child, dir };
        let begun = clock::now();
        while !bird
            .ask_once("show status")
            .is_some_and(|text| text.contains("up and running"))
        {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "BIRD does not come up"
            );
            clock::block_for(Duration::from_millis(50));
        }
        bird
    }

    /// Replaces the routes.
    pub(crate) fn announce(&self, announced: &Announced) {
        write_routes(&self.dir, announced);
        let answer = self.ask("configure");
        assert!(answer.contains("Reconfigured"), "{answer}");
    }

    pub(crate) fn ask(&self, question: &str) -> String {
        self.ask_once(question).unwrap()
    }

    fn ask_once(&self, question: &str) -> Option<String> {
        let output = peer("birdc")
            .arg("-s")
            .arg(self.dir.path().join("bird.ctl"))
            .args(question.split('~'))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(text)
    }

    pub(crate) fn log(&self) -> String {
        let path: PathBuf = self.dir.path().join("bird.log");
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// What BIRD says that it exports to us. The path and next hop that it puts on the wire are
    /// its own AS before the path shown, and the next hop of its configuration.
    pub(crate) fn exported(&self) -> Announced {
        let mut found = Announced::new();
        let mut current = None;
        for table in ["master4", "master6"] {
            let text = self.ask(&format!("show route export to_oca table {table} all"));
            for line in text.lines() {
                let words: Vec<&str> = line.split_whitespace().collect();
                if let Some(prefix) = words.first().and_then(|word| word.parse::<Prefix>().ok()) {
                    let next_hop = match prefix.family() {
                        Family::Ipv4 => IpAddr::from(NEXT_HOP_V4),
                        Family::Ipv6 => IpAddr::from(NEXT_HOP_V6),
                    };
                    let path = BIRD_ASN.to_string().parse().unwrap();
                    found.insert(prefix, Attributes::new(path, next_hop));
                    current = Some(prefix);
                } else if let Some(attributes) = current.and_then(|p| found.get_mut(&p)) {
                    read_attribute(line, attributes);
                }
            }
        }
        found
    }
}

impl Drop for Bird {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_attribute(line: &str, attributes: &mut Attributes) {
    let Some((name, value)) = line.trim().split_once(": ") else {
        return;
    };
    match name {
        "BGP.as_path" => {
            attributes.as_path = format!("{BIRD_ASN} {value}").parse().unwrap();
        }
        "BGP.med" => attributes.med = Some(value.parse().unwrap()),
        "BGP.community" => {
            let pairs = value.split_whitespace().map(|pair| {
                let inner = pair.trim_matches(['(', ')']).replace(',', ":");
                inner.parse().unwrap()
            });
            attributes.communities = pairs.collect();
            attributes.communities.sort_unstable();
        }
        _ => {}
    }
}

fn write_routes(dir: &tempfile::TempDir, announced: &Announced) {
    let (mut ipv4, mut ipv6) = (String::new(), String::new());
    for (prefix, attributes) in announced {
        let text = match prefix.family() {
            Family::Ipv4 => &mut ipv4,
            Family::Ipv6 => &mut ipv6,
        };
        let _ = write!(text, "route {prefix} blackhole {{");
        // BIRD prepends its own AS itself, and each number prepended here becomes the first.
        let numbers: Vec<Asn> = attributes.as_path.numbers().collect();
        for number in numbers[1..].iter().rev() {
            let _ = write!(text, " bgp_path.prepend({number});");
        }
        if let Some(med) = attributes.med {
            let _ = write!(text, " bgp_med = {med};");
        }
        for community in &attributes.communities {
            let (high, low) = (community.0 >> 16, community.0 & 0xffff);
            let _ = write!(text, " bgp_community.add(({high},{low}));");
        }
        text.push_str(" };\n");
    }
    std::fs::write(dir.path().join("ipv4.inc"), ipv4).unwrap();
    std::fs::write(dir.path().join("ipv6.inc"), ipv6).unwrap();
}

/// A missing peer is a failure that names the command which installs it.
fn peer(program: &str) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|dir| dir.join(program))
        .find(|path| path.is_file());
    let Some(found) = found else {
        panic!("{program} is missing; install it with: apt-get install bird2");
    };
    Command::new(found)
}
