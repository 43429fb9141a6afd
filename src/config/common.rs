//! Keys that a box and a control plane have in common, and what is built of them.

use super::keys::Fallback::Default;
use super::keys::Fallback::Required;
use super::keys::Key;
use super::keys::Kind;
use super::keys::key;
use super::settings::Fields;
use super::settings::Settings;
use crate::telemetry;
use crate::telemetry::LogFormat;
use crate::tls;
use std::net::SocketAddr;

/// A TLS certificate; `reload` is whether a reload takes renewed files.
pub(super) const fn certificate(reload: bool) -> [Key; 2] {
    [
        key(
            "chain",
            Kind::Path,
            Required(r#""/etc/oca/tls/chain.pem""#),
            reload,
            "/chain",
            "the PEM file of the certificate and its intermediates, leaf first",
        ),
        key(
            "key",
            Kind::Path,
            Required(r#""/etc/oca/tls/key.pem""#),
            reload,
            "/key",
            "the PEM file of the private key",
        ),
    ]
}

/// `[telemetry]`; `reload` is whether a reload changes the level.
pub(super) const fn telemetry(reload: bool) -> [Key; 2] {
    [
        key(
            "log_level",
            Kind::Filter,
            Default(r#""info""#),
            reload,
            "/telemetry/log_level",
            "what is logged",
        ),
        key(
            "log_format",
            Kind::Word(&["auto", "json", "text", "journald"]),
            Default(r#""auto""#),
            false,
            "/telemetry/log_format",
            "the form of a log line",
        ),
    ]
}

pub(super) fn build_telemetry(settings: &Settings) -> Option<telemetry::Config> {
    let telemetry = settings.section("telemetry")?;
    Some(telemetry::Config {
        log_level: telemetry.text("log_level")?,
        log_format: log_format(telemetry.word("log_format")?)?,
    })
}

/// The certificates of a repeated section.
pub(super) fn build_certificates(settings: &Settings, section: &str) -> Option<tls::Config> {
    let certificate = |fields: Fields<'_>| {
        Some(tls::CertificateConfig {
            chain: fields.path("chain")?,
            key: fields.path("key")?,
        })
    };
    let certificates = settings.repeated(section)?.into_iter().map(certificate);
    Some(tls::Config {
        certificates: certificates.collect::<Option<_>>()?,
    })
}

/// Addresses without their places.
pub(super) fn build_addresses(fields: Fields<'_>, key: &str) -> Option<Vec<SocketAddr>> {
    let listed = fields.addresses(key)?.into_iter();
    Some(listed.map(|(_, address)| address).collect())
}

fn log_format(word: &str) -> Option<LogFormat> {
    match word {
        "auto" => Some(LogFormat::Auto),
        "json" => Some(LogFormat::Json),
        "text" => Some(LogFormat::Text),
        "journald" => Some(LogFormat::Journald),
        _ => None,
    }
}
