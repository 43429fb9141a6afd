//! Objects that are being received: who may go on with which, and what an earlier process left.
//!
//! A fill asks [`Handle::receive`] and gets a [`Staged`], one a digest at a time. At start the scan
//! of each disk hands its `staging/` to [`sift`]: pairs of `<digest>.part` and a readable
//! `<digest>.map` are kept, everything else goes; it was never visible to anybody.
//!
//! I/O: [`sift`] reads and removes, on the disk's own thread; the rest waits for it.

use super::Handle;
use super::core::Shared;
use super::handle::choose;
use super::lane::Pulse;
use super::layout;
use super::mover;
use super::partial;
use super::partial::Chunks;
use super::root;
use super::sidecar::OBJECT_BYTES_MAX;
use super::staged;
use super::staged::Staged;
use super::volume::Volume;
use super::writer::PublishError;
use crate::object::ChunkTree;
use crate::object::Digest;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use tokio::sync::watch;

/// Unfinished objects kept from an earlier process: a fill has some ten at a time, and leaves as
/// many behind each time it ends early. What is beyond this is fetched again.
const KEPT_MAX: usize = 4096;

/// Every unfinished object, by digest.
#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<BTreeMap<Digest, Arc<Partial>>>);

/// An unfinished object: its staging file and what is known of its chunks.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) digest: Digest,
    pub(super) length: u64,
    pub(super) volume: Arc<Volume>,
    stage: watch::Sender<Stage>,
    progress: Mutex<Progress>,
}

/// Chunks of an unfinished object.
#[derive(Debug)]
pub(super) struct Progress {
    /// In the file: written by this process, or claimed and hashed again.
    pub(super) written: Chunks,
    /// Of these, flushed.
    pub(super) durable: Chunks,
    /// The map of an earlier process says so; not believed until hashed again.
    pub(super) claimed: Chunks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    /// Somebody has it.
    Open,
    /// Its owner is gone, and the disk still works for it.
    Closing,
}

/// The right to write one unfinished object. It ends with the last call that uses it.
#[derive(Debug)]
pub(super) struct Lease(Arc<Partial>);

enum Claim {
    Mine(Lease),
    Wait(Arc<Partial>),
}

impl Handle {
    /// Begins to receive an object of `length` bytes, or goes on with what is staged of it. `rank`
    /// is the best of its keys and says how fast its disk should be; `tree` is the object's. What
    /// an earlier process claims to have is hashed again first. An object that is held already has
    /// nothing missing, and its commit succeeds.
    pub async fn receive(
        &self,
        digest: Digest,
        length: u64,
        rank: u32,
        tree: ChunkTree,
    ) -> Result<Staged, PublishError> {
        if length > OBJECT_BYTES_MAX {
            let most = OBJECT_BYTES_MAX;
            return Err(PublishError::TooLarge { length, most });
        }
        // A tree of one chunk proves its length only by the bytes; without bytes, by nothing.
        let fits = tree.digest() == digest && tree.length() == length;
        if !fits || (length == 0 && !tree.verify_chunk(0, &[])) {
            return Err(PublishError::Digest {
                expected: digest,
                found: tree.digest(),
            });
        }
        let tree = Arc::new(tree);
        let mut without = BTreeSet::new();
        loop {
            if self.holds(digest) {
                self.discard(digest);
                return Ok(Staged::of_held(self.shared()));
            }
            let lease = claim(self.shared(), digest, length, rank, &without).await?;
            let opened = staged::open(self.shared(), lease, Arc::clone(&tree)).await;
            match opened {
                Err(error) if error.volume().is_some_and(|v| without.insert(v)) => {
                    tracing::warn!(%digest, %error, "{error}; another disk is tried");
                }
                Ok(_) | Err(_) => return opened,
            }
        }
    }

    /// Unfinished objects: digest, length, and the bytes of it that need not come again.
    pub fn staged(&self) -> Vec<(Digest, u64, u64)> {
        let partials = self.shared().staging.lock();
        let staged = partials.values().map(|partial| {
            let progress = partial.lock();
            let mut chunks = progress.written.clone();
            chunks.merge(&progress.claimed);
            (partial.digest, partial.length, chunks.bytes())
        });
        staged.collect()
    }

    /// Forgets what is staged of an object; its room is free soon. One that is being received
    /// stays: stop that first. Never waits.
    pub fn discard(&self, digest: Digest) {
        let mut partials = self.shared().staging.lock();
        let idle = |partial: &Arc<Partial>| *partial.stage.borrow() != Stage::Open;
        if partials.get(&digest).is_some_and(idle)
            && let Some(partial) = partials.remove(&digest)
        {
            partial.litter();
        }
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Digest, Arc<Partial>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn find(&self, digest: Digest) -> Option<Arc<Partial>> {
        self.lock().get(&digest).cloned()
    }

    /// Is it the unfinished object of its digest, or has it been finished or given up?
    pub(super) fn is_current(&self, partial: &Arc<Partial>) -> bool {
        let partials = self.lock();
        let current = partials.get(&partial.digest);
        current.is_some_and(|current| Arc::ptr_eq(current, partial))
    }

    /// Is something being received there?
    pub(super) fn is_receiving(&self, volume: u16) -> bool {
        let here = |partial: &Arc<Partial>| partial.volume.number == volume;
        let is_at_work = |partial: &Arc<Partial>| *partial.stage.borrow() != Stage::Idle;
        let partials = self.lock();
        partials.values().any(|p| here(p) && is_at_work(p))
    }

    /// The volume is given back: what was begun on it is gone on with as its scan finds it.
    pub(super) fn abandon(&self, volume: u16) {
        self.lock()
            .retain(|_, partial| partial.volume.number != volume);
    }

    /// It is finished, or its file is gone.
    pub(super) fn remove(&self, partial: &Arc<Partial>) {
        let mut partials = self.lock();
        let current = partials.get(&partial.digest);
        if current.is_some_and(|current| Arc::ptr_eq(current, partial)) {
            partials.remove(&partial.digest);
        }
    }
}

impl Partial {
    fn new(digest: Digest, volume: &Arc<Volume>, claimed: Chunks, stage: Stage) -> Self {
        let progress = Progress::begun(claimed);
        Self {
            digest,
            length: progress.written.length(),
            volume: Arc::clone(volume),
            stage: watch::Sender::new(stage),
            progress: Mutex::new(progress),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody receives it at this moment.
    pub(super) fn is_open(&self) -> bool {
        *self.stage.borrow() == Stage::Open
    }

    /// Its files are removed by the disk's thread, after what it still does for it.
    pub(super) fn litter(&self) {
        for name in [
            layout::map_name(self.digest),
            layout::map_new_name(self.digest),
            layout::partial_name(self.digest),
        ] {
            self.volume.discard(name);
        }
    }

    /// Returns when the disk has ended its work for the last owner, or takes no work.
    async fn until_idle(&self) {
        let mut stage = self.stage.subscribe();
        tokio::select! {
            _ = stage.wait_for(|stage| *stage != Stage::Closing) => {}
            () = self.volume.until_unwritable() => {}
        }
    }
}

impl Progress {
    fn begun(claimed: Chunks) -> Self {
        let none = Chunks::none(claimed.length());
        Self {
            written: none.clone(),
            durable: none,
            claimed,
        }
    }

    /// Nothing is there.
    pub(super) fn clear(&mut self) {
        *self = Self::begun(Chunks::none(self.written.length()));
    }

    pub(super) fn is_blank(&self) -> bool {
        self.written.is_empty() && self.claimed.is_empty()
    }
}

impl Lease {
    pub(super) fn partial(&self) -> &Arc<Partial> {
        &self.0
    }

    /// The owner is gone.
    pub(super) fn close(&self) {
        self.0.stage.send_replace(Stage::Closing);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.stage.send_replace(Stage::Idle);
    }
}

async fn claim(
    shared: &Shared,
    digest: Digest,
    length: u64,
    rank: u32,
    without: &BTreeSet<u16>,
) -> Result<Lease, PublishError> {
    loop {
        match try_claim(shared, digest, length, rank, without)? {
            Claim::Mine(lease) => return Ok(lease),
            Claim::Wait(partial) => partial.until_idle().await,
        }
    }
}

fn try_claim(
    shared: &Shared,
    digest: Digest,
    length: u64,
    rank: u32,
    without: &BTreeSet<u16>,
) -> Result<Claim, PublishError> {
    let mut partials = shared.staging.lock();
    if let Some(partial) = partials.get(&digest) {
        let partial = Arc::clone(partial);
        let fits = partial.length == length
            && partial.volume.takes_objects()
            && !without.contains(&partial.volume.number);
        let stage = *partial.stage.borrow();
        match (stage, fits) {
            (Stage::Open, _) => return Err(PublishError::Receiving(digest)),
            (Stage::Closing, true) => return Ok(Claim::Wait(partial)),
            (Stage::Idle, true) => {
                partial.stage.send_replace(Stage::Open);
                return Ok(Claim::Mine(Lease(partial)));
            }
            // Its disk is out of service: it begins anew elsewhere.
            (Stage::Idle | Stage::Closing, false) => {
                partials.remove(&digest);
                partial.litter();
            }
        }
    }
    let chosen = choose(shared, &digest.0, length, rank, without);
    let volume = chosen.inspect_err(|error| mover::note_refusal(shared, without, error))?;
    let partial = Partial::new(digest, volume, Chunks::none(length), Stage::Open);
    let partial = Arc::new(partial);
    partials.insert(digest, Arc::clone(&partial));
    Ok(Claim::Mine(Lease(partial)))
}

/// Keeps what can be gone on with and removes the rest. On the disk's own thread, after the scan
/// of its objects.
pub(super) fn sift(shared: &Shared, volume: &Arc<Volume>, pulse: &Pulse) -> io::Result<()> {
    let root = volume.root()?;
    let dir = root.dir(layout::STAGING)?;
    let names = root::list(root.dir(layout::STAGING)?)?;
    let mut kept = BTreeSet::new();
    for digest in names.iter().filter_map(|name| layout::mapped(&name.text)) {
        pulse.beat(volume.deadline());
        match kept_from(&dir, digest) {
            Ok(claimed) => {
                if keep(shared, volume, digest, claimed) {
                    kept.insert(layout::partial_name(digest));
                    kept.insert(layout::map_name(digest));
                }
            }
            Err(problem) => {
                let disk = volume.name();
                tracing::warn!(disk, %digest, "disk {disk}: {digest} begins anew: {problem}");
            }
        }
    }
    let mut removed = 0_u64;
    for name in names.iter().filter(|name| !name.is_dir) {
        if !kept.contains(&name.text) {
            pulse.beat(volume.deadline());
            root::remove(&dir, &name.text)?;
            removed += 1;
        }
    }
    if removed + kept.len() as u64 > 0 {
        let (disk, kept) = (volume.name(), kept.len() / 2);
        tracing::info!(
            disk,
            kept,
            removed,
            "disk {disk}: {kept} unfinished objects kept, {removed} left-over files removed"
        );
    }
    Ok(())
}

/// The chunks that a map claims, if its file is there and as long as it says.
fn kept_from(dir: &File, digest: Digest) -> Result<Chunks, String> {
    let read = root::open_file(dir, &layout::map_name(digest))
        .and_then(|file| root::read_small(&file, partial::MAP_BYTES_MAX));
    let bytes = read.map_err(|error| format!("its map cannot be read: {error}"))?;
    let claimed = partial::decode(&bytes, digest).map_err(|error| error.to_string())?;
    match root::stat(dir, &layout::partial_name(digest)) {
        Ok(stat) if stat.is_file && stat.length == claimed.length() => Ok(claimed),
        Ok(stat) => Err(format!("its file is {} bytes long", stat.length)),
        Err(error) => Err(format!("its file is missing: {error}")),
    }
}

/// False if it is held, on this disk or another one known so far, or better kept elsewhere.
fn keep(shared: &Shared, volume: &Arc<Volume>, digest: Digest, claimed: Chunks) -> bool {
    let index = &shared.index;
    let number = index.find(digest);
    if number.is_some_and(|number| !index.places(number).is_empty()) {
        return false;
    }
    let mut partials = shared.staging.lock();
    if partials.len() >= KEPT_MAX {
        return false;
    }
    if let Some(other) = partials.get(&digest) {
        let better =
            *other.stage.borrow() != Stage::Idle || other.lock().claimed.bytes() >= claimed.bytes();
        if better {
            return false;
        }
        other.litter();
    }
    let partial = Partial::new(digest, volume, claimed, Stage::Idle);
    partials.insert(digest, Arc::new(partial));
    true
}
