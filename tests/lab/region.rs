//! Twelve boxes of one region and one origin: what is fetched from the origin is fetched by the
//! masters, once each, and everybody ends with everything.

use crate::harness;
use crate::harness::Box;
use crate::harness::Host;
use crate::harness::Plan;
use crate::harness::Plane;
use crate::harness::until;
use oca::demo::Scratch;
use std::collections::BTreeMap;
use std::time::Duration;

const CLUSTERS: [&str; 3] = ["north", "south", "west"];
const BOXES_A_CLUSTER: u8 = 4;
const TITLES: usize = 12;
const FILES: usize = 4;
const FILE_BYTES: u64 = 700_001;

/// Twelve daemons share two cores with everything else.
const NIGHT: Duration = Duration::from_secs(120);

#[test]
fn twelve_boxes_fetch_each_object_from_the_origin_once_a_master_and_all_complete() {
    let _turn = harness::beside_others();
    let scratch = Scratch::new("t-region").unwrap();
    let plane = Plane::start(&scratch, Host::loopback(30));
    let mut bytes = 0;
    for title in 0..TITLES {
        for file in 0..FILES {
            let key = format!("title-{title:02}/video/part-{file}.m4s");
            harness::sparse(&plane.media.join(key), FILE_BYTES);
            bytes += FILE_BYTES;
        }
    }
    plane.control(&["import", plane.media.to_str().unwrap()]);
    plane.control(&[
        "policy",
        "set",
        "default",
        "--masters",
        "1",
        "--network-wait",
        "1s",
        "--origin-wait",
        "1h",
    ]);
    harness::add_site(&plane, "TLS001.example.isp", 60, "12h");
    let mut boxes = Vec::new();
    for (index, cluster) in (0_u8..).zip(CLUSTERS) {
        plane.control(&["cluster", "add", cluster]);
        for number in 1..=BOXES_A_CLUSTER {
            let number = index * BOXES_A_CLUSTER + number;
            let plan = Plan {
                site: "TLS001.example.isp",
                cluster,
                number,
                rate: "200 Mbit/s",
                disks: 1,
            };
            let host = Host::loopback(30 + number);
            boxes.push(Box::make(&scratch, &plane, host, &plan));
        }
    }
    for it in &mut boxes {
        it.process.start();
    }
    boxes.iter().for_each(Box::ready);
    let held = || -> BTreeMap<String, usize> {
        let counts = boxes.iter().map(|it| (it.id.clone(), it.held().len()));
        counts.collect()
    };
    let all = TITLES * FILES;
    until("twelve full boxes", NIGHT, held, |held| {
        held.values().all(|count| *count == all)
    });
    let sent = plane.metric("oca_control_origin_bytes_total");
    let expected = f64::from(u32::try_from(bytes).unwrap());
    println!("origin sent {sent} B for {expected} B of objects, 1 master, 12 boxes");
    assert!(
        (sent - expected).abs() < 0.5,
        "{sent} B from the origin for {expected} B of objects"
    );
}
