//! The private authority: files, certificates, tokens, enrolment and renewal, with the box's own
//! code at the other end.

use crate::values::appliance;
use crate::values::at;
use crate::values::furnish;
use jiff::SignedDuration;
use oca::clock::Wall;
use oca::control::api::link::Enrolment as _;
use oca::control::authority::Authority;
use oca::control::authority::BOX_VALIDITY;
use oca::control::authority::Enrolment;
use oca::control::authority::LinkCertificate;
use oca::control::authority::token;
use oca::control::books::Books;
use oca::control::store::ControlStore;
use oca::control::store::SqlStore;
use oca::link::identity;
use oca::link::identity::Identity;
use oca::link::identity::RENEWABLE_AFTER_END;
use oca::link::message::Code;
use oca::link::message::Enrol;
use oca::link::message::Enrolled;
use oca::link::message::Renew;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::WebPkiClientVerifier;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use x509_parser::extensions::GeneralName;

const NOW: &str = "2026-11-21T12:00:00Z";

fn authority(dir: &Path) -> Authority {
    Authority::open(dir, at(NOW)).unwrap()
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn roots(authority: &Authority) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone()).unwrap();
    Arc::new(roots)
}

/// Does a TLS server that trusts only `authority` let this certificate in at `now`?
fn is_let_in(authority: &Authority, pem: &str, now: Wall) -> bool {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(authority), provider())
        .build()
        .unwrap();
    let leaf = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    verifier.verify_client_cert(&leaf, &[], unix(now)).is_ok()
}

fn unix(now: Wall) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.as_second()).unwrap()))
}

fn days(count: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * count)
}

/// A request that asks for more than it may have.
fn greedy_request(key: &rcgen::KeyPair) -> String {
    let names = vec!["www.example.net".to_owned(), "192.0.2.9".to_owned()];
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    let uri = "oca://box/c002-tls001-example-isp".try_into().unwrap();
    params.subject_alt_names.push(rcgen::SanType::URI(uri));
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    params.serialize_request(key).unwrap().pem().unwrap()
}

#[test]
fn keys_are_made_once_kept_private_and_never_replaced_silently() {
    let dir = tempfile::tempdir().unwrap();
    let first = authority(dir.path());
    let fingerprint = first.fingerprint();
    assert!(fingerprint.starts_with("sha256:") && fingerprint.len() == 71);
    let again = authority(dir.path());
    assert_eq!(again.fingerprint(), fingerprint);
    assert_eq!(again.manifest_keys(), first.manifest_keys());
    assert_eq!(again.manifest_keys()[0].len(), 64);
    for (name, mode) in [
        ("authority.key", 0o600),
        ("manifest.key", 0o600),
        ("authority.pem", 0o644),
    ] {
        let about = std::fs::metadata(dir.path().join(name)).unwrap();
        assert_eq!(about.permissions().mode() & 0o777, mode, "{name}");
    }

    let key = dir.path().join("authority.key");
    let open = |mode| {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        Authority::open(dir.path(), at(NOW)).map_err(|error| error.to_string())
    };
    assert!(open(0o640).unwrap_err().contains("chmod 600"));
    assert!(open(0o600).is_ok());
    let kept = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    let error = Authority::open(dir.path(), at(NOW))
        .unwrap_err()
        .to_string();
    assert!(error.contains("restore it from a backup"), "{error}");
    assert!(!key.exists(), "a lost key is not made anew");

    // Another authority's key beside our certificate.
    let other = tempfile::tempdir().unwrap();
    authority(other.path());
    std::fs::copy(other.path().join("authority.key"), &key).unwrap();
    let error = Authority::open(dir.path(), at(NOW))
        .unwrap_err()
        .to_string();
    assert!(error.contains("another one"), "{error}");
    std::fs::write(&key, kept).unwrap();
    // Boxes have the certificate pinned: one that was lost is not replaced either.
    std::fs::remove_file(dir.path().join("authority.pem")).unwrap();
    let error = Authority::open(dir.path(), at(NOW)).unwrap_err();
    assert!(error.to_string().contains("identity/ca.pem"), "{error}");
    assert!(!dir.path().join("authority.pem").exists());
    // Cut short between key and certificate: nobody has seen a certificate yet.
    std::fs::remove_file(dir.path().join("manifest.key")).unwrap();
    assert!(Authority::open(dir.path(), at(NOW)).is_ok());
}

#[test]
fn a_box_gets_its_own_name_and_nothing_that_it_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority(dir.path());
    let key = rcgen::KeyPair::generate().unwrap();
    let request = greedy_request(&key);
    let one = appliance(1).id;
    let issued = authority.issue(&one, &request, at(NOW)).unwrap();
    let der = CertificateDer::from_pem_slice(issued.pem.as_bytes()).unwrap();
    assert_eq!(identity::box_of(&der).unwrap(), one);
    let of_certificate = identity::key_fingerprint_of_certificate(&der).unwrap();
    assert_eq!(of_certificate, issued.key_fingerprint);
    let of_request = identity::key_fingerprint_of_csr(&request).unwrap();
    assert_eq!(of_request, issued.key_fingerprint);

    let (_, leaf) = x509_parser::parse_x509_certificate(&der).unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    let names = &names.value.general_names;
    let uri = format!("oca://box/{one}");
    assert_eq!(names[..], [GeneralName::URI(&uri)]);
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
    assert!(!leaf.is_ca());
    assert!(!leaf.key_usage().unwrap().unwrap().value.key_cert_sign());
    let ends = leaf.validity().not_after.timestamp();
    assert_eq!(ends, issued.ends.as_second());
    let lasts = Duration::from_secs(u64::try_from(ends - at(NOW).as_second()).unwrap());
    assert_eq!(lasts, BOX_VALIDITY);
    let again = authority.issue(&one, &request, at(NOW)).unwrap();
    let again = CertificateDer::from_pem_slice(again.pem.as_bytes()).unwrap();
    let (_, again) = x509_parser::parse_x509_certificate(&again).unwrap();
    assert_ne!(again.raw_serial(), leaf.raw_serial());

    assert!(is_let_in(&authority, &issued.pem, at(NOW)));
    assert!(!is_let_in(&authority, &issued.pem, at(NOW) + days(15)));
    let elsewhere = tempfile::tempdir().unwrap();
    let fake = self::authority(elsewhere.path());
    assert!(!is_let_in(&fake, &issued.pem, at(NOW)));
}

#[test]
fn requests_that_prove_nothing_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority(dir.path());
    let refused = |request: &str| {
        let outcome = authority.issue(&appliance(1).id, request, at(NOW));
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains("refused"), "{error}");
        error
    };
    refused("");
    refused(&"-----BEGIN CERTIFICATE REQUEST-----\n".repeat(1_000));
    let params = rcgen::CertificateParams::default();
    let strange = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    refused(&params.serialize_request(&strange).unwrap().pem().unwrap());
    let large = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    refused(&params.serialize_request(&large).unwrap().pem().unwrap());
    // Somebody else's key under a signature that is not its own.
    let key = rcgen::KeyPair::generate().unwrap();
    let request = params.serialize_request(&key).unwrap();
    let mut der = request.der().to_vec();
    let last = der.len() - 1;
    der[last] ^= 1;
    let forged = pem(&der);
    let error = refused(&forged);
    assert!(error.to_lowercase().contains("signature"), "{error}");
}

/// DER in PEM's clothes.
fn pem(der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("-----BEGIN CERTIFICATE REQUEST-----\n");
    for (index, three) in der.chunks(3).enumerate() {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at > three.len() {
                '='
            } else {
                char::from(letter)
            });
        }
        if index % 16 == 15 {
            text.push('\n');
        }
    }
    text.push_str("\n-----END CERTIFICATE REQUEST-----\n");
    text
}

#[test]
fn the_link_listener_is_believed_under_its_names_and_stays_fresh() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Arc::new(authority(dir.path()));
    let names = ["control.example.net".to_owned(), "192.0.2.1".to_owned()];
    let made = authority.server(&names, at(NOW)).unwrap();
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(&authority), provider())
        .build()
        .unwrap();
    let believed = |name: &str, now| {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let leaf = &made.chain[0];
        verifier
            .verify_server_cert(leaf, &made.chain[1..], &name, &[], unix(now))
            .is_ok()
    };
    assert!(believed("control.example.net", at(NOW)));
    assert!(believed("192.0.2.1", at(NOW)));
    assert!(!believed("www.example.net", at(NOW)));
    assert!(!believed("control.example.net", at(NOW) + days(15)));
    assert_eq!(&made.chain[1], authority.certificate());

    let shown = LinkCertificate::new(Arc::clone(&authority), &names, at(NOW)).unwrap();
    assert!(!shown.refresh(at(NOW) + days(9)).unwrap());
    assert!(shown.refresh(at(NOW) + days(10)).unwrap());
    assert!(!shown.refresh(at(NOW) + days(10)).unwrap());
    // The calendar was set back: a certificate of the future helps nobody.
    assert!(shown.refresh(at(NOW)).unwrap());
}

/// A control plane's authority with boxes 1 and 2 registered.
struct Desk {
    enrolment: Enrolment,
    books: Books,
    authority: Arc<Authority>,
    _dir: tempfile::TempDir,
}

impl Desk {
    async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = SqlStore::open(&dir.path().join("control.sqlite"))
            .await
            .unwrap();
        furnish(&store).await;
        let books = Books::open(Arc::new(store)).await.unwrap();
        let authority = Arc::new(authority(dir.path()));
        let enrolment = Enrolment::new(books.clone(), Arc::clone(&authority));
        Self {
            enrolment,
            books,
            authority,
            _dir: dir,
        }
    }

    fn store(&self) -> &dyn ControlStore {
        &**self.books.store()
    }

    /// A token for a box, as `oca control appliance replace` makes it.
    async fn token(&self, number: u8, now: Wall) -> String {
        let (text, hash) = token::make().unwrap();
        let id = appliance(number).id;
        let put = self.store().put_token(id, hash, token::ends(now));
        put.await.unwrap();
        self.books.refresh().await.unwrap();
        text
    }

    /// A machine that has a key of its own.
    fn machine(&self) -> Identity {
        Identity::transient(&self.authority.fingerprint()).unwrap()
    }

    async fn enrol(&self, now: Wall, token: &str, machine: &Identity) -> Result<Enrolled, Code> {
        let enrol = Enrol {
            v: 1,
            token: token.to_owned(),
            csr: machine.csr().unwrap(),
        };
        let outcome = self.enrolment.enrol(now, enrol).await;
        outcome.map_err(|(code, message)| {
            assert!(message.len() > 10, "{message}");
            code
        })
    }

    async fn renew(&self, now: Wall, certificate: &str, csr: String) -> Result<Enrolled, Code> {
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let id = identity::box_of(&der).unwrap();
        let renew = Renew { v: 1, csr };
        let outcome = self.enrolment.renew(now, id, der, renew).await;
        outcome.map_err(|(code, _)| code)
    }
}

#[tokio::test]
async fn a_token_makes_one_machine_a_box_and_no_other() {
    let desk = Desk::open().await;
    let now = at(NOW);
    let token = desk.token(1, now).await;
    let mut machine = desk.machine();
    let enrolled = desk.enrol(now, &token, &machine).await.unwrap();
    assert_eq!(enrolled.id, appliance(1).id.as_str());
    assert_eq!(enrolled.manifest_keys, desk.authority.manifest_keys());
    // The box's own checks: pinned authority, its key, its name.
    machine.accept(&enrolled).unwrap();
    assert_eq!(machine.credentials().unwrap().id, appliance(1).id);
    assert!(is_let_in(&desk.authority, &enrolled.certificate, now));
    // The listener knows the key as soon as the box does.
    let registry = desk.books.registry();
    let held = &registry.appliances[&appliance(1).id];
    let key = Some(machine.key_fingerprint());
    assert_eq!(held.key_fingerprint, key);
    assert_eq!(held.certificate_ends, Some(now + days(14)));

    // The reply was lost; then somebody found the paper.
    desk.enrol(now, &token, &machine).await.unwrap();
    let thief = desk.machine();
    assert_eq!(
        desk.enrol(now, &token, &thief).await.unwrap_err(),
        Code::Token
    );
    let mut elsewhere = Identity::transient(&format!("sha256:{}", "0".repeat(64))).unwrap();
    assert!(
        elsewhere.accept(&enrolled).is_err(),
        "another pin, another key"
    );

    let late = now + SignedDuration::from_hours(72);
    assert_eq!(
        desk.enrol(late, &token, &machine).await.unwrap_err(),
        Code::Token
    );
    assert_eq!(
        desk.enrol(now, "guess", &thief).await.unwrap_err(),
        Code::Token
    );
    let long = "x".repeat(1 << 20);
    assert_eq!(
        desk.enrol(now, &long, &thief).await.unwrap_err(),
        Code::Token
    );
    let hollow = Enrol {
        v: 1,
        token: desk.token(2, now).await,
        csr: "nothing".to_owned(),
    };
    let (code, _) = desk.enrolment.enrol(now, hollow.clone()).await.unwrap_err();
    assert_eq!(code, Code::BadRequest);
    // A bad request uses nothing up.
    desk.enrol(now, &hollow.token, &thief).await.unwrap();
    let strange = Enrol { v: 2, ..hollow };
    let (code, _) = desk.enrolment.enrol(now, strange).await.unwrap_err();
    assert_eq!(code, Code::BadRequest);
}

#[tokio::test]
async fn two_machines_with_one_token_at_once_make_one_box() {
    let desk = Arc::new(Desk::open().await);
    let now = at(NOW);
    let token = desk.token(1, now).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let (desk, token) = (Arc::clone(&desk), token.clone());
        tasks.spawn(async move {
            let machine = desk.machine();
            let outcome = desk.enrol(now, &token, &machine).await;
            (outcome.map(|_| machine.key_fingerprint()), machine)
        });
    }
    let outcomes = tasks.join_all().await;
    let won: Vec<&String> = outcomes
        .iter()
        .filter_map(|(won, _)| won.as_ref().ok())
        .collect();
    assert_eq!(won.len(), 1);
    let lost = outcomes.iter().filter(|(won, _)| *won == Err(Code::Token));
    assert_eq!(lost.count(), 5);
    let registry = desk.books.registry();
    let bound = registry.appliances[&appliance(1).id]
        .key_fingerprint
        .as_ref();
    assert_eq!(bound, won.first().copied());
}

#[tokio::test]
async fn a_certificate_renews_for_its_own_key_until_long_after_its_end() {
    let desk = Desk::open().await;
    let now = at(NOW);
    let mut machine = desk.machine();
    let token = desk.token(1, now).await;
    let first = desk.enrol(now, &token, &machine).await.unwrap();
    machine.accept(&first).unwrap();
    let csr = || machine.csr().unwrap();

    let later = now + days(5);
    let second = desk.renew(later, &first.certificate, csr()).await.unwrap();
    assert!(is_let_in(
        &desk.authority,
        &second.certificate,
        now + days(18)
    ));
    assert_eq!(second.id, first.id);
    let thief = desk.machine().csr().unwrap();
    let refused = desk.renew(later, &first.certificate, thief).await;
    assert_eq!(refused.unwrap_err(), Code::Identity);

    // Twenty days in a crate, then a very long strike.
    let ends = later + days(14);
    let third = desk
        .renew(ends + days(20), &second.certificate, csr())
        .await
        .unwrap();
    let ends = ends + days(20) + days(14);
    let limit = SignedDuration::try_from(RENEWABLE_AFTER_END).unwrap();
    let too_late = ends + limit + SignedDuration::from_secs(1);
    let refused = desk.renew(too_late, &third.certificate, csr()).await;
    assert_eq!(refused.unwrap_err(), Code::Identity);

    let id = appliance(1).id;
    let quarantine = |reason: Option<&str>| {
        let reason = reason.map(str::to_owned);
        desk.store().quarantine(id.clone(), reason)
    };
    quarantine(Some("two boots")).await.unwrap();
    desk.books.refresh().await.unwrap();
    let refused = desk.renew(ends, &third.certificate, csr()).await;
    assert_eq!(refused.unwrap_err(), Code::Quarantined);
    quarantine(None).await.unwrap();

    desk.store().revoke(id.clone()).await.unwrap();
    // The books still say otherwise; the store has the last word.
    let refused = desk.renew(ends, &third.certificate, csr()).await;
    assert!(matches!(refused, Err(Code::Identity | Code::Quarantined)));
    desk.books.refresh().await.unwrap();
    let refused = desk.renew(ends, &third.certificate, csr()).await;
    assert_eq!(refused.unwrap_err(), Code::Identity);
}

#[tokio::test]
async fn a_replaced_machine_is_out_and_its_successor_in() {
    let desk = Desk::open().await;
    let now = at(NOW);
    let (old, new) = (desk.machine(), desk.machine());
    let token = desk.token(1, now).await;
    let first = desk.enrol(now, &token, &old).await.unwrap();
    let token = desk.token(1, now).await;
    let refused = desk
        .renew(now, &first.certificate, old.csr().unwrap())
        .await;
    assert_eq!(refused.unwrap_err(), Code::Identity);
    desk.enrol(now, &token, &new).await.unwrap();
    let refused = desk
        .renew(now, &first.certificate, old.csr().unwrap())
        .await;
    assert_eq!(refused.unwrap_err(), Code::Identity);
    let registry = desk.books.registry();
    let held = registry.appliances[&appliance(1).id]
        .key_fingerprint
        .clone();
    assert_eq!(held, Some(new.key_fingerprint()));
}
