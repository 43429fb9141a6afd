//! Second copies: made of the most popular objects in room that nothing else needs, and removed
//! when nobody wants them. Pure.

use super::Errand;
use super::Item;
use super::plan::Guest;
use super::plan::Plan;
use super::plan::Spare;

impl Plan {
    /// Copies that no rank deserves: room for all that follows, for no byte written.
    pub(super) fn remove_surplus(&mut self, surplus: &[Item]) {
        for item in surplus {
            if let Some(spare) = self.spare(item) {
                self.remove(&spare);
            }
        }
    }

    /// Second copies that are deserved may be more than there is room for all the same, when many
    /// objects have one rank. `pair_bytes`: how many they are.
    pub(super) fn remove_excess(&mut self, pair_bytes: u64) {
        let mut excess = pair_bytes.saturating_sub(self.borders.replica_bytes);
        if excess == 0 {
            return;
        }
        let mut pairs: Vec<Spare> = self.pairs.iter().flatten().copied().collect();
        pairs.sort_by_key(|spare| (spare.item.rank, spare.item.digest));
        while excess > 0
            && let Some(spare) = pairs.pop()
        {
            self.remove(&spare);
            excess = excess.saturating_sub(spare.item.length);
        }
    }

    /// On another device, at the speed that is deserved or the next slower one with room.
    pub(super) fn add_replicas(&mut self, singles: &[Item]) {
        for item in singles {
            let would_be = self.second_bytes.saturating_add(item.length);
            if self.planned.contains(&item.number) || would_be > self.borders.replica_bytes {
                continue;
            }
            let guest = Guest {
                item: *item,
                leaves: None,
            };
            let deserved = self.borders.deserved(item.rank);
            let is_short = self.is_short;
            let allowed = |speed| speed >= deserved && !is_short[speed as usize];
            let to = self.room(&guest, deserved, allowed);
            let from = self.disks.holding(item.places).next();
            if let (Some(to), Some(from)) = (to, from.map(|disk| disk.candidate.volume)) {
                let number = item.number;
                self.book(item, Errand::Copy { number, from, to });
            }
        }
    }

    /// False: the plan is full.
    pub(super) fn remove(&mut self, spare: &Spare) -> bool {
        let Spare { item, from, stays } = *spare;
        let number = item.number;
        let errand = Errand::Remove {
            number,
            from,
            stays,
        };
        self.book(&item, errand)
    }
}
