//! Are the pages of a response's object in memory? Asked before its file is touched.
//!
//! `exchange` makes one for each response with a body and waits for its first chunk before the
//! head is written; `send` asks for each further chunk, and never touches the file before it is
//! there. While one chunk is sent, the next is already asked for. Content without disks, such as a
//! test's directory, answers that everything is there.
//!
//! I/O: waits for the disk's threads in [`Pages::begin`] and [`Pages::supply`].

mod behind;
mod seen;

use super::Content;
use super::range::Part;
use crate::clock;
use crate::clock::Instant;
use crate::store::CHUNK_BYTES;
use crate::store::FillError;
use crate::store::Fills;
use crate::store::Household;
use crate::store::ObjectFile;
use crate::store::Supply;
use crate::store::Urgency;
use crate::sys::page_cache;
use crate::task::Heartbeat;
use behind::Behind;
use seen::TRUST_TIME;
use seen::note_counted;
use seen::note_seen;
pub(super) use seen::note_sent;
use seen::read_lately;
use seen::seen_lately;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

/// Chunks seen lately that are sent as one: what a viewer may move in its turn.
const RUN_CHUNKS: u64 = 4;

/// Reads that found nothing at one place although it was said to be there, before the bytes are
/// read on the disk's thread.
const DISAPPOINTMENTS_MAX: u32 = 3;

/// What a response knows of its object's pages.
pub(super) struct Pages<'a> {
    /// `None`: there is no disk to wait for.
    fills: Option<&'a Fills>,
    object: &'a Arc<ObjectFile>,
    part: Part,
    /// The last byte of all that is read in turn: of more than the part, where it is a piece.
    last: u64,
    /// Bytes before this, from the present place on, were seen in memory …
    until: u64,
    /// … at this time.
    seen: Instant,
    /// The last [`Pages::look`] asked the kernel: however long that took, the answer is the newest
    /// that there is.
    is_new: bool,
    /// The time when [`Pages::begin`] was done.
    looked_at: Instant,
    /// The chunk whose next one has been asked for.
    asked_from: Option<u64>,
    /// The chunk that was last asked of the disk for this response. What was absent a moment ago
    /// may be so again: only what was there before anybody asked is relied on.
    fetched: Option<u64>,
    /// What [`Pages::ask_ahead`] found: the end of the chunk that was there, and when.
    ahead: Option<(u64, Instant)>,
    disappointments: (u64, u32),
    behind: Option<Behind>,
    /// How long the disk took for the first chunk; `None`: it was in memory.
    waited: Option<Duration>,
    /// Whose share of the disk it takes.
    household: Household,
}

impl<'a> Pages<'a> {
    pub(super) fn new(
        content: &'a dyn Content,
        object: &'a Arc<ObjectFile>,
        part: Part,
        drop_behind: bool,
        now: Instant,
    ) -> Self {
        let fills = content.fills(object);
        if let Some(fills) = fills.filter(|_| !drop_behind) {
            fills.keep(object);
        }
        let reader = fills.filter(|_| drop_behind);
        Self {
            behind: reader.map(|fills| Behind::new(fills.reader(object))),
            fills,
            ..Self::in_memory(object, part, now)
        }
    }

    /// Of a file for which no disk is waited.
    pub(super) fn in_memory(object: &'a Arc<ObjectFile>, part: Part, now: Instant) -> Self {
        Self {
            fills: None,
            object,
            part,
            last: part.last,
            until: part.first,
            seen: now,
            is_new: false,
            looked_at: now,
            asked_from: None,
            fetched: None,
            ahead: None,
            disappointments: (part.first, 0),
            behind: None,
            waited: None,
            household: Household::default(),
        }
    }

    /// Says who reads: each household has the same share of a disk that many wait for.
    pub(super) fn read_for(&mut self, household: Household) {
        self.household = household;
    }

    /// Other parts follow this one, up to `last`: the next chunk is asked for as theirs.
    pub(super) fn followed_up_to(mut self, last: u64) -> Self {
        self.last = last;
        self
    }

    /// Waits for the first chunk. What fails here can still be answered with a 503.
    pub(super) async fn begin(&mut self) -> Result<(), FillError> {
        if self.is_begun() {
            return Ok(());
        }
        // Bytes of our own are as good a sign; they are read again when it is their turn.
        let brought = Box::pin(self.bring(self.part.first, Urgency::Begins)).await;
        let since = std::mem::replace(&mut self.looked_at, clock::now());
        brought?;
        self.waited = Some(self.looked_at.saturating_duration_since(since));
        Ok(())
    }

    /// Is all of it in memory, seen lately or by one look? Nothing is asked for ahead.
    pub(super) fn is_there(&mut self) -> bool {
        if self.is_in_doubt() {
            return false;
        }
        let run = self.run_seen_lately(self.part.first, self.seen);
        if let Some((until, seen)) = run.filter(|(until, _)| *until > self.part.last) {
            (self.until, self.seen) = (until, seen);
            return true;
        }
        self.chunk_end(self.part.first) > self.part.last && self.is_begun()
    }

    /// The first chunk is in memory.
    fn is_begun(&mut self) -> bool {
        self.is_ready(self.part.first, self.seen)
    }

    /// What [`Pages::begin`] waited for the disk, if it did.
    pub(super) fn waited(&self) -> Option<Duration> {
        self.waited
    }

    /// The time, as far as it was read here: what [`Pages::begin`] waited for has passed.
    pub(super) fn looked_at(&self) -> Instant {
        self.looked_at
    }

    /// How many bytes from `at` were seen in memory: to be sent while [`Pages::is_fresh`]. `None`:
    /// await [`Pages::supply`].
    pub(super) fn look(&mut self, at: u64) -> Option<u64> {
        self.is_new = false;
        let seen = at < self.until || self.is_ready(at, clock::now());
        seen.then(|| self.until - at)
    }

    /// Its disk may hang: a page that leaves memory after the look at it would be waited for
    /// without end. Send no more of the file than [`Pages::read_now`] reads.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.fills.is_some_and(Fills::is_in_doubt)
    }

    /// Of the last look no more than its own time has passed. What it found may be sent at once
    /// without [`Pages::is_fresh`]: where a look takes longer than that allows (a machine under
    /// load, a tracer), nothing would ever be sent otherwise.
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    /// What was seen may be relied on still; asked whenever the viewer can take more.
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.fills.is_none() || now.saturating_duration_since(self.seen) < TRUST_TIME
    }

    /// It may not: the next [`Pages::look`] from `at` asks again.
    pub(super) fn doubt(&mut self, at: u64) {
        self.until = at;
    }

    /// Waits for the bytes at `at`.
    pub(super) async fn supply(&mut self, at: u64) -> Result<Supply, FillError> {
        self.bring(at, Urgency::Runs).await
    }

    /// Reads at `at` what is in memory; `None`: await [`Pages::supply`]. 0 is the end of the file.
    pub(super) fn read_now(
        &mut self,
        room: &mut [u8],
        at: u64,
        heart: &Heartbeat,
    ) -> io::Result<Option<usize>> {
        let Some(fills) = self.fills else {
            let _excuse = heart.excuse();
            return self.object.file.read_at(room, at).map(Some);
        };
        // Reading what is absent would have the kernel ask the disk, and wait in its queue.
        let Some(there) = self.look(at) else {
            return Ok(None);
        };
        let most = room.len().min(usize::try_from(there).unwrap_or(usize::MAX));
        let room = &mut room[..most];
        match page_cache::read_now(&self.object.file, room, at) {
            Ok(count) => {
                self.ask_ahead(fills, at, clock::now());
                Ok(Some(count))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.doubt(at);
                Ok(None)
            }
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                if !self.is_new && !self.is_fresh(clock::now()) {
                    self.doubt(at);
                    return self.read_now(room, at, heart);
                }
                if fills.is_in_doubt() {
                    self.doubt(at);
                    return Ok(None);
                }
                let _excuse = heart.excuse();
                self.object.file.read_at(room, at).map(Some)
            }
            Err(error) => Err(error),
        }
    }

    /// Can the byte at `at` be read at all? Asked of the disk's thread if it is not in memory.
    pub(super) async fn read_again(&self, at: u64, heart: &Heartbeat) -> Result<Supply, FillError> {
        let mut byte = [0];
        let Some(fills) = self.fills else {
            let _excuse = heart.excuse();
            self.object.file.read_exact_at(&mut byte, at)?;
            return Ok(Supply::Cached);
        };
        if let Ok(1) = page_cache::read_now(&self.object.file, &mut byte, at) {
            return Ok(Supply::Cached);
        }
        let bytes = fills.copy(self.object, at, 1, self.household).await?;
        Ok(Supply::Bytes(bytes))
    }

    fn is_ready(&mut self, at: u64, now: Instant) -> bool {
        let Some(fills) = self.fills else {
            self.until = self.part.last + 1;
            return true;
        };
        if let Some((until, seen)) = self.run_seen_lately(at, now) {
            (self.until, self.seen) = (until, seen);
            self.pass(at);
            self.ask_ahead(fills, until - 1, now);
            return true;
        }
        if let Some((until, _)) = self.run(at, now, read_lately)
            && fills.is_still_there(self.object, at, until - at)
        {
            for chunk in self.whole_chunks(at, until) {
                note_counted(self.object, chunk, now);
            }
            (self.until, self.seen, self.is_new) = (until, now, true);
            self.pass(at);
            self.ask_ahead(fills, until - 1, now);
            return true;
        }
        let end = self.chunk_end(at);
        let known = self.ahead.take_if(|(until, _)| *until == end);
        let is_known =
            known.is_some_and(|(_, seen)| now.saturating_duration_since(seen) < TRUST_TIME);
        if !is_known && !fills.is_ready(self.object, at, end - at) {
            return false;
        }
        self.arrived(fills, at, end, now);
        self.is_new = !is_known;
        true
    }

    fn arrived(&mut self, fills: &Fills, at: u64, end: u64, now: Instant) {
        (self.until, self.seen) = (end, now);
        if self.fetched != Some(at / CHUNK_BYTES) {
            self.note_seen(at, end, now);
        }
        self.pass(at);
        self.ask_ahead(fills, at, now);
    }

    async fn bring(&mut self, at: u64, urgency: Urgency) -> Result<Supply, FillError> {
        let Some(fills) = self.fills else {
            return Ok(Supply::Cached);
        };
        let end = self.chunk_end(at);
        if self.disappointments.0 != at {
            self.disappointments = (at, 0);
        }
        self.disappointments.1 += 1;
        if self.disappointments.1 > DISAPPOINTMENTS_MAX {
            let bytes = fills.copy(self.object, at, end - at, self.household);
            let bytes = bytes.await?;
            return Ok(Supply::Bytes(bytes));
        }
        self.fetched = Some(at / CHUNK_BYTES);
        self.brought(at / CHUNK_BYTES * CHUNK_BYTES);
        let supply = fills.supply(self.object, at, end - at, urgency, self.household);
        let supply = supply.await?;
        match &supply {
            Supply::Cached => self.arrived(fills, at, end, clock::now()),
            Supply::Bytes(_) => {}
        }
        Ok(supply)
    }

    /// The end of what is wanted of the chunk at `at`.
    fn chunk_end(&self, at: u64) -> u64 {
        let end = (at / CHUNK_BYTES + 1) * CHUNK_BYTES;
        end.min(self.part.last + 1)
    }

    /// Once a chunk: asks for the next one.
    fn ask_ahead(&mut self, fills: &Fills, at: u64, now: Instant) {
        let chunk = at / CHUNK_BYTES;
        let next = (chunk + 1) * CHUNK_BYTES;
        if self.asked_from == Some(chunk) || next > self.last {
            return;
        }
        self.asked_from = Some(chunk);
        if seen_lately(self.object, chunk + 1, now).is_some() {
            return;
        }
        if fills.prefetch(self.object, next) {
            self.fetched = Some(chunk + 1);
            self.brought(next);
        } else {
            let end = self.chunk_end(next);
            self.note_seen(next, end, now);
            self.ahead = Some((end, now));
        }
    }

    fn run_seen_lately(&self, at: u64, now: Instant) -> Option<(u64, Instant)> {
        self.run(at, now, seen_lately)
    }

    /// The end of what is `known` from `at` on, without a gap, and when the first of it was seen.
    fn run(
        &self,
        at: u64,
        now: Instant,
        known: fn(&ObjectFile, u64, Instant) -> Option<Instant>,
    ) -> Option<(u64, Instant)> {
        let first = at / CHUNK_BYTES;
        let mut seen = known(self.object, first, now)?;
        let mut until = self.chunk_end(at);
        for chunk in first + 1..first + RUN_CHUNKS {
            let more = (until <= self.part.last).then(|| known(self.object, chunk, now));
            let Some(more) = more.flatten() else {
                break;
            };
            (until, seen) = (self.chunk_end(until), seen.min(more));
        }
        Some((until, seen))
    }

    /// From `at` to `end` was seen; remembered of whole chunks.
    fn note_seen(&self, at: u64, end: u64, now: Instant) {
        for chunk in self.whole_chunks(at, end) {
            note_seen(self.object, chunk, now);
        }
    }

    /// The numbers of the chunks that lie between `at` and `end` with all their bytes.
    fn whole_chunks(&self, at: u64, end: u64) -> Range<u64> {
        let after = match end == self.object.length {
            true => end.div_ceil(CHUNK_BYTES),
            false => end / CHUNK_BYTES,
        };
        at.div_ceil(CHUNK_BYTES)..after
    }

    /// The chunk from `at` comes from the disk for this response.
    fn brought(&mut self, at: u64) {
        if let Some(behind) = &mut self.behind {
            behind.brought(at);
        }
    }

    /// The response is at `at`: chunks of its own before that may go.
    fn pass(&mut self, at: u64) {
        if let Some(behind) = &mut self.behind {
            behind.pass(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::seen::COUNT_TIME;
    use super::*;

    const LENGTH: u64 = 3 * CHUNK_BYTES + 7;

    fn object(volume: u16) -> Arc<ObjectFile> {
        Arc::new(ObjectFile {
            file: tempfile::tempfile().unwrap(),
            length: LENGTH,
            digest: crate::object::Digest::of(b"an object"),
            volume,
        })
    }

    fn pages(object: &Arc<ObjectFile>, now: Instant, first: u64, last: u64) -> Pages<'_> {
        Pages::in_memory(object, Part { first, last }, now)
    }

    #[test]
    fn chunks_seen_lately_are_sent_as_one_and_age_with_the_oldest() {
        assert_eq!(RUN_CHUNKS * CHUNK_BYTES, crate::serve::send::TURN_BYTES);
        let object = object(1);
        let t0 = clock::now();
        let later = t0 + TRUST_TIME / 2;
        let whole = pages(&object, t0, 0, LENGTH - 1);
        whole.note_seen(0, CHUNK_BYTES, later);
        whole.note_seen(CHUNK_BYTES, 2 * CHUNK_BYTES, t0);
        whole.note_seen(3 * CHUNK_BYTES, LENGTH, t0);
        let run = |first, last, at, now| pages(&object, t0, first, last).run_seen_lately(at, now);
        assert_eq!(run(0, LENGTH - 1, 0, later), Some((2 * CHUNK_BYTES, t0)));
        assert_eq!(run(0, LENGTH - 1, 5, later), Some((2 * CHUNK_BYTES, t0)));
        assert_eq!(run(5, CHUNK_BYTES, 5, later), Some((CHUNK_BYTES + 1, t0)));
        assert_eq!(run(5, 9, 5, later), Some((10, later)));
        let third = 2 * CHUNK_BYTES;
        assert_eq!(run(0, LENGTH - 1, third, later), None, "it was not seen");
        let end = 3 * CHUNK_BYTES;
        assert_eq!(run(0, LENGTH - 1, end, later), Some((LENGTH, t0)));
        let aged = t0 + TRUST_TIME;
        assert_eq!(run(0, LENGTH - 1, 0, aged), Some((CHUNK_BYTES, later)));
        assert_eq!(run(0, LENGTH - 1, 0, aged + TRUST_TIME), None);
    }

    #[test]
    fn what_was_read_a_moment_ago_is_counted_and_no_longer_trusted() {
        let object = object(4);
        let t0 = clock::now();
        let whole = pages(&object, t0, 0, LENGTH - 1);
        whole.note_seen(0, CHUNK_BYTES, t0);
        let later = t0 + TRUST_TIME;
        assert_eq!(whole.run_seen_lately(0, later), None);
        assert_eq!(whole.run(0, later, read_lately), Some((CHUNK_BYTES, t0)));
        note_counted(&object, 0, later);
        assert!(whole.run_seen_lately(0, later).is_some(), "it was counted");
        note_counted(&object, 1, later);
        assert_eq!(seen_lately(&object, 1, later), None, "it was never read");
        // However often it is counted: whether it was read is asked again.
        let aged = t0 + COUNT_TIME;
        let almost = aged - Duration::from_millis(1);
        assert!(whole.run(0, almost, read_lately).is_some());
        note_counted(&object, 0, aged);
        assert_eq!(whole.run(0, aged, read_lately), None);
    }

    #[test]
    fn a_part_of_a_chunk_and_a_copy_on_another_disk_tell_nothing() {
        let (here, there) = (object(2), object(3));
        let now = clock::now();
        let part = pages(&here, now, 1, LENGTH - 1);
        part.note_seen(1, CHUNK_BYTES, now);
        part.note_seen(0, CHUNK_BYTES - 1, now);
        assert_eq!(part.run_seen_lately(1, now), None);
        part.note_seen(0, CHUNK_BYTES, now);
        assert!(part.run_seen_lately(1, now).is_some());
        assert_eq!(part.whole_chunks(1, 3 * CHUNK_BYTES), 1..3);
        assert_eq!(part.whole_chunks(CHUNK_BYTES, LENGTH - 1), 1..3);
        assert_eq!(
            part.whole_chunks(CHUNK_BYTES, LENGTH),
            1..4,
            "it ends there"
        );
        assert!(part.whole_chunks(3 * CHUNK_BYTES + 1, LENGTH).is_empty());
        assert_eq!(pages(&there, now, 0, 9).run_seen_lately(0, now), None);
    }
}
