//! Drained or not: the operator's wish to take no new viewers, for good or for a time.
//!
//! Sans-IO: `appliance` steps it on a command or when [`Drain::deadline`] passes, saves the
//! [`Record`] it is handed (`drain_file`) and decides the gate anew.
//!
//! A drain for a time ends at its wall-clock end, so that it survives a restart, but never sooner
//! than the time has run on the monotonic clock of this process: a clock that is set right after
//! the drain began must not open a box that somebody works on.

use crate::clock::Instant;
use crate::clock::Wall;
use serde::Deserialize;
use serde::Serialize;
use std::time::Duration;

/// The wall clock may be set while we wait for an hour of it, so it is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// Longer drains are written without an end.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(366 * 24 * 3_600);

/// The machine. One a box, owned by `appliance`.
#[derive(Clone, Debug)]
pub struct Drain {
    record: Record,
    /// Not before this, whatever the wall clock says; known only in the life that set it.
    not_before: Option<Instant>,
}

/// What is kept on disk and shown to operators.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub drained: bool,
    /// When the state was entered; absent on a box that never was drained.
    pub since: Option<Wall>,
    /// When it ends by itself; absent when it does not.
    pub until: Option<Wall>,
    /// Why, when it was not an operator's command.
    pub note: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Drain for good, or for a time that starts at this moment; replaces an earlier drain.
    Drain {
        time: Option<Duration>,
    },
    Undrain,
    /// The deadline passed.
    Tick,
}

/// The state changed: save the record, decide the gate anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Save(Record),
}

impl Drain {
    /// Starts from what the last life left.
    pub fn new(record: Record) -> Self {
        Self {
            record,
            not_before: None,
        }
    }

    /// Moves by one input; `None` when nothing changed.
    pub fn step(&mut self, now: Instant, wall: Wall, input: Input) -> Option<Action> {
        match (self.record.drained, input) {
            (_, Input::Drain { time }) => {
                let time = time.map(|time| time.min(DRAIN_TIME_MAX));
                self.not_before = time.map(|time| now + time);
                self.record = Record {
                    drained: true,
                    since: Some(wall),
                    // An end beyond the calendar is no end.
                    until: time.and_then(|time| wall.checked_add(time).ok()),
                    note: None,
                };
            }
            (true, Input::Undrain) => self.open(wall),
            (true, Input::Tick) if self.has_ended(now, wall) => self.open(wall),
            (true, Input::Tick) | (false, Input::Undrain | Input::Tick) => return None,
        }
        Some(Action::Save(self.record.clone()))
    }

    /// When to send [`Input::Tick`]; `None` while nothing ends by itself.
    pub fn deadline(&self, now: Instant, wall: Wall) -> Option<Instant> {
        let until = self.record.until.filter(|_| self.record.drained)?;
        let left = Duration::try_from(until.duration_since(wall)).unwrap_or(Duration::ZERO);
        let by_wall = now + left.min(LOOK_EVERY);
        Some(
            self.not_before
                .map_or(by_wall, |soonest| by_wall.max(soonest)),
        )
    }

    pub fn is_drained(&self) -> bool {
        self.record.drained
    }

    pub fn view(&self) -> &Record {
        &self.record
    }

    fn has_ended(&self, now: Instant, wall: Wall) -> bool {
        self.record.until.is_some_and(|until| wall >= until)
            && self.not_before.is_none_or(|soonest| now >= soonest)
    }

    fn open(&mut self, wall: Wall) {
        self.not_before = None;
        self.record = Record {
            drained: false,
            since: Some(wall),
            until: None,
            note: None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn at(text: &str) -> Wall {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_for_a_time_ends_then_and_one_without_stays() {
        let (now, noon) = (clock::now(), at("2026-01-01T12:00:00Z"));
        let mut drain = Drain::new(Record::default());
        let started = drain.step(
            now,
            noon,
            Input::Drain {
                time: Some(3 * HOUR),
            },
        );
        let Some(Action::Save(record)) = started else {
            panic!("a drain must be saved");
        };
        assert_eq!(record.until, Some(at("2026-01-01T15:00:00Z")));
        assert_eq!(drain.deadline(now, noon), Some(now + 3 * HOUR));
        let early = (now + 2 * HOUR, noon + 2 * HOUR);
        assert_eq!(drain.step(early.0, early.1, Input::Tick), None);
        assert!(drain.is_drained());
        let end = (now + 3 * HOUR, noon + 3 * HOUR);
        assert!(drain.step(end.0, end.1, Input::Tick).is_some());
        assert!(!drain.is_drained());
        assert_eq!(drain.deadline(end.0, end.1), None);

        drain.step(now, noon, Input::Drain { time: None });
        assert_eq!(drain.deadline(now, noon), None);
        assert_eq!(
            drain.step(now + 9_000 * HOUR, noon + 9_000 * HOUR, Input::Tick),
            None
        );
        assert!(drain.step(now, noon, Input::Undrain).is_some());
        assert_eq!(drain.step(now, noon, Input::Undrain), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_wall_clock_end_holds_over_a_restart() {
        let (now, noon) = (clock::now(), at("2026-01-01T12:00:00Z"));
        let mut drain = Drain::new(Record::default());
        drain.step(
            now,
            noon,
            Input::Drain {
                time: Some(3 * HOUR),
            },
        );
        let mut restarted = Drain::new(drain.view().clone());
        assert!(restarted.is_drained());
        let later = noon + HOUR;
        assert_eq!(restarted.deadline(now, later), Some(now + LOOK_EVERY));
        assert_eq!(restarted.step(now, later, Input::Tick), None);
        assert!(restarted.step(now, noon + 3 * HOUR, Input::Tick).is_some());
        assert!(!restarted.is_drained());
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_set_forward_does_not_end_a_drain_early() {
        let now = clock::now();
        let mut drain = Drain::new(Record::default());
        drain.step(
            now,
            at("1970-01-01T00:01:00Z"),
            Input::Drain { time: Some(HOUR) },
        );
        let set_right = at("2026-01-01T12:00:00Z");
        assert_eq!(drain.step(now + LOOK_EVERY, set_right, Input::Tick), None);
        assert_eq!(
            drain.deadline(now + LOOK_EVERY, set_right),
            Some(now + HOUR)
        );
        assert!(
            drain
                .step(now + HOUR, set_right + HOUR, Input::Tick)
                .is_some()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_endless_time_is_bounded_and_the_end_of_the_calendar_is_no_end() {
        let now = clock::now();
        let mut drain = Drain::new(Record::default());
        drain.step(
            now,
            Wall::MAX,
            Input::Drain {
                time: Some(Duration::MAX),
            },
        );
        assert!(drain.is_drained());
        assert_eq!(drain.view().until, None);
        assert_eq!(drain.deadline(now, Wall::MAX), None);
    }
}
