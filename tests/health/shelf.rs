//! What a store keeps of its catalogue: every generation, and the journal between them.

use oca::health::CatalogueChanges;
use oca::object::Digest;
use oca::store;
use std::collections::BTreeSet;
use std::sync::Mutex;

type Set = BTreeSet<Digest>;

/// Generation `n` at place `n`; the first is 1, as the world's first view has it.
#[derive(Debug)]
pub(crate) struct Shelf(Mutex<Vec<Set>>);

impl Shelf {
    pub(crate) fn new(digests: Vec<Digest>) -> Self {
        Self(Mutex::new(vec![Set::new(), digests.into_iter().collect()]))
    }

    pub(crate) fn set(&self) -> Set {
        self.0.lock().unwrap().last().unwrap().clone()
    }

    /// The generation that follows, and how many objects it has.
    pub(crate) fn toggle(&self, digest: Digest) -> (u64, u64) {
        let mut set = self.set();
        if !set.remove(&digest) {
            set.insert(digest);
        }
        let objects = set.len() as u64;
        (self.push(set), objects)
    }

    /// Something that viewers notice and the set does not.
    pub(crate) fn bump(&self) -> u64 {
        let set = self.set();
        self.push(set)
    }

    pub(crate) fn held(&self) -> store::Held {
        let history = self.0.lock().unwrap();
        let set = history.last().unwrap();
        store::Held {
            generation: history.len() as u64 - 1,
            digests: set.iter().copied().collect(),
        }
    }

    pub(crate) fn since(&self, generation: u64) -> Option<CatalogueChanges> {
        let history = self.0.lock().unwrap();
        let before = history.get(usize::try_from(generation).unwrap())?;
        let after = history.last()?;
        Some(CatalogueChanges {
            generation: history.len() as u64 - 1,
            added: after.difference(before).copied().collect(),
            removed: before.difference(after).copied().collect(),
        })
    }

    fn push(&self, set: Set) -> u64 {
        let mut history = self.0.lock().unwrap();
        history.push(set);
        history.len() as u64 - 1
    }
}
