//! The table of RFC 7606: what each broken UPDATE costs, by which section, and no more.

use super::tests::HOP;
use super::tests::MP_REACH;
use super::tests::MP_UNREACH;
use super::tests::NLRI;
use super::tests::ORIGIN;
use super::tests::PATH;
use super::tests::SESSION;
use super::tests::Told;
use super::tests::framed;
use super::tests::hex;
use super::tests::told;
use super::tests::update;
use super::tests::update_bytes;
use super::tests::update_in;
use super::*;
use std::collections::BTreeSet;

/// How an UPDATE ends, as the table names it.
const GOOD: &str = "good";
const DISCARDED: &str = "discarded";
const WITHDRAWN: &str = "withdrawn";
const DISABLED: &str = "disabled";
const RESET: &str = "reset";

const TABLE: &str = include_str!("../../../tests/corpus/rfc7606.txt");

const GOOD_LIST: [&[u8]; 3] = [ORIGIN, PATH, HOP];

const TWO_OCTETS: Negotiated = Negotiated {
    four_octets: false,
    ..SESSION
};

/// 64500 and `AS_TRANS`.
const SHORT_PATH: &[u8] = &[0x40, 2, 6, 2, 2, 0xfb, 0xf4, 0x5b, 0xa0];

/// One row of the table.
struct Case {
    name: &'static str,
    session: Negotiated,
    attributes: Vec<Vec<u8>>,
    kind: &'static str,
    verdict: &'static str,
}

impl Case {
    fn list(&self) -> Vec<&[u8]> {
        self.attributes.iter().map(Vec::as_slice).collect()
    }
}

fn cases() -> Vec<Case> {
    let (mut session, mut before) = (SESSION, Vec::new());
    let mut cases = Vec::new();
    for line in TABLE
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        if let Some(heading) = line.strip_prefix("== ") {
            session.external = !heading.contains("internal");
            session.four_octets = !heading.contains("two octets");
            let path = if session.four_octets {
                PATH
            } else {
                SHORT_PATH
            };
            before = match heading.starts_with("beside") {
                true => vec![ORIGIN.to_vec(), path.to_vec(), HOP.to_vec()],
                false => Vec::new(),
            };
            continue;
        }
        let [name, list, kind, verdict] = line.split(" | ").collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let words = list.split(", ").filter(|word| !word.is_empty());
        let attributes = words.map(|word| match word {
            "ORIGIN" => ORIGIN.to_vec(),
            "PATH" => PATH.to_vec(),
            "HOP" => HOP.to_vec(),
            "MP_REACH" => MP_REACH.to_vec(),
            "MP_UNREACH" => MP_UNREACH.to_vec(),
            octets => hex(&octets.replace(' ', "")),
        });
        cases.push(Case {
            name,
            session,
            attributes: before.iter().cloned().chain(attributes).collect(),
            kind,
            verdict,
        });
    }
    cases
}

/// The kind of error that counts, and what it costs.
fn judged(told: Result<Told, Malformed>) -> (&'static str, &'static str) {
    let told = match told {
        Err(Malformed { kind, notification }) => {
            let kind = kind.unwrap();
            if kind != FaultKind::NothingReachable {
                assert_eq!(notification.fault, kind.code());
            }
            return (kind.as_str(), RESET);
        }
        Ok(told) => told,
    };
    let worst = told.faults.worst();
    let handling = worst.map(|worst| worst.handling);
    let announced = told.announced.iter().flat_map(|(_, routes)| routes).count();
    assert_eq!(told.disabled.is_some(), handling == Some(Handling::Disable));
    assert_eq!(announced == 0, told.faults.withdraws(), "{told:?}");
    if let Some(kind) = told.faults.withdrawing() {
        assert!(!told.withdrawn.is_empty(), "{told:?}");
        return (kind.as_str(), WITHDRAWN);
    }
    let verdict = match handling {
        None => GOOD,
        Some(Handling::Discard) => DISCARDED,
        Some(Handling::Disable) => DISABLED,
        Some(Handling::Withdraw | Handling::Reset) => panic!("{told:?}"),
    };
    (worst.map_or("-", |worst| worst.kind.as_str()), verdict)
}

#[test]
fn each_case_of_rfc_7606_ends_as_its_section_says_and_is_told_by_its_kind() {
    let cases = cases();
    for case in &cases {
        let found = judged(update_in(&case.session, &case.list(), NLRI));
        assert_eq!(found, (case.kind, case.verdict), "{}", case.name);
    }
    // What no list of attributes can bring about has tests of its own below.
    let apart = ["field-lengths", "nothing-reachable", "prefixes"];
    let mut tried: BTreeSet<&str> = apart.into();
    tried.extend(cases.iter().map(|case| case.kind));
    for kind in FaultKind::ALL {
        assert!(tried.contains(kind.as_str()), "{kind:?} has no case");
    }
    assert!(cases.len() >= 107, "{} cases", cases.len());
}

#[test]
fn a_withdrawal_of_all_takes_the_prefixes_of_both_families() {
    for case in cases() {
        let mut list = case.list();
        let has_mp = list
            .iter()
            .any(|attribute| matches!(attribute.get(1), Some(14 | 15)));
        if case.verdict == WITHDRAWN && !has_mp {
            // Before the others: what is cut off at the end must stay at the end.
            list.insert(0, MP_REACH);
            let told = update_in(&case.session, &list, NLRI).unwrap();
            let counts = (told.announced.len(), told.withdrawn.len());
            assert_eq!(counts, (0, 2), "{}", case.name);
        }
    }
}

#[test]
fn a_family_that_is_lost_takes_nothing_else_with_it() {
    let broken: &[u8] = &[0x80, 15, 4, 0, 2, 1, 129];
    let told = update(&[ORIGIN, PATH, HOP, MP_REACH, broken], NLRI).unwrap();
    assert_eq!(told.disabled, Some(Family::Ipv6));
    // What the same UPDATE announces of the family is not believed either.
    assert_eq!((told.announced.len(), told.withdrawn.len()), (1, 0));
    // IPv4 by MP_REACH, and the plain fields with it.
    let broken: &[u8] = &[0x80, 14, 4, 0, 1, 1, 9];
    let told = update(&[ORIGIN, PATH, HOP, MP_UNREACH, broken], NLRI).unwrap();
    assert_eq!(told.disabled, Some(Family::Ipv4));
    assert_eq!((told.announced.len(), told.withdrawn.len()), (0, 1));
    // The family is ignored from here on, and its errors too.
    let without = SESSION.without(Family::Ipv4);
    let told = update_in(&without, &[ORIGIN, PATH, HOP, MP_UNREACH, broken], NLRI).unwrap();
    assert!(told.faults.is_empty() && told.announced.is_empty());
    assert_eq!(told.withdrawn.len(), 1);
    // The last family goes with its session.
    let last = update_in(&without, &[&[0x80, 15, 4, 0, 2, 1, 129]], &[]);
    assert_eq!(judged(last), ("mp-unreach", RESET));
}

/// RFC 8950: an IPv6 next hop for IPv4 routes, if it was negotiated and not otherwise.
#[test]
fn an_ipv6_next_hop_of_ipv4_routes_is_read_if_it_was_negotiated() {
    let mut value = vec![0x80, 14, 25, 0, 1, 1, 16];
    value.extend_from_slice(
        &"2001:db8::1"
            .parse::<std::net::Ipv6Addr>()
            .unwrap()
            .octets(),
    );
    value.extend_from_slice(&[0, 24, 203, 0, 113]);
    let attributes: [&[u8]; 3] = [ORIGIN, PATH, &value];
    let told = update_in(&SESSION, &attributes, &[]).unwrap();
    assert_eq!(
        (told.announced.len(), told.disabled),
        (0, Some(Family::Ipv4))
    );
    let session = Negotiated {
        extended_next_hop: true,
        ..SESSION
    };
    let told = update_in(&session, &attributes, &[]).unwrap();
    assert_eq!(told.announced[0].0.next_hop.to_string(), "2001:db8::1");
    assert_eq!(told.announced[0].1, [super::tests::nlri("203.0.113.0/24")]);
}

#[test]
fn fields_whose_prefixes_cannot_be_found_reset_the_session() {
    let list = |withdrawn: &[u8], nlri: &[u8]| {
        judged(told(&update_bytes(withdrawn, &GOOD_LIST, nlri), &SESSION))
    };
    // RFC 7606 sections 3 (i) and 5.3.
    let prefixes = ("prefixes", RESET);
    assert_eq!(list(&[], &[33, 1, 2, 3, 4]), prefixes);
    assert_eq!(list(&[], &[24, 1]), prefixes);
    assert_eq!(list(&[33], NLRI), prefixes);
    assert_eq!(list(&[32, 1, 2, 3], NLRI), prefixes);
    // RFC 7606 section 3 (b): lengths of the fields themselves.
    let lengths = ("field-lengths", RESET);
    for body in [
        [0, 9, 0, 0, 0],
        [0, 0, 0, 9, 1],
        [0, 2, 0, 0, 0],
        [0, 0, 0, 2, 1],
    ] {
        assert_eq!(
            judged(told(&framed(2, &body), &SESSION)),
            lengths,
            "{body:?}"
        );
    }
}

#[test]
fn an_error_beside_nothing_reachable_resets_the_session() {
    // RFC 7606 section 5.2.
    let bad_origin: &[u8] = &[0x40, 1, 1, 9];
    let reset = ("nothing-reachable", RESET);
    assert_eq!(judged(update(&[bad_origin, PATH, HOP], &[])), reset);
    assert_eq!(judged(update(&[bad_origin, MP_UNREACH], &[])), reset);
    let withdrawal = update_bytes(NLRI, &[bad_origin], &[]);
    assert_eq!(judged(told(&withdrawal, &SESSION)), reset);
    // MP_REACH_NLRI without a prefix in it is no better.
    let mut empty = MP_REACH[..MP_REACH.len() - 7].to_vec();
    empty[2] -= 7;
    assert_eq!(judged(update(&[bad_origin, PATH, &empty], &[])), reset);
    // Only dropped attributes: the withdrawals count.
    let dropped = update(&[&[0x40, 6, 1, 0], MP_UNREACH], &[]).unwrap();
    assert_eq!(dropped.withdrawn.len(), 1);
    // Attributes without routes that are in order mean nothing, and harm nobody.
    assert_eq!(update(&[ORIGIN, PATH, HOP], &[]).unwrap(), Told::default());
}

#[test]
fn a_two_octet_session_has_its_long_numbers_from_as4_path_in_any_order() {
    let long: &[u8] = &[0xc0, 17, 6, 2, 1, 0, 1, 0, 5];
    let path = |attributes: &[&[u8]]| {
        let update = update_in(&TWO_OCTETS, attributes, NLRI).unwrap();
        update.announced[0].0.as_path.to_string()
    };
    assert_eq!(path(&[ORIGIN, SHORT_PATH, HOP, long]), "64500 65541");
    assert_eq!(path(&[long, ORIGIN, HOP, SHORT_PATH]), "64500 65541");
    // RFC 6793 section 4.2.3: a true AGGREGATOR makes it stale, AS_TRANS does not.
    let as4_aggregator: &[u8] = &[0xc0, 18, 8, 0, 1, 0, 5, 9, 9, 9, 9];
    let fresh: &[u8] = &[0xc0, 7, 6, 0x5b, 0xa0, 9, 9, 9, 9];
    let stale: &[u8] = &[0xc0, 7, 6, 0xfb, 0xf4, 9, 9, 9, 9];
    for (aggregator, expected) in [(fresh, "64500 65541"), (stale, "64500 23456")] {
        let list = [ORIGIN, SHORT_PATH, HOP, long, aggregator, as4_aggregator];
        assert_eq!(path(&list), expected);
        let backwards: Vec<&[u8]> = list.into_iter().rev().collect();
        assert_eq!(path(&backwards), expected);
    }
    let broken: &[u8] = &[0xc0, 17, 1, 2];
    assert_eq!(path(&[ORIGIN, SHORT_PATH, HOP, broken]), "64500 23456");
    // RFC 5065: a confederation's segments in it are left out (RFC 6793 section 6).
    let confederation: &[u8] = &[0xc0, 17, 12, 3, 1, 0, 0, 0, 7, 2, 1, 0, 1, 0, 5];
    assert_eq!(
        path(&[ORIGIN, SHORT_PATH, HOP, confederation]),
        "64500 65541"
    );
}
