//! TLS material: certificates chosen by server name, session tickets, one provider (aws-lc-rs).
//!
//! `serve` runs the protocol (`serve/handshake.rs`); this room only makes and checks the
//! `rustls::ServerConfig`, and knows what clients of public authorities trust (`roots`). `record`
//! opens and seals records for `serve::kernel` and `fill::fetch` once rustls has given its keys
//! away. Tokens of signed URLs are in `token`.

mod certificate;
mod der;
pub mod record;
mod roots;
pub mod token;

use crate::clock::Wall;
use certificate::ByName;
use rustls::CipherSuite;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::server::ProducesTickets;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;

pub use roots::RootsError;
pub use roots::web_client;

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

/// The keys of session tickets. They outlive reloads, so that viewers resume across them; they
/// change by themselves every few hours and die with the process.
#[derive(Clone, Debug)]
pub struct Tickets(Arc<dyn ProducesTickets>);

/// Everything `serve` needs to speak TLS.
#[derive(Debug)]
pub struct Material {
    pub config: Arc<ServerConfig>,
    pub certificates: Vec<CertificateView>,
}

/// One row of `oca show tls`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificateView {
    pub chain: PathBuf,
    /// Names and addresses it is valid for.
    pub names: Vec<String>,
    /// RFC 3339.
    pub not_before: String,
    /// RFC 3339.
    pub not_after: String,
}

/// Why TLS material was refused. Each message names the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(
        "HTTPS is to be served, but there is no `[[serve.tls.certificate]]`; add a chain and key"
    )]
    NoCertificate,
    #[error("{path}: {problem}; expected a PEM file that this process may read")]
    Pem { path: PathBuf, problem: String },
    #[error(
        "{path}: no certificate in the file; put the leaf first, then its intermediates, as PEM"
    )]
    EmptyChain { path: PathBuf },
    #[error("{path}: not a certificate this program can read: {problem}")]
    Certificate { path: PathBuf, problem: String },
    #[error(
        "{path}: {problem}; expected an RSA, ECDSA or Ed25519 key as PKCS #8, SEC 1 or PKCS #1"
    )]
    Key { path: PathBuf, problem: String },
    #[error("{key} is not the key of the first certificate in {chain}; pair them, leaf first")]
    Mismatch { chain: PathBuf, key: PathBuf },
    #[error("{path}: the certificate ended at {at}; renew it")]
    Expired { path: PathBuf, at: Wall },
    #[error("{path}: the certificate begins at {at}; check this box's clock, or use another one")]
    NotYetValid { path: PathBuf, at: Wall },
    #[error("the TLS library refused its set-up: {0}")]
    Library(#[from] rustls::Error),
}

impl Tickets {
    pub fn new() -> Result<Self, TlsError> {
        Ok(Self(rustls::crypto::aws_lc_rs::Ticketer::new()?))
    }
}

/// What becomes of a certificate outside its validity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// On reload: the old one goes on.
    Refused,
    /// At start: a box whose clock is not set yet, or one of whose names has lapsed, must still
    /// serve the others.
    Logged,
}

/// Loads and checks every certificate and builds the configuration. Changes nothing elsewhere.
pub fn load(
    config: &Config,
    tickets: &Tickets,
    now: Wall,
    outside: Outside,
) -> Result<Material, TlsError> {
    let provider = Arc::new(provider());
    let mut pairs = Vec::new();
    for pair in &config.certificates {
        pairs.push(certificate::load(pair, &provider, now, outside)?);
    }
    let certificates = pairs.iter().map(|pair| pair.view.clone()).collect();
    let by_name = ByName::new(pairs).ok_or(TlsError::NoCertificate)?;
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(by_name));
    server.ticketer = Arc::clone(&tickets.0);
    // Tickets carry the state; a cache of sessions would be a lock shared by all workers.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.ignore_client_order = true;
    // One long response is one HTTP/1.1 stream: framing it as HTTP/2 would quadruple its cost.
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Early data can be replayed, and with it a viewer's token.
    server.max_early_data_size = 0;
    // For the hand-over to kernel TLS.
    server.enable_secret_extraction = true;
    Ok(Material {
        config: Arc::new(server),
        certificates,
    })
}

/// aws-lc-rs with AES-128-GCM first: half the rounds of AES-256, and what NICs and kernels offload.
fn provider() -> CryptoProvider {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| {
        let aes_128 = matches!(
            suite.suite(),
            CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        );
        (suite.tls13().is_none(), !aes_128)
    });
    provider
}

#[cfg(test)]
mod tests;
