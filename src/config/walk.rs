//! One file's text against its schema: known keys are read, everything else is a problem.
//!
//! [`super::load`] calls [`walk`] for each file in order. What a section must hold, and what values
//! mean together, is [`super::cross`]'s. Depth is bounded by the schema: an unknown table is
//! reported and not entered.

use super::keys;
use super::keys::Key;
use super::keys::Schema;
use super::keys::Section;
use super::keys::Shape;
use super::problem::At;
use super::problem::Report;
use super::settings::Leaf;
use super::settings::Record;
use super::settings::Settings;
use super::source::Source;
use super::value;
use super::value::nearest;
use std::collections::BTreeMap;
use toml::Spanned;
use toml::de::DeString;
use toml::de::DeTable;
use toml::de::DeValue;

/// The top level: no keys, only sections.
static TOP: Section = Section {
    name: "",
    shape: Shape::Single,
    keys: &[],
};

/// Reads `source`, the `file`-th, into `settings`.
pub(super) fn walk(source: &Source, file: usize, settings: &mut Settings, report: &mut Report) {
    if !source.is_whole {
        return;
    }
    let (table, errors) = DeTable::parse_recoverable(&source.text);
    for error in &errors {
        // The parser gives no place only when it gave up altogether (nesting).
        let offset = error.span().map_or(0, |span| span.start);
        let (problem, remedy) = syntax(error.message());
        let key = report.has_room().then(|| source.key_near(offset));
        let key = key.unwrap_or_default();
        report.add_syntax(At { file, offset }, &key, &problem, remedy);
    }
    let mut walk = Walk {
        file,
        settings,
        report,
    };
    walk.record(&TOP, 0, table.get_ref());
}

struct Walk<'a> {
    file: usize,
    settings: &'a mut Settings,
    report: &'a mut Report,
}

type SpannedKey<'i> = Spanned<DeString<'i>>;

impl Walk<'_> {
    /// The keys of one table; its sections go into the settings on their own.
    fn record(&mut self, section: &'static Section, offset: usize, table: &DeTable<'_>) -> Record {
        let mut record = Record {
            at: self.at(offset),
            leaves: BTreeMap::new(),
        };
        for (name, value) in table {
            if let Some(key) = section.key(name.get_ref()) {
                let leaf = self.leaf(section, key, value);
                record.leaves.insert(key.name, leaf);
            } else if let Some(inner) = self
                .settings
                .schema
                .section(&section.dotted(name.get_ref()))
            {
                self.section(inner, value);
            } else {
                self.unknown(section, name, value);
            }
        }
        record
    }

    fn leaf(&mut self, section: &'static Section, key: &Key, value: &Spanned<DeValue<'_>>) -> Leaf {
        let mut faults = Vec::new();
        let read = value::read(key.kind, value, &mut faults);
        for fault in faults {
            let example = || format!("write for example `{} = {}`", key.name, key.example());
            let remedy = fault.remedy.unwrap_or_else(example);
            let at = self.at(fault.offset);
            let name = section.dotted(key.name);
            self.report.add(at, &name, fault.problem, remedy);
        }
        Leaf {
            at: self.at(value.span().start),
            value: read,
        }
    }

    fn section(&mut self, section: &'static Section, value: &Spanned<DeValue<'_>>) {
        let offset = value.span().start;
        match (section.is_repeated(), value.get_ref()) {
            (false, DeValue::Table(table)) => self.single(section, offset, table),
            (true, DeValue::Array(list)) => {
                for element in list {
                    match element.get_ref().as_table() {
                        Some(table) => self.single(section, element.span().start, table),
                        None => self.misshapen(section, element),
                    }
                }
            }
            // Single brackets: one problem, and the keys below it are still read.
            (true, DeValue::Table(table)) => {
                self.misshapen(section, value);
                self.single(section, offset, table);
            }
            (
                _,
                DeValue::Array(_)
                | DeValue::String(_)
                | DeValue::Integer(_)
                | DeValue::Float(_)
                | DeValue::Boolean(_)
                | DeValue::Datetime(_),
            ) => self.misshapen(section, value),
        }
    }

    fn single(&mut self, section: &'static Section, offset: usize, table: &DeTable<'_>) {
        let record = self.record(section, offset, table);
        self.settings.put(section, record);
    }

    fn misshapen(&mut self, section: &'static Section, value: &Spanned<DeValue<'_>>) {
        let header = section.header();
        let problem = if section.is_repeated() {
            format!("is a section that may be repeated: its header is `{header}`")
        } else {
            "is a section, not a value or a list".to_owned()
        };
        let remedy = format!("write `{header}` on a line of its own and its keys below it");
        let at = self.at(value.span().start);
        self.report.add(at, section.name, problem, remedy);
        self.settings.put_misshapen(section);
    }

    fn unknown(
        &mut self,
        section: &'static Section,
        name: &SpannedKey<'_>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let at = self.at(name.span().start);
        let full = section.dotted(name.get_ref());
        // A million unknown keys are not each compared with every known one.
        let (problem, remedy) = if self.report.has_room() {
            explain(
                self.settings.schema,
                section,
                name.get_ref(),
                value.get_ref(),
            )
        } else {
            (String::new(), String::new())
        };
        self.report.add(at, &full, problem, remedy);
    }

    fn at(&self, offset: usize) -> At {
        At {
            file: self.file,
            offset,
        }
    }
}

/// Why `name` is not known in `section`, and what may have been meant.
fn explain(
    schema: &'static Schema,
    section: &'static Section,
    name: &str,
    value: &DeValue<'_>,
) -> (String, String) {
    let full = section.dotted(name);
    let first = value.as_array().and_then(|list| list.first());
    let is_section = first.map_or(value, Spanned::get_ref).is_table();
    let what = if is_section { "section" } else { "key" };
    if schema.later.contains(&full.as_str()) {
        let shown = if is_section {
            format!("[{full}]")
        } else {
            name.to_owned()
        };
        let problem = format!(
            "`{shown}` belongs to a later version: oca {} does not know it",
            env!("CARGO_PKG_VERSION")
        );
        return (problem, format!("remove the {what}"));
    }
    let problem = if section.name.is_empty() {
        format!("is not a known {what}")
    } else {
        format!("is not a known {what} of `{}`", section.header())
    };
    let homes = schema
        .sections
        .iter()
        .filter(|home| home.key(name).is_some());
    let homes: Vec<String> = homes.map(Section::header).collect();
    if !is_section && !homes.is_empty() {
        return (problem, format!("move it to `{}`", homes.join("` or `")));
    }
    let known = known_in(schema, section);
    let remedy = match nearest(name, known.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if known.is_empty() => format!("remove it: `{}` has no keys", section.header()),
        None => format!("remove it, or write one of: {}", known.join(", ")),
    };
    (problem, remedy)
}

/// Names that may stand in `section`: its keys, then the sections below it.
fn known_in(schema: &Schema, section: &Section) -> Vec<&'static str> {
    let keys = section.keys.iter().map(|key| key.name);
    let below = schema.sections.iter().filter_map(|inner| {
        let (parent, name) = inner.name.rsplit_once('.').unwrap_or(("", inner.name));
        (parent == section.name).then_some(name)
    });
    keys.chain(below).collect()
}

/// The parser's message in two halves: what is wrong, what to write.
fn syntax(message: &str) -> (String, String) {
    let (problem, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    let remedy = match (problem, expected) {
        ("duplicate key", _) => "keep one of them".to_owned(),
        ("string values must be quoted", _) => "put the text in double quotes".to_owned(),
        ("key with no value", _) => "write `key = value`".to_owned(),
        (_, "" | "nothing") => "remove it, or write it as TOML".to_owned(),
        (_, expected) => format!("write here: {expected}"),
    };
    (format!("not TOML: {problem}"), remedy)
}

impl Source {
    /// The key a broken line seems to be about, with the header above it; empty when there is
    /// none to see. A guess, for the eye only.
    fn key_near(&self, offset: usize) -> String {
        let is_name = |text: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            !text.is_empty() && text.len() <= value::WORD_MAX && text.chars().all(plain)
        };
        let header = |line: &str| {
            let line = line.trim().strip_prefix('[')?;
            let name = line.trim_start_matches('[').split(']').next()?.trim();
            is_name(name).then(|| name.to_owned())
        };
        let line = self.line(offset);
        let above = self.text.lines().take(line);
        let Some(own) = above.clone().nth(line - 1) else {
            return String::new();
        };
        if let Some(name) = header(own) {
            return name;
        }
        let name = own.split('=').next().unwrap_or_default().trim();
        if !is_name(name) {
            return String::new();
        }
        let section = above.filter_map(header).last();
        keys::dotted(&section.unwrap_or_default(), name)
    }
}
