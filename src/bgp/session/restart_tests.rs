//! Routes that outlive their session, and those that are sent again, with explicit time.

use super::super::wire;
use super::super::wire::Capabilities;
use super::super::wire::Capability;
use super::super::wire::Fault;
use super::super::wire::GracefulRestart;
use super::super::wire::Kept;
use super::super::wire::LongLived;
use super::super::wire::Open;
use super::super::wire::Refresh;
use super::super::wire::Update;
use super::tests::CAPABILITIES;
use super::tests::World;
use super::tests::cease;
use super::tests::id;
use super::tests::open;
use super::tests::settings;
use super::*;

const BOTH: Families = Families {
    ipv4: true,
    ipv6: true,
};
const KEPT: Action = Action::Down { kept: BOTH };
const LOST: Action = Action::Down {
    kept: Families::NONE,
};

/// A neighbour that asks for 90 s, of both families.
fn restart(notification: bool, forwarding: bool) -> GracefulRestart {
    let kept = Some(Kept { forwarding });
    GracefulRestart {
        restarted: false,
        notification,
        seconds: 90,
        ipv4: kept,
        ipv6: kept,
    }
}

fn come_up(world: &mut World, number: u64, more: &[Capability<'_>]) -> Vec<Action> {
    world.step(Input::Connected(Side::Theirs, id(number)));
    shake_hands(world, number, more)
}

fn shake_hands(world: &mut World, number: u64, more: &[Capability<'_>]) -> Vec<Action> {
    let capabilities = [CAPABILITIES, more].concat();
    let open = Open {
        capabilities: Capabilities::of(&capabilities),
        ..open([192, 0, 2, 9])
    };
    world.say(id(number), Message::Open(open));
    world.say(id(number), Message::Keepalive)
}

fn up_with(restart: GracefulRestart, options: SessionConfig) -> World {
    let mut world = World::new(Settings {
        passive: true,
        options,
        ..settings()
    });
    let out = come_up(&mut world, 1, &[Capability::GracefulRestart(restart)]);
    assert_eq!(out[0], Action::Up(id(1)));
    world
}

fn usual() -> World {
    up_with(restart(false, true), SessionConfig::default())
}

fn lose(world: &mut World, number: u64) -> Vec<Action> {
    world.step(Input::Closed(id(number), "gone".to_owned()))
}

fn end_of_rib(family: Family) -> Message<'static> {
    let mut update = Update::default();
    update.end_of_rib = Some(family);
    Message::Update(update)
}

/// Our capability, as the OPEN of the connection `out` is about says it.
fn offered(out: &[Action]) -> Option<GracefulRestart> {
    let [Action::Send(_, bytes)] = out else {
        panic!("{out:?}");
    };
    let Ok(Message::Open(open)) = wire::decode(bytes, None) else {
        panic!("no OPEN");
    };
    open.capabilities.into_iter().find_map(|one| {
        let Capability::GracefulRestart(restart) = one else {
            return None;
        };
        Some(restart)
    })
}

#[test]
fn we_offer_it_with_nothing_forwarded_and_say_once_that_we_have_restarted() {
    let mut world = World::new(settings());
    for number in 1..3 {
        // However often it is tried, until a session stands.
        let out = world.step(Input::Connected(Side::Theirs, id(number)));
        let ours = offered(&out[out.len() - 1..]).unwrap();
        let lost = Some(Kept { forwarding: false });
        let expected = GracefulRestart {
            restarted: true,
            notification: true,
            seconds: 120,
            ipv4: lost,
            ipv6: lost,
        };
        assert_eq!(ours, expected);
    }
    shake_hands(&mut world, 2, &[]);
    lose(&mut world, 2);
    let out = world.step(Input::Connected(Side::Theirs, id(3)));
    assert!(!offered(&out).unwrap().restarted);
    let mut off = World::new(Settings {
        options: SessionConfig {
            graceful_restart: Duration::ZERO,
            ..SessionConfig::default()
        },
        ..settings()
    });
    let out = off.step(Input::Connected(Side::Theirs, id(1)));
    assert_eq!(offered(&out), None);
    // And nothing is kept then, whatever the neighbour offers.
    shake_hands(
        &mut off,
        1,
        &[Capability::GracefulRestart(restart(true, true))],
    );
    assert!(lose(&mut off, 1).contains(&LOST));
}

#[test]
fn the_end_of_our_announcements_is_told_at_once_to_who_asked_for_restarts() {
    let with = {
        let mut world = World::new(settings());
        come_up(
            &mut world,
            1,
            &[Capability::GracefulRestart(restart(false, true))],
        )
    };
    let ends = [Family::Ipv4, Family::Ipv6].map(|f| Action::Send(id(1), wire::end_of_rib(f)));
    assert_eq!(with[0], Action::Up(id(1)));
    assert_eq!(with[1..], ends);
    let without = come_up(&mut World::new(settings()), 1, &[]);
    assert_eq!(without, [Action::Up(id(1))]);
}

#[test]
fn routes_outlive_a_broken_session_for_the_shorter_of_both_times() {
    for (most_s, expected_s) in [(300, 90), (30, 30)] {
        let options = SessionConfig {
            graceful_restart: Duration::from_secs(most_s),
            ..SessionConfig::default()
        };
        let mut world = up_with(restart(false, true), options);
        assert_eq!(lose(&mut world, 1), [KEPT]);
        assert_eq!(world.session.facts().stale, ["ipv4", "ipv6"]);
        let (waited, out) = world.tick();
        assert_eq!(waited, Duration::from_secs(expected_s));
        assert_eq!(
            out,
            [Action::Sweep(Family::Ipv4), Action::Sweep(Family::Ipv6)]
        );
        assert_eq!(world.session.deadline(), None);
        assert!(world.session.facts().stale.is_empty());
    }
}

#[test]
fn only_families_that_were_named_outlive_it() {
    let only = GracefulRestart {
        ipv4: None,
        ..restart(false, true)
    };
    let mut world = up_with(only, SessionConfig::default());
    let kept = Families {
        ipv4: false,
        ipv6: true,
    };
    assert_eq!(lose(&mut world, 1), [Action::Down { kept }]);
}

#[test]
fn a_notification_ends_routes_unless_both_sides_said_otherwise_and_a_hard_reset_always() {
    let shutdown = Notification::shutdown("bye");
    let hard = shutdown.hard();
    for (notification, said, is_kept) in [
        (false, &shutdown, false),
        (true, &shutdown, true),
        (true, &hard, false),
        (false, &hard, false),
    ] {
        let mut world = up_with(restart(notification, true), SessionConfig::default());
        let out = world.say(id(1), Message::Notification(said.borrowed()));
        assert_eq!(out.contains(&KEPT), is_kept, "{said:?} {notification}");
        assert_eq!(out.contains(&LOST), !is_kept);
        assert!(out.contains(&Action::Close(id(1))));
        // What we have to say to the neighbour counts the same; silence too.
        let mut world = up_with(restart(notification, true), SessionConfig::default());
        world.now += Duration::from_secs(30);
        let out = world.step(Input::Tick);
        assert_eq!(out[..3], cease(id(1), Fault::HOLD_TIME_ENDED));
        assert_eq!(out.contains(&KEPT), notification);
    }
}

#[test]
fn what_we_end_is_a_hard_reset_and_leaves_nothing() {
    type End = fn() -> Input<'static>;
    let ends: [(End, Fault); 4] = [
        (|| Input::Stop("bye".to_owned()), Fault::SHUTDOWN),
        (|| Input::Reset("again".to_owned()), Fault(6, 4)),
        (|| Input::OutOfResources, Fault::OUT_OF_RESOURCES),
        (
            || Input::TooManyPrefixes(Family::Ipv4, 7),
            Fault::TOO_MANY_PREFIXES,
        ),
    ];
    for (end, fault) in ends {
        for notification in [true, false] {
            let mut world = up_with(restart(notification, true), SessionConfig::default());
            let out = world.step(end());
            let Some(Action::Sent(sent)) = out.get(1) else {
                panic!("{out:?}");
            };
            assert_eq!(sent.is_hard_reset(), notification);
            assert_eq!(sent.reason().fault, fault);
            assert!(out.contains(&LOST));
        }
    }
    // What outlived an earlier session goes with an operator's word too.
    let mut world = usual();
    lose(&mut world, 1);
    let out = world.step(Input::Stop(String::new()));
    assert_eq!(
        out,
        [Action::Sweep(Family::Ipv4), Action::Sweep(Family::Ipv6)]
    );
}

#[test]
fn a_neighbour_that_is_back_replaces_its_routes_until_it_says_that_it_is_done() {
    let mut world = usual();
    lose(&mut world, 1);
    world.now += Duration::from_secs(80);
    let again = [Capability::GracefulRestart(restart(false, true))];
    let out = come_up(&mut world, 2, &again);
    assert!(
        !out.iter().any(|action| matches!(action, Action::Sweep(_))),
        "{out:?}"
    );
    // Its restart time no longer counts, our bound does.
    world.now += Duration::from_secs(20);
    world.say(id(2), Message::Keepalive);
    let out = world.say(id(2), end_of_rib(Family::Ipv4));
    assert_eq!(out, [Action::Apply(id(2)), Action::Sweep(Family::Ipv4)]);
    assert_eq!(world.session.facts().end_of_rib, ["ipv4"]);
    assert_eq!(world.session.facts().stale, ["ipv6"]);
    // A second time it ends nothing.
    assert_eq!(
        world.say(id(2), end_of_rib(Family::Ipv4)),
        [Action::Apply(id(2))]
    );
    let mut swept = Vec::new();
    for _ in 0..29 {
        world.now += Duration::from_secs(10);
        world.say(id(2), Message::Keepalive);
        swept.extend(world.step(Input::Tick));
        swept.retain(|action| matches!(action, Action::Sweep(_)));
    }
    assert_eq!(swept, [Action::Sweep(Family::Ipv6)]);
}

#[test]
fn what_a_neighbour_did_not_go_on_forwarding_goes_when_it_is_back() {
    for again in [
        vec![Capability::GracefulRestart(restart(false, false))],
        vec![Capability::GracefulRestart(GracefulRestart {
            ipv4: None,
            ipv6: None,
            ..restart(false, true)
        })],
        Vec::new(),
    ] {
        let mut world = usual();
        lose(&mut world, 1);
        let out = come_up(&mut world, 2, &again);
        let sweeps = [Action::Sweep(Family::Ipv4), Action::Sweep(Family::Ipv6)];
        assert_eq!(out[1..3], sweeps, "{again:?}");
    }
}

#[test]
fn a_restart_within_a_restart_ends_what_the_first_had_left() {
    let mut world = usual();
    lose(&mut world, 1);
    come_up(
        &mut world,
        2,
        &[Capability::GracefulRestart(restart(false, true))],
    );
    world.say(id(2), end_of_rib(Family::Ipv6));
    let out = lose(&mut world, 2);
    assert_eq!(out, [Action::Sweep(Family::Ipv4), KEPT]);
}

#[test]
fn a_neighbour_that_comes_again_before_its_end_was_noticed_gets_its_session() {
    let mut world = usual();
    let out = world.step(Input::Connected(Side::Theirs, id(2)));
    assert!(
        matches!(out[..], [Action::Send(ConnectionId(2), _)]),
        "{out:?}"
    );
    assert_eq!(world.session.state(), "established");
    // A stray connection is no restart: the session stands until a second one would.
    let again = [Capability::GracefulRestart(restart(false, true))];
    let capabilities = [CAPABILITIES, &again].concat();
    let open = Open {
        capabilities: Capabilities::of(&capabilities),
        ..open([192, 0, 2, 9])
    };
    let out = world.say(id(2), Message::Open(open));
    assert_eq!(out, [Action::Send(id(2), wire::keepalive())]);
    assert_eq!(world.session.established_since(), Some(world.now));
    let out = world.say(id(2), Message::Keepalive);
    assert_eq!(out[..3], [Action::Close(id(1)), KEPT, Action::Up(id(2))]);
    assert!(!out.iter().any(|action| matches!(action, Action::Sent(_))));
    // Late news of the old one change nothing.
    assert_eq!(lose(&mut world, 1), []);
    assert_eq!(world.session.state(), "established");
}

#[test]
fn routes_are_kept_longer_only_where_both_sides_want_it() {
    let long = |seconds| {
        let kept = Some(LongLived {
            forwarding: true,
            seconds,
        });
        Capability::LongLivedGracefulRestart {
            ipv4: kept,
            ipv6: None,
        }
    };
    let most = |seconds| SessionConfig {
        long_lived: Duration::from_secs(seconds),
        ..SessionConfig::default()
    };
    for (ours_s, theirs_s, expected_s) in [(0, 7200, 0), (3600, 0, 0), (3600, 7200, 3600)] {
        let mut world = World::new(Settings {
            passive: true,
            options: most(ours_s),
            ..settings()
        });
        let asked = [
            Capability::GracefulRestart(restart(false, true)),
            long(theirs_s),
        ];
        come_up(&mut world, 1, &asked);
        assert_eq!(lose(&mut world, 1), [KEPT]);
        let (waited, out) = world.tick();
        assert_eq!(waited, Duration::from_secs(90));
        if expected_s == 0 {
            assert_eq!(
                out,
                [Action::Sweep(Family::Ipv4), Action::Sweep(Family::Ipv6)]
            );
            continue;
        }
        let not_long = Action::SweepNotLongLived(Family::Ipv4);
        assert_eq!(out, [not_long, Action::Sweep(Family::Ipv6)]);
        let (waited, out) = world.tick();
        assert_eq!(waited, Duration::from_secs(expected_s));
        assert_eq!(out, [Action::Sweep(Family::Ipv4)]);
    }
}

#[test]
fn a_refresh_replaces_a_table_between_its_two_marks() {
    let mut world = World::new(settings());
    come_up(
        &mut world,
        1,
        &[Capability::RouteRefresh, Capability::EnhancedRouteRefresh],
    );
    let refresh = |afi, subtype| Message::RouteRefresh {
        afi,
        safi: 1,
        subtype,
    };
    let out = world.step(Input::Refresh(None));
    let asks = [Family::Ipv4, Family::Ipv6].map(wire::route_refresh);
    assert_eq!(out, asks.map(|ask| Action::Send(id(1), ask)));
    // An end without a beginning is nothing.
    assert_eq!(world.say(id(1), refresh(2, Refresh::End)), []);
    let out = world.say(id(1), refresh(2, Refresh::Begin));
    assert_eq!(out, [Action::MarkStale(Family::Ipv6)]);
    // End-of-RIB is another end.
    let out = world.say(id(1), end_of_rib(Family::Ipv6));
    assert_eq!(out, [Action::Apply(id(1))]);
    let out = world.say(id(1), refresh(2, Refresh::End));
    assert_eq!(out, [Action::Sweep(Family::Ipv6)]);
    // One that never ends is ended by the bound.
    world.say(id(1), refresh(1, Refresh::Begin));
    let mut swept = Vec::new();
    for _ in 0..30 {
        world.now += Duration::from_secs(10);
        world.say(id(1), Message::Keepalive);
        swept.extend(world.step(Input::Tick));
        swept.retain(|action| matches!(action, Action::Sweep(_)));
    }
    assert_eq!(swept, [Action::Sweep(Family::Ipv4)]);
    // Asked for our own routes, they stand between their beginning and their end.
    let out = world.say(id(1), refresh(1, Refresh::Request));
    let marks = [Refresh::Begin, Refresh::End].map(|mark| wire::refresh(Family::Ipv4, mark));
    let [begin, end] = marks.map(|mark| Action::Send(id(1), mark));
    assert_eq!(out, [begin, Action::Again(id(1), Family::Ipv4), end]);
    for ignored in [refresh(25, Refresh::Begin), refresh(1, Refresh::Unknown(9))] {
        assert_eq!(world.say(id(1), ignored), []);
    }
}

#[test]
fn who_does_not_know_refreshes_is_not_asked_and_marks_nothing() {
    let mut world = World::new(settings());
    come_up(&mut world, 1, &[]);
    assert!(!world.session.can_refresh());
    assert_eq!(world.step(Input::Refresh(None)), []);
    let begin = Message::RouteRefresh {
        afi: 1,
        safi: 1,
        subtype: Refresh::Begin,
    };
    assert_eq!(world.say(id(1), begin), []);
    lose(&mut world, 1);
    come_up(&mut world, 2, &[Capability::RouteRefresh]);
    assert!(world.session.can_refresh());
    assert_eq!(world.step(Input::Refresh(None)).len(), 2);
}

#[test]
fn silence_counts_only_while_the_neighbour_is_listened_to() {
    let mut world = World::established();
    for _ in 0..5 {
        world.now += Duration::from_secs(29);
        world.step(Input::HeldUp(id(1)));
        world.step(Input::Tick);
        assert_eq!(world.session.state(), "established");
    }
    world.now += Duration::from_secs(30);
    let out = world.step(Input::Tick);
    assert_eq!(out[..3], cease(id(1), Fault::HOLD_TIME_ENDED));
}
