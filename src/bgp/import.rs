//! Which learned routes may steer, and why the others may not. A filtered route is kept and shown.
//!
//! Sans-IO; asked by `peer` for each UPDATE. Origin validation and partner authorisation are the
//! control plane's.

use super::Bogons;
use super::Config;
use super::NeighbourConfig;
use super::policy::Accept;
use super::policy::Policy;
use crate::prefix::Family;
use crate::prefix::Prefix;
use crate::route::Asn;
use crate::route::Filtered;
use crate::route::Packed;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::ops::RangeInclusive;

/// Longer than any path that forwards packets; routers themselves cut at 254 or 255.
const PATH_NUMBERS_MAX: usize = 255;

/// Address space without clients on the internet: RFC 6890 and its registry, documentation,
/// benchmarks, multicast and above.
const IPV4_BOGONS: [([u8; 4], u8); 10] = [
    ([0, 0, 0, 0], 8),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

/// Where a provider may have numbered his own clients (RFC 1918, RFC 6598): bogons unless
/// `private_space` lets them in.
const IPV4_PRIVATE: [([u8; 4], u8); 4] = [
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([172, 16, 0, 0], 12),
    ([192, 168, 0, 0], 16),
];

/// The same of IPv6 (RFC 4193).
const IPV6_PRIVATE: ([u16; 2], u8) = ([0xfc00, 0], 7);

/// Documentation prefixes inside the one block that is routed (RFC 3849, RFC 9637).
const IPV6_BOGONS: [([u16; 2], u8); 2] = [([0x2001, 0x0db8], 32), ([0x3fff, 0], 20)];

/// All that IANA has given to unicast on the internet.
const IPV6_INTERNET: ([u16; 2], u8) = ([0x2000, 0], 3);

/// AS_TRANS, documentation, private use and reserved numbers (RFC 6793, 5398, 6996, 7300).
const ASN_BOGONS: [RangeInclusive<u32>; 5] = [
    0..=0,
    23456..=23456,
    64496..=65551,
    65552..=131_071,
    4_200_000_000..=u32::MAX,
];

/// The rules for one neighbour.
#[derive(Clone, Debug)]
pub(super) struct Import {
    own: Asn,
    neighbour: Asn,
    bogons: Bogons,
    bogon_prefixes: Vec<Prefix>,
    private_prefixes: Vec<Prefix>,
    internet: Option<Prefix>,
    policy: Policy,
}

impl Import {
    pub(super) fn new(config: &Config, neighbour: &NeighbourConfig) -> Self {
        let ipv4 = |(octets, length): &([u8; 4], u8)| (IpAddr::from(*octets), *length);
        let ipv6 = |(words, length): &([u16; 2], u8)| (ipv6(*words), *length);
        let prefixes = |all: Vec<(IpAddr, u8)>| -> Vec<Prefix> {
            let made = all.into_iter();
            made.filter_map(|(address, length)| Prefix::new(address, length).ok())
                .collect()
        };
        let private = IPV4_PRIVATE.iter().map(ipv4);
        Self {
            own: config.asn,
            neighbour: neighbour.asn,
            bogons: neighbour.bogons,
            bogon_prefixes: prefixes(
                IPV4_BOGONS
                    .iter()
                    .map(ipv4)
                    .chain(IPV6_BOGONS.iter().map(ipv6))
                    .collect(),
            ),
            private_prefixes: prefixes(private.chain([ipv6(&IPV6_PRIVATE)]).collect()),
            internet: prefixes(vec![ipv6(&IPV6_INTERNET)]).pop(),
            policy: neighbour.policy.clone(),
        }
    }

    /// What is wrong with every route that has these attributes.
    pub(super) fn attributes(&self, attributes: Packed<'_>) -> Option<Filtered> {
        let path = attributes.path();
        let is_external = self.own != self.neighbour;
        if path.numbers().any(|asn| asn == self.own) {
            Some(Filtered::AsLoop)
        } else if is_external && self.policy.first_as_check && path.first() != Some(self.neighbour)
        {
            Some(Filtered::FirstAsn)
        } else if path.numbers().count() > PATH_NUMBERS_MAX {
            Some(Filtered::AsPathTooLong)
        } else if path.numbers().any(|asn| self.is_bogon(asn)) {
            Some(Filtered::BogonAsn)
        } else if !is_usable(attributes.fixed().next_hop) {
            Some(Filtered::NextHop)
        } else if self.policy.import == Accept::None {
            Some(Filtered::NoImport)
        } else if attributes.has_any(&self.policy.no_steer) {
            Some(Filtered::NoSteer)
        } else {
            None
        }
    }

    /// What is wrong with this route; `shared` is what its attributes said.
    ///
    /// What makes a route untrue comes first, then what it is, then what the operator wishes: a
    /// default route that may not steer for three reasons is shown as a default route.
    pub(super) fn route(&self, prefix: &Prefix, shared: Option<Filtered>) -> Option<Filtered> {
        let lengths = match prefix.family() {
            Family::Ipv4 => self.policy.ipv4_lengths,
            Family::Ipv6 => self.policy.ipv6_lengths,
        };
        let wished = &self.policy.prefixes;
        if shared.is_some_and(Filtered::is_untrue) {
            shared
        } else if prefix.is_default() {
            Some(Filtered::DefaultRoute)
        } else if self.is_bogon_space(prefix) {
            Some(Filtered::Bogon)
        } else if !lengths.contains(prefix.length()) {
            Some(Filtered::PrefixLength)
        } else if !wished.is_empty() && !wished.iter().any(|wished| wished.covers(prefix)) {
            Some(Filtered::NotListed)
        } else {
            shared
        }
    }

    fn is_bogon_space(&self, prefix: &Prefix) -> bool {
        match self.bogons {
            Bogons::None => false,
            Bogons::Default => {
                let within = |space: &[Prefix]| space.iter().any(|one| one.covers(prefix));
                if within(&self.private_prefixes) {
                    return !self.policy.private_space;
                }
                let is_outside = prefix.family() == Family::Ipv6
                    && self.internet.is_some_and(|all| !all.covers(prefix));
                is_outside || within(&self.bogon_prefixes)
            }
        }
    }

    /// A partner may number his own routers privately: the configured neighbour is no bogon.
    fn is_bogon(&self, asn: Asn) -> bool {
        match self.bogons {
            Bogons::None => false,
            Bogons::Default => {
                asn != self.neighbour && ASN_BOGONS.iter().any(|range| range.contains(&asn.0))
            }
        }
    }
}

fn ipv6(words: [u16; 2]) -> IpAddr {
    let [first, second] = words;
    IpAddr::V6(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0))
}

/// Somebody's unicast address: one that a router could have.
fn is_usable(next_hop: IpAddr) -> bool {
    match next_hop {
        IpAddr::V4(v4) => {
            let [first, ..] = v4.octets();
            first != 0 && first < 224 && !v4.is_loopback() && v4 != Ipv4Addr::BROADCAST
        }
        IpAddr::V6(v6) => {
            !v6.is_unspecified()
                && !v6.is_loopback()
                && !v6.is_multicast()
                && !v6.is_unicast_link_local()
                && v6.to_ipv4_mapped().is_none()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests_support::config;
    use super::super::tests_support::neighbour;
    use super::*;
    use crate::route::Attributes;
    use crate::route::Packer;

    fn import(bogons: Bogons) -> Import {
        import_by(bogons, Policy::default())
    }

    fn import_by(bogons: Bogons, policy: Policy) -> Import {
        let neighbour = NeighbourConfig {
            bogons,
            policy,
            ..neighbour("edge", Asn(64500))
        };
        Import::new(&config(Asn(64510), vec![neighbour.clone()]), &neighbour)
    }

    fn judged(import: &Import, path: &str, next_hop: &str) -> Option<Filtered> {
        let (path, next_hop) = (path.parse().unwrap(), next_hop.parse().unwrap());
        let mut packer = Packer::default();
        let packed = packer.pack(&Attributes::new(path, next_hop));
        import.attributes(Packed::new(packed))
    }

    #[test]
    fn each_reason_is_found_and_a_plain_route_has_none() {
        let strict = import(Bogons::Default);
        let route = |text: &str| strict.route(&text.parse().unwrap(), None);
        for (prefix, expected) in [
            ("9.0.0.0/8", None),
            ("9.1.2.0/31", None),
            ("2a00::/19", None),
            ("2a00:1:2:3::/64", None),
            ("0.0.0.0/0", Some(Filtered::DefaultRoute)),
            ("::/0", Some(Filtered::DefaultRoute)),
            ("8.0.0.0/7", Some(Filtered::PrefixLength)),
            ("9.1.2.3/32", Some(Filtered::PrefixLength)),
            ("2000::/18", Some(Filtered::PrefixLength)),
            ("2a00::/65", Some(Filtered::PrefixLength)),
            ("10.2.0.0/16", Some(Filtered::Bogon)),
            ("100.127.0.0/24", Some(Filtered::Bogon)),
            ("192.0.2.128/25", Some(Filtered::Bogon)),
            ("239.0.0.0/24", Some(Filtered::Bogon)),
            ("2001:db8:1::/48", Some(Filtered::Bogon)),
            ("3fff:fff::/32", Some(Filtered::Bogon)),
            ("fc00::/32", Some(Filtered::Bogon)),
        ] {
            assert_eq!(route(prefix), expected, "{prefix}");
        }
        let of = |path: &str, hop: &str| judged(&strict, path, hop);
        for (path, hop, expected) in [
            ("64500 3 5", "9.9.9.9", None),
            ("64500 {3 5}", "9.9.9.9", None),
            ("64500 64510 3", "9.9.9.9", Some(Filtered::AsLoop)),
            ("3 64500", "9.9.9.9", Some(Filtered::FirstAsn)),
            ("", "9.9.9.9", Some(Filtered::FirstAsn)),
            ("{64500}", "9.9.9.9", Some(Filtered::FirstAsn)),
            ("64500 23456", "9.9.9.9", Some(Filtered::BogonAsn)),
            ("64500 64501", "9.9.9.9", Some(Filtered::BogonAsn)),
            ("64500 4200000001", "9.9.9.9", Some(Filtered::BogonAsn)),
            ("64500 3", "127.0.0.1", Some(Filtered::NextHop)),
            ("64500 3", "224.0.0.1", Some(Filtered::NextHop)),
            ("64500 3", "0.1.2.3", Some(Filtered::NextHop)),
            ("64500 3", "fe80::1", Some(Filtered::NextHop)),
            ("64500 3", "ff02::1", Some(Filtered::NextHop)),
            ("64500 3", "2001:db8::1", None),
        ] {
            assert_eq!(of(path, hop), expected, "{path} {hop}");
        }
        let long = format!("64500{}", " 3".repeat(255));
        assert_eq!(of(&long, "9.9.9.9"), Some(Filtered::AsPathTooLong));
    }

    #[test]
    fn a_laboratory_may_use_documentation_space_but_no_default_route() {
        let lab = import(Bogons::None);
        let shared = judged(&lab, "64500 64501 23456", "198.51.100.1");
        assert_eq!(shared, None);
        assert_eq!(lab.route(&"192.0.2.0/24".parse().unwrap(), shared), None);
        let default = lab.route(&"0.0.0.0/0".parse().unwrap(), shared);
        assert_eq!(default, Some(Filtered::DefaultRoute));
        let looped = judged(&lab, "64500 64510", "198.51.100.1");
        assert_eq!(looped, Some(Filtered::AsLoop));
    }

    #[test]
    fn the_operators_wishes_come_after_what_makes_a_route_untrue_or_a_default() {
        let policy = Policy {
            prefixes: vec!["9.0.0.0/8".parse().unwrap(), "2a00::/16".parse().unwrap()],
            ipv4_lengths: "16-24".parse().unwrap(),
            no_steer: vec!["64500:666".parse().unwrap(), "64500:7".parse().unwrap()],
            ..Policy::default()
        };
        let strict = import_by(Bogons::Default, policy.clone());
        let unwanted = Attributes {
            communities: vec!["64500:1".parse().unwrap(), "64500:7".parse().unwrap()],
            ..Attributes::new("64500 3".parse().unwrap(), "9.9.9.9".parse().unwrap())
        };
        let mut packer = Packer::default();
        let shared = strict.attributes(Packed::new(packer.pack(&unwanted)));
        assert_eq!(shared, Some(Filtered::NoSteer));
        let looped = judged(&strict, "64500 64510", "9.9.9.9");
        for (prefix, shared, expected) in [
            ("9.1.0.0/16", None, None),
            ("2a00:1::/32", None, None),
            ("9.1.0.0/16", shared, Some(Filtered::NoSteer)),
            ("0.0.0.0/0", shared, Some(Filtered::DefaultRoute)),
            ("0.0.0.0/0", looped, Some(Filtered::AsLoop)),
            ("10.1.0.0/16", looped, Some(Filtered::AsLoop)),
            ("10.1.0.0/16", shared, Some(Filtered::Bogon)),
            ("9.0.0.0/15", None, Some(Filtered::PrefixLength)),
            ("9.1.2.128/25", shared, Some(Filtered::PrefixLength)),
            ("8.1.0.0/16", None, Some(Filtered::NotListed)),
            ("8.1.0.0/16", shared, Some(Filtered::NotListed)),
            ("2a01::/32", None, Some(Filtered::NotListed)),
        ] {
            let found = strict.route(&prefix.parse().unwrap(), shared);
            assert_eq!(found, expected, "{prefix} {shared:?}");
        }
        let none = Policy {
            import: Accept::None,
            ..policy
        };
        let none = import_by(Bogons::Default, none);
        let shared = judged(&none, "64500 3", "9.9.9.9");
        let found = none.route(&"9.1.0.0/16".parse().unwrap(), shared);
        assert_eq!(found, Some(Filtered::NoImport));
    }

    #[test]
    fn a_provider_who_numbers_privately_and_a_route_server_have_their_switches() {
        let policy = Policy {
            private_space: true,
            first_as_check: false,
            ..Policy::default()
        };
        let open = import_by(Bogons::Default, policy);
        let route = |text: &str| open.route(&text.parse().unwrap(), None);
        for private in [
            "10.2.0.0/16",
            "100.127.0.0/24",
            "172.31.0.0/24",
            "192.168.1.0/24",
        ] {
            assert_eq!(route(private), None, "{private}");
        }
        assert_eq!(route("fd00:1::/32"), None);
        for still in [
            "192.0.2.0/25",
            "127.1.0.0/16",
            "169.254.1.0/24",
            "2001:db8::/32",
        ] {
            assert_eq!(route(still), Some(Filtered::Bogon), "{still}");
        }
        let through_server = judged(&open, "3 5", "9.9.9.9");
        assert_eq!(through_server, None);
        let looped = judged(&open, "3 64510", "9.9.9.9");
        assert_eq!(looped, Some(Filtered::AsLoop));
    }
}
