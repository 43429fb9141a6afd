//! What the operator chooses for one session beyond who the neighbour is: how its packets must
//! look, and what is offered to it. Names and numbers only; `net` and `session` do the rest.

use super::Bogons;
use super::NeighbourConfig;
use super::Policy;
use super::wire;
use crate::route::Asn;
use crate::route::Class;
use serde::Serialize;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How the packets of a session must look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TransportConfig {
    /// The file of the key that both sides sign their segments with.
    pub password_file: Option<PathBuf>,
    /// The key is one of TCP-AO (RFC 5925) with this identifier, not of TCP-MD5.
    pub tcp_ao_id: Option<u8>,
    /// Only packets that nobody farther than `multihop` can have sent (RFC 5082). Default true.
    pub ttl_security: bool,
    /// Hops to the neighbour; 1, the default, is on the same link.
    pub multihop: u8,
    /// Packets leave and come by this interface only; link-local addresses need it.
    pub interface: Option<String>,
}

/// What is offered, and how patient we are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SessionConfig {
    /// Waits for the neighbour's OPEN that long before ours is sent (RFC 4271 section 8.1). Default
    /// 0: not at all.
    pub delay_open: Duration,
    /// First wait after a session that failed; doubled for each that follows. Default 1 s.
    pub idle_hold: Duration,
    /// Offer to receive several routes of one prefix (RFC 7911). Default false.
    pub add_path: bool,
    /// Longest time that routes outlive their session (RFC 4724). 0: not at all. Default 5 min.
    pub graceful_restart: Duration,
    /// And how much longer, where the neighbour asks for it (RFC 9494). Default 0.
    pub long_lived: Duration,
    /// What we are to the neighbour (RFC 9234). Default [`Role::Auto`].
    pub role: Role,
    /// A neighbour that says nothing of its role is refused. Default false.
    pub role_strict: bool,
}

/// What this box is to a neighbour (RFC 9234 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// By the neighbour's class.
    Auto,
    /// Not said.
    None,
    Provider,
    /// A route server.
    Rs,
    RsClient,
    Customer,
    Peer,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            password_file: None,
            tcp_ao_id: None,
            ttl_security: true,
            multihop: 1,
            interface: None,
        }
    }
}

impl NeighbourConfig {
    /// With the defaults of the configuration, for whoever needs no file. Its routes may steer.
    pub fn new(name: &str, address: IpAddr, asn: Asn, class: Class) -> Self {
        Self {
            name: name.to_owned(),
            address,
            port: 179,
            asn,
            class,
            local_address: None,
            passive: false,
            hold_time: Duration::from_secs(90),
            connect_retry: Duration::from_secs(30),
            max_prefixes: 1_500_000,
            bogons: Bogons::Default,
            transport: TransportConfig::default(),
            session: SessionConfig::default(),
            policy: Policy::default(),
        }
    }
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            delay_open: Duration::ZERO,
            idle_hold: Duration::from_secs(1),
            add_path: false,
            graceful_restart: Duration::from_secs(300),
            long_lived: Duration::ZERO,
            role: Role::Auto,
            role_strict: false,
        }
    }
}

impl Role {
    /// As it is said on the wire. A box takes routes from its host and from transit as a customer
    /// does; roles have no meaning within one AS.
    pub(super) fn said(self, class: Class, external: bool) -> Option<wire::Role> {
        let role = match (self, class) {
            (Self::None, Class::Embedded | Class::Peering | Class::Transit) => None,
            (Self::Auto, Class::Embedded | Class::Transit) => Some(wire::Role::Customer),
            (Self::Auto, Class::Peering) => Some(wire::Role::Peer),
            (Self::Provider, _) => Some(wire::Role::Provider),
            (Self::Rs, _) => Some(wire::Role::RouteServer),
            (Self::RsClient, _) => Some(wire::Role::RouteServerClient),
            (Self::Customer, _) => Some(wire::Role::Customer),
            (Self::Peer, _) => Some(wire::Role::Peer),
        };
        role.filter(|_| external)
    }
}

/// RFC 9234 section 4.2, table 2.
pub(super) fn roles_fit(ours: wire::Role, theirs: wire::Role) -> bool {
    use wire::Role::Customer;
    use wire::Role::Peer;
    use wire::Role::Provider;
    use wire::Role::RouteServer;
    use wire::Role::RouteServerClient;
    matches!(
        (ours, theirs),
        (Provider, Customer)
            | (Customer, Provider)
            | (RouteServer, RouteServerClient)
            | (RouteServerClient, RouteServer)
            | (Peer, Peer)
    )
}

/// For people.
pub(super) fn role_words(role: wire::Role) -> &'static str {
    match role {
        wire::Role::Provider => "provider",
        wire::Role::RouteServer => "rs",
        wire::Role::RouteServerClient => "rs-client",
        wire::Role::Customer => "customer",
        wire::Role::Peer => "peer",
        wire::Role::Unknown(_) => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_is_a_customer_of_its_host_and_of_transit_and_a_peer_of_peers() {
        let auto = |class| Role::Auto.said(class, true);
        assert_eq!(auto(Class::Embedded), Some(wire::Role::Customer));
        assert_eq!(auto(Class::Transit), Some(wire::Role::Customer));
        assert_eq!(auto(Class::Peering), Some(wire::Role::Peer));
        assert_eq!(Role::Auto.said(Class::Embedded, false), None);
        assert_eq!(Role::None.said(Class::Embedded, true), None);
        let server = Role::RsClient.said(Class::Peering, true);
        assert_eq!(server, Some(wire::Role::RouteServerClient));
    }

    #[test]
    fn five_pairs_of_roles_fit_and_no_others() {
        let all = (0..6).map(wire::Role::from);
        let fitting: Vec<_> = all
            .clone()
            .flat_map(|one| all.clone().map(move |other| (one, other)))
            .filter(|(one, other)| roles_fit(*one, *other))
            .map(|(one, other)| format!("{} {}", role_words(one), role_words(other)))
            .collect();
        let expected = [
            "provider customer",
            "rs rs-client",
            "rs-client rs",
            "customer provider",
            "peer peer",
        ];
        assert_eq!(fitting, expected);
    }
}
