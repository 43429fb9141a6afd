//! The wire between an appliance and its control plane, version 1. Both sides import it;
//! docs/LINK.md is the contract for everybody else.
//!
//! `message` has every JSON body → `body` reads and writes them, compressed and bounded → `steps`
//! are what catalogue and routes send → `manifest` signs and verifies, `ticket` and `permit` too →
//! `sources` bounds what is believed of who has what →
//! `identity` is the box's key and certificate → `client` is the box's side of the connection, over
//! `dial`, at the times of `timing`; `peering` is how boxes meet each other, `held` and `digest`
//! what they tell of an object.

pub mod body;
pub mod client;
mod connection;
pub mod dial;
pub mod digest;
mod error;
pub mod held;
mod hex;
pub mod identity;
pub mod manifest;
pub mod message;
pub mod peering;
pub mod permit;
pub mod seal;
pub mod sources;
pub mod steps;
pub mod ticket;
pub mod timing;
mod trust;

use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// `[control]` of the box.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    /// `https://<host>[:<port>]` of the link listener.
    pub url: String,
    /// `sha256:<64 hex>`: fingerprint of the control plane's certificate authority, pinned.
    pub ca: String,
    /// The one-time token of the provisioning file; needed until the box is enrolled.
    pub token_file: Option<PathBuf>,
    /// Directory of the key and the certificate, made by the box. Default `/var/lib/oca/identity`.
    pub identity: PathBuf,
    /// Until a reply says otherwise. Default 5 min.
    pub report_every: Duration,
    /// Default 10 s.
    pub heartbeat_every: Duration,
    /// Between two reports that only tell of objects that came. Default 1 min.
    pub growth_every: Duration,
}
