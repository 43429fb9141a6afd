//! Where the manifest is kept: the state directory and two data disks; the highest position wins.
//!
//! Every copy is written beside the old one, fsynced and renamed; one that a later release wrote
//! keeps its bytes under another name. `open` loads the best copy that
//! verifies and puts it back where the state directory lost it; `adopt` and `Handle::bind` keep a
//! new one; `catch_up` brings a copy that is behind up to it.
//!
//! I/O: the state directory directly (the system disk), data disks through their own threads, a
//! block at a time so that each block has the disk's deadline.

use super::StoreError;
use super::core::Shared;
use super::layout;
use super::manifest::Manifest;
use super::manifest::Position;
use super::manifest_file;
use super::manifest_file::FileError;
use super::ours;
use super::root;
use super::state::State;
use super::step::Step;
use super::volume::Home;
use super::volume::Volume;
use std::fs::File;
use std::io;
use std::io::BufReader;
use std::io::BufWriter;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Data disks that carry a copy: the state directory and one disk may die together.
const DISK_COPIES: usize = 2;

/// What one call on a disk's thread moves.
pub(super) const BLOCK_BYTES: usize = 1 << 20;

/// The node's small state, owned by one process.
#[derive(Debug)]
pub(super) struct StateDir {
    pub(super) path: PathBuf,
    pub(super) dir: File,
    /// Every disk counts as this box's own: see `ours`.
    pub(super) trusts_all: AtomicBool,
}

/// One place where a copy may be.
enum Place<'a> {
    State(&'a StateDir),
    Disk(&'a Arc<Volume>),
}

impl StateDir {
    /// Makes the directory if it is missing and locks it.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let state = |error: io::Error| StoreError::State {
            path: path.to_owned(),
            problem: error.to_string(),
        };
        std::fs::create_dir_all(path).map_err(state)?;
        let dir = File::open(path).map_err(state)?;
        let trusts_all = ours::is_unmarked(path).map_err(state)?;
        match dir.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                dir,
                trusts_all: AtomicBool::new(trusts_all),
            }),
            Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::Locked {
                path: path.to_owned(),
                by: root::lock_holder(&dir),
            }),
            Err(std::fs::TryLockError::Error(error)) => Err(state(error)),
        }
    }

    pub(super) fn unlock(&self) {
        // Closing the descriptor releases it as well; nothing depends on the answer.
        let _ = self.dir.unlock();
    }

    fn keep(&self, shared: &Shared, manifest: &Manifest) -> io::Result<()> {
        let new = self.path.join(layout::MANIFEST_NEW);
        let mut out = BufWriter::with_capacity(BLOCK_BYTES, File::create(&new)?);
        manifest_file::write(manifest, &shared.index, &mut out)?;
        out.flush()?;
        shared.probe.reached(Step::ManifestWritten);
        out.get_ref().sync_all()?;
        shared.probe.reached(Step::ManifestSynced);
        put_aside(&self.dir, &self.path)?;
        std::fs::rename(&new, self.path.join(layout::MANIFEST))?;
        shared.probe.reached(Step::ManifestRenamed);
        self.dir.sync_all()?;
        shared.probe.reached(Step::ManifestDirectorySynced);
        Ok(())
    }
}

/// Makes `manifest` durable. An error means that the state directory does not have it; a data disk
/// that fails is logged, and judged as any failed write is.
pub(super) fn keep(shared: &Arc<Shared>, manifest: &Manifest) -> Result<(), StoreError> {
    let kept = shared.state_dir.keep(shared, manifest);
    kept.map_err(|error| StoreError::State {
        path: shared.state_dir.path.join(layout::MANIFEST),
        problem: format!("the manifest cannot be written: {error}"),
    })?;
    for volume in chosen(shared, State::is_writable) {
        if let Err(error) = keep_on(shared, volume, manifest) {
            let disk = volume.name();
            tracing::error!(disk, %error, "disk {disk}: no copy of the manifest: {error}");
            shared.note_write_error(volume, &error);
        }
    }
    Ok(())
}

/// The data disks that are to carry copies, of those in a state that `may_write`: those that are to
/// stay, as far as there are enough. One of another box comes by its copy through `ours`.
pub(super) fn chosen(
    shared: &Shared,
    may_write: fn(State) -> bool,
) -> impl Iterator<Item = &Arc<Volume>> {
    let own = { shared.volumes.iter() }.filter(|v| may_write(v.state()) && v.is_ours());
    let mut own: Vec<_> = own.collect();
    own.sort_by_key(|volume| volume.retire.is_on());
    own.into_iter().take(DISK_COPIES)
}

fn keep_on(shared: &Arc<Shared>, volume: &Arc<Volume>, manifest: &Manifest) -> io::Result<()> {
    let file = call(volume, |volume| {
        let root = volume.root()?;
        let top = root.top();
        root::remove(top, layout::MANIFEST_NEW)?;
        root::create_in(top, layout::MANIFEST_NEW)
    })?;
    let file = Arc::new(file);
    let on_disk = DiskWriter {
        volume,
        file: Arc::clone(&file),
        offset: 0,
    };
    let mut out = BufWriter::with_capacity(BLOCK_BYTES, on_disk);
    manifest_file::write(manifest, &shared.index, &mut out)?;
    out.flush()?;
    drop(out);
    let (shared, position) = (Arc::clone(shared), manifest.position);
    call(volume, move |volume| {
        publish(&shared, volume, &file, layout::MANIFEST_NEW, position)
    })
}

/// The file of this name beside the copy, which is of `position`, takes its place. On the disk's
/// own thread.
pub(super) fn publish(
    shared: &Shared,
    volume: &Volume,
    file: &File,
    name: &str,
    position: Position,
) -> io::Result<()> {
    let root = volume.root()?;
    let top = root.top();
    let probe = &shared.probe;
    root.copy().note(None);
    let failed = |error: &io::Error| shared.flush_failed(volume, error);
    probe.reached(Step::ManifestWritten);
    file.sync_all().inspect_err(failed)?;
    probe.reached(Step::ManifestSynced);
    put_aside(top, &volume.config.path)?;
    root::rename(top, name, top, layout::MANIFEST)?;
    probe.reached(Step::ManifestRenamed);
    top.sync_all().inspect_err(failed)?;
    root.copy().note(Some(position));
    probe.reached(Step::ManifestDirectorySynced);
    Ok(())
}

/// Writes `manifest` to a new file of this name beside the copy. `beat` before each block. On the
/// disk's own thread.
pub(super) fn write_beside(
    shared: &Shared,
    volume: &Volume,
    manifest: &Manifest,
    name: &str,
    beat: &dyn Fn(),
) -> io::Result<File> {
    let root = volume.root()?;
    beat();
    root::remove(root.top(), name)?;
    let file = root::create_in(root.top(), name)?;
    let blocks = Blocks { file: &file, beat };
    let mut out = BufWriter::with_capacity(BLOCK_BYTES, blocks);
    manifest_file::write(manifest, &shared.index, &mut out)?;
    out.flush()?;
    drop(out);
    Ok(file)
}

/// A manifest whose format is of a later release is not thrown away by one that takes its place:
/// `manifest.v9` is that file of format 9. `dir` is open, `path` is its name for the log.
fn put_aside(dir: &File, path: &Path) -> io::Result<()> {
    // One that cannot be opened is replaced, as a damaged one is.
    let Ok(file) = root::open_file(dir, layout::MANIFEST) else {
        return Ok(());
    };
    let Err(FileError::Version(version)) = manifest_file::position(&mut BufReader::new(file))
    else {
        return Ok(());
    };
    let name = layout::other_manifest(version);
    root::remove(dir, &name)?;
    // A second name, not another one: at no moment is the place without a manifest.
    root::link(dir, layout::MANIFEST, &name)?;
    let kept = path.join(&name);
    let kept = kept.display();
    tracing::warn!(
        version,
        "the manifest there has format version {version} and is kept as {kept}"
    );
    Ok(())
}

/// The best copy of this box that verifies. Damaged ones are named in the log and ignored.
pub(super) fn load(shared: &Arc<Shared>) -> Option<Manifest> {
    let own = shared.volumes.iter().filter(|v| v.is_ours());
    let places: Vec<Place> = std::iter::once(Place::State(&shared.state_dir))
        .chain(own.map(Place::Disk))
        .collect();
    let mut copies: Vec<(Position, &Place)> = Vec::new();
    for place in &places {
        match place
            .open()
            .map(|file| file.map(|mut f| manifest_file::position(&mut f)))
        {
            Ok(None) => {}
            Ok(Some(Ok(position))) => {
                if let Some(home) = place.home() {
                    home.copy.found(Some(position));
                }
                copies.push((position, place));
            }
            Ok(Some(Err(error))) => place.complain(&error),
            Err(error) => place.complain(&FileError::Io(error)),
        }
    }
    // Stable: of equal copies the state directory's is read, which costs no data disk anything.
    copies.sort_by_key(|(position, _)| std::cmp::Reverse(*position));
    let in_state = copies
        .iter()
        .find(|(_, place)| matches!(place, Place::State(_)));
    let in_state = in_state.map(|(position, _)| *position);
    for (position, place) in copies {
        let Ok(Some(mut file)) = place.open() else {
            continue;
        };
        match manifest_file::read(&mut file, &shared.index) {
            Ok(manifest) => {
                if in_state != Some(position) || matches!(place, Place::Disk(_)) {
                    restore(shared, &manifest, place);
                }
                return Some(manifest);
            }
            Err(error) => {
                place.complain(&error);
                if let Some(home) = place.home() {
                    home.copy.note(None);
                }
            }
        }
    }
    None
}

/// The state directory lost the manifest that a data disk has.
fn restore(shared: &Shared, manifest: &Manifest, place: &Place) {
    let from = place.name();
    shared.state_dir.note_restore();
    match shared.state_dir.keep(shared, manifest) {
        Ok(()) => tracing::warn!(from, "the manifest was restored from {from}"),
        Err(error) => tracing::error!(%error, "the manifest cannot be restored: {error}"),
    }
}

impl Place<'_> {
    fn home(&self) -> Option<Arc<Home>> {
        match self {
            Self::State(_) => None,
            Self::Disk(volume) => volume.home(),
        }
    }

    /// The copy here, if there is one.
    fn open(&self) -> io::Result<Option<Box<dyn io::BufRead + '_>>> {
        let opened: io::Result<Box<dyn io::BufRead>> = match self {
            Self::State(state) => File::open(state.path.join(layout::MANIFEST))
                .map(|file| Box::new(BufReader::with_capacity(BLOCK_BYTES, file)) as _),
            Self::Disk(volume) => {
                read_call(volume, |v| v.root()?.file(layout::MANIFEST)).map(|file| {
                    let on_disk = DiskReader {
                        volume,
                        file: Arc::new(file),
                        offset: 0,
                    };
                    Box::new(BufReader::with_capacity(BLOCK_BYTES, on_disk)) as _
                })
            }
        };
        match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::State(state) => state.path.join(layout::MANIFEST).display().to_string(),
            Self::Disk(volume) => volume
                .config
                .path
                .join(layout::MANIFEST)
                .display()
                .to_string(),
        }
    }

    fn complain(&self, error: &FileError) {
        let copy = self.name();
        tracing::error!(copy, %error, "manifest {copy} is ignored: {error}");
    }
}

/// Reads a file of a data disk on that disk's thread.
struct DiskReader<'a> {
    volume: &'a Arc<Volume>,
    file: Arc<File>,
    offset: u64,
}

impl Read for DiskReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let (file, offset) = (Arc::clone(&self.file), self.offset);
        let most = into.len().min(BLOCK_BYTES);
        let bytes = read_call(self.volume, move |_| {
            let mut bytes = vec![0; most];
            let count = file.read_at(&mut bytes, offset)?;
            bytes.truncate(count);
            Ok(bytes)
        })?;
        into[..bytes.len()].copy_from_slice(&bytes);
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }
}

struct DiskWriter<'a> {
    volume: &'a Arc<Volume>,
    file: Arc<File>,
    offset: u64,
}

impl Write for DiskWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (file, offset, bytes) = (Arc::clone(&self.file), self.offset, bytes.to_vec());
        let count = bytes.len();
        call(self.volume, move |_| file.write_all_at(&bytes, offset))?;
        self.offset += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// On the disk's own thread; each block has the disk's patience.
struct Blocks<'a> {
    file: &'a File,
    beat: &'a dyn Fn(),
}

impl Write for Blocks<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.beat)();
        self.file.write(&bytes[..bytes.len().min(BLOCK_BYTES)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn call<T: Send + 'static>(
    volume: &Arc<Volume>,
    work: impl FnOnce(&Volume) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let answer = volume.write(volume.flush_patience(), move |volume, _| work(volume));
    answer
        .and_then(|answer| volume.wait(&answer))
        .map_err(io::Error::other)?
}

pub(super) fn read_call<T: Send + 'static>(
    volume: &Arc<Volume>,
    work: impl FnOnce(&Volume) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    volume.read_blocking(work).map_err(io::Error::other)?
}
