//! Attribute sets, each stored once in pages of equal slots, counted by use.
//!
//! One [`Sets`] a neighbour, owned by who owns its routes. A reader gets [`Pages`], which stay as
//! they were: a page that a reader holds is copied before it is written. A slot that nobody uses
//! is used again, and a page without a used slot is given back, so that what is held is bounded by
//! what is in use and a page for each size.

use super::key::Seed;
use crate::object::Digest;
use crate::route::Packed;
use hashbrown::HashTable;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Large enough for a few hundred sets, small enough to be copied in a microsecond.
const PAGE_BYTES: usize = 16 * 1024;

/// A slot begins with the digest of its set: what it takes to tell the items of all routes that
/// share the set, and longer to make than the set takes to find.
const DIGEST_BYTES: usize = 32;

/// A set has at least origin, flags, next hop and the length of its path: 8 bytes, and most have
/// many more.
const SLOT_BYTES_MIN: usize = DIGEST_BYTES + 8;

/// Slots are multiples of this, so that few sizes have a page of their own.
const STEP: usize = 8;

/// From here on of this: sets of a few kilobytes are rare.
const LARGE: usize = 512;
const STEP_LARGE: usize = 128;

/// Bits of a [`SetId`] that count slots: `PAGE_BYTES / SLOT_BYTES_MIN`.
const SLOT_BITS: u32 = 9;

/// In [`Book::uses`]: the slot is free, the rest is the next free one.
const FREE: u32 = 1 << 31;

/// Where a set is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetId(u32);

/// The sets of one moment, for readers.
#[derive(Clone, Debug, Default)]
pub struct Pages(Arc<[Page]>);

/// Sets in use.
#[derive(Debug)]
pub struct Sets {
    pages: Vec<Page>,
    books: Vec<Book>,
    /// By the slots' size: pages with free slots, the first is filled first.
    partial: BTreeMap<usize, BTreeSet<u32>>,
    /// Places of pages that were given back.
    vacant: Vec<u32>,
    index: HashTable<Entry>,
    seed: Seed,
    bytes: usize,
}

/// Clones share the bytes.
#[derive(Clone, Debug, Default)]
struct Page {
    slot_bytes: usize,
    bytes: Arc<[u8]>,
}

/// A set in the index, with enough of its hash that an index which grows looks at no set: they lie
/// all over the memory.
#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u32,
    id: SetId,
}

/// What only the owner needs to know of a page.
#[derive(Debug, Default)]
struct Book {
    /// Uses of each slot, or [`FREE`] and the next free one.
    uses: Vec<u32>,
    used: u32,
    /// `uses.len()`: none.
    free: u32,
}

impl SetId {
    pub(super) const NONE: Self = Self(u32::MAX);

    fn new(page: u32, slot: u32) -> Self {
        Self(page << SLOT_BITS | slot)
    }

    fn page(self) -> usize {
        (self.0 >> SLOT_BITS) as usize
    }

    fn slot(self) -> usize {
        (self.0 & ((1 << SLOT_BITS) - 1)) as usize
    }

    pub(super) fn octets(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }

    pub(super) fn from_octets(octets: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(octets))
    }
}

impl Page {
    /// The set.
    fn slot(&self, slot: usize) -> &[u8] {
        let from = slot * self.slot_bytes;
        let set = from + DIGEST_BYTES..from + self.slot_bytes;
        self.bytes.get(set).unwrap_or(&[])
    }

    /// Of the set.
    fn digest(&self, slot: usize) -> Option<Digest> {
        let slot = self.bytes.get(slot * self.slot_bytes..)?;
        slot.first_chunk().map(|octets| Digest(*octets))
    }
}

impl Entry {
    /// The table takes a place from the lowest bits, and a few more to tell entries apart from the
    /// highest.
    fn spread(hash: u32) -> u64 {
        u64::from(hash) << 32 | u64::from(hash)
    }
}

impl Pages {
    pub fn get(&self, id: SetId) -> Packed<'_> {
        let page = self.0.get(id.page());
        Packed::new(page.map_or(&[], |page| page.slot(id.slot())))
    }

    /// Is this set the very same in both? If not, it may still be equal.
    pub(super) fn shares(&self, other: &Self, id: SetId) -> bool {
        let pages = self.0.get(id.page()).zip(other.0.get(id.page()));
        pages.is_some_and(|(one, other)| Arc::ptr_eq(&one.bytes, &other.bytes))
    }
}

impl Default for Sets {
    fn default() -> Self {
        Self {
            pages: Vec::new(),
            books: Vec::new(),
            partial: BTreeMap::new(),
            vacant: Vec::new(),
            index: HashTable::new(),
            seed: Seed::random(),
            bytes: 0,
        }
    }
}

impl Sets {
    /// Different sets in use.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Memory of all pages, of the counts and of the index.
    pub fn bytes(&self) -> usize {
        self.bytes + self.index.capacity() * (size_of::<Entry>() + 1)
    }

    /// The pages as they are.
    pub fn pages(&self) -> Pages {
        Pages(self.pages.as_slice().into())
    }

    pub fn get(&self, id: SetId) -> Packed<'_> {
        let page = self.pages.get(id.page());
        Packed::new(page.map_or(&[], |page| page.slot(id.slot())))
    }

    /// Of the packed set.
    pub fn digest(&self, id: SetId) -> Option<Digest> {
        self.pages.get(id.page())?.digest(id.slot())
    }

    /// One use more of the set that `packed` is; `None` when there is no number left for it.
    pub fn acquire(&mut self, packed: &[u8]) -> Option<SetId> {
        let hash = self.seed.short_hash(packed);
        let pages = &self.pages;
        let is_same = |entry: &Entry| {
            let page = pages.get(entry.id.page());
            entry.hash == hash
                && page.is_some_and(|page| page.slot(entry.id.slot()).starts_with(packed))
        };
        if let Some(entry) = self.index.find(Entry::spread(hash), is_same) {
            let id = entry.id;
            self.reuse(id);
            return Some(id);
        }
        let id = self.store(packed)?;
        let rehash = |entry: &Entry| Entry::spread(entry.hash);
        let entry = Entry { hash, id };
        self.index.insert_unique(Entry::spread(hash), entry, rehash);
        Some(id)
    }

    /// One use more.
    pub fn reuse(&mut self, id: SetId) {
        if let Some(uses) = self.uses(id) {
            *uses += 1;
        }
    }

    /// One use less; after the last one the set is forgotten.
    pub fn release(&mut self, id: SetId) {
        let Some(uses) = self.uses(id) else {
            return;
        };
        *uses -= 1;
        if *uses == 0 {
            let hash = Entry::spread(self.seed.short_hash(self.get(id).bytes()));
            if let Ok(entry) = self.index.find_entry(hash, |entry| entry.id == id) {
                entry.remove();
            }
            self.free(id);
        }
    }

    fn uses(&mut self, id: SetId) -> Option<&mut u32> {
        let book = self.books.get_mut(id.page())?;
        book.uses.get_mut(id.slot()).filter(|uses| **uses < FREE)
    }

    fn store(&mut self, packed: &[u8]) -> Option<SetId> {
        let slot_bytes = slot_bytes(DIGEST_BYTES + packed.len());
        let first = self.partial.get(&slot_bytes).and_then(BTreeSet::first);
        let number = match first {
            Some(number) => *number,
            None => self.new_page(slot_bytes)?,
        };
        let book = self.books.get_mut(number as usize)?;
        let slot = book.free;
        let uses = book.uses.get_mut(slot as usize)?;
        book.free = *uses & !FREE;
        *uses = 1;
        book.used += 1;
        if book.free as usize >= book.uses.len() {
            self.listed(slot_bytes, number, false);
        }
        let page = Arc::make_mut(&mut self.pages.get_mut(number as usize)?.bytes);
        let from = slot as usize * slot_bytes;
        let place = page.get_mut(from..from + DIGEST_BYTES + packed.len())?;
        let (digest, set) = place.split_at_mut_checked(DIGEST_BYTES)?;
        digest.copy_from_slice(&Digest::of(packed).0);
        set.copy_from_slice(packed);
        Some(SetId::new(number, slot))
    }

    fn new_page(&mut self, slot_bytes: usize) -> Option<u32> {
        let slots = (PAGE_BYTES / slot_bytes).max(1);
        let count = u32::try_from(slots).ok()?;
        let page = Page {
            slot_bytes,
            bytes: std::iter::repeat_n(0, slots * slot_bytes).collect(),
        };
        let book = Book {
            uses: (1..=count).map(|next| FREE | next).collect(),
            used: 0,
            free: 0,
        };
        self.bytes += page_bytes(&page, &book);
        let number = match self.vacant.pop() {
            Some(number) => {
                self.pages[number as usize] = page;
                self.books[number as usize] = book;
                number
            }
            None => {
                let number = u32::try_from(self.pages.len()).ok();
                let number = number.filter(|number| *number < (1 << (32 - SLOT_BITS)) - 1)?;
                self.pages.push(page);
                self.books.push(book);
                number
            }
        };
        self.listed(slot_bytes, number, true);
        Some(number)
    }

    fn free(&mut self, id: SetId) {
        let Some(book) = self.books.get_mut(id.page()) else {
            return;
        };
        #[allow(clippy::cast_possible_truncation, reason = "9 and 23 bits of a u32")]
        let (number, slot) = (id.page() as u32, id.slot() as u32);
        let was_full = book.free as usize >= book.uses.len();
        if let Some(uses) = book.uses.get_mut(id.slot()) {
            *uses = FREE | book.free;
        }
        book.free = slot;
        book.used -= 1;
        let is_empty = book.used == 0;
        let slot_bytes = self.pages[id.page()].slot_bytes;
        if is_empty {
            self.listed(slot_bytes, number, false);
            let page = std::mem::take(&mut self.pages[id.page()]);
            let book = std::mem::take(&mut self.books[id.page()]);
            self.bytes -= page_bytes(&page, &book);
            self.vacant.push(number);
        } else if was_full {
            self.listed(slot_bytes, number, true);
        }
    }

    /// Books a page in the list of those with free slots, or out of it.
    fn listed(&mut self, slot_bytes: usize, number: u32, is_partial: bool) {
        let list = self.partial.entry(slot_bytes).or_default();
        if is_partial {
            list.insert(number);
        } else {
            list.remove(&number);
            if list.is_empty() {
                self.partial.remove(&slot_bytes);
            }
        }
    }
}

fn slot_bytes(length: usize) -> usize {
    if length > PAGE_BYTES / 4 {
        // A page of its own.
        length
    } else if length > LARGE {
        length.next_multiple_of(STEP_LARGE)
    } else {
        length.next_multiple_of(STEP).max(SLOT_BYTES_MIN)
    }
}

fn page_bytes(page: &Page, book: &Book) -> usize {
    size_of::<Page>() + size_of::<Book>() + page.bytes.len() + book.uses.len() * size_of::<u32>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Attributes;
    use crate::route::Community;
    use crate::route::Packer;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    type Told = (SetId, Vec<u8>);

    fn packed(number: u32, communities: u32) -> Vec<u8> {
        let mut attributes = Attributes::new(
            format!("64500 {number}").parse().unwrap(),
            Ipv4Addr::new(192, 0, 2, 1).into(),
        );
        attributes.communities = (0..communities).map(Community).collect();
        Packer::default().pack(&attributes).to_vec()
    }

    proptest! {
        #[test]
        fn each_set_is_held_once_while_it_is_used_and_readers_keep_what_they_saw(
            steps in proptest::collection::vec((0_u32..40, 0_u32..3, 0_u32..3), 0..400),
        ) {
            let mut sets = Sets::default();
            let mut held: Vec<Told> = Vec::new();
            let mut readers: Vec<(Pages, Vec<Told>)> = Vec::new();
            for (number, size, action) in steps {
                // Many small ones, some of a few hundred bytes, some with a page of their own.
                let bytes = packed(number, [0, 200, 2000][size as usize]);
                match action {
                    0 | 1 => {
                        let id = sets.acquire(&bytes).unwrap();
                        prop_assert_eq!(sets.get(id).bytes(), &bytes[..]);
                        prop_assert_eq!(sets.digest(id), Some(Digest::of(&bytes)));
                        held.push((id, bytes));
                    }
                    _ if held.is_empty() => {}
                    _ => {
                        let (id, _) = held.swap_remove(number as usize % held.len());
                        sets.release(id);
                        readers.push((sets.pages(), held.clone()));
                        readers.truncate(8);
                    }
                }
                let different: BTreeSet<&[u8]> = held.iter().map(|(_, b)| &b[..]).collect();
                prop_assert_eq!(sets.len(), different.len());
                for (pages, of_then) in &readers {
                    for (id, bytes) in of_then {
                        prop_assert_eq!(pages.get(*id).bytes(), &bytes[..]);
                    }
                }
            }
            for (id, _) in held {
                sets.release(id);
            }
            prop_assert_eq!((sets.len(), sets.bytes), (0, 0));
            prop_assert!(sets.partial.is_empty());
            prop_assert_eq!(sets.vacant.len(), sets.pages.len());
        }
    }

    #[test]
    fn what_was_given_back_is_used_again() {
        let mut sets = Sets::default();
        for round in 0..20 {
            let ids: Vec<SetId> = (0..5_000)
                .map(|n| sets.acquire(&packed(round * 5_000 + n, round)).unwrap())
                .collect();
            assert!(sets.pages.len() < 80, "{}", sets.pages.len());
            ids.into_iter().for_each(|id| sets.release(id));
        }
        assert_eq!(sets.bytes, 0);
    }
}
