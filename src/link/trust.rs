//! Whom the box believes: exactly the certificate authority that its provisioning pins.
//!
//! [`super::connection`] takes its TLS configuration from here. Before the enrolment the authority
//! must be in the chain that the control plane presents; afterwards the stored one is used. There
//! are no other roots, and no way to go on with a doubtful one.

use super::error::LinkError;
use super::identity::Identity;
use super::identity::IdentityError;
use super::identity::ca_fingerprint;
use crate::clock;
use crate::help::printable;
use rustls::CertificateError;
use rustls::ClientConfig;
use rustls::DigitallySignedStruct;
use rustls::Error;
use rustls::OtherError;
use rustls::RootCertStore;
use rustls::SignatureScheme;
use rustls::client::Resumption;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::verify_tls12_signature;
use rustls::crypto::verify_tls13_signature;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use std::sync::Arc;
use std::time::Duration;

/// Wall time as everybody else has it, so that it can be pinned in tests.
#[derive(Debug)]
pub(super) struct Clock;

#[derive(Debug)]
struct Pinned {
    pin: String,
    /// The stored authority, whose fingerprint is the pin.
    known: Option<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

/// Carried through rustls as its "other" certificate error.
#[derive(Debug, thiserror::Error)]
#[error("the authority has the fingerprint {presented}, not {pinned}")]
struct WrongAuthority {
    presented: String,
    pinned: String,
}

/// With the box's certificate, or without one for the enrolment.
pub(super) fn client_config(
    identity: &Identity,
    with_certificate: bool,
) -> Result<Arc<ClientConfig>, LinkError> {
    let failed = |error: Error| IdentityError::Certificate(error.to_string());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let credentials = identity.credentials();
    let verifier = Pinned {
        pin: identity.pin().to_owned(),
        known: credentials.map(|credentials| credentials.ca.clone()),
        provider: Arc::clone(&provider),
    };
    let builder = ClientConfig::builder_with_details(provider, Arc::new(Clock))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match credentials.filter(|_| with_certificate) {
        Some(credentials) => builder
            .with_client_auth_cert(credentials.chain.clone(), identity.key())
            .map_err(failed)?,
        None if with_certificate => return Err(LinkError::NotEnrolled),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Every connection shows the certificate again: a revoked one must not live on in a ticket.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = clock::unix_seconds(clock::wall());
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let is_pinned = |ca: &&CertificateDer<'_>| ca_fingerprint(ca) == self.pin;
        let presented = intermediates.iter().find(is_pinned);
        let wrong = || {
            let last = intermediates.last().unwrap_or(end_entity);
            let wrong = WrongAuthority {
                presented: ca_fingerprint(last),
                pinned: self.pin.clone(),
            };
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(wrong))))
        };
        let ca = self.known.as_ref().or(presented).ok_or_else(wrong)?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let provider = Arc::clone(&self.provider);
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        let verdict =
            verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let is_strange = matches!(
            verdict,
            Err(Error::InvalidCertificate(
                // The second is an authority of the same name with another key.
                CertificateError::UnknownIssuer | CertificateError::BadSignature
            ))
        );
        if is_strange && presented.is_none() {
            return Err(wrong());
        }
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// What a failed handshake, read or write means, when TLS is in it; otherwise the network's word.
pub(super) fn explain(url: &str, error: &(dyn std::error::Error + 'static)) -> LinkError {
    let url = url.to_owned();
    match find(error) {
        Some(Error::InvalidCertificate(problem)) => {
            if let CertificateError::Other(OtherError(other)) = problem
                && let Some(wrong) = other.downcast_ref::<WrongAuthority>()
            {
                return LinkError::Authority {
                    url,
                    presented: wrong.presented.clone(),
                    pinned: wrong.pinned.clone(),
                };
            }
            LinkError::Certificate {
                url,
                problem: advice(problem),
            }
        }
        Some(Error::AlertReceived(alert)) => LinkError::Rejected {
            url,
            problem: format!("TLS alert {alert:?}"),
        },
        Some(other) => LinkError::Unreachable {
            url,
            problem: printable(format!("TLS failed: {other}").as_bytes(), 300),
        },
        None => LinkError::Unreachable {
            url,
            problem: innermost(error),
        },
    }
}

fn advice(problem: &CertificateError) -> String {
    let words = printable(problem.to_string().as_bytes(), 300);
    let in_time = matches!(
        problem,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    );
    let named = matches!(
        problem,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
    );
    let remedy = if in_time {
        "; it must be renewed there, unless this box's clock is wrong"
    } else if named {
        "; `[link] names` of the control plane must have the name in `[control] url`"
    } else {
        ""
    };
    format!("{words}{remedy}")
}

/// The TLS error in a chain of causes; `io::Error` hides its own behind `get_ref`.
fn find<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<Error>() {
            return Some(found);
        }
        let inner = error
            .downcast_ref::<std::io::Error>()
            .and_then(|error| error.get_ref())
            .and_then(|inner| inner.downcast_ref::<Error>());
        if inner.is_some() {
            return inner;
        }
        next = error.source();
    }
    None
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(inner) = last.source() {
        last = inner;
    }
    printable(last.to_string().as_bytes(), 300)
}
