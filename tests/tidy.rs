//! The house's order: layout, import directions, sizes, one clock, `unsafe` in one room.
//!
//! Each message says what to do. A room that is not in [`MAY_IMPORT`] needs a row there.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use std::fs;
use std::path::Path;
use std::path::PathBuf;

const FILE_LINES_MAX: usize = 500;
const LINE_COLUMNS_MAX: usize = 100;

/// Everybody may import these.
const VOCABULARY: &[&str] = &[
    "clock",
    "command",
    "durable",
    "gate",
    "help",
    "ids",
    "key",
    "lock",
    "media_type",
    "object",
    "pacer",
    "prefix",
    "prefix_map",
    "route",
    "route_table",
    "set_hash",
    "units",
    "window",
];

/// Plumbing that everybody but the vocabulary may import.
const PLUMBING: &[&str] = &["sys", "task", "telemetry", "tree"];

/// Room → what it may import besides vocabulary, plumbing and itself. `*`: everything.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    (
        "admin",
        &[
            "bgp", "fill", "health", "link", "local", "peer", "serve", "store",
        ],
    ),
    (
        "appliance",
        &[
            "admin", "bgp", "config", "fill", "health", "link", "load", "peer", "serve", "store",
            "tls",
        ],
    ),
    ("bgp", &[]),
    ("cli", &["*"]),
    (
        "config",
        &[
            "admin", "bgp", "control", "fill", "health", "link", "peer", "serve", "store", "tls",
        ],
    ),
    ("control", &["link", "local", "origin", "tls"]),
    ("demo", &["*"]),
    ("fill", &["link", "store", "tls"]),
    ("health", &["bgp", "link", "serve", "store"]),
    ("lib", &["*"]),
    ("link", &["tls"]),
    ("load", &[]),
    ("local", &[]),
    ("main", &["*"]),
    ("origin", &["tls"]),
    // `serve` for the way of the bytes, not for viewers: docs/DECISIONS.md.
    ("peer", &["link", "serve", "store", "tls"]),
    ("serve", &["store", "tls"]),
    ("store", &[]),
    ("sys", &[]),
    ("task", &[]),
    ("telemetry", &[]),
    ("tls", &[]),
    ("tree", &[]),
];

/// From these rooms the others may take types, never functions.
const ONLY_TYPES: &[(&str, &[&str])] = &[
    (
        "admin",
        &["bgp", "fill", "health", "link", "peer", "serve", "store"],
    ),
    (
        "config",
        &[
            "admin",
            "bgp",
            "control",
            "fill",
            "health",
            "link",
            "peer",
            "serve",
            "store",
            "telemetry",
            "tls",
        ],
    ),
    ("health", &["bgp", "serve", "store"]),
];

const TOP_LEVEL: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "benches",
    "config",
    "docs",
    "src",
    "systemd",
    "target",
    "tests",
];

/// Source text split so that this file does not find itself.
const FORBIDDEN: &[(&str, &str, &[&str])] = &[
    ("Instant::", "now()", &["src/clock.rs"]),
    ("SystemTime::", "now()", &["src/clock.rs"]),
    ("thread::", "sleep(", &["src/clock.rs"]),
    ("todo", "!(", &[]),
    ("unimplemented", "!(", &[]),
    ("#[ig", "nore", &[]),
    ("use crate", "::{", &[]),
    ("dbg", "!(", &[]),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(below: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(below)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                folders.push(path);
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).unwrap();
                let short = path.strip_prefix(root()).unwrap();
                found.push((short.to_string_lossy().into_owned(), text));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no Rust files below {below}");
    found
}

fn all_rust() -> Vec<(String, String)> {
    let mut files = rust_files("src");
    files.extend(rust_files("tests"));
    files.extend(rust_files("benches"));
    files
}

fn report(problems: &[String]) {
    assert!(problems.is_empty(), "untidy:\n  {}", problems.join("\n  "));
}

/// `src/serve/range.rs` → `serve`, `src/key.rs` → `key`.
fn room(path: &str) -> &str {
    let inner = path.strip_prefix("src/").unwrap();
    let first = inner.split('/').next().unwrap();
    first.strip_suffix(".rs").unwrap_or(first)
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// The identifiers that follow `prefix` in a line of code.
fn names_after<'a>(line: &'a str, prefix: &str) -> Vec<&'a str> {
    line.match_indices(prefix)
        .filter(|(at, _)| {
            let before = line[..*at].chars().next_back();
            before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '$')
        })
        .map(|(at, _)| {
            let rest = &line[at + prefix.len()..];
            let end = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            &rest[..end]
        })
        .filter(|name| !name.is_empty())
        .collect()
}

/// The last segment of each path that begins with `prefix`: types and constants are upper case.
fn last_names<'a>(line: &'a str, prefix: &str) -> Vec<&'a str> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    line.match_indices(prefix)
        .map(|(at, _)| {
            let rest = &line[at + prefix.len()..];
            let end = rest.find(|c| !is_path(c)).unwrap_or(rest.len());
            let path = rest[..end].trim_end_matches(':');
            // `Type::function` is the type's own business.
            let segments = path.split("::");
            let of_type = segments.clone().find(|s| s.starts_with(char::is_uppercase));
            of_type.or(segments.last()).unwrap_or_default()
        })
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn rooms_import_only_what_the_house_allows() {
    let mut problems = Vec::new();
    for (path, text) in rust_files("src") {
        let room = room(&path);
        let is_word = VOCABULARY.contains(&room);
        let row = MAY_IMPORT.iter().find(|(name, _)| *name == room);
        if row.is_none() && !is_word {
            problems.push(format!(
                "{path}: new module; give `{room}` a row in MAY_IMPORT"
            ));
            continue;
        }
        let allowed = row.map_or(&[][..], |(_, allowed)| allowed);
        for (number, line) in text.lines().enumerate().filter(|(_, l)| !is_comment(l)) {
            for name in names_after(line, "crate::") {
                let fine = name == room
                    || VOCABULARY.contains(&name)
                    || (!is_word && PLUMBING.contains(&name))
                    || allowed.contains(&name)
                    || allowed.contains(&"*");
                if !fine {
                    problems.push(format!(
                        "{path}:{}: {room} may not import {name}",
                        number + 1
                    ));
                }
            }
        }
    }
    report(&problems);
}

#[test]
fn rooms_that_only_look_take_types_and_no_functions() {
    let mut problems = Vec::new();
    for (path, text) in rust_files("src") {
        let Some((_, rooms)) = ONLY_TYPES.iter().find(|(name, _)| *name == room(&path)) else {
            continue;
        };
        let code = text.split("#[cfg(test)]").next().unwrap();
        for (number, line) in code.lines().enumerate().filter(|(_, l)| !is_comment(l)) {
            for other in *rooms {
                for name in last_names(line, &format!("{other}::")) {
                    let is_type = name.starts_with(char::is_uppercase);
                    if !is_type {
                        let at = number + 1;
                        problems.push(format!("{path}:{at}: takes {other}'s `{name}`; only types"));
                    }
                }
            }
        }
    }
    report(&problems);
}

#[test]
fn files_are_small_and_say_what_they_are_for() {
    let mut problems = Vec::new();
    for (path, text) in all_rust() {
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            problems.push(format!(
                "{path}: {lines} lines; split it by noun ({FILE_LINES_MAX})"
            ));
        }
        if !text.starts_with("//! ") && !path.contains("fuzz_targets") {
            problems.push(format!(
                "{path}: the first line must be `//! ` and say what it is for"
            ));
        }
        for (number, line) in text.lines().enumerate() {
            // A long string cannot be broken by the formatter; prose can.
            let is_prose = is_comment(line) || !line.contains('"');
            if line.chars().count() > LINE_COLUMNS_MAX && is_prose {
                problems.push(format!(
                    "{path}:{}: over {LINE_COLUMNS_MAX} columns",
                    number + 1
                ));
            }
        }
    }
    report(&problems);
}

#[test]
fn one_clock_and_nothing_left_undone() {
    let mut problems = Vec::new();
    for (path, text) in all_rust() {
        for (number, line) in text.lines().enumerate() {
            for (left, right, except) in FORBIDDEN {
                let is_test = !path.starts_with("src/");
                let is_time = matches!(*right, "now()" | "sleep(");
                if line.contains(&format!("{left}{right}"))
                    && !except.contains(&path.as_str())
                    && !(is_test && is_time)
                {
                    problems.push(format!("{path}:{}: `{left}{right}`", number + 1));
                }
            }
        }
    }
    report(&problems);
}

#[test]
fn unsafe_code_lives_in_sys_with_its_reason() {
    let mut problems = Vec::new();
    for (path, text) in all_rust() {
        for (number, line) in text.lines().enumerate().filter(|(_, l)| !is_comment(l)) {
            let words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            let unsafe_word = words.clone().any(|word| word == "unsafe");
            let quoted = line.contains('"');
            if unsafe_word && !quoted && !path.starts_with("src/sys/") {
                problems.push(format!("{path}:{}: unsafe outside src/sys", number + 1));
            }
            let lets_in = line.contains("allow(unsafe_code)") && !quoted;
            if lets_in && !path.starts_with("src/sys/") {
                problems.push(format!(
                    "{path}:{}: only src/sys may allow unsafe",
                    number + 1
                ));
            }
        }
    }
    report(&problems);
}

#[test]
fn the_top_level_is_exactly_the_house() {
    let mut problems = Vec::new();
    for entry in fs::read_dir(root()).unwrap().map(Result::unwrap) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()) {
            problems.push(format!(
                "{name}: not part of the top level; put it where it belongs"
            ));
        }
    }
    for name in TOP_LEVEL.iter().filter(|name| **name != "target") {
        if !root().join(name).exists() {
            problems.push(format!("{name}: missing from the top level"));
        }
    }
    report(&problems);
}

#[test]
fn every_folder_has_a_shop_window() {
    let mut problems = Vec::new();
    for entry in fs::read_dir(root().join("src"))
        .unwrap()
        .map(Result::unwrap)
    {
        let window = entry.path().join("mod.rs");
        if entry.path().is_dir() && !window.exists() {
            problems.push(format!("{}: missing", window.display()));
        }
    }
    report(&problems);
}

#[test]
fn the_checks_themselves_can_fail() {
    assert_eq!(
        names_after("use crate::serve::range;", "crate::"),
        ["serve"]
    );
    assert_eq!(names_after("mycrate::serve", "crate::"), Vec::<&str>::new());
    assert_eq!(
        last_names("use crate::health::drain::MAX;", "health::"),
        ["MAX"]
    );
    assert_eq!(last_names("serve::start(x)", "serve::"), ["start"]);
    assert_eq!(room("src/serve/range.rs"), "serve");
    assert_eq!(room("src/key.rs"), "key");
    assert!(Path::new(&root().join("src/lib.rs")).exists());
}
