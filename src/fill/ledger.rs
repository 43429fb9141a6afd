//! The budget: what any 24 hours may receive, kept so that nothing but time gives it back.
//!
//! Bytes are reserved before they are received: a reservation becomes usable when [`Book`] with it
//! is durable ([`super::ledger_file`]), and a crash counts all of it as spent. What is granted
//! moves from the reservation into the entry of its moment; an entry leaves when 24 hours have
//! passed by the calendar *and* by the boot clock, on the ledger's own time, which advances by the
//! smaller of both. Moving the window, changing the zone, restarting or setting a clock gains
//! nothing. SAFETY: cap and clock.
//!
//! Sans-IO: [`super::queue`] owns it.

use super::Class;
use super::Moment;
use super::nights::Nights;
use crate::clock::Boot;
use crate::clock::Wall;
use std::collections::VecDeque;
use std::time::Duration;

/// How long a byte counts.
const MEMORY_MS: u64 = 24 * 3_600 * 1_000;

/// Bytes of one such time share an entry, dated at its end: what is granted at the end of a slot
/// may still be on its way. It costs a full night at most this time of the next one.
const SLOT_MS: u64 = 10_000;

/// No more slots count at one moment.
pub(super) const SLOTS_MAX: usize = 8_700;

/// Below this, clock readings are compared but not remembered, so that reading two clocks one
/// after the other does not add up to lost time.
const ANCHOR_EVERY: Duration = Duration::from_secs(1);

/// A clock that is set right by less is no reason to stop: the ledger's own time gains nothing.
const FLOOR_SLACK: Duration = Duration::from_secs(10);

/// Largest step of a reservation: under two seconds of the fastest profile.
const STEP_BYTES_MAX: u64 = 256_000_000;

/// A small window must not be written to disk for every packet.
const STEP_BYTES_MIN: u64 = 1 << 20;

/// A boot clock that cannot be read says the end of time, which no book could keep.
const UPTIME_MS_MAX: u64 = 1 << 47;

/// No release is older: 2026-01-01. A calendar before it is wrong, whatever was kept.
pub const BUILT: Wall = Wall::constant(1_767_225_600, 0);

/// What is durable: the ledger's state at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    /// The highest of all copies is the truth.
    pub serial: u64,
    /// The ledger's own time.
    pub time_ms: u64,
    /// The latest calendar time seen, since the Unix epoch.
    pub wall_ms: u64,
    /// The boot-time clock at that moment.
    pub boot_ms: u64,
    pub night: Account,
    pub urgent: Account,
    pub nights: Nights,
}

/// One class's bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Reserved and not yet granted.
    pub reserved: u64,
    /// Slot number and the bytes granted in it, rising.
    slots: VecDeque<(u64, u64)>,
    /// Sum of the slots.
    granted: u64,
}

/// The state of a running box.
#[derive(Debug)]
pub(super) struct Ledger {
    /// As it would be written; `reserved` holds what is usable.
    book: Book,
    /// Reserved, and in no book yet.
    pending: [u64; 2],
    /// Reserved in a book that is being written, and not usable before it is durable.
    in_flight: [u64; 2],
    is_writing: bool,
    /// Something happened that must be written.
    is_dirty: bool,
    /// Granted since the last book, which [`Ledger::settle`] tells.
    has_granted: bool,
    /// Reserved before a crash or a stop: spent, as far as anybody knows.
    lost: [u64; 2],
    /// `None` until the first use: before it the calendar may not be synchronised yet.
    anchor: Option<Anchor>,
    /// No calendar time before it is believed.
    floor: Wall,
}

/// Both clocks and the ledger's own time at one moment.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    time_ms: u64,
    wall_ms: u64,
    boot: Boot,
}

impl Ledger {
    /// Goes on from what was kept. What had been reserved counts as spent at the first use.
    /// `built`: this program did not exist before.
    pub(super) fn new(kept: Option<Book>, built: Wall) -> Self {
        let mut book = kept.unwrap_or_default();
        let floor = built.max(from_millis(book.wall_ms));
        let lost = [&mut book.night, &mut book.urgent]
            .map(|account| std::mem::take(&mut account.reserved));
        Self {
            book,
            lost,
            pending: [0; 2],
            in_flight: [0; 2],
            is_writing: false,
            is_dirty: false,
            has_granted: false,
            anchor: None,
            floor,
        }
    }

    /// Is the calendar earlier than it can be? Then there is no fill and no deletion.
    pub(super) fn is_below_floor(&self, wall: Wall) -> bool {
        wall.saturating_add(FLOOR_SLACK).unwrap_or(Wall::MAX) < self.floor
    }

    /// Granted or reserved within 24 hours: what the limit is compared with.
    pub(super) fn counted(&self, class: Class, moment: Moment) -> u64 {
        let account = self.book.account(class);
        let first = first_slot(self.time(moment));
        let left = account.slots.iter().take_while(|(slot, _)| *slot <= first);
        let left: u64 = left.map(|(_, bytes)| *bytes).sum();
        let at = index(class);
        let ahead = self.pending[at] + self.in_flight[at] + self.lost[at];
        account.granted - left + account.reserved + ahead
    }

    /// What may be granted at once.
    pub(super) fn usable(&self, class: Class) -> u64 {
        self.book.account(class).reserved
    }

    /// Sets aside the next step of `limit`, or what is left of it. Usable when the next
    /// [`Ledger::write`] is [`Ledger::written`]. `false`: nothing is left.
    pub(super) fn reserve(&mut self, class: Class, moment: Moment, limit: u64) -> bool {
        self.advance(moment);
        let left = limit.saturating_sub(self.counted(class, moment));
        let bytes = step(limit).min(left);
        self.pending[index(class)] += bytes;
        self.is_dirty |= bytes > 0;
        bytes > 0
    }

    /// A step is on its way to the disk.
    pub(super) fn is_reserving(&self, class: Class) -> bool {
        self.pending[index(class)] + self.in_flight[index(class)] > 0
    }

    /// So little is usable that the next step should be on its way before it is gone.
    pub(super) fn is_low(&self, class: Class, limit: u64) -> bool {
        self.usable(class) < step(limit) / 2
    }

    /// When a little of `limit` comes back, if none is left.
    pub(super) fn free_in(&self, class: Class, moment: Moment, limit: u64) -> Option<Duration> {
        let mut counted = self.counted(class, moment);
        let time = self.time(moment);
        for (slot, bytes) in &self.book.account(class).slots {
            if *slot <= first_slot(time) {
                continue;
            }
            counted -= bytes;
            if counted < limit {
                let leaves = slot.saturating_mul(SLOT_MS).saturating_add(MEMORY_MS);
                return Some(Duration::from_millis(leaves.saturating_sub(time)));
            }
        }
        None
    }

    /// Moves granted bytes out of the reservation. Never more than [`Ledger::usable`].
    pub(super) fn grant(&mut self, class: Class, moment: Moment, bytes: u64) {
        self.advance(moment);
        let time_ms = self.time(moment);
        let account = self.book.account_mut(class);
        debug_assert!(bytes <= account.reserved);
        account.reserved = account.reserved.saturating_sub(bytes);
        account.add(time_ms, bytes);
        self.has_granted = true;
    }

    /// Granted and not received. Taken out of the oldest entries: whichever entry they were in, no
    /// later sum is too small.
    pub(super) fn give_back(&mut self, class: Class, bytes: u64) {
        let account = self.book.account_mut(class);
        let mut left = bytes;
        for (_, granted) in &mut account.slots {
            let back = left.min(*granted);
            *granted -= back;
            left -= back;
            if left == 0 {
                break;
            }
        }
        // More than was granted within 24 hours cannot come back.
        account.granted -= bytes - left;
        // Reserved anew: the last book has these bytes under an earlier date than their next use.
        self.pending[index(class)] += bytes - left;
        self.is_dirty |= bytes > left;
    }

    /// Nobody fetches: what is reserved and was not used is free again.
    pub(super) fn settle(&mut self, class: Class) {
        self.pending[index(class)] = 0;
        let reserved = &mut self.book.account_mut(class).reserved;
        self.is_dirty |= *reserved > 0 || self.has_granted;
        *reserved = 0;
    }

    pub(super) fn nights(&self) -> &Nights {
        &self.book.nights
    }

    /// Written with the next book; at once with `is_urgent`.
    pub(super) fn nights_mut(&mut self, is_urgent: bool) -> &mut Nights {
        self.is_dirty |= is_urgent;
        &mut self.book.nights
    }

    /// The book to be made durable, if there is news and none is being written.
    pub(super) fn write(&mut self, moment: Moment) -> Option<Book> {
        if self.is_writing || !self.is_dirty {
            return None;
        }
        self.advance(moment);
        (self.is_writing, self.is_dirty, self.has_granted) = (true, false, false);
        self.book.serial += 1;
        self.book.time_ms = self.time(moment);
        self.book.wall_ms = self.book.wall_ms.max(millis(moment.wall));
        self.book.boot_ms = boot_millis(moment.boot);
        self.floor = self.floor.max(from_millis(self.book.wall_ms));
        let mut book = self.book.clone();
        for class in [Class::Night, Class::Urgent] {
            let at = index(class);
            self.in_flight[at] += std::mem::take(&mut self.pending[at]);
            book.account_mut(class).reserved += self.in_flight[at];
        }
        Some(book)
    }

    /// The book is durable, or is not: then the same is tried again.
    pub(super) fn written(&mut self, outcome: bool) {
        self.is_writing = false;
        if !outcome {
            self.is_dirty = true;
            return;
        }
        for class in [Class::Night, Class::Urgent] {
            let bytes = std::mem::take(&mut self.in_flight[index(class)]);
            self.book.account_mut(class).reserved += bytes;
        }
    }

    /// The ledger's own time: since the anchor, the smaller of what both clocks say.
    fn time(&self, moment: Moment) -> u64 {
        let Some(anchor) = self.anchor else {
            return self.time_after_restart(moment);
        };
        let wall = millis(moment.wall).saturating_sub(anchor.wall_ms);
        let boot = moment.boot.saturating_since(anchor.boot).as_millis();
        let boot = u64::try_from(boot).unwrap_or(u64::MAX);
        anchor.time_ms.saturating_add(wall.min(boot))
    }

    /// By the calendar alone if the machine was restarted too: its boot clock tells nothing about
    /// the time before.
    fn time_after_restart(&self, moment: Moment) -> u64 {
        let passed = millis(moment.wall).saturating_sub(self.book.wall_ms);
        let since = boot_millis(moment.boot).checked_sub(self.book.boot_ms);
        let passed = since.map_or(passed, |since| passed.min(since));
        self.book.time_ms.saturating_add(passed)
    }

    fn advance(&mut self, moment: Moment) {
        let before = self.anchor.map(|anchor| anchor.boot);
        let is_recent = |boot| moment.boot.saturating_since(boot) < ANCHOR_EVERY;
        if before.is_some_and(is_recent) {
            return;
        }
        let time_ms = self.time(moment);
        // The first time after a restart is kept: the next crash has this boot's clock to go by.
        self.is_dirty |= self.anchor.is_none();
        let wall_ms = self
            .anchor
            .map_or(self.book.wall_ms, |anchor| anchor.wall_ms);
        self.anchor = Some(Anchor {
            time_ms,
            wall_ms: wall_ms.max(millis(moment.wall)),
            boot: moment.boot,
        });
        for class in [Class::Night, Class::Urgent] {
            let lost = std::mem::take(&mut self.lost[index(class)]);
            let account = self.book.account_mut(class);
            account.leave(first_slot(time_ms));
            account.add(time_ms, lost);
        }
    }
}

impl Book {
    /// There was a ledger, and nobody can read it: everything may have been spent just now.
    pub(super) fn spent() -> Self {
        let all = Account::new(1 << 47, VecDeque::new());
        Self {
            night: all.clone(),
            urgent: all,
            ..Self::default()
        }
    }

    pub(super) fn account(&self, class: Class) -> &Account {
        match class {
            Class::Night => &self.night,
            Class::Urgent => &self.urgent,
        }
    }

    fn account_mut(&mut self, class: Class) -> &mut Account {
        match class {
            Class::Night => &mut self.night,
            Class::Urgent => &mut self.urgent,
        }
    }
}

impl Account {
    /// `slots` in rising order.
    pub(super) fn new(reserved: u64, slots: VecDeque<(u64, u64)>) -> Self {
        Self {
            reserved,
            granted: slots.iter().map(|(_, bytes)| *bytes).sum(),
            slots,
        }
    }

    pub(super) fn slots(&self) -> &VecDeque<(u64, u64)> {
        &self.slots
    }

    /// Into the slot that ends next.
    fn add(&mut self, time_ms: u64, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let slot = time_ms / SLOT_MS + 1;
        match self.slots.back_mut() {
            Some((last, sum)) if *last >= slot => *sum += bytes,
            Some(_) | None => self.slots.push_back((slot, bytes)),
        }
        self.granted += bytes;
    }

    fn leave(&mut self, first: u64) {
        while let Some((slot, bytes)) = self.slots.front().copied() {
            if slot > first {
                return;
            }
            self.granted -= bytes;
            self.slots.pop_front();
        }
    }
}

/// Slots up to this one have left.
fn first_slot(time_ms: u64) -> u64 {
    time_ms.saturating_sub(MEMORY_MS) / SLOT_MS
}

/// 256 MB, or a hundredth of a small budget; never so little that the disk is all that works.
fn step(limit: u64) -> u64 {
    (limit / 100).clamp(STEP_BYTES_MIN, STEP_BYTES_MAX)
}

fn index(class: Class) -> usize {
    match class {
        Class::Night => 0,
        Class::Urgent => 1,
    }
}

fn millis(wall: Wall) -> u64 {
    u64::try_from(wall.as_millisecond()).unwrap_or(0)
}

fn from_millis(ms: u64) -> Wall {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    Wall::from_millisecond(ms).unwrap_or(Wall::MAX)
}

fn boot_millis(boot: Boot) -> u64 {
    let since = boot.saturating_since(Boot::default()).as_millis();
    u64::try_from(since).map_or(UPTIME_MS_MAX, |since| since.min(UPTIME_MS_MAX))
}

#[cfg(test)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]
#[path = "ledger_tests.rs"]
mod tests;
