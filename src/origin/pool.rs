//! Connections to an HTTP service: a bounded number, kept for the next request.
//!
//! `http` takes one for each request and gives it back when the answer has been read to its end;
//! one that is dropped earlier is closed.
//!
//! I/O: resolves names, connects, spawns one task a connection, which ends with it.

use super::Limits;
use crate::clock;
use hyper::Uri;
use hyper::client::conn::http1;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use object_store::client::HttpErrorKind;
use object_store::client::HttpRequestBody;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;

/// Of a connection: the longest head, and what waits to be read.
const BUFFER_BYTES_MAX: usize = 256 << 10;

/// An answer of a sensible service has a dozen.
const HEADERS_MAX: usize = 100;

pub(super) type Sender = SendRequest<HttpRequestBody>;

pub(super) struct Pool {
    limits: Limits,
    /// `None`: no `https` is spoken.
    tls: Option<TlsConnector>,
    idle: Mutex<Vec<(Destination, Sender)>>,
    permits: Arc<Semaphore>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Destination {
    tls: bool,
    host: String,
    port: u16,
}

/// A connection in use.
pub(super) struct Lease {
    pub(super) sender: Sender,
    destination: Destination,
    pool: Arc<Pool>,
    _permit: OwnedSemaphorePermit,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum PoolError {
    #[error("`{0}` is not an http or https URL")]
    Url(String),
    #[error("every connection was in use for {0:?}")]
    Busy(std::time::Duration),
    #[error("no connection to {host}:{port} within {within:?}")]
    Slow {
        host: String,
        port: u16,
        within: std::time::Duration,
    },
    #[error("no connection to {host}:{port}: {error}")]
    Connect {
        host: String,
        port: u16,
        error: io::Error,
    },
    #[error("{host}:{port} does not speak HTTP: {error}")]
    Http {
        host: String,
        port: u16,
        error: hyper::Error,
    },
}

impl Pool {
    pub(super) fn new(limits: Limits, tls: Option<Arc<ClientConfig>>) -> Self {
        Self {
            limits,
            tls: tls.map(TlsConnector::from),
            idle: Mutex::new(Vec::new()),
            permits: Arc::new(Semaphore::new(limits.connections)),
        }
    }

    /// A connection that is ready for a request: a kept one, or else a fresh one.
    pub(super) async fn take(self: &Arc<Self>, uri: &Uri) -> Result<Lease, PoolError> {
        let destination = Destination::of(uri).ok_or_else(|| PoolError::Url(uri.to_string()))?;
        let wait = self.limits.head;
        let permit = clock::within(wait, Arc::clone(&self.permits).acquire_owned());
        // The semaphore is never closed; an error would be the same as being busy.
        let Ok(Ok(permit)) = permit.await else {
            return Err(PoolError::Busy(wait));
        };
        let sender = loop {
            let Some(mut kept) = self.kept(&destination) else {
                break self.connect(&destination).await?;
            };
            // Ready at once, unless the service has closed it in the meantime.
            if let Ok(Ok(())) = clock::within(self.limits.connect, kept.ready()).await {
                break kept;
            }
        };
        Ok(Lease {
            sender,
            destination,
            pool: Arc::clone(self),
            _permit: permit,
        })
    }

    fn kept(&self, destination: &Destination) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(_, sender)| !sender.is_closed());
        let at = idle.iter().rposition(|(to, _)| to == destination)?;
        Some(idle.swap_remove(at).1)
    }

    async fn connect(&self, to: &Destination) -> Result<Sender, PoolError> {
        let within = self.limits.connect;
        let connected = clock::within(within, self.stream(to)).await;
        let stream = connected
            .map_err(|_| PoolError::Slow {
                host: to.host.clone(),
                port: to.port,
                within,
            })?
            .map_err(|error| PoolError::Connect {
                host: to.host.clone(),
                port: to.port,
                error,
            })?;
        let mut builder = http1::Builder::new();
        builder
            .max_buf_size(BUFFER_BYTES_MAX)
            .max_headers(HEADERS_MAX);
        let shaken = builder.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|error| PoolError::Http {
            host: to.host.clone(),
            port: to.port,
            error,
        })?;
        // Ends when the sender is dropped or the service closes; whoever waits for an answer has
        // the error from there.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(sender)
    }

    async fn stream(&self, to: &Destination) -> io::Result<Box<dyn Stream>> {
        let host = to.host.trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, to.port)).await?;
        stream.set_nodelay(true)?;
        if !to.tls {
            return Ok(Box::new(stream));
        }
        let tls = self.tls.as_ref().ok_or_else(|| {
            io::Error::other("the origin was opened for plain HTTP and leads to HTTPS")
        })?;
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(Box::new(tls.connect(name, stream).await?))
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Destination {
    fn of(uri: &Uri) -> Option<Self> {
        let tls = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        Some(Self {
            tls,
            host: uri.host()?.to_owned(),
            port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
        })
    }
}

impl Lease {
    /// The answer was read to its end: the connection can carry another.
    pub(super) fn give_back(self) {
        let mut idle = self.pool.idle.lock();
        let idle = idle.as_mut();
        let idle = match idle {
            Ok(idle) => idle,
            Err(poisoned) => poisoned.get_mut(),
        };
        // Never more than there are permits, for each was one a moment ago.
        if idle.len() < self.pool.limits.connections {
            idle.push((self.destination.clone(), self.sender));
        }
    }
}

impl PoolError {
    /// For the repetition that `object_store` decides.
    pub(super) fn kind(&self) -> HttpErrorKind {
        match self {
            Self::Url(_) => HttpErrorKind::Unknown,
            Self::Busy(_) | Self::Slow { .. } => HttpErrorKind::Timeout,
            Self::Connect { .. } | Self::Http { .. } => HttpErrorKind::Connect,
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}
