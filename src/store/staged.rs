//! One object on its way in: chunks are written in any order, flushed in batches, published whole.
//!
//! [`super::Handle::receive`] opens it. Chunks go to the disk's thread as they come, a bounded
//! number ahead. Every [`FLUSH_EVERY_BYTES`] or [`FLUSH_EVERY`] the data is flushed and only then
//! the map says so. [`Staged::commit`] follows the publish order of `writer`. Dropped before, it
//! flushes what it has in the background, and a later [`Staged`] goes on there.
//!
//! I/O: works on the disk's own threads; waits for them without blocking.

use super::core::Shared;
use super::lane::Pulse;
use super::layout;
use super::partial;
use super::partial::Chunks;
use super::root;
use super::staging::Lease;
use super::staging::Partial;
use super::state::State;
use super::step::Step;
use super::suspects;
use super::volume::CallError;
use super::volume::Volume;
use super::writer;
use super::writer::FLUSH_EVERY_BYTES;
use super::writer::PublishError;
use super::writer::settle;
use crate::clock;
use crate::clock::Instant;
use crate::object::CHUNK_BYTES;
use crate::object::ChunkTree;
use bytes::Bytes;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// A slow transfer loses no more than this much time to a crash.
const FLUSH_EVERY: Duration = Duration::from_secs(5);

/// Chunks on their way to the disk: 2 MiB a transfer, enough that neither side waits for each
/// other's every step.
const IN_FLIGHT_MAX: usize = 8;

/// Chunks hashed in one call on the readers' thread: viewers' opens wait behind it.
const REHASH_CHUNKS: usize = 4;

/// How often, and after what pause, a disk whose queue is full is asked again.
const BUSY_TRIES: u32 = 100;
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// An object that is being received.
#[derive(Debug)]
pub struct Staged {
    shared: Arc<Shared>,
    /// `None`: it is held already.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    work: Arc<Work>,
    volume: Arc<Volume>,
    /// What need not be sent to the disk (again).
    sent: Chunks,
    in_flight: VecDeque<oneshot::Receiver<io::Result<()>>>,
    unflushed: u64,
    flushed_at: Instant,
}

/// What calls on the disk's thread need; the lease ends with the last of them.
#[derive(Debug)]
struct Work {
    shared: Arc<Shared>,
    lease: Arc<Lease>,
    file: File,
    tree: Arc<ChunkTree>,
}

/// Opens or makes the staging file and hashes again what an earlier process claims.
pub(super) async fn open(
    shared: &Arc<Shared>,
    lease: Lease,
    tree: Arc<ChunkTree>,
) -> Result<Staged, PublishError> {
    let partial = Arc::clone(lease.partial());
    let volume = Arc::clone(&partial.volume);
    let lease = Arc::new(lease);
    let opened = patiently(&volume, || {
        let (own, lease) = (Arc::clone(shared), Arc::clone(&lease));
        volume.queue(volume.deadline(), move |volume, _| {
            open_or_make(&own, volume, lease.partial())
        })
    });
    let opened = settle(shared, &volume, opened.await);
    if opened.is_err() && is_blank(&partial) {
        shared.staging.remove(&partial);
        partial.litter();
    }
    let work = Arc::new(Work {
        shared: Arc::clone(shared),
        lease,
        file: opened?,
        tree,
    });
    rehash(&work, &volume).await?;
    let sent = partial.lock().written.clone();
    Ok(Staged {
        shared: Arc::clone(shared),
        open: Some(Open {
            work,
            volume,
            sent,
            in_flight: VecDeque::new(),
            unflushed: 0,
            flushed_at: clock::now(),
        }),
    })
}

/// On the disk's thread.
fn open_or_make(shared: &Shared, volume: &Volume, partial: &Partial) -> io::Result<File> {
    // A file of this name may wait for its removal.
    volume.sweep()?;
    let staging = volume.root()?.dir(layout::STAGING)?;
    let name = layout::partial_name(partial.digest);
    if !is_blank(partial) {
        match root::open_for_writing(&staging, &name) {
            Ok(file) if file.metadata()?.len() == partial.length => return Ok(file),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    partial.lock().clear();
    root::remove(&staging, &layout::map_name(partial.digest))?;
    root::remove(&staging, &name)?;
    let file = root::create_in(&staging, &name)?;
    // Its length from the beginning: a shorter file is not one of these.
    let room = root::reserve(&file, partial.length).and_then(|()| file.set_len(partial.length));
    if let Err(error) = room {
        root::remove(&staging, &name)?;
        return Err(error);
    }
    // The next object is placed by what is left.
    if let Ok(space) = volume.root()?.space() {
        volume.note_space(space);
    }
    shared.probe.reached(Step::PartialMade);
    Ok(file)
}

/// Under a lock that no call on a disk is made with: that may hang.
fn is_blank(partial: &Partial) -> bool {
    partial.lock().is_blank()
}

/// Queues a call and waits for it. A disk whose queue is full is not sick: it is asked again.
async fn patiently<T>(
    volume: &Volume,
    queue: impl Fn() -> Result<oneshot::Receiver<T>, CallError>,
) -> Result<T, CallError> {
    let mut tries = 0;
    loop {
        match queue() {
            Ok(mut answer) => return volume.answer(&mut answer).await,
            Err(CallError::Busy) if tries < BUSY_TRIES => tries += 1,
            Err(error) => return Err(error),
        }
        clock::sleep(BUSY_PAUSE).await;
    }
}

/// A claim outlives a crash by a flush that the disk may have lied about.
async fn rehash(work: &Arc<Work>, volume: &Arc<Volume>) -> Result<(), PublishError> {
    let partial = work.lease.partial();
    let claimed = partial.lock().claimed.list();
    let mut wrong = 0_u64;
    for batch in claimed.chunks(REHASH_CHUNKS) {
        let answer = patiently(volume, || {
            let (own, chunks) = (Arc::clone(work), batch.to_vec());
            volume.queue_read(move |_| own.verify(&chunks))
        });
        let verdicts = answer.await.map(Ok);
        for (chunk, verdict) in settle(&work.shared, volume, verdicts)? {
            let mut progress = partial.lock();
            progress.claimed.remove(chunk);
            match verdict {
                Ok(true) => {
                    progress.written.add(chunk);
                    progress.durable.add(chunk);
                }
                Ok(false) => wrong += 1,
                Err(error) => {
                    wrong += 1;
                    drop(progress);
                    work.shared.note_read_error(volume, partial.digest, &error);
                }
            }
        }
    }
    if wrong > 0 {
        let (disk, digest) = (volume.name(), partial.digest);
        tracing::warn!(
            disk,
            %digest,
            wrong,
            "disk {disk}: {wrong} staged chunks of {digest} are not what was written; they are \
             fetched again"
        );
    }
    Ok(())
}

impl Staged {
    pub(super) fn of_held(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            open: None,
        }
    }

    /// What has not been given to [`Staged::write`]: byte ranges in order, aligned to chunks but
    /// for the object's end.
    pub fn missing(&self) -> Vec<Range<u64>> {
        let open = self.open.as_ref();
        open.map_or_else(Vec::new, |open| open.sent.gaps())
    }

    /// Takes one whole chunk, which the caller has verified, and returns when there is room for
    /// the next. Its failure may show in a later call. One that is there already is ignored.
    pub async fn write(&mut self, chunk: u64, bytes: Bytes) -> Result<(), PublishError> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let length = bytes.len() as u64;
        if chunk >= open.sent.count() || length != open.sent.bytes_of(chunk) {
            return Err(PublishError::Chunk {
                digest: open.work.tree.digest(),
                chunk,
                found: length,
            });
        }
        debug_assert!(open.work.tree.verify_chunk(chunk, &bytes));
        if open.sent.has(chunk) {
            return Ok(());
        }
        while open.in_flight.len() >= IN_FLIGHT_MAX {
            open.land().await?;
        }
        let late = clock::now().duration_since(open.flushed_at) >= FLUSH_EVERY;
        let flush = late || open.unflushed + length >= FLUSH_EVERY_BYTES;
        open.send(chunk, &bytes, flush).await?;
        open.sent.add(chunk);
        open.unflushed += length;
        if flush {
            open.unflushed = 0;
            open.flushed_at = clock::now();
        }
        Ok(())
    }

    /// Publishes the object, of which nothing is missing. One that came to be held meanwhile is
    /// not published twice.
    pub async fn commit(mut self) -> Result<(), PublishError> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        while !open.in_flight.is_empty() {
            open.land().await?;
        }
        let partial = Arc::clone(open.work.lease.partial());
        let (digest, length) = (partial.digest, partial.length);
        let missing = length - partial.lock().written.bytes();
        if missing > 0 {
            return Err(PublishError::Incomplete { digest, missing });
        }
        let number = self.shared.index.number(digest, length);
        let number = number.map_err(|error| PublishError::Index(error.to_string()))?;
        let (work, volume) = (Arc::clone(&open.work), Arc::clone(&open.volume));
        let answer = patiently(&volume, || {
            let work = Arc::clone(&work);
            volume.queue(volume.flush_patience(), move |volume, pulse| {
                work.publish(number, volume, pulse)
            })
        });
        settle(&self.shared, &volume, answer.await)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let Some(open) = self.open.take() else {
            return;
        };
        let partial = open.work.lease.partial();
        open.work.lease.close();
        if !self.shared.staging.is_current(partial) {
            return;
        }
        let work = Arc::clone(&open.work);
        let patience = open.volume.flush_patience();
        // What is written and not told by the map is fetched again if this finds no room.
        let _ = open.volume.queue(patience, move |volume, pulse| {
            if let Err(error) = work.persist(volume, pulse) {
                work.shared.note_write_error(volume, &error);
            }
        });
    }
}

impl Open {
    /// Waits for the oldest write. May be dropped and called again.
    async fn land(&mut self) -> Result<(), PublishError> {
        let Some(oldest) = self.in_flight.front_mut() else {
            return Ok(());
        };
        let answer = self.volume.answer(oldest).await;
        self.in_flight.pop_front();
        settle(&self.work.shared, &self.volume, answer)
    }

    /// Queues one chunk. A disk whose queue is full is not sick: it is asked again.
    async fn send(&mut self, chunk: u64, bytes: &Bytes, flush: bool) -> Result<(), PublishError> {
        let mut tries = 0;
        loop {
            let (work, piece) = (Arc::clone(&self.work), bytes.clone());
            let patience = self.volume.flush_patience();
            let queued = self.volume.queue(patience, move |volume, pulse| {
                work.put(chunk, &piece)?;
                if flush {
                    work.persist(volume, pulse)?;
                }
                Ok(())
            });
            match queued {
                Ok(answer) => {
                    self.in_flight.push_back(answer);
                    return Ok(());
                }
                Err(CallError::Busy) if tries < BUSY_TRIES => tries += 1,
                Err(error) => return settle(&self.work.shared, &self.volume, Err(error)),
            }
            clock::sleep(BUSY_PAUSE).await;
        }
    }
}

/// On the disk's threads.
impl Work {
    /// Writes one chunk.
    fn put(&self, chunk: u64, bytes: &[u8]) -> io::Result<()> {
        // Loops over short writes; one of zero bytes is an error.
        self.file.write_all_at(bytes, chunk * CHUNK_BYTES)?;
        self.lease.partial().lock().written.add(chunk);
        self.shared.probe.reached(Step::ChunkWritten);
        Ok(())
    }

    /// Are these chunks what the tree says?
    fn verify(&self, chunks: &[u64]) -> Vec<(u64, io::Result<bool>)> {
        let read = |chunk: u64| {
            let range = self.lease.partial().lock().claimed.range(chunk);
            let length = usize::try_from(range.end - range.start).unwrap_or(0);
            let mut bytes = vec![0; length];
            self.file.read_exact_at(&mut bytes, range.start)?;
            Ok(self.tree.verify_chunk(chunk, &bytes))
        };
        chunks.iter().map(|chunk| (*chunk, read(*chunk))).collect()
    }

    /// Flushes the data, then says so in the map.
    fn persist(&self, volume: &Volume, pulse: &Pulse) -> io::Result<()> {
        let partial = self.lease.partial();
        let written = {
            let progress = partial.lock();
            if progress.written == progress.durable {
                return Ok(());
            }
            progress.written.clone()
        };
        if !self.shared.staging.is_current(partial) {
            return Ok(());
        }
        // A flush that failed for one file may have lost another's data, and is never tried again.
        if volume.state() == State::Suspect {
            return Err(io::Error::other("the disk is suspect"));
        }
        pulse.beat(volume.flush_patience());
        self.file.sync_data().inspect_err(|error| {
            self.shared.flush_failed(volume, error);
            suspects::keep_evidence(volume, &layout::partial_name(partial.digest), error);
            self.shared.staging.remove(partial);
        })?;
        self.shared.probe.reached(Step::PartialSynced);
        let told = {
            let mut progress = partial.lock();
            progress.durable = written;
            let mut told = progress.durable.clone();
            told.merge(&progress.claimed);
            told
        };
        self.write_map(volume, pulse, &told)
    }

    fn write_map(&self, volume: &Volume, pulse: &Pulse, durable: &Chunks) -> io::Result<()> {
        let digest = self.lease.partial().digest;
        let (name, new) = (layout::map_name(digest), layout::map_new_name(digest));
        let failed = |error: &io::Error| self.shared.flush_failed(volume, error);
        let reached = |step| {
            self.shared.probe.reached(step);
            pulse.beat(volume.flush_patience());
        };
        let staging = volume.root()?.dir(layout::STAGING)?;
        root::remove(&staging, &new)?;
        let mut file = root::create_in(&staging, &new)?;
        file.write_all(&partial::encode(&self.tree, durable))?;
        reached(Step::MapWritten);
        file.sync_all().inspect_err(failed)?;
        reached(Step::MapSynced);
        root::rename(&staging, &new, &staging, &name)?;
        reached(Step::MapRenamed);
        staging.sync_all().inspect_err(failed)?;
        reached(Step::MapDirectorySynced);
        Ok(())
    }

    /// The publish order; then the object is in the index and no longer unfinished.
    fn publish(&self, number: u32, volume: &Volume, pulse: &Pulse) -> io::Result<()> {
        let (shared, partial) = (&self.shared, self.lease.partial());
        if !shared.staging.is_current(partial) {
            return Err(writer::given_up());
        }
        if shared.index.is_readable(number) {
            shared.staging.remove(partial);
            partial.litter();
            return Ok(());
        }
        let root = volume.root()?;
        let staging = root.dir(layout::STAGING)?;
        let name = layout::partial_name(partial.digest);
        let patience = volume.flush_patience();
        let beat = || pulse.beat(patience);
        let (file, tree) = (&self.file, &self.tree);
        let outcome =
            writer::publish_steps(shared, volume, root, &staging, file, &name, tree, &beat);
        if outcome.is_ok() {
            shared.add(number, volume);
            // Not flushed: a map whose file is gone is removed by the next scan.
            let _ = root::remove(&staging, &layout::map_name(partial.digest));
            shared.probe.reached(Step::MapRemoved);
        } else {
            let _ = root::remove(&staging, &layout::staged_sidecar(&name));
        }
        if outcome.is_ok() || volume.state() == State::Suspect {
            shared.staging.remove(partial);
        }
        if let Ok(space) = root.space() {
            volume.note_space(space);
        }
        outcome
    }
}

#[cfg(test)]
#[path = "staged_tests.rs"]
mod tests;
