//! A configuration as text again: as TOML, as a list of settings with their origin, and as the
//! difference between two.
//!
//! The daemon logs [`changes`] at a reload, `oca show config` shows [`Setting`]s, tests and tools
//! write files with [`to_toml`]. All three follow [`super::table`] through the JSON form of
//! [`Config`], so that a key cannot be left out.

use super::Config;
use super::Place;
use super::Setting;
use super::keys::Fallback;
use super::keys::Key;
use super::keys::Kind;
use super::keys::Section;
use super::settings::Settings;
use super::source::Source;
use super::table::SECTIONS;
use super::value::show_bytes;
use crate::units;
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
pub fn changes(old: &Config, new: &Config) -> Vec<Change> {
    let (old, new) = (json(old), json(new));
    let mut changes = Vec::new();
    let mut note = |key: String, old: String, new: String, reloadable: bool| {
        if old != new {
            changes.push(Change {
                key,
                old,
                new,
                reloadable,
            });
        }
    };
    for section in SECTIONS {
        if !section.repeated {
            for key in section.keys {
                let (old, new) = (shown(key, &old), shown(key, &new));
                note(section.dotted(key.name), old, new, key.reload);
            }
            continue;
        }
        let (old, new) = (elements(section, &old), elements(section, &new));
        for index in 0..old.len().max(new.len()) {
            match (old.get(index), new.get(index)) {
                (Some(old), Some(new)) => {
                    for key in section.keys {
                        let (old, new) = (shown(key, old), shown(key, new));
                        note(element_key(section, index, key), old, new, key.reload);
                    }
                }
                (old, new) => {
                    let whole = |one: Option<&Value>| {
                        one.map_or_else(|| NONE.to_owned(), |one| inline(section, one))
                    };
                    let reload = section.keys.iter().all(|key| key.reload);
                    let name = format!("{}[{index}]", section.name);
                    note(name, whole(old), whole(new), reload);
                }
            }
        }
    }
    changes
}

/// The whole configuration in TOML, defaults included: [`super::load`] reads the same back.
pub fn to_toml(config: &Config) -> String {
    let json = json(config);
    let mut text = String::new();
    for section in SECTIONS {
        if section.repeated {
            for element in elements(section, &json) {
                table(section, element, &mut text);
            }
        } else {
            table(section, &json, &mut text);
        }
    }
    text
}

/// Every key with its value and where it is written.
pub(super) fn settings(config: &Config, settings: &Settings, sources: &[Source]) -> Vec<Setting> {
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
    for section in SECTIONS {
        if !section.repeated {
            let fields = settings.fields(section);
            list.extend(section.keys.iter().map(|key| Setting {
                key: section.dotted(key.name),
                value: shown(key, &json),
                origin: fields.at(key.name).and_then(place),
                reload: key.reload,
            }));
            continue;
        }
        let fields = settings.elements(section);
        for (index, (fields, value)) in fields.iter().zip(elements(section, &json)).enumerate() {
            list.extend(section.keys.iter().map(|key| Setting {
                key: element_key(section, index, key),
                value: shown(key, value),
                origin: fields.at(key.name).and_then(place),
                reload: key.reload,
            }));
        }
    }
    list
}

/// Paths come from TOML and so are UTF-8; nothing else in a configuration can fail to be JSON.
fn json(config: &Config) -> Value {
    serde_json::to_value(config).unwrap_or(Value::Null)
}

fn elements<'a>(section: &Section, json: &'a Value) -> &'a [Value] {
    let list = json.pointer(section.pointer).and_then(Value::as_array);
    list.map(Vec::as_slice).unwrap_or_default()
}

fn element_key(section: &Section, index: usize, key: &Key) -> String {
    format!("{}[{index}].{}", section.name, key.name)
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
        | Kind::Addresses => plain(value),
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
