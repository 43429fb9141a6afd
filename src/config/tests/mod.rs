//! Tests of the room as a whole: from text to `Config` or to problems, without files.

// A test over the keys of one kind passes the others by.
#![allow(clippy::wildcard_enum_match_arm)]

mod any;
mod example;
mod keys;
mod peers;
mod problems;
mod property;

use super::*;
use std::collections::BTreeMap;

/// Loads texts as if they were files; the first is the main one.
fn load_texts(texts: &[(&str, &str)]) -> Result<Loaded, Problems> {
    assemble(sources(texts), Report::default(), appliance::config)
}

fn sources(texts: &[(&str, &str)]) -> Vec<Source> {
    let files = texts.iter();
    files
        .map(|(name, text)| Source::from_text(*name, *text))
        .collect()
}

fn load_text(text: &str) -> Result<Loaded, Problems> {
    load_texts(&[("oca.toml", text)])
}

fn load_plane(text: &str) -> Result<LoadedControl, Problems> {
    let sources = sources(&[("control.toml", text)]);
    assemble(sources, Report::default(), plane::config)
}

/// `line:column: key: problem` of each problem of one file.
fn told(text: &str) -> Vec<String> {
    told_of(load_text(text))
}

fn told_of<C>(outcome: Result<Loaded<C>, Problems>) -> Vec<String> {
    let problems = outcome.map(|_| ()).unwrap_err();
    let short = |one: &Problem| {
        let text = one.to_string();
        text.replace("oca.toml:", "").replace("control.toml:", "")
    };
    problems.0.iter().map(short).collect()
}

fn remedies_of<C>(outcome: Result<Loaded<C>, Problems>) -> Vec<String> {
    let problems = outcome.map(|_| ()).unwrap_err();
    problems.0.into_iter().map(|one| one.remedy).collect()
}

/// The smallest file of a box with every section, with some keys (by dotted name) written
/// otherwise or as well.
fn file_with(overrides: &[(&str, &str)]) -> String {
    written(&APPLIANCE, overrides)
}

/// The same of any schema.
fn written(schema: &Schema, overrides: &[(&str, &str)]) -> String {
    let overrides: BTreeMap<&str, &str> = overrides.iter().copied().collect();
    let mut text = String::new();
    for section in schema.sections {
        text.push_str(&format!("{}\n", section.header()));
        for key in section.keys {
            let required = match key.fallback {
                Fallback::Required(example) => Some(example),
                Fallback::Default(_) | Fallback::Absent(_) => None,
            };
            let dotted = section.dotted(key.name);
            if let Some(value) = overrides.get(dotted.as_str()).copied().or(required) {
                text.push_str(&format!("{} = {value}\n", key.name));
            }
        }
    }
    text
}

/// The file without one of its sections.
fn without(text: &str, section: &str) -> String {
    let from = text.find(&format!("[{section}]")).unwrap();
    let from = text[..from].rfind('\n').map_or(0, |end| end + 1);
    let rest = &text[from + 2..];
    let to = rest.find("\n[").map_or(rest.len(), |end| end + 1);
    text[..from].to_owned() + &rest[to..]
}

/// A file of either sort for the tests over all keys.
trait Sort: Described + Clone + std::fmt::Debug + PartialEq + Sized {
    /// The file of this repository.
    const EXAMPLE: &'static str;
    /// For every key a value that is neither its default nor its example.
    const OTHERWISE: &'static [(&'static str, &'static str)];

    fn load_text(text: &str) -> Result<Loaded<Self>, Problems>;

    fn load_file(main: &Path) -> Result<Loaded<Self>, Problems>;

    fn with(overrides: &[(&str, &str)]) -> String {
        written(Self::SCHEMA, overrides)
    }

    fn keys() -> impl Iterator<Item = (&'static Section, &'static Key)> {
        let keys = |section: &'static Section| section.keys.iter().map(move |key| (section, key));
        Self::SCHEMA.sections.iter().flat_map(keys)
    }
}

impl Sort for Config {
    const EXAMPLE: &'static str = include_str!("../../../config/oca.toml");
    const OTHERWISE: &'static [(&'static str, &'static str)] = keys::BOX_OTHERWISE;

    fn load_text(text: &str) -> Result<Loaded<Self>, Problems> {
        load_text(text)
    }

    fn load_file(main: &Path) -> Result<Loaded<Self>, Problems> {
        load(main)
    }
}

impl Sort for control::Config {
    const EXAMPLE: &'static str = include_str!("../../../config/control.toml");
    const OTHERWISE: &'static [(&'static str, &'static str)] = keys::PLANE_OTHERWISE;

    fn load_text(text: &str) -> Result<Loaded<Self>, Problems> {
        load_plane(text)
    }

    fn load_file(main: &Path) -> Result<Loaded<Self>, Problems> {
        load_control(main)
    }
}
