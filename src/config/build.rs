//! Settings without a problem to each module's `Config`.
//!
//! [`super::load`] calls [`config`] last. Every getter yields a value of the right kind and in
//! range, so nothing here can be wrong but a disagreement with [`super::table`]; that is `None`.

use super::Config;
use super::settings::Fields;
use super::settings::Settings;
use crate::admin;
use crate::health;
use crate::health::Requirement;
use crate::ids::Identity;
use crate::ids::Profile;
use crate::serve;
use crate::store;
use crate::store::DiskClass;
use crate::telemetry;
use crate::telemetry::LogFormat;
use crate::tls;

pub(super) fn config(settings: &Settings) -> Option<Config> {
    let appliance = settings.section("appliance")?;
    Some(Config {
        appliance: Identity {
            id: appliance.box_id("id")?,
            site: appliance.site("site")?,
            profile: profile(appliance.word("profile")?)?,
            timezone: appliance.text("timezone")?,
        },
        stop_time: appliance.time("stop_time")?,
        serve: serve(settings)?,
        store: store(settings)?,
        health: health(settings)?,
        admin: admin(settings)?,
        telemetry: telemetry(settings)?,
    })
}

fn serve(settings: &Settings) -> Option<serve::Config> {
    let serve = settings.section("serve")?;
    let addresses = |key| {
        let listed = serve.addresses(key)?;
        Some(listed.into_iter().map(|(_, address)| address).collect())
    };
    let certificate = |fields: Fields<'_>| {
        Some(tls::CertificateConfig {
            chain: fields.path("chain")?,
            key: fields.path("key")?,
        })
    };
    let certificates = settings.repeated("serve.tls.certificate")?;
    Some(serve::Config {
        listen: addresses("listen")?,
        plain_listen: addresses("plain_listen")?,
        workers: serve.number("workers")?,
        access_log: serve.optional("access_log", Fields::path)?,
        limits: limits(settings)?,
        tls: tls::Config {
            certificates: certificates
                .into_iter()
                .map(certificate)
                .collect::<Option<_>>()?,
        },
    })
}

fn limits(settings: &Settings) -> Option<serve::Limits> {
    let limits = settings.section("serve.limits")?;
    Some(serve::Limits {
        connections: limits.number("connections")?,
        connections_per_address: limits.number("connections_per_address")?,
        head: limits.number("head")?,
        headers: limits.number("headers")?,
        handshake_time: limits.time("handshake_time")?,
        head_time: limits.time("head_time")?,
        idle_time: limits.time("idle_time")?,
        progress_time: limits.time("progress_time")?,
        progress: limits.number("progress")?,
        requests: limits.number("requests")?,
        linger_time: limits.time("linger_time")?,
        linger_limit: limits.time("linger_limit")?,
    })
}

fn store(settings: &Settings) -> Option<store::Config> {
    let disk = |fields: Fields<'_>| {
        Some(store::DiskConfig {
            path: fields.path("path")?,
            class: class(fields.word("class")?)?,
            plain_directory: fields.boolean("plain_directory")?,
        })
    };
    let disks = settings.repeated("disk")?;
    Some(store::Config {
        disks: disks.into_iter().map(disk).collect::<Option<_>>()?,
        state_dir: settings.section("appliance")?.path("state_dir")?,
        deadline: settings.section("store")?.time("deadline")?,
    })
}

fn health(settings: &Settings) -> Option<health::Config> {
    let required = settings.section("gate")?.words("require")?;
    Some(health::Config {
        require: required
            .into_iter()
            .map(requirement)
            .collect::<Option<_>>()?,
    })
}

fn admin(settings: &Settings) -> Option<admin::Config> {
    let admin = settings.section("admin")?;
    let metrics = admin.optional("metrics_listen", Fields::addresses)?;
    Some(admin::Config {
        socket: admin.path("socket")?,
        read_only_socket: admin.path("read_only_socket")?,
        metrics_listen: metrics.and_then(|list| list.first().map(|(_, address)| *address)),
    })
}

fn telemetry(settings: &Settings) -> Option<telemetry::Config> {
    let telemetry = settings.section("telemetry")?;
    Some(telemetry::Config {
        log_level: telemetry.text("log_level")?,
        log_format: log_format(telemetry.word("log_format")?)?,
    })
}

fn profile(word: &str) -> Option<Profile> {
    match word {
        "storage" => Some(Profile::Storage),
        "global" => Some(Profile::Global),
        "flash" => Some(Profile::Flash),
        _ => None,
    }
}

fn class(word: &str) -> Option<DiskClass> {
    match word {
        "nvme" => Some(DiskClass::Nvme),
        "ssd" => Some(DiskClass::Ssd),
        "hdd" => Some(DiskClass::Hdd),
        _ => None,
    }
}

fn requirement(word: &str) -> Option<Requirement> {
    match word {
        "control" => Some(Requirement::Control),
        "bgp" => Some(Requirement::Bgp),
        "clock" => Some(Requirement::Clock),
        _ => None,
    }
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
