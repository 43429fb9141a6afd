//! docs/LINK.md shows the golden files themselves, and says what the code does.

use crate::golden;
use oca::link::body;
use oca::link::identity::RENEWABLE_AFTER_END;
use oca::link::manifest;
use oca::link::message::DeletionOverride;
use oca::link::message::Envelope;
use oca::link::message::FILL_WANTED_MAX;
use oca::link::message::Refusal;
use oca::link::message::Report;
use oca::link::sources;
use oca::link::ticket;
use oca::object::Digest;
use oca::route::Packer;
use oca::route::Route;
use oca::set_hash::SetHash;
use std::collections::BTreeSet;

const DOCUMENT: &str = include_str!("../../docs/LINK.md");

/// What a reader must be able to see without the repository.
const SHOWN: &[&str] = &[
    "enrol.json",
    "enrolled.json",
    "envelope.json",
    "fill-orders.json",
    "fill-sources-request.json",
    "fill-sources.json",
    "heartbeat-reply.json",
    "heartbeat.json",
    "manifest-rows.hex",
    "manifest-rows.jsonl",
    "refusal-wrong-digest.json",
    "renew.json",
    "report-filling.json",
    "report-reply.json",
    "report.json",
    "viewer-keys.json",
];

/// Fenced blocks as (info string, text).
fn blocks() -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in DOCUMENT.lines() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(info), None) => open = Some((info.to_owned(), String::new())),
            (Some(_), Some(block)) => blocks.push(block),
            (None, Some((info, text))) => open = Some((info, text + line + "\n")),
            (None, None) => {}
        }
    }
    assert_eq!(open, None, "an unclosed block");
    blocks
}

#[test]
fn the_examples_are_the_golden_files() {
    let mut shown = BTreeSet::new();
    for (info, text) in blocks() {
        let Some((_, name)) = info.split_once(' ') else {
            continue;
        };
        assert_eq!(
            text,
            golden::text(name),
            "docs/LINK.md shows another {name}"
        );
        shown.insert(name.to_owned());
    }
    let missing: Vec<_> = SHOWN
        .iter()
        .filter(|name| !shown.contains(**name))
        .collect();
    assert!(missing.is_empty(), "docs/LINK.md does not show {missing:?}");
}

fn says(text: &str) {
    assert!(
        DOCUMENT.contains(text),
        "docs/LINK.md does not say `{text}`"
    );
}

#[test]
fn every_code_stands_with_its_status() {
    for entry in std::fs::read_dir(golden::directory()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.starts_with("refusal-") {
            let refusal: Refusal = golden::read(name.trim_end_matches(".json"));
            let code = refusal.error.code;
            says(&format!("| `{}` | {} |", code.as_str(), code.status()));
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_set_hash_vectors_are_ours() {
    let words = ["one", "two", "three"];
    let digests: Vec<Digest> = words
        .iter()
        .map(|word| Digest::of(word.as_bytes()))
        .collect();
    for count in 0..=3 {
        let hash = SetHash::of(digests[..count].iter().map(|digest| digest.0));
        says(&format!("| {count} | `{}` |", hash.digest()));
    }
    for digest in &digests {
        says(&format!("| `{digest}` | `{}` |", Digest::of(&digest.0)));
    }
    let report: Report = golden::read("report");
    let routes = oca::link::steps::ungroup(&report.routes.added);
    for route in &routes {
        let packed = Packer::default().pack(&route.attributes).to_vec();
        says(&hex(&packed));
        says(&Digest::of(&packed).to_string());
        let item = route.item();
        says(&format!("{}\n", hex(&item[32..])));
        says(&Digest::of(&item).to_string());
    }
    let hash = SetHash::of(routes.iter().map(Route::item));
    says(&hash.digest().to_string());
}

#[test]
fn the_bounds_of_the_fill_are_ours() {
    let permit: DeletionOverride = golden::read("deletion-override");
    says(&format!(
        "oca-deletion-override-v1\n{}",
        permit.signed_text()
    ));
    let mib = |bytes: u64| bytes >> 20;
    says(&format!(
        "| an answer with fill sources | {} MiB as sent, {} MiB of text |",
        mib(sources::LIMITS.compressed),
        mib(sources::LIMITS.decompressed)
    ));
    says(&format!("At most {FILL_WANTED_MAX} objects"));
    says(&format!("`sources`, at most {}", sources::SOURCES_MAX));
    says(&format!("`urls`, at most {}", sources::URLS_MAX));
    says(&format!("(at most {}", sources::TICKETS_MAX));
    assert_eq!(sources::COMPLAINTS_MAX, FILL_WANTED_MAX);
    assert_eq!(
        (sources::URL_BYTES_MAX, ticket::TEXT_BYTES_MAX),
        (8_192, 8_192)
    );
}

#[test]
fn the_manifest_vector_and_the_limits_are_ours() {
    let envelope: Envelope = golden::read("envelope");
    says(&envelope.signed_text());
    says(&format!("{} MiB", manifest::LIMITS.compressed >> 20));
    says(&format!("{} GiB", manifest::LIMITS.decompressed >> 30));
    says(&format!(
        "{} minutes",
        manifest::ISSUED_AHEAD_MAX.as_secs() / 60
    ));
    says(&format!(
        "{} MiB window",
        (1_u64 << body::WINDOW_LOG_MAX) >> 20
    ));
    says(&format!(
        "{} days after its end",
        RENEWABLE_AFTER_END.as_secs() / 86_400
    ));
    says("16,777,216 keys");
    assert_eq!(manifest::KEYS_MAX, 16_777_216);
}
