//! The accept loops of the link.
//!
//! I/O: binds and accepts TCP sockets, spawns a task a connection.

use super::Deps;
use super::LinkListenerError;
use super::connection;
use super::limits::Heavy;
use super::limits::Rates;
use super::metrics;
use super::metrics::Counters;
use crate::clock;
use crate::control::LinkConfig;
use crate::control::api::bind::bind;
use crate::control::api::crowd::Crowd;
use crate::control::api::crowd::Place;
use crate::telemetry::LogLimit;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// After a failed accept (descriptors used up), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that wait to be accepted: a site that comes back after a power cut.
const BACKLOG: i32 = 4_096;

const LOG_EVERY: Duration = Duration::from_secs(10);

/// What every connection shares.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) deps: Deps,
    pub(super) crowd: Arc<Crowd>,
    pub(super) rates: Rates,
    pub(super) handshakes: Semaphore,
    pub(super) large_bodies: Arc<Heavy>,
    pub(super) enrolments: Semaphore,
    pub(super) counters: Arc<Counters>,
    pub(super) logs: Logs,
}

/// One bound a cause for lines that strangers can provoke.
#[derive(Debug)]
pub(super) struct Logs {
    pub(super) crowded: Mutex<LogLimit>,
    pub(super) handshakes: Mutex<LogLimit>,
    pub(super) requests: Mutex<LogLimit>,
}

/// The running listener. Dropping it ends every connection.
#[derive(Debug)]
pub struct Handle {
    door: Door,
    addresses: Vec<SocketAddr>,
    tasks: JoinSet<()>,
}

/// Serves connections that come from elsewhere than a socket: in-memory streams of tests.
#[derive(Clone, Debug)]
pub struct Door(Arc<Shared>);

/// Binds every address, then accepts. On an error nothing is left behind.
pub fn start(config: &LinkConfig, deps: Deps) -> Result<Handle, LinkListenerError> {
    if config.listen.is_empty() {
        return Err(LinkListenerError::Nowhere);
    }
    let bound: Result<Vec<_>, _> = config
        .listen
        .iter()
        .map(|at| {
            let address = *at;
            bind(address, BACKLOG).map_err(|error| LinkListenerError::Bind { address, error })
        })
        .collect();
    let door = Door::new(deps);
    let mut handle = Handle {
        door: door.clone(),
        addresses: Vec::new(),
        tasks: JoinSet::new(),
    };
    for listener in bound? {
        handle.addresses.extend(listener.local_addr());
        handle.tasks.spawn(accept(listener, door.clone()));
    }
    Ok(handle)
}

impl Handle {
    /// Where it listens, with the ports that the kernel chose.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
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
        let limits = deps.limits;
        let log = || Mutex::new(LogLimit::new(LOG_EVERY));
        let shared = Shared {
            crowd: Arc::default(),
            rates: Rates::default(),
            handshakes: Semaphore::new(limits.handshakes),
            large_bodies: Arc::default(),
            enrolments: Semaphore::new(limits.enrolments),
            counters: Arc::default(),
            logs: Logs {
                crowded: log(),
                handshakes: log(),
                requests: log(),
            },
            deps,
        };
        metrics::register(&shared);
        Self(Arc::new(shared))
    }

    /// Serves one connection to its end: handshake, requests. Dropped, it is cut.
    pub async fn serve_connection<S>(&self, stream: S, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if let Some(place) = self.enter(peer) {
            connection::serve(&self.0, stream, peer).await;
            drop(place);
        }
    }

    fn enter(&self, peer: SocketAddr) -> Option<Place> {
        let place = self.0.crowd.enter(peer.ip(), self.0.deps.limits.room());
        if place.is_none() {
            Counters::add(&self.0.counters.crowded);
            if let Some(left_out) = may_log(&self.0.logs.crowded) {
                tracing::warn!(%peer, left_out, "link: too many connections; one was refused");
            }
        }
        place
    }
}

/// `Some(left out)` if a line may be written.
pub(super) fn may_log(limit: &Mutex<LogLimit>) -> Option<u64> {
    let mut limit = limit.lock().unwrap_or_else(PoisonError::into_inner);
    limit.step(clock::now())
}

async fn accept(listener: TcpListener, door: Door) {
    // Dropped with this task: stopping cuts them all.
    let mut open = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Answers are one write each; waiting for more would only delay them.
                let _ = stream.set_nodelay(true);
                let door = door.clone();
                open.spawn(async move { door.serve_connection(stream, peer).await });
            }
            Err(error) => {
                if let Some(left_out) = may_log(&door.0.logs.crowded) {
                    tracing::warn!(%error, left_out, "link: a connection could not be accepted");
                }
                clock::sleep(ACCEPT_PAUSE).await;
            }
        }
        while open.try_join_next().is_some() {}
    }
}
