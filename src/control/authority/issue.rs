//! Certificates: the authority's own, the link listener's, and the boxes'.
//!
//! Nothing of a request but its key reaches a certificate. Pure, but for randomness.

use super::AUTHORITY_VALIDITY;
use super::Authority;
use super::AuthorityError;
use super::BACKDATED;
use super::BOX_VALIDITY;
use super::BoxCertificate;
use super::SERVER_VALIDITY;
use super::ServerCertificate;
use crate::clock;
use crate::clock::Wall;
use crate::ids::BoxId;
use crate::link::identity;
use crate::link::manifest::Signer;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertificateSigningRequestParams;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::PublicKeyData;
use rcgen::SanType;
use rcgen::SerialNumber;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use std::sync::Arc;
use std::time::Duration;

/// A request for a P-256 key has some 500 bytes.
const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// Of an uncompressed point on P-256, with the byte that says so.
const POINT_BYTES: usize = 65;

impl Authority {
    /// `sha256:<64 hex>` of the certificate: what provisioning files pin.
    pub fn fingerprint(&self) -> String {
        identity::ca_fingerprint(&self.certificate)
    }

    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// Signs manifests.
    pub fn signer(&self) -> &Arc<Signer> {
        &self.signer
    }

    /// The public keys that boxes are told to believe.
    pub fn manifest_keys(&self) -> Vec<String> {
        vec![self.signer.public_hex()]
    }

    /// A fresh key and certificate for the link listener. `names` are host names and addresses.
    pub fn server(&self, names: &[String], now: Wall) -> Result<ServerCertificate, AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names)?;
        let ends = validity(&mut params, now, SERVER_VALIDITY)?;
        let name = DnType::CommonName;
        params.distinguished_name.push(name, "oca control plane");
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&key, &self.issuer)?;
        Ok(ServerCertificate {
            chain: vec![leaf.der().clone(), self.certificate.clone()],
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            ends,
            renew_at: later(now, SERVER_VALIDITY * 2 / 3),
        })
    }

    /// A certificate for the key of `request` (PKCS #10, PEM) under the name of box `id`.
    pub fn issue(
        &self,
        id: &BoxId,
        request: &str,
        now: Wall,
    ) -> Result<BoxCertificate, AuthorityError> {
        let request = read_request(request)?;
        let mut params = CertificateParams::default();
        let ends = validity(&mut params, now, BOX_VALIDITY)?;
        let name = DnType::CommonName;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(name, id.as_str());
        params.subject_alt_names = vec![SanType::URI(identity::box_uri(id).try_into()?)];
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&request.public_key, &self.issuer)?;
        Ok(BoxCertificate {
            pem: leaf.pem(),
            key_fingerprint: fingerprint(&request),
            ends,
        })
    }
}

/// Fingerprint of the key in a request whose signature is right: the asker has the key.
pub(super) fn key_of_request(request: &str) -> Result<String, AuthorityError> {
    Ok(fingerprint(&read_request(request)?))
}

fn fingerprint(request: &CertificateSigningRequestParams) -> String {
    identity::fingerprint(&request.public_key.subject_public_key_info())
}

fn read_request(pem: &str) -> Result<CertificateSigningRequestParams, AuthorityError> {
    let refused = |problem: &str| AuthorityError::Request(problem.to_owned());
    if pem.len() > REQUEST_BYTES_MAX {
        return Err(refused("it is longer than any request for one key"));
    }
    let request = CertificateSigningRequestParams::from_pem(pem)
        .map_err(|error| AuthorityError::Request(error.to_string()))?;
    let key = request.public_key.der_bytes();
    let is_p256 = request.public_key.algorithm() == &rcgen::PKCS_ECDSA_P256_SHA256
        && key.len() == POINT_BYTES
        && key.first() == Some(&4);
    if !is_p256 {
        return Err(refused("its key is not ECDSA P-256, which boxes make"));
    }
    Ok(request)
}

/// The authority's own certificate, PEM.
pub(super) fn authority(key: &KeyPair, now: Wall) -> Result<String, AuthorityError> {
    let mut params = CertificateParams::default();
    validity(&mut params, now, AUTHORITY_VALIDITY)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    let name = DnType::CommonName;
    params.distinguished_name.push(name, "oca control plane CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params.self_signed(key)?.pem())
}

/// Is `key` the one in `certificate`?
pub(super) fn belongs(certificate: &CertificateDer<'_>, key: &KeyPair) -> bool {
    let held = x509_parser::parse_x509_certificate(certificate);
    held.is_ok_and(|(_, held)| held.public_key().raw == key.subject_public_key_info())
}

/// Sets both ends and a serial number; whole seconds, as certificates have them.
fn validity(
    params: &mut CertificateParams,
    now: Wall,
    time: Duration,
) -> Result<Wall, AuthorityError> {
    let ends = later(now, time);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let second = |at: Wall| epoch + Duration::from_secs(clock::unix_seconds(at));
    params.not_before = second(now.checked_sub(BACKDATED).unwrap_or(now));
    params.not_after = second(ends);
    let mut serial = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| rcgen::Error::RingUnspecified)?;
    // Positive and of one length (RFC 5280 section 4.1.2.2).
    serial[0] = serial[0] & 0x3f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(ends)
}

fn later(now: Wall, time: Duration) -> Wall {
    let at = now.checked_add(time).unwrap_or(Wall::MAX);
    Wall::from_second(at.as_second()).unwrap_or(at)
}
