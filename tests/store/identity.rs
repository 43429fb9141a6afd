//! Whose disk it is: what is not ours, not there or taken is refused with the remedy.

use crate::ailing_disk::AilingDisk;
use crate::tools::Lab;
use crate::tools::Mount;
use crate::tools::assert_serves;
use crate::tools::disk;
use crate::tools::opened;
use crate::tools::reason;
use crate::tools::run;
use oca::store;
use oca::store::DiskClass;
use oca::store::Finding;
use oca::store::StoreError;
use oca::store::prefill::PrefillError;
use std::process::Command;
use std::sync::atomic::AtomicBool;

const FILES: [(&str, usize); 2] = [("a.m4s", 5000), ("b.m4s", 6000)];

#[test]
fn an_unmounted_mount_point_is_refused_and_not_filled_and_a_mounted_one_is_used() {
    let mut lab = Lab::new(0);
    let at = lab.path("mnt");
    std::fs::create_dir(&at).unwrap();
    lab.add(&at, DiskClass::Ssd, false);
    let media = lab.media(&FILES);
    let store = lab.open();
    assert_eq!(disk(&store, 0).state, "refused");
    assert!(reason(&store, 0).contains("mount the disk, or set `plain_directory = true`"));
    let stop = AtomicBool::new(false);
    let refused = store::prefill::run(&store, &media, &stop, &mut |_| {}).unwrap_err();
    assert!(matches!(refused, PrefillError::NoVolume(_)), "{refused}");
    assert!(refused.to_string().contains("mount the disk"), "{refused}");
    assert_eq!(
        std::fs::read_dir(&at).unwrap().count(),
        0,
        "nothing was written there"
    );
    drop(store);

    let mount = Mount::tmpfs(&at, "size=16m");
    let store = lab.open();
    assert_eq!(disk(&store, 0).state, "online");
    assert_eq!(run(&store, &media).published, 2);
    assert_serves(&store, &FILES);
    drop((store, mount));
    let store = lab.open();
    assert_eq!(disk(&store, 0).state, "refused", "unmounted again");
    assert_eq!(store.find("a.m4s"), Finding::Unavailable);
    assert_eq!(store.view().manifest.as_ref().unwrap().missing, 2);
}

#[test]
fn of_two_disks_with_one_uuid_the_second_is_refused() {
    let mut lab = Lab::new(1);
    let media = lab.media(&FILES);
    run(&lab.open(), &media);
    let copy = lab.path("copy");
    let mut copied = Command::new("cp");
    copied.arg("-a").args([&lab.disks[0].path, &copy]);
    assert!(copied.status().unwrap().success());
    lab.add(&copy, DiskClass::Nvme, true);
    let store = lab.open();
    assert_eq!(
        (disk(&store, 0).state, disk(&store, 1).state),
        ("online", "refused")
    );
    let first = lab.disks[0].path.to_str().unwrap();
    assert!(reason(&store, 1).contains(&format!("same uuid as {first}")));
    assert_serves(&store, &FILES);
}

#[test]
fn a_foreign_format_is_left_untouched_and_other_disks_go_on() {
    let lab = Lab::new(2);
    let file = lab.disks[0].path.join("DISK.json");
    std::fs::write(&file, r#"{"format":9,"new":[]}"#).unwrap();
    let media = lab.media(&FILES);
    let store = lab.open();
    assert_eq!(disk(&store, 0).state, "refused");
    assert!(reason(&store, 0).contains("version 9"));
    assert_eq!(run(&store, &media).published, 2);
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        r#"{"format":9,"new":[]}"#
    );
    assert_eq!(std::fs::read_dir(&lab.disks[0].path).unwrap().count(), 1);
}

#[test]
fn a_volume_and_a_state_directory_have_one_owner_at_a_time() {
    let lab = Lab::new(1);
    let first = lab.open();
    let same = store::start(&lab.config()).unwrap_err();
    assert!(matches!(same, StoreError::Locked { .. }), "{same}");
    let mut other = lab.config();
    other.state_dir = lab.path("other-state");
    let second = opened(&other);
    assert_eq!(disk(&second, 0).state, "refused");
    assert!(reason(&second, 0).contains("another oca process"));
    assert_eq!(disk(&first, 0).state, "online");
    first.stop();
    drop(second);
    assert_eq!(
        disk(&opened(&other), 0).state,
        "online",
        "stop releases the locks"
    );
}

/// A sector that cannot be read is not a sector without anything in it.
#[test]
fn a_disk_whose_disk_file_or_directory_cannot_be_read_is_refused_and_never_taken_for_blank() {
    let mut lab = Lab::new(0);
    let at = lab.path("spoilt");
    std::fs::create_dir(&at).unwrap();
    let mut ailing = AilingDisk::mount(&lab.path("image"), &at, 64);
    lab.add(&at, DiskClass::Ssd, false);
    let uuid = {
        let store = lab.open();
        run(&store, &lab.media(&FILES));
        disk(&store, 0).uuid.unwrap()
    };
    let text = std::fs::read(at.join("DISK.json")).unwrap();
    // The file's own block, and the one of the directory that has its name.
    for needle in [&text[..], b"DISK.json"] {
        nix::unistd::syncfs(std::fs::File::open(&at).unwrap()).unwrap();
        ailing.spoil(needle);
        ailing.mount_again();
        let store = lab.open();
        assert_eq!(disk(&store, 0).state, "refused");
        let told = reason(&store, 0);
        assert!(told.contains("cannot be read"), "{told}");
        assert_eq!(store.find("a.m4s"), Finding::Unavailable);
        drop(store);
        ailing.heal();
        ailing.mount_again();
        assert_eq!(std::fs::read(at.join("DISK.json")).unwrap(), text);
        let store = lab.open();
        let view = disk(&store, 0);
        assert_eq!((view.state, view.uuid.as_ref()), ("online", Some(&uuid)));
        assert_serves(&store, &FILES);
    }
}
