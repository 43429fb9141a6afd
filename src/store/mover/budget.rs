//! How many bytes a night's moves have written, restarts included.
//!
//! What is about to be written is kept first, and a little more, so that not every object costs a
//! flush of the system disk: after a crash all that was kept counts as written. Pure; `arranging`
//! reads and writes the file.

use crate::object::Digest;
use jiff::ToSpan;
use jiff::civil::Date;
use serde_json::Value;
use serde_json::json;

/// Kept ahead, as a part of a night's budget.
const AHEAD_PARTS: u64 = 256;

/// A record has some 120 bytes.
pub(super) const RECORD_BYTES_MAX: u64 = 4096;

const CHECKSUM_DIGITS: usize = 64;

/// A calendar that is further back was wrong before.
const SETTLED_DAYS: i64 = 2;

/// Of one night.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Budget {
    night: Option<Date>,
    used: u64,
    /// What the file says.
    kept: u64,
    /// The file could not be believed: the night under way has nothing left.
    in_doubt: bool,
}

/// May so much be written?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Yes,
    /// Once [`Budget::record`] is durable.
    Keep,
    No,
}

impl Budget {
    /// What the last life left. `None`: there is no file.
    pub(super) fn read(bytes: Option<&[u8]>) -> Self {
        let Some(bytes) = bytes else {
            return Self::default();
        };
        match decode(bytes) {
            Some((night, kept)) => Self {
                night: Some(night),
                used: kept,
                kept,
                in_doubt: false,
            },
            None => Self {
                in_doubt: true,
                ..Self::default()
            },
        }
    }

    pub(super) fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// It is this night. True if that is another one than before, and [`Budget::record`] is to be
    /// kept. Windows and clocks that are corrected open no night twice: one that is over by a day
    /// or two goes on with the last one's budget.
    pub(super) fn begin(&mut self, night: Date) -> bool {
        let is_over = |last: Date| {
            let end = last.saturating_sub(SETTLED_DAYS.days());
            night <= last && night >= end
        };
        if self.night.is_some_and(is_over) {
            return false;
        }
        let used = if self.in_doubt { u64::MAX } else { 0 };
        *self = Self {
            night: Some(night),
            used,
            kept: used,
            in_doubt: false,
        };
        true
    }

    /// Counts `bytes` as written, if there is so much left of `limit`.
    pub(super) fn take(&mut self, bytes: u64, limit: u64) -> Answer {
        let used = self.used.saturating_add(bytes);
        if used > limit && bytes > 0 {
            return Answer::No;
        }
        self.used = used;
        if used <= self.kept {
            return Answer::Yes;
        }
        self.kept = used.saturating_add(limit / AHEAD_PARTS).min(limit);
        Answer::Keep
    }

    /// Of what was taken last, this was not written.
    pub(super) fn give_back(&mut self, bytes: u64) {
        self.used = self.used.saturating_sub(bytes);
    }

    /// What was taken could not be kept, and is not written.
    pub(super) fn not_kept(&mut self, bytes: u64) {
        self.give_back(bytes);
        self.kept = self.used;
    }

    /// A line of JSON, and one with its BLAKE3.
    pub(super) fn record(&self) -> String {
        let night = self.night.map(|night| night.to_string());
        let line = json!({ "v": 1, "night": night, "bytes": self.kept }).to_string();
        let checksum = Digest::of(line.as_bytes());
        format!("{line}\n{checksum}\n")
    }
}

fn decode(bytes: &[u8]) -> Option<(Date, u64)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (line, checksum) = text.strip_suffix('\n')?.split_once('\n')?;
    let is_whole =
        checksum.len() == CHECKSUM_DIGITS && Digest::of(line.as_bytes()).to_string() == checksum;
    let record: Value = serde_json::from_str(line).ok().filter(|_| is_whole)?;
    if record["v"].as_u64() != Some(1) {
        return None;
    }
    let night = record["night"].as_str()?.parse().ok()?;
    Some((night, record["bytes"].as_u64()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;
    use proptest::prelude::*;

    const LIMIT: u64 = 25_600;

    fn tonight() -> Date {
        date(2026, 11, 22)
    }

    fn begun() -> Budget {
        let mut budget = Budget::read(None);
        assert!(budget.begin(tonight()) && !budget.begin(tonight()));
        budget
    }

    fn restarted(budget: &Budget) -> Budget {
        Budget::read(Some(budget.record().as_bytes()))
    }

    #[test]
    fn a_night_has_one_budget_and_the_next_one_its_own() {
        let mut budget = begun();
        assert_eq!(budget.take(LIMIT - 5, LIMIT), Answer::Keep);
        assert_eq!(budget.take(6, LIMIT), Answer::No);
        // Kept ahead already.
        assert_eq!(budget.take(5, LIMIT), Answer::Yes);
        assert_eq!((budget.take(1, LIMIT), budget.used()), (Answer::No, LIMIT));
        budget.give_back(3);
        assert_eq!(budget.take(3, LIMIT), Answer::Yes);
        assert!(budget.begin(date(2026, 11, 23)));
        assert_eq!(budget.take(LIMIT, LIMIT), Answer::Keep);
        // What writes nothing is free, and a budget of nothing lets nothing else.
        assert_eq!(budget.take(0, LIMIT), Answer::Yes);
        assert_eq!(begun().take(1, 0), Answer::No);
    }

    #[test]
    fn a_window_that_is_corrected_to_and_fro_has_one_budget_and_a_wrong_calendar_costs_none() {
        let mut budget = begun();
        assert_eq!(budget.take(LIMIT, LIMIT), Answer::Keep);
        assert!(budget.begin(date(2026, 11, 23)));
        assert_eq!(budget.take(LIMIT, LIMIT), Answer::Keep);
        for day in [22, 23, 21, 22, 23] {
            assert!(!budget.begin(date(2026, 11, day)), "{day}");
            assert_eq!(budget.take(1, LIMIT), Answer::No, "{day}");
        }
        assert!(budget.begin(date(2096, 1, 1)));
        assert_eq!(budget.take(LIMIT, LIMIT), Answer::Keep);
        assert!(budget.begin(date(2026, 11, 24)));
        assert_eq!(budget.take(LIMIT, LIMIT), Answer::Keep);
    }

    #[test]
    fn a_doubt_is_over_with_the_night_restarts_included() {
        let mut budget = Budget::read(Some(b"?"));
        assert!(budget.begin(tonight()));
        let mut again = restarted(&budget);
        assert!(!again.is_in_doubt() && !again.begin(tonight()));
        assert_eq!(again.take(1, LIMIT), Answer::No);
        assert!(again.begin(date(2026, 11, 23)));
        assert_eq!(again.take(1, LIMIT), Answer::Keep);
    }

    #[test]
    fn a_restart_goes_on_with_what_was_kept_and_a_broken_record_leaves_nothing() {
        let mut budget = begun();
        assert_eq!(budget.take(1000, LIMIT), Answer::Keep);
        let mut again = restarted(&budget);
        assert!(!again.begin(tonight()));
        assert_eq!(again.used(), 1000 + LIMIT / AHEAD_PARTS);
        let mut next = restarted(&budget);
        assert!(next.begin(date(2026, 11, 23)));
        assert_eq!(next.used(), 0);
        let record = budget.record();
        for at in 0..record.len() {
            let mut broken = record.clone().into_bytes();
            broken[at] ^= 1;
            let mut budget = Budget::read(Some(&broken));
            assert!(budget.is_in_doubt(), "{at}");
            assert!(budget.begin(tonight()));
            assert_eq!(budget.take(1, LIMIT), Answer::No, "{at}");
            assert!(budget.begin(date(2026, 11, 23)));
            assert_eq!(budget.take(1, LIMIT), Answer::Keep);
        }
        assert!(Budget::read(Some(&record.as_bytes()[..record.len() - 1])).is_in_doubt());
    }

    proptest! {
        /// However often the process is killed: no more is written than a night's budget.
        #[test]
        fn what_is_written_never_exceeds_the_budget(
            wishes in prop::collection::vec((1_u64..9000, prop::bool::ANY, prop::bool::ANY), 0..60),
        ) {
            let (mut budget, mut file, mut written) = (begun(), None::<String>, 0);
            for (bytes, was_written, is_killed) in wishes {
                match budget.take(bytes, LIMIT) {
                    Answer::No => continue,
                    Answer::Keep => file = Some(budget.record()),
                    Answer::Yes => {}
                }
                if was_written {
                    written += bytes;
                } else {
                    budget.give_back(bytes);
                }
                if is_killed {
                    budget = Budget::read(file.as_ref().map(String::as_bytes));
                    budget.begin(tonight());
                }
                prop_assert!(written <= budget.used() && budget.used() <= LIMIT);
            }
        }
    }
}
