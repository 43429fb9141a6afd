//! Disks that are given back: after a look at them, mounted anew, or missed since the start; and
//! what is damaged on a disk that nobody can write.

use crate::ailing_disk::AilingDisk;
use crate::tools::Lab;
use crate::tools::Mount;
use crate::tools::assert_serves;
use crate::tools::block;
use crate::tools::bytes;
use crate::tools::disk;
use crate::tools::object_path;
use crate::tools::opened;
use crate::tools::read;
use crate::tools::reason;
use crate::tools::run;
use crate::tools::until;
use oca::clock;
use oca::key::Key;
use oca::object::Digest;
use oca::store::Binding;
use oca::store::DiskClass;
use oca::store::DiskOrderError;
use oca::store::Finding;
use oca::store::Handle;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

const MB: usize = 1_000_000;

/// A control plane lists all of it, in this order.
fn list(store: &Handle, generation: u64, files: &[(&str, usize)]) {
    let rows = (0_u32..).zip(files).map(|(rank, (key, length))| {
        let binding = Binding {
            digest: Digest::of(&bytes(key, *length)),
            length: *length as u64,
            last_modified: 1,
            rank,
        };
        (Key::parse(key.as_bytes()).unwrap(), binding)
    });
    store.adopt(1, generation, rows.collect()).unwrap();
}

fn wanted(store: &Handle) -> Vec<Digest> {
    let wanted = store.wanted(&[]).into_iter();
    wanted.map(|wanted| wanted.digest).collect()
}

/// Records of the state directory that say since when a disk is missed.
fn dated(lab: &Lab) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(lab.path("state")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let is_dated = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("place-") && {
            let text = std::fs::read_to_string(path).unwrap();
            let record: serde_json::Value = serde_json::from_str(&text).unwrap();
            !record["missed_since"].is_null()
        }
    };
    paths.filter(is_dated).collect()
}

/// What an earlier life kept of a failed flush.
fn condemn(lab: &Lab, uuid: &str) -> PathBuf {
    let record = lab.path("state").join(format!("suspect-{uuid}.json"));
    std::fs::write(
        &record,
        r#"{"v":1,"since":"2026-01-01","reason":"a flush failed: EIO"}"#,
    )
    .unwrap();
    record
}

#[test]
fn a_disk_whose_flush_failed_is_back_on_an_operators_word_and_a_restart_does_not_undo_it() {
    let lab = Lab::new(1);
    let files = [("film/a", MB), ("film/b", MB)];
    let (uuid, gone) = {
        let store = lab.open();
        run(&store, &lab.media(&files));
        list(&store, 1, &files);
        let gone = store.find("film/b").entry().unwrap().digest;
        (disk(&store, 0).uuid.unwrap(), gone)
    };
    let record = condemn(&lab, &uuid);
    let store = lab.open();
    assert_eq!(disk(&store, 0).state, "suspect");
    assert!(
        reason(&store, 0).contains("oca disk check"),
        "{}",
        reason(&store, 0)
    );
    assert_eq!(store.find("film/a"), Finding::Unavailable);
    assert_eq!(
        wanted(&store),
        [],
        "it is held down, though it was not scanned"
    );
    let path = &lab.disks[0].path;
    std::fs::remove_file(object_path(path, gone)).unwrap();
    block(store.recheck(path)).unwrap();
    until("it is back", || disk(&store, 0).state == "online");
    assert!(!record.exists());
    let schedule = std::fs::read(path.join("scrub.kept")).unwrap();
    let schedule: serde_json::Value = serde_json::from_slice(&schedule).unwrap();
    let verified = schedule["verified_ms"].as_array().unwrap();
    let a_day_ago = clock::wall().as_millisecond() - 24 * 3600 * 1000;
    let is_due = |at: &serde_json::Value| at.as_i64().unwrap() < a_day_ago;
    assert!(verified.iter().all(is_due), "a restart goes on with it");
    assert_serves(&store, &files[..1]);
    assert_eq!(
        wanted(&store),
        [gone],
        "what is not there is known to be gone"
    );
    let again = block(store.recheck(path)).unwrap_err();
    assert!(
        matches!(
            again,
            DiskOrderError::State {
                state: "online",
                ..
            }
        ),
        "{again}"
    );
    let unknown = block(store.recheck(&lab.path("none"))).unwrap_err();
    assert!(matches!(unknown, DiskOrderError::Unknown(_)), "{unknown}");
    drop(store);
    let store = lab.open();
    assert_eq!(disk(&store, 0).state, "online");
    assert_serves(&store, &files[..1]);
}

#[test]
fn a_pulled_disk_is_missed_unasked_and_put_back_it_serves_again_and_nothing_is_wanted() {
    let mut lab = Lab::new(0);
    let at = lab.path("pulled");
    std::fs::create_dir(&at).unwrap();
    let mut ailing = AilingDisk::mount(&lab.path("image"), &at, 64);
    lab.add(&at, DiskClass::Ssd, false);
    let names: Vec<String> = (0..8).map(|number| format!("film/{number}")).collect();
    let files: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), MB / 4)).collect();
    let store = lab.open();
    run(&store, &lab.media(&files));
    list(&store, 1, &files);
    let open: Vec<_> = { files.iter() }
        .map(|(key, _)| store.find(key).entry().unwrap().digest)
        .map(|digest| block(store.open(digest)).unwrap())
        .collect();
    // All of it is in memory: nobody asks the disk for anything.
    ailing.pull();
    let pulled = clock::now();
    until("it is missed", || disk(&store, 0).state == "suspect");
    let took = clock::now() - pulled;
    // Within a second where the machine has nothing else to do: the lab's tests judge that.
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(
        reason(&store, 0).contains("cannot be read"),
        "{}",
        reason(&store, 0)
    );
    let refused = block(store.recheck(&at)).unwrap_err();
    assert!(
        matches!(refused, DiskOrderError::Refused { .. }),
        "{refused}"
    );
    assert_eq!(disk(&store, 0).state, "suspect");
    assert_eq!(wanted(&store), []);
    // What cannot be put aside on a disk that is not there is not condemned.
    store.read_failed(&open[0], &io::ErrorKind::UnexpectedEof.into());

    ailing.put_back();
    // It may have been looked at unasked meanwhile.
    match block(store.recheck(&at)) {
        Ok(()) | Err(DiskOrderError::State { .. }) => {}
        Err(error) => panic!("{error}"),
    }
    until("it is back", || disk(&store, 0).state == "online");
    assert_serves(&store, &files);
    // Viewers have files of the mount that is gone open: their errors are not this disk's.
    for object in &open {
        store.read_failed(object, &io::Error::from_raw_os_error(libc::EIO));
    }
    assert_eq!(disk(&store, 0).state, "online");
    assert_serves(&store, &files);
    assert_eq!(wanted(&store), []);
}

#[test]
fn a_disk_that_hangs_unasked_is_isolated_at_the_deadline() {
    let mut lab = Lab::new(0);
    let at = lab.path("hanging");
    std::fs::create_dir(&at).unwrap();
    let ailing = AilingDisk::mount(&lab.path("image"), &at, 64);
    lab.add(&at, DiskClass::Ssd, false);
    let mut config = lab.config();
    config.deadline = Duration::from_secs(1);
    let store = opened(&config);
    ailing.hang();
    until("it is isolated", || disk(&store, 0).state == "isolated");
    ailing.recover();
    until("it is back", || disk(&store, 0).state == "online");
}

#[test]
fn what_a_disk_had_that_is_missing_at_a_start_is_held_down_over_restarts_and_news_are_not() {
    let mut lab = Lab::new(1);
    let (image, at) = (lab.path("image"), lab.path("absent"));
    let mount = Mount::ext4(&image, 64, &at);
    lab.add(&at, DiskClass::Nvme, false);
    let files = [("film/a", MB), ("film/b", MB)];
    {
        let store = lab.open();
        run(&store, &lab.media(&files));
        list(&store, 1, &files);
    }
    drop(mount);
    let mut config = lab.config();
    let hold = Duration::from_secs(4);
    (config.upkeep.refill_after, config.upkeep.refill_hot_after) = (hold, hold);
    let missed = clock::now();
    {
        let store = opened(&config);
        assert_eq!(wanted(&store), []);
        assert!(dated(&lab).is_empty(), "nobody vouches for the clock");
        store.clock_is_sane(true);
        assert_eq!(disk(&store, 1).state, "refused");
        assert_eq!(wanted(&store), []);
        assert_eq!(dated(&lab).len(), 1);
        let more = [files[0], files[1], ("film/c", MB)];
        list(&store, 2, &more);
        assert_eq!(wanted(&store), [Digest::of(&bytes("film/c", MB))]);
        list(&store, 3, &files);
        clock::block_for(hold / 2);
    }
    let store = opened(&config);
    store.clock_is_sane(true);
    let restarted = clock::now();
    assert_eq!(wanted(&store), []);
    until("it is wanted at last", || wanted(&store).len() == 2);
    let (whole, this) = (clock::now() - missed, clock::now() - restarted);
    assert!(whole >= hold - Duration::from_millis(500), "{whole:?}");
    assert!(this < hold, "a restart does not begin anew: {this:?}");
    // It comes after all.
    let _mount = Mount::again(&image, &at);
    until("it joins", || disk(&store, 1).state == "online");
    assert_eq!(wanted(&store), []);
    assert_serves(&store, &files);
}

#[test]
fn a_damaged_object_of_a_read_only_disk_is_told_and_not_served_after_a_restart_either() {
    let mut lab = Lab::new(0);
    let at = lab.path("sealed");
    let mount = Mount::ext4(&lab.path("image"), 64, &at);
    lab.add(&at, DiskClass::Ssd, false);
    let files = [("film/a", MB), ("film/b", MB)];
    let damaged = {
        let store = lab.open();
        run(&store, &lab.media(&files));
        store.find("film/b").entry().unwrap().digest
    };
    mount.remount("ro");
    let told = |store: &Handle| reason(store, 0).contains("1 damaged objects stay on it");
    {
        let store = lab.open();
        assert_eq!(disk(&store, 0).state, "read-only");
        let object = block(store.open(damaged)).unwrap();
        store.read_failed(&object, &io::ErrorKind::UnexpectedEof.into());
        assert_eq!(store.find("film/b"), Finding::Unavailable);
        until("it is told", || told(&store));
    }
    {
        let store = lab.open();
        assert_eq!(store.find("film/b"), Finding::Unavailable);
        assert!(read(&store, "film/b").is_err());
        assert!(told(&store), "{}", reason(&store, 0));
        assert_serves(&store, &files[..1]);
    }
    mount.remount("rw");
    let store = lab.open();
    assert_eq!(store.find("film/b"), Finding::Unavailable);
    assert!(at.join("quarantine").join(damaged.to_string()).exists());
    assert_eq!(disk(&store, 0).reason, None);
    assert_serves(&store, &files[..1]);
}

#[test]
fn a_check_of_a_disk_that_is_mounted_read_only_says_so_and_asks_no_write_of_it() {
    let mut lab = Lab::new(0);
    let at = lab.path("sealed");
    let mount = Mount::ext4(&lab.path("image"), 64, &at);
    lab.add(&at, DiskClass::Ssd, false);
    let files = [("film/a", MB), ("film/b", MB)];
    let uuid = {
        let store = lab.open();
        run(&store, &lab.media(&files));
        disk(&store, 0).uuid.unwrap()
    };
    mount.remount("ro");
    {
        let store = lab.open();
        let refused = block(store.recheck(&at)).unwrap_err().to_string();
        assert!(
            refused.contains("is read-only: only one that is suspect"),
            "{refused}"
        );
        assert_eq!(disk(&store, 0).state, "read-only");
        assert_serves(&store, &files);
    }
    let record = condemn(&lab, &uuid);
    {
        let store = lab.open();
        assert_eq!(disk(&store, 0).state, "suspect");
        block(store.recheck(&at)).unwrap();
        until("it is back", || disk(&store, 0).state == "read-only");
        assert!(!record.exists());
        assert_serves(&store, &files);
    }
    let store = lab.open();
    assert_eq!(
        disk(&store, 0).state,
        "read-only",
        "a restart does not undo it"
    );
}
