//! Certificates on disk: what is refused and with which words, and which one is offered to whom.

use super::*;
use crate::clock;
use std::path::Path;

fn write_pair(dir: &Path, stem: &str, names: &[&str], ends: (i32, u8)) -> CertificateConfig {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(ends.0, ends.1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let pair = CertificateConfig {
        chain: dir.join(format!("{stem}.crt")),
        key: dir.join(format!("{stem}.key")),
    };
    std::fs::write(&pair.chain, certificate.pem()).unwrap();
    std::fs::write(&pair.key, key.serialize_pem()).unwrap();
    pair
}

fn at(text: &str) -> Wall {
    text.parse().unwrap()
}

fn load_one(pair: CertificateConfig, now: Wall) -> Result<Material, TlsError> {
    let config = Config {
        certificates: vec![pair],
    };
    load(&config, &Tickets::new()?, now, Outside::Refused)
}

#[test]
fn a_box_with_a_clock_of_1970_or_a_lapsed_certificate_still_starts() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        certificates: vec![write_pair(dir.path(), "a", &["a.example"], (2090, 1))],
    };
    let tickets = Tickets::new().unwrap();
    for now in ["1970-01-01T00:01:00Z", "2095-01-01T00:00:00Z"] {
        let started = load(&config, &tickets, at(now), Outside::Logged).unwrap();
        assert_eq!(started.certificates[0].not_after, "2090-01-01T00:00:00Z");
        assert!(
            load(&config, &tickets, at(now), Outside::Refused).is_err(),
            "on reload"
        );
    }
}

#[test]
fn a_good_pair_is_accepted_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let pair = write_pair(dir.path(), "a", &["a.example", "192.0.2.1"], (2090, 1));
    let material = load_one(pair, clock::wall()).unwrap();
    assert_eq!(material.certificates[0].names, ["a.example", "192.0.2.1"]);
    assert_eq!(material.certificates[0].not_after, "2090-01-01T00:00:00Z");
    assert!(material.config.enable_secret_extraction);
    assert_eq!(material.config.alpn_protocols, [b"http/1.1"]);
    assert_eq!(material.config.max_early_data_size, 0);
    let first = material.config.crypto_provider().cipher_suites[0].suite();
    assert_eq!(first, CipherSuite::TLS13_AES_128_GCM_SHA256);
}

#[test]
fn a_pipe_in_place_of_a_file_is_refused_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut pair = write_pair(dir.path(), "a", &["a.example"], (2090, 1));
    pair.key = dir.path().join("pipe");
    nix::unistd::mkfifo(&pair.key, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = load_one(pair, clock::wall()).unwrap_err().to_string();
    assert!(error.contains("pipe: is not a file"), "{error}");
}

#[test]
fn certificates_outside_their_time_are_refused_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let pair = write_pair(dir.path(), "a", &["a.example"], (2030, 6));
    let text = |now: &str| load_one(pair.clone(), at(now)).unwrap_err().to_string();
    let late = text("2031-01-01T00:00:00Z");
    assert!(late.contains("a.crt") && late.contains("2030-06-01") && late.contains("renew"));
    let early = text("1970-01-01T00:00:00Z");
    assert!(
        early.contains("2020-01-01") && early.contains("clock"),
        "{early}"
    );
    assert!(load_one(pair, at("2025-01-01T00:00:00Z")).is_ok());
}

#[test]
fn mismatched_missing_and_broken_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let one = write_pair(dir.path(), "one", &["a.example"], (2090, 1));
    let two = write_pair(dir.path(), "two", &["b.example"], (2090, 1));
    let error = |chain: &Path, key: &Path| {
        let pair = CertificateConfig {
            chain: chain.to_owned(),
            key: key.to_owned(),
        };
        load_one(pair, clock::wall()).unwrap_err()
    };
    assert!(matches!(
        error(&one.chain, &two.key),
        TlsError::Mismatch { .. }
    ));
    let absent = dir.path().join("absent");
    let text = error(&absent, &one.key).to_string();
    assert!(
        text.contains("absent") && text.contains("No such file"),
        "{text}"
    );
    assert!(matches!(error(&one.chain, &absent), TlsError::Key { .. }));
    // The two files swapped: a key is no certificate.
    assert!(matches!(
        error(&one.key, &one.chain),
        TlsError::EmptyChain { .. }
    ));
    let junk = dir.path().join("junk");
    let armour = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
    std::fs::write(&junk, armour).unwrap();
    assert!(matches!(
        error(&junk, &one.key),
        TlsError::Certificate { .. }
    ));
    let none = Config {
        certificates: Vec::new(),
    };
    let none = load(
        &none,
        &Tickets::new().unwrap(),
        clock::wall(),
        Outside::Refused,
    )
    .unwrap_err();
    assert!(matches!(none, TlsError::NoCertificate));
}

#[test]
fn the_name_asked_for_chooses_the_certificate_and_the_first_is_the_default() {
    let dir = tempfile::tempdir().unwrap();
    let provider = provider();
    let mut leaves = Vec::new();
    let mut pairs = Vec::new();
    for (stem, names) in [
        ("first", &["a.example"][..]),
        ("second", &["b.example", "*.c.example"][..]),
        ("third", &["x.c.example", "a.example"][..]),
    ] {
        let pair = write_pair(dir.path(), stem, names, (2090, 1));
        let loaded = certificate::load(&pair, &provider, clock::wall(), Outside::Refused).unwrap();
        let by_name = ByName::new(vec![loaded]).unwrap();
        leaves.push(by_name.leaf_for(None));
        pairs.push(certificate::load(&pair, &provider, clock::wall(), Outside::Refused).unwrap());
    }
    let chooser = ByName::new(pairs).unwrap();
    for (name, expected) in [
        (Some("a.example"), 0),
        (Some("b.example"), 1),
        (Some("y.c.example"), 1),
        (Some("x.c.example"), 2),
        (Some("deep.y.c.example"), 0),
        (Some("other.example"), 0),
        (None, 0),
    ] {
        assert!(chooser.leaf_for(name) == leaves[expected], "{name:?}");
    }
}
