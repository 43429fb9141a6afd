//! How sessions come, stand and fall.

use crate::harness::until;
use crate::ours::Ours;
use crate::ours::PATIENCE;
use crate::ours::signal_process;
use crate::pair::Pair;
use crate::pair::ROUTER;
use crate::router::Make;
use crate::router::Router;
use crate::router::Settings;
use oca::clock;
use std::time::Duration;

pub(crate) fn neighbour(more: &str) -> String {
    format!("address = \"{ROUTER}\"\nttl_security = false\n{more}")
}

pub(crate) fn until_learned(ours: &Ours, router: &dyn Router) {
    let announced = router.announced();
    until(
        "an established session with exactly what the router announces",
        PATIENCE,
        || (ours.prefixes(), ours.session(), ours.process.tail()),
        |(prefixes, session, _)| *prefixes == announced && session["state"] == "established",
    );
}

pub(crate) fn until_router_is_up(router: &dyn Router) {
    until(
        "the router's side",
        PATIENCE,
        || (router.says(), router.is_established()),
        |(_, is)| *is,
    );
}

#[test]
fn whoever_connects_the_routes_are_learned_and_both_sides_agree() {
    let cases = [(true, false), (false, true), (false, false)];
    Make::each(&cases, |make, (theirs_passive, ours_passive)| {
        let pair = Pair::make();
        let settings = Settings {
            passive: *theirs_passive,
            ..Settings::default()
        };
        let router = make.start(&pair, settings);
        let ours = Ours::start(&pair, &neighbour(&format!("passive = {ours_passive}")));
        until_learned(&ours, &*router);
        until_router_is_up(&*router);
    });
}

#[test]
fn connections_that_cross_end_in_one_session_that_stays() {
    Make::both(|make| {
        let pair = Pair::make();
        let router = make.start(&pair, Settings::default());
        let ours = Ours::start(&pair, &neighbour(""));
        // Each time both sides begin together.
        for _ in 0..3 {
            until_learned(&ours, &*router);
            router.disable("again");
            ours.until_routes(0);
            router.enable();
        }
        until_learned(&ours, &*router);
        let before = ours.session()["uptime_s"].as_u64().unwrap();
        let end = clock::now() + Duration::from_secs(3);
        until(
            "three quiet seconds",
            PATIENCE,
            || ours.session(),
            |session| {
                assert_eq!(session["state"], "established", "{session}");
                clock::now() >= end
            },
        );
        assert!(ours.session()["uptime_s"].as_u64().unwrap() > before);
    });
}

#[test]
fn words_of_a_shutdown_are_read_on_the_other_side() {
    Make::both(|make| {
        let pair = Pair::make();
        let router = make.start(&pair, Settings::default());
        let ours = Ours::start(&pair, &neighbour(""));
        until_learned(&ours, &*router);
        router.disable("fibre works until 04:00");
        let error = ours.until_error("fibre works until 04:00");
        assert!(error.contains("6/2 administrative shutdown"), "{error}");
        ours.until_routes(0);
        router.enable();
        until_learned(&ours, &*router);
        // Ours: a daemon that is told to stop says so.
        ours.signal("TERM");
        until(
            "our words in its log",
            PATIENCE,
            || router.log(),
            |log| log.to_lowercase().contains("administrative shutdown"),
        );
    });
}

#[test]
fn an_operator_has_routes_sent_again_takes_a_session_down_and_brings_it_up() {
    Make::both(|make| {
        let pair = Pair::make();
        let router = make.start(&pair, Settings::default());
        let ours = Ours::start(&pair, &neighbour(""));
        until_learned(&ours, &*router);
        let updates = || {
            let all = ours.show(&["bgp", "router"]);
            all["bgp"][0]["received"]["update"].as_u64().unwrap_or(0)
        };
        for family in [&[][..], &["--family", "ipv4"]] {
            let before = updates();
            let refresh = [&["bgp", "refresh", "rou"][..], family].concat();
            let answer = ours.command(&refresh);
            assert_eq!(answer["neighbour"], "router", "{answer}");
            until("routes again", PATIENCE, updates, |count| *count > before);
            until_learned(&ours, &*router);
        }
        let down = ["bgp", "down", "router", "--text", "disk work until noon"];
        assert_eq!(ours.command(&down)["order"], "down");
        ours.until_routes(0);
        until(
            "our words in its log",
            PATIENCE,
            || router.log(),
            |log| log.to_lowercase().contains("administrative shutdown"),
        );
        // The router tries again and is not let in.
        let end = clock::now() + Duration::from_secs(3);
        until(
            "three seconds of silence",
            PATIENCE,
            || ours.session(),
            |session| {
                assert_eq!(session["state"], "idle", "{session}");
                clock::now() >= end
            },
        );
        assert_eq!(ours.command(&["bgp", "up", "router"])["order"], "up");
        until_learned(&ours, &*router);
        until_router_is_up(&*router);
    });
}

#[test]
fn a_frozen_router_is_given_up_when_the_hold_time_ends_and_so_are_we() {
    Make::both(|make| {
        let pair = Pair::make();
        let settings = Settings {
            hold_s: 6,
            ..Settings::default()
        };
        let mut router = make.start(&pair, settings);
        let ours = Ours::start(&pair, &neighbour("hold_time = \"6s\""));
        until_learned(&ours, &*router);

        signal_process(router.process(), "STOP");
        let frozen = clock::now();
        ours.until_error("4/0 hold timer expired");
        let silence = frozen.elapsed();
        assert!(silence < Duration::from_secs(9), "{silence:?}");
        ours.until_routes(0);
        signal_process(router.process(), "CONT");
        until_learned(&ours, &*router);

        ours.signal("STOP");
        until(
            "the router to give us up",
            PATIENCE,
            || (router.says(), router.is_established()),
            |(_, is)| !is,
        );
        ours.signal("CONT");
        until_learned(&ours, &*router);
        until_router_is_up(&*router);
    });
}

#[test]
fn kill_minus_nine_on_either_side_costs_the_session_and_nothing_else() {
    Make::both(|make| {
        let pair = Pair::make();
        let mut router = make.start(&pair, Settings::default());
        let mut ours = Ours::start(&pair, &neighbour(""));
        for _ in 0..2 {
            until_learned(&ours, &*router);
            router.kill();
            ours.until_routes(0);
            router.start_again();
        }
        until_learned(&ours, &*router);
        for _ in 0..2 {
            ours.process.kill();
            ours.process.start();
            until_learned(&ours, &*router);
        }
        until_router_is_up(&*router);
    });
}

#[test]
fn a_hundred_flaps_leave_the_routes_right_and_no_descriptor_behind() {
    let pair = Pair::make();
    let router = Make::Bird.start(&pair, Settings::default());
    let ours = Ours::start(&pair, &neighbour(""));
    until_learned(&ours, &*router);
    let before = ours.descriptors();
    for flap in 0..100 {
        router.disable("flap");
        // Now and then it stands in between.
        if flap % 25 == 0 {
            ours.until_routes(0);
        }
        router.enable();
        if flap % 25 == 0 {
            ours.until_state("established");
        }
    }
    until_learned(&ours, &*router);
    let after = until(
        "descriptors",
        PATIENCE,
        || ours.descriptors(),
        |now| *now <= before + 1,
    );
    assert!(after <= before + 1, "{before} → {after}");
}

#[test]
fn a_storm_of_withdrawals_and_announcements_ends_in_what_the_router_has() {
    let pair = Pair::make();
    let mut router = Make::Bird.start(&pair, Settings::default());
    let ours = Ours::start(&pair, &neighbour(""));
    until_learned(&ours, &*router);
    for round in 0..6 {
        router.announce(if round % 2 == 0 { 20_000 } else { 40 });
    }
    router.announce(3_000);
    until_learned(&ours, &*router);
    router.announce(0);
    ours.until_routes(0);
}
