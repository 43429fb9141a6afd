//! What a neighbour's task does besides its session: orders of operators, limits, the RIB-out.
//!
//! I/O: none of its own; messages go to the connection's writer.

use super::Life;
use crate::bgp::announce;
use crate::bgp::desk::Order;
use crate::bgp::desk::OrderError;
use crate::bgp::desk::Ordered;
use crate::bgp::limits::News;
use crate::bgp::session::ConnectionId;
use crate::bgp::session::Input;
use crate::prefix::Family;
use crate::prefix::Prefix;
use std::net::IpAddr;

/// The established session, as far as this file needs it.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    /// With our end of it.
    connection: Option<(ConnectionId, IpAddr)>,
    announced: Vec<Prefix>,
}

impl Life<'_> {
    /// Does an order and answers it once the session has taken it.
    pub(super) fn ordered(&mut self, Ordered { order, reply }: Ordered) {
        let name = &self.peer.neighbour.name;
        tracing::info!(neighbour = %name, ?order, "order for this BGP session");
        let is_up = self.session.established_since().is_some();
        let answer = match order {
            Order::Up => {
                self.peer.desk.set_down(false);
                Ok(Input::Start)
            }
            Order::Down(text) => {
                self.peer.desk.set_down(true);
                self.withdraw();
                Ok(Input::Stop(text))
            }
            Order::Reset(text) => {
                self.withdraw();
                Ok(Input::Reset(text))
            }
            Order::Refresh(_) if !is_up => Err(OrderError::NotEstablished),
            Order::Refresh(_) if !self.session.can_refresh() => Err(OrderError::NoRefresh),
            Order::Refresh(only) => Ok(Input::Refresh(only)),
        };
        let answer = answer.map(|input| self.inputs.push_back(input));
        self.settle();
        // Whoever asked may have gone; the order was carried out all the same.
        let _ = reply.send(answer);
    }

    /// The session stands on this connection.
    pub(super) fn stands(&mut self, id: ConnectionId) {
        let pipe = self.pipes.iter().find(|pipe| pipe.id() == id);
        self.standing.connection = pipe.map(|pipe| (id, pipe.local()));
        if let Some((_, local)) = self.standing.connection {
            self.peer.desk.connected(local);
        }
        self.peer.desk.up();
        self.offer();
    }

    /// The session is over.
    pub(super) fn fallen(&mut self) {
        self.standing = Standing::default();
        self.answered.clear();
        self.ingest.limits().reset();
        self.peer.desk.down(self.session.last_error());
        self.tell_held();
    }

    /// The neighbour wants to hear everything of a family again (RFC 2918 section 4).
    pub(super) fn again(&mut self, id: ConnectionId, family: Family) {
        let told = self.standing.announced.first().map(Prefix::family);
        let is_standing = self.standing.connection.is_some_and(|(one, _)| one == id);
        if is_standing && told == Some(family) {
            self.standing.announced.clear();
            self.offer();
        }
    }

    /// Tells the neighbour what the box wants it to know at this moment, and no more.
    pub(super) fn offer(&mut self) {
        let Some((id, local)) = self.standing.connection else {
            return;
        };
        let Some(negotiated) = self.session.negotiated(id) else {
            return;
        };
        if !*self.peer.offer.borrow_and_update() {
            return self.withdraw();
        }
        let (config, neighbour) = (&self.peer.config, &self.peer.neighbour);
        let wanted = announce::prefixes(config, neighbour, &negotiated, local);
        if wanted == self.standing.announced {
            return;
        }
        let told = (local, &wanted[..]);
        for message in announce::announcement(config, neighbour, &negotiated, told) {
            self.send(id, message, None);
        }
        let name = &self.peer.neighbour.name;
        tracing::info!(neighbour = %name, prefixes = wanted.len(), "service addresses announced");
        self.peer.desk.announces(&wanted);
        self.standing.announced = wanted;
    }

    pub(super) fn withdraw(&mut self) {
        let announced = std::mem::take(&mut self.standing.announced);
        let Some((id, _)) = self.standing.connection.filter(|_| !announced.is_empty()) else {
            return;
        };
        for message in announce::withdrawal(&announced) {
            self.send(id, message, None);
        }
        let name = &self.peer.neighbour.name;
        tracing::info!(neighbour = %name, "service addresses withdrawn");
        self.peer.desk.announces(&[]);
    }

    /// How full the limits are.
    pub(super) fn tell_held(&mut self) {
        let (held, dropped) = (self.ingest.held(), self.ingest.limits().dropped());
        self.peer.desk.holds(held, dropped);
    }

    /// Says what is worth saying of the limits, and ends what must end.
    pub(super) fn limited(&mut self, news: News) {
        let name = &self.peer.neighbour.name;
        match news {
            News::Near { what, held, most } => {
                tracing::warn!(neighbour = %name, held, most, "nearly at the limit: {what}");
            }
            News::Dropping { what, most } => {
                tracing::warn!(neighbour = %name, most, "at the limit, routes are dropped: {what}");
            }
            News::Over { what, most } => {
                tracing::warn!(neighbour = %name, most, "beyond the limit: {what}");
                let most = u32::try_from(most).unwrap_or(u32::MAX);
                self.inputs.push_back(match what.family() {
                    Some(family) => Input::TooManyPrefixes(family, most),
                    None => Input::OutOfResources,
                });
            }
        }
    }
}
