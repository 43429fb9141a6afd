//! The digests of the files that no earlier import knows: two at a time, each read once.
//!
//! A file of several chunks is read even if its digest is told: boxes need its chunk tree, and only
//! its bytes have it. One that changes or arrives damaged is looked at and read once more, then
//! refused alone. An origin that fails file after file ends the import. What was read is remembered
//! every so often: an import that is stopped, or dies after a day, goes on where it was.
//!
//! I/O: reads the origin; writes the control store.

use super::ImportError;
use super::Progress;
use super::Summary;
use super::plan;
use super::plan::File;
use super::plan::Plan;
use super::sidecar;
use super::sidecar::SIDECAR_BYTES_MAX;
use super::sidecar::SidecarError;
use crate::clock;
use crate::clock::Instant;
use crate::control::store::CachedDigest;
use crate::control::store::ControlStore;
use crate::control::store::ControlStoreError;
use crate::control::store::ImportedKey;
use crate::object::CHUNK_BYTES;
use crate::object::ChunkTree;
use crate::object::Digest;
use crate::object::TreeBuilder;
use crate::origin::Entry;
use crate::origin::Origin;
use crate::origin::OriginError;
use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Two keep a connection and a core busy; more would only seek on a disk.
const READS_AT_ONCE: usize = 2;

/// A file is read so often before it is refused.
const ATTEMPTS: u32 = 2;

/// The origin is at fault, not its files, when so many in a row cannot be read.
const FAILURES_IN_A_ROW_MAX: u32 = 8;

/// Files and time after which what was read is remembered.
const REMEMBER_FILES: usize = 2000;
const REMEMBER_EVERY: Duration = Duration::from_secs(30);

/// Chunks of learned trees after which they are written: 16 MiB of memory, 128 GiB of content.
const REMEMBER_CHUNKS: usize = 512 * 1024;

/// Somebody may be watching a terminal.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// One import's reading.
pub(super) struct Reader<'a> {
    origin: &'a dyn Origin,
    store: &'a dyn ControlStore,
    summary: &'a mut Summary,
    progress: &'a mut (dyn FnMut(Progress) + Send),
    at: Progress,
    learned: BTreeMap<String, CachedDigest>,
    /// Of objects of several chunks, and how many chunks they are.
    trees: Vec<ChunkTree>,
    chunks: usize,
    remembered: Instant,
    failures: u32,
}

/// A digest and how it came about.
struct Found {
    entry: Entry,
    digest: Digest,
    /// `None`: not read, because the `.b3` file beside it was enough.
    tree: Option<ChunkTree>,
}

/// Why a file is refused.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Origin(#[from] OriginError),
    #[error("its `.b3` file is not believed: {0}; write it with `b3sum`, or remove it")]
    Sidecar(#[from] SidecarError),
}

type Reads<'a> = FuturesUnordered<BoxFuture<'a, (&'a File, Result<Found, ReadError>)>>;

impl<'a> Reader<'a> {
    pub(super) fn new(
        origin: &'a dyn Origin,
        store: &'a dyn ControlStore,
        summary: &'a mut Summary,
        progress: &'a mut (dyn FnMut(Progress) + Send),
        plan: &Plan,
    ) -> Self {
        let at = Progress {
            files: summary.files,
            files_done: summary.cached,
            bytes: plan.bytes(),
            cached: summary.cached,
            ..Progress::default()
        };
        Self {
            origin,
            store,
            summary,
            progress,
            at,
            learned: BTreeMap::new(),
            trees: Vec::new(),
            chunks: 0,
            remembered: clock::now(),
            failures: 0,
        }
    }

    /// Finds the digest of each of `files`; a refused one is left out of `keys`.
    pub(super) async fn all(
        &mut self,
        files: &[&File],
        stop: &AtomicBool,
        keys: &mut Vec<ImportedKey>,
    ) -> Result<(), ImportError> {
        let unknown = files.iter().map(|file| file.entry.size);
        let unknown = unknown.fold(0, u64::saturating_add);
        let known = self.at.bytes.saturating_sub(unknown);
        let read = AtomicU64::new(0);
        let mut waiting = files.iter();
        let mut reads: Reads<'_> = FuturesUnordered::new();
        loop {
            while reads.len() < READS_AT_ONCE {
                let Some(file) = waiting.next() else { break };
                if stop.load(Ordering::Acquire) {
                    self.summary.interrupted = true;
                    waiting = [].iter();
                    break;
                }
                reads.push(one(self.origin, self.store, file, &read).boxed());
            }
            self.at.bytes_done = known.saturating_add(read.load(Ordering::Relaxed));
            (self.progress)(self.at);
            tokio::select! {
                done = reads.next() => match done {
                    Some((file, outcome)) => self.take(file, outcome, keys)?,
                    None => return Ok(()),
                },
                () = clock::sleep(PROGRESS_EVERY) => {}
            }
            let is_due = clock::now().duration_since(self.remembered) >= REMEMBER_EVERY;
            let is_much = self.learned.len() >= REMEMBER_FILES || self.chunks >= REMEMBER_CHUNKS;
            if is_much || is_due {
                self.remember().await?;
            }
        }
    }

    /// Writes down what was read since the last time.
    pub(super) async fn remember(&mut self) -> Result<(), ControlStoreError> {
        self.remembered = clock::now();
        if self.learned.is_empty() {
            return Ok(());
        }
        // Trees first: a digest that is remembered without its tree is read again for it.
        let trees = std::mem::take(&mut self.trees);
        self.chunks = 0;
        self.store.put_trees(trees).await?;
        let learned = std::mem::take(&mut self.learned);
        self.store
            .put_cached_digests(self.origin.name(), learned)
            .await
    }

    fn take(
        &mut self,
        file: &File,
        outcome: Result<Found, ReadError>,
        keys: &mut Vec<ImportedKey>,
    ) -> Result<(), ImportError> {
        self.at.files_done += 1;
        let found = match outcome {
            Ok(found) => found,
            Err(error) => {
                self.summary.refuse(&file.entry.name, error.to_string());
                return self.failed(error);
            }
        };
        self.failures = 0;
        if found.tree.is_none() {
            self.summary.trusted += 1;
        } else {
            self.summary.hashed += 1;
            self.at.hashed += 1;
        }
        let tree = found.tree.filter(|tree| !tree.chunks().is_empty());
        self.chunks += tree.as_ref().map_or(0, |tree| tree.chunks().len());
        self.trees.extend(tree);
        let cached = CachedDigest {
            size: found.entry.size,
            tag: file.tag(&found.entry),
            digest: found.digest,
        };
        self.learned.insert(file.entry.name.clone(), cached);
        keys.push(file.imported(&found.entry, found.digest));
        Ok(())
    }

    fn failed(&mut self, error: ReadError) -> Result<(), ImportError> {
        match error {
            ReadError::Origin(error) if !error.is_of_one_file() => {
                self.failures += 1;
                if self.failures >= FAILURES_IN_A_ROW_MAX {
                    return Err(error.into());
                }
            }
            ReadError::Origin(_) | ReadError::Sidecar(_) => self.failures = 0,
        }
        Ok(())
    }
}

async fn one<'a>(
    origin: &'a dyn Origin,
    store: &'a dyn ControlStore,
    file: &'a File,
    read: &'a AtomicU64,
) -> (&'a File, Result<Found, ReadError>) {
    (file, attempts(origin, store, file, read).await)
}

async fn attempts(
    origin: &dyn Origin,
    store: &dyn ControlStore,
    file: &File,
    read: &AtomicU64,
) -> Result<Found, ReadError> {
    let told = match &file.sidecar {
        Some(sidecar) => Some(trusted(origin, sidecar, &file.entry.name).await?),
        None => None,
    };
    if let Some(digest) = told
        && is_enough(store, &file.entry, digest).await
    {
        read.fetch_add(file.entry.size, Ordering::Relaxed);
        return Ok(Found {
            entry: file.entry.clone(),
            digest,
            tree: None,
        });
    }
    let mut entry = file.entry.clone();
    let mut attempt = 1;
    loop {
        let error = match hash(origin, &entry, read).await {
            Ok(tree) if told.is_some_and(|told| told != tree.digest()) => {
                return Err(SidecarError::Digest.into());
            }
            Ok(tree) => {
                return Ok(Found {
                    entry,
                    digest: tree.digest(),
                    tree: Some(tree),
                });
            }
            Err(error) => error,
        };
        if attempt == ATTEMPTS || !is_worth_another(&error) {
            return Err(error.into());
        }
        attempt += 1;
        tracing::info!(%error, "reading it once more");
        entry = origin.look(&entry.name).await?;
        if plan::accept(&entry).is_err() {
            return Err(error.into());
        }
    }
}

/// Is the digest all there is to know? A database that fails is noticed where trees are written.
async fn is_enough(store: &dyn ControlStore, entry: &Entry, digest: Digest) -> bool {
    if entry.size <= CHUNK_BYTES {
        return true;
    }
    let known = store.known_trees(vec![digest]).await;
    known.is_ok_and(|known| known.contains(&digest))
}

/// Access is not granted by asking again; a file that is gone was taken away.
fn is_worth_another(error: &OriginError) -> bool {
    match error {
        OriginError::Changed { .. } | OriginError::Damaged { .. } | OriginError::Failed { .. } => {
            true
        }
        OriginError::Unreadable { .. }
        | OriginError::NotFound { .. }
        | OriginError::Denied { .. }
        | OriginError::Config { .. }
        | OriginError::Credentials { .. } => false,
    }
}

/// Reads a file to its end.
async fn hash(
    origin: &dyn Origin,
    entry: &Entry,
    read: &AtomicU64,
) -> Result<ChunkTree, OriginError> {
    let mut tree = TreeBuilder::new();
    let mut reading = origin.read(entry);
    while let Some(piece) = reading.next().await {
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) => {
                // What was read does not count: it is read again, or the file is refused.
                read.fetch_sub(tree.length(), Ordering::Relaxed);
                return Err(error);
            }
        };
        tree.update(&piece);
        read.fetch_add(piece.len() as u64, Ordering::Relaxed);
    }
    Ok(tree.finish())
}

async fn trusted(origin: &dyn Origin, entry: &Entry, name: &str) -> Result<Digest, ReadError> {
    if entry.size > SIDECAR_BYTES_MAX {
        return Err(SidecarError::TooLong.into());
    }
    let mut bytes = Vec::new();
    let mut reading = origin.read(entry);
    while let Some(piece) = reading.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(sidecar::parse(&bytes, name)?)
}
