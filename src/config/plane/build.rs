//! Settings without a problem to [`control::Config`].
//!
//! The engine calls [`config`] last. Every getter yields a value of the right kind and in range, so
//! nothing here can be wrong but a disagreement with the schema; that is `None`.

use super::super::common;
use super::super::settings::Fields;
use super::super::settings::Settings;
use crate::control;

pub(in crate::config) fn config(settings: &Settings) -> Option<control::Config> {
    let control = settings.section("control")?;
    let link = settings.section("link")?;
    let staleness = settings.section("staleness")?;
    let import = settings.section("import")?;
    let fill = settings.section("fill")?;
    let tokens = settings.section("tokens")?;
    Some(control::Config {
        state_dir: control.path("state_dir")?,
        domain: control.text("domain")?,
        lease: control.time("lease")?,
        report_every: control.time("report_every")?,
        manifest_validity: control.time("manifest_validity")?,
        link: control::LinkConfig {
            listen: common::build_addresses(link, "listen")?,
            names: link.texts("names")?,
            body: link.number("body")?,
            body_decompressed: link.number("body_decompressed")?,
        },
        public: public(settings)?,
        admin: control::AdminConfig {
            socket: settings.section("admin")?.path("socket")?,
        },
        staleness: control::StalenessConfig {
            heartbeat: staleness.time("heartbeat")?,
            reports: staleness.number("reports")?,
            share: staleness.number("share")?,
            always: staleness.number("always")?,
        },
        import: control::ImportConfig {
            endpoint: import.optional("endpoint", Fields::text)?,
            region: import.text("region")?,
            credentials_file: import.optional("credentials_file", Fields::path)?,
        },
        fill: control::FillConfig {
            ask_again: fill.time("ask_again")?,
            urgent_max: fill.number("urgent_max")?,
        },
        tokens: control::TokensConfig {
            secret_file: tokens.optional("secret_file", Fields::path)?,
            lifetime: tokens.time("lifetime")?,
        },
        telemetry: common::build_telemetry(settings)?,
    })
}

fn public(settings: &Settings) -> Option<control::PublicConfig> {
    let public = settings.section("public")?;
    Some(control::PublicConfig {
        listen: common::build_addresses(public, "listen")?,
        plain_listen: common::build_addresses(public, "plain_listen")?,
        tls: common::build_certificates(settings, "public.certificate")?,
        answers: public.number("answers")?,
    })
}
