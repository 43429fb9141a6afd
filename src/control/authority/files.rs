//! The authority's files: made once, readable by their owner only, durable before they are used.
//!
//! A key that was lost is never replaced silently: every box has the authority pinned, and a new
//! one would lock the whole fleet out.
//!
//! I/O: reads and writes below `state_dir`. Blocks; called at start.

use super::Authority;
use super::AuthorityError;
use super::issue;
use crate::clock::Wall;
use crate::durable;
use crate::link::manifest::Signer;
use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::fs::File;
use std::io;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// PEM, PKCS #8.
const AUTHORITY_KEY: &str = "authority.key";
const AUTHORITY_CERTIFICATE: &str = "authority.pem";
/// DER, PKCS #8.
const MANIFEST_KEY: &str = "manifest.key";

const LOST_KEY: &str = "the key is gone while its certificate is there; restore it from a \
    backup. Without one, remove authority.pem as well: a fresh authority is made, and every box \
    has to be provisioned and enrolled again";
const LOST_CERTIFICATE: &str = "the certificate is gone while its key is there; restore it from a \
    backup, or take it from a box: identity/ca.pem. Without either, remove authority.key as well: \
    a fresh authority is made, and every box has to be provisioned and enrolled again";

/// Keys and certificates have a few hundred bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

impl Authority {
    /// Loads the authority from `state_dir`; makes it when there is none. Blocks.
    pub fn open(state_dir: &Path, now: Wall) -> Result<Self, AuthorityError> {
        let path = |name: &str| state_dir.join(name);
        let key = read(&path(AUTHORITY_KEY), Secret::Yes)?;
        let pem = read(&path(AUTHORITY_CERTIFICATE), Secret::No)?;
        let (key, pem) = match (key, pem) {
            (Some(key), Some(pem)) => (pair(&key, &path(AUTHORITY_KEY))?, text(pem)),
            (None, Some(_)) => return Err(lost(path(AUTHORITY_KEY), LOST_KEY)),
            // Made last: the first start came to its end, and boxes have pinned what is gone.
            (Some(_), None) if path(MANIFEST_KEY).exists() => {
                return Err(lost(path(AUTHORITY_CERTIFICATE), LOST_CERTIFICATE));
            }
            // A start that was cut short: nobody has seen a certificate of this key.
            (Some(key), None) => {
                let key = pair(&key, &path(AUTHORITY_KEY))?;
                let pem = issue::authority(&key, now)?;
                keep(&path(AUTHORITY_CERTIFICATE), pem.as_bytes(), 0o644)?;
                (key, pem)
            }
            (None, None) => {
                let key = KeyPair::generate()?;
                let pem = issue::authority(&key, now)?;
                keep(&path(AUTHORITY_KEY), key.serialize_pem().as_bytes(), 0o600)?;
                keep(&path(AUTHORITY_CERTIFICATE), pem.as_bytes(), 0o644)?;
                (key, pem)
            }
        };
        let failed = |problem: String| AuthorityError::File {
            path: path(AUTHORITY_CERTIFICATE),
            problem,
        };
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| failed(format!("not a PEM certificate: {error}")))?;
        if !issue::belongs(&certificate, &key) {
            let problem = "its key is another one than authority.key; restore both from one backup";
            return Err(failed(problem.to_owned()));
        }
        let issuer = rcgen::Issuer::from_ca_cert_der(&certificate, key)?;
        let signer = Arc::new(signer(&path(MANIFEST_KEY))?);
        Ok(Self {
            issuer,
            certificate,
            pem,
            signer,
        })
    }
}

fn signer(path: &Path) -> Result<Signer, AuthorityError> {
    let failed = |problem: String| AuthorityError::File {
        path: path.to_owned(),
        problem,
    };
    if let Some(pkcs8) = read(path, Secret::Yes)? {
        let signer = Signer::from_pkcs8(&pkcs8);
        return signer.map_err(|error| failed(format!("{error}; restore it from a backup")));
    }
    let signer = Signer::generate().map_err(|error| failed(error.to_string()))?;
    keep(path, signer.pkcs8(), 0o600)?;
    Ok(signer)
}

fn pair(pem: &[u8], path: &Path) -> Result<KeyPair, AuthorityError> {
    let read = std::str::from_utf8(pem).ok().map(KeyPair::from_pem);
    match read {
        Some(Ok(pair)) => Ok(pair),
        Some(Err(_)) | None => Err(AuthorityError::File {
            path: path.to_owned(),
            problem: "not a private key in PEM (PKCS #8); restore it from a backup".to_owned(),
        }),
    }
}

fn lost(path: PathBuf, problem: &str) -> AuthorityError {
    let problem = problem.to_owned();
    AuthorityError::File { path, problem }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_default()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Secret {
    Yes,
    No,
}

/// `None`: there is no such file.
fn read(path: &Path, secret: Secret) -> Result<Option<Vec<u8>>, AuthorityError> {
    let failed = |problem: String| AuthorityError::File {
        path: path.to_owned(),
        problem,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error.to_string())),
    };
    let about = file.metadata().map_err(|error| failed(error.to_string()))?;
    if secret == Secret::Yes && about.permissions().mode() & 0o077 != 0 {
        let problem = "others than its owner may read this key; if nobody has, `chmod 600` it";
        return Err(failed(problem.to_owned()));
    }
    let mut bytes = Vec::new();
    let mut bounded = file.take(FILE_BYTES_MAX);
    let read = bounded.read_to_end(&mut bytes);
    read.map_err(|error| failed(error.to_string()))?;
    Ok(Some(bytes))
}

/// Whole or not at all, and still there after a power failure.
fn keep(path: &Path, bytes: &[u8], mode: u32) -> Result<(), AuthorityError> {
    durable::replace(path, bytes, mode).map_err(|error| AuthorityError::File {
        path: path.to_owned(),
        problem: error.to_string(),
    })
}
