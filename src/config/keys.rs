//! What a file may say: its sections, what a key is, its kind, its range, what holds without it.
//!
//! The tables themselves are [`super::appliance`]'s and [`super::plane`]'s. Everybody in this room
//! reads these; nobody changes them.

use super::problem::Report;
use super::settings::Settings;
use std::time::Duration;

/// One sort of configuration file: the engine of this room knows no other difference between
/// `oca.toml` and `control.toml`.
#[derive(Debug)]
pub struct Schema {
    /// In the order of the example.
    pub sections: &'static [Section],
    /// Sections and keys of later versions, dotted, so that they are not taken for slips.
    pub(super) later: &'static [&'static str],
    /// What values must mean together.
    pub(super) rules: fn(&Settings, &mut Report),
    /// The file of this repository to start from.
    pub(super) example: &'static str,
    /// Directory beside the main file whose `*.toml` are read after it.
    pub(super) drop_ins: &'static str,
}

/// A configuration that has its schema.
pub trait Described: serde::Serialize {
    const SCHEMA: &'static Schema;
}

/// A table of the file.
#[derive(Debug)]
pub struct Section {
    /// Dotted, as in the header.
    pub name: &'static str,
    pub shape: Shape,
    pub keys: &'static [Key],
}

/// How often a section may stand in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Once; what is not written has its defaults, and required keys must be written.
    Single,
    /// Once or not at all: without it, what it describes is off. Where it lies in the JSON form of
    /// the configuration.
    Optional(&'static str),
    /// As often as wanted, `[[name]]`. Where the list lies in the JSON form of the configuration.
    Repeated(&'static str),
}

/// One key.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    pub fallback: Fallback,
    /// A reload changes it; otherwise the daemon must be restarted.
    pub reload: bool,
    /// RFC 6901, into the JSON form of the configuration or of the repeated section's element.
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
    /// A rate, in bytes a second.
    Rate {
        min: u64,
        max: u64,
    },
    /// From midnight to `max_s` seconds after it.
    TimeOfDay {
        max_s: u32,
    },
    /// One of these words.
    Word(&'static [&'static str]),
    /// Any of these words, each once.
    Words(&'static [&'static str]),
    /// `ip:port`.
    Address,
    Addresses,
    /// The IP address of one machine.
    Ip,
    /// The same, or a link-local address.
    Router,
    /// BGP identifier: a non-zero number in the form of an IPv4 address.
    RouterId,
    /// AS number, written as one number.
    Asn,
    /// `sha256:<64 hexadecimal digits>`.
    Fingerprint,
    /// `https://<host>[:<port>]`; with `plain`, `http://` as well.
    Url {
        plain: bool,
    },
    /// A short word of letters, digits, `-`, `_` and `.`.
    Label,
    /// Lower-case DNS name that box names end in.
    Domain,
    /// DNS names and IP addresses.
    Hosts,
    /// IP addresses of machines.
    Ips,
    /// `<address>/<length>`.
    Prefixes,
    /// `<0..65535>:<0..65535>`.
    Communities,
    /// `<shortest>-<longest>` of a family with so many bits.
    Lengths {
        bits: u8,
    },
}

impl Schema {
    /// The section of this dotted name.
    pub(super) fn section(&self, name: &str) -> Option<&'static Section> {
        self.sections.iter().find(|section| section.name == name)
    }
}

impl Section {
    pub(super) fn is_repeated(&self) -> bool {
        matches!(self.shape, Shape::Repeated(_))
    }

    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// `serve.limits.head`.
    pub(super) fn dotted(&self, key: &str) -> String {
        dotted(self.name, key)
    }

    /// The header line: `[serve]`, `[[disk]]`.
    pub(super) fn header(&self) -> String {
        if self.is_repeated() {
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

/// A key, in one expression.
pub(super) const fn key(
    name: &'static str,
    kind: Kind,
    fallback: Fallback,
    reload: bool,
    pointer: &'static str,
    doc: &'static str,
) -> Key {
    Key {
        name,
        kind,
        fallback,
        reload,
        pointer,
        doc,
    }
}

/// A time from `min_ms` milliseconds to `max_s` seconds.
pub(super) const fn time(min_ms: u64, max_s: u64) -> Kind {
    Kind::Time {
        min: Duration::from_millis(min_ms),
        max: Duration::from_secs(max_s),
    }
}
