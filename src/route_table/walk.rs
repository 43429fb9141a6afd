//! Ways through the tables of several neighbours: in the order of prefixes, down to the covering
//! ones of an address, and along what changed.

use super::Seen;
use super::Table;
use super::chunks::Chunks;
use super::chunks::Row;
use super::chunks::Rows;
use super::key::IPV4;
use super::key::IPV4_PATHS;
use super::key::IPV6;
use super::key::IPV6_PATHS;
use super::key::Key;
use crate::prefix::Family;
use crate::prefix::Prefix;
use std::net::IpAddr;
use std::sync::Arc;

/// Routes in the order of prefix, neighbour, path identifier.
#[derive(Debug)]
pub struct Iter<'a> {
    /// What is left of each table and form of key, with its next route.
    ways: Vec<(Seen<'a>, Way<'a>)>,
    /// IPv6 begins when IPv4 is through.
    later: Vec<(Seen<'a>, Way<'a>)>,
}

#[derive(Debug)]
enum Way<'a> {
    Ipv4(Rows<'a, IPV4>),
    Ipv4Paths(Rows<'a, IPV4_PATHS>),
    Ipv6(Rows<'a, IPV6>),
    Ipv6Paths(Rows<'a, IPV6_PATHS>),
}

impl<'a> Iter<'a> {
    pub(super) fn from(tables: &'a [Arc<Table>], prefix: Option<&Prefix>) -> Self {
        let is_ipv6 = prefix.is_some_and(|prefix| prefix.family() == Family::Ipv6);
        let (ipv4, ipv6) = match prefix {
            Some(prefix) if is_ipv6 => (None, Some(prefix)),
            _ => (prefix, None),
        };
        let (mut ways, mut later) = (Vec::new(), Vec::new());
        for (rank, table) in tables.iter().enumerate() {
            let begun = |mut way: Way<'a>| Some((way.next(table, rank)?, way));
            if !is_ipv6 {
                ways.extend(begun(Way::Ipv4(from(&table.ipv4, ipv4))));
                ways.extend(begun(Way::Ipv4Paths(from(&table.ipv4_paths, ipv4))));
            }
            later.extend(begun(Way::Ipv6(from(&table.ipv6, ipv6))));
            later.extend(begun(Way::Ipv6Paths(from(&table.ipv6_paths, ipv6))));
        }
        Self { ways, later }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Seen<'a>;

    fn next(&mut self) -> Option<Seen<'a>> {
        if self.ways.is_empty() {
            std::mem::swap(&mut self.ways, &mut self.later);
        }
        // There are few: a neighbour has one, or two with ADD-PATH.
        let ways = self.ways.iter().enumerate();
        let (first, _) = ways.min_by(|(_, (one, _)), (_, (other, _))| one.order(other))?;
        let (seen, way) = &mut self.ways[first];
        let found = *seen;
        match way.next(found.table, found.rank) {
            Some(next) => *seen = next,
            None => drop(self.ways.swap_remove(first)),
        }
        Some(found)
    }
}

impl<'a> Way<'a> {
    fn next(&mut self, table: &'a Table, rank: usize) -> Option<Seen<'a>> {
        match self {
            Self::Ipv4(rows) => rows.next().map(|row| seen(row, table, rank)),
            Self::Ipv4Paths(rows) => rows.next().map(|row| seen(row, table, rank)),
            Self::Ipv6(rows) => rows.next().map(|row| seen(row, table, rank)),
            Self::Ipv6Paths(rows) => rows.next().map(|row| seen(row, table, rank)),
        }
    }
}

fn from<'a, const N: usize>(chunks: &'a Chunks<N>, prefix: Option<&Prefix>) -> Rows<'a, N> {
    match prefix {
        Some(prefix) => chunks.rows_from(&Key::new(prefix, 0)),
        None => chunks.rows(),
    }
}

fn seen<'a, const N: usize>(row: &Row<N>, table: &'a Table, rank: usize) -> Seen<'a> {
    Seen {
        prefix: row.key.prefix(),
        path_id: row.key.path_id(),
        filter: row.filter,
        set: row.set(),
        table,
        rank,
    }
}

/// Routes of one neighbour whose prefix contains `address`.
pub(super) fn covering<'a>(
    table: &'a Table,
    rank: usize,
    address: IpAddr,
    found: &mut Vec<Seen<'a>>,
) {
    let host = Prefix::host(address);
    match host.family() {
        Family::Ipv4 => {
            descend(&table.ipv4, &host, |row| found.push(seen(row, table, rank)));
            descend(&table.ipv4_paths, &host, |row| {
                found.push(seen(row, table, rank))
            });
        }
        Family::Ipv6 => {
            descend(&table.ipv6, &host, |row| found.push(seen(row, table, rank)));
            descend(&table.ipv6_paths, &host, |row| {
                found.push(seen(row, table, rank))
            });
        }
    }
}

/// One search a covering prefix, and some beside: what stands last before the longest prefix that
/// may still come covers the host, or shows how much shorter whatever covers it must be.
fn descend<const N: usize>(chunks: &Chunks<N>, host: &Prefix, mut each: impl FnMut(&Row<N>)) {
    let mut longest = Some(host.length());
    while let Some(length) = longest
        && let Some(most) = host.shortened(length)
        && let Some(row) = chunks.last_until(&Key::new(&most, u32::MAX))
    {
        let prefix = row.key.prefix();
        if prefix.covers(host) {
            let rows = chunks.rows_from(&Key::new(&prefix, 0));
            rows.take_while(|row| row.key.prefix() == prefix)
                .for_each(&mut each);
            longest = prefix.length().checked_sub(1);
        } else {
            let common = (prefix.bits() ^ host.bits()).leading_zeros();
            let common = u8::try_from(common).unwrap_or(u8::MAX);
            longest = Some(common.min(length.saturating_sub(1)));
        }
    }
}

/// What may differ between two moments of one neighbour's routes, each with its rank.
pub(super) fn compare<'a>(
    old: Option<(usize, &'a Table)>,
    new: Option<(usize, &'a Table)>,
    each: &mut impl FnMut(Option<Seen<'a>>, Option<Seen<'a>>),
) {
    let before = old.map(|(_, table)| table);
    let after = new.map(|(_, table)| table);
    of_form(
        old,
        new,
        before.map(|t| &t.ipv4),
        after.map(|t| &t.ipv4),
        each,
    );
    let paths = |table: &'a Table| &table.ipv4_paths;
    of_form(old, new, before.map(paths), after.map(paths), each);
    of_form(
        old,
        new,
        before.map(|t| &t.ipv6),
        after.map(|t| &t.ipv6),
        each,
    );
    let paths = |table: &'a Table| &table.ipv6_paths;
    of_form(old, new, before.map(paths), after.map(paths), each);
}

fn of_form<'a, const N: usize>(
    old: Option<(usize, &'a Table)>,
    new: Option<(usize, &'a Table)>,
    before: Option<&Chunks<N>>,
    after: Option<&Chunks<N>>,
    each: &mut impl FnMut(Option<Seen<'a>>, Option<Seen<'a>>),
) {
    let nothing = Chunks::default();
    let of = |place: Option<(usize, &'a Table)>, row: Option<&Row<N>>| {
        let (rank, table) = place?;
        Some(seen(row?, table, rank))
    };
    let (before, after) = (before.unwrap_or(&nothing), after.unwrap_or(&nothing));
    after.compare(before, |one, other| each(of(old, one), of(new, other)));
}
