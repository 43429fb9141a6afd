//! The places that objects were imported from, opened as needed.
//!
//! A bucket gives presigned URLs, so that boxes need no credentials; a directory is read through
//! the gateway. Never lists and never writes.
//!
//! I/O: opens directories and reads the credentials file, on blocking threads.

use super::GRANTED;
use crate::clock::Instant;
use crate::control::ImportConfig;
use crate::control::import::Source;
use crate::control::store::Location;
use crate::origin::DirectoryOrigin;
use crate::origin::Limits;
use crate::origin::OriginError;
use crate::origin::S3Config;
use crate::origin::S3Origin;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

/// Sources that are kept open; a library has been imported from a handful.
const OPEN_MAX: usize = 256;

/// Then it is opened anew, so that changed credentials are read.
const KEPT: Duration = Duration::from_secs(300);

/// One source.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Directory(Arc<DirectoryOrigin>),
    Bucket(Arc<S3Origin>),
}

#[derive(Debug)]
pub(super) struct Origins {
    import: ImportConfig,
    open: Mutex<BTreeMap<String, (Place, Instant)>>,
}

/// Where a box finds an object of the origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) url: Url,
    pub(super) etag: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Url {
    Presigned(String),
    /// Of this control plane; needs a ticket.
    Gateway,
}

impl Origins {
    pub(super) fn new(import: ImportConfig) -> Self {
        Self {
            import,
            open: Mutex::default(),
        }
    }

    /// The source of a location, opened if it is not yet.
    pub(super) async fn place(&self, now: Instant, source: &str) -> Result<Place, OriginError> {
        if let Some(place) = self.known(now, source) {
            return Ok(place);
        }
        let import = self.import.clone();
        let text = source.to_owned();
        let opened = tokio::task::spawn_blocking(move || open(&text, &import)).await;
        let place = opened.unwrap_or_else(|error| Err(failed(source, &error.to_string())))?;
        let mut known = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= OPEN_MAX {
            known.clear();
        }
        known.insert(source.to_owned(), (place.clone(), now));
        Ok(place)
    }

    /// How a box gets at an object.
    pub(super) async fn way(&self, now: Instant, at: &Location) -> Result<Way, OriginError> {
        match self.place(now, &at.source).await? {
            Place::Directory(_) => Ok(Way {
                url: Url::Gateway,
                etag: etag(at),
            }),
            Place::Bucket(bucket) => Ok(Way {
                url: Url::Presigned(bucket.presign(&at.path, GRANTED).await?),
                etag: at.tag.clone(),
            }),
        }
    }

    fn known(&self, now: Instant, source: &str) -> Option<Place> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (place, since) = open.get(source)?;
        let is_fresh = now.saturating_duration_since(*since) < KEPT;
        is_fresh.then(|| place.clone())
    }
}

/// Of a file: its modification time.
pub(super) fn etag(at: &Location) -> String {
    format!("\"{}\"", at.tag)
}

fn open(text: &str, import: &ImportConfig) -> Result<Place, OriginError> {
    let source = Source::parse(text).map_err(|error| failed(text, &error.to_string()))?;
    Ok(match source {
        Source::Directory(path) => Place::Directory(Arc::new(DirectoryOrigin::new(&path)?)),
        Source::S3 { bucket, prefix } => Place::Bucket(Arc::new(S3Origin::new(&S3Config {
            bucket,
            prefix,
            endpoint: import.endpoint.clone(),
            region: import.region.clone(),
            credentials_file: import.credentials_file.clone(),
            ca: None,
            limits: Limits::default(),
        })?)),
    })
}

fn failed(source: &str, problem: &str) -> OriginError {
    OriginError::Failed {
        what: source.to_owned(),
        problem: problem.to_owned(),
    }
}
