//! Adj-RIB-In: what one neighbour announces, with attributes stored once for all routes that share
//! them.
//!
//! Owned by the neighbour's task, through `ingest`. Keys are packed and hashing is seeded at
//! random, because the neighbour chooses the keys. What changes is kept until [`Rib::take`] hands
//! it to the publisher; the set hash of the routes is carried along. Nothing here decides anything;
//! limits are told, not enforced.
//!
//! What is swept goes in pieces, because a whole table takes a second: [`Rib::sweep_stale`] says
//! which routes, [`Rib::sweep_on`] withdraws some of them. One that is announced meanwhile stays.

use crate::object::Digest;
use crate::prefix::Family;
use crate::prefix::Prefix;
use crate::route::Class;
use crate::route::Community;
use crate::route::Filtered;
use crate::route::Item;
use crate::route::Packed;
use crate::route_table::Changes;
use crate::route_table::IPV4;
use crate::route_table::IPV4_PATHS;
use crate::route_table::IPV6;
use crate::route_table::IPV6_PATHS;
use crate::route_table::Key;
use crate::route_table::Pages;
use crate::route_table::Row;
use crate::route_table::Seed;
use crate::route_table::SetId;
use crate::route_table::Sets;
use crate::set_hash::SetHash;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::sync::Arc;

/// In [`Row::filter`]: announced in an earlier life of the session and not yet in this one.
const STALE: u8 = 0x80;

/// In [`Row::filter`] of a stale route: its sweep has begun.
const DOOMED: u8 = 0x40;

/// Routes of one piece of a sweep: about a millisecond.
const SWEEP_ROWS: usize = 1024;

/// RFC 9494: a route that must not outlive its session for long.
const NO_LLGR: Community = Community(0xffff_0007);

/// Rows that an emptied hash table may keep room for.
const SPARE_ROWS: usize = 4096;

/// One neighbour's routes.
#[derive(Debug)]
pub(super) struct Rib {
    class: Class,
    neighbour: Arc<str>,
    sets: Sets,
    seed: Seed,
    ipv4: HashTable<Row<IPV4>>,
    ipv4_paths: HashTable<Row<IPV4_PATHS>>,
    ipv6: HashTable<Row<IPV6>>,
    ipv6_paths: HashTable<Row<IPV6_PATHS>>,
    /// Since the last [`Rib::take`].
    changes: Changes,
    withdraws: bool,
    /// Rows that are marked as stale.
    stale: PerFamily,
    doomed: Doomed,
    filtered: usize,
    hash: SetHash,
    item: Item,
    /// What `item` has been told of the source last.
    item_filtered: Option<Option<Filtered>>,
}

/// A set of attributes held while the routes of one UPDATE are applied; give it back to
/// [`Rib::release`].
#[derive(Debug)]
pub(super) struct Held {
    set: SetId,
    digest: Digest,
}

/// What happened since the last batch, and how things stand after it.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) changes: Changes,
    /// Is a route gone? Viewers should hear of that soon.
    pub(super) withdraws: bool,
    /// The sets of all routes.
    pub(super) pages: Pages,
    pub(super) routes: usize,
    pub(super) filtered: usize,
    pub(super) hash: SetHash,
}

#[derive(Clone, Copy, Debug, Default)]
struct PerFamily {
    ipv4: usize,
    ipv6: usize,
}

/// What the sweep has still to look at.
#[derive(Debug, Default)]
struct Doomed {
    ipv4: Vec<Key<IPV4>>,
    ipv4_paths: Vec<Key<IPV4_PATHS>>,
    ipv6: Vec<Key<IPV6>>,
    ipv6_paths: Vec<Key<IPV6_PATHS>>,
}

/// What stood in a table.
struct Old {
    value: Value,
    is_stale: bool,
}

/// What a row says but for its key.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Value {
    set: SetId,
    filter: u8,
}

impl Rib {
    pub(super) fn new(class: Class, neighbour: Arc<str>) -> Self {
        Self {
            class,
            neighbour,
            sets: Sets::default(),
            seed: Seed::random(),
            ipv4: HashTable::new(),
            ipv4_paths: HashTable::new(),
            ipv6: HashTable::new(),
            ipv6_paths: HashTable::new(),
            changes: Changes::default(),
            withdraws: false,
            stale: PerFamily::default(),
            doomed: Doomed::default(),
            filtered: 0,
            hash: SetHash::default(),
            item: Item::default(),
            item_filtered: None,
        }
    }

    /// Routes, filtered ones too.
    pub(super) fn family_len(&self, family: Family) -> usize {
        match family {
            Family::Ipv4 => self.ipv4.len() + self.ipv4_paths.len(),
            Family::Ipv6 => self.ipv6.len() + self.ipv6_paths.len(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.family_len(Family::Ipv4) + self.family_len(Family::Ipv6)
    }

    /// Routes that count against a limit: what a router left behind when it restarted does not.
    /// Neither do stale ones count for nothing, or each refresh could leave another table behind.
    pub(super) fn family_counted(&self, family: Family) -> usize {
        let all = self.family_len(family);
        (all - self.stale.of(family)).max(all.div_ceil(2))
    }

    /// Memory of all attribute sets, with what it takes to find them.
    pub(super) fn attribute_bytes(&self) -> usize {
        self.sets.bytes()
    }

    /// Changes that wait to be taken.
    pub(super) fn pending(&self) -> usize {
        self.changes.len()
    }

    /// Forgets everything; whoever has taken batches must forget them too.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.class, Arc::clone(&self.neighbour));
    }

    /// `None` when there is no place for another set, which takes 64 GB of them.
    pub(super) fn hold(&mut self, packed: &[u8]) -> Option<Held> {
        let set = self.sets.acquire(packed)?;
        let digest = self.sets.digest(set)?;
        Some(Held { set, digest })
    }

    pub(super) fn release(&mut self, held: &Held) {
        self.sets.release(held.set);
    }

    /// True if anything changed. A stale route is fresh after it.
    pub(super) fn announce(
        &mut self,
        prefix: &Prefix,
        path_id: u32,
        held: &Held,
        filtered: Option<Filtered>,
    ) -> bool {
        let to = Value {
            set: held.set,
            filter: Filtered::code(filtered),
        };
        let (seed, changes) = (self.seed, &mut self.changes);
        let old = match (prefix.family(), path_id) {
            (Family::Ipv4, 0) => {
                let row = to.row(Key::new(prefix, 0));
                put(&mut self.ipv4, seed, row, &mut changes.ipv4)
            }
            (Family::Ipv4, path) => {
                let row = to.row(Key::new(prefix, path));
                put(&mut self.ipv4_paths, seed, row, &mut changes.ipv4_paths)
            }
            (Family::Ipv6, 0) => {
                let row = to.row(Key::new(prefix, 0));
                put(&mut self.ipv6, seed, row, &mut changes.ipv6)
            }
            (Family::Ipv6, path) => {
                let row = to.row(Key::new(prefix, path));
                put(&mut self.ipv6_paths, seed, row, &mut changes.ipv6_paths)
            }
        };
        if let Some(old) = old {
            *self.stale.of_mut(prefix.family()) -= usize::from(old.is_stale);
            if old.value == to {
                return false;
            }
            self.forget(prefix, path_id, old.value);
        }
        self.sets.reuse(to.set);
        self.filtered += usize::from(to.filter != 0);
        self.tell(prefix, path_id, filtered, &held.digest);
        self.hash.add(self.item.bytes());
        true
    }

    /// True if it was there.
    pub(super) fn withdraw(&mut self, prefix: &Prefix, path_id: u32) -> bool {
        let (seed, changes) = (self.seed, &mut self.changes);
        let old = match (prefix.family(), path_id) {
            (Family::Ipv4, 0) => {
                let key = Key::new(prefix, 0);
                remove(&mut self.ipv4, seed, key, &mut changes.ipv4)
            }
            (Family::Ipv4, path) => {
                let key = Key::new(prefix, path);
                remove(&mut self.ipv4_paths, seed, key, &mut changes.ipv4_paths)
            }
            (Family::Ipv6, 0) => {
                let key = Key::new(prefix, 0);
                remove(&mut self.ipv6, seed, key, &mut changes.ipv6)
            }
            (Family::Ipv6, path) => {
                let key = Key::new(prefix, path);
                remove(&mut self.ipv6_paths, seed, key, &mut changes.ipv6_paths)
            }
        };
        let Some(old) = old else {
            return false;
        };
        *self.stale.of_mut(prefix.family()) -= usize::from(old.is_stale);
        self.withdraws = true;
        self.forget(prefix, path_id, old.value);
        true
    }

    /// The neighbour has to announce every route of the family again, or it will be swept.
    pub(super) fn mark_stale(&mut self, family: Family) {
        let all = self.family_len(family);
        // A refresh that begins twice costs nothing.
        if std::mem::replace(self.stale.of_mut(family), all) == all {
            return;
        }
        match family {
            Family::Ipv4 => {
                self.ipv4.iter_mut().for_each(|row| row.filter |= STALE);
                self.ipv4_paths
                    .iter_mut()
                    .for_each(|row| row.filter |= STALE);
            }
            Family::Ipv6 => {
                self.ipv6.iter_mut().for_each(|row| row.filter |= STALE);
                self.ipv6_paths
                    .iter_mut()
                    .for_each(|row| row.filter |= STALE);
            }
        }
    }

    /// What was not announced since [`Rib::mark_stale`] is to go: so many routes.
    pub(super) fn sweep_stale(&mut self, family: Family) -> usize {
        self.doom(family, |_| true)
    }

    /// The stale routes of the family are to stay for long: those go that must not.
    pub(super) fn sweep_not_long_lived(&mut self, family: Family) -> usize {
        self.doom(family, |set| set.has_community(NO_LLGR))
    }

    fn doom(&mut self, family: Family, is_meant: impl Fn(Packed<'_>) -> bool) -> usize {
        if self.stale.of(family) == 0 {
            return 0;
        }
        let (sets, to) = (&self.sets, &mut self.doomed);
        match family {
            Family::Ipv4 => {
                doom(&mut self.ipv4, sets, &is_meant, &mut to.ipv4)
                    + doom(&mut self.ipv4_paths, sets, &is_meant, &mut to.ipv4_paths)
            }
            Family::Ipv6 => {
                doom(&mut self.ipv6, sets, &is_meant, &mut to.ipv6)
                    + doom(&mut self.ipv6_paths, sets, &is_meant, &mut to.ipv6_paths)
            }
        }
    }

    /// Are there routes that [`Rib::sweep_on`] has still to withdraw?
    pub(super) fn is_sweeping(&self) -> bool {
        let doomed = &self.doomed;
        let paths = doomed.ipv4_paths.len() + doomed.ipv6_paths.len();
        doomed.ipv4.len() + doomed.ipv6.len() + paths > 0
    }

    /// Withdraws a piece of what is swept.
    pub(super) fn sweep_on(&mut self) {
        for _ in 0..SWEEP_ROWS {
            let (doomed, seed) = (&mut self.doomed, self.seed);
            let next = pop(&mut doomed.ipv4, &self.ipv4, seed)
                .or_else(|| pop(&mut doomed.ipv4_paths, &self.ipv4_paths, seed))
                .or_else(|| pop(&mut doomed.ipv6, &self.ipv6, seed))
                .or_else(|| pop(&mut doomed.ipv6_paths, &self.ipv6_paths, seed));
            let Some((prefix, path_id, is_doomed)) = next else {
                self.doomed = Doomed::default();
                return;
            };
            if is_doomed {
                self.withdraw(&prefix, path_id);
            }
        }
    }

    /// What changed since the last time; `None` for nothing.
    pub(super) fn take(&mut self) -> Option<Batch> {
        if self.changes.is_empty() {
            return None;
        }
        let seed = self.seed;
        shrink(&mut self.ipv4, seed);
        shrink(&mut self.ipv4_paths, seed);
        shrink(&mut self.ipv6, seed);
        shrink(&mut self.ipv6_paths, seed);
        Some(Batch {
            changes: std::mem::take(&mut self.changes),
            withdraws: std::mem::take(&mut self.withdraws),
            pages: self.sets.pages(),
            routes: self.len(),
            filtered: self.filtered,
            hash: self.hash,
        })
    }

    /// Books out what a route was.
    fn forget(&mut self, prefix: &Prefix, path_id: u32, old: Value) {
        if let Some(digest) = self.sets.digest(old.set) {
            let filtered = Filtered::from_code(old.filter);
            self.tell(prefix, path_id, filtered, &digest);
            self.hash.remove(self.item.bytes());
        }
        self.filtered -= usize::from(old.filter != 0);
        self.sets.release(old.set);
    }

    /// Makes `item` that of a route.
    fn tell(&mut self, prefix: &Prefix, path_id: u32, filtered: Option<Filtered>, digest: &Digest) {
        if self.item_filtered != Some(filtered) {
            self.item.source(self.class, &self.neighbour, filtered);
            self.item_filtered = Some(filtered);
        }
        self.item.attributes(digest);
        self.item.place(prefix, path_id);
    }
}

impl Value {
    fn row<const N: usize>(self, key: Key<N>) -> Row<N> {
        Row::new(key, self.filter, self.set)
    }

    /// Stale or not.
    fn of<const N: usize>(row: &Row<N>) -> Self {
        Self {
            set: row.set(),
            filter: row.filter & !(STALE | DOOMED),
        }
    }
}

impl Old {
    fn of<const N: usize>(row: &Row<N>) -> Self {
        Self {
            value: Value::of(row),
            is_stale: row.filter & STALE != 0,
        }
    }
}

impl PerFamily {
    fn of(self, family: Family) -> usize {
        match family {
            Family::Ipv4 => self.ipv4,
            Family::Ipv6 => self.ipv6,
        }
    }

    fn of_mut(&mut self, family: Family) -> &mut usize {
        match family {
            Family::Ipv4 => &mut self.ipv4,
            Family::Ipv6 => &mut self.ipv6,
        }
    }
}

/// What stood there; it is noted among the changes if that was something else.
fn put<const N: usize>(
    table: &mut HashTable<Row<N>>,
    seed: Seed,
    row: Row<N>,
    changes: &mut Vec<Row<N>>,
) -> Option<Old> {
    let hash = row.key.hash(seed);
    let entry = table.entry(hash, |old| old.key == row.key, |old| old.key.hash(seed));
    let old = match entry {
        Entry::Occupied(mut entry) => Some(std::mem::replace(entry.get_mut(), row)),
        Entry::Vacant(entry) => {
            entry.insert(row);
            None
        }
    };
    let old = old.map(|old| Old::of(&old));
    if old.as_ref().map(|old| old.value) != Some(Value::of(&row)) {
        changes.push(row);
    }
    old
}

fn remove<const N: usize>(
    table: &mut HashTable<Row<N>>,
    seed: Seed,
    key: Key<N>,
    changes: &mut Vec<Row<N>>,
) -> Option<Old> {
    let entry = table
        .find_entry(key.hash(seed), |old| old.key == key)
        .ok()?;
    let (old, _) = entry.remove();
    changes.push(Row::gone(key));
    Some(Old::of(&old))
}

/// Stale rows whose sweep begins, and how many these are.
fn doom<const N: usize>(
    table: &mut HashTable<Row<N>>,
    sets: &Sets,
    is_meant: &impl Fn(Packed<'_>) -> bool,
    to: &mut Vec<Key<N>>,
) -> usize {
    let before = to.len();
    let stale = table
        .iter_mut()
        .filter(|row| row.filter & (STALE | DOOMED) == STALE);
    for row in stale.filter(|row| is_meant(sets.get(row.set()))) {
        row.filter |= DOOMED;
        to.push(row.key);
    }
    to.len() - before
}

/// A place that the sweep comes to, and whether it is still to go.
fn pop<const N: usize>(
    from: &mut Vec<Key<N>>,
    table: &HashTable<Row<N>>,
    seed: Seed,
) -> Option<(Prefix, u32, bool)> {
    let key = from.pop()?;
    let row = table.find(key.hash(seed), |row| row.key == key);
    let is_doomed = row.is_some_and(|row| row.filter & DOOMED != 0);
    Some((key.prefix(), key.path_id(), is_doomed))
}

fn shrink<const N: usize>(table: &mut HashTable<Row<N>>, seed: Seed) {
    if table.capacity() > SPARE_ROWS && table.len() < table.capacity() / 8 {
        table.shrink_to(2 * table.len(), |row| row.key.hash(seed));
    }
}

#[cfg(test)]
#[path = "rib_tests.rs"]
mod tests;
