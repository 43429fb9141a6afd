//! The most popular of many objects, or the least: as many as one plan can use, in any order of
//! arrival. Pure.

use super::Item;
use std::cmp::Ordering;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// An object by its popularity: the most popular is the least.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranked(pub(super) Item);

/// The least of what was offered.
#[derive(Debug)]
pub(super) struct Few<T> {
    most: usize,
    /// The one on top goes first.
    kept: BinaryHeap<T>,
}

/// The most popular ones.
pub(super) type Top = Few<Ranked>;
/// The least popular ones.
pub(super) type Bottom = Few<Reverse<Ranked>>;

impl<T: Ord> Few<T> {
    pub(super) fn new(most: usize) -> Self {
        let kept = BinaryHeap::new();
        Self { most, kept }
    }

    fn push(&mut self, one: T) {
        if self.kept.len() < self.most {
            return self.kept.push(one);
        }
        if let Some(mut last) = self.kept.peek_mut()
            && one < *last
        {
            *last = one;
        }
    }
}

impl Top {
    pub(super) fn offer(&mut self, item: &Item) {
        self.push(Ranked(*item));
    }

    /// The most popular first.
    pub(super) fn into_items(self) -> Vec<Item> {
        let sorted = self.kept.into_sorted_vec().into_iter();
        sorted.map(|Ranked(item)| item).collect()
    }
}

impl Bottom {
    pub(super) fn offer(&mut self, item: &Item) {
        self.push(Reverse(Ranked(*item)));
    }

    /// The least popular first.
    pub(super) fn into_items(self) -> Vec<Item> {
        let sorted = self.kept.into_sorted_vec().into_iter();
        sorted.map(|Reverse(Ranked(item))| item).collect()
    }
}

impl Ord for Ranked {
    /// Of equals the same one is first whatever the order of arrival.
    fn cmp(&self, other: &Self) -> Ordering {
        let by_rank = self.0.rank.cmp(&other.0.rank);
        by_rank.then_with(|| self.0.digest.cmp(&other.0.digest))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Ranked {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Digest;
    use crate::store::index::Places;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn of_many_in_any_order_the_best_few_are_kept(
            ranks in prop::collection::vec(0_u32..50, 0..60),
            most in 1_usize..12,
        ) {
            let (mut top, mut bottom) = (Top::new(most), Bottom::new(most));
            let numbered = (0_u32..).zip(ranks);
            let mut items: Vec<Item> = numbered.map(|(number, rank)| Item {
                number,
                digest: Digest::of(&number.to_le_bytes()),
                length: 1,
                rank,
                places: Places::default(),
            }).collect();
            for item in &items {
                top.offer(item);
                bottom.offer(item);
            }
            items.sort_by_key(|item| (item.rank, item.digest));
            let numbers = |items: Vec<Item>| -> Vec<u32> {
                items.iter().take(most).map(|item| item.number).collect()
            };
            prop_assert_eq!(numbers(top.into_items()), numbers(items.clone()));
            items.reverse();
            prop_assert_eq!(numbers(bottom.into_items()), numbers(items));
        }
    }
}
