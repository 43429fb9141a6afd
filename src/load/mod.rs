//! How hard viewers press on the box, and what that leaves to the fill.
//!
//! Whoever serves and whoever fills meet here and know nothing of each other. Once a second the
//! wiring takes [`Readings`] (how busy the busiest worker is, how long viewers wait for the slowest
//! disk, how full the line out is); [`Valve::step`] answers how far the fill may open:
//!
//! ```text
//! open ⇄ half ⇄ quarter ⇄ shut      tighter: a step at once, all the way where a reading stays at
//!                                   its limit; wider: a step after ten quiet seconds
//! ```
//! A reading between quiet and pressing changes nothing: without that gap the fill's own weight
//! would close the valve, and its absence open it, for ever; where it does so all the same, each
//! round takes twice as long. Sans-IO.

use crate::clock::Instant;
use serde::Serialize;
use std::time::Duration;

/// A worker is busy for this share of its time: responses begin to queue behind each other.
const BUSY_PRESSING: f64 = 0.70;
const BUSY_LIMIT: f64 = 0.90;

/// Viewers' cold reads take so many times what is usual for the disk's class.
const WAIT_PRESSING: f64 = 1.0;
const WAIT_LIMIT: f64 = 4.0;

/// Share of the line out that is used. What the fill receives has the other direction for itself,
/// but its acknowledgements and everybody's processor time it has not.
const EGRESS_PRESSING: f64 = 0.85;
const EGRESS_LIMIT: f64 = 0.95;

/// A reading below this part of what presses is quiet.
const QUIET_PART: f64 = 0.8;

/// Between two steps tighter: what the last one brought is seen only then.
const TIGHTER_EVERY: Duration = Duration::from_secs(2);

/// So long quiet before a step wider …
const WIDER_AFTER: Duration = Duration::from_secs(10);
/// … twice as long each time that such a step had to be taken back within this …
const TAKEN_BACK_WITHIN: Duration = Duration::from_secs(30);
/// … and no longer than this.
const WIDER_AFTER_MAX: Duration = Duration::from_secs(600);
/// More doublings would be longer still.
const DOUBLED_MAX: u32 = 6;

/// How far the fill may open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Opening {
    #[default]
    Open,
    Half,
    Quarter,
    Shut,
}

/// What viewers need at one moment. `None`: nothing was measured, which presses nobody.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Readings {
    /// Share of the last second that the busiest worker was busy.
    pub busy: Option<f64>,
    /// Mean wait of viewers for the slowest disk, as a multiple of what is usual, and its name.
    pub wait: Option<(f64, String)>,
    /// Share of the line out, of the network card that is fullest.
    pub egress: Option<f64>,
}

/// For `oca show fill`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct View {
    pub opening: Opening,
    /// Of the cap, what the fill may receive.
    pub percent: u32,
    /// Why it is not open.
    pub reason: Option<String>,
    /// Steps tighter since the start.
    pub eased: u64,
}

/// One box's. Owned by whoever takes the readings.
#[derive(Debug, Default)]
pub struct Valve {
    opening: Opening,
    reason: Option<String>,
    tightened: Option<Instant>,
    quiet_since: Option<Instant>,
    /// The last step wider, if none tighter came after it.
    widened: Option<Instant>,
    /// How often the wait before a step wider was doubled.
    doubled: u32,
    /// The last reading was at its limit: a single one may be a hiccup.
    was_at_limit: bool,
    eased: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Pressure {
    Quiet,
    Felt,
    Pressing,
    Limit,
}

impl Opening {
    /// Of the cap.
    pub fn percent(self) -> u32 {
        match self {
            Self::Open => 100,
            Self::Half => 50,
            Self::Quarter => 25,
            Self::Shut => 0,
        }
    }

    fn tighter(self) -> Self {
        match self {
            Self::Open => Self::Half,
            Self::Half => Self::Quarter,
            Self::Quarter | Self::Shut => Self::Shut,
        }
    }

    fn wider(self) -> Self {
        match self {
            Self::Open | Self::Half => Self::Open,
            Self::Quarter => Self::Half,
            Self::Shut => Self::Quarter,
        }
    }
}

impl Pressure {
    fn of(value: f64, pressing: f64, limit: f64) -> Self {
        if value >= limit {
            Self::Limit
        } else if value >= pressing {
            Self::Pressing
        } else if value >= pressing * QUIET_PART {
            Self::Felt
        } else {
            Self::Quiet
        }
    }
}

impl Readings {
    /// The worst of them, in words.
    fn worst(&self) -> (Pressure, String) {
        let busy = self.busy.map(|share| {
            let pressure = Pressure::of(share, BUSY_PRESSING, BUSY_LIMIT);
            (
                pressure,
                format!("a worker is busy {} % of its time", percent(share)),
            )
        });
        let wait = self.wait.as_ref().map(|(times, disk)| {
            let pressure = Pressure::of(*times, WAIT_PRESSING, WAIT_LIMIT);
            let reason = format!("viewers wait {times:.1} times the usual for disk {disk}");
            (pressure, reason)
        });
        let egress = self.egress.map(|share| {
            let pressure = Pressure::of(share, EGRESS_PRESSING, EGRESS_LIMIT);
            (
                pressure,
                format!("viewers use {} % of the line", percent(share)),
            )
        });
        let all = [busy, wait, egress].into_iter().flatten();
        all.max_by_key(|(pressure, _)| *pressure)
            .unwrap_or((Pressure::Quiet, String::new()))
    }
}

impl Valve {
    /// Takes one look; tells the opening, if it is another one.
    pub fn step(&mut self, now: Instant, readings: &Readings) -> Option<Opening> {
        let (pressure, reason) = readings.worst();
        let before = self.opening;
        match pressure {
            Pressure::Limit if self.was_at_limit => self.tighten(now, Opening::Shut, reason),
            Pressure::Limit | Pressure::Pressing => {
                let is_due = |at: Instant| now.saturating_duration_since(at) >= TIGHTER_EVERY;
                if self.tightened.is_none_or(is_due) {
                    self.tighten(now, self.opening.tighter(), reason);
                }
                self.quiet_since = None;
            }
            Pressure::Felt if self.opening != Opening::Shut => self.quiet_since = None,
            // Shut, the fill weighs nothing: this is what viewers need, and it is bearable.
            Pressure::Felt | Pressure::Quiet => self.widen(now),
        }
        self.was_at_limit = pressure == Pressure::Limit;
        if self.opening == Opening::Open {
            self.reason = None;
        }
        (self.opening != before).then_some(self.opening)
    }

    pub fn view(&self) -> View {
        View {
            opening: self.opening,
            percent: self.opening.percent(),
            reason: self.reason.clone(),
            eased: self.eased,
        }
    }

    /// Quiet: a step wider, once that has lasted.
    fn widen(&mut self, now: Instant) {
        let since = *self.quiet_since.get_or_insert(now);
        let wait = (WIDER_AFTER * 2_u32.saturating_pow(self.doubled)).min(WIDER_AFTER_MAX);
        if now.saturating_duration_since(since) < wait {
            return;
        }
        self.quiet_since = Some(now);
        if self.opening == Opening::Open {
            // So long open, and nobody was pressed.
            self.doubled = 0;
        } else {
            self.opening = self.opening.wider();
            self.widened = Some(now);
        }
    }

    fn tighten(&mut self, now: Instant, to: Opening, reason: String) {
        self.quiet_since = None;
        self.tightened = Some(now);
        let widened = self.widened.take();
        let is_late = |at| now.saturating_duration_since(at) > TAKEN_BACK_WITHIN;
        if widened.is_some_and(|at| !is_late(at)) {
            // What the fill itself weighs pressed the viewers: it would again.
            self.doubled = self.doubled.saturating_add(1).min(DOUBLED_MAX);
        }
        if to > self.opening {
            self.eased += 1;
            self.opening = to;
            self.reason = Some(reason);
        }
    }
}

/// For words: whole percent, none below nothing.
fn percent(share: f64) -> String {
    format!("{:.0}", share.max(0.0) * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const SECOND: Duration = Duration::from_secs(1);

    fn busy(share: f64) -> Readings {
        Readings {
            busy: Some(share),
            ..Readings::default()
        }
    }

    /// A second each; the openings entered, with the second.
    fn run(valve: &mut Valve, from: u32, readings: &[Readings]) -> Vec<(u32, Opening)> {
        let start = clock::now();
        let seconds = (from..).zip(readings);
        seconds
            .filter_map(|(s, reading)| Some((s, valve.step(start + SECOND * s, reading)?)))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn pressure_tightens_step_by_step_and_quiet_opens_more_slowly() {
        let mut valve = Valve::default();
        let mut day = vec![busy(0.3); 5];
        day.extend(vec![busy(0.75); 6]);
        day.extend(vec![busy(0.1); 40]);
        let entered = run(&mut valve, 0, &day);
        let wanted = [
            (5, Opening::Half),
            (7, Opening::Quarter),
            (9, Opening::Shut),
            (21, Opening::Quarter),
            (31, Opening::Half),
            (41, Opening::Open),
        ];
        assert_eq!(entered, wanted);
        assert_eq!(valve.view().reason, None);
        assert_eq!(valve.view().eased, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn readings_at_their_limit_shut_within_two_looks_and_say_why() {
        for (readings, word) in [
            (busy(0.95), "a worker is busy 95 %"),
            (
                Readings {
                    wait: Some((5.0, "/srv/oca/disk3".into())),
                    ..busy(0.75)
                },
                "5.0 times the usual for disk /srv/oca/disk3",
            ),
            (
                Readings {
                    egress: Some(0.97),
                    ..Readings::default()
                },
                "97 % of the line",
            ),
        ] {
            let mut valve = Valve::default();
            let entered = run(&mut valve, 0, &[readings.clone(), readings]);
            assert_eq!(entered, [(0, Opening::Half), (1, Opening::Shut)]);
            let reason = valve.view().reason.unwrap();
            assert!(reason.contains(word), "{reason}");
            assert_eq!(valve.view().percent, 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn between_quiet_and_pressing_nothing_moves_either_way() {
        let mut valve = Valve::default();
        assert_eq!(run(&mut valve, 0, &vec![busy(0.69); 100]), []);
        assert_eq!(run(&mut valve, 100, &[busy(0.7)]).len(), 1);
        assert_eq!(run(&mut valve, 101, &vec![busy(0.6); 100]), []);
        assert_eq!(run(&mut valve, 201, &vec![busy(0.5); 10]), []);
        let entered = run(&mut valve, 211, &[busy(0.5)]);
        assert_eq!(entered, [(211, Opening::Open)]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_fill_itself_costs_never_makes_it_swing() {
        let mut valve = Valve::default();
        let start = clock::now();
        let mut changes = 0;
        // Viewers take 45 %, and the fill 30 % more when it is open.
        for second in 0..600 {
            let share = 0.45 + 0.30 * f64::from(valve.view().percent) / 100.0;
            let now = start + SECOND * second;
            changes += usize::from(valve.step(now, &busy(share)).is_some());
        }
        assert_eq!(changes, 1, "half open, and there it stays");
        assert_eq!(valve.view().opening, Opening::Half);
    }

    /// Openings entered in ten minutes in which viewers take `viewers` and an open fill `fill`.
    fn swings(valve: &mut Valve, viewers: f64, fill: f64) -> usize {
        let start = clock::now();
        let step = |second| {
            let share = viewers + fill * f64::from(valve.view().percent) / 100.0;
            valve.step(start + SECOND * second, &busy(share))
        };
        (0..600).filter_map(step).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_fill_that_presses_whenever_it_is_open_is_opened_more_and_more_seldom() {
        let mut valve = Valve::default();
        let changes = swings(&mut valve, 0.30, 0.45);
        assert!((4..=14).contains(&changes), "{changes} changes");
        // Nobody fills any more: the wait is as it was, once it was quiet for long.
        tokio::time::advance(SECOND * 600).await;
        let quiet = vec![busy(0.1); 1300];
        run(&mut valve, 0, &quiet);
        assert_eq!(valve.view().opening, Opening::Open);
        tokio::time::advance(SECOND * 1300).await;
        let day = [vec![busy(0.75)], vec![busy(0.1); 12]].concat();
        let entered = run(&mut valve, 0, &day);
        assert_eq!(entered, [(0, Opening::Half), (11, Opening::Open)]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_viewers_alone_take_does_not_keep_the_valve_shut() {
        let mut valve = Valve::default();
        run(&mut valve, 0, &[busy(0.95), busy(0.95)]);
        assert_eq!(valve.view().opening, Opening::Shut);
        let entered = run(&mut valve, 2, &vec![busy(0.57); 60]);
        assert_eq!(entered, [(12, Opening::Quarter)]);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_measured_presses_nobody() {
        let mut valve = Valve::default();
        assert_eq!(run(&mut valve, 0, &vec![Readings::default(); 10]), []);
    }
}
