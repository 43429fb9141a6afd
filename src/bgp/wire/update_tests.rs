//! The table of RFC 7606: what each broken UPDATE costs, and no more.

use super::tests::HOP;
use super::tests::MP_REACH;
use super::tests::MP_UNREACH;
use super::tests::NLRI;
use super::tests::ORIGIN;
use super::tests::PATH;
use super::tests::SESSION;
use super::tests::framed;
use super::tests::update;
use super::tests::update_bytes;
use super::tests::update_in;
use super::*;

/// How RFC 7606 lets an UPDATE end.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// Announced, without the attribute if it was the broken one.
    Kept,
    Withdrawn,
    Reset(Fault),
}

use Outcome::Kept;
use Outcome::Withdrawn;

/// An extra attribute beside a good ORIGIN, AS_PATH and NEXT_HOP.
const CASES: &[(&str, &[u8], Outcome)] = &[
    ("MED of three octets", &[0x80, 4, 3, 0, 0, 0], Withdrawn),
    (
        "MED marked well-known",
        &[0x40, 4, 4, 0, 0, 0, 1],
        Withdrawn,
    ),
    ("LOCAL_PREF from outside", &[0x40, 5, 1, 0], Kept),
    ("ATOMIC_AGGREGATE with a body", &[0x40, 6, 1, 0], Kept),
    ("ATOMIC_AGGREGATE", &[0x40, 6, 0], Kept),
    (
        "AGGREGATOR of seven",
        &[0xc0, 7, 7, 0, 0, 0, 0, 0, 0, 0],
        Kept,
    ),
    (
        "AGGREGATOR with AS 0",
        &[0xc0, 7, 8, 0, 0, 0, 0, 9, 9, 9, 9],
        Kept,
    ),
    (
        "COMMUNITIES of five",
        &[0xc0, 8, 5, 0, 0, 0, 0, 0],
        Withdrawn,
    ),
    ("COMMUNITIES of none", &[0xc0, 8, 0], Withdrawn),
    ("ORIGINATOR_ID from outside", &[0x80, 9, 1, 0], Kept),
    ("CLUSTER_LIST from outside", &[0x80, 10, 1, 0], Kept),
    (
        "extended communities of seven",
        &[0xc0, 16, 7, 0, 0, 0, 0, 0, 0, 0],
        Withdrawn,
    ),
    (
        "large communities of four",
        &[0xc0, 32, 4, 0, 0, 0, 0],
        Withdrawn,
    ),
    ("AS4_PATH on a four-octet session", &[0xc0, 17, 1, 0], Kept),
    (
        "AS4_AGGREGATOR on a four-octet session",
        &[0xc0, 18, 1, 0],
        Kept,
    ),
    (
        "a corrupt attribute nobody here uses",
        &[0xc0, 40, 2, 0xff, 0xff],
        Kept,
    ),
    (
        "an unknown one with extended length",
        &[0xd0, 99, 0, 1, 7],
        Kept,
    ),
    (
        "an unknown one that is well-known",
        &[0x40, 99, 1, 7],
        Outcome::Reset(Fault::UNKNOWN_WELL_KNOWN),
    ),
    (
        "OTC that says more than there is",
        &[0xd0, 35, 4, 0, 0, 0, 0, 1],
        Withdrawn,
    ),
    ("one stray octet", &[0x40], Withdrawn),
    ("two stray octets", &[0xc0, 8], Withdrawn),
    ("extended length cut off", &[0xd0, 8, 0], Withdrawn),
    (
        "MP_REACH beyond the list",
        &[0x80, 14, 50, 0, 2],
        Outcome::Reset(Fault::ATTRIBUTE_LENGTH),
    ),
    (
        "MP_UNREACH beyond the list",
        &[0x80, 15, 50, 0, 2],
        Outcome::Reset(Fault::ATTRIBUTE_LENGTH),
    ),
    (
        "MP_REACH of two octets",
        &[0x80, 14, 2, 0, 2],
        Outcome::Reset(Fault::OPTIONAL_ATTRIBUTE),
    ),
    (
        "MP_REACH of no octets",
        &[0x80, 14, 0],
        Outcome::Reset(Fault::OPTIONAL_ATTRIBUTE),
    ),
    (
        "MP_UNREACH of two octets",
        &[0x80, 15, 2, 0, 2],
        Outcome::Reset(Fault::OPTIONAL_ATTRIBUTE),
    ),
    (
        "MP_REACH with a next hop of four for IPv6",
        &[0x80, 14, 9, 0, 2, 1, 4, 9, 9, 9, 9, 0],
        Outcome::Reset(Fault::OPTIONAL_ATTRIBUTE),
    ),
    (
        "a next hop of RFC 8950, not negotiated",
        &[
            0x80, 14, 21, 0, 1, 1, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
        Outcome::Reset(Fault::OPTIONAL_ATTRIBUTE),
    ),
    (
        "MP_UNREACH with a prefix of 129",
        &[0x80, 15, 4, 0, 2, 1, 129],
        Outcome::Reset(Fault::OPTIONAL_ATTRIBUTE),
    ),
    (
        "MP_UNREACH with a prefix cut off",
        &[0x80, 15, 5, 0, 2, 1, 48, 1],
        Outcome::Reset(Fault::OPTIONAL_ATTRIBUTE),
    ),
    ("a second ORIGIN", ORIGIN, Kept),
    ("a second NEXT_HOP, broken", &[0x40, 3, 1, 0], Kept),
];

fn outcome(session: &Negotiated, attributes: &[&[u8]], nlri: &[u8]) -> Outcome {
    match update_in(session, attributes, nlri) {
        Err(notification) => Outcome::Reset(notification.fault),
        Ok(update) if update.announced.is_empty() => {
            assert!(!update.withdrawn.is_empty(), "{update:?}");
            assert!(
                update.faults.iter().any(|fault| fault.withdraws),
                "{update:?}"
            );
            Outcome::Withdrawn
        }
        Ok(update) => {
            assert!(
                update.faults.iter().all(|fault| !fault.withdraws),
                "{update:?}"
            );
            Outcome::Kept
        }
    }
}

#[test]
fn each_broken_attribute_costs_what_rfc_7606_says_and_no_more() {
    for (name, extra, expected) in CASES {
        let found = outcome(&SESSION, &[ORIGIN, PATH, HOP, extra], NLRI);
        assert_eq!(found, *expected, "{name}");
    }
    let internal = Negotiated {
        external: false,
        ..SESSION
    };
    for (name, extra) in [
        ("LOCAL_PREF of one octet", &[0x40, 5, 1, 0][..]),
        ("ORIGINATOR_ID of one octet", &[0x80, 9, 1, 0]),
        ("CLUSTER_LIST of one octet", &[0x80, 10, 1, 0]),
    ] {
        let found = outcome(&internal, &[ORIGIN, PATH, HOP, extra], NLRI);
        assert_eq!(found, Withdrawn, "{name}");
    }
}

#[test]
fn mandatory_attributes_that_are_broken_or_missing_cost_the_routes() {
    let cases: &[(&str, &[&[u8]])] = &[
        ("none at all", &[]),
        ("no ORIGIN", &[PATH, HOP]),
        ("no AS_PATH", &[ORIGIN, HOP]),
        ("no NEXT_HOP", &[ORIGIN, PATH]),
        (
            "MP_REACH is no NEXT_HOP for the others",
            &[ORIGIN, PATH, MP_REACH],
        ),
        ("ORIGIN of two octets", &[&[0x40, 1, 2, 0, 0], PATH, HOP]),
        ("ORIGIN 3", &[&[0x40, 1, 1, 3], PATH, HOP]),
        ("ORIGIN marked optional", &[&[0xc0, 1, 1, 0], PATH, HOP]),
        (
            "NEXT_HOP of three octets",
            &[ORIGIN, PATH, &[0x40, 3, 3, 9, 9, 9]],
        ),
        ("NEXT_HOP of none", &[ORIGIN, PATH, &[0x40, 3, 0]]),
        (
            "AS_PATH with AS 0",
            &[ORIGIN, &[0x40, 2, 6, 2, 1, 0, 0, 0, 0], HOP],
        ),
        (
            "AS_PATH with a stray octet",
            &[ORIGIN, &[0x40, 2, 7, 2, 1, 0, 0, 0, 9, 2], HOP],
        ),
        (
            "AS_PATH with an empty segment",
            &[ORIGIN, &[0x40, 2, 2, 2, 0], HOP],
        ),
        (
            "AS_PATH with a confederation",
            &[ORIGIN, &[0x40, 2, 6, 3, 1, 0, 0, 0, 9], HOP],
        ),
        (
            "AS_PATH of an unknown kind",
            &[ORIGIN, &[0x40, 2, 6, 9, 1, 0, 0, 0, 9], HOP],
        ),
        (
            "AS_PATH of two-octet numbers",
            &[ORIGIN, &[0x40, 2, 4, 2, 1, 0xfb, 0xf4], HOP],
        ),
    ];
    for (name, attributes) in cases {
        assert_eq!(outcome(&SESSION, attributes, NLRI), Withdrawn, "{name}");
        // The prefixes of both families go; those withdrawn anyway stay so.
        let mut both = attributes.to_vec();
        if !both.contains(&MP_REACH) {
            both.push(MP_REACH);
        }
        let found = update(&both, NLRI).unwrap();
        assert_eq!(
            (found.announced.len(), found.withdrawn.len()),
            (0, 2),
            "{name}"
        );
    }
    // Misflagged, its prefixes are found all the same.
    let mut flagged = MP_REACH.to_vec();
    flagged[0] = 0x40;
    let found = update(&[ORIGIN, PATH, &flagged], &[]).unwrap();
    assert_eq!((found.announced.len(), found.withdrawn.len()), (0, 1));
}

#[test]
fn what_hides_prefixes_resets_the_session() {
    let list = |withdrawn: &[u8], nlri: &[u8]| {
        let bytes = update_bytes(withdrawn, &[ORIGIN, PATH, HOP], nlri);
        decode(&bytes, Some(&SESSION)).unwrap_err().fault
    };
    assert_eq!(list(&[], &[33, 1, 2, 3, 4]), Fault::BAD_NETWORK);
    assert_eq!(list(&[], &[24, 1]), Fault::BAD_NETWORK);
    assert_eq!(list(&[33], NLRI), Fault::BAD_NETWORK);
    // Lengths of the fields themselves.
    let reset = |body: &[u8]| decode(&framed(2, body), Some(&SESSION)).unwrap_err().fault;
    assert_eq!(reset(&[0, 9, 0, 0]), Fault::ATTRIBUTE_LIST);
    assert_eq!(reset(&[0, 0, 0, 9, 1]), Fault::ATTRIBUTE_LIST);
    let twice = update(&[ORIGIN, PATH, MP_REACH, MP_REACH], &[]).unwrap_err();
    assert_eq!(twice.fault, Fault::ATTRIBUTE_LIST);
    let twice = update(&[MP_UNREACH, MP_UNREACH], &[]).unwrap_err();
    assert_eq!(twice.fault, Fault::ATTRIBUTE_LIST);
    // RFC 7606 section 5.2: broken, and nothing reachable in it.
    let alone = update(&[&[0x40, 1, 1, 9], PATH, HOP], &[]).unwrap_err();
    assert_eq!(alone.fault, Fault::BAD_ORIGIN);
    let beside = update(&[&[0x40, 1, 1, 9], MP_UNREACH], &[]).unwrap_err();
    assert_eq!(beside.fault, Fault::BAD_ORIGIN);
    // Only dropped attributes: the withdrawals count.
    let dropped = update(&[&[0x40, 6, 1, 0], MP_UNREACH], &[]).unwrap();
    assert_eq!(dropped.withdrawn.len(), 1);
}

#[test]
fn a_two_octet_session_has_its_long_numbers_from_as4_path_in_any_order() {
    let old = Negotiated {
        four_octets: false,
        ..SESSION
    };
    let short: &[u8] = &[0x40, 2, 6, 2, 2, 0xfb, 0xf4, 0x5b, 0xa0];
    let long: &[u8] = &[0xc0, 17, 6, 2, 1, 0, 1, 0, 5];
    let path = |attributes: &[&[u8]]| {
        let update = update_in(&old, attributes, NLRI).unwrap();
        update.announced[0].attributes.as_path.to_string()
    };
    assert_eq!(path(&[ORIGIN, short, HOP, long]), "64500 65541");
    assert_eq!(path(&[long, ORIGIN, HOP, short]), "64500 65541");
    // RFC 6793 section 4.2.3: a true AGGREGATOR makes it stale, AS_TRANS does not.
    let as4_aggregator: &[u8] = &[0xc0, 18, 8, 0, 1, 0, 5, 9, 9, 9, 9];
    let fresh: &[u8] = &[0xc0, 7, 6, 0x5b, 0xa0, 9, 9, 9, 9];
    let stale: &[u8] = &[0xc0, 7, 6, 0xfb, 0xf4, 9, 9, 9, 9];
    assert_eq!(
        path(&[ORIGIN, short, HOP, long, fresh, as4_aggregator]),
        "64500 65541"
    );
    assert_eq!(
        path(&[ORIGIN, short, HOP, long, stale, as4_aggregator]),
        "64500 23456"
    );
    // Malformed: as if it were not there; with AS 0: RFC 7607.
    assert_eq!(
        path(&[ORIGIN, short, HOP, &[0xc0, 17, 1, 2]]),
        "64500 23456"
    );
    let zero = outcome(
        &old,
        &[ORIGIN, short, HOP, &[0xc0, 17, 6, 2, 1, 0, 0, 0, 0]],
        NLRI,
    );
    assert_eq!(zero, Outcome::Withdrawn);
}
