//! The HTTP client under `object_store`: hyper over TCP or rustls, with time limits.
//!
//! One request, one answer; repetitions are `object_store`'s, redirects are not followed. Only the
//! bodies of objects are streamed; everything else is read here, up to a bound, so that a broken
//! page of a listing is asked for again instead of ending the listing.
//!
//! I/O: writes requests and reads answers.

use super::Limits;
use super::checksum;
use super::pool::Lease;
use super::pool::Pool;
use crate::clock;
use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Limited;
use hyper::StatusCode;
use hyper::Uri;
use hyper::body::Body;
use hyper::body::Frame;
use hyper::body::Incoming;
use hyper::body::SizeHint;
use hyper::header;
use hyper::header::HeaderValue;
use object_store::ClientOptions;
use object_store::client::HttpClient;
use object_store::client::HttpConnector;
use object_store::client::HttpError;
use object_store::client::HttpErrorKind;
use object_store::client::HttpRequest;
use object_store::client::HttpResponse;
use object_store::client::HttpResponseBody;
use object_store::client::HttpService;
use rustls::ClientConfig;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use tokio::time::Sleep;

/// A page of a listing: 1,000 names of at most 1,024 bytes, escaped, with their dates and tags.
const PAGE_BYTES_MAX: usize = 16 << 20;

/// What a service says when it refuses.
const REFUSAL_BYTES_MAX: usize = 16 << 10;

/// For a body that is read here, however slowly its pieces come.
const COLLECT_TIME: Duration = Duration::from_secs(60);

const AGENT: &str = concat!("oca/", env!("CARGO_PKG_VERSION"));

/// Makes the one client of an origin.
#[derive(Debug)]
pub(super) struct Connector {
    pool: Arc<Pool>,
    limits: Limits,
}

#[derive(Debug)]
struct Service {
    pool: Arc<Pool>,
    limits: Limits,
}

/// A listing was refused for good. `object_store` tells that of objects by their status, but not
/// of listings.
#[derive(Debug, thiserror::Error)]
#[error("{status}: {told}")]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    told: String,
}

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
enum ExchangeError {
    #[error("no answer within {0:?}")]
    Head(Duration),
    #[error("nothing arrived for {0:?}")]
    Stalled(Duration),
    #[error("the answer did not end within {0:?}")]
    Slow(Duration),
    #[error("the answer cannot be read, or is too long: {0}")]
    Collect(Box<dyn std::error::Error + Send + Sync>),
}

/// The body of an object. A pause of the service ends it; a pause of the reader does not.
struct Content {
    incoming: Incoming,
    lease: Option<Lease>,
    stall: Duration,
    timer: Pin<Box<Sleep>>,
    is_waiting: bool,
}

impl Connector {
    pub(super) fn new(limits: Limits, tls: Option<Arc<ClientConfig>>) -> Self {
        Self {
            pool: Arc::new(Pool::new(limits, tls)),
            limits,
        }
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Service {
            pool: Arc::clone(&self.pool),
            limits: self.limits,
        }))
    }
}

impl HttpService for Service {
    fn call<'life, 'call>(
        &'life self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'call>>
    where
        'life: 'call,
        Self: 'call,
    {
        Box::pin(self.exchange(request))
    }
}

impl Service {
    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let is_listing = request
            .uri()
            .query()
            .is_some_and(|query| query.contains("list-type="));
        let taken = self.pool.take(request.uri()).await;
        let mut lease = taken.map_err(|error| HttpError::new(error.kind(), error))?;
        let request = origin_form(request)?;
        let sent = lease.sender.send_request(request);
        let within = self.limits.head;
        let answered = clock::within(within, sent).await;
        let timeout = |_| HttpError::new(HttpErrorKind::Timeout, ExchangeError::Head(within));
        let response = answered.map_err(timeout)?.map_err(broken)?;
        let (mut parts, incoming) = response.into_parts();
        if let Some(checksum) = checksum::told(&parts.headers)
            && parts.status == StatusCode::OK
        {
            parts.extensions.insert(checksum);
        }
        let content = Content::new(incoming, lease, self.limits.stall);
        let body = if !parts.status.is_success() {
            // Its reason is worth having; that it cannot be read changes nothing.
            let told = collect(content, REFUSAL_BYTES_MAX).await;
            let told = told.unwrap_or_default();
            if is_listing && is_final(parts.status) {
                return Err(HttpError::new(
                    HttpErrorKind::Unknown,
                    Refusal {
                        status: parts.status,
                        told: String::from_utf8_lossy(&told).into_owned(),
                    },
                ));
            }
            HttpResponseBody::from(told)
        } else if is_listing {
            HttpResponseBody::from(collect(content, PAGE_BYTES_MAX).await?)
        } else {
            HttpResponseBody::new(content)
        };
        Ok(HttpResponse::from_parts(parts, body))
    }
}

fn is_final(status: StatusCode) -> bool {
    let is_for_the_moment =
        status == StatusCode::REQUEST_TIMEOUT || status == StatusCode::TOO_MANY_REQUESTS;
    status.is_client_error() && !is_for_the_moment
}

/// RFC 9112 section 3.2.1: the path alone, and the name of the service in `Host`.
fn origin_form(mut request: HttpRequest) -> Result<HttpRequest, HttpError> {
    let unknown = |error: hyper::http::Error| HttpError::new(HttpErrorKind::Unknown, error);
    let uri = request.uri();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let form = Uri::try_from(path).map_err(|error| unknown(error.into()))?;
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let host = HeaderValue::from_str(authority).map_err(|error| unknown(error.into()))?;
    let headers = request.headers_mut();
    headers.entry(header::HOST).or_insert(host);
    let agent = HeaderValue::from_static(AGENT);
    headers.entry(header::USER_AGENT).or_insert(agent);
    *request.uri_mut() = form;
    Ok(request)
}

async fn collect(content: Content, bytes_max: usize) -> Result<Bytes, HttpError> {
    let whole = Limited::new(content, bytes_max).collect();
    let within = clock::within(COLLECT_TIME, whole).await;
    let slow = |_| HttpError::new(HttpErrorKind::Timeout, ExchangeError::Slow(COLLECT_TIME));
    let interrupted =
        |error| HttpError::new(HttpErrorKind::Interrupted, ExchangeError::Collect(error));
    Ok(within.map_err(slow)?.map_err(interrupted)?.to_bytes())
}

/// Every failure below HTTP may pass: `object_store` asks again where asking is harmless.
fn broken(error: hyper::Error) -> HttpError {
    let kind = if error.is_parse() {
        HttpErrorKind::Decode
    } else if error.is_timeout() {
        HttpErrorKind::Timeout
    } else {
        HttpErrorKind::Interrupted
    };
    HttpError::new(kind, Told(error))
}

/// hyper's own words leave out what the operating system said.
#[derive(Debug)]
struct Told(hyper::Error);

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let inner = std::error::Error::source(&self.0);
        let inner = inner.and_then(|inner| inner.downcast_ref::<io::Error>());
        match inner {
            Some(inner) => write!(f, "{}: {inner}", self.0),
            None => write!(f, "{}", self.0),
        }
    }
}

impl std::error::Error for Told {}

impl Content {
    fn new(incoming: Incoming, lease: Lease, stall: Duration) -> Self {
        let mut content = Self {
            incoming,
            lease: Some(lease),
            stall,
            timer: Box::pin(clock::timer(clock::now() + stall)),
            is_waiting: false,
        };
        content.release_at_end();
        content
    }

    fn release_at_end(&mut self) {
        if self.incoming.is_end_stream()
            && let Some(lease) = self.lease.take()
        {
            lease.give_back();
        }
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.incoming).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                this.is_waiting = false;
                this.release_at_end();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                this.lease = None;
                Poll::Ready(Some(Err(broken(error))))
            }
            Poll::Ready(None) => {
                if let Some(lease) = this.lease.take() {
                    lease.give_back();
                }
                Poll::Ready(None)
            }
            Poll::Pending => {
                if !this.is_waiting {
                    this.is_waiting = true;
                    let deadline = clock::now() + this.stall;
                    this.timer.as_mut().reset(deadline);
                }
                let () = std::task::ready!(this.timer.as_mut().poll(context));
                this.lease = None;
                let error = ExchangeError::Stalled(this.stall);
                Poll::Ready(Some(Err(HttpError::new(HttpErrorKind::Timeout, error))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
