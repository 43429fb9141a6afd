//! A data-plane worker: accepts on its own listeners, runs its own connections, counts for itself.
//!
//! `handle` builds one a core and gives it to the spawner. Nothing on the way of a request is
//! shared with another worker except the tables of `admit`, touched once a connection and at most
//! once a second after that.
//!
//! I/O: accepts, spawns tasks.

use super::Content;
use super::Limits;
use super::access;
use super::admit;
use super::admit::Admission;
use super::admit::Door;
use super::admit::Population;
use super::admit::Recent;
use super::admit::Slot;
use super::alarm::Alarm;
use super::card::Card;
use super::card::TlsFacts;
use super::connection::Connection;
use super::counters::Counters;
use super::counters::Refusal;
use super::counters::add;
use super::files::Files;
use super::handshake;
use super::handshake::HandshakeError;
use super::listener::Bound;
use super::listener::Listener;
use super::listener::ViewerStream;
use super::reply::DateLine;
use super::transport::Transport;
use crate::clock;
use crate::clock::Instant;
use crate::store::Entry;
use crate::store::ObjectFile;
use crate::store::OpenError;
use crate::task::Heartbeat;
use crate::task::Phase;
use crate::task::PhaseRx;
use crate::telemetry::LogLimit;
use crate::tls;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Pause after `accept` failed for want of descriptors or memory: trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Errors of `accept` are told to the log this often at most.
const ACCEPT_COMPLAINT_EVERY: Duration = Duration::from_secs(10);

/// Objects that cannot be opened are told to the log this often at most; a sick disk has many.
const OPEN_COMPLAINT_EVERY: Duration = Duration::from_secs(10);

/// Open objects are looked through this often.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// While it drains, a worker looks at the deadline this often: it may come nearer.
const DRAIN_LOOK_EVERY: Duration = Duration::from_millis(500);

/// What a reload can change without touching an open connection.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) limits: Limits,
    pub(super) tls: Option<Arc<tls::Material>>,
    pub(super) access: Option<access::Sink>,
}

/// What the workers share.
pub(super) struct House {
    pub(super) content: Arc<dyn Content>,
    pub(super) settings: ArcSwap<Settings>,
    pub(super) population: Arc<Population>,
    pub(super) recent: Recent,
    /// Objects that one worker keeps open.
    pub(super) files_max: usize,
}

/// One worker's state, as its connections and the views see it.
pub(super) struct Worker {
    pub(super) name: String,
    pub(super) house: Arc<House>,
    pub(super) counters: Counters,
    pub(super) files: Files,
    pub(super) heart: Heartbeat,
    pub(super) alive: AtomicBool,
    draining: AtomicBool,
    door: Mutex<Door>,
    date: Mutex<DateLine>,
    cards: Mutex<Cards>,
    orders: Mutex<Vec<Order>>,
    bell: Notify,
    open_log: Mutex<LogLimit>,
}

/// Open connections by number, which grows.
#[derive(Default)]
struct Cards {
    next: u64,
    open: BTreeMap<u64, Arc<Card>>,
}

/// What a reload tells a worker.
pub(super) enum Order {
    Listen(Listen),
    /// Stops accepting on this address; open connections live on.
    Leave {
        configured: SocketAddr,
        tls: bool,
    },
}

/// An address to accept on. `configured` is its name; with port 0 the bound one differs.
pub(super) struct Listen {
    pub(super) configured: SocketAddr,
    pub(super) tls: bool,
    pub(super) bound: Box<dyn Bound>,
}

/// Who came, and whether TLS is spoken there.
type Arrival = (io::Result<(Box<dyn ViewerStream>, SocketAddr)>, bool);

struct Listening {
    configured: SocketAddr,
    tls: bool,
    listener: Box<dyn Listener>,
}

/// Everything a connection holds while it is open; dropping it is leaving.
struct Guest {
    worker: Arc<Worker>,
    number: u64,
    card: Arc<Card>,
    _slot: Slot,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in one connection must not reach its neighbours through a poisoned lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Worker {
    pub(super) fn new(name: String, house: Arc<House>, door: Door, now: Instant) -> Self {
        let files = Files::new(house.files_max);
        Self {
            heart: Heartbeat::new(&name, now),
            name,
            house,
            counters: Counters::default(),
            files,
            alive: AtomicBool::new(true),
            draining: AtomicBool::new(false),
            door: Mutex::new(door),
            date: Mutex::new(DateLine::new()),
            cards: Mutex::default(),
            orders: Mutex::default(),
            bell: Notify::new(),
            open_log: Mutex::new(LogLimit::new(OPEN_COMPLAINT_EVERY)),
        }
    }

    /// May `address` be served now?
    pub(super) fn admits(&self, address: IpAddr, limits: &Limits, now: Instant) -> Admission {
        lock(&self.door).admits(address, &self.house.recent, limits, now)
    }

    /// Has this address fetched lately enough to be let finish?
    pub(super) fn is_watching(&self, address: IpAddr, now: Instant) -> bool {
        let time = self.house.settings.load().limits.linger_time;
        self.house.recent.fetched_within(address, time, now)
    }

    /// The process stops: responses end, connections are not kept.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Lends the current date in the form of the `Date` field.
    pub(super) fn with_date(&self, work: impl FnOnce(&str)) {
        let second = clock::unix_seconds(clock::wall());
        work(lock(&self.date).at(second));
    }

    /// An open object: from this worker's own table, or from the store.
    pub(super) async fn open(&self, entry: Entry) -> Result<Arc<ObjectFile>, OpenError> {
        if let Some(object) = self.files.get(entry.digest, clock::now()) {
            return Ok(object);
        }
        let object = self.house.content.open(entry.digest).await?;
        if object.length != entry.length {
            let (digest, found, length) = (entry.digest, object.length, entry.length);
            let problem = format!("{digest} is {found} bytes long and should be {length}");
            let error = io::Error::new(io::ErrorKind::InvalidData, problem.clone());
            self.house.content.read_failed(&object, &error);
            return Err(OpenError::Unavailable {
                // The configuration's own order; only the store knows the path.
                disk: format!("number {}", u32::from(object.volume) + 1),
                state: "inconsistent",
                reason: problem,
            });
        }
        self.files.put(&object, clock::now());
        Ok(object)
    }

    /// An object the catalogue named could not be opened: the viewer is not told why, the log is.
    pub(super) fn open_refused(&self, entry: Entry, error: &OpenError) {
        let Some(left_out) = lock(&self.open_log).step(clock::now()) else {
            return;
        };
        let digest = entry.digest;
        tracing::warn!(%digest, %error, left_out, "object {digest} cannot be served: {error}");
    }

    /// Gives an order; the worker carries it out at its next turn.
    pub(super) fn order(&self, order: Order) {
        lock(&self.orders).push(order);
        self.bell.notify_one();
    }

    pub(super) fn cards(&self, most: usize) -> Vec<Arc<Card>> {
        lock(&self.cards)
            .open
            .values()
            .take(most)
            .cloned()
            .collect()
    }

    fn admit(self: &Arc<Self>, peer: SocketAddr, tls: bool) -> Result<Guest, Refusal> {
        let limits = &self.house.settings.load().limits;
        let slot = self.house.population.enter(peer.ip(), limits)?;
        let card = Arc::new(Card::new(peer, tls, clock::now()));
        add(&self.counters.connections_total, 1);
        add(&self.counters.connections_open, 1);
        let mut cards = lock(&self.cards);
        let number = cards.next;
        cards.next += 1;
        cards.open.insert(number, Arc::clone(&card));
        Ok(Guest {
            worker: Arc::clone(self),
            number,
            card,
            _slot: slot,
        })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        lock(&self.worker.cards).open.remove(&self.number);
        self.worker.counters.connections_open.fetch_sub(1, Relaxed);
    }
}

/// A worker's life: waits for the word to start, serves, drains, ends.
pub(super) async fn run(worker: Arc<Worker>, mut go: watch::Receiver<bool>, phase: PhaseRx) {
    // An error means that the start of another worker failed and all of it was given up.
    if go.wait_for(|go| *go).await.is_err() {
        return;
    }
    let heart = tokio::spawn(worker.heart.clone().run());
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

/// One connection from accept to close.
async fn host(guest: Guest, stream: Box<dyn ViewerStream>) {
    let worker = Arc::clone(&guest.worker);
    let settings = worker.house.settings.load_full();
    let mut alarm = Alarm::new(clock::now() + settings.limits.handshake_time);
    let (transport, facts) = match (&settings.tls, guest.card.tls) {
        (_, false) => (Transport::Plain(stream), None),
        // `handle` never listens for TLS without certificates.
        (None, true) => return,
        (Some(material), true) => {
            let config = Arc::clone(&material.config);
            drop(settings);
            match handshake::run(stream, config, &mut alarm).await {
                Ok(tls) => {
                    let (version, cipher) = tls.session.suite();
                    add(&worker.counters.handshakes_ok, 1);
                    worker.counters.suite(version, cipher);
                    (Transport::Tls(tls), Some(TlsFacts { version, cipher }))
                }
                Err(error) => {
                    worker.handshake_failed(&error, guest.card.peer);
                    return;
                }
            }
        }
    };
    let card = Arc::clone(&guest.card);
    Connection::new(worker, transport, card, facts, alarm)
        .run()
        .await;
}

impl Worker {
    fn handshake_failed(&self, error: &HandshakeError, peer: SocketAddr) {
        add(&self.counters.handshakes_failed, 1);
        match error {
            HandshakeError::NotTls => self.counters.refused(Refusal::NotTls),
            HandshakeError::Slow => self.counters.refused(Refusal::HandshakeTime),
            HandshakeError::Gone | HandshakeError::Io(_) | HandshakeError::Session(_) => {}
        }
        tracing::debug!(%peer, %error, "no TLS session");
    }
}
