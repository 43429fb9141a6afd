//! THE PRIVATE CERTIFICATE AUTHORITY: who boxes are, and what they believe.
//!
//! `files` keeps the keys below `state_dir`, made at the first start → `issue` makes certificates:
//! the link listener's own, and one for each box's key → `token` makes the one-time secrets of
//! provisioning → `enrolment` turns a token into an identity, and an identity into a later one.
//! `listener` keeps the link listener's certificate fresh.
//!
//! A box's name is in its certificate's URI SAN and comes from the registry, never from a request.

mod enrolment;
mod files;
mod issue;
mod listener;
pub mod token;

use crate::clock::Wall;
use crate::link::manifest::Signer;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use enrolment::Enrolment;
pub use listener::LinkCertificate;

/// Of a box's certificate. Two weeks: a stolen one is useless soon, and a box that renews at a
/// third of it survives nine days without its control plane.
pub const BOX_VALIDITY: Duration = Duration::from_secs(14 * 86_400);

/// Of the link listener's certificate; made anew at each start and well before its end.
pub const SERVER_VALIDITY: Duration = Duration::from_secs(14 * 86_400);

/// Of the authority itself: its fingerprint is pinned by every box.
const AUTHORITY_VALIDITY: Duration = Duration::from_secs(3_653 * 86_400);

/// A box whose clock is a little behind must not find its certificate in the future.
const BACKDATED: Duration = Duration::from_secs(3_600);

/// The authority's key and certificate, and the key that signs manifests.
pub struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    signer: Arc<Signer>,
}

/// What the link listener shows.
#[derive(Debug)]
pub struct ServerCertificate {
    /// Leaf first; boxes have the authority itself pinned, so it comes along.
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    pub ends: Wall,
    /// When to make the next one: two thirds of the validity.
    pub renew_at: Wall,
}

/// What a box gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoxCertificate {
    /// PEM, the leaf alone; the authority travels beside it.
    pub pem: String,
    /// Of the key in it: [`crate::link::identity::fingerprint`].
    pub key_fingerprint: String,
    pub ends: Wall,
}

/// Why the authority cannot be used or did not sign. The message names the remedy.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("{path}: {problem}")]
    File { path: PathBuf, problem: String },
    /// The asker's fault.
    #[error("the request for a certificate is refused: {0}")]
    Request(String),
    #[error("the link listener's certificate cannot be used: {0}")]
    Listener(String),
    #[error("a certificate cannot be made: {0}")]
    Library(#[from] rcgen::Error),
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("fingerprint", &self.fingerprint())
            .finish_non_exhaustive()
    }
}
