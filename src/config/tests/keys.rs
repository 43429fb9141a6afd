//! Tests over every key of both schemas: defaults, ranges, words, reload, the way to `Config`.

use super::*;
use crate::units;
use crate::window;
use std::collections::BTreeSet;

pub(super) const BOX_OTHERWISE: &[(&str, &str)] = &[
    ("appliance.id", r#""c010-tls001-example-isp""#),
    ("appliance.site", r#""tls001.example.isp""#),
    ("appliance.profile", r#""flash""#),
    ("appliance.timezone", r#""America/New_York""#),
    ("appliance.state_dir", r#""/state""#),
    ("appliance.stop_time", r#""1500ms""#),
    ("serve.listen", r#"["192.0.2.1:8443", "[2001:db8::1]:443"]"#),
    ("serve.plain_listen", r#"["192.0.2.1:80"]"#),
    ("serve.workers", "3"),
    ("serve.access_log", r#""/log""#),
    ("serve.access_log_sample", "10"),
    ("serve.tls.tls_offload", r#""require""#),
    ("serve.drop_behind", "true"),
    ("serve.tls.certificate.chain", r#""/c \"1\" \\ é.pem""#),
    ("serve.tls.certificate.key", r#""/k.pem""#),
    ("serve.limits.connections", "1_234"),
    ("serve.limits.connections_per_address", "7"),
    ("serve.limits.handshakes_per_address", "8"),
    ("serve.limits.head", r#""8 kB""#),
    ("serve.limits.headers", "65"),
    ("serve.limits.handshake_time", r#""11s""#),
    ("serve.limits.head_time", r#""12s""#),
    ("serve.limits.idle_time", r#""13s""#),
    ("serve.limits.progress_time", r#""14s""#),
    ("serve.limits.progress", r#""1023 B""#),
    ("serve.limits.requests", "15"),
    ("serve.limits.linger_time", r#""16m""#),
    ("serve.limits.linger_limit", r#""17h""#),
    ("serve.tokens.mode", r#""optional""#),
    ("serve.tokens.key_file", r#""/keys""#),
    ("serve.speedtest.enabled", "false"),
    ("serve.speedtest.rate_limit", r#""2 Gbit/s""#),
    ("serve.speedtest.connections", "63"),
    ("serve.speedtest.upload_max", r#""32 MiB""#),
    ("serve.pacing.rate_limit", r#""40 Mbit/s""#),
    ("serve.pacing.cmcd", "false"),
    ("serve.peer.listen", r#"["192.0.2.1:7443"]"#),
    ("serve.peer.connections", "65"),
    ("serve.peer.rate_limit", r#""400 Mbit/s""#),
    ("disk.path", r#""/d""#),
    ("disk.class", r#""hdd""#),
    ("disk.zone", r#""inner""#),
    ("disk.plain_directory", "true"),
    ("store.deadline", r#""18s""#),
    ("store.scrub_every", r#""29d""#),
    ("store.scrub_rate", r#""128 Mbit/s""#),
    ("store.quarantine_time", r#""8d""#),
    ("store.quarantine_bytes", r#""11 GB""#),
    ("store.refill_after", r#""23h""#),
    ("store.refill_hot_after", r#""2h""#),
    ("store.moves_per_night", r#""300 GB""#),
    ("store.replicas_percent", "3"),
    ("bgp.asn", "64502"),
    ("bgp.router_id", r#""192.0.2.10""#),
    ("bgp.listen", r#"["192.0.2.1:179"]"#),
    ("bgp.service_addresses", r#"["203.0.113.9", "2001:db8::9"]"#),
    ("bgp.kernel_routes", r#"["0.0.0.0/0", "::/0"]"#),
    ("bgp.kernel_metric", "600"),
    ("bgp.neighbour.name", r#""route-server.2""#),
    ("bgp.neighbour.address", r#""192.0.2.2""#),
    ("bgp.neighbour.port", "1179"),
    ("bgp.neighbour.asn", "4_200_000_000"),
    ("bgp.neighbour.class", r#""transit""#),
    ("bgp.neighbour.local_address", r#""192.0.2.10""#),
    ("bgp.neighbour.passive", "true"),
    ("bgp.neighbour.hold_time", r#""3s""#),
    ("bgp.neighbour.connect_retry", r#""500ms""#),
    ("bgp.neighbour.max_prefixes", "7"),
    ("bgp.neighbour.bogons", r#""none""#),
    ("bgp.neighbour.password_file", r#""/password""#),
    ("bgp.neighbour.tcp_ao_id", "7"),
    ("bgp.neighbour.ttl_security", "false"),
    ("bgp.neighbour.multihop", "2"),
    ("bgp.neighbour.interface", r#""bond0.7""#),
    ("bgp.neighbour.delay_open", r#""5s""#),
    ("bgp.neighbour.idle_hold", r#""2s""#),
    ("bgp.neighbour.add_path", "true"),
    ("bgp.neighbour.graceful_restart", r#""6m""#),
    ("bgp.neighbour.long_lived_restart", r#""1h""#),
    ("bgp.neighbour.role", r#""rs-client""#),
    ("bgp.neighbour.role_strict", "true"),
    ("bgp.neighbour.import", r#""none""#),
    ("bgp.neighbour.prefixes", r#"["192.0.2.0/24"]"#),
    ("bgp.neighbour.ipv4_lengths", r#""9-24""#),
    ("bgp.neighbour.ipv6_lengths", r#""20-48""#),
    ("bgp.neighbour.private_space", "true"),
    ("bgp.neighbour.first_as_check", "false"),
    ("bgp.neighbour.no_steer", r#"["64500:666"]"#),
    ("bgp.neighbour.max_prefixes_ipv6", "8"),
    ("bgp.neighbour.limit_warn", "70"),
    ("bgp.neighbour.limit_action", r#""drop""#),
    ("bgp.neighbour.limit_idle", r#""90s""#),
    ("bgp.neighbour.attribute_memory", r#""128 MiB""#),
    ("bgp.neighbour.announce", "true"),
    (
        "bgp.neighbour.announce_communities",
        r#"["64500:1", "65535:65281"]"#,
    ),
    ("control.url", r#""https://[2001:db8::1]""#),
    (
        "control.ca",
        r#""sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff""#,
    ),
    ("control.token_file", r#""/t""#),
    ("control.identity", r#""/i""#),
    ("control.report_every", r#""19s""#),
    ("control.heartbeat_every", r#""1500ms""#),
    ("control.growth_every", r#""5s""#),
    ("fill.window_start", r#""00:30:01""#),
    ("fill.window_length", r#""90m""#),
    ("fill.rate_limit", r#""299.9 Mbit/s""#),
    ("fill.urgent", r#""1 GB""#),
    ("fill.streams", "9"),
    ("fill.sources_at_once", "2"),
    ("fill.count_peers", "false"),
    ("fill.deletion_grace", r#""20s""#),
    ("fill.deletion_share", "4"),
    ("fill.private_sources", "true"),
    ("fill.plain_origin", "true"),
    ("fill.origin_ca", r#""/ca.pem""#),
    ("gate.require", r#"["clock"]"#),
    ("admin.socket", r#""/s""#),
    ("admin.read_only_socket", r#""/r""#),
    ("admin.metrics_listen", r#""192.0.2.1:9000""#),
    ("telemetry.log_level", r#""info,oca::serve=debug""#),
    ("telemetry.log_format", r#""json""#),
];

pub(super) const PLANE_OTHERWISE: &[(&str, &str)] = &[
    ("control.state_dir", r#""/state""#),
    ("control.domain", r#""cache.example.net""#),
    ("control.lease", r#""1m""#),
    ("control.report_every", r#""2m""#),
    ("control.manifest_validity", r#""3d""#),
    ("link.listen", r#"["192.0.2.1:8443"]"#),
    ("link.names", r#"["192.0.2.1", "a.example.net"]"#),
    ("link.body", r#""1 MiB""#),
    ("link.body_decompressed", r#""2 GiB""#),
    ("public.listen", r#"["192.0.2.1:443"]"#),
    ("public.plain_listen", r#"["192.0.2.1:80"]"#),
    ("public.answers", "4"),
    ("public.certificate.chain", r#""/c.pem""#),
    ("public.certificate.key", r#""/k.pem""#),
    ("admin.socket", r#""/s""#),
    ("fill.ask_again", r#""7s""#),
    ("fill.urgent_max", "17"),
    ("staleness.heartbeat", r#""5s""#),
    ("staleness.reports", "5"),
    ("staleness.share", "6"),
    ("staleness.always", "7"),
    ("import.endpoint", r#""http://127.0.0.1:8333""#),
    ("import.region", r#""eu-west-3""#),
    ("import.credentials_file", r#""/key""#),
    ("tokens.secret_file", r#""/secret""#),
    ("tokens.lifetime", r#""4h""#),
    ("telemetry.log_level", r#""info,oca::control=debug""#),
    ("telemetry.log_format", r#""json""#),
];

/// What a key cannot be written without.
fn company(key: &str) -> &'static [(&'static str, &'static str)] {
    match key {
        "bgp.neighbour.tcp_ao_id" => &[("bgp.neighbour.password_file", "\"/p\"")],
        "disk.zone" => &[("disk.class", "\"hdd\"")],
        _ => &[],
    }
}

#[test]
fn every_key_reaches_the_configuration_and_its_change_is_told_with_its_reload() {
    changes_of_keys::<Config>();
    changes_of_keys::<control::Config>();
}

fn changes_of_keys<C: Sort>() {
    let mut tried = BTreeSet::new();
    for (name, value) in C::OTHERWISE {
        let without = company(name);
        let base = C::load_text(&C::with(without)).unwrap().config;
        let with = [without, &[(*name, *value)]].concat();
        let loaded = C::load_text(&C::with(&with)).unwrap_or_else(|e| panic!("{e}"));
        let mut changes = changes(&base, &loaded.config);
        if *name == "appliance.profile" {
            // It moves the cap too, which is told.
            assert_eq!(changes.pop().unwrap().key, "fill.rate_limit");
        }
        assert_eq!(changes.len(), 1, "{name}: {changes:?}");
        assert_eq!(changes[0].key.replace("[0]", ""), *name);
        assert_eq!(
            changes[0].new,
            value.replace('_', "").replace("NewYork", "New_York")
        );
        let (_, key) = C::keys()
            .find(|(section, key)| section.dotted(key.name) == *name)
            .unwrap();
        assert_eq!(changes[0].reloadable, key.reload, "{name}");
        tried.insert((*name).to_owned());
    }
    let known: BTreeSet<String> = C::keys().map(|(s, key)| s.dotted(key.name)).collect();
    assert_eq!(tried, known);
}

#[test]
fn every_field_of_the_configuration_has_its_key() {
    fields_without_key::<Config>();
    fields_without_key::<control::Config>();
}

fn fields_without_key<C: Sort>() {
    let full = C::load_text(&C::with(C::OTHERWISE)).unwrap().config;
    let mut json = serde_json::to_value(&full).unwrap();
    for section in C::SCHEMA.sections {
        if let Shape::Repeated(pointer) = section.shape {
            for index in 0..json.pointer(pointer).unwrap().as_array().unwrap().len() {
                for key in section.keys {
                    let pointer = format!("{pointer}/{index}{}", key.pointer);
                    *json.pointer_mut(&pointer).unwrap() = serde_json::json!([]);
                }
            }
        } else {
            for key in section.keys {
                *json.pointer_mut(key.pointer).unwrap() = serde_json::json!([]);
            }
        }
    }
    if let Some(zone) = json.pointer_mut("/fill/window/zone_name") {
        // [appliance] timezone.
        assert_eq!(zone.take(), "America/New_York");
        *zone = serde_json::json!([]);
    }
    // Families are told apart by a digit in their names.
    let rest = json.to_string().replace("ipv4", "").replace("ipv6", "");
    let quiet = |c: char| !c.is_ascii_digit();
    assert!(rest.chars().all(quiet) && !rest.contains(":\""), "{rest}");
    assert!(!rest.contains("true") && !rest.contains("null"), "{rest}");
}

#[test]
fn every_default_and_every_example_is_a_value_of_its_key() {
    literals::<Config>();
    literals::<control::Config>();
}

fn literals<C: Sort>() {
    for (section, key) in C::keys() {
        let name = section.dotted(key.name);
        let literal = match key.fallback {
            Fallback::Required(literal)
            | Fallback::Default(literal)
            | Fallback::Absent(literal) => literal,
        };
        let with = [company(&name), &[(&name, literal)]].concat();
        let loaded = C::load_text(&C::with(&with));
        let setting = loaded.unwrap().settings.into_iter();
        let setting = setting.map(|one| (one.key.replace("[0]", ""), one.value));
        let shown: BTreeMap<String, String> = setting.collect();
        assert_eq!(shown[&name], literal.replace('_', ""), "{name}");
    }
}

#[test]
fn every_range_takes_its_ends_and_refuses_what_lies_beyond_naming_both() {
    ranges::<Config>();
    ranges::<control::Config>();
}

fn ranges<C: Sort>() {
    for (section, key) in C::keys() {
        let name = section.dotted(key.name);
        let (ends, beyond, low, high) = match key.kind {
            Kind::Integer { min, max } => {
                let beyond = [i128::from(min) - 1, i128::from(max) + 1];
                let beyond = beyond.map(|n| n.to_string());
                let (low, high) = (min.to_string(), max.to_string());
                ([low.clone(), high.clone()], beyond, low, high)
            }
            Kind::Bytes { min, max } => {
                let shown = |n: u64| format!("\"{n} B\"");
                let ends = [shown(min), shown(max)];
                let (low, high) = (value::show_bytes(min), value::show_bytes(max));
                // Below nothing there is nothing.
                let below = min.checked_sub(1).unwrap_or(max + 2);
                (ends, [shown(below), shown(max + 1)], low, high)
            }
            Kind::Time { min, max } => {
                let shown = |n: u128| format!("\"{n}ms\"");
                let (min_ms, max_ms) = (min.as_millis(), max.as_millis());
                let below = if min_ms == 0 {
                    "\"0.5ms\"".to_owned()
                } else {
                    shown(min_ms - 1)
                };
                let (low, high) = (units::show_duration(min), units::show_duration(max));
                let ends = [shown(min_ms), shown(max_ms)];
                (ends, [below, shown(max_ms + 1)], low, high)
            }
            Kind::Rate { min, max } => {
                let shown = |n: u64| format!("\"{} bit/s\"", n * 8);
                let (low, high) = (value::show_rate(min), value::show_rate(max));
                let (ends, beyond) = ([min, max], [min - 1, max + 1]);
                (ends.map(shown), beyond.map(shown), low, high)
            }
            Kind::TimeOfDay { max_s } => {
                let high = window::time_of_day(max_s);
                let ends = ["\"00:00\"".to_owned(), format!("\"{high}\"")];
                let beyond = [max_s + 1, 86_399].map(|s| format!("\"{}\"", window::time_of_day(s)));
                (ends, beyond, "00:00".to_owned(), high)
            }
            Kind::Asn => {
                let ends = ["1".to_owned(), u32::MAX.to_string()];
                let beyond = ["0".to_owned(), "4294967296".to_owned()];
                let [low, high] = ends.clone();
                (ends, beyond, low, high)
            }
            _ => continue,
        };
        for end in ends {
            // What a key may be at most, or at least, may ask something of another.
            let range = match name.as_str() {
                "link.body" => ("link.body_decompressed", "\"4 GiB\""),
                "link.body_decompressed" => ("link.body", "\"64 KiB\""),
                _ => (name.as_str(), end.as_str()),
            };
            let with = [company(&name), &[range, (&name, &end)]].concat();
            assert!(C::load_text(&C::with(&with)).is_ok(), "{name} = {end}");
        }
        for beyond in beyond {
            let problems = C::load_text(&C::with(&[(&name, &beyond)])).unwrap_err().0;
            assert_eq!(problems.len(), 1, "{name} = {beyond}");
            assert_eq!(problems[0].key, name);
            let range = format!("from {low} to {high}");
            assert!(problems[0].problem.contains(&range), "{}", problems[0]);
        }
    }
}

#[test]
fn every_word_of_every_list_of_words_is_taken() {
    words::<Config>();
    words::<control::Config>();
}

fn words<C: Sort>() {
    for (section, key) in C::keys() {
        let name = section.dotted(key.name);
        match key.kind {
            Kind::Word(words) => {
                for word in words {
                    let literal = format!("\"{word}\"");
                    let with = [company(&name), &[(&name, &literal)]].concat();
                    assert!(C::load_text(&C::with(&with)).is_ok(), "{word}");
                }
            }
            Kind::Words(words) => {
                for word in words {
                    let literal = format!("[\"{word}\"]");
                    assert!(
                        C::load_text(&C::with(&[(&name, &literal)])).is_ok(),
                        "{word}"
                    );
                }
            }
            _ => {}
        }
    }
}

#[test]
fn every_key_refuses_a_value_of_another_kind_with_its_example() {
    other_kinds::<Config>();
    other_kinds::<control::Config>();
}

fn other_kinds<C: Sort>() {
    for (section, key) in C::keys() {
        let name = section.dotted(key.name);
        for wrong in ["1979-05-27", "{ a = 1 }", "1e3", "[[]]", "[true]"] {
            let problems = C::load_text(&C::with(&[(&name, wrong)])).unwrap_err().0;
            assert_eq!(problems.len(), 1, "{name} = {wrong}: {problems:?}");
            assert_eq!(problems[0].key, name);
            assert!(
                problems[0].problem.starts_with("must be "),
                "{}",
                problems[0]
            );
            let remedy = &problems[0].remedy;
            assert!(remedy.starts_with(&format!("write for example `{} = ", key.name)));
        }
    }
}

#[test]
fn disks_that_come_or_go_are_told_whole() {
    let one = load_text(&file_with(&[])).unwrap().config;
    let text = file_with(&[]) + "[[disk]]\npath = \"/two\"\nclass = \"hdd\"\n";
    let two = load_text(&text).unwrap().config;
    let whole = r#"{ path = "/two", class = "hdd", zone = "none", plain_directory = false }"#;
    let came = changes(&one, &two);
    assert_eq!(came.len(), 1);
    assert_eq!(
        (came[0].key.as_str(), came[0].old.as_str()),
        ("disk[1]", "none")
    );
    assert_eq!((came[0].new.as_str(), came[0].reloadable), (whole, false));
    let went = changes(&two, &one);
    assert_eq!(
        (went[0].old.as_str(), went[0].new.as_str()),
        (whole, "none")
    );
    assert!(changes(&two, &two).is_empty());
}
