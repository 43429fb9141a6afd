//! Chunks that a worker has lately seen in memory: what makes the look free for hot objects.
//!
//! Asked and told by [`super::Pages`] alone, and by `at_once` when it has sent a whole object.

use super::super::range::Part;
use crate::clock::Instant;
use crate::store::CHUNK_BYTES;
use crate::store::ObjectFile;
use std::cell::RefCell;
use std::time::Duration;

/// How long pages that were seen in memory are taken to be there still. What leaves within this
/// time is waited for on a worker, on a disk that hangs for ever: kernels that reclaim ahead of
/// need (DAMON) take pages that were read a moment ago. So it is short, and saves the look where it
/// would cost most: at what is asked for hundreds of times a second.
pub(super) const TRUST_TIME: Duration = Duration::from_millis(5);

/// How long pages that were seen to have been read need only be counted. Those that leave meanwhile
/// and are on their way back are counted too; most of them come by a flight, which is known, but a
/// `sendfile` that met their absence, or a probe, brings some. So this is short as well.
pub(super) const COUNT_TIME: Duration = Duration::from_millis(50);

/// By digest and number, each in its one place.
const LATELY_MAX: usize = 16_384;

thread_local! {
    /// Connections never move between threads.
    static LATELY: RefCell<Vec<Option<Seen>>> = const { RefCell::new(Vec::new()) };
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    tag: u64,
    /// All of its pages were there.
    counted: Instant,
    /// And had been read from the disk, all of them.
    read: Instant,
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
    let seen = known(object, chunk)?.counted;
    (now.saturating_duration_since(seen) < TRUST_TIME).then_some(seen)
}

/// When a chunk was seen, if it is enough to count its pages.
pub(super) fn read_lately(object: &ObjectFile, chunk: u64, now: Instant) -> Option<Instant> {
    let seen = known(object, chunk)?;
    (now.saturating_duration_since(seen.read) < COUNT_TIME).then_some(seen.counted)
}

fn known(object: &ObjectFile, chunk: u64) -> Option<Seen> {
    let (place, tag) = place(object, chunk);
    let seen = LATELY.with_borrow(|seen| seen.get(place).copied().flatten());
    seen.filter(|seen| seen.tag == tag)
}

/// All of a small object has just been sent: whether or not it was in memory before, it is there.
/// So what is asked for all the time is only counted.
pub(in crate::serve) fn note_sent(object: &ObjectFile, part: Part, now: Instant) {
    if part.first == 0 && part.length() == object.length && object.length <= CHUNK_BYTES {
        note_seen(object, 0, now);
    }
}

/// All pages of a chunk are there and were read.
pub(super) fn note_seen(object: &ObjectFile, chunk: u64, now: Instant) {
    let (place, tag) = place(object, chunk);
    LATELY.with_borrow_mut(|seen| {
        if seen.is_empty() {
            seen.resize(LATELY_MAX, None);
        }
        seen[place] = Some(Seen {
            tag,
            counted: now,
            read: now,
        });
    });
}

/// All pages of a chunk are there.
pub(super) fn note_counted(object: &ObjectFile, chunk: u64, now: Instant) {
    let (place, tag) = place(object, chunk);
    LATELY.with_borrow_mut(|seen| {
        let known = seen.get_mut(place).and_then(Option::as_mut);
        if let Some(known) = known.filter(|known| known.tag == tag) {
            known.counted = now;
        }
    });
}
