//! TLS material: certificates chosen by server name, session tickets, one provider (aws-lc-rs).
//!
//! `serve` runs the protocol (`serve/handshake.rs`); this room only makes and checks the
//! `rustls::ServerConfig`. Tokens of signed URLs will live here too.

use serde::Serialize;
use std::path::PathBuf;

/// `[serve.tls]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    /// Each pair is offered for the names in its certificate; the first is the default.
    pub certificates: Vec<CertificateConfig>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificateConfig {
    /// PEM, leaf first.
    pub chain: PathBuf,
    /// PEM; PKCS #8, SEC 1 or PKCS #1.
    pub key: PathBuf,
}
