//! The routes of all neighbours at one moment: immutable, shared with the moment before, asked in
//! the order of prefixes, for what covers an address, and for what changed since.
//!
//! `bgp` makes them (`publish` applies what its `rib`s changed); `admin` shows them, `health` and
//! `link` report them. A route costs 10 (IPv4) or 22 octets (IPv6) here; attributes are stored once
//! for all that share them and are unpacked when they are asked for.

mod chunks;
mod key;
mod sets;
mod walk;

pub use chunks::Row;
pub use key::IPV4;
pub use key::IPV4_PATHS;
pub use key::IPV6;
pub use key::IPV6_PATHS;
pub use key::Key;
pub use key::Seed;
pub use sets::Pages;
pub use sets::SetId;
pub use sets::Sets;
pub use walk::Iter;

use crate::prefix::Family;
use crate::prefix::Prefix;
use crate::route::Class;
use crate::route::Filtered;
use crate::route::Packed;
use crate::route::Packer;
use crate::route::Route;
use chunks::Chunks;
use std::cmp::Ordering;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// LOCAL_PREF of a route that has none, as routers have it by default.
const LOCAL_PREF: u32 = 100;

/// Routes by prefix, then neighbour, then path identifier. Clones share everything.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    /// In the order of the neighbours' names.
    tables: Arc<[Arc<Table>]>,
}

/// Whom the routes of one table are from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub neighbour: Arc<str>,
    pub class: Class,
    /// Of our own AS.
    pub is_internal: bool,
    /// BGP identifier, while it is known, and address: the last resorts of the decision.
    pub router_id: Option<std::net::Ipv4Addr>,
    pub address: IpAddr,
}

/// The routes of one neighbour.
#[derive(Clone, Debug)]
pub struct Table {
    source: Source,
    ipv4: Chunks<IPV4>,
    ipv4_paths: Chunks<IPV4_PATHS>,
    ipv6: Chunks<IPV6>,
    ipv6_paths: Chunks<IPV6_PATHS>,
    pages: Pages,
}

/// Changes of one neighbour's routes, in the order of time.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    pub ipv4: Vec<Row<IPV4>>,
    pub ipv4_paths: Vec<Row<IPV4_PATHS>>,
    pub ipv6: Vec<Row<IPV6>>,
    pub ipv6_paths: Vec<Row<IPV6_PATHS>>,
}

/// One route in a table.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub prefix: Prefix,
    pub path_id: u32,
    filter: u8,
    set: SetId,
    table: &'a Table,
    rank: usize,
}

/// What routes share that differ in prefix and path identifier alone; means something within one
/// table only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share {
    rank: usize,
    set: SetId,
    filter: u8,
}

impl Share {
    /// Are the attributes stored once for both?
    pub fn is_of_set(&self, other: &Self) -> bool {
        (self.rank, self.set) == (other.rank, other.set)
    }
}

/// Routes of one box, of all its neighbours: six full tables of both families. More are neither
/// kept by a box nor taken by a control plane, where they cost half a gigabyte.
pub const ROUTES_MAX: usize = 8_000_000;

impl Changes {
    pub fn len(&self) -> usize {
        self.ipv4.len() + self.ipv4_paths.len() + self.ipv6.len() + self.ipv6_paths.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Later ones.
    pub fn append(&mut self, mut later: Self) {
        if self.is_empty() {
            *self = later;
            return;
        }
        self.ipv4.append(&mut later.ipv4);
        self.ipv4_paths.append(&mut later.ipv4_paths);
        self.ipv6.append(&mut later.ipv6);
        self.ipv6_paths.append(&mut later.ipv6_paths);
    }

    fn push(&mut self, prefix: &Prefix, path_id: u32, filter: u8, set: SetId) {
        match (prefix.family(), path_id) {
            (Family::Ipv4, 0) => self.ipv4.push(Row::new(Key::new(prefix, 0), filter, set)),
            (Family::Ipv6, 0) => self.ipv6.push(Row::new(Key::new(prefix, 0), filter, set)),
            (Family::Ipv4, path) => {
                let row = Row::new(Key::new(prefix, path), filter, set);
                self.ipv4_paths.push(row);
            }
            (Family::Ipv6, path) => {
                let row = Row::new(Key::new(prefix, path), filter, set);
                self.ipv6_paths.push(row);
            }
        }
    }
}

impl Table {
    pub fn new(source: Source) -> Self {
        Self {
            source,
            ipv4: Chunks::default(),
            ipv4_paths: Chunks::default(),
            ipv6: Chunks::default(),
            ipv6_paths: Chunks::default(),
            pages: Pages::default(),
        }
    }

    pub fn source(&self) -> &Source {
        &self.source
    }

    pub fn len(&self) -> usize {
        self.ipv4.len() + self.ipv4_paths.len() + self.ipv6.len() + self.ipv6_paths.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// This after `changes`; `pages` have the sets of all its routes.
    pub fn changed(&self, source: Source, changes: Changes, pages: Pages) -> Self {
        Self {
            source,
            ipv4: self.ipv4.changed(changes.ipv4),
            ipv4_paths: self.ipv4_paths.changed(changes.ipv4_paths),
            ipv6: self.ipv6.changed(changes.ipv6),
            ipv6_paths: self.ipv6_paths.changed(changes.ipv6_paths),
            pages,
        }
    }
}

impl RouteTable {
    /// Of tables whose neighbours differ, in any order.
    pub fn new(tables: impl IntoIterator<Item = Arc<Table>>) -> Self {
        let mut tables: Vec<Arc<Table>> = tables.into_iter().collect();
        tables.sort_by(|one, other| one.source.neighbour.cmp(&other.source.neighbour));
        Self {
            tables: tables.into(),
        }
    }

    pub fn len(&self) -> usize {
        self.tables.iter().map(|table| table.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All routes.
    pub fn iter(&self) -> Iter<'_> {
        Iter::from(&self.tables, None)
    }

    /// From the first route on whose prefix is not less.
    pub fn iter_from(&self, prefix: &Prefix) -> Iter<'_> {
        Iter::from(&self.tables, Some(prefix))
    }

    /// Routes whose prefix contains `address`: longest first, then by neighbour. Microseconds,
    /// however large the table is.
    pub fn covering(&self, address: IpAddr) -> Vec<Seen<'_>> {
        let mut found = Vec::new();
        for (rank, table) in self.tables.iter().enumerate() {
            walk::covering(table, rank, address, &mut found);
        }
        found.sort_by_key(|seen| (Reverse(seen.prefix.length()), seen.rank, seen.path_id));
        found
    }

    /// The best route of the longest prefix that may steer viewers at `address`.
    pub fn steerable(&self, address: IpAddr) -> Option<Seen<'_>> {
        let found = self.covering(address);
        best(found.into_iter().filter(Seen::is_steerable))
    }

    /// The best route of the longest prefix that contains `address` at all: filtered routes and
    /// the default route say that a neighbour reaches it, though they never steer.
    pub fn reachable(&self, address: IpAddr) -> Option<Seen<'_>> {
        best(self.covering(address).into_iter())
    }

    /// The best of the routes for exactly this prefix, of the steerable ones if there are any.
    pub fn best(&self, prefix: &Prefix) -> Option<Seen<'_>> {
        let here = self.iter_from(prefix);
        let here: Vec<_> = here.take_while(|seen| seen.prefix == *prefix).collect();
        let steerable = here.iter().copied().filter(Seen::is_steerable);
        best(steerable).or_else(|| best(here.iter().copied()))
    }

    /// Calls `each` with what stood in `before` and stands here, for each route that differs.
    /// Costs what the two do not share, not their size.
    pub fn compare<'a>(
        &'a self,
        before: &'a Self,
        mut each: impl FnMut(Option<Seen<'a>>, Option<Seen<'a>>),
    ) {
        self.pairs(before, |was, is| {
            let both = was.as_ref().zip(is.as_ref());
            if !both.is_some_and(|(was, is)| was.is_same(is)) {
                each(was, is);
            }
        });
    }

    /// Has a route that could steer in `before` gone, or been filtered? Milliseconds even when
    /// every route of a full table has changed: attributes are not looked at.
    pub fn has_lost(&self, before: &Self) -> bool {
        let mut has_lost = false;
        self.pairs(before, |was, is| {
            let steered = was.is_some_and(|seen| seen.is_steerable());
            has_lost |= steered && is.is_none_or(|seen| !seen.is_steerable());
        });
        has_lost
    }

    /// Calls `each` for all routes that may differ.
    fn pairs<'a>(
        &'a self,
        before: &'a Self,
        mut each: impl FnMut(Option<Seen<'a>>, Option<Seen<'a>>),
    ) {
        let mut pairs: BTreeMap<&str, [Option<(usize, &Table)>; 2]> = BTreeMap::new();
        for (side, tables) in [&before.tables, &self.tables].into_iter().enumerate() {
            for (rank, table) in tables.iter().enumerate() {
                let pair = pairs.entry(&table.source.neighbour).or_default();
                pair[side] = Some((rank, table));
            }
        }
        for [old, new] in pairs.into_values() {
            walk::compare(old, new, &mut each);
        }
    }
}

impl<'a> Seen<'a> {
    pub fn neighbour(&self) -> &'a Arc<str> {
        &self.table.source.neighbour
    }

    pub fn class(&self) -> Class {
        self.table.source.class
    }

    pub fn filtered(&self) -> Option<Filtered> {
        Filtered::from_code(self.filter)
    }

    pub fn is_steerable(&self) -> bool {
        self.filter == 0
    }

    /// Attributes in place.
    pub fn packed(&self) -> Packed<'a> {
        self.table.pages.get(self.set)
    }

    pub fn share(&self) -> Share {
        Share {
            rank: self.rank,
            set: self.set,
            filter: self.filter,
        }
    }

    /// With attributes of its own.
    pub fn route(&self) -> Route {
        Route {
            prefix: self.prefix,
            neighbour: Arc::clone(self.neighbour()),
            path_id: self.path_id,
            class: self.class(),
            attributes: Arc::new(self.packed().attributes()),
            filtered: self.filtered(),
        }
    }

    /// Same filter, same attributes.
    fn is_same(&self, other: &Self) -> bool {
        let pages = (&self.table.pages, &other.table.pages);
        self.filter == other.filter
            && self.class() == other.class()
            && (self.set == other.set && pages.0.shares(pages.1, self.set)
                || self.packed().bytes() == other.packed().bytes())
    }

    /// Less is better: RFC 4271 section 9.1.2.2, with MED compared between all neighbours, because
    /// an order that depends on who else is there would not be one.
    fn preference(&self) -> impl Ord + use<> {
        let fixed = self.packed().fixed();
        let source = &self.table.source;
        (
            // RFC 8326: only where there is no other.
            self.packed().is_leaving(),
            Reverse(fixed.local_pref.unwrap_or(LOCAL_PREF)),
            self.packed().path().length(),
            fixed.origin,
            fixed.med.unwrap_or(0),
            source.is_internal,
            source.router_id,
            source.address,
            self.path_id,
        )
    }
}

/// The best one of the longest prefix among `found`.
fn best<'a>(found: impl Iterator<Item = Seen<'a>>) -> Option<Seen<'a>> {
    found.min_by_key(|seen| (Reverse(seen.prefix.length()), seen.preference()))
}

impl Default for Table {
    fn default() -> Self {
        Self::new(Source {
            neighbour: "".into(),
            class: Class::Embedded,
            is_internal: false,
            router_id: None,
            address: std::net::Ipv4Addr::UNSPECIFIED.into(),
        })
    }
}

/// For those who have routes one by one, such as tests.
impl FromIterator<Route> for RouteTable {
    fn from_iter<I: IntoIterator<Item = Route>>(routes: I) -> Self {
        let mut tables: BTreeMap<Arc<str>, (Source, Sets, Changes)> = BTreeMap::new();
        let mut packer = Packer::default();
        for route in routes {
            let name = Arc::clone(&route.neighbour);
            let (_, sets, changes) = tables.entry(name).or_insert_with(|| {
                let source = Source {
                    neighbour: Arc::clone(&route.neighbour),
                    class: route.class,
                    ..Table::default().source
                };
                (source, Sets::default(), Changes::default())
            });
            if let Some(set) = sets.acquire(packer.pack(&route.attributes)) {
                let filter = Filtered::code(route.filtered);
                changes.push(&route.prefix, route.path_id, filter, set);
            }
        }
        Self::new(tables.into_values().map(|(source, sets, changes)| {
            let table = Table::new(source.clone());
            Arc::new(table.changed(source, changes, sets.pages()))
        }))
    }
}

impl PartialEq for RouteTable {
    fn eq(&self, other: &Self) -> bool {
        let mut is_same = true;
        self.compare(other, |_, _| is_same = false);
        is_same
    }
}

impl PartialEq for Seen<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place() && self.is_same(other)
    }
}

impl<'a> Seen<'a> {
    /// What no two routes of a table share, in the order of the table.
    pub fn place(&self) -> (Prefix, &'a str, u32) {
        (self.prefix, self.neighbour(), self.path_id)
    }

    /// In the order of one table.
    fn order(&self, other: &Self) -> Ordering {
        let key = |seen: &Self| (seen.prefix, seen.rank, seen.path_id);
        key(self).cmp(&key(other))
    }
}

#[cfg(test)]
mod tests;
