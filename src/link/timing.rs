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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn reports_spread_over_a_whole_interval_and_heartbeats_never_come_late() {
        let every = 300 * SECOND;
        assert_eq!(report_delay(every, 0.0), 150 * SECOND);
        assert_eq!(report_delay(every, 0.5), every);
        assert_eq!(report_delay(every, 1.0), 450 * SECOND);
        assert_eq!(heartbeat_delay(10 * SECOND, 0.0), 10 * SECOND);
        assert_eq!(heartbeat_delay(10 * SECOND, 1.0), 8 * SECOND);
    }

    #[test]
    fn failures_double_the_wait_up_to_the_interval_and_not_before_it_is_allowed() {
        let longest = |failures, after| retry_delay(300 * SECOND, failures, after, 1.0);
        let seconds: Vec<u64> = (0..10).map(|n| longest(n, None).as_secs()).collect();
        assert_eq!(seconds, [2, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(longest(u32::MAX, None), 300 * SECOND);
        assert_eq!(retry_delay(300 * SECOND, 5, None, 0.0), Duration::ZERO);
        assert_eq!(longest(2, Some(7 * SECOND)), 11 * SECOND);
    }
}
