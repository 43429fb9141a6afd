//! What sources give at present, all streams together: the measure of a slow one.
//!
//! [`super::gather`] tells what came while a source was waited for, and asks how little is too
//! little. Slow is not an absolute: where every source is far away, each is as good as any; where
//! others would fill the line, one that trickles keeps a stream from them all night. Sans-IO.

use crate::lock::lock;
use crate::units::BytesPerSecond;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::time::Duration;

/// A source may be so many times slower than the others: a path that is merely long is not, and a
/// stream that is held at less had better be another's.
const SHARE: u64 = 16;

/// Time with sources that is remembered, of all streams together; what is older counts half.
const MEMORY: Duration = Duration::from_secs(120);

/// Before so much is known, nobody is slower than others.
const KNOWN_MIN: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Norm(Mutex<Sum>);

#[derive(Debug, Default)]
struct Sum {
    bytes: u64,
    time: Duration,
}

impl Norm {
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

    /// Bytes a second below which a source is slower than the others by far. `part`: of the cap,
    /// for one stream; none needs more.
    pub(super) fn floor(&self, part: BytesPerSecond) -> u64 {
        let sum = self.sum();
        if sum.time < KNOWN_MIN {
            return 0;
        }
        let mean = u128::from(sum.bytes) * 1_000 / sum.time.as_millis().max(1);
        let mean = u64::try_from(mean).unwrap_or(u64::MAX);
        mean.min(part.0) / SHARE
    }

    fn sum(&self) -> MutexGuard<'_, Sum> {
        lock(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: BytesPerSecond = BytesPerSecond(16_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn slow_is_what_is_far_below_the_others_and_below_its_part() {
        let norm = Norm::default();
        assert_eq!(norm.floor(PART), 0, "nothing is known");
        norm.add(20_000_000, 10 * SECOND);
        assert_eq!(norm.floor(PART), 125_000);
        // Much faster than any stream may be.
        for _ in 0..1_000 {
            norm.add(1_000_000_000, SECOND);
        }
        assert_eq!(norm.floor(PART), 1_000_000);
    }

    #[test]
    fn where_all_are_slow_nobody_is() {
        let norm = Norm::default();
        for _ in 0..10_000 {
            norm.add(20_000, SECOND);
        }
        assert!(norm.floor(PART) <= 20_000 / SHARE, "{}", norm.floor(PART));
    }
}
