//! Tests of the room as a whole: from text to `Config` or to problems, without files.

// A test over the keys of one kind passes the others by.
#![allow(clippy::wildcard_enum_match_arm)]

mod example;
mod keys;
mod problems;
mod property;

use super::*;
use std::collections::BTreeMap;

/// Loads texts as if they were files; the first is the main one.
fn load_texts(texts: &[(&str, &str)]) -> Result<Loaded, Problems> {
    let sources = texts
        .iter()
        .map(|(name, text)| Source::from_text(*name, *text))
        .collect();
    assemble(sources, Report::default())
}

fn load_text(text: &str) -> Result<Loaded, Problems> {
    load_texts(&[("oca.toml", text)])
}

/// `line:column: key: problem` of each problem of one file.
fn told(text: &str) -> Vec<String> {
    told_of(load_text(text))
}

fn told_of(outcome: Result<Loaded, Problems>) -> Vec<String> {
    let problems = outcome.map(|loaded| loaded.config).unwrap_err();
    let short = |one: &Problem| one.to_string().replace("oca.toml:", "");
    problems.0.iter().map(short).collect()
}

/// The smallest valid file, with some keys (by dotted name) written otherwise or as well.
fn file_with(overrides: &[(&str, &str)]) -> String {
    let overrides: BTreeMap<&str, &str> = overrides.iter().copied().collect();
    let mut text = String::new();
    for section in SECTIONS {
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
