//! One object on its way in: chunks are written in any order, flushed in batches, published whole.
//!
//! [`super::Handle::receive`] opens it. Chunks go to the disk's thread a few at a time, a bounded
//! number ahead, and from there to the disk itself (`landing`, `writes`). Every
//! [`FLUSH_EVERY_BYTES`] or [`FLUSH_EVERY`] the data is flushed and only then the map says so.
//! [`Staged::commit`] follows the publish order of `writer`. Dropped before, it flushes what it has
//! in the background, and a later [`Staged`] goes on there.
//!
//! I/O: queues work for the disk's own threads; waits for them without blocking.

use super::core::Shared;
use super::landing;
use super::landing::Work;
use super::lengths;
use super::partial::Chunks;
use super::staging::Lease;
use super::volume::CallError;
use super::volume::Volume;
use super::writer::FLUSH_EVERY_BYTES;
use super::writer::PublishError;
use super::writer::settle;
use crate::clock;
use crate::clock::Instant;
use crate::object::ChunkTree;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// A slow transfer loses no more than this much time to a crash.
const FLUSH_EVERY: Duration = Duration::from_secs(5);

/// Chunks that go to the disk together, a megabyte: its thread is woken, the kernel called and the
/// disk asked once for all of them.
const BATCH_CHUNKS: usize = 4;

/// Batches and flushes on their way to the disk: 2 MiB a transfer beside the batch that is
/// gathered, enough that neither side waits for each other's every step.
const IN_FLIGHT_MAX: usize = 2;

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
    /// Of those, the ones that wait for a batch: in memory alone, until there are enough, a flush
    /// is due or the transfer ends.
    held: Vec<(u64, Bytes)>,
    in_flight: VecDeque<oneshot::Receiver<io::Result<()>>>,
    unflushed: u64,
    flushed_at: Instant,
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
            landing::open_or_make(&own, volume, lease.partial())
        })
    });
    let opened = settle(shared, &volume, opened.await);
    let is_blank = || shared.staging.is_current(&partial) && landing::is_blank(&partial);
    if opened.is_err() && is_blank() {
        shared.staging.remove(&partial);
        partial.litter();
    }
    let work = Arc::new(Work {
        shared: Arc::clone(shared),
        lease,
        target: opened?,
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
            held: Vec::new(),
            in_flight: VecDeque::new(),
            unflushed: 0,
            flushed_at: clock::now(),
        }),
    })
}

/// Queues a call and waits for it.
async fn patiently<T>(
    volume: &Volume,
    queue: impl Fn() -> Result<oneshot::Receiver<T>, CallError>,
) -> Result<T, CallError> {
    let mut answer = queued(queue).await?;
    volume.answer(&mut answer).await
}

/// A disk whose queue is full is not sick: it is asked again.
async fn queued<T>(
    queue: impl Fn() -> Result<oneshot::Receiver<T>, CallError>,
) -> Result<oneshot::Receiver<T>, CallError> {
    let mut tries = 0;
    loop {
        match queue() {
            Err(CallError::Busy) if tries < BUSY_TRIES => tries += 1,
            outcome => return outcome,
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
        open.held.push((chunk, bytes));
        open.sent.add(chunk);
        open.unflushed += length;
        let late = clock::now().duration_since(open.flushed_at) >= FLUSH_EVERY;
        let flush = late || open.unflushed >= FLUSH_EVERY_BYTES;
        if flush || open.held.len() >= BATCH_CHUNKS {
            open.send().await?;
        }
        if flush {
            open.flush().await?;
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
        open.send().await?;
        while !open.in_flight.is_empty() {
            open.land().await?;
        }
        let partial = Arc::clone(open.work.lease.partial());
        let (digest, length) = (partial.digest, partial.length);
        let missing = length - partial.lock().written.bytes();
        if missing > 0 {
            return Err(PublishError::Incomplete { digest, missing });
        }
        let number = lengths::number_to_publish(&self.shared, digest, length)?;
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
        let (work, held) = (Arc::clone(&open.work), open.held);
        let patience = open.volume.flush_patience();
        // What the map does not tell of is fetched again if this finds no room.
        let _ = open
            .volume
            .queue_late(patience, move |volume, pulse, reply| {
                if !held.is_empty() {
                    work.put(volume, pulse, held, reply);
                }
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

    /// Queues what waits for it, when there is room. May be dropped and called again.
    async fn send(&mut self) -> Result<(), PublishError> {
        if self.held.is_empty() {
            return Ok(());
        }
        while self.in_flight.len() >= IN_FLIGHT_MAX {
            self.land().await?;
        }
        let (work, volume, batch) = (&self.work, &self.volume, &self.held);
        let queued = queued(|| {
            let (work, batch) = (Arc::clone(work), batch.clone());
            volume.queue_late(volume.flush_patience(), move |volume, pulse, reply| {
                work.put(volume, pulse, batch, reply);
            })
        });
        let answer = settle(&work.shared, volume, queued.await.map(Ok))?;
        self.in_flight.push_back(answer);
        self.held.clear();
        Ok(())
    }

    /// Queues a flush of what came before.
    async fn flush(&mut self) -> Result<(), PublishError> {
        let (work, volume) = (&self.work, &self.volume);
        let queued = queued(|| {
            let work = Arc::clone(work);
            let patience = volume.flush_patience();
            volume.queue(patience, move |volume, pulse| work.persist(volume, pulse))
        });
        let answer = settle(&work.shared, volume, queued.await.map(Ok))?;
        self.in_flight.push_back(answer);
        Ok(())
    }
}

#[cfg(test)]
#[path = "staged_tests.rs"]
mod tests;
