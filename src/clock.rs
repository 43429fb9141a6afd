//! The one place that reads time.
//!
//! Monotonic time is [`Instant`] (tokio's, so that a paused runtime drives every machine in tests);
//! wall time is [`Wall`]. They are different types: a deadline is never computed from a calendar,
//! and a calendar date never from a deadline. Machines take `now` as an argument and never call
//! this file; what runs them does. [`Boot`] is the time since the machine's start with suspends
//! counted, for promises made to others: monotonic time stands still while a machine sleeps.
//!
//! I/O: reads clocks, sleeps.

#![allow(clippy::disallowed_methods)]

use nix::time::ClockId;
use nix::time::clock_gettime;
use std::cell::Cell;
use std::future::Future;
use std::ops::Add;
use std::time::Duration;
use std::time::SystemTime;

pub use tokio::time::Instant;

/// A point of the calendar, UTC, as the operating system believes it to be.
pub type Wall = jiff::Timestamp;

/// A point of the boot-time clock: since the machine started, suspends included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Boot(Duration);

/// The answer of [`within`] when the time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("timed out")]
pub struct Elapsed;

/// Monotonic now. Follows a paused tokio clock.
pub fn now() -> Instant {
    Instant::now()
}

thread_local! {
    /// Set by [`pin_wall`] alone.
    static PINNED: Cell<Option<(Wall, Instant)>> = const { Cell::new(None) };
    /// Set by [`pin_boot`] alone.
    static PINNED_BOOT: Cell<Option<(Boot, Instant)>> = const { Cell::new(None) };
}

/// Calendar now. A clock outside jiff's range (year 9999) reads as the Unix epoch.
pub fn wall() -> Wall {
    if let Some((wall, since)) = PINNED.get() {
        return wall.checked_add(now() - since).unwrap_or(wall);
    }
    Wall::try_from(SystemTime::now()).unwrap_or(Wall::UNIX_EPOCH)
}

/// From here on the calendar of this thread starts at `wall` and follows the monotonic clock: in
/// the world test a night passes in both, and in the boot-time clock too. The daemon never calls
/// it.
pub fn pin_wall(wall: Wall) {
    PINNED.set(Some((wall, now())));
    pin_boot(boot());
}

/// Boot-time now (`CLOCK_BOOTTIME`). The clock exists since Linux 2.6.39; if it cannot be read all
/// the same, the end of time is answered: every promise has ended then.
pub fn boot() -> Boot {
    if let Some((boot, since)) = PINNED_BOOT.get() {
        return boot + (now() - since);
    }
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Boot(Duration::MAX), |at| Boot(at.into()))
}

/// From here on the boot-time clock of this thread starts at `boot` and follows the monotonic
/// clock; pinned again to a later time, the machine has slept in between. The daemon never calls
/// it.
pub fn pin_boot(boot: Boot) {
    PINNED_BOOT.set(Some((boot, now())));
}

impl Boot {
    /// Zero if `earlier` is not earlier.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Boot {
    type Output = Self;

    /// Saturates: the end of time is later than anything.
    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }
}

/// Seconds since the Unix epoch, never negative.
pub fn unix_seconds(at: Wall) -> u64 {
    u64::try_from(at.as_second()).unwrap_or(0)
}

/// Waits until `at`.
pub async fn sleep_until(at: Instant) {
    tokio::time::sleep_until(at).await;
}

/// Waits for `time`.
pub async fn sleep(time: Duration) {
    tokio::time::sleep(time).await;
}

/// A timer that a poll function holds and moves, where a fresh `sleep_until` for each request
/// would cost more than the request.
pub fn timer(at: Instant) -> tokio::time::Sleep {
    tokio::time::sleep_until(at)
}

/// Runs `work` for at most `time`; dropped unfinished when it runs out.
pub async fn within<F: Future>(time: Duration, work: F) -> Result<F::Output, Elapsed> {
    tokio::time::timeout(time, work).await.map_err(|_| Elapsed)
}

/// Blocks this thread. For the command line and for threads of their own, never for a runtime.
pub fn block_for(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_boot_clock_is_never_behind_the_monotonic_one() {
        let monotonic = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
        let boot = boot();
        assert!(boot < Boot(Duration::MAX));
        assert!(boot >= Boot(monotonic.into()), "suspends count");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pinned_boot_clock_follows_the_paused_one_and_can_sleep_through() {
        pin_boot(Boot(Duration::from_secs(100)));
        let (start, monotonic) = (boot(), now());
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(boot().saturating_since(start), Duration::from_secs(5));
        // An hour of suspend: monotonic time stood still.
        pin_boot(boot() + Duration::from_secs(3_600));
        assert_eq!(boot().saturating_since(start), Duration::from_secs(3_605));
        assert_eq!(now() - monotonic, Duration::from_secs(5));
        assert_eq!(start.saturating_since(boot()), Duration::ZERO);
    }
}
