//! Any valid `[bgp]`, `[control]` and control plane, for the properties.

use super::*;
use crate::bgp::Accept;
use crate::bgp::Bogons;
use crate::bgp::Lengths;
use crate::bgp::LimitAction;
use crate::bgp::NeighbourConfig;
use crate::bgp::OwnPolicy;
use crate::bgp::Policy;
use crate::bgp::Role;
use crate::bgp::SessionConfig;
use crate::bgp::TransportConfig;
use crate::prefix::Family;
use crate::prefix::Prefix;
use crate::route::Asn;
use crate::route::Class;
use crate::route::Community;
use crate::telemetry::LogFormat;
use crate::tls;
use crate::units::Bytes;
use crate::units::BytesPerSecond;
use crate::window::Window;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;

pub(super) fn time(min_ms: u64, max_s: u64) -> impl Strategy<Value = Duration> {
    (min_ms..=max_s * 1_000).prop_map(Duration::from_millis)
}

/// Any path without control characters, quotes and backslashes included.
pub(super) fn path() -> impl Strategy<Value = PathBuf> {
    "/[^\\pC]{1,20}".prop_map(PathBuf::from)
}

pub(super) fn certificate() -> impl Strategy<Value = tls::CertificateConfig> {
    (path(), path()).prop_map(|(chain, key)| tls::CertificateConfig { chain, key })
}

/// Distinct ports, counted up from `from`.
pub(super) fn numbered(from: u16) -> impl Strategy<Value = Vec<SocketAddr>> {
    vec(any::<IpAddr>(), 1..4).prop_map(move |addresses| {
        let numbered = addresses.into_iter().zip(from..);
        numbered
            .map(|(ip, port)| SocketAddr::new(ip, port))
            .collect()
    })
}

fn asn() -> impl Strategy<Value = Asn> {
    (1_u32..)
        .prop_filter("AS_TRANS", |asn| *asn != 23_456)
        .prop_map(Asn)
}

fn machine() -> impl Strategy<Value = IpAddr> {
    any::<IpAddr>().prop_filter("of one machine", |ip| {
        let odd = match ip {
            IpAddr::V4(v4) => v4.is_broadcast(),
            IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
        };
        !odd && !ip.is_unspecified() && !ip.is_multicast()
    })
}

fn neighbour() -> impl Strategy<Value = NeighbourConfig> {
    let classes = vec![Class::Embedded, Class::Peering, Class::Transit];
    let who = (
        machine(),
        option::of(machine()),
        1_u16..,
        asn(),
        "[A-Za-z0-9._-]{1,20}",
    );
    let how = (
        any::<bool>(),
        3_u64..=65_535,
        time(100, 3_600),
        1_u32..=10_000_000,
        select(vec![Bogons::Default, Bogons::None]),
        policy(),
    );
    let more = (transport(), session());
    let all = (who, select(classes), how, more);
    all.prop_map(|((address, local, port, asn, name), class, how, more)| {
        let same = |ip: &IpAddr| Family::of(*ip) == Family::of(address);
        NeighbourConfig {
            name,
            address,
            port,
            asn,
            class,
            local_address: local.filter(same),
            passive: how.0,
            hold_time: Duration::from_secs(how.1),
            connect_retry: how.2,
            max_prefixes: how.3,
            bogons: how.4,
            policy: how.5,
            transport: more.0,
            session: more.1,
        }
    })
}

fn transport() -> impl Strategy<Value = TransportConfig> {
    let signed = option::of((path(), option::of(any::<u8>())));
    let rest = (any::<bool>(), 1_u8.., option::of("[a-z0-9._-]{1,15}"));
    (signed, rest).prop_map(|(signed, (ttl_security, multihop, interface))| {
        let (password_file, tcp_ao_id) = signed.map_or((None, None), |(p, id)| (Some(p), id));
        TransportConfig {
            password_file,
            tcp_ao_id,
            ttl_security,
            multihop,
            interface,
        }
    })
}

fn session() -> impl Strategy<Value = SessionConfig> {
    let roles = vec![Role::Auto, Role::None, Role::Rs, Role::RsClient, Role::Peer];
    let waits = (time(0, 240), time(0, 120), time(0, 3_600), time(0, 86_400));
    let flags = (any::<bool>(), any::<bool>());
    (waits, flags, select(roles)).prop_map(|(waits, flags, role)| SessionConfig {
        delay_open: waits.0,
        idle_hold: waits.1,
        add_path: flags.0,
        graceful_restart: waits.2,
        long_lived: waits.3,
        role,
        role_strict: flags.1,
    })
}

fn communities() -> impl Strategy<Value = Vec<Community>> {
    distinct(any::<u32>().prop_map(Community))
}

fn distinct<T: Ord + std::fmt::Debug>(
    one: impl Strategy<Value = T>,
) -> impl Strategy<Value = Vec<T>> {
    proptest::collection::btree_set(one, 0..4).prop_map(|all| all.into_iter().collect())
}

fn prefixes() -> impl Strategy<Value = Vec<Prefix>> {
    let one = (any::<IpAddr>(), 0_u8..=32).prop_map(|(ip, length)| Prefix::new(ip, length));
    distinct(one.prop_map(Result::unwrap))
}

fn lengths(bits: u8) -> impl Strategy<Value = Lengths> {
    (0..=bits, 0..=bits).prop_map(|(one, other)| Lengths::new(one.min(other), one.max(other)))
}

fn policy() -> impl Strategy<Value = Policy> {
    let actions = vec![LimitAction::Restart, LimitAction::Stop, LimitAction::Drop];
    let what = (prefixes(), lengths(32), lengths(128), communities());
    let limits = (
        1_u32..=10_000_000,
        1_u8..=100,
        select(actions),
        time(1_000, 86_400),
        (1_u64 << 20)..=(16 << 30),
    );
    let truths = vec(any::<bool>(), 3);
    let import = select(vec![Accept::All, Accept::None]);
    (import, what, limits, truths, communities()).prop_map(
        |(import, what, limits, truths, announce_communities)| Policy {
            import,
            prefixes: what.0,
            ipv4_lengths: what.1,
            ipv6_lengths: what.2,
            private_space: truths[0],
            first_as_check: truths[1],
            no_steer: what.3,
            max_prefixes_ipv6: limits.0,
            limit_warn: limits.1,
            limit_action: limits.2,
            limit_idle: limits.3,
            attribute_memory: Bytes(limits.4),
            announce: truths[2],
            announce_communities,
        },
    )
}

fn own_policy() -> impl Strategy<Value = OwnPolicy> {
    (distinct(machine()), prefixes(), 1_u32..=4_000_000_000).prop_map(
        |(service_addresses, kernel_routes, kernel_metric)| OwnPolicy {
            service_addresses,
            kernel_routes,
            kernel_metric,
        },
    )
}

/// Any `[fill]` and `[serve.peer]`, but for the zone and cap of the box.
#[derive(Clone, Debug)]
pub(super) struct Night {
    start_s: u32,
    length: Duration,
    /// Thousandths of the cap.
    share: u64,
    fill: fill::Config,
    peer: peer::Config,
}

impl Night {
    pub(super) fn at(self, appliance: &Identity) -> (fill::Config, peer::Config) {
        let cap = appliance.profile.cap().0;
        let fill = fill::Config {
            window: Window::new(&appliance.timezone, self.start_s, self.length).unwrap(),
            rate_limit: BytesPerSecond(cap * self.share / 1_000),
            ..self.fill
        };
        (fill, self.peer)
    }
}

/// Other boxes fetch on ports from 3,001.
pub(super) fn night() -> impl Strategy<Value = Night> {
    let window = (0_u32..=4 * 3_600, time(1_000, 12 * 3_600), 4_u64..=1_000);
    let truths = vec(any::<bool>(), 3);
    let deletion = (time(0, 7 * 86_400), 0_u32..=5);
    let streams = (1_usize..=64, 1_usize..=4);
    let fill = (1_u64..=6_000_000_000_000, streams, deletion, truths);
    let peer = (
        numbered(3_001),
        1_usize..=10_000,
        125_000_u64..=12_500_000_000,
    );
    (window, fill, option::of(path()), peer).prop_map(|(window, fill, origin_ca, peer)| Night {
        start_s: window.0,
        length: window.1,
        share: window.2,
        fill: fill::Config {
            window: Window::new("UTC", 0, window.1).unwrap(),
            rate_limit: BytesPerSecond(0),
            urgent_bytes: Bytes(fill.0),
            streams: fill.1.0,
            sources_at_once: fill.1.1,
            count_peers: fill.3[0],
            deletion_grace: fill.2.0,
            deletion_share: fill.2.1,
            private_sources: fill.3[1],
            plain_origin: fill.3[2],
            origin_ca,
        },
        peer: peer::Config {
            listen: peer.0,
            connections: peer.1,
            rate_limit: BytesPerSecond(peer.2),
        },
    })
}

/// Neighbours whose names and ports differ, listening on ports from 2,001.
pub(super) fn bgp() -> impl Strategy<Value = bgp::Config> {
    let router_id = (1_u32..).prop_map(Ipv4Addr::from);
    let who = (asn(), router_id, numbered(2_001), own_policy());
    (who, vec(neighbour(), 1..4)).prop_map(|((asn, router_id, listen, policy), mut neighbours)| {
        for (one, port) in neighbours.iter_mut().zip(1..) {
            one.name = format!("{}-{port}", one.name);
            one.port = port;
        }
        bgp::Config {
            asn,
            router_id,
            listen,
            neighbours,
            policy,
        }
    })
}

pub(super) fn control() -> impl Strategy<Value = link::Config> {
    (
        "https://[a-z]{1,9}(\\.[a-z0-9]{1,9}x){0,3}(:[1-9][0-9]{0,3})?",
        "sha256:[0-9a-f]{64}",
        option::of(path()),
        path(),
        time(1_000, 3_600),
        time(100, 60),
        time(1_000, 3_600),
    )
        .prop_map(
            |(url, ca, token_file, identity, report, heartbeat, growth)| link::Config {
                url,
                ca,
                token_file,
                identity,
                report_every: report,
                heartbeat_every: heartbeat,
                growth_every: growth,
            },
        )
}

pub(super) fn telemetry() -> impl Strategy<Value = telemetry::Config> {
    let formats = vec![
        LogFormat::Auto,
        LogFormat::Json,
        LogFormat::Text,
        LogFormat::Journald,
    ];
    let levels = select(vec!["info", "off", "WARN", "oca::store=trace,error"]);
    (levels, select(formats)).prop_map(|(level, log_format)| telemetry::Config {
        log_level: level.to_owned(),
        log_format,
    })
}

/// The box's side of the control plane, on ports of its own.
fn doors() -> impl Strategy<Value = (control::LinkConfig, control::PublicConfig)> {
    let names = vec("[a-z]{1,9}(\\.[a-z0-9]{1,9}x){0,3}", 1..3).prop_map(|mut names| {
        names.dedup();
        names
    });
    let bodies = (65_536_u64..=1 << 30, 0_u64..=3 << 30);
    let link = (numbered(1), names, bodies).prop_map(|(listen, names, (body, more))| {
        control::LinkConfig {
            listen,
            names,
            body,
            body_decompressed: body + more,
        }
    });
    let public = (
        numbered(1_001),
        numbered(2_001),
        vec(certificate(), 1..4),
        1_usize..=16,
    );
    let public =
        public.prop_map(
            |(listen, plain_listen, certificates, answers)| control::PublicConfig {
                listen,
                plain_listen,
                tls: tls::Config { certificates },
                answers,
            },
        );
    (link, public)
}

pub(super) fn plane() -> impl Strategy<Value = control::Config> {
    let times = (
        time(1_000, 7 * 86_400),
        time(1_000, 3_600),
        time(3_600_000, 365 * 86_400),
    );
    let staleness = (
        time(1_000, 600),
        1_u32..=100,
        1_u32..=100,
        0_u32..=1_000_000,
    )
        .prop_map(
            |(heartbeat, reports, share, always)| control::StalenessConfig {
                heartbeat,
                reports,
                share,
                always,
            },
        );
    let endpoint = option::of("https?://[a-z]{1,9}(:[1-9][0-9]{0,3})?");
    let import = (endpoint, "[a-z0-9-]{1,20}", option::of(path())).prop_map(
        |(endpoint, region, credentials_file)| control::ImportConfig {
            endpoint,
            region,
            credentials_file,
        },
    );
    let fill = (time(1_000, 3_600), 1_usize..=1_000).prop_map(|(ask_again, urgent_max)| {
        control::FillConfig {
            ask_again,
            urgent_max,
        }
    });
    let names = (path(), "[a-z]{1,9}(\\.[a-z0-9]{1,9}x){1,3}", path());
    let tokens =
        (option::of(path()), time(60_000, 7 * 86_400)).prop_map(|(secret_file, lifetime)| {
            control::TokensConfig {
                secret_file,
                lifetime,
            }
        });
    let rest = (import, fill, tokens, telemetry());
    (names, times, doors(), staleness, rest).prop_map(
        |((state_dir, domain, socket), times, (link, public), staleness, rest)| {
            let (import, fill, tokens, telemetry) = rest;
            control::Config {
                state_dir,
                domain,
                lease: times.0,
                report_every: times.1,
                manifest_validity: times.2,
                link,
                public,
                admin: control::AdminConfig { socket },
                staleness,
                import,
                fill,
                tokens,
                telemetry,
            }
        },
    )
}
