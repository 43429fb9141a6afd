//! The box's key and certificate, and how either side reads the name and the key of the other.
//!
//! The box makes its key itself; it never leaves the box. [`super::client`] sends the request for a
//! certificate and hands what comes back to [`Identity::accept`]; the control plane reads a peer's
//! name with [`box_of`] and a request's key with [`key_fingerprint_of_csr`]. Nothing here dials.
//!
//! I/O: reads and writes the identity directory, at start and when a certificate is issued.

mod directory;
mod word;
mod x509;

#[cfg(test)]
mod tests;

use super::Config;
use super::manifest::Verifier;
use super::message::Enrolled;
use crate::clock::Wall;
use crate::ids::BoxId;
use rcgen::PublicKeyData;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use std::fmt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use word::is_word_of;
pub use x509::box_of;
pub use x509::box_uri;
pub use x509::ca_fingerprint;
pub use x509::fingerprint;
pub use x509::key_fingerprint_of_certificate;
pub use x509::key_fingerprint_of_csr;

/// How long after its end a certificate is still good for a renewal: an appliance that was in a
/// warehouse for some weeks comes back by itself.
pub const RENEWABLE_AFTER_END: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Certificates of one chain.
const CHAIN_MAX: usize = 8;

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
struct BoxKey(rcgen::KeyPair);

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
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error("{path}: {problem}")]
    File { path: PathBuf, problem: String },
    #[error("`{0}` is no fingerprint: write `sha256:<64 hexadecimal digits>`")]
    Pin(String),
    #[error("the certificate cannot be used: {0}")]
    Certificate(String),
    #[error("the request for a certificate cannot be used: {0}")]
    Request(String),
    #[error(
        "the certificate authority has the fingerprint {presented}, but provisioning pins \
         {pinned}: if the control plane was replaced, write its fingerprint to `[control] ca`, \
         remove certificate.pem and enrol with another token"
    )]
    Authority { presented: String, pinned: String },
    #[error(
        "the certificate was issued for another key; remove certificate.pem and enrol with \
         another token"
    )]
    Key,
    #[error(
        "the control plane issued a certificate for `{issued}`, but this box is `{own}`; if it was \
         renamed, remove certificate.pem and enrol with another token"
    )]
    Name { issued: String, own: String },
    #[error("no key could be made: {0}")]
    Library(String),
}

impl Identity {
    /// Loads the identity directory; makes it, and the key, when there is none. Blocks.
    pub fn open(config: &Config) -> Result<Self, IdentityError> {
        let path = &config.identity;
        directory::make(path)?;
        let key = match directory::read_key(path)? {
            Some(pem) => rcgen::KeyPair::from_pem(&pem).map_err(|error| IdentityError::File {
                path: path.join(directory::KEY),
                problem: format!("{error}; remove the directory and enrol with another token"),
            })?,
            None => {
                let key = make_key()?;
                directory::write(path, directory::KEY, &key.serialize_pem())?;
                key
            }
        };
        let mut identity = Self::with(&config.ca, key)?;
        if let Some(chain) = directory::read(path, directory::CERTIFICATE)? {
            let ca = must_read(path, directory::CA)?;
            let keys = must_read(path, directory::MANIFEST_KEYS)?;
            let keys = keys.lines().map(str::to_owned).collect();
            let credentials = identity.check(&chain, &ca, keys)?;
            identity.state = State::Enrolled(Arc::new(credentials));
        }
        identity.directory = Some(path.clone());
        Ok(identity)
    }

    /// A key in memory that is gone with the process: simulated boxes.
    pub fn transient(pin: &str) -> Result<Self, IdentityError> {
        Self::with(pin, make_key()?)
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
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .serialize_request(&self.key.0)
            .and_then(|request| request.pem())
            .map_err(|error| IdentityError::Library(error.to_string()))
    }

    /// The private key, for TLS.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.0.serialize_der().into())
    }

    /// Of the public key, as the registry binds it to the box's name.
    pub fn key_fingerprint(&self) -> String {
        fingerprint(&self.key.0.subject_public_key_info())
    }

    /// `sha256:<64 hex>` that the provisioning pins.
    pub fn pin(&self) -> &str {
        &self.pin
    }

    /// Checks what the control plane issued and keeps it. Blocks.
    pub fn accept(&mut self, enrolled: &Enrolled) -> Result<(), IdentityError> {
        let keys = enrolled.manifest_keys.clone();
        let credentials = self.check(&enrolled.certificate, &enrolled.ca, keys)?;
        let named = self.credentials().map(|before| before.id.as_str());
        let own = named.unwrap_or(&enrolled.id);
        if credentials.id.as_str() != own || enrolled.id != own {
            return Err(IdentityError::Name {
                issued: credentials.id.to_string(),
                own: crate::help::printable(own.as_bytes(), 80),
            });
        }
        if let Some(path) = &self.directory {
            let keys = enrolled.manifest_keys.join("\n");
            directory::write(path, directory::MANIFEST_KEYS, &keys)?;
            directory::write(path, directory::CA, &enrolled.ca)?;
            directory::write(path, directory::CERTIFICATE, &enrolled.certificate)?;
        }
        self.state = State::Enrolled(Arc::new(credentials));
        Ok(())
    }

    fn with(pin: &str, key: rcgen::KeyPair) -> Result<Self, IdentityError> {
        Ok(Self {
            directory: None,
            pin: parse_pin(pin)?,
            key: Arc::new(BoxKey(key)),
            state: State::Unenrolled,
        })
    }

    /// Everything but the name and the time: both may be wrong for good reasons at start.
    fn check(
        &self,
        chain: &str,
        ca: &str,
        manifest_keys: Vec<String>,
    ) -> Result<Credentials, IdentityError> {
        let chain = certificates(chain)?;
        let ca = certificates(ca)?.swap_remove(0);
        let presented = ca_fingerprint(&ca);
        if presented != self.pin {
            let pinned = self.pin.clone();
            return Err(IdentityError::Authority { presented, pinned });
        }
        let leaf = &chain[0];
        if key_fingerprint_of_certificate(leaf)? != self.key_fingerprint() {
            return Err(IdentityError::Key);
        }
        if !x509::is_signed_by(leaf, &ca)? {
            let problem = "it is not signed by the certificate authority it came with";
            return Err(IdentityError::Certificate(problem.to_owned()));
        }
        if manifest_keys.is_empty() {
            let problem = "no manifest key came with it, so that no manifest could be believed; \
                           remove certificate.pem and enrol with another token";
            return Err(IdentityError::Certificate(problem.to_owned()));
        }
        Verifier::new(&manifest_keys)
            .map_err(|error| IdentityError::Certificate(error.to_string()))?;
        let (not_before, not_after) = x509::validity(leaf)?;
        Ok(Credentials {
            id: box_of(leaf)?,
            chain,
            ca,
            manifest_keys,
            not_before,
            not_after,
        })
    }
}

impl Credentials {
    pub fn standing(&self, now: Wall) -> Standing {
        let renewable = self.not_after.checked_add(RENEWABLE_AFTER_END);
        if now < self.renew_at() {
            Standing::Fine
        } else if now <= self.not_after {
            Standing::RenewalDue
        } else if renewable.is_ok_and(|last| now <= last) {
            Standing::Ended
        } else {
            Standing::Lapsed
        }
    }

    /// When a third of its life has passed: two thirds are left for a control plane that is away.
    pub fn renew_at(&self) -> Wall {
        let life = self.not_after.duration_since(self.not_before);
        let third = self.not_before.checked_add(life / 3);
        third.unwrap_or(self.not_before)
    }
}

impl fmt::Debug for BoxKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxKey")
    }
}

fn make_key() -> Result<rcgen::KeyPair, IdentityError> {
    rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
        .map_err(|error| IdentityError::Library(error.to_string()))
}

fn must_read(path: &Path, name: &str) -> Result<String, IdentityError> {
    directory::read(path, name)?.ok_or_else(|| IdentityError::File {
        path: path.join(name),
        problem: "it is missing beside the certificate; remove certificate.pem and enrol with \
                  another token"
            .to_owned(),
    })
}

/// At least one.
fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let bad = |problem: &str| IdentityError::Certificate(problem.to_owned());
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .take(CHAIN_MAX + 1)
        .collect::<Result<_, _>>()
        .map_err(|_| bad("it is not PEM"))?;
    match chain.len() {
        0 => Err(bad("there is none in the text")),
        1..=CHAIN_MAX => Ok(chain),
        _ => Err(bad("the chain is too long")),
    }
}

/// Lower case, as we print fingerprints.
fn parse_pin(text: &str) -> Result<String, IdentityError> {
    let pin = text.trim().to_ascii_lowercase();
    let digits = pin.strip_prefix("sha256:").unwrap_or_default();
    if super::hex::decode::<32>(digits).is_some() {
        Ok(pin)
    } else {
        Err(IdentityError::Pin(crate::help::printable(
            text.as_bytes(),
            100,
        )))
    }
}
