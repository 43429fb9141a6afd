//! A data disk whose copy of the manifest is behind the one in effect catches up by itself.
//!
//! `copies` writes a new manifest to the state directory and then to data disks: a process that is
//! killed between them leaves some behind, and nobody adopts the same manifest twice. A disk that
//! takes the place of one that left has an old copy, too, or none. `open` has all looked at when
//! the manifest is loaded, `watcher` every few seconds.
//!
//! I/O: [`catch_up`] reads and writes, on the disk's own thread.

use super::copies;
use super::core::Shared;
use super::lane::Pulse;
use super::layout;
use super::manifest::Manifest;
use super::manifest::Position;
use super::manifest_file;
use super::manifest_file::FileError;
use super::root;
use super::state::State;
use super::volume::Volume;
use crate::clock;
use crate::clock::Instant;
use crate::lock::lock;
use std::io;
use std::io::BufReader;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

/// A disk that could not take its copy, or had better not, is tried again then: a full one would be
/// written to its end each time.
const RETRY_AFTER: Duration = Duration::from_secs(600);

/// What is known of the copy on a disk.
#[derive(Debug, Default)]
pub(super) struct ManifestCopy(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    was_looked_at: bool,
    /// `None`: there is none that could be used.
    position: Option<Position>,
    waits_since: Option<Instant>,
}

impl ManifestCopy {
    /// It was written, or found to be no good.
    pub(super) fn note(&self, position: Option<Position>) {
        *lock(&self.0) = Known {
            was_looked_at: true,
            position,
            waits_since: None,
        };
    }

    /// Its head was read. What was written since is known better.
    pub(super) fn found(&self, position: Option<Position>) {
        let mut known = lock(&self.0);
        if !known.was_looked_at {
            (known.was_looked_at, known.position) = (true, position);
        }
    }

    /// Nobody tries again for [`RETRY_AFTER`].
    fn wait(&self) {
        lock(&self.0).waits_since = Some(clock::now());
    }

    fn was_looked_at(&self) -> bool {
        lock(&self.0).was_looked_at
    }

    /// Older than `position`, and worth a try?
    fn is_behind(&self, position: Position) -> bool {
        let known = lock(&self.0);
        let is_late = |at: Instant| at.elapsed() >= RETRY_AFTER;
        known.position.is_none_or(|copy| copy < position) && known.waits_since.is_none_or(is_late)
    }
}

/// Has the disk's own thread [`catch_up`], behind a scan that it may be at.
pub(super) fn ask(shared: &Arc<Shared>, volume: &Arc<Volume>) {
    let (Some(manifest), Some(home)) = (shared.manifest.load_full(), volume.home()) else {
        return;
    };
    if home.copy.is_behind(manifest.position) {
        let own = Arc::clone(shared);
        // Refused or dropped: the watch thread asks again.
        let _ = volume.write(volume.flush_patience(), move |volume, pulse| {
            catch_up(&own, volume, pulse);
        });
    }
}

/// Writes the manifest in effect to a disk that is to have it and has an older one, or none. After
/// a failure not before [`RETRY_AFTER`].
///
/// One call on the disk's thread from the first look to the last: a later manifest, which `copies`
/// names on the same thread, comes before it and is seen, or after it and stays. What `copies` may
/// have begun to write has another name. Other writers of the disk wait for it: some seconds for
/// millions of keys, as rare as a kill between two copies.
pub(super) fn catch_up(shared: &Shared, volume: &Volume, pulse: &Pulse) {
    let (Some(manifest), Some(home)) = (behind(shared, volume), volume.home()) else {
        return;
    };
    let (disk, position) = (volume.name(), manifest.position);
    if !home.copy.was_looked_at() {
        // Of a disk that was not there when copies were looked for: it may be a later one.
        match found_on(volume) {
            Err(FileError::Version(_)) => return home.copy.wait(),
            found => home.copy.found(found.ok()),
        }
        if !home.copy.is_behind(position) {
            return;
        }
    }
    let beat = || pulse.beat(volume.flush_patience());
    let name = layout::MANIFEST_COPY;
    let written = copies::write_beside(shared, volume, &manifest, name, &beat);
    match written.and_then(|file| {
        beat();
        // The disk may be another process's as soon as this one says that it is done.
        if shared.is_stopping() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        copies::publish(shared, volume, &file, name, position)
    }) {
        Ok(()) => tracing::info!(disk, "disk {disk} has the manifest in effect again"),
        Err(_) if shared.is_stopping() => {}
        Err(error) => {
            // On a full disk it may have taken the last room. A wish: the next try removes it, too.
            let _ = volume
                .root()
                .and_then(|root| root::remove(root.top(), name));
            tracing::error!(disk, %error, "disk {disk}: no copy of the manifest: {error}");
            home.copy.wait();
            shared.note_write_error(volume, &error);
        }
    }
}

/// On the disk's own thread. An error is no copy, but for one of a later release, which stays until
/// the next manifest comes.
fn found_on(volume: &Volume) -> Result<Position, FileError> {
    let file = volume.root().and_then(|root| root.file(layout::MANIFEST))?;
    manifest_file::position(&mut BufReader::new(file))
}

/// The manifest in effect, if the disk is one of those that are to have it and does not.
fn behind(shared: &Shared, volume: &Volume) -> Option<Arc<Manifest>> {
    if shared.is_stopping() {
        return None;
    }
    let manifest = shared.manifest.load_full()?;
    let is_behind = volume.home()?.copy.is_behind(manifest.position);
    // One that is being scanned has its place: whoever is done first is not to write for it.
    let may_write = |state: State| state.is_writable() || state == State::Scanning;
    let mut chosen = copies::chosen(shared, may_write);
    let is_chosen = chosen.any(|one| one.number == volume.number);
    (is_behind && is_chosen && volume.state().is_writable()).then_some(manifest)
}
