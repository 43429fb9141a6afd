//! What each message does in each state of its connection.

use super::Action;
use super::ConnectionId;
use super::Families;
use super::Phase;
use super::Session;
use super::Slot;
use super::agree::Refreshing;
use super::family_word;
use super::stale::Verdict;
use super::steps::Cause;
use crate::bgp::wire;
use crate::bgp::wire::Fault;
use crate::bgp::wire::Message;
use crate::bgp::wire::Notification;
use crate::bgp::wire::Open;
use crate::bgp::wire::Refresh;
use crate::bgp::wire::Update;
use crate::clock::Instant;
use crate::prefix::Family;

/// RFC 6608 has no number for the states before OpenSent.
const UNEXPECTED: Fault = Fault(5, 0);

impl Session {
    /// True for an UPDATE as nearly all are, of an established session and about routes alone: it
    /// holds, and that is all. Any other message is for [`Session::step`].
    pub(in crate::bgp) fn holds(
        &mut self,
        now: Instant,
        id: ConnectionId,
        update: &Update<'_>,
    ) -> bool {
        let is_plain = update.disabled.is_none() && update.end_of_rib.is_none();
        match &mut self.established {
            Some(connection) if is_plain && connection.id == id => {
                connection.heard(now);
                true
            }
            Some(_) | None => false,
        }
    }

    pub(super) fn message(
        &mut self,
        now: Instant,
        slot: Slot,
        message: &Message<'_>,
        out: &mut Vec<Action>,
    ) {
        use Phase::Delayed;
        use Phase::Established;
        use Phase::OpenConfirm;
        use Phase::OpenSent;
        let Some(connection) = self.slot(slot) else {
            return;
        };
        match (connection.phase, message) {
            // RFC 4271 section 8.2.2, event 20: theirs was waited for, ours follows.
            (Delayed, Message::Open(open)) => {
                self.send_open(now, slot, out);
                self.opened(now, slot, open, out);
            }
            (OpenSent, Message::Open(open)) => self.opened(now, slot, open, out),
            (OpenConfirm, Message::Keepalive) => self.come_up(now, slot, out),
            (Established, Message::Keepalive) => connection.heard(now),
            (Established, Message::Update(update)) => {
                connection.heard(now);
                out.push(Action::Apply(connection.id));
                self.applied(slot, update, out);
            }
            (Established, Message::RouteRefresh { afi, safi, subtype }) => {
                let id = connection.id;
                self.refreshes(now, id, (*afi, *safi), *subtype, out);
            }
            // In every state, and never answered (RFC 4271 section 6.4).
            (
                Delayed | OpenSent | OpenConfirm | Established,
                Message::Notification(notification),
            ) => {
                out.push(Action::Close(connection.id));
                self.note(slot, format!("received {}", notification.words()));
                let is_hard = notification.is_hard_reset();
                out.push(Action::Received(notification.into_owned()));
                self.lost(now, slot, Cause::Told { is_hard }, out);
            }
            (Delayed, Message::Keepalive | Message::Update(_) | Message::RouteRefresh { .. }) => {
                self.refuse(now, slot, UNEXPECTED.into(), out);
            }
            (OpenSent, Message::Keepalive | Message::Update(_) | Message::RouteRefresh { .. }) => {
                self.refuse(now, slot, Fault::UNEXPECTED_IN_OPEN_SENT.into(), out);
            }
            (OpenConfirm, Message::Open(_) | Message::Update(_) | Message::RouteRefresh { .. }) => {
                self.refuse(now, slot, Fault::UNEXPECTED_IN_OPEN_CONFIRM.into(), out);
            }
            (Established, Message::Open(_)) => {
                self.refuse(now, slot, Fault::UNEXPECTED_IN_ESTABLISHED.into(), out);
            }
        }
    }

    /// RFC 6608: an UPDATE that cannot even be read yet is an error of the state.
    pub(super) fn in_this_state(&mut self, slot: Slot, said: Notification) -> Notification {
        let phase = self.slot(slot).as_ref().map(|connection| connection.phase);
        let is_update = said.fault.0 == Fault::ATTRIBUTE_LIST.0;
        let is_unreadable = said.fault == Fault::UNEXPECTED_IN_OPEN_SENT;
        match phase {
            Some(Phase::OpenConfirm) if is_update => Fault::UNEXPECTED_IN_OPEN_CONFIRM.into(),
            Some(Phase::Delayed) if is_unreadable => UNEXPECTED.into(),
            Some(Phase::Delayed | Phase::OpenSent | Phase::OpenConfirm | Phase::Established)
            | None => said,
        }
    }

    fn opened(&mut self, now: Instant, slot: Slot, open: &Open<'_>, out: &mut Vec<Action>) {
        let agreed = match self.settings.agree(open) {
            Ok(agreed) => agreed,
            Err(notification) => return self.refuse(now, slot, notification, out),
        };
        // RFC 4271 section 6.8 and RFC 6286 section 2.3: the connection made by the side with the
        // greater identifier, then the greater AS, stays.
        let us = (self.settings.router_id, self.settings.asn);
        let (winner, loser) = if us > (open.router_id, open.asn) {
            (Slot::Ours, Slot::Theirs)
        } else {
            (Slot::Theirs, Slot::Ours)
        };
        let other = if slot == winner { loser } else { winner };
        let other = self.slot(other).as_ref().map(|other| other.phase);
        match other {
            Some(Phase::OpenConfirm) => {
                self.say(loser, Fault::COLLISION.into(), out);
                self.slot(loser).take();
            }
            // An established one has a slot of its own.
            Some(Phase::Delayed | Phase::OpenSent | Phase::Established) | None => {}
        }
        let mut random = self.random.fork();
        let Some(connection) = self.slot(slot) else {
            return;
        };
        connection.confirm(now, agreed);
        connection.keep_alive(now, &mut random);
        out.push(Action::Send(connection.id, wire::keepalive()));
        self.stop_dialing(out);
    }

    fn come_up(&mut self, now: Instant, slot: Slot, out: &mut Vec<Action>) {
        self.connect_error = None;
        self.stop_dialing(out);
        // RFC 4724 section 5: a session beside an established one means that the neighbour has
        // restarted, and the old one ends without a word. RFC 4724 ends it with the connection
        // already; here the neighbour must have come as far as its KEEPALIVE, so that a second
        // connection made at the same moment cannot take the first one's session.
        if let Some(old) = &self.established {
            out.push(Action::Close(old.id));
            self.session_error = Some("the neighbour has restarted".to_owned());
            self.lost(now, Slot::Established, Cause::Replaced, out);
        }
        let Some(mut connection) = self.slot(slot).take() else {
            return;
        };
        for other in [Slot::Ours, Slot::Theirs] {
            self.say(other, Fault::COLLISION.into(), out);
            self.slot(other).take();
        }
        connection.establish(now);
        let id = connection.id;
        out.push(Action::Up(id));
        let agreed = connection.agreed.clone();
        self.established = Some(connection);
        self.has_restarted = false;
        let Some(agreed) = agreed else {
            return;
        };
        for family in super::FAMILIES {
            let said = agreed.restart.map(|restart| restart.family(family));
            let said = said.filter(|_| agreed.families().has(family));
            let verdict = self.stale.rise(now, family, said.unwrap_or_default());
            sweep(verdict, family, out);
        }
        // RFC 4724 section 2: what there is to announce, if anything, went with `Action::Up`.
        if agreed.restart.is_some() {
            for family in agreed.families().iter() {
                out.push(Action::Send(id, wire::end_of_rib(family)));
            }
        }
    }

    /// What an UPDATE means beyond its routes.
    fn applied(&mut self, slot: Slot, update: &Update<'_>, out: &mut Vec<Action>) {
        let Some(connection) = self.slot(slot) else {
            return;
        };
        if let Some(family) = update.disabled {
            if let Some(agreed) = &mut connection.agreed {
                match family {
                    Family::Ipv4 => agreed.negotiated.ipv4 = false,
                    Family::Ipv6 => agreed.negotiated.ipv6 = false,
                }
            }
            connection.disabled.set(family, true);
            let word = family_word(family);
            self.session_error = Some(format!(
                "{word} is ignored: what came of it could not be read; reset the session when the \
                 neighbour is mended"
            ));
            self.stale.forget(family);
            out.push(Action::Forget(family));
        } else if let Some(family) = update.end_of_rib {
            connection.end_of_rib.set(family, true);
            let verdict = self.stale.end_of_rib(family);
            sweep(verdict, family, out);
        }
    }

    /// A ROUTE-REFRESH of the neighbour's (RFC 2918, RFC 7313).
    fn refreshes(
        &mut self,
        now: Instant,
        id: ConnectionId,
        (afi, safi): (u16, u8),
        subtype: Refresh,
        out: &mut Vec<Action>,
    ) {
        let agreed = self.established.as_ref().and_then(|c| c.agreed.as_ref());
        let Some(agreed) = agreed else {
            return;
        };
        let is_meant = |family: &Family| Families::of(afi, safi).has(*family);
        let mut spoken = agreed.families().iter();
        // RFC 2918 section 4: what was not negotiated is ignored.
        let Some(family) = spoken.find(is_meant) else {
            return;
        };
        let is_enhanced = agreed.refresh == Refreshing::Enhanced;
        match subtype {
            Refresh::Request if is_enhanced => {
                out.push(Action::Send(id, wire::refresh(family, Refresh::Begin)));
                out.push(Action::Again(id, family));
                out.push(Action::Send(id, wire::refresh(family, Refresh::End)));
            }
            Refresh::Request => out.push(Action::Again(id, family)),
            Refresh::Begin if is_enhanced => {
                self.stale.begin_refresh(now, family);
                out.push(Action::MarkStale(family));
            }
            Refresh::End if is_enhanced => {
                let verdict = self.stale.end_refresh(family);
                sweep(verdict, family, out);
            }
            // RFC 7313 section 5: others are ignored.
            Refresh::Begin | Refresh::End | Refresh::Unknown(_) => {}
        }
    }

    /// Asks for everything again, or for everything of one family.
    pub(super) fn ask_again(&mut self, only: Option<Family>, out: &mut Vec<Action>) {
        if !self.can_refresh() {
            return;
        }
        if let Some(connection) = &self.established
            && let Some(agreed) = &connection.agreed
        {
            let asked = agreed.families().iter();
            for family in asked.filter(|one| only.is_none_or(|only| only == *one)) {
                let ask = wire::refresh(family, Refresh::Request);
                out.push(Action::Send(connection.id, ask));
            }
        }
    }
}

impl Families {
    /// The one that these numbers mean, if we know it.
    fn of(afi: u16, safi: u8) -> Self {
        Self {
            ipv4: (afi, safi) == (1, 1),
            ipv6: (afi, safi) == (2, 1),
        }
    }
}

pub(super) fn sweep(verdict: Verdict, family: Family, out: &mut Vec<Action>) {
    match verdict {
        Verdict::Sweep => out.push(Action::Sweep(family)),
        Verdict::LongLived => out.push(Action::SweepNotLongLived(family)),
        Verdict::Stay => {}
    }
}
