//! The one place that reads time.
//!
//! Monotonic time is [`Instant`] (tokio's, so that a paused runtime drives every machine in tests);
//! wall time is [`Wall`]. They are different types: a deadline is never computed from a calendar,
//! and a calendar date never from a deadline. Machines take `now` as an argument and never call
//! this file; what runs them does.
//!
//! I/O: reads clocks, sleeps.

#![allow(clippy::disallowed_methods)]

use std::cell::Cell;
use std::future::Future;
use std::time::Duration;
use std::time::SystemTime;

pub use tokio::time::Instant;

/// A point of the calendar, UTC, as the operating system believes it to be.
pub type Wall = jiff::Timestamp;

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
}

/// Calendar now. A clock outside jiff's range (year 9999) reads as the Unix epoch.
pub fn wall() -> Wall {
    if let Some((wall, since)) = PINNED.get() {
        return wall.checked_add(now() - since).unwrap_or(wall);
    }
    Wall::try_from(SystemTime::now()).unwrap_or(Wall::UNIX_EPOCH)
}

/// From here on the calendar of this thread starts at `wall` and follows the monotonic clock: in
/// the world test a night passes in both. The daemon never calls it.
pub fn pin_wall(wall: Wall) {
    PINNED.set(Some((wall, now())));
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
