//! A process that is killed when it reaches a step: this test binary, run again for one test of it.
//!
//! That test asks [`told`] what it is to do, and returns at once in an ordinary run.

use crate::tools::Lab;
use nix::sys::signal::Signal;
use oca::store;
use oca::store::DiskClass;
use oca::store::Probe;
use oca::store::Step;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

const DIR: &str = "OCA_TEST_VICTIM_DIR";
const WORK: &str = "OCA_TEST_VICTIM_WORK";
const STEP: &str = "OCA_TEST_VICTIM_STEP";
const TIMES: &str = "OCA_TEST_VICTIM_TIMES";

/// What the parent wants of this process.
pub(crate) struct Told {
    pub(crate) dir: PathBuf,
    /// One of several things that the test can do.
    pub(crate) work: String,
    /// From when on steps count.
    pub(crate) is_armed: Arc<AtomicBool>,
    step: String,
    times: u32,
}

/// `None`: nobody asked for it, this is an ordinary run.
pub(crate) fn told() -> Option<Told> {
    let [dir, work, step, times] = [DIR, WORK, STEP, TIMES].map(|name| std::env::var(name).ok());
    Some(Told {
        dir: dir?.into(),
        work: work?,
        is_armed: Arc::new(AtomicBool::new(true)),
        step: step?,
        times: times?.parse().unwrap(),
    })
}

impl Told {
    /// Of a store on the disks of [`Lab::new`] with `count` of them, in the parent's directory.
    pub(crate) fn config(&self, count: usize) -> store::Config {
        let mut lab = Lab::new(0);
        for number in 0..count {
            let path = self.dir.join(format!("disk{number}"));
            lab.add(&path, DiskClass::Ssd, true);
        }
        store::Config {
            state_dir: self.dir.join("state"),
            ..lab.config()
        }
    }

    /// Kills this process when it reaches the step for the given time.
    pub(crate) fn probe(&self) -> Probe {
        let (left, is_armed) = (AtomicU32::new(self.times), Arc::clone(&self.is_armed));
        let step = self.step.clone();
        Probe::new(move |reached| {
            let is_it = is_armed.load(Ordering::SeqCst) && format!("{reached:?}") == step;
            if is_it && left.fetch_sub(1, Ordering::SeqCst) == 1 {
                nix::sys::signal::kill(nix::unistd::Pid::this(), Signal::SIGKILL).unwrap();
            }
        })
    }
}

/// Runs `test` of this binary in `dir` until it reaches `step` for the given time.
pub(crate) fn kill_at(test: &str, dir: &Path, work: &str, step: Step, times: u32) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env(DIR, dir)
        .env(WORK, work)
        .env(STEP, format!("{step:?}"))
        .env(TIMES, times.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    let signal = status.signal();
    assert_eq!(
        signal,
        Some(9),
        "{test} {work}: {step:?} {times} not reached"
    );
}
