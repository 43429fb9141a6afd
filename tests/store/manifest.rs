//! The manifest's copies: the highest that verifies wins, and none of them is indispensable.

use crate::tools::Lab;
use crate::tools::assert_serves;
use crate::tools::run;
use crate::tools::was_logged;
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
