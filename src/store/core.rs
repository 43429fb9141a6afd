//! What the store's threads and handles share, and the small verbs they all need.
//!
//! Owned by every [`super::Handle`] and by the store's threads; built by `start`.

use super::Upkeep;
use super::View;
use super::absent::Absent;
use super::copies::StateDir;
use super::index::Index;
use super::journal::Journal;
use super::lane::Ticks;
use super::lengths::Disputes;
use super::manifest::Manifest;
use super::mover::Mover;
use super::quarantine;
use super::root;
use super::speed::Speed;
use super::staging::Registry;
use super::state::Event;
use super::step::Probe;
use super::suspects;
use super::volume::Volume;
use crate::object::Digest;
use arc_swap::ArcSwapOption;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::Duration;
use tokio::sync::watch;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) index: Index,
    pub(super) volumes: Vec<Arc<Volume>>,
    pub(super) manifest: ArcSwapOption<Manifest>,
    /// One manifest is written at a time.
    pub(super) manifest_writer: Mutex<()>,
    /// One refused disk is claimed at a time.
    pub(super) claiming: Mutex<()>,
    /// One small file is kept at a time.
    pub(super) kept_writer: Mutex<()>,
    /// What came and went; locked by whoever changes the places of an object.
    pub(super) journal: Mutex<Journal>,
    /// Objects that are being received.
    pub(super) staging: Registry,
    pub(super) state_dir: StateDir,
    pub(super) absent: Absent,
    pub(super) upkeep: Upkeep,
    pub(super) probe: Probe,
    pub(super) ticks: Ticks,
    pub(super) stopping: AtomicBool,
    pub(super) manifest_loaded: AtomicBool,
    /// What has a date may expire.
    pub(super) clock_is_sane: AtomicBool,
    pub(super) view: watch::Sender<Arc<View>>,
    /// One view is built at a time, so that the last one shown is the latest.
    pub(super) view_builder: Mutex<()>,
    /// Every scan has ended and the manifest is loaded.
    pub(super) settled: watch::Sender<bool>,
    /// Grows with each change of what viewers can be served; the view's generation.
    pub(super) changes: AtomicU64,
    pub(super) waker: SyncSender<()>,
    pub(super) mover: Mover,
    pub(super) disputes: Disputes,
}

impl Shared {
    /// What can be served is different: the next view tells.
    pub(super) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// Wakes the watch thread, which builds the view.
    pub(super) fn wake(&self) {
        // A full channel is a wake-up that has not been served yet.
        let _ = self.waker.try_send(());
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(super) fn volume(&self, number: u16) -> Option<&Arc<Volume>> {
        self.volumes.get(usize::from(number))
    }

    /// Volumes in service that hold an object, fastest first.
    pub(super) fn holders(&self, number: u32) -> Vec<&Arc<Volume>> {
        let places = self.index.places(number).iter();
        let mut volumes: Vec<_> = places.filter_map(|n| self.volume(n)).collect();
        volumes.sort_by_key(|v| (!v.state().is_readable(), Speed::of(&v.config), v.number));
        volumes
    }

    /// Is a disk out of service?
    pub(super) fn is_one_away(&self) -> bool {
        { self.volumes.iter() }.any(|volume| !volume.state().is_readable())
    }

    /// An object is whole and durable on `volume`.
    pub(super) fn add(&self, number: u32, volume: &Volume) {
        let length = self.index.object(number).map_or(0, |(_, length)| length);
        if self.place(number, |index| index.add_place(number, volume.number)) {
            volume.tally.objects.fetch_add(1, Ordering::Relaxed);
            volume.tally.bytes.fetch_add(length, Ordering::Relaxed);
        }
        if let Some(digest) = self.index.digest(number) {
            volume.census.settle(digest);
        }
    }

    /// As [`Shared::add`], for a volume that is being scanned: it is not in service, so nobody who
    /// asks sees a difference, and millions of objects need no lock.
    pub(super) fn add_scanned(&self, number: u32, length: u64, volume: &Volume) {
        volume.census.met(number);
        if self.index.add_place(number, volume.number) {
            volume.tally.objects.fetch_add(1, Ordering::Relaxed);
            volume.tally.bytes.fetch_add(length, Ordering::Relaxed);
        }
    }

    /// Takes back what [`Shared::add_scanned`] did. The volume is not in service.
    pub(super) fn forget_scanned(&self, digest: Digest, volume: &Volume) {
        let Some(number) = self.index.find(digest) else {
            return;
        };
        let length = self.index.object(number).map_or(0, |(_, length)| length);
        if self.index.remove_place(number, volume.number) {
            volume.tally.objects.fetch_sub(1, Ordering::Relaxed);
            volume.tally.less(length);
        }
    }

    /// A sidecar, or who has hashed its bytes, vouches for the length of an object: what is noted
    /// of its copies follows. True if another was known.
    pub(super) fn correct(&self, number: u32, length: u64) -> bool {
        let Some(before) = self.index.vouch(number, length) else {
            return false;
        };
        for volume in self
            .index
            .places(number)
            .iter()
            .filter_map(|n| self.volume(n))
        {
            volume.tally.bytes.fetch_add(length, Ordering::Relaxed);
            volume.tally.less(before);
        }
        self.changed();
        true
    }

    /// Changes the places of an object, and notes what that means for who asks for it. False if
    /// `change` changed nothing.
    fn place(&self, number: u32, change: impl FnOnce(&Index) -> bool) -> bool {
        let journal = self.journal.lock();
        let mut journal = journal.unwrap_or_else(PoisonError::into_inner);
        let before = self.index.is_readable(number);
        if !change(&self.index) {
            return false;
        }
        let generation = self.changes.fetch_add(1, Ordering::AcqRel) + 1;
        let after = self.index.is_readable(number);
        if before != after {
            journal.note(generation, number, after);
        }
        true
    }

    /// Takes a volume, with all it holds, into service or out of it.
    pub(super) fn set_online(&self, volume: u16, online: bool) {
        let journal = self.journal.lock();
        let mut journal = journal.unwrap_or_else(PoisonError::into_inner);
        if self.index.set_online(volume, online) {
            let generation = self.changes.fetch_add(1, Ordering::AcqRel) + 1;
            journal.reset(generation);
        }
    }

    /// Objects of a disk out of service that were forgotten one by one before it was known to be
    /// the disk.
    pub(super) fn give_back(&self, volume: &Volume, digests: impl Iterator<Item = Digest>) {
        for number in digests.filter_map(|digest| self.index.find(digest)) {
            self.add(number, volume);
        }
    }

    /// An object on `volume` is not to be served. False when it was not there.
    pub(super) fn forget(&self, digest: Digest, volume: &Volume) -> bool {
        let Some(number) = self.index.find(digest) else {
            return false;
        };
        if !self.index.places(number).has(volume.number) {
            return false;
        }
        // Before the index loses it: who writes a snapshot sees one or the other.
        volume.census.note(digest);
        let length = self.index.object(number).map_or(0, |(_, length)| length);
        let known = self.place(number, |index| index.remove_place(number, volume.number));
        if known {
            volume.tally.objects.fetch_sub(1, Ordering::Relaxed);
            volume.tally.less(length);
        }
        known
    }

    /// An object that is not what its name says: out of service at once, moved aside by the disk's
    /// own thread. False when it was not there.
    pub(super) fn quarantine(
        self: &Arc<Self>,
        digest: Digest,
        volume: &Arc<Volume>,
        reason: String,
    ) -> bool {
        if !self.forget(digest, volume) {
            return false;
        }
        let shared_note = format!(
            "disk {}: object {digest} is corrupt: {reason}",
            volume.name()
        );
        tracing::error!(disk = volume.name(), %digest, reason, "{shared_note}; quarantined");
        let own = Arc::clone(self);
        // However long it waits its turn: a scan does not read what objects consist of, and would
        // take it for whole.
        let moved = volume.write(Duration::MAX, move |volume, pulse| {
            let beat = || pulse.beat(volume.deadline());
            beat();
            quarantine::set_aside(&own, volume, digest, &reason, &beat);
        });
        if moved.is_err() {
            // It stays where it is, out of the index until a restart; then the scrub, or a reader,
            // has to find it again.
            let disk = volume.name();
            tracing::warn!(disk, %digest, "disk {disk} is too busy to put {digest} aside");
        }
        true
    }

    /// Writing failed otherwise than by a flush: what does it say about the disk?
    pub(super) fn note_write_error(&self, volume: &Volume, error: &io::Error) {
        if root::is_read_only(error) {
            let reason = "its file system refuses writes; check the kernel log";
            volume.report(self, Event::TurnedReadOnly, reason);
        } else if root::is_medium_error(error) {
            let reason = format!("writing failed: {error}; replace the disk");
            volume.report(self, Event::Broken, &reason);
        }
    }

    /// A flush failed: final, for this process and, by the record, for the next ones.
    pub(super) fn flush_failed(&self, volume: &Volume, error: &io::Error) {
        let reason = suspects::reason(&format!("a flush failed ({error})"));
        volume.report(self, Event::Broken, &reason);
        if let Some(home) = volume.home() {
            suspects::record(&self.state_dir, &home.uuid, &volume.name(), error);
        }
    }

    /// Reading failed: what does it say about the disk?
    pub(super) fn note_read_error(&self, volume: &Volume, digest: Digest, error: &io::Error) {
        if root::is_medium_error(error) {
            let reason = format!(
                "reading failed for several objects (last {digest}: {error}); replace the disk"
            );
            volume.report(self, Event::ObjectFailed(digest), &reason);
        }
    }
}
