//! `aria2c` and `rclone`, told to do what a fill does: eight files at a time, one connection each.
//!
//! I/O: starts a process, reads what it left.

use crate::origin;
use crate::origin::Origin;
use anyhow::Context as _;
use nix::sys::resource::UsageWho;
use nix::sys::resource::getrusage;
use nix::sys::time::TimeVal;
use nix::sys::time::TimeValLike as _;
use oca::clock;
use oca::sys::page_cache;
use std::fmt;
use std::fmt::Write as _;
use std::fs;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

/// Files at a time.
pub(crate) const STREAMS: usize = 8;

/// Whoever fetches has this core.
pub(crate) const CORE: &str = "1";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Aria2c,
    Rclone,
}

/// What fetching everything took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) bytes: f64,
    pub(crate) seconds: f64,
    /// Seconds of the process, with the kernel's work for it.
    pub(crate) processor: f64,
    /// Bytes of its files in memory, when it has ended.
    pub(crate) cached: f64,
}

impl Cost {
    pub(crate) fn gigabytes(&self) -> f64 {
        self.bytes / 1e9
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.bytes / 1e6 / self.seconds;
        let work = self.processor / self.gigabytes();
        let cached = 100.0 * self.cached / self.bytes;
        write!(
            f,
            "{rate:.0} MB/s, {work:.3} CPU s/GB, {cached:.1} % in memory"
        )
    }
}

/// Fetches the first `objects` files into an empty directory, which is removed. `cap`: B/s that it
/// is told to keep to.
pub(crate) fn run(
    peer: Peer,
    origin: &Origin,
    objects: usize,
    cap: Option<u64>,
) -> anyhow::Result<Cost> {
    let into = origin.scratch.join("peer");
    fs::create_dir(&into)?;
    let mut command = match peer {
        Peer::Aria2c => aria2c(origin, objects, &into)?,
        Peer::Rclone => rclone(origin, objects, &into)?,
    };
    if let Some(cap) = cap {
        command.arg(match peer {
            Peer::Aria2c => format!("--max-overall-download-limit={cap}"),
            Peer::Rclone => format!("--bwlimit={cap}B"),
        });
    }
    let (begun, before) = (clock::now(), children()?);
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {peer:?}"))?;
    let seconds = (clock::now() - begun).as_secs_f64();
    let processor = children()? - before;
    anyhow::ensure!(
        output.status.success(),
        "{peer:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let cost = Cost {
        bytes: bytes_below(&into)?,
        seconds,
        processor,
        cached: cached_below(&into)?,
    };
    fs::remove_dir_all(&into)?;
    Ok(cost)
}

fn aria2c(origin: &Origin, objects: usize, into: &Path) -> anyhow::Result<Command> {
    let mut list = String::new();
    for number in 0..objects {
        writeln!(list, "{}", origin.url(&origin::name(number)))?;
    }
    let file = origin.scratch.join("aria2c.list");
    fs::write(&file, list)?;
    let mut command = pinned("aria2c");
    command
        .args([
            "--no-conf",
            "--quiet",
            "--async-dns=false",
            "--split=1",
            "--max-connection-per-server=1",
        ])
        .args(["--file-allocation=falloc", "--auto-save-interval=0"])
        .arg(format!("--max-concurrent-downloads={STREAMS}"))
        .arg(format!("--ca-certificate={}", origin.authority.display()))
        .arg(format!("--dir={}", into.display()))
        .arg(format!("--input-file={}", file.display()));
    Ok(command)
}

fn rclone(origin: &Origin, objects: usize, into: &Path) -> anyhow::Result<Command> {
    let mut list = String::new();
    for number in 0..objects {
        writeln!(list, "{}", origin::name(number))?;
    }
    let file = origin.scratch.join("rclone.list");
    fs::write(&file, list)?;
    let mut command = pinned("rclone");
    command
        .args([
            "copy",
            "--quiet",
            "--config=",
            "--multi-thread-streams=0",
            "--no-traverse",
        ])
        .arg(format!("--transfers={STREAMS}"))
        .arg(format!("--checkers={STREAMS}"))
        .arg(format!("--ca-cert={}", origin.authority.display()))
        .arg(format!("--http-url={}", origin.url("")))
        .arg(format!("--files-from-raw={}", file.display()))
        .arg(":http:")
        .arg(into);
    Ok(command)
}

/// A program on the core of those who fetch.
pub(crate) fn pinned(program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", CORE, program]);
    command
}

fn children() -> anyhow::Result<f64> {
    used(UsageWho::RUSAGE_CHILDREN)
}

/// Processor seconds.
pub(crate) fn used(who: UsageWho) -> anyhow::Result<f64> {
    let usage = getrusage(who)?;
    let seconds = |time: TimeVal| time.num_microseconds() as f64 / 1e6;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

/// Of the files below a directory.
pub(crate) fn bytes_below(dir: &Path) -> anyhow::Result<f64> {
    sum_below(dir, &|file| Ok(file.metadata()?.len()))
}

/// How much of the files below a directory is in memory.
pub(crate) fn cached_below(dir: &Path) -> anyhow::Result<f64> {
    let page = page_cache::page_bytes();
    sum_below(
        dir,
        &|file| Ok(page_cache::pages_cached(file, 0, 0)? * page),
    )
}

fn sum_below(dir: &Path, of: &dyn Fn(&File) -> anyhow::Result<u64>) -> anyhow::Result<f64> {
    let mut sum = 0.0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sum += sum_below(&entry.path(), of)?;
        } else if let Ok(file) = File::open(entry.path()) {
            sum += of(&file)? as f64;
        }
    }
    Ok(sum)
}
