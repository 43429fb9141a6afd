//! The admin thread: binds both sockets, answers on them, ends with its handle.
//!
//! One `current_thread` runtime of its own, so that it answers when every other runtime is stuck.
//!
//! I/O: accepts, reads and writes sockets; owns a thread.

use super::AdminError;
use super::Config;
use super::Deps;
use super::REPLY_TIME;
use super::gauges::Gauges;
use super::routes;
use super::routes::Shared;
use crate::clock;
use crate::local;
use crate::local::Accept;
use crate::local::Counters;
use crate::local::SocketError;
use crate::local::SocketFile;
use crate::task::Heartbeat;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::net::UnixListener;
use tokio::sync::oneshot;

/// For the thread to end; a view that hangs must not hold up the stop of the process.
const STOP_TIME: Duration = Duration::from_secs(2);

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
        let (listener, file) = local::bind(path, mode)?;
        let listener = UnixListener::from_std(listener).map_err(|error| SocketError::Io {
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
        full: unix(&config.socket, local::FULL_MODE)?,
        read_only: unix(&config.read_only_socket, local::READ_ONLY_MODE)?,
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
    let accept = |router| Accept::new(router, REPLY_TIME, &counters);
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
