//! The admin thread: accepts on both sockets, bounds what a peer may take, speaks HTTP/1.1.
//!
//! One `current_thread` runtime of its own, so that it answers when every other runtime is stuck.
//!
//! I/O: accepts, reads and writes sockets; owns a thread.

use super::AdminError;
use super::Config;
use super::Deps;
use super::REPLY_TIME;
use super::commands;
use super::commands::Peer;
use super::gauges::Counters;
use super::gauges::Gauges;
use super::routes;
use super::routes::Shared;
use super::socket;
use super::socket::SocketFile;
use crate::clock;
use crate::task::Heartbeat;
use crate::telemetry::LogLimit;
use axum::Extension;
use axum::Router;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use hyper_util::service::TowerToHyperService;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::net::UnixListener;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::oneshot;

/// Open connections a socket. Operators and agents need a handful; each listener has its own, so
/// that a flood of questions cannot shut out commands.
const CONNECTIONS_MAX: usize = 64;

/// Request line and headers.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// From the connection to the end of the head.
const HEAD_TIME: Duration = Duration::from_secs(5);

/// For a peer to read its answer, above the time it may take to make one.
const WRITE_TIME: Duration = Duration::from_secs(20);

/// After a failed accept (descriptors used up), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// For the thread to end; a view that hangs must not hold up the stop of the process.
const STOP_TIME: Duration = Duration::from_secs(2);

const LOG_EVERY: Duration = Duration::from_secs(10);

/// The running room. Dropping it stops the thread and removes the socket files.
#[derive(Debug)]
pub struct Handle {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    /// Closed when the thread has ended.
    /// In a mutex only so that a handle may be shared; nobody waits on it but the owner.
    ended: Mutex<mpsc::Receiver<()>>,
    heartbeat: Heartbeat,
    metrics_address: Option<std::net::SocketAddr>,
}

/// Everything bound, nothing started.
struct Bound {
    full: (UnixListener, SocketFile),
    read_only: (UnixListener, SocketFile),
    metrics: Option<TcpListener>,
}

/// Binds everything, then starts the thread; on an error nothing is left behind.
pub fn start(config: &Config, deps: Deps) -> Result<Handle, AdminError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(AdminError::Thread)?;
    let bound = {
        let _inside = runtime.enter();
        bind(config)?
    };
    let metrics_address = bound
        .metrics
        .as_ref()
        .and_then(|listener| listener.local_addr().ok());
    let heartbeat = Heartbeat::new("admin", clock::now());
    let heartbeats = deps.heartbeats.iter().chain([&heartbeat]).cloned();
    let shared = Shared {
        views: deps.views,
        metrics: deps.metrics,
        heartbeats: heartbeats.collect(),
        commands: deps.commands,
        reply_time: deps.reply_time,
        full_socket: config.socket.as_path().into(),
    };
    let (stop, stopped) = oneshot::channel();
    let (ending, ended) = mpsc::sync_channel(0);
    let beating = heartbeat.clone();
    let thread = std::thread::Builder::new()
        .name("oca-admin".to_owned())
        .spawn(move || {
            let _ending: mpsc::SyncSender<()> = ending;
            runtime.block_on(run(bound, shared, beating, stopped));
        })
        .map_err(AdminError::Thread)?;
    Ok(Handle {
        stop: Some(stop),
        thread: Some(thread),
        ended: Mutex::new(ended),
        heartbeat,
        metrics_address,
    })
}

impl Handle {
    /// Of the admin thread's scheduler, for the watchdog.
    pub fn heartbeat(&self) -> Heartbeat {
        self.heartbeat.clone()
    }

    /// Where `metrics_listen` was bound.
    pub fn metrics_address(&self) -> Option<std::net::SocketAddr> {
        self.metrics_address
    }

    /// Ends open connections, stops the thread, removes the socket files. Stop this room last.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Fails only if the thread is gone already.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(STOP_TIME) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::error!("the admin thread is stuck; its sockets end with the process");
        } else if let Some(Err(_)) = self.thread.take().map(std::thread::JoinHandle::join) {
            tracing::error!("the admin thread panicked");
        }
    }
}

fn bind(config: &Config) -> Result<Bound, AdminError> {
    if config.socket == config.read_only_socket {
        let path = config.socket.clone();
        return Err(AdminError::SamePath { path });
    }
    let unix = |path: &std::path::Path, mode| -> Result<_, AdminError> {
        let (listener, file) = socket::bind(path, mode)?;
        let listener = UnixListener::from_std(listener).map_err(|error| AdminError::Socket {
            path: path.to_owned(),
            error,
        })?;
        Ok((listener, file))
    };
    let tcp = |address| {
        let failed = |error| AdminError::Metrics { address, error };
        let listener = std::net::TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        TcpListener::from_std(listener).map_err(failed)
    };
    Ok(Bound {
        full: unix(&config.socket, socket::FULL_MODE)?,
        read_only: unix(&config.read_only_socket, socket::READ_ONLY_MODE)?,
        metrics: config.metrics_listen.map(tcp).transpose()?,
    })
}

/// The thread's whole life.
async fn run(bound: Bound, shared: Shared, beating: Heartbeat, stopped: oneshot::Receiver<()>) {
    let counters = Arc::new(Counters::default());
    shared.metrics.register(Gauges {
        views: shared.views.clone(),
        heartbeats: shared.heartbeats.clone(),
        counters: counters.clone(),
    });
    let (full, _full_file) = bound.full;
    let (read_only, _read_only_file) = bound.read_only;
    let accept = |router| Accept::new(router, &counters);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(accept(routes::full(shared.clone())).unix(full));
    tasks.spawn(accept(routes::read_only(shared.clone())).unix(read_only));
    if let Some(metrics) = bound.metrics {
        tasks.spawn(accept(routes::metrics_only(shared)).tcp(metrics));
    }
    tasks.spawn(beating.run());
    // A dropped handle is a stop as well. Leaving drops the tasks, then the socket files.
    let _ = stopped.await;
}

/// One listener's loop.
struct Accept {
    router: Router,
    counters: Arc<Counters>,
    slots: Arc<Semaphore>,
    log: LogLimit,
    open: tokio::task::JoinSet<()>,
}

impl Accept {
    fn new(router: Router, counters: &Arc<Counters>) -> Self {
        Self {
            router,
            counters: counters.clone(),
            slots: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            log: LogLimit::new(LOG_EVERY),
            open: tokio::task::JoinSet::new(),
        }
    }

    async fn unix(mut self, listener: UnixListener) {
        loop {
            let accepted = listener.accept().await.and_then(|(stream, _)| {
                let about = stream.peer_cred()?;
                let peer = Peer {
                    uid: about.uid(),
                    gid: about.gid(),
                    pid: about.pid(),
                };
                Ok((stream, peer))
            });
            match accepted {
                Ok((stream, peer)) => match self.slot() {
                    Some(slot) => {
                        let router = self.router.clone().layer(Extension(peer));
                        self.open.spawn(converse(stream, router, slot));
                    }
                    // Best effort: a fresh socket has room for this.
                    None => drop(stream.try_write(BUSY)),
                },
                Err(error) => self.pause(&error).await,
            }
        }
    }

    async fn tcp(mut self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => match self.slot() {
                    Some(slot) => {
                        self.open.spawn(converse(stream, self.router.clone(), slot));
                    }
                    None => drop(stream.try_write(BUSY)),
                },
                Err(error) => self.pause(&error).await,
            }
        }
    }

    fn slot(&mut self) -> Option<OwnedSemaphorePermit> {
        // Forget those that ended, so that the set stays as small as the number of slots.
        while self.open.try_join_next().is_some() {}
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let slot = self.slots.clone().try_acquire_owned().ok();
        if slot.is_none() {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            if let Some(left_out) = self.log.step(clock::now()) {
                tracing::warn!(left_out, "too many admin connections; one was refused");
            }
        }
        slot
    }

    async fn pause(&mut self, error: &io::Error) {
        if let Some(left_out) = self.log.step(clock::now()) {
            tracing::warn!(%error, left_out, "an admin connection could not be accepted");
        }
        clock::sleep(ACCEPT_PAUSE).await;
    }
}

/// Said to a connection for which there is no slot.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\
content-type: application/json\r\ncontent-length: 57\r\n\r\n\
{\"v\":1,\"error\":\"too many admin connections; try again\"}\n\n";

/// One request and its answer, within bounds. A panic in a handler ends this task only.
async fn converse<S>(stream: S, router: Router, slot: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let most = HEAD_TIME + commands::BODY_TIME + REPLY_TIME + WRITE_TIME;
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match clock::within(most, connection).await {
        Ok(Ok(())) => {}
        // The peer spoke no HTTP or left: its own affair, told only to who looks for it.
        Ok(Err(error)) => tracing::debug!(%error, "admin connection ended early"),
        Err(_) => tracing::debug!("admin connection cut: it took too long"),
    }
    drop(slot);
}
