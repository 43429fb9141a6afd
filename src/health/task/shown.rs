//! What the view says of the link, and what the log says when that changes.
//!
//! The part of [`super::Task`] that publishes.

use super::Task;
use crate::clock;
use crate::clock::Wall;
use crate::health::view::LinkState;
use std::sync::Arc;

impl Task {
    /// Publishes what is different, and says so when the lease ends or the state changes.
    pub(super) fn publish(&mut self) {
        let fresh = self.lease.is_fresh(clock::boot());
        // One that was taken back with the word to serve is the control plane's wish.
        if self.view.lease_fresh && !fresh && self.view.enabled {
            tracing::error!("the lease of the control plane has ended");
        }
        self.view.lease_fresh = fresh;
        self.view.lease_ends = self.lease.deadline();
        let state = self.state();
        if state != self.view.state {
            self.view.state = state;
            self.view.since = Some(self.entered(state));
            tracing::info!(
                state = state.as_str(),
                "control plane: {}",
                self.view.summary(clock::boot())
            );
        }
        let view = &self.view;
        self.publisher.send_if_modified(|shown| {
            let differs = **shown != *view;
            if differs {
                *shown = Arc::new(view.clone());
            }
            differs
        });
    }

    /// An outage began with the last word that was heard.
    fn entered(&self, state: LinkState) -> Wall {
        let heard = self
            .view
            .last_contact
            .filter(|_| state == LinkState::Outage);
        heard.unwrap_or_else(clock::wall)
    }

    fn state(&self) -> LinkState {
        let enrolled = self.view.certificate_ends.is_some();
        if self.banished {
            LinkState::Refused
        } else if self.client.is_some() && !enrolled {
            LinkState::Unenrolled
        } else if self.lease.is_outage() {
            LinkState::Outage
        } else if self.view.last_contact.is_some() {
            LinkState::Connected
        } else {
            LinkState::Connecting
        }
    }
}
