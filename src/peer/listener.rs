//! The thread that gives: the accept loops, and what every connection shares.
//!
//! I/O: binds and accepts, spawns a task a connection.

use super::Config;
use super::Deps;
use super::PeerError;
use super::View;
use super::budget::Budgets;
use super::connection;
use super::counters::Counters;
use super::credentials;
use super::crowd::Crowd;
use super::crowd::Strangers;
use super::metrics;
use super::refusal::Reason;
use crate::clock;
use crate::ids::BoxId;
use crate::pacer::Pacer;
use crate::serve::Terms;
use crate::serve::listener::Bound;
use crate::serve::listener::Listener;
use crate::serve::listener::ViewerStream;
use crate::task::Heartbeat;
use crate::task::Phase;
use crate::telemetry::LogLimit;
use crate::units::BytesPerSecond;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio::task::JoinSet;

/// After a failed accept (descriptors used up), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The thread's name.
const THREAD: &str = "peer";

/// Lines that others can provoke.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// What every connection shares.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) deps: Deps,
    pub(super) credentials: credentials::Cache,
    pub(super) strangers: Strangers,
    pub(super) askers: Arc<Crowd<BoxId>>,
    pub(super) budgets: Budgets,
    pub(super) pacer: Pacer,
    /// Of all responses together.
    pub(super) rate: BytesPerSecond,
    pub(super) counters: Counters,
    pub(super) terms: Arc<Terms>,
    addresses: Vec<SocketAddr>,
    log: Mutex<LogLimit>,
}

/// The running listener. Clones share it; the last one ends every connection.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Running>);

#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
    heart: Heartbeat,
    /// The thread ends with the word, and with its loss.
    stop: watch::Sender<bool>,
}

/// Binds every address, then accepts on a thread of its own. On an error nothing is left behind.
pub fn start(config: &Config, deps: Deps) -> Result<Handle, PeerError> {
    let (mut bound, mut addresses) = (Vec::new(), Vec::new());
    for address in &config.listen {
        let failed = |error| PeerError::Bind {
            address: *address,
            error,
        };
        let socket = deps.bind.bind(*address).map_err(failed)?;
        addresses.push(socket.local_addr().map_err(failed)?);
        bound.push(socket);
    }
    let limits = deps.limits;
    let heart = Heartbeat::new(THREAD, clock::now());
    let verdict = deps.bind.tls_offload();
    let terms = Terms::new(deps.offload, verdict, heart.clone(), limits.stall);
    tracing::info!(sealed_in = terms.path(), "peer: other boxes may fetch here");
    let shared = Arc::new(Shared {
        credentials: credentials::Cache::default(),
        strangers: Strangers::new(limits.strangers, limits.strangers_per_address),
        askers: Crowd::new(config.connections, limits.connections_per_asker),
        budgets: Budgets::new(),
        pacer: Pacer::default(),
        rate: config.rate_limit,
        counters: Counters::default(),
        terms: Arc::new(terms),
        addresses,
        log: Mutex::new(LogLimit::new(LOG_EVERY)),
        deps,
    });
    metrics::register(&shared);
    let (stop, stopped) = watch::channel(false);
    let life = live(Arc::clone(&shared), bound, heart.clone(), stopped);
    let spawn = &shared.deps.spawn;
    spawn
        .spawn(THREAD.to_owned(), Box::pin(life))
        .map_err(PeerError::Thread)?;
    Ok(Handle(Arc::new(Running {
        shared,
        heart,
        stop,
    })))
}

impl Handle {
    pub fn view(&self) -> View {
        self.0.shared.view()
    }

    /// Ends every connection at once and gives up the addresses.
    pub fn stop(&self) {
        self.0.stop.send_replace(true);
    }

    /// Of the thread, for the watchdog.
    pub fn heartbeat(&self) -> Heartbeat {
        self.0.heart.clone()
    }
}

impl Shared {
    pub(super) fn view(&self) -> View {
        let counters = &self.counters;
        View {
            listen: self.addresses.clone(),
            connections: u64::try_from(self.askers.total()).unwrap_or(u64::MAX),
            connections_total: Counters::get(&counters.connections),
            requests: Counters::get(&counters.requests),
            responses: Counters::get(&counters.responses),
            bytes_sent: Counters::get(&counters.bytes_sent),
            sealed_by_kernel: self.terms.sealed_by_kernel(),
            refusals: counters.refusals(),
            last_refusal: counters.last_refusal(),
        }
    }

    /// Counts it, remembers it, and logs one in a while.
    pub(super) fn refuse(&self, reason: Reason, who: &str, message: &str) {
        self.counters.refuse(reason, who, message);
        if matches!(reason, Reason::NotHeld | Reason::NotYet) {
            return;
        }
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left_out) = log.step(clock::now()) {
            let reason = reason.as_str();
            tracing::warn!(who, reason, left_out, "peer: refused {who}: {message}");
        }
    }
}

/// The thread's life: every address, until the handle or the process says stop.
async fn live(
    shared: Arc<Shared>,
    bound: Vec<Box<dyn Bound>>,
    heart: Heartbeat,
    mut stopped: watch::Receiver<bool>,
) {
    let mut tasks = JoinSet::new();
    for (address, socket) in shared.addresses.iter().zip(bound) {
        match socket.listen() {
            Ok(listener) => drop(tasks.spawn(run(Arc::clone(&shared), listener))),
            // The socket listens since it was bound; only the reactor can refuse it here.
            Err(error) => tracing::error!(%error, %address, "peer: cannot accept; restart"),
        }
    }
    let beating = tokio::spawn(heart.run());
    // An error means that the last handle is gone, which is the same news.
    let _ = stopped.wait_for(|stopped| *stopped).await;
    beating.abort();
    tasks.shutdown().await;
}

/// One address, until the process stops. Its connections end with it.
async fn run(shared: Arc<Shared>, mut listener: Box<dyn Listener>) {
    let mut connections = JoinSet::new();
    let mut phase = shared.deps.phase.clone();
    let mut stopped = std::pin::pin!(async {
        if let Phase::Draining { deadline } = phase.leaving().await {
            tokio::select! {
                () = clock::sleep_until(deadline) => {}
                () = phase.stopped() => {}
            }
        }
    });
    loop {
        tokio::select! {
            () = &mut stopped => return,
            Some(ended) = connections.join_next() => reap(&shared, ended),
            accepted = poll_fn(|cx| listener.poll_accept(cx)) => match accepted {
                Ok(arrival) => admit(&shared, &mut connections, arrival),
                Err(error) => accept_failed(&shared, &error).await,
            },
        }
    }
}

async fn accept_failed(shared: &Shared, error: &io::Error) {
    let message = format!("no connection could be accepted: {error}");
    shared.refuse(Reason::Broken, "accept", &message);
    clock::sleep(ACCEPT_PAUSE).await;
}

fn admit(
    shared: &Arc<Shared>,
    connections: &mut JoinSet<()>,
    (stream, remote): (Box<dyn ViewerStream>, SocketAddr),
) {
    match shared.strangers.enter(remote.ip()) {
        Ok(place) => {
            let shared = Arc::clone(shared);
            connections.spawn(async move {
                connection::serve(&shared, (stream, remote), place).await;
            });
        }
        Err(_) => {
            let message = "too many connections that have not shown a certificate";
            shared.refuse(Reason::Stranger, &remote.ip().to_string(), message);
        }
    }
}

fn reap(shared: &Shared, ended: Result<(), JoinError>) {
    if ended.is_err_and(|error| error.is_panic()) {
        shared.refuse(Reason::Panic, "connection", "it ended by a panic");
    }
}
