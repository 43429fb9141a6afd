//! Golden OPENs of real routers, framing, and good UPDATEs.

use super::*;
use crate::prefix::Prefix;
use crate::route;
use crate::route::Asn;
use std::net::Ipv4Addr;

pub(super) const SESSION: Negotiated = Negotiated::ORDINARY;

/// An UPDATE's copy, so that tests need not keep the bytes.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Told {
    pub(super) withdrawn: Vec<Nlri>,
    pub(super) announced: Vec<(route::Attributes, Vec<Nlri>)>,
    pub(super) faults: Faults,
    pub(super) end_of_rib: Option<Family>,
    pub(super) disabled: Option<Family>,
}

impl From<Update<'_>> for Told {
    fn from(update: Update<'_>) -> Self {
        let announced = update.announced().map(|reach| {
            let attributes = update.attributes().into_owned(reach.next_hop);
            (attributes, reach.prefixes.collect())
        });
        Self {
            withdrawn: update.withdrawn().collect(),
            announced: announced.collect(),
            faults: update.faults,
            end_of_rib: update.end_of_rib,
            disabled: update.disabled,
        }
    }
}

pub(super) fn nlri(text: &str) -> Nlri {
    text.parse::<Prefix>().unwrap().into()
}

pub(super) const ORIGIN: &[u8] = &[0x40, 1, 1, 0];
/// 64500 64501, four octets each.
pub(super) const PATH: &[u8] = &[0x40, 2, 10, 2, 2, 0, 0, 0xfb, 0xf4, 0, 0, 0xfb, 0xf5];
pub(super) const HOP: &[u8] = &[0x40, 3, 4, 198, 51, 100, 1];
/// 192.0.2.0/24.
pub(super) const NLRI: &[u8] = &[24, 192, 0, 2];
/// 2001:db8:1::/48 by 2001:db8::1.
pub(super) const MP_REACH: &[u8] = &[
    0x80, 14, 28, 0, 2, 1, 16, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 48, 0x20,
    1, 0xd, 0xb8, 0, 1,
];
pub(super) const MP_UNREACH: &[u8] = &[0x80, 15, 10, 0, 2, 1, 48, 0x20, 1, 0xd, 0xb8, 0, 2];

pub(super) fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xff; 16];
    let length = u16::try_from(19 + body.len()).unwrap();
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.push(kind);
    bytes.extend_from_slice(body);
    bytes
}

pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks_exact(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn open_of<T>(body: &[u8], look: impl Fn(Open<'_>) -> T) -> Result<T, Notification> {
    match decode(&framed(1, body), None) {
        Ok(Message::Open(open)) => Ok(look(open)),
        Ok(other) => panic!("{other:?}"),
        Err(malformed) => Err(malformed.notification),
    }
}

fn asn_of(body: &[u8]) -> Result<Asn, Notification> {
    open_of(body, |open| open.asn)
}

pub(super) fn update_bytes(withdrawn: &[u8], attributes: &[&[u8]], nlri: &[u8]) -> Vec<u8> {
    let attributes = attributes.concat();
    let mut body = Vec::new();
    for field in [withdrawn, &attributes] {
        body.extend_from_slice(&u16::try_from(field.len()).unwrap().to_be_bytes());
        body.extend_from_slice(field);
    }
    body.extend_from_slice(nlri);
    framed(2, &body)
}

pub(super) fn update_in(
    session: &Negotiated,
    attributes: &[&[u8]],
    nlri: &[u8],
) -> Result<Told, Malformed> {
    told(&update_bytes(&[], attributes, nlri), session)
}

pub(super) fn told(bytes: &[u8], session: &Negotiated) -> Result<Told, Malformed> {
    let Message::Update(update) = decode(bytes, Some(session))? else {
        panic!("no UPDATE: {bytes:?}");
    };
    Ok(update.into())
}

pub(super) fn update(attributes: &[&[u8]], nlri: &[u8]) -> Result<Told, Malformed> {
    update_in(&SESSION, attributes, nlri)
}

/// Every option of BIRD 2 switched on.
const BIRD_FULL: &str = "04fbf400f0c000020151024f010400010001010400020001020005060001000100020600\
    090100400a0078000101000002010041040000fbf4450800010103000201024600470e00010100000e1000020100\
    000e10490402766d00";
const BIRD_PLAIN: &str = "04fbf400f0c000020118021601040001000102004002007841040000fbf446004700";
const GOBGP: &str = "04fbf5005ac00002033202300200490402766d0001040001000101040002000141040000fbf54\
    0060078000101000506000100010002450400010103";

const LONG: Option<LongLived> = Some(LongLived {
    forwarding: false,
    seconds: 3600,
});
const KEPT: Option<Kept> = Some(Kept { forwarding: false });
const RESTART: GracefulRestart = GracefulRestart {
    restarted: false,
    notification: false,
    seconds: 120,
    ipv4: None,
    ipv6: None,
};
const IPV4: Capability<'_> = Capability::MultiProtocol { afi: 1, safi: 1 };
const IPV6: Capability<'_> = Capability::MultiProtocol { afi: 2, safi: 1 };
const NAME: Capability<'_> = Capability::Hostname {
    host: b"vm",
    domain: b"",
};

const BIRD_FULL_SAYS: &[Capability<'_>] = &[
    IPV4,
    IPV6,
    Capability::RouteRefresh,
    Capability::ExtendedNextHop { ipv4: true },
    Capability::ExtendedMessage,
    Capability::Role(Role::Provider),
    Capability::GracefulRestart(GracefulRestart {
        ipv4: KEPT,
        ipv6: KEPT,
        ..RESTART
    }),
    Capability::FourOctetAs(Asn(64500)),
    Capability::AddPath {
        ipv4: Some(AddPath::Both),
        ipv6: Some(AddPath::Send),
    },
    Capability::EnhancedRouteRefresh,
    Capability::LongLivedGracefulRestart {
        ipv4: LONG,
        ipv6: LONG,
    },
    NAME,
];

const BIRD_PLAIN_SAYS: &[Capability<'_>] = &[
    IPV4,
    Capability::RouteRefresh,
    Capability::GracefulRestart(RESTART),
    Capability::FourOctetAs(Asn(64500)),
    Capability::EnhancedRouteRefresh,
    Capability::LongLivedGracefulRestart {
        ipv4: None,
        ipv6: None,
    },
];

const GOBGP_SAYS: &[Capability<'_>] = &[
    Capability::RouteRefresh,
    NAME,
    IPV4,
    IPV6,
    Capability::FourOctetAs(Asn(64501)),
    Capability::GracefulRestart(GracefulRestart {
        ipv4: KEPT,
        ..RESTART
    }),
    Capability::ExtendedNextHop { ipv4: true },
    Capability::AddPath {
        ipv4: Some(AddPath::Both),
        ipv6: None,
    },
];

#[test]
fn opens_of_real_routers_are_read_and_written_again_octet_by_octet() {
    for (golden, asn, hold_time, id, capabilities) in [
        (BIRD_FULL, 64500, 240, 1, BIRD_FULL_SAYS),
        (BIRD_PLAIN, 64500, 240, 1, BIRD_PLAIN_SAYS),
        (GOBGP, 64501, 90, 3, GOBGP_SAYS),
    ] {
        let open = Open {
            asn: Asn(asn),
            hold_time,
            router_id: Ipv4Addr::new(192, 0, 2, id),
            capabilities: Capabilities::of(capabilities),
        };
        let bytes = framed(1, &hex(golden));
        assert_eq!(decode(&bytes, None), Ok(Message::Open(open)), "{golden}");
        assert_eq!(encode::open(&open), bytes, "{golden}");
        assert!(open.speaks_four_octets() && open.speaks(Family::Ipv4));
        assert_eq!(open.speaks(Family::Ipv6), golden != BIRD_PLAIN);
    }
    // No optional parameters at all: IPv4 unicast, two octets.
    let old = |open: Open<'_>| {
        assert!(open.speaks(Family::Ipv4) && !open.speaks(Family::Ipv6));
        open.speaks_four_octets()
    };
    assert_eq!(open_of(&hex("04fbf4005ac000020100"), old), Ok(false));
}

#[test]
fn what_is_wrong_with_an_open_gets_its_own_notification() {
    let with = |at: usize, bytes: &[u8]| {
        let mut body = hex("04fbf4005ac0000201080206410400010000");
        body[at..at + bytes.len()].copy_from_slice(bytes);
        body
    };
    // AS 65536 goes with AS_TRANS.
    assert_eq!(asn_of(&with(1, &[0x5b, 0xa0])), Ok(Asn(65536)));
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
        assert_eq!(asn_of(&body).unwrap_err().fault, fault, "{body:02x?}");
    }
    assert_eq!(asn_of(&with(0, &[3])).unwrap_err().data, [0, 4]);
}

#[test]
fn extended_optional_parameters_are_read_with_the_same_bounds() {
    // RFC 9072: 255, 255, two octets of length, and parameters with two octets of length.
    let good = asn_of(&hex("045ba0005ac00002 01ffff0009 020006 410400010000"
        .replace(' ', "")
        .as_str()));
    assert_eq!(good, Ok(Asn(65536)));
    // The first length is not judged, unless it is zero.
    let odd = asn_of(&hex("045ba0005ac0000201 07ff0009 020006410400010000"
        .replace(' ', "")
        .as_str()));
    assert_eq!(odd, Ok(Asn(65536)));
    for broken in [
        "045ba0005ac0000201ffff",
        "045ba0005ac0000201ffff00",
        "045ba0005ac0000201ffff000a020006410400010000",
        "045ba0005ac0000201ffff0009020007410400010000",
        "045ba0005ac0000201ffff00020200",
    ] {
        assert_eq!(
            asn_of(&hex(broken)).unwrap_err().fault,
            Fault::OPEN_MALFORMED,
            "{broken}"
        );
    }
    let many = (0..200).map(|code| Capability::Other {
        code: 100 + code % 100,
        value: &[7; 3],
    });
    let many: Vec<_> = many.collect();
    let open = Open {
        asn: Asn(64500),
        hold_time: 90,
        router_id: Ipv4Addr::new(192, 0, 2, 1),
        capabilities: Capabilities::of(&many),
    };
    assert_eq!(decode(&encode::open(&open), None), Ok(Message::Open(open)));
}

#[test]
fn headers_are_judged_before_anything_is_waited_for() {
    assert_eq!(frame(&[], 4096), Ok(None));
    assert_eq!(frame(&framed(4, &[])[..18], 4096), Ok(None));
    assert_eq!(frame(&framed(4, &[]), 4096), Ok(Some(19)));
    let fault = |bytes: &[u8]| frame(bytes, 4096).unwrap_err();
    assert_eq!(fault(b"GET / HTTP/1.1").fault, Fault::NOT_SYNCHRONISED);
    assert_eq!(fault(&[0xff, 0xfe]).fault, Fault::NOT_SYNCHRONISED);
    for (kind, body) in [(1, 9), (2, 3), (3, 1), (4, 1), (5, 3), (5, 4078), (2, 4078)] {
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
    assert_eq!(frame(&framed(2, &[0; 4077]), 4096), Ok(Some(4096)));
    // Not what `frame` cut out.
    let cut = decode(&framed(4, &[])[..18], None).unwrap_err();
    assert_eq!(cut.notification.fault, Fault::BAD_LENGTH);
    let early = decode(&update_bytes(&[], &[], &[]), None).unwrap_err();
    assert_eq!(early.notification.fault, Fault::UNEXPECTED_IN_OPEN_SENT);
}

#[test]
fn a_good_update_has_both_families_and_ends_of_rib_are_told_apart() {
    let good = update(&[ORIGIN, PATH, HOP, MP_REACH, MP_UNREACH], NLRI).unwrap();
    assert_eq!(good.withdrawn, [nlri("2001:db8:2::/48")]);
    let [(plain, plain_routes), (mp, mp_routes)] = &good.announced[..] else {
        panic!("{good:?}");
    };
    assert_eq!(plain.as_path.to_string(), "64500 64501");
    assert_eq!(plain.next_hop, Ipv4Addr::new(198, 51, 100, 1));
    assert_eq!(plain_routes, &[nlri("192.0.2.0/24")]);
    assert_eq!(mp_routes, &[nlri("2001:db8:1::/48")]);
    assert_eq!(mp.next_hop.to_string(), "2001:db8::1");
    assert!(good.faults.is_empty() && good.end_of_rib.is_none());
    for family in [Family::Ipv4, Family::Ipv6] {
        let end = told(&encode::end_of_rib(family), &SESSION).unwrap();
        let expected = Told {
            end_of_rib: Some(family),
            ..Told::default()
        };
        assert_eq!(end, expected);
    }
    // Families that were not negotiated: read for their form, and ignored.
    let only_ipv4 = Negotiated {
        ipv6: false,
        ..SESSION
    };
    let some = update_in(&only_ipv4, &[ORIGIN, PATH, HOP, MP_REACH, MP_UNREACH], NLRI).unwrap();
    assert_eq!((some.announced.len(), some.withdrawn.len()), (1, 0));
    let foreign: &[u8] = &[0x80, 15, 4, 0, 1, 128, 9];
    assert_eq!(update(&[foreign], &[]).unwrap(), Told::default());
}
