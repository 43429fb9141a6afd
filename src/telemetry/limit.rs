//! One cause, one line: keeps a repeated event from flooding the log.
//!
//! Sans-IO. Whoever logs owns one limit a cause and asks it first.

use crate::clock::Instant;
use std::time::Duration;

/// At most one line in each period; tells how many were left out since the last one.
#[derive(Debug)]
pub struct LogLimit {
    every: Duration,
    next: Option<Instant>,
    left_out: u64,
}

impl LogLimit {
    pub fn new(every: Duration) -> Self {
        Self {
            every,
            next: None,
            left_out: 0,
        }
    }

    /// `Some(left out since the last line)` if a line may be written.
    pub fn step(&mut self, now: Instant) -> Option<u64> {
        if self.next.is_some_and(|next| now < next) {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.next = Some(now + self.every);
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[tokio::test(start_paused = true)]
    async fn repeats_are_counted_and_told_with_the_next_line() {
        let mut limit = LogLimit::new(Duration::from_secs(10));
        let now = clock::now();
        assert_eq!(limit.step(now), Some(0));
        assert_eq!(limit.step(now), None);
        assert_eq!(limit.step(now + Duration::from_secs(9)), None);
        assert_eq!(limit.step(now + Duration::from_secs(10)), Some(2));
    }
}
