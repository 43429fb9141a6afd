//! The session with explicit time: every state, every way to end it.

use super::super::wire;
use super::super::wire::AS_TRANS;
use super::super::wire::Capabilities;
use super::super::wire::Capability;
use super::super::wire::Fault;
use super::super::wire::Message;
use super::super::wire::Open;
use super::super::wire::Refresh;
use super::super::wire::Update;
use super::*;
use crate::clock;

pub(super) const US: Asn = Asn(64510);
pub(super) const THEM: Asn = Asn(64500);

const REFRESH: Message<'_> = Message::RouteRefresh {
    afi: 1,
    safi: 1,
    subtype: Refresh::Request,
};

pub(super) const DOWN: Action = Action::Down {
    kept: Families::NONE,
};

pub(super) struct World {
    pub(super) session: Session,
    pub(super) now: Instant,
}

pub(super) fn settings() -> Settings {
    Settings {
        asn: US,
        router_id: Ipv4Addr::new(192, 0, 2, 5),
        neighbour_asn: THEM,
        passive: false,
        hold_time: Duration::from_secs(90),
        connect_retry: Duration::from_secs(30),
        class: Class::Embedded,
        hint: "; a hint",
        options: SessionConfig::default(),
        limit_idle: Some(Duration::from_secs(30 * 60)),
    }
}

pub(super) const CAPABILITIES: &[Capability<'_>] = &[
    Capability::MultiProtocol { afi: 1, safi: 1 },
    Capability::MultiProtocol { afi: 2, safi: 1 },
    Capability::FourOctetAs(THEM),
];

pub(super) fn open(router_id: [u8; 4]) -> Open<'static> {
    Open {
        asn: THEM,
        hold_time: 30,
        router_id: router_id.into(),
        capabilities: Capabilities::of(CAPABILITIES),
    }
}

pub(super) fn id(number: u64) -> ConnectionId {
    ConnectionId(number)
}

pub(super) fn cease(connection: ConnectionId, fault: Fault) -> [Action; 3] {
    let notification = Notification::from(fault);
    [
        Action::Send(connection, wire::notification(&notification)),
        Action::Sent(notification),
        Action::Close(connection),
    ]
}

impl World {
    pub(super) fn new(settings: Settings) -> Self {
        let random = fastrand::Rng::with_seed(7);
        let now = clock::now();
        let mut world = Self {
            session: Session::new(settings, random),
            now,
        };
        assert_eq!(world.session.state(), "idle");
        world.step(Input::Start);
        world
    }

    pub(super) fn step(&mut self, input: Input<'_>) -> Vec<Action> {
        self.session.step(self.now, input)
    }

    /// Lets time pass to the next deadline and ticks.
    pub(super) fn tick(&mut self) -> (Duration, Vec<Action>) {
        let deadline = self.session.deadline().unwrap();
        let waited = deadline.saturating_duration_since(self.now);
        self.now = deadline;
        (waited, self.step(Input::Tick))
    }

    pub(super) fn say(&mut self, connection: ConnectionId, message: Message<'_>) -> Vec<Action> {
        self.step(Input::Message(connection, &message))
    }

    /// Connection 1, made by us, up.
    pub(super) fn established() -> Self {
        let mut world = Self::new(settings());
        world.step(Input::Connected(Side::Ours, id(1)));
        world.say(id(1), Message::Open(open([192, 0, 2, 1])));
        world.say(id(1), Message::Keepalive);
        assert_eq!(world.session.state(), "established");
        world
    }
}

#[test]
fn a_session_comes_up_by_the_book_and_negotiates_the_smaller_hold_time() {
    let mut world = World::new(settings());
    assert_eq!(world.session.state(), "connect");
    let out = world.step(Input::Connected(Side::Ours, id(1)));
    let [Action::Send(to, bytes)] = &out[..] else {
        panic!("{out:?}");
    };
    assert_eq!(*to, id(1));
    let Ok(Message::Open(sent)) = wire::decode(bytes, None) else {
        panic!("no OPEN");
    };
    assert_eq!((sent.asn, sent.hold_time), (US, 90));
    assert!(sent.speaks(Family::Ipv4) && sent.speaks(Family::Ipv6) && sent.speaks_four_octets());
    assert_eq!(world.session.state(), "open-sent");
    assert_eq!(world.session.negotiated(id(1)), None);
    // Four minutes for the OPEN, not the hold time.
    assert_eq!(
        world.session.deadline(),
        Some(world.now + timers::OPEN_HOLD)
    );

    let out = world.say(id(1), Message::Open(open([192, 0, 2, 1])));
    assert_eq!(out, [Action::Send(id(1), wire::keepalive())]);
    assert_eq!(world.session.state(), "open-confirm");
    assert_eq!(world.say(id(1), Message::Keepalive), [Action::Up(id(1))]);
    assert_eq!(world.session.established_since(), Some(world.now));
    let negotiated = world.session.negotiated(id(1)).unwrap();
    assert!(negotiated.four_octets && negotiated.ipv4 && negotiated.ipv6 && negotiated.external);

    // Keepalives within a third of 30 s, however silent the neighbour; then its silence counts.
    let mut keepalives = 0;
    let ended = loop {
        let (waited, out) = world.tick();
        assert!(waited <= Duration::from_secs(10));
        if !matches!(out[..], [Action::KeepAlive(ConnectionId(1), at)] if at == world.now) {
            break out;
        }
        keepalives += 1;
    };
    assert!((3..=4).contains(&keepalives), "{keepalives}");
    let mut expected = Vec::from(cease(id(1), Fault::HOLD_TIME_ENDED));
    expected.push(DOWN);
    assert_eq!(ended, expected);
    let silence = world.now - world.session.established_since().unwrap_or(world.now);
    assert_eq!(silence, Duration::ZERO);
    assert!(
        world
            .session
            .last_error()
            .unwrap()
            .contains("hold timer expired")
    );
    // And tries again soon.
    let (waited, out) = world.tick();
    assert!(waited <= Duration::from_secs(1));
    assert_eq!(out, [Action::Connect]);
}

#[test]
fn keepalives_and_updates_hold_a_session_and_nothing_else_does() {
    let mut world = World::established();
    for message in [Message::Keepalive, Message::Update(Update::default())] {
        world.now += Duration::from_secs(29);
        world.say(id(1), message);
        assert_eq!(world.step(Input::Tick).len(), 1);
    }
    world.now += Duration::from_secs(29);
    let again = Action::Again(id(1), Family::Ipv4);
    assert_eq!(world.say(id(1), REFRESH), [again]);
    world.now += Duration::from_secs(1);
    let out = world.step(Input::Tick);
    assert_eq!(out.last(), Some(&DOWN));
}

#[test]
fn an_open_that_cannot_be_accepted_is_told_why() {
    let refused = |change: fn(&mut Open<'_>)| {
        let mut world = World::new(settings());
        world.step(Input::Connected(Side::Ours, id(1)));
        let mut open = open([192, 0, 2, 1]);
        change(&mut open);
        let out = world.say(id(1), Message::Open(open));
        assert_eq!(out.last(), Some(&Action::Close(id(1))));
        match out.into_iter().nth(1) {
            Some(Action::Sent(notification)) => notification,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        refused(|open| open.asn = Asn(64501)).fault,
        Fault::BAD_PEER_AS
    );
    assert_eq!(
        refused(|open| open.asn = AS_TRANS).fault,
        Fault::BAD_PEER_AS
    );
    assert_eq!(
        refused(|open| open.hold_time = 0).fault,
        Fault::BAD_HOLD_TIME
    );
    let other_family = refused(|open| {
        open.capabilities = Capabilities::of(&[Capability::MultiProtocol { afi: 25, safi: 70 }]);
    });
    assert_eq!(other_family.fault, Fault::UNSUPPORTED_CAPABILITY);
    assert_eq!(other_family.data, [1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1]);
    // RFC 6286: within one AS identifiers differ.
    let inside = Settings {
        neighbour_asn: US,
        ..settings()
    };
    let mut world = World::new(inside);
    world.step(Input::Connected(Side::Ours, id(1)));
    let twin = Open {
        asn: US,
        ..open([192, 0, 2, 5])
    };
    let out = world.say(id(1), Message::Open(twin));
    assert_eq!(out, cease(id(1), Fault::BAD_IDENTIFIER));
}

#[test]
fn a_message_in_the_wrong_state_ends_the_connection_with_that_states_number() {
    let messages = || {
        [
            Message::Keepalive,
            Message::Update(Update::default()),
            REFRESH,
            Message::Open(open([192, 0, 2, 1])),
        ]
    };
    for message in messages().into_iter().take(3) {
        let mut world = World::new(settings());
        world.step(Input::Connected(Side::Ours, id(1)));
        let out = world.say(id(1), message);
        assert_eq!(out, cease(id(1), Fault::UNEXPECTED_IN_OPEN_SENT));
    }
    for message in messages().into_iter().skip(1) {
        let mut world = World::new(settings());
        world.step(Input::Connected(Side::Ours, id(1)));
        world.say(id(1), Message::Open(open([192, 0, 2, 1])));
        let out = world.say(id(1), message);
        assert_eq!(out, cease(id(1), Fault::UNEXPECTED_IN_OPEN_CONFIRM));
    }
    let mut world = World::established();
    let out = world.say(id(1), Message::Open(open([192, 0, 2, 1])));
    assert_eq!(out[..3], cease(id(1), Fault::UNEXPECTED_IN_ESTABLISHED));
    assert_eq!(out[3..], [DOWN]);
    // An UPDATE that is malformed as well, before the session is up: the state counts.
    let mut world = World::new(settings());
    world.step(Input::Connected(Side::Ours, id(1)));
    world.say(id(1), Message::Open(open([192, 0, 2, 1])));
    let out = world.step(Input::Malformed(id(1), Fault::BAD_NETWORK.into()));
    assert_eq!(out, cease(id(1), Fault::UNEXPECTED_IN_OPEN_CONFIRM));
}

#[test]
fn a_notification_is_never_answered_in_any_state() {
    let text = Notification::shutdown("rack\x1b move");
    let goodbye = || Message::Notification(text.borrowed());
    for messages in 0..3 {
        let mut world = World::new(settings());
        world.step(Input::Connected(Side::Ours, id(1)));
        let steps = [Message::Open(open([192, 0, 2, 1])), Message::Keepalive];
        for message in steps.into_iter().take(messages) {
            world.say(id(1), message);
        }
        let out = world.say(id(1), goodbye());
        assert!(
            !out.iter().any(|action| matches!(action, Action::Send(..))),
            "{out:?}"
        );
        assert!(out.contains(&Action::Close(id(1))));
        assert_eq!(out.contains(&DOWN), messages == 2);
        let error = world.session.last_error().unwrap();
        assert!(error.contains("\"rack\\x1b move\""), "{error}");
        // More of it, during the close: nothing is left to end.
        assert_eq!(world.say(id(1), goodbye()), []);
        assert_eq!(world.step(Input::Closed(id(1), String::new())), []);
    }
}

/// Both sides connect at once; the one with the greater identifier keeps its own.
#[test]
fn a_collision_leaves_the_connection_of_the_greater_identifier() {
    for (router_id, winner) in [([192, 0, 2, 1], id(1)), ([192, 0, 2, 9], id(2))] {
        for first in [id(1), id(2)] {
            let mut world = World::new(settings());
            world.step(Input::Connected(Side::Ours, id(1)));
            world.step(Input::Connected(Side::Theirs, id(2)));
            let second = if first == id(1) { id(2) } else { id(1) };
            world.say(first, Message::Open(open(router_id)));
            assert_eq!(world.session.state(), "open-confirm");
            let out = world.say(second, Message::Open(open(router_id)));
            let loser = if winner == id(1) { id(2) } else { id(1) };
            assert_eq!(
                out[..3],
                cease(loser, Fault::COLLISION),
                "{router_id:?} {first:?}"
            );
            let up = world.say(winner, Message::Keepalive);
            assert_eq!(up, [Action::Up(winner)]);
        }
    }
    // RFC 6286 section 2.3: equal identifiers, and our AS is the greater.
    let mut world = World::new(settings());
    world.step(Input::Connected(Side::Ours, id(1)));
    world.step(Input::Connected(Side::Theirs, id(2)));
    world.say(id(2), Message::Open(open([192, 0, 2, 5])));
    let out = world.say(id(1), Message::Open(open([192, 0, 2, 5])));
    assert_eq!(out[..3], cease(id(2), Fault::COLLISION));
}

#[test]
fn an_established_session_is_not_disturbed_by_another_connection() {
    let mut world = World::established();
    let out = world.step(Input::Connected(Side::Theirs, id(2)));
    assert_eq!(out, cease(id(2), Fault::COLLISION));
    assert_eq!(world.session.state(), "established");
    // One that was half-way when the session came up is closed then.
    let mut world = World::new(settings());
    world.step(Input::Connected(Side::Theirs, id(1)));
    world.step(Input::Connected(Side::Ours, id(2)));
    world.say(id(2), Message::Open(open([192, 0, 2, 9])));
    let out = world.say(id(2), Message::Keepalive);
    assert_eq!(out[..3], cease(id(1), Fault::COLLISION));
    assert_eq!(out[3..], [Action::Up(id(2))]);
    // A neighbour that connects again before its OPEN replaces what it forgot.
    let mut world = World::new(settings());
    world.step(Input::Connected(Side::Theirs, id(1)));
    let out = world.step(Input::Connected(Side::Theirs, id(2)));
    assert_eq!(out[..3], cease(id(1), Fault::COLLISION));
    assert!(matches!(out[3], Action::Send(ConnectionId(2), _)));
}

#[test]
fn an_open_on_their_connection_ends_our_attempt_to_connect() {
    let mut world = World::new(settings());
    world.step(Input::Connected(Side::Theirs, id(1)));
    assert_eq!(world.session.state(), "open-sent");
    let out = world.say(id(1), Message::Open(open([192, 0, 2, 9])));
    let keepalive = Action::Send(id(1), wire::keepalive());
    assert_eq!(out, [keepalive, Action::CancelConnect]);
}

#[test]
fn connecting_is_retried_with_jitter_and_an_attempt_without_answer_is_renewed() {
    let mut world = World::new(settings());
    let (waited, out) = world.tick();
    assert_eq!(out, [Action::CancelConnect, Action::Connect]);
    assert!(waited >= Duration::from_millis(22_500) && waited <= Duration::from_secs(30));
    world.step(Input::ConnectFailed("connect: refused".to_owned()));
    assert_eq!(world.session.state(), "active");
    assert_eq!(world.session.last_error().unwrap(), "connect: refused");
    let (again, out) = world.tick();
    assert_eq!(out, [Action::Connect]);
    assert!(again >= Duration::from_millis(22_500) && again <= Duration::from_secs(30));
    assert_ne!(again, waited);
    // Success forgets it.
    world.step(Input::Connected(Side::Ours, id(1)));
    assert_eq!(world.session.last_error(), None);
    let mut waiting = World::new(Settings {
        passive: true,
        ..settings()
    });
    assert_eq!(
        (waiting.session.state(), waiting.session.deadline()),
        ("active", None)
    );
    assert_eq!(waiting.step(Input::Tick), []);
}

#[test]
fn a_neighbour_that_fails_again_and_again_is_tried_ever_less_often() {
    let mut world = World::new(settings());
    let mut waits = Vec::new();
    for number in 1..=10 {
        world.step(Input::Connected(Side::Ours, id(number)));
        world.step(Input::Malformed(id(number), Fault::NOT_SYNCHRONISED.into()));
        let (waited, out) = world.tick();
        assert_eq!(out, [Action::Connect]);
        waits.push(waited.as_secs_f64());
    }
    assert!(waits[0] <= 1.0 && waits[4] > 10.0, "{waits:?}");
    assert!(waits[9] > 80.0 && waits[9] <= 120.0, "{waits:?}");
    // It is let in when it comes by itself, and a session that stands makes up for all.
    world.step(Input::Connected(Side::Theirs, id(20)));
    world.say(id(20), Message::Open(open([192, 0, 2, 9])));
    world.say(id(20), Message::Keepalive);
    for _ in 0..3 {
        world.now += Duration::from_secs(25);
        world.say(id(20), Message::Keepalive);
    }
    world.step(Input::Closed(id(20), "closed".to_owned()));
    assert!(world.tick().0 <= Duration::from_secs(1));
}

#[test]
fn too_many_prefixes_bar_a_neighbour_for_long() {
    for (input, fault) in [
        (
            Input::TooManyPrefixes(Family::Ipv6, 500),
            Fault::TOO_MANY_PREFIXES,
        ),
        (Input::OutOfResources, Fault::OUT_OF_RESOURCES),
    ] {
        let mut world = World::established();
        let out = world.step(input);
        let Some(Action::Sent(sent)) = out.get(1) else {
            panic!("{out:?}");
        };
        assert_eq!(sent.fault, fault);
        if fault == Fault::TOO_MANY_PREFIXES {
            assert_eq!(sent.data, [0, 2, 1, 0, 0, 1, 244]);
        }
        assert!(out.contains(&DOWN));
        assert_eq!(world.session.state(), "idle");
        let again = world.step(Input::Connected(Side::Theirs, id(2)));
        assert_eq!(again, cease(id(2), Fault::REJECTED));
        let (waited, out) = world.tick();
        assert_eq!(
            (waited, out),
            (Duration::from_secs(30 * 60), vec![Action::Connect])
        );
    }
}

#[test]
fn stopping_says_why_on_every_connection_and_is_final() {
    let mut world = World::new(settings());
    world.step(Input::Connected(Side::Ours, id(1)));
    world.step(Input::Connected(Side::Theirs, id(2)));
    let out = world.step(Input::Stop("moving to rack 7".to_owned()));
    for connection in [id(1), id(2)] {
        let bytes = wire::notification(&Notification::shutdown("moving to rack 7"));
        assert!(out.contains(&Action::Send(connection, bytes)));
        assert!(out.contains(&Action::Close(connection)));
    }
    assert_eq!(
        (world.session.state(), world.session.deadline()),
        ("idle", None)
    );
    let late = world.step(Input::Connected(Side::Theirs, id(3)));
    assert_eq!(late, cease(id(3), Fault::REJECTED));
    assert_eq!(world.step(Input::Tick), []);
    let mut world = World::established();
    let out = world.step(Input::Stop(String::new()));
    assert_eq!(out.last(), Some(&DOWN));
}

#[test]
fn a_neighbour_whose_own_attempts_fail_does_not_put_ours_off() {
    let mut world = World::new(settings());
    world.step(Input::ConnectFailed("connect: refused".to_owned()));
    let planned = world.session.deadline().unwrap();
    for number in 1..=12 {
        world.step(Input::Connected(Side::Theirs, id(number)));
        world.step(Input::Closed(id(number), "gone".to_owned()));
        assert!(world.session.deadline().unwrap() <= planned, "{number}");
        world.now += Duration::from_millis(1);
    }
}
