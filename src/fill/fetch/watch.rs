//! Is the source too slow? Only time in which bytes could have come counts.
//!
//! [`super::transfer`] opens a stretch when it begins to wait for bytes, reports as it waits, and
//! leaves out what the cap or the disk took. Sans-IO.

use super::Limits;
use crate::clock::Instant;
use crate::fill::Fault;
use std::time::Duration;

/// Looks in a time limit: an end is seen at most an eighth late.
const LOOKS: u32 = 8;

/// One answer's progress.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    limits: Limits,
    /// Counted so far.
    waited: Duration,
    /// Where the open stretch was last looked at, and the time without turns until then.
    looked: Option<(Instant, Duration)>,
    /// Bytes and counted time of the last arrival, and of the last measure.
    last: (u64, Duration),
    measured: (u64, Duration),
    /// Bytes and counted time of the last look, and of what was told of them.
    seen: (u64, Duration),
    told: (u64, Duration),
    /// Bytes a second that are too few at present.
    floor: u64,
}

impl Watch {
    pub(super) fn new(limits: Limits) -> Self {
        let zero = (0, Duration::ZERO);
        Self {
            limits,
            waited: Duration::ZERO,
            looked: None,
            last: zero,
            measured: zero,
            seen: zero,
            told: zero,
            floor: limits.rate_floor,
        }
    }

    /// By what others give; never below that of the limits.
    pub(super) fn set_floor(&mut self, floor: u64) {
        self.floor = floor.max(self.limits.rate_floor);
    }

    /// Bytes that came, and the time in which they could, since it was last asked.
    pub(super) fn news(&mut self) -> (u64, Duration) {
        let (bytes, time) = self.told;
        self.told = self.seen;
        (
            self.seen.0.saturating_sub(bytes),
            self.seen.1.saturating_sub(time),
        )
    }

    /// From here on the source is waited for. `blocked`: time without turns, until here.
    pub(super) fn open(&mut self, now: Instant, blocked: Duration) {
        self.looked = Some((now, blocked));
    }

    /// `read`: bytes at the socket until here.
    pub(super) fn step(&mut self, now: Instant, read: u64, blocked: Duration) -> Result<(), Fault> {
        if let Some((then, blocked_then)) = self.looked {
            let passed = now.saturating_duration_since(then);
            self.waited += passed.saturating_sub(blocked.saturating_sub(blocked_then));
            self.looked = Some((now, blocked));
        }
        self.seen = (read, self.waited);
        if read > self.last.0 {
            self.last = (read, self.waited);
        }
        let silent = self.waited - self.last.1;
        if silent >= self.limits.stall {
            return Err(Fault::Slow(format!("nothing arrived for {silent:.0?}")));
        }
        let (bytes, since) = self.measured;
        let span = self.waited - since;
        if span >= self.limits.rate_time {
            let rate = u128::from(read - bytes) * 1000 / span.as_millis().max(1);
            if rate < u128::from(self.floor) {
                return Err(Fault::Slow(format!(
                    "{rate} bytes a second over {span:.0?}"
                )));
            }
            self.measured = (read, self.waited);
        }
        Ok(())
    }

    /// How often to look.
    pub(super) fn look_every(limits: &Limits) -> Duration {
        let every = limits.stall.min(limits.rate_time) / LOOKS;
        every.max(Duration::from_millis(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const NO: Duration = Duration::ZERO;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn silence_is_slow_and_a_byte_breaks_it() {
        let start = clock::now();
        let mut watch = Watch::new(Limits::default());
        watch.open(start, NO);
        assert_eq!(watch.step(start + seconds(19), 0, NO), Ok(()));
        assert_eq!(watch.step(start + seconds(19), 100_000, NO), Ok(()));
        assert_eq!(watch.step(start + seconds(20), 1_000_000, NO), Ok(()));
        assert_eq!(watch.step(start + seconds(39), 1_000_000, NO), Ok(()));
        let ended = watch.step(start + seconds(40), 1_000_000, NO);
        assert!(matches!(ended, Err(Fault::Slow(_))), "{ended:?}");
    }

    #[test]
    fn a_trickle_is_slow_after_its_window() {
        let start = clock::now();
        let mut watch = Watch::new(Limits::default());
        watch.open(start, NO);
        for second in 1..30 {
            let read = second * 16_000;
            assert_eq!(watch.step(start + seconds(second), read, NO), Ok(()));
        }
        let ended = watch.step(start + seconds(30), 30 * 16_000, NO);
        assert!(matches!(ended, Err(Fault::Slow(_))), "{ended:?}");
    }

    #[test]
    fn what_others_give_makes_a_source_slow_and_its_own_time_is_told() {
        let start = clock::now();
        let mut watch = Watch::new(Limits::default());
        watch.set_floor(1_000_000);
        watch.open(start, NO);
        assert_eq!(
            watch.step(start + seconds(10), 5_000_000, seconds(4)),
            Ok(())
        );
        assert_eq!(watch.news(), (5_000_000, seconds(6)));
        assert_eq!(watch.news(), (0, NO));
        let ended = watch.step(start + seconds(40), 15_000_000, seconds(4));
        assert!(matches!(ended, Err(Fault::Slow(_))), "{ended:?}");
        watch.set_floor(0);
        assert_eq!(watch.floor, Limits::default().rate_floor);
    }

    #[test]
    fn neither_the_cap_nor_the_disk_makes_a_source_slow() {
        let start = clock::now();
        let mut watch = Watch::new(Limits::default());
        watch.open(start, NO);
        // An hour without turns.
        assert_eq!(
            watch.step(start + seconds(3_600), 1, seconds(3_599)),
            Ok(())
        );
        // An hour of writing.
        watch.open(start + seconds(7_200), seconds(3_599));
        assert_eq!(
            watch.step(start + seconds(7_210), 1, seconds(3_599)),
            Ok(())
        );
        let ended = watch.step(start + seconds(7_221), 1, seconds(3_599));
        assert!(matches!(ended, Err(Fault::Slow(_))), "{ended:?}");
    }
}
