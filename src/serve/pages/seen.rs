//! Chunks that a worker has lately seen in memory: what makes the look free for hot objects.
//!
//! Asked and told by [`super::Pages`] alone, and by `at_once` when it has sent a whole object.

use super::super::range::Part;
use crate::clock::Instant;
use crate::store::CHUNK_BYTES;
use crate::store::ObjectFile;
use std::cell::RefCell;
use std::time::Duration;

/// How long pages that were seen in memory are taken to be there still. A kernel evicts what has
/// not been used for longest, but one that reclaims ahead of need (DAMON), or that is squeezed,
/// takes pages that were read a second ago. What leaves within this time is waited for on a worker,
/// so it is short: a worker looks at most twenty times a second at what everybody asks for.
pub(super) const TRUST_TIME: Duration = Duration::from_millis(50);

/// By digest and number, each in its one place.
const LATELY_MAX: usize = 16_384;

thread_local! {
    /// With the time when it was seen. Connections never move between threads.
    static LATELY: RefCell<Vec<Option<(u64, Instant)>>> = const { RefCell::new(Vec::new()) };
}

/// The place of a chunk in the table, and what stands there for it.
fn place(object: &ObjectFile, chunk: u64) -> (usize, u64) {
    let mut head = [0; 8];
    head.copy_from_slice(&object.digest.0[..8]);
    // The same bytes on another disk have pages of their own.
    let tag = (u64::from_le_bytes(head) ^ u64::from(object.volume)).wrapping_add(chunk);
    let place = usize::try_from(tag % LATELY_MAX as u64).unwrap_or(0);
    (place, tag)
}

/// When a chunk was seen, if its pages may be relied on still.
pub(super) fn seen_lately(object: &ObjectFile, chunk: u64, now: Instant) -> Option<Instant> {
    let (place, tag) = place(object, chunk);
    LATELY.with_borrow(|seen| {
        let (known, at) = seen.get(place).copied().flatten()?;
        let is_fresh = now.saturating_duration_since(at) < TRUST_TIME;
        (known == tag && is_fresh).then_some(at)
    })
}

/// All of a small object has just been sent: whether or not it was in memory before, it is there.
/// So what is asked for all the time is never looked at again.
pub(in crate::serve) fn note_sent(object: &ObjectFile, part: Part, now: Instant) {
    if part.first == 0 && part.length() == object.length && object.length <= CHUNK_BYTES {
        note_seen(object, 0, now);
    }
}

pub(super) fn note_seen(object: &ObjectFile, chunk: u64, now: Instant) {
    let (place, tag) = place(object, chunk);
    LATELY.with_borrow_mut(|seen| {
        if seen.is_empty() {
            seen.resize(LATELY_MAX, None);
        }
        seen[place] = Some((tag, now));
    });
}
