//! What became of each night: 90 days of it, kept with the ledger.
//!
//! [`super::pace::Pace::tally`] adds to it, `oca show fill` and reports read it. It decides
//! nothing.

use crate::link::message::ReceivedBytes;
use jiff::civil::Date;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;

/// Nights that are kept: a quarter, as long as a provider asks back.
pub(super) const NIGHTS_MAX: usize = 90;

/// By the date on which the window opens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nights(BTreeMap<Date, Night>);

/// One night, or the urgent work of one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Night {
    /// Bytes on the wire by the kind of source, urgent ones included. Kept as reports tell it.
    pub bytes: ReceivedBytes,
    /// Of these, urgent.
    pub urgent_bytes: u64,
    /// Objects that were completed.
    pub done: u64,
    /// Objects that were wanted when the window opened, or came to be wanted in it.
    pub wanted: u64,
    /// Objects that were left when it closed.
    pub carried_over: u64,
    /// Their bytes.
    pub carried_over_bytes: u64,
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
