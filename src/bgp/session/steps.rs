//! What each input does in each state.

use super::Action;
use super::Connection;
use super::ConnectionId;
use super::Dial;
use super::Input;
use super::Phase;
use super::Run;
use super::Session;
use super::Side;
use super::timers;
use crate::bgp::wire;
use crate::bgp::wire::Capabilities;
use crate::bgp::wire::Capability;
use crate::bgp::wire::Fault;
use crate::bgp::wire::Message;
use crate::bgp::wire::Negotiated;
use crate::bgp::wire::Notification;
use crate::bgp::wire::Open;
use crate::clock::Instant;
use crate::prefix::Family;
use std::time::Duration;

const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

impl Session {
    pub(in crate::bgp) fn step(&mut self, now: Instant, input: Input<'_>) -> Vec<Action> {
        let mut out = Vec::new();
        match input {
            Input::Start => self.start(now, &mut out),
            Input::Connected(side, id) => self.connected(now, side, id, &mut out),
            Input::ConnectFailed(why) => self.connect_failed(now, why),
            Input::Message(id, message) => {
                if let Some(side) = self.side(id) {
                    self.message(now, side, message, &mut out);
                }
            }
            Input::Malformed(id, notification) => {
                if let Some(side) = self.side(id) {
                    let notification = self.in_this_state(side, notification);
                    self.refuse(now, side, notification, &mut out);
                }
            }
            Input::Closed(id, why) => {
                if let Some(side) = self.side(id) {
                    self.session_error = Some(why);
                    self.lost(now, side, &mut out);
                }
            }
            Input::TooManyPrefixes(family, most) => {
                let [high, low] = family_afi(family).to_be_bytes();
                let mut data = vec![high, low, 1];
                data.extend_from_slice(&most.to_be_bytes());
                let cease = Notification::new(Fault::TOO_MANY_PREFIXES, data);
                self.bar(now, &cease, &mut out);
            }
            Input::OutOfResources => self.bar(now, &Fault::OUT_OF_RESOURCES.into(), &mut out),
            Input::Stop(text) => {
                let cease = Notification::shutdown(&text);
                self.close_all(now, &cease, &mut out);
                self.run = Run::Stopped;
            }
            Input::Tick => self.tick(now, &mut out),
        }
        out
    }

    fn start(&mut self, now: Instant, out: &mut Vec<Action>) {
        match self.run {
            Run::Stopped | Run::Barred { .. } => {
                self.run = Run::Running;
                self.dial(now, out);
            }
            Run::Running => {}
        }
    }

    /// Connects, unless the neighbour is to.
    fn dial(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.settings.passive {
            self.dial = Dial::Waiting { retry_at: None };
            return;
        }
        let time = timers::jittered(self.settings.connect_retry, &mut self.random);
        let give_up_at = now + time;
        self.dial = Dial::Dialing { give_up_at };
        out.push(Action::Connect);
    }

    fn stop_dialing(&mut self, out: &mut Vec<Action>) {
        if matches!(self.dial, Dial::Dialing { .. }) {
            out.push(Action::CancelConnect);
        }
        self.dial = Dial::Waiting { retry_at: None };
    }

    fn connect_failed(&mut self, now: Instant, why: String) {
        // Late news of an attempt that was given up changes nothing.
        if let Dial::Dialing { .. } = self.dial {
            self.connect_error = Some(why);
            let time = timers::jittered(self.settings.connect_retry, &mut self.random);
            let retry_at = Some(now + time);
            self.dial = Dial::Waiting { retry_at };
        }
    }

    fn connected(&mut self, now: Instant, side: Side, id: ConnectionId, out: &mut Vec<Action>) {
        let refusal = match self.run {
            Run::Stopped | Run::Barred { .. } => Some(Fault::REJECTED),
            // RFC 4271 section 6.8: an established session wins.
            Run::Running => self.established_since().map(|_| Fault::COLLISION),
        };
        if let Some(fault) = refusal {
            let cease = Notification::from(fault);
            out.push(Action::Send(id, wire::notification(&cease)));
            out.push(Action::Sent(cease));
            out.push(Action::Close(id));
            return;
        }
        if side == Side::Ours {
            self.connect_error = None;
            self.dial = Dial::Waiting { retry_at: None };
        }
        // A neighbour that restarted need not wait for what it has forgotten to time out.
        if self.slot(side).is_some() {
            self.say(side, Fault::COLLISION.into(), out);
            self.slot(side).take();
        }
        *self.slot(side) = Some(Connection::open_sent(id, now));
        out.push(Action::Send(id, self.open()));
    }

    /// What we offer. Extended messages, ADD-PATH, graceful restart and roles would stand here.
    fn open(&self) -> Vec<u8> {
        let settings = &self.settings;
        let mut capabilities: Vec<_> = FAMILIES.map(Capability::unicast).into();
        capabilities.push(Capability::RouteRefresh);
        capabilities.push(Capability::FourOctetAs(settings.asn));
        wire::open(&Open {
            asn: settings.asn,
            hold_time: u16::try_from(settings.hold_time.as_secs()).unwrap_or(u16::MAX),
            router_id: settings.router_id,
            capabilities: Capabilities::of(&capabilities),
        })
    }

    fn message(&mut self, now: Instant, side: Side, message: &Message<'_>, out: &mut Vec<Action>) {
        use Phase::Established;
        use Phase::OpenConfirm;
        use Phase::OpenSent;
        let Some(connection) = self.slot(side) else {
            return;
        };
        match (connection.phase, message) {
            (OpenSent, Message::Open(open)) => self.opened(now, side, open, out),
            (OpenConfirm, Message::Keepalive) => self.established(now, side, out),
            (Established, Message::Keepalive) => connection.heard(now),
            (Established, Message::Update(_)) => {
                connection.heard(now);
                out.push(Action::Apply(connection.id));
            }
            // RFC 2918 section 4: to send everything again is to send nothing.
            (Established, Message::RouteRefresh { .. }) => {}
            // In every state, and never answered (RFC 4271 section 6.4).
            (OpenSent | OpenConfirm | Established, Message::Notification(notification)) => {
                out.push(Action::Close(connection.id));
                self.session_error = Some(format!("received {}", notification.words()));
                out.push(Action::Received(notification.into_owned()));
                self.lost(now, side, out);
            }
            (OpenSent, Message::Keepalive | Message::Update(_) | Message::RouteRefresh { .. }) => {
                self.refuse(now, side, Fault::UNEXPECTED_IN_OPEN_SENT.into(), out)
            }
            (OpenConfirm, Message::Open(_) | Message::Update(_) | Message::RouteRefresh { .. }) => {
                self.refuse(now, side, Fault::UNEXPECTED_IN_OPEN_CONFIRM.into(), out)
            }
            (Established, Message::Open(_)) => {
                self.refuse(now, side, Fault::UNEXPECTED_IN_ESTABLISHED.into(), out);
            }
        }
    }

    /// RFC 6608: an UPDATE that cannot even be read yet is an error of the state.
    fn in_this_state(&mut self, side: Side, notification: Notification) -> Notification {
        let phase = self.slot(side).as_ref().map(|connection| connection.phase);
        let is_update = notification.fault.0 == Fault::ATTRIBUTE_LIST.0;
        match phase {
            Some(Phase::OpenConfirm) if is_update => Fault::UNEXPECTED_IN_OPEN_CONFIRM.into(),
            Some(Phase::OpenSent | Phase::OpenConfirm | Phase::Established) | None => notification,
        }
    }

    /// RFC 4271 section 6.2, in the order of the fields.
    fn negotiate(&self, open: &Open<'_>) -> Result<(Negotiated, Duration), Notification> {
        let settings = &self.settings;
        if open.asn != settings.neighbour_asn {
            return Err(Fault::BAD_PEER_AS.into());
        }
        // RFC 4271 section 4.2 lets us refuse zero, and we do: a dead router's routes would stay
        // for ever.
        if open.hold_time == 0 {
            return Err(Fault::BAD_HOLD_TIME.into());
        }
        // RFC 6286 section 2.1: unique within an AS.
        let external = settings.asn != open.asn;
        if !external && open.router_id == settings.router_id {
            return Err(Fault::BAD_IDENTIFIER.into());
        }
        let negotiated = Negotiated {
            four_octets: open.speaks_four_octets(),
            ipv4: open.speaks(Family::Ipv4),
            ipv6: open.speaks(Family::Ipv6),
            external,
            ..Negotiated::default()
        };
        if !negotiated.ipv4 && !negotiated.ipv6 {
            // RFC 5492 section 3: what would have been needed.
            let data = [1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1];
            return Err(Notification::new(Fault::UNSUPPORTED_CAPABILITY, data));
        }
        let theirs = Duration::from_secs(open.hold_time.into());
        Ok((negotiated, theirs.min(settings.hold_time)))
    }

    fn opened(&mut self, now: Instant, side: Side, open: &Open<'_>, out: &mut Vec<Action>) {
        let (negotiated, hold) = match self.negotiate(open) {
            Ok(agreed) => agreed,
            Err(notification) => return self.refuse(now, side, notification, out),
        };
        // RFC 4271 section 6.8 and RFC 6286 section 2.3: the connection made by the side with the
        // greater identifier, then the greater AS, stays.
        let us = (self.settings.router_id, self.settings.asn);
        let winner = if us > (open.router_id, open.asn) {
            Side::Ours
        } else {
            Side::Theirs
        };
        let other = self.slot(side.other()).as_ref().map(|other| other.phase);
        let loser = match other {
            Some(Phase::Established) => Some(side),
            Some(Phase::OpenConfirm) => Some(winner.other()),
            Some(Phase::OpenSent) | None => None,
        };
        if let Some(loser) = loser {
            self.say(loser, Fault::COLLISION.into(), out);
            self.slot(loser).take();
        }
        let random = &mut self.random;
        let connection = match side {
            Side::Ours => self.ours.as_mut(),
            Side::Theirs => self.theirs.as_mut(),
        };
        let Some(connection) = connection else {
            return;
        };
        connection.confirm(now, negotiated, hold);
        connection.keep_alive(now, random);
        out.push(Action::Send(connection.id, wire::keepalive()));
        self.stop_dialing(out);
    }

    fn established(&mut self, now: Instant, side: Side, out: &mut Vec<Action>) {
        self.connect_error = None;
        self.stop_dialing(out);
        if self.slot(side.other()).is_some() {
            self.say(side.other(), Fault::COLLISION.into(), out);
            self.slot(side.other()).take();
        }
        if let Some(connection) = self.slot(side) {
            connection.establish(now);
            out.push(Action::Up(connection.id));
        }
    }

    /// Sends a NOTIFICATION and closes; the slot is the caller's to empty.
    fn say(&mut self, side: Side, notification: Notification, out: &mut Vec<Action>) {
        if let Some(connection) = self.slot(side) {
            let id = connection.id;
            out.push(Action::Send(id, wire::notification(&notification)));
            out.push(Action::Sent(notification));
            out.push(Action::Close(id));
        }
    }

    fn refuse(
        &mut self,
        now: Instant,
        side: Side,
        notification: Notification,
        out: &mut Vec<Action>,
    ) {
        self.session_error = Some(format!("sent {}", notification.words()));
        self.say(side, notification, out);
        self.lost(now, side, out);
    }

    /// A connection is no more. The session goes on if there is another one.
    fn lost(&mut self, now: Instant, side: Side, out: &mut Vec<Action>) {
        let Some(connection) = self.slot(side).take() else {
            return;
        };
        if connection.phase == Phase::Established {
            out.push(Action::Down);
            if now.saturating_duration_since(connection.since) >= timers::STABLE {
                self.failures = 0;
            }
        }
        if self.is_without_hope() && self.run == Run::Running && !self.settings.passive {
            self.failures = self.failures.saturating_add(1);
            if let Dial::Waiting { retry_at: before } = self.dial {
                // Never later than planned: a neighbour whose own attempts fail one after the
                // other must not put ours off for ever.
                let at = now + timers::wait(self.failures, &mut self.random);
                let retry_at = Some(before.map_or(at, |before| before.min(at)));
                self.dial = Dial::Waiting { retry_at };
            }
        }
    }

    /// Nothing that would make a connection of ours superfluous.
    fn is_without_hope(&self) -> bool {
        self.ours.is_none() && !self.connections().any(|c| c.phase > Phase::OpenSent)
    }

    fn close_all(&mut self, now: Instant, cease: &Notification, out: &mut Vec<Action>) {
        self.stop_dialing(out);
        for side in [Side::Ours, Side::Theirs] {
            self.say(side, cease.clone(), out);
            self.lost(now, side, out);
        }
        self.dial = Dial::Waiting { retry_at: None };
    }

    fn bar(&mut self, now: Instant, cease: &Notification, out: &mut Vec<Action>) {
        self.session_error = Some(format!("sent {}", cease.words()));
        self.close_all(now, cease, out);
        let until = now + timers::BARRED;
        self.run = Run::Barred { until };
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        match self.run {
            Run::Barred { until } if now >= until => self.start(now, out),
            Run::Barred { .. } | Run::Stopped | Run::Running => {}
        }
        match self.dial {
            // RFC 4271 section 8.2.2, Connect: the attempt is dropped and made again.
            Dial::Dialing { give_up_at } if now >= give_up_at => {
                self.connect_error = Some("connect: no answer".to_owned());
                self.stop_dialing(out);
                self.dial(now, out);
            }
            Dial::Waiting { retry_at: Some(at) } if now >= at => {
                self.dial = Dial::Waiting { retry_at: None };
                if self.is_without_hope() {
                    self.dial(now, out);
                }
            }
            Dial::Dialing { .. } | Dial::Waiting { .. } => {}
        }
        for side in [Side::Ours, Side::Theirs] {
            self.tick_connection(now, side, out);
        }
    }

    fn tick_connection(&mut self, now: Instant, side: Side, out: &mut Vec<Action>) {
        let connection = match side {
            Side::Ours => self.ours.as_mut(),
            Side::Theirs => self.theirs.as_mut(),
        };
        let Some(connection) = connection else {
            return;
        };
        if now >= connection.hold_ends {
            self.refuse(now, side, Fault::HOLD_TIME_ENDED.into(), out);
        } else if connection.keepalive_at.is_some_and(|at| now >= at) {
            connection.keep_alive(now, &mut self.random);
            out.push(Action::Send(connection.id, wire::keepalive()));
        }
    }
}

fn family_afi(family: Family) -> u16 {
    match family {
        Family::Ipv4 => 1,
        Family::Ipv6 => 2,
    }
}
