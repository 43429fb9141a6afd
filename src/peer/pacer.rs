//! All responses together stay below one rate, so that viewers come first. Sans-IO: `body` asks
//! for a turn and sleeps until it.

use crate::clock::Instant;
use crate::units::BytesPerSecond;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

/// A turn that came late by a timer's grain is made up for, up to this.
const CATCH_UP: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Pacer {
    rate: BytesPerSecond,
    /// When everything that was given a turn has gone at the rate.
    free: Mutex<Option<Instant>>,
}

impl Pacer {
    pub(super) fn new(rate: BytesPerSecond) -> Self {
        Self {
            rate,
            free: Mutex::new(None),
        }
    }

    /// When `bytes` may go; first come, first served.
    pub(super) fn turn(&self, now: Instant, bytes: u64) -> Instant {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(CATCH_UP).unwrap_or(now);
        let start = free.map_or(now, |free| free.max(earliest));
        *free = Some(start + self.time_of(bytes));
        start
    }

    fn time_of(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate.0.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
            // A rate of a few bytes must not reach beyond the end of time.
            .min(Duration::from_secs(3_600))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[tokio::test(start_paused = true)]
    async fn turns_follow_each_other_at_the_rate_and_idle_time_is_not_saved_up() {
        let pacer = Pacer::new(BytesPerSecond(1_000));
        let now = clock::now();
        assert_eq!(pacer.turn(now, 500), now);
        assert_eq!(pacer.turn(now, 500), now + Duration::from_millis(500));
        assert_eq!(pacer.turn(now, 1), now + Duration::from_secs(1));
        let later = now + Duration::from_secs(60);
        assert_eq!(pacer.turn(later, 1_000), later - CATCH_UP);
        let next = pacer.turn(later, 1);
        assert_eq!(next, later + Duration::from_secs(1) - CATCH_UP);
    }
}
