//! `kill -9` again and again while a box fills: nothing is lost, nothing that does not verify is
//! visible, and the cap holds over all lives together.

use crate::harness;
use crate::harness::Box;
use crate::harness::Host;
use crate::harness::PATIENCE;
use crate::harness::Plan;
use crate::harness::Plane;
use crate::harness::until;
use oca::clock;
use oca::demo::Scratch;
use oca::object::Digest;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

const FILES: usize = 160;
const FILE_BYTES: u64 = 1_300_001;

/// 100 Mbit/s: 208 MB take 17 s of life.
const RATE: &str = "100 Mbit/s";
const RATE_BYTES: f64 = 12_500_000.0;

/// Lives; `OCA_KILLS` for more.
const KILLS: usize = 20;

/// What sockets may hold when a box dies, and what a second of measurement may be off.
const SLACK_BYTES: f64 = 2_500_000.0;

#[test]
fn a_box_that_is_killed_again_and_again_loses_nothing_and_keeps_to_the_cap() {
    let kills = std::env::var("OCA_KILLS")
        .ok()
        .and_then(|text| text.parse().ok());
    let kills: usize = kills.unwrap_or(KILLS);
    let scratch = Scratch::new("t-kills").unwrap();
    let plane = Plane::start(&scratch, Host::loopback(1));
    let mut wanted = BTreeMap::new();
    for number in 0..FILES {
        let key = format!("film/part-{number:03}.m4s");
        harness::sparse(&plane.media.join(&key), FILE_BYTES);
        let bytes = std::fs::read(plane.media.join(&key)).unwrap();
        wanted.insert(key, Digest::of(&bytes).to_string());
    }
    plane.control(&["import", plane.media.to_str().unwrap()]);
    harness::add_site(&plane, "TLS001.example.isp", 60, "12h");
    plane.control(&["cluster", "add", "toulouse"]);
    let plan = Plan {
        site: "TLS001.example.isp",
        cluster: "toulouse",
        number: 1,
        rate: RATE,
        disks: 2,
    };
    let mut it = Box::make(&scratch, &plane, Host::loopback(2), &plan);
    let mut rates = Rates::default();
    let mut held: BTreeMap<String, String> = BTreeMap::new();
    for life in 0..kills {
        it.start();
        // A different moment of each life: enrolment, the first ask, writes, flushes, publishing.
        let time = Duration::from_millis(100 + (life as u64 * 97) % 1_500);
        let end = clock::now() + time;
        while clock::now() < end {
            rates.sample(&plane);
            clock::block_for(Duration::from_millis(50));
        }
        let after: BTreeMap<String, String> = it.held().into_iter().collect();
        let lost: Vec<&String> = held
            .keys()
            .filter(|key| !after.contains_key(*key))
            .collect();
        assert!(lost.is_empty(), "life {life} lost {lost:?}");
        for (key, digest) in &after {
            assert_eq!(wanted.get(key), Some(digest), "life {life}");
        }
        held = after;
        it.process.kill();
    }
    assert!(!held.is_empty(), "{}", it.process.tail());
    it.start();
    let done = || {
        rates.sample(&plane);
        it.held().len()
    };
    until("the whole plan", PATIENCE, done, |held| *held == FILES);
    rates.judge();
    for (key, digest) in &wanted {
        assert_eq!(&fetched(&it, key).to_string(), digest, "{key}");
    }
    println!(
        "{kills} kills, {FILES} objects whole, worst second {:.0} B",
        rates.worst()
    );
}

/// What a viewer gets for a key.
fn fetched(it: &Box, key: &str) -> Digest {
    let url = format!("http://{}:{}/{key}", it.host.address, it.plain);
    let output = Command::new("curl").args(["-s", "--fail", &url]).output();
    let output = output.expect("curl is missing; install it with: apt-get install curl");
    assert!(output.status.success(), "{key}: {}", it.process.tail());
    Digest::of(&output.stdout)
}

/// Bytes that the origin's gateway had sent at some moments: nobody else sends in this test.
#[derive(Debug, Default)]
struct Rates {
    samples: Vec<(clock::Instant, f64)>,
}

fn now() -> clock::Instant {
    clock::now()
}

impl Rates {
    fn sample(&mut self, plane: &Plane) {
        let bytes = plane.metric("oca_control_origin_bytes_total");
        self.samples.push((now(), bytes));
    }

    /// Most bytes in any second.
    fn worst(&self) -> f64 {
        let mut worst: f64 = 0.0;
        for (index, (begun, before)) in self.samples.iter().enumerate() {
            let later = self.samples[index..]
                .iter()
                .take_while(|(at, _)| (*at - *begun).as_secs_f64() <= 1.0);
            let last = later.last().map_or(*before, |(_, bytes)| *bytes);
            worst = worst.max(last - before);
        }
        worst
    }

    fn judge(&self) {
        let (first, last) = (self.samples.first().unwrap(), self.samples.last().unwrap());
        let seconds = (last.0 - first.0).as_secs_f64();
        let worst = self.worst();
        assert!(
            worst <= RATE_BYTES * 1.05 + SLACK_BYTES,
            "{worst} B in one second"
        );
        let all = last.1 - first.1;
        assert!(
            all <= RATE_BYTES * (seconds + 0.05) + SLACK_BYTES,
            "{all} B in {seconds} s"
        );
    }
}
