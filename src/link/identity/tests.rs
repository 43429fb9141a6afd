//! Identities that are kept, renewed, damaged, or issued by somebody else.

use super::*;
use crate::link::message::VERSION;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertificateSigningRequestParams;
use rcgen::CertifiedIssuer;
use rcgen::IsCa;
use rcgen::KeyPair;
use rcgen::SanType;

const BOX: &str = "c001-tls001-example-isp";

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn config(ca: &CertifiedIssuer<'static, KeyPair>, identity: &Path) -> Config {
    Config {
        url: "https://control.example.net".to_owned(),
        ca: ca_fingerprint(ca.der()),
        token_file: None,
        identity: identity.to_owned(),
        report_every: Duration::from_secs(300),
        heartbeat_every: Duration::from_secs(10),
        growth_every: Duration::from_secs(60),
    }
}

fn issue(ca: &CertifiedIssuer<'static, KeyPair>, csr: &str, name: &str) -> Enrolled {
    let mut request = CertificateSigningRequestParams::from_pem(csr).unwrap();
    let uri = format!("oca://box/{name}").try_into().unwrap();
    request.params.subject_alt_names = vec![SanType::URI(uri)];
    request.params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    request.params.not_after = rcgen::date_time_ymd(2026, 1, 16);
    Enrolled {
        v: VERSION,
        id: name.to_owned(),
        certificate: request.signed_by(ca).unwrap().pem(),
        ca: ca.pem(),
        manifest_keys: vec!["ab".repeat(32)],
    }
}

fn enrolled(ca: &CertifiedIssuer<'static, KeyPair>, identity: &Identity) -> Enrolled {
    issue(ca, &identity.csr().unwrap(), BOX)
}

#[test]
fn the_key_is_made_once_readable_by_nobody_else_and_the_certificate_is_found_again() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), authority());
    let config = config(&ca, &dir.path().join("a/identity"));
    let mut identity = Identity::open(&config).unwrap();
    assert!(identity.credentials().is_none());
    let fingerprint = identity.key_fingerprint();
    let csr = identity.csr().unwrap();
    assert_eq!(key_fingerprint_of_csr(&csr).unwrap(), fingerprint);
    identity.accept(&enrolled(&ca, &identity)).unwrap();

    let again = Identity::open(&config).unwrap();
    assert_eq!(again.key_fingerprint(), fingerprint);
    let credentials = again.credentials().unwrap();
    assert_eq!(credentials.id.as_str(), BOX);
    assert_eq!(box_of(&credentials.chain[0]).unwrap(), credentials.id);
    assert_eq!(credentials.manifest_keys, ["ab".repeat(32)]);
    for entry in std::fs::read_dir(&config.identity).unwrap() {
        let entry = entry.unwrap();
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&entry.metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.path());
    }
    assert_eq!(std::fs::read_dir(&config.identity).unwrap().count(), 4);
}

#[test]
fn a_renewal_is_due_at_a_third_and_possible_for_thirty_days_after_the_end() {
    let (ca, at) = (authority(), |text: &str| text.parse::<Wall>().unwrap());
    let mut identity = Identity::transient(&ca_fingerprint(ca.der())).unwrap();
    identity.accept(&enrolled(&ca, &identity)).unwrap();
    let credentials = identity.credentials().unwrap();
    assert_eq!(credentials.renew_at(), at("2026-01-06T00:00:00Z"));
    for (now, standing) in [
        ("1970-01-01T00:00:00Z", Standing::Fine),
        ("2026-01-05T23:59:59Z", Standing::Fine),
        ("2026-01-06T00:00:00Z", Standing::RenewalDue),
        ("2026-01-16T00:00:00Z", Standing::RenewalDue),
        ("2026-01-16T00:00:01Z", Standing::Ended),
        ("2026-02-15T00:00:00Z", Standing::Ended),
        ("2026-02-15T00:00:01Z", Standing::Lapsed),
    ] {
        assert_eq!(credentials.standing(at(now)), standing, "{now}");
    }
}

#[test]
fn what_somebody_else_issued_is_refused_and_the_old_certificate_stays() {
    let (ca, other) = (authority(), authority());
    let mut identity = Identity::transient(&ca_fingerprint(ca.der())).unwrap();
    identity.accept(&enrolled(&ca, &identity)).unwrap();
    let before = identity.credentials().unwrap().chain.clone();

    let foreign = enrolled(&other, &identity);
    let error = identity.accept(&foreign).unwrap_err().to_string();
    assert!(error.contains(&ca_fingerprint(ca.der())), "{error}");
    assert!(error.contains(&ca_fingerprint(other.der())), "{error}");
    // The right authority's certificate beside a leaf that it did not sign.
    let mixed = Enrolled {
        ca: ca.pem(),
        ..foreign
    };
    assert!(matches!(
        identity.accept(&mixed),
        Err(IdentityError::Certificate(_))
    ));
    let stranger = Identity::transient(&ca_fingerprint(ca.der())).unwrap();
    let result = identity.accept(&enrolled(&ca, &stranger));
    assert_eq!(result, Err(IdentityError::Key));
    let renamed = issue(&ca, &identity.csr().unwrap(), "c002-tls001-example-isp");
    assert!(matches!(
        identity.accept(&renamed),
        Err(IdentityError::Name { .. })
    ));
    let unnamed = issue(&ca, &identity.csr().unwrap(), "nobody");
    assert!(identity.accept(&unnamed).is_err());
    let mut keyless = enrolled(&ca, &identity);
    keyless.manifest_keys = vec!["short".to_owned()];
    assert!(identity.accept(&keyless).is_err());
    keyless.manifest_keys.clear();
    assert!(identity.accept(&keyless).is_err());
    assert_eq!(identity.credentials().unwrap().chain, before);
}

#[test]
fn a_damaged_directory_is_refused_with_the_file_and_the_remedy() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), authority());
    let config = config(&ca, dir.path());
    let mut identity = Identity::open(&config).unwrap();
    identity.accept(&enrolled(&ca, &identity)).unwrap();
    let refused = |config: &Config| Identity::open(config).unwrap_err().to_string();

    let other = super::Config {
        ca: format!("sha256:{}", "00".repeat(32)),
        ..config.clone()
    };
    assert!(refused(&other).contains("enrol with another token"));
    let keys = dir.path().join("manifest-keys");
    let kept = std::fs::read(&keys).unwrap();
    std::fs::write(&keys, "").unwrap();
    assert!(refused(&config).contains("no manifest key"));
    std::fs::write(&keys, kept).unwrap();
    let key = dir.path().join("key.pem");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    assert!(refused(&config).contains("chmod 600"));
    // Another key under the old certificate.
    std::fs::remove_file(&key).unwrap();
    assert!(refused(&config).contains("another key"));
    std::fs::remove_file(dir.path().join("ca.pem")).unwrap();
    assert!(refused(&config).contains("ca.pem"));
    std::fs::write(&key, "x").unwrap();
    assert!(refused(&config).contains("key.pem"));
    assert!(matches!(
        Identity::transient("sha256:12"),
        Err(IdentityError::Pin(_))
    ));
}

#[test]
fn requests_are_believed_only_with_their_own_signature_and_a_p256_key() {
    let csr = |key: &KeyPair| {
        let params = CertificateParams::default();
        params.serialize_request(key).unwrap()
    };
    let key = KeyPair::generate().unwrap();
    let good = csr(&key);
    let expected = fingerprint(&key.subject_public_key_info());
    assert_eq!(
        key_fingerprint_of_csr(&good.pem().unwrap()).unwrap(),
        expected
    );

    let other = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let error = key_fingerprint_of_csr(&csr(&other).pem().unwrap()).unwrap_err();
    assert!(error.to_string().contains("P-256"), "{error}");
    let mut flipped = good.der().to_vec();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    let request = rustls::pki_types::CertificateSigningRequestDer::from(flipped);
    let pem = rcgen_pem(&request);
    assert!(key_fingerprint_of_csr(&pem).is_err());
    for bad in [
        "",
        "-----BEGIN CERTIFICATE REQUEST-----",
        &"x".repeat(20_000),
    ] {
        assert!(key_fingerprint_of_csr(bad).is_err());
    }
}

/// PEM of any DER, by way of its base64 alphabet.
fn rcgen_pem(der: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("-----BEGIN CERTIFICATE REQUEST-----\n");
    for group in der.chunks(3) {
        let word = group
            .iter()
            .fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
        let word = word << (8 * (3 - group.len()));
        for at in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * at) & 63) as usize];
            let padding = at > group.len();
            text.push(if padding { '=' } else { char::from(digit) });
        }
    }
    text.push_str("\n-----END CERTIFICATE REQUEST-----\n");
    text
}

#[test]
fn a_certificate_without_the_name_of_a_box_names_nobody() {
    let ca = authority();
    assert!(box_of(ca.der()).is_err());
    let mut params = CertificateParams::default();
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    params.subject_alt_names = vec![
        uri("oca://box/c001-tls001-example-isp"),
        uri("oca://box/c002-tls001-example-isp"),
    ];
    let both = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    assert!(box_of(both.der()).is_err(), "two names are no name");
    assert!(box_of(&CertificateDer::from(vec![0x30, 0x80])).is_err());
}
