//! Who is silent, and is it them or us?
//!
//! A box without a sign of life leaves steering. Time in which the control plane itself was stopped
//! does not count against anybody, and reports count as missed only while it was receiving from
//! somebody. When many go at once it is more likely our network than their power: the last state is
//! kept and an alarm raised (SAFETY: staying up). Sans-IO; [`super::machine`] calls it.
//!
//! ```text
//!            overdue, few at once            heard
//!   Here ─────────────────────────▶ Gone ───────────▶ Here
//!    │ ▲      overdue, many at once   ▲
//!    │ └────────── heard ──────┐      │ few are overdue again
//!    └──────────────────────▶ Held ───┘
//! ```

use crate::clock::Instant;
use crate::control::StalenessConfig;
use crate::ids::BoxId;
use std::collections::BTreeMap;
use std::time::Duration;

/// How often the machine must be ticked.
pub(super) const TICK_EVERY: Duration = Duration::from_secs(1);

/// A longer pause between two ticks means that this process was not running.
const GAP_MAX: Duration = Duration::from_secs(5);

/// Without a word from anybody for so long we count as not receiving: three heartbeats.
const RECEIVING_WINDOW: Duration = Duration::from_secs(30);

/// Boxes that go within this time go "at once": heartbeats are spread over 10 s, and a partition
/// may reach the routers of a region one after the other.
const AT_ONCE: Duration = Duration::from_secs(60);

/// Why a box counts as lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    Silent,
    Stale,
}

/// A sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Heartbeat,
    Report,
}

#[derive(Debug)]
pub(super) struct Staleness {
    heartbeat: Duration,
    reports: Duration,
    share: u32,
    always: usize,
    last_step: Instant,
    /// Time in which this process was running.
    awake: Duration,
    /// Of it, time in which somebody was heard.
    receiving: Duration,
    /// On `awake`.
    anybody: Option<Duration>,
    pulses: BTreeMap<BoxId, Pulse>,
    frozen: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Pulse {
    /// On `awake`.
    heard: Duration,
    /// On `receiving`.
    reported: Duration,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Here,
    /// Overdue while the fleet is frozen: counts as here.
    Held,
    /// Since when, on `awake`.
    Gone(Lost, Duration),
}

impl Staleness {
    pub(super) fn new(now: Instant, config: &StalenessConfig, report_every: Duration) -> Self {
        Self {
            heartbeat: config.heartbeat,
            // The last of them may come late without being missed.
            reports: report_every * config.reports + config.heartbeat,
            share: config.share.min(100),
            always: usize::try_from(config.always).unwrap_or(usize::MAX),
            last_step: now,
            awake: Duration::ZERO,
            receiving: Duration::ZERO,
            anybody: None,
            pulses: BTreeMap::new(),
            frozen: None,
        }
    }

    /// Takes a sign of life; true if the box was lost before it.
    pub(super) fn heard(&mut self, now: Instant, id: &BoxId, sign: Sign) -> bool {
        self.advance(now);
        self.anybody = Some(self.awake);
        let (awake, receiving) = (self.awake, self.receiving);
        let Some(pulse) = self.pulses.get_mut(id) else {
            let pulse = Pulse {
                heard: awake,
                reported: receiving,
                state: State::Here,
            };
            self.pulses.insert(id.clone(), pulse);
            return true;
        };
        pulse.heard = awake;
        if sign == Sign::Report {
            pulse.reported = receiving;
        }
        match pulse.state {
            State::Here => false,
            State::Held => {
                pulse.state = State::Here;
                false
            }
            // A heartbeat does not make up for missed reports.
            State::Gone(Lost::Stale, _) if sign == Sign::Heartbeat => false,
            State::Gone(..) => {
                pulse.state = State::Here;
                true
            }
        }
    }

    /// The box does not count any more: removed, disabled.
    pub(super) fn forget(&mut self, id: &BoxId) {
        self.pulses.remove(id);
    }

    /// `None`: it is here, or held to be.
    pub(super) fn lost(&self, id: &BoxId) -> Option<Lost> {
        match self.pulses.get(id).map(|pulse| pulse.state) {
            None => Some(Lost::Silent),
            Some(State::Here | State::Held) => None,
            Some(State::Gone(lost, _)) => Some(lost),
        }
    }

    pub(super) fn frozen(&self) -> Option<&str> {
        self.frozen.as_deref()
    }

    pub(super) fn deadline(&self) -> Instant {
        self.last_step + TICK_EVERY
    }

    /// Decides who is lost; returns the boxes for which the answer of [`Staleness::lost`] changed.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<BoxId> {
        self.advance(now);
        let overdue: Vec<(BoxId, Lost)> = self
            .pulses
            .iter()
            .filter(|(_, pulse)| !matches!(pulse.state, State::Gone(..)))
            .filter_map(|(id, pulse)| Some((id.clone(), self.overdue(pulse)?)))
            .collect();
        let recent: Vec<BoxId> = self
            .pulses
            .iter()
            .filter(|(_, pulse)| self.went_lately(pulse))
            .map(|(id, _)| id.clone())
            .collect();
        let most = self.may_go(recent.len());
        let is_many = overdue.len() + recent.len() > most;
        match (self.frozen.is_some(), is_many) {
            (true, true) => {
                self.set(overdue.iter().map(|(id, _)| id), State::Held);
                Vec::new()
            }
            (true, false) => {
                tracing::warn!("enough boxes report again: the fleet's state is not frozen");
                self.frozen = None;
                self.leave(overdue)
            }
            (false, true) if !overdue.is_empty() => self.freeze(overdue, recent),
            (false, true | false) => self.leave(overdue),
        }
    }

    fn overdue(&self, pulse: &Pulse) -> Option<Lost> {
        if self.awake.saturating_sub(pulse.heard) > self.heartbeat {
            return Some(Lost::Silent);
        }
        let without = self.receiving.saturating_sub(pulse.reported);
        (without > self.reports).then_some(Lost::Stale)
    }

    fn went_lately(&self, pulse: &Pulse) -> bool {
        match pulse.state {
            State::Gone(_, since) => self.awake.saturating_sub(since) <= AT_ONCE,
            State::Here | State::Held => false,
        }
    }

    /// How many boxes may go at once, of those that are here or went lately.
    fn may_go(&self, recent: usize) -> usize {
        let here = self.pulses.values();
        let here = here.filter(|pulse| !matches!(pulse.state, State::Gone(..)));
        let share = usize::try_from(self.share).unwrap_or(100);
        let by_share = (here.count() + recent).saturating_mul(share) / 100;
        by_share.max(self.always)
    }

    fn leave(&mut self, overdue: Vec<(BoxId, Lost)>) -> Vec<BoxId> {
        for (id, lost) in &overdue {
            self.set([id], State::Gone(*lost, self.awake));
        }
        overdue.into_iter().map(|(id, _)| id).collect()
    }

    /// Those that went lately belong to the same event and come back into the kept state.
    fn freeze(&mut self, overdue: Vec<(BoxId, Lost)>, recent: Vec<BoxId>) -> Vec<BoxId> {
        let text = format!(
            "{} boxes fell silent within {} s, more than {} % of the fleet: their last state is \
             kept. Look at this control plane's own network first; disable boxes that are really \
             gone",
            overdue.len() + recent.len(),
            AT_ONCE.as_secs(),
            self.share,
        );
        tracing::error!("{text}");
        self.frozen = Some(text);
        self.set(overdue.iter().map(|(id, _)| id), State::Held);
        self.set(&recent, State::Held);
        recent
    }

    fn set<'a>(&mut self, ids: impl IntoIterator<Item = &'a BoxId>, state: State) {
        for id in ids {
            if let Some(pulse) = self.pulses.get_mut(id) {
                pulse.state = state;
            }
        }
    }

    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.last_step);
        self.last_step = self.last_step.max(now);
        let passed = if passed > GAP_MAX { TICK_EVERY } else { passed };
        self.awake += passed;
        let since = self.anybody.map(|at| self.awake.saturating_sub(at));
        if since.is_some_and(|since| since <= RECEIVING_WINDOW) {
            self.receiving += passed;
        }
    }
}

#[cfg(test)]
#[path = "staleness_tests.rs"]
mod tests;
