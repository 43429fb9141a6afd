//! What was seen of a disk, and what it means for whoever wants something of it.
//!
//! Everybody who works with the disk reports here; the watch thread asks for what is overdue. What
//! a report means is decided by [`super::super::state`]; index, cold reads, view and log follow.
//! Touches no disk.

use super::Status;
use super::Volume;
use crate::clock;
use crate::store::OpenError;
use crate::store::core::Shared;
use crate::store::state::Event;
use crate::store::state::State;
use std::sync::PoisonError;

impl Volume {
    /// Something was seen that bears on the disk's fitness.
    pub(in crate::store) fn report(&self, shared: &Shared, event: Event, reason: &str) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.state();
        let Some(state) = health.step(clock::now(), event) else {
            return;
        };
        let mut failures = Vec::new();
        // Under the lock, so that two events cannot leave the index in the state of the first.
        shared.set_online(self.number, state.is_readable());
        if state.is_readable() {
            shared.absent.found(self.number);
        } else if state == State::Suspect {
            // It is the disk and not these objects: it keeps their places, as of all it held.
            failures.extend(health.failures());
            shared.give_back(self, failures.iter().copied());
        }
        let is_out = matches!(state, State::Suspect | State::Isolated);
        if before == State::Scanning && is_out && self.home().is_some() {
            // Before anybody sees that it is not scanned any more.
            shared.absent.doubt(self.number, shared.index.len());
        }
        self.fills.set_answering(state != State::Isolated);
        let well = state == State::Online;
        let lost = match state.is_readable() {
            true => None,
            // From one way of being out of service to another it was not back in between.
            false => self.status.borrow().lost.or_else(|| Some(clock::now())),
        };
        self.status.send_replace(Status {
            state,
            reason: (!well && !reason.is_empty()).then(|| reason.to_owned()),
            since: clock::wall(),
            lost,
        });
        drop(health);
        // Where the file system turned read-only first, they could not be put aside.
        for digest in failures {
            self.damaged.settled(&shared.state_dir, digest);
        }
        let (disk, state_name) = (self.name(), state.as_str());
        match state {
            State::Scanning | State::Online => {
                tracing::info!(disk, state = state_name, "disk {disk} is {state_name}");
            }
            State::ReadOnly => {
                tracing::warn!(
                    disk,
                    state = state_name,
                    "disk {disk} is read-only: {reason}"
                );
            }
            State::Suspect | State::Isolated | State::Refused => tracing::error!(
                disk,
                state = state_name,
                urgent = true,
                "disk {disk} is {state_name} and out of the catalogue: {reason}"
            ),
        }
        shared.changed();
        shared.wake();
    }

    /// It is still refused, perhaps for another reason.
    pub(in crate::store) fn note_refusal(&self, reason: &str) {
        self.status.send_if_modified(|status| {
            let is_other =
                status.state == State::Refused && status.reason.as_deref() != Some(reason);
            if is_other {
                status.reason = Some(reason.to_owned());
            }
            is_other
        });
    }

    /// Called by the watch thread: is a call over its deadline, or has the last one returned? True
    /// if the disk answers again.
    pub(in crate::store) fn watch(&self, shared: &Shared) -> bool {
        self.fills.watch();
        let lanes = [&self.readers, &self.writers, &self.asker];
        let overdue = self.fills.is_overdue()
            || self.scrub.is_overdue()
            || self.census.is_overdue()
            || lanes.iter().any(|lane| lane.is_overdue());
        let idle =
            self.fills.is_idle() && self.scrub.is_idle() && lanes.iter().all(|lane| lane.is_idle());
        if overdue {
            let reason = format!(
                "a call did not return within {} s; check the disk, its cable and controller",
                self.deadline.as_secs_f64()
            );
            self.report(shared, Event::Hung, &reason);
            false
        } else if idle && self.home().is_some() && self.state() == State::Isolated {
            // One that never identified itself stays out: nobody would scan it.
            self.report(shared, Event::Answers, "answers again");
            true
        } else {
            false
        }
    }

    /// Why an object here cannot be read.
    pub(in crate::store) fn unavailable(&self, problem: Option<String>) -> OpenError {
        let status = self.status();
        OpenError::Unavailable {
            disk: self.name(),
            state: status.state.as_str(),
            reason: problem
                .or(status.reason)
                .unwrap_or_else(|| "try again".into()),
        }
    }
}
