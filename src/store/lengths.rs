//! Are the files on the disks as long as their objects? Asked where somebody says otherwise.
//!
//! A scan takes a length from the file itself: one stat. A file system that was repaired leaves
//! files of other lengths, and then the manifest, another disk's copy or a publication disagrees.
//! Here the disk's own thread reads the sidecars of all copies: a file that is not as long as its
//! sidecar says is put aside, and fetched again. Where all are, the manifest is wrong, and the keys
//! are named.
//!
//! I/O: spawns a thread where there is something to look at; reads on the disks' own threads.

use super::compare;
use super::core::Shared;
use super::lane::Pulse;
use super::layout;
use super::verdict;
use super::verdict::Verdict;
use super::view;
use super::volume::Volume;
use super::writer::PublishError;
use crate::object::Digest;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Objects looked at in one go. With more, it is the manifest or a disk that is wrong as a whole,
/// and the rest stays out of service until readers or the scrub meet it.
const DOUBTS_MAX: usize = 64 * 1024;

/// Every scan has ended and the manifest is loaded, or there is another manifest: whoever disagrees
/// with it is looked at. Waits for no disk.
pub(super) fn settle(shared: &Arc<Shared>) {
    let doubtful = doubtful(shared);
    if doubtful.is_empty() {
        return;
    }
    let own = Arc::clone(shared);
    let spawned = std::thread::Builder::new()
        .name("store-lengths".into())
        .spawn(move || {
            look(&own, &doubtful);
            view::name_conflicts(&own);
        });
    if let Err(error) = spawned {
        tracing::warn!(%error, "lengths that differ from the manifest's are not looked at: {error}");
    }
}

/// Settles what a scan found after the store had settled: a disk that came back, or a new one.
pub(super) fn settle_again(shared: &Arc<Shared>) {
    if *shared.settled.borrow() {
        settle(shared);
    }
}

/// The number of an object that is about to be published. Where a disk holds a file of its name
/// and of another length, this publication fails, and the next one finds that settled.
pub(super) fn number(
    shared: &Arc<Shared>,
    digest: Digest,
    length: u64,
) -> Result<u32, PublishError> {
    let index = &shared.index;
    let numbered = index.number(digest, length).or_else(|error| {
        let number = index.number_unseen(digest)?;
        if !index.places(number).is_empty() {
            doubt(shared, digest);
            return Err(error);
        }
        // What was known is of a file that is gone.
        shared.correct(number, length);
        Ok(number)
    });
    numbered.map_err(|error| PublishError::Index(error.to_string()))
}

fn doubt(shared: &Arc<Shared>, digest: Digest) {
    let number = shared.index.find(digest);
    for volume in number.map_or_else(Vec::new, |number| shared.holders(number)) {
        let (own, disk) = (Arc::clone(shared), Arc::clone(volume));
        // A full queue: whoever tries again asks again.
        let _ = volume.write(Duration::MAX, move |_, pulse| {
            pulse.beat(disk.deadline());
            judge(&own, &disk, pulse, digest);
        });
    }
}

/// Objects that are not as long as a key of the manifest claims.
fn doubtful(shared: &Shared) -> BTreeSet<u32> {
    let manifest = shared.manifest.load();
    let rows = manifest.iter().flat_map(|manifest| manifest.rows());
    let rows = rows.filter(|(_, row)| row.conflict(&shared.index).is_some());
    rows.map(|(_, row)| row.object).take(DOUBTS_MAX).collect()
}

fn look(shared: &Arc<Shared>, doubtful: &BTreeSet<u32>) {
    let index = &shared.index;
    for volume in &shared.volumes {
        let here = { doubtful.iter() }.filter(|number| index.places(**number).has(volume.number));
        let digests: Vec<Digest> = here.filter_map(|number| index.digest(*number)).collect();
        if volume.state().is_readable() {
            // Of a disk that goes out of service meanwhile nothing is known, or served.
            let _ = compare::settle(shared, volume, &digests, judge);
        }
    }
}

/// On the disk's thread.
fn judge(shared: &Arc<Shared>, volume: &Arc<Volume>, _: &Pulse, digest: Digest) {
    let Some(number) = shared.index.find(digest) else {
        return;
    };
    if !shared.index.places(number).has(volume.number) {
        return;
    }
    let dir = volume.root().and_then(|root| {
        let path = layout::object_dir(digest);
        root.dir(&path)
    });
    let checked = dir.map_err(Verdict::Failed);
    match checked.and_then(|dir| verdict::check(&dir, digest)) {
        Ok(length) => shared.correct(number, length),
        Err(Verdict::Corrupt(reason)) => {
            shared.quarantine(digest, volume, reason);
        }
        Err(Verdict::Failed(error)) => {
            let disk = volume.name();
            tracing::warn!(disk, %digest, %error, "disk {disk}: {digest} cannot be judged: {error}");
            shared.note_read_error(volume, digest, &error);
        }
    }
}

impl Shared {
    /// A sidecar vouches for the length of an object: what was noted of its copies follows.
    pub(super) fn correct(&self, number: u32, length: u64) {
        let journal = self.journal.lock();
        let mut journal = journal.unwrap_or_else(PoisonError::into_inner);
        let Some(before) = self.index.correct(number, length) else {
            return;
        };
        let places = self.index.places(number).iter();
        for volume in places.filter_map(|holder| self.volume(holder)) {
            volume.tally.bytes.fetch_add(length, Ordering::Relaxed);
            volume.tally.took(before);
        }
        // Keys that were not served are: whoever tells differences begins anew.
        let generation = self.changes.fetch_add(1, Ordering::AcqRel) + 1;
        journal.reset(generation);
    }
}
