//! Viewers and players ask here: which box for this client and this key?
//!
//! `listener` accepts (plain HTTP and HTTPS) within `crowd`'s bounds and runs each connection →
//! `requests` reads the question, asks [`Steering`] or [`Liveness`], writes JSON. Everything is in
//! memory; nothing here waits for a database. docs/STEERING.md is the contract.

mod listener;
mod requests;

use crate::control::api::crowd::Room;
use crate::control::liveness::Liveness;
use crate::control::steer::Steering;
use crate::telemetry;
use crate::tls::TlsError;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use listener::Door;
pub use listener::Handle;
pub use listener::start;

/// What the listener needs from the wiring.
#[derive(Clone, Debug)]
pub struct Deps {
    pub steering: Arc<Steering>,
    pub liveness: Arc<Liveness>,
    pub limits: Limits,
    pub metrics: telemetry::Registry,
}

/// The listener's bounds; tests lower them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub connections: usize,
    /// Many homes share an address behind a provider's NAT; an IPv6 /64 counts as one.
    pub connections_per_address: usize,
    pub handshake_time: Duration,
    /// For a request's head, and between requests.
    pub idle: Duration,
    /// For a request's body.
    pub body_time: Duration,
    /// Then a connection ends after its request, so that nobody keeps a place for ever.
    pub life: Duration,
}

impl Limits {
    fn room(&self) -> Room {
        Room {
            connections: self.connections,
            connections_per_address: self.connections_per_address,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_address: 1_000,
            handshake_time: Duration::from_secs(10),
            idle: Duration::from_secs(15),
            body_time: Duration::from_secs(5),
            life: Duration::from_secs(300),
        }
    }
}

/// Why the listener could not be started. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum PublicListenerError {
    #[error("[public] {address}: {error}; is another process there, or is it not our address?")]
    Bind {
        address: SocketAddr,
        error: std::io::Error,
    },
    #[error("[public] listen needs a `[[public.certificate]]` with a chain and a key")]
    NoCertificate,
    #[error("[public] {0}")]
    Tls(#[from] TlsError),
}
