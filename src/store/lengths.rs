//! Are the files on the disks as long as their objects? Looked at where somebody says otherwise.
//!
//! A scan takes a length from the file itself: one stat. A file system that was repaired leaves
//! files of other lengths, and then the manifest, another disk's copy or a publication disagrees.
//! Here the disks' own threads read the sidecars of all copies: a file that is not as long as its
//! sidecar says is put aside, and fetched again. What a sidecar vouches for is noted in the index:
//! where the manifest says otherwise all the same, it is wrong, and its key is named.
//!
//! I/O: one thread while there is something to look at; reads on the disks' own threads.

use super::compare;
use super::core::Shared;
use super::index::IndexError;
use super::lane::Pulse;
use super::layout;
use super::quarantine;
use super::root;
use super::state::State;
use super::verdict;
use super::verdict::Problem;
use super::view;
use super::volume::Volume;
use super::writer::PublishError;
use crate::lock::lock;
use crate::object::Digest;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

/// Looked at in one go, and remembered of copies that differ; what is beyond has its turn after it,
/// or is the scrub's.
const DISPUTES_MAX: usize = 64 * 1024;

/// What is disputed otherwise than by the manifest.
#[derive(Debug, Default)]
pub(super) struct Disputes {
    digests: Mutex<BTreeSet<Digest>>,
    /// Who asked since the thread began to look.
    asked: AtomicUsize,
}

impl Disputes {
    pub(super) fn note(&self, digest: Digest) {
        let mut digests = lock(&self.digests);
        if digests.len() < DISPUTES_MAX {
            digests.insert(digest);
        }
    }
}

/// All scans have ended and the manifest is loaded, or there is another manifest, or another
/// dispute: has everything looked at that is disputed. Waits for nothing.
pub(super) fn ask(shared: &Arc<Shared>) {
    if shared.disputes.asked.fetch_add(1, Ordering::AcqRel) > 0 {
        // The thread goes round once more.
        return;
    }
    let own = Arc::clone(shared);
    let thread = std::thread::Builder::new().name("store-lengths".into());
    if let Err(error) = thread.spawn(move || run(&own)) {
        shared.disputes.asked.store(0, Ordering::Release);
        tracing::warn!(%error, "lengths that are disputed are not looked at: {error}");
    }
}

/// As [`ask`], for a disk that came after the others: what is there before is looked at with them.
pub(super) fn ask_if_settled(shared: &Arc<Shared>) {
    if *shared.settled.borrow() {
        ask(shared);
    }
}

/// The number of an object that is about to be published. Where a disk in service holds a file of
/// its name and of another length, this publication fails, and one of the next finds that settled.
pub(super) fn number_to_publish(
    shared: &Arc<Shared>,
    digest: Digest,
    length: u64,
) -> Result<u32, PublishError> {
    let index = &shared.index;
    let full = |error: IndexError| PublishError::Index(error.to_string());
    match index.number(digest, length) {
        Err(IndexError::Length { .. }) => {
            let number = index.number_unseen(digest).map_err(full)?;
            if index.is_readable(number) {
                shared.disputes.note(digest);
                ask(shared);
                return Err(PublishError::Disputed(digest));
            }
            // What was known is of a file that is gone, or that nobody can read.
            shared.correct(number, length);
            Ok(number)
        }
        numbered => numbered.map_err(full),
    }
}

fn run(shared: &Arc<Shared>) {
    loop {
        let asked = shared.disputes.asked.load(Ordering::Acquire);
        let mut before = BTreeSet::new();
        loop {
            let disputed = disputed(shared);
            if disputed.is_empty() || shared.is_stopping() {
                break;
            }
            // What could not be judged is not asked again at once, and not forgotten.
            if disputed == before {
                let digests = disputed
                    .iter()
                    .filter_map(|number| shared.index.digest(*number));
                digests.for_each(|digest| shared.disputes.note(digest));
                break;
            }
            look(shared, &disputed);
            before = disputed;
        }
        if !shared.is_stopping() {
            view::name_conflicts(shared);
        }
        let order = Ordering::AcqRel;
        let asked = (shared.disputes.asked).compare_exchange(asked, 0, order, Ordering::Acquire);
        if asked.is_ok() || shared.is_stopping() {
            return;
        }
    }
}

/// Objects that are not as long as a key of the manifest claims, for all that is known of them, and
/// those of which copies differ.
fn disputed(shared: &Shared) -> BTreeSet<u32> {
    let index = &shared.index;
    let noted = std::mem::take(&mut *lock(&shared.disputes.digests));
    let noted = noted.into_iter().filter_map(|digest| index.find(digest));
    let mut disputed: BTreeSet<u32> = noted.collect();
    let manifest = shared.manifest.load();
    for (_, row) in manifest.iter().flat_map(|manifest| manifest.rows()) {
        if disputed.len() >= DISPUTES_MAX {
            break;
        }
        if row.conflict(index).is_some() && !index.is_vouched(row.object) {
            disputed.insert(row.object);
        }
    }
    disputed
}

fn look(shared: &Arc<Shared>, disputed: &BTreeSet<u32>) {
    let index = &shared.index;
    for volume in &shared.volumes {
        let here = { disputed.iter() }.filter(|number| index.places(**number).has(volume.number));
        let digests: Vec<Digest> = here.filter_map(|number| index.digest(*number)).collect();
        let is_asked = volume.state().is_readable()
            && compare::on_its_thread(shared, volume, &digests, judge_held).is_ok();
        // One that is out of service is asked when it is back.
        if !is_asked {
            let noted = digests.iter();
            noted.for_each(|digest| shared.disputes.note(*digest));
        }
    }
}

/// On the disk's thread.
fn judge_held(shared: &Arc<Shared>, volume: &Arc<Volume>, pulse: &Pulse, digest: Digest) {
    let number = shared.index.find(digest);
    let held = number.filter(|number| shared.index.places(*number).has(volume.number));
    let Some(number) = held else {
        return;
    };
    let dir = volume.root().and_then(|root| {
        let path = layout::object_dir(digest);
        root.dir(&path)
    });
    let checked = dir.map_err(Problem::Unread);
    let disk = volume.name();
    match checked.and_then(|dir| verdict::check(&dir, digest)) {
        Ok(length) => {
            shared.correct(number, length);
        }
        // At once, for the thread is ours: whoever publishes it anew comes after that.
        Err(Problem::Corrupt(reason)) => {
            if shared.forget(digest, volume) {
                tracing::error!(disk, %digest, "disk {disk}: object {digest} is corrupt: {reason}");
                let beat = || pulse.beat(volume.deadline());
                quarantine::set_aside(shared, volume, digest, &reason, &beat);
            }
        }
        // Descriptors or memory are used up: that says nothing about the object.
        Err(Problem::Unread(error)) if root::is_passing(&error) => {
            tracing::warn!(disk, %digest, "disk {disk}: object {digest} is not judged: {error}");
        }
        Err(Problem::Unread(error)) => {
            // Neither served nor in the way of who fetches it.
            let is_lost = volume.state().is_readable() && shared.forget(digest, volume);
            tracing::error!(disk, %digest, "disk {disk}: object {digest}: {error}; not served");
            shared.note_read_error(volume, digest, &error);
            // The disk went out of service in between: it was the disk and not the object.
            if is_lost && root::is_medium_error(&error) && volume.state() == State::Suspect {
                shared.give_back(volume, std::iter::once(digest));
            }
        }
    }
}
