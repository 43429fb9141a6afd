//! Pages of a file that stay in memory whatever the kernel wants them for: one that takes memory
//! back ahead of need (DAMON) takes also what was read a moment ago.
//!
//! Used by `#[path = "../support/held_pages.rs"] mod held_pages;`. Needs vmtouch, and the right to
//! lock memory.
//!
//! I/O: a process that holds the pages, ended when the [`HeldPages`] are dropped.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "support code of tests is a test")]

use oca::clock;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// Held until this is dropped.
#[derive(Debug)]
pub(crate) struct HeldPages(Child);

impl HeldPages {
    /// All of a file.
    pub(crate) fn of(path: &Path) -> Self {
        Self::first(path, path.metadata().unwrap().len())
    }

    /// The first `bytes` of a file, at least one.
    pub(crate) fn first(path: &Path, bytes: u64) -> Self {
        let mut command = Command::new("vmtouch");
        command.arg("-l").arg("-p").arg(format!("0-{bytes}"));
        let started = command.arg(path).stdout(Stdio::null()).spawn();
        let child = started.unwrap_or_else(|error| {
            panic!("vmtouch: {error}; install it: apt-get install vmtouch")
        });
        let held = Self(child);
        let begun = clock::now();
        while held.bytes() < bytes {
            assert!(begun.elapsed() < PATIENCE, "{} bytes", held.bytes());
            clock::block_for(Duration::from_millis(5));
        }
        held
    }

    fn bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let kilobytes = |line: &str| {
            line.strip_prefix("VmLck:")?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        };
        status
            .lines()
            .find_map(kilobytes)
            .map_or(0, |kilobytes: u64| kilobytes << 10)
    }
}

impl Drop for HeldPages {
    fn drop(&mut self) {
        // One that has ended by itself is only waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
