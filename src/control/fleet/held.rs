//! What a box holds, as dense object numbers, and which bundles that makes whole.
//!
//! [`super::machine`] applies checked steps here, on values that are replaced and never changed.
//! Sans-IO.

use super::Bitmap;
use crate::control::model::Bundle;
use crate::control::model::Library;
use crate::link::steps::Place;
use crate::object::Digest;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Digests kept of objects that the library does not know, so that they are found once it does:
/// some 60 MB for a box that brings more. Beyond this they are counted.
const UNKNOWN_KEPT_MAX: usize = 1_000_000;

/// One box's objects at one position.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) place: Place,
    pub(super) content: Arc<Content>,
}

/// The objects themselves: boxes of one cluster share them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) known: Arc<Bitmap>,
    unknown: Arc<BTreeSet<Digest>>,
    /// Unknown ones beyond [`UNKNOWN_KEPT_MAX`].
    forgotten: u64,
    pub(super) bundles: Arc<Bitmap>,
}

/// An item is there twice, or what is to be removed is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("object {0} is {1}; send a step from 0 without it")]
pub(super) struct HeldError(Digest, &'static str);

/// Object number → the bundles that need it, for one library.
#[derive(Clone, Debug, Default)]
pub(super) struct Needs {
    /// One more than there are objects: the bundles of object `n` are those from `starts[n]` to
    /// `starts[n + 1]`.
    starts: Vec<u32>,
    bundles: Vec<u32>,
}

/// What a new library means for what boxes hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Change {
    /// Bundles whose objects are others than before.
    bundles: Vec<u32>,
    /// The first number that is not in the old library.
    first_new: usize,
    /// Numbers mean other objects than before: what was resolved is worthless.
    pub(super) is_another: bool,
}

impl Held {
    /// Everything that a box holds. `place` was checked against `items`.
    pub(super) fn whole(
        place: Place,
        items: &[Digest],
        library: &Library,
    ) -> Result<Self, HeldError> {
        let mut content = Content::default();
        content.add(items, library)?;
        let mut bundles = Bitmap::default();
        for bundle in library.bundles.iter().flatten() {
            if is_whole(bundle, &content.known) {
                bundles.insert(bundle.number);
            }
        }
        content.bundles = Arc::new(bundles);
        let content = Arc::new(content);
        Ok(Self { place, content })
    }

    /// This with a step applied. `place` was checked against the step.
    pub(super) fn changed(
        &self,
        place: Place,
        added: &[Digest],
        removed: &[Digest],
        library: &Library,
        needs: &Needs,
    ) -> Result<Self, HeldError> {
        let mut content = Content::clone(&self.content);
        content.remove(removed, library)?;
        content.add(added, library)?;
        let numbers = added.iter().chain(removed);
        let numbers = numbers.filter_map(|digest| library.object_numbers.get(digest));
        let touched: BTreeSet<u32> = numbers.flat_map(|number| needs.of(*number)).collect();
        content.judge(touched, library);
        let content = Arc::new(content);
        Ok(Self { place, content })
    }
}

impl Content {
    /// This under a new library whose numbers mean the same; `None` if nothing changes.
    pub(super) fn resolved(&self, library: &Library, change: &Change) -> Option<Self> {
        let mut content = self.clone();
        let newly = library.objects.get(change.first_new..).unwrap_or_default();
        for object in newly {
            let number = library.object_numbers.get(&object.digest);
            if let Some(number) = number
                && self.unknown.contains(&object.digest)
            {
                Arc::make_mut(&mut content.unknown).remove(&object.digest);
                Arc::make_mut(&mut content.known).insert(*number);
            }
        }
        content.judge(change.bundles.iter().copied(), library);
        let is_same =
            content.unknown.len() == self.unknown.len() && content.bundles == self.bundles;
        (!is_same).then_some(content)
    }

    /// Does a new library leave digests unresolved that only the box can name again?
    pub(super) fn has_forgotten(&self) -> bool {
        self.forgotten > 0
    }

    fn add(&mut self, items: &[Digest], library: &Library) -> Result<(), HeldError> {
        for digest in items {
            let is_new = match library.object_numbers.get(digest) {
                Some(number) => {
                    let is_new = !self.known.contains(*number);
                    if is_new {
                        Arc::make_mut(&mut self.known).insert(*number);
                    }
                    is_new
                }
                None if self.unknown.len() < UNKNOWN_KEPT_MAX => {
                    Arc::make_mut(&mut self.unknown).insert(*digest)
                }
                None => {
                    self.forgotten += 1;
                    !self.unknown.contains(digest)
                }
            };
            if !is_new {
                return Err(HeldError(*digest, "there already"));
            }
        }
        Ok(())
    }

    fn remove(&mut self, items: &[Digest], library: &Library) -> Result<(), HeldError> {
        for digest in items {
            let known = library.object_numbers.get(digest);
            let known = known.filter(|number| self.known.contains(**number));
            if let Some(number) = known {
                Arc::make_mut(&mut self.known).remove(*number);
            } else if self.unknown.contains(digest) {
                Arc::make_mut(&mut self.unknown).remove(digest);
            } else if self.forgotten > 0 {
                self.forgotten -= 1;
            } else {
                return Err(HeldError(*digest, "not there to be removed"));
            }
        }
        Ok(())
    }

    /// Decides anew which of `numbers` are whole.
    fn judge(&mut self, numbers: impl IntoIterator<Item = u32>, library: &Library) {
        for number in numbers {
            let bundle = library.bundle(number);
            let is_whole = bundle.is_some_and(|bundle| is_whole(bundle, &self.known));
            if is_whole == self.bundles.contains(number) {
                continue;
            }
            let bundles = Arc::make_mut(&mut self.bundles);
            match is_whole {
                true => bundles.insert(number),
                false => bundles.remove(number),
            }
        }
    }
}

fn is_whole(bundle: &Bundle, known: &Bitmap) -> bool {
    !bundle.keys.is_empty() && bundle.keys.iter().all(|key| known.contains(key.object))
}

impl Needs {
    pub(super) fn of_library(library: &Library) -> Self {
        let mut pairs: Vec<(u32, u32)> = library
            .bundles
            .iter()
            .flatten()
            .flat_map(|bundle| bundle.keys.iter().map(|key| (key.object, bundle.number)))
            .collect();
        pairs.sort_unstable();
        pairs.dedup();
        let mut starts = Vec::with_capacity(library.objects.len() + 1);
        let mut at = 0;
        for object in 0..=u32::try_from(library.objects.len()).unwrap_or(u32::MAX) {
            while pairs.get(at).is_some_and(|(of, _)| *of < object) {
                at += 1;
            }
            starts.push(u32::try_from(at).unwrap_or(u32::MAX));
        }
        let bundles = pairs.into_iter().map(|(_, bundle)| bundle).collect();
        Self { starts, bundles }
    }

    fn of(&self, object: u32) -> impl Iterator<Item = u32> + '_ {
        let at = object as usize;
        let start = self.starts.get(at).copied().unwrap_or(0);
        let end = self.starts.get(at.saturating_add(1)).copied().unwrap_or(0);
        let range = start as usize..(end as usize).max(start as usize);
        self.bundles.get(range).unwrap_or_default().iter().copied()
    }
}

impl Change {
    pub(super) fn between(old: &Library, new: &Library) -> Self {
        let first_new = old.objects.len();
        let kept = new.objects.get(..first_new);
        let is_another = kept.is_none_or(|kept| {
            let mut pairs = kept.iter().zip(&old.objects);
            pairs.any(|(new, old)| new.digest != old.digest)
        });
        let most = old.bundles.len().max(new.bundles.len());
        let objects = |library: &Library, number| -> Option<Vec<u32>> {
            let bundle = library.bundle(number)?;
            Some(bundle.keys.iter().map(|key| key.object).collect())
        };
        let numbers = 0..u32::try_from(most).unwrap_or(u32::MAX);
        let bundles = numbers.filter(|number| objects(old, *number) != objects(new, *number));
        Self {
            bundles: bundles.collect(),
            first_new,
            is_another,
        }
    }

    pub(super) fn is_nothing(&self, new: &Library) -> bool {
        !self.is_another && self.bundles.is_empty() && new.objects.len() == self.first_new
    }
}
