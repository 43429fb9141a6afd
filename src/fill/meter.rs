//! How fast was it? Bytes granted by hundredths of a second, of the last ten, less what was given
//! back in each: what a wire carries in any time is the sum of both, but for what was on its way
//! when the time began and when it ended.
//!
//! [`super::queue`] adds to it; it decides nothing.

use crate::clock::Instant;
use std::time::Duration;

const SLOT: Duration = Duration::from_millis(10);

/// Ten seconds of slots.
const SLOTS: usize = 1_000;

/// One second of them.
const SECOND: u64 = 100;

#[derive(Debug)]
pub(super) struct Meter {
    since: Instant,
    /// Bytes by slot number, modulo its length.
    slots: Vec<i64>,
    /// The latest slot.
    last: u64,
    /// Sum of the second that ends with it.
    second: i64,
    worst: i64,
    /// Since [`Meter::take_peak`].
    peak: i64,
}

impl Meter {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            slots: vec![0; SLOTS],
            last: 0,
            second: 0,
            worst: 0,
            peak: 0,
        }
    }

    /// Bytes that were earned from `from` on and granted at `now`.
    pub(super) fn add(&mut self, from: Instant, now: Instant, bytes: u64) {
        let now = self.slot(now);
        // What was earned in an earlier slot is counted there: the line was reserved then.
        let from = self.slot(from).max(self.last).min(now);
        let (mut left, mut slots) = (bytes, now - from + 1);
        for slot in from..=now {
            self.move_to(slot);
            let share = left / slots;
            self.change(slot, signed(share));
            self.worst = self.worst.max(self.second);
            self.peak = self.peak.max(self.second);
            (left, slots) = (left - share, slots - 1);
        }
    }

    /// Granted bytes that have not come and will not.
    pub(super) fn give_back(&mut self, now: Instant, bytes: u64) {
        let slot = self.slot(now).max(self.last);
        self.move_to(slot);
        self.change(slot, -signed(bytes));
    }

    /// Bytes a second: of the last second, and over the last ten.
    pub(super) fn rates(&mut self, now: Instant) -> (u64, u64) {
        self.move_to(self.slot(now));
        let ten: i64 = self.slots.iter().sum();
        let rate = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
        (rate(self.second), rate(ten / 10))
    }

    /// The most bytes of any second.
    pub(super) fn worst(&self) -> u64 {
        u64::try_from(self.worst).unwrap_or(0)
    }

    /// The most bytes of any second since it was last asked.
    pub(super) fn take_peak(&mut self) -> u64 {
        u64::try_from(std::mem::take(&mut self.peak)).unwrap_or(0)
    }

    fn change(&mut self, slot: u64, bytes: i64) {
        *self.at(slot) += bytes;
        self.second += bytes;
    }

    fn slot(&self, at: Instant) -> u64 {
        let slot = at.saturating_duration_since(self.since).as_nanos() / SLOT.as_nanos();
        u64::try_from(slot).unwrap_or(u64::MAX)
    }

    fn move_to(&mut self, slot: u64) {
        if slot.saturating_sub(self.last) >= SLOTS as u64 {
            self.slots.fill(0);
            (self.last, self.second) = (slot, 0);
        }
        while self.last < slot {
            self.last += 1;
            let leaves = self.last.saturating_sub(SECOND);
            if self.last >= SECOND {
                self.second -= *self.at(leaves);
            }
            *self.at(self.last) = 0;
        }
    }

    fn at(&mut self, slot: u64) -> &mut i64 {
        let index = usize::try_from(slot % SLOTS as u64).unwrap_or(0);
        &mut self.slots[index]
    }
}

/// No line carries exabytes in ten seconds.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn what_never_came_was_not_fast_and_what_came_in_its_place_was() {
        let start = clock::now();
        let mut meter = Meter::new(start);
        let at = |ms: u64| start + Duration::from_millis(ms);
        meter.add(at(0), at(500), 500);
        meter.give_back(at(500), 200);
        meter.add(at(500), at(600), 200);
        assert_eq!((meter.worst(), meter.rates(at(600)).0), (500, 500));
        meter.add(at(600), at(900), 300);
        assert_eq!((meter.worst(), meter.rates(at(900)).0), (800, 800));
        meter.give_back(at(2_500), 10);
        assert_eq!(meter.rates(at(2_500)), (0, 79), "never less than nothing");
        assert_eq!(meter.worst(), 800);
        assert_eq!((meter.take_peak(), meter.take_peak()), (800, 0));
    }
}
