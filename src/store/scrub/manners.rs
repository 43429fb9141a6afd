//! How a scrub behaves towards others: its rate, and that viewers and fills come first. Sans-IO.
//!
//! Asked before each piece that is read. A disk where somebody else was active within [`QUIET`] is
//! left alone, unless what is to be read is pressing; then the rate alone holds.

use crate::clock::Instant;
use crate::units::BytesPerSecond;
use std::time::Duration;

/// Without others' reads and writes for this long a disk counts as idle: players ask every few
/// seconds, and who streams from a disk asks more often than this.
const QUIET: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Manners {
    rate: BytesPerSecond,
    /// The rate allows the next piece then.
    next: Instant,
    /// What others had done when it was last looked at.
    seen: u64,
    quiet_from: Instant,
}

/// Why to wait, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    No,
    Rate(Duration),
    /// Others use the disk.
    Others(Duration),
}

impl Manners {
    pub(super) fn new(rate: BytesPerSecond, now: Instant, others: u64) -> Self {
        Self {
            rate,
            next: now,
            seen: others,
            quiet_from: now,
        }
    }

    /// May the next piece be read? `others` counts what others have done with the disk.
    pub(super) fn step(&mut self, now: Instant, others: u64, pressing: bool) -> Wait {
        if std::mem::replace(&mut self.seen, others) != others {
            self.quiet_from = now + QUIET;
        }
        if !pressing && self.quiet_from > now {
            return Wait::Others(self.quiet_from.saturating_duration_since(now));
        }
        match self.next.saturating_duration_since(now) {
            Duration::ZERO => Wait::No,
            wait => Wait::Rate(wait),
        }
    }

    /// A piece was read.
    pub(super) fn took(&mut self, now: Instant, bytes: u64) {
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate.0.max(1));
        let time = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        // What was not read while others were busy is not made up for in one go.
        self.next = self.next.max(now) + time;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn others_come_first_until_they_have_been_quiet_for_a_second() {
        let start = clock::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut manners = Manners::new(BytesPerSecond(1_000_000), start, 7);
        assert_eq!(manners.step(start, 7, false), Wait::No);
        assert_eq!(manners.step(at(10), 8, false), Wait::Others(QUIET));
        assert_eq!(manners.step(at(10), 8, true), Wait::No, "pressing");
        let left = Wait::Others(Duration::from_millis(500));
        assert_eq!(manners.step(at(510), 8, false), left);
        assert_eq!(manners.step(at(520), 9, false), Wait::Others(QUIET));
        assert_eq!(manners.step(at(1520), 9, false), Wait::No);
    }

    #[test]
    fn the_rate_holds_also_after_a_pause_and_when_pressing() {
        let start = clock::now();
        let mut manners = Manners::new(BytesPerSecond(1_000_000), start, 0);
        let later = start + Duration::from_secs(3600);
        manners.took(later, 500_000);
        manners.took(later, 500_000);
        for pressing in [true, false] {
            let wait = manners.step(later, 0, pressing);
            assert_eq!(wait, Wait::Rate(Duration::from_secs(1)));
        }
        let later = later + Duration::from_secs(1);
        assert_eq!(manners.step(later, 0, false), Wait::No);
    }
}
