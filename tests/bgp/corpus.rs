//! Each file of the corpus is one message, as published flaws of other speakers had it, and gets
//! the answer that this table says: from the decoder here, from a whole session in `memory`.

use oca::bgp::wire;
use oca::bgp::wire::Fault;
use oca::bgp::wire::Message;
use oca::bgp::wire::Negotiated;

/// What becomes of a message on an established session with four-octet numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// So many routes are announced.
    Announced(usize),
    /// None is, and the session goes on.
    Survived,
    /// The session ends with this NOTIFICATION.
    Refused(Fault),
    /// The session ends because the neighbour says so.
    Ended,
}

use Fate::Announced;
use Fate::Ended;
use Fate::Refused;
use Fate::Survived;

pub(crate) const TABLE: &[(&str, Fate)] = &[
    ("as-path-as-zero", Survived),
    ("as-path-longest", Announced(1)),
    ("as-path-zero-segment", Survived),
    ("as4-path-before-as-path", Announced(1)),
    (
        "attribute-length-beyond-message",
        Refused(Fault::ATTRIBUTE_LIST),
    ),
    ("attributes-empty-with-nlri", Survived),
    ("default-routes", Announced(900)),
    ("end-of-rib-malformed", Refused(Fault::OPTIONAL_ATTRIBUTE)),
    ("http", Refused(Fault::NOT_SYNCHRONISED)),
    ("length-underflow", Refused(Fault::BAD_LENGTH)),
    ("many-faults", Survived),
    ("mp-reach-cut", Survived),
    ("mp-reach-flowspec", Survived),
    ("mp-reach-next-hop-overrun", Survived),
    ("mp-reach-twice", Refused(Fault::ATTRIBUTE_LIST)),
    ("mp-unreach-and-nlri", Announced(1)),
    ("mp-unreach-without-mandatory", Survived),
    ("next-hop-short", Survived),
    ("nlri-length-33", Refused(Fault::BAD_NETWORK)),
    ("notification-shutdown-escapes", Ended),
    ("notification-shutdown-length", Ended),
    ("only-to-customer-overrun", Survived),
    ("open-capability-length", Refused(Fault::OPEN_MALFORMED)),
    ("open-extended-cut", Refused(Fault::OPEN_MALFORMED)),
    (
        "open-extended-endless",
        Refused(Fault::UNEXPECTED_IN_ESTABLISHED),
    ),
    (
        "open-fqdn-length",
        Refused(Fault::UNEXPECTED_IN_ESTABLISHED),
    ),
    (
        "open-llgr-length",
        Refused(Fault::UNEXPECTED_IN_ESTABLISHED),
    ),
    ("prefix-sid-corrupt", Announced(1)),
    ("refresh-short", Refused(Fault::BAD_LENGTH)),
    ("unknown-well-known", Refused(Fault::UNKNOWN_WELL_KNOWN)),
    (
        "withdrawn-length-beyond-message",
        Refused(Fault::ATTRIBUTE_LIST),
    ),
];

pub(crate) fn file(name: &str) -> Vec<u8> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/bgp");
    std::fs::read(format!("{dir}/{name}.raw")).unwrap()
}

#[test]
fn every_file_of_the_corpus_is_in_the_table() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/bgp");
    let entries = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    let expected: Vec<_> = TABLE
        .iter()
        .map(|(name, _)| format!("{name}.raw"))
        .collect();
    assert_eq!(names, expected);
}

#[test]
fn the_decoder_gives_each_message_its_fate() {
    let session = Negotiated::ORDINARY;
    for (name, fate) in TABLE {
        let bytes = file(name);
        let found = match wire::decode(&bytes, Some(&session)) {
            Ok(Message::Update(update)) => {
                match update.announced().flat_map(|reach| reach.prefixes).count() {
                    0 => Survived,
                    count => Announced(count),
                }
            }
            Ok(Message::Notification(notification)) => {
                let words = notification.words();
                assert!(
                    words.bytes().all(|byte| (0x20..0x7f).contains(&byte)),
                    "{words}"
                );
                Ended
            }
            Ok(Message::Open(_)) => Refused(Fault::UNEXPECTED_IN_ESTABLISHED),
            Ok(Message::Keepalive | Message::RouteRefresh { .. }) => Survived,
            Err(malformed) => Refused(malformed.notification.fault),
        };
        assert_eq!(found, *fate, "{name}");
    }
}

/// Every cut and every single changed octet of every file: nothing panics, whoever reads.
#[test]
fn no_cut_and_no_flip_of_the_corpus_panics() {
    let session = |four_octets, external| Negotiated {
        four_octets,
        ipv4: true,
        ipv6: true,
        external,
        ..Negotiated::default()
    };
    let sessions = [
        session(true, true),
        session(false, true),
        session(true, false),
    ];
    let read = |bytes: &[u8]| {
        for session in &sessions {
            let _ = wire::decode(bytes, Some(session));
        }
        let _ = wire::decode(bytes, None);
    };
    for (name, _) in TABLE {
        let bytes = file(name);
        for at in 0..bytes.len().min(300) {
            let mut cut = bytes[..at].to_vec();
            if at >= 19 {
                cut[16..18].copy_from_slice(&u16::try_from(at).unwrap().to_be_bytes());
            }
            read(&cut);
            for change in [0x01, 0x10, 0x80, 0xff] {
                let mut flipped = bytes.clone();
                flipped[at] ^= change;
                read(&flipped);
            }
        }
    }
}
