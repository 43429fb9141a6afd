//! What other boxes fetch from this one: `GET /fill/<digest>` over mutual TLS.
//!
//! `listener` accepts within `limits` → the TLS peer's certificate says which box asks → `ticket`
//! checks the control plane's word (asker, source, digests, times, byte budget; SAFETY: fill) →
//! the store opens the object → `answer` sends the range, paced. Objects that are not whole and
//! verified are never sent. 404 and 429 are normal answers.

use crate::units::BytesPerSecond;
use serde::Serialize;
use std::net::SocketAddr;

/// `[serve.peer]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    /// Empty, the default: other boxes fetch nothing here. A fleet's boxes write `[::]:7443`.
    pub listen: Vec<SocketAddr>,
    /// Connections at a time; more are refused with 429. Default 64.
    pub connections: usize,
    /// All of them together. Default 1.2 Gbit/s.
    pub rate_limit: BytesPerSecond,
}
