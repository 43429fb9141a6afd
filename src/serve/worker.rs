//! A data-plane worker: accepts on its own listeners, runs its own connections, counts for itself.
//!
//! `handle` builds one a core and gives it to the spawner. Nothing on the way of a request is
//! shared with another worker except the tables of `admit`, touched once a connection and at most
//! once a second after that.
//!
//! I/O: accepts, spawns tasks.

use super::Content;
use super::Limits;
use super::Pacing;
use super::access;
use super::admit::Admission;
use super::admit::Door;
use super::admit::Population;
use super::admit::Recent;
use super::admit::Slot;
use super::card::Card;
use super::counters::Counters;
use super::counters::Refusal;
use super::counters::add;
use super::files::Files;
use super::http_date::DateLine;
use super::kernel;
use super::listener::Bound;
use super::quality::Quality;
use super::sessions::Sessions;
use super::speedtest;
use super::speedtest::Speedtest;
use super::token::Guard;
use super::token::TokenFeed;
use super::token::TokenMode;
use super::token::TokenSettings;
use crate::clock;
use crate::clock::Instant;
use crate::clock::Wall;
use crate::lock::lock;
use crate::store::Entry;
use crate::store::ObjectFile;
use crate::store::OpenError;
use crate::task::Heartbeat;
use crate::telemetry::LogLimit;
use crate::tls;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Acquire;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::Ordering::Release;
use std::time::Duration;
use tokio::runtime::RuntimeMetrics;
use tokio::sync::Notify;

/// Objects that cannot be opened are told to the log this often at most; a sick disk has many.
const OPEN_COMPLAINT_EVERY: Duration = Duration::from_secs(10);

/// What a reload can change without touching an open connection.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) limits: Limits,
    pub(super) tls: Option<Arc<tls::Material>>,
    pub(super) access: Option<access::Sink>,
    pub(super) tokens: TokenSettings,
    /// Of successful answers, one in so many has a line.
    pub(super) access_sample: u64,
    pub(super) speedtest: speedtest::Config,
    pub(super) offload: kernel::Wanted,
    pub(super) drop_behind: bool,
    pub(super) pacing: Pacing,
}

/// What the workers share.
pub(super) struct House {
    pub(super) content: Arc<dyn Content>,
    pub(super) settings: ArcSwap<Settings>,
    /// Counts what was stored in `settings`, after it was: who knows it need not look there.
    pub(super) edition: AtomicU64,
    pub(super) population: Arc<Population>,
    pub(super) recent: Recent,
    pub(super) sessions: Sessions,
    pub(super) tokens: TokenFeed,
    pub(super) speedtest: Arc<Speedtest>,
    /// TLS handshakes under way, by address.
    pub(super) handshakes: Arc<Population>,
    /// Objects that one worker keeps open.
    pub(super) files_max: usize,
}

/// One worker's state, as its connections and the views see it.
pub(super) struct Worker {
    pub(super) name: String,
    pub(super) house: Arc<House>,
    pub(super) counters: Counters,
    pub(super) quality: Quality,
    pub(super) files: Files,
    pub(super) heart: Heartbeat,
    pub(super) alive: AtomicBool,
    pub(super) draining: AtomicBool,
    pub(super) door: Mutex<Door>,
    date: Mutex<DateLine>,
    cards: Mutex<Cards>,
    pub(super) orders: Mutex<Vec<Order>>,
    pub(super) bell: Notify,
    open_log: Mutex<LogLimit>,
    /// Of its runtime, once it runs.
    pub(super) metrics: OnceLock<RuntimeMetrics>,
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

/// Everything a connection holds while it is open; dropping it is leaving.
pub(super) struct Guest {
    pub(super) worker: Arc<Worker>,
    number: u64,
    pub(super) card: Arc<Card>,
    _slot: Slot,
}

impl House {
    /// From the next request of each connection on.
    pub(super) fn change(&self, settings: Arc<Settings>) {
        self.settings.store(settings);
        self.edition.fetch_add(1, Release);
    }

    /// To be asked before `settings` is looked at.
    pub(super) fn edition(&self) -> u64 {
        self.edition.load(Acquire)
    }
}

impl Worker {
    pub(super) fn new(name: String, house: Arc<House>, door: Door, now: Instant) -> Self {
        let files = Files::new(house.files_max);
        Self {
            heart: Heartbeat::new(&name, now),
            name,
            house,
            counters: Counters::default(),
            quality: Quality::new(now),
            files,
            alive: AtomicBool::new(true),
            draining: AtomicBool::new(false),
            door: Mutex::new(door),
            date: Mutex::new(DateLine::new()),
            cards: Mutex::default(),
            orders: Mutex::default(),
            bell: Notify::new(),
            open_log: Mutex::new(LogLimit::new(OPEN_COMPLAINT_EVERY)),
            metrics: OnceLock::new(),
        }
    }

    /// How long its scheduler has worked since the start.
    pub(super) fn busy(&self) -> Duration {
        let metrics = self.metrics.get();
        metrics.map_or(Duration::ZERO, |metrics| {
            metrics.worker_total_busy_duration(0)
        })
    }

    /// May `address` be served now?
    pub(super) fn admits(&self, address: IpAddr, limits: &Limits, now: Instant) -> Admission {
        lock(&self.door).admits(address, &self.house.recent, limits, now)
    }

    /// What judges the token of a request from `client`.
    pub(super) fn guard<'a>(
        &'a self,
        settings: &'a Settings,
        admission: &Admission,
        client: IpAddr,
        now: Instant,
    ) -> Guard<'a> {
        let closed = match admission {
            Admission::Open => None,
            Admission::Lingering | Admission::Closed(_) => lock(&self.door).closed(now),
        };
        let wall = match settings.tokens.mode {
            // Nobody asks; a clock call a request is not free.
            TokenMode::Off => Wall::UNIX_EPOCH,
            TokenMode::Optional | TokenMode::Required => clock::wall(),
        };
        Guard {
            settings: &settings.tokens,
            feed: &self.house.tokens,
            sessions: &self.house.sessions,
            limits: &settings.limits,
            client,
            now,
            wall,
            closed,
            pass: None,
        }
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
    pub(super) fn with_date(&self, now: Instant, work: impl FnOnce(&[u8])) {
        work(lock(&self.date).at(now, clock::wall));
    }

    /// Opens an object that this worker's own table does not have.
    pub(super) async fn open(&self, entry: Entry) -> Result<Arc<ObjectFile>, OpenError> {
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

    pub(super) fn admit(self: &Arc<Self>, peer: SocketAddr, tls: bool) -> Result<Guest, Refusal> {
        let limits = &self.house.settings.load().limits;
        let (most, most_per_address) = (limits.connections, limits.connections_per_address);
        let slot = (self.house.population).enter(peer.ip(), most, most_per_address)?;
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
