//! One TCP connection of a session: OpenSent → OpenConfirm → Established, and its two timers.

use super::ConnectionId;
use super::timers;
use crate::bgp::wire::Negotiated;
use crate::clock::Instant;
use std::time::Duration;

/// Who connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bgp) enum Side {
    Ours,
    Theirs,
}

/// RFC 4271 section 8.2.2, the states with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    OpenSent,
    OpenConfirm,
    Established,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) phase: Phase,
    /// Silence until then ends it.
    pub(super) hold_ends: Instant,
    hold: Duration,
    /// When to send the next KEEPALIVE; `None` before OPENs are exchanged.
    pub(super) keepalive_at: Option<Instant>,
    pub(super) negotiated: Option<Negotiated>,
    /// Of the phase.
    pub(super) since: Instant,
}

impl Connection {
    pub(super) fn open_sent(id: ConnectionId, now: Instant) -> Self {
        Self {
            id,
            phase: Phase::OpenSent,
            hold_ends: now + timers::OPEN_HOLD,
            hold: timers::OPEN_HOLD,
            keepalive_at: None,
            negotiated: None,
            since: now,
        }
    }

    /// OPENs are exchanged and the hold time is the smaller of both.
    pub(super) fn confirm(&mut self, now: Instant, negotiated: Negotiated, hold: Duration) {
        self.phase = Phase::OpenConfirm;
        self.negotiated = Some(negotiated);
        self.since = now;
        self.hold = hold;
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
