//! What became of each night: 90 days of it, kept with the ledger.
//!
//! [`super::pace::Pace::tally`] adds to it, `oca show fill` and reports read it. It decides
//! nothing.

use crate::link::message::ReceivedBytes;
use crate::link::message::SourceKind;
use jiff::civil::Date;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;

/// Nights that are kept: a quarter, as long as a provider asks back.
pub(super) const NIGHTS_MAX: usize = 90;

const KINDS: [SourceKind; 4] = [
    SourceKind::Peer,
    SourceKind::Tier,
    SourceKind::Network,
    SourceKind::Origin,
];

/// By the date on which the window opens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nights(BTreeMap<Date, Night>);

/// One night and its day. A history that was written by an older release lacks some figures: they
/// are nothing then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Night {
    /// A plan was made in its window, or something came. A day without has its traffic alone.
    pub opened: bool,
    /// Bytes on the wire by the kind of source, urgent ones included. Kept as reports tell it.
    pub bytes: ReceivedBytes,
    /// Of these, urgent.
    pub urgent_bytes: u64,
    /// Of these, while the window was shut: urgent, or without window and cap.
    pub outside_bytes: u64,
    /// Objects that were completed.
    pub done: u64,
    /// Their bytes.
    pub done_bytes: u64,
    /// Objects that were wanted when the window opened, or came to be wanted in it.
    pub wanted: u64,
    /// Bytes that they lacked.
    pub wanted_bytes: u64,
    /// Objects that were left when it closed; while it is open, those that the plan leaves.
    pub carried_over: u64,
    /// Their bytes.
    pub carried_over_bytes: u64,
    /// Objects that no disk had room for.
    pub no_room: u64,
    /// Transfers that ended without their object, by reason.
    pub refused: Refused,
    /// The most of any second.
    pub highest_second_bps: u64,
    /// Given to viewers and to other boxes on that day.
    pub egress_bytes: u64,
    /// The 95th percentile of the 30 days to the end of this one, of all that came in.
    pub inbound_p95_bps: u64,
    /// The same without the fill.
    pub inbound_p95_without_fill_bps: u64,
}

/// Why transfers ended without their object. Those that were stopped by the box itself are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Refused {
    pub not_found: u64,
    /// A source that had not begun to give.
    pub not_yet: u64,
    pub busy: u64,
    pub refused: u64,
    pub wrong_bytes: u64,
    pub changed: u64,
    pub slow: u64,
    pub broken: u64,
    pub disk: u64,
}

impl Night {
    /// Sums, and the highest of what is no sum.
    pub(super) fn add(&mut self, other: &Self) {
        self.opened |= other.opened;
        let (own, others) = (&mut self.bytes, &other.bytes);
        for kind in KINDS {
            own.add(kind, others.of(kind));
        }
        for (sum, count) in self.sums_mut().into_iter().zip(other.clone_sums()) {
            *sum = sum.saturating_add(count);
        }
        let refused = other.refused.words();
        for ((_, sum), (_, count)) in self.refused.words_mut().into_iter().zip(refused) {
            *sum = sum.saturating_add(count);
        }
        let highest = |own: &mut u64, other: u64| *own = (*own).max(other);
        highest(&mut self.highest_second_bps, other.highest_second_bps);
        highest(&mut self.inbound_p95_bps, other.inbound_p95_bps);
        let without = other.inbound_p95_without_fill_bps;
        highest(&mut self.inbound_p95_without_fill_bps, without);
    }

    fn sums_mut(&mut self) -> [&mut u64; 10] {
        [
            &mut self.urgent_bytes,
            &mut self.outside_bytes,
            &mut self.done,
            &mut self.done_bytes,
            &mut self.wanted,
            &mut self.wanted_bytes,
            &mut self.carried_over,
            &mut self.carried_over_bytes,
            &mut self.no_room,
            &mut self.egress_bytes,
        ]
    }

    fn clone_sums(mut self) -> [u64; 10] {
        self.sums_mut().map(|sum| *sum)
    }
}

impl Refused {
    /// By the word that `oca show fill` has for it; what ended well or was stopped is none.
    pub(super) fn count(&mut self, word: &str) {
        let counted = self
            .words_mut()
            .into_iter()
            .find(|(known, _)| *known == word);
        if let Some((_, count)) = counted {
            *count += 1;
        }
    }

    /// For metrics.
    pub(super) fn words(mut self) -> [(&'static str, u64); 9] {
        self.words_mut().map(|(word, count)| (word, *count))
    }

    fn words_mut(&mut self) -> [(&'static str, &mut u64); 9] {
        [
            ("not-found", &mut self.not_found),
            ("not-yet", &mut self.not_yet),
            ("busy", &mut self.busy),
            ("refused", &mut self.refused),
            ("wrong-bytes", &mut self.wrong_bytes),
            ("changed", &mut self.changed),
            ("slow", &mut self.slow),
            ("broken", &mut self.broken),
            ("disk", &mut self.disk),
        ]
    }
}

impl Nights {
    pub fn get(&self, date: Date) -> Option<&Night> {
        self.0.get(&date)
    }

    /// The latest first.
    pub fn latest_first(&self) -> impl Iterator<Item = (Date, &Night)> {
        self.0.iter().rev().map(|(date, night)| (*date, night))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The night of this date; the oldest is forgotten for it.
    pub(super) fn entry(&mut self, date: Date) -> &mut Night {
        if !self.0.contains_key(&date) && self.0.len() >= NIGHTS_MAX {
            self.0.pop_first();
        }
        self.0.entry(date).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_that_brought_nothing_is_counted_under_its_word_and_no_other() {
        let mut refused = Refused::default();
        let words = refused.words();
        for (word, _) in words {
            refused.count(word);
        }
        refused.count("done");
        refused.count("stopped");
        assert!(
            refused.words().iter().all(|(_, count)| *count == 1),
            "{refused:?}"
        );
        let told = serde_json::to_value(refused).unwrap();
        for (word, _) in words {
            assert_eq!(told[word], 1, "{word}");
        }
    }

    #[test]
    fn all_nights_are_summed_and_a_rate_is_the_highest() {
        let mut night = Night {
            urgent_bytes: 3,
            egress_bytes: 50,
            highest_second_bps: 7,
            ..Night::default()
        };
        night.bytes.add(SourceKind::Network, 10);
        night.refused.busy = 2;
        let mut all = Night::default();
        all.add(&night);
        all.add(&Night {
            highest_second_bps: 5,
            ..night
        });
        assert_eq!((all.urgent_bytes, all.egress_bytes), (6, 100));
        assert_eq!((all.bytes.network, all.bytes.total()), (20, 20));
        assert_eq!((all.refused.busy, all.highest_second_bps), (4, 7));
    }

    #[test]
    fn a_night_of_an_older_release_is_read_with_what_it_has() {
        let text = r#"{"2026-03-02":{"bytes":{"peer":1,"tier":2,"network":3,"origin":4},
            "urgent_bytes":5,"done":6,"wanted":7,"carried_over":8,"carried_over_bytes":9}}"#;
        let nights: Nights = serde_json::from_str(text).unwrap();
        let night = nights.get(Date::constant(2026, 3, 2)).unwrap();
        assert_eq!((night.bytes.total(), night.carried_over_bytes), (10, 9));
        assert_eq!((night.egress_bytes, night.refused), (0, Refused::default()));
    }
}
