//! What must hold for any bytes: asked by the fuzz targets, and by the tests that replay their
//! corpora and mutate good messages.

use oca::bgp::wire;
use oca::bgp::wire::Announcement;
use oca::bgp::wire::Capabilities;
use oca::bgp::wire::Capability;
use oca::bgp::wire::Fault;
use oca::bgp::wire::Message;
use oca::bgp::wire::Negotiated;
use oca::bgp::wire::Nlri;
use oca::bgp::wire::Open;
use oca::bgp::wire::Update;
use oca::prefix::Family;

const OPEN: u8 = 1;
const UPDATE: u8 = 2;

/// Every way of reading that sessions can agree on, by the bits of one octet.
pub(crate) fn session(bits: u8) -> Negotiated {
    let has = |bit: u8| bits & 1 << bit != 0;
    Negotiated {
        four_octets: !has(0),
        ipv4: !has(1) || has(2),
        ipv6: !has(2),
        external: !has(3),
        add_path_ipv4: has(4),
        add_path_ipv6: has(5),
        extended_messages: has(6),
        extended_next_hop: has(7),
    }
}

pub(crate) fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let body = &body[..body
        .len()
        .min(wire::EXTENDED_MESSAGE_BYTES_MAX - wire::HEADER_BYTES)];
    let mut bytes = vec![0xff; 16];
    let length = u16::try_from(wire::HEADER_BYTES + body.len()).unwrap();
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.push(kind);
    bytes.extend_from_slice(body);
    bytes
}

/// With every option of BIRD 2 switched on.
pub(crate) fn open_of_bird() -> Vec<u8> {
    framed(OPEN, OPEN_OF_BIRD)
}

const OPEN_OF_BIRD: &[u8] = &[
    4, 0xfb, 0xf4, 0, 240, 192, 0, 2, 1, 81, 2, 79, 1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 2, 0, 5, 6,
    0, 1, 0, 1, 0, 2, 6, 0, 9, 1, 0, 64, 10, 0, 120, 0, 1, 1, 0, 0, 2, 1, 0, 65, 4, 0, 0, 0xfb,
    0xf4, 69, 8, 0, 1, 1, 3, 0, 2, 1, 2, 70, 0, 71, 14, 0, 1, 1, 0, 0, 14, 16, 0, 2, 1, 0, 0, 14,
    16, 73, 4, 2, b'v', b'm', 0,
];

/// A stream of bytes: messages are cut out of it until it makes no sense, and reading goes on.
pub(crate) fn framing(stream: &[u8]) {
    for most in [wire::MESSAGE_BYTES_MAX, wire::EXTENDED_MESSAGE_BYTES_MAX] {
        let mut rest = stream;
        loop {
            match wire::frame(rest, most) {
                Ok(Some(length)) => {
                    assert!((wire::HEADER_BYTES..=most).contains(&length));
                    let Some((message, after)) = rest.split_at_checked(length) else {
                        break;
                    };
                    for bits in [0, 0b0100_0000, 0b1111_1111] {
                        any(message, &session(bits));
                    }
                    rest = after;
                }
                Ok(None) => {
                    assert!(rest.len() < wire::HEADER_BYTES);
                    break;
                }
                Err(notification) => {
                    assert_eq!(notification.fault.0, 1);
                    break;
                }
            }
        }
    }
}

/// The body of an OPEN: what was understood is written and read the same.
pub(crate) fn open(body: &[u8]) {
    let body = &body[..body.len().min(wire::MESSAGE_BYTES_MAX - wire::HEADER_BYTES)];
    let bytes = framed(OPEN, body);
    match wire::decode(&bytes, None) {
        Ok(Message::Open(open)) => {
            assert!(open.asn.0 != 0 && !matches!(open.hold_time, 1 | 2));
            let understood: Vec<Capability<'_>> = open.capabilities.into_iter().collect();
            assert!(understood.len() <= body.len() / 2);
            let copy = Open {
                capabilities: Capabilities::of(&understood),
                ..open
            };
            let again = wire::open(&copy);
            assert_eq!(wire::decode(&again, None), Ok(Message::Open(open)));
        }
        Ok(other) => panic!("{other:?}"),
        Err(malformed) => {
            let Fault(code, _) = malformed.notification.fault;
            assert!(
                (1..=2).contains(&code) && malformed.kind.is_none(),
                "{malformed:?}"
            );
        }
    }
}

/// One octet that chooses the session, then the body of an UPDATE.
pub(crate) fn update(input: &[u8]) {
    if let Some((bits, body)) = input.split_first() {
        any(&framed(UPDATE, body), &session(*bits));
    }
}

/// One message. True if it was understood.
pub(crate) fn any(bytes: &[u8], session: &Negotiated) -> bool {
    match wire::decode(bytes, Some(session)) {
        Ok(Message::Update(update)) => judge(&update, bytes.len(), session),
        Ok(Message::Notification(notification)) => {
            let words = notification.words();
            assert!(words.len() < 800 && words.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
        }
        Ok(Message::Open(_) | Message::Keepalive | Message::RouteRefresh { .. }) => {}
        Err(malformed) => {
            let Fault(code, _) = malformed.notification.fault;
            assert!(matches!(code, 1 | 2 | 3 | 7), "{malformed:?}");
            assert_eq!(malformed.kind.is_some(), code == 3, "{malformed:?}");
            assert!(malformed.notification.data.len() <= bytes.len());
            return false;
        }
    }
    true
}

fn judge(update: &Update<'_>, bytes: usize, session: &Negotiated) {
    let withdrawn = update.withdrawn().count();
    let mut announced = 0;
    for reach in update.announced() {
        let routes: Vec<Nlri> = reach.prefixes.collect();
        let family = reach.prefixes.family();
        assert!(session.has(family) && update.disabled != Some(family));
        assert!(routes.iter().all(|route| route.prefix.family() == family));
        assert!(session.add_path(family) || routes.iter().all(|route| route.path_id == 0));
        announced += routes.len();
        again(update, reach.next_hop, &routes, session);
    }
    assert!(withdrawn + announced <= bytes, "routes out of nothing");
    assert!(announced == 0 || !update.faults.withdraws());
    assert_eq!(update.faults.is_empty(), update.faults.worst().is_none());
    assert!(update.end_of_rib.is_none() || withdrawn + announced == 0);
    if let Some(family) = update.disabled {
        let other = if family == Family::Ipv4 {
            Family::Ipv6
        } else {
            Family::Ipv4
        };
        assert!(session.has(family) && session.has(other));
    }
}

/// What is announced again is read the same, as far as attributes are kept.
fn again(update: &Update<'_>, next_hop: std::net::IpAddr, routes: &[Nlri], session: &Negotiated) {
    let said = update.attributes();
    let kept = said.into_owned(next_hop);
    let extended: Vec<[u8; 8]> = said.extended_communities.collect();
    let large: Vec<[u8; 12]> = said.large_communities.collect();
    let announcement = Announcement {
        origin: said.origin,
        local_pref: said.local_pref.filter(|_| !session.external),
        atomic_aggregate: said.atomic_aggregate,
        aggregator: said.aggregator,
        extended_communities: &extended,
        large_communities: &large,
        only_to_customer: said.only_to_customer,
        ..Announcement::from(&kept)
    };
    // A path with sets has no unique form on two octets, and a short one may not fit.
    let messages = wire::announce_on(session, &announcement, routes);
    let mut found = Vec::new();
    for message in messages.iter().flatten() {
        let Ok(Message::Update(update)) = wire::decode(message, Some(session)) else {
            panic!("an announcement of ours is not read");
        };
        let copy = update.attributes();
        assert!(update.faults.is_empty(), "{:?}", update.faults);
        assert_eq!((copy.origin, copy.med), (said.origin, said.med));
        assert_eq!(copy.only_to_customer, said.only_to_customer);
        assert_eq!(copy.extended_communities, said.extended_communities);
        assert_eq!(copy.large_communities, said.large_communities);
        for reach in update.announced() {
            assert_eq!(reach.next_hop, next_hop);
            found.extend(reach.prefixes);
        }
    }
    assert!(messages.is_none() || found == routes);
}
