//! Which objects lie on the wrong disk, and which on one too many or too few: the errands of a
//! night, the worthiest first.
//!
//! `mover` offers every object once, in any order, and runs the errands that come out, then offers
//! all again: a plan is of its moment. Pure; memory is bounded whatever is offered.

use super::index::Places;
use super::place::Candidate;
use super::speed::Demand;
use crate::object::Digest;

/// No plan is longer; what is left is in the next one.
pub(super) const ERRANDS_MAX: usize = 1024;

/// A disk as the planner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Disk {
    pub(super) candidate: Candidate,
    /// It is read from: what lies there counts as a copy.
    pub(super) is_readable: bool,
    /// It may be written, and does not retire.
    pub(super) takes_objects: bool,
    /// Volumes of one device (zones of a hard disk) have one number: they die together.
    pub(super) device: u16,
    /// Bytes of objects there.
    pub(super) held: u64,
}

/// An object and where it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub(super) number: u32,
    pub(super) digest: Digest,
    pub(super) length: u64,
    /// The best of its keys.
    pub(super) rank: u32,
    pub(super) places: Places,
}

/// What the operator allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// Of all bytes that the disks can hold, the part of them, in percent, that may be second
    /// copies of the most popular objects. 0: none.
    pub(super) replica_percent: u32,
}

/// One thing to do with one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// To the speed that its rank deserves, or out of the way of one that deserves it more.
    Move { number: u32, from: u16, to: u16 },
    /// A second copy, on another device.
    Copy { number: u32, from: u16, to: u16 },
    /// A copy that nobody wants any more; another one stays.
    Remove { number: u32, from: u16, stays: u16 },
}

/// Takes the objects, gives the errands.
#[derive(Debug)]
pub(super) struct Arranger {
    disks: Vec<Disk>,
    terms: Terms,
}

impl Arranger {
    /// `demand` is of the signed manifest; without one nothing is arranged.
    pub(super) fn new(disks: Vec<Disk>, _demand: &Demand, terms: Terms) -> Self {
        Self { disks, terms }
    }

    /// One object of the index. One that is on no readable disk is no concern of the planner.
    pub(super) fn offer(&mut self, _item: &Item) {}

    /// The worthiest first, at most [`ERRANDS_MAX`].
    pub(super) fn errands(self) -> Vec<Errand> {
        let _ = (self.disks, self.terms);
        Vec::new()
    }
}
