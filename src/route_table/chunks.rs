//! Sorted rows in pieces of some hundreds, shared between one moment and the next.
//!
//! A change rewrites the chunks it falls into and takes over all others, so that a snapshot after a
//! small change costs little memory and time, and two snapshots are compared by skipping what they
//! share.

use super::key::Key;
use super::sets::SetId;
use std::cmp::Ordering;
use std::sync::Arc;

/// Rows of one chunk, at most. Some kilobytes: cheap to rewrite, and few enough chunks of a full
/// table that a list of them is copied in microseconds.
const ROWS_MAX: usize = 384;

/// A chunk that was rewritten and is smaller takes in its successor.
const ROWS_MIN: usize = 96;

/// One route of one neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<const N: usize> {
    pub key: Key<N>,
    /// A number of the import filter's reasons, 0 for none; the owner may use both highest bits.
    pub filter: u8,
    set: [u8; 4],
}

/// The routes of one neighbour whose keys have one form.
#[derive(Clone, Debug)]
pub(super) struct Chunks<const N: usize> {
    chunks: Arc<[Arc<[Row<N>]>]>,
    /// The first key of each chunk, side by side: a search jumps over these and not over chunks,
    /// which lie all over the memory.
    firsts: Arc<[Key<N>]>,
    len: usize,
}

/// Rows in order, from some place on.
#[derive(Clone, Debug)]
pub(super) struct Rows<'a, const N: usize> {
    chunks: &'a [Arc<[Row<N>]>],
    rows: &'a [Row<N>],
}

impl<const N: usize> Row<N> {
    pub fn new(key: Key<N>, filter: u8, set: SetId) -> Self {
        let set = set.octets();
        Self { key, filter, set }
    }

    /// In a list of changes: the route of this key is gone.
    pub fn gone(key: Key<N>) -> Self {
        Self::new(key, 0, SetId::NONE)
    }

    pub fn set(&self) -> SetId {
        SetId::from_octets(self.set)
    }

    pub fn is_gone(&self) -> bool {
        self.set() == SetId::NONE
    }
}

impl<const N: usize> Default for Chunks<N> {
    fn default() -> Self {
        Self {
            chunks: Arc::new([]),
            firsts: Arc::new([]),
            len: 0,
        }
    }
}

impl<const N: usize> Chunks<N> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// This with `changes` applied, of which the last of a key counts.
    pub(super) fn changed(&self, mut changes: Vec<Row<N>>) -> Self {
        if changes.is_empty() {
            return self.clone();
        }
        // Stable: changes of one key stay in their order.
        match N {
            0..=8 => changes.sort_by_key(|row| row.key.front()),
            9.. => changes.sort_by_key(|row| row.key.rank()),
        }
        let mut changes = Latest(&changes);
        let mut out = Out::default();
        for (index, chunk) in self.chunks.iter().enumerate() {
            let end = self.firsts.get(index + 1).copied();
            let mine = changes.before(end);
            if mine.0.is_empty() && out.rows.is_empty() {
                out.shared(chunk);
            } else {
                out.merge(chunk, mine);
            }
            if out.rows.len() >= ROWS_MIN {
                out.cut();
            }
        }
        out.merge(&[], changes);
        out.cut();
        Self {
            chunks: out.chunks.into(),
            firsts: out.firsts.into(),
            len: out.len,
        }
    }

    /// From the first row on whose key is not less.
    pub(super) fn rows_from(&self, key: &Key<N>) -> Rows<'_, N> {
        let chunk = self.firsts.partition_point(|first| first <= key);
        let chunk = chunk.saturating_sub(1);
        let mut rows = Rows {
            chunks: self.chunks.get(chunk + 1..).unwrap_or(&[]),
            rows: self.chunks.get(chunk).map_or(&[], |chunk| chunk),
        };
        let at = rows.rows.partition_point(|row| row.key < *key);
        rows.rows = &rows.rows[at..];
        rows
    }

    pub(super) fn rows(&self) -> Rows<'_, N> {
        Rows {
            chunks: &self.chunks,
            rows: &[],
        }
    }

    /// The last row whose key is not greater.
    pub(super) fn last_until(&self, key: &Key<N>) -> Option<&Row<N>> {
        let chunk = self.firsts.partition_point(|first| first <= key);
        let rows = self.chunks.get(chunk.checked_sub(1)?)?;
        let at = rows.partition_point(|row| row.key <= *key);
        rows.get(at.checked_sub(1)?)
    }

    /// Calls `each` with what stands in `before` and here, for each key whose rows differ, or whose
    /// sets might differ though their numbers do not. Costs the chunks that are not shared.
    pub(super) fn compare(
        &self,
        before: &Self,
        mut each: impl FnMut(Option<&Row<N>>, Option<&Row<N>>),
    ) {
        let mut old = unshared(before, self).peekable();
        let mut new = unshared(self, before).peekable();
        loop {
            let order = match (old.peek(), new.peek()) {
                (Some(one), Some(other)) => one.key.cmp(&other.key),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return,
            };
            match order {
                Ordering::Less => each(old.next(), None),
                Ordering::Greater => each(None, new.next()),
                Ordering::Equal => each(old.next(), new.next()),
            }
        }
    }
}

impl<'a, const N: usize> Iterator for Rows<'a, N> {
    type Item = &'a Row<N>;

    fn next(&mut self) -> Option<&'a Row<N>> {
        loop {
            if let Some((row, rest)) = self.rows.split_first() {
                self.rows = rest;
                return Some(row);
            }
            let (chunk, rest) = self.chunks.split_first()?;
            (self.rows, self.chunks) = (chunk, rest);
        }
    }
}

/// Rows of the chunks of `mine` that are not in `theirs`.
fn unshared<'a, const N: usize>(
    mine: &'a Chunks<N>,
    theirs: &'a Chunks<N>,
) -> impl Iterator<Item = &'a Row<N>> {
    let mut theirs = &theirs.chunks[..];
    let is_unshared = move |chunk: &&Arc<[Row<N>]>| {
        // Both lists are sorted: a shared chunk stands where its first key does.
        while let [other, rest @ ..] = theirs
            && other[0].key < chunk[0].key
        {
            theirs = rest;
        }
        !theirs
            .first()
            .is_some_and(|other| Arc::ptr_eq(other, chunk))
    };
    let chunks = mine.chunks.iter().filter(is_unshared);
    chunks.flat_map(|chunk| chunk.iter())
}

/// Sorted changes, of which the last of a key counts.
struct Latest<'a, const N: usize>(&'a [Row<N>]);

impl<'a, const N: usize> Latest<'a, N> {
    /// Those before `end`, split off.
    fn before(&mut self, end: Option<Key<N>>) -> Latest<'a, N> {
        let at = end.map_or(self.0.len(), |end| {
            // Most chunks of a small change have none.
            match self.0.first() {
                Some(first) if first.key < end => self.0.partition_point(|row| row.key < end),
                _ => 0,
            }
        });
        let (mine, rest) = self.0.split_at(at);
        self.0 = rest;
        Latest(mine)
    }
}

impl<'a, const N: usize> Iterator for Latest<'a, N> {
    type Item = &'a Row<N>;

    fn next(&mut self) -> Option<&'a Row<N>> {
        loop {
            let (row, rest) = self.0.split_first()?;
            self.0 = rest;
            if rest.first().is_none_or(|next| next.key != row.key) {
                return Some(row);
            }
        }
    }
}

/// Chunks as they are made.
#[derive(Default)]
struct Out<const N: usize> {
    chunks: Vec<Arc<[Row<N>]>>,
    firsts: Vec<Key<N>>,
    rows: Vec<Row<N>>,
    len: usize,
}

impl<const N: usize> Out<N> {
    fn shared(&mut self, chunk: &Arc<[Row<N>]>) {
        self.len += chunk.len();
        self.firsts.push(chunk[0].key);
        self.chunks.push(Arc::clone(chunk));
    }

    fn merge(&mut self, mut old: &[Row<N>], changes: Latest<'_, N>) {
        for change in changes {
            // Rows that stay are copied in runs.
            let stay = old.iter().position(|row| row.key >= change.key);
            let (run, rest) = old.split_at(stay.unwrap_or(old.len()));
            self.rows.extend_from_slice(run);
            old = match rest {
                [first, behind @ ..] if first.key == change.key => behind,
                _ => rest,
            };
            if !change.is_gone() {
                self.rows.push(*change);
            }
        }
        self.rows.extend_from_slice(old);
    }

    /// Chunks of equal size of all rows that wait.
    fn cut(&mut self) {
        if self.rows.is_empty() {
            return;
        }
        let pieces = self.rows.len().div_ceil(ROWS_MAX);
        let size = self.rows.len().div_ceil(pieces);
        self.len += self.rows.len();
        for piece in self.rows.chunks(size) {
            self.firsts.push(piece[0].key);
            self.chunks.push(piece.into());
        }
        self.rows.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::IPV4_PATHS;
    use super::*;
    use crate::prefix::Prefix;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    type Model = BTreeMap<Key<IPV4_PATHS>, Row<IPV4_PATHS>>;

    fn key(number: u32) -> Key<IPV4_PATHS> {
        let address = Ipv4Addr::from_bits(0xc000_0000 | (number >> 1) << 8);
        Key::new(&Prefix::new(address.into(), 24).unwrap(), number & 1)
    }

    fn batch() -> impl Strategy<Value = (u32, Vec<(u32, Option<u8>)>)> {
        // Some batches fall into a narrow range, and some over all.
        let change = (0_u32..4000, proptest::option::weighted(0.6, 0_u8..3));
        let spread = prop_oneof![Just(1_u32), Just(200)];
        (spread, proptest::collection::vec(change, 0..300))
    }

    proptest! {
        #[test]
        fn it_is_what_a_plain_map_is_and_tells_what_changed(
            batches in proptest::collection::vec(batch(), 1..12),
        ) {
            let mut chunks = Chunks::<IPV4_PATHS>::default();
            let mut model = Model::new();
            let mut moments = vec![(chunks.clone(), model.clone())];
            for (spread, changes) in batches {
                let mut rows = Vec::new();
                for (number, filter) in changes {
                    let key = key(number / spread);
                    let set = SetId::from_octets([1; 4]);
                    let row = filter.map(|filter| Row::new(key, filter, set));
                    rows.push(row.unwrap_or(Row::gone(key)));
                    match row {
                        Some(row) => model.insert(key, row),
                        None => model.remove(&key),
                    };
                }
                chunks = chunks.changed(rows);
                prop_assert!(chunks.rows().eq(model.values()));
                prop_assert_eq!(chunks.len(), model.len());
                for chunk in chunks.chunks.iter() {
                    prop_assert!(!chunk.is_empty() && chunk.len() <= ROWS_MAX);
                }
                let firsts = chunks.chunks.iter().map(|chunk| &chunk[0].key);
                prop_assert!(chunks.firsts.iter().eq(firsts));
                moments.push((chunks.clone(), model.clone()));
            }
            for number in (0..4001).step_by(97) {
                let key = key(number);
                prop_assert!(chunks.rows_from(&key).eq(model.range(key..).map(|(_, row)| row)));
                let last = model.range(..=key).next_back().map(|(_, row)| row);
                prop_assert_eq!(chunks.last_until(&key), last);
            }
            for (before, was) in &moments {
                let (mut removed, mut added) = (Model::new(), Model::new());
                chunks.compare(before, |old, new| {
                    if old != new {
                        removed.extend(old.map(|row| (row.key, *row)));
                        added.extend(new.map(|row| (row.key, *row)));
                    }
                });
                let mut told = was.clone();
                removed.keys().for_each(|key| { told.remove(key); });
                told.extend(added);
                prop_assert_eq!(&told, &model);
            }
        }
    }

    #[test]
    fn a_small_change_rewrites_one_chunk_and_its_comparison_walks_no_other() {
        let all = (0..100_000).map(|n| Row::new(key(2 * n), 0, SetId::from_octets([1; 4])));
        let before = Chunks::<IPV4_PATHS>::default().changed(all.collect());
        let after = before.changed(vec![Row::gone(key(50_000))]);
        let shared = |chunk: &&Arc<[Row<IPV4_PATHS>]>| {
            let mut others = before.chunks.iter();
            others.any(|other| Arc::ptr_eq(other, chunk))
        };
        let count = after.chunks.iter().filter(shared).count();
        assert_eq!(count, after.chunks.len() - 1);
        let mut walked = 0;
        after.compare(&before, |_, _| walked += 1);
        assert!(walked <= ROWS_MAX, "{walked}");
        assert_eq!((before.len(), after.len()), (100_000, 99_999));
    }
}
