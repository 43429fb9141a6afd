//! Three boxes in network namespaces on a shaped link: the interface's own counters judge the cap
//! and the window.
//!
//! Needs root and `ip`, `tc` (iproute2). Namespaces are named by this process and removed with it.

use crate::harness;
use crate::harness::Box;
use crate::harness::Host;
use crate::harness::PATIENCE;
use crate::harness::Plan;
use crate::harness::Plane;
use crate::harness::until;
use oca::clock;
use oca::demo::Scratch;
use std::io::BufRead as _;
use std::io::BufReader;
use std::net::Ipv4Addr;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

const RATE: &str = "1.2 Gbit/s";
const RATE_BYTES: f64 = 150_000_000.0;

/// Seconds of full rate; `OCA_FILL_SECONDS` for more.
const SECONDS: u64 = 10;

const FILE_BYTES: u64 = 16 << 20;

/// The site's window: long enough for the content and half as much.
fn fill_seconds() -> u64 {
    let text = std::env::var("OCA_FILL_SECONDS").ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(SECONDS)
}

#[test]
fn the_interface_never_carries_more_than_the_cap_and_nothing_outside_the_window() {
    let seconds = fill_seconds();
    let scratch = Scratch::new("t-namespaces").unwrap();
    let net = Net::make(4);
    let plane = Plane::start(&scratch, net.host(0));
    let files = seconds * 150_000_000 / FILE_BYTES + 1;
    for number in 0..files {
        let key = format!("film/part-{number:04}.m4s");
        harness::sparse(&plane.media.join(key), FILE_BYTES);
    }
    plane.control(&["import", plane.media.to_str().unwrap()]);
    // Two other boxes of the cluster hold an eighth each.
    let part = scratch.path().join("part");
    for number in 0..files / 4 {
        let key = format!("film/part-{number:04}.m4s");
        let half = part.join(if number % 2 == 0 { "even" } else { "odd" });
        std::fs::create_dir_all(half.join("film")).unwrap();
        let linked = std::fs::hard_link(plane.media.join(&key), half.join(&key));
        linked.unwrap();
    }
    harness::add_site(&plane, "TLS001.example.isp", -3600, "10m");
    plane.control(&["cluster", "add", "toulouse"]);
    let make = |number: u8| {
        let plan = Plan {
            site: "TLS001.example.isp",
            cluster: "toulouse",
            number,
            rate: RATE,
            disks: 1,
        };
        Box::make(&scratch, &plane, net.host(usize::from(number)), &plan)
    };
    let mut givers = [make(1), make(2)];
    for (giver, half) in givers.iter_mut().zip(["even", "odd"]) {
        giver.prefill(&part.join(half));
        giver.start();
        pause(giver);
    }
    let mut it = make(3);
    let counter = Counter::start(&net, 3);
    it.start();
    let wants = || it.fill()["wanted"].as_u64();
    until("the plan", PATIENCE, wants, |wanted| {
        wanted.is_some_and(|count| count >= files / 2)
    });
    before_the_window(&plane, &it, &counter);
    let (cpu, begun) = (it.process.cpu_seconds(), clock::now());
    harness::add_site(&plane, "TLS001.example.isp", 5, "10m");
    let held = || it.held().len() as u64;
    let patience = Duration::from_secs(60 + 4 * seconds);
    until("everything", patience, held, |held| *held > files);
    let took = (clock::now() - begun).as_secs_f64();
    let cpu = it.process.cpu_seconds() - cpu;
    let (worst, average) = counter.judge();
    println!(
        "{files} objects of {FILE_BYTES} B in {took:.1} s: worst second {:.4} Gb/s, average at \
         full rate {:.4} Gb/s, {cpu:.1} s of CPU",
        worst * 8e-9,
        average * 8e-9
    );
    assert!(worst <= RATE_BYTES * 1.05, "{worst} B in one second");
    assert!(average >= 1.17e9 / 8.0, "{average} B/s on average");
}

/// Nothing moves but the heartbeats; then an urgent object, and nothing else.
fn before_the_window(plane: &Plane, it: &Box, counter: &Counter) {
    let before = counter.total();
    clock::block_for(Duration::from_secs(4));
    let idle = counter.total() - before;
    // Heartbeats and reports are all there is.
    assert!(idle < 100_000.0, "{idle} B outside the window");

    let urgent = plane.media.join("news/video/today.m4s");
    harness::sparse(&urgent, 5_000_000);
    plane.control(&["import", plane.media.to_str().unwrap()]);
    plane.control(&["title", "urgent", "news", "--for", "1h"]);
    let has = |it: &Box| it.held().iter().any(|(key, _)| key.starts_with("news/"));
    until("the urgent object", PATIENCE, || has(it), |held| *held);
    let urgent = counter.total() - before;
    assert!(
        urgent < 6_000_000.0,
        "{urgent} B for an urgent object of 5 MB"
    );
}

fn pause(it: &Box) {
    let socket = it.socket();
    let outcome = Command::new(harness::OCA)
        .args(["fill", "pause", "--socket", socket.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(outcome.status.success(), "{outcome:?}");
}

/// A switch and hosts around it, each in a namespace.
#[derive(Debug)]
struct Net {
    names: Vec<String>,
}

impl Net {
    /// Host `n` has 10.77.0.(n + 1); the link to each is shaped to 2 Gbit/s, and no packet is
    /// larger than the wire's, so that counters count what a real interface would.
    fn make(hosts: usize) -> Self {
        let base = format!("oca{}", std::process::id());
        let mut net = Self { names: Vec::new() };
        net.add(&format!("{base}s"));
        net.inside(
            0,
            "ip link add br0 type bridge && ip link set br0 up && ip link set lo up",
        );
        for host in 0..hosts {
            net.add(&format!("{base}h{host}"));
            let (own, switch) = (&net.names[host + 1], &net.names[0]);
            run(&format!(
                "ip link add eth0 netns {own} type veth peer name port{host} netns {switch}"
            ));
            net.inside(
                host + 1,
                &format!(
                    "ip link set lo up && ip link set eth0 gso_max_segs 1 && ip link set eth0 up \
                     && ip addr add 10.77.0.{}/24 dev eth0",
                    host + 1
                ),
            );
            net.inside(
                0,
                &format!(
                    "ip link set port{host} gso_max_segs 1 master br0 up && tc qdisc add dev \
                     port{host} root tbf rate 2gbit burst 256kb latency 20ms"
                ),
            );
        }
        net
    }

    fn add(&mut self, name: &str) {
        run(&format!("ip netns add {name}"));
        self.names.push(name.to_owned());
    }

    fn inside(&self, index: usize, script: &str) {
        run(&format!(
            "ip netns exec {} sh -c '{script}'",
            self.names[index]
        ));
    }

    fn host(&self, number: usize) -> Host {
        Host {
            address: Ipv4Addr::new(10, 77, 0, u8::try_from(number + 1).unwrap()),
            namespace: Some(self.names[number + 1].clone()),
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn run(script: &str) {
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    assert!(
        output.status.success(),
        "{script}: {}; this test needs root and: apt-get install iproute2",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Reads what the switch's port has sent to a host, twenty times a second.
#[derive(Debug)]
struct Counter {
    child: Child,
    samples: Arc<Mutex<Vec<(f64, f64)>>>,
}

impl Counter {
    fn start(net: &Net, host: usize) -> Self {
        let file = format!("/sys/class/net/port{host}/statistics/tx_bytes");
        let script =
            format!("while read bytes < {file}; do echo $EPOCHREALTIME $bytes; sleep 0.05; done");
        let mut child = Command::new("ip")
            .args(["netns", "exec", &net.names[0], "bash", "-c", &script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let samples: Arc<Mutex<Vec<(f64, f64)>>> = Arc::default();
        let (kept, lines) = (
            Arc::clone(&samples),
            BufReader::new(child.stdout.take().unwrap()),
        );
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let pair = line.split_once(' ');
                let pair = pair.and_then(|(at, bytes)| {
                    Some((at.replace(',', ".").parse().ok()?, bytes.parse().ok()?))
                });
                if let (Some(pair), Ok(mut kept)) = (pair, kept.lock()) {
                    kept.push(pair);
                }
            }
        });
        let counter = Self { child, samples };
        let some = || counter.samples.lock().unwrap().len();
        until("the interface's counters", PATIENCE, some, |count| {
            *count > 2
        });
        counter
    }

    fn total(&self) -> f64 {
        self.samples
            .lock()
            .unwrap()
            .last()
            .map_or(0.0, |(_, bytes)| *bytes)
    }

    /// Bytes of the worst second, and bytes a second between the first and the last tenth of what
    /// was carried: ramps at either end are not the full rate.
    fn judge(&self) -> (f64, f64) {
        let samples = self.samples.lock().unwrap();
        let mut worst: f64 = 0.0;
        let mut end = 0;
        for (at, bytes) in samples.iter() {
            while end + 1 < samples.len() && samples[end + 1].0 - at <= 1.0 {
                end += 1;
            }
            let (last, carried) = samples[end.max(1)];
            // A sample that came late is judged by its own length.
            let length = (last - at).max(1.0);
            worst = worst.max((carried - bytes) / length);
        }
        let all = samples.last().unwrap().1 - samples[0].1;
        let at = |share: f64| {
            let level = samples[0].1 + all * share;
            *samples.iter().find(|(_, bytes)| *bytes >= level).unwrap()
        };
        let (first, last) = (at(0.1), at(0.9));
        (worst, (last.1 - first.1) / (last.0 - first.0))
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
