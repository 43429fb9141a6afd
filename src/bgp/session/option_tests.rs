//! What a session does with its options: a delayed OPEN, idle hold, roles, capabilities.

use super::super::Role;
use super::super::wire;
use super::super::wire::AddPath;
use super::super::wire::Capabilities;
use super::super::wire::Capability;
use super::super::wire::Fault;
use super::super::wire::Open;
use super::super::wire::Update;
use super::tests::CAPABILITIES;
use super::tests::DOWN;
use super::tests::World;
use super::tests::cease;
use super::tests::id;
use super::tests::open;
use super::tests::settings;
use super::*;

fn with(options: SessionConfig) -> World {
    World::new(Settings {
        options,
        ..settings()
    })
}

fn say_open(world: &mut World, number: u64, more: &[Capability<'_>]) -> Vec<Action> {
    let capabilities = [CAPABILITIES, more].concat();
    let open = Open {
        capabilities: Capabilities::of(&capabilities),
        ..open([192, 0, 2, 9])
    };
    world.say(id(number), Message::Open(open))
}

fn come_up(world: &mut World, number: u64, more: &[Capability<'_>]) {
    world.step(Input::Connected(Side::Theirs, id(number)));
    say_open(world, number, more);
    let out = world.say(id(number), Message::Keepalive);
    assert_eq!(out[0], Action::Up(id(number)));
}

fn delayed() -> World {
    with(SessionConfig {
        delay_open: Duration::from_secs(5),
        ..SessionConfig::default()
    })
}

fn is_open(action: Option<&Action>) -> bool {
    let Some(Action::Send(_, bytes)) = action else {
        return false;
    };
    matches!(wire::decode(bytes, None), Ok(Message::Open(_)))
}

#[test]
fn an_open_waits_for_the_neighbours_and_no_longer_than_its_delay() {
    for (side, state) in [(Side::Ours, "connect"), (Side::Theirs, "connect")] {
        let mut world = delayed();
        assert_eq!(world.step(Input::Connected(side, id(1))), []);
        assert_eq!(world.session.state(), state);
        let (waited, out) = world.tick();
        assert_eq!(waited, Duration::from_secs(5));
        assert!(is_open(out.first()) && out.len() == 1, "{out:?}");
        assert_eq!(world.session.state(), "open-sent");
        let left = world.session.deadline().unwrap() - world.now;
        assert!(left <= timers::OPEN_HOLD);
    }
    let mut world = delayed();
    world.step(Input::Connected(Side::Ours, id(1)));
    let out = say_open(&mut world, 1, &[]);
    assert!(is_open(out.first()), "{out:?}");
    assert_eq!(out[1], Action::Send(id(1), wire::keepalive()));
    assert_eq!(world.session.state(), "open-confirm");
    let out = world.say(id(1), Message::Keepalive);
    assert_eq!(out, [Action::Up(id(1))]);
    // A passive side is Active meanwhile.
    let mut passive = World::new(Settings {
        passive: true,
        options: delayed().session.settings.options,
        ..settings()
    });
    passive.step(Input::Connected(Side::Theirs, id(1)));
    assert_eq!(passive.session.state(), "active");
}

#[test]
fn other_messages_before_our_open_are_errors_of_a_state_without_a_number() {
    let update = Message::Update(Update::default());
    for message in [Message::Keepalive, update] {
        let mut world = delayed();
        world.step(Input::Connected(Side::Ours, id(1)));
        assert_eq!(world.say(id(1), message), cease(id(1), Fault(5, 0)));
    }
    let mut world = delayed();
    world.step(Input::Connected(Side::Ours, id(1)));
    let unreadable = Fault::UNEXPECTED_IN_OPEN_SENT.into();
    let out = world.step(Input::Malformed(id(1), unreadable));
    assert_eq!(out, cease(id(1), Fault(5, 0)));
    let mut world = delayed();
    world.step(Input::Connected(Side::Ours, id(1)));
    let bye = Notification::shutdown("bye");
    let out = world.say(id(1), Message::Notification(bye.borrowed()));
    assert_eq!(out[0], Action::Close(id(1)));
}

#[test]
fn a_neighbour_whose_sessions_we_had_to_end_again_and_again_must_wait_to_be_let_in() {
    let fail = |world: &mut World, number: u64| {
        come_up(world, number, &[]);
        world.step(Input::Malformed(id(number), Fault::ATTRIBUTE_LIST.into()))
    };
    let mut world = with(SessionConfig::default());
    for number in 1..5 {
        let out = fail(&mut world, number);
        assert_eq!(out.last(), Some(&DOWN), "{number}");
        assert_ne!(world.session.state(), "idle");
    }
    fail(&mut world, 5);
    assert_eq!(world.session.state(), "idle");
    let refused = world.step(Input::Connected(Side::Theirs, id(6)));
    assert_eq!(refused, cease(id(6), Fault::REJECTED));
    let (waited, out) = world.tick();
    assert!(waited >= Duration::from_secs(12) && waited <= Duration::from_secs(16));
    assert_eq!(out, [Action::Connect]);
    // The next one costs twice as much; one that stands makes up for all.
    fail(&mut world, 7);
    let (waited, _) = world.tick();
    assert!(waited >= Duration::from_secs(24), "{waited:?}");
    come_up(&mut world, 8, &[]);
    for _ in 0..3 {
        world.now += Duration::from_secs(25);
        world.say(id(8), Message::Keepalive);
    }
    world.step(Input::Malformed(id(8), Fault::ATTRIBUTE_LIST.into()));
    assert_ne!(world.session.state(), "idle");
    // What is the neighbour's doing, or a broken link's, does not count.
    let mut world = with(SessionConfig::default());
    for number in 1..20 {
        come_up(&mut world, number, &[]);
        world.step(Input::Closed(id(number), "gone".to_owned()));
        assert_ne!(world.session.state(), "idle");
    }
    let mut never = with(SessionConfig {
        idle_hold: Duration::ZERO,
        ..SessionConfig::default()
    });
    for number in 1..20 {
        fail(&mut never, number);
        assert_ne!(never.session.state(), "idle");
    }
}

#[test]
fn roles_must_fit_where_both_sides_tell_theirs() {
    let outcome = |role, role_strict, said: &[wire::Role]| {
        let mut world = with(SessionConfig {
            role,
            role_strict,
            ..SessionConfig::default()
        });
        world.step(Input::Connected(Side::Theirs, id(1)));
        let said: Vec<_> = said.iter().copied().map(Capability::Role).collect();
        let out = say_open(&mut world, 1, &said);
        let mismatch = cease(id(1), Fault(2, 11));
        match out.starts_with(&mismatch) {
            true => "refused",
            false => world.session.state(),
        }
    };
    // Our host's router is our provider.
    let provider = wire::Role::Provider;
    assert_eq!(outcome(Role::Auto, false, &[provider]), "open-confirm");
    assert_eq!(outcome(Role::Auto, true, &[provider]), "open-confirm");
    assert_eq!(outcome(Role::Auto, false, &[]), "open-confirm");
    assert_eq!(outcome(Role::Auto, true, &[]), "refused");
    assert_eq!(outcome(Role::Auto, false, &[wire::Role::Peer]), "refused");
    let server = wire::Role::RouteServer;
    assert_eq!(outcome(Role::RsClient, false, &[server]), "open-confirm");
    assert_eq!(
        outcome(Role::None, true, &[wire::Role::Peer]),
        "open-confirm"
    );
    assert_eq!(
        outcome(Role::Auto, false, &[wire::Role::Unknown(9)]),
        "refused"
    );
    // RFC 9234 section 4.2: twice the same is once, two are none.
    assert_eq!(
        outcome(Role::Auto, false, &[provider, provider]),
        "open-confirm"
    );
    let two = [provider, wire::Role::Peer];
    assert_eq!(outcome(Role::Auto, false, &two), "refused");
}

#[test]
fn what_both_sides_can_do_is_negotiated_and_shown() {
    let everything = [
        Capability::RouteRefresh,
        Capability::EnhancedRouteRefresh,
        Capability::ExtendedMessage,
        Capability::ExtendedNextHop { ipv4: true },
        Capability::AddPath {
            ipv4: Some(AddPath::Both),
            ipv6: Some(AddPath::Receive),
        },
        Capability::Role(wire::Role::Provider),
        Capability::Hostname {
            host: b"edge-1\x1b[2J",
            domain: b"example.net",
        },
    ];
    let mut world = with(SessionConfig {
        add_path: true,
        ..SessionConfig::default()
    });
    come_up(&mut world, 1, &everything);
    let negotiated = world.session.negotiated(id(1)).unwrap();
    assert!(negotiated.add_path_ipv4 && !negotiated.add_path_ipv6);
    assert!(negotiated.extended_messages && negotiated.extended_next_hop);
    let facts = world.session.facts();
    assert_eq!(
        facts.hostname.as_deref(),
        Some("edge-1\\x1b[2J.example.net")
    );
    assert_eq!(
        (facts.role, facts.hold_time_s),
        (Some("provider"), Some(30))
    );
    let expected = [
        "four-octet-as",
        "route-refresh",
        "enhanced-route-refresh",
        "add-path-ipv4",
        "extended-messages",
        "extended-next-hop",
    ];
    assert_eq!(facts.capabilities, expected);
    // Not asked for: whatever the neighbour can.
    let mut world = with(SessionConfig::default());
    come_up(&mut world, 1, &everything);
    let negotiated = world.session.negotiated(id(1)).unwrap();
    assert!(!negotiated.add_path_ipv4 && !negotiated.add_path_ipv6);
    world.step(Input::Closed(id(1), "gone".to_owned()));
    assert_eq!(world.session.facts(), SessionFacts::default());
}

#[test]
fn our_open_offers_what_is_configured() {
    let offered = |options: SessionConfig| {
        let mut world = with(options);
        let out = world.step(Input::Connected(Side::Ours, id(1)));
        let [Action::Send(_, bytes)] = &out[..] else {
            panic!("{out:?}");
        };
        let Ok(Message::Open(open)) = wire::decode(bytes, None) else {
            panic!("no OPEN");
        };
        let all = open.capabilities.into_iter();
        all.map(|one| format!("{one:?}"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let usual = offered(SessionConfig::default());
    for word in [
        "RouteRefresh",
        "EnhancedRouteRefresh",
        "ExtendedMessage",
        "ExtendedNextHop { ipv4: true }",
        "Role(Customer)",
        "GracefulRestart",
    ] {
        assert!(usual.contains(word), "{word} in {usual}");
    }
    assert!(
        !usual.contains("AddPath") && !usual.contains("LongLived"),
        "{usual}"
    );
    let more = offered(SessionConfig {
        add_path: true,
        long_lived: Duration::from_secs(60),
        role: Role::None,
        ..SessionConfig::default()
    });
    assert!(
        more.contains("AddPath { ipv4: Some(Receive), ipv6: Some(Receive) }"),
        "{more}"
    );
    assert!(
        more.contains("LongLivedGracefulRestart") && !more.contains("Role"),
        "{more}"
    );
}

#[test]
fn a_family_that_cannot_be_read_is_given_up_and_the_session_stays() {
    let mut world = with(SessionConfig::default());
    come_up(&mut world, 1, &[]);
    let mut broken = Update::default();
    broken.disabled = Some(Family::Ipv6);
    let out = world.say(id(1), Message::Update(broken));
    assert_eq!(out, [Action::Apply(id(1)), Action::Forget(Family::Ipv6)]);
    let negotiated = world.session.negotiated(id(1)).unwrap();
    assert!(negotiated.ipv4 && !negotiated.ipv6);
    assert_eq!(world.session.state(), "established");
}

#[test]
fn a_reset_ends_a_session_and_begins_another() {
    let mut world = with(SessionConfig::default());
    come_up(&mut world, 1, &[]);
    let out = world.step(Input::Reset("new policy".to_owned()));
    let Some(Action::Sent(sent)) = out.get(1) else {
        panic!("{out:?}");
    };
    assert_eq!(sent.words(), "6/4 administrative reset: \"new policy\"");
    assert_eq!(out[3..], [DOWN, Action::Connect]);
    world.step(Input::Stop("moved".to_owned()));
    // A stopped one stays so until it is started.
    assert_eq!(world.step(Input::Reset(String::new())), []);
    assert_eq!(world.session.state(), "idle");
    assert_eq!(world.step(Input::Start), [Action::Connect]);
}

#[test]
fn silence_after_the_handshake_is_told_with_what_may_be_the_reason() {
    let mut world = World::new(settings());
    let (_, out) = world.tick();
    assert_eq!(out, [Action::CancelConnect, Action::Connect]);
    let error = world.session.last_error();
    assert_eq!(error.as_deref(), Some("connect: no answer; a hint"));
    world.step(Input::Connected(Side::Ours, id(1)));
    let (waited, out) = world.tick();
    assert_eq!(waited, timers::OPEN_HOLD);
    assert_eq!(out[..3], cease(id(1), Fault::HOLD_TIME_ENDED));
    let error = world.session.last_error();
    assert_eq!(
        error.as_deref(),
        Some("connected, but no OPEN came; a hint")
    );
}

#[test]
fn an_update_about_routes_alone_holds_at_once_on_the_established_connection() {
    let silent = |mut world: World| {
        let begun = world.now;
        while !world.tick().1.contains(&Action::Close(id(1))) {}
        world.now - begun
    };
    let later = || {
        let mut world = World::established();
        world.now += Duration::from_secs(5);
        world
    };
    let plain = Update::default();
    let (mut short, mut long, unheard) = (later(), later(), silent(later()));
    assert!(short.session.holds(short.now, id(1), &plain));
    let told = long.say(id(1), Message::Update(plain));
    assert_eq!(told, [Action::Apply(id(1))]);
    let heard = silent(short);
    assert_eq!(heard, silent(long));
    assert_eq!(heard, unheard + Duration::from_secs(5));
    // Whatever else it may be is for a step.
    let mut world = later();
    let (mut last, mut broken) = (plain, plain);
    last.end_of_rib = Some(Family::Ipv4);
    broken.disabled = Some(Family::Ipv6);
    assert!(!world.session.holds(world.now, id(1), &last));
    assert!(!world.session.holds(world.now, id(1), &broken));
    assert!(!world.session.holds(world.now, id(2), &plain));
    let mut young = World::new(settings());
    young.step(Input::Connected(Side::Ours, id(1)));
    assert!(!young.session.holds(young.now, id(1), &plain));
}
