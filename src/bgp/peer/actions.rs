//! What a neighbour's task does when its session says so, and when an operator does.

use super::Life;
use crate::bgp::command::Asked;
use crate::bgp::command::Command;
use crate::bgp::command::CommandError;
use crate::bgp::net::Dial;
use crate::bgp::publish::SessionView;
use crate::bgp::session::Action;
use crate::bgp::session::ConnectionId;
use crate::bgp::session::Families;
use crate::bgp::session::Input;
use crate::bgp::wire;
use crate::clock;
use crate::clock::Instant;
use crate::prefix::Family;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;

impl Life<'_> {
    /// Steps the session through everything that waits, and does what it says.
    pub(super) fn settle(&mut self) {
        while let Some(input) = self.inputs.pop_front() {
            self.has_news = true;
            for action in self.session.step(clock::now(), input) {
                self.perform(action);
            }
        }
        // Most messages are routes, which change nothing of what is shown.
        if !std::mem::take(&mut self.has_news) {
            return;
        }
        let view = self.view();
        if view != self.shown {
            self.shown = view.clone();
            self.outbox.session(view);
        }
    }

    fn view(&self) -> SessionView {
        SessionView {
            state: self.session.state(),
            since: self.session.established_since(),
            last_error: self.session.last_error(),
            facts: self.session.facts(),
        }
    }

    pub(super) fn perform(&mut self, action: Action) {
        let (name, counters) = (&self.peer.neighbour.name, &self.peer.counters);
        match action {
            Action::Connect => {
                let neighbour = &self.peer.neighbour;
                let dial = Dial {
                    local: neighbour.local_address,
                    remote: SocketAddr::new(neighbour.address, neighbour.port),
                    guard: self.peer.guard.clone(),
                };
                self.dial = Some(self.peer.net.connect(dial));
            }
            Action::CancelConnect => self.dial = None,
            Action::Send(id, bytes) => self.send(id, bytes, None),
            Action::KeepAlive(id, due) => self.send(id, wire::keepalive(), Some(due)),
            Action::Close(id) => {
                if let Some(at) = self.pipes.iter().position(|pipe| pipe.id() == id) {
                    self.closing.spawn(self.pipes.swap_remove(at).close());
                }
            }
            Action::Up(_) => {
                counters.established.fetch_add(1, Relaxed);
                tracing::info!(neighbour = %name, "BGP session established");
            }
            // Done where the UPDATE is.
            Action::Apply(_) => {}
            Action::MarkStale(family) => self.ingest.mark_stale(family),
            Action::Sweep(family) => {
                let routes = self.ingest.sweep_stale(family);
                let name = &self.peer.neighbour.name;
                tracing::info!(neighbour = %name, ?family, routes, "stale routes are gone");
            }
            Action::Forget(family) => self.ingest.forget(family),
            Action::Down { kept } => self.down(kept),
            Action::Sent(notification) => {
                counters.notifications_sent.fetch_add(1, Relaxed);
                let words = notification.words();
                tracing::info!(neighbour = %name, words, "NOTIFICATION sent");
            }
            Action::Received(notification) => {
                counters.notifications_received.fetch_add(1, Relaxed);
                let words = notification.words();
                tracing::info!(neighbour = %name, words, "NOTIFICATION received");
            }
        }
    }

    fn send(&mut self, id: ConnectionId, bytes: Vec<u8>, due: Option<Instant>) {
        let pipe = self.pipes.iter().find(|pipe| pipe.id() == id);
        if pipe.is_some_and(|pipe| !pipe.send(bytes, due)) {
            self.pipes.retain(|pipe| pipe.id() != id);
            let why = "the neighbour does not read what we send".to_owned();
            self.inputs.push_back(Input::Closed(id, why));
        }
    }

    fn down(&mut self, kept: Families) {
        let name = &self.peer.neighbour.name;
        let error = self.session.last_error().unwrap_or_default();
        if kept == Families::NONE {
            tracing::warn!(neighbour = %name, error, "BGP session ended");
            self.ingest.clear();
            self.shown = self.view();
            return self.outbox.gone(self.shown.clone());
        }

        tracing::warn!(neighbour = %name, error, "BGP session ended; its routes stay");
        for family in [Family::Ipv4, Family::Ipv6] {
            if kept.has(family) {
                self.ingest.mark_stale(family);
            } else {
                self.ingest.forget(family);
            }
        }
    }

    /// What an operator wants.
    pub(super) fn command(&mut self, asked: Asked) {
        let name = self.peer.neighbour.name.clone();
        let is_up = self.session.established_since().is_some();
        let outcome = match asked.command {
            Command::Up => Ok(Input::Start),
            Command::Down(text) => Ok(Input::Stop(text)),
            Command::Reset(text) => Ok(Input::Reset(text)),
            Command::Refresh if !is_up => Err(CommandError::NotEstablished { name }),
            Command::Refresh if !self.session.can_refresh() => {
                Err(CommandError::NoRefresh { name })
            }
            Command::Refresh => Ok(Input::Refresh),
        };
        // Whoever asked may have gone.
        let _ = asked.answer.send(match outcome {
            Ok(input) => {
                self.inputs.push_back(input);
                Ok(())
            }
            Err(error) => Err(error),
        });
    }
}
