//! Where content comes from: a directory, or a bucket of an S3 service, behind one small trait.
//!
//! An [`Origin`] lists what it has and reads one file at the state in which it was listed, so that
//! a file changing under the reader is noticed. Called by the control plane's import; boxes have no
//! origin and no credentials of one. Never writes.
//!
//! `directory` is a media tree; `s3` is `object_store` over our own HTTP client (`http`), whose
//! bytes `checksum` compares with what the service says of them.
//!
//! I/O: reads directories, credentials and sockets.

mod checksum;
mod directory;
mod http;
mod pool;
mod s3;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;

pub use directory::DirectoryOrigin;
pub use s3::S3Config;
pub use s3::S3Origin;

/// One file at one state of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path below the origin; need not be a [`crate::key::Key`].
    pub name: String,
    pub size: u64,
    /// Changes when the bytes do: the ETag, or the modification time of a file.
    pub tag: String,
    /// Seconds since the Unix epoch.
    pub last_modified: u64,
}

/// What a listing comes across.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    File(Entry),
    /// Cannot be read, or has no name that could be told apart.
    Refused {
        name: String,
        why: String,
    },
    /// Hidden: the name begins with a dot.
    Skipped,
}

/// In no particular order. Ends after the first error.
pub type Listing = BoxStream<'static, Result<Listed, OriginError>>;

/// Bytes in order. Complete only if it ends without an error.
pub type Reading = BoxStream<'static, Result<Bytes, OriginError>>;

/// A place with files in it.
pub trait Origin: Send + Sync + Debug {
    /// `file:///srv/media` or `s3://bucket/prefix`: for messages and as the name of its cache.
    fn name(&self) -> String;

    fn list(&self) -> Listing;

    /// The present state of one file.
    fn look(&self, name: &str) -> BoxFuture<'static, Result<Entry, OriginError>>;

    /// Reads a file as it was listed; another state of it is [`OriginError::Changed`].
    fn read(&self, entry: &Entry) -> Reading;
}

/// How long to wait for a service, and how often to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// TCP and TLS together.
    pub connect: Duration,
    /// From the request to the head of the answer.
    pub head: Duration,
    /// Between two pieces of a body.
    pub stall: Duration,
    /// Connections at a time.
    pub connections: usize,
    /// Questions asked again for one file: refusals for the moment, broken connections.
    pub retries: usize,
    /// Before the first repetition; it doubles up to [`Limits::backoff_max`], with jitter.
    pub backoff: Duration,
    pub backoff_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            head: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            connections: 8,
            retries: 6,
            backoff: Duration::from_millis(200),
            backoff_max: Duration::from_secs(10),
        }
    }
}

/// Why an origin could not be opened, listed or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    #[error("{what} cannot be used: {problem}")]
    Config { what: String, problem: String },
    #[error("credentials_file {path}: {problem}")]
    Credentials { path: PathBuf, problem: String },
    #[error("{what} refuses access ({problem}); {remedy}")]
    Denied {
        what: String,
        problem: String,
        remedy: String,
    },
    #[error("{what} does not exist")]
    NotFound { what: String },
    #[error("{what} changed while it was read; wait until its writer has finished")]
    Changed { what: String },
    /// This file alone.
    #[error("{what} cannot be read: {problem}; {remedy}")]
    Unreadable {
        what: String,
        problem: String,
        remedy: String,
    },
    #[error("{what} arrived damaged: {problem}; look at what lies between here and the origin")]
    Damaged { what: String, problem: String },
    #[error("{what} cannot be read: {problem}")]
    Failed { what: String, problem: String },
}

impl OriginError {
    /// Is it about one file, while the others may be fine?
    pub fn is_of_one_file(&self) -> bool {
        match self {
            Self::NotFound { .. }
            | Self::Changed { .. }
            | Self::Unreadable { .. }
            | Self::Damaged { .. } => true,
            Self::Config { .. }
            | Self::Credentials { .. }
            | Self::Denied { .. }
            | Self::Failed { .. } => false,
        }
    }
}
