//! The accept loops of the public side, and the life of a connection.
//!
//! I/O: binds and accepts TCP sockets, reads and writes streams, spawns a task a connection.

use super::Deps;
use super::PublicListenerError;
use super::requests;
use crate::clock;
use crate::clock::Elapsed;
use crate::control::PublicConfig;
use crate::control::api::bind::bind;
use crate::control::api::crowd::Crowd;
use crate::telemetry::Collector;
use crate::telemetry::Exposition;
use crate::telemetry::LogLimit;
use crate::tls;
use crate::tls::Outside;
use crate::tls::Tickets;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use rustls::ServerConfig;
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Request line and headers: a key has at most 1,024 bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// After a failed accept (descriptors used up), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that wait to be accepted: an evening's worth of players at once.
const BACKLOG: i32 = 4_096;

const LOG_EVERY: Duration = Duration::from_secs(10);

/// The running listener. Dropping it ends every connection.
#[derive(Debug)]
pub struct Handle {
    door: Door,
    plain: Vec<SocketAddr>,
    secure: Vec<SocketAddr>,
    tasks: JoinSet<()>,
}

/// Serves connections that come from elsewhere than a socket: in-memory streams of tests.
#[derive(Clone, Debug)]
pub struct Door(Arc<Shared>);

/// What every connection shares.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) deps: Deps,
    crowd: Arc<Crowd>,
    pub(super) counters: Counters,
    log: Mutex<LogLimit>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Counters(Arc<Counts>);

#[derive(Debug, Default)]
pub(super) struct Counts {
    requests: AtomicU64,
    /// Answered with 4xx or 5xx.
    refused: AtomicU64,
    crowded: AtomicU64,
    handshakes_failed: AtomicU64,
}

/// Loads certificates and binds every address, then accepts. On an error nothing is left behind.
pub fn start(config: &PublicConfig, deps: Deps) -> Result<Handle, PublicListenerError> {
    let acceptor = match config.listen.is_empty() {
        true => None,
        false => Some(TlsAcceptor::from(tls(&config.tls)?)),
    };
    let plain = bind_all(&config.plain_listen)?;
    let secure = bind_all(&config.listen)?;
    let mut handle = Handle {
        door: Door::new(deps),
        plain: Vec::new(),
        secure: Vec::new(),
        tasks: JoinSet::new(),
    };
    for listener in plain {
        handle.plain.extend(listener.local_addr());
        handle.tasks.spawn(accept(listener, handle.door(), None));
    }
    for listener in secure {
        handle.secure.extend(listener.local_addr());
        let acceptor = acceptor.clone();
        handle
            .tasks
            .spawn(accept(listener, handle.door(), acceptor));
    }
    Ok(handle)
}

fn tls(config: &tls::Config) -> Result<Arc<ServerConfig>, PublicListenerError> {
    if config.certificates.is_empty() {
        return Err(PublicListenerError::NoCertificate);
    }
    let material = tls::load(config, &Tickets::new()?, clock::wall(), Outside::Logged)?;
    Ok(material.config)
}

impl Handle {
    /// Where plain HTTP is served, with the ports that the kernel chose.
    pub fn plain_addresses(&self) -> &[SocketAddr] {
        &self.plain
    }

    /// Where HTTPS is served.
    pub fn secure_addresses(&self) -> &[SocketAddr] {
        &self.secure
    }

    pub fn door(&self) -> Door {
        self.door.clone()
    }

    pub fn stop(self) {
        drop(self);
    }
}

impl Door {
    pub fn new(deps: Deps) -> Self {
        let crowd = Arc::<Crowd>::default();
        let counters = Counters::default();
        deps.metrics.register(deps.steering.counters().clone());
        deps.metrics.register(Gauges {
            counters: counters.clone(),
            crowd: crowd.clone(),
        });
        Self(Arc::new(Shared {
            deps,
            crowd,
            counters,
            log: Mutex::new(LogLimit::new(LOG_EVERY)),
        }))
    }

    /// Serves one plain connection to its end. Dropped, it is cut.
    pub async fn serve_connection<S>(&self, stream: S, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.serve(stream, peer, None).await;
    }

    async fn serve<S>(&self, stream: S, peer: SocketAddr, acceptor: Option<TlsAcceptor>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = &self.0.deps.limits;
        let Some(_place) = self.0.crowd.enter(peer.ip(), limits.room()) else {
            self.0.counters.add(|counts| &counts.crowded);
            self.say(peer, "too many connections; one was refused");
            return;
        };
        let Some(acceptor) = acceptor else {
            return self.converse(stream, peer).await;
        };
        match clock::within(limits.handshake_time, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => self.converse(stream, peer).await,
            // Scanners and old clients: counted, and told to who looks for it.
            failed @ (Ok(Err(_)) | Err(Elapsed)) => {
                self.0.counters.add(|counts| &counts.handshakes_failed);
                let error = failed.map(|inner| inner.err());
                tracing::debug!(%peer, ?error, "public: handshake failed");
            }
        }
    }

    /// Requests one after the other, within bounds. A panic in one ends this connection only.
    async fn converse<S>(&self, stream: S, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = self.0.deps.limits;
        let service = service_fn(|request: hyper::Request<Incoming>| {
            let shared = self.0.clone();
            async move {
                let answer = requests::answer(&shared, peer, request).await;
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.idle)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let ended = match clock::within(limits.life, connection.as_mut()).await {
            Ok(ended) => ended,
            Err(Elapsed) => {
                connection.as_mut().graceful_shutdown();
                // Whoever does not read his answer in this time is cut.
                let last = clock::within(limits.idle, connection).await;
                last.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "public: connection ended early");
        }
    }

    fn say(&self, peer: SocketAddr, problem: &str) {
        let mut log = self.0.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left_out) = log.step(clock::now()) {
            tracing::warn!(%peer, left_out, "public: {problem}");
        }
    }
}

fn bind_all(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, PublicListenerError> {
    let bound = addresses.iter().map(|address| {
        let address = *address;
        bind(address, BACKLOG).map_err(|error| PublicListenerError::Bind { address, error })
    });
    bound.collect()
}

async fn accept(listener: TcpListener, door: Door, acceptor: Option<TlsAcceptor>) {
    // Dropped with this task: stopping cuts them all.
    let mut open = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Answers are one write each; waiting for more would only delay them.
                let _ = stream.set_nodelay(true);
                let (door, acceptor) = (door.clone(), acceptor.clone());
                open.spawn(async move { door.serve(stream, peer, acceptor).await });
            }
            Err(error) => {
                if let Ok(address) = listener.local_addr() {
                    door.say(
                        address,
                        &format!("a connection could not be accepted: {error}"),
                    );
                }
                clock::sleep(ACCEPT_PAUSE).await;
            }
        }
        while open.try_join_next().is_some() {}
    }
}

impl Counters {
    fn add(&self, which: impl Fn(&Counts) -> &AtomicU64) {
        which(&self.0).fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn answered(&self, is_refused: bool) {
        self.add(|counts| &counts.requests);
        if is_refused {
            self.add(|counts| &counts.refused);
        }
    }
}

#[derive(Debug)]
struct Gauges {
    counters: Counters,
    crowd: Arc<Crowd>,
}

impl Collector for Gauges {
    fn collect(&self, into: &mut Exposition<'_>) -> fmt::Result {
        let counts = &self.counters.0;
        #[allow(clippy::cast_precision_loss, reason = "exact to 2^53")]
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
        let open = self.crowd.total() as f64;
        into.gauge("public_connections", "Open connections of viewers.", open)?;
        let help = "Requests of viewers.";
        into.counter("public_requests", help, read(&counts.requests))?;
        let help = "Requests of viewers that were refused.";
        into.counter("public_refused", help, read(&counts.refused))?;
        let help = "Connections of viewers refused because too many were open.";
        into.counter("public_crowded", help, read(&counts.crowded))?;
        let help = "TLS handshakes with viewers that failed.";
        let failed = read(&counts.handshakes_failed);
        into.counter("public_handshakes_failed", help, failed)
    }
}
