//! Do the control plane's clock and ours agree?
//!
//! `task` asks with each reply. A box whose clock is wrong must not open a fill window nor delete,
//! and its own time daemon may be the one that is wrong. Sans-IO.

use crate::clock::Wall;
use std::time::Duration;

/// Between two clocks that are both kept; the control plane tells whole seconds.
const APART_MAX: Duration = Duration::from_secs(60);

/// No call takes longer; a machine that was suspended meanwhile has learnt nothing.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(120);

/// `told`: RFC 3339, as the reply has it. `now`: ours, when the reply was read, `round_trip` after
/// the question was sent. `None` when what was told is no time, or was too long on its way.
pub(super) fn agrees(told: &str, now: Wall, round_trip: Duration) -> Option<bool> {
    let told: Wall = told.parse().ok()?;
    if round_trip > ROUND_TRIP_MAX {
        return None;
    }
    let half = round_trip / 2;
    // It was told somewhere within the round trip; its middle is off by half of it at most.
    let middle = now.checked_sub(half).ok()?;
    let apart = middle.duration_since(told).unsigned_abs();
    Some(apart <= APART_MAX + half)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_apart_agrees_and_more_does_not_but_for_a_slow_answer() {
        let now: Wall = "2026-01-01T12:00:00Z".parse().unwrap();
        let seconds = Duration::from_secs;
        let asked = |told: &str, round_trip| agrees(told, now, seconds(round_trip));
        assert_eq!(asked("2026-01-01T12:00:00Z", 0), Some(true));
        assert_eq!(asked("2026-01-01T12:01:00Z", 0), Some(true));
        assert_eq!(asked("2026-01-01T12:01:01Z", 0), Some(false));
        assert_eq!(asked("2026-01-01T11:59:00Z", 0), Some(true));
        assert_eq!(asked("2026-01-01T11:58:59Z", 0), Some(false));
        // On its way for a minute: told at 11:59:00 at the earliest, by a clock a minute behind.
        assert_eq!(asked("2026-01-01T11:58:00Z", 60), Some(true));
        assert_eq!(asked("2026-01-01T11:57:59Z", 60), Some(false));
        assert_eq!(asked("1970-01-01T00:00:00Z", 1), Some(false));
        assert_eq!(asked("9999-12-30T00:00:00Z", 1), Some(false));
        assert_eq!(asked("noon", 0), None);
        assert_eq!(asked("2026-01-01T12:00:00Z", 121), None);
    }
}
