//! When something may be received, and how fast: window, cap, pause, clock, and the operator's
//! order to fill without the first two.
//!
//! Sans-IO: part of [`Machine`], asked at every step.

use super::Action;
use super::Machine;
use super::Now;
use crate::fill::Class;
use crate::fill::Share;
use crate::units::BytesPerSecond;

/// What a fill without a cap has for one: 100 Gbit/s is more than a box has ports for, so that the
/// line, the disks or the sources are its end.
pub(super) const PREFILL_RATE: BytesPerSecond = BytesPerSecond(12_500_000_000);

impl Machine {
    /// Window and rate of this moment; both are told whenever they change.
    pub(super) fn reckon(&mut self, now: Now, actions: &mut Vec<Action>) {
        let window = self.orders.window.as_ref().unwrap_or(&self.config.window);
        let own = self.config.rate_limit;
        let rate = self.orders.rate_limit.map_or(own, |lower| lower.min(own));
        let rate = if self.prefill { PREFILL_RATE } else { rate };
        let another = *window != self.window;
        if another || rate != self.rate {
            let window = window.clone();
            self.window.clone_from(&window);
            actions.push(Action::Order { window, rate });
            self.set_rate(rate, actions);
        }
        let wall = now.moment.wall;
        let holds = self.standing.is_some_and(|standing| {
            wall < standing.next_edge && wall >= self.standing_at && !another
        });
        if !holds {
            self.standing = Some(self.window.standing(wall));
            self.survey_soon(now);
        }
        self.standing_at = wall;
    }

    /// SAFETY: cap. A transfer holds what was its share when it began. At a lower rate that is too
    /// much, and at a higher one that has more streams it may be: it ends, and its object goes on
    /// from the chunks that are there with a smaller one.
    pub(super) fn set_rate(&mut self, rate: BytesPerSecond, actions: &mut Vec<Action>) {
        let (streams, share) = Share::of(rate, self.config.streams);
        if rate < self.rate || share.receive_buffer < self.share.receive_buffer {
            let running: Vec<u64> = self.queue.running().map(|(id, _)| id).collect();
            for id in running {
                self.stop(id, actions);
            }
        }
        self.rate = rate;
        (self.streams, self.share) = (streams, share);
    }

    /// Opens and shuts the classes; what runs in a class that shuts is stopped.
    pub(super) fn gates(&mut self, actions: &mut Vec<Action>) {
        let may = !self.paused && self.orders.clock_sane && !self.is_scanning();
        let night = self.standing.and_then(|standing| standing.open);
        let night = match self.prefill {
            true => Some(None),
            false => night.map(|opening| Some(opening.closes)),
        };
        let wanted = [(Class::Night, night), (Class::Urgent, Some(None))];
        for (class, until) in wanted {
            let until = until.filter(|_| may);
            if self.open.get(&class).copied() == until {
                continue;
            }
            let Some(until) = until else {
                self.open.remove(&class);
                actions.push(Action::Shut(class));
                let running = self.queue.running();
                let running = running.filter(|(_, object)| object.class == class);
                for id in running.map(|(id, _)| id).collect::<Vec<_>>() {
                    self.stop(id, actions);
                }
                continue;
            };
            self.open.insert(class, until);
            self.dry.remove(&class);
            actions.push(Action::Open { class, until });
        }
    }

    /// Is anything transferred in this class?
    pub(in crate::fill) fn is_busy(&self, class: Class) -> bool {
        let mut running = self.queue.running();
        running.any(|(_, object)| object.class == class)
    }

    /// Between two windows, or by an operator's order, nothing is deleted.
    pub(in crate::fill) fn may_delete(&self) -> bool {
        self.is_open(Class::Night) && self.standing.is_some_and(|now| now.open.is_some())
    }
}
