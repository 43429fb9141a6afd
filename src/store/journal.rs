//! What came and went lately: the set of held objects told as differences.
//!
//! Everything that changes whether an object can be read goes through `core`, which notes it here
//! under the lock. A whole disk that comes or goes is too much to note: the journal begins anew and
//! who asks across that moment is told to look at everything.

use super::Handle;
use super::Held;
use super::core::Shared;
use crate::object::Digest;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// Entries remembered: a night of a large box, at 16 bytes an entry.
const ENTRIES_MAX: usize = 256 * 1024;

/// Disk changes during one [`Handle::held`] that are waited out before it holds the journal.
const HELD_TRIES: usize = 3;

/// The last changes in order.
#[derive(Debug, Default)]
pub(super) struct Journal {
    entries: VecDeque<Entry>,
    /// Changes of this generation and before are not told.
    floor: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    generation: u64,
    object: u32,
    added: bool,
}

/// From one generation to a later one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The generation that the differences lead to.
    pub generation: u64,
    /// Held at this generation and not before, by digest.
    pub added: Vec<Digest>,
    /// Held before and not at this generation, by digest.
    pub removed: Vec<Digest>,
}

impl Journal {
    /// An object became readable, or ceased to be.
    pub(super) fn note(&mut self, generation: u64, object: u32, added: bool) {
        if self.entries.len() >= ENTRIES_MAX
            && let Some(oldest) = self.entries.pop_front()
        {
            self.floor = oldest.generation;
        }
        self.entries.push_back(Entry {
            generation,
            object,
            added,
        });
    }

    /// More changed than can be told.
    pub(super) fn reset(&mut self, generation: u64) {
        self.entries.clear();
        self.floor = generation;
    }

    /// Objects whose state at `since` is another one than at the end, with the latter.
    fn net(&self, since: u64) -> Option<BTreeMap<u32, bool>> {
        if since < self.floor {
            return None;
        }
        let first = self.entries.partition_point(|e| e.generation <= since);
        let mut net = BTreeMap::new();
        for entry in self.entries.range(first..) {
            // Entries of one object alternate: two of them undo each other.
            if net.remove(&entry.object).is_none() {
                net.insert(entry.object, entry.added);
            }
        }
        Some(net)
    }
}

impl Handle {
    /// What came and went since `generation`, exactly: `None` if that is too long ago, or if a
    /// whole disk came or went; [`Handle::held`] tells everything then. Never waits for a disk.
    pub fn changes(&self, since: u64) -> Option<Changes> {
        let shared = self.shared();
        let (generation, net) = net(shared, since);
        let mut changes = Changes {
            generation,
            ..Changes::default()
        };
        for (object, added) in net? {
            let Some(digest) = shared.index.digest(object) else {
                continue;
            };
            if added {
                changes.added.push(digest);
            } else {
                changes.removed.push(digest);
            }
        }
        changes.added.sort_unstable();
        changes.removed.sort_unstable();
        Some(changes)
    }

    /// Objects that a disk in service holds, named by the manifest or not, exactly as they are at
    /// the generation that is told with them: [`Handle::changes`] goes on from there. 32 bytes an
    /// object; a tenth of a second may pass for millions: for threads outside runtimes.
    pub fn held(&self) -> Held {
        let shared = self.shared();
        for _ in 0..HELD_TRIES {
            let before = shared.changes.load(Ordering::Acquire);
            let mut objects = readable(shared);
            // What changed while the index was read was seen or not: it is put right.
            let (generation, net) = net(shared, before);
            if let Some(net) = net {
                objects.retain(|object| !net.contains_key(object));
                let added = net.into_iter().filter(|(_, added)| *added);
                objects.extend(added.map(|(object, _)| object));
                return told(shared, generation, &objects);
            }
        }
        let _still = shared
            .journal
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let generation = shared.changes.load(Ordering::Acquire);
        told(shared, generation, &readable(shared))
    }
}

fn net(shared: &Shared, since: u64) -> (u64, Option<BTreeMap<u32, bool>>) {
    let journal = shared
        .journal
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let generation = shared.changes.load(Ordering::Acquire);
    // A generation that has not come yet was another process's.
    let net = (since <= generation).then(|| journal.net(since));
    (generation, net.flatten())
}

fn readable(shared: &Shared) -> Vec<u32> {
    let index = &shared.index;
    let objects = (0..index.len()).filter(|number| index.is_readable(*number));
    objects.collect()
}

fn told(shared: &Shared, generation: u64, objects: &[u32]) -> Held {
    let digests = objects.iter().filter_map(|n| shared.index.digest(*n));
    Held {
        generation,
        digests: digests.collect(),
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn what_is_too_long_ago_is_not_told() {
        let mut journal = Journal::default();
        for generation in 1..=ENTRIES_MAX as u64 + 10 {
            journal.note(generation, generation as u32, true);
        }
        assert_eq!(journal.entries.len(), ENTRIES_MAX);
        assert_eq!(journal.net(9), None);
        assert_eq!(journal.net(10).unwrap().len(), ENTRIES_MAX);
        journal.reset(ENTRIES_MAX as u64 + 20);
        assert_eq!(journal.net(ENTRIES_MAX as u64 + 19), None);
        assert_eq!(journal.net(ENTRIES_MAX as u64 + 20), Some(BTreeMap::new()));
    }

    proptest! {
        #[test]
        fn differences_lead_from_any_moment_to_the_last(
            toggled in proptest::collection::vec(0..12_u32, 0..60),
        ) {
            let mut journal = Journal::default();
            let mut held = BTreeSet::new();
            let mut moments = vec![held.clone()];
            // Generations have gaps: other things change as well.
            for (at, object) in toggled.iter().enumerate() {
                let added = held.insert(*object);
                if !added {
                    held.remove(object);
                }
                journal.note(at as u64 * 3 + 3, *object, added);
                moments.push(held.clone());
            }
            for (at, before) in moments.iter().enumerate() {
                for since in [at as u64 * 3, at as u64 * 3 + 2] {
                    let net = journal.net(since).unwrap();
                    let mut after = before.clone();
                    for (object, added) in net {
                        let changed = if added {
                            after.insert(object)
                        } else {
                            after.remove(&object)
                        };
                        prop_assert!(changed, "{} told for nothing", object);
                    }
                    prop_assert_eq!(&after, &held);
                }
            }
        }
    }
}
