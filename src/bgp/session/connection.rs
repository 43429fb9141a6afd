//! One TCP connection of a session: Delayed → OpenSent → OpenConfirm → Established, and its timers.

use super::ConnectionId;
use super::Families;
use super::agree::Agreed;
use super::timers;
use crate::clock::Instant;
use std::time::Duration;

/// Who connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bgp) enum Side {
    Ours,
    Theirs,
}

/// RFC 4271 section 8.2.2, the states with a connection. `Delayed` is Connect or Active with a
/// running DelayOpenTimer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Delayed,
    OpenSent,
    OpenConfirm,
    Established,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) phase: Phase,
    /// Silence until then ends it; in `Delayed`, our OPEN goes out then.
    pub(super) hold_ends: Instant,
    hold: Duration,
    /// When to send the next KEEPALIVE; `None` before OPENs are exchanged.
    pub(super) keepalive_at: Option<Instant>,
    /// `None` before OPENs are exchanged.
    pub(super) agreed: Option<Agreed>,
    /// Of which families everything has been sent once.
    pub(super) end_of_rib: Families,
    /// Which could not be read and are ignored.
    pub(super) disabled: Families,
    /// Of the phase.
    pub(super) since: Instant,
}

impl Connection {
    /// Our OPEN waits for theirs, but no longer than `delay`.
    pub(super) fn delayed(id: ConnectionId, now: Instant, delay: Duration) -> Self {
        Self {
            id,
            phase: Phase::Delayed,
            hold_ends: now + delay,
            hold: delay,
            keepalive_at: None,
            agreed: None,
            end_of_rib: Families::NONE,
            disabled: Families::NONE,
            since: now,
        }
    }

    /// Our OPEN goes out.
    pub(super) fn open_sent(&mut self, now: Instant) {
        self.phase = Phase::OpenSent;
        self.since = now;
        self.hold = timers::OPEN_HOLD;
        self.heard(now);
    }

    /// OPENs are exchanged and the hold time is the smaller of both.
    pub(super) fn confirm(&mut self, now: Instant, agreed: Agreed) {
        self.phase = Phase::OpenConfirm;
        self.since = now;
        self.hold = agreed.hold;
        self.agreed = Some(agreed);
        self.heard(now);
    }

    pub(super) fn establish(&mut self, now: Instant) {
        self.phase = Phase::Established;
        self.since = now;
        self.heard(now);
    }

    /// The neighbour is there.
    pub(super) fn heard(&mut self, now: Instant) {
        self.hold_ends = now + self.hold;
    }

    /// A KEEPALIVE goes out now; the next one at a third of the hold time (RFC 4271 section 4.4).
    pub(super) fn keep_alive(&mut self, now: Instant, random: &mut fastrand::Rng) {
        self.keepalive_at = Some(now + timers::jittered(self.hold / 3, random));
    }

    pub(super) fn deadline(&self) -> Instant {
        self.keepalive_at
            .map_or(self.hold_ends, |at| at.min(self.hold_ends))
    }
}
