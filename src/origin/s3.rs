//! A bucket of an S3 service as an origin, or what lies below a prefix of it.
//!
//! `object_store` signs, lists and asks again; our own client carries it (`http`). Reads carry
//! `If-Match`, so that an object is read at the state in which it was listed, also across a
//! resumption. Credentials come from a file or not at all: never from the environment.
//!
//! I/O: reads the credentials file when opened, then speaks HTTP.

use super::Entry;
use super::Limits;
use super::Listed;
use super::Listing;
use super::Origin;
use super::OriginError;
use super::Reading;
use super::checksum;
use super::checksum::Checksum;
use super::checksum::Running;
use super::http::Connector;
use super::http::Refusal;
use crate::tls;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream;
use hyper::HeaderMap;
use hyper::Method;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use object_store::BackoffConfig;
use object_store::ClientOptions;
use object_store::GetOptions;
use object_store::GetResult;
use object_store::ObjectMeta;
use object_store::ObjectStore;
use object_store::ObjectStoreExt;
use object_store::RetryConfig;
use object_store::aws::AmazonS3;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path as Location;
use object_store::signer::Signer;
use std::fmt;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Two lines of letters.
const CREDENTIALS_BYTES_MAX: u64 = 4096;

/// Repetitions are counted instead: an object of 64 GiB may break after hours, and go on.
const RETRY_TIME: Duration = Duration::from_secs(24 * 3600);

/// Letters of a service's complaint that reach a log line.
const PROBLEM_CHARS_MAX: usize = 400;

/// Where a bucket is and who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Config {
    pub bucket: String,
    /// Without slashes at its ends; empty: the whole bucket.
    pub prefix: String,
    /// `https://host[:port]`; none: Amazon's of the region.
    pub endpoint: Option<String>,
    pub region: String,
    /// Two lines, access key and secret key. None: anonymous.
    pub credentials_file: Option<PathBuf>,
    /// PEM; none: the system's certificate authorities.
    pub ca: Option<PathBuf>,
    pub limits: Limits,
}

/// The objects below a prefix of a bucket; their names are relative to it.
#[derive(Clone)]
pub struct S3Origin {
    store: Arc<AmazonS3>,
    bucket: String,
    prefix: Location,
    credentials_file: Option<PathBuf>,
}

impl S3Origin {
    /// Reads the credentials; connects to nothing yet.
    pub fn new(config: &S3Config) -> Result<Self, OriginError> {
        let endpoint = config.endpoint.clone().unwrap_or_else(|| {
            // The service without a name of its own would be asked for another region's buckets.
            format!("https://s3.{}.amazonaws.com", config.region)
        });
        let refused = |what: &str, problem: String| OriginError::Config {
            what: what.to_owned(),
            problem,
        };
        let is_tls = match endpoint.split_once("://") {
            Some(("https", _)) => true,
            Some(("http", _)) => false,
            Some(_) | None => {
                let problem = "write `https://host` or `http://host:port`".to_owned();
                return Err(refused(&endpoint, problem));
            }
        };
        let tls = if is_tls {
            let client = tls::web_client(config.ca.as_deref());
            Some(client.map_err(|error| refused(&error.what, error.problem))?)
        } else {
            None
        };
        let prefix = Location::parse(&config.prefix)
            .map_err(|error| refused(&config.prefix, error.to_string()))?;
        let (name, value) = checksum::ASK;
        let ask = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&config.bucket)
            .with_region(&config.region)
            .with_endpoint(endpoint)
            .with_allow_http(!is_tls)
            .with_virtual_hosted_style_request(false)
            .with_client_options(ClientOptions::new().with_default_headers(ask))
            .with_http_connector(Connector::new(config.limits, tls))
            .with_retry(retry(config.limits));
        builder = match &config.credentials_file {
            // Without any, the library would look for some on the machine when it makes a URL.
            None => builder
                .with_skip_signature(true)
                .with_access_key_id("anonymous")
                .with_secret_access_key("anonymous"),
            Some(path) => {
                let (key, secret) = credentials(path)?;
                builder
                    .with_access_key_id(key)
                    .with_secret_access_key(secret)
            }
        };
        let store = builder
            .build()
            .map_err(|error| refused(&config.bucket, problem(&error)))?;
        Ok(Self {
            store: Arc::new(store),
            bucket: config.bucket.clone(),
            prefix,
            credentials_file: config.credentials_file.clone(),
        })
    }

    /// A URL with which anybody may get one object until it expires. Without credentials of our
    /// own it is the plain one. Asks nobody.
    pub async fn presign(&self, name: &str, expires: Duration) -> Result<String, OriginError> {
        let location = self.location(name)?;
        let url = self.store.signed_url(Method::GET, &location, expires).await;
        let url = url.map_err(|error| self.told(name, &error))?;
        let mut url = String::from(url);
        if self.credentials_file.is_none() {
            url.truncate(url.find('?').unwrap_or(url.len()));
        }
        Ok(url)
    }

    fn location(&self, name: &str) -> Result<Location, OriginError> {
        let path = match self.prefix.as_ref() {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        };
        let failed = |error: object_store::path::Error| OriginError::Failed {
            what: self.url(name),
            problem: error.to_string(),
        };
        Location::parse(path).map_err(failed)
    }

    fn url(&self, name: &str) -> String {
        match name {
            "" => self.name(),
            name => format!("{}/{name}", self.name()),
        }
    }

    fn listed(&self, object: ObjectMeta) -> Listed {
        let path = object.location.as_ref();
        let below = path.strip_prefix(self.prefix.as_ref()).unwrap_or(path);
        let name = below.trim_start_matches('/').to_owned();
        if name.split('/').any(|segment| segment.starts_with('.')) {
            return Listed::Skipped;
        }
        let Some(tag) = object.e_tag else {
            return Listed::Refused {
                name,
                why: "the service gives it no ETag, so its changes could not be noticed".into(),
            };
        };
        Listed::File(Entry {
            name,
            size: object.size,
            tag,
            last_modified: u64::try_from(object.last_modified.timestamp()).unwrap_or(0),
        })
    }

    async fn get(&self, entry: &Entry) -> Result<GetResult, OriginError> {
        let options = GetOptions {
            if_match: Some(entry.tag.clone()),
            ..GetOptions::default()
        };
        let location = self.location(&entry.name)?;
        let got = self.store.get_opts(&location, options).await;
        let got = got.map_err(|error| self.told(&entry.name, &error))?;
        if got.meta.size != entry.size {
            return Err(OriginError::Changed {
                what: self.url(&entry.name),
            });
        }
        Ok(got)
    }

    fn told(&self, name: &str, error: &object_store::Error) -> OriginError {
        use object_store::Error as Fault;
        let what = self.url(name);
        let status = refusal(error).map(|refusal| refusal.status);
        if matches!(error, Fault::NotFound { .. }) || status == Some(StatusCode::NOT_FOUND) {
            return OriginError::NotFound { what };
        }
        if matches!(error, Fault::Precondition { .. }) {
            return OriginError::Changed { what };
        }
        let problem = problem(error);
        let is_denied = matches!(
            error,
            Fault::PermissionDenied { .. } | Fault::Unauthenticated { .. }
        ) || status == Some(StatusCode::FORBIDDEN)
            || status == Some(StatusCode::UNAUTHORIZED);
        if !is_denied {
            return OriginError::Failed { what, problem };
        }
        let remedy = match &self.credentials_file {
            None => "it was asked without credentials: name a credentials_file in `[import]`, \
                     with the access key and the secret key on a line each"
                .to_owned(),
            Some(path) => format!(
                "check that the access key in credentials_file {} may list and read it",
                path.display()
            ),
        };
        OriginError::Denied {
            what,
            problem,
            remedy,
        }
    }
}

impl fmt::Debug for S3Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client holds the secret key.
        f.debug_tuple("S3Origin").field(&self.name()).finish()
    }
}

impl Origin for S3Origin {
    fn name(&self) -> String {
        match self.prefix.as_ref() {
            "" => format!("s3://{}", self.bucket),
            prefix => format!("s3://{}/{prefix}", self.bucket),
        }
    }

    fn list(&self) -> Listing {
        let this = self.clone();
        let prefix = Some(&self.prefix).filter(|prefix| !prefix.as_ref().is_empty());
        let objects = self.store.list(prefix);
        objects
            .map(move |object| match object {
                Ok(object) => Ok(this.listed(object)),
                Err(error) => Err(this.told("", &error)),
            })
            .boxed()
    }

    fn look(&self, name: &str) -> BoxFuture<'static, Result<Entry, OriginError>> {
        let this = self.clone();
        let name = name.to_owned();
        async move {
            let location = this.location(&name)?;
            let found = this.store.head(&location).await;
            match this.listed(found.map_err(|error| this.told(&name, &error))?) {
                Listed::File(entry) => Ok(entry),
                Listed::Refused { .. } | Listed::Skipped => Err(OriginError::NotFound {
                    what: this.url(&name),
                }),
            }
        }
        .boxed()
    }

    fn read(&self, entry: &Entry) -> Reading {
        let this = self.clone();
        let entry = entry.clone();
        let begin = async move {
            let mut got = match this.get(&entry).await {
                Ok(got) => got,
                Err(error) => return stream::once(async { Err(error) }).left_stream(),
            };
            let checksum = got.extensions.remove::<Checksum>();
            let body = Whole {
                url: this.url(&entry.name),
                left: entry.size,
                checksum: checksum.map(Checksum::begin),
                pieces: got.into_stream(),
                origin: this,
                entry,
            };
            stream::try_unfold(body, Whole::next).right_stream()
        };
        stream::once(begin).flatten().boxed()
    }
}

/// An object on its way: it must have its length, and the checksum that its service keeps.
struct Whole {
    origin: S3Origin,
    entry: Entry,
    url: String,
    pieces: stream::BoxStream<'static, object_store::Result<Bytes>>,
    left: u64,
    checksum: Option<Running>,
}

impl Whole {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, OriginError> {
        let damaged = |problem: String| OriginError::Damaged {
            what: self.url.clone(),
            problem,
        };
        let Some(piece) = self.pieces.next().await else {
            if self.left > 0 {
                return Err(damaged(format!("{} bytes are missing", self.left)));
            }
            let verdict = self.checksum.take().map_or(Ok(()), Running::finish);
            return verdict.map(|()| None).map_err(damaged);
        };
        let told = |error| self.origin.told(&self.entry.name, &error);
        let piece = piece.map_err(told)?;
        let Some(left) = self.left.checked_sub(piece.len() as u64) else {
            return Err(damaged("it has more bytes than it should".into()));
        };
        self.left = left;
        if let Some(checksum) = &mut self.checksum {
            checksum.update(&piece);
        }
        Ok(Some((piece, self)))
    }
}

fn retry(limits: Limits) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: limits.backoff,
            max_backoff: limits.backoff_max,
            base: 2.0,
        },
        max_retries: limits.retries,
        retry_timeout: RETRY_TIME,
    }
}

/// Access key and secret key. What the file says never enters a message.
fn credentials(path: &Path) -> Result<(String, String), OriginError> {
    let refused = |problem: String| OriginError::Credentials {
        path: path.to_owned(),
        problem,
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| refused(error.to_string()))?;
    file.take(CREDENTIALS_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| refused(error.to_string()))?;
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    match lines[..] {
        [key, secret] if !key.is_empty() && !secret.is_empty() => {
            Ok((key.to_owned(), secret.to_owned()))
        }
        _ => Err(refused(
            "write two lines, the access key and the secret key".into(),
        )),
    }
}

/// What [`super::http`] put below an error.
fn refusal(error: &object_store::Error) -> Option<&Refusal> {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(refusal) = inner.downcast_ref() {
            return Some(refusal);
        }
        source = inner.source();
    }
    None
}

/// What a service said, in one bounded line without control characters.
fn problem(error: &object_store::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    text.chars()
        .map(printable)
        .take(PROBLEM_CHARS_MAX)
        .collect()
}
