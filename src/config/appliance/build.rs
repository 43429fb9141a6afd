//! Settings without a problem to each module's `Config`.
//!
//! The engine calls [`config`] last. Every getter yields a value of the right kind and in
//! range, so nothing here can be wrong but a disagreement with the schema; that is `None`.

use super::super::Config;
use super::super::common;
use super::super::settings::Fields;
use super::super::settings::Settings;
use super::policy;
use super::tokens;
use crate::admin;
use crate::bgp;
use crate::bgp::Bogons;
use crate::bgp::Role;
use crate::fill;
use crate::health;
use crate::health::Requirement;
use crate::ids::Identity;
use crate::ids::Profile;
use crate::link;
use crate::peer;
use crate::route::Asn;
use crate::route::Class;
use crate::serve;
use crate::store;
use crate::store::DiskClass;
use crate::store::Zone;
use crate::units::Bytes;
use crate::units::BytesPerSecond;
use crate::window::Window;

pub(in crate::config) fn config(settings: &Settings) -> Option<Config> {
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
        bgp: optional(settings, "bgp", bgp)?,
        control: optional(settings, "control", control)?,
        fill: fill(settings)?,
        peer: peer(settings)?,
        admin: admin(settings)?,
        telemetry: common::build_telemetry(settings)?,
    })
}

fn serve(settings: &Settings) -> Option<serve::Config> {
    let serve = settings.section("serve")?;
    Some(serve::Config {
        listen: common::build_addresses(serve, "listen")?,
        plain_listen: common::build_addresses(serve, "plain_listen")?,
        workers: serve.number("workers")?,
        access_log: serve.optional("access_log", Fields::path)?,
        access_log_sample: serve.number("access_log_sample")?,
        drop_behind: serve.boolean("drop_behind")?,
        limits: limits(settings)?,
        pacing: pacing(settings)?,
        tls: common::build_certificates(settings, "serve.tls.certificate")?,
        tokens: tokens::build(settings)?,
        speedtest: speedtest(settings)?,
        tls_offload: offload(settings.section("serve.tls")?.word("tls_offload")?)?,
    })
}

fn offload(word: &str) -> Option<serve::Offload> {
    match word {
        "auto" => Some(serve::Offload::Auto),
        "off" => Some(serve::Offload::Off),
        "require" => Some(serve::Offload::Require),
        _ => None,
    }
}

fn limits(settings: &Settings) -> Option<serve::Limits> {
    let limits = settings.section("serve.limits")?;
    Some(serve::Limits {
        connections: limits.number("connections")?,
        connections_per_address: limits.number("connections_per_address")?,
        handshakes_per_address: limits.number("handshakes_per_address")?,
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

fn speedtest(settings: &Settings) -> Option<serve::SpeedtestConfig> {
    let speedtest = settings.section("serve.speedtest")?;
    Some(serve::SpeedtestConfig {
        enabled: speedtest.boolean("enabled")?,
        rate_limit: speedtest.number("rate_limit").map(BytesPerSecond)?,
        connections: speedtest.number("connections")?,
        upload_max: speedtest.number("upload_max").map(Bytes)?,
    })
}

fn pacing(settings: &Settings) -> Option<serve::Pacing> {
    let pacing = settings.section("serve.pacing")?;
    let rate = |fields: &Fields<'_>, key: &str| fields.number(key).map(BytesPerSecond);
    Some(serve::Pacing {
        rate_limit: pacing.optional("rate_limit", rate)?,
        cmcd: pacing.boolean("cmcd")?,
    })
}

fn store(settings: &Settings) -> Option<store::Config> {
    let disk = |fields: Fields<'_>| {
        Some(store::DiskConfig {
            path: fields.path("path")?,
            class: class(fields.word("class")?)?,
            zone: zone(fields.word("zone")?)?,
            plain_directory: fields.boolean("plain_directory")?,
        })
    };
    let disks = settings.repeated("disk")?;
    let store = settings.section("store")?;
    Some(store::Config {
        disks: disks.into_iter().map(disk).collect::<Option<_>>()?,
        state_dir: settings.section("appliance")?.path("state_dir")?,
        deadline: store.time("deadline")?,
        upkeep: store::Upkeep {
            scrub_every: store.time("scrub_every")?,
            scrub_rate: store.number("scrub_rate").map(BytesPerSecond)?,
            quarantine_time: store.time("quarantine_time")?,
            quarantine_bytes: store.number("quarantine_bytes").map(Bytes)?,
            refill_after: store.time("refill_after")?,
            refill_hot_after: store.time("refill_hot_after")?,
            moves_per_night: store.number("moves_per_night").map(Bytes)?,
            replicas_percent: store.number("replicas_percent")?,
        },
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

/// `Some(None)` for a section that is left out.
fn optional<T>(
    settings: &Settings,
    section: &str,
    build: impl Fn(&Settings, Fields<'_>) -> Option<T>,
) -> Option<Option<T>> {
    if settings.is_written(section) {
        build(settings, settings.section(section)?).map(Some)
    } else {
        Some(None)
    }
}

fn bgp(settings: &Settings, bgp: Fields<'_>) -> Option<bgp::Config> {
    let neighbours = settings.repeated("bgp.neighbour")?.into_iter();
    Some(bgp::Config {
        asn: bgp.number("asn").map(Asn)?,
        router_id: bgp.router_id("router_id")?,
        listen: common::build_addresses(bgp, "listen")?,
        policy: policy::own(bgp)?,
        neighbours: neighbours.map(neighbour).collect::<Option<_>>()?,
    })
}

fn neighbour(fields: Fields<'_>) -> Option<bgp::NeighbourConfig> {
    Some(bgp::NeighbourConfig {
        name: fields.text("name")?,
        address: fields.ip("address")?,
        port: fields.number("port")?,
        asn: fields.number("asn").map(Asn)?,
        class: neighbour_class(fields.word("class")?)?,
        local_address: fields.optional("local_address", Fields::ip)?,
        passive: fields.boolean("passive")?,
        hold_time: fields.time("hold_time")?,
        connect_retry: fields.time("connect_retry")?,
        max_prefixes: fields.number("max_prefixes")?,
        bogons: bogons(fields.word("bogons")?)?,
        policy: policy::of_neighbour(fields)?,
        transport: transport(fields)?,
        session: session(fields)?,
    })
}

fn transport(fields: Fields<'_>) -> Option<bgp::TransportConfig> {
    Some(bgp::TransportConfig {
        password_file: fields.optional("password_file", Fields::path)?,
        tcp_ao_id: fields.optional("tcp_ao_id", Fields::number)?,
        ttl_security: fields.boolean("ttl_security")?,
        multihop: fields.number("multihop")?,
        interface: fields.optional("interface", Fields::text)?,
    })
}

fn session(fields: Fields<'_>) -> Option<bgp::SessionConfig> {
    Some(bgp::SessionConfig {
        delay_open: fields.time("delay_open")?,
        idle_hold: fields.time("idle_hold")?,
        add_path: fields.boolean("add_path")?,
        graceful_restart: fields.time("graceful_restart")?,
        long_lived: fields.time("long_lived_restart")?,
        role: role(fields.word("role")?)?,
        role_strict: fields.boolean("role_strict")?,
    })
}

fn control(_: &Settings, control: Fields<'_>) -> Option<link::Config> {
    Some(link::Config {
        url: control.text("url")?,
        ca: control.text("ca")?,
        token_file: control.optional("token_file", Fields::path)?,
        identity: control.path("identity")?,
        report_every: control.time("report_every")?,
        heartbeat_every: control.time("heartbeat_every")?,
        growth_every: control.time("growth_every")?,
    })
}

/// The rules have held `rate_limit` against the profile's cap.
fn fill(settings: &Settings) -> Option<fill::Config> {
    let (appliance, fill) = (settings.section("appliance")?, settings.section("fill")?);
    let (zone, start_s) = (appliance.text("timezone")?, fill.number("window_start")?);
    let cap = profile(appliance.word("profile")?)?.cap();
    let rate = fill.optional("rate_limit", |fields, key| {
        fields.number(key).map(BytesPerSecond)
    })?;
    Some(fill::Config {
        window: Window::new(&zone, start_s, fill.time("window_length")?).ok()?,
        rate_limit: rate.unwrap_or(cap).min(cap),
        urgent_bytes: fill.number("urgent").map(Bytes)?,
        streams: fill.number("streams")?,
        sources_at_once: fill.number("sources_at_once")?,
        count_peers: fill.boolean("count_peers")?,
        deletion_grace: fill.time("deletion_grace")?,
        deletion_share: fill.number("deletion_share")?,
        private_sources: fill.boolean("private_sources")?,
        plain_origin: fill.boolean("plain_origin")?,
        origin_ca: fill.optional("origin_ca", Fields::path)?,
    })
}

fn peer(settings: &Settings) -> Option<peer::Config> {
    let peer = settings.section("serve.peer")?;
    Some(peer::Config {
        listen: common::build_addresses(peer, "listen")?,
        connections: peer.number("connections")?,
        rate_limit: peer.number("rate_limit").map(BytesPerSecond)?,
    })
}

pub(super) fn profile(word: &str) -> Option<Profile> {
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

fn zone(word: &str) -> Option<Zone> {
    match word {
        "none" => Some(Zone::None),
        "outer" => Some(Zone::Outer),
        "inner" => Some(Zone::Inner),
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

fn neighbour_class(word: &str) -> Option<Class> {
    match word {
        "embedded" => Some(Class::Embedded),
        "peering" => Some(Class::Peering),
        "transit" => Some(Class::Transit),
        _ => None,
    }
}

fn role(word: &str) -> Option<Role> {
    match word {
        "auto" => Some(Role::Auto),
        "none" => Some(Role::None),
        "provider" => Some(Role::Provider),
        "rs" => Some(Role::Rs),
        "rs-client" => Some(Role::RsClient),
        "customer" => Some(Role::Customer),
        "peer" => Some(Role::Peer),
        _ => None,
    }
}

fn bogons(word: &str) -> Option<Bogons> {
    match word {
        "default" => Some(Bogons::Default),
        "none" => Some(Bogons::None),
        _ => None,
    }
}
