//! One boot for all checks: outside it is started and judged, inside the checks run.
//!
//! The guest runs this same test binary, with one test by name; that test finds itself inside by
//! what only a guest has. So each check is a named test of the host, which costs no boot of its
//! own.
//!
//! I/O: boots a guest; inside, prints marks.

use crate::CHECKS;
use crate::machine;
use crate::machine::BOOT_KEY;
use crate::machine::Job;
use crate::machine::Outcome;
use crate::mark;
use crate::stage::Stage;
use oca::clock;
use std::any::Any;
use std::fs;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::OnceLock;
use std::time::Duration;

/// The one test that the guest runs.
pub(crate) const INSIDE: &str = "the_guest_runs_every_check_and_powers_itself_off";

/// Five times what it takes on a machine that does nothing else.
const PATIENCE: Duration = Duration::from_secs(200);

/// Content twice, the box, its clients and the programs' own memory.
const MEMORY_MIB: u32 = 1536;

/// How much of a console is shown where a check never reported.
const TAIL_BYTES: usize = 6000;

/// Programs that the guest uses from the host's root.
const PEERS: &[(&str, &str)] = &[
    ("curl", "curl"),
    ("dmsetup", "dmsetup"),
    ("filefrag", "e2fsprogs"),
    ("ip", "iproute2"),
    ("mkfs.ext4", "e2fsprogs"),
    ("openssl", "openssl"),
    ("strace", "strace"),
];

static OUTCOME: OnceLock<Result<Outcome, String>> = OnceLock::new();

/// The boot of this test run; whoever asks first pays for it.
pub(crate) fn outcome() -> &'static Outcome {
    machine::require_peers();
    machine::need(PEERS);
    let outcome = OUTCOME.get_or_init(|| {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let script = format!(
            "'{}' --exact {INSIDE} --nocapture --test-threads=1",
            program.display()
        );
        let job = Job {
            script,
            memory_mib: MEMORY_MIB,
            patience: PATIENCE,
        };
        machine::boot(&job).map_err(|error| error.to_string())
    });
    match outcome {
        Ok(outcome) => outcome,
        Err(error) => panic!("the guest could not be booted: {error}"),
    }
}

/// The host's test of one check: what the guest said of it.
pub(crate) fn judge(name: &str) {
    judge_in(outcome(), name);
}

/// As [`judge`], of any boot.
pub(crate) fn judge_in(outcome: &Outcome, name: &str) {
    let Some(place) = outcome.marks.iter().position(|mark| mark.name == name) else {
        let from = outcome.console.len().saturating_sub(TAIL_BYTES);
        let tail = String::from_utf8_lossy(&outcome.console.as_bytes()[from..]);
        panic!("the guest said nothing of it; its console ends:\n{tail}");
    };
    let mark = &outcome.marks[place];
    let before = place.checked_sub(1).map_or(0, |one| outcome.marks[one].at);
    let said = &outcome.console[before..mark.at];
    let said = said.split_once('\n').map_or("", |(_, own)| own);
    let (time, text) = (mark.milliseconds, &mark.text);
    assert!(
        mark.has_passed,
        "{text}\nThe guest's console before:\n{said}"
    );
    println!("{time} ms in the guest: {text}");
}

/// Outside: every check reported once, in order, and the guest ended by itself.
pub(crate) fn judge_all() {
    let names: Vec<&str> = CHECKS.iter().map(|(name, _)| *name).collect();
    judge_whole(outcome(), &names);
}

/// As [`judge_all`], of any boot.
pub(crate) fn judge_whole(outcome: &Outcome, asked: &[&str]) {
    let said: Vec<&str> = outcome
        .marks
        .iter()
        .map(|mark| mark.name.as_str())
        .collect();
    assert_eq!(said, asked, "the guest's marks");
    assert!(outcome.is_complete, "the guest had to be killed");
    assert!(
        outcome.console.contains("Power down"),
        "the guest ended otherwise"
    );
    println!(
        "{} checks in {:.1} s",
        said.len(),
        outcome.took.as_secs_f64()
    );
}

/// The number of this boot, if this process is in a guest: a User-Mode Linux whose root is the
/// host's, started by [`machine`].
pub(crate) fn boot_number() -> Option<String> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let has_host_root = read("/proc/mounts")
        .lines()
        .any(|line| line.starts_with("none / hostfs"));
    let is_user_mode = read("/proc/cpuinfo").contains("User Mode Linux");
    let line = read("/proc/cmdline");
    let boot = line
        .split_whitespace()
        .find_map(|word| word.strip_prefix(BOOT_KEY))?;
    (has_host_root && is_user_mode).then(|| boot.to_owned())
}

/// Inside: every check, on one stage, whatever became of the ones before.
pub(crate) fn run_all(boot: &str) {
    let mut stage = Stage::new();
    for (name, check) in CHECKS {
        let begun = clock::now();
        let logged = stage.log().len();
        let outcome = catch_unwind(AssertUnwindSafe(|| check(&mut stage)));
        let outcome = outcome.map_err(|panic| words(panic.as_ref()));
        if outcome.is_err() {
            println!("The box's log of it:\n{}", &stage.log()[logged..]);
        }
        let took = begun.elapsed().as_millis();
        println!("\n{}", mark::line(boot, name, &outcome, took));
    }
}

pub(crate) fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it panicked without words").to_owned()
}
