//! Which objects lie on the wrong disk, and which on one too many or too few: the errands of a
//! night, the worthiest first.
//!
//! `mover` offers every object once, in any order, and runs the errands that come out, then offers
//! all again: a plan is of its moment. Pure; memory is bounded whatever is offered.
//!
//! What is offered is sifted: `borders` say what a rank deserves, `few` keep as many objects of
//! each kind as a plan can use. Then the `plan` books errand after errand, each in the room that
//! those before it left: `promote`, which demotes only to make room, and `replicas`.
//!
//! An object has one errand in a plan at most. It lies where disks that take objects are: what
//! others hold is read meanwhile, but it neither makes another copy surplus nor is it touched.

mod borders;
mod few;
mod plan;
mod promote;
mod replicas;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_model;
#[cfg(test)]
mod tests_properties;

use self::borders::Borders;
use self::few::Bottom;
use self::few::Top;
use self::plan::Plan;
use super::index::Places;
use super::index::VOLUMES_MAX;
use super::manifest::UNLISTED_RANK;
use super::place;
use super::place::Candidate;
use super::speed::Demand;
use super::speed::Speed;
use crate::object::Digest;

/// No plan is longer; what is left is in the next one.
pub(super) const ERRANDS_MAX: usize = 1024;

/// Copies that go are no more in one plan: each is preceded by reading the one that stays, and a
/// night that begins with a hundred thousand of them has objects to move, too.
const REMOVALS_MAX: usize = ERRANDS_MAX / 2;

const SPEEDS: usize = Speed::ALL.len();

/// A disk as the planner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Disk {
    pub(super) candidate: Candidate,
    /// It is read from: what lies there counts as a copy.
    pub(super) is_readable: bool,
    /// It may be written, and does not retire.
    pub(super) takes_objects: bool,
    /// It is to leave: what it holds is to have room on the others.
    pub(super) retires: bool,
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
    disks: Disks,
    borders: Borders,
    /// Without a manifest nobody knows what deserves what.
    is_idle: bool,
    offered: Offered,
}

/// Disks that take objects.
#[derive(Debug)]
struct Disks {
    all: Vec<Disk>,
    places: Places,
    /// By the number of the volume, where it is in `all`; beyond its end: nowhere.
    seats: [usize; VOLUMES_MAX],
    /// Of each speed, the longest object that a disk could hold.
    longest: [u64; SPEEDS],
}

/// What may come to an errand.
#[derive(Debug)]
struct Offered {
    /// By the speed where they are and the one to which they go: those that find no room are in
    /// nobody's way but that of their like.
    promotions: [[Top; SPEEDS]; SPEEDS],
    /// By the speed that is too fast for them.
    demotions: [Bottom; SPEEDS],
    /// Objects with too many copies, or two on one device.
    surplus: Bottom,
    /// Objects that deserve their second copies, by the speed of the worse one.
    pairs: [Bottom; SPEEDS],
    /// Objects that deserve second copies and have none.
    singles: Top,
    /// Bytes of all copies but one of each object …
    second_bytes: u64,
    /// … and of those in `pairs`, with those for which there was no place in the heap.
    pair_bytes: u64,
}

/// Where an object lies, at a glance.
#[derive(Clone, Copy, Debug)]
struct Glance {
    copies: u32,
    fastest: Speed,
    slowest: Speed,
    /// Not all copies would be lost with one device.
    is_spread: bool,
}

impl Arranger {
    /// `demand` is of the signed manifest; without one nothing is arranged.
    pub(super) fn new(disks: Vec<Disk>, demand: &Demand, terms: Terms) -> Self {
        Self {
            borders: Borders::of(&disks, demand, terms),
            is_idle: demand.is_unknown(),
            disks: Disks::of(disks),
            offered: Offered::default(),
        }
    }

    /// One object of the index. One that is on no readable disk is no concern of the planner.
    pub(super) fn offer(&mut self, item: &Item) {
        let Some(glance) = self.disks.glance(item.places) else {
            return;
        };
        if self.is_idle {
            return;
        }
        let (borders, offered, rank) = (&self.borders, &mut self.offered, item.rank);
        let second_bytes = item.length.saturating_mul(u64::from(glance.copies) - 1);
        offered.second_bytes = offered.second_bytes.saturating_add(second_bytes);
        let (up, deserved) = (borders.up(rank), borders.deserved(rank));
        match glance.copies {
            1 if borders.makes_replica(rank) && item.length <= borders.replica_bytes => {
                offered.singles.offer(item);
            }
            1 => {}
            2 if glance.is_spread && borders.keeps_replica(rank) => {
                offered.pair_bytes = offered.pair_bytes.saturating_add(item.length);
                let worse = |speed: &Speed| (borders.is_wrong(rank, *speed), *speed);
                let worse = [glance.fastest, glance.slowest]
                    .into_iter()
                    .max_by_key(worse);
                let worse = worse.unwrap_or(glance.slowest);
                offered.pairs[worse as usize].offer(item);
            }
            // It is seen where it lies when it lies there alone.
            _ => return offered.surplus.offer(item),
        }
        if glance.fastest < deserved {
            offered.demotions[glance.fastest as usize].offer(item);
        }
        if glance.fastest < glance.slowest && glance.slowest < deserved {
            offered.demotions[glance.slowest as usize].offer(item);
        }
        // What nobody lists is to go altogether.
        if up < glance.fastest && rank != UNLISTED_RANK {
            let better = &self.disks.longest[up as usize..glance.fastest as usize];
            if better.iter().any(|longest| item.length <= *longest) {
                offered.promotions[glance.fastest as usize][up as usize].offer(item);
            }
        }
    }

    /// The worthiest first, at most [`ERRANDS_MAX`].
    pub(super) fn errands(self) -> Vec<Errand> {
        Plan::make(self.disks, self.borders, self.offered)
    }
}

impl Errand {
    /// The object's.
    pub(super) fn number(&self) -> u32 {
        match self {
            Self::Move { number, .. } | Self::Copy { number, .. } | Self::Remove { number, .. } => {
                *number
            }
        }
    }
}

impl Disk {
    /// What lies there may come and go.
    fn is_open(&self) -> bool {
        self.is_readable && self.takes_objects && !self.retires
    }
}

impl Disks {
    fn of(disks: Vec<Disk>) -> Self {
        let mut own = Self {
            all: disks.into_iter().filter(Disk::is_open).collect(),
            places: Places::default(),
            seats: [usize::MAX; VOLUMES_MAX],
            longest: [0; SPEEDS],
        };
        for (seat, disk) in own.all.iter().enumerate() {
            let candidate = &disk.candidate;
            own.places.insert(candidate.volume);
            own.seats[usize::from(candidate.volume) % VOLUMES_MAX] = seat;
            let longest = &mut own.longest[candidate.speed as usize];
            *longest = place::capacity(candidate.size).max(*longest);
        }
        own
    }

    /// The disks that hold an object, by the numbers of their volumes.
    fn holding(&self, places: Places) -> impl Iterator<Item = &Disk> {
        let here = places.common(self.places);
        here.iter().filter_map(|volume| self.get(volume))
    }

    fn get(&self, volume: u16) -> Option<&Disk> {
        let seat = self.seats.get(usize::from(volume))?;
        self.all.get(*seat)
    }

    fn get_mut(&mut self, volume: u16) -> Option<&mut Disk> {
        let seat = self.seats.get(usize::from(volume))?;
        self.all.get_mut(*seat)
    }

    fn glance(&self, places: Places) -> Option<Glance> {
        let mut holding = self.holding(places);
        let first = holding.next()?;
        let speed = first.candidate.speed;
        let alone = Glance {
            copies: 1,
            fastest: speed,
            slowest: speed,
            is_spread: false,
        };
        let all = holding.fold(alone, |glance, disk| Glance {
            copies: glance.copies + 1,
            fastest: glance.fastest.min(disk.candidate.speed),
            slowest: glance.slowest.max(disk.candidate.speed),
            is_spread: glance.is_spread || disk.device != first.device,
        });
        Some(all)
    }
}

impl Default for Offered {
    fn default() -> Self {
        let bottoms = || std::array::from_fn(|_| Bottom::new(ERRANDS_MAX));
        let tops = || std::array::from_fn(|_| Top::new(ERRANDS_MAX));
        Self {
            promotions: std::array::from_fn(|_| tops()),
            demotions: bottoms(),
            surplus: Bottom::new(REMOVALS_MAX),
            pairs: bottoms(),
            singles: Top::new(ERRANDS_MAX),
            second_bytes: 0,
            pair_bytes: 0,
        }
    }
}
