//! Mixed load with faults: viewers of every kind, reloads, a log that is rotated, a disk that
//! breaks. Every byte is checked by the viewer that gets it; afterwards nothing has leaked.
//!
//! `OCA_MIXED_SECONDS` for how long. Needs root: the disk that breaks is a loop device.

use crate::harness;
use crate::loop_disk::LoopDisk;
use crate::viewers;
use crate::viewers::Counts;
use crate::viewers::Crowd;
use crate::viewers::Manner;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use oca::clock;
use oca::demo::Appliance;
use oca::demo::Role;
use oca::demo::Scratch;
use oca::demo::Settings;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

const SECONDS: u64 = 12;

const DISK_MEGABYTES: u64 = 256;

/// What is left of the disk that breaks: the first groups, so that the file system is there and
/// what it holds is not.
const DISK_LEFT_MEGABYTES: u64 = 1;

/// What an object can be: less than a packet, a segment, more than any buffer.
const SIZES: [usize; 6] = [
    1,
    3_000,
    16 * 1024 + 1,
    300_000,
    (2 << 20) + 7,
    (6 << 20) + 1,
];

const OF_EACH: usize = 8;

/// Each manner, plain and over TLS.
const CROWD: [(Manner, usize); 6] = [
    (Manner::Polite, 4),
    (Manner::Pipelining, 2),
    (Manner::Slow, 3),
    (Manner::Leaving, 2),
    (Manner::Hostile, 2),
    (Manner::Idle, 8),
];

/// Reloads and rotations.
const DISTURB_EVERY: Duration = Duration::from_secs(3);

/// Memory may grow by this between the first third of a run and its end: allocators settle.
const GROWTH_BYTES: u64 = 16 << 20;

/// One look at the process.
#[derive(Clone, Copy, Debug)]
struct Look {
    resident: u64,
    descriptors: usize,
    objects: usize,
    pipes: usize,
    threads: usize,
}

fn look(process: u32) -> Look {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let number = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let open: Vec<String> = fs::read_dir(format!("/proc/{process}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    Look {
        resident: number("VmRSS:") << 10,
        // Open objects are kept for a minute, however much comes and goes.
        objects: open
            .iter()
            .filter(|path| path.contains("/objects/"))
            .count(),
        descriptors: open
            .iter()
            .filter(|path| !path.contains("/objects/"))
            .count(),
        pipes: open.iter().filter(|path| path.starts_with("pipe:")).count(),
        threads: usize::try_from(number("Threads:")).unwrap(),
    }
}

fn make_titles(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut titles = BTreeMap::new();
    for (number, size) in SIZES.iter().cycle().take(SIZES.len() * OF_EACH).enumerate() {
        let key = format!("film{}/part-{number:03}.m4s", number % 4);
        let mut bytes = vec![0; *size];
        let mut noise = blake3::Hasher::new().update(key.as_bytes()).finalize_xof();
        noise.fill(&mut bytes);
        let path = dir.join(&key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &bytes).unwrap();
        titles.insert(key, bytes);
    }
    titles
}

/// A box on two disks; the second is the one that will break.
async fn make(scratch: &Scratch, titles: &Path) -> (Appliance, [LoopDisk; 2]) {
    let settings = Settings {
        workers: 2,
        disks: 2,
        access_log: true,
        role: Role::Alone,
    };
    let program = Path::new(env!("CARGO_BIN_EXE_oca"));
    let mut appliance = Appliance::new(program, scratch.path(), settings).unwrap();
    // Of one size, so that each gets half of the objects.
    let disks = ["disk1", "disk2"].map(|name| {
        let place = scratch.path().join(name);
        LoopDisk::mount(&place.with_extension("img"), &place, DISK_MEGABYTES)
    });
    appliance.prefill(titles).await.unwrap();
    appliance.start().await.unwrap();
    (appliance, disks)
}

#[tokio::test]
#[allow(clippy::await_holding_lock, reason = "this runtime has one task")]
async fn mixed_load_with_faults_serves_no_wrong_byte_and_leaks_nothing() {
    let _turn = harness::beside_others();
    let seconds = std::env::var("OCA_MIXED_SECONDS").ok();
    let seconds = seconds
        .and_then(|text| text.parse().ok())
        .unwrap_or(SECONDS);
    let time = Duration::from_secs(seconds);
    let scratch = Scratch::new("t-mixed").unwrap();
    let media = scratch.path().join("media");
    let titles = make_titles(&media);
    let (appliance, [_disk, breaking]) = make(&scratch, &media).await;
    let addresses = appliance.addresses().unwrap();
    let process = appliance.process().unwrap();
    let crowd = Arc::new(Crowd {
        plain: addresses.plain,
        https: addresses.https,
        tls: viewers::client(&appliance.authority().ca),
        titles,
        stop: AtomicBool::new(false),
        is_faulty: AtomicBool::new(false),
        counts: Counts::default(),
        wrongs: Mutex::default(),
    });
    let before = look(process);
    let mut threads = Vec::new();
    for (manner, count) in CROWD {
        for number in 0..2 * count {
            let crowd = Arc::clone(&crowd);
            let seed = (number * 31 + manner as usize) as u64;
            threads.push(std::thread::spawn(move || {
                viewers::run(&crowd, manner, number % 2 == 0, seed);
            }));
        }
    }
    let looks = disturb(&crowd, process, &scratch, &breaking, time);
    crowd.stop.store(true, Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(*crowd.wrongs.lock().unwrap(), Vec::<String>::new());
    judge(&appliance, process, before, &looks).await;
    let counts = &crowd.counts;
    println!(
        "{seconds} s: {} responses, {} MB checked, {} cut and {} answered 503 while the disk was \
         broken, {} rude visits; {looks:?}",
        counts.responses.load(Relaxed),
        counts.bytes.load(Relaxed) / 1_000_000,
        counts.cut.load(Relaxed),
        counts.unavailable.load(Relaxed),
        counts.rude.load(Relaxed),
        looks = looks.last(),
    );
    assert!(counts.responses.load(Relaxed) > 50 * seconds);
    let hurt = counts.cut.load(Relaxed) + counts.unavailable.load(Relaxed);
    assert!(hurt > 0, "nobody noticed the disk");
}

/// Reloads, rotates and breaks things while viewers come and go; looks at the process meanwhile.
fn disturb(
    crowd: &Crowd,
    process: u32,
    scratch: &Scratch,
    disk: &LoopDisk,
    time: Duration,
) -> Vec<Look> {
    let (begun, id) = (clock::now(), Pid::from_raw(i32::try_from(process).unwrap()));
    let log = scratch.path().join("access.log");
    let mut looks = Vec::new();
    let mut disturbed = begun;
    while clock::now() - begun < time {
        clock::block_for(Duration::from_millis(500));
        looks.push(look(process));
        let passed = clock::now() - begun;
        if clock::now() - disturbed >= DISTURB_EVERY {
            disturbed = clock::now();
            fs::rename(&log, log.with_extension("1")).unwrap();
            let signal = if looks.len() % 2 == 0 {
                Signal::SIGHUP
            } else {
                Signal::SIGUSR1
            };
            kill(id, signal).unwrap();
        }
        if passed > time / 2 && !crowd.is_faulty.swap(true, Relaxed) {
            disk.tear_off(DISK_LEFT_MEGABYTES);
            fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
        }
        if !crowd.wrongs.lock().unwrap().is_empty() {
            break;
        }
    }
    looks
}

/// Compares the end with the beginning.
async fn judge(appliance: &Appliance, process: u32, before: Look, looks: &[Look]) {
    let median = |looks: &[Look], of: fn(&Look) -> u64| {
        let mut all: Vec<u64> = looks.iter().map(of).collect();
        all.sort_unstable();
        all[all.len() / 2]
    };
    let (early, late) = (
        &looks[looks.len() / 5..looks.len() / 3 + 1],
        &looks[looks.len() * 4 / 5..],
    );
    let resident: fn(&Look) -> u64 = |look| look.resident;
    let (first, last) = (median(early, resident), median(late, resident));
    assert!(
        last <= first + GROWTH_BYTES,
        "resident memory grew from {first} to {last} B"
    );
    // Connections end with their viewers, or when a half-sent head is given up.
    let end = clock::now() + Duration::from_secs(40);
    let after = loop {
        let after = look(process);
        if after.descriptors <= before.descriptors + 4 || clock::now() > end {
            break after;
        }
        clock::sleep(Duration::from_millis(250)).await;
    };
    assert!(
        after.descriptors <= before.descriptors + 4,
        "descriptors: {before:?}, then {after:?}"
    );
    assert!(after.pipes <= before.pipes, "{before:?}, then {after:?}");
    let held = SIZES.len() * OF_EACH;
    // Each worker keeps its own.
    assert!(after.objects <= 2 * held, "{held} objects, and {after:?}");
    assert!(
        after.threads <= before.threads + 16,
        "{before:?}, then {after:?}"
    );
    let told = appliance.ask("/v1/connections").await.unwrap();
    assert_eq!(told["connections"]["open"], 0, "{told}");
    assert_eq!(told["panics"], 0, "{told}");
}
