//! Viewers come first: a disk that viewers wait for pauses the fill, and it goes on when they left.
//!
//! A real box whose disk is slow (throttled reads), with a night under way. Needs root.

use crate::harness;
use crate::harness::Box;
use crate::harness::Host;
use crate::harness::PATIENCE;
use crate::harness::Plan;
use crate::harness::Plane;
use crate::harness::until;
use crate::loop_disk::LoopDisk;
use crate::sick_viewers::Kind;
use crate::sick_viewers::Stage;
use oca::clock;
use oca::demo::Scratch;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

const SEEN: usize = 24;
const SEEN_BYTES: u64 = 300_000;

/// Half a minute of the night at its rate, which is far more than the test needs.
const WANTED: usize = 100;
const WANTED_BYTES: u64 = 2_000_000;
const RATE: &str = "40 Mbit/s";

/// A cold read of theirs takes some tenths of a second: more than four times the usual.
const DISK_BYTES_A_SECOND: u64 = 4_000_000;
const VIEWERS: u64 = 6;

/// What may still come of what was asked for before the fill was shut.
const ON_ITS_WAY: u64 = 600_000;

fn received(fill: &Value) -> u64 {
    let bytes = fill["pace"]["night"]["granted_bytes"].as_u64();
    bytes.unwrap_or(0)
}

/// A control plane that wants all of it, and a box that was shipped with what viewers see: keys of
/// that.
fn prepare(scratch: &Scratch) -> (Plane, Box, Vec<String>) {
    let plane = Plane::start(scratch, Host::loopback(70));
    let shipped = shipped(scratch);
    let mut keys = Vec::new();
    for number in 0..SEEN {
        let key = format!("seen-{number:02}/part.m4s");
        harness::sparse(&plane.media.join(&key), SEEN_BYTES);
        fs::create_dir_all(shipped.join(format!("seen-{number:02}"))).unwrap();
        fs::copy(plane.media.join(&key), shipped.join(&key)).unwrap();
        keys.push(key);
    }
    for number in 0..WANTED {
        let key = format!("wanted-{number:03}/part.m4s");
        harness::sparse(&plane.media.join(key), WANTED_BYTES);
    }
    plane.control(&["import", plane.media.to_str().unwrap()]);
    harness::add_cluster_at_once(&plane, "TLS001.example.isp", "toulouse");
    let plan = Plan {
        site: "TLS001.example.isp",
        cluster: "toulouse",
        number: 1,
        rate: RATE,
        disks: 1,
    };
    let it = Box::make(scratch, &plane, Host::loopback(71), &plan);
    (plane, it, keys)
}

fn shipped(scratch: &Scratch) -> PathBuf {
    scratch.path().join("shipped")
}

#[test]
fn viewers_who_wait_for_a_disk_pause_the_fill_with_the_reason_and_it_goes_on_when_they_left() {
    let _turn = harness::beside_others();
    let scratch = Scratch::new("t-coupling").unwrap();
    let (_plane, mut it, keys) = prepare(&scratch);
    let (image, place) = (it.dir.join("image"), it.dir.join("disk1"));
    let mut disk = LoopDisk::mount(&image, &place, 512);
    it.prefill(&shipped(&scratch));
    it.start();
    let fills = |fill: &Value| received(fill) > WANTED_BYTES;
    let fill = until("the fill", PATIENCE, || it.fill(), fills);
    assert_eq!(fill["load"]["opening"], "open", "{fill}");

    let stage = Arc::new(Stage::new(&it, &disk, &BTreeMap::from([(0, keys)])));
    disk.throttle(DISK_BYTES_A_SECOND);
    let viewers = (0..VIEWERS).map(|seed| {
        let stage = Arc::clone(&stage);
        std::thread::spawn(move || stage.view(Kind::Cold, seed))
    });
    let viewers: Vec<_> = viewers.collect();
    let is_shut = |fill: &Value| fill["load"]["opening"] == "shut";
    let shut = until("the fill to be paused", PATIENCE, || it.fill(), is_shut);
    let reason = shut["load"]["reason"].as_str().unwrap();
    assert!(reason.contains("the usual for disk"), "{reason}");
    assert!(shut["reason"].is_string(), "{shut}");
    assert!(harness::metric(&it.socket(), "oca_fill_load_percent") < 1.0);
    clock::block_for(Duration::from_secs(2));
    let later = it.fill();
    let came = received(&later) - received(&shut);
    assert!(
        is_shut(&later) && came <= ON_ITS_WAY,
        "{came} B came: {later}"
    );

    stage.stop.store(true, Relaxed);
    viewers
        .into_iter()
        .for_each(|viewer| viewer.join().unwrap());
    disk.release();
    let left = clock::now();
    let goes_on = |fill: &Value| received(fill) > received(&later) + ON_ITS_WAY;
    let fill = until("the fill to go on", PATIENCE, || it.fill(), goes_on);
    let after = clock::now() - left;
    println!(
        "paused because {reason}; {came} B came in two seconds; goes on after {:.1} s with {} % \
         of its cap",
        after.as_secs_f64(),
        fill["load"]["percent"]
    );
    assert!(
        after >= Duration::from_secs(8),
        "it opens slowly: {after:?}"
    );
    assert_eq!(*stage.wrongs.lock().unwrap(), Vec::<String>::new());
}
