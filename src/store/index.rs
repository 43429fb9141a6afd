//! The index: which objects are on which volumes, in RAM, rebuilt at each start.
//!
//! Every object gets a dense number that it keeps until the process ends. Numbers make the manifest
//! small (four bytes a key instead of a digest) and reading lock-free: [`Index::is_readable`] is
//! three atomic loads, so a volume that goes out of service takes its objects with it at once.
//! `scan` and `writer` add places, `volume` failures remove them, `manifest` keeps numbers.

use super::table::Table;
use crate::object::Digest;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// A place is one bit: 36 hard disks with two zones each, and as many again, fit.
pub const VOLUMES_MAX: usize = 128;

/// Numbers are handed out in segments, so that a small box pays for a small table …
const SEGMENT: usize = 4096;
/// … and a large one for no more than this many: 16.7 million objects, where ten are the goal.
const SEGMENTS: usize = 4096;

/// Digest lookups lock one of these; scans of several disks insert side by side.
const SHARDS: usize = 64;

const WORDS: usize = VOLUMES_MAX / 64;

/// A sidecar was read, or the bytes were hashed: whoever says otherwise is wrong. Without it the
/// length is that of a file.
const VOUCHED: u64 = 1 << 63;

/// A set of volumes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Places([u64; WORDS]);

/// Objects and where they are.
pub(super) struct Index {
    shards: Vec<Mutex<Table>>,
    segments: Vec<OnceLock<Box<[Slot]>>>,
    next: AtomicU32,
    /// Volumes in service.
    online: [AtomicU64; WORDS],
}

/// One cache line.
#[derive(Debug, Default)]
struct Slot {
    digest: OnceLock<Digest>,
    /// One more than its length, with [`VOUCHED`]; 0 while nobody has seen the object.
    length: AtomicU64,
    places: [AtomicU64; WORDS],
}

/// Why an object cannot be numbered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum IndexError {
    #[error("more objects than one box can index ({})", SEGMENT * SEGMENTS)]
    Full,
    #[error("object {digest} is {given} bytes long here and {known} bytes elsewhere")]
    Length {
        digest: Digest,
        known: u64,
        given: u64,
    },
}

impl Default for Index {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            segments: (0..SEGMENTS).map(|_| OnceLock::new()).collect(),
            next: AtomicU32::new(0),
            online: Default::default(),
        }
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index")
            .field("objects", &self.len())
            .finish()
    }
}

impl Index {
    /// The number of an object of this length, by its file, its sidecar, a snapshot or whoever
    /// publishes it.
    pub(super) fn number(&self, digest: Digest, length: u64) -> Result<u32, IndexError> {
        let number = self.number_unseen(digest)?;
        let Some(slot) = self.slot(number) else {
            return Err(IndexError::Full);
        };
        let given = noted(length);
        let order = Ordering::AcqRel;
        match slot
            .length
            .compare_exchange(0, given, order, Ordering::Acquire)
        {
            Err(known) if known & !VOUCHED != given => Err(IndexError::Length {
                digest,
                known: (known & !VOUCHED) - 1,
                given: length,
            }),
            Ok(_) | Err(_) => Ok(number),
        }
    }

    /// The length of an object is `length`, for sure. The one that was known, if it was another.
    pub(super) fn vouch(&self, number: u32, length: u64) -> Option<u64> {
        let given = noted(length);
        let slot = self.slot(number)?;
        let known = slot.length.swap(given | VOUCHED, Ordering::AcqRel) & !VOUCHED;
        known.checked_sub(1).filter(|_| known != given)
    }

    /// Is the length of an object more than its file's?
    pub(super) fn is_vouched(&self, number: u32) -> bool {
        let slot = self.slot(number);
        slot.is_some_and(|slot| slot.length.load(Ordering::Acquire) & VOUCHED != 0)
    }

    /// The number of an object that somebody only names, a fresh one if it was unknown. Names come
    /// with claims about lengths, which never enter the index: files and sidecars are believed.
    pub(super) fn number_unseen(&self, digest: Digest) -> Result<u32, IndexError> {
        let mut shard = self
            .shard(digest)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = self.look(&shard, digest) {
            return Ok(number);
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let Some((segment, at)) = split(number) else {
            self.next.fetch_sub(1, Ordering::Relaxed);
            return Err(IndexError::Full);
        };
        let slots =
            self.segments[segment].get_or_init(|| (0..SEGMENT).map(|_| Slot::default()).collect());
        // The number is this thread's own: the slot is empty.
        let _ = slots[at].digest.set(digest);
        let hash_of = |n| self.digest(n).map_or(0, hash);
        shard.insert(hash(digest), number, hash_of);
        Ok(number)
    }

    /// The number of a known object.
    pub(super) fn find(&self, digest: Digest) -> Option<u32> {
        let shard = self
            .shard(digest)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.look(&shard, digest)
    }

    pub(super) fn digest(&self, number: u32) -> Option<Digest> {
        self.slot(number)?.digest.get().copied()
    }

    /// Digest and length by number, of an object that was seen on a disk.
    pub(super) fn object(&self, number: u32) -> Option<(Digest, u64)> {
        let slot = self.slot(number)?;
        let length = (slot.length.load(Ordering::Acquire) & !VOUCHED).checked_sub(1)?;
        Some((*slot.digest.get()?, length))
    }

    /// Numbers handed out; each is below this.
    pub(super) fn len(&self) -> u32 {
        self.next.load(Ordering::Acquire)
    }

    /// Bytes of memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        let made = self
            .segments
            .iter()
            .filter(|segment| segment.get().is_some());
        let slots = made.count() * SEGMENT * size_of::<Slot>();
        let locked = |shard: &Mutex<Table>| shard.lock().map_or(0, |table| table.bytes());
        slots + self.shards.iter().map(locked).sum::<usize>()
    }

    /// True when the object was not known to be there.
    pub(super) fn add_place(&self, number: u32, volume: u16) -> bool {
        let (word, bit) = bit_of(volume);
        self.slot(number)
            .is_some_and(|slot| slot.places[word].fetch_or(bit, Ordering::AcqRel) & bit == 0)
    }

    /// True when the object was known to be there.
    pub(super) fn remove_place(&self, number: u32, volume: u16) -> bool {
        let (word, bit) = bit_of(volume);
        self.slot(number)
            .is_some_and(|slot| slot.places[word].fetch_and(!bit, Ordering::AcqRel) & bit != 0)
    }

    /// Volumes that hold the object, in service or not.
    pub(super) fn places(&self, number: u32) -> Places {
        let Some(slot) = self.slot(number) else {
            return Places::default();
        };
        Places(std::array::from_fn(|word| {
            slot.places[word].load(Ordering::Acquire)
        }))
    }

    /// Volumes in service that hold the object.
    pub(super) fn readable(&self, number: u32) -> Places {
        let held = self.places(number).0;
        Places(std::array::from_fn(|word| {
            held[word] & self.online[word].load(Ordering::Acquire)
        }))
    }

    /// Does a volume in service hold the object? No lock, no allocation.
    pub(super) fn is_readable(&self, number: u32) -> bool {
        !self.readable(number).is_empty()
    }

    /// What a volume holds, in service or not, with its lengths: one walk over everything.
    pub(super) fn objects_on(&self, volume: u16) -> Vec<(Digest, u64)> {
        let held = (0..self.len()).filter(|number| self.places(*number).has(volume));
        held.filter_map(|number| self.object(number)).collect()
    }

    /// Takes a volume, with all it holds, into service or out of it. True if that is a change.
    pub(super) fn set_online(&self, volume: u16, online: bool) -> bool {
        let (word, bit) = bit_of(volume);
        let before = if online {
            self.online[word].fetch_or(bit, Ordering::AcqRel)
        } else {
            self.online[word].fetch_and(!bit, Ordering::AcqRel)
        };
        (before & bit != 0) != online
    }

    fn look(&self, shard: &Table, digest: Digest) -> Option<u32> {
        shard.find(hash(digest), |number| self.digest(number) == Some(digest))
    }

    fn shard(&self, digest: Digest) -> &Mutex<Table> {
        &self.shards[usize::from(digest.0[0]) % SHARDS]
    }

    fn slot(&self, number: u32) -> Option<&Slot> {
        let (segment, at) = split(number)?;
        self.segments.get(segment)?.get()?.get(at)
    }
}

impl Places {
    pub(super) fn is_empty(self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(super) fn insert(&mut self, volume: u16) {
        let (word, bit) = bit_of(volume);
        self.0[word] |= bit;
    }

    /// Volumes that are in both.
    pub(super) fn common(self, other: Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] & other.0[word]))
    }

    /// Is a volume in both?
    pub(super) fn meets(self, other: Self) -> bool {
        self.0
            .iter()
            .zip(other.0)
            .any(|(own, other)| own & other != 0)
    }

    pub(super) fn has(self, volume: u16) -> bool {
        let (word, bit) = bit_of(volume);
        self.0[word] & bit != 0
    }

    /// In the order of their numbers.
    pub(super) fn iter(self) -> impl Iterator<Item = u16> {
        let words = (0_u16..).step_by(64).zip(self.0);
        words.flat_map(|(first, word)| {
            // Each without its lowest bit is the next.
            let next = |word: &u64| Some(word & (word - 1)).filter(|rest| *rest != 0);
            let rests = std::iter::successors(Some(word).filter(|word| *word != 0), next);
            rests.map(move |rest| first + (rest.trailing_zeros() & 63) as u16)
        })
    }
}

fn noted(length: u64) -> u64 {
    length.min(VOUCHED - 2) + 1
}

/// A digest is uniform already: some of its bytes are its hash.
fn hash(digest: Digest) -> u64 {
    let [_, a, b, c, d, e, f, g, h, ..] = digest.0;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

fn split(number: u32) -> Option<(usize, usize)> {
    let number = usize::try_from(number).ok()?;
    let segment = number / SEGMENT;
    (segment < SEGMENTS).then_some((segment, number % SEGMENT))
}

fn bit_of(volume: u16) -> (usize, u64) {
    let volume = usize::from(volume) % VOLUMES_MAX;
    (volume / 64, 1 << (volume % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::collections::BTreeSet;

    #[derive(Clone, Debug)]
    enum Action {
        Add(u8, u16),
        Remove(u8, u16),
        Online(u16, bool),
    }

    fn actions() -> impl Strategy<Value = Vec<Action>> {
        let volume = prop_oneof![0_u16..3, 62_u16..66, 127_u16..128];
        let one = prop_oneof![
            (any::<u8>(), volume.clone()).prop_map(|(o, v)| Action::Add(o, v)),
            (any::<u8>(), volume.clone()).prop_map(|(o, v)| Action::Remove(o, v)),
            (volume, any::<bool>()).prop_map(|(v, on)| Action::Online(v, on)),
        ];
        proptest::collection::vec(one, 0..300)
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_naive_map(actions in actions()) {
            let index = Index::default();
            let mut naive: BTreeMap<u8, BTreeSet<u16>> = BTreeMap::new();
            let mut online = BTreeSet::new();
            for action in actions {
                match action {
                    Action::Add(object, volume) => {
                        let number = index.number(Digest::of(&[object]), 1).unwrap();
                        let fresh = naive.entry(object).or_default().insert(volume);
                        prop_assert_eq!(index.add_place(number, volume), fresh);
                    }
                    Action::Remove(object, volume) => {
                        let known = naive.get_mut(&object).is_some_and(|s| s.remove(&volume));
                        let number = index.find(Digest::of(&[object]));
                        let removed = number.is_some_and(|n| index.remove_place(n, volume));
                        prop_assert_eq!(removed, known);
                    }
                    Action::Online(volume, on) => {
                        index.set_online(volume, on);
                        if on { online.insert(volume); } else { online.remove(&volume); }
                    }
                }
            }
            for object in 0..=255_u8 {
                let number = index.find(Digest::of(&[object]));
                prop_assert_eq!(number.is_some(), naive.contains_key(&object));
                let Some(number) = number else { continue };
                let held = naive.get(&object).cloned().unwrap_or_default();
                let found: BTreeSet<u16> = index.places(number).iter().collect();
                prop_assert_eq!(&found, &held);
                let readable = held.intersection(&online).next().is_some();
                prop_assert_eq!(index.is_readable(number), readable);
            }
            prop_assert_eq!(index.len() as usize, naive.len());
        }
    }

    #[test]
    fn two_lengths_for_one_digest_are_a_fault_not_an_overwrite() {
        let index = Index::default();
        index.number(Digest::of(b"x"), 1).unwrap();
        assert!(matches!(
            index.number(Digest::of(b"x"), 2),
            Err(IndexError::Length {
                known: 1,
                given: 2,
                ..
            })
        ));
    }

    #[test]
    fn threads_that_add_the_same_objects_agree_on_numbers() {
        let index = Index::default();
        let numbers: Vec<Vec<u32>> = std::thread::scope(|scope| {
            let add = || {
                (0..20_000_u32)
                    .map(|n| index.number(Digest::of(&n.to_le_bytes()), 4).unwrap())
                    .collect()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(add)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(numbers.windows(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(index.len(), 20_000);
    }

    #[test]
    fn a_slot_is_one_cache_line() {
        assert_eq!(size_of::<Slot>(), 64);
    }
}
