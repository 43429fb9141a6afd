//! Small durable state of other rooms, under a name: on the state directory and two data disks.
//!
//! Replaced whole: written beside the old one, fsynced, renamed. A fill keeps its ledger and its
//! announced deletions here, so that neither a wiped system disk nor one lost data disk forgets
//! them. Readers get every copy: their own checksums and numbers decide.
//!
//! I/O: the state directory directly (the system disk), data disks through their own threads.

use super::Handle;
use super::StoreError;
use super::copies;
use super::core::Shared;
use super::root;
use super::state::State;
use super::step::Probe;
use super::step::Step;
use super::volume::Volume;
use std::fs::File;
use std::io;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::PoisonError;
use std::time::SystemTime;

/// One file, written at once within a disk's patience.
pub const KEPT_BYTES_MAX: usize = 16 << 20;

const NAME_BYTES_MAX: usize = 64;

impl Handle {
    /// Keeps `bytes` under `name` (lower-case letters, digits, `-`), in place of what was there.
    /// An error means that the state directory does not have them; a data disk that fails is
    /// logged. Blocks: for threads outside runtimes.
    pub fn keep(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let shared = self.shared();
        let path = shared.state_dir.path.join(file_name(name));
        let refused = |problem: String| StoreError::State {
            path: path.clone(),
            problem,
        };
        if !is_name(name) {
            return Err(refused(
                "a name has lower-case letters, digits and `-`".into(),
            ));
        }
        if bytes.len() > KEPT_BYTES_MAX {
            let length = bytes.len();
            return Err(refused(format!(
                "{length} bytes are more than {KEPT_BYTES_MAX}"
            )));
        }
        let lock = &shared.kept_writer;
        let _one_writer = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = keep_in(
            &shared.state_dir.path,
            &shared.state_dir.dir,
            name,
            bytes,
            &shared.probe,
        );
        kept.map_err(|error| refused(format!("it cannot be written: {error}")))?;
        let bytes: Arc<[u8]> = bytes.into();
        for volume in copies::chosen(shared, State::is_writable) {
            let (own, name, bytes) = (Arc::clone(shared), name.to_owned(), Arc::clone(&bytes));
            let kept = copies::call(volume, move |v| keep_on(&own, v, &name, &bytes));
            if let Err(error) = kept {
                let disk = volume.name();
                tracing::error!(disk, %error, "disk {disk}: {}: {error}", path.display());
                shared.note_write_error(volume, &error);
            }
        }
        Ok(())
    }

    /// Every copy of `name` on the state directory and disks of this box that can be read, the one
    /// written last first. Disks are read side by side: ten that hang cost no more than one.
    /// Blocks: for threads outside runtimes.
    pub fn kept(&self, name: &str) -> Vec<Vec<u8>> {
        let shared = self.shared();
        if !is_name(name) {
            return Vec::new();
        }
        let name = file_name(name);
        let mut found = Vec::new();
        let path = shared.state_dir.path.join(&name);
        found.extend(told(&path, File::open(&path).and_then(|file| read(&file))));
        let homes: Vec<_> = { shared.volumes.iter() }
            .filter(|volume| volume.is_ours())
            .collect();
        std::thread::scope(|scope| {
            let reading = homes.iter().map(|volume| {
                let own = name.clone();
                scope
                    .spawn(move || copies::read_call(volume, move |v| read(&v.root()?.file(&own)?)))
            });
            let reading: Vec<_> = reading.collect();
            for (volume, copy) in homes.iter().zip(reading) {
                let panicked = |_| Err(io::Error::other("the thread that read it panicked"));
                let copy = copy.join().unwrap_or_else(panicked);
                found.extend(told(&volume.config.path.join(&name), copy));
            }
        });
        found.sort_by_key(|(written, _)| std::cmp::Reverse(*written));
        found.into_iter().map(|(_, bytes)| bytes).collect()
    }
}

pub(super) type Copy = (SystemTime, Vec<u8>);

/// Absence is no problem; anything else is named.
fn told(path: &Path, copy: io::Result<Copy>) -> Option<Copy> {
    match copy {
        Ok(copy) => Some(copy),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            let path = path.display();
            tracing::error!(%error, "{path} is ignored: {error}");
            None
        }
    }
}

pub(super) fn read(file: &File) -> io::Result<Copy> {
    let written = file.metadata()?.modified()?;
    let bytes = root::read_small(file, KEPT_BYTES_MAX as u64)?;
    Ok((written, bytes))
}

fn keep_in(at: &Path, dir: &File, name: &str, bytes: &[u8], probe: &Probe) -> io::Result<()> {
    let (name, new) = (at.join(file_name(name)), at.join(new_name(name)));
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    probe.reached(Step::KeptWritten);
    file.sync_all()?;
    probe.reached(Step::KeptSynced);
    std::fs::rename(&new, &name)?;
    probe.reached(Step::KeptRenamed);
    dir.sync_all()?;
    probe.reached(Step::KeptDirectorySynced);
    Ok(())
}

/// On the disk's thread.
pub(super) fn keep_on(
    shared: &Shared,
    volume: &Volume,
    name: &str,
    bytes: &[u8],
) -> io::Result<()> {
    let failed = |error: &io::Error| shared.flush_failed(volume, error);
    keep_below(volume.root()?.top(), name, bytes, &shared.probe, &failed)
}

/// In the directory `top` of a disk; `failed` is told of a flush that was.
pub(super) fn keep_below(
    top: &File,
    name: &str,
    bytes: &[u8],
    probe: &Probe,
    failed: &dyn Fn(&io::Error),
) -> io::Result<()> {
    let new = new_name(name);
    root::remove(top, &new)?;
    let mut file = root::create_in(top, &new)?;
    file.write_all(bytes)?;
    probe.reached(Step::KeptWritten);
    file.sync_all().inspect_err(failed)?;
    probe.reached(Step::KeptSynced);
    root::rename(top, &new, top, &file_name(name))?;
    probe.reached(Step::KeptRenamed);
    top.sync_all().inspect_err(failed)?;
    probe.reached(Step::KeptDirectorySynced);
    Ok(())
}

/// No other file of the state directory or of a disk ends so.
pub(super) fn file_name(name: &str) -> String {
    format!("{name}.kept")
}

/// Is this a file of [`Handle::keep`], or one that was never finished?
pub(super) fn is_kept(file: &str) -> bool {
    file.ends_with(".kept") || file.ends_with(".kept.new")
}

fn new_name(name: &str) -> String {
    format!("{name}.kept.new")
}

fn is_name(name: &str) -> bool {
    let known = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(known)
}
