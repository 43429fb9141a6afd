//! Graceful restart, from both sides, and asking for everything again.

use crate::harness::until;
use crate::ours::Ours;
use crate::ours::PATIENCE;
use crate::pair::Pair;
use crate::router::Make;
use crate::router::Settings;
use crate::sessions::neighbour;
use crate::sessions::until_learned;
use oca::clock;
use std::time::Duration;

#[test]
fn routes_of_a_router_that_restarts_stay_until_it_has_said_them_again() {
    Make::both(|make| {
        let pair = Pair::make();
        let settings = Settings {
            graceful_restart: true,
            ..Settings::default()
        };
        let mut router = make.start(&pair, settings);
        let ours = Ours::start(&pair, &neighbour("graceful_restart = \"30s\""));
        until_learned(&ours, &*router);
        let before = ours.prefixes();
        // GoBGP must have said that it had sent everything before, or its restart is none.
        router.kill();
        until(
            "the loss of the session",
            PATIENCE,
            || ours.session(),
            |session| session["state"] != "established",
        );
        let end = clock::now() + Duration::from_secs(2);
        until(
            "two seconds with the routes of the router that is gone",
            PATIENCE,
            || ours.prefixes(),
            |prefixes| {
                assert_eq!(*prefixes, before);
                clock::now() >= end
            },
        );
        router.start_again();
        until_learned(&ours, &*router);
    });
}

#[test]
fn routes_of_a_router_that_does_not_come_back_go_when_its_time_is_over() {
    let pair = Pair::make();
    let settings = Settings {
        graceful_restart: true,
        ..Settings::default()
    };
    let mut router = Make::Bird.start(&pair, settings);
    let ours = Ours::start(&pair, &neighbour("graceful_restart = \"4s\""));
    until_learned(&ours, &*router);
    router.kill();
    let killed = clock::now();
    ours.until_routes(0);
    let kept = killed.elapsed();
    let kept_s = kept.as_secs_f64();
    assert!((3.5..8.0).contains(&kept_s), "{kept:?}");
}

#[test]
fn a_daemon_that_restarts_is_taken_back_by_the_router_and_learns_everything_again() {
    Make::both(|make| {
        let pair = Pair::make();
        let settings = Settings {
            graceful_restart: true,
            ..Settings::default()
        };
        let router = make.start(&pair, settings);
        let mut ours = Ours::start(&pair, &neighbour(""));
        until_learned(&ours, &*router);
        ours.process.kill();
        ours.process.start();
        until_learned(&ours, &*router);
    });
}
