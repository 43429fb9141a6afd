//! Import: an origin's files become keys with digests, and with them bundles and titles.
//!
//! `plan` lists the origin and sorts out what cannot be content → `read` finds each digest (known
//! from an earlier import, told by a `.b3` file beside it, or by reading the file once) and keeps
//! the chunk tree of what it reads → all keys are put at once, so that a key bound to other bytes
//! refuses the whole call. Called by the operator's socket. A second import of unchanged files
//! reads none of them, but those of several chunks whose tree is not kept.
//!
//! I/O: lists and reads the origin, asks and writes the control store.

mod plan;
mod read;
mod sidecar;

use crate::clock;
use crate::control::ImportConfig;
use crate::control::store::CachedDigest;
use crate::control::store::ControlStore;
use crate::control::store::ControlStoreError;
use crate::control::store::ImportedKey;
use crate::object::CHUNK_BYTES;
use crate::origin::DirectoryOrigin;
use crate::origin::Limits;
use crate::origin::Origin;
use crate::origin::OriginError;
use crate::origin::S3Config;
use crate::origin::S3Origin;
use plan::Plan;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

/// Refusals kept with their reasons; more are counted. A wrong bucket would fill memory.
pub const REFUSED_SHOWN_MAX: usize = 1000;

/// Bucket names have 3 to 63 letters; old ones up to 255.
const BUCKET_BYTES_MAX: usize = 255;

/// What to import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Directory(PathBuf),
    S3 {
        bucket: String,
        /// Without slashes at its ends; empty: the whole bucket.
        prefix: String,
    },
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Found so far; grows while the origin is listed.
    pub files: u64,
    pub files_done: u64,
    pub bytes: u64,
    pub bytes_done: u64,
    /// Files whose bytes were read: for their digest, or for their chunk tree alone.
    pub hashed: u64,
    /// Files that an earlier import had read.
    pub cached: u64,
}

/// What it did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Files that are content, with the bytes they have.
    pub files: u64,
    pub bytes: u64,
    pub keys_new: u64,
    /// Their bytes were read.
    pub hashed: u64,
    /// An earlier import had read them.
    pub cached: u64,
    /// Their digest is that of the `.b3` file beside them.
    pub trusted: u64,
    /// Hidden names, directory markers, `.b3` files without their file.
    pub skipped: u64,
    /// The first [`REFUSED_SHOWN_MAX`] of `refused_total`.
    pub refused: Vec<Refused>,
    pub refused_total: u64,
    pub seconds: f64,
    /// Stopped before its end: no key is bound, what was read is remembered.
    pub interrupted: bool,
}

/// A file that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    pub key: String,
    pub why: String,
}

/// Why nothing was bound. What was read is remembered, so that the next import goes on there.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("`{0}` is not a source: write a directory, or `s3://bucket/prefix`")]
    Source(String),
    #[error(transparent)]
    Origin(#[from] OriginError),
    #[error("{source_name} has more than {most} files; import its directories one by one")]
    TooMany { source_name: String, most: usize },
    #[error(transparent)]
    Store(#[from] ControlStoreError),
}

impl ImportError {
    /// Forbidden by a rule, rather than failed: the exit code tells them apart.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Source(_) | Self::TooMany { .. } => true,
            Self::Store(error) => matches!(error, ControlStoreError::Refused(_)),
            Self::Origin(_) => false,
        }
    }
}

impl Source {
    /// `DIR`, `file:///DIR` or `s3://bucket[/prefix]`.
    pub fn parse(text: &str) -> Result<Self, ImportError> {
        let refused = || ImportError::Source(text.chars().take(200).collect());
        if let Some(path) = text.strip_prefix("file://") {
            let path = PathBuf::from(path);
            return path
                .is_absolute()
                .then_some(Self::Directory(path))
                .ok_or_else(refused);
        }
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let is_name = |c: u8| c.is_ascii_alphanumeric() || b".-_".contains(&c);
            let good = (1..=BUCKET_BYTES_MAX).contains(&bucket.len())
                && bucket.bytes().all(is_name)
                && !bucket.starts_with('.');
            return good
                .then(|| Self::S3 {
                    bucket: bucket.to_owned(),
                    prefix: prefix.trim_matches('/').to_owned(),
                })
                .ok_or_else(refused);
        }
        if text.is_empty() || text.contains("://") || text.contains('\0') {
            return Err(refused());
        }
        Ok(Self::Directory(PathBuf::from(text)))
    }

    /// Opens it; reads credentials and looks whether a directory is one.
    pub fn open(&self, config: &ImportConfig) -> Result<Box<dyn Origin>, OriginError> {
        Ok(match self {
            Self::Directory(path) => Box::new(DirectoryOrigin::new(path)?),
            Self::S3 { bucket, prefix } => Box::new(S3Origin::new(&S3Config {
                bucket: bucket.clone(),
                prefix: prefix.clone(),
                endpoint: config.endpoint.clone(),
                region: config.region.clone(),
                credentials_file: config.credentials_file.clone(),
                ca: None,
                limits: Limits::default(),
            })?),
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "{}", path.display()),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// Imports `source`. `stop` ends it between two files.
pub async fn run(
    source: &Source,
    store: &dyn ControlStore,
    config: &ImportConfig,
    progress: &mut (dyn FnMut(Progress) + Send),
    stop: &AtomicBool,
) -> Result<Summary, ImportError> {
    let origin = source.open(config)?;
    run_from(&*origin, store, progress, stop).await
}

/// Imports an origin that is open already.
pub async fn run_from(
    origin: &dyn Origin,
    store: &dyn ControlStore,
    progress: &mut (dyn FnMut(Progress) + Send),
    stop: &AtomicBool,
) -> Result<Summary, ImportError> {
    let started = clock::now();
    let mut summary = Summary::default();
    let plan = plan::list(origin, &mut summary, progress, stop).await?;
    summary.files = plan.files.len() as u64;
    summary.bytes = plan.bytes();
    let keys = digests(origin, store, &plan, &mut summary, progress, stop).await?;
    if !summary.interrupted && !keys.is_empty() {
        summary.keys_new = store.put_keys(keys).await?;
    }
    summary.seconds = clock::now().duration_since(started).as_secs_f64();
    Ok(summary)
}

/// Each file's digest, and what of them is worth remembering.
async fn digests(
    origin: &dyn Origin,
    store: &dyn ControlStore,
    plan: &Plan,
    summary: &mut Summary,
    progress: &mut (dyn FnMut(Progress) + Send),
    stop: &AtomicBool,
) -> Result<Vec<ImportedKey>, ImportError> {
    let cached = store.cached_digests(origin.name()).await?;
    let mut keys = Vec::with_capacity(plan.files.len());
    let mut unknown = Vec::new();
    let mut known = Vec::new();
    for file in &plan.files {
        match remembered(&cached, file) {
            Some(key) => known.push((file, key)),
            None => unknown.push(file),
        }
    }
    drop(cached);
    let large = known.iter().filter(|(_, key)| key.length > CHUNK_BYTES);
    let trees = store.known_trees(large.map(|(_, key)| key.digest).collect());
    let trees = trees.await?;
    for (file, key) in known {
        if key.length <= CHUNK_BYTES || trees.contains(&key.digest) {
            keys.push(key);
        } else {
            unknown.push(file);
        }
    }
    drop(trees);
    summary.cached = keys.len() as u64;
    let mut reader = read::Reader::new(origin, store, summary, progress, plan);
    let outcome = reader.all(&unknown, stop, &mut keys).await;
    reader.remember().await?;
    outcome?;
    Ok(keys)
}

fn remembered(cached: &BTreeMap<String, CachedDigest>, file: &plan::File) -> Option<ImportedKey> {
    let before = cached.get(&file.entry.name)?;
    let is_same = before.size == file.entry.size && before.tag == file.tag(&file.entry);
    is_same.then(|| file.imported(&file.entry, before.digest))
}

impl Summary {
    fn refuse(&mut self, name: &str, why: impl Into<String>) {
        self.refused_total += 1;
        if self.refused.len() < REFUSED_SHOWN_MAX {
            // Names come from outside; what prints them must not be led astray.
            let printable = |c: char| if c.is_control() { '\u{fffd}' } else { c };
            self.refused.push(Refused {
                key: name.chars().map(printable).take(1024).collect(),
                why: why.into(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_directories_and_buckets_and_nothing_else() {
        let s3 = |bucket: &str, prefix: &str| Source::S3 {
            bucket: bucket.into(),
            prefix: prefix.into(),
        };
        for (text, source) in [
            ("/srv/media", Source::Directory("/srv/media".into())),
            ("file:///srv/media", Source::Directory("/srv/media".into())),
            ("media", Source::Directory("media".into())),
            ("s3://films", s3("films", "")),
            ("s3://films/", s3("films", "")),
            ("s3://films/2026/a/", s3("films", "2026/a")),
        ] {
            assert_eq!(Source::parse(text).unwrap(), source, "{text}");
        }
        for text in [
            "",
            "s3://",
            "s3:///x",
            "s3://a b/c",
            "s3://..",
            "http://example.net/a",
            "file://media",
            "a\0b",
        ] {
            assert!(Source::parse(text).is_err(), "{text}");
        }
    }
}
