//! Messages of all neighbours as they pass, for an operator who is watching.
//!
//! Closed unless somebody asks, and closed again when nobody has asked for a while; then it costs
//! one load a message. A watcher that is too slow loses the oldest records and is told how many.

use crate::clock::Instant;
use crate::lock::lock;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Records that wait to be fetched: seconds of a full table's arrival.
const KEPT_BYTES_MAX: usize = 16 << 20;

/// One answer.
const PAGE_BYTES_MAX: usize = 1 << 20;

/// Without a question for so long, nobody is watching.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Tap {
    is_open: AtomicBool,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    closes: Option<Instant>,
    records: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Number of the record that comes next.
    next: u64,
}

/// What came since the last question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TapPage {
    /// To be asked with next.
    pub next: u64,
    /// Records that fell out before they were asked for.
    pub lost: u64,
    /// Whole MRT records (RFC 6396).
    pub bytes: Vec<u8>,
}

impl Tap {
    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Relaxed)
    }

    pub(super) fn put(&self, now: Instant, record: Vec<u8>) {
        let mut kept = self.kept();
        if kept.closes.is_none_or(|at| now >= at) {
            self.is_open.store(false, Relaxed);
            (kept.records, kept.bytes, kept.closes) = (VecDeque::new(), 0, None);
            return;
        }
        kept.bytes += record.len();
        kept.next += 1;
        kept.records.push_back(record);
        while kept.bytes > KEPT_BYTES_MAX {
            let oldest = kept.records.pop_front();
            kept.bytes -= oldest.map_or(kept.bytes, |oldest| oldest.len());
        }
    }

    /// Opens the tap, or keeps it open; what came from record `after` on. The first question has
    /// no `after` and gets the number to go on with.
    pub(super) fn page(&self, now: Instant, after: Option<u64>) -> TapPage {
        let mut kept = self.kept();
        kept.closes = Some(now + PATIENCE);
        self.is_open.store(true, Relaxed);
        let first = kept.next - kept.records.len() as u64;
        let after = after.unwrap_or(kept.next).min(kept.next);
        let from = after.max(first);
        let skipped = usize::try_from(from - first).unwrap_or(usize::MAX);
        let mut page = TapPage {
            next: from,
            lost: from - after,
            bytes: Vec::new(),
        };
        for record in kept.records.iter().skip(skipped) {
            if !page.bytes.is_empty() && page.bytes.len() + record.len() > PAGE_BYTES_MAX {
                break;
            }
            page.bytes.extend_from_slice(record);
            page.next += 1;
        }
        page
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        lock(&self.kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn nothing_is_kept_until_somebody_asks_nor_long_after_the_last_question() {
        let (tap, now) = (Tap::default(), clock::now());
        assert!(!tap.is_open());
        tap.put(now, vec![1]);
        let begun = tap.page(now, None);
        assert_eq!(begun, TapPage::default());
        tap.put(now, vec![2]);
        tap.put(now, vec![3]);
        let page = tap.page(now, Some(begun.next));
        assert_eq!(
            (page.bytes.as_slice(), page.next, page.lost),
            (&[2, 3][..], 2, 0)
        );
        assert_eq!(tap.page(now, Some(2)).bytes, Vec::<u8>::new());
        assert_eq!(tap.page(now, Some(99)).next, 2, "a number that never was");
        tap.put(now + PATIENCE, vec![4]);
        assert!(!tap.is_open());
        assert_eq!(tap.kept().records.len(), 0);
    }

    #[test]
    fn a_slow_watcher_loses_the_oldest_and_is_told() {
        let (tap, now) = (Tap::default(), clock::now());
        let begun = tap.page(now, None).next;
        let half = KEPT_BYTES_MAX / 2;
        for _ in 0..3 {
            tap.put(now, vec![0; half]);
        }
        let page = tap.page(now, Some(begun));
        assert_eq!((page.lost, page.next, page.bytes.len()), (1, 2, half));
        let rest = tap.page(now, Some(page.next));
        assert_eq!((rest.lost, rest.next, rest.bytes.len()), (0, 3, half));
    }
}
