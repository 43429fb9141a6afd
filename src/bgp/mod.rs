//! A router announces a prefix: a receiver-only BGP-4 speaker (RFC 4271), IPv4 and IPv6 unicast.
//!
//! `listener` takes connections and `peer` makes them (one task a neighbour) → `wire` frames and
//! decodes without guessing → `session` is the state machine, sans-IO → `ingest` takes an UPDATE:
//! `policy` says what is wanted, `import` what may steer and `limits` how much is too much, `rib`
//! keeps one Adj-RIB-In a neighbour → `publish` makes the immutable [`Snapshot`] that everybody
//! else reads. `desk` is where operators look and give orders, `mrt` and `tap` write for their
//! tools, `kernel` gives the box itself what it asked for. Nothing is announced but `announce`'s
//! few addresses; nothing here knows of content.

mod announce;
mod budget;
mod desk;
mod detail;
mod gauges;
mod handle;
mod import;
mod ingest;
mod kernel;
mod limits;
mod listener;
mod memory;
mod metrics;
mod mrt;
mod net;
mod options;
mod outbox;
mod password;
mod peer;
mod pipe;
mod policy;
mod publish;
mod rib;
mod session;
mod tap;
pub mod wire;

#[cfg(test)]
mod tests_support;

use crate::route::Asn;
use crate::route::Class;
use crate::route_table::RouteTable;
use crate::set_hash::SetHash;
use serde::Serialize;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use desk::Order;
pub use desk::OrderError;
pub use detail::Detail;
pub use handle::Handle;
pub use handle::Keys;
pub use handle::start;
pub use kernel::KernelRouteView;
pub use limits::LimitView;
pub use memory::MemoryNet;
pub use mrt::TableDump;
pub use net::ByteStream;
pub use net::Dial;
pub use net::Expected;
pub use net::Guard;
pub use net::Link;
pub use net::Listener;
pub use net::Net;
pub use net::Tcp;
pub use options::Role;
pub use options::SessionConfig;
pub use options::TransportConfig;
pub use password::Unusable;
pub use policy::Accept;
pub use policy::Lengths;
pub use policy::LengthsError;
pub use policy::LimitAction;
pub use policy::OwnPolicy;
pub use policy::Policy;
pub use session::SessionFacts;
pub use tap::TapPage;

/// `[bgp]` and `[[bgp.neighbour]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    /// Our AS; one that the partner configures as the neighbour's.
    pub asn: Asn,
    /// BGP identifier (RFC 6286): any non-zero address of the box.
    pub router_id: Ipv4Addr,
    /// Where neighbours may connect to us. Empty: only active sessions. Default `[::]:179`.
    pub listen: Vec<SocketAddr>,
    pub neighbours: Vec<NeighbourConfig>,
    pub policy: OwnPolicy,
}

/// `[[bgp.neighbour]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NeighbourConfig {
    /// Unique; names the session in reports, logs and answers.
    pub name: String,
    pub address: IpAddr,
    /// Default 179.
    pub port: u16,
    pub asn: Asn,
    pub class: Class,
    /// Source of our own connections; also tells sessions apart that come from one address.
    pub local_address: Option<IpAddr>,
    /// Never connect, only wait. Default false.
    pub passive: bool,
    /// Negotiated down to the neighbour's. Default 90 s; at least 3 s.
    pub hold_time: Duration,
    /// Default 30 s, jittered (RFC 4271 section 10).
    pub connect_retry: Duration,
    /// Of IPv4; `policy` has the one of IPv6, and what happens beyond. Default 1,500,000.
    pub max_prefixes: u32,
    /// Drop bogons from steering. Default true; laboratories and documentation prefixes: `none`.
    pub bogons: Bogons,
    pub transport: TransportConfig,
    pub session: SessionConfig,
    pub policy: Policy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bogons {
    /// The built-in list of address space and AS numbers.
    Default,
    None,
}

/// Everything learned, at one moment. Immutable; `generation` grows with each change of `routes`.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub generation: u64,
    /// Of the items (`Route::item`) of all routes, filtered ones too.
    pub hash: SetHash,
    /// By prefix, then neighbour. Filtered routes stay visible.
    pub routes: RouteTable,
    pub steerable: usize,
    /// In the order of the configuration.
    pub neighbours: Vec<NeighbourView>,
}

/// One row of `oca show bgp`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NeighbourView {
    pub name: String,
    pub address: IpAddr,
    pub asn: Asn,
    pub class: Class,
    /// RFC 4271 section 8.2.2: `idle`, `connect`, `active`, `open-sent`, `open-confirm`,
    /// `established`.
    pub state: &'static str,
    /// Routes in its Adj-RIB-In, filtered ones too.
    pub routes: usize,
    pub filtered: usize,
    /// Since it is established.
    pub uptime_s: Option<u64>,
    /// In words, with whose fault it was: bounded and printable.
    pub last_error: Option<String>,
    pub session: SessionFacts,
}

/// What the room needs from outside.
#[derive(Clone, Debug)]
pub struct Seams {
    pub net: Arc<dyn Net>,
    /// Of all jitter.
    pub seed: u64,
}

impl Seams {
    /// Sockets, and a seed of its own.
    pub fn real() -> Self {
        Self {
            net: Arc::new(Tcp),
            seed: fastrand::u64(..),
        }
    }
}

/// Why the speaker could not be started. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum BgpError {
    #[error(
        "[bgp] listen {address}: {error}; another BGP speaker may have it, and ports below 1024 \
         need CAP_NET_BIND_SERVICE; set listen to another address, or to [] for active sessions \
         only"
    )]
    Listen {
        address: SocketAddr,
        error: std::io::Error,
    },
    #[error("two [[bgp.neighbour]] are named `{name}`; names must be unique")]
    SameName { name: String },
    #[error(
        "the neighbours `{one}` and `{other}` have one address; give them different \
         local_address or port"
    )]
    SameAddress { one: String, other: String },
    #[error("the password_file {} of the neighbour `{neighbour}` {problem}", path.display())]
    Password {
        neighbour: String,
        path: PathBuf,
        problem: String,
    },
    #[error(
        "the neighbour `{neighbour}` wants TCP-AO (tcp_ao_id), which this kernel does not have; \
         it needs Linux 6.7 built with CONFIG_TCP_AO. Leave tcp_ao_id out for TCP-MD5, on the \
         router too"
    )]
    NoTcpAo { neighbour: String },
    #[error(
        "the password of the neighbour `{neighbour}` is a key of TCP-AO (tcp_ao_id), which a reload \
         cannot replace; restart oca"
    )]
    FixedKey { neighbour: String },
    #[error(
        "[bgp] kernel_routes: the kernel's routes cannot be changed ({0}); grant CAP_NET_ADMIN (a \
         drop-in of oca.service: AmbientCapabilities= and CapabilityBoundingSet=), or leave the \
         key out"
    )]
    KernelRoutes(std::io::Error),
}
