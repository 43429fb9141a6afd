//! Heartbeats: does each scheduler still turn?
//!
//! Each runtime runs [`Heartbeat::run`], which only counts turns of its own scheduler. The watchdog
//! asks [`Heartbeat::is_alive`] of all of them and feeds systemd only if all answer yes. It never
//! touches a disk or the network, so a dead disk does not restart the box.
//!
//! I/O: sleeps.

use crate::clock;
use crate::clock::Instant;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often a scheduler proves that it turns.
pub const BEAT_EVERY: Duration = Duration::from_secs(1);

/// Silence after which a scheduler counts as stuck.
pub const STUCK_AFTER: Duration = Duration::from_secs(10);

/// The last sign of life of one scheduler. Clones share it.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    name: Arc<str>,
    last: Arc<Mutex<Instant>>,
    /// Calls under way that a disk may hang.
    excused: Arc<AtomicUsize>,
}

/// While it lives, silence is the disk's fault and not the scheduler's.
#[derive(Debug)]
pub struct Excuse<'a>(&'a AtomicUsize);

impl Drop for Excuse<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl Heartbeat {
    pub fn new(name: &str, now: Instant) -> Self {
        Self {
            name: name.into(),
            last: Arc::new(Mutex::new(now)),
            excused: Arc::default(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn beat(&self, now: Instant) {
        if let Ok(mut last) = self.last.lock() {
            *last = now;
        }
    }

    /// Taken around a call that reads a disk: a hung disk must not restart the box.
    pub fn excuse(&self) -> Excuse<'_> {
        self.excused.fetch_add(1, Ordering::Acquire);
        Excuse(&self.excused)
    }

    pub fn is_alive(&self, now: Instant) -> bool {
        self.excused.load(Ordering::Acquire) > 0
            || self
                .last
                .lock()
                .is_ok_and(|last| now.saturating_duration_since(*last) < STUCK_AFTER)
    }

    /// Beats for ever; spawn it on the scheduler that is to be watched.
    pub async fn run(self) {
        loop {
            self.beat(clock::now());
            clock::sleep(BEAT_EVERY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_scheduler_that_stops_turning_is_noticed() {
        let heart = Heartbeat::new("worker 0", clock::now());
        let turning = tokio::spawn(heart.clone().run());
        tokio::time::advance(Duration::from_secs(60)).await;
        tokio::task::yield_now().await;
        assert!(heart.is_alive(clock::now()));
        turning.abort();
        tokio::time::advance(STUCK_AFTER).await;
        assert!(!heart.is_alive(clock::now()));
        let excuse = heart.excuse();
        assert!(heart.is_alive(clock::now()), "it waits for a disk");
        drop(excuse);
        assert!(!heart.is_alive(clock::now()));
    }
}
