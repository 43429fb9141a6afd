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

const RATE: &str = "40 Mbit/s";
const RATE_BYTES: f64 = 5_000_000.0;

/// Some 40 bytes each in the manifest.
const FILES: usize = 16_000;

/// Far less than the manifest has: 50 ms.
const EXCESS_BYTES: f64 = RATE_BYTES * 0.05;

#[test]
fn a_large_manifest_comes_no_faster_than_the_cap() {
    let _turn = harness::beside_others();
    let scratch = Scratch::new("t-manifest").unwrap();
    let net = Net::make(2, 1_500);
    let plane = Plane::start(&scratch, net.host(0));
    let film = plane.media.join("film");
    std::fs::create_dir_all(&film).unwrap();
    for number in 0..FILES {
        let name = format!("part-{number:05}.m4s");
        std::fs::write(film.join(&name), name).unwrap();
    }
    plane.control(&["import", plane.media.to_str().unwrap()]);
    // The window is hours away: nothing else comes.
    harness::add_site(&plane, "TLS001.example.isp", 6 * 3_600, "1h");
    plane.control(&["cluster", "add", "toulouse"]);
    let plan = Plan {
        site: "TLS001.example.isp",
        cluster: "toulouse",
        number: 1,
        rate: RATE,
        disks: 1,
    };
    let mut it = Box::make(&scratch, &plane, net.host(1), &plan);
    let counter = Counter::start(&net, 1);
    it.start();
    let wants = || it.fill()["wanted"].as_u64();
    until("the manifest", PATIENCE, wants, |wanted| {
        *wanted == Some(FILES as u64)
    });
    let (excess, from, to) = counter.excess(RATE_BYTES);
    let total = counter.total();
    println!("{total:.0} B, {excess:.0} B beyond the cap from {from:.2} s to {to:.2} s");
    assert!(total > 2.0 * EXCESS_BYTES, "{total} B prove nothing");
    assert!(
        excess <= EXCESS_BYTES,
        "{excess} B beyond the cap:\n{}",
        counter.course(from, to)
    );
}
