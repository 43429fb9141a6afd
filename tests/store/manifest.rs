//! The manifest's copies: the highest that verifies wins, and none of them is indispensable.

use crate::tools::Lab;
use crate::tools::assert_serves;
use crate::tools::bytes;
use crate::tools::run;
use crate::tools::until;
use crate::tools::was_logged;
use oca::object::Digest;
use oca::store::Finding;
use std::path::PathBuf;

const FIRST: [(&str, usize); 2] = [("a.m4s", 5000), ("b.m4s", 6000)];
const SECOND: [(&str, usize); 1] = [("c.m4s", 7000)];

fn copies(lab: &Lab) -> [PathBuf; 3] {
    [
        lab.path("state/manifest"),
        lab.path("disk0/manifest"),
        lab.path("disk1/manifest"),
    ]
}

#[test]
fn a_wiped_state_directory_gets_the_manifest_back_from_a_data_disk() {
    let lab = Lab::new(3);
    let media = lab.media(&FIRST);
    run(&lab.open(), &media);
    assert!(copies(&lab).iter().all(|copy| copy.is_file()));
    assert!(
        !lab.path("disk2/manifest").exists(),
        "two data disks carry it"
    );
    std::fs::remove_dir_all(lab.path("state")).unwrap();
    let store = lab.open();
    assert_serves(&store, &FIRST);
    let [state, disk0, _] = copies(&lab);
    assert_eq!(std::fs::read(state).unwrap(), std::fs::read(disk0).unwrap());
}

#[test]
fn a_damaged_copy_is_named_and_ignored_and_an_old_one_never_wins() {
    let lab = Lab::new(2);
    run(&lab.open(), &lab.media(&FIRST));
    let [state, disk0, disk1] = copies(&lab);
    let old = std::fs::read(&state).unwrap();
    let summary = run(&lab.open(), &lab.media(&SECOND));
    assert_eq!((summary.generation, summary.already_held), (2, 2));
    let mut damaged = std::fs::read(&state).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(&state, &damaged).unwrap();
    std::fs::write(&disk0, &old).unwrap();

    let store = lab.open();
    assert_eq!(store.view().manifest.as_ref().unwrap().generation, 2);
    assert_serves(&store, &FIRST);
    assert_serves(&store, &SECOND);
    assert!(was_logged(&[state.to_str().unwrap(), "is ignored"]));
    drop(store);
    assert_eq!(
        std::fs::read(&state).unwrap(),
        std::fs::read(&disk1).unwrap()
    );

    for copy in copies(&lab) {
        std::fs::write(copy, "nonsense").unwrap();
    }
    let store = lab.open();
    assert!(store.view().manifest.is_none());
    assert_eq!(store.find("a.m4s"), Finding::Unknown);
    let held: u64 = store.view().disks.iter().map(|disk| disk.objects).sum();
    assert_eq!(held, 3, "an absent manifest deletes nothing");
}

#[test]
fn a_disk_takes_the_place_of_one_that_left_and_an_old_copy_catches_up_without_an_adoption() {
    let lab = Lab::new(3);
    run(&lab.open(), &lab.media(&FIRST));
    let [state, disk0, disk1] = copies(&lab);
    let old = std::fs::read(&state).unwrap();
    run(&lab.open(), &lab.media(&SECOND));
    let new = std::fs::read(&state).unwrap();
    let is_new = |copy: &PathBuf| std::fs::read(copy).is_ok_and(|found| found == new);
    assert!(copies(&lab).iter().all(is_new) && old != new);

    std::fs::write(&disk0, &old).unwrap();
    std::fs::remove_file(&disk1).unwrap();
    let store = lab.open();
    until("both have caught up", || is_new(&disk0) && is_new(&disk1));
    let disk1_name = lab.path("disk1").display().to_string();
    until("it is told", || {
        was_logged(&[&disk1_name, "has the manifest in effect again"])
    });
    drop(store);
    let disk2 = lab.path("disk2/manifest");
    assert!(!disk2.exists(), "two data disks carry it");

    // Its identity is lost, and with it the disk.
    std::fs::write(lab.path("disk1/DISK.json"), "nonsense").unwrap();
    let store = lab.open();
    until("the third has it", || is_new(&disk2));
    drop(store);
    std::fs::remove_dir_all(lab.path("state")).unwrap();
    std::fs::remove_file(&disk0).unwrap();
    let store = lab.open();
    assert_eq!(store.view().manifest.as_ref().unwrap().generation, 2);
}

/// Replaces the length that all copies claim for `key`, with a checksum that is right.
fn claim(lab: &Lab, key: &str, from: usize, to: usize) {
    for copy in copies(lab) {
        let text = std::fs::read_to_string(&copy).unwrap();
        let mut body = String::new();
        for line in text.lines().filter(|line| !line.contains("blake3")) {
            let (old, new) = (format!("\"n\":{from},"), format!("\"n\":{to},"));
            let line = if line.contains(&format!("\"{key}\"")) {
                assert!(line.contains(&old), "{line}");
                line.replace(&old, &new)
            } else {
                line.to_owned()
            };
            body.push_str(&line);
            body.push('\n');
        }
        let sum = Digest::of(body.as_bytes());
        std::fs::write(copy, format!("{body}{{\"blake3\":\"{sum}\"}}\n")).unwrap();
    }
}

#[test]
fn a_wrong_length_in_the_manifest_harms_no_object_and_loses_no_binding() {
    let lab = Lab::new(2);
    let first = lab.media(&FIRST);
    run(&lab.open(), &first);
    claim(&lab, "a.m4s", 5000, 4999);
    let digest = Digest::of(&bytes("a.m4s", 5000));
    // Loader and scans race at each start; whoever wins, the outcome is the same.
    for _ in 0..5 {
        let store = lab.open();
        assert!(
            store.find("a.m4s").entry().is_none(),
            "which of the two is wrong is unknown"
        );
        assert_serves(&store, &FIRST[1..]);
        let held: u64 = store.view().disks.iter().map(|disk| disk.objects).sum();
        let aside: u64 = store.view().disks.iter().map(|disk| disk.quarantined).sum();
        assert_eq!((held, aside), (2, 0), "a good object is not moved");
        assert_eq!(store.binding("a.m4s").unwrap().digest, digest);
    }
    // Lengths are looked at by a thread of their own, which an end cuts short.
    let store = lab.open();
    until("the key is named", || {
        was_logged(&["`a.m4s` is not served", "4999", "5000"])
    });
    drop(store);

    // The next write of the manifest keeps the binding, so other bytes are still refused.
    let others = lab.path("others");
    std::fs::create_dir(&others).unwrap();
    std::fs::write(others.join("a.m4s"), bytes("other", 4998)).unwrap();
    std::fs::write(others.join("c.m4s"), bytes("c.m4s", 7000)).unwrap();
    let summary = run(&lab.open(), &others);
    assert_eq!((summary.published, summary.refused_total), (1, 1));
    assert_eq!(lab.open().binding("a.m4s").unwrap().digest, digest);

    let summary = run(&lab.open(), &first);
    assert_eq!((summary.published, summary.refused_total), (0, 0));
    assert_serves(&lab.open(), &FIRST);
    assert_serves(&lab.open(), &SECOND);
}
