//! What a neighbour's task does when its session says so.

use super::Life;
use crate::bgp::mrt::Direction;
use crate::bgp::net::Dial;
use crate::bgp::pipe::Pipe;
use crate::bgp::publish::SessionView;
use crate::bgp::session::Action;
use crate::bgp::session::ConnectionId;
use crate::bgp::session::Families;
use crate::bgp::session::Input;
use crate::bgp::wire;
use crate::bgp::wire::Message;
use crate::bgp::wire::Refresh;
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
                    guard: self.peer.guard(),
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
            Action::Up(id) => {
                counters.established.fetch_add(1, Relaxed);
                tracing::info!(neighbour = %name, "BGP session established");
                self.stands(id);
            }
            // Done where the UPDATE is.
            Action::Apply(_) => {}
            Action::Again(id, family) => self.again(id, family),
            Action::MarkStale(family) => self.ingest.mark_stale(family),
            Action::Sweep(family) => {
                let routes = self.ingest.sweep_stale(family);
                self.tell_swept(family, routes);
            }
            Action::SweepNotLongLived(family) => {
                let routes = self.ingest.sweep_not_long_lived(family);
                self.tell_swept(family, routes);
            }
            Action::Forget(family) => {
                tracing::warn!(neighbour = %name, ?family,
                    "what comes of this family cannot be read: its routes go, and it is ignored \
                     until the session begins again");
                self.ingest.forget(family);
            }
            Action::Down { kept } => self.down(kept),
            Action::Sent(notification) => {
                counters.notifications_sent.fetch_add(1, Relaxed);
                let words = notification.words();
                self.peer.desk.notified(&words, Direction::Sent);
                tracing::info!(neighbour = %name, words, "NOTIFICATION sent");
            }
            Action::Received(notification) => {
                counters.notifications_received.fetch_add(1, Relaxed);
                let words = notification.words();
                self.peer.desk.notified(&words, Direction::Received);
                tracing::info!(neighbour = %name, words, "NOTIFICATION received");
            }
        }
    }

    /// A neighbour may have its table swept as often as it likes, but not a line each time.
    fn tell_swept(&mut self, family: Family, routes: usize) {
        if routes > 0
            && let Some(left_out) = self.limit.step(clock::now())
        {
            let name = &self.peer.neighbour.name;
            tracing::info!(neighbour = %name, ?family, routes, left_out, "stale routes go");
        }
    }

    /// An answer that waits to be written answers whoever asks again: a neighbour that asks often
    /// cannot fill the queue.
    pub(super) fn is_answered(&mut self, id: ConnectionId, message: &Message<'_>) -> bool {
        let Message::RouteRefresh {
            afi,
            subtype: Refresh::Request,
            ..
        } = message
        else {
            return false;
        };
        let pipe = self.pipes.iter().find(|pipe| pipe.id() == id);
        if pipe.is_some_and(Pipe::has_sent_all) {
            self.answered.clear();
        }
        let is_answered = self.answered.contains(afi);
        // Others get no answer.
        if !is_answered && matches!(afi, 1 | 2) {
            self.answered.push(*afi);
        }
        is_answered
    }

    pub(super) fn send(&mut self, id: ConnectionId, bytes: Vec<u8>, due: Option<Instant>) {
        self.peer.desk.sent(&bytes);
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
            self.fallen();
            self.settle_share();
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
        self.fallen();
    }
}
