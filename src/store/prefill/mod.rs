//! Prefill: a directory of media becomes objects on the disks and keys in the manifest.
//!
//! `walk` lists the directory → `tree` reads each file and notices when it changes → the store
//! publishes it → all new keys are bound at the end. Called by `oca prefill` in its own process, or
//! by the daemon when one runs. Idempotent: a key that is bound to the same length and time, and
//! held, is not read again. Interrupted, it binds what is done; killed, its next run finds the
//! objects by their digests.
//!
//! I/O: reads the directory; blocks; for a thread of its own.

mod walk;

use super::Binding;
use super::Handle;
use super::OBJECT_BYTES_MAX;
use super::PublishError;
use super::handle::BindError;
use crate::clock;
use crate::key::Key;
use crate::object::Digest;
use crate::object::TreeBuilder;
use crate::tree::FileError;
use crate::tree::StableFile;
use serde::Serialize;
use serde::Serializer;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use walk::Found;

/// Refusals kept with their reasons; more are counted. A wrong directory would fill memory.
pub const REFUSED_SHOWN_MAX: usize = 1000;

const READY_LOOK_EVERY: Duration = Duration::from_millis(10);

const VERSIONED: &str = "give the new encoding a new path, for example a version directory";

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    pub files_done: u64,
    pub files: u64,
    pub bytes_done: u64,
    pub bytes: u64,
}

/// What it did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Files found, with the bytes they have.
    pub files: u64,
    pub bytes: u64,
    /// Objects written.
    pub published: u64,
    /// Files whose object was on the disks already.
    pub already_held: u64,
    /// The first [`REFUSED_SHOWN_MAX`] of `refused_total`.
    pub refused: Vec<Refused>,
    pub refused_total: u64,
    /// Names beginning with a dot.
    pub skipped: u64,
    pub generation: u64,
    pub seconds: f64,
    /// Stopped before its end; what is done is kept.
    pub interrupted: bool,
}

/// A file that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    #[serde(serialize_with = "shown")]
    pub path: PathBuf,
    pub problem: String,
    pub remedy: String,
}

/// A name of the operator's directory need not be UTF-8, while JSON must be.
fn shown<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// Nothing more could be done. What was published before is kept and bound.
#[derive(Debug, thiserror::Error)]
pub enum PrefillError {
    #[error("cannot read {path}: {problem}")]
    Directory { path: PathBuf, problem: String },
    #[error("no disk can be written: {0}")]
    NoVolume(String),
    #[error(transparent)]
    Bind(#[from] BindError),
}

impl PrefillError {
    /// Refused in the state the box is in, rather than failed: the exit code tells them apart.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::NoVolume(_) => true,
            Self::Directory { .. } | Self::Bind(_) => false,
        }
    }
}

/// What became of one file.
enum Outcome {
    Published(Binding),
    Held(Binding),
    /// Bound and held: nothing to bind again.
    Known,
}

enum Fault {
    Refused { problem: String, remedy: String },
    NoVolume,
}

struct Run<'a> {
    store: &'a Handle,
    progress: &'a mut dyn FnMut(Progress),
    at: Progress,
    /// Lengths of held objects that no key names: worth hashing before writing.
    left_over: BTreeSet<u64>,
    rows: BTreeMap<Key, Binding>,
    summary: Summary,
    next_rank: u32,
}

/// Publishes the files below `dir` under their relative paths. Blocks; waits for the scans first.
pub fn run(
    store: &Handle,
    dir: &Path,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<Summary, PrefillError> {
    let started = clock::now();
    while !store.is_ready() && !stop.load(Ordering::Acquire) {
        clock::block_for(READY_LOOK_EVERY);
    }
    let mut summary = Summary::default();
    let found = walk::walk(dir, &mut summary)?;
    summary.files = u64::try_from(found.len()).unwrap_or(u64::MAX) + summary.refused_total;
    // Saturates: sparse files may claim more than there are bytes in the world.
    let lengths = found.iter().map(|found| found.length);
    summary.bytes = lengths.fold(0, u64::saturating_add);
    let keys = store.view().manifest.as_ref().map_or(0, |m| m.keys);
    let mut run = Run {
        store,
        progress,
        at: Progress {
            files: u64::try_from(found.len()).unwrap_or(u64::MAX),
            bytes: summary.bytes,
            ..Progress::default()
        },
        left_over: store.unbound_lengths(),
        rows: BTreeMap::new(),
        summary,
        next_rank: u32::try_from(keys).unwrap_or(u32::MAX),
    };
    let outcome = run.files(&found, stop);
    let generation = store.bind(&run.rows)?;
    outcome?;
    let mut summary = run.summary;
    summary.generation = generation;
    summary.seconds = clock::now().duration_since(started).as_secs_f64();
    Ok(summary)
}

impl Run<'_> {
    fn files(&mut self, found: &[Found], stop: &AtomicBool) -> Result<(), PrefillError> {
        (self.progress)(self.at);
        let mut bytes_before = 0;
        for found in found {
            if stop.load(Ordering::Acquire) {
                self.summary.interrupted = true;
                return Ok(());
            }
            match self.file(found) {
                Ok(Outcome::Published(binding)) => {
                    self.summary.published += 1;
                    self.bind(&found.key, binding);
                }
                Ok(Outcome::Held(binding)) => {
                    self.summary.already_held += 1;
                    self.bind(&found.key, binding);
                }
                Ok(Outcome::Known) => self.summary.already_held += 1,
                Err(Fault::Refused { problem, remedy }) => {
                    self.summary.refuse(&found.path, problem, remedy);
                }
                Err(Fault::NoVolume) => return Err(self.no_volume()),
            }
            bytes_before = u64::saturating_add(bytes_before, found.length);
            self.at.files_done += 1;
            self.at.bytes_done = bytes_before;
            (self.progress)(self.at);
        }
        Ok(())
    }

    fn bind(&mut self, key: &Key, binding: Binding) {
        self.rows.insert(key.clone(), binding);
        self.next_rank = self.next_rank.saturating_add(1);
    }

    fn file(&mut self, found: &Found) -> Result<Outcome, Fault> {
        let mut source = StableFile::open(&found.path).map_err(Fault::from)?;
        let length = source.length();
        if length == 0 {
            return Err(Fault::Refused {
                problem: "the file is empty".into(),
                remedy: "finish writing it, or remove it: an empty file is never media".into(),
            });
        }
        if length > OBJECT_BYTES_MAX {
            return Err(Fault::Refused {
                problem: format!("{length} bytes are more than an object may have"),
                remedy: "cut it into segments".into(),
            });
        }
        let modified = source.modified();
        let bound = self.store.binding(found.key.as_str());
        let mut expected = None;
        if let Some(bound) = bound {
            let held = self.store.holds(bound.digest);
            if bound.length != length {
                // The digest is the binding; a length is a claim, and a wrong one is corrected.
                return if self.hash(&mut source)? != bound.digest {
                    Err(rebound())
                } else if held {
                    Ok(Outcome::Held(self.binding(bound.digest, length, modified)))
                } else {
                    self.publish(found, &mut source, Some(bound.digest))
                };
            }
            if held && bound.last_modified == modified {
                return Ok(Outcome::Known);
            }
            if held {
                let same = self.hash(&mut source)? == bound.digest;
                return if same {
                    Ok(Outcome::Known)
                } else {
                    Err(rebound())
                };
            }
            expected = Some(bound.digest);
        } else if self.left_over.contains(&length) {
            let digest = self.hash(&mut source)?;
            if self.store.holds(digest) {
                return Ok(Outcome::Held(self.binding(digest, length, modified)));
            }
            expected = Some(digest);
        }
        self.publish(found, &mut source, expected)
    }

    fn binding(&self, digest: Digest, length: u64, last_modified: u64) -> Binding {
        Binding {
            digest,
            length,
            last_modified,
            rank: self.next_rank,
        }
    }

    /// Reads the file once without writing.
    fn hash(&mut self, source: &mut StableFile) -> Result<Digest, Fault> {
        let mut tree = TreeBuilder::new();
        let before = self.at.bytes_done;
        while let Some(bytes) = source.next_piece()? {
            tree.update(&bytes);
            self.at.bytes_done += bytes.len() as u64;
            (self.progress)(self.at);
        }
        self.at.bytes_done = before;
        source.check()?;
        source.rewind()?;
        Ok(tree.finish().digest())
    }

    /// Copies the file to the best disk; when that disk refuses, to the next.
    fn publish(
        &mut self,
        found: &Found,
        source: &mut StableFile,
        expected: Option<Digest>,
    ) -> Result<Outcome, Fault> {
        let mut without = BTreeSet::new();
        loop {
            let before = self.at.bytes_done;
            let outcome = self.copy(found, source, expected, &without);
            self.at.bytes_done = before;
            match outcome {
                Err(CopyFault::Publish(error)) => match error.volume() {
                    Some(volume) if without.insert(volume) => source.rewind()?,
                    Some(_) | None => return Err(Fault::publish(&error)),
                },
                Err(CopyFault::Source(error)) => return Err(error.into()),
                Ok(outcome) => return Ok(outcome),
            }
        }
    }

    fn copy(
        &mut self,
        found: &Found,
        source: &mut StableFile,
        expected: Option<Digest>,
        without: &BTreeSet<u16>,
    ) -> Result<Outcome, CopyFault> {
        let name = found.key.as_str().as_bytes();
        let mut publication = self.store.stage(name, source.length(), without)?;
        while let Some(bytes) = source.next_piece()? {
            self.at.bytes_done += bytes.len() as u64;
            publication.write(bytes)?;
            (self.progress)(self.at);
        }
        // Before the commit point: a file that changed never becomes an object.
        source.check()?;
        let published = publication.commit(expected)?;
        let binding = self.binding(published.digest, published.length, source.modified());
        Ok(if published.already_held {
            Outcome::Held(binding)
        } else {
            Outcome::Published(binding)
        })
    }

    fn no_volume(&self) -> PrefillError {
        let view = self.store.view();
        let disks = view.disks.iter().map(|disk| {
            let reason = disk.reason.as_deref().unwrap_or("no reason is known");
            format!("{} is {}: {reason}", disk.path.display(), disk.state)
        });
        let told = disks.collect::<Vec<_>>().join("; ");
        PrefillError::NoVolume(if told.is_empty() {
            "none is configured; write a [[disk]]".into()
        } else {
            told
        })
    }
}

enum CopyFault {
    Publish(PublishError),
    Source(FileError),
}

impl From<PublishError> for CopyFault {
    fn from(error: PublishError) -> Self {
        Self::Publish(error)
    }
}

impl From<FileError> for CopyFault {
    fn from(error: FileError) -> Self {
        Self::Source(error)
    }
}

impl From<FileError> for Fault {
    fn from(error: FileError) -> Self {
        Self::Refused {
            remedy: error.remedy().to_owned(),
            problem: error.to_string(),
        }
    }
}

impl Fault {
    fn publish(error: &PublishError) -> Self {
        let remedy = match error {
            PublishError::NoVolume => return Self::NoVolume,
            PublishError::Digest { .. } => return rebound(),
            PublishError::NoRoom { .. } => "add a disk, or prefill less",
            PublishError::Full { .. } => "free space on the disk, or add one",
            PublishError::Disk { .. } => "look at `oca show disks` and replace what failed",
            PublishError::TooLarge { .. } => "cut it into segments",
            PublishError::Index(_) => "prefill less",
            PublishError::Receiving(_)
            | PublishError::Disputed(_)
            | PublishError::Chunk { .. }
            | PublishError::Incomplete { .. } => "try again",
        };
        Self::Refused {
            problem: error.to_string(),
            remedy: remedy.to_owned(),
        }
    }
}

fn rebound() -> Fault {
    Fault::Refused {
        problem: "the key is bound to other bytes for ever: a re-encode gets a new, versioned path"
            .into(),
        remedy: VERSIONED.into(),
    }
}

impl Summary {
    fn refuse(&mut self, path: &Path, problem: String, remedy: String) {
        self.refused_total += 1;
        if self.refused.len() < REFUSED_SHOWN_MAX {
            self.refused.push(Refused {
                path: path.to_owned(),
                problem,
                remedy,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_refused_name_that_is_not_utf8_can_be_told_in_json() {
        let refused = Refused {
            path: Path::new(std::ffi::OsStr::from_bytes(b"/m/\xff.ts")).to_owned(),
            problem: String::new(),
            remedy: String::new(),
        };
        let told = serde_json::to_value(refused).unwrap();
        assert_eq!(told["path"], "/m/\u{fffd}.ts");
    }
}
