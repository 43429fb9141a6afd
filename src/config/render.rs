//! A configuration as text again: as TOML, as a list of settings with their origin, and as the
//! difference between two.
//!
//! The daemon logs [`changes`] at a reload, `oca show config` shows [`Setting`]s, tests and tools
//! write files with [`to_toml`]. All three follow the schema through the JSON form of the
//! configuration, so that a key cannot be left out.

use super::Place;
use super::Setting;
use super::keys::Described;
use super::keys::Fallback;
use super::keys::Key;
use super::keys::Kind;
use super::keys::Section;
use super::keys::Shape;
use super::keys::dotted;
use super::settings::Settings;
use super::source::Source;
use super::value::show_bytes;
use super::value::show_rate;
use crate::units;
use crate::window;
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;

/// One key whose value a reload finds changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `serve.limits.head`, `disk[1].class`; `disk[2]` for a disk that came or went.
    pub key: String,
    /// In TOML; `none` for an optional key that is not set.
    pub old: String,
    pub new: String,
    /// `false`: the daemon goes on with the old value until it is restarted.
    pub reloadable: bool,
}

/// What an optional key without a value shows.
const NONE: &str = "none";

/// Every key whose value differs, in the order of the table.
pub fn changes<C: Described>(old: &C, new: &C) -> Vec<Change> {
    let (old, new) = (json(old), json(new));
    let mut changes = Vec::new();
    for section in C::SCHEMA.sections {
        match section.shape {
            Shape::Single => compare(section, section.name, &old, &new, &mut changes),
            Shape::Optional(pointer) => {
                let written = |json: &Value| !json.pointer(pointer).is_none_or(Value::is_null);
                let (before, after) = (written(&old), written(&new));
                if before && after {
                    compare(section, section.name, &old, &new, &mut changes);
                } else {
                    let old = before.then_some(&old);
                    whole(
                        section,
                        section.name,
                        old,
                        after.then_some(&new),
                        &mut changes,
                    );
                }
            }
            Shape::Repeated(pointer) => {
                let (old, new) = (elements(pointer, &old), elements(pointer, &new));
                for index in 0..old.len().max(new.len()) {
                    let name = format!("{}[{index}]", section.name);
                    match (old.get(index), new.get(index)) {
                        (Some(old), Some(new)) => compare(section, &name, old, new, &mut changes),
                        (old, new) => whole(section, &name, old, new, &mut changes),
                    }
                }
            }
        }
    }
    changes
}

/// Two forms of one section, key by key.
fn compare(section: &Section, name: &str, old: &Value, new: &Value, changes: &mut Vec<Change>) {
    for key in section.keys {
        let (old, new) = (shown(key, old), shown(key, new));
        if old != new {
            changes.push(Change {
                key: dotted(name, key.name),
                old,
                new,
                reloadable: key.reload,
            });
        }
    }
}

/// A section that came or went is one change.
fn whole(
    section: &Section,
    name: &str,
    old: Option<&Value>,
    new: Option<&Value>,
    changes: &mut Vec<Change>,
) {
    if old.is_some() || new.is_some() {
        let told =
            |one: Option<&Value>| one.map_or_else(|| NONE.to_owned(), |one| inline(section, one));
        changes.push(Change {
            key: name.to_owned(),
            old: told(old),
            new: told(new),
            reloadable: section.keys.iter().all(|key| key.reload),
        });
    }
}

/// The whole configuration in TOML, defaults included: loading it gives the same back.
pub fn to_toml<C: Described>(config: &C) -> String {
    let json = json(config);
    let mut text = String::new();
    for section in C::SCHEMA.sections {
        for (_, record) in records(section, &json) {
            table(section, record, &mut text);
        }
    }
    text
}

/// Every key with its value and where it is written. An optional section that is not written has
/// none.
pub(super) fn settings<C: Described>(
    config: &C,
    settings: &Settings,
    sources: &[Source],
) -> Vec<Setting> {
    let json = json(config);
    let place = |at: super::problem::At| {
        let source = sources.get(at.file)?;
        let (line, column) = source.place(at.offset);
        Some(Place {
            file: source.name(),
            line,
            column,
        })
    };
    let mut list = Vec::new();
    for section in C::SCHEMA.sections {
        let fields = match section.shape {
            Shape::Single | Shape::Optional(_) => vec![settings.fields(section)],
            Shape::Repeated(_) => settings.elements(section),
        };
        for (fields, (name, record)) in fields.iter().zip(records(section, &json)) {
            list.extend(section.keys.iter().map(|key| Setting {
                key: dotted(&name, key.name),
                value: shown(key, record),
                origin: fields.at(key.name).and_then(place),
                reload: key.reload,
            }));
        }
    }
    list
}

/// Paths come from TOML and so are UTF-8; nothing else in a configuration can fail to be JSON.
fn json<C: Described>(config: &C) -> Value {
    serde_json::to_value(config).unwrap_or(Value::Null)
}

/// What there is of a section, each with its name: `serve`, `disk[0]`.
fn records<'a>(section: &Section, json: &'a Value) -> Vec<(String, &'a Value)> {
    match section.shape {
        Shape::Single => vec![(section.name.to_owned(), json)],
        Shape::Optional(pointer) if json.pointer(pointer).is_none_or(Value::is_null) => Vec::new(),
        Shape::Optional(_) => vec![(section.name.to_owned(), json)],
        Shape::Repeated(pointer) => {
            let numbered = elements(pointer, json).iter().enumerate();
            numbered
                .map(|(index, one)| (format!("{}[{index}]", section.name), one))
                .collect()
        }
    }
}

fn elements<'a>(pointer: &str, json: &'a Value) -> &'a [Value] {
    let list = json.pointer(pointer).and_then(Value::as_array);
    list.map(Vec::as_slice).unwrap_or_default()
}

fn table(section: &Section, json: &Value, text: &mut String) {
    text.push_str(&section.header());
    text.push('\n');
    for key in section.keys {
        let value = shown(key, json);
        // An absent value is told by leaving the key out.
        let comment = match key.fallback {
            Fallback::Absent(_) if value == NONE => "#",
            Fallback::Absent(_) | Fallback::Default(_) | Fallback::Required(_) => "",
        };
        text.push_str(&format!("{comment}{} = {value}\n", key.name));
    }
    text.push('\n');
}

fn inline(section: &Section, json: &Value) -> String {
    let pairs = section
        .keys
        .iter()
        .map(|key| format!("{} = {}", key.name, shown(key, json)));
    format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
}

/// A key's value in TOML, found in the JSON form.
fn shown(key: &Key, json: &Value) -> String {
    let value = json.pointer(key.pointer).unwrap_or(&Value::Null);
    match key.kind {
        Kind::Bytes { .. } => match value.as_u64() {
            Some(bytes) => quoted(&show_bytes(bytes)),
            None => NONE.to_owned(),
        },
        Kind::Time { .. } => match time(value) {
            Some(time) => quoted(&units::show_duration(time)),
            None => NONE.to_owned(),
        },
        Kind::Rate { .. } => match value.as_u64() {
            Some(rate) => quoted(&show_rate(rate)),
            None => NONE.to_owned(),
        },
        Kind::TimeOfDay { .. } => {
            let second = value.as_u64().and_then(|second| second.try_into().ok());
            second.map_or_else(|| NONE.to_owned(), |s| quoted(&window::time_of_day(s)))
        }
        Kind::BoxName
        | Kind::SiteName
        | Kind::Zone
        | Kind::Filter
        | Kind::Path
        | Kind::SocketPath
        | Kind::Boolean
        | Kind::Integer { .. }
        | Kind::Word(_)
        | Kind::Words(_)
        | Kind::Address
        | Kind::Addresses
        | Kind::Ip
        | Kind::Router
        | Kind::RouterId
        | Kind::Asn
        | Kind::Fingerprint
        | Kind::Url { .. }
        | Kind::Label
        | Kind::Domain
        | Kind::Hosts
        | Kind::Ips
        | Kind::Prefixes
        | Kind::Communities
        | Kind::Lengths { .. } => plain(value),
    }
}

/// A [`Duration`] as serde writes it.
fn time(value: &Value) -> Option<Duration> {
    let seconds = value.get("secs")?.as_u64()?;
    let nanoseconds = u32::try_from(value.get("nanos")?.as_u64()?).ok()?;
    Some(Duration::new(seconds, nanoseconds))
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null | Value::Object(_) => NONE.to_owned(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(list) => {
            let list: Vec<String> = list.iter().map(plain).collect();
            format!("[{}]", list.join(", "))
        }
    }
}

/// A TOML basic string. Control characters are refused in every value, but what is shown must be
/// TOML whatever a caller built.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
