//! Which disks are this box's own: what they remember of its state counts, what others do does not.
//!
//! No copy of the manifest or of the small state (`kept`) names its box. A disk that served another
//! box brings objects, which are what their names say, and copies that may be later than this
//! box's. So the state directory has an empty file `disk-<uuid>.ours` for each disk of this box,
//! and only their copies are read. Without a manifest in the state directory nobody knows whose
//! disks these are, and all are taken for its own: a wiped system disk loses nothing.
//!
//! I/O: small files of the state directory; [`take_over`] writes, on the disk's own thread.

use super::copies;
use super::copies::StateDir;
use super::core::Shared;
use super::kept;
use super::lane::Pulse;
use super::layout;
use super::manifest::Manifest;
use super::root;
use super::scrub;
use super::volume::Home;
use super::volume::Volume;
use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const SUFFIX: &str = ".ours";

/// Has the state directory a manifest, and no record of any disk? An earlier release wrote it, and
/// every disk that this process meets is taken for the box's own.
pub(super) fn is_unmarked(state_dir: &Path) -> io::Result<bool> {
    let mut has_manifest = false;
    for entry in std::fs::read_dir(state_dir)? {
        let name = entry?.file_name();
        if name.to_string_lossy().ends_with(SUFFIX) {
            return Ok(false);
        }
        has_manifest |= name == layout::MANIFEST;
    }
    Ok(has_manifest)
}

impl StateDir {
    /// Is it a disk of this box?
    pub(super) fn knows(&self, uuid: &str) -> bool {
        // An error is no absence: what cannot be seen is neither a record nor a wiped directory.
        self.trusts_all.load(Ordering::Acquire)
            || !self.has_manifest()
            || self.record(uuid).try_exists().unwrap_or(false)
    }

    /// Remembers a disk of this box.
    fn know(&self, uuid: &str) -> io::Result<()> {
        match File::create_new(self.record(uuid)) {
            Ok(file) => {
                file.sync_all()?;
                self.dir.sync_all()
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Called before a manifest that a data disk had is put here. Where there was none, disks that
    /// come later in the life of this process may have more of what the box forgot.
    pub(super) fn note_restore(&self) {
        if !self.has_manifest() {
            self.trusts_all.store(true, Ordering::Release);
        }
    }

    fn has_manifest(&self) -> bool {
        let path = self.path.join(layout::MANIFEST);
        path.try_exists().unwrap_or(true)
    }

    fn record(&self, uuid: &str) -> PathBuf {
        self.path.join(format!("disk-{uuid}{SUFFIX}"))
    }
}

impl Home {
    pub(super) fn is_ours(&self) -> bool {
        self.is_ours.load(Ordering::Acquire)
    }
}

impl Volume {
    /// Is it identified, and does what it remembers count?
    pub(super) fn is_ours(&self) -> bool {
        self.home().is_some_and(|home| home.is_ours())
    }
}

/// Is the disk that was identified one of this box? If so, that is remembered.
pub(super) fn recognise(state_dir: &StateDir, uuid: &str, is_formatted: bool) -> bool {
    let is_ours = is_formatted || state_dir.knows(uuid);
    if is_ours {
        remember(state_dir, uuid);
    }
    is_ours
}

fn remember(state_dir: &StateDir, uuid: &str) {
    if let Err(error) = state_dir.know(uuid) {
        let path = state_dir.record(uuid);
        let path = path.display();
        tracing::error!(uuid, %error, "{path} cannot be written: {error}; check `state_dir`");
    }
}

/// Says so of a disk that is not.
pub(super) fn tell(volume: &Volume) {
    if let Some(home) = volume.home().filter(|home| !home.is_ours()) {
        let (disk, uuid) = (volume.name(), &home.uuid);
        tracing::warn!(
            disk,
            uuid,
            "disk {disk} comes from another box: its objects are taken, its manifest and small \
             state are replaced by this box's"
        );
    }
}

/// Has the disk's own thread [`take_over`] one that is not ours.
pub(super) fn ask(shared: &Arc<Shared>, volume: &Arc<Volume>) {
    if volume.home().is_some_and(|home| !home.is_ours()) {
        let own = Arc::clone(shared);
        // Refused or dropped: the watch thread asks again.
        let _ = volume.write(volume.flush_patience(), move |volume, pulse| {
            take_over(&own, volume, pulse);
        });
    }
}

/// Replaces what a disk of another box remembers by what this box does; from then on the disk is
/// one of this box. Does nothing as long as it cannot be written or there is no manifest.
///
/// Whoever keeps copies leaves the disk alone until then, so that two never write the same file. A
/// manifest that takes effect meanwhile comes to the disk by `catch_up`: the highest wins.
pub(super) fn take_over(shared: &Shared, volume: &Volume, pulse: &Pulse) {
    let Some(home) = volume.home().filter(|home| !home.is_ours()) else {
        return;
    };
    if !volume.state().is_writable() {
        return;
    }
    let Some(manifest) = shared.manifest.load_full() else {
        return;
    };
    let disk = volume.name();
    let beat = || pulse.beat(volume.flush_patience());
    match replace(shared, volume, &manifest, &beat) {
        Ok(()) => {
            remember(&shared.state_dir, &home.uuid);
            home.is_ours.store(true, Ordering::Release);
            tracing::info!(disk, "disk {disk} is one of this box's");
        }
        Err(error) => {
            if volume.may_log().is_some() {
                tracing::error!(disk, %error, "disk {disk}: no copy of the manifest: {error}");
            }
            shared.note_write_error(volume, &error);
        }
    }
}

fn replace(
    shared: &Shared,
    volume: &Volume,
    manifest: &Manifest,
    beat: &dyn Fn(),
) -> io::Result<()> {
    let name = layout::MANIFEST_NEW;
    let file = copies::write_beside(shared, volume, manifest, name, beat)?;
    let root = volume.root()?;
    let top = root.top();
    for found in root::list(root.dir(".")?)? {
        // When its objects were verified is the disk's own affair.
        if kept::is_kept(&found.text) && found.text != kept::file_name(scrub::KEPT) {
            beat();
            root::remove(top, &found.text)?;
        }
    }
    beat();
    copies::publish(shared, volume, &file, name, manifest.position)
}
