//! What certificates and requests say: names, keys, times. Reads only; decides nothing.
//!
//! [`super::Identity`] checks with it what was issued, the control plane whom it talks to.

use super::IdentityError;
use crate::clock::Wall;
use crate::ids::BoxId;
use crate::link::hex;
use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::OID_EC_P256;
use x509_parser::oid_registry::OID_KEY_TYPE_EC_PUBLIC_KEY;
use x509_parser::parse_x509_certificate;
use x509_parser::prelude::FromDer;
use x509_parser::prelude::X509Certificate;
use x509_parser::x509::SubjectPublicKeyInfo;

/// A request is a key, a signature and little else.
const CSR_BYTES_MAX: usize = 16 * 1024;

/// Before the box's name in its certificate.
const URI: &str = "oca://box/";

/// The name in a box's certificate.
pub fn box_uri(id: &BoxId) -> String {
    format!("{URI}{id}")
}

/// The box that a peer's certificate names. Whether to believe the certificate is the matter of
/// TLS; here it is only read.
pub fn box_of(certificate: &CertificateDer<'_>) -> Result<BoxId, IdentityError> {
    let parsed = parse(certificate)?;
    let nobody = || {
        IdentityError::Certificate(format!(
            "it has no URI name `{URI}<id>`; it is not the certificate of a box"
        ))
    };
    let names = parsed
        .subject_alternative_name()
        .map_err(|error| IdentityError::Certificate(error.to_string()))?
        .ok_or_else(nobody)?;
    let mut boxes = names.value.general_names.iter().filter_map(|name| {
        let GeneralName::URI(uri) = name else {
            return None;
        };
        uri.strip_prefix(URI)
    });
    let (Some(id), None) = (boxes.next(), boxes.next()) else {
        return Err(nobody());
    };
    BoxId::parse(id).map_err(|error| IdentityError::Certificate(error.to_string()))
}

/// SHA-256 of a public key (SubjectPublicKeyInfo, DER), hexadecimal.
pub fn fingerprint(spki: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, spki).as_ref())
}

/// [`fingerprint`] of the key in a certificate.
pub fn key_fingerprint_of_certificate(
    certificate: &CertificateDer<'_>,
) -> Result<String, IdentityError> {
    parse(certificate).map(|parsed| fingerprint(parsed.public_key().raw))
}

/// [`fingerprint`] of the key in a request (PEM). The request's own signature is checked, so that
/// the asker has the key, and the key must be ECDSA P-256. Its names are not looked at.
pub fn key_fingerprint_of_csr(pem: &str) -> Result<String, IdentityError> {
    let bad = |problem: &str| IdentityError::Request(problem.to_owned());
    if pem.len() > CSR_BYTES_MAX {
        return Err(bad("it is longer than 16 KiB"));
    }
    let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| bad("it is not PEM with a CERTIFICATE REQUEST"))?;
    let (rest, request) = X509CertificationRequest::from_der(&der)
        .map_err(|_| bad("its DER is not that of a certification request"))?;
    if !rest.is_empty() {
        return Err(bad("there is something behind its end"));
    }
    let key = &request.certification_request_info.subject_pki;
    if !is_p256(key) {
        return Err(bad("its key is not ECDSA P-256"));
    }
    request
        .verify_signature()
        .map_err(|_| bad("its signature is not that of the key in it"))?;
    Ok(fingerprint(key.raw))
}

/// `sha256:<64 hex>` of a whole certificate: what provisioning pins of the authority.
pub fn ca_fingerprint(certificate: &CertificateDer<'_>) -> String {
    format!("sha256:{}", fingerprint(certificate))
}

/// First and last second of a certificate's life.
pub(super) fn validity(certificate: &CertificateDer<'_>) -> Result<(Wall, Wall), IdentityError> {
    let parsed = parse(certificate)?;
    let wall = |seconds: i64| {
        Wall::from_second(seconds)
            .map_err(|_| IdentityError::Certificate("its times are no times".to_owned()))
    };
    let validity = parsed.validity();
    Ok((
        wall(validity.not_before.timestamp())?,
        wall(validity.not_after.timestamp())?,
    ))
}

/// Did the key of `ca` sign `certificate`?
pub(super) fn is_signed_by(
    certificate: &CertificateDer<'_>,
    ca: &CertificateDer<'_>,
) -> Result<bool, IdentityError> {
    let (certificate, ca) = (parse(certificate)?, parse(ca)?);
    let verdict = certificate.verify_signature(Some(ca.public_key()));
    Ok(verdict.is_ok() && certificate.issuer() == ca.subject() && ca.is_ca())
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, IdentityError> {
    match parse_x509_certificate(certificate) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) => Err(IdentityError::Certificate(
            "there is something behind its end".to_owned(),
        )),
        Err(_) => Err(IdentityError::Certificate(
            "its DER is not that of a certificate".to_owned(),
        )),
    }
}

pub(super) fn is_p256(key: &SubjectPublicKeyInfo<'_>) -> bool {
    let curve = key.algorithm.parameters.as_ref();
    key.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY
        && curve.is_some_and(|curve| curve.as_oid().is_ok_and(|oid| oid == OID_EC_P256))
}
