//! What the operator chooses for one session beyond who the neighbour is: how its packets must look,
//! and what is offered to it. Names and numbers only; `net` and `session` do something with them.

use crate::route::Class;
use serde::Serialize;
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

/// RFC 9234 section 4.1.
const PROVIDER: u8 = 0;
const RS: u8 = 1;
const RS_CLIENT: u8 = 2;
const CUSTOMER: u8 = 3;
const PEER: u8 = 4;

impl Role {
    /// The number on the wire. A box takes routes from its host and from transit as a customer
    /// does; roles have no meaning within one AS.
    pub(super) fn number(self, class: Class, external: bool) -> Option<u8> {
        let number = match (self, class) {
            (Self::None, Class::Embedded | Class::Peering | Class::Transit) => None,
            (Self::Auto, Class::Embedded | Class::Transit) => Some(CUSTOMER),
            (Self::Auto, Class::Peering) => Some(PEER),
            (Self::Provider, _) => Some(PROVIDER),
            (Self::Rs, _) => Some(RS),
            (Self::RsClient, _) => Some(RS_CLIENT),
            (Self::Customer, _) => Some(CUSTOMER),
            (Self::Peer, _) => Some(PEER),
        };
        number.filter(|_| external)
    }
}

/// RFC 9234 section 4.2, table 2.
pub(super) fn roles_fit(ours: u8, theirs: u8) -> bool {
    matches!(
        (ours, theirs),
        (PROVIDER, CUSTOMER)
            | (CUSTOMER, PROVIDER)
            | (RS, RS_CLIENT)
            | (RS_CLIENT, RS)
            | (PEER, PEER)
    )
}

/// For people.
pub(super) fn role_words(number: u8) -> &'static str {
    match number {
        PROVIDER => "provider",
        RS => "rs",
        RS_CLIENT => "rs-client",
        CUSTOMER => "customer",
        PEER => "peer",
        _ => "unknown",
    }
}
