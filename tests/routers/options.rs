//! What is agreed in the OPENs and below them: keys, hops, sizes, paths, AS numbers.

use crate::bird::Bird;
use crate::harness::until;
use crate::ours::Ours;
use crate::ours::PATIENCE;
use crate::pair::Pair;
use crate::pair::ROUTER;
use crate::pair::ROUTER_LINK_LOCAL;
use crate::router::Make;
use crate::router::Settings;
use crate::router::ipv4;
use crate::sessions::neighbour;
use crate::sessions::until_learned;
use crate::sessions::until_router_is_up;
use oca::clock;
use std::collections::BTreeSet;
use std::time::Duration;

/// Long enough for several attempts of either side.
const NEVER: Duration = Duration::from_secs(6);

fn is_never_established(ours: &Ours) {
    let end = clock::now() + NEVER;
    until(
        "the end of the trial",
        PATIENCE,
        || ours.session(),
        |session| {
            assert_ne!(session["state"], "established", "{session}");
            clock::now() >= end
        },
    );
}

#[test]
fn a_session_with_the_right_password_stands_and_one_with_another_or_none_never_comes() {
    let cases = [
        (false, Some("documentation-1"), true),
        (true, Some("documentation-1"), true),
        (false, Some("documentation-2"), false),
        (false, None, false),
    ];
    Make::each(&cases, |make, &(ours_passive, ours_password, is_right)| {
        let pair = Pair::make();
        let settings = Settings {
            passive: !ours_passive,
            password: Some("documentation-1"),
            ..Settings::default()
        };
        let router = make.start(&pair, settings);
        let (_dir, path) = Ours::file("password", ours_password.unwrap_or_default());
        let key = match ours_password {
            Some(_) => format!("password_file = \"{}\"\n", path.display()),
            None => String::new(),
        };
        let ours = Ours::start(
            &pair,
            &neighbour(&format!("passive = {ours_passive}\n{key}")),
        );
        if is_right {
            until_learned(&ours, &*router);
        } else {
            is_never_established(&ours);
        }
    });
}

#[test]
fn hops_are_counted_by_default_and_a_router_that_does_not_send_255_is_not_heard() {
    Make::each(&[true, false], |make, &ttl_security| {
        let pair = Pair::make();
        let settings = Settings {
            ttl_security,
            ..Settings::default()
        };
        let router = make.start(&pair, settings);
        let ours = Ours::start(&pair, &format!("address = \"{ROUTER}\""));
        if ttl_security {
            until_learned(&ours, &*router);
        } else {
            is_never_established(&ours);
        }
    });
}

#[test]
fn long_messages_and_two_octet_numbers_are_read_as_the_router_means_them() {
    for (extended_messages, four_octets) in [(true, true), (false, false)] {
        let pair = Pair::make();
        let settings = Settings {
            extended_messages,
            four_octets,
            // Two thousand routes of one path fill messages of more than 4,096 octets.
            routes: 8_000,
            ..Settings::default()
        };
        let router = Make::Bird.start(&pair, settings);
        let ours = Ours::start(&pair, &neighbour(""));
        until_learned(&ours, &*router);
        // Every fourth route has no number beyond the router's, the others up to three that need
        // four octets: AS_TRANS and AS4_PATH on a session of two.
        for route in ours.routes() {
            let prefix = route["prefix"].as_str().unwrap();
            let Some(n) = number(prefix) else { continue };
            let path = route["as_path"].as_str().unwrap();
            let hops: Vec<u32> = path.split(' ').map(|hop| hop.parse().unwrap()).collect();
            let prepended = (0..n % 4).map(|hop| 65536 + (n / 7 + hop) % 16);
            let expected: Vec<u32> = prepended.chain([64500]).rev().collect();
            assert_eq!(hops, expected, "{prefix}");
        }
    }
}

/// The inverse of [`ipv4`].
fn number(prefix: &str) -> Option<u32> {
    let address = prefix.strip_prefix("10.")?;
    let mut octets = address.split('.');
    let mut next = || octets.next()?.parse::<u32>().ok();
    Some(next()? << 8 | next()?)
}

#[test]
fn several_paths_of_one_prefix_are_kept_apart_and_withdrawn_one_by_one() {
    let pair = Pair::make();
    let settings = Settings {
        add_paths: true,
        routes: 4,
        ..Settings::default()
    };
    let mut router = Make::Bird.start(&pair, settings);
    let ours = Ours::start(&pair, &neighbour("add_path = true"));
    let paths = || -> BTreeSet<String> {
        let routes = ours.routes();
        let of_first = routes.iter().filter(|route| route["prefix"] == ipv4(0));
        of_first
            .map(|route| route["as_path"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    let both = BTreeSet::from(["64500".to_owned(), "64500 64999".to_owned()]);
    until("both paths", PATIENCE, paths, |found| *found == both);
    // The first source goes, with all its prefixes; the second path stays.
    router.announce(0);
    let second = BTreeSet::from(["64500 64999".to_owned()]);
    until("the second path", PATIENCE, paths, |found| *found == second);
    ours.until_routes(1);
}

#[test]
fn a_router_with_a_link_local_address_is_a_neighbour_on_its_interface() {
    let pair = Pair::make();
    let router = Bird::start_link_local(&pair, Settings::default());
    let ours = Ours::start(
        &pair,
        &format!("address = \"{ROUTER_LINK_LOCAL}\"\ninterface = \"eth0\"\nttl_security = false"),
    );
    until_learned(&ours, &router);
    until_router_is_up(&router);
}

#[test]
fn too_many_prefixes_end_the_session_with_the_limit_in_words_on_both_sides() {
    Make::both(|make| {
        let pair = Pair::make();
        let router = make.start(&pair, Settings::default());
        let ours = Ours::start(&pair, &neighbour("max_prefixes = 10"));
        ours.until_error("6/1 maximum number of prefixes reached");
        ours.until_routes(0);
        until(
            "the router's log",
            PATIENCE,
            || router.log(),
            |log| {
                let log = log.to_lowercase();
                log.contains("maximum number of prefixes") || log.contains("\"code\":6")
            },
        );
        // It stays down: a leak needs a person.
        is_never_established(&ours);
    });
}
