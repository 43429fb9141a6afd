//! How far a source is from who asks: peer, tier or network, and over which addresses.
//!
//! Peers are of one cluster, or one of the two lies in a network of the other's interfaces. Tier
//! is mutual: both hear the other's address over BGP, in the same family, by more than a default
//! route. Sans-IO, a pure function of the [`super::stage`].

use super::stage::Seat;
use crate::link::message::SourceKind;
use crate::prefix::Family;
use crate::prefix::Prefix;
use crate::route::Filtered;
use crate::route::Route;
use std::net::IpAddr;

/// Shorter networks of an interface are no subnet that boxes share: a box that says so means harm
/// or is misconfigured, and would be everybody's peer.
const SUBNET_MIN_V4: u8 = 20;
const SUBNET_MIN_V6: u8 = 48;

/// What one box is to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Relation {
    pub(super) kind: SourceKind,
    /// Where the source is to be asked.
    pub(super) addresses: Vec<IpAddr>,
}

/// `None`: they have no family in common. `hops`: the longest AS path that counts as tier.
pub(super) fn relation(asker: &Seat, source: &Seat, hops: u32) -> Option<Relation> {
    let common = common(asker, source);
    if common.is_empty() {
        return None;
    }
    if is_peer(asker, source) {
        let kind = SourceKind::Peer;
        return Some(Relation {
            kind,
            addresses: common,
        });
    }
    let mutual: Vec<IpAddr> = common
        .iter()
        .copied()
        .filter(|address| is_mutual(asker, source, *address, hops))
        .collect();
    Some(if mutual.is_empty() {
        Relation {
            kind: SourceKind::Network,
            addresses: common,
        }
    } else {
        Relation {
            kind: SourceKind::Tier,
            addresses: mutual,
        }
    })
}

/// Of one cluster or of one subnet.
pub(super) fn is_peer(asker: &Seat, source: &Seat) -> bool {
    asker.cluster == source.cluster
        || is_beside(asker, &source.interfaces)
        || is_beside(source, &asker.interfaces)
}

/// Addresses of the source in families that both have.
fn common(asker: &Seat, source: &Seat) -> Vec<IpAddr> {
    let has = |family| asker.addresses.iter().any(|own| Family::of(*own) == family);
    let addresses = source.addresses.iter().copied();
    addresses
        .filter(|address| has(Family::of(*address)))
        .collect()
}

fn is_beside(seat: &Seat, interfaces: &[Prefix]) -> bool {
    interfaces
        .iter()
        .filter(|network| is_subnet(network))
        .any(|network| seat.addresses.iter().any(|own| network.contains(*own)))
}

fn is_subnet(network: &Prefix) -> bool {
    let shortest = match network.family() {
        Family::Ipv4 => SUBNET_MIN_V4,
        Family::Ipv6 => SUBNET_MIN_V6,
    };
    // Every machine has these, and they lead to itself.
    let is_local = match network.address() {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local(),
    };
    network.length() >= shortest && !is_local
}

fn is_mutual(asker: &Seat, source: &Seat, address: IpAddr, most: u32) -> bool {
    let family = Family::of(address);
    let own = asker
        .addresses
        .iter()
        .find(|own| Family::of(**own) == family);
    own.is_some_and(|own| {
        hops(&asker.routes, address).is_some_and(|hops| hops <= most)
            && hops(&source.routes, *own).is_some()
    })
}

/// AS numbers on the way to `address` by the longest prefix that is not the default route; `None`:
/// not heard. `routes` are sorted, as the fleet keeps them.
pub(super) fn hops(routes: &[Route], address: IpAddr) -> Option<u32> {
    let mut target = Prefix::host(address);
    let mut end = routes.len();
    loop {
        // What covers the target sorts before it or is equal to it, and the last such one is the
        // longest. Anything else found there bounds how long a covering prefix can be.
        end = routes[..end].partition_point(|route| route.prefix <= target);
        let found = routes.get(end.checked_sub(1)?)?.prefix;
        if found.family() != target.family() || found.is_default() {
            return None;
        }
        let length = if found.covers(&target) {
            let start = routes[..end].partition_point(|route| route.prefix < found);
            let paths = routes.get(start..end)?.iter().filter(|route| leads(route));
            let shortest = paths.map(|route| route.attributes.as_path.length()).min();
            if let Some(shortest) = shortest {
                return Some(u32::try_from(shortest).unwrap_or(u32::MAX));
            }
            found.length() - 1
        } else {
            let differing = (found.bits() ^ target.bits()).leading_zeros();
            u8::try_from(differing)
                .unwrap_or(u8::MAX)
                .min(target.length())
        };
        if length == 0 {
            return None;
        }
        target = target.shortened(length)?;
    }
}

/// Is there a way behind it? A prefix too long or too short for viewers may well lead to a box.
fn leads(route: &Route) -> bool {
    match route.filtered {
        None | Some(Filtered::PrefixLength) => true,
        Some(
            Filtered::DefaultRoute
            | Filtered::Bogon
            | Filtered::BogonAsn
            | Filtered::AsLoop
            | Filtered::FirstAsn
            | Filtered::AsPathTooLong
            | Filtered::NextHop
            | Filtered::NoImport
            | Filtered::NotListed
            | Filtered::NoSteer,
        ) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::seat;
    use super::*;
    use crate::control::steer::testing::prefix;
    use crate::control::steer::testing::route;
    use proptest::prelude::*;

    fn sorted(mut routes: Vec<Route>) -> Vec<Route> {
        routes.sort_unstable();
        routes
    }

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_prefix_says_how_far_it_is_and_a_default_route_says_nothing() {
        let routes = sorted(vec![
            route("0.0.0.0/0", "r", "64500", 0),
            route("192.0.2.0/24", "r", "64500 64501", 0),
            route("192.0.2.0/24", "s", "64500 64501 64502", 0),
            route("192.0.2.64/26", "r", "64500 64501 64502 64503", 0),
            route("2001:db8::/32", "r", "64500", 0),
        ]);
        assert_eq!(hops(&routes, at("192.0.2.1")), Some(2));
        assert_eq!(hops(&routes, at("192.0.2.200")), Some(2));
        assert_eq!(hops(&routes, at("192.0.2.65")), Some(4));
        assert_eq!(hops(&routes, at("198.51.100.1")), None, "default only");
        assert_eq!(hops(&routes, at("2001:db8::1")), Some(1));
        assert_eq!(hops(&routes, at("2001:db9::1")), None);
        assert_eq!(hops(&[], at("192.0.2.1")), None);
    }

    #[test]
    fn a_refused_route_leads_nowhere_and_the_next_shorter_one_counts() {
        let mut bogon = route("192.0.2.0/25", "r", "64500", 0);
        bogon.filtered = Some(Filtered::Bogon);
        let mut long = route("192.0.2.128/25", "r", "64500", 0);
        long.filtered = Some(Filtered::PrefixLength);
        let shorter = route("192.0.2.0/24", "r", "64500 64501", 0);
        let routes = sorted(vec![bogon, long, shorter]);
        assert_eq!(hops(&routes, at("192.0.2.1")), Some(2));
        assert_eq!(hops(&routes, at("192.0.2.129")), Some(1));
    }

    proptest! {
        #[test]
        fn a_search_finds_what_a_walk_finds(
            rows in proptest::collection::vec((0_u32..256, 0_u8..=32, 1_usize..5), 0..40),
            address in 0_u32..256,
        ) {
            let spread = |bits: u32| IpAddr::from((bits.reverse_bits() | bits).to_be_bytes());
            let routes = sorted(rows.into_iter().map(|(bits, length, hops)| {
                let announced = Prefix::new(spread(bits), length).unwrap();
                let path = vec!["64500"; hops].join(" ");
                Route { prefix: announced, ..route("192.0.2.0/24", "r", &path, 0) }
            }).collect());
            let address = spread(address);
            let covering = routes.iter().filter(|r| !r.prefix.is_default());
            let covering: Vec<&Route> = covering.filter(|r| r.prefix.contains(address)).collect();
            let longest = covering.iter().map(|r| r.prefix.length()).max();
            let best = covering.iter().filter(|r| Some(r.prefix.length()) == longest);
            let best = best.map(|r| r.attributes.as_path.length()).min();
            prop_assert_eq!(hops(&routes, address), best.and_then(|b| u32::try_from(b).ok()));
        }
    }

    #[test]
    fn boxes_of_a_cluster_or_a_subnet_are_peers_and_loopback_is_no_subnet() {
        let asker = seat(1, 1, "192.0.2.1");
        let mut source = seat(2, 2, "192.0.2.9");
        let kind = |asker: &Seat, source: &Seat| relation(asker, source, 1).unwrap().kind;
        assert_eq!(kind(&asker, &source), SourceKind::Network);
        source.interfaces = [prefix("127.0.0.0/8"), prefix("192.0.0.0/8")].into();
        assert_eq!(kind(&asker, &source), SourceKind::Network, "too wide");
        source.interfaces = [prefix("192.0.2.0/28")].into();
        assert_eq!(kind(&asker, &source), SourceKind::Peer);
        assert_eq!(kind(&source, &asker), SourceKind::Peer, "the reverse too");
        source.interfaces = [].into();
        source.cluster = 1;
        assert_eq!(kind(&asker, &source), SourceKind::Peer);
    }

    #[test]
    fn tier_is_mutual_per_family_and_within_the_hops() {
        let mut asker = seat(1, 1, "192.0.2.1");
        let mut source = seat(2, 2, "198.51.100.1");
        asker.addresses.push(at("2001:db8:1::1"));
        source.addresses.push(at("2001:db8:2::1"));
        let near = |asker: &Seat, source: &Seat, most| {
            let found = relation(asker, source, most).unwrap();
            (found.kind, found.addresses)
        };
        let both = vec![at("198.51.100.1"), at("2001:db8:2::1")];
        let network = (SourceKind::Network, both);
        asker.routes = sorted(vec![
            route("198.51.100.0/24", "r", "64500 64501", 0),
            route("2001:db8:2::/48", "r", "64500", 0),
        ])
        .into();
        assert_eq!(near(&asker, &source, 9), network, "one way only");
        source.routes = vec![route("0.0.0.0/0", "r", "64500", 0)].into();
        assert_eq!(near(&asker, &source, 9), network, "a default route back");
        source.routes = vec![route("192.0.2.0/24", "r", "64500 64501 64502", 0)].into();
        let tier = (SourceKind::Tier, vec![at("198.51.100.1")]);
        assert_eq!(near(&asker, &source, 2), tier, "the family that is mutual");
        assert_eq!(near(&asker, &source, 1), network, "too far");
        source.addresses.remove(0);
        asker.addresses.remove(1);
        assert_eq!(relation(&asker, &source, 9), None, "no family in common");
    }
}
