//! What a disk's threads do for an object that is being received.
//!
//! `staged` queues it: the staging file is opened or made, chunks are written, some at a time
//! (`writes`), flushed and only then told by the map, and the whole object is published in the
//! order of `writer`.
//!
//! I/O: everything here works on the disk, on its own threads.

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
use super::volume::Volume;
use super::writer;
use super::writes::Put;
use super::writes::Target;
use crate::lock::lock;
use crate::object::CHUNK_BYTES;
use crate::object::ChunkTree;
use crate::sys::page_cache;
use bytes::Bytes;
use std::fs::File;
use std::io;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::Mutex;
use tokio::sync::oneshot;

/// What calls on the disk's thread need; the lease ends with the last of them.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) shared: Arc<Shared>,
    pub(super) lease: Arc<Lease>,
    pub(super) target: Target,
    pub(super) tree: Arc<ChunkTree>,
}

/// To whoever waits for some chunks: the first error, or that all are written.
#[derive(Debug)]
struct BatchReply {
    chunks_left: usize,
    reply: Option<oneshot::Sender<io::Result<()>>>,
}

impl BatchReply {
    /// One chunk has ended.
    fn add(&mut self, told: io::Result<()>) {
        self.chunks_left -= 1;
        if (self.chunks_left == 0 || told.is_err())
            && let Some(reply) = self.reply.take()
        {
            // Nobody waits any more when the transfer was stopped.
            let _ = reply.send(told);
        }
    }
}

/// Opens or makes the staging file.
pub(super) fn open_or_make(
    shared: &Shared,
    volume: &Volume,
    partial: &Arc<Partial>,
) -> io::Result<Target> {
    // A scan may have kept a file of this name for another.
    if !shared.staging.is_current(partial) {
        return Err(writer::given_up());
    }
    // A file of this name may wait for its removal.
    volume.sweep()?;
    volume.decide_writes()?;
    let staging = volume.root()?.dir(layout::STAGING)?;
    let name = layout::partial_name(partial.digest);
    let file = file_of(shared, volume, partial, &staging, &name)?;
    volume.writes.target(&staging, &name, file)
}

fn file_of(
    shared: &Shared,
    volume: &Volume,
    partial: &Partial,
    staging: &File,
    name: &str,
) -> io::Result<File> {
    if !is_blank(partial) {
        match root::open_for_writing(staging, name) {
            Ok(file) if file.metadata()?.len() == partial.length => return Ok(file),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    partial.lock().clear();
    root::remove(staging, &layout::map_name(partial.digest))?;
    root::remove(staging, name)?;
    let file = root::create_in(staging, name)?;
    // Its length from the beginning: a shorter file is not one of these.
    let room = root::reserve(&file, partial.length).and_then(|()| file.set_len(partial.length));
    if let Err(error) = room {
        root::remove(staging, name)?;
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
pub(super) fn is_blank(partial: &Partial) -> bool {
    partial.lock().is_blank()
}

impl Work {
    /// Begins to write some chunks; `reply` is told of the first that is not written, or that all
    /// are.
    pub(super) fn put(
        self: &Arc<Self>,
        volume: &Arc<Volume>,
        pulse: &Pulse,
        batch: Vec<(u64, Bytes)>,
        reply: oneshot::Sender<io::Result<()>>,
    ) {
        let answer = Arc::new(Mutex::new(BatchReply {
            chunks_left: batch.len(),
            reply: Some(reply),
        }));
        let puts = batch.into_iter().map(|(chunk, bytes)| {
            let done = self.landed(volume, chunk, Arc::clone(&answer));
            Put::new(bytes, chunk * CHUNK_BYTES, done)
        });
        let beat = || pulse.beat(volume.flush_patience());
        volume.writes.put(&self.target, puts, &beat);
        self.shared.probe.reached(Step::ChunkBegun);
    }

    /// What to do when the chunk is written, or not.
    fn landed(
        self: &Arc<Self>,
        volume: &Arc<Volume>,
        chunk: u64,
        answer: Arc<Mutex<BatchReply>>,
    ) -> impl FnOnce(io::Result<()>) + Send + 'static {
        let (own, disk) = (Arc::clone(self), Arc::clone(volume));
        move |outcome: io::Result<()>| {
            // Asked first: the error may be what ends it.
            let is_current = own.shared.staging.is_current(own.lease.partial());
            match &outcome {
                Ok(()) => {
                    own.lease.partial().lock().written.add(chunk);
                    own.shared.probe.reached(Step::ChunkWritten);
                }
                Err(error) => own.write_failed(&disk, error),
            }
            // Of one that was given up no error says anything of the disk.
            let told = outcome.map_err(|error| match is_current {
                true => error,
                false => writer::given_up(),
            });
            lock(&answer).add(told);
        }
    }

    /// A disk that cannot write what it was given is as one that cannot flush it: no second try
    /// proves anything, and what it wrote of this object is not believed.
    fn write_failed(&self, volume: &Volume, error: &io::Error) {
        let partial = self.lease.partial();
        if root::is_medium_error(error) && self.shared.staging.is_current(partial) {
            self.lost(volume, error);
        }
    }

    /// Data that was to be on the disk may not be there.
    fn lost(&self, volume: &Volume, error: &io::Error) {
        let partial = self.lease.partial();
        self.shared.flush_failed(volume, error);
        suspects::keep_evidence(volume, &layout::partial_name(partial.digest), error);
        self.shared.staging.remove(partial);
    }

    /// Are these chunks what the tree says?
    pub(super) fn verify(&self, chunks: &[u64]) -> Vec<(u64, io::Result<bool>)> {
        let read = |chunk: u64| {
            let range = self.lease.partial().lock().claimed.range(chunk);
            let length = usize::try_from(range.end - range.start).unwrap_or(0);
            let mut bytes = vec![0; length];
            self.target.file.read_exact_at(&mut bytes, range.start)?;
            Ok(self.tree.verify_chunk(chunk, &bytes))
        };
        let verdicts = chunks.iter().map(|chunk| (*chunk, read(*chunk))).collect();
        self.leave_memory();
        verdicts
    }

    /// The page cache is for what viewers read. What waits to be flushed stays.
    fn leave_memory(&self) {
        // A wish: without it the pages go a little later.
        let _ = page_cache::drop_cached(&self.target.file, 0, 0);
    }

    /// Flushes the data, then says so in the map.
    pub(super) fn persist(&self, volume: &Volume, pulse: &Pulse) -> io::Result<()> {
        volume.writes.drain(&|| pulse.beat(volume.flush_patience()));
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
        let state = volume.state();
        if matches!(state, State::Suspect | State::Scanning) {
            let state = state.as_str();
            return Err(io::Error::other(format!("the disk is {state}")));
        }
        pulse.beat(volume.flush_patience());
        let synced = self.target.file.sync_data();
        synced.inspect_err(|error| self.lost(volume, error))?;
        self.leave_memory();
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
    pub(super) fn publish(&self, number: u32, volume: &Volume, pulse: &Pulse) -> io::Result<()> {
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
        let (file, tree) = (&self.target.file, &self.tree);
        let outcome =
            writer::publish_steps(shared, volume, &root, &staging, file, &name, tree, &beat);
        if outcome.is_ok() {
            self.leave_memory();
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
mod tests {
    use super::*;

    fn told(outcomes: &[bool]) -> Vec<Option<bool>> {
        let (reply, mut waiting) = oneshot::channel();
        let mut batch = BatchReply {
            chunks_left: outcomes.len(),
            reply: Some(reply),
        };
        let told = outcomes.iter().map(|is_written| {
            batch.add(match is_written {
                true => Ok(()),
                false => Err(io::ErrorKind::StorageFull.into()),
            });
            waiting.try_recv().ok().map(|told| told.is_ok())
        });
        told.collect()
    }

    #[test]
    fn a_batch_is_told_of_once_by_its_first_error_or_its_last_chunk() {
        assert_eq!(told(&[true]), [Some(true)]);
        assert_eq!(told(&[true, true, true]), [None, None, Some(true)]);
        assert_eq!(told(&[true, false, true]), [None, Some(false), None]);
        assert_eq!(told(&[false, false]), [Some(false), None]);
    }
}
