//! The cap as arithmetic: when may the next bytes be received?
//!
//! A token bucket kept as a point of time: `spent` is the instant up to which the line is paid
//! for. Every grant occupies `bytes / rate` of the line's time; no two overlap, none ends after
//! its grant, and none begins more than [`DEPTH`] before it. So no interval of length T sees more
//! than `rate * (T + DEPTH)` bytes, as long as no grant is larger than the depth. The bucket
//! starts empty: a restart gains nothing.
//!
//! What is lent is granted for bytes that come later, when a source sends them: after a silence
//! all at once. It is still in the bucket until it has come, so what is lent and what is saved up
//! are together no more than the depth, and what *comes* in any interval is bounded as the grants
//! are. Lending never waits for what was lent to come: borrowers who hold more than the depth get
//! the rate without savings, and the bound is theirs to keep by holding less.
//!
//! What waits for no turn is charged when it has come, a piece at a time: until that is paid, the
//! line is spent into the future and grants nothing. The bound is then a piece and what comes in
//! [`CHARGE_LATE`] more. What may come before it is charged is expected: as if it were lent. And
//! beside what is lent a turn that somebody waits for may be saved up, whatever the depth leaves.
//!
//! Sans-IO: [`super::queue`] asks it.

use crate::clock::Instant;
use crate::units::BytesPerSecond;
use std::time::Duration;

/// What idleness may save up, and a late timer make good. SAFETY: cap. An interface may carry 50 ms
/// beyond the cap in any time; a tenth of them is for what does not wait for a turn (heartbeats, a
/// piece of a manifest), and for an answer about sources, which is paid for and comes in one burst.
pub(super) const DEPTH: Duration = Duration::from_millis(45);

/// A look at a grant may be so much later than it can be taken, if savings have room for it; the
/// first that fits. One look then ends several turns: a wake-up for each, with cold caches, cost a
/// fill at 1.2 Gbit/s a sixth of its CPU. Few steps, so that a deadline seldom changes. With 8 ms
/// sources near by lose patience with an acknowledgement that waits for a reader, and send a
/// segment twice (RFC 8985 section 7), which nobody has paid for.
const COALESCE: [Duration; 2] = [Duration::from_millis(4), Duration::from_millis(2)];

/// Whoever is charged may catch up so much of what a late timer cost him.
const CHARGE_LATE: Duration = Duration::from_millis(2);

const NANOS: u128 = 1_000_000_000;

/// One line's time.
#[derive(Debug)]
pub(super) struct Bucket {
    /// At least one byte a second.
    rate: u64,
    spent: Instant,
    /// Bytes that are granted and have not come.
    lent: u64,
    /// From when on whoever is charged may read more, savings and debt aside.
    charged: Instant,
}

impl Bucket {
    pub(super) fn new(rate: BytesPerSecond, now: Instant) -> Self {
        Self {
            rate: rate.0.max(1),
            spent: now,
            lent: 0,
            charged: now,
        }
    }

    /// What came at `now` without a turn has the line for `time`, at whatever rate it was reckoned:
    /// from savings, or from what is earned next, which is a debt. `turn`: somebody waits for so
    /// many bytes. Returns when more may come that way: never faster than the line, or half of it
    /// while somebody waits, for longer than a late timer explains, whatever was saved up.
    pub(super) fn charge(&mut self, now: Instant, time: Duration, turn: u64) -> Instant {
        self.spent += time;
        // Only now: what is lost in any case pays first.
        self.forget_but(now, turn);
        let late = now.checked_sub(CHARGE_LATE).unwrap_or(now);
        let share = if turn > 0 { time * 2 } else { time };
        self.charged = self.charged.max(late) + share;
        self.charged.max(self.spent)
    }

    /// Half the depth: what one turn may take, so that a late timer costs no rate.
    pub(super) fn quantum(&self) -> u64 {
        (self.bytes_in(DEPTH) / 2).max(1)
    }

    /// What is saved up keeps its bytes, never its time: a faster line is not faster in the past.
    pub(super) fn set_rate(&mut self, now: Instant, rate: BytesPerSecond) {
        self.rest(now);
        let saved = self.bytes_in(now.saturating_duration_since(self.spent));
        self.rate = rate.0.max(1);
        if self.spent > now {
            // A debt is time of the line, which has one length at any rate.
            return;
        }
        let full = self.bytes_in(self.depth());
        // Rounded down: it is at most what was saved.
        let time = self.bytes_time_floor(saved.min(full));
        self.spent = now.checked_sub(time).unwrap_or(now);
    }

    /// When a grant of `bytes` can be taken.
    pub(super) fn ready_at(&self, bytes: u64) -> Instant {
        self.spent + self.line_time(bytes)
    }

    /// When whoever waits for a grant of `bytes` looks whether it can be taken: as late as costs no
    /// rate, and with the same again for a timer that is late itself.
    pub(super) fn due_at(&self, bytes: u64) -> Instant {
        let room = self.depth().saturating_sub(self.line_time(bytes));
        let late = COALESCE.into_iter().find(|late| room >= *late * 2);
        self.ready_at(bytes) + late.unwrap_or(Duration::ZERO)
    }

    /// What a long grant has earned of itself so far.
    pub(super) fn earned(&self, now: Instant) -> u64 {
        self.bytes_in(now.saturating_duration_since(self.spent))
    }

    /// Does a grant of `bytes` take longer than what can be saved up?
    pub(super) fn is_long(&self, bytes: u64) -> bool {
        self.line_time(bytes) > DEPTH
    }

    /// From when on the line was this grant's. `None`: not yet, see [`Bucket::ready_at`].
    pub(super) fn take(&mut self, now: Instant, bytes: u64) -> Option<Instant> {
        let time = self.line_time(bytes);
        if self.spent + time > now {
            return None;
        }
        if time > DEPTH {
            // What is larger than the depth was earned while somebody waited for it.
            self.forget_before(now, time + self.depth());
        } else {
            self.forget_but(now, bytes);
        }
        let from = self.spent;
        self.spent += time;
        Some(from)
    }

    /// What was just taken comes later.
    pub(super) fn lend(&mut self, bytes: u64) {
        self.lent = self.lent.saturating_add(bytes);
    }

    /// So much may come before it is charged: it is as if it were lent, and savings beside it are
    /// lost now. `turn`: somebody waits for so many.
    pub(super) fn expect(&mut self, now: Instant, bytes: u64, turn: u64) {
        self.lend(bytes);
        self.forget_but(now, turn);
    }

    /// `bytes` of what was lent have come. `turn`: somebody waits for so many.
    pub(super) fn came(&mut self, now: Instant, bytes: u64, turn: u64) {
        // Until this moment savings were bounded by what was lent.
        self.forget_but(now, turn);
        self.lent = self.lent.saturating_sub(bytes);
    }

    /// `bytes` of earlier grants have not come and will not: their line time is free, as far as
    /// savings reach. What came of those grants was paid with what is left of them. `turn`:
    /// somebody waits for so many.
    pub(super) fn give_back(&mut self, now: Instant, bytes: u64, turn: u64) {
        self.came(now, bytes, turn);
        if self.spent > now {
            // A debt may be of another rate. It is short: what is lost for it is little.
            return;
        }
        let time = self.bytes_time_floor(bytes);
        self.spent = self.spent.checked_sub(time).unwrap_or(self.spent);
        self.forget_but(now, turn);
    }

    /// Nobody waits: savings beyond the depth are lost.
    pub(super) fn rest(&mut self, now: Instant) {
        self.forget_before(now, self.depth());
    }

    /// What may be saved up beside what is lent.
    fn depth(&self) -> Duration {
        DEPTH.saturating_sub(self.line_time(self.lent))
    }

    /// Savings are what the depth leaves beside what is lent, but never less than the turn that
    /// somebody waits for has earned: lending takes savings, not the rate.
    fn forget_but(&mut self, now: Instant, turn: u64) {
        let turn = self.line_time(turn).min(DEPTH);
        self.forget_before(now, self.depth().max(turn));
    }

    fn forget_before(&mut self, now: Instant, saved: Duration) {
        if let Some(earliest) = now.checked_sub(saved) {
            self.spent = self.spent.max(earliest);
        }
    }

    fn line_time(&self, bytes: u64) -> Duration {
        line_time(bytes, BytesPerSecond(self.rate))
    }

    fn bytes_time_floor(&self, bytes: u64) -> Duration {
        nanos(u128::from(bytes) * NANOS / u128::from(self.rate))
    }

    fn bytes_in(&self, time: Duration) -> u64 {
        let bytes = time.as_nanos() * u128::from(self.rate) / NANOS;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

/// A century is longer than any transfer.
const LINE_TIME_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

/// How long a line of `rate` has of `bytes`; rounded up, so that it is never faster than that.
pub(super) fn line_time(bytes: u64, rate: BytesPerSecond) -> Duration {
    nanos((u128::from(bytes) * NANOS).div_ceil(u128::from(rate.0.max(1))))
}

fn nanos(count: u128) -> Duration {
    u64::try_from(count).map_or(LINE_TIME_MAX, |count| {
        Duration::from_nanos(count).min(LINE_TIME_MAX)
    })
}

#[cfg(test)]
mod tests;
