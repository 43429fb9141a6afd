//! One object from one disk to another: copied and verified, durable there, and only then removed
//! here; or only copied, or only removed here.
//!
//! ```text
//! read a piece past the page cache ─ compare with the tree ─ write it directly ─┐ on both disks'
//! ┌──────────────────── publish as `writer` does, known to the index ───────────┘ own threads
//! └ read the survivor back ─ forget the old one ─ unlink it ─ flush its directory
//! ```
//! `mover` asks for one object at a time: [`Relocation::run`] goes all the way, `replicate` ends
//! when the survivor was read, `remove_spare` begins with that. Whatever ends the process, the
//! object is whole on one disk at least: on both, if it was between publishing and unlinking, and
//! then the same call goes on with reading the survivor. A source that is damaged goes to
//! quarantine and is never copied. Who has the old file open reads on.
//!
//! I/O: reads, writes and unlinks on the disks' own threads that write; waits for them. A hung disk
//! ends the wait when it is isolated.

use super::core::Shared;
use super::delete;
use super::lane::Pulse;
use super::layout;
use super::root;
use super::scrub::AuditFault;
use super::scrub::Buffer;
use super::scrub::PIECE_BYTES;
use super::scrub::Reading;
use super::step::Step;
use super::suspects;
use super::volume::CallError;
use super::volume::Home;
use super::volume::Volume;
use super::writer;
use super::writer::FLUSH_EVERY_BYTES;
use super::writer::Owner;
use super::writer::PublishError;
use super::writes::Put;
use super::writes::Target;
use crate::object::ChunkTree;
use crate::object::Digest;
use crate::sys::blocks::BLOCK_BYTES;
use crate::sys::blocks::Block;
use crate::sys::page_cache;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::sync_channel;

/// Chunks that are written while the next piece is read: enough for both disks to be busy, little
/// to wait for when a viewer needs one of them.
const WRITES_MAX: usize = 16;

/// What is to go where.
#[derive(Clone, Copy)]
pub(super) struct Relocation<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) number: u32,
    pub(super) digest: Digest,
    pub(super) length: u64,
    pub(super) from: &'a Arc<Volume>,
    pub(super) to: &'a Arc<Volume>,
    /// Asked before each piece, with its bytes; it may wait. False ends the move.
    pub(super) go_on: &'a dyn Fn(u64) -> bool,
}

/// Why an object was not moved. It is where it was, unless it is damaged there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RelocateError {
    #[error("it is not there any more")]
    Gone,
    #[error("stopped")]
    Stopped,
    #[error("disk {disk}: it is damaged: {problem}")]
    Damaged { disk: String, problem: String },
    #[error("disk {disk} cannot be read: {problem}")]
    Unread { disk: String, problem: String },
    #[error("disk {disk}: it was not removed: {problem}")]
    NotRemoved { disk: String, problem: String },
    #[error(transparent)]
    Target(#[from] PublishError),
}

/// An object being read, piece by piece, on its disk's thread.
struct Source<'a> {
    shared: &'a Arc<Shared>,
    volume: &'a Arc<Volume>,
    /// Of the mount on which it was opened.
    home: Option<Arc<Home>>,
    digest: Digest,
    /// With the disk's thread while it reads.
    at_hand: Option<(Reading, Buffer)>,
    tree: Arc<ChunkTree>,
}

/// A staging file on the target. Dropped before it is published, it leaves nothing.
struct Copy<'a> {
    relocation: Relocation<'a>,
    /// Of the mount on which it was begun.
    home: Option<Arc<Home>>,
    name: String,
    target: Arc<Target>,
    under_way: VecDeque<Receiver<io::Result<()>>>,
    unflushed: u64,
    owner: Owner,
}

impl Relocation<'_> {
    /// Copies what the target does not have, and removes it from the source, if that takes writes.
    /// Blocks.
    pub(super) fn run(&self) -> Result<(), RelocateError> {
        self.replicate()?;
        match self.from.state().is_writable() {
            true => self.remove(),
            false => Ok(()),
        }
    }

    /// Copies what the target does not have, and reads it there. Both stay. Blocks.
    pub(super) fn replicate(&self) -> Result<(), RelocateError> {
        if !self.is_on(self.from) {
            return Err(RelocateError::Gone);
        }
        self.are_two()?;
        match self.is_on(self.to) {
            true => self.fasten()?,
            false => self.copy()?,
        }
        self.read_back()
    }

    /// Removes what the target has as well from the source, once it was read whole there. Blocks.
    pub(super) fn remove_spare(&self) -> Result<(), RelocateError> {
        if !self.is_on(self.from) || !self.is_on(self.to) {
            return Err(RelocateError::Gone);
        }
        self.are_two()?;
        self.fasten()?;
        self.read_back()?;
        self.remove()
    }

    /// The only copy would be taken for another.
    fn are_two(&self) -> Result<(), RelocateError> {
        match self.from.number == self.to.number {
            true => Err(RelocateError::Stopped),
            false => Ok(()),
        }
    }

    fn is_on(&self, volume: &Volume) -> bool {
        let places = self.shared.index.places(self.number);
        places.has(volume.number)
    }

    fn copy(&self) -> Result<(), RelocateError> {
        let mut source = Source::open(self, self.from)?;
        let mut copy = Copy::make(*self)?;
        for at in self.pieces() {
            self.turn(at)?;
            let mut offset = at;
            for chunk in source.piece(at, true)? {
                let length = chunk.len() as u64;
                copy.put(offset, chunk)?;
                offset += length;
            }
        }
        Ok(copy.publish(&source.tree)?)
    }

    /// The survivor is read from its medium before the other goes: an object that one disk alone
    /// has is one that was seen there.
    fn read_back(&self) -> Result<(), RelocateError> {
        let mut survivor = Source::open(self, self.to)?;
        for at in self.pieces() {
            self.turn(at)?;
            survivor.piece(at, false)?;
        }
        Ok(())
    }

    /// What was found there and not written by this call: its name may be in memory alone, if a
    /// process was killed before it flushed it. It outlasts a power failure before the other goes.
    fn fasten(&self) -> Result<(), RelocateError> {
        let (shared, digest) = (Arc::clone(self.shared), self.digest);
        let flushed = call(self.to, move |volume, _| {
            let directory = volume.root()?.dir(&layout::object_dir(digest))?;
            let failed = |error: &io::Error| shared.flush_failed(volume, error);
            directory.sync_all().inspect_err(failed)
        });
        let flushed = flushed.map_err(io::Error::other).flatten();
        flushed.map_err(|error| unread(self.to, error.to_string()))
    }

    fn remove(&self) -> Result<(), RelocateError> {
        let (own, to, number) = (Arc::clone(self.shared), Arc::clone(self.to), self.number);
        let doomed = [(self.digest, self.length)];
        let patience = self.from.flush_patience();
        let removed = call(self.from, move |volume, pulse| {
            // The last look, on the thread that unlinks: the other must be there, and in service.
            pulse.beat(patience);
            let is_other = to.number != volume.number && own.index.places(number).has(to.number);
            // One that turned read-only has had an error: it is no survivor to rely on.
            if !is_other || !to.state().is_writable() {
                return Err(io::Error::other(
                    "the other copy's disk takes no writes any more",
                ));
            }
            delete::unlink_batch(&own, volume, pulse, &doomed, &AtomicU64::new(0))
        });
        let problem = match removed {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => {
                self.shared.note_write_error(self.from, &error);
                error.to_string()
            }
            Err(error) => error.to_string(),
        };
        let disk = self.from.name();
        Err(RelocateError::NotRemoved { disk, problem })
    }

    fn pieces(&self) -> impl Iterator<Item = u64> + use<> {
        let step = usize::try_from(PIECE_BYTES).unwrap_or(usize::MAX);
        (0..self.length).step_by(step)
    }

    /// Waits until the next piece may be read.
    fn turn(&self, at: u64) -> Result<(), RelocateError> {
        let bytes = (self.length - at).min(PIECE_BYTES);
        match (self.go_on)(bytes) {
            true => Ok(()),
            false => Err(RelocateError::Stopped),
        }
    }
}

impl<'a> Source<'a> {
    fn open(relocation: &Relocation<'a>, volume: &'a Arc<Volume>) -> Result<Self, RelocateError> {
        let (digest, length) = (relocation.digest, relocation.length);
        // Before it is opened: a mount that changes in between is one too many.
        let home = volume.home();
        let opened = call(volume, move |volume, pulse| {
            let mut buffer = Buffer::new();
            let mut beat = |_| {
                pulse.beat(volume.flush_patience());
                true
            };
            let root = volume.root().map_err(AuditFault::Read)?;
            let reading = Reading::open(&root, digest, length, &mut buffer, &mut beat)?;
            Ok((reading, buffer))
        });
        let shared = relocation.shared;
        let (reading, buffer) = match opened {
            Ok(Ok(opened)) => opened,
            // Of another mount it says nothing, and of what is there as little.
            Ok(Err(_)) if !volume.is_at(home.as_ref()) => {
                return Err(unread(volume, "it was mounted anew".to_owned()));
            }
            Ok(Err(fault)) => return Err(found(shared, volume, digest, fault)),
            Err(error) => return Err(unread(volume, error.to_string())),
        };
        Ok(Self {
            shared,
            volume,
            home,
            digest,
            tree: Arc::clone(reading.tree()),
            at_hand: Some((reading, buffer)),
        })
    }

    /// The chunks of the piece that begins at `at`, verified; none if they are not `wanted`.
    fn piece(&mut self, at: u64, wanted: bool) -> Result<Vec<Bytes>, RelocateError> {
        let Some((mut reading, mut buffer)) = self.at_hand.take() else {
            return Err(unread(self.volume, CallError::NoAnswer.to_string()));
        };
        let read = call(self.volume, move |_, _| {
            let piece = reading.piece(&mut buffer, at);
            let chunks = piece.map(|piece| match wanted {
                true => piece.chunks(BLOCK_BYTES).map(block).collect(),
                false => Vec::new(),
            });
            (reading, buffer, chunks)
        });
        let (reading, buffer, chunks) =
            read.map_err(|error| unread(self.volume, error.to_string()))?;
        self.at_hand = Some((reading, buffer));
        // Of another mount it says nothing, and of what is there as little.
        if chunks.is_err() && !self.volume.is_at(self.home.as_ref()) {
            return Err(unread(self.volume, "it was mounted anew".to_owned()));
        }
        chunks.map_err(|fault| found(self.shared, self.volume, self.digest, fault))
    }
}

impl<'a> Copy<'a> {
    /// Makes the staging file with its room reserved.
    fn make(relocation: Relocation<'a>) -> Result<Self, PublishError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("m{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let Relocation { shared, to, .. } = relocation;
        let (own, length, probe) = (name.clone(), relocation.length, shared.probe.clone());
        let made = call(to, move |volume, _| {
            volume.decide_writes()?;
            let staging = volume.root()?.dir(layout::STAGING)?;
            root::remove(&staging, &own)?;
            let file = root::create_in(&staging, &own)?;
            let room = root::reserve(&file, length).and_then(|()| file.set_len(length));
            if let Err(error) = room {
                root::remove(&staging, &own)?;
                return Err(error);
            }
            probe.reached(Step::Staged);
            let target = volume.writes.target(&staging, &own, file)?;
            Ok((target, volume.home()))
        });
        if !matches!(made, Ok(Ok(_))) {
            // It may be there all the same, or come to be there.
            to.discard(name.clone());
        }
        let (target, home) = writer::settle(shared, to, made)?;
        Ok(Self {
            relocation,
            home,
            name,
            target: Arc::new(target),
            under_way: VecDeque::new(),
            unflushed: 0,
            owner: Owner::default(),
        })
    }

    /// Begins to write a chunk.
    fn put(&mut self, offset: u64, bytes: Bytes) -> Result<(), PublishError> {
        while self.under_way.len() >= WRITES_MAX {
            self.land()?;
        }
        let to = self.relocation.to;
        self.unflushed += bytes.len() as u64;
        let (reply, landed) = sync_channel(1);
        let target = Arc::clone(&self.target);
        let home = self.home.clone();
        let queued = to.write(to.flush_patience(), move |volume, pulse| {
            let done = move |outcome| {
                // Nobody waits any more when the move was stopped.
                let _ = reply.send(outcome);
            };
            if !volume.is_at(home.as_ref()) {
                return done(Err(writer::given_up()));
            }
            let (put, patience) = (Put::new(bytes, offset, done), volume.flush_patience());
            volume.writes.put(&target, [put], &|| pulse.beat(patience));
        });
        match queued {
            Ok(_) => self.under_way.push_back(landed),
            Err(error) => writer::settle(self.relocation.shared, to, Err(error))?,
        }
        if self.unflushed >= FLUSH_EVERY_BYTES {
            self.unflushed = 0;
            self.flush()?;
        }
        Ok(())
    }

    /// Waits for the oldest write. What a disk could not write is as what it could not flush.
    fn land(&mut self) -> Result<(), PublishError> {
        let Some(landed) = self.under_way.pop_front() else {
            return Ok(());
        };
        let Relocation { shared, to, .. } = self.relocation;
        let outcome = to.wait(&landed);
        if let Ok(Err(error)) = &outcome
            && root::is_medium_error(error)
        {
            shared.flush_failed(to, error);
        }
        writer::settle(shared, to, outcome)
    }

    /// So that no single flush, the last one included, covers more than a disk's patience.
    fn flush(&mut self) -> Result<(), PublishError> {
        while !self.under_way.is_empty() {
            self.land()?;
        }
        let Relocation { shared, to, .. } = self.relocation;
        let (own, target, name) = (
            Arc::clone(shared),
            Arc::clone(&self.target),
            self.name.clone(),
        );
        let flushed = call(to, move |volume, _| {
            target.file.sync_data().inspect_err(|error| {
                own.flush_failed(volume, error);
                suspects::keep_evidence(volume, &name, error);
            })
        });
        writer::settle(shared, to, flushed)
    }

    /// In the order of `writer`, as long as the source has it: what was deleted meanwhile does not
    /// come back.
    fn publish(mut self, tree: &Arc<ChunkTree>) -> Result<(), PublishError> {
        while !self.under_way.is_empty() {
            self.land()?;
        }
        let Relocation { shared, to, .. } = self.relocation;
        let (own, target, tree) = (
            Arc::clone(shared),
            Arc::clone(&self.target),
            Arc::clone(tree),
        );
        let (name, owner, home) = (self.name.clone(), self.owner.clone(), self.home.clone());
        let (number, from) = (self.relocation.number, self.relocation.from.number);
        let published = call(to, move |volume, pulse| {
            let is_wanted = own.index.places(number).has(from);
            // From there on the name in staging belongs to this thread.
            if !is_wanted || !volume.is_at(home.as_ref()) || !owner.take() {
                return Err(writer::given_up());
            }
            let beat = || pulse.beat(volume.flush_patience());
            volume.writes.drain(&beat);
            writer::publish(&own, volume, &target.file, &name, &tree, &beat)?;
            // A wish: without it the pages go a little later.
            let _ = page_cache::drop_cached(&target.file, 0, 0);
            // Here and not by whoever waits: a stop writes its snapshot on this thread.
            own.add(number, volume);
            Ok(())
        });
        writer::settle(shared, to, published)
    }
}

impl Drop for Copy<'_> {
    fn drop(&mut self) {
        if self.owner.take() {
            self.relocation.to.discard(std::mem::take(&mut self.name));
        }
    }
}

/// Memory from which a disk can write directly.
fn block(bytes: &[u8]) -> Bytes {
    let mut block = Block::take();
    block.extend_from_slice(bytes);
    Bytes::from_owner(block)
}

/// Runs `work` on the disk's thread that writes, and blocks for its answer.
fn call<T: Send + 'static>(
    volume: &Arc<Volume>,
    work: impl FnOnce(&Volume, &Pulse) -> T + Send + 'static,
) -> Result<T, CallError> {
    let answer = volume.write(volume.flush_patience(), work)?;
    volume.wait(&answer)
}

fn unread(volume: &Volume, problem: String) -> RelocateError {
    let disk = volume.name();
    RelocateError::Unread { disk, problem }
}

/// What a fault says of the object and of its disk: out of the catalogue first.
fn found(
    shared: &Arc<Shared>,
    volume: &Arc<Volume>,
    digest: Digest,
    fault: AuditFault,
) -> RelocateError {
    let disk = volume.name();
    match fault {
        AuditFault::Stopped => RelocateError::Stopped,
        AuditFault::Gone => {
            // Of a disk that went out of service nothing is known to be lost; and a deletion
            // forgets before it unlinks.
            if volume.state().is_readable() && shared.forget(digest, volume) {
                tracing::error!(disk, %digest, "disk {disk}: object {digest} is gone");
            }
            RelocateError::Gone
        }
        AuditFault::Damaged(problem) => {
            shared.quarantine(digest, volume, problem.clone());
            RelocateError::Damaged { disk, problem }
        }
        AuditFault::Read(error) => {
            if volume.state().is_readable() && root::is_medium_error(&error) {
                shared.quarantine(digest, volume, format!("it cannot be read: {error}"));
                shared.note_read_error(volume, digest, &error);
            }
            unread(volume, error.to_string())
        }
    }
}

#[cfg(test)]
#[path = "relocate_tests.rs"]
mod tests;
