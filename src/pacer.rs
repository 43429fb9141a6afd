//! All that go one way together stay below one rate. Sans-IO: who sends asks for a turn and sleeps
//! until it.
//!
//! First come, first served, in pieces: those that are equally fast get equal shares, and what a
//! slow one leaves the others take. For `peer`, and for the speed test of `serve`.

use crate::clock::Instant;
use crate::units::BytesPerSecond;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

/// A turn that came late by a timer's grain is made up for, up to this.
const CATCH_UP: Duration = Duration::from_millis(20);

/// No turn lies further ahead: a tiny rate must not reach beyond the end of time.
const TURN_MAX: Duration = Duration::from_secs(3_600);

#[derive(Debug, Default)]
pub struct Pacer {
    /// When everything that was given a turn has gone at the rate.
    free: Mutex<Option<Instant>>,
}

impl Pacer {
    /// When `bytes` may go.
    pub fn turn(&self, now: Instant, bytes: u64, rate: BytesPerSecond) -> Instant {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(CATCH_UP).unwrap_or(now);
        let start = free.map_or(now, |free| free.clamp(earliest, now + TURN_MAX));
        // A rate of nothing does not break the arithmetic.
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.0.max(1));
        let time = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        *free = Some(start + time.min(TURN_MAX));
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[tokio::test(start_paused = true)]
    async fn turns_follow_each_other_at_the_rate_in_force_and_idle_time_is_not_saved_up() {
        let (pacer, slow) = (Pacer::default(), BytesPerSecond(1_000));
        let now = clock::now();
        assert_eq!(pacer.turn(now, 500, slow), now);
        let second = pacer.turn(now, 500, BytesPerSecond(10_000));
        assert_eq!(second, now + Duration::from_millis(500));
        let third = pacer.turn(now, 1, slow);
        assert_eq!(third, now + Duration::from_millis(550));
        let later = now + Duration::from_secs(60);
        assert_eq!(pacer.turn(later, 1_000, slow), later - CATCH_UP);
        let next = pacer.turn(later, u64::MAX, BytesPerSecond(0));
        assert_eq!(next, later + Duration::from_secs(1) - CATCH_UP);
        // A rate of nothing does not break the arithmetic.
        assert!(pacer.turn(later, 1, slow) <= later + TURN_MAX);
    }
}
