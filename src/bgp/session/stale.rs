//! Routes that outlive what vouched for them: a session that fell (RFC 4724, RFC 9494) or a table
//! that is being sent again (RFC 7313). Per family; sans-IO.
//!
//! ```text
//!            session falls                   restart time over, long-lived asked for
//!  Fresh ────────────────────▶ Away ────────────────────────────────────▶ LongLived
//!    ▲                          │  └─ restart time over ─▶ sweep ─▶ Fresh     │
//!    │                          ▼ session is back, forwarding kept            ▼
//!    ├── End-of-RIB or time ── Back ◀─────────────────────────────────────────┘
//!    └── EoRR or time ──────── Refreshing ◀── BoRR
//! ```

use super::Families;
use super::agree::KeptFamily;
use crate::clock::Instant;
use crate::prefix::Family;
use std::time::Duration;

pub(super) const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is stale.
    Fresh,
    /// There is no session; after that the family may be kept longer.
    Away {
        until: Instant,
        then: Duration,
    },
    LongLived {
        until: Instant,
    },
    /// There is a session again, and its table comes.
    Back {
        until: Instant,
    },
    Refreshing {
        until: Instant,
    },
}

/// What became of stale routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Stay,
    /// They go.
    Sweep,
    /// They stay for long from here on, but for those that must not.
    LongLived,
}

#[derive(Debug)]
pub(super) struct Stale {
    ipv4: State,
    ipv6: State,
    /// Nothing is stale for longer while there is a session.
    patience: Duration,
}

impl Stale {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            ipv4: State::Fresh,
            ipv6: State::Fresh,
            patience,
        }
    }

    fn state(&mut self, family: Family) -> &mut State {
        match family {
            Family::Ipv4 => &mut self.ipv4,
            Family::Ipv6 => &mut self.ipv6,
        }
    }

    /// The session fell, and this family's routes may stay for `time` and then for `long`. What was
    /// stale already goes first (RFC 4724 section 4.2: a restart within a restart), unless it was
    /// stale for a refresh only. False: nothing may stay.
    pub(super) fn fall(
        &mut self,
        now: Instant,
        family: Family,
        time: Duration,
        long: Duration,
    ) -> (Verdict, bool) {
        let state = self.state(family);
        let verdict = match state {
            State::Back { .. } => Verdict::Sweep,
            State::Fresh
            | State::Refreshing { .. }
            | State::Away { .. }
            | State::LongLived { .. } => Verdict::Stay,
        };
        *state = match (time.is_zero(), long.is_zero()) {
            (true, true) => State::Fresh,
            (true, false) => State::LongLived { until: now + long },
            (false, _) => State::Away {
                until: now + time,
                then: long,
            },
        };
        (verdict, *state != State::Fresh)
    }

    pub(super) fn is_long_lived(&mut self, family: Family) -> bool {
        matches!(self.state(family), State::LongLived { .. })
    }

    /// There is a session, and this is what it says of the family. RFC 4724 section 4.2: what the
    /// neighbour did not go on forwarding goes at once.
    pub(super) fn rise(&mut self, now: Instant, family: Family, said: KeptFamily) -> Verdict {
        let until = now + self.patience;
        let state = self.state(family);
        let is_kept = match state {
            State::Fresh => return Verdict::Stay,
            State::Away { .. } => said.is_named && said.forwarding,
            // RFC 9494 section 4.2: either of both bits.
            State::LongLived { .. } => said.is_named && (said.forwarding || said.long_forwarding),
            // A session follows one that fell.
            State::Back { .. } | State::Refreshing { .. } => false,
        };
        *state = if is_kept {
            State::Back { until }
        } else {
            State::Fresh
        };
        if is_kept {
            Verdict::Stay
        } else {
            Verdict::Sweep
        }
    }

    /// The neighbour has sent everything once.
    pub(super) fn end_of_rib(&mut self, family: Family) -> Verdict {
        let state = self.state(family);
        match state {
            State::Back { .. } => {
                *state = State::Fresh;
                Verdict::Sweep
            }
            // A refresh has an end of its own.
            State::Fresh
            | State::Refreshing { .. }
            | State::Away { .. }
            | State::LongLived { .. } => Verdict::Stay,
        }
    }

    /// The neighbour sends everything again from here on: all there is becomes stale.
    pub(super) fn begin_refresh(&mut self, now: Instant, family: Family) {
        let until = now + self.patience;
        *self.state(family) = State::Refreshing { until };
    }

    pub(super) fn end_refresh(&mut self, family: Family) -> Verdict {
        let state = self.state(family);
        match state {
            State::Refreshing { .. } => {
                *state = State::Fresh;
                Verdict::Sweep
            }
            // RFC 7313 section 4: an end without a beginning is nothing.
            State::Fresh | State::Back { .. } | State::Away { .. } | State::LongLived { .. } => {
                Verdict::Stay
            }
        }
    }

    /// Everything of the family has gone.
    pub(super) fn forget(&mut self, family: Family) {
        *self.state(family) = State::Fresh;
    }

    pub(super) fn tick(&mut self, now: Instant, family: Family) -> Verdict {
        let state = self.state(family);
        let (next, verdict) = match *state {
            State::Away { until, then } if now >= until && !then.is_zero() => {
                let until = until + then;
                (State::LongLived { until }, Verdict::LongLived)
            }
            State::Away { until, .. }
            | State::LongLived { until }
            | State::Back { until }
            | State::Refreshing { until }
                if now >= until =>
            {
                (State::Fresh, Verdict::Sweep)
            }
            same @ (State::Fresh
            | State::Away { .. }
            | State::LongLived { .. }
            | State::Back { .. }
            | State::Refreshing { .. }) => (same, Verdict::Stay),
        };
        *state = next;
        verdict
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let until = |state: State| match state {
            State::Fresh => None,
            State::Away { until, .. }
            | State::LongLived { until }
            | State::Back { until }
            | State::Refreshing { until } => Some(until),
        };
        let both = [until(self.ipv4), until(self.ipv6)];
        both.into_iter().flatten().min()
    }

    /// Families with routes that nobody vouches for.
    pub(super) fn families(&self) -> Families {
        Families {
            ipv4: self.ipv4 != State::Fresh,
            ipv6: self.ipv6 != State::Fresh,
        }
    }
}
