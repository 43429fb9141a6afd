//! Whose turn is it? Streams ask for bytes; each gets a turn in the order of asking.
//!
//! Urgent asks come before those of the night. A turn is an ask, or one quantum of a larger one,
//! which then stands behind the others again. A turn is over when the [`Bucket`] has earned it and
//! the [`Ledger`] has it reserved; the ask is answered when its last turn is over. While a single
//! stream asks, or all ask for much, turns are long: the work is in proportion to the asks.
//!
//! Sans-IO: [`super::pace`] locks it, waits until [`Queue::deadline`], and keeps the books.

use super::Class;
use super::Closed;
use super::Moment;
use super::bucket;
use super::bucket::Bucket;
use super::ledger::Book;
use super::ledger::Ledger;
use super::meter::Meter;
use crate::clock::Instant;
use crate::units::Bytes;
use crate::units::BytesPerSecond;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::time::Duration;

/// Turns of an ask that is larger than the quantum, when all that wait are.
const TURNS_OF_LARGE: u64 = 2;

/// A budget that comes back within this time is waited for; a connection lives that long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Of one piece, which is 48 KiB at most: half of it at the least rate that can be configured.
const CHARGE_MAX: Duration = Duration::from_secs(1);

/// A ledger that could not be written is tried again after this.
const RETRY: Duration = Duration::from_secs(5);

/// Both clocks of one moment, and the line's.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    pub(super) now: Instant,
    pub(super) moment: Moment,
}

#[cfg(test)]
impl At {
    /// `ns` after `start`, on a wall clock that started with it.
    pub(super) fn after(start: Instant, ns: u64) -> Self {
        let passed = std::time::Duration::from_nanos(ns);
        Self {
            now: start + passed,
            moment: Moment {
                wall: super::BUILT + passed,
                boot: crate::clock::Boot::default() + passed,
            },
        }
    }
}

/// What the pace is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub rate: BytesPerSecond,
    /// Of any 24 h: the window's length at the full cap.
    pub night: Bytes,
    /// Of any 24 h, at any hour.
    pub urgent: Bytes,
}

/// An ask's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id(u64);

#[derive(Debug)]
pub(super) struct Queue {
    limits: Limits,
    /// Of the rate, what viewers leave.
    percent: u32,
    bucket: Bucket,
    ledger: Ledger,
    urgent: Lane,
    night: Lane,
    next_id: u64,
    /// Answered, and not told yet.
    answers: BTreeMap<Id, Result<(), Closed>>,
    retry_at: Option<Instant>,
    meter: Meter,
}

/// One class's asks.
#[derive(Debug, Default)]
struct Lane {
    is_open: bool,
    until: Option<Instant>,
    /// When a spent budget is looked at again.
    free_at: Option<Instant>,
    waiting: VecDeque<Ask>,
    granted: u64,
}

#[derive(Debug)]
struct Ask {
    id: Id,
    asked: u64,
    left: u64,
    /// They come later.
    is_lent: bool,
}

impl Queue {
    pub(super) fn new(limits: Limits, ledger: Ledger, now: Instant) -> Self {
        Self {
            limits,
            percent: 100,
            bucket: Bucket::new(limits.rate, now),
            ledger,
            urgent: Lane::default(),
            night: Lane::default(),
            next_id: 0,
            answers: BTreeMap::new(),
            retry_at: None,
            meter: Meter::new(now),
        }
    }

    pub(super) fn set_limits(&mut self, at: At, limits: Limits) {
        self.step(at);
        self.split_turn(at);
        self.limits = limits;
        self.bucket.set_rate(at.now, self.rate());
        self.step(at);
    }

    /// Less than the cap, and no less of the budget. With nothing of it those who ask wait.
    pub(super) fn ease(&mut self, at: At, percent: u32) {
        self.step(at);
        self.split_turn(at);
        self.percent = percent.min(100);
        self.bucket.set_rate(at.now, self.rate());
        self.step(at);
    }

    fn rate(&self) -> BytesPerSecond {
        BytesPerSecond(self.limits.rate.0 / 100 * u64::from(self.percent))
    }

    pub(super) fn open(&mut self, at: At, class: Class, until: Option<Instant>) {
        self.step(at);
        let lane = self.lane_mut(class);
        (lane.is_open, lane.until) = (true, until);
        self.step(at);
    }

    /// Everybody who waits is told at once.
    pub(super) fn shut(&mut self, at: At, class: Class) {
        self.step(at);
        self.split_turn(at);
        self.lane_mut(class).is_open = false;
        self.release(at, class);
        self.ledger.settle(class);
        self.step(at);
    }

    pub(super) fn is_open(&self, class: Class, now: Instant) -> bool {
        let lane = self.lane(class);
        lane.is_open && lane.until.is_none_or(|until| now < until)
    }

    /// A stream asks; [`Queue::answer`] will tell. `is_lent`: for bytes that come later.
    pub(super) fn ask(&mut self, at: At, class: Class, bytes: u64, is_lent: bool) -> Id {
        self.step(at);
        self.split_turn(at);
        let id = Id(self.next_id);
        self.next_id += 1;
        if bytes == 0 || !self.is_open(class, at.now) {
            let open = self.is_open(class, at.now);
            self.answers.insert(id, open.then_some(()).ok_or(Closed));
            return id;
        }
        self.lane_mut(class).waiting.push_back(Ask {
            id,
            asked: bytes,
            left: bytes,
            is_lent,
        });
        self.step(at);
        id
    }

    pub(super) fn answer(&mut self, id: Id) -> Option<Result<(), Closed>> {
        self.answers.remove(&id)
    }

    /// The stream is gone: what it was granted and never told goes back.
    pub(super) fn withdraw(&mut self, at: At, class: Class, id: Id, asked: (u64, bool)) {
        let (bytes, is_lent) = asked;
        match self.answers.remove(&id) {
            Some(Ok(())) => {
                self.step(at);
                self.split_turn(at);
                self.untold(at, class, bytes, is_lent);
            }
            Some(Err(Closed)) => {}
            None => {
                self.split_turn(at);
                let waiting = &mut self.lane_mut(class).waiting;
                if let Some(place) = waiting.iter().position(|ask| ask.id == id)
                    && let Some(ask) = waiting.remove(place)
                {
                    self.untold(at, class, ask.asked - ask.left, is_lent);
                }
            }
        }
        self.step(at);
    }

    /// So much of what was lent has come.
    pub(super) fn came(&mut self, at: At, bytes: u64) {
        self.step(at);
        self.split_turn(at);
        self.bucket.came(at.now, bytes, self.waited_for());
    }

    /// So much may come that waits for no turn, before it is charged.
    pub(super) fn expect(&mut self, at: At, bytes: u64) {
        self.step(at);
        self.split_turn(at);
        self.bucket.expect(at.now, bytes, self.waited_for());
    }

    /// So much has come that waits for no turn, and so goes before all who do. Returns when more of
    /// it may be read: by the cap itself, however little of that viewers leave to the others, but
    /// half of it while others wait.
    pub(super) fn charge(&mut self, at: At, bytes: u64) -> Instant {
        self.step(at);
        self.split_turn(at);
        let time = bucket::line_time(bytes, self.limits.rate).min(CHARGE_MAX);
        self.bucket.charge(at.now, time, self.waited_for())
    }

    /// They have not come: others may have their time on the line.
    pub(super) fn give_back(&mut self, at: At, class: Class, bytes: u64) {
        self.step(at);
        self.split_turn(at);
        self.bucket.give_back(at.now, bytes, self.waited_for());
        self.meter.give_back(at.now, bytes);
        let lane = self.lane_mut(class);
        lane.granted = lane.granted.saturating_sub(bytes);
        self.ledger.give_back(class, bytes);
        if !self.lane(class).is_open {
            self.ledger.settle(class);
        }
        self.step(at);
    }

    /// Somebody has to wake up for the others: an ask that waits.
    pub(super) fn watcher(&self) -> Option<Id> {
        let first = |lane: &Lane| lane.waiting.front().map(|ask| ask.id);
        first(&self.urgent).or_else(|| first(&self.night))
    }

    pub(super) fn is_waiting(&self, id: Id) -> bool {
        let lanes = [&self.urgent, &self.night];
        let mut waiting = lanes.into_iter().flat_map(|lane| &lane.waiting);
        waiting.any(|ask| ask.id == id)
    }

    /// Those who have an answer to fetch.
    pub(super) fn answered(&self) -> impl Iterator<Item = Id> {
        self.answers.keys().copied()
    }

    /// When to call [`Queue::step`] next; `None`: not before somebody asks. A turn of the night may
    /// be over a little earlier, see [`Bucket::due_at`].
    pub(super) fn deadline(&self) -> Option<Instant> {
        let turn = self.turn().map(|(class, bytes)| match class {
            // An urgent stream asks again only when it is answered. If several turns ended at one
            // look, all but its first would be the night's.
            Class::Urgent => self.bucket.ready_at(bytes),
            Class::Night => self.bucket.due_at(bytes),
        });
        let lanes = [&self.urgent, &self.night];
        let busy = lanes.into_iter().filter(|lane| !lane.waiting.is_empty());
        let lane = busy.flat_map(|lane| [lane.until, lane.free_at]);
        let all = lane.chain([turn, self.retry_at]);
        all.flatten().min()
    }

    /// Ends every turn that is over, closes what is due, reserves what will be needed.
    pub(super) fn step(&mut self, at: At) {
        loop {
            for class in [Class::Urgent, Class::Night] {
                if self.lane(class).is_open && !self.is_open(class, at.now) {
                    self.lane_mut(class).is_open = false;
                    self.release(at, class);
                    self.ledger.settle(class);
                }
                self.reserve(at, class);
            }
            let Some((class, bytes)) = self.turn() else {
                self.bucket.rest(at.now);
                return;
            };
            if !self.end_turn(at, class, bytes) {
                return;
            }
        }
    }

    /// The book to keep, if one must be kept.
    pub(super) fn write(&mut self, at: At) -> Option<Book> {
        if self.retry_at.is_some_and(|retry| at.now < retry) {
            return None;
        }
        self.retry_at = None;
        self.ledger.write(at.moment)
    }

    pub(super) fn written(&mut self, at: At, outcome: bool) {
        self.step(at);
        self.split_turn(at);
        self.retry_at = (!outcome).then(|| at.now + RETRY);
        self.ledger.written(outcome);
        for class in [Class::Urgent, Class::Night] {
            if !self.is_open(class, at.now) {
                self.ledger.settle(class);
            }
        }
        self.step(at);
    }

    #[cfg(test)]
    pub(super) fn quantum(&self) -> u64 {
        self.bucket.quantum()
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    pub(super) fn granted(&self, class: Class) -> u64 {
        self.lane(class).granted
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(super) fn ledger_mut(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    pub(super) fn meter(&mut self) -> &mut Meter {
        &mut self.meter
    }

    pub(super) fn limit(&self, class: Class) -> u64 {
        match class {
            Class::Night => self.limits.night.0,
            Class::Urgent => self.limits.urgent.0,
        }
    }

    /// Whose turn, and how many bytes: the first ask of the first class that has something
    /// reserved.
    fn turn(&self) -> Option<(Class, u64)> {
        for class in [Class::Urgent, Class::Night] {
            let (lane, usable) = (self.lane(class), self.ledger.usable(class));
            let Some(ask) = lane.waiting.front().filter(|_| usable > 0) else {
                continue;
            };
            let turn = if lane.waiting.len() == 1 {
                u64::MAX
            } else {
                let least = lane.waiting.iter().map(|ask| ask.asked).min();
                let large = least.unwrap_or(0) / TURNS_OF_LARGE;
                self.bucket.quantum().max(large)
            };
            return Some((class, ask.left.min(turn).min(usable)));
        }
        None
    }

    /// What a turn longer than the depth has earned is granted before others come between. What a
    /// short one has earned stays saved up in the bucket.
    fn split_turn(&mut self, at: At) {
        let Some((class, bytes)) = self.turn() else {
            return;
        };
        let earned = self.bucket.earned(at.now).min(bytes);
        if self.bucket.is_long(bytes) && earned > 0 {
            self.end_turn(at, class, earned);
        }
    }

    /// Grants a turn to the first of `class`; `false`: its time has not come.
    fn end_turn(&mut self, at: At, class: Class, bytes: u64) -> bool {
        let Some(from) = self.bucket.take(at.now, bytes) else {
            return false;
        };
        self.ledger.grant(class, at.moment, bytes);
        self.meter.add(from, at.now, bytes);
        let lane = self.lane_mut(class);
        lane.granted += bytes;
        let Some(mut ask) = lane.waiting.pop_front() else {
            return true;
        };
        ask.left -= bytes;
        if ask.is_lent {
            self.bucket.lend(bytes);
        }
        let lane = self.lane_mut(class);
        if ask.left == 0 {
            self.answers.insert(ask.id, Ok(()));
        } else {
            lane.waiting.push_back(ask);
        }
        true
    }

    /// Bytes of the turn that is under way.
    fn waited_for(&self) -> u64 {
        self.turn().map_or(0, |(_, bytes)| bytes)
    }

    /// Keeps a reservation ahead of those who wait. A budget that is spent, and not free again
    /// soon, sends them away.
    fn reserve(&mut self, at: At, class: Class) {
        let limit = self.limit(class);
        let lane = self.lane_mut(class);
        // One that has passed would be a deadline that nothing moves.
        lane.free_at = lane.free_at.filter(|free_at| at.now < *free_at);
        let is_early = lane.free_at.is_some();
        let is_wanted = lane.is_open && !lane.waiting.is_empty();
        if !is_wanted || is_early || !self.ledger.is_low(class, limit) {
            return;
        }
        if self.ledger.is_reserving(class) || self.ledger.reserve(class, at.moment, limit) {
            self.lane_mut(class).free_at = None;
            return;
        }
        let free_in = self.ledger.free_in(class, at.moment, limit);
        let free_in = free_in.filter(|time| *time <= PATIENCE);
        self.lane_mut(class).free_at = free_in.map(|time| at.now + time);
        if free_in.is_none() && self.ledger.usable(class) == 0 {
            self.release(at, class);
        }
    }

    fn release(&mut self, at: At, class: Class) {
        let lane = self.lane_mut(class);
        lane.free_at = None;
        let waiting = std::mem::take(&mut lane.waiting);
        for ask in waiting {
            self.untold(at, class, ask.asked - ask.left, ask.is_lent);
            self.answers.insert(ask.id, Err(Closed));
        }
    }

    /// Granted and never told: nobody receives it. Its line time is lost.
    fn untold(&mut self, at: At, class: Class, bytes: u64, is_lent: bool) {
        self.ledger.give_back(class, bytes);
        if is_lent {
            self.bucket.came(at.now, bytes, self.waited_for());
        }
    }

    fn lane(&self, class: Class) -> &Lane {
        match class {
            Class::Urgent => &self.urgent,
            Class::Night => &self.night,
        }
    }

    fn lane_mut(&mut self, class: Class) -> &mut Lane {
        match class {
            Class::Urgent => &mut self.urgent,
            Class::Night => &mut self.night,
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
