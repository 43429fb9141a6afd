//! The same messages read by us and by two published decoders: good ones the same by all, mutated
//! ones the same unless there is a reason, and every reason stands in a table.

use super::check;
use super::differences::DIFFERENCES;
use super::mutants::Mutants;
use super::mutants::parts;
use bgpkit_parser::models::AsnLength;
use bgpkit_parser::models::BgpMessage;
use bgpkit_parser::models::NetworkPrefix;
use bytes::Bytes;
use netgauze_bgp_pkt::BgpMessage as NetgauzeMessage;
use netgauze_bgp_pkt::nlri::Ipv4UnicastAddress;
use netgauze_bgp_pkt::nlri::Ipv6UnicastAddress;
use netgauze_bgp_pkt::path_attribute::AsPath as NetgauzePath;
use netgauze_bgp_pkt::path_attribute::AsPathSegmentType;
use netgauze_bgp_pkt::path_attribute::MpReach;
use netgauze_bgp_pkt::path_attribute::MpUnreach;
use netgauze_bgp_pkt::path_attribute::PathAttributeValue;
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_iana::address_family::AddressType;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput;
use oca::bgp::wire;
use oca::bgp::wire::Handling;
use oca::bgp::wire::Message;
use oca::bgp::wire::Negotiated;
use oca::bgp::wire::Nlri;
use oca::prefix::Prefix;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::net::IpAddr;

/// Mutants a session.
const TRIED: usize = 6_000;

/// What an UPDATE says, in words that every decoder has.
#[derive(Debug, Default, PartialEq)]
struct View {
    withdrawn: BTreeSet<Nlri>,
    announced: BTreeSet<(Nlri, String)>,
    /// Only where something is announced.
    path: Option<String>,
    med: Option<u32>,
    communities: BTreeSet<u32>,
}

/// `None`: refused.
type Oracle = fn(&[u8], &Negotiated) -> Option<View>;

fn nlri(prefix: &str, path_id: Option<u32>) -> Nlri {
    let (address, length) = prefix.split_once('/').unwrap();
    let prefix = Prefix::new(address.parse().unwrap(), length.parse().unwrap()).unwrap();
    let path_id = path_id.unwrap_or(0);
    Nlri { prefix, path_id }
}

/// What we say of it, in one word, and what we read.
fn ours(bytes: &[u8], session: &Negotiated) -> (String, View) {
    let update = match wire::decode(bytes, Some(session)) {
        Ok(Message::Update(update)) => update,
        Ok(other) => panic!("{other:?}"),
        Err(malformed) => {
            let kind = malformed.kind.map_or("header", wire::FaultKind::as_str);
            return (format!("reset {kind}"), View::default());
        }
    };
    let said = update.attributes();
    let announced = update.announced().flat_map(|reach| {
        let hop = reach.next_hop.to_string();
        reach.prefixes.map(move |route| (route, hop.clone()))
    });
    let mut view = View {
        withdrawn: update.withdrawn().collect(),
        announced: announced.collect(),
        ..View::default()
    };
    if !view.announced.is_empty() {
        view.path = Some(said.as_path.into_owned().to_string());
        view.med = said.med;
        view.communities = said.communities.map(u32::from_be_bytes).collect();
    }
    let word = update.faults.worst().map_or("good".to_owned(), |worst| {
        let cost = match worst.handling {
            Handling::Discard => "discard",
            Handling::Withdraw => "withdraw",
            Handling::Disable => "disable",
            Handling::Reset => "reset",
        };
        format!("{cost} {}", worst.kind.as_str())
    });
    (word, view)
}

fn bgpkit(bytes: &[u8], session: &Negotiated) -> Option<View> {
    let width = if session.four_octets {
        AsnLength::Bits32
    } else {
        AsnLength::Bits16
    };
    let mut input = Bytes::copy_from_slice(bytes);
    let parsed = bgpkit_parser::bgp::parse_bgp_message(&mut input, session.add_path_ipv4, &width);
    let Ok(BgpMessage::Update(update)) = parsed else {
        return None;
    };
    let of = |prefix: &NetworkPrefix| nlri(&prefix.prefix.to_string(), prefix.path_id);
    let attributes = &update.attributes;
    let mut view = View {
        withdrawn: update.withdrawn_prefixes.iter().map(of).collect(),
        ..View::default()
    };
    if let Some(gone) = attributes.get_unreachable_nlri() {
        view.withdrawn.extend(gone.prefixes.iter().map(of));
    }
    let hop = attributes
        .next_hop()
        .map(|hop| hop.to_string())
        .unwrap_or_default();
    let plain = update
        .announced_prefixes
        .iter()
        .map(|prefix| (of(prefix), hop.clone()));
    view.announced.extend(plain);
    if let Some(reach) = attributes.get_reachable_nlri() {
        let hop = reach
            .next_hop
            .map(|hop| hop.addr().to_string())
            .unwrap_or_default();
        view.announced.extend(
            reach
                .prefixes
                .iter()
                .map(|prefix| (of(prefix), hop.clone())),
        );
    }
    if !view.announced.is_empty() {
        let path = attributes.effective_as_path().map(|path| path.to_string());
        view.path = Some(path.unwrap_or_default().replace(',', " "));
        view.med = attributes.multi_exit_discriminator();
        for value in attributes.iter() {
            if let bgpkit_parser::models::AttributeValue::Communities(all) = value {
                view.communities
                    .extend(all.iter().map(|community| number(*community)));
            }
        }
    }
    Some(view)
}

fn number(community: bgpkit_parser::models::Community) -> u32 {
    use bgpkit_parser::models::Community::Custom;
    use bgpkit_parser::models::Community::NoAdvertise;
    use bgpkit_parser::models::Community::NoExport;
    use bgpkit_parser::models::Community::NoExportSubConfed;
    match community {
        NoExport => 0xffff_ff01,
        NoAdvertise => 0xffff_ff02,
        NoExportSubConfed => 0xffff_ff03,
        Custom(asn, value) => u32::from(asn) << 16 | u32::from(value),
    }
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "what is not compared may grow"
)]
fn netgauze(bytes: &[u8], session: &Negotiated) -> Option<View> {
    let add_path = [
        (AddressType::Ipv4Unicast, session.add_path_ipv4),
        (AddressType::Ipv6Unicast, session.add_path_ipv6),
    ];
    let add_path = HashMap::from(add_path);
    let four = session.four_octets;
    let mut context =
        BgpParsingContext::new(four, HashMap::new(), add_path, true, true, true, true);
    let mut reader = SliceReader::new(bytes);
    let Ok(NetgauzeMessage::Update(update)) = NetgauzeMessage::parse(&mut reader, &mut context)
    else {
        return None;
    };
    let v4 = |route: &Ipv4UnicastAddress| nlri(&route.network().to_string(), route.path_id());
    let v6 = |route: &Ipv6UnicastAddress| nlri(&route.network().to_string(), route.path_id());
    let mut view = View {
        withdrawn: update.withdraw_routes().iter().map(v4).collect(),
        ..View::default()
    };
    let (mut hop, mut own, mut as4) = (String::new(), Vec::new(), None);
    for attribute in update.path_attributes() {
        match attribute.value() {
            PathAttributeValue::NextHop(found) => hop = found.next_hop().to_string(),
            PathAttributeValue::AsPath(path) => own = segments(path),
            PathAttributeValue::As4Path(path) => as4 = Some(format!("{path:?}")),
            PathAttributeValue::MultiExitDiscriminator(med) => view.med = Some(med.metric()),
            PathAttributeValue::Communities(all) => {
                view.communities = all.communities().iter().map(|c| c.value()).collect();
            }
            PathAttributeValue::MpReach(MpReach::Ipv4Unicast { next_hop, nlri, .. }) => {
                let hop = next_hop.to_string();
                view.announced
                    .extend(nlri.iter().map(|route| (v4(route), hop.clone())));
            }
            PathAttributeValue::MpReach(MpReach::Ipv6Unicast {
                next_hop_global,
                nlri,
                ..
            }) => {
                let hop = next_hop_global.to_string();
                view.announced
                    .extend(nlri.iter().map(|route| (v6(route), hop.clone())));
            }
            PathAttributeValue::MpUnreach(MpUnreach::Ipv4Unicast { nlri }) => {
                view.withdrawn.extend(nlri.iter().map(v4));
            }
            PathAttributeValue::MpUnreach(MpUnreach::Ipv6Unicast { nlri }) => {
                view.withdrawn.extend(nlri.iter().map(v6));
            }
            _ => {}
        }
    }
    view.announced
        .extend(update.nlri().iter().map(|route| (v4(route), hop.clone())));
    if view.announced.is_empty() {
        (view.med, view.communities) = (None, BTreeSet::new());
    } else {
        // It leaves the merging of AS4_PATH to its callers.
        let path = as4.map_or_else(|| text(&own), |_| "?".to_owned());
        view.path = Some(path);
    }
    Some(view)
}

fn segments(path: &NetgauzePath) -> Vec<(AsPathSegmentType, Vec<u32>)> {
    match path {
        NetgauzePath::As2PathSegments(all) => {
            let wide = |numbers: &[u16]| numbers.iter().copied().map(u32::from).collect();
            all.iter()
                .map(|s| (s.segment_type(), wide(s.as_numbers())))
                .collect()
        }
        NetgauzePath::As4PathSegments(all) => all
            .iter()
            .map(|s| (s.segment_type(), s.as_numbers().to_vec()))
            .collect(),
    }
}

fn text(segments: &[(AsPathSegmentType, Vec<u32>)]) -> String {
    let words = segments.iter().map(|(kind, numbers)| {
        let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        match kind {
            AsPathSegmentType::AsSet => format!("{{{}}}", numbers.join(" ")),
            AsPathSegmentType::AsSequence => numbers.join(" "),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Both decoders have one switch or none for what sessions of ours may tell apart.
fn sessions() -> impl Iterator<Item = (u64, Negotiated)> {
    // Width of AS numbers, path identifiers, extended messages.
    [0, 1, 0b0011_0000, 0b0011_0001, 0b0100_0000]
        .into_iter()
        .map(|bits| (u64::from(bits), check::session(bits)))
}

const ORACLES: [(&str, Oracle); 2] = [("bgpkit", bgpkit), ("netgauze", netgauze)];

#[test]
fn both_oracles_read_every_good_update_as_we_do() {
    let mut compared = 0;
    for (seed, session) in sessions() {
        for message in Mutants::new(session, seed).good() {
            let (word, mine) = ours(message, &session);
            assert_eq!(word, "good", "{message:02x?}");
            for (name, oracle) in ORACLES {
                let mut theirs = oracle(message, &session).unwrap_or_else(|| {
                    panic!("{name} refuses {message:02x?}");
                });
                if theirs.path.as_deref() == Some("?") {
                    theirs.path.clone_from(&mine.path);
                }
                assert_eq!(theirs, mine, "{name}: {message:02x?}");
                compared += 1;
            }
        }
    }
    assert!(compared > 500, "{compared}");
}

/// A good UPDATE has something that others may read in another way, for a reason of their own.
fn peculiarity(name: &str, bytes: &[u8], view: &View, session: &Negotiated) -> &'static str {
    const KNOWN: [u8; 15] = [1, 2, 3, 4, 5, 6, 7, 8, 14, 15, 16, 17, 18, 32, 35];
    let attributes = parts(bytes)
        .map(|parts| parts.attributes)
        .unwrap_or_default();
    let is_foreign = |attribute: &Vec<u8>| {
        let head = if attribute[0] & 0x10 == 0 { 3 } else { 4 };
        let family = attribute.get(head..head + 3);
        matches!(attribute[1], 14 | 15) && !matches!(family, Some([0, 1 | 2, 1]))
    };
    let routes = || {
        let announced = view.announced.iter().map(|(route, _)| route);
        view.withdrawn.iter().chain(announced)
    };
    let is_no_unicast = |route: &Nlri| match route.prefix.address() {
        IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_multicast(),
    };
    let has = |kind: u8| attributes.iter().any(|attribute| attribute[1] == kind);
    let is_default = |route: &Nlri| route.prefix.is_default();
    let is_unusual = |attribute: &Vec<u8>| attribute[0] & 0x2f != 0;
    let is_confederation = |attribute: &Vec<u8>| {
        attribute[1] == 17 && attribute.get(3).is_some_and(|kind| matches!(kind, 3 | 4))
    };
    if attributes.iter().any(is_foreign) {
        ": another family"
    } else if attributes
        .iter()
        .any(|attribute| !KNOWN.contains(&attribute[1]))
    {
        ": another attribute"
    } else if attributes.iter().any(is_confederation) {
        ": a confederation in AS4_PATH"
    } else if name == "bgpkit" && !session.add_path_ipv4 && routes().any(is_default) {
        ": a prefix of no length"
    } else if name == "bgpkit" && !session.four_octets && has(7) && has(17) && has(18) {
        ": a stale AS4_PATH"
    } else if name == "netgauze" && routes().any(is_no_unicast) {
        ": a prefix that is not unicast"
    } else if name == "netgauze" && attributes.iter().any(is_unusual) {
        ": unused bits among the flags"
    } else {
        ""
    }
}

#[test]
fn every_difference_over_a_mutant_has_its_reason() {
    let mut found: BTreeMap<(&str, String, &str), (usize, String)> = BTreeMap::new();
    let mut same = 0;
    for (seed, session) in sessions() {
        let mut mutants = Mutants::new(session, seed);
        for _ in 0..TRIED {
            let message = mutants.next();
            if message.get(18) != Some(&2) {
                continue;
            }
            let (verdict, mine) = ours(&message, &session);
            for (name, oracle) in ORACLES {
                let mut word = verdict.clone();
                if word == "good" {
                    word.push_str(peculiarity(name, &message, &mine, &session));
                }
                let theirs = match oracle(&message, &session) {
                    None => "refuses",
                    Some(mut theirs) => {
                        if theirs.path.as_deref() == Some("?") {
                            theirs.path.clone_from(&mine.path);
                        }
                        if theirs == mine { "agrees" } else { "differs" }
                    }
                };
                let both_refuse = word.starts_with("reset") && theirs == "refuses";
                if theirs == "agrees" || both_refuse {
                    same += 1;
                    continue;
                }
                let entry = found.entry((name, word, theirs)).or_default();
                entry.0 += 1;
                if entry.1.is_empty() {
                    entry.1 = message[19..]
                        .iter()
                        .map(|octet| format!("{octet:02x}"))
                        .collect();
                }
            }
        }
    }
    let explained = |(name, word, theirs): &(&str, String, &str)| {
        DIFFERENCES.iter().any(|(oracle, does, words, _)| {
            oracle == name && does == theirs && words.contains(&word.as_str())
        })
    };
    let unexplained: Vec<_> = found.iter().filter(|(key, _)| !explained(key)).collect();
    for (key, (count, example)) in &unexplained {
        println!("{key:?} {count}: {example}");
    }
    assert!(
        unexplained.is_empty(),
        "{} differences without a reason",
        unexplained.len()
    );
    assert!(same > TRIED, "{same}");
}
