//! Configurations that tests of this room share.

use super::Bogons;
use super::Config;
use super::NeighbourConfig;
use super::OwnPolicy;
use crate::route::Asn;
use crate::route::Class;
use std::net::Ipv4Addr;

pub(super) fn config(asn: Asn, neighbours: Vec<NeighbourConfig>) -> Config {
    Config {
        asn,
        router_id: Ipv4Addr::new(192, 0, 2, 9),
        listen: Vec::new(),
        neighbours,
        policy: OwnPolicy::default(),
    }
}

pub(super) fn neighbour(name: &str, asn: Asn) -> NeighbourConfig {
    let address = Ipv4Addr::new(192, 0, 2, 1).into();
    NeighbourConfig {
        bogons: Bogons::None,
        ..NeighbourConfig::new(name, address, asn, Class::Embedded)
    }
}
