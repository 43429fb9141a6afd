//! Golden OPENs of real routers, framing, and good UPDATEs.

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
) -> Result<Update, Notification> {
    match decode(&update_bytes(&[], attributes, nlri), Some(session)) {
        Ok(Message::Update(update)) => Ok(update),
        Ok(other) => panic!("{other:?}"),
        Err(notification) => Err(notification),
    }
}

pub(super) fn update(attributes: &[&[u8]], nlri: &[u8]) -> Result<Update, Notification> {
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
