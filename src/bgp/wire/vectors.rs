//! Messages and attributes octet by octet, both ways.

use super::tests::SESSION;
use super::tests::framed;
use super::tests::hex;
use super::tests::nlri;
use super::tests::told;
use super::*;
use crate::prefix::Prefix;
use crate::route;
use crate::route::Asn;
use std::net::Ipv4Addr;

/// One UPDATE with every attribute that is written, octet by octet.
#[test]
fn every_attribute_has_its_octets_both_ways() {
    let path: route::AsPath = "64500 4200000000 {64501 64502}".parse().unwrap();
    let communities = ["64500:1".parse().unwrap(), "64500:2".parse().unwrap()];
    let aggregator = Aggregator {
        asn: Asn(4_200_000_001),
        address: Ipv4Addr::new(192, 0, 2, 7),
    };
    let said = Announcement {
        origin: Origin::Incomplete,
        as_path: &path,
        next_hop: Ipv4Addr::new(198, 51, 100, 1).into(),
        link_local: None,
        med: Some(50),
        local_pref: Some(200),
        atomic_aggregate: true,
        aggregator: Some(aggregator),
        communities: &communities,
        extended_communities: &[[0, 2, 0xfb, 0xf4, 0, 0, 0, 9]],
        large_communities: &[[0, 0, 0xfb, 0xf4, 0, 0, 0, 1, 0, 0, 0, 2]],
        only_to_customer: Some(Asn(64503)),
    };
    for (four_octets, expected) in [(true, FOUR_OCTETS), (false, TWO_OCTETS)] {
        let session = Negotiated {
            four_octets,
            external: false,
            add_path_ipv4: true,
            ..SESSION
        };
        let routes = [Nlri {
            path_id: 7,
            ..nlri("203.0.113.0/25")
        }];
        let messages = encode::announce_on(&session, &said, &routes).unwrap();
        assert_eq!(
            messages,
            [framed(2, &hex(&expected.replace(' ', "")))],
            "{four_octets}"
        );
        let Ok(Message::Update(update)) = decode(&messages[0], Some(&session)) else {
            panic!("not read");
        };
        let read = update.attributes();
        assert_eq!(
            (read.origin, read.med, read.local_pref),
            (said.origin, Some(50), Some(200))
        );
        assert_eq!(
            (read.atomic_aggregate, read.aggregator),
            (true, said.aggregator)
        );
        assert_eq!(read.as_path.into_owned(), path);
        assert!(
            read.communities
                .map(u32::from_be_bytes)
                .eq(communities.iter().map(|c| c.0))
        );
        assert!(
            read.extended_communities
                .eq(said.extended_communities.iter().copied())
        );
        assert!(
            read.large_communities
                .eq(said.large_communities.iter().copied())
        );
        assert_eq!(read.only_to_customer, said.only_to_customer);
        let [reach] = update.announced().collect::<Vec<_>>()[..] else {
            panic!("{update:?}");
        };
        assert!(reach.next_hop == said.next_hop && reach.prefixes.eq(routes));
        assert!(update.faults.is_empty());
    }
}

const FOUR_OCTETS: &str = "0000 006a 400101 02 \
    400214 0202 0000fbf4 fa56ea00 0102 0000fbf5 0000fbf6 800404 00000032 400504 000000c8 400600 \
    c00708 fa56ea01 c0000207 c00808 fbf40001 fbf40002 c01008 0002fbf400000009 \
    c0200c 0000fbf4 00000001 00000002 c02304 0000fbf7 400304 c6336401 \
    00000007 19 cb007100";

const TWO_OCTETS: &str = "0000 0082 400101 02 \
    40020c 0202 fbf4 5ba0 0102 fbf5 fbf6 800404 00000032 400504 000000c8 400600 \
    c00706 5ba0 c0000207 c00808 fbf40001 fbf40002 c01008 0002fbf400000009 \
    c0200c 0000fbf4 00000001 00000002 c02304 0000fbf7 \
    c01114 0202 0000fbf4 fa56ea00 0102 0000fbf5 0000fbf6 c01208 fa56ea01 c0000207 \
    400304 c6336401 00000007 19 cb007100";

/// MP_REACH_NLRI with both next hops, MP_UNREACH_NLRI, and the other messages.
#[test]
fn ipv6_and_the_small_messages_have_their_octets_both_ways() {
    let path: route::AsPath = "64500".parse().unwrap();
    let plain = route::Attributes {
        as_path: path,
        med: None,
        communities: Vec::new(),
        next_hop: "2001:db8::1".parse().unwrap(),
    };
    let said = Announcement {
        link_local: Some("fe80::1".parse().unwrap()),
        ..Announcement::from(&plain)
    };
    let routes = [nlri("2001:db8:1::/48")];
    let reach = "0000 003c 400101 00 400206 0201 0000fbf4 800e2c 0002 01 20 \
        20010db8000000000000000000000001 fe800000000000000000000000000001 00 30 20010db80001";
    let written = encode::announce_on(&SESSION, &said, &routes).unwrap();
    assert_eq!(written, [framed(2, &hex(&reach.replace(' ', "")))]);
    let Ok(Message::Update(update)) = decode(&written[0], Some(&SESSION)) else {
        panic!("not read");
    };
    let read = update.announced().next().unwrap();
    assert_eq!(
        (read.next_hop, read.link_local),
        (said.next_hop, said.link_local)
    );
    let unreach = "0000 000d 800f0a 0002 01 30 20010db80001";
    let written = encode::withdraw_on(&SESSION, &routes).unwrap();
    assert_eq!(written, [framed(2, &hex(&unreach.replace(' ', "")))]);
    assert_eq!(told(&written[0], &SESSION).unwrap().withdrawn, routes);
    let withdrawal = encode::withdraw(&["203.0.113.0/24".parse().unwrap()]).unwrap();
    assert_eq!(withdrawal, [framed(2, &hex("000418cb00710000"))]);
    assert_eq!(encode::end_of_rib(Family::Ipv4), framed(2, &[0; 4]));
    assert_eq!(
        encode::end_of_rib(Family::Ipv6),
        framed(2, &hex("00000006800f03000201"))
    );
    assert_eq!(encode::keepalive(), framed(4, &[]));
    assert_eq!(
        encode::route_refresh(Family::Ipv6),
        framed(5, &[0, 2, 0, 1])
    );
    assert_eq!(
        encode::refresh(Family::Ipv4, Refresh::End),
        framed(5, &[0, 1, 2, 1])
    );
    let cease = encode::notification(&Notification::shutdown("ok"));
    assert_eq!(cease, framed(3, &[6, 2, 2, b'o', b'k']));
    let hard = encode::notification(&Notification::shutdown("ok").hard());
    assert_eq!(hard, framed(3, &[6, 9, 6, 2, 2, b'o', b'k']));
}

/// RFC 7313 section 5.
#[test]
fn a_refresh_of_the_wrong_length_is_told_whole_and_an_unknown_one_is_ignored() {
    for subtype in [1, 2] {
        let bytes = framed(5, &[0, 1, subtype, 1, 0]);
        let refused = decode(&bytes, Some(&SESSION)).unwrap_err().notification;
        assert_eq!(
            refused,
            Notification::new(Fault::REFRESH_LENGTH, &bytes[..])
        );
    }
    let filters = decode(&framed(5, &[0, 1, 0, 1, 1]), Some(&SESSION))
        .unwrap_err()
        .notification;
    assert_eq!(filters.fault, Fault::BAD_LENGTH);
    let unknown = framed(5, &[0, 1, 9, 1, 0]);
    assert!(matches!(
        decode(&unknown, Some(&SESSION)),
        Ok(Message::RouteRefresh { .. })
    ));
}

/// RFC 8654: OPEN and KEEPALIVE keep their limit.
#[test]
fn extended_messages_are_read_if_they_were_negotiated_and_never_as_an_open() {
    let session = Negotiated {
        extended_messages: true,
        ..SESSION
    };
    let most = session.message_bytes_max();
    assert_eq!(frame(&framed(2, &[0; 5000]), most), Ok(Some(5019)));
    assert!(frame(&framed(2, &[0; 5000]), SESSION.message_bytes_max()).is_err());
    assert!(frame(&framed(1, &[0; 5000]), most).is_err());
    assert!(frame(&framed(4, &[0; 1]), most).is_err());
    let prefixes: Vec<Nlri> = (0..20_000_u32)
        .map(|n| {
            Prefix::new(Ipv4Addr::from(0x0b00_0000 | n << 8).into(), 24)
                .unwrap()
                .into()
        })
        .collect();
    let withdrawals = encode::withdraw_on(&session, &prefixes).unwrap();
    assert_eq!(withdrawals.len(), 2);
    let mut found = Vec::new();
    for message in &withdrawals {
        found.extend(told(message, &session).unwrap().withdrawn);
    }
    assert_eq!(found, prefixes);
}
