//! A hash table of numbers: what is numbered lives elsewhere.
//!
//! `index` finds an object's number by digest, `manifest` a row by key. Four bytes an entry (times
//! the slack), where a `HashMap` would keep a second copy of each digest or key.

/// No entry in this slot.
const EMPTY: u32 = u32::MAX;

/// Open addressing, linear probing, at most three quarters full, never shrinking: numbers are
/// added and never taken away.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    slots: Vec<u32>,
    used: usize,
}

impl Table {
    /// Room for `entries` without growing.
    pub(super) fn with_capacity(entries: usize) -> Self {
        let mut table = Self::default();
        if entries > 0 {
            let slots = (entries / 3 * 4 + 4).next_power_of_two();
            table.slots = vec![EMPTY; slots];
        }
        table
    }

    /// The number in a slot for `hash` that `is_it` recognises.
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut at = self.first(hash)?;
        loop {
            let number = self.slots[at];
            if number == EMPTY {
                return None;
            }
            if is_it(number) {
                return Some(number);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    /// Adds a number that is not there yet; `hash_of` is asked for the others when the table grows.
    pub(super) fn insert(&mut self, hash: u64, number: u32, hash_of: impl Fn(u32) -> u64) {
        if (self.used + 1) * 4 > self.slots.len() * 3 {
            let old = std::mem::take(&mut self.slots);
            self.slots = vec![EMPTY; (old.len() * 2).max(8)];
            for number in old.into_iter().filter(|number| *number != EMPTY) {
                self.put(hash_of(number), number);
            }
        }
        self.put(hash, number);
        self.used += 1;
    }

    /// Bytes of memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u32>()
    }

    fn put(&mut self, hash: u64, number: u32) {
        let Some(mut at) = self.first(hash) else {
            return;
        };
        while self.slots[at] != EMPTY {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = number;
    }

    fn first(&self, hash: u64) -> Option<usize> {
        let mask = (self.slots.len() as u64).checked_sub(1)?;
        usize::try_from(hash & mask).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Few distinct hashes, so that long probe runs are the rule.
        #[test]
        fn it_agrees_with_a_naive_map(
            values in proptest::collection::btree_set(0_u64..400, 0..300),
            room in 0_usize..100,
        ) {
            let values: Vec<u64> = values.into_iter().collect();
            let hash = |value: u64| value % 7;
            let mut table = Table::with_capacity(room);
            let mut naive = BTreeMap::new();
            for (number, value) in (0_u32..).zip(&values) {
                table.insert(hash(*value), number, |n| hash(values[n as usize]));
                naive.insert(*value, number);
            }
            for value in 0..400 {
                let found = table.find(hash(value), |n| values[n as usize] == value);
                prop_assert_eq!(found, naive.get(&value).copied());
            }
        }
    }
}
