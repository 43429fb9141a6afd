//! Tests over every key of the table: defaults, ranges, words, reload, the way to `Config`.

use super::*;
use crate::units;
use std::collections::BTreeSet;

/// For every key a value that is neither its default nor its example.
const OTHERWISE: &[(&str, &str)] = &[
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
    ("serve.tls.certificate.chain", r#""/c \"1\" \\ é.pem""#),
    ("serve.tls.certificate.key", r#""/k.pem""#),
    ("serve.limits.connections", "1_234"),
    ("serve.limits.connections_per_address", "7"),
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
    ("disk.path", r#""/d""#),
    ("disk.class", r#""hdd""#),
    ("disk.plain_directory", "true"),
    ("store.deadline", r#""18s""#),
    ("gate.require", r#"["clock"]"#),
    ("admin.socket", r#""/s""#),
    ("admin.read_only_socket", r#""/r""#),
    ("admin.metrics_listen", r#""192.0.2.1:9000""#),
    ("telemetry.log_level", r#""info,oca::serve=debug""#),
    ("telemetry.log_format", r#""json""#),
];

fn every_key() -> impl Iterator<Item = (&'static Section, &'static Key)> {
    let keys = |section: &'static Section| section.keys.iter().map(move |key| (section, key));
    SECTIONS.iter().flat_map(keys)
}

#[test]
fn every_key_reaches_the_configuration_and_its_change_is_told_with_its_reload() {
    let base = load_text(&file_with(&[])).unwrap().config;
    let mut tried = BTreeSet::new();
    for (name, value) in OTHERWISE {
        let loaded = load_text(&file_with(&[(name, value)])).unwrap_or_else(|e| panic!("{e}"));
        let changes = changes(&base, &loaded.config);
        assert_eq!(changes.len(), 1, "{name}: {changes:?}");
        assert_eq!(changes[0].key.replace("[0]", ""), *name);
        assert_eq!(
            changes[0].new,
            value.replace('_', "").replace("NewYork", "New_York")
        );
        let (_, key) = every_key()
            .find(|(section, key)| section.dotted(key.name) == *name)
            .unwrap();
        assert_eq!(changes[0].reloadable, key.reload, "{name}");
        tried.insert((*name).to_owned());
    }
    let known: BTreeSet<String> = every_key().map(|(s, key)| s.dotted(key.name)).collect();
    assert_eq!(tried, known);
}

#[test]
fn every_field_of_the_configuration_has_its_key() {
    let full = load_text(&file_with(OTHERWISE)).unwrap().config;
    let mut json = serde_json::to_value(&full).unwrap();
    for section in SECTIONS {
        if section.repeated {
            for index in 0..json
                .pointer(section.pointer)
                .unwrap()
                .as_array()
                .unwrap()
                .len()
            {
                for key in section.keys {
                    let pointer = format!("{}/{index}{}", section.pointer, key.pointer);
                    *json.pointer_mut(&pointer).unwrap() = serde_json::json!([]);
                }
            }
        } else {
            for key in section.keys {
                *json.pointer_mut(key.pointer).unwrap() = serde_json::json!([]);
            }
        }
    }
    let rest = json.to_string();
    let quiet = |c: char| !c.is_ascii_digit();
    assert!(rest.chars().all(quiet) && !rest.contains(":\""), "{rest}");
    assert!(!rest.contains("true") && !rest.contains("null"), "{rest}");
}

#[test]
fn every_default_and_every_example_is_a_value_of_its_key() {
    for (section, key) in every_key() {
        let name = section.dotted(key.name);
        let literal = match key.fallback {
            Fallback::Required(literal)
            | Fallback::Default(literal)
            | Fallback::Absent(literal) => literal,
        };
        let loaded = load_text(&file_with(&[(&name, literal)]));
        let setting = loaded.unwrap().settings.into_iter();
        let setting = setting.map(|one| (one.key.replace("[0]", ""), one.value));
        let shown: BTreeMap<String, String> = setting.collect();
        assert_eq!(shown[&name], literal.replace('_', ""), "{name}");
    }
}

#[test]
fn every_range_takes_its_ends_and_refuses_what_lies_beyond_naming_both() {
    for (section, key) in every_key() {
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
                (ends, [shown(min - 1), shown(max + 1)], low, high)
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
            _ => continue,
        };
        for end in ends {
            assert!(
                load_text(&file_with(&[(&name, &end)])).is_ok(),
                "{name} = {end}"
            );
        }
        for beyond in beyond {
            let problems = load_text(&file_with(&[(&name, &beyond)])).unwrap_err().0;
            assert_eq!(problems.len(), 1, "{name} = {beyond}");
            assert_eq!(problems[0].key, name);
            let range = format!("from {low} to {high}");
            assert!(problems[0].problem.contains(&range), "{}", problems[0]);
        }
    }
}

#[test]
fn every_word_of_every_list_of_words_is_taken() {
    for (section, key) in every_key() {
        let name = section.dotted(key.name);
        match key.kind {
            Kind::Word(words) => {
                for word in words {
                    let literal = format!("\"{word}\"");
                    assert!(
                        load_text(&file_with(&[(&name, &literal)])).is_ok(),
                        "{word}"
                    );
                }
            }
            Kind::Words(words) => {
                for word in words {
                    let literal = format!("[\"{word}\"]");
                    assert!(
                        load_text(&file_with(&[(&name, &literal)])).is_ok(),
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
    for (section, key) in every_key() {
        let name = section.dotted(key.name);
        for wrong in ["1979-05-27", "{ a = 1 }", "12.5", "[[]]", "[true]"] {
            let problems = load_text(&file_with(&[(&name, wrong)])).unwrap_err().0;
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
    let whole = r#"{ path = "/two", class = "hdd", plain_directory = false }"#;
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
