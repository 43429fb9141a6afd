//! A box for the planner's tests: disks, objects and where they lie, and errands that are done one
//! after the other, each checked before.

use super::Arranger;
use super::Disk;
use super::ERRANDS_MAX;
use super::Errand;
use super::Item;
use super::Terms;
use super::borders::Borders;
use crate::object::Digest;
use crate::store::index::Places;
use crate::store::manifest::UNLISTED_RANK;
use crate::store::place;
use crate::store::place::Candidate;
use crate::store::speed::Capacities;
use crate::store::speed::Demand;
use crate::store::speed::Speed;
use std::collections::BTreeSet;

#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) disks: Vec<Disk>,
    pub(super) items: Vec<Item>,
    pub(super) replica_percent: u32,
    /// Listed with rank 2000, and not held.
    pub(super) to_come: u64,
}

/// An empty disk of its own device that takes objects.
pub(super) fn disk(volume: u16, speed: Speed, size: u64) -> Disk {
    Disk {
        candidate: Candidate {
            volume,
            uuid: format!("uuid-{volume}"),
            speed,
            free: size,
            size,
        },
        is_readable: true,
        takes_objects: true,
        retires: false,
        device: volume,
        held: 0,
    }
}

impl World {
    pub(super) fn of(disks: Vec<Disk>, replica_percent: u32) -> Self {
        Self {
            disks,
            items: Vec::new(),
            replica_percent,
            to_come: 0,
        }
    }

    /// An object that lies on these disks, which have room for it.
    pub(super) fn add(&mut self, rank: u32, length: u64, volumes: &[u16]) -> u32 {
        let number = u32::try_from(self.items.len()).unwrap();
        let mut places = Places::default();
        for volume in volumes {
            places.insert(*volume);
            let disk = self.disk_mut(*volume);
            disk.candidate.free = disk.candidate.free.checked_sub(length).unwrap();
            disk.held += length;
        }
        self.items.push(Item {
            number,
            digest: Digest::of(&number.to_le_bytes()),
            length,
            rank,
            places,
        });
        number
    }

    pub(super) fn disk(&self, volume: u16) -> &Disk {
        let mut disks = self.disks.iter();
        disks.find(|d| d.candidate.volume == volume).unwrap()
    }

    fn disk_mut(&mut self, volume: u16) -> &mut Disk {
        let mut disks = self.disks.iter_mut();
        disks.find(|d| d.candidate.volume == volume).unwrap()
    }

    pub(super) fn demand(&self) -> Demand {
        let listed = self.items.iter().filter(|i| i.rank != UNLISTED_RANK);
        let mut ranked: Vec<(u32, u64)> = listed.map(|i| (i.rank, i.length)).collect();
        ranked.push((2000, self.to_come));
        ranked.sort_unstable();
        Demand::of_ranked(ranked.into_iter(), 0)
    }

    fn terms(&self) -> Terms {
        Terms {
            replica_percent: self.replica_percent,
        }
    }

    pub(super) fn borders(&self) -> Borders {
        Borders::of(&self.disks, &self.demand(), self.terms())
    }

    pub(super) fn plan(&self) -> Vec<Errand> {
        let mut arranger = Arranger::new(self.disks.clone(), &self.demand(), self.terms());
        for item in &self.items {
            arranger.offer(item);
        }
        let plan = arranger.errands();
        assert!(plan.len() <= ERRANDS_MAX);
        let numbers: BTreeSet<u32> = plan.iter().map(Errand::number).collect();
        assert_eq!(
            numbers.len(),
            plan.len(),
            "an object has one errand: {plan:?}"
        );
        plan
    }

    /// Does errands in their order; how many bytes were written.
    pub(super) fn execute(&mut self, plan: &[Errand]) -> u64 {
        plan.iter().map(|errand| self.one(*errand)).sum()
    }

    /// Plans and does until nothing is left to do; the bytes that were written.
    pub(super) fn settle(&mut self) -> u64 {
        let mut bytes = 0;
        for _ in 0..50 {
            let plan = self.plan();
            if plan.is_empty() {
                return bytes;
            }
            bytes += self.execute(&plan);
        }
        panic!("it never ends: {:?}", self.plan());
    }

    fn one(&mut self, errand: Errand) -> u64 {
        let item = self.items[errand.number() as usize];
        match errand {
            Errand::Move { from, to, .. } => {
                let speeds = [from, to].map(|volume| self.disk(volume).candidate.speed);
                assert_ne!(speeds[0], speeds[1], "across speeds only");
                self.put(item, to, Some(from));
                self.take(item, from);
                item.length
            }
            Errand::Copy { from, to, .. } => {
                assert!(item.places.has(from) && self.disk(from).is_readable);
                self.put(item, to, None);
                let limit = self.borders().replica_bytes;
                assert!(self.second_bytes() <= limit, "{errand:?}");
                item.length
            }
            Errand::Remove { from, stays, .. } => {
                assert!(from != stays && item.places.has(stays));
                assert!(self.disk(stays).is_readable);
                self.take(item, from);
                0
            }
        }
    }

    /// Never on the device of another copy, never where it is, never beyond the reserve.
    fn put(&mut self, item: Item, to: u16, leaves: Option<u16>) {
        assert!(!item.places.has(to), "it is there");
        let others = self.copies(&item).into_iter();
        let mut others = others.filter(|volume| Some(*volume) != leaves);
        let device = self.disk(to).device;
        assert!(others.all(|volume| self.disk(volume).device != device));
        let disk = self.disk_mut(to);
        assert!(disk.is_open() && place::room(&disk.candidate) >= item.length);
        disk.candidate.free -= item.length;
        disk.held += item.length;
        self.items[item.number as usize].places.insert(to);
    }

    fn take(&mut self, item: Item, from: u16) {
        assert!(item.places.has(from), "it is not there");
        let disk = self.disk_mut(from);
        assert!(disk.is_open(), "nothing is removed from there");
        disk.candidate.free += item.length;
        disk.held -= item.length;
        let mut places = Places::default();
        let own = &mut self.items[item.number as usize].places;
        own.iter()
            .filter(|volume| *volume != from)
            .for_each(|volume| places.insert(volume));
        *own = places;
        let left = self.copies(&self.items[item.number as usize]);
        assert!(!left.is_empty(), "the last copy");
    }

    /// On disks that take objects.
    pub(super) fn copies(&self, item: &Item) -> Vec<u16> {
        let here = item.places.iter();
        here.filter(|volume| self.disk(*volume).is_open()).collect()
    }

    pub(super) fn speeds(&self, number: u32) -> Vec<Speed> {
        let copies = self.copies(&self.items[number as usize]).into_iter();
        let mut speeds: Vec<Speed> = copies
            .map(|volume| self.disk(volume).candidate.speed)
            .collect();
        speeds.sort_unstable();
        speeds
    }

    pub(super) fn second_bytes(&self) -> u64 {
        let second = self.items.iter().map(|item| {
            let copies = self.copies(item).len() as u64;
            item.length * copies.saturating_sub(1)
        });
        second.sum()
    }
}

/// Fast disks with room for 198 objects of 10 bytes, slow ones for ten times as many.
pub(super) fn two_speeds() -> Vec<Disk> {
    vec![
        disk(0, Speed::Nvme, 1000),
        disk(1, Speed::Nvme, 1000),
        disk(2, Speed::Hdd, 10_000),
        disk(3, Speed::Hdd, 10_000),
    ]
}

/// Objects of 10 bytes with ranks 0.., each where `place` puts it.
pub(super) fn placed(disks: Vec<Disk>, objects: u32, replica_percent: u32) -> World {
    let mut world = World::of(disks, replica_percent);
    let ranks: Vec<(u32, u64)> = (0..objects).map(|rank| (rank, 10)).collect();
    let demand = Demand::of_ranked(ranks.into_iter(), 0);
    let mut capacities = Capacities::default();
    for disk in &world.disks {
        capacities.add_writable(disk.candidate.speed, disk.candidate.size);
    }
    for rank in 0..objects {
        let speed = demand.speed(rank, &capacities);
        let candidates: Vec<_> = world.disks.iter().map(|d| d.candidate.clone()).collect();
        let digest = Digest::of(&rank.to_le_bytes());
        let volume = place::choose(&digest.0, 10, speed, &candidates).unwrap();
        world.add(rank, 10, &[volume]);
    }
    world
}

/// What moves up, by number.
pub(super) fn promoted(world: &World, plan: &[Errand]) -> Vec<u32> {
    let speed = |volume| world.disk(volume).candidate.speed;
    let moves = plan.iter().filter_map(|errand| match errand {
        Errand::Move { number, from, to } => (speed(*to) < speed(*from)).then_some(*number),
        Errand::Copy { .. } | Errand::Remove { .. } => None,
    });
    moves.collect()
}
