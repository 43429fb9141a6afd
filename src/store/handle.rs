//! What the other rooms call: find, open, report a failed read, publish, bind, adopt.
//!
//! I/O: waits for disk threads in `open`, `stage`, `bind` and `adopt`; the rest never waits.

use super::CatalogueRow;
use super::Fills;
use super::Finding;
use super::Handle;
use super::ObjectFile;
use super::OpenError;
use super::StoreError;
use super::View;
use super::adopt;
use super::adopt::AdoptError;
use super::adopt::Adopted;
use super::copies;
use super::core::Shared;
use super::index::Places;
use super::layout;
use super::manifest::Binding;
use super::manifest::Builder;
use super::manifest::Manifest;
use super::manifest::UNLISTED_RANK;
use super::mover;
use super::open;
use super::opener::untried;
use super::place;
use super::place::Candidate;
use super::root;
use super::root::Root;
use super::sidecar::OBJECT_BYTES_MAX;
use super::speed::Capacities;
use super::speed::Speed;
use super::state::State;
use super::view;
use super::volume::CallError;
use super::volume::Volume;
use super::writer;
use super::writer::Publication;
use super::writer::PublishError;
use crate::key::Key;
use crate::object::Digest;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use tokio::sync::watch;

/// Why new bindings were not taken. The manifest is as it was.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("key `{key}` is bound to another object for ever; a re-encode gets a new path")]
    Bound { key: String },
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Ends the store with its last handle.
#[derive(Debug)]
pub(super) struct Guard(pub(super) Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        open::stop(&self.0);
    }
}

impl Handle {
    /// Does somebody vouch for the calendar? Until then nothing expires by its date.
    pub fn clock_is_sane(&self, sane: bool) {
        self.shared().clock_is_sane.store(sane, Ordering::Release);
    }

    /// What `key` names, and whether a readable disk holds it. No I/O, no lock, no allocation.
    pub fn find(&self, key: &str) -> Finding {
        let shared = self.shared();
        // Asked first: once it is true, the manifest read after it is the one that was loaded.
        let is_loaded = shared.manifest_loaded.load(Ordering::Acquire);
        let manifest = shared.manifest.load();
        match manifest.as_ref().map(|manifest| manifest.find(key)) {
            Some(Some(row)) => row.finding(&shared.index),
            None if !is_loaded => Finding::Unavailable,
            Some(None) | None => Finding::Unknown,
        }
    }

    /// Opens an object for reading, on its disk's own thread and within the deadline.
    pub async fn open(&self, digest: Digest) -> Result<Arc<ObjectFile>, OpenError> {
        let shared = self.shared();
        let number = shared.index.find(digest).ok_or(OpenError::NotHeld)?;
        let mut refusal = OpenError::NotHeld;
        let mut tried = Places::default();
        // Asked anew after each: an object may be moved from one to another meanwhile.
        while let Some(volume) = untried(shared, number, tried) {
            tried.insert(volume.number);
            // Asked anew too: a sidecar may have been read meanwhile.
            let (_, length) = shared.index.object(number).ok_or(OpenError::NotHeld)?;
            if shared.is_stopping() || !volume.state().is_readable() {
                refusal = volume.unavailable(None);
                continue;
            }
            match volume
                .read(move |v| open_object(&*v.root()?, digest, length))
                .await
            {
                Ok(Ok(file)) => {
                    let volume = volume.number;
                    return Ok(Arc::new(ObjectFile {
                        file,
                        length,
                        digest,
                        volume,
                    }));
                }
                Ok(Err(error)) if shared.index.object(number) != Some((digest, length)) => {
                    refusal = volume.unavailable(Some(error.to_string()));
                }
                Ok(Err(error)) => refusal = self.open_failed(volume, digest, &error),
                Err(error @ (CallError::Busy | CallError::NoAnswer)) => {
                    refusal = volume.unavailable(Some(error.to_string()));
                }
            }
        }
        Err(refusal)
    }

    /// A read of an open object failed: the disk's health and the object's fate are the store's.
    pub fn read_failed(&self, object: &ObjectFile, error: &io::Error) {
        let shared = self.shared();
        let Some(volume) = shared.volume(object.volume) else {
            return;
        };
        if is_of_another_mount(volume, object) {
            // It says nothing of the disk that is there: the next request opens it there.
        } else if error.kind() == io::ErrorKind::UnexpectedEof {
            let reason = "it ends before its length".to_owned();
            shared.quarantine(object.digest, volume, reason);
        } else {
            self.open_failed(volume, object.digest, error);
        }
    }

    /// Where absent pages of objects on a volume are brought from.
    pub fn fills(&self, volume: u16) -> Option<&Fills> {
        self.shared().volume(volume).map(|volume| &volume.fills)
    }

    /// Bytes of memory that the index takes; what keys are bound to is the manifest's.
    pub fn index_bytes(&self) -> usize {
        self.shared().index.bytes()
    }

    pub fn view(&self) -> Arc<View> {
        self.shared().view.borrow().clone()
    }

    /// Told of each new view.
    pub fn subscribe(&self) -> watch::Receiver<Arc<View>> {
        self.shared().view.subscribe()
    }

    /// Rows in key order: those whose key starts with `prefix` and is greater than `after`.
    pub fn catalogue(&self, prefix: &str, after: Option<&str>, most: usize) -> Vec<CatalogueRow> {
        view::catalogue(self.shared(), prefix, after, most)
    }

    /// Every scan has ended and the manifest is loaded.
    pub async fn ready(&self) {
        let mut settled = self.shared().settled.subscribe();
        // The sender lives as long as this handle.
        let _ = settled.wait_for(|settled| *settled).await;
    }

    pub fn is_ready(&self) -> bool {
        *self.shared().settled.borrow()
    }

    /// Stops the disk threads and releases the locks.
    pub fn stop(&self) {
        open::stop(self.shared());
    }

    /// Begins to publish an object of `length` bytes on the best disk. `name` (a key or a digest)
    /// spreads objects over disks of one speed; a signed manifest that lists it as a key says which
    /// speed. `without` are disks that have just refused it.
    pub fn stage(
        &self,
        name: &[u8],
        length: u64,
        without: &BTreeSet<u16>,
    ) -> Result<Publication, PublishError> {
        let shared = self.shared();
        if length > OBJECT_BYTES_MAX {
            let most = OBJECT_BYTES_MAX;
            return Err(PublishError::TooLarge { length, most });
        }
        let key = std::str::from_utf8(name).ok();
        let manifest = shared.manifest.load();
        let listed = key.and_then(|key| manifest.as_ref()?.find(key));
        let rank = listed.map_or(UNLISTED_RANK, |row| row.rank);
        let chosen = choose(shared, name, length, rank, without);
        let volume = chosen.inspect_err(|error| mover::note_refusal(shared, without, error))?;
        writer::stage(shared, volume, length)
    }

    /// Does a disk in service hold this object?
    pub fn holds(&self, digest: Digest) -> bool {
        let index = &self.shared().index;
        index
            .find(digest)
            .is_some_and(|number| index.is_readable(number))
    }

    /// What a key is bound to, held or not.
    pub fn binding(&self, key: &str) -> Option<Binding> {
        let shared = self.shared();
        let manifest = shared.manifest.load();
        let manifest = manifest.as_ref()?;
        manifest.binding(manifest.find(key)?, &shared.index)
    }

    /// Lengths of held objects that no key names: what an interrupted prefill left behind.
    pub fn unbound_lengths(&self) -> BTreeSet<u64> {
        let shared = self.shared();
        let manifest = shared.manifest.load();
        let mut bound = vec![false; shared.index.len() as usize];
        for (_, row) in manifest.iter().flat_map(|manifest| manifest.rows()) {
            if let Some(bound) = bound.get_mut(row.object as usize) {
                *bound = true;
            }
        }
        (0..shared.index.len())
            .zip(bound)
            .filter(|(number, bound)| !bound && shared.index.is_readable(*number))
            .filter_map(|(number, _)| shared.index.object(number).map(|(_, length)| length))
            .collect()
    }

    /// Adds keys to the manifest and makes it durable. Without a control plane the generation
    /// grows if a key is new; one that a control plane signed stays, for only it may raise it.
    /// Returns the generation in force. Blocks: for threads outside runtimes.
    pub fn bind(&self, rows: &BTreeMap<Key, Binding>) -> Result<u64, BindError> {
        let shared = self.shared();
        let lock = &shared.manifest_writer;
        let _one_writer = lock.lock().unwrap_or_else(PoisonError::into_inner);
        if !rows.is_empty() && !shared.manifest_loaded.load(Ordering::Acquire) {
            // Binding without the old keys would lose them.
            let problem = "the manifest is being loaded; try again when the store is ready";
            return Err(BindError::Refused(problem.into()));
        }
        let old = shared.manifest.load_full();
        let (merged, fresh) = merge(old.as_deref(), shared, rows)?;
        let position = old.as_ref().map(|m| m.position).unwrap_or_default();
        if fresh == 0 {
            return Ok(position.generation);
        }
        let manifest = merged.build(position.bound(), &shared.index);
        copies::keep(shared, &manifest)?;
        let generation = manifest.position.generation;
        shared.manifest.store(Some(Arc::new(manifest)));
        shared.changed();
        view::publish(shared);
        Ok(generation)
    }

    /// Makes a manifest that the control plane signed the one in effect: durable first. `rows` in
    /// any order. Deletes nothing. Blocks: for threads outside runtimes.
    pub fn adopt(
        &self,
        epoch: u64,
        generation: u64,
        rows: Vec<(Key, Binding)>,
    ) -> Result<Adopted, AdoptError> {
        adopt::adopt(self.shared(), epoch, generation, rows)
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.inner.0
    }

    fn open_failed(&self, volume: &Arc<Volume>, digest: Digest, error: &io::Error) -> OpenError {
        let shared = self.shared();
        let disk = volume.name();
        if error.kind() == io::ErrorKind::InvalidData {
            shared.quarantine(digest, volume, error.to_string());
        } else if error.kind() == io::ErrorKind::NotFound || root::is_medium_error(error) {
            // Of a disk that went out of service nothing is known to be lost.
            let is_lost = volume.state().is_readable() && shared.forget(digest, volume);
            if is_lost {
                tracing::error!(disk, %digest, "disk {disk}: object {digest} lost: {error}");
            }
            shared.note_read_error(volume, digest, error);
            // The disk went out of service in between: it was the disk and not the object.
            if is_lost && root::is_medium_error(error) && volume.state() == State::Suspect {
                shared.give_back(volume, std::iter::once(digest));
            }
        } else if let Some(left_out) = volume.may_log() {
            // Not the disk's fault: too many open files, for example.
            tracing::warn!(
                disk,
                %digest,
                %error,
                left_out,
                "disk {disk}: cannot read {digest}: {error} ({left_out} more since the last line)"
            );
        }
        volume.unavailable(Some(error.to_string()))
    }
}

/// Was the object opened before its disk was mounted anew? Memory only.
fn is_of_another_mount(volume: &Volume, object: &ObjectFile) -> bool {
    let (Ok(opened), Ok(root)) = (object.file.metadata(), volume.root()) else {
        return false;
    };
    root.device().is_ok_and(|device| device != opened.dev())
}

/// The best disk for an object. `rank`: the best of its keys, by the manifest in effect.
pub(super) fn choose<'a>(
    shared: &'a Shared,
    name: &[u8],
    length: u64,
    rank: u32,
    without: &BTreeSet<u16>,
) -> Result<&'a Arc<Volume>, PublishError> {
    let volumes = shared.volumes.iter();
    let candidates: Vec<Candidate> = volumes
        .filter(|v| v.takes_objects() && !without.contains(&v.number))
        .filter_map(|v| candidate(v))
        .collect();
    if candidates.is_empty() && without.is_empty() {
        return Err(PublishError::NoVolume);
    }
    let chosen = place::choose(name, length, deserved(shared, rank), &candidates);
    let chosen = chosen.map_err(|no| PublishError::NoRoom {
        missing: no.missing,
    })?;
    shared.volume(chosen).ok_or(PublishError::NoVolume)
}

/// The speed that a rank deserves. Without a signed manifest the fastest: what is prefilled comes
/// in the order of its ranks.
pub(super) fn deserved(shared: &Shared, rank: u32) -> Speed {
    let manifest = shared.manifest.load();
    let Some(manifest) = manifest.as_ref().filter(|manifest| manifest.is_signed()) else {
        return Speed::FASTEST;
    };
    let mut capacities = Capacities::default();
    for volume in &shared.volumes {
        let (speed, state) = (Speed::of(&volume.config), volume.state());
        // What a retiring disk has is to have room on the others.
        if volume.takes_objects() {
            capacities.add_writable(speed, volume.tally.size.load(Ordering::Relaxed));
        } else if state.is_readable() && !volume.retire.is_on() {
            capacities.add_read_only(speed, volume.tally.bytes.load(Ordering::Relaxed));
        }
    }
    manifest.demand.speed(rank, &capacities)
}

/// Old and new rows in key order, and how many are new.
fn merge(
    old: Option<&Manifest>,
    shared: &Shared,
    rows: &BTreeMap<Key, Binding>,
) -> Result<(Builder, usize), BindError> {
    let mut merged = Builder::default();
    let mut fresh = 0;
    let mut push = |key: &str, binding: Binding| {
        let pushed = merged.push(key, binding);
        pushed.map_err(|error| BindError::Refused(error.to_string()))
    };
    let mut new = rows.iter().peekable();
    let old = old.into_iter().flat_map(|manifest| {
        let rows = manifest.rows();
        rows.filter_map(|(key, row)| Some((key, manifest.binding(row, &shared.index)?)))
    });
    for (key, bound) in old {
        while let Some((before, binding)) = new.next_if(|(new, _)| new.as_str() < key) {
            fresh += 1;
            push(before.as_str(), binding.clone())?;
        }
        let again = new.next_if(|(new, _)| new.as_str() == key);
        match again.map(|(_, again)| again) {
            Some(again) if again.digest != bound.digest => {
                let key = key.to_owned();
                return Err(BindError::Bound { key });
            }
            // The bytes were read again and hash to the digest: the old length was wrong.
            Some(again) if again.length != bound.length => {
                fresh += 1;
                push(key, again.clone())?;
            }
            Some(_) | None => push(key, bound)?,
        }
    }
    for (key, binding) in new {
        fresh += 1;
        push(key.as_str(), binding.clone())?;
    }
    Ok((merged, fresh))
}

pub(super) fn candidate(volume: &Volume) -> Option<Candidate> {
    Some(Candidate {
        volume: volume.number,
        uuid: volume.home()?.uuid.clone(),
        speed: Speed::of(&volume.config),
        free: volume.tally.free.load(Ordering::Relaxed),
        size: volume.tally.size.load(Ordering::Relaxed),
    })
}

/// Opens a file that must be exactly the object; anything else is `InvalidData`.
fn open_object(root: &Root, digest: Digest, length: u64) -> io::Result<File> {
    let file = root.content(&layout::object_path(digest))?;
    let found = file.metadata()?;
    if found.is_file() && found.len() == length {
        return Ok(file);
    }
    let problem = format!("it is {} bytes long and should be {length}", found.len());
    Err(io::Error::new(io::ErrorKind::InvalidData, problem))
}
