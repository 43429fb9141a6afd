//! Every message has a golden file, and every golden file is what we read and write.

use crate::golden;
use oca::link::message::Ack;
use oca::link::message::Acked;
use oca::link::message::BgpSession;
use oca::link::message::Catalogue;
use oca::link::message::Code;
use oca::link::message::Complaint;
use oca::link::message::DeletionOverride;
use oca::link::message::Delivery;
use oca::link::message::Disk;
use oca::link::message::Enrol;
use oca::link::message::Enrolled;
use oca::link::message::Envelope;
use oca::link::message::FillOrders;
use oca::link::message::FillProgress;
use oca::link::message::FillSource;
use oca::link::message::FillSources;
use oca::link::message::FillSourcesRequest;
use oca::link::message::GateState;
use oca::link::message::Heartbeat;
use oca::link::message::HeartbeatReply;
use oca::link::message::Load;
use oca::link::message::NetworkDelivery;
use oca::link::message::ObjectSources;
use oca::link::message::Orders;
use oca::link::message::Position;
use oca::link::message::Problem;
use oca::link::message::Quality;
use oca::link::message::ReceivedBytes;
use oca::link::message::Refusal;
use oca::link::message::Renew;
use oca::link::message::Report;
use oca::link::message::ReportReply;
use oca::link::message::RouteGroup;
use oca::link::message::Routes;
use oca::link::message::Row;
use oca::link::message::ViewerKeys;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeSet;

const SOURCE: &str = concat!(
    include_str!("../../src/link/message.rs"),
    include_str!("../../src/link/message/fill.rs"),
    include_str!("../../src/link/message/keys.rs"),
    include_str!("../../src/link/message/quality.rs"),
);

/// Reads and writes a JSON value as one type; `Err` is the reader's refusal.
type RoundTrip = fn(&Value) -> Result<Value, String>;

fn through<T: Serialize + DeserializeOwned>(value: &Value) -> Result<Value, String> {
    // Through text: what is on the wire, not serde's own values.
    let read: T = serde_json::from_str(&value.to_string()).map_err(|e| e.to_string())?;
    serde_json::to_value(&read).map_err(|error| error.to_string())
}

/// The type of each golden file, by the start of its name.
const TYPES: &[(&str, RoundTrip)] = &[
    ("ack", through::<Ack>),
    ("acked", through::<Acked>),
    ("bgp-session", through::<BgpSession>),
    ("catalogue", through::<Catalogue>),
    ("complaint", through::<Complaint>),
    ("delivery", through::<Delivery>),
    ("deletion-override", through::<DeletionOverride>),
    ("disk", through::<Disk>),
    ("enrol", through::<Enrol>),
    ("enrolled", through::<Enrolled>),
    ("envelope", through::<Envelope>),
    ("fill-orders", through::<FillOrders>),
    ("fill-progress", through::<FillProgress>),
    ("fill-source-network", through::<FillSource>),
    ("fill-source-origin", through::<FillSource>),
    ("fill-source-peer", through::<FillSource>),
    ("fill-source-tier", through::<FillSource>),
    ("fill-sources", through::<FillSources>),
    ("fill-sources-request", through::<FillSourcesRequest>),
    ("gate-state", through::<GateState>),
    ("heartbeat", through::<Heartbeat>),
    ("heartbeat-reply", through::<HeartbeatReply>),
    ("heartbeat-reply-filling", through::<HeartbeatReply>),
    ("load", through::<Load>),
    ("network-delivery", through::<NetworkDelivery>),
    ("object-sources", through::<ObjectSources>),
    ("orders", through::<Orders>),
    ("orders-filling", through::<Orders>),
    ("position", through::<Position>),
    ("problem", through::<Problem>),
    ("quality", through::<Quality>),
    ("received-bytes", through::<ReceivedBytes>),
    ("refusal-bad-request", through::<Refusal>),
    ("refusal-busy", through::<Refusal>),
    ("refusal-identity", through::<Refusal>),
    ("refusal-internal", through::<Refusal>),
    ("refusal-not-found", through::<Refusal>),
    ("refusal-quarantined", through::<Refusal>),
    ("refusal-token", through::<Refusal>),
    ("refusal-too-large", through::<Refusal>),
    ("refusal-wrong-digest", through::<Refusal>),
    ("refusal-wrong-position", through::<Refusal>),
    ("renew", through::<Renew>),
    ("report", through::<Report>),
    ("report-filling", through::<Report>),
    ("report-reply", through::<ReportReply>),
    ("report-reply-signing", through::<ReportReply>),
    ("route-group", through::<RouteGroup>),
    ("route-group-every", through::<RouteGroup>),
    ("routes", through::<Routes>),
    ("row-bundle", through::<Row>),
    ("row-key", through::<Row>),
    ("viewer-keys", through::<ViewerKeys>),
];

/// `null`, nothing or 0 says the same as an absent field, so that their absence is no error.
const NULLABLE: &[&str] = &[
    "aggregator",
    "atomic_aggregate",
    "catalogue",
    "complaints",
    "deletion_override",
    "etag",
    "extended_communities",
    "fill",
    "filtered",
    "large_communities",
    "last_error",
    "local_pref",
    "manifest",
    "med",
    "min_rtt_us",
    "mtp_p50_kbps",
    "not_before_s",
    "origin",
    "otc",
    "p10_kbps",
    "p50_kbps",
    "p90_kbps",
    "path_ids",
    "problem",
    "quality",
    "rate_limit_bps",
    "reason",
    "routes",
    "rtt_us",
    "ticket",
    "tree",
    "urgent",
    "uptime_s",
    "uuid",
    "viewer_keys",
];

fn each() -> impl Iterator<Item = (&'static str, RoundTrip, Value)> {
    TYPES
        .iter()
        .map(|(name, through)| (*name, *through, golden::read(name)))
}

fn file_names() -> BTreeSet<String> {
    std::fs::read_dir(golden::directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// `ReportReply` → `report-reply`.
fn kebab(name: &str) -> String {
    let mut text = String::new();
    for (at, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            text.push('-');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

#[test]
fn every_golden_file_is_read_and_written_back_the_same() {
    for (name, through, value) in each() {
        assert_eq!(through(&value), Ok(value), "{name}");
    }
    let known: BTreeSet<String> = TYPES
        .iter()
        .map(|(name, _)| format!("{name}.json"))
        .collect();
    let json: BTreeSet<String> = file_names()
        .into_iter()
        .filter(|name| name.ends_with(".json"))
        .collect();
    assert_eq!(json, known, "a file without a type here, or the reverse");
}

#[test]
fn every_type_of_the_source_has_a_golden_file() {
    let files = file_names();
    let types: Vec<&str> = SOURCE
        .lines()
        .filter_map(|line| {
            let rest = line
                .strip_prefix("pub struct ")
                .or_else(|| line.strip_prefix("pub enum "))?;
            rest.split([' ', '(', '<']).next()
        })
        .collect();
    assert!(types.len() > 20, "{types:?}");
    for name in types {
        // Every code has its refusal.
        let stem = match name {
            "Code" => "refusal".to_owned(),
            // So has every kind its source.
            "SourceKind" => "fill-source".to_owned(),
            _ => kebab(name),
        };
        let has = files
            .iter()
            .any(|file| *file == format!("{stem}.json") || file.starts_with(&format!("{stem}-")));
        assert!(has, "{name}: write tests/link/golden/{stem}.json");
    }
}

#[test]
fn every_code_has_a_refusal_and_its_own_words() {
    let (_, rest) = SOURCE.split_once("pub enum Code {").unwrap();
    let (body, _) = rest.split_once("\n}").unwrap();
    let variants: Vec<&str> = body
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("//") && line.ends_with(','))
        .map(|line| line.trim_end_matches(','))
        .collect();
    assert_eq!(variants.len(), 10, "{variants:?}");
    for variant in variants {
        let name = kebab(variant);
        let refusal: Refusal = golden::read(&format!("refusal-{name}"));
        let code: Code = refusal.error.code;
        assert_eq!(code.as_str(), name);
        assert_eq!(serde_json::to_value(code).unwrap(), name);
        assert!((400..600).contains(&code.status()));
        assert!(refusal.error.message.len() > 20, "{name}");
    }
}

#[test]
fn fields_that_are_not_known_are_ignored_at_every_depth() {
    fn grow(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.values_mut().for_each(grow);
                fields.insert("from_the_future".to_owned(), Value::from(vec![1, 2]));
            }
            Value::Array(items) => items.iter_mut().for_each(grow),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    for (name, through, value) in each() {
        let mut grown = value.clone();
        grow(&mut grown);
        assert_ne!(grown, value);
        assert_eq!(through(&grown), Ok(value), "{name}");
    }
}

#[test]
fn a_field_that_is_missing_is_refused_and_a_null_may_be_left_out() {
    for (name, through, value) in each() {
        let fields: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        for field in fields {
            let mut short = value.clone();
            let gone = short.as_object_mut().unwrap().remove(&field).unwrap();
            let result = through(&short);
            // What is wrong with an object may be absent, what a refusal says may not.
            let must = matches!((name, field.as_str()), ("complaint", "problem"));
            let nullable = NULLABLE.contains(&field.as_str()) && !must;
            if gone.is_null() {
                assert_eq!(result, Ok(value.clone()), "{name}.{field}");
            } else if !nullable {
                let error = result.expect_err(&format!("{name} without {field}"));
                let named = error.contains(&field) || name.starts_with("row-");
                assert!(named, "{name} without {field}: {error}");
            }
        }
    }
}

#[test]
fn a_value_of_another_type_is_refused() {
    for (name, through, value) in each() {
        let fields: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        for field in fields {
            let mut wrong = value.clone();
            let is_text = value[&field].is_string() || value[&field].is_null();
            wrong[&field] = if is_text {
                Value::from(7.5)
            } else {
                Value::from("no")
            };
            assert!(through(&wrong).is_err(), "{name}.{field}");
        }
    }
}
