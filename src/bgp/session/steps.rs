//! What each input does in each state.

use super::Action;
use super::Connection;
use super::ConnectionId;
use super::Dial;
use super::FAMILIES;
use super::Families;
use super::Input;
use super::Phase;
use super::Run;
use super::Session;
use super::Side;
use super::Slot;
use super::messages::sweep;
use super::timers;
use crate::bgp::wire;
use crate::bgp::wire::Capabilities;
use crate::bgp::wire::Fault;
use crate::bgp::wire::Notification;
use crate::bgp::wire::Open;
use crate::clock::Instant;
use crate::prefix::Family;
use std::time::Duration;

/// Sessions that we had to end, one after the other, before a neighbour must wait to be let in
/// (RFC 4271 section 8.1.1, DampPeerOscillations). Fewer are an accident, and each costs a table.
const OSCILLATIONS: u32 = 5;

/// RFC 4486: administrative reset. Peer de-configured (3) and other configuration change (6) are
/// understood and never said: neighbours are read at the start, and a stop is a shutdown.
const RESET: Fault = Fault(6, 4);

/// Why a connection is no more: it decides whether routes may outlive it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The connection broke.
    Broken,
    /// Another one took its place (RFC 4724 section 5).
    Replaced,
    /// The neighbour sent a NOTIFICATION.
    Told { is_hard: bool },
    /// We sent one for what the neighbour did.
    Refused,
    /// We ended it and want nothing to be left.
    Ended,
}

impl Session {
    pub(in crate::bgp) fn step(&mut self, now: Instant, input: Input<'_>) -> Vec<Action> {
        let mut out = Vec::new();
        match input {
            Input::Start => self.start(now, &mut out),
            Input::Connected(side, id) => self.connected(now, side, id, &mut out),
            Input::ConnectFailed(why) => self.connect_failed(now, why),
            Input::Message(id, message) => {
                if let Some(slot) = self.slot_of(id) {
                    self.message(now, slot, message, &mut out);
                }
            }
            Input::Malformed(id, notification) => {
                if let Some(slot) = self.slot_of(id) {
                    let notification = self.in_this_state(slot, notification);
                    self.refuse(now, slot, notification, &mut out);
                }
            }
            Input::HeldUp(id) => {
                if let Some(slot) = self.slot_of(id) {
                    self.held_up(now, slot);
                }
            }
            Input::Closed(id, why) => {
                if let Some(slot) = self.slot_of(id) {
                    let error = match slot {
                        Slot::Established => &mut self.session_error,
                        // An attempt that came to nothing must not hide why the session ended.
                        Slot::Ours | Slot::Theirs => &mut self.connect_error,
                    };
                    *error = Some(why);
                    self.lost(now, slot, Cause::Broken, &mut out);
                }
            }
            Input::TooManyPrefixes(family, most) => {
                let [high, low] = family_afi(family).to_be_bytes();
                let mut data = vec![high, low, 1];
                data.extend_from_slice(&most.to_be_bytes());
                let cease = Notification::new(Fault::TOO_MANY_PREFIXES, data);
                self.bar(now, &cease, &mut out);
            }
            Input::OutOfResources => {
                let cease = Fault::OUT_OF_RESOURCES.into();
                self.bar(now, &cease, &mut out);
            }
            Input::Refresh(only) => self.ask_again(only, &mut out),
            Input::Stop(text) => {
                let cease = Notification::shutdown(&text);
                self.session_error = Some(format!("sent {}", cease.words()));
                self.close_all(now, &cease, &mut out);
                self.run = Run::Stopped;
            }
            Input::Reset(text) => {
                let cease = Notification::shutdown(&text);
                let cease = Notification::new(RESET, cease.data);
                self.session_error = Some(format!("sent {}", cease.words()));
                self.close_all(now, &cease, &mut out);
                if self.run == Run::Running {
                    self.dial(now, &mut out);
                }
            }
            Input::Tick => self.tick(now, &mut out),
        }
        out
    }

    fn start(&mut self, now: Instant, out: &mut Vec<Action>) {
        match self.run {
            Run::Stopped | Run::Barred { .. } => {
                self.run = Run::Running;
                if self.established.is_none() {
                    self.dial(now, out);
                }
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

    pub(super) fn stop_dialing(&mut self, out: &mut Vec<Action>) {
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
            Run::Running if self.may_have_restarted(side) => None,
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
        let slot = Slot::from(side);
        self.say(slot, Fault::COLLISION.into(), out);
        let delay = self.settings.options.delay_open;
        *self.slot(slot) = Some(Connection::delayed(id, now, delay));
        if delay.is_zero() {
            self.send_open(now, slot, out);
        }
    }

    /// RFC 4724 section 5: who can restart may come again before its end was noticed.
    fn may_have_restarted(&self, side: Side) -> bool {
        let established = self.established.as_ref().and_then(|c| c.agreed.as_ref());
        side == Side::Theirs && established.is_some_and(|agreed| agreed.restart.is_some())
    }

    pub(super) fn send_open(&mut self, now: Instant, slot: Slot, out: &mut Vec<Action>) {
        let capabilities = self.settings.offered(self.has_restarted);
        let settings = &self.settings;
        let bytes = wire::open(&Open {
            asn: settings.asn,
            hold_time: u16::try_from(settings.hold_time.as_secs()).unwrap_or(u16::MAX),
            router_id: settings.router_id,
            capabilities: Capabilities::of(&capabilities),
        });
        if let Some(connection) = self.slot(slot) {
            connection.open_sent(now);
            out.push(Action::Send(connection.id, bytes));
        }
    }

    /// Sends a NOTIFICATION and closes; the slot is the caller's to empty.
    pub(super) fn say(&mut self, slot: Slot, notification: Notification, out: &mut Vec<Action>) {
        if let Some(connection) = self.slot(slot) {
            let id = connection.id;
            out.push(Action::Send(id, wire::notification(&notification)));
            out.push(Action::Sent(notification));
            out.push(Action::Close(id));
        }
    }

    pub(super) fn refuse(
        &mut self,
        now: Instant,
        slot: Slot,
        notification: Notification,
        out: &mut Vec<Action>,
    ) {
        self.note(slot, format!("sent {}", notification.words()));
        self.say(slot, notification, out);
        self.lost(now, slot, Cause::Refused, out);
    }

    /// Why a connection ended. What came of a stray one beside an established session says nothing
    /// of that session.
    pub(super) fn note(&mut self, slot: Slot, words: String) {
        if slot != Slot::Established && self.established.is_some() {
            self.connect_error = Some(words);
        } else {
            self.session_error = Some(words);
        }
    }

    /// A connection is no more. The session goes on if there is another one.
    pub(super) fn lost(&mut self, now: Instant, slot: Slot, cause: Cause, out: &mut Vec<Action>) {
        let Some(connection) = self.slot(slot).take() else {
            return;
        };
        if connection.phase == Phase::Established {
            self.down(now, &connection, cause, out);
        }
        let is_over = cause == Cause::Replaced || self.run != Run::Running;
        if self.is_without_hope() && !is_over && !self.settings.passive {
            self.failures = self.failures.saturating_add(1);
            if let Dial::Waiting { retry_at: before } = self.dial {
                // Never later than planned: a neighbour whose own attempts fail one after the
                // other must not put ours off for ever.
                let first = self.settings.options.idle_hold;
                let at = now + timers::wait(first, self.failures, &mut self.random);
                let retry_at = Some(before.map_or(at, |before| before.min(at)));
                self.dial = Dial::Waiting { retry_at };
            }
        }
        // A session that stands is not to end because of a connection beside it.
        let is_alone = self.established.is_none() && self.run == Run::Running;
        if self.ended >= OSCILLATIONS && cause == Cause::Refused && is_alone {
            let first = self.settings.options.idle_hold;
            if !first.is_zero() {
                let time = timers::wait(first, self.ended, &mut self.random);
                self.stay_idle(now, &Fault::REJECTED.into(), time, out);
            }
        }
    }

    /// The established session is over.
    fn down(&mut self, now: Instant, connection: &Connection, cause: Cause, out: &mut Vec<Action>) {
        if now.saturating_duration_since(connection.since) >= timers::STABLE {
            (self.failures, self.ended) = (0, 0);
        }
        if cause == Cause::Refused {
            self.ended = self.ended.saturating_add(1);
        }
        let restart = connection.agreed.as_ref().and_then(|agreed| agreed.restart);
        let restart = restart.filter(|restart| match cause {
            Cause::Broken | Cause::Replaced => true,
            // RFC 8538 section 4: as if the connection had broken.
            Cause::Told { is_hard: false } | Cause::Refused => restart.notification,
            Cause::Told { is_hard: true } | Cause::Ended => false,
        });
        let mut kept = Families::NONE;
        for family in FAMILIES {
            let said = restart.map(|restart| restart.family(family));
            let said = said.filter(|said| said.is_named);
            let (time, long) = match (restart, said) {
                (Some(restart), Some(said)) => {
                    let most = self.settings.options.graceful_restart;
                    (restart.time.min(most), said.long_lived)
                }
                (_, _) => (Duration::ZERO, Duration::ZERO),
            };
            let (verdict, is_kept) = self.stale.fall(now, family, time, long);
            if is_kept {
                sweep(verdict, family, out);
            }
            kept.set(family, is_kept);
        }
        out.push(Action::Down { kept });
        for family in kept.iter() {
            if self.stale.is_long_lived(family) {
                out.push(Action::SweepNotLongLived(family));
            }
        }
    }

    fn held_up(&mut self, now: Instant, slot: Slot) {
        if let Some(connection) = self.slot(slot) {
            match connection.phase {
                Phase::OpenConfirm | Phase::Established => connection.heard(now),
                Phase::Delayed | Phase::OpenSent => {}
            }
        }
    }

    /// Nothing that would make a connection of ours superfluous.
    fn is_without_hope(&self) -> bool {
        self.ours.is_none() && !self.connections().any(|c| c.phase > Phase::OpenSent)
    }

    /// Every connection, and what outlived the last.
    fn close_all(&mut self, now: Instant, cease: &Notification, out: &mut Vec<Action>) {
        self.stop_dialing(out);
        for slot in [Slot::Ours, Slot::Theirs, Slot::Established] {
            let agreed = self.slot(slot).as_ref().and_then(|c| c.agreed.as_ref());
            let restart = agreed.and_then(|agreed| agreed.restart);
            // RFC 8538 section 3: otherwise the neighbour would wait for us.
            let is_hard = restart.is_some_and(|restart| restart.notification);
            let said = if is_hard && slot == Slot::Established {
                cease.hard()
            } else {
                cease.clone()
            };
            self.say(slot, said, out);
            self.lost(now, slot, Cause::Ended, out);
        }
        for family in FAMILIES {
            if self.stale.families().has(family) {
                self.stale.forget(family);
                out.push(Action::Sweep(family));
            }
        }
        self.dial = Dial::Waiting { retry_at: None };
    }

    /// The neighbour went beyond a limit.
    fn bar(&mut self, now: Instant, cease: &Notification, out: &mut Vec<Action>) {
        // Who was stopped by an operator is not to come back by itself.
        if self.run == Run::Stopped {
            return;
        }
        self.session_error = Some(format!("sent {}", cease.words()));
        self.close_all(now, cease, out);
        self.run = match self.settings.limit_idle {
            Some(idle) => Run::Barred { until: now + idle },
            None => Run::Stopped,
        };
    }

    /// Barred, but what is stale stays for its own time.
    fn stay_idle(
        &mut self,
        now: Instant,
        cease: &Notification,
        time: Duration,
        out: &mut Vec<Action>,
    ) {
        let until = now + time;
        self.run = Run::Barred { until };
        self.stop_dialing(out);
        for slot in [Slot::Ours, Slot::Theirs] {
            self.say(slot, cease.clone(), out);
            self.slot(slot).take();
        }
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        match self.run {
            Run::Barred { until } if now >= until => self.start(now, out),
            Run::Barred { .. } | Run::Stopped | Run::Running => {}
        }
        match self.dial {
            // RFC 4271 section 8.2.2, Connect: the attempt is dropped and made again.
            Dial::Dialing { give_up_at } if now >= give_up_at => {
                self.connect_error = Some(format!("connect: no answer{}", self.settings.hint));
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
        for slot in [Slot::Ours, Slot::Theirs, Slot::Established] {
            self.tick_connection(now, slot, out);
        }
        for family in FAMILIES {
            let verdict = self.stale.tick(now, family);
            sweep(verdict, family, out);
        }
    }

    fn tick_connection(&mut self, now: Instant, slot: Slot, out: &mut Vec<Action>) {
        let mut random = self.random.fork();
        let Some(connection) = self.slot(slot) else {
            return;
        };
        if now >= connection.hold_ends {
            match connection.phase {
                // RFC 4271 section 8.2.2, event 12: it has had its time to speak first.
                Phase::Delayed => self.send_open(now, slot, out),
                Phase::OpenSent => {
                    self.refuse(now, slot, Fault::HOLD_TIME_ENDED.into(), out);
                    let hint = self.settings.hint;
                    self.note(slot, format!("connected, but no OPEN came{hint}"));
                }
                Phase::OpenConfirm | Phase::Established => {
                    self.refuse(now, slot, Fault::HOLD_TIME_ENDED.into(), out);
                }
            }
        } else if let Some(at) = connection.keepalive_at.filter(|at| now >= *at) {
            connection.keep_alive(now, &mut random);
            out.push(Action::KeepAlive(connection.id, at));
        }
    }
}

fn family_afi(family: Family) -> u16 {
    match family {
        Family::Ipv4 => 1,
        Family::Ipv6 => 2,
    }
}
