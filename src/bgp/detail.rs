//! One neighbour in full, as values: what a row of `oca show bgp all` holds.
//!
//! Made by `desk`, shown by `admin`. Words of the neighbour are escaped and bounded here.

use super::KernelRouteView;
use super::LimitView;
use super::wire;
use super::wire::Capability;
use super::wire::Message;
use crate::help;
use crate::prefix::Prefix;
use crate::route::Asn;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::net::Ipv4Addr;

/// Capabilities of one OPEN that are shown; a router has a dozen.
pub(super) const CAPABILITIES: usize = 32;

/// Place of a message's type, behind marker and length.
const TYPE_AT: usize = 18;

/// Everything about one neighbour: a row of `oca show bgp all`.
#[derive(Clone, Debug, Serialize)]
pub struct Detail {
    /// As the operator ordered; the rest of the state is in the neighbour's view.
    pub administratively_down: bool,
    pub local_address: Option<IpAddr>,
    pub sent_open: Option<Spoken>,
    pub received_open: Option<Spoken>,
    pub timers: Timers,
    pub sent: Messages,
    pub received: Messages,
    /// UPDATEs with an error, by its kind (RFC 7606); how often.
    pub malformed: BTreeMap<&'static str, u64>,
    /// The last comes last.
    pub history: Vec<Change>,
    pub last_error_sent: Option<Told>,
    pub last_error_received: Option<Told>,
    pub end_of_rib: FamilyFlags,
    pub limits: Vec<LimitView>,
    /// Routes beyond a limit that were not kept.
    pub dropped: u64,
    pub announced: Vec<Prefix>,
    /// Routes of the box itself by this neighbour, and why the kernel refuses one.
    pub kernel_routes: Vec<KernelRouteView>,
}

/// What a side said of itself in its OPEN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Spoken {
    pub asn: Asn,
    pub router_id: Ipv4Addr,
    pub hold_time_s: u16,
    /// In words, at most 32.
    pub capabilities: Vec<String>,
    #[serde(skip)]
    pub(super) four_octets: bool,
}

/// Whole seconds; `None` until OPENs are exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Timers {
    pub hold_time_s: Option<u16>,
    pub keepalive_s: Option<u16>,
    pub connect_retry_s: u64,
}

/// Messages by type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Messages {
    pub open: u64,
    pub update: u64,
    pub notification: u64,
    pub keepalive: u64,
    pub route_refresh: u64,
}

/// A beginning or an end of the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub at: String,
    /// `up` or `down`.
    pub to: &'static str,
    pub why: Option<String>,
}

/// An error in words, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    pub at: String,
    pub error: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FamilyFlags {
    pub ipv4: bool,
    pub ipv6: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Open,
    Update,
    Notification,
    Keepalive,
    RouteRefresh,
}

impl Messages {
    /// Counts a whole message, as it is on the wire.
    pub(super) fn count(&mut self, bytes: &[u8]) -> Option<Kind> {
        let (kind, counter) = match bytes.get(TYPE_AT)? {
            1 => (Kind::Open, &mut self.open),
            2 => (Kind::Update, &mut self.update),
            3 => (Kind::Notification, &mut self.notification),
            4 => (Kind::Keepalive, &mut self.keepalive),
            5 => (Kind::RouteRefresh, &mut self.route_refresh),
            _ => return None,
        };
        *counter += 1;
        Some(kind)
    }
}

impl Spoken {
    /// What an OPEN says, as it came over the wire.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let Ok(Message::Open(open)) = wire::decode(bytes, None) else {
            return None;
        };
        let shown = open.capabilities.into_iter().take(CAPABILITIES);
        let words = shown.map(|one| help::printable(words(one).as_bytes(), 120));
        Some(Self {
            asn: open.asn,
            router_id: open.router_id,
            hold_time_s: open.hold_time,
            capabilities: words.collect(),
            four_octets: open.speaks_four_octets(),
        })
    }
}

/// As they are called, with what they say.
fn words(capability: Capability<'_>) -> String {
    match capability {
        Capability::Hostname { host, domain } => {
            let name = |bytes| String::from_utf8_lossy(bytes);
            format!("Hostname({} {})", name(host), name(domain))
        }
        Capability::Other { code, value } => format!("Other({code}, {} bytes)", value.len()),
        other @ (Capability::MultiProtocol { .. }
        | Capability::RouteRefresh
        | Capability::EnhancedRouteRefresh
        | Capability::FourOctetAs(_)
        | Capability::ExtendedMessage
        | Capability::ExtendedNextHop { .. }
        | Capability::GracefulRestart(_)
        | Capability::LongLivedGracefulRestart { .. }
        | Capability::AddPath { .. }
        | Capability::Role(_)) => format!("{other:?}"),
    }
}
