//! What the box says to its control plane, and when.
//!
//! Sans-IO: `task` tells what happened, makes the calls that [`Schedule::step`] answers, and
//! sleeps until [`Schedule::deadline`]. Each kind of call is a lane of its own: one at a time, with
//! its own back-off, so that a refused report never holds up a heartbeat.
//!
//! ```text
//! missing ── enrol ──→ fine ── report, heartbeat, manifest ──→ renewal due: the same, and renew
//!    ↑                                                             │
//!    └────────────── lapsed (told as missing) ←── ended: renew only ┘
//! ```
//! Nothing is sent in step with other boxes: reports, heartbeats, retries, renewals and manifests
//! are spread by drawn numbers (docs/LINK.md), from a seed that is passed in.

use crate::clock::Instant;
use crate::link::message::Position;
use crate::link::timing;
use std::time::Duration;

/// A burst of changes (a session that ends, a disk with all its objects) is one report.
pub const DEBOUNCE: Duration = Duration::from_millis(300);

/// Between the beginnings of two reports, on average, whatever happens and whoever asks.
pub const REPORT_SPACING: Duration = Duration::from_secs(2);

/// A loss right after a report need not wait for that: viewers are being sent to what is gone. The
/// next one waits for two.
const LOSS_SPACING: Duration = Duration::from_millis(300);

/// Routes arrive in bursts; a session that comes up is one report or two.
const GROWTH_DELAY: Duration = Duration::from_secs(2);

/// What a control plane may ask for as the time between reports.
const REPORT_EVERY_MIN: Duration = Duration::from_secs(10);
const REPORT_EVERY_MAX: Duration = Duration::from_secs(3_600);

/// A plan is published for a whole fleet at once; boxes that have one fetch it within this time.
const MANIFEST_SPREAD: Duration = Duration::from_secs(5);

/// A renewal that was wished for fleet-wide is spread over this.
const RENEW_SPREAD: Duration = Duration::from_secs(60);

/// A control plane that keeps wishing gets a renewal this often at most.
const RENEW_SPACING: Duration = Duration::from_secs(600);

/// No retry comes sooner: full jitter may draw nothing.
const RETRY_MIN: Duration = Duration::from_millis(250);

/// The longest wait between retries of enrolment, renewal and manifest, before jitter.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Where only an operator can help, asking often helps nobody …
const REFUSED_FIRST: Duration = Duration::from_secs(30);
/// … but the box comes back by itself soon after the operator did.
const REFUSED_MAX: Duration = Duration::from_secs(300);

/// A `Retry-After` beyond this is a mistake.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// What to do, and what was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Enrol,
    Renew,
    Report,
    Heartbeat,
    Manifest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The deadline passed.
    Tick,
    /// What the box has to show for itself; told at start, after enrolment and as time passes.
    Certificate(Certificate),
    /// The control plane should know at once: gate, withdrawal, disk loss, drain.
    Changed,
    /// There is more to steer to than was told: not before so much time since the last report.
    Grew {
        spacing: Duration,
    },
    /// A reply that rules.
    Orders {
        wanted: Option<Position>,
        renew: bool,
        report_now: bool,
    },
    /// The signed manifest that is in effect; told as soon as that is known.
    Held(Option<Position>),
    Done(Call),
    /// A report was taken, and the next one is wanted so much later, before jitter.
    Reported {
        next: Duration,
    },
    Failed(Call, Fault),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// None, or one that cannot be renewed any more.
    Missing,
    Fine,
    RenewalDue,
    /// Good for a renewal and nothing else.
    Ended,
    /// Another box's: nothing is said in its name.
    Foreign,
}

/// Why a call failed, as far as the next try depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It may work next time.
    Passing { retry_after: Option<Duration> },
    /// The step of the report did not fit. `again`: the next one begins elsewhere; if not,
    /// everything was sent, and it did not fit either.
    OutOfStep { again: bool },
    /// Somebody must do something first.
    Refused { retry_after: Option<Duration> },
}

/// Times of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub report_every: Duration,
    pub heartbeat_every: Duration,
}

/// The machine. One a box, owned by `task`.
#[derive(Debug)]
pub struct Schedule {
    pace: Pace,
    random: fastrand::Rng,
    certificate: Certificate,
    wanted: Option<Position>,
    held: Option<Position>,
    is_held_known: bool,
    /// Something changed while a report was under way.
    changed_meanwhile: bool,
    /// Something grew while a report was under way: when to tell.
    grown: Option<Instant>,
    enrol: Lane,
    renew: Lane,
    report: Lane,
    heartbeat: Lane,
    manifest: Lane,
}

/// One kind of call.
#[derive(Clone, Copy, Debug, Default)]
struct Lane {
    due: Option<Instant>,
    busy: bool,
    /// In a row.
    failures: u32,
    /// When the last one began, and the one before it.
    begun: Option<Instant>,
    before: Option<Instant>,
    /// `Retry-After`, which no wish overrules.
    not_before: Option<Instant>,
}

impl Schedule {
    /// Nothing is due before the first [`Input::Certificate`].
    pub fn new(pace: Pace, seed: u64) -> Self {
        Self {
            pace,
            random: fastrand::Rng::with_seed(seed),
            certificate: Certificate::Foreign,
            wanted: None,
            held: None,
            is_held_known: false,
            changed_meanwhile: false,
            grown: None,
            enrol: Lane::default(),
            renew: Lane::default(),
            report: Lane::default(),
            heartbeat: Lane::default(),
            manifest: Lane::default(),
        }
    }

    /// Moves by one input; the calls to make now, each to be answered by `Done`, `Reported` or
    /// `Failed`.
    pub fn step(&mut self, now: Instant, input: Input) -> Vec<Call> {
        match input {
            Input::Tick => {}
            Input::Certificate(certificate) => self.certificate(now, certificate),
            Input::Changed => self.changed(now),
            Input::Grew { spacing } => self.grew(now, spacing),
            Input::Orders {
                wanted,
                renew,
                report_now,
            } => self.orders(now, wanted, renew, report_now),
            Input::Held(held) => (self.held, self.is_held_known) = (held, true),
            Input::Done(call) => self.done(now, call),
            Input::Reported { next } => self.reported(now, next),
            Input::Failed(call, fault) => self.failed(now, call, fault),
        }
        self.want_manifest(now);
        self.begin_due(now)
    }

    /// When to send [`Input::Tick`]; `None` while every call that may be made is under way.
    pub fn deadline(&self) -> Option<Instant> {
        let open = Call::ALL.into_iter().filter(|call| self.may(*call));
        open.filter_map(|call| {
            let lane = self.lane(call);
            lane.due.filter(|_| !lane.busy)
        })
        .min()
    }

    fn certificate(&mut self, now: Instant, certificate: Certificate) {
        let before = std::mem::replace(&mut self.certificate, certificate);
        match certificate {
            Certificate::Missing if self.enrol.due.is_none() => {
                // A certificate that was issued and is ended all the same: a clock is wrong.
                let again = self.enrol.begun.map(|begun| begun + REFUSED_FIRST);
                self.enrol.due_by(again.map_or(now, |again| now.max(again)));
            }
            Certificate::Missing | Certificate::Fine | Certificate::Foreign => {}
            Certificate::RenewalDue => self.renew_within(now, self.pace.report_every),
            Certificate::Ended => self.renew_within(now, Duration::ZERO),
        }
        let spoke =
            |certificate| matches!(certificate, Certificate::Fine | Certificate::RenewalDue);
        if spoke(certificate) && !spoke(before) {
            self.report.due_by(now);
            // From here on every box has its own phase.
            let phase = self.drawn(self.pace.heartbeat_every);
            self.heartbeat.due_by(now + phase);
        }
    }

    fn changed(&mut self, now: Instant) {
        if self.report.busy {
            self.changed_meanwhile = true;
        } else if self.report.failures == 0 {
            self.loss_by(now + DEBOUNCE);
        }
        // After a failure the retry carries the change; hurrying it would undo the back-off.
    }

    fn grew(&mut self, now: Instant, spacing: Duration) {
        if self.report.failures == 0 {
            let soonest = self.report.begun.map(|begun| begun + spacing);
            let at = now + GROWTH_DELAY;
            let at = soonest.map_or(at, |soonest| at.max(soonest));
            if self.report.busy {
                self.grown = Some(at);
            } else {
                self.report.due_by(at);
            }
        }
    }

    fn orders(&mut self, now: Instant, wanted: Option<Position>, renew: bool, report_now: bool) {
        self.wanted = wanted;
        if renew {
            self.renew_within(now, RENEW_SPREAD);
        }
        // One that is under way is what was asked for.
        if report_now && !self.report.busy {
            self.report_by(now);
        }
    }

    fn done(&mut self, now: Instant, call: Call) {
        match call {
            Call::Report => self.reported(now, self.pace.report_every),
            // What came is not what was announced: asking again at once would bring the same.
            Call::Manifest if self.is_behind() => {
                self.failed(now, call, Fault::Passing { retry_after: None });
            }
            Call::Enrol | Call::Renew | Call::Manifest => self.lane_mut(call).succeeded(),
            Call::Heartbeat => {
                self.heartbeat.succeeded();
                let every = self.pace.heartbeat_every;
                let delay = timing::heartbeat_delay(every, self.random.f64());
                let begun = self.heartbeat.begun.unwrap_or(now);
                self.heartbeat.due = Some((begun + delay).max(now));
            }
        }
    }

    fn reported(&mut self, now: Instant, next: Duration) {
        let every = next.clamp(REPORT_EVERY_MIN, REPORT_EVERY_MAX);
        let delay = timing::report_delay(every, self.random.f64());
        self.report.succeeded();
        self.report.due = Some(now + delay);
        if let Some(at) = self.grown.take() {
            self.report_by(at.max(now));
        }
        if std::mem::take(&mut self.changed_meanwhile) {
            self.loss_by(now + DEBOUNCE);
        }
    }

    fn failed(&mut self, now: Instant, call: Call, fault: Fault) {
        let drawn = self.random.f64();
        let most = match call {
            Call::Report => self.pace.report_every,
            Call::Heartbeat => self.pace.heartbeat_every,
            Call::Enrol | Call::Renew | Call::Manifest => RETRY_MAX,
        };
        if call == Call::Report {
            // Whatever changed goes with the retry.
            self.changed_meanwhile = false;
            self.grown = None;
        }
        let lane = self.lane_mut(call);
        lane.busy = false;
        lane.failures = lane.failures.saturating_add(1);
        let after = fault.retry_after().map(|after| after.min(RETRY_AFTER_MAX));
        lane.not_before = after.map(|after| now + after);
        let retry = timing::retry_delay(most, lane.failures, after, drawn).max(RETRY_MIN);
        let delay = match fault {
            Fault::Passing { .. } => retry,
            Fault::OutOfStep { again: true } => Duration::ZERO,
            // That is no matter of steps.
            Fault::OutOfStep { again: false } => retry,
            Fault::Refused { .. } => {
                let doubled = REFUSED_FIRST.saturating_mul(1 << lane.failures.min(8)) / 2;
                let wait = doubled.min(REFUSED_MAX).mul_f64(0.5 + drawn / 2.0);
                wait.max(after.unwrap_or_default())
            }
        };
        lane.due = Some(now + delay);
    }

    /// A report at `at`, or as soon after it as spacing and `Retry-After` allow; sooner if it is
    /// due anyway.
    fn report_by(&mut self, at: Instant) {
        let spaced = self.report.begun.map(|begun| begun + REPORT_SPACING);
        self.report_from(at, spaced);
    }

    /// As [`Schedule::report_by`], for what was lost.
    fn loss_by(&mut self, at: Instant) {
        let last = self.report.begun.map(|begun| begun + LOSS_SPACING);
        let before = self.report.before.map(|begun| begun + REPORT_SPACING * 2);
        self.report_from(at, last.max(before));
    }

    fn report_from(&mut self, at: Instant, spaced: Option<Instant>) {
        let soonest = spaced.max(self.report.not_before);
        self.report
            .due_by(soonest.map_or(at, |soonest| at.max(soonest)));
    }

    fn renew_within(&mut self, now: Instant, spread: Duration) {
        if self.renew.busy || self.renew.due.is_some() {
            return;
        }
        let at = now + self.drawn(spread);
        let soonest = self.renew.begun.map(|begun| begun + RENEW_SPACING);
        self.renew.due = Some(soonest.map_or(at, |soonest| at.max(soonest)));
    }

    /// Not before the store has said what it holds: that would be fetched a second time.
    fn is_behind(&self) -> bool {
        self.is_held_known && self.wanted > self.held
    }

    fn want_manifest(&mut self, now: Instant) {
        if !self.is_behind() {
            self.manifest.due = None;
        } else if !self.manifest.busy && self.manifest.due.is_none() {
            // A box without any is of no use to anybody until it has one.
            let has_one = self.held.is_some();
            let wait = if has_one {
                self.drawn(MANIFEST_SPREAD)
            } else {
                Duration::ZERO
            };
            self.manifest.due = Some(now + wait);
        }
    }

    fn begin_due(&mut self, now: Instant) -> Vec<Call> {
        let mut calls = Vec::new();
        for call in Call::ALL {
            let may = self.may(call);
            let lane = self.lane_mut(call);
            if may && !lane.busy && lane.due.is_some_and(|due| due <= now) {
                lane.busy = true;
                lane.due = None;
                lane.before = lane.begun;
                lane.begun = Some(now);
                calls.push(call);
            }
        }
        calls
    }

    /// Does the certificate allow the call?
    fn may(&self, call: Call) -> bool {
        match (self.certificate, call) {
            (Certificate::Missing, Call::Enrol)
            | (Certificate::RenewalDue | Certificate::Ended, Call::Renew)
            | (
                Certificate::Fine | Certificate::RenewalDue,
                Call::Report | Call::Heartbeat | Call::Manifest,
            )
            // On the control plane's wish.
            | (Certificate::Fine, Call::Renew) => true,
            (Certificate::Missing, Call::Renew)
            | (
                Certificate::Missing | Certificate::Ended,
                Call::Report | Call::Heartbeat | Call::Manifest,
            )
            | (Certificate::Foreign, _)
            | (
                Certificate::Fine | Certificate::RenewalDue | Certificate::Ended,
                Call::Enrol,
            ) => false,
        }
    }

    /// Uniform over `spread`.
    fn drawn(&mut self, spread: Duration) -> Duration {
        spread.mul_f64(self.random.f64())
    }

    fn lane(&self, call: Call) -> &Lane {
        match call {
            Call::Enrol => &self.enrol,
            Call::Renew => &self.renew,
            Call::Report => &self.report,
            Call::Heartbeat => &self.heartbeat,
            Call::Manifest => &self.manifest,
        }
    }

    fn lane_mut(&mut self, call: Call) -> &mut Lane {
        match call {
            Call::Enrol => &mut self.enrol,
            Call::Renew => &mut self.renew,
            Call::Report => &mut self.report,
            Call::Heartbeat => &mut self.heartbeat,
            Call::Manifest => &mut self.manifest,
        }
    }
}

impl Fault {
    fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Passing { retry_after } | Self::Refused { retry_after } => retry_after,
            Self::OutOfStep { .. } => None,
        }
    }
}

impl Lane {
    fn succeeded(&mut self) {
        self.busy = false;
        self.failures = 0;
        self.not_before = None;
    }

    /// Due at `at`, or sooner if it is already.
    fn due_by(&mut self, at: Instant) {
        if !self.busy {
            self.due = Some(self.due.map_or(at, |due| due.min(at)));
        }
    }
}

impl Call {
    pub const ALL: [Self; 5] = [
        Self::Enrol,
        Self::Renew,
        Self::Heartbeat,
        Self::Report,
        Self::Manifest,
    ];

    /// For logs and for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enrol => "enrolment",
            Self::Renew => "renewal",
            Self::Report => "report",
            Self::Heartbeat => "heartbeat",
            Self::Manifest => "manifest",
        }
    }
}

#[cfg(test)]
mod tests;
