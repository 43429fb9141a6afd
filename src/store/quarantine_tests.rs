//! Tests of [`super::quarantine`] and of what brings objects there.

use super::Upkeep;
use super::layout;
use super::ours_tests::publish;
use super::ours_tests::store;
use super::quarantine;
use super::state::Event;
use super::tests_support::until;
use crate::object::Digest;
use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

fn put(quarantine: &Path, number: usize, since: &str) {
    let digest = Digest::of(&number.to_le_bytes()).to_string();
    let reason = format!("{since} it was damaged\n");
    std::fs::write(quarantine.join(format!("{digest}.reason")), reason).unwrap();
    std::fs::write(quarantine.join(digest), "x").unwrap();
}

fn count(quarantine: &Path) -> usize {
    std::fs::read_dir(quarantine).unwrap().count()
}

#[test]
fn each_entry_of_a_large_quarantine_has_the_disks_deadline() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("disk")).unwrap();
    let store = store(dir.path(), "a", &["disk"], &Upkeep::default());
    let quarantine = dir.path().join("disk/quarantine");
    for number in 0..100 {
        put(&quarantine, number, "2020-01-01T00:00:00Z");
    }
    let (shared, beats) = (store.shared(), Cell::new(0));
    let beat = || beats.set(beats.get() + 1);
    quarantine::reap(shared, &shared.volumes[0], &beat).unwrap();
    assert!(beats.get() >= 300, "{} beats", beats.get());
}

#[test]
fn nothing_expires_by_its_date_before_somebody_vouches_for_the_clock() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("disk")).unwrap();
    let store = store(dir.path(), "a", &["disk"], &Upkeep::default());
    let quarantine = dir.path().join("disk/quarantine");
    put(&quarantine, 1, "2020-01-01T00:00:00Z");
    put(&quarantine, 2, &crate::clock::wall().to_string());
    let reap = || {
        let shared = store.shared();
        quarantine::reap(shared, &shared.volumes[0], &|| {}).unwrap();
        count(&quarantine)
    };
    assert_eq!(reap(), 4);
    store.clock_is_sane(true);
    assert_eq!(reap(), 2, "the old one is gone");
    store.clock_is_sane(false);
    assert_eq!(reap(), 2);
}

#[test]
fn an_object_that_cannot_be_read_is_not_called_verified_and_holds_up_no_other() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("disk")).unwrap();
    let hurried = Upkeep {
        scrub_every: Duration::from_secs(1),
        ..Upkeep::default()
    };
    let store = store(dir.path(), "a", &["disk"], &hurried);
    let [odd, _] = ["odd", "good"].map(|name| publish(&store, name));
    let scrub = || store.view().disks[0].scrub.clone();
    until(|| scrub().objects >= 4);
    // Neither readable nor damaged: nobody knows.
    let object = dir.path().join("disk").join(layout::object_path(odd));
    let sidecar = object.with_extension("meta");
    let meta = std::fs::read(&sidecar).unwrap();
    std::fs::remove_file(&sidecar).unwrap();
    std::fs::create_dir(&sidecar).unwrap();
    let begun = scrub().objects;
    until(|| scrub().objects >= begun + 6);
    let since = scrub().verified_since;
    let begun = scrub().objects;
    until(|| scrub().objects >= begun + 6);
    assert_eq!(scrub().verified_since, since, "one part is not verified");
    assert!(store.find("odd").entry().is_some());
    std::fs::remove_dir(&sidecar).unwrap();
    std::fs::write(&sidecar, meta).unwrap();
    until(|| scrub().verified_since != since);
    assert_eq!(scrub().found, 0);
}

#[test]
fn a_calendar_that_leaps_ends_no_time_in_quarantine() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("disk")).unwrap();
    let store = store(dir.path(), "a", &["disk"], &Upkeep::default());
    let quarantine = dir.path().join("disk/quarantine");
    put(&quarantine, 1, "2026-03-02T12:00:00Z");
    let reap = |now: &str, is_vouched_for| {
        crate::clock::pin_wall(now.parse().unwrap());
        store.clock_is_sane(is_vouched_for);
        let shared = store.shared();
        quarantine::reap(shared, &shared.volumes[0], &|| {}).unwrap();
        count(&quarantine)
    };
    for leap in [
        "1970-01-01T00:00:01Z",
        "2026-03-01T12:00:00Z",
        "2026-03-03T12:00:00Z",
    ] {
        // Whoever vouches for it may be wrong by as much.
        assert_eq!((reap(leap, false), reap(leap, true)), (2, 2), "{leap}");
    }
    assert_eq!(reap("2096-03-02T12:00:00Z", false), 2, "nobody vouches");
    assert_eq!(reap("2096-03-02T12:00:00Z", true), 0);
}

/// Its file system turned read-only before anybody knew that it was the disk.
#[test]
fn objects_that_could_not_be_put_aside_are_not_called_damaged_when_it_was_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("disk")).unwrap();
    let store = store(dir.path(), "a", &["disk"], &Upkeep::default());
    let [failed, rotten] = ["failed", "rotten"].map(|name| publish(&store, name));
    let (shared, volume) = (store.shared(), &store.shared().volumes[0]);
    volume.report(shared, Event::TurnedReadOnly, "it is a test");
    let uuid = volume.home().unwrap().uuid.clone();
    for digest in [failed, rotten] {
        shared.forget(digest, volume);
        let disk = volume.name();
        volume.damaged.keep(&shared.state_dir, &uuid, &disk, digest);
    }
    let error = std::io::Error::from_raw_os_error(libc::EIO);
    shared.note_read_error(volume, failed, &error);
    volume.report(shared, Event::Broken, "it is a test");
    assert!(volume.damaged.vouch(failed).is_ok(), "it was the disk");
    assert!(
        volume.damaged.vouch(rotten).is_err(),
        "its bytes were wrong"
    );
    let kept = dir.path().join(format!("state-a/damaged-{uuid}"));
    assert_eq!(
        std::fs::read_to_string(kept).unwrap(),
        format!("{rotten}\n")
    );
}
