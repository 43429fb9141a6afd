//! One neighbour's session: the state machine of RFC 4271 section 8, sans-IO.
//!
//! `peer` reports connections, messages and time, calls [`Session::step`], performs the [`Action`]s
//! in their order, and sleeps until [`Session::deadline`]. A session may have two connections, one
//! made by each side, until the collision is resolved (section 6.8); and a third, established one,
//! while a neighbour that restarted comes back before its end was noticed (RFC 4724 section 4.2).
//!
//! ```text
//! Idle ──start──▶ Connect ──connected──▶ OpenSent ──OPEN──▶ OpenConfirm ──KEEPALIVE──▶ Established
//!  ▲ stop, barred   │  ▲ retry              │ any error: NOTIFICATION, close                │
//!  └────────────────▼──┴──── Active ◀───────┴───────────────────────────────────────────────┘
//! ```
//!
//! `agree` says what is offered and what comes of two OPENs, `stale` which routes outlive their
//! session. BFD (RFC 5880) is left out: the hold time is what tells that a router is gone, and a
//! box whose router is gone has no viewers to lose before the router's other neighbours notice.

mod agree;
mod connection;
mod messages;
mod stale;
mod steps;
mod timers;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod option_tests;
#[cfg(test)]
mod restart_tests;
#[cfg(test)]
mod stream_tests;
#[cfg(test)]
mod tests;

use super::SessionConfig;
use super::wire::Message;
use super::wire::Negotiated;
use super::wire::Notification;
use crate::clock::Instant;
use crate::prefix::Family;
use crate::route::Asn;
use crate::route::Class;
use connection::Connection;
use connection::Phase;
use serde::Serialize;
use stale::FAMILIES;
use stale::Stale;
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
    pub(super) class: Class,
    pub(super) passive: bool,
    pub(super) hold_time: Duration,
    pub(super) connect_retry: Duration,
    /// What may be the reason when nobody answers.
    pub(super) hint: &'static str,
    pub(super) options: SessionConfig,
    /// After a limit was exceeded; `None`: until somebody starts it again.
    pub(super) limit_idle: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Session {
    settings: Settings,
    random: fastrand::Rng,
    run: Run,
    dial: Dial,
    /// Not established yet, made by us and by the neighbour.
    ours: Option<Connection>,
    theirs: Option<Connection>,
    established: Option<Connection>,
    /// Attempts and sessions that ended since the last good one.
    failures: u32,
    /// Established sessions that we had to end, since the last good one.
    ended: u32,
    stale: Stale,
    /// No session has been up since we started.
    has_restarted: bool,
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

/// Place of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Ours,
    Theirs,
    Established,
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
    /// Nothing is read of it at the moment, for reasons of ours: its silence says nothing.
    HeldUp(ConnectionId),
    /// The connection is gone, with the reason in words.
    Closed(ConnectionId, String),
    /// More routes of a family than are allowed.
    TooManyPrefixes(Family, u32),
    /// The neighbour's attributes need more memory than it may have.
    OutOfResources,
    /// Everything again, please; of both families if none is named.
    Refresh(Option<Family>),
    /// Until [`Input::Start`]; the text goes to the neighbour's operator (RFC 9003).
    Stop(String),
    /// The session ends and begins again, with a text as well.
    Reset(String),
    Tick,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Connect to the neighbour; one attempt at a time.
    Connect,
    /// Give the attempt up.
    CancelConnect,
    Send(ConnectionId, Vec<u8>),
    /// A KEEPALIVE that was due then.
    KeepAlive(ConnectionId, Instant),
    /// After what was sent has left.
    Close(ConnectionId),
    /// The session is established on this connection.
    Up(ConnectionId),
    /// The UPDATE that came with [`Input::Message`] holds.
    Apply(ConnectionId),
    /// The neighbour wants to hear again what it is told of the family (RFC 2918 section 4).
    Again(ConnectionId, Family),
    /// All routes of the family are stale from here on, until they are announced again.
    MarkStale(Family),
    /// What is stale of the family goes.
    Sweep(Family),
    /// What is stale of the family stays for long (RFC 9494); what must not, goes.
    SweepNotLongLived(Family),
    /// Everything of the family goes; the session stays.
    Forget(Family),
    /// The session is over. Routes of these families become stale; those of others go.
    Down {
        kept: Families,
    },
    /// For logs and counters.
    Sent(Notification),
    Received(Notification),
}

/// A set of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Families {
    pub(super) ipv4: bool,
    pub(super) ipv6: bool,
}

/// What there is to see of a session beyond its state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SessionFacts {
    /// As the neighbour calls itself; printable.
    pub hostname: Option<String>,
    /// Its BGP identifier.
    pub router_id: Option<Ipv4Addr>,
    /// As the neighbour calls itself towards us (RFC 9234).
    pub role: Option<&'static str>,
    /// Seconds, negotiated.
    pub hold_time_s: Option<u64>,
    /// What both sides can do.
    pub capabilities: Vec<&'static str>,
    /// Families whose routes are taken.
    pub families: Vec<&'static str>,
    /// Families that were given up in this session: what came of them could not be read (RFC 7606
    /// section 2, AFI disable).
    pub disabled: Vec<&'static str>,
    /// Families that the neighbour has sent whole (End-of-RIB, RFC 4724).
    pub end_of_rib: Vec<&'static str>,
    /// Families with routes that outlive their session, or wait to be sent again.
    pub stale: Vec<&'static str>,
}

impl Families {
    pub(super) const NONE: Self = Self {
        ipv4: false,
        ipv6: false,
    };

    pub(super) fn has(self, family: Family) -> bool {
        match family {
            Family::Ipv4 => self.ipv4,
            Family::Ipv6 => self.ipv6,
        }
    }

    pub(super) fn set(&mut self, family: Family, held: bool) {
        match family {
            Family::Ipv4 => self.ipv4 = held,
            Family::Ipv6 => self.ipv6 = held,
        }
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Family> {
        FAMILIES.into_iter().filter(move |family| self.has(*family))
    }

    fn words(self) -> Vec<&'static str> {
        self.iter().map(family_word).collect()
    }
}

/// As it is shown.
pub(super) fn family_word(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    }
}

impl Session {
    pub(super) fn new(settings: Settings, random: fastrand::Rng) -> Self {
        let patience = timers::patience(settings.options.graceful_restart);
        Self {
            settings,
            random,
            run: Run::Stopped,
            dial: Dial::Waiting { retry_at: None },
            ours: None,
            theirs: None,
            established: None,
            failures: 0,
            ended: 0,
            stale: Stale::new(patience),
            has_restarted: true,
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
        let stale = self.stale.deadline();
        connections.chain(run).chain(dial).chain(stale).min()
    }

    /// How to read what comes in on this connection; `None` before its OPEN.
    pub(super) fn negotiated(&self, id: ConnectionId) -> Option<Negotiated> {
        let connection = self.connections().find(|c| c.id == id)?;
        connection.agreed.as_ref().map(|agreed| agreed.negotiated)
    }

    /// RFC 4271 section 8.2.2. A connection whose OPEN is delayed is in Connect or Active.
    pub(super) fn state(&self) -> &'static str {
        let phase = self.connections().map(|connection| connection.phase).max();
        match (self.run, phase, self.dial) {
            (Run::Running, Some(Phase::Established), _) => "established",
            (Run::Running, Some(Phase::OpenConfirm), _) => "open-confirm",
            (Run::Running, Some(Phase::OpenSent), _) => "open-sent",
            (Run::Running, Some(Phase::Delayed), _) if self.ours.is_some() => "connect",
            (Run::Running, Some(Phase::Delayed) | None, Dial::Dialing { .. }) => "connect",
            (Run::Running, Some(Phase::Delayed) | None, Dial::Waiting { .. }) => "active",
            (Run::Stopped | Run::Barred { .. }, _, _) => "idle",
        }
    }

    pub(super) fn established_since(&self) -> Option<Instant> {
        self.established.as_ref().map(|connection| connection.since)
    }

    /// Whether the neighbour can be asked to send everything again.
    pub(super) fn can_refresh(&self) -> bool {
        let agreed = self.established.as_ref().and_then(|c| c.agreed.as_ref());
        agreed.is_some_and(|agreed| agreed.refresh != agree::Refreshing::Never)
    }

    /// In words; bounded and printable: why the session ended, and what has come of the attempts
    /// since.
    pub(super) fn last_error(&self) -> Option<String> {
        match (&self.session_error, &self.connect_error) {
            (Some(session), Some(connect)) => Some(format!("{session}; then {connect}")),
            (Some(only), None) | (None, Some(only)) => Some(only.clone()),
            (None, None) => None,
        }
    }

    pub(super) fn facts(&self) -> SessionFacts {
        let mut facts = SessionFacts {
            stale: self.stale.families().words(),
            ..SessionFacts::default()
        };
        let connection = self.established.as_ref();
        if let Some((connection, agreed)) = connection.and_then(|c| Some((c, c.agreed.as_ref()?))) {
            facts.hostname.clone_from(&agreed.hostname);
            facts.role = agreed.role.map(super::options::role_words);
            facts.router_id = Some(agreed.router_id);
            facts.hold_time_s = Some(agreed.hold.as_secs());
            facts.capabilities = agreed.words();
            facts.families = agreed.families().words();
            facts.disabled = connection.disabled.words();
            facts.end_of_rib = connection.end_of_rib.words();
        }
        facts
    }

    fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.ours
            .iter()
            .chain(&self.theirs)
            .chain(&self.established)
    }

    fn slot_of(&self, id: ConnectionId) -> Option<Slot> {
        let all = [
            (Slot::Ours, &self.ours),
            (Slot::Theirs, &self.theirs),
            (Slot::Established, &self.established),
        ];
        let is = |(_, held): &(Slot, &Option<Connection>)| {
            held.as_ref().is_some_and(|connection| connection.id == id)
        };
        all.into_iter().find(is).map(|(slot, _)| slot)
    }

    fn slot(&mut self, slot: Slot) -> &mut Option<Connection> {
        match slot {
            Slot::Ours => &mut self.ours,
            Slot::Theirs => &mut self.theirs,
            Slot::Established => &mut self.established,
        }
    }
}

impl From<Side> for Slot {
    fn from(side: Side) -> Self {
        match side {
            Side::Ours => Self::Ours,
            Side::Theirs => Self::Theirs,
        }
    }
}
