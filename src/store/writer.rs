//! Publishing: an object becomes visible only when it is whole, verified and durable.
//!
//! `prefill` (and fills) ask [`super::Handle::stage`] for a [`Publication`], feed it bytes in
//! order, and [`Publication::commit`] it. The order is the safety rule: data → fdatasync → sidecar
//! written, fsynced, renamed → object renamed (the commit point) → directories fsynced → index.
//! A failed fsync is final: the kernel may have dropped the pages, so a second one that succeeds
//! proves nothing; the file goes to quarantine and the disk is suspect.
//!
//! I/O: hashes on the caller's thread while the disk's thread writes; waits for the latter.

use super::core::Shared;
use super::layout;
use super::lengths;
use super::root;
use super::root::Root;
use super::sidecar;
use super::state::State;
use super::step::Step;
use super::suspects;
use super::volume::CallError;
use super::volume::Home;
use super::volume::Volume;
use crate::object::ChunkTree;
use crate::object::Digest;
use crate::object::TreeBuilder;
use std::fs::File;
use std::io;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

/// Data is flushed as it comes, so that no single flush covers more than this: the last one, which
/// the publication waits for, stays within the disk's patience.
pub(super) const FLUSH_EVERY_BYTES: u64 = 64 << 20;

/// An object being written. Dropped before its commit, it leaves nothing.
#[derive(Debug)]
pub struct Publication {
    shared: Arc<Shared>,
    volume: Arc<Volume>,
    /// Of the mount on which it was begun.
    home: Option<Arc<Home>>,
    name: String,
    file: Arc<File>,
    tree: TreeBuilder,
    in_flight: Option<Receiver<io::Result<()>>>,
    unflushed: u64,
    owner: Owner,
}

/// Who removes the staging file: whoever of publisher and disk's thread takes it first.
#[derive(Clone, Debug, Default)]
pub(super) struct Owner(Arc<AtomicBool>);

impl Owner {
    pub(super) fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// The publisher had its error before the disk's thread came to the work, or the disk was given
/// back in between.
pub(super) fn given_up() -> io::Error {
    io::Error::other("its publisher has given up")
}

/// A committed object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    pub digest: Digest,
    pub length: u64,
    /// It was held already: nothing was written.
    pub already_held: bool,
}

/// Why an object was not published. Nothing of it is visible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    #[error("no disk has room: {missing} bytes are missing; add a disk or publish less")]
    NoRoom { missing: u64 },
    #[error("no disk can be written; `oca show disks` tells why")]
    NoVolume,
    #[error("disk {disk} is full; free space on it or add a disk")]
    Full { disk: String, volume: u16 },
    #[error("disk {disk}: {problem}; the object was not published")]
    Disk {
        disk: String,
        volume: u16,
        problem: String,
    },
    #[error("the bytes hash to {found} and not to {expected}")]
    Digest { expected: Digest, found: Digest },
    #[error("an object of {length} bytes is larger than the {most} an object may have")]
    TooLarge { length: u64, most: u64 },
    #[error("the index refused the object: {0}")]
    Index(String),
    #[error(
        "a disk holds a file of {0} that is not as long; it is looked at and put aside if it is \
         wrong; try again"
    )]
    Disputed(Digest),
    #[error("another transfer is receiving {0}; try again when it has ended")]
    Receiving(Digest),
    #[error("chunk {chunk} of {digest} cannot have {found} bytes")]
    Chunk {
        digest: Digest,
        chunk: u64,
        found: u64,
    },
    #[error("{missing} bytes of {digest} are missing; receive them first")]
    Incomplete { digest: Digest, missing: u64 },
}

impl PublishError {
    /// The disk to leave out when trying again.
    pub fn volume(&self) -> Option<u16> {
        match self {
            Self::Full { volume, .. } | Self::Disk { volume, .. } => Some(*volume),
            Self::NoRoom { .. }
            | Self::NoVolume
            | Self::Digest { .. }
            | Self::TooLarge { .. }
            | Self::Index(_)
            | Self::Disputed(_)
            | Self::Receiving(_)
            | Self::Chunk { .. }
            | Self::Incomplete { .. } => None,
        }
    }

    /// Nothing is wrong with the object or the disks: the same may be tried again soon.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Receiving(_) | Self::Disputed(_))
    }
}

/// Creates the staging file with its room reserved.
pub(super) fn stage(
    shared: &Arc<Shared>,
    volume: &Arc<Volume>,
    length: u64,
) -> Result<Publication, PublishError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = format!("p{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let (own, probe) = (name.clone(), shared.probe.clone());
    let made = Owner::default();
    let maker = made.clone();
    let answer = volume
        .write(volume.deadline(), move |volume, _| {
            if !maker.take() {
                return Err(given_up());
            }
            let staging = volume.root()?.dir(layout::STAGING)?;
            root::remove(&staging, &own)?;
            let file = root::create_in(&staging, &own)?;
            if let Err(error) = root::reserve(&file, length) {
                root::remove(&staging, &own)?;
                return Err(error);
            }
            probe.reached(Step::Staged);
            Ok((file, volume.home()))
        })
        .and_then(|answer| volume.wait(&answer));
    if answer.is_err() && !made.take() {
        // It is being made, and nobody waits for it.
        volume.discard(name.clone());
    }
    let (file, home) = settle(shared, volume, answer)?;
    Ok(Publication {
        shared: Arc::clone(shared),
        volume: Arc::clone(volume),
        home,
        name,
        file: Arc::new(file),
        tree: TreeBuilder::new(),
        in_flight: None,
        unflushed: 0,
        owner: Owner::default(),
    })
}

impl Publication {
    /// Adds the next bytes: they are written while they are hashed.
    pub fn write(&mut self, bytes: Vec<u8>) -> Result<(), PublishError> {
        self.land()?;
        let offset = self.tree.length();
        self.unflushed += bytes.len() as u64;
        let flush = self.unflushed >= FLUSH_EVERY_BYTES;
        if flush {
            self.unflushed = 0;
        }
        let bytes = Arc::new(bytes);
        let (file, piece) = (Arc::clone(&self.file), Arc::clone(&bytes));
        let (name, home) = (self.name.clone(), self.home.clone());
        let (shared, patience) = (Arc::clone(&self.shared), self.volume.flush_patience());
        let answer = self.volume.write(patience, move |volume, _| {
            if !volume.is_at(home.as_ref()) {
                return Err(given_up());
            }
            // Loops over short writes; one of zero bytes is an error.
            file.write_all_at(&piece, offset)?;
            if flush {
                file.sync_data().inspect_err(|error| {
                    shared.flush_failed(volume, error);
                    suspects::keep_evidence(volume, &name, error);
                })?;
            }
            Ok(())
        });
        match answer {
            Ok(answer) => self.in_flight = Some(answer),
            Err(error) => settle(&self.shared, &self.volume, Err(error))?,
        }
        self.tree.update(&bytes);
        Ok(())
    }

    /// Bytes taken so far.
    pub fn length(&self) -> u64 {
        self.tree.length()
    }

    /// Publishes what was written, if it hashes to `expected` (when one is given). An object that
    /// is held already is not written again.
    pub fn commit(mut self, expected: Option<Digest>) -> Result<Published, PublishError> {
        self.land()?;
        self.shared.probe.reached(Step::DataWritten);
        let tree = std::mem::take(&mut self.tree).finish();
        let (digest, length) = (tree.digest(), tree.length());
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            return Err(PublishError::Digest {
                expected,
                found: digest,
            });
        }
        let number = lengths::number_to_publish(&self.shared, digest, length)?;
        if self.shared.index.is_readable(number) {
            let already_held = true;
            return Ok(Published {
                digest,
                length,
                already_held,
            });
        }
        let (shared, file) = (Arc::clone(&self.shared), Arc::clone(&self.file));
        let (name, owner, home) = (self.name.clone(), self.owner.clone(), self.home.clone());
        let answer = self
            .volume
            .write(self.volume.flush_patience(), move |volume, pulse| {
                // From here on the name in staging belongs to this thread.
                if !owner.take() || !volume.is_at(home.as_ref()) {
                    return Err(given_up());
                }
                let patience = volume.flush_patience();
                publish(&shared, volume, &file, &name, &tree, &|| {
                    pulse.beat(patience)
                })
            })
            .and_then(|answer| self.volume.wait(&answer));
        settle(&self.shared, &self.volume, answer)?;
        self.shared.add(number, &self.volume);
        let already_held = false;
        Ok(Published {
            digest,
            length,
            already_held,
        })
    }

    /// Waits for the write in flight.
    fn land(&mut self) -> Result<(), PublishError> {
        match self.in_flight.take() {
            None => Ok(()),
            Some(answer) => settle(&self.shared, &self.volume, self.volume.wait(&answer)),
        }
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        if self.owner.take() {
            self.volume.discard(std::mem::take(&mut self.name));
        }
    }
}

/// The publish order. On the disk's thread; `beat` before each call that may take its time.
pub(super) fn publish(
    shared: &Shared,
    volume: &Volume,
    file: &File,
    name: &str,
    tree: &ChunkTree,
    beat: &dyn Fn(),
) -> io::Result<()> {
    let root = volume.root()?;
    let staging = root.dir(layout::STAGING)?;
    let outcome = publish_steps(shared, volume, &root, &staging, file, name, tree, beat);
    if outcome.is_err() {
        // A file whose flush failed has been moved away already; removing it again is harmless.
        let sidecar = layout::staged_sidecar(name);
        let _ = root::remove(&staging, name).and(root::remove(&staging, &sidecar));
    }
    if let Ok(space) = root.space() {
        volume.note_space(space);
    }
    outcome
}

/// From the flush of the data to that of the directories. On the disk's thread.
#[allow(clippy::too_many_arguments)]
pub(super) fn publish_steps(
    shared: &Shared,
    volume: &Volume,
    root: &Root,
    staging: &File,
    file: &File,
    name: &str,
    tree: &ChunkTree,
    beat: &dyn Fn(),
) -> io::Result<()> {
    let reached = |step| {
        shared.probe.reached(step);
        beat();
    };
    let failed = |error: &io::Error| {
        shared.flush_failed(volume, error);
        suspects::keep_evidence(volume, name, error);
    };
    // A flush that failed for one file may have lost another's data, and is never tried again; and
    // what began before the disk was given back ends with that.
    let state = volume.state();
    if matches!(state, State::Suspect | State::Scanning) {
        let state = state.as_str();
        return Err(io::Error::other(format!("the disk is {state}")));
    }
    let digest = tree.digest();
    let sync = |dir: &File| dir.sync_all().inspect_err(failed);
    let directory = volume.fan_out.open(root, digest, &sync)?;
    reached(Step::DirectoryMade);
    file.sync_data().inspect_err(failed)?;
    reached(Step::DataSynced);
    let sidecar = layout::staged_sidecar(name);
    root::remove(staging, &sidecar)?;
    let mut meta = root::create_in(staging, &sidecar)?;
    meta.write_all(&sidecar::encode(tree))?;
    reached(Step::SidecarWritten);
    meta.sync_all().inspect_err(failed)?;
    reached(Step::SidecarSynced);
    root::rename(staging, &sidecar, &directory, &layout::sidecar_name(digest))?;
    reached(Step::SidecarRenamed);
    // Until the index has it.
    volume.census.note(digest);
    root::rename(staging, name, &directory, &digest.to_string())?;
    reached(Step::ObjectRenamed);
    // The sidecar lies in the same directory: one fsync makes both names durable.
    let failed = |error: &io::Error| shared.flush_failed(volume, error);
    directory.sync_all().inspect_err(failed)?;
    reached(Step::ObjectDirectorySynced);
    // What lay there before, damaged, is replaced.
    volume.damaged.settled(&shared.state_dir, digest);
    staging.sync_all().inspect_err(failed)?;
    reached(Step::StagingSynced);
    Ok(())
}

/// Turns the answer of a disk's thread into what the publisher is told.
pub(super) fn settle<T>(
    shared: &Shared,
    volume: &Volume,
    answer: Result<io::Result<T>, CallError>,
) -> Result<T, PublishError> {
    let problem = match answer {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) if root::is_full(&error) => {
            let (disk, volume) = (volume.name(), volume.number);
            return Err(PublishError::Full { disk, volume });
        }
        Ok(Err(error)) => {
            shared.note_write_error(volume, &error);
            error.to_string()
        }
        Err(error) => error.to_string(),
    };
    let (disk, volume) = (volume.name(), volume.number);
    Err(PublishError::Disk {
        disk,
        volume,
        problem,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests_support::store_of_one;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn suspects(dir: &Path) -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(dir.join("state")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.to_string_lossy().contains("suspect-"))
            .collect()
    }

    /// `/dev/null` takes every write and refuses every flush.
    #[test]
    fn a_failed_flush_keeps_evidence_and_outlives_a_restart_until_its_record_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        for (round, in_the_middle) in [true, false].into_iter().enumerate() {
            let store = store_of_one(dir.path());
            assert_eq!(store.view().disks[0].state, "online");
            let mut publication = store.stage(b"x", 1, &BTreeSet::new()).unwrap();
            let null = File::options().write(true).open("/dev/null").unwrap();
            publication.file = Arc::new(null);
            if in_the_middle {
                publication.unflushed = FLUSH_EVERY_BYTES;
            }
            publication.write(b"1".to_vec()).unwrap();
            publication.commit(None).unwrap_err();
            assert_eq!(store.shared().volumes[0].state(), State::Suspect);
            drop(store);
            for n in 0..=round {
                let kept = dir.path().join(format!("disk/quarantine/flush-{n}"));
                assert!(kept.is_file(), "{n}");
                assert!(kept.with_extension("reason").is_file(), "{n}");
            }

            let store = store_of_one(dir.path());
            let view = store.view().disks[0].clone();
            assert_eq!(view.state, "suspect");
            let records = suspects(dir.path());
            let [record] = &records[..] else {
                panic!("{records:?}")
            };
            let reason = view.reason.unwrap();
            assert!(reason.contains(record.to_str().unwrap()), "{reason}");
            let refused = store.stage(b"x", 1, &BTreeSet::new()).unwrap_err();
            assert_eq!(refused, PublishError::NoVolume);
            drop(store);
            std::fs::remove_file(record).unwrap();
        }
        assert_eq!(store_of_one(dir.path()).view().disks[0].state, "online");
    }
}
