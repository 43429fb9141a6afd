//! What the files said, merged, each value with its place; and what holds where they said nothing.
//!
//! [`super::walk`] puts one file's records in; [`super::cross`], the rules and the builders take
//! typed values out. Merging: sections merge, repeated sections append, values override. A value
//! that is wrong was reported when it was read and yields `None` here.

use super::keys::Fallback;
use super::keys::Schema;
use super::keys::Section;
use super::keys::Shape;
use super::problem::At;
use super::value;
use super::value::Value;
use crate::ids::BoxId;
use crate::ids::SiteName;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use toml::de::DeValue;

/// Everything that was written.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) schema: &'static Schema,
    single: BTreeMap<&'static str, Record>,
    repeated: BTreeMap<&'static str, Vec<Record>>,
    misshapen: BTreeSet<&'static str>,
}

/// The keys of one section, or of one element of a repeated section.
#[derive(Debug)]
pub(super) struct Record {
    /// Its header.
    pub(super) at: At,
    pub(super) leaves: BTreeMap<&'static str, Leaf>,
}

/// One written value.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) at: At,
    /// `None`: it is wrong, and reported.
    pub(super) value: Option<Value>,
}

/// A record seen through its section's table: what is not written has its default.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    pub(super) section: &'static Section,
    record: Option<&'a Record>,
}

impl Settings {
    pub(super) fn new(schema: &'static Schema) -> Self {
        Self {
            schema,
            single: BTreeMap::new(),
            repeated: BTreeMap::new(),
            misshapen: BTreeSet::new(),
        }
    }

    /// Adds a file's record. Files come in their order, so a later value overrides.
    pub(super) fn put(&mut self, section: &'static Section, record: Record) {
        if section.is_repeated() {
            self.repeated.entry(section.name).or_default().push(record);
            return;
        }
        match self.single.get_mut(section.name) {
            Some(present) => present.leaves.extend(record.leaves),
            None => {
                self.single.insert(section.name, record);
            }
        }
    }

    /// The section is written, in a form that cannot be read; it was reported.
    pub(super) fn put_misshapen(&mut self, section: &'static Section) {
        self.misshapen.insert(section.name);
    }

    /// Nothing of the section's content is hidden by its form.
    pub(super) fn is_well_formed(&self, section: &str) -> bool {
        !self.misshapen.contains(section)
    }

    /// The section's header, or one below it, stands in a file.
    pub(super) fn is_written(&self, section: &str) -> bool {
        self.single.contains_key(section) || self.repeated.contains_key(section)
    }

    /// The section has an effect: it is written, or its defaults hold without it.
    pub(super) fn is_in_force(&self, section: &str) -> bool {
        let shape = self.schema.section(section).map(|section| section.shape);
        self.is_written(section) || shape == Some(Shape::Single)
    }

    /// A section that is not repeated.
    pub(super) fn fields(&self, section: &'static Section) -> Fields<'_> {
        let record = self.single.get(section.name);
        Fields { section, record }
    }

    /// The section of this name; `None` if the table has no such section.
    pub(super) fn section(&self, name: &str) -> Option<Fields<'_>> {
        self.schema
            .section(name)
            .map(|section| self.fields(section))
    }

    /// The elements of a repeated section, in the order of the files.
    pub(super) fn elements(&self, section: &'static Section) -> Vec<Fields<'_>> {
        let records = self.repeated.get(section.name).into_iter().flatten();
        let field = |record| Fields {
            section,
            record: Some(record),
        };
        records.map(field).collect()
    }

    /// The same by name.
    pub(super) fn repeated(&self, name: &str) -> Option<Vec<Fields<'_>>> {
        self.schema
            .section(name)
            .map(|section| self.elements(section))
    }
}

/// A key asked for as another kind than the table gives it is `None` too; the test that loads
/// every key would show it.
impl Fields<'_> {
    /// Where the key is written.
    pub(super) fn at(&self, key: &str) -> Option<At> {
        self.leaf(key).map(|leaf| leaf.at)
    }

    /// Where the key is written, or else its section, or else the start of the main file.
    pub(super) fn at_or_above(&self, key: &str) -> At {
        let section = self.record.map_or(At::START, |record| record.at);
        self.at(key).unwrap_or(section)
    }

    pub(super) fn is_written(&self, key: &str) -> bool {
        self.leaf(key).is_some()
    }

    pub(super) fn box_id(&self, key: &str) -> Option<BoxId> {
        let Value::Box(id) = self.value(key)? else {
            return None;
        };
        Some(id)
    }

    pub(super) fn site(&self, key: &str) -> Option<SiteName> {
        let Value::Site(site) = self.value(key)? else {
            return None;
        };
        Some(site)
    }

    pub(super) fn text(&self, key: &str) -> Option<String> {
        let Value::Text(text) = self.value(key)? else {
            return None;
        };
        Some(text)
    }

    pub(super) fn path(&self, key: &str) -> Option<PathBuf> {
        let Value::Path(path) = self.value(key)? else {
            return None;
        };
        Some(path)
    }

    pub(super) fn boolean(&self, key: &str) -> Option<bool> {
        let Value::Boolean(truth) = self.value(key)? else {
            return None;
        };
        Some(truth)
    }

    /// A count or bytes, in whatever integer the module keeps.
    pub(super) fn number<T: TryFrom<u64>>(&self, key: &str) -> Option<T> {
        let Value::Number(number) = self.value(key)? else {
            return None;
        };
        T::try_from(number).ok()
    }

    pub(super) fn time(&self, key: &str) -> Option<Duration> {
        let Value::Time(time) = self.value(key)? else {
            return None;
        };
        Some(time)
    }

    pub(super) fn word(&self, key: &str) -> Option<&'static str> {
        let Value::Word(word) = self.value(key)? else {
            return None;
        };
        Some(word)
    }

    pub(super) fn words(&self, key: &str) -> Option<Vec<&'static str>> {
        let Value::Words(words) = self.value(key)? else {
            return None;
        };
        Some(words)
    }

    /// Each address with its place.
    pub(super) fn addresses(&self, key: &str) -> Option<Vec<(At, SocketAddr)>> {
        let above = self.at_or_above(key);
        let at = |offset| match self.at(key) {
            Some(written) => At { offset, ..written },
            None => above,
        };
        let Value::Addresses(list) = self.value(key)? else {
            return None;
        };
        let placed = list.into_iter().map(|(offset, one)| (at(offset), one));
        Some(placed.collect())
    }

    pub(super) fn ip(&self, key: &str) -> Option<IpAddr> {
        let Value::Ip(address) = self.value(key)? else {
            return None;
        };
        Some(address)
    }

    pub(super) fn router_id(&self, key: &str) -> Option<Ipv4Addr> {
        let Value::RouterId(id) = self.value(key)? else {
            return None;
        };
        Some(id)
    }

    pub(super) fn texts(&self, key: &str) -> Option<Vec<String>> {
        let Value::Texts(texts) = self.value(key)? else {
            return None;
        };
        Some(texts)
    }

    /// `Some(None)` when the key is not written; `None`, as ever, when it is wrong.
    pub(super) fn optional<T>(
        &self,
        key: &str,
        take: impl Fn(&Self, &str) -> Option<T>,
    ) -> Option<Option<T>> {
        if self.is_written(key) {
            take(self, key).map(Some)
        } else {
            Some(None)
        }
    }

    fn leaf(&self, key: &str) -> Option<&Leaf> {
        self.record.and_then(|record| record.leaves.get(key))
    }

    fn value(&self, key: &str) -> Option<Value> {
        match self.leaf(key) {
            Some(leaf) => leaf.value.clone(),
            None => default(self.section, key),
        }
    }
}

/// The default of a key, read from its literal in the table.
fn default(section: &'static Section, key: &str) -> Option<Value> {
    let key = section.key(key)?;
    let literal = match key.fallback {
        Fallback::Default(literal) => literal,
        Fallback::Required(_) | Fallback::Absent(_) => return None,
    };
    let parsed = DeValue::parse(literal).ok()?;
    value::read(key.kind, &parsed, &mut Vec::new())
}
