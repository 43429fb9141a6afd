//! The fill as others see it: `oca show fill`, status, metrics and reports.
//!
//! `task` builds a [`View`] at most once a second and after every change of state.

use super::Account;
use super::Class;
use super::Night;
use super::NightView;
use crate::link::message::FillProgress;
use crate::link::message::ReceivedBytes;
use crate::link::message::SourceKind;
use crate::object::Digest;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;

/// The fill at one moment. Rates are in bits a second, as people write them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct View {
    pub window: WindowView,
    pub paused: bool,
    /// In words, why nothing is received; none while something is.
    pub reason: Option<String>,
    /// What went wrong last: an answer, a disk, a deletion.
    pub problem: Option<String>,
    pub cap_bps: u64,
    pub rate_bps: u64,
    /// Of this night and its day, or the last one, as the cap counts.
    pub bytes: ReceivedBytes,
    /// In this window, or the last one when it is shut.
    pub window_bytes: u64,
    pub night_left_bytes: u64,
    pub urgent_left_bytes: u64,
    /// Objects that the manifest lists and no disk holds.
    pub wanted: u64,
    pub wanted_bytes: u64,
    /// Objects finished since the window opened.
    pub done: u64,
    pub done_bytes: u64,
    /// Objects that this window, or the next one when it is shut, will not finish.
    pub carried_over: u64,
    pub carried_over_bytes: u64,
    /// The best rank among them.
    pub carried_over_from_rank: Option<u32>,
    /// Objects that no disk has room for.
    pub no_room: u64,
    pub no_room_bytes: u64,
    /// Announced for deletion and still served.
    pub leaving: u64,
    pub leaving_bytes: u64,
    /// Deleted since the start.
    pub deleted: u64,
    pub deleted_bytes: u64,
    pub transfers: Vec<TransferView>,
    /// Transfers since the start, by how they ended.
    pub ended: BTreeMap<&'static str, u64>,
    /// Since the start, as the cap counts.
    pub received: Vec<ReceivedView>,
    /// Of objects, since the start: came and were wrong, or came twice.
    pub wasted_bytes: u64,
    /// Sources that sent wrong bytes and are left alone.
    pub quarantined: Vec<String>,
    pub nights: Vec<NightView>,
    /// The sum of all nights; the highest of what is no sum.
    pub nights_total: NightView,
    /// Other boxes may fetch from this one.
    pub gives: bool,
    pub prefill: PrefillView,
}

/// The fill without window and cap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PrefillView {
    /// The control plane has the box as *prefilling*.
    pub allowed: bool,
    pub running: bool,
    /// How often one ended with all there, since the start.
    pub completed: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WindowView {
    pub open: bool,
    /// RFC 3339: of this window, or of the next one when it is shut.
    pub opens: Option<String>,
    pub closes: Option<String>,
    /// `HH:MM` by the site's wall clock.
    pub start: String,
    pub timezone: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TransferView {
    pub digest: Digest,
    pub rank: u32,
    pub class: Class,
    pub source: String,
    /// Asked beside it, or held ready.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<String>,
    pub kind: SourceKind,
    pub bytes: u64,
    /// Of these, on disk before it began, and received since.
    pub bytes_done: u64,
    pub seconds: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ReceivedView {
    pub class: Class,
    pub source: SourceKind,
    pub bytes: u64,
}

impl View {
    /// For the admin room.
    pub fn value(&self) -> Value {
        json!(self)
    }

    /// For reports.
    pub fn progress(&self) -> FillProgress {
        FillProgress {
            window_open: self.window.open,
            paused: self.paused,
            wanted_objects: self.wanted,
            wanted_bytes: self.wanted_bytes,
            carried_over_bytes: self.carried_over_bytes,
            received: self.bytes,
            leaving_objects: self.leaving,
            leaving_bytes: self.leaving_bytes,
            gives: self.gives,
        }
    }

    pub(super) fn take_account(&mut self, account: Account) {
        self.cap_bps = account.cap.0.saturating_mul(8);
        self.rate_bps = account.rate.0.saturating_mul(8);
        let last = NightView::last(&account.nights).map(|shown| shown.night);
        let last = last.unwrap_or_default();
        self.bytes = last.bytes;
        self.window_bytes = last.bytes.total().saturating_sub(last.urgent_bytes);
        self.night_left_bytes = account.night_left;
        self.urgent_left_bytes = account.urgent_left;
        self.nights_total = NightView::total(&account.nights);
        self.nights = account.nights;
    }
}

impl NightView {
    /// Dated from the first to the last.
    fn total(nights: &[Self]) -> Self {
        let mut all = Night::default();
        for night in nights {
            all.add(&night.night);
        }
        let date = match (nights.last(), nights.first()) {
            (Some(first), Some(last)) => format!("{}/{}", first.date, last.date),
            (_, _) => String::new(),
        };
        Self::new(date, all)
    }

    /// The one under way, or the last: a day begins before its window does.
    pub(super) fn last(nights: &[Self]) -> Option<&Self> {
        let opened = nights.iter().find(|shown| shown.night.opened);
        opened.or(nights.first())
    }

    pub(super) fn new(date: String, night: Night) -> Self {
        let received = night.bytes.total();
        // Of no use beyond some digits.
        let ratio = (received > 0).then(|| night.egress_bytes as f64 / received as f64);
        Self {
            date,
            night,
            egress_per_fill: ratio,
        }
    }
}

/// The word for a source's kind, in labels.
pub(super) fn kind_name(kind: SourceKind) -> &'static str {
    match kind {
        SourceKind::Peer => "peer",
        SourceKind::Tier => "tier",
        SourceKind::Network => "network",
        SourceKind::Origin => "origin",
    }
}

pub(super) fn class_name(class: Class) -> &'static str {
    match class {
        Class::Night => "night",
        Class::Urgent => "urgent",
    }
}
