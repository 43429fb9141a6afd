//! One connection to the box, and the three things asked of it: a probe, a download, an upload.
//!
//! I/O: resolves, connects, writes requests, reads answers; every wait has its bound.

use super::super::Exit;
use super::place::Place;
use crate::clock;
use crate::clock::Elapsed;
use crate::help;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::Limited;
use hyper::Request;
use hyper::Response;
use hyper::body::Body;
use hyper::body::Frame;
use hyper::body::Incoming;
use hyper::body::SizeHint;
use hyper::client::conn::http1;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::ProtocolVersion;
use rustls::pki_types::ServerName;
use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

/// For a name, a connection or a handshake; for a head; for the next bytes of a body.
const CONNECT_TIME: Duration = Duration::from_secs(5);
const ANSWER_TIME: Duration = Duration::from_secs(20);

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;

/// What a box says when it refuses.
const REFUSAL_BYTES_MAX: usize = 4 * 1024;

/// Uploads repeat this much noise: too long for anything on the way to compress it.
const NOISE_BYTES: usize = 1 << 20;
const FRAME_BYTES: usize = 64 * 1024;

const AGENT: &str = concat!("oca-speedtest/", env!("CARGO_PKG_VERSION"));

/// Makes connections.
pub(super) struct Client {
    pub(super) place: Place,
    tls: Option<Arc<ClientConfig>>,
    noise: Bytes,
}

/// A connection, ready for a request.
pub(super) struct Wire {
    client: Arc<Client>,
    pub(super) server: SocketAddr,
    pub(super) tls: Option<&'static str>,
    sender: SendRequest<Noise>,
    driver: JoinHandle<hyper::Result<()>>,
}

/// The body of a request: so much noise, which may be none.
pub(super) struct Noise {
    noise: Bytes,
    left: u64,
}

/// Why there is no measurement. The message goes to whoever asked for one.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("{host} has no address: {problem}")]
    Name { host: String, problem: String },
    #[error("{at} cannot be reached: {problem}")]
    Connect { at: String, problem: String },
    #[error(
        "{at} is not trusted: {problem}; name its authority with --ca FILE, or measure without \
         checking with --insecure"
    )]
    Tls { at: String, problem: String },
    #[error("{at} has no speed test (404): [serve.speedtest] enabled = false, or no box")]
    Absent { at: String },
    #[error("{at} refuses ({status}): {told}{}", again(*.retry_after))]
    Refused {
        at: String,
        status: u16,
        told: String,
        retry_after: Option<u64>,
    },
    #[error("{at} stopped answering: {problem}")]
    Broken { at: String, problem: String },
}

fn again(retry_after: Option<u64>) -> String {
    retry_after.map_or_else(String::new, |seconds| format!("; try again in {seconds} s"))
}

impl WireError {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Name { .. } | Self::Connect { .. } => Exit::Unreachable,
            Self::Absent { .. } => Exit::NotFound,
            Self::Refused {
                status: 401 | 403 | 429 | 503,
                ..
            } => Exit::Refused,
            Self::Tls { .. } | Self::Refused { .. } | Self::Broken { .. } => Exit::Failed,
        }
    }
}

impl Client {
    pub(super) fn new(place: Place, tls: Option<Arc<ClientConfig>>) -> Self {
        let mut noise = vec![0; NOISE_BYTES];
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(b"oca speed test, upload")
            .finalize_xof()
            .fill(&mut noise);
        Self {
            place,
            tls,
            noise: noise.into(),
        }
    }

    /// Connects to the first address that answers.
    pub(super) async fn connect(self: &Arc<Self>) -> Result<Wire, WireError> {
        let (host, port) = (self.place.host.as_str(), self.place.port);
        let unnamed = |problem: String| WireError::Name {
            host: host.to_owned(),
            problem,
        };
        let named = clock::within(CONNECT_TIME, tokio::net::lookup_host((host, port))).await;
        let addresses = timely(named).map_err(|error| unnamed(error.to_string()))?;
        let mut problem = unnamed("none was found".to_owned());
        for server in addresses.take(ADDRESSES_MAX) {
            match self.connect_to(server).await {
                Ok(wire) => return Ok(wire),
                // Another address is another box, but not another certificate.
                Err(error @ WireError::Tls { .. }) => return Err(error),
                Err(error) => problem = error,
            }
        }
        Err(problem)
    }

    async fn connect_to(self: &Arc<Self>, server: SocketAddr) -> Result<Wire, WireError> {
        let unreached = |error: io::Error| WireError::Connect {
            at: server.to_string(),
            problem: error.to_string(),
        };
        let stream = clock::within(CONNECT_TIME, TcpStream::connect(server)).await;
        let stream = timely(stream).map_err(unreached)?;
        stream.set_nodelay(true).map_err(unreached)?;
        let Some(tls) = &self.tls else {
            let io = TokioIo::new(stream);
            let spoken = http1::handshake(io).await;
            let (sender, driver) = spoken.map_err(|error| self.broken(&error))?;
            return Ok(self.wire(server, None, sender, tokio::spawn(driver)));
        };
        let distrusted = |problem: String| WireError::Tls {
            at: self.place.to_string(),
            problem,
        };
        let name = ServerName::try_from(self.place.host.clone());
        let name = name.map_err(|error| distrusted(error.to_string()))?;
        let connector = TlsConnector::from(Arc::clone(tls));
        let stream = clock::within(CONNECT_TIME, connector.connect(name, stream)).await;
        let stream = timely(stream).map_err(|error| distrusted(error.to_string()))?;
        let version = stream.get_ref().1.protocol_version();
        let version = version.map(|version| {
            if version == ProtocolVersion::TLSv1_2 {
                "TLSv1.2"
            } else {
                "TLSv1.3"
            }
        });
        let spoken = http1::handshake(TokioIo::new(stream)).await;
        let (sender, driver) = spoken.map_err(|error| self.broken(&error))?;
        Ok(self.wire(server, version, sender, tokio::spawn(driver)))
    }

    fn wire(
        self: &Arc<Self>,
        server: SocketAddr,
        tls: Option<&'static str>,
        sender: SendRequest<Noise>,
        driver: JoinHandle<hyper::Result<()>>,
    ) -> Wire {
        Wire {
            client: Arc::clone(self),
            server,
            tls,
            sender,
            driver,
        }
    }

    fn broken(&self, error: &dyn Error) -> WireError {
        // The outermost text of hyper says little.
        let mut problem = error.to_string();
        if let Some(source) = error.source() {
            problem = format!("{problem}: {source}");
        }
        WireError::Broken {
            at: self.place.to_string(),
            problem,
        }
    }
}

/// One error for a wait that failed and for one that took too long.
fn timely<T>(outcome: Result<io::Result<T>, Elapsed>) -> io::Result<T> {
    outcome.unwrap_or_else(|elapsed| Err(io::Error::new(io::ErrorKind::TimedOut, elapsed)))
}

impl Wire {
    /// One byte there and back.
    pub(super) async fn probe(&mut self) -> Result<(), WireError> {
        let mut answer = self.ask("GET", "/speedtest/range/0-0", 0).await?;
        while self.next(&mut answer).await?.is_some() {}
        Ok(())
    }

    /// The whole file, each piece counted as it comes.
    pub(super) async fn download(&mut self, count: &AtomicU64) -> Result<(), WireError> {
        let mut answer = self.ask("GET", "/speedtest", 0).await?;
        while let Some(piece) = self.next(&mut answer).await? {
            count.fetch_add(piece.len() as u64, Relaxed);
        }
        Ok(())
    }

    /// `bytes` there. They count once the box has counted them: what waits in buffers on the way
    /// has not arrived.
    pub(super) async fn upload(&mut self, bytes: u64, count: &AtomicU64) -> Result<(), WireError> {
        let mut answer = self.ask("POST", "/speedtest", bytes).await?;
        while self.next(&mut answer).await?.is_some() {}
        count.fetch_add(bytes, Relaxed);
        Ok(())
    }

    async fn ask(
        &mut self,
        method: &str,
        path: &str,
        bytes: u64,
    ) -> Result<Response<Incoming>, WireError> {
        let client = Arc::clone(&self.client);
        let request = Request::builder()
            .method(method)
            .uri(client.place.target(path))
            .header("Host", client.place.authority())
            .header("User-Agent", AGENT)
            .body(Noise {
                noise: client.noise.clone(),
                left: bytes,
            })
            .map_err(|error| client.broken(&error))?;
        let exchange = async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        };
        let answered = clock::within(ANSWER_TIME, exchange).await;
        let answered = answered.map_err(|elapsed| client.broken(&elapsed))?;
        let response = answered.map_err(|error| client.broken(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refused(response).await)
    }

    async fn refused(&self, response: Response<Incoming>) -> WireError {
        let (at, status) = (self.client.place.to_string(), response.status().as_u16());
        if status == 404 {
            return WireError::Absent { at };
        }
        let retry_after = response.headers().get("retry-after");
        let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
        let text = Limited::new(response.into_body(), REFUSAL_BYTES_MAX).collect();
        // A refusal without its reason is one all the same.
        let text = match clock::within(CONNECT_TIME, text).await {
            Ok(Ok(text)) => text.to_bytes(),
            Ok(Err(_)) | Err(_) => Bytes::new(),
        };
        WireError::Refused {
            at,
            status,
            told: help::printable(text.trim_ascii(), 200),
            retry_after,
        }
    }

    /// The next bytes of an answer; `None` at its end.
    async fn next(&self, answer: &mut Response<Incoming>) -> Result<Option<Bytes>, WireError> {
        let frame = clock::within(ANSWER_TIME, answer.body_mut().frame()).await;
        let frame = frame.map_err(|elapsed| self.client.broken(&elapsed))?;
        let frame = frame.transpose();
        let frame = frame.map_err(|error| self.client.broken(&error))?;
        Ok(frame.map(|frame| frame.into_data().unwrap_or_default()))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Body for Noise {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let length = usize::try_from(self.left).map_or(FRAME_BYTES, |left| left.min(FRAME_BYTES));
        // Another part of the noise each time.
        let parts = NOISE_BYTES / FRAME_BYTES;
        let part = usize::try_from(self.left / FRAME_BYTES as u64).unwrap_or(0) % parts;
        let at = part * FRAME_BYTES;
        self.left -= length as u64;
        let frame = self.noise.slice(at..at + length);
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
