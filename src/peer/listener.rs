//! The accept loops, and what every connection shares.
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
use super::crowd::household;
use super::metrics;
use super::net::Accepted;
use super::net::Listener;
use super::refusal::Reason;
use crate::clock;
use crate::ids::BoxId;
use crate::pacer::Pacer;
use crate::task::Phase;
use crate::telemetry::LogLimit;
use crate::units::BytesPerSecond;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::task::JoinError;
use tokio::task::JoinSet;

/// After a failed accept (descriptors used up), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Lines that others can provoke.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// What every connection shares.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) deps: Deps,
    pub(super) credentials: credentials::Cache,
    pub(super) strangers: Arc<Crowd<IpAddr>>,
    pub(super) askers: Arc<Crowd<BoxId>>,
    pub(super) budgets: Budgets,
    pub(super) pacer: Pacer,
    /// Of all responses together.
    pub(super) rate: BytesPerSecond,
    pub(super) counters: Counters,
    addresses: Vec<SocketAddr>,
    log: Mutex<LogLimit>,
}

/// The running listener. Clones share it; the last one ends every connection.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Running>);

#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
    /// One an address; aborted when dropped.
    tasks: Mutex<JoinSet<()>>,
}

/// Binds every address, then accepts. On an error nothing is left behind. Must be called on the
/// runtime that is to do the work.
pub fn start(config: &Config, deps: Deps) -> Result<Handle, PeerError> {
    let (mut bound, mut addresses) = (Vec::new(), Vec::new());
    for address in &config.listen {
        let failed = |error| PeerError::Bind {
            address: *address,
            error,
        };
        let listener = deps.bind.bind(*address, config.rate_limit);
        let listener = listener.map_err(failed)?;
        addresses.push(listener.address().map_err(failed)?);
        bound.push(listener);
    }
    let limits = deps.limits;
    let shared = Arc::new(Shared {
        credentials: credentials::Cache::default(),
        strangers: Crowd::new(limits.strangers, limits.strangers_per_address),
        askers: Crowd::new(config.connections, limits.connections_per_asker),
        budgets: Budgets::new(),
        pacer: Pacer::default(),
        rate: config.rate_limit,
        counters: Counters::default(),
        addresses,
        log: Mutex::new(LogLimit::new(LOG_EVERY)),
        deps,
    });
    metrics::register(&shared);
    let mut tasks = JoinSet::new();
    for listener in bound {
        tasks.spawn(run(Arc::clone(&shared), listener));
    }
    Ok(Handle(Arc::new(Running {
        shared,
        tasks: Mutex::new(tasks),
    })))
}

impl Handle {
    pub fn view(&self) -> View {
        self.0.shared.view()
    }

    /// Ends every connection at once and gives up the addresses.
    pub fn stop(&self) {
        let mut tasks = self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.abort_all();
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
            refusals: counters.refusals(),
            last_refusal: counters.last_refusal(),
        }
    }

    /// Counts it, remembers it, and logs one in a while.
    pub(super) fn refuse(&self, reason: Reason, who: &str, message: &str) {
        self.counters.refuse(reason, who, message);
        if reason == Reason::NotHeld {
            return;
        }
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left_out) = log.step(clock::now()) {
            let reason = reason.as_str();
            tracing::warn!(who, reason, left_out, "peer: refused {who}: {message}");
        }
    }
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
            accepted = listener.accept() => admit(&shared, &mut connections, accepted).await,
        }
    }
}

async fn admit(shared: &Arc<Shared>, connections: &mut JoinSet<()>, accepted: Accepted) {
    let (stream, remote) = match accepted {
        Ok(accepted) => accepted,
        Err(error) => {
            let message = format!("no connection could be accepted: {error}");
            shared.refuse(Reason::Broken, "accept", &message);
            return clock::sleep(ACCEPT_PAUSE).await;
        }
    };
    match shared.strangers.enter(household(remote.ip())) {
        Ok(place) => {
            let shared = Arc::clone(shared);
            connections.spawn(async move {
                connection::serve(&shared, stream, remote, place).await;
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
