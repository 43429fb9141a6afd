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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn location(source: &str) -> Location {
        Location {
            source: source.to_owned(),
            path: "hd/seg 1.m4s".to_owned(),
            size: 1,
            tag: "\"e1\"".to_owned(),
        }
    }

    #[tokio::test]
    async fn a_bucket_gives_signed_urls_that_end_and_a_directory_gives_the_gateway() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("credentials");
        std::fs::write(&file, "theaccesskey\nthesecretkey\n").unwrap();
        let import = |credentials_file| ImportConfig {
            endpoint: Some("https://s3.example.net:9000".to_owned()),
            region: "us-east-1".to_owned(),
            credentials_file,
        };
        let now = clock::now();
        let origins = Origins::new(import(Some(file)));
        let way = origins
            .way(now, &location("s3://films/2026"))
            .await
            .unwrap();
        let Url::Presigned(url) = &way.url else {
            panic!("{way:?}");
        };
        let path = "https://s3.example.net:9000/films/2026/hd/seg%201.m4s?";
        assert!(url.starts_with(path), "{url}");
        assert!(
            url.contains("X-Amz-Expires=600") && url.contains("X-Amz-Signature="),
            "{url}"
        );
        assert!(!url.contains("thesecretkey"), "{url}");
        assert_eq!(way.etag, "\"e1\"");
        let public = Origins::new(import(None));
        let way = public.way(now, &location("s3://films")).await.unwrap();
        let plain = "https://s3.example.net:9000/films/hd/seg%201.m4s";
        assert_eq!(way.url, Url::Presigned(plain.to_owned()));
        let source = format!("file://{}", dir.path().display());
        let way = origins.way(now, &location(&source)).await.unwrap();
        assert_eq!(way.url, Url::Gateway);
        let gone = origins.way(now, &location("file:///nowhere/at/all")).await;
        assert!(gone.is_err());
    }
}
