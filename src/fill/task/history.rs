//! The task's part of the history: notes of what happened, and the traffic around the fill.
//!
//! I/O: reads counters; keeps small state through the store, on blocking threads.

use super::Task;
use super::now;
use crate::clock::Instant;
use crate::fill::Class;
use crate::fill::Content;
use crate::fill::Note;
use crate::fill::traffic;
use crate::fill::traffic::Traffic;
use crate::link::message::SourceKind;
use jiff::civil::Date;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Counters are read no more often: thirty readings make a bucket.
const READ_EVERY: Duration = Duration::from_secs(10);

/// What the task keeps of the traffic.
#[derive(Debug, Default)]
pub(super) struct History {
    traffic: Traffic,
    read_at: Option<Instant>,
    keeping: Option<JoinHandle<()>>,
    /// The night that was planned, until somebody has said what it left.
    planned: Option<Date>,
}

impl History {
    /// Blocks.
    pub(super) fn load(content: &dyn Content) -> Self {
        Self {
            traffic: Traffic::restore(&content.kept(traffic::NAME)),
            ..Self::default()
        }
    }
}

impl Task {
    /// For the night under way, or the site's day.
    pub(super) fn note(&self, note: Note) {
        self.deps.ration.note(self.machine.date(now()), note);
    }

    /// The history of a night keeps its last plan, and of one that is over what was left: of that
    /// nothing comes any more, whatever the window would have had time for.
    pub(super) fn planned(&mut self) {
        let is_open = self.machine.is_open(Class::Night);
        let is_over = self.machine.standing.is_some_and(|now| now.open.is_none());
        let night = match is_open {
            true => Some(self.machine.date(now())),
            false => self.history.planned.filter(|_| is_over),
        };
        let Some(night) = night else {
            return;
        };
        let totals = &self.tally.totals;
        let (carried_over, carried_over_bytes) = match is_open {
            true => (totals.carried_objects, totals.carried_bytes),
            false => totals.left(),
        };
        let note = Note::Planned {
            wanted: totals.wanted_objects,
            wanted_bytes: totals.wanted_bytes,
            carried_over,
            carried_over_bytes,
            no_room: totals.homeless_objects,
        };
        self.deps.ration.note(night, note);
        // What the last transfers have brought shows when they have ended.
        let is_going_on = is_open || self.machine.is_busy(Class::Night);
        self.history.planned = is_going_on.then_some(night);
    }

    pub(super) fn received(&self, class: Class, kind: SourceKind, bytes: u64) {
        let standing = self.machine.standing;
        self.note(Note::Received {
            class,
            kind,
            bytes,
            inside: standing.is_some_and(|standing| standing.open.is_some()),
        });
    }

    /// Under a calendar that nobody vouches for nothing is measured: it has no date.
    pub(super) fn read_traffic(&mut self, at: Instant) {
        let is_due = |read: Instant| at.saturating_duration_since(read) >= READ_EVERY;
        let is_due = self.history.read_at.is_none_or(is_due);
        if !is_due || !self.machine.orders.clock_sane {
            return;
        }
        self.history.read_at = Some(at);
        let moment = now().moment;
        let granted = self.deps.ration.account(moment).granted;
        let counters = (self.deps.traffic)();
        let finished = self.history.traffic.step(moment.wall, counters, granted);
        let Some(egress) = finished else {
            return;
        };
        let p95 = self.history.traffic.percentile();
        self.note(Note::Traffic {
            egress,
            p95_bps: p95.of_all,
            p95_without_bps: p95.without_fill,
        });
        let before = self.history.keeping.as_ref();
        if before.is_none_or(JoinHandle::is_finished) {
            self.history.keeping = self.keep_traffic();
        }
    }

    /// A month that cannot be kept is a month that a restart forgets, and no more.
    fn keep_traffic(&self) -> Option<JoinHandle<()>> {
        let bytes = self.history.traffic.seal()?;
        let content = Arc::clone(&self.deps.content);
        Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = content.keep(traffic::NAME, &bytes) {
                tracing::warn!(%error, "the history of traffic cannot be kept");
            }
        }))
    }

    /// At the end of the task.
    pub(super) async fn keep_history(&mut self) {
        if let Some(keeping) = self.history.keeping.take() {
            let _ = keeping.await;
        }
        if let Some(keeping) = self.keep_traffic() {
            let _ = keeping.await;
        }
    }
}
