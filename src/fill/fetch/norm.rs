//! What sources give at present, all streams together: the measure of a slow one.
//!
//! [`super::gather`] tells what came while a source was waited for, and asks how little is too
//! little. Slow is not an absolute: where every source is far away, each is as good as any; where
//! others would fill the line, one that trickles keeps a stream from them all night. Sans-IO.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

/// A source may be so many times slower than the others: a path that is merely long is not, and a
/// stream that is held at less had better be another's.
const SHARE: u64 = 16;

/// Time with sources that is remembered, of all streams together; what is older counts half.
const MEMORY: Duration = Duration::from_secs(120);

/// Before so much is known, nobody is slower than others.
const KNOWN_MIN: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Norm {
    /// No stream needs more: its part of the cap.
    part: u64,
    sum: Mutex<Sum>,
}

#[derive(Debug, Default)]
struct Sum {
    bytes: u64,
    time: Duration,
}

impl Norm {
    /// `part`: bytes a second of one stream, when all have the same.
    pub(super) fn new(part: u64) -> Self {
        Self {
            part,
            sum: Mutex::default(),
        }
    }

    /// So much came while a source was waited for so long.
    pub(super) fn add(&self, bytes: u64, time: Duration) {
        let mut sum = self.sum();
        sum.bytes = sum.bytes.saturating_add(bytes);
        sum.time = sum.time.saturating_add(time);
        if sum.time >= MEMORY {
            sum.bytes /= 2;
            sum.time /= 2;
        }
    }

    /// Bytes a second below which a source is slower than the others by far.
    pub(super) fn floor(&self) -> u64 {
        let sum = self.sum();
        if sum.time < KNOWN_MIN {
            return 0;
        }
        let mean = u128::from(sum.bytes) * 1_000 / sum.time.as_millis().max(1);
        let mean = u64::try_from(mean).unwrap_or(u64::MAX);
        mean.min(self.part) / SHARE
    }

    fn sum(&self) -> MutexGuard<'_, Sum> {
        self.sum.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn slow_is_what_is_far_below_the_others_and_below_its_part() {
        let norm = Norm::new(16_000_000);
        assert_eq!(norm.floor(), 0, "nothing is known");
        norm.add(20_000_000, 10 * SECOND);
        assert_eq!(norm.floor(), 125_000);
        // Much faster than any stream may be.
        for _ in 0..1_000 {
            norm.add(1_000_000_000, SECOND);
        }
        assert_eq!(norm.floor(), 1_000_000);
    }

    #[test]
    fn where_all_are_slow_nobody_is() {
        let norm = Norm::new(16_000_000);
        for _ in 0..10_000 {
            norm.add(20_000, SECOND);
        }
        assert!(norm.floor() <= 20_000 / SHARE, "{}", norm.floor());
    }
}
