//! Certificates: loading a pair, checking it, choosing one by server name.
//!
//! I/O: reads PEM files (at start and reload).

use super::CertificateConfig;
use super::CertificateView;
use super::Outside;
use super::TlsError;
use super::der;
use crate::clock::Wall;
use jiff::SignedDuration;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::ClientHello;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// A certificate that ends sooner is warned of: automatic renewals happen well before.
const WARN_BEFORE: SignedDuration = SignedDuration::from_hours(14 * 24);

/// Certificates of one chain file.
const CHAIN_MAX: usize = 16;

/// A checked chain with its key.
#[derive(Debug)]
pub(super) struct Pair {
    certified: Arc<CertifiedKey>,
    pub(super) view: CertificateView,
}

/// Chooses by the name the viewer asked for; the first pair where none fits.
#[derive(Debug)]
pub(super) struct ByName {
    default: Arc<CertifiedKey>,
    exact: BTreeMap<String, Arc<CertifiedKey>>,
    /// By the name behind `*.`.
    wildcard: BTreeMap<String, Arc<CertifiedKey>>,
}

/// Loads one pair and checks that it can be offered now.
pub(super) fn load(
    config: &CertificateConfig,
    provider: &CryptoProvider,
    now: Wall,
    outside: Outside,
) -> Result<Pair, TlsError> {
    must_be_a_file(&config.chain)?;
    must_be_a_file(&config.key)?;
    let chain = chain(&config.chain)?;
    let leaf = chain.first().map(AsRef::as_ref).unwrap_or_default();
    let facts = der::read(leaf).map_err(|problem| TlsError::Certificate {
        path: config.chain.clone(),
        problem: problem.to_owned(),
    })?;
    if let Err(problem) = in_its_time(&facts, config, now) {
        match outside {
            Outside::Refused => return Err(problem),
            Outside::Logged => tracing::error!("{problem}; viewers will refuse it"),
        }
    }
    let key_error = |problem: String| TlsError::Key {
        path: config.key.clone(),
        problem,
    };
    let key = PrivateKeyDer::from_pem_file(&config.key)
        .map_err(|error| key_error(pem_problem(&error)))?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| key_error(error.to_string()))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        // A key that cannot tell its public half is checked by the first handshake.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            return Err(TlsError::Mismatch {
                chain: config.chain.clone(),
                key: config.key.clone(),
            });
        }
        Err(error) => {
            return Err(TlsError::Certificate {
                path: config.chain.clone(),
                problem: error.to_string(),
            });
        }
    }
    warn_of_the_end(&facts, config, now);
    Ok(Pair {
        certified: Arc::new(certified),
        view: CertificateView {
            chain: config.chain.clone(),
            names: facts.names,
            not_before: facts.not_before.to_string(),
            not_after: facts.not_after.to_string(),
        },
    })
}

/// Renewals that nobody noticed failing show here, while there is time.
fn warn_of_the_end(facts: &der::Leaf, config: &CertificateConfig, now: Wall) {
    let left = facts.not_after.duration_since(now);
    if left > SignedDuration::ZERO && left < WARN_BEFORE {
        let (path, at, days) = (
            config.chain.display(),
            facts.not_after,
            left.as_hours() / 24,
        );
        tracing::warn!(%at, days, "{path}: the certificate ends in {days} days; renew it");
    }
}

fn in_its_time(facts: &der::Leaf, config: &CertificateConfig, now: Wall) -> Result<(), TlsError> {
    let path = config.chain.clone();
    if now > facts.not_after {
        let at = facts.not_after;
        return Err(TlsError::Expired { path, at });
    }
    if now < facts.not_before {
        let at = facts.not_before;
        return Err(TlsError::NotYetValid { path, at });
    }
    Ok(())
}

/// Opening a pipe would wait for its writer, and a device may have no end: a reload must not hang.
fn must_be_a_file(path: &Path) -> Result<(), TlsError> {
    match std::fs::metadata(path) {
        Ok(about) if !about.is_file() => Err(TlsError::Pem {
            path: path.to_owned(),
            problem: "is not a file".to_owned(),
        }),
        // Whoever opens it says why it cannot.
        Ok(_) | Err(_) => Ok(()),
    }
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = |error| TlsError::Pem {
        path: path.to_owned(),
        problem: pem_problem(&error),
    };
    let file = CertificateDer::pem_file_iter(path).map_err(pem)?;
    let chain: Vec<_> = file
        .take(CHAIN_MAX)
        .collect::<Result<_, _>>()
        .map_err(pem)?;
    if chain.is_empty() {
        return Err(TlsError::EmptyChain {
            path: path.to_owned(),
        });
    }
    Ok(chain)
}

fn pem_problem(error: &rustls::pki_types::pem::Error) -> String {
    use rustls::pki_types::pem::Error;
    if let Error::Io(error) = error {
        return error.to_string();
    }
    if matches!(error, Error::NoItemsFound) {
        return "nothing of the expected kind in the file".to_owned();
    }
    format!("not valid PEM ({error:?})")
}

impl ByName {
    pub(super) fn new(pairs: Vec<Pair>) -> Option<Self> {
        let default = Arc::clone(&pairs.first()?.certified);
        let (mut exact, mut wildcard) = (BTreeMap::new(), BTreeMap::new());
        for pair in pairs {
            for name in pair.view.names {
                let key = Arc::clone(&pair.certified);
                // The first pair that has a name keeps it, as the order in the file suggests.
                match name.strip_prefix("*.") {
                    Some(parent) => wildcard.entry(parent.to_owned()).or_insert(key),
                    None => exact.entry(name).or_insert(key),
                };
            }
        }
        Some(Self {
            default,
            exact,
            wildcard,
        })
    }

    fn choose(&self, name: Option<&str>) -> &Arc<CertifiedKey> {
        let found = name.and_then(|name| {
            // rustls gives the name in lower case and without a trailing dot.
            let parent = name.split_once('.').map(|(_, parent)| parent);
            let by_wildcard = || parent.and_then(|parent| self.wildcard.get(parent));
            self.exact.get(name).or_else(by_wildcard)
        });
        found.unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(self.choose(hello.server_name())))
    }
}

#[cfg(test)]
impl ByName {
    /// The leaf that would be offered for `name`.
    pub(super) fn leaf_for(&self, name: Option<&str>) -> Vec<u8> {
        self.choose(name).cert[0].to_vec()
    }
}
