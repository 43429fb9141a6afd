//! Mutual TLS between two boxes of one control plane, and from a box to the control plane's own
//! gateway.
//!
//! `fill::fetch` asks with [`box_client_config`], the `peer` listener answers with
//! [`box_server_config`]; either end believes exactly the stored authority and reads the other's
//! name with [`box_of`]. A configuration holds one certificate: whoever keeps it builds another
//! when [`Identity::credentials`] are others. Nothing here dials.

use super::connection::Endpoint;
use super::error::LinkError;
use super::identity;
use super::identity::Credentials;
use super::identity::Identity;
use super::identity::IdentityError;
use super::trust;
use crate::ids::BoxId;
use rustls::CertificateError;
use rustls::ClientConfig;
use rustls::DigitallySignedStruct;
use rustls::DistinguishedName;
use rustls::Error;
use rustls::OtherError;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::SignatureScheme;
use rustls::client::Resumption;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;
use rustls::server::NoServerSessionStorage;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerified;
use rustls::server::danger::ClientCertVerifier;
use std::sync::Arc;

/// Certificates of boxes, whichever end of the connection shows them.
///
/// Chain, validity and key usage are those of a *client* certificate at both ends: a box has no
/// other, and the control plane's server certificate cannot stand in for a box's.
#[derive(Debug)]
struct Boxes {
    inner: Arc<dyn ClientCertVerifier>,
    /// `None`: any box.
    expected: Option<BoxId>,
}

/// Carried through rustls as its "other" certificate error.
#[derive(Debug, thiserror::Error)]
enum WrongBox {
    #[error("the certificate is that of the box {presented}, not of {expected}")]
    Another { presented: BoxId, expected: BoxId },
    #[error("the certificate names no box")]
    Nobody,
}

/// To fetch from the box `expected`: TLS 1.3, this box's certificate, the stored authority alone.
/// The name or address that is dialled does not matter and is not sent.
pub fn box_client_config(
    identity: &Identity,
    expected: &BoxId,
) -> Result<Arc<ClientConfig>, LinkError> {
    let credentials = identity.credentials().ok_or(LinkError::NotEnrolled)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Boxes::new(credentials, &provider, Some(expected.clone()))?;
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(trust::Clock))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(credentials.chain.clone(), identity.key())
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.enable_sni = false;
    // Every connection shows both certificates: a revoked one must not live on in a session.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// To give to other boxes: TLS 1.3, this box's certificate, and a certificate of a box of the
/// stored authority at the other end.
pub fn box_server_config(identity: &Identity) -> Result<Arc<ServerConfig>, LinkError> {
    let credentials = identity.credentials().ok_or(LinkError::NotEnrolled)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Boxes::new(credentials, &provider, None)?;
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(trust::Clock))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(credentials.chain.clone(), identity.key())
        .map_err(unusable)?;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    // Large bodies are sealed by the kernel, which needs the keys.
    config.enable_secret_extraction = true;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// For `/v1/origin/` of the control plane: what the link itself uses.
pub fn gateway_client_config(identity: &Identity) -> Result<Arc<ClientConfig>, LinkError> {
    trust::client_config(identity, true)
}

/// Where the paths of a control plane's link are: host, port, and the name in its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayPlace {
    pub host: String,
    pub port: u16,
    pub server_name: ServerName<'static>,
}

/// From `[control] url`.
pub fn gateway(url: &str) -> Result<GatewayPlace, LinkError> {
    let endpoint = Endpoint::parse(url)?;
    Ok(GatewayPlace {
        host: endpoint.host,
        port: endpoint.port,
        server_name: endpoint.server_name,
    })
}

/// The box that a certificate names, if it names one. TLS has decided whether to believe it.
pub fn box_of(certificate: &CertificateDer<'_>) -> Option<BoxId> {
    identity::box_of(certificate).ok()
}

fn unusable(error: Error) -> LinkError {
    IdentityError::Certificate(error.to_string()).into()
}

impl Boxes {
    fn new(
        credentials: &Credentials,
        provider: &Arc<CryptoProvider>,
        expected: Option<BoxId>,
    ) -> Result<Self, LinkError> {
        let mut roots = RootCertStore::empty();
        roots.add(credentials.ca.clone()).map_err(unusable)?;
        let inner =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
                .build()
                .map_err(|error| IdentityError::Certificate(error.to_string()))?;
        Ok(Self { inner, expected })
    }

    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .inner
            .verify_client_cert(end_entity, intermediates, now)?;
        let wrong = |wrong: WrongBox| {
            let other = CertificateError::Other(OtherError(Arc::new(wrong)));
            Err(Error::InvalidCertificate(other))
        };
        match (box_of(end_entity), &self.expected) {
            (None, _) => wrong(WrongBox::Nobody),
            (Some(presented), Some(expected)) if presented != *expected => {
                wrong(WrongBox::Another {
                    presented,
                    expected: expected.clone(),
                })
            }
            (Some(_), Some(_) | None) => Ok(verified),
        }
    }
}

impl ServerCertVerifier for Boxes {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity, intermediates, now)
            .map(|_| ServerCertVerified::assertion())
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

impl ClientCertVerifier for Boxes {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, intermediates, now)
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
