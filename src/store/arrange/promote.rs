//! To the speed that a rank deserves, and out of the way of what deserves it more. Pure.
//!
//! An object that lies faster than it deserves stays there until its room is needed: a disk that is
//! kept tidy for its own sake writes for nobody, and tomorrow's ranks are others. Where a more
//! popular object needs the room, the least popular ones that deserve slower disks go there, only
//! as many as it takes; if that is not enough, second copies of the least popular objects go.

use super::ERRANDS_MAX;
use super::Errand;
use super::Item;
use super::plan::Guest;
use super::plan::Plan;
use super::plan::Spare;
use crate::store::place;
use crate::store::speed::Speed;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// So many victims for which there is no room either are passed over, and then it is given up.
const STUCK_MAX: usize = 64;

/// A copy that makes room.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Demoted { item: Item, from: u16 },
    Removed(Spare),
}

/// Of one disk: what it has room for once the victims are gone.
#[derive(Debug)]
struct Clearing {
    room: u64,
    /// The guest, and what the disk lacks of its reserve before anybody comes.
    wanted: u64,
    victims: Vec<Victim>,
}

impl Plan {
    /// To the speed that the object deserves, or as near to it as there is room.
    pub(super) fn promote(&mut self, item: &Item) {
        // It is nobody's victim on the way, with none of its copies.
        if self.planned.insert(item.number) && !self.is_promoted(item) {
            self.planned.remove(&item.number);
        }
    }

    fn is_promoted(&mut self, item: &Item) -> bool {
        let copies = self.copies(item);
        let Some(fastest) = copies.iter().map(|disk| disk.candidate.speed).min() else {
            return false;
        };
        // Of two the worse one moves, if its way is free.
        let worst_first = copies.iter().rev();
        let sources: Vec<u16> = worst_first.map(|disk| disk.candidate.volume).collect();
        let up = self.borders.up(item.rank);
        for speed in Speed::ALL.into_iter().filter(|s| up <= *s && *s < fastest) {
            for &from in &sources {
                let guest = Guest {
                    item: *item,
                    leaves: Some(from),
                };
                let to = self.room(&guest, speed, |host| host == speed);
                if let Some(to) = to.or_else(|| self.make_room(&guest, speed)) {
                    let number = item.number;
                    return self.book(item, Errand::Move { number, from, to });
                }
            }
            self.is_short[speed as usize] = true;
        }
        false
    }

    /// Books what has to go for the guest to have room on a disk of this speed, which is answered.
    fn make_room(&mut self, guest: &Guest, speed: Speed) -> Option<u16> {
        let (length, own) = (guest.item.length, speed as usize);
        let mut hosts: BTreeMap<u16, Clearing> = BTreeMap::new();
        if length >= self.hopeless[own] {
            return None;
        }
        for host in self.hosts(guest).filter(|host| host.speed == speed) {
            let clearing = Clearing {
                room: place::room(host),
                wanted: length.saturating_add(place::lack(host)),
                victims: Vec::new(),
            };
            if length <= place::capacity(host.size) {
                hosts.insert(host.volume, clearing);
            }
        }
        // An object of two copies may not go everywhere: what is in its way is in no other's.
        let is_alone = self.disks.holding(guest.item.places).nth(1).is_none();
        let mut stuck = BTreeSet::new();
        while let Some((host, victims)) = self.victims(speed, &hosts, &stuck) {
            // The guest itself is the last.
            if self.errands.len() + victims.len() >= ERRANDS_MAX || stuck.len() >= STUCK_MAX {
                break;
            }
            let mark = self.mark();
            let left = victims.iter().find(|victim| !self.evict(victim));
            let Some(left) = left else {
                return Some(host);
            };
            self.back_to(mark);
            stuck.insert(left.copy().0.number);
        }
        if is_alone {
            self.hopeless[own] = length;
        }
        None
    }

    /// The disk that is cleared with the least popular victims, and these.
    fn victims(
        &self,
        speed: Speed,
        hosts: &BTreeMap<u16, Clearing>,
        stuck: &BTreeSet<u32>,
    ) -> Option<(u16, Vec<Victim>)> {
        if hosts.is_empty() {
            return None;
        }
        let mut clearings: BTreeMap<u16, Clearing> = BTreeMap::new();
        let own = speed as usize;
        let demoted = self.demotions[own].iter().flat_map(|item| {
            let here = item.places.common(self.disks.places);
            here.iter()
                .map(|from| Victim::Demoted { item: *item, from })
        });
        let removed = self.pairs[own].iter().copied().map(Victim::Removed);
        for victim in demoted.chain(removed) {
            let (item, from) = victim.copy();
            let Some(host) = hosts.get(&from) else {
                continue;
            };
            let is_out = self.planned.contains(&item.number) || stuck.contains(&item.number);
            if is_out || !self.may_go(&victim, speed) {
                continue;
            }
            let clearing = clearings.entry(from).or_insert_with(|| Clearing {
                room: host.room,
                wanted: host.wanted,
                victims: Vec::new(),
            });
            clearing.room = clearing.room.saturating_add(item.length);
            clearing.victims.push(victim);
            if clearing.room >= clearing.wanted {
                let spare = clearing.room - clearing.wanted;
                let (mut spare, mut victims) = (spare, clearings.remove(&from)?);
                // A long one may have made those before it needless.
                victims.victims.reverse();
                victims.victims.retain(|victim| {
                    let is_needed = victim.copy().0.length > spare;
                    if !is_needed {
                        spare -= victim.copy().0.length;
                    }
                    is_needed
                });
                victims.victims.reverse();
                return Some((from, victims.victims));
            }
        }
        None
    }

    /// Is there a chance? Whether there is room is known when it is booked.
    fn may_go(&self, victim: &Victim, speed: Speed) -> bool {
        match victim {
            Victim::Demoted { item, .. } => {
                let deserved = self.borders.deserved(item.rank) as usize;
                let may_cascade =
                    !self.demotions[deserved].is_empty() || !self.pairs[deserved].is_empty();
                let mut hosts = self.disks.all.iter().map(|disk| &disk.candidate);
                may_cascade || hosts.any(|h| h.speed > speed && place::room(h) >= item.length)
            }
            // One that could be demoted is no victim a second time.
            Victim::Removed(spare) => speed >= self.borders.deserved(spare.item.rank),
        }
    }

    fn evict(&mut self, victim: &Victim) -> bool {
        // Those before it may have sent its other copy away.
        if self.planned.contains(&victim.copy().0.number) {
            return false;
        }
        match victim {
            Victim::Demoted { item, from } => self.demote(item, *from),
            Victim::Removed(spare) => self.remove(spare),
        }
    }

    /// To the speed that it deserves, where room is made in turn; otherwise to any slower one.
    fn demote(&mut self, item: &Item, from: u16) -> bool {
        let Some(own) = self.disks.get(from).map(|disk| disk.candidate.speed) else {
            return false;
        };
        let guest = Guest {
            item: *item,
            leaves: Some(from),
        };
        // It is nobody's victim on the way.
        self.planned.insert(item.number);
        let deserved = self.borders.deserved(item.rank);
        let to = self.room(&guest, deserved, |host| host == deserved);
        let to = to.or_else(|| self.make_room(&guest, deserved));
        let to = to.or_else(|| self.room(&guest, deserved, |host| host > own));
        let number = item.number;
        let is_booked = to.is_some_and(|to| self.book(item, Errand::Move { number, from, to }));
        if !is_booked {
            self.planned.remove(&number);
        }
        is_booked
    }
}

impl Victim {
    /// The object, and the disk that it leaves.
    fn copy(&self) -> (&Item, u16) {
        match self {
            Self::Demoted { item, from } => (item, *from),
            Self::Removed(spare) => (&spare.item, spare.from),
        }
    }
}
