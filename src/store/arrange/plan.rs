//! The errands of one plan, each booked in the room that those before it leave. Pure.

use super::Borders;
use super::Disk;
use super::Disks;
use super::ERRANDS_MAX;
use super::Errand;
use super::Item;
use super::Offered;
use super::SPEEDS;
use super::few::Ranked;
use crate::store::place;
use crate::store::place::Candidate;
use crate::store::rendezvous::Lot;
use crate::store::speed::Speed;
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// What is booked, and what may still be.
#[derive(Debug)]
pub(super) struct Plan {
    /// Free bytes as they will be after `errands`.
    pub(super) disks: Disks,
    pub(super) borders: Borders,
    pub(super) errands: Vec<Errand>,
    /// Objects that have their errand.
    pub(super) planned: BTreeSet<u32>,
    /// Bytes of all copies but one of each object, after `errands`.
    pub(super) second_bytes: u64,
    /// By the speed that is too fast for them, the least popular first.
    pub(super) demotions: [Vec<Item>; SPEEDS],
    /// Second copies, by their speed, the least popular first.
    pub(super) pairs: [Vec<Spare>; SPEEDS],
    /// Objects wait for room there, which is then not for second copies.
    pub(super) is_short: [bool; SPEEDS],
    /// For objects from this length on no room can be made there, as things stand.
    pub(super) hopeless: [u64; SPEEDS],
}

/// An object that is to go somewhere, and the disk that it leaves; `None`: it stays there, too.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guest {
    pub(super) item: Item,
    pub(super) leaves: Option<u16>,
}

/// A copy that may go, and one that stays.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spare {
    pub(super) item: Item,
    pub(super) from: u16,
    pub(super) stays: u16,
}

/// As things stood.
#[derive(Debug)]
pub(super) struct Mark {
    errands: usize,
    second_bytes: u64,
    free: Vec<u64>,
    hopeless: [u64; SPEEDS],
}

impl Plan {
    pub(super) fn make(disks: Disks, borders: Borders, offered: Offered) -> Vec<Errand> {
        let promotions = offered.promotions.into_iter().flatten();
        let promotions = promotions.flat_map(|top| top.into_items());
        let mut promotions: Vec<Ranked> = promotions.map(Ranked).collect();
        promotions.sort_unstable();
        let mut plan = Self {
            disks,
            borders,
            errands: Vec::new(),
            planned: BTreeSet::new(),
            second_bytes: offered.second_bytes,
            demotions: offered.demotions.map(|bottom| bottom.into_items()),
            pairs: Default::default(),
            is_short: [false; SPEEDS],
            hopeless: [u64::MAX; SPEEDS],
        };
        plan.pairs = offered.pairs.map(|bottom| {
            let items = bottom.into_items().into_iter();
            items.filter_map(|item| plan.spare(&item)).collect()
        });
        plan.remove_surplus(&offered.surplus.into_items());
        plan.remove_excess(offered.pair_bytes);
        for Ranked(item) in &promotions {
            plan.promote(item);
        }
        plan.add_replicas(&offered.singles.into_items());
        plan.errands
    }

    /// False: the plan is full.
    pub(super) fn book(&mut self, item: &Item, errand: Errand) -> bool {
        if self.errands.len() >= ERRANDS_MAX {
            return false;
        }
        let (leaves, comes) = match errand {
            Errand::Move { from, to, .. } => (Some(from), Some(to)),
            Errand::Copy { to, .. } => (None, Some(to)),
            Errand::Remove { from, .. } => (Some(from), None),
        };
        if let Some(disk) = leaves.and_then(|volume| self.disks.get_mut(volume)) {
            disk.candidate.free = disk.candidate.free.saturating_add(item.length);
        }
        if let Some(disk) = comes.and_then(|volume| self.disks.get_mut(volume)) {
            disk.candidate.free = disk.candidate.free.saturating_sub(item.length);
        }
        let second_bytes = match (leaves, comes) {
            (None, Some(_)) => self.second_bytes.saturating_add(item.length),
            (Some(_), None) => self.second_bytes.saturating_sub(item.length),
            (Some(_), Some(_)) | (None, None) => self.second_bytes,
        };
        self.second_bytes = second_bytes;
        self.hopeless = [u64::MAX; SPEEDS];
        self.planned.insert(item.number);
        self.errands.push(errand);
        true
    }

    pub(super) fn mark(&self) -> Mark {
        let disks = self.disks.all.iter();
        Mark {
            errands: self.errands.len(),
            second_bytes: self.second_bytes,
            free: disks.map(|disk| disk.candidate.free).collect(),
            hopeless: self.hopeless,
        }
    }

    /// As if nothing had been booked since.
    pub(super) fn back_to(&mut self, mark: Mark) {
        for errand in self.errands.drain(mark.errands..) {
            self.planned.remove(&errand.number());
        }
        for (disk, free) in self.disks.all.iter_mut().zip(mark.free) {
            disk.candidate.free = free;
        }
        self.second_bytes = mark.second_bytes;
        self.hopeless = mark.hopeless;
    }

    /// Where an object lies, best first: at a speed that its rank may have, the faster the better.
    pub(super) fn copies(&self, item: &Item) -> Vec<&Disk> {
        let mut copies: Vec<&Disk> = self.disks.holding(item.places).collect();
        copies.sort_by_cached_key(|disk| {
            let Candidate { speed, volume, .. } = disk.candidate;
            let is_wrong = self.borders.is_wrong(item.rank, speed);
            let lot = Lot::draw(&item.digest.0, &disk.candidate.uuid, disk.candidate.size);
            (is_wrong, speed, Reverse(lot), volume)
        });
        copies
    }

    /// The worst copy of several; while the object deserves two, what is left of more than that
    /// should not lie on one device.
    pub(super) fn spare(&self, item: &Item) -> Option<Spare> {
        let mut copies = self.copies(item);
        if copies.len() < 2 {
            return None;
        }
        let is_spread_without = |gone: usize| {
            let left = (0..).zip(&copies).filter(|(at, _)| *at != gone);
            let mut devices = left.map(|(_, disk)| disk.device);
            let first = devices.next();
            devices.any(|device| Some(device) != first)
        };
        let mut worst_first = (0..copies.len()).rev();
        let wanted = match self.borders.keeps_replica(item.rank) {
            true => worst_first.find(|at| is_spread_without(*at)),
            false => None,
        };
        let gone = copies.remove(wanted.unwrap_or(copies.len() - 1));
        let stays = copies.first()?;
        Some(Spare {
            item: *item,
            from: gone.candidate.volume,
            stays: stays.candidate.volume,
        })
    }

    /// Where `place` puts the object, of disks with room whose speed is `allowed`.
    pub(super) fn room(
        &self,
        guest: &Guest,
        wanted: Speed,
        allowed: impl Fn(Speed) -> bool,
    ) -> Option<u16> {
        let Item { digest, length, .. } = guest.item;
        let hosts = self.hosts(guest).filter(|host| allowed(host.speed));
        let roomy = hosts.filter(|host| place::room(host) >= length);
        let roomy: Vec<Candidate> = roomy.cloned().collect();
        place::choose(&digest.0, length, wanted, &roomy).ok()
    }

    /// Disks that do not have the object and would not be lost together with another copy.
    pub(super) fn hosts(&self, guest: &Guest) -> impl Iterator<Item = &Candidate> {
        let Guest { item, leaves } = *guest;
        let copies = self.disks.holding(item.places);
        let others = copies.filter(|disk| Some(disk.candidate.volume) != leaves);
        let devices: Vec<u16> = others.map(|disk| disk.device).collect();
        let hosts = self.disks.all.iter().filter(move |disk| {
            !item.places.has(disk.candidate.volume) && !devices.contains(&disk.device)
        });
        hosts.map(|disk| &disk.candidate)
    }
}
