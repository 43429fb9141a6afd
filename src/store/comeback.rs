//! A configured disk that could not be used at first is looked at again, until it can.
//!
//! Mounted too late, in use by a command, a cable put back: whatever the remedy was, the disk joins
//! with all it holds, and nothing of it is fetched again. Only a disk of ours joins by itself: a
//! blank one is formatted at a start, or when an operator says so ([`Handle::admit`]).
//!
//! I/O: on the disk's own thread; `admit` waits for it.

use super::Handle;
use super::absent;
use super::copies;
use super::core::Shared;
use super::identity;
use super::identity::IdentityError;
use super::open;
use super::order;
use super::order::DiskOrderError;
use super::ours;
use super::scan;
use super::state::Event;
use super::state::State;
use super::suspects;
use super::volume::Home;
use super::volume::Volume;
use crate::lock::lock;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl Handle {
    /// Takes a refused disk that can be used by now; `format` also takes a blank one and makes it
    /// ours. Returns once it is identified; its scan goes on.
    pub async fn admit(&self, path: &Path, format: bool) -> Result<(), DiskOrderError> {
        let shared = Arc::clone(self.shared());
        let volume = order::disk_at(&shared, path).map_err(DiskOrderError::Unknown)?;
        if !is_refused(volume) {
            return Err(DiskOrderError::State {
                disk: volume.name(),
                state: volume.state().as_str(),
                needed: "refused",
                done: "admitted",
            });
        }
        let (own, taken) = (Arc::clone(&shared), Arc::clone(volume));
        order::consult(volume, move |_, _| look(&own, &taken, format)).await
    }
}

/// Has the disk's thread look again, if it is one that was refused.
pub(super) fn ask(shared: &Arc<Shared>, volume: &Arc<Volume>) {
    // Until then a start is busy with what it found.
    if is_refused(volume) && *shared.settled.borrow() {
        let (own, disk) = (Arc::clone(shared), Arc::clone(volume));
        let patience = volume.flush_patience();
        // A full queue is a disk that does not answer: there is a next time.
        let _ = volume.write(patience, move |_, _| look(&own, &disk, false));
    }
}

fn is_refused(volume: &Volume) -> bool {
    volume.state() == State::Refused && volume.home().is_none()
}

/// Looks at a refused disk, takes it if it can be used, and has it scanned. The reason that is
/// shown follows what is found. On the disk's thread.
fn look(shared: &Arc<Shared>, volume: &Arc<Volume>, format: bool) -> Result<(), IdentityError> {
    if !is_refused(volume) {
        return Ok(());
    }
    let home = take(shared, volume, format).inspect_err(|error| {
        volume.note_refusal(&error.to_string());
        shared.wake();
    })?;
    let (disk, uuid, is_ours) = (volume.name(), &home.uuid, home.is_ours());
    tracing::info!(disk, uuid, "disk {disk} can be used after all");
    let suspect = suspects::recorded(&shared.state_dir, uuid);
    volume.damaged.load(&shared.state_dir, uuid);
    volume.retire.load(&shared.state_dir, uuid);
    absent::remember(&shared.state_dir, volume, uuid);
    volume.set_home(home);
    ours::tell(volume);
    if is_ours {
        learn(shared, &disk);
    }
    volume.report(shared, Event::Returned, "");
    if let Some(reason) = suspect {
        volume.report(shared, Event::Broken, &reason);
        return Ok(());
    }
    let (own, scanned) = (Arc::clone(shared), Arc::clone(volume));
    let queued = volume.write(Duration::MAX, move |volume, pulse| {
        pulse.beat(volume.deadline());
        scan::scan(&own, &scanned, pulse);
        ours::take_over(&own, volume, pulse);
    });
    if let Err(error) = queued {
        volume.report(shared, Event::Broken, &error.to_string());
    }
    Ok(())
}

/// The disk may have the latest manifest that this box has ever seen: nothing older is to be
/// adopted after it. Not called while the disk can be written, when a writer of manifests could
/// wait for it.
fn learn(shared: &Arc<Shared>, disk: &str) {
    if !shared.manifest_loaded.load(Ordering::Acquire) {
        return;
    }
    let _one_writer = lock(&shared.manifest_writer);
    let Some(found) = copies::load(shared) else {
        return;
    };
    let known = shared.manifest.load();
    if known
        .as_ref()
        .is_none_or(|known| known.position < found.position)
    {
        let (epoch, generation) = found.position.signed();
        tracing::warn!(
            disk,
            epoch,
            generation,
            "disk {disk} has a later manifest: in effect"
        );
        shared.manifest.store(Some(Arc::new(found)));
        shared.changed();
    }
}

fn take(shared: &Shared, volume: &Volume, format: bool) -> Result<Home, IdentityError> {
    // Two that come back at once may be two copies of one.
    let _one_at_a_time = lock(&shared.claiming);
    let seen = identity::look(&volume.config)?;
    match &seen.uuid {
        None if !format => return Err(IdentityError::Blank),
        None => {}
        Some(uuid) => {
            let has_it = |other: &&Arc<Volume>| {
                let home = other.home().filter(|_| other.number != volume.number);
                home.is_some_and(|home| home.uuid == *uuid)
            };
            if let Some(other) = shared.volumes.iter().find(has_it) {
                return Err(IdentityError::Duplicate(other.name()));
            }
        }
    }
    volume.note_space(seen.space);
    open::claim(shared, seen)
}
