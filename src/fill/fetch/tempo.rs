//! How quickly a source gives: by the clock, and by the time in which it could.
//!
//! [`super::work`] keeps one for each stream. By the clock says when a piece will be complete, with
//! requests, handshakes and the waits for turns; without the waits says what the source is worth.
//! Sans-IO.

use crate::clock::Instant;
use std::time::Duration;

/// A rate is that of the last one to two of these.
const SPAN: Duration = Duration::from_secs(2);

/// Before so much time a rate is a guess.
const KNOWN: Duration = Duration::from_millis(500);

/// With less time that was not spent in waiting for turns nothing is known of the source.
const UNBLOCKED: Duration = Duration::from_millis(100);

/// Before so much time with a source nobody says what it is worth.
const JUDGED: Duration = Duration::from_secs(4);

/// One source's, as long as it is asked.
#[derive(Debug, Default)]
pub(super) struct Tempo {
    sum: Sum,
    /// Where the last span began, and the one before it.
    mid: Sum,
    old: Sum,
    /// Up to where the clock is counted; none between two pieces.
    looked: Option<Instant>,
    /// Of the answer at hand: bytes and time without turns up to there; none before its head.
    flowing: Option<(u64, Duration)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    bytes: u64,
    /// By the clock.
    time: Duration,
    /// In which bytes could have come.
    free: Duration,
    /// In which they could not, for want of turns.
    blocked: Duration,
}

impl Tempo {
    /// A piece is to be asked for.
    pub(super) fn begin(&mut self, now: Instant) {
        self.looked = Some(now);
        self.flowing = None;
    }

    /// Its bytes may come from here on. `read` and `blocked`: of the connection, so far.
    pub(super) fn flow(&mut self, now: Instant, read: u64, blocked: Duration) {
        self.pass(now, Duration::ZERO);
        self.flowing = Some((read, blocked));
    }

    /// So much has been read, and turns were waited for so long. Returns what came since the last
    /// time.
    pub(super) fn note(&mut self, now: Instant, read: u64, blocked: Duration) -> u64 {
        let Some((read_then, blocked_then)) = self.flowing else {
            return 0;
        };
        let passed = self.looked.map_or(Duration::ZERO, |then| now - then);
        let waited = blocked.saturating_sub(blocked_then).min(passed);
        self.pass(now, passed - waited);
        self.sum.blocked += waited;
        let came = read.saturating_sub(read_then);
        self.sum.bytes += came;
        self.flowing = Some((read, blocked));
        if self.sum.time - self.mid.time >= SPAN {
            (self.old, self.mid) = (self.mid, self.sum);
        }
        came
    }

    /// The piece is over.
    pub(super) fn end(&mut self) {
        (self.looked, self.flowing) = (None, None);
    }

    /// Bytes a second by the clock, the silence until `now` included; none while that is a guess.
    pub(super) fn rate(&self, now: Instant) -> Option<u64> {
        let open = self
            .looked
            .map_or(Duration::ZERO, |then| now.saturating_duration_since(then));
        let time = self.sum.time + open;
        if time < KNOWN {
            return None;
        }
        // A span that has begun while nothing came is as old as it gets.
        Some(rate(self.sum.bytes - self.old.bytes, time - self.old.time))
    }

    /// Bytes a second that the source would give if nobody else wanted turns; none while that is a
    /// guess. One that waits for its turns is as quick as any: the cap is the bottleneck.
    pub(super) fn alone(&self, now: Instant) -> Option<u64> {
        let own = self.rate(now)?;
        let open = self
            .looked
            .map_or(Duration::ZERO, |then| now.saturating_duration_since(then));
        let time = self.sum.time + open - self.old.time;
        let time = time.saturating_sub(self.sum.blocked - self.old.blocked);
        if time < UNBLOCKED {
            return Some(u64::MAX);
        }
        Some(own.max(rate(self.sum.bytes - self.old.bytes, time)))
    }

    /// Bytes a second of the time in which they could come; none while it is too early to judge.
    pub(super) fn given(&self) -> Option<u64> {
        if self.sum.free < JUDGED {
            return None;
        }
        let (bytes, free) = (
            self.sum.bytes - self.old.bytes,
            self.sum.free - self.old.free,
        );
        // Turns were waited for: that says nothing of the source.
        (free >= KNOWN).then(|| rate(bytes, free))
    }

    fn pass(&mut self, now: Instant, free: Duration) {
        if let Some(then) = self.looked.replace(now) {
            self.sum.time += now.saturating_duration_since(then);
            self.sum.free += free;
        }
    }
}

fn rate(bytes: u64, time: Duration) -> u64 {
    let rate = u128::from(bytes) * 1_000_000 / time.as_micros().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}
