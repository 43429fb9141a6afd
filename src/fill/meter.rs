//! How fast was it? Bytes granted by hundredths of a second, of the last ten.
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
    slots: Vec<u64>,
    /// The latest slot.
    last: u64,
    /// Sum of the second that ends with it.
    second: u64,
    worst: u64,
}

impl Meter {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            slots: vec![0; SLOTS],
            last: 0,
            second: 0,
            worst: 0,
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
            *self.at(slot) += share;
            self.second += share;
            self.worst = self.worst.max(self.second);
            (left, slots) = (left - share, slots - 1);
        }
    }

    /// Bytes a second: of the last second, and over the last ten.
    pub(super) fn rates(&mut self, now: Instant) -> (u64, u64) {
        self.move_to(self.slot(now));
        let ten: u64 = self.slots.iter().sum();
        (self.second, ten / 10)
    }

    /// The most bytes of any second.
    pub(super) fn worst(&self) -> u64 {
        self.worst
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

    fn at(&mut self, slot: u64) -> &mut u64 {
        let index = usize::try_from(slot % SLOTS as u64).unwrap_or(0);
        &mut self.slots[index]
    }
}
