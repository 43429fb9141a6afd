//! Time on one core: what the scheduler charged to this thread. Others who work on the same machine
//! do not count.
//!
//! I/O: reads /proc.

use anyhow::Context as _;
use std::fs;

/// Runs `work` and gives the seconds of CPU that it took on this thread.
pub(crate) fn timed<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(T, f64)> {
    let begun = charged()?;
    let outcome = work()?;
    Ok((outcome, (charged()? - begun) as f64 / 1e9))
}

/// Nanoseconds so far.
fn charged() -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let first = text.split(' ').next().context("an empty schedstat")?;
    first.parse().context("a strange schedstat")
}
