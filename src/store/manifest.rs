//! The manifest in RAM: which key names which object. Compact, immutable, swapped whole.
//!
//! One arena of key bytes in key order, one row a key, one hash table of row numbers; no string and
//! no digest a key. [`super::Handle::find`] reads it without a lock. Built by [`Builder`] from a
//! file (`manifest_file`) or from an older manifest and new rows (`adopt`, `Handle::bind`).

use super::Entry;
use super::Finding;
use super::index::Index;
use super::key_hash::KeyHasher;
use super::sidecar::OBJECT_BYTES_MAX;
use super::speed::Demand;
use super::table::Table;
use crate::key;
use crate::object::Digest;
use std::collections::BTreeMap;
use std::ops::Range;

/// As many keys as the index has objects.
pub(super) const KEYS_MAX: usize = 1 << 24;

/// The rank of a key that the control plane's manifest does not list: after everything it lists.
pub const UNLISTED_RANK: u32 = u32::MAX;

/// Place of a manifest in time; the greatest wins.
///
/// Epoch 0 is the box's own: nobody signed it, and its generation counts what was bound locally.
/// In every other epoch the generation is the control plane's, as it was signed, and `local` counts
/// what this box changed since (a prefill binds keys, a deletion forgets unlisted ones): that makes
/// a later manifest, never a later signed one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) epoch: u64,
    pub(super) generation: u64,
    pub(super) local: u64,
}

/// One version of what the box should hold.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) position: Position,
    /// Which rank deserves which speed. Of a manifest that nobody signed nothing: the box binds
    /// keys as they come, and nobody says what else will.
    pub(super) demand: Demand,
    keys: Vec<u8>,
    rows: Vec<Row>,
    /// Digests of rows whose objects got no number, by `key_at`. They are kept, never served.
    unnumbered: BTreeMap<u32, Digest>,
    table: Table,
    hasher: KeyHasher,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// Offset of the key; it ends where the next row's begins.
    key_at: u32,
    pub(super) object: u32,
    pub(super) rank: u32,
    length_low: u32,
    /// The upper [`LENGTH_HIGH_BITS`] of the claimed length, then the time: ten million rows of
    /// 24 bytes instead of 32.
    packed: u64,
}

/// With the lower 32, lengths up to a terabyte: more than an object may have.
const LENGTH_HIGH_BITS: u32 = 8;
const LENGTH_MAX: u64 = (1 << (32 + LENGTH_HIGH_BITS)) - 1;
const TIME_BITS: u32 = 64 - LENGTH_HIGH_BITS;
const TIME_MAX: u64 = (1 << TIME_BITS) - 1;
const _: () = assert!(OBJECT_BYTES_MAX < LENGTH_MAX);

/// One binding, as files and callers give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    pub digest: Digest,
    /// What the file or the caller says. The object's sidecar decides whether it is true.
    pub length: u64,
    /// Seconds since the Unix epoch.
    pub last_modified: u64,
    pub rank: u32,
}

/// Why rows do not make a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BuildError {
    #[error("key `{0}` does not come after the one before it")]
    Order(String),
    #[error("`{key}` is no key: {problem}")]
    Key { key: String, problem: key::KeyError },
    #[error("more than {KEYS_MAX} keys, or more than 4 GiB of them")]
    TooMany,
}

/// Collects rows in key order. Objects are numbered only when all rows are believed.
#[derive(Debug, Default)]
pub(super) struct Builder {
    keys: Vec<u8>,
    rows: Vec<(u32, Binding)>,
}

impl Builder {
    pub(super) fn push(&mut self, key: &str, binding: Binding) -> Result<(), BuildError> {
        key::check(key.as_bytes()).map_err(|problem| BuildError::Key {
            key: crate::help::printable(key.as_bytes(), 80),
            problem,
        })?;
        let before = self.rows.last().map(|(at, _)| *at as usize);
        if before.is_some_and(|at| self.keys[at..] >= *key.as_bytes()) {
            return Err(BuildError::Order(key.to_owned()));
        }
        let at = u32::try_from(self.keys.len()).map_err(|_| BuildError::TooMany)?;
        if self.rows.len() >= KEYS_MAX || u32::try_from(self.keys.len() + key.len()).is_err() {
            return Err(BuildError::TooMany);
        }
        self.keys.extend_from_slice(key.as_bytes());
        self.rows.push((at, binding));
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Numbers the objects. Every row keeps its digest and its claimed length, true or not.
    pub(super) fn build(self, position: Position, index: &Index) -> Manifest {
        let Self { mut keys, rows } = self;
        let hasher = KeyHasher::new();
        let mut kept: Vec<Row> = Vec::with_capacity(rows.len());
        let mut unnumbered = BTreeMap::new();
        for (key_at, binding) in rows {
            let object = index.number_unseen(binding.digest).unwrap_or_else(|error| {
                tracing::error!(%error, "a key of the manifest is not served: {error}");
                unnumbered.insert(key_at, binding.digest);
                u32::MAX
            });
            kept.push(Row::new(key_at, object, &binding));
        }
        keys.shrink_to_fit();
        let demand = if position.epoch > 0 {
            Demand::of(&kept, index.len())
        } else {
            Demand::default()
        };
        let mut manifest = Manifest {
            position,
            demand,
            keys,
            rows: kept,
            unnumbered,
            table: Table::default(),
            hasher,
        };
        let mut table = Table::with_capacity(manifest.rows.len());
        for (number, at) in (0_u32..).zip(0..manifest.rows.len()) {
            table.insert(manifest.hash(manifest.key(at)), number, |_| 0);
        }
        manifest.table = table;
        manifest
    }
}

impl Position {
    /// After keys were bound or forgotten locally.
    pub(super) fn bound(self) -> Self {
        if self.epoch == 0 {
            Self {
                generation: self.generation + 1,
                ..self
            }
        } else {
            Self {
                local: self.local + 1,
                ..self
            }
        }
    }

    /// What the control plane signed: epoch and generation.
    pub(super) fn signed(self) -> (u64, u64) {
        (self.epoch, self.generation)
    }
}

impl Manifest {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Did a control plane sign it, rather than the box bind keys for itself?
    pub(super) fn is_signed(&self) -> bool {
        self.position.epoch > 0
    }

    /// The row of a key. No lock, no allocation.
    pub(super) fn find(&self, key: &str) -> Option<&Row> {
        let is_it = |number: u32| self.key(number as usize) == key.as_bytes();
        let number = self.table.find(self.hash(key.as_bytes()), is_it)?;
        self.rows.get(number as usize)
    }

    /// What a key is bound to, held or not, as it was claimed.
    pub(super) fn binding(&self, row: &Row, index: &Index) -> Option<Binding> {
        let numbered = index.digest(row.object);
        let digest = numbered.or_else(|| self.unnumbered.get(&row.key_at).copied())?;
        Some(Binding {
            digest,
            length: row.length(),
            last_modified: row.last_modified(),
            rank: row.rank,
        })
    }

    /// Rows in key order, each with its key.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&str, &Row)> {
        self.rows_in(0..self.rows.len())
    }

    /// Rows whose keys start with `prefix` and are greater than `after`, in key order.
    pub(super) fn page(
        &self,
        prefix: &str,
        after: Option<&str>,
    ) -> impl Iterator<Item = (&str, &Row)> {
        let first = self.first(|key| key >= prefix.as_bytes());
        let first = after.map_or(first, |after| {
            first.max(self.first(|key| key > after.as_bytes()))
        });
        self.rows_in(first..self.rows.len())
            .take_while(move |(key, _)| key.starts_with(prefix))
    }

    fn rows_in(&self, range: Range<usize>) -> impl Iterator<Item = (&str, &Row)> {
        range.map(|at| {
            // Keys are ASCII: `push` checked each.
            let key = std::str::from_utf8(self.key(at)).unwrap_or("");
            (key, &self.rows[at])
        })
    }

    /// The first row for which `wanted` holds, when it holds for all after it too.
    fn first(&self, wanted: impl Fn(&[u8]) -> bool) -> usize {
        let (mut low, mut high) = (0, self.rows.len());
        while low < high {
            let middle = low.midpoint(high);
            if wanted(self.key(middle)) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }

    fn key(&self, at: usize) -> &[u8] {
        let from = self
            .rows
            .get(at)
            .map_or(self.keys.len(), |row| row.key_at as usize);
        let next = self.rows.get(at + 1);
        let to = next.map_or(self.keys.len(), |row| row.key_at as usize);
        self.keys.get(from..to).unwrap_or(&[])
    }

    fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash(key)
    }
}

impl Row {
    /// A claim too large for its bits is kept as the largest: as false as it was.
    fn new(key_at: u32, object: u32, binding: &Binding) -> Self {
        let length = binding.length.min(LENGTH_MAX);
        let [a, b, c, d, ..] = length.to_le_bytes();
        Self {
            key_at,
            object,
            rank: binding.rank,
            length_low: u32::from_le_bytes([a, b, c, d]),
            packed: (length >> 32) << TIME_BITS | binding.last_modified.min(TIME_MAX),
        }
    }

    /// What the manifest claims.
    pub(super) fn length(&self) -> u64 {
        (self.packed >> TIME_BITS) << 32 | u64::from(self.length_low)
    }

    pub(super) fn last_modified(&self) -> u64 {
        self.packed & TIME_MAX
    }

    /// The length of the object on disks in service, if it is not the claimed one.
    pub(super) fn conflict(&self, index: &Index) -> Option<u64> {
        let (_, length) = index.object(self.object)?;
        (length != self.length() && index.is_readable(self.object)).then_some(length)
    }

    /// What a viewer is told of the key: where the object is, if a volume in service holds it. An
    /// object that is not as long as the manifest says is not given out: one of the two is wrong,
    /// and which is not known here.
    pub(super) fn finding(&self, index: &Index) -> Finding {
        match index.object(self.object) {
            Some((digest, length)) if index.is_readable(self.object) && length == self.length() => {
                Finding::Found(Entry {
                    digest,
                    length,
                    last_modified: self.last_modified(),
                    rank: self.rank,
                })
            }
            Some(_) | None => Finding::Unavailable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn binding(name: &str) -> Binding {
        Binding {
            digest: Digest::of(name.as_bytes()),
            length: name.len() as u64,
            last_modified: 5,
            rank: 1,
        }
    }

    fn manifest(keys: &BTreeMap<String, Binding>, index: &Index) -> Manifest {
        let mut builder = Builder::default();
        for (key, binding) in keys {
            builder.push(key, binding.clone()).unwrap();
        }
        builder.build(Position::default(), index)
    }

    #[test]
    fn keys_out_of_order_or_out_of_grammar_are_refused() {
        let mut builder = Builder::default();
        builder.push("b", binding("b")).unwrap();
        for key in ["b", "a"] {
            assert!(matches!(
                builder.push(key, binding("b")),
                Err(BuildError::Order(_))
            ));
        }
        assert!(matches!(
            builder.push("c/../d", binding("b")),
            Err(BuildError::Key { .. })
        ));
        assert_eq!(builder.len(), 1);
    }

    #[test]
    fn an_object_that_no_volume_holds_is_unavailable_and_two_keys_may_name_one() {
        let index = Index::default();
        let keys = ["a", "b"].map(|key| (key.to_owned(), binding("same")));
        let manifest = manifest(&keys.into(), &index);
        let finding = |key| manifest.find(key).unwrap().finding(&index);
        let out = Finding::Unavailable;
        assert_eq!((finding("a"), finding("b")), (out, out));
        let number = index.number(Digest::of(b"same"), 4).unwrap();
        index.add_place(number, 3);
        assert_eq!(finding("a"), out, "its volume is not in service");
        index.set_online(3, true);
        let entry = finding("a").entry().unwrap();
        assert_eq!(entry.digest, Digest::of(b"same"));
        assert_eq!(finding("a"), finding("b"));
        assert!(manifest.find("c").is_none());
    }

    #[test]
    fn a_wrong_length_is_a_conflict_of_its_key_alone_whoever_comes_first() {
        for manifest_first in [true, false] {
            let index = Index::default();
            let mut keys = ["a", "b"].map(|key| (key.to_owned(), binding("same")));
            keys[0].1.length = u64::MAX;
            let seen = || {
                let number = index.number(Digest::of(b"same"), 4).unwrap();
                index.add_place(number, 3);
                index.set_online(3, true);
            };
            if !manifest_first {
                seen();
            }
            let manifest = manifest(&keys.into(), &index);
            if manifest_first {
                seen();
            }
            let row = |key| manifest.find(key).unwrap();
            assert_eq!(row("a").finding(&index), Finding::Unavailable);
            assert_eq!(row("a").conflict(&index), Some(4));
            let kept = manifest.binding(row("a"), &index).unwrap();
            assert_eq!(
                (kept.digest, kept.length),
                (Digest::of(b"same"), LENGTH_MAX)
            );
            assert_eq!(row("b").finding(&index).entry().unwrap().length, 4);
            assert_eq!(row("b").conflict(&index), None);
        }
    }

    #[test]
    fn a_row_is_24_bytes() {
        assert_eq!(size_of::<Row>(), 24);
    }

    proptest! {
        #[test]
        fn a_row_keeps_length_and_time(length in 0..=LENGTH_MAX, time in 0..=TIME_MAX) {
            let binding = Binding { length, last_modified: time, ..binding("x") };
            let row = Row::new(0, 0, &binding);
            prop_assert_eq!((row.length(), row.last_modified()), (length, time));
        }

        #[test]
        fn lookups_and_pages_agree_with_a_naive_map(
            keys in proptest::collection::btree_set("[ab]{1,3}(/[ab]{1,3})?", 0..60),
            prefix in "[ab]{0,2}/?",
            after in proptest::option::of("[ab]{0,3}"),
        ) {
            let naive: BTreeMap<String, Binding> =
                keys.into_iter().map(|key| (key.clone(), binding(&key))).collect();
            let index = Index::default();
            let manifest = manifest(&naive, &index);
            for (key, binding) in &naive {
                let row = manifest.find(key).unwrap();
                let found = manifest.binding(row, &index);
                prop_assert_eq!(found.as_ref(), Some(binding));
            }
            let after = after.as_deref();
            let page: Vec<&str> = manifest.page(&prefix, after).map(|(key, _)| key).collect();
            let expected: Vec<&str> = naive
                .keys()
                .map(String::as_str)
                .filter(|key| key.starts_with(&prefix) && after.is_none_or(|a| *key > a))
                .collect();
            prop_assert_eq!(page, expected);
        }
    }
}
