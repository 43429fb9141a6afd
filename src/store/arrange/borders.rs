//! Which ranks deserve which speed and which a second copy, each with a band in which an object
//! stays where it is. Pure.
//!
//! ```text
//! rank 0 ────────── border − 5 % ─────────── border ─────────────────────── last rank
//!   moves up to the faster   │ stays where it is │ stays, until its room is needed by one
//!                            │                   │ that moves up: at least 5 % apart
//! ```
//! Ranks are made anew each night and differ a little each time; an object that lies near a border
//! would go to and fro for ever.

use super::Disk;
use super::Terms;
use crate::store::manifest::UNLISTED_RANK;
use crate::store::place;
use crate::store::speed::Capacities;
use crate::store::speed::Demand;
use crate::store::speed::Speed;

/// Of the bytes before a border, the part by which a rank must be clear of it to move up.
const BAND_PARTS: u64 = 20;

/// Of the bytes that second copies may have, the part that is given to new ones; in the rest those
/// stay whose objects have become less popular. So one is removed below 1.25 of the border above
/// which it is made, and all together never have more than they may.
const NEW_REPLICAS_PERCENT: u64 = 80;

/// By rank, for the disks that there are.
#[derive(Debug)]
pub(super) struct Borders {
    /// Each speed there is, fastest first.
    speeds: Vec<Border>,
    /// Bytes that second copies may have.
    pub(super) replica_bytes: u64,
    new_replicas: Below,
    replicas: Below,
}

/// Ranks below a certain one.
#[derive(Clone, Copy, Debug)]
struct Below(Option<u32>);

#[derive(Debug)]
struct Border {
    speed: Speed,
    up: Below,
    even: Below,
}

impl Borders {
    pub(super) fn of(disks: &[Disk], demand: &Demand, terms: Terms) -> Self {
        let replica_bytes = replica_bytes(disks, demand, terms);
        let below = |bytes| Below(demand.first_beyond(bytes));
        let mut held = 0_u64;
        let speeds = capacities(disks);
        let speeds = speeds.iter().map(|(speed, bytes)| {
            held = held.saturating_add(bytes);
            let band = held / BAND_PARTS;
            Border {
                speed,
                up: below(held - band),
                even: below(held),
            }
        });
        Self {
            speeds: speeds.collect(),
            replica_bytes,
            new_replicas: below(share(replica_bytes, NEW_REPLICAS_PERCENT)),
            replicas: below(replica_bytes),
        }
    }

    /// The speed that a rank deserves, as `speed` says. What lies faster makes room.
    pub(super) fn deserved(&self, rank: u32) -> Speed {
        self.fastest(rank, |border| border.even)
    }

    /// What lies slower moves up to this speed, never beyond.
    pub(super) fn up(&self, rank: u32) -> Speed {
        self.fastest(rank, |border| border.up)
    }

    /// It should not be there.
    pub(super) fn is_wrong(&self, rank: u32, speed: Speed) -> bool {
        speed < self.deserved(rank) || self.up(rank) < speed
    }

    /// A second copy is made.
    pub(super) fn makes_replica(&self, rank: u32) -> bool {
        rank != UNLISTED_RANK && self.new_replicas.has(rank)
    }

    /// One that there is stays.
    pub(super) fn keeps_replica(&self, rank: u32) -> bool {
        rank != UNLISTED_RANK && self.replicas.has(rank)
    }

    fn fastest(&self, rank: u32, below: impl Fn(&Border) -> Below) -> Speed {
        let mut speeds = self.speeds.iter();
        let found = speeds.find(|border| below(border).has(rank));
        let speed = found.or(self.speeds.last()).map(|border| border.speed);
        speed.unwrap_or(Speed::FASTEST)
    }
}

impl Below {
    fn has(self, rank: u32) -> bool {
        self.0.is_none_or(|first| rank < first)
    }
}

fn capacities(disks: &[Disk]) -> Capacities {
    let mut capacities = Capacities::default();
    for disk in disks.iter().filter(|disk| disk.is_readable) {
        let speed = disk.candidate.speed;
        if disk.takes_objects {
            capacities.add_writable(speed, disk.candidate.size);
        } else if !disk.retires {
            capacities.add_read_only(speed, disk.held);
        }
    }
    capacities
}

/// Never room that the manifest needs: of what it leaves, half.
fn replica_bytes(disks: &[Disk], demand: &Demand, terms: Terms) -> u64 {
    let open = disks.iter().filter(|disk| disk.is_open());
    let all = open.fold(0_u64, |all, disk| {
        all.saturating_add(place::capacity(disk.candidate.size))
    });
    let spare = all.saturating_sub(demand.total());
    share(all, terms.replica_percent.into()).min(spare / 2)
}

fn share(bytes: u64, percent: u64) -> u64 {
    let share = u128::from(bytes) * u128::from(percent.min(100)) / 100;
    u64::try_from(share).unwrap_or(u64::MAX)
}
