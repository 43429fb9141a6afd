//! How long to wait, and never in step with others.

use std::time::Duration;

/// For an OPEN (RFC 4271 section 8.2.2 suggests four minutes).
pub(super) const OPEN_HOLD: Duration = Duration::from_secs(240);

/// However little is configured: a neighbour that refuses at once is not asked in a loop.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);

/// Longest such wait: short enough to be back soon after a repair.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// A session that stood this long was a good one: its end is a first failure again.
pub(super) const STABLE: Duration = Duration::from_secs(60);

/// Three quarters to the whole of `time` (RFC 4271 section 10).
pub(super) fn jittered(time: Duration, random: &mut fastrand::Rng) -> Duration {
    time.mul_f64(0.75 + 0.25 * random.f64())
}

/// Wait after the `failures`-th failure in a row: `first`, doubled for each.
pub(super) fn wait(first: Duration, failures: u32, random: &mut fastrand::Rng) -> Duration {
    let first = first.max(SHORTEST_WAIT);
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(10));
    jittered(doubled.min(LONGEST_WAIT), random)
}

/// A table is sent within minutes, also where routes are not kept for a restart.
const REFRESH_TIME: Duration = Duration::from_secs(300);

/// The longest that routes stay stale while the session stands.
pub(super) fn patience(graceful_restart: Duration) -> Duration {
    if graceful_restart.is_zero() {
        REFRESH_TIME
    } else {
        graceful_restart
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_longest_and_are_never_quite_the_same() {
        let mut random = fastrand::Rng::with_seed(1);
        for (failures, longest_s) in [(0, 1), (1, 1), (2, 2), (5, 16), (8, 120), (u32::MAX, 120)] {
            let longest = Duration::from_secs(longest_s);
            let found = wait(Duration::from_secs(1), failures, &mut random);
            assert!(
                found <= longest && found >= longest.mul_f64(0.75),
                "{found:?}"
            );
        }
        let first = Duration::from_secs(1);
        let (one, other) = (wait(first, 9, &mut random), wait(first, 9, &mut random));
        assert_ne!(one, other);
        assert!(wait(Duration::ZERO, 1, &mut random) >= SHORTEST_WAIT.mul_f64(0.75));
    }
}
