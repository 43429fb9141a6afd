//! The whole RIB-out: the box's service addresses, to neighbours that are to hear them.
//!
//! Sans-IO; asked by `peer` when a session comes up and when the box opens or closes. There is no
//! way from a learned route to here.

use super::Config;
use super::NeighbourConfig;
use super::wire;
use super::wire::Negotiated;
use crate::prefix::Family;
use crate::prefix::Prefix;
use crate::route::AsPath;
use crate::route::Attributes;
use crate::route::Segment;
use std::net::IpAddr;

/// What a neighbour is told over a session whose end at the box is `local`: each service address of
/// the session's family, which is the one with a next hop that the neighbour can reach.
pub(super) fn prefixes(
    config: &Config,
    neighbour: &NeighbourConfig,
    negotiated: &Negotiated,
    local: IpAddr,
) -> Vec<Prefix> {
    let family = Family::of(local);
    // Inside one AS a route needs LOCAL_PREF, which is that AS's business and not the box's.
    let is_told = neighbour.policy.announce && negotiated.external && negotiated.has(family);
    let addresses = config.policy.service_addresses.iter().filter(|_| is_told);
    let ours = addresses.filter(|address| Family::of(**address) == family);
    ours.map(|address| Prefix::host(*address)).collect()
}

/// UPDATEs that announce them.
pub(super) fn announcement(
    config: &Config,
    neighbour: &NeighbourConfig,
    negotiated: &Negotiated,
    (local, prefixes): (IpAddr, &[Prefix]),
) -> Vec<Vec<u8>> {
    let mut communities = neighbour.policy.announce_communities.clone();
    communities.sort_unstable();
    let attributes = Attributes {
        communities,
        ..Attributes::new(AsPath(vec![Segment::Sequence(vec![config.asn])]), local)
    };
    wire::announce(&attributes, prefixes, negotiated.four_octets).unwrap_or_default()
}

/// UPDATEs that take them back.
pub(super) fn withdrawal(prefixes: &[Prefix]) -> Vec<Vec<u8>> {
    wire::withdraw(prefixes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::policy::OwnPolicy;
    use super::super::policy::Policy;
    use super::super::tests_support;
    use super::*;
    use crate::route::Asn;

    const BOTH: Negotiated = Negotiated::ORDINARY;

    fn told(announce: bool, negotiated: Negotiated, local: &str) -> Vec<String> {
        let policy = Policy {
            announce,
            ..Policy::default()
        };
        let neighbour = NeighbourConfig {
            policy,
            ..tests_support::neighbour("edge", Asn(64500))
        };
        let own = OwnPolicy {
            service_addresses: ["203.0.113.9", "2001:db8::9", "2001:db8::a"]
                .map(|address| address.parse().unwrap())
                .into(),
            ..OwnPolicy::default()
        };
        let config = Config {
            policy: own,
            ..tests_support::config(Asn(64510), vec![neighbour.clone()])
        };
        let all = prefixes(&config, &neighbour, &negotiated, local.parse().unwrap());
        all.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_who_is_to_hear_it_hears_exactly_the_addresses_of_the_sessions_family() {
        assert_eq!(told(true, BOTH, "192.0.2.9"), ["203.0.113.9/32"]);
        let ipv6 = ["2001:db8::9/128", "2001:db8::a/128"];
        assert_eq!(told(true, BOTH, "2001:db8:1::9"), ipv6);
        let nothing: [&str; 0] = [];
        assert_eq!(told(false, BOTH, "192.0.2.9"), nothing);
        let internal = Negotiated {
            external: false,
            ..BOTH
        };
        assert_eq!(told(true, internal, "192.0.2.9"), nothing);
        let without = Negotiated {
            ipv4: false,
            ..BOTH
        };
        assert_eq!(told(true, without, "192.0.2.9"), nothing);
    }
}
