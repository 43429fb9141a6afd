//! What a key is: its kind, its range, what holds without it. The table itself is [`super::table`].
//!
//! Everybody in this room reads these; nobody changes them.

use super::table::SECTIONS;
use std::time::Duration;

/// A table of the file; `repeated` ones are written `[[name]]`.
#[derive(Debug)]
pub struct Section {
    /// Dotted, as in the header.
    pub name: &'static str,
    pub repeated: bool,
    /// For `repeated`: where the list lies in the JSON form of [`super::Config`].
    pub pointer: &'static str,
    pub keys: &'static [Key],
}

/// One key.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    pub fallback: Fallback,
    /// A reload changes it; otherwise the daemon must be restarted.
    pub reload: bool,
    /// RFC 6901, into the JSON form of [`super::Config`] or of the repeated section's element.
    pub pointer: &'static str,
    /// What it is, as the end of the sentence "is missing: ".
    pub doc: &'static str,
}

/// What holds when the key is not written.
#[derive(Clone, Copy, Debug)]
pub enum Fallback {
    /// It must be written; the literal is an example.
    Required(&'static str),
    /// The literal, in TOML.
    Default(&'static str),
    /// Nothing; the literal is an example.
    Absent(&'static str),
}

/// What a value must be, with its range (inclusive).
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    BoxName,
    SiteName,
    Zone,
    /// `tracing` filter.
    Filter,
    /// Absolute path.
    Path,
    /// Absolute path that fits a Unix socket's address.
    SocketPath,
    Boolean,
    Integer {
        min: u64,
        max: u64,
    },
    Bytes {
        min: u64,
        max: u64,
    },
    Time {
        min: Duration,
        max: Duration,
    },
    /// One of these words.
    Word(&'static [&'static str]),
    /// Any of these words, each once.
    Words(&'static [&'static str]),
    /// `ip:port`.
    Address,
    Addresses,
}

/// The section of this dotted name.
pub(super) fn section(name: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.name == name)
}

impl Section {
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// `serve.limits.head`.
    pub(super) fn dotted(&self, key: &str) -> String {
        dotted(self.name, key)
    }

    /// The header line: `[serve]`, `[[disk]]`.
    pub(super) fn header(&self) -> String {
        if self.repeated {
            format!("[[{}]]", self.name)
        } else {
            format!("[{}]", self.name)
        }
    }
}

impl Key {
    /// A value that may stand in the file, in TOML.
    pub(super) fn example(&self) -> &'static str {
        match self.fallback {
            Fallback::Required(literal)
            | Fallback::Default(literal)
            | Fallback::Absent(literal) => literal,
        }
    }
}

/// A name below another; the top level has the empty name.
pub(super) fn dotted(parent: &str, name: &str) -> String {
    if parent.is_empty() {
        name.to_owned()
    } else {
        format!("{parent}.{name}")
    }
}
