//! Does the index know what lies on a disk? One small account a volume.
//!
//! While a file may lie there that the index does not have (it is being published, it was forgotten
//! and not yet unlinked or put aside, it could not be read), its digest stands here: a `snapshot`
//! without it would lose it, so none is written, and `compare` leaves it alone. Who publishes,
//! forgets and removes notes it. Here is also how the objects came to be known, and how far that
//! has come. Touches no disk.

use super::lane::Pulse;
use super::lane::Ticks;
use crate::lock::lock;
use crate::object::Digest;
use arc_swap::ArcSwapOption;
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

/// Objects noted at once: a night's deletions under way are hundreds. With more, the disk is
/// scanned at the next start, whatever became of them.
const ASTRAY_MAX: usize = 64 * 1024;

/// Threads that look through one disk's directories side by side.
pub(super) const THREADS_MAX: usize = 8;

/// `objects/00` to `objects/ff`.
pub(super) const PARTS: u32 = 256;

/// How the objects of a disk came to be known, as `oca show disks` tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ScanView {
    /// `scan` or `snapshot`; empty before it is known.
    pub from: &'static str,
    /// Of the disk's directories, those that this process has looked through: all of them before
    /// it serves after a `scan`, behind the viewers after a `snapshot`.
    pub percent: u32,
    /// Objects that a snapshot had and the disk has not, or the other way round.
    pub corrected: u64,
}

#[derive(Debug)]
pub(super) struct Census {
    astray: Mutex<Astray>,
    /// While a disk is looked through that was in service before.
    unmet: ArcSwapOption<Unmet>,
    is_from_snapshot: AtomicBool,
    begun: AtomicBool,
    /// A scan, or a snapshot, came to its end.
    is_whole: AtomicBool,
    parts: AtomicU32,
    pub(super) corrected: AtomicU64,
    /// Whoever takes it first: the disk's thread to name a snapshot, or whoever stops without it.
    decided: AtomicBool,
    /// Of the threads that scan side by side, and of the one that compares.
    pub(super) pulses: [Pulse; THREADS_MAX],
    pub(super) thread: Mutex<Option<JoinHandle<()>>>,
}

/// Objects that a disk held before, until a scan meets them there: a bit each, by number. Threads
/// that scan side by side meet them without a lock.
#[derive(Debug)]
struct Unmet(Vec<AtomicU64>);

#[derive(Debug, Default)]
struct Astray {
    digests: BTreeSet<Digest>,
    /// There were more than can be noted.
    many: bool,
}

impl Census {
    pub(super) fn new(ticks: &Ticks) -> Self {
        Self {
            astray: Mutex::default(),
            unmet: ArcSwapOption::empty(),
            is_from_snapshot: AtomicBool::new(false),
            begun: AtomicBool::new(false),
            is_whole: AtomicBool::new(false),
            parts: AtomicU32::new(0),
            corrected: AtomicU64::new(0),
            decided: AtomicBool::new(false),
            pulses: std::array::from_fn(|_| Pulse::new(ticks.clone())),
            thread: Mutex::default(),
        }
    }

    /// From here on a file of this name may lie on the disk without the index.
    pub(super) fn note(&self, digest: Digest) {
        let mut astray = lock(&self.astray);
        if astray.digests.len() < ASTRAY_MAX {
            astray.digests.insert(digest);
        } else {
            astray.many = true;
        }
    }

    /// The index has it, or the disk no more.
    pub(super) fn settle(&self, digest: Digest) {
        lock(&self.astray).digests.remove(&digest);
    }

    /// May it lie on the disk without the index?
    pub(super) fn is_astray(&self, digest: Digest) -> bool {
        let astray = lock(&self.astray);
        astray.many || astray.digests.contains(&digest)
    }

    /// Does the index have all that lies on the disk, for all that is known?
    pub(super) fn is_complete(&self) -> bool {
        let astray = lock(&self.astray);
        self.is_whole.load(Ordering::Acquire) && !astray.many && astray.digests.is_empty()
    }

    /// True for the first who asks: what a snapshot is to be is decided once.
    pub(super) fn decide(&self) -> bool {
        !self.decided.swap(true, Ordering::AcqRel)
    }

    /// The directories are looked through from the first one on.
    pub(super) fn begin(&self, is_from_snapshot: bool) {
        self.is_from_snapshot
            .store(is_from_snapshot, Ordering::Release);
        self.parts.store(0, Ordering::Release);
        self.is_whole.store(false, Ordering::Release);
        self.begun.store(true, Ordering::Release);
    }

    /// These were held before; what is not met of them is told by [`Census::take_unmet`].
    pub(super) fn expect(&self, numbers: impl Iterator<Item = u32>) {
        let mut words: Vec<u64> = Vec::new();
        for number in numbers {
            let word = number as usize / 64;
            if words.len() <= word {
                words.resize(word + 1, 0);
            }
            words[word] |= 1 << (number % 64);
        }
        let unmet = Unmet(words.into_iter().map(AtomicU64::new).collect());
        self.unmet
            .store((!unmet.0.is_empty()).then(|| Arc::new(unmet)));
    }

    /// It lies there.
    pub(super) fn met(&self, number: u32) {
        let unmet = self.unmet.load();
        let word = unmet.as_ref().and_then(|u| u.0.get(number as usize / 64));
        if let Some(word) = word {
            word.fetch_and(!(1 << (number % 64)), Ordering::AcqRel);
        }
    }

    /// What was expected and not met. Nothing is expected from here on.
    pub(super) fn take_unmet(&self) -> Vec<u32> {
        let Some(unmet) = self.unmet.swap(None) else {
            return Vec::new();
        };
        let words = (0_u32..).zip(unmet.0.iter().map(|word| word.load(Ordering::Acquire)));
        words
            .flat_map(|(at, word)| (0..64).map(move |bit| (at * 64 + bit, word >> bit & 1)))
            .filter_map(|(number, is_left)| (is_left == 1).then_some(number))
            .collect()
    }

    /// One of [`PARTS`] was looked through.
    pub(super) fn passed(&self) {
        self.parts.fetch_add(1, Ordering::AcqRel);
    }

    /// None is left.
    pub(super) fn ended(&self) {
        self.parts.store(PARTS, Ordering::Release);
    }

    /// All that lies on the disk is in the index, but for what is noted here.
    pub(super) fn whole(&self) {
        self.is_whole.store(true, Ordering::Release);
    }

    pub(super) fn view(&self) -> ScanView {
        let parts = self.parts.load(Ordering::Acquire).min(PARTS);
        ScanView {
            from: match self.begun.load(Ordering::Acquire) {
                false => "",
                true if self.is_from_snapshot.load(Ordering::Acquire) => "snapshot",
                true => "scan",
            },
            percent: parts * 100 / PARTS,
            corrected: self.corrected.load(Ordering::Relaxed),
        }
    }

    pub(super) fn is_overdue(&self) -> bool {
        self.pulses.iter().any(Pulse::is_overdue)
    }

    /// Has the thread that compares ended?
    pub(super) fn has_ended(&self) -> bool {
        let thread = lock(&self.thread);
        thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_complete_when_all_that_was_noted_is_settled_and_never_after_too_many() {
        let census = Census::new(&Ticks::default());
        assert!(!census.is_complete(), "nothing is known yet");
        census.whole();
        let digest = |n: usize| Digest::of(&(n as u32).to_le_bytes());
        for n in 0..ASTRAY_MAX {
            census.note(digest(n));
        }
        assert!(!census.is_complete() && census.is_astray(digest(1)));
        assert!(!census.is_astray(digest(ASTRAY_MAX)));
        for n in 0..ASTRAY_MAX {
            census.settle(digest(n));
        }
        assert!(census.is_complete());
        for n in 0..=ASTRAY_MAX {
            census.note(digest(n));
        }
        assert!(
            census.is_astray(digest(ASTRAY_MAX)),
            "it may be one of those"
        );
        for n in 0..=ASTRAY_MAX {
            census.settle(digest(n));
        }
        assert!(!census.is_complete());
    }

    #[test]
    fn several_threads_meet_what_was_expected_and_the_rest_is_told_once() {
        let census = Census::new(&Ticks::default());
        census.met(7);
        assert_eq!(census.take_unmet(), [0_u32; 0], "nothing was expected");
        census.expect((0..10_000).filter(|number| number % 3 == 0));
        std::thread::scope(|scope| {
            for part in 0..4 {
                let census = &census;
                scope.spawn(move || {
                    let own = (0..20_000).filter(|number| number % 4 == part);
                    own.filter(|number| *number != 33 && *number != 9_999)
                        .for_each(|number| census.met(number));
                });
            }
        });
        assert_eq!(census.take_unmet(), [33, 9_999]);
        assert_eq!(census.take_unmet(), [0_u32; 0]);
    }

    #[test]
    fn progress_goes_from_nothing_to_all() {
        let census = Census::new(&Ticks::default());
        assert_eq!(census.view(), ScanView::default());
        census.begin(true);
        census.passed();
        let view = census.view();
        assert_eq!((view.from, view.percent), ("snapshot", 0));
        for _ in 0..127 {
            census.passed();
        }
        assert_eq!(census.view().percent, 50);
        census.ended();
        census.passed();
        assert_eq!(census.view().percent, 100);
        assert!(census.decide() && !census.decide());
    }
}
