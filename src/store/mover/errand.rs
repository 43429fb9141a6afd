//! One errand of a night's plan: an object moved, copied, or taken off a disk, by `relocate`.
//!
//! A plan is of its moment. What has changed since (a fill took the room, a disk went out of
//! service or retires, the object was deleted) is seen here, before anything is touched.
//!
//! I/O: waits for the disks' threads.

use super::super::arrange::Errand;
use super::super::core::Shared;
use super::super::handle::candidate;
use super::super::place;
use super::super::relocate::RelocateError;
use super::super::relocate::Relocation;
use super::super::volume::Volume;
use super::view::MovedView;
use crate::object::Digest;
use std::sync::Arc;

/// An errand with its object and disks.
#[derive(Debug)]
pub(super) struct Job<'a> {
    shared: &'a Arc<Shared>,
    errand: Errand,
    pub(super) number: u32,
    pub(super) digest: Digest,
    pub(super) length: u64,
    from: &'a Arc<Volume>,
    /// Where it is to be, or stays.
    pub(super) to: &'a Arc<Volume>,
}

/// Does it write an object?
pub(super) fn writes(errand: &Errand) -> bool {
    match errand {
        Errand::Move { .. } | Errand::Copy { .. } => true,
        Errand::Remove { .. } => false,
    }
}

impl<'a> Job<'a> {
    /// `None`: there is nothing to do any more.
    pub(super) fn of(shared: &'a Arc<Shared>, errand: Errand) -> Option<Self> {
        let (from, to) = match errand {
            Errand::Move { from, to, .. } | Errand::Copy { from, to, .. } => (from, to),
            Errand::Remove { from, stays, .. } => (from, stays),
        };
        let number = errand.number();
        let (digest, length) = shared.index.object(number)?;
        let job = Self {
            shared,
            errand,
            number,
            digest,
            length,
            from: shared.volume(from)?,
            to: shared.volume(to)?,
        };
        job.is_worth_it().then_some(job)
    }

    fn is_worth_it(&self) -> bool {
        let places = self.shared.index.places(self.number);
        // Whatever lies on a disk that retires is taken off it by others.
        let is_there = places.has(self.from.number) && !self.from.retire.is_on();
        let is_at_both = places.has(self.to.number) && self.to.state().is_readable();
        is_there
            && match self.errand {
                Errand::Move { .. } => {
                    self.from.state().is_writable() && self.to.takes_objects() && self.has_room()
                }
                Errand::Copy { .. } => {
                    self.from.state().is_readable()
                        && self.to.takes_objects()
                        && self.has_room()
                        && !is_at_both
                }
                Errand::Remove { .. } => {
                    self.from.state().is_writable() && is_at_both && self.to.takes_objects()
                }
            }
    }

    fn has_room(&self) -> bool {
        let room = candidate(self.to).map(|to| place::room(&to));
        self.is_at_target() || room.is_some_and(|room| room >= self.length)
    }

    pub(super) fn is_at_source(&self) -> bool {
        let places = self.shared.index.places(self.number);
        places.has(self.from.number)
    }

    /// What was begun before a crash, or by hand, is there already.
    pub(super) fn is_at_target(&self) -> bool {
        let places = self.shared.index.places(self.number);
        places.has(self.to.number)
    }

    /// Bytes that it will write.
    pub(super) fn cost(&self) -> u64 {
        match writes(&self.errand) && !self.is_at_target() {
            true => self.length,
            false => 0,
        }
    }

    /// Blocks. `go_on` as in [`Relocation`].
    pub(super) fn run(&self, go_on: &dyn Fn(u64) -> bool) -> Result<(), RelocateError> {
        let relocation = Relocation {
            shared: self.shared,
            number: self.number,
            digest: self.digest,
            length: self.length,
            from: self.from,
            to: self.to,
            go_on,
        };
        match self.errand {
            Errand::Move { .. } => relocation.run(),
            Errand::Copy { .. } => relocation.replicate(),
            Errand::Remove { .. } => relocation.remove_spare(),
        }
    }

    /// It was done.
    pub(super) fn count(&self, view: &mut MovedView) {
        let (objects, bytes) = match self.errand {
            Errand::Move { .. } => (&mut view.moved_objects, &mut view.moved_bytes),
            Errand::Copy { .. } => (&mut view.copied_objects, &mut view.copied_bytes),
            Errand::Remove { .. } => (&mut view.removed_objects, &mut view.removed_bytes),
        };
        *objects += 1;
        *bytes += self.length;
    }
}
