//! A private certificate authority of one demo, and the boxes' certificates below it.
//!
//! The key never leaves the scratch directory; both certificates end with the demo.
//!
//! I/O: writes files.

use crate::clock;
use anyhow::Context as _;
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CertifiedIssuer;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::PublicKeyData as _;
use rustls::pki_types::CertificateDer;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;

/// The names by which a viewer on this machine reaches the box.
pub(super) const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// A CA and one server certificate, as files.
#[derive(Debug)]
pub struct Authority {
    /// PEM of the CA: what a viewer has to trust.
    pub ca: PathBuf,
    /// PEM of the box's certificate.
    pub chain: PathBuf,
    /// PEM of the box's key, readable by its owner only.
    pub key: PathBuf,
    /// The CA, for a client in this process.
    pub root: CertificateDer<'static>,
    /// The server key's SubjectPublicKeyInfo: browsers can be told to trust exactly this key.
    pub public_key_info: Vec<u8>,
}

/// What certificates of several boxes are made with.
#[derive(Debug)]
pub struct Issuer(CertifiedIssuer<'static, KeyPair>);

impl Issuer {
    pub fn make() -> anyhow::Result<Self> {
        issuer().map(Self).context("cannot make the private CA")
    }

    /// Makes a key and a certificate for `names` and writes them, with the CA, below `dir`.
    pub fn certify(&self, dir: &Path, names: &[&str]) -> anyhow::Result<Authority> {
        let key = KeyPair::generate().context("cannot make the box's key")?;
        let leaf = leaf(&key, &self.0, names).context("cannot make the box's certificate")?;
        let made = Authority {
            ca: dir.join("ca.pem"),
            chain: dir.join("chain.pem"),
            key: dir.join("key.pem"),
            root: self.0.der().clone(),
            public_key_info: key.subject_public_key_info(),
        };
        write(&made.ca, 0o644, &self.0.pem())?;
        write(&made.chain, 0o644, &leaf.pem())?;
        write(&made.key, 0o600, &key.serialize_pem())?;
        Ok(made)
    }
}

impl Authority {
    /// A CA for one box on this machine.
    pub fn make(dir: &Path) -> anyhow::Result<Self> {
        Issuer::make()?.certify(dir, &NAMES)
    }
}

/// Valid from yesterday for a month: a demo's CA that somebody trusted by hand must not last.
fn parameters(names: &[&str], common_name: &str) -> Result<CertificateParams, rcgen::Error> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let day = |days: i64| {
        let at = clock::wall() + SignedDuration::from_hours(24 * days);
        let date = at.to_zoned(TimeZone::UTC).date();
        rcgen::date_time_ymd(
            date.year().into(),
            date.month().unsigned_abs(),
            date.day().unsigned_abs(),
        )
    };
    params.not_before = day(-1);
    params.not_after = day(31);
    Ok(params)
}

fn issuer() -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = parameters(&[], "oca demo CA")?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

fn leaf(
    key: &KeyPair,
    issuer: &CertifiedIssuer<'static, KeyPair>,
    names: &[&str],
) -> Result<rcgen::Certificate, rcgen::Error> {
    let mut params = parameters(names, "oca demo box")?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.signed_by(key, issuer)
}

fn write(path: &Path, mode: u32, text: &str) -> anyhow::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}
