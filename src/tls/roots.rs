//! The certificate authorities that an HTTPS origin is checked against: those of the system.
//!
//! `origin` (the control plane) and `fill` (the box) ask for them. A store of its own in the binary
//! would outlive the authorities in it, and would not know the operator's own authority, which
//! every system has a command to add.
//!
//! I/O: reads the system's bundle once a client.

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::path::Path;
use std::sync::Arc;

/// Debian and its kin, Red Hat and its kin, SUSE, Alpine.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Why nobody is trusted. The message names the file and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {problem}")]
pub struct RootsError {
    pub what: String,
    pub problem: String,
}

/// How a client of public or configured authorities trusts: `bundle`, or else the system's.
pub fn web_client(bundle: Option<&Path>) -> Result<Arc<ClientConfig>, RootsError> {
    let found = BUNDLES.iter().map(Path::new).find(|path| path.is_file());
    let path = bundle.or(found).ok_or_else(|| RootsError {
        what: "HTTPS".into(),
        problem: format!(
            "the system has no bundle of certificate authorities; install ca-certificates \
             (looked for {})",
            BUNDLES.join(", ")
        ),
    })?;
    let refused = |problem: String| RootsError {
        what: path.display().to_string(),
        problem,
    };
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| refused(error.to_string()))?;
    // One certificate that rustls cannot read must not cost the others.
    roots.add_parsable_certificates(certificates.filter_map(Result::ok));
    if roots.is_empty() {
        return Err(refused("no certificate in it can be read".into()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| refused(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
