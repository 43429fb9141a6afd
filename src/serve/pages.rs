//! Are the pages of a response's object in memory? Asked before its file is touched.
//!
//! `exchange` makes one for each response with a body and waits for its first chunk before the
//! head is written; `send` asks for each further chunk, and never touches the file before it is
//! there. While one chunk is sent, the next is already asked for. Content without disks, such as a
//! test's directory, answers that everything is there.
//!
//! I/O: waits for the disk's threads in [`Pages::begin`] and [`Pages::supply`].

use super::Content;
use super::range::Part;
use crate::clock;
use crate::clock::Instant;
use crate::store::CHUNK_BYTES;
use crate::store::FillError;
use crate::store::Fills;
use crate::store::ObjectFile;
use crate::store::Reader;
use crate::store::Supply;
use crate::store::Urgency;
use crate::sys::page_cache;
use crate::task::Heartbeat;
use std::cell::RefCell;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

/// How long pages that were seen in memory are taken to be there still. The kernel evicts what has
/// not been used for longest, so what was seen a second ago is safe but in the worst squeeze; then
/// one read may wait for the disk.
const TRUST_TIME: Duration = Duration::from_secs(1);

/// Objects of up to one chunk that were seen whole lately, a worker: what makes the check free for
/// small hot objects. By digest, each in its one place.
const LATELY_MAX: usize = 16_384;

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
    /// The time when [`Pages::begin`] was done.
    looked_at: Instant,
    /// The chunk whose next one has been asked for.
    asked_from: Option<u64>,
    /// What [`Pages::ask_ahead`] found: the end of the chunk that was there, and when.
    ahead: Option<(u64, Instant)>,
    disappointments: (u64, u32),
    behind: Option<Behind>,
    /// How long the disk took for the first chunk; `None`: it was in memory.
    waited: Option<Duration>,
}

/// Which chunks came from the disk for this response, to be dropped behind it.
struct Behind {
    reader: Reader,
    /// First bytes of chunks; at most the present one and the next.
    brought: [Option<u64>; 2],
}

thread_local! {
    /// Connections never move between threads.
    static LATELY: RefCell<Vec<Option<(u64, Instant)>>> = const { RefCell::new(Vec::new()) };
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
        let reader = fills.filter(|_| drop_behind);
        Self {
            behind: reader.map(|fills| Behind {
                reader: fills.reader(object),
                brought: [None; 2],
            }),
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
            looked_at: now,
            asked_from: None,
            ahead: None,
            disappointments: (part.first, 0),
            behind: None,
            waited: None,
        }
    }

    /// Other parts follow this one, up to `last`: the next chunk is asked for as theirs.
    pub(super) fn followed_up_to(mut self, last: u64) -> Self {
        self.last = last;
        self
    }

    /// Waits for the first chunk. What fails here can still be answered with a 503.
    pub(super) async fn begin(&mut self) -> Result<(), FillError> {
        let now = self.seen;
        let is_small = self.object.length <= CHUNK_BYTES;
        if is_small && was_seen_lately(self.object, now) {
            (self.until, self.seen) = (self.part.last + 1, now);
            return Ok(());
        }
        if !self.is_ready(self.part.first, now) {
            // Bytes of our own are as good a sign; they are read again when it is their turn.
            let brought = Box::pin(self.bring(self.part.first, Urgency::Begins)).await;
            self.looked_at = clock::now();
            brought?;
            self.waited = Some(self.looked_at.saturating_duration_since(now));
        }
        if is_small && self.part.first == 0 && self.until == self.object.length {
            note_seen(self.object, self.seen);
        }
        Ok(())
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
        let seen = at < self.until || self.is_ready(at, clock::now());
        seen.then(|| self.until - at)
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
                if !self.is_fresh(clock::now()) {
                    self.doubt(at);
                }
                let Some(there) = self.look(at) else {
                    return Ok(None);
                };
                let there = usize::try_from(there).unwrap_or(usize::MAX);
                let most = room.len().min(there);
                let _excuse = heart.excuse();
                self.object.file.read_at(&mut room[..most], at).map(Some)
            }
            Err(error) => Err(error),
        }
    }

    fn is_ready(&mut self, at: u64, now: Instant) -> bool {
        let Some(fills) = self.fills else {
            self.until = self.part.last + 1;
            return true;
        };
        let end = self.chunk_end(at);
        let known = self.ahead.take_if(|(until, _)| *until == end);
        let is_known =
            known.is_some_and(|(_, seen)| now.saturating_duration_since(seen) < TRUST_TIME);
        if !is_known && !fills.is_ready(self.object, at, end - at) {
            return false;
        }
        self.arrived(fills, at, end, now);
        true
    }

    fn arrived(&mut self, fills: &Fills, at: u64, end: u64, now: Instant) {
        (self.until, self.seen) = (end, now);
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
            let bytes = fills.copy(self.object, at, end - at).await?;
            return Ok(Supply::Bytes(bytes));
        }
        self.brought(at / CHUNK_BYTES * CHUNK_BYTES);
        let supply = fills.supply(self.object, at, end - at, urgency).await?;
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
        if fills.prefetch(self.object, next) {
            self.brought(next);
        } else {
            self.ahead = Some((self.chunk_end(next), now));
        }
    }

    /// The chunk from `at` comes from the disk for this response.
    fn brought(&mut self, at: u64) {
        let Some(behind) = &mut self.behind else {
            return;
        };
        if behind.brought.contains(&Some(at)) {
            return;
        }
        if let Some(free) = behind.brought.iter_mut().find(|chunk| chunk.is_none()) {
            *free = Some(at);
        }
    }

    /// The response is at `at`: chunks of its own before that may go.
    fn pass(&mut self, at: u64) {
        if let Some(behind) = &mut self.behind {
            behind.pass(at);
        }
    }
}

impl Behind {
    fn pass(&mut self, at: u64) {
        for place in &mut self.brought {
            if let Some(chunk) = place.take_if(|chunk| *chunk + CHUNK_BYTES <= at) {
                self.reader.passed(chunk, CHUNK_BYTES);
            }
        }
    }
}

/// However the response ended, it reads no more.
impl Drop for Behind {
    fn drop(&mut self) {
        self.pass(u64::MAX);
    }
}

/// The place of an object in the table, and what stands there for it.
fn lately(object: &ObjectFile) -> (usize, u64) {
    let mut head = [0; 8];
    head.copy_from_slice(&object.digest.0[..8]);
    // The same bytes on another disk have pages of their own.
    let tag = u64::from_le_bytes(head) ^ u64::from(object.volume);
    let place = usize::try_from(tag % LATELY_MAX as u64).unwrap_or(0);
    (place, tag)
}

fn was_seen_lately(object: &ObjectFile, now: Instant) -> bool {
    let (place, tag) = lately(object);
    LATELY.with_borrow(|seen| {
        let entry = seen.get(place).copied().flatten();
        entry.is_some_and(|(known, at)| {
            known == tag && now.saturating_duration_since(at) < TRUST_TIME
        })
    })
}

fn note_seen(object: &ObjectFile, now: Instant) {
    let (place, tag) = lately(object);
    LATELY.with_borrow_mut(|seen| {
        if seen.is_empty() {
            seen.resize(LATELY_MAX, None);
        }
        seen[place] = Some((tag, now));
    });
}
