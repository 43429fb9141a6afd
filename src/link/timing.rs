//! When a box speaks next: spread over the fleet, so that nobody speaks in step.
//!
//! Sans-IO: `health` draws the random number and sleeps. docs/LINK.md has the same in words.

use std::time::Duration;

/// Until the next report: from half of `every` to one and a half of it, by `drawn` in `0.0..1.0`.
/// The span is a whole interval (full jitter), the mean is `every`.
pub fn report_delay(every: Duration, drawn: f64) -> Duration {
    every.mul_f64(0.5 + drawn.clamp(0.0, 1.0))
}

/// Until the next heartbeat: `every`, less up to a fifth.
pub fn heartbeat_delay(every: Duration, drawn: f64) -> Duration {
    every.mul_f64(1.0 - 0.2 * drawn.clamp(0.0, 1.0))
}

/// The first wait after a failure, before jitter.
const RETRY_FIRST: Duration = Duration::from_secs(2);

/// Until the try after `failures` failures in a row: anywhere from nothing to 2, 4, 8 … seconds
/// (full jitter), at most `every`, and never before `retry_after`.
pub fn retry_delay(
    every: Duration,
    failures: u32,
    retry_after: Option<Duration>,
    drawn: f64,
) -> Duration {
    let doubled = RETRY_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let jittered = doubled.min(every).mul_f64(drawn.clamp(0.0, 1.0));
    retry_after.unwrap_or_default() + jittered
}
