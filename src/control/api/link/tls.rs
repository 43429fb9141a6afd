//! TLS of the link: our certificate, and client certificates of our own authority.
//!
//! A client certificate is optional here, because enrolment has none; `requests` asks for it where
//! it must be. One that ended less than 30 days ago passes, so that a box that was off can renew
//! it; `requests` lets it do nothing else. Reads the clock through rustls.

use super::LinkListenerError;
use super::peer;
use crate::clock;
use crate::link::identity::RENEWABLE_AFTER_END;
use rustls::CertificateError;
use rustls::DigitallySignedStruct;
use rustls::DistinguishedName;
use rustls::Error;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::SignatureScheme;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::UnixTime;
use rustls::server::NoServerSessionStorage;
use rustls::server::ResolvesServerCert;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerified;
use rustls::server::danger::ClientCertVerifier;
use rustls::time_provider::TimeProvider;
use std::sync::Arc;
use std::time::Duration;

/// The listener's TLS: `certificate` is asked at each handshake, so that it may be replaced;
/// `authority` signs boxes.
pub fn server_config(
    authority: &[CertificateDer<'static>],
    certificate: Arc<dyn ResolvesServerCert>,
) -> Result<Arc<ServerConfig>, LinkListenerError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for root in authority {
        roots
            .add(root.clone())
            .map_err(|error| LinkListenerError::Authority(error.to_string()))?;
    }
    let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| LinkListenerError::Authority(error.to_string()))?;
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(HouseClock))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(Verifier { inner }))
        .with_cert_resolver(certificate);
    // Boxes keep their connection. A resumed session would only skip checks.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The calendar of `clock`, which a test may pin.
#[derive(Debug)]
struct HouseClock;

impl TimeProvider for HouseClock {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = clock::unix_seconds(clock::wall());
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

#[derive(Debug)]
struct Verifier {
    inner: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verdict = self
            .inner
            .verify_client_cert(end_entity, intermediates, now);
        let Err(Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) = &verdict
        else {
            return verdict;
        };
        let Ok(ends) = peer::ends(end_entity) else {
            return verdict;
        };
        let ended = UnixTime::since_unix_epoch(Duration::from_secs(clock::unix_seconds(ends)));
        if now.as_secs().saturating_sub(ended.as_secs()) > RENEWABLE_AFTER_END.as_secs() {
            return verdict;
        }
        // Everything else about it must have been right while it was valid.
        self.inner
            .verify_client_cert(end_entity, intermediates, ended)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
