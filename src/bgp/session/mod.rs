//! One neighbour's session: the state machine of RFC 4271 section 8, sans-IO.
//!
//! `peer` reports connections, messages and time, calls [`Session::step`], performs the [`Action`]s
//! in their order, and sleeps until [`Session::deadline`]. A session may have two connections, one
//! made by each side, until the collision is resolved (section 6.8).
//!
//! ```text
//! Idle ──start──▶ Connect ──connected──▶ OpenSent ──OPEN──▶ OpenConfirm ──KEEPALIVE──▶ Established
//!  ▲ stop, barred   │  ▲ retry              │ any error: NOTIFICATION, close                │
//!  └────────────────▼──┴──── Active ◀───────┴───────────────────────────────────────────────┘
//! ```

mod connection;
mod steps;
mod timers;

#[cfg(test)]
mod tests;

use super::wire::Message;
use super::wire::Negotiated;
use super::wire::Notification;
use crate::clock::Instant;
use crate::prefix::Family;
use crate::route::Asn;
use connection::Connection;
use connection::Phase;
use std::net::Ipv4Addr;
use std::time::Duration;

pub(super) use connection::Side;

/// Drawn by whoever owns the sockets; never reused within a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ConnectionId(pub(super) u64);

/// What the session must know of the configuration.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) asn: Asn,
    pub(super) router_id: Ipv4Addr,
    pub(super) neighbour_asn: Asn,
    pub(super) passive: bool,
    pub(super) hold_time: Duration,
    pub(super) connect_retry: Duration,
}

#[derive(Debug)]
pub(super) struct Session {
    settings: Settings,
    random: fastrand::Rng,
    run: Run,
    dial: Dial,
    ours: Option<Connection>,
    theirs: Option<Connection>,
    /// Sessions that ended since the last good one.
    failures: u32,
    session_error: Option<String>,
    connect_error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    Stopped,
    /// Neither connects nor accepts until then.
    Barred {
        until: Instant,
    },
    Running,
}

/// Our own attempts to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dial {
    /// `None`: not at all, until every connection is lost.
    Waiting {
        retry_at: Option<Instant>,
    },
    Dialing {
        give_up_at: Instant,
    },
}

#[derive(Debug)]
pub(super) enum Input<'a> {
    Start,
    /// A TCP connection stands.
    Connected(Side, ConnectionId),
    /// The attempt that [`Action::Connect`] asked for came to nothing.
    ConnectFailed(String),
    Message(ConnectionId, &'a Message<'a>),
    /// Bytes that must end the connection, with what to say to that.
    Malformed(ConnectionId, Notification),
    /// The connection is gone, with the reason in words.
    Closed(ConnectionId, String),
    /// More routes of a family than are allowed.
    TooManyPrefixes(Family, u32),
    /// The neighbour's attributes need more memory than it may have.
    OutOfResources,
    /// For good; the text goes to the neighbour's operator (RFC 9003).
    Stop(String),
    Tick,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Connect to the neighbour; one attempt at a time.
    Connect,
    /// Give the attempt up.
    CancelConnect,
    Send(ConnectionId, Vec<u8>),
    /// After what was sent has left.
    Close(ConnectionId),
    /// The session is established on this connection.
    Up(ConnectionId),
    /// The UPDATE that came on this connection counts: whoever read it still holds it.
    Apply(ConnectionId),
    /// The session is over: its routes must go.
    Down,
    /// For logs and counters.
    Sent(Notification),
    Received(Notification),
}

impl Session {
    pub(super) fn new(settings: Settings, random: fastrand::Rng) -> Self {
        Self {
            settings,
            random,
            run: Run::Stopped,
            dial: Dial::Waiting { retry_at: None },
            ours: None,
            theirs: None,
            failures: 0,
            session_error: None,
            connect_error: None,
        }
    }

    /// When to send [`Input::Tick`].
    pub(super) fn deadline(&self) -> Option<Instant> {
        let run = match self.run {
            Run::Barred { until } => Some(until),
            Run::Stopped | Run::Running => None,
        };
        let dial = match self.dial {
            Dial::Waiting { retry_at } => retry_at,
            Dial::Dialing { give_up_at } => Some(give_up_at),
        };
        let connections = self.connections().map(Connection::deadline);
        connections.chain(run).chain(dial).min()
    }

    /// How to read what comes in on this connection; `None` before its OPEN.
    pub(super) fn negotiated(&self, id: ConnectionId) -> Option<Negotiated> {
        self.connections().find(|c| c.id == id)?.negotiated
    }

    /// RFC 4271 section 8.2.2.
    pub(super) fn state(&self) -> &'static str {
        let phase = self.connections().map(|connection| connection.phase).max();
        match (self.run, phase, self.dial) {
            (Run::Running, Some(Phase::Established), _) => "established",
            (Run::Running, Some(Phase::OpenConfirm), _) => "open-confirm",
            (Run::Running, Some(Phase::OpenSent), _) => "open-sent",
            (Run::Running, None, Dial::Dialing { .. }) => "connect",
            (Run::Running, None, Dial::Waiting { .. }) => "active",
            (Run::Stopped | Run::Barred { .. }, _, _) => "idle",
        }
    }

    pub(super) fn established_since(&self) -> Option<Instant> {
        let is_up = |c: &&Connection| c.phase == Phase::Established;
        self.connections().find(is_up).map(|c| c.since)
    }

    /// In words; bounded and printable.
    pub(super) fn last_error(&self) -> Option<String> {
        let last = self.connect_error.as_ref().or(self.session_error.as_ref());
        last.cloned()
    }

    fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.ours.iter().chain(&self.theirs)
    }

    fn side(&self, id: ConnectionId) -> Option<Side> {
        let is = |slot: &Option<Connection>| slot.as_ref().is_some_and(|c| c.id == id);
        if is(&self.ours) {
            Some(Side::Ours)
        } else {
            is(&self.theirs).then_some(Side::Theirs)
        }
    }

    fn slot(&mut self, side: Side) -> &mut Option<Connection> {
        match side {
            Side::Ours => &mut self.ours,
            Side::Theirs => &mut self.theirs,
        }
    }
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Ours => Self::Theirs,
            Self::Theirs => Self::Ours,
        }
    }
}
