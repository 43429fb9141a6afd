//! What the task shows: the view of this moment, and why nothing moves.

use super::Task;
use crate::clock;
use crate::clock::Instant;
use crate::fill::Class;
use crate::fill::Fault;
use crate::fill::Moment;
use crate::fill::PrefillView;
use crate::fill::View;
use crate::fill::WindowView;
use crate::fill::machine::Machine;
use crate::fill::machine::Now;
use crate::fill::view::ReceivedView;
use jiff::civil::Date;
use std::sync::Arc;

impl Task {
    /// Tells everybody how it stands.
    pub(super) fn show(&self, at: Instant) {
        let (wall, boot) = (clock::wall(), clock::boot());
        let now = Now {
            at,
            moment: Moment { wall, boot },
        };
        let (machine, tally) = (&self.machine, &self.tally);
        let totals = &tally.totals;
        let transfers = self.transfers.views(at);
        let reason = if transfers.is_empty() {
            self.reason(now)
        } else {
            None
        };
        let received = tally
            .received
            .iter()
            .map(|((class, source), bytes)| ReceivedView {
                class: *class,
                source: *source,
                bytes: *bytes,
            });
        let mut view = View {
            window: machine.shown_window(),
            paused: machine.paused,
            reason,
            problem: machine.problem.clone(),
            wanted: totals.wanted_objects,
            wanted_bytes: totals.wanted_bytes,
            done: tally.done.0,
            done_bytes: tally.done.1,
            carried_over: totals.carried_objects,
            carried_over_bytes: totals.carried_bytes,
            carried_over_from_rank: totals.carried_from_rank,
            no_room: totals.homeless_objects,
            no_room_bytes: totals.homeless_bytes,
            leaving: tally.leaving.0,
            leaving_bytes: tally.leaving.1,
            deleted: tally.deleted.0,
            deleted_bytes: tally.deleted.1,
            transfers,
            ended: tally.ended.clone(),
            received: received.collect(),
            wasted_bytes: tally.wasted,
            quarantined: machine.quarantined(at),
            gives: self.deps.gives,
            prefill: PrefillView {
                allowed: machine.orders.prefilling,
                running: machine.prefill,
                completed: tally.prefilled,
            },
            ..View::default()
        };
        view.take_account(self.deps.ration.account(now.moment));
        let view = Arc::new(view);
        self.shown.send_if_modified(|shown| {
            let is_another = *shown != view;
            *shown = view;
            is_another
        });
    }

    fn reason(&self, now: Now) -> Option<String> {
        let tally = &self.tally;
        if let Some(refusal) = self.machine.standstill() {
            return Some(refusal);
        }
        if !tally.has_manifest {
            return Some("no manifest says what this box should hold".to_owned());
        }
        if tally.totals.wanted_objects == 0 {
            return Some("nothing is missing".to_owned());
        }
        if let Some(shut) = self.machine.shut_until() {
            return Some(shut);
        }
        if !self.machine.orders.connected {
            return Some(
                "the control plane is silent, and it knows the sources; see `oca show status`"
                    .to_owned(),
            );
        }
        if self.machine.is_dry(Class::Night, now.at) {
            return Some("the budget of the last 24 h is spent".to_owned());
        }
        let waiting = if self.machine.deferred {
            "no source may be asked yet; the fill cluster's policy lets others go first"
        } else {
            "no source is ready yet"
        };
        let problem = self.machine.problem.clone();
        Some(problem.unwrap_or_else(|| waiting.to_owned()))
    }
}

impl Machine {
    /// Why an operator's `start` is refused.
    pub(super) fn refusal(&self) -> Option<String> {
        self.standstill().or_else(|| self.shut_until())
    }

    /// Why an operator's `start --prefill` is refused.
    pub(super) fn prefill_refusal(&self) -> Option<String> {
        if !self.orders.prefilling {
            return Some(
                "the control plane does not have this box as prefilling, so that window and cap \
                 hold; `oca control appliance prefilling` there comes first"
                    .to_owned(),
            );
        }
        self.standstill()
    }

    /// Why nothing at all is received, urgent or not.
    fn standstill(&self) -> Option<String> {
        if self.paused {
            return Some("the fill is paused; `oca fill resume` ends that".to_owned());
        }
        if !self.orders.clock_sane {
            let unsure = "the clock is not synchronised, or differs from the control plane's; until \
                          it is right nothing is filled or deleted";
            return Some(unsure.to_owned());
        }
        let scanning = "disks are being read; what they hold is not fetched again";
        self.is_scanning().then(|| scanning.to_owned())
    }

    fn shut_until(&self) -> Option<String> {
        let standing = self.standing.filter(|standing| standing.open.is_none())?;
        if self.prefill {
            return None;
        }
        let opens = standing.next_edge;
        Some(format!("the fill window is shut; it opens at {opens:.0}"))
    }

    /// Of the night under way; outside of one the day of the site.
    pub(super) fn date(&self, now: Now) -> Date {
        let open = self.standing.and_then(|standing| standing.open);
        let today = || self.window.date(now.moment.wall);
        open.map_or_else(today, |opening| opening.date)
    }

    fn shown_window(&self) -> WindowView {
        let standing = self.standing;
        let open = standing.and_then(|standing| standing.open);
        let night = open.or_else(|| {
            // The edge of a shut window is the start of the next one.
            let next = standing?.next_edge;
            self.window.standing(next).open
        });
        WindowView {
            open: self.is_open(Class::Night),
            opens: night.map(|night| format!("{:.0}", night.opens)),
            closes: night.map(|night| format!("{:.0}", night.closes)),
            start: self.window.start(),
            timezone: self.window.zone().to_owned(),
        }
    }
}

/// How a transfer ended, in one word.
pub(super) fn word(end: &Result<(), Fault>) -> &'static str {
    match end {
        Ok(()) => "done",
        Err(Fault::NotFound) => "not-found",
        Err(Fault::NotYet { .. }) => "not-yet",
        Err(Fault::Busy { .. }) => "busy",
        Err(Fault::Refused(_)) => "refused",
        Err(Fault::WrongBytes(_)) => "wrong-bytes",
        Err(Fault::Changed(_)) => "changed",
        Err(Fault::Slow(_)) => "slow",
        Err(Fault::Broken(_)) => "broken",
        Err(Fault::Store(_)) => "disk",
        Err(Fault::Stopped) => "stopped",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fill::Refused;
    use crate::store::PublishError;

    #[test]
    fn a_night_counts_every_end_that_brought_no_object() {
        let told = || "so it is told".to_owned();
        let not_yet = Fault::NotYet {
            held: Vec::new(),
            retry_after: None,
        };
        let faults = [
            Fault::NotFound,
            not_yet,
            Fault::Busy { retry_after: None },
            Fault::Refused(told()),
            Fault::WrongBytes(told()),
            Fault::Changed(told()),
            Fault::Slow(told()),
            Fault::Broken(told()),
            Fault::Store(PublishError::Index(told())),
        ];
        let mut refused = Refused::default();
        for (before, fault) in (0..).zip(faults) {
            let counted = |refused: Refused| refused.words().iter().map(|(_, n)| n).sum::<u64>();
            assert_eq!(counted(refused), before);
            let word = word(&Err(fault));
            refused.count(word);
            assert_eq!(counted(refused), before + 1, "{word}");
        }
        let words = refused.words();
        assert!(words.iter().all(|(_, count)| *count == 1), "{words:?}");
    }
}
