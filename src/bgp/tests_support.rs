//! Configurations that tests of this room share.

use super::Bogons;
use super::Config;
use super::NeighbourConfig;
use super::SessionConfig;
use super::TransportConfig;
use crate::route::Asn;
use crate::route::Class;
use std::net::Ipv4Addr;
use std::time::Duration;

pub(super) fn config(asn: Asn, neighbours: Vec<NeighbourConfig>) -> Config {
    Config {
        asn,
        router_id: Ipv4Addr::new(192, 0, 2, 9),
        listen: Vec::new(),
        neighbours,
    }
}

pub(super) fn neighbour(name: &str, asn: Asn) -> NeighbourConfig {
    NeighbourConfig {
        name: name.to_owned(),
        address: Ipv4Addr::new(192, 0, 2, 1).into(),
        port: 179,
        asn,
        class: Class::Embedded,
        local_address: None,
        passive: false,
        hold_time: Duration::from_secs(90),
        connect_retry: Duration::from_secs(30),
        max_prefixes: 1_500_000,
        bogons: Bogons::None,
        transport: TransportConfig::default(),
        session: SessionConfig::default(),
    }
}
