//! What brought other speakers down, each flaw a test by its number: the bytes that did it, and
//! what becomes of them here.

use super::check;
use super::corpus::file;
use oca::bgp::wire;
use oca::bgp::wire::Fault;
use oca::bgp::wire::FaultKind;
use oca::bgp::wire::Message;
use oca::bgp::wire::Negotiated;
use oca::prefix::Family;

const ORIGIN: &[u8] = &[0x40, 1, 1, 0];
const PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0xfb, 0xf4];
const HOP: &[u8] = &[0x40, 3, 4, 198, 51, 100, 1];
/// 203.0.113.0/24.
const ROUTE: &[u8] = &[24, 203, 0, 113];

/// What is left of an UPDATE on an established session.
#[derive(Debug, PartialEq)]
enum Left {
    Announced(usize),
    Withdrawn(FaultKind),
    Disabled(Family),
    Reset(Fault),
}

fn session() -> Negotiated {
    check::session(0)
}

fn update(attributes: &[&[u8]], reached: &[u8]) -> Vec<u8> {
    let list = attributes.concat();
    let mut body = vec![0, 0];
    body.extend_from_slice(&u16::try_from(list.len()).unwrap().to_be_bytes());
    body.extend_from_slice(&list);
    body.extend_from_slice(reached);
    check::framed(2, &body)
}

fn left_of(bytes: &[u8], session: &Negotiated) -> Left {
    check::any(bytes, session);
    match wire::decode(bytes, Some(session)) {
        Ok(Message::Update(update)) => {
            let announced = update.announced().flat_map(|reach| reach.prefixes).count();
            let worst = update.faults.worst();
            match (update.disabled, worst) {
                (Some(family), _) => Left::Disabled(family),
                (None, Some(worst)) if update.faults.withdraws() => Left::Withdrawn(worst.kind),
                (None, _) => Left::Announced(announced),
            }
        }
        Ok(other) => panic!("{other:?}"),
        Err(malformed) => Left::Reset(malformed.notification.fault),
    }
}

/// Of a good UPDATE with one more attribute.
fn beside(extra: &[u8]) -> Left {
    left_of(&update(&[ORIGIN, PATH, HOP, extra], ROUTE), &session())
}

fn open_fault(body: &[u8]) -> Option<Fault> {
    check::open(body);
    wire::decode(&check::framed(1, body), None)
        .err()
        .map(|refused| refused.notification.fault)
}

/// The longest path that an extended message has room for: BIRD's matcher kept 2048 on its stack.
#[test]
fn bird_cve_2026_49943_a_path_of_sixteen_thousand_numbers() {
    let segment: Vec<u8> = [&[2, 255][..], &[0, 0, 0xfb, 0xf4].repeat(255)].concat();
    let path = segment.repeat(63);
    let length = u16::try_from(path.len()).unwrap().to_be_bytes();
    let path = [&[0x50, 2][..], &length, &path].concat();
    let bytes = update(&[ORIGIN, &path, HOP], ROUTE);
    assert!(bytes.len() > 64_000);
    let extended = check::session(0b0100_0000);
    assert_eq!(left_of(&bytes, &extended), Left::Announced(1));
    let Ok(Message::Update(update)) = wire::decode(&bytes, Some(&extended)) else {
        panic!("not read");
    };
    let path = update.attributes().as_path;
    assert_eq!(path.length(), 63 * 255);
    assert_eq!(path.into_owned().length(), wire::PATH_NUMBERS_KEPT);
    assert_eq!(left_of(&bytes, &session()), Left::Reset(Fault::BAD_LENGTH));
}

/// A NOTIFICATION of any content. That it may come in any state is the session machine's test.
#[test]
fn bird_cve_2025_59688_every_notification_is_read() {
    for code in 0..=u8::MAX {
        for data in [&[][..], &[0], &[255], &[6, 2, 255], &[6, 9, 6, 9]] {
            let body = [&[code, 9][..], data].concat();
            check::any(&check::framed(3, &body), &session());
        }
    }
}

#[test]
fn bird_cve_2019_16159_a_shutdown_text_is_never_longer_than_its_message() {
    for length in 0..=u8::MAX {
        let bytes = check::framed(3, &[6, 2, length, b'o', b'k']);
        let Ok(Message::Notification(notification)) = wire::decode(&bytes, None) else {
            panic!("not read");
        };
        assert_eq!(notification.text().is_some(), matches!(length, 1 | 2));
    }
}

#[test]
fn bird_2025_only_to_customer_of_1024_octets_costs_its_routes() {
    let kind = FaultKind::OnlyToCustomer;
    let long = [&[0xf0, 35, 4, 0][..], &[0; 1024]].concat();
    assert_eq!(beside(&long), Left::Withdrawn(kind));
    assert_eq!(
        beside(&[0xd0, 35, 4, 0, 0, 0, 0, 1]),
        Left::Withdrawn(FaultKind::Overrun)
    );
}

#[test]
fn gobgp_cve_2026_30405_a_next_hop_shorter_than_four() {
    for length in 0..4_u8 {
        let hop = [&[0x40, 3, length][..], &vec![9; usize::from(length)]].concat();
        let left = left_of(&update(&[ORIGIN, PATH, &hop], ROUTE), &session());
        assert_eq!(left, Left::Withdrawn(FaultKind::NextHop));
    }
}

#[test]
fn gobgp_cve_2026_37461_an_extended_community_that_is_cut() {
    for length in (0..8_u8).chain(9..16) {
        let cut = [&[0xc0, 16, length][..], &vec![0; usize::from(length)]].concat();
        assert_eq!(
            beside(&cut),
            Left::Withdrawn(FaultKind::ExtendedCommunities)
        );
    }
    // The IPv6 ones are nobody's here.
    assert_eq!(beside(&[0xc0, 25, 3, 0, 2, 9]), Left::Announced(1));
}

#[test]
fn gobgp_cve_2026_37462_lengths_of_an_update_that_add_up_to_too_much() {
    for body in [
        &[0xff, 0xff, 0, 0][..],
        &[0, 0, 0xff, 0xff],
        &[0, 1, 0, 0],
        &[0, 4, 0, 0, 0, 0],
    ] {
        let left = left_of(&check::framed(2, body), &session());
        assert!(
            matches!(
                left,
                Left::Reset(Fault::ATTRIBUTE_LIST | Fault::BAD_NETWORK)
            ),
            "{left:?}"
        );
    }
    assert_eq!(
        left_of(&check::framed(2, &[0, 0, 0]), &session()),
        Left::Reset(Fault::BAD_LENGTH)
    );
}

#[test]
fn gobgp_cve_2026_41642_an_unknown_well_known_attribute() {
    assert_eq!(
        beside(&[0x40, 200, 0]),
        Left::Reset(Fault::UNKNOWN_WELL_KNOWN)
    );
    let alone = left_of(&update(&[&[0x00, 255, 0]], &[]), &session());
    assert_eq!(alone, Left::Reset(Fault::UNKNOWN_WELL_KNOWN));
}

#[test]
fn gobgp_cve_2026_41643_as4_path_before_as_path_and_without_it() {
    let as4: &[u8] = &[0xc0, 17, 6, 2, 1, 0, 1, 0, 5];
    let short: &[u8] = &[0x40, 2, 4, 2, 1, 0x5b, 0xa0];
    let old = check::session(1);
    let order = [as4, ORIGIN, HOP, short];
    assert_eq!(left_of(&update(&order, ROUTE), &old), Left::Announced(1));
    let without = left_of(&update(&[as4, ORIGIN, HOP], ROUTE), &old);
    assert_eq!(without, Left::Withdrawn(FaultKind::MissingMandatory));
    // On a session of four octets it is not even looked at.
    assert_eq!(beside(&[0xc0, 17, 1, 2]), Left::Announced(1));
}

#[test]
fn gobgp_cve_2026_5122_and_2025_43971_lengths_inside_of_name_and_version_capabilities() {
    let open = |capability: &[u8]| {
        let length = u8::try_from(capability.len()).unwrap();
        let head = [4, 0xfb, 0xf4, 0, 90, 192, 0, 2, 1, length + 2, 2, length];
        open_fault(&[&head[..], capability].concat())
    };
    // Names whose lengths lie: as if the capability were unknown.
    assert_eq!(open(&[73, 3, 9, b'v', b'm']), None);
    assert_eq!(open(&[73, 0]), None);
    assert_eq!(open(&[75, 2, 200, b'x']), None);
    // A capability beyond its parameter is an error of the OPEN.
    assert_eq!(open(&[73, 9, 1, b'v']), Some(Fault::OPEN_MALFORMED));
    assert_eq!(open(&[75]), Some(Fault::OPEN_MALFORMED));
}

#[test]
fn gobgp_cve_2025_43972_flow_specifications_are_not_read_at_all() {
    assert_eq!(
        beside(&[0x80, 14, 7, 0, 1, 133, 0, 0, 0xff, 0xff]),
        Left::Announced(1)
    );
}

#[test]
fn frr_cve_2022_40302_40318_43681_extended_optional_parameters_that_end_early() {
    let whole = [
        4, 0x5b, 0xa0, 0, 90, 192, 0, 2, 1, 255, 255, 0, 9, 2, 0, 6, 65, 4, 0, 1, 0, 0,
    ];
    assert_eq!(open_fault(&whole), None);
    for end in 10..whole.len() {
        assert_eq!(
            open_fault(&whole[..end]),
            Some(Fault::OPEN_MALFORMED),
            "{end}"
        );
    }
    for at in 9..16 {
        for octet in [0, 1, 2, 3, 7, 254, 255] {
            let mut body = whole;
            body[at] = octet;
            open_fault(&body);
        }
    }
}

#[test]
fn frr_cve_2022_37032_and_2023_31489_restart_capabilities_of_odd_lengths() {
    for code in [64, 71] {
        for length in 0..20_u8 {
            let mut body = vec![
                4,
                0xfb,
                0xf4,
                0,
                90,
                192,
                0,
                2,
                1,
                length + 4,
                2,
                length + 2,
            ];
            body.extend_from_slice(&[code, length]);
            body.extend(std::iter::repeat_n(1, length.into()));
            assert_eq!(open_fault(&body), None, "{code} {length}");
        }
    }
}

#[test]
fn frr_cve_2023_31490_and_2024_31948_a_corrupt_prefix_sid() {
    for length in 0..30_u8 {
        let sid = [&[0xc0, 40, length][..], &vec![0xff; usize::from(length)]].concat();
        assert_eq!(beside(&sid), Left::Announced(1));
    }
}

/// FRR CVE-2023-38802, OpenBGPD CVE-2023-38283, Junos CVE-2023-4481, EXOS CVE-2023-40457: a broken
/// transitive attribute that travels must not end sessions far away.
#[test]
fn cert_vu_347067_no_optional_attribute_resets_the_session() {
    for kind in 0..=u8::MAX {
        // Those of multiprotocol routes do not travel, and hide routes.
        if matches!(kind, 14 | 15) {
            continue;
        }
        for value in [
            &[][..],
            &[0],
            &[0xff; 3],
            &[0; 6],
            &[0xff; 8],
            &[0; 12],
            &[0xff; 255],
        ] {
            let length = u8::try_from(value.len()).unwrap();
            let left = beside(&[&[0xe0, kind, length][..], value].concat());
            assert!(
                !matches!(left, Left::Reset(_) | Left::Disabled(_)),
                "{kind}: {left:?}"
            );
        }
    }
}

#[test]
fn frr_cve_2023_41358_attributes_of_no_length_beside_routes() {
    let empty: Vec<u8> = [1, 2, 3].iter().flat_map(|kind| [0x40, *kind, 0]).collect();
    let left = left_of(&update(&[&empty], ROUTE), &session());
    assert_eq!(left, Left::Withdrawn(FaultKind::Origin));
    let none = left_of(&update(&[], ROUTE), &session());
    assert_eq!(none, Left::Withdrawn(FaultKind::MissingMandatory));
}

#[test]
fn frr_cve_2023_41360_a_route_refresh_with_the_head_of_filters() {
    for body in [
        &[0, 1, 0, 1, 1][..],
        &[0, 1, 0, 1, 1, 64, 255, 255],
        &[0, 1, 0, 1, 0, 0, 0],
    ] {
        let refused = wire::decode(&check::framed(5, body), Some(&session())).unwrap_err();
        assert_eq!(refused.notification.fault, Fault::BAD_LENGTH);
    }
}

#[test]
fn frr_cve_2023_46752_a_malformed_mp_reach_costs_its_family() {
    for end in 3..MP_REACH.len() {
        let mut cut = MP_REACH[..end].to_vec();
        cut[2] = u8::try_from(end - 3).unwrap();
        let expected = match end {
            // Its family cannot be read.
            3..6 => Left::Reset(Fault::OPTIONAL_ATTRIBUTE),
            // Without a prefix it is whole.
            24 => Left::Announced(1),
            _ => Left::Disabled(Family::Ipv6),
        };
        assert_eq!(beside(&cut), expected, "{end}");
    }
}

/// 2001:db8:1::/48 by 2001:db8::1.
const MP_REACH: &[u8] = &[
    0x80, 14, 28, 0, 2, 1, 16, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 48, 0x20,
    1, 0xd, 0xb8, 0, 1,
];

#[test]
fn frr_cve_2023_46753_routes_without_mandatory_attributes() {
    for list in [
        &[PATH, HOP][..],
        &[ORIGIN, HOP],
        &[ORIGIN, PATH],
        &[ORIGIN],
        &[MP_REACH],
    ] {
        let left = left_of(&update(list, ROUTE), &session());
        assert_eq!(left, Left::Withdrawn(FaultKind::MissingMandatory));
    }
    let only_ipv6 = left_of(&update(&[MP_REACH], &[]), &session());
    assert_eq!(only_ipv6, Left::Withdrawn(FaultKind::MissingMandatory));
}

#[test]
fn frr_cve_2023_47234_withdrawals_by_mp_unreach_beside_routes_without_attributes() {
    let unreach: &[u8] = &[0x80, 15, 10, 0, 2, 1, 48, 0x20, 1, 0xd, 0xb8, 0, 2];
    let left = left_of(&update(&[unreach], ROUTE), &session());
    assert_eq!(left, Left::Withdrawn(FaultKind::MissingMandatory));
    assert_eq!(
        left_of(&update(&[unreach], &[]), &session()),
        Left::Announced(0)
    );
}

#[test]
fn frr_cve_2023_47235_a_malformed_end_of_rib() {
    // A stray octet where an End-of-RIB has nothing: nothing is reachable beside the error.
    let stray = left_of(&check::framed(2, &[0, 0, 0, 1, 0x80]), &session());
    assert_eq!(stray, Left::Reset(Fault::ATTRIBUTE_LIST));
    let cut = left_of(&update(&[&[0x80, 15, 2, 0, 2]], &[]), &session());
    assert_eq!(cut, Left::Reset(Fault::OPTIONAL_ATTRIBUTE));
}

/// A capability of no length, again and again: the reader moves on or fails.
#[test]
fn frr_cve_2024_31949_capabilities_that_do_not_end() {
    let many = [67, 0].repeat(120);
    let length = u8::try_from(many.len()).unwrap();
    let head = [4, 0xfb, 0xf4, 0, 90, 192, 0, 2, 1, length + 2, 2, length];
    assert_eq!(open_fault(&[&head[..], &many].concat()), None);
    // Parameters of no length.
    let empty = [2, 0].repeat(100);
    let head = [4, 0xfb, 0xf4, 0, 90, 192, 0, 2, 1, 200];
    assert_eq!(open_fault(&[&head[..], &empty].concat()), None);
}

#[test]
fn frr_cve_2026_37457_37459_37460_what_is_not_negotiated_is_not_read() {
    // Flow specifications, next hop capabilities, tunnels: families and attributes of others.
    assert_eq!(
        beside(&[0x80, 15, 5, 0, 2, 133, 0xf0, 1]),
        Left::Announced(1)
    );
    assert_eq!(beside(&[0xc0, 39, 4, 0, 1, 0xff, 0xff]), Left::Announced(1));
    assert_eq!(beside(&[0xc0, 23, 3, 0, 1, 0xff]), Left::Announced(1));
    assert_eq!(beside(&[0xc0, 255, 2, 9, 9]), Left::Announced(1));
}

/// The files of the corpus that these tests grew from stay what they were.
#[test]
fn the_corpus_of_published_flaws_is_read_by_every_session() {
    for (name, _) in super::corpus::TABLE {
        for bits in 0..=u8::MAX {
            check::any(&file(name), &check::session(bits));
        }
    }
}
