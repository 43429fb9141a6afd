//! Golden OPENs of real routers, framing, and the table of RFC 7606.

use super::*;
use crate::prefix::Prefix;
use crate::route::Asn;
use std::net::Ipv4Addr;

pub(super) const SESSION: Negotiated = Negotiated {
    four_octets: true,
    ipv4: true,
    ipv6: true,
    external: true,
};

const ORIGIN: &[u8] = &[0x40, 1, 1, 0];
/// 64500 64501, four octets each.
const PATH: &[u8] = &[0x40, 2, 10, 2, 2, 0, 0, 0xfb, 0xf4, 0, 0, 0xfb, 0xf5];
const HOP: &[u8] = &[0x40, 3, 4, 198, 51, 100, 1];
/// 192.0.2.0/24.
const NLRI: &[u8] = &[24, 192, 0, 2];
/// 2001:db8:1::/48 by 2001:db8::1.
const MP_REACH: &[u8] = &[
    0x80, 14, 28, 0, 2, 1, 16, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 48, 0x20,
    1, 0xd, 0xb8, 0, 1,
];
const MP_UNREACH: &[u8] = &[0x80, 15, 10, 0, 2, 1, 48, 0x20, 1, 0xd, 0xb8, 0, 2];

fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xff; 16];
    let length = u16::try_from(19 + body.len()).unwrap();
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.push(kind);
    bytes.extend_from_slice(body);
    bytes
}

fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks_exact(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn open_of(body: &[u8]) -> Result<Open, Notification> {
    match decode(&framed(1, body), None) {
        Ok(Message::Open(open)) => Ok(open),
        Ok(other) => panic!("{other:?}"),
        Err(notification) => Err(notification),
    }
}

fn update_bytes(withdrawn: &[u8], attributes: &[&[u8]], nlri: &[u8]) -> Vec<u8> {
    let attributes = attributes.concat();
    let mut body = Vec::new();
    for field in [withdrawn, &attributes] {
        body.extend_from_slice(&u16::try_from(field.len()).unwrap().to_be_bytes());
        body.extend_from_slice(field);
    }
    body.extend_from_slice(nlri);
    framed(2, &body)
}

fn update_in(
    session: &Negotiated,
    attributes: &[&[u8]],
    nlri: &[u8],
) -> Result<Update, Notification> {
    match decode(&update_bytes(&[], attributes, nlri), Some(session)) {
        Ok(Message::Update(update)) => Ok(update),
        Ok(other) => panic!("{other:?}"),
        Err(notification) => Err(notification),
    }
}

fn update(attributes: &[&[u8]], nlri: &[u8]) -> Result<Update, Notification> {
    update_in(&SESSION, attributes, nlri)
}

#[test]
fn opens_of_real_routers_are_read_and_our_own_too() {
    let full = "04fbf400f0c000020151024f010400010001010400020001020005060001000100020600090100\
        400a0078000101000002010041040000fbf4450800010103000201024600470e00010100000e10000201\
        00000e10490402766d00";
    let bird = open_of(&hex(full)).unwrap();
    assert_eq!((bird.asn, bird.hold_time), (Asn(64500), 240));
    assert_eq!(bird.router_id, Ipv4Addr::new(192, 0, 2, 1));
    assert!(bird.speaks_four_octets());
    assert!(bird.speaks(Family::Ipv4) && bird.speaks(Family::Ipv6));
    let plain = "04fbf400f0c000020118021601040001000102004002007841040000fbf446004700";
    let bird = open_of(&hex(plain)).unwrap();
    assert!(bird.speaks(Family::Ipv4) && !bird.speaks(Family::Ipv6));
    let gobgp = "04fbf5005ac00002033202300200490402766d0001040001000101040002000141040000fbf54\
        0060078000101000506000100010002450400010103";
    let gobgp = open_of(&hex(gobgp)).unwrap();
    assert_eq!((gobgp.asn, gobgp.hold_time), (Asn(64501), 90));
    assert!(gobgp.speaks(Family::Ipv6) && gobgp.speaks_four_octets());
    for open in [bird, gobgp] {
        let bytes = encode::open(&open);
        assert_eq!(decode(&bytes, None), Ok(Message::Open(open)));
    }
    // No optional parameters at all: IPv4 unicast, two octets.
    let old = open_of(&hex("04fbf4005ac000020100")).unwrap();
    assert!(old.speaks(Family::Ipv4) && !old.speaks(Family::Ipv6));
    assert!(!old.speaks_four_octets());
}

#[test]
fn what_is_wrong_with_an_open_gets_its_own_notification() {
    let with = |at: usize, bytes: &[u8]| {
        let mut body = hex("04fbf4005ac0000201080206410400010000");
        body[at..at + bytes.len()].copy_from_slice(bytes);
        body
    };
    // AS 65536 goes with AS_TRANS.
    assert_eq!(open_of(&with(1, &[0x5b, 0xa0])).unwrap().asn, Asn(65536));
    for (body, fault) in [
        (with(0, &[3]), Fault::BAD_VERSION),
        // The two-octet field names another AS than the capability.
        (with(1, &[0xfb, 0xf4]), Fault::BAD_PEER_AS),
        // RFC 7607.
        (hex("040000005ac000020100"), Fault::BAD_PEER_AS),
        (
            hex("045ba0005ac0000201080206410400000000"),
            Fault::BAD_PEER_AS,
        ),
        (hex("04fbf40001c000020100"), Fault::BAD_HOLD_TIME),
        (hex("04fbf40002c000020100"), Fault::BAD_HOLD_TIME),
        (hex("04fbf4005a0000000000"), Fault::BAD_IDENTIFIER),
        // A parameter that is no capability.
        (hex("04fbf4005ac000020104010200aa"), Fault::BAD_PARAMETER),
        // Lengths that do not fit: of all parameters, of one, of a capability, of one we speak.
        (hex("04fbf4005ac000020105020200aa"), Fault::OPEN_MALFORMED),
        (hex("04fbf4005ac000020104020900aa"), Fault::OPEN_MALFORMED),
        (hex("04fbf4005ac000020104020246aa"), Fault::OPEN_MALFORMED),
        (hex("04fbf4005ac0000201050203010100"), Fault::OPEN_MALFORMED),
        (hex("04fbf4005ac000020101ff"), Fault::OPEN_MALFORMED),
    ] {
        assert_eq!(open_of(&body).unwrap_err().fault, fault, "{body:02x?}");
    }
    assert_eq!(open_of(&with(0, &[3])).unwrap_err().data, [0, 4]);
}

#[test]
fn extended_optional_parameters_are_read_with_the_same_bounds() {
    // RFC 9072: 255, 255, two octets of length, and parameters with two octets of length.
    let good = open_of(&hex("045ba0005ac00002 01ffff0009 020006 410400010000"
        .replace(' ', "")
        .as_str()));
    assert_eq!(good.unwrap().asn, Asn(65536));
    // The first length is not judged, unless it is zero.
    let odd = open_of(&hex("045ba0005ac0000201 07ff0009 020006410400010000"
        .replace(' ', "")
        .as_str()));
    assert_eq!(odd.unwrap().asn, Asn(65536));
    for broken in [
        "045ba0005ac0000201ffff",
        "045ba0005ac0000201ffff00",
        "045ba0005ac0000201ffff000a020006410400010000",
        "045ba0005ac0000201ffff0009020007410400010000",
        "045ba0005ac0000201ffff00020200",
    ] {
        assert_eq!(
            open_of(&hex(broken)).unwrap_err().fault,
            Fault::OPEN_MALFORMED,
            "{broken}"
        );
    }
    let many = (0..200).map(|code| Capability::Other {
        code: 100 + code % 100,
        value: vec![7; 3],
    });
    let open = Open {
        asn: Asn(64500),
        hold_time: 90,
        router_id: Ipv4Addr::new(192, 0, 2, 1),
        capabilities: many.collect(),
    };
    assert_eq!(decode(&encode::open(&open), None), Ok(Message::Open(open)));
}

#[test]
fn headers_are_judged_before_anything_is_waited_for() {
    assert_eq!(frame(&[]), Ok(None));
    assert_eq!(frame(&framed(4, &[])[..18]), Ok(None));
    assert_eq!(frame(&framed(4, &[])), Ok(Some(19)));
    let fault = |bytes: &[u8]| frame(bytes).unwrap_err();
    assert_eq!(fault(b"GET / HTTP/1.1").fault, Fault::NOT_SYNCHRONISED);
    assert_eq!(fault(&[0xff, 0xfe]).fault, Fault::NOT_SYNCHRONISED);
    for (kind, body) in [(1, 9), (2, 3), (3, 1), (4, 1), (5, 3), (5, 5), (2, 4078)] {
        let refused = fault(&framed(kind, &vec![0; body]));
        assert_eq!(refused.fault, Fault::BAD_LENGTH, "{kind} {body}");
        assert_eq!(
            usize::from(refused.data[0]) << 8 | usize::from(refused.data[1]),
            19 + body
        );
    }
    assert_eq!(
        fault(&framed(6, &[])),
        Notification::new(Fault::BAD_TYPE, [6])
    );
    assert_eq!(frame(&framed(2, &[0; 4077])), Ok(Some(4096)));
    // Not what `frame` cut out.
    let cut = decode(&framed(4, &[])[..18], None).unwrap_err();
    assert_eq!(cut.fault, Fault::BAD_LENGTH);
    let early = decode(&update_bytes(&[], &[], &[]), None).unwrap_err();
    assert_eq!(early.fault, Fault::UNEXPECTED_IN_OPEN_SENT);
}

#[test]
fn a_good_update_has_both_families_and_ends_of_rib_are_told_apart() {
    let good = update(&[ORIGIN, PATH, HOP, MP_REACH, MP_UNREACH], NLRI).unwrap();
    assert_eq!(
        good.withdrawn,
        ["2001:db8:2::/48".parse::<Prefix>().unwrap()]
    );
    let [plain, mp] = &good.announced[..] else {
        panic!("{good:?}");
    };
    assert_eq!(plain.attributes.as_path.to_string(), "64500 64501");
    assert_eq!(plain.attributes.next_hop, Ipv4Addr::new(198, 51, 100, 1));
    assert_eq!(plain.prefixes, ["192.0.2.0/24".parse::<Prefix>().unwrap()]);
    assert_eq!(mp.prefixes, ["2001:db8:1::/48".parse::<Prefix>().unwrap()]);
    assert_eq!(
        mp.attributes.next_hop,
        "2001:db8::1".parse::<std::net::IpAddr>().unwrap()
    );
    assert!(!good.is_malformed() && good.end_of_rib.is_none());
    for family in [Family::Ipv4, Family::Ipv6] {
        let end = decode(&encode::end_of_rib(family), Some(&SESSION)).unwrap();
        let expected = Update {
            end_of_rib: Some(family),
            ..Update::default()
        };
        assert_eq!(end, Message::Update(expected));
    }
    // Families that were not negotiated: read for their form, and ignored.
    let only_ipv4 = Negotiated {
        ipv6: false,
        ..SESSION
    };
    let some = update_in(&only_ipv4, &[ORIGIN, PATH, HOP, MP_REACH, MP_UNREACH], NLRI).unwrap();
    assert_eq!((some.announced.len(), some.withdrawn.len()), (1, 0));
    let foreign: &[u8] = &[0x80, 15, 4, 0, 1, 128, 9];
    assert_eq!(update(&[foreign], &[]).unwrap(), Update::default());
}

/// How RFC 7606 lets an UPDATE end.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// Announced, without the attribute if it was the broken one.
    Kept,
    Withdrawn,
    Reset(Fault),
}

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
    use Outcome::Kept;
    use Outcome::Withdrawn;
    // An extra attribute beside a good ORIGIN, AS_PATH and NEXT_HOP.
    let cases: &[(&str, &[u8], Outcome)] = &[
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
    for (name, extra, expected) in cases {
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
    use Outcome::Withdrawn;
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
