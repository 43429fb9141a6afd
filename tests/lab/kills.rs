//! `kill -9` again and again while a box fills: nothing is lost, nothing that does not verify is
//! visible, and the cap holds over all lives together, by the counters of the interface.

use crate::harness;
use crate::harness::Box;
use crate::harness::PATIENCE;
use crate::harness::Plan;
use crate::harness::Plane;
use crate::harness::until;
use crate::net::Counter;
use crate::net::Net;
use oca::clock;
use oca::demo::Scratch;
use oca::object::Digest;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

/// A life that is cut short brings some ten files: every kill meets a fill.
const FILES: usize = 160;
const FILES_OF_A_LIFE: usize = 11;
const FILE_BYTES: u64 = 1_300_001;

/// 100 Mbit/s: 160 files take 17 s of life.
const RATE: &str = "100 Mbit/s";
const RATE_BYTES: f64 = 12_500_000.0;

/// Lives; `OCA_KILLS` for more.
const KILLS: usize = 12;

/// Heartbeats, reports, the manifest; and what was on its way to a box that died.
const SLACK_BYTES: f64 = 1_000_000.0;

#[test]
fn a_box_that_is_killed_again_and_again_loses_nothing_and_keeps_to_the_cap() {
    let kills = std::env::var("OCA_KILLS")
        .ok()
        .and_then(|text| text.parse().ok());
    let kills: usize = kills.unwrap_or(KILLS);
    let files = FILES.max(kills * FILES_OF_A_LIFE);
    let scratch = Scratch::new("t-kills").unwrap();
    let net = Net::make(2, 1_500);
    let plane = Plane::start(&scratch, net.host(0));
    let mut wanted = BTreeMap::new();
    for number in 0..files {
        let key = format!("film/part-{number:04}.m4s");
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
    let mut it = Box::make(&scratch, &plane, net.host(1), &plan);
    let counter = Counter::start(&net, 1);
    let mut held: BTreeMap<String, String> = BTreeMap::new();
    for life in 0..kills {
        it.start();
        // What a disk holds is known when it has been looked through.
        let scanning = || it.show(&["disks"]).to_string().contains("\"scanning\"");
        until("the scans", PATIENCE, scanning, |scanning| !scanning);
        // A different moment of each life: enrolment, the first ask, writes, flushes, publishing.
        let time = Duration::from_millis(400 + (life as u64 * 397) % 2_600);
        clock::block_for(time);
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
    until(
        "the whole plan",
        PATIENCE * 2,
        || it.held().len(),
        |held| *held == files,
    );
    let (worst, _) = counter.judge();
    let (seconds, bytes) = counter.span();
    assert!(
        worst <= RATE_BYTES * 1.05 + SLACK_BYTES,
        "{worst} B in one second"
    );
    assert!(
        bytes <= RATE_BYTES * (seconds + 0.05) + SLACK_BYTES,
        "{bytes} B in {seconds} s"
    );
    // A box that was killed waits for the control plane's word before it serves.
    let state = || it.show(&["status"])["gate"]["state"].clone();
    until("the gate", PATIENCE, state, |state| *state == "serving");
    for (key, digest) in &wanted {
        assert_eq!(&fetched(&it, key).to_string(), digest, "{key}");
    }
    println!("{kills} kills, {files} objects whole, worst second {worst:.0} B of {RATE_BYTES} B");
}

/// What a viewer gets for a key.
fn fetched(it: &Box, key: &str) -> Digest {
    let url = format!("http://{}:{}/{key}", it.host.address, it.plain);
    let curl = it.host.wrap(&["curl", "-s", "--fail", &url]);
    let output = Command::new(&curl[0]).args(&curl[1..]).output();
    let output = output.expect("curl is missing; install it with: apt-get install curl");
    assert!(output.status.success(), "{key}: {}", it.process.tail());
    Digest::of(&output.stdout)
}
