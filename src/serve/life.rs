//! A worker's life: accepts on its own listeners, runs its connections, drains, ends.
//!
//! `handle` gives it to the spawner; `worker` is the state it works on.
//!
//! I/O: accepts, spawns tasks.

use super::admit;
use super::counters::Refusal;
use super::counters::add;
use super::guest::host;
use super::listener::Listener;
use super::listener::ViewerStream;
use super::worker::Listen;
use super::worker::Order;
use super::worker::Worker;
use crate::clock;
use crate::clock::Instant;
use crate::lock::lock;
use crate::task::Phase;
use crate::task::PhaseRx;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Pause after `accept` failed for want of descriptors or memory: trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Errors of `accept` are told to the log this often at most.
const ACCEPT_COMPLAINT_EVERY: Duration = Duration::from_secs(10);

/// Open objects are looked through this often.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// While it drains, a worker looks at the deadline this often: it may come nearer.
const DRAIN_LOOK_EVERY: Duration = Duration::from_millis(500);

/// Who came, and whether TLS is spoken there.
type Arrival = (io::Result<(Box<dyn ViewerStream>, SocketAddr)>, bool);

struct Listening {
    configured: SocketAddr,
    tls: bool,
    listener: Box<dyn Listener>,
}

/// A worker's life: waits for the word to start, serves, drains, ends.
pub(super) async fn run(worker: Arc<Worker>, mut go: watch::Receiver<bool>, phase: PhaseRx) {
    // An error means that the start of another worker failed and all of it was given up.
    if go.wait_for(|go| *go).await.is_err() {
        return;
    }
    let heart = tokio::spawn(worker.heart.clone().run());
    // A worker that is started again keeps its first figures, which is a pity and no more.
    let _ = worker.metrics.set(Handle::current().metrics());
    let mut connections = JoinSet::new();
    serve(&worker, &mut connections, phase.clone()).await;
    worker.draining.store(true, Relaxed);
    for card in worker.cards(usize::MAX) {
        card.ring();
    }
    drain(&worker, &mut connections, phase).await;
    connections.abort_all();
    while let Some(ended) = connections.join_next().await {
        worker.note_end(ended);
    }
    heart.abort();
}

/// Accepts and serves until the phase changes.
async fn serve(worker: &Arc<Worker>, connections: &mut JoinSet<()>, mut phase: PhaseRx) {
    let mut listeners: Vec<Listening> = Vec::new();
    let mut gate = lock(&worker.door).receiver();
    let mut gate_is_owned = true;
    let mut sweep = clock::now() + SWEEP_EVERY;
    let mut complained: Option<Instant> = None;
    let mut turn = 0;
    loop {
        let orders = std::mem::take(&mut *lock(&worker.orders));
        for order in orders {
            worker.obey(order, &mut listeners, connections);
        }
        tokio::select! {
            biased;
            _ = phase.leaving() => return,
            () = worker.bell.notified() => {}
            changed = gate.changed(), if gate_is_owned => {
                gate_is_owned = changed.is_ok();
                lock(&worker.door).look(clock::now());
            }
            Some(ended) = connections.join_next() => worker.note_end(ended),
            () = clock::sleep_until(sweep) => {
                worker.files.sweep(clock::now());
                sweep = clock::now() + SWEEP_EVERY;
            }
            (arrival, tls) = poll_fn(|cx| poll_accept(&mut listeners, &mut turn, cx)) => {
                match arrival {
                    Ok((stream, peer)) => worker.welcome(stream, peer, tls, connections),
                    Err(error) => worker.accept_failed(&error, &mut complained).await,
                }
            }
        }
    }
}

/// Lets running responses finish until the deadline.
async fn drain(worker: &Arc<Worker>, connections: &mut JoinSet<()>, mut phase: PhaseRx) {
    while !connections.is_empty() {
        let Phase::Draining { deadline } = phase.now() else {
            return;
        };
        let now = clock::now();
        if now >= deadline {
            return;
        }
        tokio::select! {
            biased;
            () = phase.stopped() => return,
            Some(ended) = connections.join_next() => worker.note_end(ended),
            () = clock::sleep_until(deadline.min(now + DRAIN_LOOK_EVERY)) => {}
        }
    }
}

/// One arrival on any listener; each in its turn, so that none starves the others.
fn poll_accept(
    listeners: &mut [Listening],
    turn: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<Arrival> {
    let count = listeners.len();
    for step in 0..count {
        let at = (*turn + step) % count;
        let listening = &mut listeners[at];
        if let Poll::Ready(arrival) = listening.listener.poll_accept(cx) {
            *turn = (at + 1) % count;
            return Poll::Ready((arrival, listening.tls));
        }
    }
    Poll::Pending
}

impl Worker {
    fn obey(
        self: &Arc<Self>,
        order: Order,
        listeners: &mut Vec<Listening>,
        connections: &mut JoinSet<()>,
    ) {
        match order {
            Order::Listen(Listen {
                configured,
                tls,
                bound,
            }) => match bound.listen() {
                Ok(listener) => listeners.push(Listening {
                    configured,
                    tls,
                    listener,
                }),
                // The socket listens since it was bound; only the reactor can refuse it here.
                Err(error) => {
                    tracing::error!(%error, %configured, "an address cannot be served; restart");
                }
            },
            Order::Leave { configured, tls } => {
                let is_meant = |one: &Listening| one.configured == configured && one.tls == tls;
                for mut left in listeners.extract_if(.., |one| is_meant(one)) {
                    // Viewers who are connected but not accepted yet would be reset.
                    let mut cx = Context::from_waker(std::task::Waker::noop());
                    while let Poll::Ready(Ok((stream, peer))) = left.listener.poll_accept(&mut cx) {
                        self.welcome(stream, peer, tls, connections);
                    }
                }
            }
        }
    }

    /// Takes a viewer in, or turns it away by closing: a refusal must be cheap.
    fn welcome(
        self: &Arc<Self>,
        stream: Box<dyn ViewerStream>,
        peer: SocketAddr,
        tls: bool,
        connections: &mut JoinSet<()>,
    ) {
        match self.admit(admit::canonical(peer), tls) {
            Ok(guest) => {
                connections.spawn(host(guest, stream));
            }
            Err(refusal) => self.counters.refused(refusal),
        }
    }

    fn note_end(&self, ended: Result<(), tokio::task::JoinError>) {
        if ended.is_err_and(|error| error.is_panic()) {
            add(&self.counters.panics, 1);
            // The panic hook has told where; this says what it meant.
            tracing::error!(worker = %self.name, "a panic ended one connection; please report it");
        }
    }

    async fn accept_failed(&self, error: &io::Error, complained: &mut Option<Instant>) {
        // The viewer left before it was accepted: nobody's fault.
        if error.kind() == io::ErrorKind::ConnectionAborted {
            return;
        }
        self.counters.refused(Refusal::Accept);
        let now = clock::now();
        if complained.is_none_or(|last| now - last >= ACCEPT_COMPLAINT_EVERY) {
            *complained = Some(now);
            tracing::warn!(%error, "connections cannot be accepted; raise LimitNOFILE or memory");
        }
        clock::sleep(ACCEPT_PAUSE).await;
    }
}
