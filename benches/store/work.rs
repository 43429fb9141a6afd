//! What a store does every night: publishing durably, and reading again what it has.
//!
//! I/O: writes and reads on a volume of its own beside the many objects.

use crate::figure::Figure;
use crate::figure::Pair;
use crate::make;
use crate::make::Ground;
use anyhow::Context as _;
use oca::clock;
use oca::units::BytesPerSecond;
use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

const ROUNDS: usize = 5;

/// Objects of a round.
const OBJECTS: usize = 100;

/// A short segment.
const OBJECT_BYTES: usize = 64 << 10;

/// What is scrubbed: objects of 32 MiB, for a second or more.
const SCRUBBED: usize = 32;
const SCRUBBED_BYTES: usize = 32 << 20;

/// A scrub that has not come around by then is none.
const SCRUB_TIME: Duration = Duration::from_secs(120);

/// Objects published, one after another, beside what the disk flushes: a file of the same length
/// that is written and flushed, nothing else.
pub(crate) fn publish(ground: &Ground) -> anyhow::Result<Vec<Figure>> {
    let dir = ground.path().join("publish");
    let store = make::open(&make::config(&dir, 1))?;
    let mut pairs = Vec::new();
    let mut number = 0_u64;
    for round in 0..=ROUNDS {
        let begun = clock::now();
        for _ in 0..OBJECTS {
            number += 1;
            let name = number.to_le_bytes();
            let length = OBJECT_BYTES as u64;
            let mut publication = store.stage(&name, length, &BTreeSet::new())?;
            publication.write(bytes(number, OBJECT_BYTES))?;
            publication.commit(None)?;
        }
        let ours = OBJECTS as f64 / begun.elapsed().as_secs_f64();
        let peer = flushes(&dir)?;
        eprintln!("round {round}: {ours:.0} objects/s, {peer:.0} flushes/s");
        // The first one makes directories.
        if round > 0 {
            pairs.push(Pair { ours, peer });
        }
    }
    store.stop();
    let name = "objects of 64 KiB published /s, beside files flushed /s";
    Ok(vec![Figure::new(name, None, &pairs)])
}

fn flushes(dir: &Path) -> anyhow::Result<f64> {
    let begun = clock::now();
    for number in 0..OBJECTS {
        let path = dir.join(format!("flushed-{number}"));
        let mut file = File::create(&path)?;
        file.write_all(&bytes(number as u64, OBJECT_BYTES))?;
        file.sync_data()?;
    }
    let rate = OBJECTS as f64 / begun.elapsed().as_secs_f64();
    for number in 0..OBJECTS {
        fs::remove_file(dir.join(format!("flushed-{number}")))?;
    }
    Ok(rate)
}

/// Bytes that are like no other number's.
fn bytes(number: u64, length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    fastrand::Rng::with_seed(number).fill(&mut out);
    out
}

/// What the scrub's thread reads and verifies in a second of its own.
pub(crate) fn scrub(ground: &Ground) -> anyhow::Result<Vec<Figure>> {
    let dir = ground.path().join("scrub");
    let mut config = make::config(&dir, 1);
    // As fast as it goes, around and around.
    config.upkeep.scrub_every = Duration::from_secs(1);
    config.upkeep.scrub_rate = BytesPerSecond(100_000_000_000);
    let store = make::open(&config)?;
    for number in 0..SCRUBBED {
        let name = number.to_le_bytes();
        let mut publication = store.stage(&name, SCRUBBED_BYTES as u64, &BTreeSet::new())?;
        publication.write(bytes(number as u64, SCRUBBED_BYTES))?;
        publication.commit(None)?;
    }
    let wanted = (2 * SCRUBBED * SCRUBBED_BYTES) as u64;
    let scrubbed = || store.view().disks[0].scrub.bytes;
    let (begun, before, used) = (clock::now(), scrubbed(), scrub_time()?);
    while scrubbed() - before < wanted {
        anyhow::ensure!(
            begun.elapsed() < SCRUB_TIME,
            "the scrub does not come around"
        );
        clock::block_for(Duration::from_millis(100));
    }
    let (bytes, seconds) = ((scrubbed() - before) as f64, begun.elapsed().as_secs_f64());
    let processor = scrub_time()? - used;
    store.stop();
    let single = |name: &str, ours: f64| {
        let peer = f64::NAN;
        Figure::new(name, None, &[Pair { ours, peer }])
    };
    Ok(vec![
        single("scrub, GB of a CPU second", bytes / 1e9 / processor),
        single("scrub, GB/s on this disk", bytes / 1e9 / seconds),
    ])
}

/// Seconds of processor time of the scrub's thread.
fn scrub_time() -> anyhow::Result<f64> {
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        let Ok(name) = fs::read_to_string(task.join("comm")) else {
            continue;
        };
        if name.trim() == "disk0-scrub" {
            let times = fs::read_to_string(task.join("schedstat"))?;
            let first = times.split_whitespace().next();
            let nanoseconds: f64 = first.context("schedstat is empty")?.parse()?;
            return Ok(nanoseconds / 1e9);
        }
    }
    anyhow::bail!("the scrub has no thread")
}
