//! No bytes panic, what is written is read the same, and a mutated message stays within bounds.

use super::tests::SESSION;
use super::*;
use crate::prefix::Prefix;
use crate::route::AsPath;
use crate::route::Asn;
use crate::route::Attributes;
use crate::route::Community;
use crate::route::Segment;
use proptest::collection::btree_set;
use proptest::collection::vec;
use proptest::prelude::*;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

fn sessions() -> [Option<Negotiated>; 4] {
    let two = Negotiated {
        four_octets: false,
        ..SESSION
    };
    let inside = Negotiated {
        external: false,
        ipv6: false,
        ..SESSION
    };
    [None, Some(SESSION), Some(two), Some(inside)]
}

/// Every session's way of reading the same bytes; the bounds hold for each.
fn read_every_way(bytes: &[u8]) {
    for session in sessions() {
        if let Ok(Message::Update(update)) = decode(bytes, session.as_ref()) {
            let reached = update.announced().flat_map(|reach| reach.prefixes).count();
            assert!(update.withdrawn().count() + reached <= MESSAGE_BYTES_MAX);
            assert!(!update.faults.withdraws() || reached == 0);
        }
    }
    let _ = frame(bytes, MESSAGE_BYTES_MAX);
}

fn asn() -> impl Strategy<Value = Asn> {
    prop_oneof![(1_u32..=65535), (65536_u32..=u32::MAX)].prop_map(Asn)
}

fn path() -> impl Strategy<Value = AsPath> {
    let front = vec(asn(), 1..300).prop_map(Segment::Sequence);
    let set = vec(asn(), 1..5).prop_map(Segment::Set);
    (front, proptest::option::of(set))
        .prop_map(|(front, set)| AsPath([Some(front), set].into_iter().flatten().collect()))
}

fn attributes(next_hop: IpAddr) -> impl Strategy<Value = Attributes> {
    let communities = btree_set(any::<u32>(), 0..80);
    (path(), any::<Option<u32>>(), communities).prop_map(move |(as_path, med, communities)| {
        Attributes {
            med,
            communities: communities.into_iter().map(Community).collect(),
            ..Attributes::new(as_path, next_hop)
        }
    })
}

fn ipv4() -> impl Strategy<Value = Prefix> {
    (any::<u32>(), 0_u8..=32)
        .prop_map(|(bits, length)| Prefix::new(Ipv4Addr::from(bits).into(), length).unwrap())
}

fn ipv6() -> impl Strategy<Value = Prefix> {
    (any::<u128>(), 0_u8..=128)
        .prop_map(|(bits, length)| Prefix::new(Ipv6Addr::from(bits).into(), length).unwrap())
}

fn announcement() -> impl Strategy<Value = (Attributes, Vec<Prefix>)> {
    let v4 = attributes(Ipv4Addr::new(192, 0, 2, 1).into());
    let v6 = attributes(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into());
    prop_oneof![(v4, vec(ipv4(), 1..2000)), (v6, vec(ipv6(), 1..800))]
}

fn capability() -> impl Strategy<Value = Capability<'static>> {
    prop_oneof![
        (any::<u16>(), any::<u8>()).prop_map(|(afi, safi)| Capability::MultiProtocol { afi, safi }),
        Just(Capability::RouteRefresh),
        (100_u8..=255, vec(any::<u8>(), 0..40)).prop_map(|(code, value)| Capability::Other {
            code,
            value: value.leak()
        }),
    ]
}

proptest! {
    #[test]
    fn announcements_are_read_as_they_were_written(
        (attributes, prefixes) in announcement(),
        four_octets: bool,
    ) {
        let session = Negotiated { four_octets, ..SESSION };
        let messages = announce(&attributes, &prefixes, four_octets).unwrap();
        let mut found = Vec::new();
        for message in &messages {
            prop_assert_eq!(frame(message, 4096), Ok(Some(message.len())));
            let Ok(Message::Update(update)) = decode(message, Some(&session)) else {
                return Err(TestCaseError::fail("no UPDATE"));
            };
            prop_assert!(!update.is_malformed() && update.withdrawn().next().is_none());
            for reach in update.announced() {
                let copy = update.attributes().into_owned(reach.next_hop);
                prop_assert_eq!(&copy, &attributes);
                found.extend(reach.prefixes.map(|route| route.prefix));
            }
        }
        prop_assert_eq!(found, prefixes.clone());
        let mut found = Vec::new();
        for message in withdraw(&prefixes).unwrap() {
            let Ok(Message::Update(update)) = decode(&message, Some(&session)) else {
                return Err(TestCaseError::fail("no UPDATE"));
            };
            prop_assert!(!update.is_malformed() && update.announced().next().is_none());
            found.extend(update.withdrawn().map(|route| route.prefix));
        }
        prop_assert_eq!(found, prefixes);
    }

    #[test]
    fn opens_are_read_as_they_were_written(
        asn in asn(),
        hold_time in prop_oneof![Just(0_u16), 3_u16..],
        router_id in 1_u32..,
        mut capabilities in vec(capability(), 0..20),
    ) {
        capabilities.push(Capability::FourOctetAs(asn));
        let router_id = router_id.into();
        let capabilities = Capabilities::of(&capabilities);
        let open = Open { asn, hold_time, router_id, capabilities };
        let bytes = open_message(&open);
        prop_assert_eq!(decode(&bytes, None), Ok(Message::Open(open)));
    }

    #[test]
    fn other_messages_are_read_as_they_were_written(
        code: u8, subcode: u8, data in vec(any::<u8>(), 0..300),
    ) {
        let sent = Notification::new(Fault(code, subcode), data);
        let words = sent.words();
        prop_assert!(words.len() < 400 && words.bytes().all(|b| (0x20..0x7f).contains(&b)));
        let bytes = notification(&sent);
        let read = Message::Notification(sent.borrowed());
        prop_assert_eq!(decode(&bytes, None), Ok(read));
        let bytes = keepalive();
        prop_assert_eq!(decode(&bytes, None), Ok(Message::Keepalive));
        for subtype in [Refresh::Request, Refresh::Begin, Refresh::End, Refresh::Unknown(9)] {
            let bytes = refresh(Family::Ipv6, subtype);
            let read = Message::RouteRefresh { afi: 2, safi: 1, subtype };
            prop_assert_eq!(decode(&bytes, None), Ok(read));
        }
    }

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..600), kind in 0_u8..7) {
        read_every_way(&bytes);
        let mut message = MARKER.to_vec();
        let length = u16::try_from(HEADER_BYTES + bytes.len()).unwrap();
        message.extend_from_slice(&length.to_be_bytes());
        message.push(kind);
        message.extend_from_slice(&bytes);
        read_every_way(&message);
    }

    #[test]
    fn no_mutation_of_a_good_message_panics(
        (attributes, prefixes) in announcement(),
        four_octets: bool,
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut message = announce(&attributes, &prefixes, four_octets).unwrap().remove(0);
        for (at, byte) in changes {
            let at = HEADER_BYTES + at.index(message.len() - HEADER_BYTES);
            message[at] = byte;
        }
        if let Some(cut) = cut {
            message.truncate(HEADER_BYTES + 4 + cut.index(message.len() - HEADER_BYTES - 3));
            let length = u16::try_from(message.len()).unwrap();
            message[16..18].copy_from_slice(&length.to_be_bytes());
        }
        read_every_way(&message);
    }
}

fn open_message(value: &Open<'_>) -> Vec<u8> {
    super::open(value)
}
