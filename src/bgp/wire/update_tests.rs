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
use super::tests::told;
use super::tests::update;
use super::tests::update_bytes;
use super::tests::update_in;
use super::*;
use std::collections::BTreeSet;

/// How an UPDATE ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    /// Announced, and nothing was wrong.
    Good,
    /// Announced, without the attribute.
    Discarded,
    Withdrawn,
    /// The family of the broken attribute goes, the other one is announced.
    Disabled,
    Reset(Fault),
}

use FaultKind as Kind;
use Verdict::Disabled;
use Verdict::Discarded;
use Verdict::Good;
use Verdict::Reset;
use Verdict::Withdrawn;

/// Name, the attributes, which kind of error is told, and what it costs.
type Case<'a> = (&'a str, &'a [&'a [u8]], Option<FaultKind>, Verdict);

const GOOD: [&[u8]; 3] = [ORIGIN, PATH, HOP];

/// An attribute beside a good ORIGIN, AS_PATH and NEXT_HOP, on an external session.
const EXTRA: &[(&str, &[u8], Option<FaultKind>, Verdict)] = &[
    // RFC 7606 section 3 (c): flags.
    (
        "MED marked well-known",
        &[0x40, 4, 4, 0, 0, 0, 1],
        Some(Kind::AttributeFlags),
        Withdrawn,
    ),
    (
        "MED marked transitive",
        &[0xc0, 4, 4, 0, 0, 0, 1],
        Some(Kind::AttributeFlags),
        Withdrawn,
    ),
    (
        "ATOMIC_AGGREGATE optional",
        &[0xc0, 6, 0],
        Some(Kind::AttributeFlags),
        Withdrawn,
    ),
    (
        "AGGREGATOR not transitive",
        &[0x80, 7, 8, 0, 0, 0, 9, 9, 9, 9, 9],
        Some(Kind::AttributeFlags),
        Withdrawn,
    ),
    (
        "COMMUNITIES well-known",
        &[0x40, 8, 4, 0, 0, 0, 1],
        Some(Kind::AttributeFlags),
        Withdrawn,
    ),
    (
        "OTC not transitive",
        &[0x80, 35, 4, 0, 0, 0, 1],
        Some(Kind::AttributeFlags),
        Withdrawn,
    ),
    // The partial bit and the four unused ones decide nothing (RFC 4271 section 4.3).
    (
        "COMMUNITIES, partial",
        &[0xff, 8, 0, 4, 0, 0, 0, 1],
        None,
        Good,
    ),
    // RFC 7606 section 3 (g): repeated.
    ("a second ORIGIN", ORIGIN, Some(Kind::Repeated), Discarded),
    (
        "a second NEXT_HOP, broken",
        &[0x40, 3, 1, 0],
        Some(Kind::Repeated),
        Discarded,
    ),
    // RFC 7606 section 4: where the list ends.
    (
        "one stray octet",
        &[0x40],
        Some(Kind::StrayOctets),
        Withdrawn,
    ),
    (
        "two stray octets",
        &[0xc0, 8],
        Some(Kind::StrayOctets),
        Withdrawn,
    ),
    (
        "three with extended length",
        &[0xd0, 8, 0],
        Some(Kind::StrayOctets),
        Withdrawn,
    ),
    (
        "a stray octet of an MP_REACH",
        &[0x80, 14],
        Some(Kind::StrayOctets),
        Withdrawn,
    ),
    (
        "COMMUNITIES beyond the list",
        &[0xc0, 8, 9, 0, 0, 0, 1],
        Some(Kind::Overrun),
        Withdrawn,
    ),
    (
        "extended length beyond the list",
        &[0xd0, 99, 0xff, 0xff, 1],
        Some(Kind::Overrun),
        Withdrawn,
    ),
    (
        "MP_REACH beyond the list",
        &[0x80, 14, 50, 0, 2],
        Some(Kind::Overrun),
        Reset(Fault::ATTRIBUTE_LENGTH),
    ),
    (
        "MP_UNREACH beyond the list",
        &[0x80, 15, 50, 0, 2],
        Some(Kind::Overrun),
        Reset(Fault::ATTRIBUTE_LENGTH),
    ),
    // RFC 7606 section 7.4: MED.
    ("MED", &[0x80, 4, 4, 0, 0, 0, 1], None, Good),
    (
        "MED of three octets",
        &[0x80, 4, 3, 0, 0, 0],
        Some(Kind::Med),
        Withdrawn,
    ),
    (
        "MED of five octets",
        &[0x80, 4, 5, 0, 0, 0, 0, 0],
        Some(Kind::Med),
        Withdrawn,
    ),
    ("MED of none", &[0x80, 4, 0], Some(Kind::Med), Withdrawn),
    // RFC 7606 sections 7.5, 7.9, 7.10: from outside, whatever they hold.
    (
        "LOCAL_PREF",
        &[0x40, 5, 4, 0, 0, 0, 9],
        Some(Kind::InternalFromOutside),
        Discarded,
    ),
    (
        "LOCAL_PREF of one",
        &[0x40, 5, 1, 0],
        Some(Kind::InternalFromOutside),
        Discarded,
    ),
    (
        "ORIGINATOR_ID of one",
        &[0x80, 9, 1, 0],
        Some(Kind::InternalFromOutside),
        Discarded,
    ),
    (
        "CLUSTER_LIST of one",
        &[0x80, 10, 1, 0],
        Some(Kind::InternalFromOutside),
        Discarded,
    ),
    // RFC 7606 section 7.6: ATOMIC_AGGREGATE.
    ("ATOMIC_AGGREGATE", &[0x40, 6, 0], None, Good),
    (
        "ATOMIC_AGGREGATE of one",
        &[0x40, 6, 1, 0],
        Some(Kind::AtomicAggregate),
        Discarded,
    ),
    // RFC 7606 section 7.7: AGGREGATOR.
    (
        "AGGREGATOR",
        &[0xc0, 7, 8, 0, 0, 0, 9, 9, 9, 9, 9],
        None,
        Good,
    ),
    (
        "AGGREGATOR of seven",
        &[0xc0, 7, 7, 0, 0, 0, 0, 0, 0, 0],
        Some(Kind::Aggregator),
        Discarded,
    ),
    (
        "AGGREGATOR of two octets' AS",
        &[0xc0, 7, 6, 0, 9, 9, 9, 9, 9],
        Some(Kind::Aggregator),
        Discarded,
    ),
    (
        "AGGREGATOR of none",
        &[0xc0, 7, 0],
        Some(Kind::Aggregator),
        Discarded,
    ),
    // RFC 7607 section 2.
    (
        "AGGREGATOR with AS 0",
        &[0xc0, 7, 8, 0, 0, 0, 0, 9, 9, 9, 9],
        Some(Kind::AsZero),
        Discarded,
    ),
    // RFC 7606 section 7.8: COMMUNITIES.
    (
        "COMMUNITIES of five",
        &[0xc0, 8, 5, 0, 0, 0, 0, 0],
        Some(Kind::Communities),
        Withdrawn,
    ),
    (
        "COMMUNITIES of none",
        &[0xc0, 8, 0],
        Some(Kind::Communities),
        Withdrawn,
    ),
    // RFC 7606 section 7.14: extended communities.
    (
        "EXTENDED_COMMUNITIES",
        &[0xc0, 16, 8, 0, 2, 0, 0, 0, 0, 0, 0],
        None,
        Good,
    ),
    (
        "EXTENDED_COMMUNITIES of seven",
        &[0xc0, 16, 7, 0, 0, 0, 0, 0, 0, 0],
        Some(Kind::ExtendedCommunities),
        Withdrawn,
    ),
    (
        "EXTENDED_COMMUNITIES of none",
        &[0xc0, 16, 0],
        Some(Kind::ExtendedCommunities),
        Withdrawn,
    ),
    // RFC 8092 section 6.
    (
        "LARGE_COMMUNITIES of four",
        &[0xc0, 32, 4, 0, 0, 0, 0],
        Some(Kind::LargeCommunities),
        Withdrawn,
    ),
    (
        "LARGE_COMMUNITIES of none",
        &[0xc0, 32, 0],
        Some(Kind::LargeCommunities),
        Withdrawn,
    ),
    // RFC 9234 section 5.
    ("OTC", &[0xc0, 35, 4, 0, 0, 0, 1], None, Good),
    (
        "OTC of three",
        &[0xc0, 35, 3, 0, 0, 1],
        Some(Kind::OnlyToCustomer),
        Withdrawn,
    ),
    (
        "OTC of none",
        &[0xc0, 35, 0],
        Some(Kind::OnlyToCustomer),
        Withdrawn,
    ),
    (
        "OTC of 1024 in four",
        &[0xd0, 35, 4, 0, 0, 0, 0, 1],
        Some(Kind::Overrun),
        Withdrawn,
    ),
    // RFC 6793 section 4.1.
    (
        "AS4_PATH",
        &[0xc0, 17, 1, 0],
        Some(Kind::As4OnFourOctets),
        Discarded,
    ),
    (
        "AS4_AGGREGATOR",
        &[0xc0, 18, 1, 0],
        Some(Kind::As4OnFourOctets),
        Discarded,
    ),
    // Attributes without use here, whatever is in them (RFC 4271 section 9).
    (
        "a corrupt PREFIX_SID",
        &[0xc0, 40, 2, 0xff, 0xff],
        None,
        Good,
    ),
    ("PREFIX_SID of none", &[0xc0, 40, 0], None, Good),
    (
        "an unknown one, extended length",
        &[0xd0, 99, 0, 1, 7],
        None,
        Good,
    ),
    (
        "an unknown one, not transitive",
        &[0x80, 99, 1, 7],
        None,
        Good,
    ),
    // RFC 4271 section 6.3.
    (
        "an unknown one that is well-known",
        &[0x40, 99, 1, 7],
        Some(Kind::UnknownWellKnown),
        Reset(Fault::UNKNOWN_WELL_KNOWN),
    ),
    (
        "type 0, well-known",
        &[0x40, 0, 0],
        Some(Kind::UnknownWellKnown),
        Reset(Fault::UNKNOWN_WELL_KNOWN),
    ),
    // RFC 7606 sections 5.3 and 7.11: MP_REACH_NLRI. Without its family the session goes.
    ("MP_REACH", MP_REACH, None, Good),
    (
        "MP_REACH of none",
        &[0x80, 14, 0],
        Some(Kind::MpReach),
        Reset(Fault::OPTIONAL_ATTRIBUTE),
    ),
    (
        "MP_REACH of two octets",
        &[0x80, 14, 2, 0, 2],
        Some(Kind::MpReach),
        Reset(Fault::OPTIONAL_ATTRIBUTE),
    ),
    (
        "MP_REACH of four octets",
        &[0x80, 14, 4, 0, 2, 1, 0],
        Some(Kind::MpReach),
        Disabled,
    ),
    (
        "MP_REACH with a next hop of four for IPv6",
        &[0x80, 14, 9, 0, 2, 1, 4, 9, 9, 9, 9, 0],
        Some(Kind::MpReach),
        Disabled,
    ),
    (
        "MP_REACH with a next hop beyond it",
        &[0x80, 14, 9, 0, 2, 1, 16, 9, 9, 9, 9, 0],
        Some(Kind::MpReach),
        Disabled,
    ),
    (
        "MP_REACH marked well-known",
        &[0x40, 14, 9, 0, 2, 1, 4, 9, 9, 9, 9, 0],
        Some(Kind::MpReach),
        Disabled,
    ),
    (
        "MP_REACH of a family not spoken",
        &[0x80, 14, 5, 0, 25, 70, 0, 0],
        None,
        Good,
    ),
    (
        "MP_REACH of such a one, cut",
        &[0x80, 14, 4, 0, 25, 70, 9],
        None,
        Good,
    ),
    // RFC 7606 sections 5.3 and 7.12: MP_UNREACH_NLRI.
    ("MP_UNREACH", MP_UNREACH, None, Good),
    (
        "MP_UNREACH of two octets",
        &[0x80, 15, 2, 0, 2],
        Some(Kind::MpUnreach),
        Reset(Fault::OPTIONAL_ATTRIBUTE),
    ),
    (
        "MP_UNREACH with a prefix of 129",
        &[0x80, 15, 4, 0, 2, 1, 129],
        Some(Kind::MpUnreach),
        Disabled,
    ),
    (
        "MP_UNREACH with a prefix cut off",
        &[0x80, 15, 5, 0, 2, 1, 48, 1],
        Some(Kind::MpUnreach),
        Disabled,
    ),
    (
        "MP_UNREACH marked transitive",
        &[0xc0, 15, 3, 0, 2, 1],
        Some(Kind::MpUnreach),
        Disabled,
    ),
];

/// Whole lists of attributes beside one IPv4 prefix.
const LISTS: &[Case<'_>] = &[
    ("good", &GOOD, None, Good),
    ("in another order", &[HOP, PATH, ORIGIN], None, Good),
    // RFC 7606 section 3 (d).
    ("none at all", &[], Some(Kind::MissingMandatory), Withdrawn),
    (
        "no ORIGIN",
        &[PATH, HOP],
        Some(Kind::MissingMandatory),
        Withdrawn,
    ),
    (
        "no AS_PATH",
        &[ORIGIN, HOP],
        Some(Kind::MissingMandatory),
        Withdrawn,
    ),
    (
        "no NEXT_HOP",
        &[ORIGIN, PATH],
        Some(Kind::MissingMandatory),
        Withdrawn,
    ),
    (
        "MP_REACH is no NEXT_HOP for the others",
        &[ORIGIN, PATH, MP_REACH],
        Some(Kind::MissingMandatory),
        Withdrawn,
    ),
    // RFC 7606 section 7.1.
    (
        "ORIGIN of two octets",
        &[&[0x40, 1, 2, 0, 0], PATH, HOP],
        Some(Kind::Origin),
        Withdrawn,
    ),
    (
        "ORIGIN of none",
        &[&[0x40, 1, 0], PATH, HOP],
        Some(Kind::Origin),
        Withdrawn,
    ),
    (
        "ORIGIN 3",
        &[&[0x40, 1, 1, 3], PATH, HOP],
        Some(Kind::Origin),
        Withdrawn,
    ),
    // RFC 7606 section 3 (c).
    (
        "ORIGIN marked optional",
        &[&[0xc0, 1, 1, 0], PATH, HOP],
        Some(Kind::AttributeFlags),
        Withdrawn,
    ),
    (
        "AS_PATH marked optional",
        &[ORIGIN, &[0xc0, 2, 6, 2, 1, 0, 0, 0, 9], HOP],
        Some(Kind::AttributeFlags),
        Withdrawn,
    ),
    // RFC 7606 section 7.2.
    ("AS_PATH of none", &[ORIGIN, &[0x40, 2, 0], HOP], None, Good),
    (
        "AS_PATH with a stray octet",
        &[ORIGIN, &[0x40, 2, 7, 2, 1, 0, 0, 0, 9, 2], HOP],
        Some(Kind::AsPath),
        Withdrawn,
    ),
    (
        "AS_PATH with an empty segment",
        &[ORIGIN, &[0x40, 2, 2, 2, 0], HOP],
        Some(Kind::AsPath),
        Withdrawn,
    ),
    (
        "AS_PATH of an unknown kind",
        &[ORIGIN, &[0x40, 2, 6, 9, 1, 0, 0, 0, 9], HOP],
        Some(Kind::AsPath),
        Withdrawn,
    ),
    (
        "AS_PATH with a segment beyond it",
        &[ORIGIN, &[0x40, 2, 6, 2, 9, 0, 0, 0, 9], HOP],
        Some(Kind::AsPath),
        Withdrawn,
    ),
    (
        "AS_PATH of two-octet numbers",
        &[ORIGIN, &[0x40, 2, 4, 2, 1, 0xfb, 0xf4], HOP],
        Some(Kind::AsPath),
        Withdrawn,
    ),
    // RFC 5065 section 5.
    (
        "AS_PATH with a confederation",
        &[ORIGIN, &[0x40, 2, 6, 3, 1, 0, 0, 0, 9], HOP],
        Some(Kind::Confederation),
        Withdrawn,
    ),
    (
        "AS_PATH with a confederation's set",
        &[
            ORIGIN,
            &[0x40, 2, 12, 2, 1, 0, 0, 0, 9, 4, 1, 0, 0, 0, 9],
            HOP,
        ],
        Some(Kind::Confederation),
        Withdrawn,
    ),
    // RFC 7607 section 2.
    (
        "AS_PATH with AS 0",
        &[ORIGIN, &[0x40, 2, 6, 2, 1, 0, 0, 0, 0], HOP],
        Some(Kind::AsZero),
        Withdrawn,
    ),
    (
        "AS_PATH with AS 0 in a set",
        &[
            ORIGIN,
            &[0x40, 2, 12, 2, 1, 0, 0, 0, 9, 1, 1, 0, 0, 0, 0],
            HOP,
        ],
        Some(Kind::AsZero),
        Withdrawn,
    ),
    // RFC 7606 section 7.3.
    (
        "NEXT_HOP of three octets",
        &[ORIGIN, PATH, &[0x40, 3, 3, 9, 9, 9]],
        Some(Kind::NextHop),
        Withdrawn,
    ),
    (
        "NEXT_HOP of none",
        &[ORIGIN, PATH, &[0x40, 3, 0]],
        Some(Kind::NextHop),
        Withdrawn,
    ),
    // RFC 7606 section 3 (h): the worst of several counts.
    (
        "an attribute discarded and another one broken",
        &[ORIGIN, PATH, HOP, &[0x40, 6, 1, 0], &[0x80, 4, 1, 0]],
        Some(Kind::Med),
        Withdrawn,
    ),
    (
        "an attribute broken and a family lost",
        &[
            ORIGIN,
            PATH,
            HOP,
            &[0x80, 4, 1, 0],
            &[0x80, 15, 4, 0, 2, 1, 129],
        ],
        Some(Kind::Med),
        Withdrawn,
    ),
    (
        "a family lost and the session too",
        &[
            ORIGIN,
            PATH,
            HOP,
            &[0x80, 15, 4, 0, 2, 1, 129],
            &[0x40, 99, 0],
        ],
        Some(Kind::UnknownWellKnown),
        Reset(Fault::UNKNOWN_WELL_KNOWN),
    ),
    (
        "both families lost",
        &[
            ORIGIN,
            PATH,
            HOP,
            &[0x80, 15, 4, 0, 2, 1, 129],
            &[0x80, 14, 4, 0, 1, 1, 9],
        ],
        Some(Kind::MpReach),
        Reset(Fault::OPTIONAL_ATTRIBUTE),
    ),
    // RFC 7606 section 3 (g).
    (
        "two MP_REACH",
        &[ORIGIN, PATH, HOP, MP_REACH, MP_REACH],
        Some(Kind::Repeated),
        Reset(Fault::ATTRIBUTE_LIST),
    ),
    (
        "two MP_UNREACH",
        &[ORIGIN, PATH, HOP, MP_UNREACH, MP_UNREACH],
        Some(Kind::Repeated),
        Reset(Fault::ATTRIBUTE_LIST),
    ),
];

/// On an internal session, where these attributes are believed.
const INTERNAL: &[(&str, &[u8], Option<FaultKind>, Verdict)] = &[
    ("LOCAL_PREF", &[0x40, 5, 4, 0, 0, 0, 9], None, Good),
    (
        "LOCAL_PREF of one",
        &[0x40, 5, 1, 0],
        Some(Kind::LocalPref),
        Withdrawn,
    ),
    (
        "LOCAL_PREF optional",
        &[0xc0, 5, 4, 0, 0, 0, 9],
        Some(Kind::AttributeFlags),
        Withdrawn,
    ),
    (
        "ORIGINATOR_ID of one",
        &[0x80, 9, 1, 0],
        Some(Kind::OriginatorId),
        Withdrawn,
    ),
    (
        "CLUSTER_LIST of one",
        &[0x80, 10, 1, 0],
        Some(Kind::ClusterList),
        Withdrawn,
    ),
    (
        "CLUSTER_LIST of none",
        &[0x80, 10, 0],
        Some(Kind::ClusterList),
        Withdrawn,
    ),
];

const TWO_OCTETS: Negotiated = Negotiated {
    four_octets: false,
    ..SESSION
};

/// 64500 and `AS_TRANS`.
const SHORT_PATH: &[u8] = &[0x40, 2, 6, 2, 2, 0xfb, 0xf4, 0x5b, 0xa0];

/// On a session of two octets.
const OLD: &[(&str, &[u8], Option<FaultKind>, Verdict)] = &[
    ("AS4_PATH", &[0xc0, 17, 6, 2, 1, 0, 1, 0, 5], None, Good),
    // RFC 6793 section 6.
    (
        "AS4_PATH of one",
        &[0xc0, 17, 1, 2],
        Some(Kind::As4Path),
        Discarded,
    ),
    (
        "AS4_PATH of an empty segment",
        &[0xc0, 17, 2, 2, 0],
        Some(Kind::As4Path),
        Discarded,
    ),
    (
        "AS4_AGGREGATOR of six",
        &[0xc0, 18, 1, 0],
        Some(Kind::As4Aggregator),
        Discarded,
    ),
    // RFC 7607 section 2, by RFC 6793 section 6.
    (
        "AS4_PATH with AS 0",
        &[0xc0, 17, 6, 2, 1, 0, 0, 0, 0],
        Some(Kind::AsZero),
        Discarded,
    ),
    (
        "AGGREGATOR of four octets' AS",
        &[0xc0, 7, 8, 0, 0, 0, 9, 9, 9, 9, 9],
        Some(Kind::Aggregator),
        Discarded,
    ),
];

fn judged(told: Result<Told, Malformed>) -> (Option<FaultKind>, Verdict) {
    match told {
        Err(Malformed { kind, notification }) => (kind, Reset(notification.fault)),
        Ok(told) => {
            let worst = told.faults.worst().map(|worst| worst.handling);
            let announced = told.announced.iter().flat_map(|(_, routes)| routes).count();
            let verdict = if told.faults.withdraws() {
                assert_eq!(announced, 0);
                assert!(!told.withdrawn.is_empty(), "{told:?}");
                Withdrawn
            } else {
                assert!(announced > 0, "{told:?}");
                match worst {
                    None => Good,
                    Some(Handling::Discard) => Discarded,
                    Some(Handling::Disable) => Disabled,
                    Some(Handling::Withdraw | Handling::Reset) => panic!("{told:?}"),
                }
            };
            assert_eq!(told.disabled.is_some(), worst == Some(Handling::Disable));
            let kind = told.faults.kinds().find(|kind| {
                let withdraws = told.faults.withdrawing();
                withdraws.is_none_or(|first| first == *kind)
            });
            (kind, verdict)
        }
    }
}

#[test]
fn each_case_of_rfc_7606_ends_as_its_section_says_and_is_told_by_its_kind() {
    let mut kinds = BTreeSet::new();
    let mut check = |name: &str, session: &Negotiated, list: &[&[u8]], kind, verdict| {
        let found = judged(update_in(session, list, NLRI));
        assert_eq!(found, (kind, verdict), "{name}");
        kinds.extend(kind);
    };
    for (name, extra, kind, verdict) in EXTRA {
        check(name, &SESSION, &[ORIGIN, PATH, HOP, extra], *kind, *verdict);
    }
    for (name, list, kind, verdict) in LISTS {
        check(name, &SESSION, list, *kind, *verdict);
    }
    let internal = Negotiated {
        external: false,
        ..SESSION
    };
    for (name, extra, kind, verdict) in INTERNAL {
        check(
            name,
            &internal,
            &[ORIGIN, PATH, HOP, extra],
            *kind,
            *verdict,
        );
    }
    for (name, extra, kind, verdict) in OLD {
        check(
            name,
            &TWO_OCTETS,
            &[ORIGIN, SHORT_PATH, HOP, extra],
            *kind,
            *verdict,
        );
    }
    // What no list of attributes can bring about has tests of its own below.
    kinds.extend([Kind::FieldLengths, Kind::NothingReachable, Kind::Prefixes]);
    let untested: Vec<_> = Kind::ALL
        .iter()
        .filter(|kind| !kinds.contains(kind))
        .collect();
    assert!(untested.is_empty(), "{untested:?}");
    assert!(EXTRA.len() + LISTS.len() + INTERNAL.len() + OLD.len() > 100);
}

#[test]
fn a_withdrawal_of_all_takes_the_prefixes_of_both_families() {
    for (name, list, kind, verdict) in LISTS {
        let has_mp = list
            .iter()
            .any(|attribute| matches!(attribute.get(1), Some(14 | 15)));
        if *verdict == Withdrawn && !has_mp {
            let told = update(&[*list, &[MP_REACH]].concat(), NLRI).unwrap();
            assert_eq!(
                (told.announced.len(), told.withdrawn.len()),
                (0, 2),
                "{name} {kind:?}"
            );
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
    assert_eq!(
        judged(last),
        (Some(Kind::MpUnreach), Reset(Fault::OPTIONAL_ATTRIBUTE))
    );
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
        judged(told(&update_bytes(withdrawn, &GOOD, nlri), &SESSION))
    };
    // RFC 7606 sections 3 (i) and 5.3.
    let prefixes = (Some(Kind::Prefixes), Reset(Fault::BAD_NETWORK));
    assert_eq!(list(&[], &[33, 1, 2, 3, 4]), prefixes);
    assert_eq!(list(&[], &[24, 1]), prefixes);
    assert_eq!(list(&[33], NLRI), prefixes);
    assert_eq!(list(&[32, 1, 2, 3], NLRI), prefixes);
    // RFC 7606 section 3 (b): lengths of the fields themselves.
    let lengths = (Some(Kind::FieldLengths), Reset(Fault::ATTRIBUTE_LIST));
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
    let reset = (Some(Kind::NothingReachable), Reset(Fault::BAD_ORIGIN));
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
