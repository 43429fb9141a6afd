//! The power fails at every flush, and right after every answer: nothing is lost, corrupt or twice
//! visible.
//!
//! A store works on file systems, of each disk and the state directory its own, on parts of a disk
//! whose every write the device-mapper logs ([`super::log`]). Then the log is written to a second
//! disk step by step; at each flush the file systems on it are mounted behind a snapshot, so that
//! their recovery changes nothing below, and a store opens them.
//!
//! I/O: everything it has is a disk of memory in the guest.

use super::device;
use super::device::BOX_SECTORS;
use super::device::FileSystem;
use super::device::Mapped;
use super::device::Parts;
use super::device::ram;
use super::log::Log;
use super::log::Replay;
use super::tools::opened;
use super::verdict;
use super::verdict::Verdict;
use super::work;
use super::work::State;
use super::work::Work;
use std::path::Path;
use std::path::PathBuf;

/// `all`, or how many of a log's flushes and how many of its answers, evenly spread.
pub(crate) const POINTS_VARIABLE: &str = "OCA_POWER_POINTS";

/// Some six seconds a file system.
const POINTS: usize = 12;

/// What the log is told when there is a file system, and after so many operations.
const MADE: &str = "made";
const DONE: &str = "done-";

/// Wrongs told in words; all are counted.
const TOLD_MAX: usize = 6;

/// Disks of memory: what the box writes to, the log of that, where the log is written to, and what
/// a mount changes there.
const BOX: u32 = 0;
const LOG: u32 = 1;
const COPY: u32 = 2;
const CHANGES: u32 = 3;

/// Where the power fails.
#[derive(Clone, Copy, Debug)]
struct Point {
    /// The last one that the disk has.
    entry: usize,
    /// How many operations had been acknowledged; none: the store itself was not open.
    done: Option<usize>,
}

pub(crate) fn ext4() -> String {
    survives(FileSystem::Ext4)
}

pub(crate) fn xfs() -> String {
    survives(FileSystem::Xfs)
}

fn survives(kind: FileSystem) -> String {
    device::blank_disks();
    let at = std::env::temp_dir().join("power");
    // And all is moved there and back.
    let moves = [0, 1].map(|disk| [Work::Retire(disk), Work::Stay(disk)]);
    let plan = [work::plan(), moves.concat()].concat();
    record(kind, &at, &plan);
    let log = Log::read(&ram(LOG)).unwrap();
    let (flushes, answers) = points(&log, plan.len());
    let mut chosen: Vec<Point> = spread(&flushes).chain(spread(&answers)).collect();
    chosen.sort_by_key(|point| point.entry);
    let mut replay = Replay::new(&log, &ram(COPY)).unwrap();
    let (mut all, mut told) = (Verdict::default(), Vec::new());
    for Point { entry, done } in &chosen {
        replay.up_to(*entry).unwrap();
        let verdict = trial(kind, &at, &plan, *done);
        if !verdict.is_clean() {
            told.push(format!("at entry {entry} after {done:?}: {verdict:?}"));
        }
        all.lost.extend(verdict.lost);
        all.corrupt.extend(verdict.corrupt);
        all.twice.extend(verdict.twice);
        all.back.extend(verdict.back);
    }
    let said = format!(
        "power lost {} times on {kind:?}, at flushes ({} there are) and right after {} operations: \
         {} lost, {} corrupt, {} twice, {} back",
        chosen.len(),
        flushes.len(),
        plan.len(),
        all.lost.len(),
        all.corrupt.len(),
        all.twice.len(),
        all.back.len()
    );
    told.truncate(TOLD_MAX);
    assert!(all.is_clean(), "{said}; {}", told.join("; "));
    said
}

/// The whole plan, on a file system whose writes are logged from the first one on.
fn record(kind: FileSystem, at: &Path, plan: &[Work]) {
    let (below, log) = (ram(BOX), ram(LOG));
    let (below, log) = (below.display(), log.display());
    let table = format!("0 {BOX_SECTORS} log-writes {below} {log}");
    let disk = Mapped::new("box", &table);
    let parts = Parts::mount(kind, &disk.node, at, true);
    parts.sync();
    disk.tell(&["mark", MADE]);
    let config = work::config(at);
    let mut store = opened(&config);
    let mut state = State::default();
    disk.tell(&["mark", &format!("{DONE}0")]);
    for (number, work) in plan.iter().enumerate() {
        if *work == Work::Restart {
            drop(store);
            store = opened(&config);
        } else {
            work::perform(&store, &state, work);
        }
        state = state.after(work);
        disk.tell(&["mark", &format!("{DONE}{}", number + 1)]);
    }
    let verdict = verdict::judge(&store, &state, &state);
    assert!(verdict.is_clean(), "before any loss of power: {verdict:?}");
    drop(store);
    drop(parts);
}

/// Entries at which the power may fail once there is a file system: those that flush, and those
/// at which an operation had just been acknowledged.
fn points(log: &Log, operations: usize) -> (Vec<Point>, Vec<Point>) {
    let (mut is_made, mut done) = (false, None);
    let (mut flushes, mut answers) = (Vec::new(), Vec::new());
    for (entry, told) in log.entries.iter().enumerate() {
        match told.mark.as_deref() {
            Some(MADE) => is_made = true,
            Some(mark) => {
                if let Some(count) = mark.strip_prefix(DONE) {
                    done = Some(count.parse().unwrap());
                    answers.push(Point { entry, done });
                }
            }
            None if is_made && told.is_flush => flushes.push(Point { entry, done }),
            None => {}
        }
    }
    assert_eq!(done, Some(operations), "the log has no room for the rest");
    (flushes, answers)
}

/// As many as are asked for, the first and the last among them.
fn spread(points: &[Point]) -> impl Iterator<Item = Point> {
    let asked = std::env::var(POINTS_VARIABLE).unwrap_or_default();
    let most = match asked.as_str() {
        "all" => points.len(),
        number => number.parse().unwrap_or(POINTS).min(points.len()),
    };
    let last = points.len() - 1;
    let steps = most.saturating_sub(1).max(1);
    (0..most).map(move |step| points[step * last / steps])
}

/// What a box finds that is switched on again.
fn trial(kind: FileSystem, at: &Path, plan: &[Work], done: Option<usize>) -> Verdict {
    let mut sure = State::default();
    for work in &plan[..done.unwrap_or(0)] {
        sure = sure.after(work);
    }
    let next = done.and_then(|done| plan.get(done));
    let perhaps = next.map_or_else(|| sure.clone(), |work| sure.after(work));
    let (below, changes): (PathBuf, PathBuf) = (ram(COPY), ram(CHANGES));
    let (below, changes) = (below.display(), changes.display());
    let table = format!("0 {BOX_SECTORS} snapshot {below} {changes} N 8");
    let disk = Mapped::new("again", &table);
    let parts = Parts::mount(kind, &disk.node, at, false);
    let config = work::config(at);
    let store = opened(&config);
    work::come_to_rest(&store);
    let mut verdict = verdict::judge(&store, &sure, &perhaps);
    if let Some(Work::Retire(_)) = next {
        // A move that nobody goes on with leaves its object on both disks, whole.
        verdict.twice.clear();
    }
    drop(store);
    drop(parts);
    drop(disk);
    verdict
}
