//! One start of the store in a process of its own, and what it took.
//!
//! I/O: starts processes, empties the page cache, removes snapshots, reads /proc.

use crate::make;
use crate::make::Ground;
use anyhow::Context as _;
use nix::sys::resource::UsageWho;
use oca::clock;
use oca::object::Digest;
use oca::object::TreeBuilder;
use oca::store::Handle;
use serde_json::Value;
use serde_json::json;
use std::fmt;
use std::fs;
use std::hint::black_box;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

/// Asked for in turn, far apart: what one lookup leaves in the processor's caches helps no other.
const LOOKUPS: u32 = 1_000_000;

/// Of all objects' digests that many are asked for.
const DIGESTS: u32 = 100_000;

/// What a start took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Start {
    pub(crate) objects: f64,
    pub(crate) seconds: f64,
    pub(crate) processor: f64,
    /// Bytes of the index by its own account.
    pub(crate) index: f64,
    /// Bytes by which the process grew.
    pub(crate) grown: f64,
    pub(crate) hit: f64,
    pub(crate) miss: f64,
    pub(crate) digest: f64,
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} s ({:.2} CPU)", self.seconds, self.processor)
    }
}

/// Empties the page cache, if that is allowed.
pub(crate) fn cool() -> bool {
    nix::unistd::sync();
    fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

/// Starts the store, from its snapshots or without them.
pub(crate) fn start(ground: &Ground, snapshot: bool, cold: bool) -> anyhow::Result<Start> {
    let found = prepare(ground, snapshot)?;
    if cold {
        cool();
    }
    let output = command(ground, Command::new(std::env::current_exe()?))
        .stderr(Stdio::inherit())
        .output()?;
    anyhow::ensure!(output.status.success(), "the start failed");
    let told: Value = serde_json::from_slice(&output.stdout)?;
    let of = |name: &str| told[name].as_f64().unwrap_or(f64::NAN);
    anyhow::ensure!(
        of("objects") == f64::from(ground.objects),
        "{} objects found of {}",
        of("objects"),
        ground.objects
    );
    anyhow::ensure!(!snapshot || found, "the stop before left no snapshot");
    Ok(Start {
        objects: of("objects"),
        seconds: of("seconds"),
        processor: of("processor"),
        index: of("index"),
        grown: of("grown"),
        hit: of("hit"),
        miss: of("miss"),
        digest: of("digest"),
    })
}

/// System calls of a scan, all of them; `None` where they cannot be counted.
pub(crate) fn count_calls(ground: &Ground) -> anyhow::Result<Option<f64>> {
    let counted = |snapshot: bool| -> anyhow::Result<Option<f64>> {
        prepare(ground, snapshot)?;
        let mut perf = Command::new("perf");
        perf.args(["stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "--"]);
        perf.arg(std::env::current_exe()?);
        let Ok(output) = command(ground, perf).output() else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().find(|line| line.contains("sys_enter"));
        let count = line.and_then(|line| line.split(',').next()?.parse().ok());
        Ok(count.filter(|_| output.status.success()))
    };
    // What a start needs besides the scan is left out.
    let (scan, snapshot) = (counted(false)?, counted(true)?);
    if scan.is_none() {
        eprintln!("perf (linux-perf) cannot count here: system calls are not told");
    }
    Ok(scan.zip(snapshot).map(|(scan, snapshot)| scan - snapshot))
}

fn command(ground: &Ground, mut command: Command) -> Command {
    command.arg("--starter").arg(ground.path());
    command.arg(ground.volumes().to_string());
    command.arg(ground.objects.to_string());
    command
}

/// Has the next start find snapshots on all disks, or none. Tells whether there were any.
fn prepare(ground: &Ground, snapshot: bool) -> anyhow::Result<bool> {
    let mut found = true;
    for disk in ground.config().disks {
        let path = disk.path.join("index.snapshot");
        found &= path.exists();
        if !snapshot && path.exists() {
            fs::remove_file(path)?;
        }
    }
    Ok(found)
}

/// The process.
pub(crate) fn main(arguments: &[String]) -> anyhow::Result<()> {
    let [dir, volumes, objects] = arguments else {
        anyhow::bail!("`--starter` takes a directory and two numbers");
    };
    let (volumes, objects) = (volumes.parse()?, objects.parse()?);
    let config = make::config(Path::new(dir), volumes);
    let (begun, used, resident) = (clock::now(), processor()?, resident()?);
    let store = make::open(&config)?;
    let (seconds, used) = (begun.elapsed().as_secs_f64(), processor()? - used);
    let grown = self::resident()? - resident;
    let held: u64 = store.view().disks.iter().map(|disk| disk.objects).sum();
    let [hit, miss, digest] = lookups(&store, objects);
    let told = json!({
        "objects": held,
        "seconds": seconds,
        "processor": used,
        "grown": grown,
        "index": store.index_bytes(),
        "hit": hit,
        "miss": miss,
        "digest": digest,
    });
    store.stop();
    Ok(writeln!(std::io::stdout(), "{told}")?)
}

/// Nanoseconds of one: a key that is held, one that is not, and a digest.
fn lookups(store: &Handle, objects: u32) -> [f64; 3] {
    let mut random = fastrand::Rng::with_seed(7);
    let mut keys = |offset: u32| -> Vec<String> {
        let keys = (0..LOOKUPS).map(|_| make::key(random.u32(1..=objects) + offset));
        keys.collect()
    };
    let (held, others) = (keys(0), keys(objects + 1));
    let mut builder = TreeBuilder::new();
    let digests = (0..DIGESTS.min(objects)).map(|_| {
        builder.update(&[0]);
        builder.clone().finish().digest()
    });
    let digests: Vec<Digest> = digests.collect();
    let timed = |count: usize, work: &dyn Fn()| {
        let begun = clock::now();
        work();
        begun.elapsed().as_secs_f64() * 1e9 / count as f64
    };
    let find = |keys: &[String]| {
        for key in keys {
            black_box(store.find(key));
        }
    };
    [
        timed(held.len(), &|| find(&held)),
        timed(others.len(), &|| find(&others)),
        timed(digests.len(), &|| {
            for digest in &digests {
                black_box(store.holds(*digest));
            }
        }),
    ]
}

fn processor() -> anyhow::Result<f64> {
    let used = nix::sys::resource::getrusage(UsageWho::RUSAGE_SELF)?;
    let seconds =
        |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok(seconds(used.user_time()) + seconds(used.system_time()))
}

/// Bytes of memory that the process has.
fn resident() -> anyhow::Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kilobytes.context("VmRSS is missing")? * 1024.0)
}
