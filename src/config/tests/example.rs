//! The files in `config/` and the code must say the same: every key, default, range and reload.

use super::*;
use crate::ids::Profile;
use crate::units;
use crate::units::Bytes;
use crate::window;

/// A key line of the example with the comment above it.
struct Entry {
    name: String,
    literal: String,
    /// `#key = value`: an optional key without a default.
    is_off: bool,
    comment: String,
}

/// Reads the example as an operator does: headers, comments, key lines.
fn entries(example: &str) -> Vec<Entry> {
    let (mut section, mut comment) = (String::new(), String::new());
    let mut entries = Vec::new();
    for line in example.lines() {
        let off = line.strip_prefix('#').filter(|rest| !rest.starts_with(' '));
        if let Some((name, literal)) = off.unwrap_or(line).split_once(" = ")
            && !line.starts_with("# ")
        {
            entries.push(Entry {
                name: format!("{section}.{name}"),
                literal: literal.to_owned(),
                is_off: off.is_some(),
                comment: std::mem::take(&mut comment),
            });
        } else if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).to_owned();
            comment.clear();
        } else if let Some(text) = line.strip_prefix('#') {
            comment.push_str(text);
        } else {
            comment.clear();
        }
    }
    entries
}

#[test]
fn the_example_names_every_key_in_the_order_of_the_table_and_no_other() {
    names::<Config>();
    names::<control::Config>();
}

fn names<C: Sort>() {
    let named: Vec<String> = entries(C::EXAMPLE)
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    let keys = |section: &'static Section| section.keys.iter().map(|key| section.dotted(key.name));
    let known: Vec<String> = C::SCHEMA.sections.iter().flat_map(keys).collect();
    assert_eq!(named, known);
}

#[test]
fn the_example_gives_each_key_its_literal_and_its_comment_tells_need_range_and_reload() {
    comments::<Config>();
    comments::<control::Config>();
}

fn comments<C: Sort>() {
    let all = entries(C::EXAMPLE);
    let keys = C::SCHEMA.sections.iter().flat_map(|section| section.keys);
    for (entry, key) in all.iter().zip(keys) {
        let name = &entry.name;
        let (literal, is_required, is_off) = match key.fallback {
            Fallback::Required(literal) => (literal, true, false),
            Fallback::Default(literal) => (literal, false, false),
            Fallback::Absent(literal) => (literal, false, true),
        };
        assert_eq!(
            (entry.literal.as_str(), entry.is_off),
            (literal, is_off),
            "{name}"
        );
        assert_eq!(entry.comment.contains("Required"), is_required, "{name}");
        assert_eq!(entry.comment.contains("Reload: yes"), key.reload, "{name}");
        assert_eq!(
            entry.comment.contains("Reload: no, restart"),
            !key.reload,
            "{name}"
        );
        let range = match key.kind {
            Kind::Integer { min, max } => format!("From {min} to {max}."),
            Kind::Bytes { min, max } => {
                format!(
                    "From {} to {}.",
                    value::show_bytes(min),
                    value::show_bytes(max)
                )
            }
            Kind::Time { min, max } => {
                let show = units::show_duration;
                format!("From {} to {}.", show(min), show(max))
            }
            Kind::Rate { min, max } => {
                let show = value::show_rate;
                format!("From {} to {}.", show(min), show(max))
            }
            Kind::TimeOfDay { max_s } => format!("From 00:00 to {}.", window::time_of_day(max_s)),
            Kind::SocketPath => "At most 103 bytes.".to_owned(),
            Kind::Word(words) | Kind::Words(words) => {
                for word in words {
                    assert!(
                        entry.comment.contains(&format!("\"{word}\"")),
                        "{name}: {word}"
                    );
                }
                continue;
            }
            Kind::Asn => "One plain number.".to_owned(),
            _ => continue,
        };
        assert!(entry.comment.contains(&range), "{name}: {range}");
    }
}

#[test]
fn the_example_loads_as_it_is_and_says_nothing_but_the_defaults() {
    example_is_default::<Config>();
    example_is_default::<control::Config>();
}

fn example_is_default<C: Sort>() {
    let loaded = C::load_text(C::EXAMPLE).unwrap_or_else(|problems| panic!("{problems}"));
    let smallest = C::load_text(&C::with(&[])).unwrap();
    assert_eq!(loaded.config, smallest.config);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(C::SCHEMA.example);
    assert_eq!(C::load_file(&file).unwrap().config, loaded.config);
}

#[test]
fn the_example_loads_with_its_optional_keys_turned_on() {
    turned_on::<Config>();
    turned_on::<control::Config>();
}

fn turned_on<C: Sort>() {
    let turned_on: String = C::EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.contains(" = ") && !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let settings = C::load_text(&turned_on).unwrap().settings;
    assert!(settings.iter().all(|one| one.value != "none"));
}

#[test]
fn the_defaults_are_those_that_the_modules_document() {
    let config = load_text(&file_with(&[])).unwrap().config;
    let limits = &config.serve.limits;
    assert_eq!(config.stop_time, Duration::from_secs(30));
    assert_eq!(config.serve.listen, ["[::]:443".parse().unwrap()]);
    assert!(config.serve.plain_listen.is_empty() && config.serve.access_log.is_none());
    assert_eq!(
        (limits.connections, limits.connections_per_address),
        (100_000, 1_000)
    );
    assert_eq!(
        (limits.head, limits.headers, limits.progress),
        (16_384, 64, 16_384)
    );
    assert_eq!(limits.requests, 10_000);
    let seconds = [
        limits.handshake_time,
        limits.head_time,
        limits.idle_time,
        limits.progress_time,
        limits.linger_time,
        limits.linger_limit,
    ];
    assert_eq!(
        seconds.map(|time| time.as_secs()),
        [10, 10, 60, 20, 600, 7_200]
    );
    assert_eq!(config.store.deadline, Duration::from_secs(10));
    assert_eq!(config.store.state_dir, Path::new("/var/lib/oca"));
    assert_eq!(config.admin.socket, Path::new("/run/oca/oca.sock"));
    assert_eq!(
        config.admin.read_only_socket,
        Path::new("/run/oca/oca-ro.sock")
    );
    assert_eq!(config.health.require.len(), 3);
    assert_eq!(config.telemetry.log_level, "info");
    let bgp = config.bgp.unwrap();
    assert_eq!(bgp.listen, ["[::]:179".parse().unwrap()]);
    let neighbour = &bgp.neighbours[0];
    assert_eq!((neighbour.port, neighbour.max_prefixes), (179, 1_500_000));
    assert!(!neighbour.passive && neighbour.local_address.is_none());
    assert_eq!(neighbour.hold_time, Duration::from_secs(90));
    assert_eq!(neighbour.connect_retry, Duration::from_secs(30));
    assert_eq!(neighbour.bogons, bgp::Bogons::Default);
    assert_eq!(neighbour.transport, bgp::TransportConfig::default());
    assert_eq!(neighbour.session, bgp::SessionConfig::default());
    let control = config.control.unwrap();
    assert_eq!(control.identity, Path::new("/var/lib/oca/identity"));
    assert_eq!(control.report_every, Duration::from_secs(300));
    assert_eq!(control.heartbeat_every, Duration::from_secs(10));
    assert_eq!(control.growth_every, Duration::from_secs(60));
}

#[test]
fn the_defaults_of_the_night_are_those_that_its_rooms_document() {
    let config = load_text(&file_with(&[])).unwrap().config;
    let fill = config.fill;
    assert_eq!(
        (fill.window.zone(), fill.window.start()),
        ("Europe/Paris", "02:00".to_owned())
    );
    assert_eq!(fill.window.length(), Duration::from_secs(12 * 3_600));
    assert_eq!(fill.rate_limit, Profile::Storage.cap());
    assert_eq!(
        (fill.urgent_bytes, fill.streams),
        (Bytes(200_000_000_000), 8)
    );
    assert_eq!(fill.sources_at_once, 3);
    assert_eq!(fill.deletion_grace, Duration::from_secs(3 * 3_600));
    assert_eq!(fill.deletion_share, 5);
    assert!(fill.count_peers && !fill.private_sources && !fill.plain_origin);
    assert!(fill.origin_ca.is_none());
    let peer = config.peer;
    assert!(peer.listen.is_empty());
    assert_eq!(
        (peer.connections, peer.rate_limit),
        (64, Profile::Storage.cap())
    );
}

#[test]
fn the_defaults_of_the_control_plane_are_those_that_it_documents() {
    let config = load_plane(&written(&CONTROL_PLANE, &[])).unwrap().config;
    assert_eq!(config.state_dir, Path::new("/var/lib/oca-control"));
    let times = [config.lease, config.report_every, config.manifest_validity];
    assert_eq!(times.map(|time| time.as_secs()), [1_800, 300, 30 * 86_400]);
    assert_eq!(config.link.listen, ["[::]:8443".parse().unwrap()]);
    assert_eq!(
        (config.link.body, config.link.body_decompressed),
        (256 << 20, 512 << 20)
    );
    assert!(config.public.listen.is_empty());
    assert_eq!(
        config.public.plain_listen,
        ["127.0.0.1:8080".parse().unwrap()]
    );
    assert_eq!(config.public.answers, 3);
    assert_eq!(
        config.admin.socket,
        Path::new("/run/oca-control/control.sock")
    );
    let staleness = &config.staleness;
    assert_eq!(staleness.heartbeat, Duration::from_secs(25));
    assert_eq!(
        (staleness.reports, staleness.share, staleness.always),
        (3, 30, 3)
    );
    assert_eq!(config.import.region, "us-east-1");
    assert!(config.import.endpoint.is_none() && config.import.credentials_file.is_none());
}
