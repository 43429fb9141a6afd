//! Deletion: an object that no listed key names is forgotten first and unlinked then.
//!
//! The order is the safety rule: unlisted keys leave the manifest, durably → the index knows the
//! object no more, so nobody opens it → the object is unlinked → its directory is fsynced → its
//! sidecar is unlinked. A kill in between leaves the whole object, which is surplus again, or a
//! lone sidecar, which the scan removes. Who has it open reads on. Unlisted keys of objects that no
//! disk has go with them, or a manifest would grow by all that was ever listed and never fetched.
//!
//! I/O: writes the manifest; unlinks on the disks' own threads; blocks.

use super::Handle;
use super::StoreError;
use super::copies;
use super::core::Shared;
use super::lane::Pulse;
use super::layout;
use super::manifest::Builder;
use super::manifest::Manifest;
use super::manifest::UNLISTED_RANK;
use super::root;
use super::state::State;
use super::step::Step;
use super::view;
use super::volume::Volume;
use crate::object::Digest;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// Unlinked in one call on a disk's thread: fills wait behind it, and each may need a directory
/// flushed.
const BATCH: usize = 64;

impl Handle {
    /// Removes objects that only unlisted keys name, or none, with those keys. A digest that a
    /// listed key names is skipped; so is everything before the store is ready, and on a box whose
    /// manifest no control plane signed. Returns the bytes freed, each copy counted. What a disk
    /// could not remove is surplus again after the next start. Blocks: for threads outside
    /// runtimes.
    pub fn delete(&self, digests: &[Digest]) -> Result<u64, StoreError> {
        let shared = self.shared();
        // Held to the end: a manifest adopted in between could list what is being unlinked.
        let lock = &shared.manifest_writer;
        let _one_writer = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let manifest = shared.manifest.load_full();
        let signed = manifest.filter(|m| m.is_signed() && *shared.settled.borrow());
        let Some(manifest) = signed else {
            return Ok(0);
        };
        let doomed = doomed(shared, &manifest, digests);
        forget_keys(shared, &manifest, &doomed)?;
        let freed = unlink(shared, &doomed);
        view::publish(shared);
        Ok(freed)
    }
}

/// The numbers of those that no listed key names.
fn doomed(shared: &Shared, manifest: &Manifest, digests: &[Digest]) -> BTreeSet<u32> {
    let index = &shared.index;
    let numbers = digests.iter().filter_map(|digest| index.find(*digest));
    let mut doomed: BTreeSet<u32> = numbers.collect();
    for (_, row) in manifest.rows() {
        if row.rank != UNLISTED_RANK {
            doomed.remove(&row.object);
        }
    }
    doomed
}

fn forget_keys(
    shared: &Arc<Shared>,
    old: &Manifest,
    doomed: &BTreeSet<u32>,
) -> Result<(), StoreError> {
    let names_one = |object: u32| doomed.contains(&object);
    if !old.rows().any(|(_, row)| names_one(row.object)) {
        return Ok(());
    }
    let names_nothing =
        |rank, object| rank == UNLISTED_RANK && shared.index.places(object).is_empty();
    let mut builder = Builder::default();
    for (key, row) in old.rows() {
        if names_one(row.object) || names_nothing(row.rank, row.object) {
            continue;
        }
        let Some(binding) = old.binding(row, &shared.index) else {
            continue;
        };
        let pushed = builder.push(key, binding);
        // The rows of a manifest make a manifest.
        pushed.map_err(|error| StoreError::State {
            path: shared.state_dir.path.join(layout::MANIFEST),
            problem: error.to_string(),
        })?;
    }
    let manifest = builder.build(old.position.bound(), &shared.index);
    copies::keep(shared, &manifest)?;
    shared.manifest.store(Some(Arc::new(manifest)));
    shared.changed();
    Ok(())
}

/// Every copy on a disk that can be written, a batch a disk at a time, the disks side by side.
fn unlink(shared: &Arc<Shared>, doomed: &BTreeSet<u32>) -> u64 {
    let mut left: BTreeMap<u16, Vec<(Digest, u64)>> = BTreeMap::new();
    for number in doomed {
        let Some(object) = shared.index.object(*number) else {
            continue;
        };
        for volume in shared.index.places(*number).iter() {
            left.entry(volume).or_default().push(object);
        }
    }
    left.retain(|number, _| {
        let volume = shared.volume(*number);
        volume.is_some_and(|volume| volume.state().is_writable())
    });
    let freed = Arc::new(AtomicU64::new(0));
    while !left.is_empty() {
        let mut answers = Vec::new();
        for (number, objects) in &mut left {
            let batch = objects.split_off(objects.len().saturating_sub(BATCH));
            if let Some(volume) = shared.volume(*number) {
                let (shared, freed) = (Arc::clone(shared), Arc::clone(&freed));
                let answer = volume.write(volume.flush_patience(), move |volume, pulse| {
                    unlink_batch(&shared, volume, pulse, &batch, &freed)
                });
                answers.push((volume, answer));
            }
        }
        left.retain(|_, objects| !objects.is_empty());
        for (volume, answer) in answers {
            let answer = answer.and_then(|answer| volume.wait(&answer));
            let problem = match answer {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => {
                    shared.note_write_error(volume, &error);
                    error.to_string()
                }
                Err(error) => error.to_string(),
            };
            let disk = volume.name();
            tracing::error!(disk, problem, "disk {disk}: objects not removed: {problem}");
            left.remove(&volume.number);
        }
    }
    freed.load(Ordering::Relaxed)
}

/// On the disk's thread. A move removes what it copied by it, too.
pub(super) fn unlink_batch(
    shared: &Shared,
    volume: &Volume,
    pulse: &Pulse,
    batch: &[(Digest, u64)],
    freed: &AtomicU64,
) -> io::Result<()> {
    // A flush that failed has lost somebody's data: nothing is changed any more.
    if volume.state() == State::Suspect {
        return Err(io::Error::other("the disk is suspect"));
    }
    let reached = |step| {
        shared.probe.reached(step);
        pulse.beat(volume.flush_patience());
    };
    let root = volume.root()?;
    let mut dirs = BTreeMap::new();
    for (digest, length) in batch {
        let path = layout::object_dir(*digest);
        let dir = root.dir(&path)?;
        if !shared.forget(*digest, volume) {
            continue;
        }
        root::remove(&dir, &digest.to_string())?;
        volume.census.settle(*digest);
        freed.fetch_add(*length, Ordering::Relaxed);
        dirs.insert(path, dir);
        reached(Step::ObjectUnlinked);
    }
    for dir in dirs.values() {
        let failed = |error: &io::Error| shared.flush_failed(volume, error);
        dir.sync_all().inspect_err(failed)?;
        reached(Step::UnlinkSynced);
    }
    for (digest, _) in batch {
        let Some(dir) = dirs.get(&layout::object_dir(*digest)) else {
            continue;
        };
        // Not flushed: one that comes back after a crash is alone, and the scan removes it.
        root::remove(dir, &layout::sidecar_name(*digest))?;
        reached(Step::SidecarUnlinked);
    }
    volume.note_space(root.space()?);
    Ok(())
}
