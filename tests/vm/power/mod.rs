//! Disks that forget, lie and rot: a guest of its own for what needs the device-mapper.
//!
//! The store itself works in there, in this test's process. [`replay`] cuts the power at each flush
//! of a log ([`log`]) of what a box did ([`work`]) and judges what is left ([`verdict`]); [`liar`]
//! is a disk that says a write is done and does not do it, [`dust`] one with bad blocks. [`device`]
//! makes the disks.
//!
//! I/O: boots a guest; inside, prints marks.

mod device;
mod dust;
mod liar;
mod log;
mod replay;
#[path = "../../store/tools.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod tools;
#[path = "../../store/verdict.rs"]
mod verdict;
#[path = "../../store/work.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod work;

use crate::guest;
use crate::machine;
use crate::machine::Job;
use crate::machine::Outcome;
use crate::mark;
use oca::clock;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::OnceLock;
use std::time::Duration;

/// A check runs inside and says what it found; one that fails panics.
type Check = fn() -> String;

/// The one test that the guest runs.
const INSIDE: &str = "power::the_guest_of_failing_disks_runs_every_check";

/// Five times what it takes on a machine that does nothing else; with every flush, much more.
const PATIENCE: Duration = Duration::from_secs(200);
const PATIENCE_LONG: Duration = Duration::from_secs(7200);

/// Four disks of memory, of which little is written, and what is cached of them.
const MEMORY_MIB: u32 = 3072;

/// Programs that the guest uses from the host's root.
const PEERS: &[(&str, &str)] = &[
    ("dmsetup", "dmsetup"),
    ("filefrag", "e2fsprogs"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mkfs.xfs", "xfsprogs"),
    ("rmmod", "kmod"),
];

/// Each check is a test of the host by the same name.
macro_rules! checks {
    ($($name:ident: $check:path;)*) => {
        /// In the order in which the guest runs them.
        const CHECKS: &[(&str, Check)] = &[$((stringify!($name), $check)),*];

        $(
            #[test]
            fn $name() {
                guest::judge_in(outcome(), stringify!($name));
            }
        )*
    };
}

checks! {
    on_ext4_nothing_is_lost_corrupt_or_twice_wherever_the_power_fails: replay::ext4;
    on_xfs_nothing_is_lost_corrupt_or_twice_wherever_the_power_fails: replay::xfs;
    chunks_that_a_disk_only_said_it_wrote_are_received_again: liar::staged;
    bad_blocks_are_found_by_a_viewer_and_by_the_scrub_and_what_they_hit_comes_again: dust::rotten;
}

/// Outside, the judge of the whole boot; inside, the boot's one test.
#[test]
fn the_guest_of_failing_disks_runs_every_check() {
    if let Some(boot) = guest::boot_number() {
        return run_all(&boot);
    }
    let names: Vec<&str> = CHECKS.iter().map(|(name, _)| *name).collect();
    guest::judge_whole(outcome(), &names);
}

/// The boot of this test run; whoever asks first pays for it.
fn outcome() -> &'static Outcome {
    static OUTCOME: OnceLock<Result<Outcome, String>> = OnceLock::new();
    machine::require_peers();
    machine::need(PEERS);
    let outcome = OUTCOME.get_or_init(|| {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let points = std::env::var(replay::POINTS_VARIABLE).unwrap_or_default();
        let script = format!(
            "{}='{points}' '{}' --exact {INSIDE} --nocapture --test-threads=1",
            replay::POINTS_VARIABLE,
            program.display()
        );
        let job = Job {
            script,
            memory_mib: MEMORY_MIB,
            patience: if points.is_empty() {
                PATIENCE
            } else {
                PATIENCE_LONG
            },
        };
        machine::boot(&job).map_err(|error| error.to_string())
    });
    match outcome {
        Ok(outcome) => outcome,
        Err(error) => panic!("the guest could not be booted: {error}"),
    }
}

/// Inside: every check, whatever became of the ones before.
fn run_all(boot: &str) {
    for (name, check) in CHECKS {
        let begun = clock::now();
        let outcome = catch_unwind(AssertUnwindSafe(check));
        let outcome = outcome.map_err(|panic| guest::words(panic.as_ref()));
        if outcome.is_err() {
            let log = tools::log().lock().unwrap();
            println!("The log until then:\n{}", String::from_utf8_lossy(&log));
        }
        let took = begun.elapsed().as_millis();
        println!("\n{}", mark::line(boot, name, &outcome, took));
    }
}
