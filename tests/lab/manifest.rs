//! A manifest that is much larger than what may come in a burst, by the counters of the interface.

use crate::counter::Counter;
use crate::harness;
use crate::harness::Box;
use crate::harness::PATIENCE;
use crate::harness::Plan;
use crate::harness::Plane;
use crate::harness::until;
use crate::net::Net;
use oca::demo::Scratch;

/// Some 40 bytes each in the manifest.
const FILES: usize = 16_000;

/// What an interface may carry beyond the cap, in seconds of it.
const EXCESS_S: f64 = 0.05;

#[test]
fn a_large_manifest_comes_no_faster_than_the_cap() {
    let _turn = harness::beside_others();
    let scratch = Scratch::new("t-manifest").unwrap();
    let net = Net::make(2, 1_500);
    let plane = Plane::start(&scratch, net.host(0));
    add_film(&plane);
    // The window is hours away: nothing else comes.
    harness::add_site(&plane, SITE, 6 * 3_600, "1h");
    plane.control(&["cluster", "add", "toulouse"]);
    let mut it = make(&scratch, &plane, &net, "40 Mbit/s");
    let counter = Counter::start(&net, 1);
    it.start();
    until("the manifest", PATIENCE, || held(&it), Option::is_some);
    println!("{}", judge(&counter, 5_000_000.0));
}

/// The fill holds what it was lent, and a burst of the manifest comes on top of it.
#[test]
fn a_large_manifest_and_a_fill_together_keep_to_the_cap() {
    let _turn = harness::beside_others();
    let scratch = Scratch::new("t-manifest-fill").unwrap();
    let net = Net::make(2, 1_500);
    let plane = Plane::start(&scratch, net.host(0));
    for number in 0..6 {
        let path = plane.media.join(format!("long/part-{number}.m4s"));
        harness::sparse(&path, 100_000_000);
    }
    plane.control(&["import", plane.media.to_str().unwrap()]);
    harness::add_cluster_at_once(&plane, SITE, "toulouse");
    let mut it = make(&scratch, &plane, &net, "100 Mbit/s");
    let counter = Counter::start(&net, 1);
    it.start();
    let granted = || it.fill()["pace"]["night"]["granted_bytes"].as_u64();
    until("the fill", PATIENCE, granted, |bytes| {
        bytes.is_some_and(|bytes| bytes > 20_000_000)
    });
    let first = held(&it);
    add_film(&plane);
    until("the manifest", PATIENCE, || held(&it), |now| *now != first);
    assert!(granted() < Some(500_000_000), "the fill was over");
    println!("{}", judge(&counter, 12_500_000.0));
}

const SITE: &str = "TLS001.example.isp";

fn add_film(plane: &Plane) {
    let film = plane.media.join("film");
    std::fs::create_dir_all(&film).unwrap();
    for number in 0..FILES {
        let name = format!("part-{number:05}.m4s");
        std::fs::write(film.join(&name), name).unwrap();
    }
    plane.control(&["import", plane.media.to_str().unwrap()]);
}

fn make(scratch: &Scratch, plane: &Plane, net: &Net, rate: &str) -> Box {
    let plan = Plan {
        site: SITE,
        cluster: "toulouse",
        number: 1,
        rate,
        disks: 1,
    };
    Box::make(scratch, plane, net.host(1), &plan)
}

/// The manifest's generation.
fn held(it: &Box) -> Option<u64> {
    it.show(&["status"])["control"]["manifest"]["held"]["generation"].as_u64()
}

/// In words, if they did.
fn judge(counter: &Counter, rate: f64) -> String {
    let (excess, from, to) = counter.excess(rate);
    let (total, allowed) = (counter.total(), rate * EXCESS_S);
    assert!(total > 2.0 * allowed, "{total} B prove nothing");
    assert!(
        excess <= allowed,
        "{excess} B beyond the cap, {allowed} are allowed:\n{}",
        counter.course(from, to)
    );
    format!("{total:.0} B, {excess:.0} B beyond the cap from {from:.2} s to {to:.2} s")
}
