//! Starting and stopping the room: one task a neighbour, one an address, one that publishes.
//!
//! I/O: binds, spawns on the runtime that calls it.

use super::BgpError;
use super::Config;
use super::Detail;
use super::NeighbourConfig;
use super::Order;
use super::OrderError;
use super::Seams;
use super::Snapshot;
use super::TableDump;
use super::TapPage;
use super::budget::Budget;
use super::desk;
use super::desk::Desk;
use super::gauges::Gauges;
use super::kernel;
use super::listener;
use super::listener::Door;
use super::metrics::Counters;
use super::metrics::Metrics;
use super::net::Expected;
use super::net::Guard;
use super::net::Listener;
use super::net::Net;
use super::peer;
use super::peer::Peer;
use super::publish;
use super::publish::Board;
use super::publish::Index;
use super::publish::Publisher;
use super::tap::Tap;
use crate::clock;
use crate::telemetry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Batches of changes on their way to the publisher; a neighbour whose batch finds no room reads on
/// later. The publisher takes them without a rest, on the thread that keepalives leave from.
const EVENTS: usize = 8;

/// Connections that wait for their neighbour's task.
const ARRIVALS: usize = 4;

/// For CEASE to leave and to be read, before the rest is cut off.
const STOP_TIME: Duration = Duration::from_secs(5);

/// The running speaker. Clones share it; it is stopped with the last one.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    board: Arc<Board>,
    counters: Vec<Arc<Counters>>,
    /// In the order of the configuration.
    desks: Vec<Arc<Desk>>,
    tap: Arc<Tap>,
    config: Config,
    offer: watch::Sender<bool>,
    expected: watch::Sender<Arc<[Expected]>>,
    addresses: Vec<SocketAddr>,
    stop: watch::Sender<Option<String>>,
    /// Aborts when dropped.
    listeners: Mutex<JoinSet<()>>,
    /// Neighbours and the publisher.
    tasks: Mutex<JoinSet<()>>,
}

/// Binds, then starts everything. Must be called on a runtime.
pub fn start(config: &Config, seams: Seams) -> Result<Handle, BgpError> {
    check(config)?;
    let now = clock::now();
    let kernel = kernel::open(config).map_err(BgpError::KernelRoutes)?;
    let expected = expected(config)?;
    let (bound, addresses) = bind(config, seams.net.as_ref(), &expected)?;
    let publisher = Publisher::new(config, now);
    let board = Arc::new(Board::new(&publisher, now));
    let (events, receiver) = mpsc::channel(EVENTS);
    let (stop, stopped) = watch::channel(None);
    let budget = Arc::new(Budget::new());
    let mut tasks = JoinSet::new();
    tasks.spawn(publish::run(publisher, receiver, Arc::clone(&board)));
    let (mut doors, mut counters, mut desks) = (Vec::new(), Vec::new(), Vec::new());
    let (tap, offer) = (Arc::<Tap>::default(), watch::Sender::new(false));
    let keys = watch::Sender::new(Arc::clone(&expected));
    let mut random = fastrand::Rng::with_seed(seams.seed);
    for (index, (neighbour, expected)) in config.neighbours.iter().zip(&*expected).enumerate() {
        let (sender, arrivals) = mpsc::channel(ARRIVALS);
        let counted = Arc::new(Counters::default());
        let (way_in, own) = (expected.clone(), Arc::clone(&counted));
        doors.push(Door::new(way_in, neighbour.passive, sender, own, now));
        counters.push(Arc::clone(&counted));
        let (desk, orders) = Desk::new(config, neighbour, Arc::clone(&tap), Arc::clone(&counted));
        desks.push(Arc::new(desk));
        let peer = Peer {
            index: Index(index),
            config: config.clone(),
            neighbour: neighbour.clone(),
            expected: keys.subscribe(),
            net: Arc::clone(&seams.net),
            random: random.fork(),
            events: events.clone(),
            arrivals,
            stop: stopped.clone(),
            counters: counted,
            desk: Arc::clone(&desks[index]),
            orders,
            offer: offer.subscribe(),
            budget: Arc::clone(&budget),
        };
        tasks.spawn(peer::run(peer));
    }
    if let Some(keeper) = kernel {
        let own = (config.clone(), desks.clone());
        let snapshots = board.snapshots.subscribe();
        tasks.spawn(kernel::run(keeper, own, snapshots, stopped.clone()));
    }
    let doors: Arc<[Door]> = doors.into();
    let mut listeners = JoinSet::new();
    for listener in bound {
        listeners.spawn(listener::run(
            listener,
            Arc::clone(&doors),
            keys.subscribe(),
        ));
    }
    Ok(Handle(Arc::new(Shared {
        board,
        counters,
        desks,
        tap,
        config: config.clone(),
        offer,
        expected: keys,
        addresses,
        stop,
        listeners: Mutex::new(listeners),
        tasks: Mutex::new(tasks),
    })))
}

impl Handle {
    /// The last snapshot; uptimes are of now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.board.snapshot(clock::now())
    }

    /// Each snapshot as it is published; a reader that is slow sees the last one only.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.0.board.snapshots.subscribe()
    }

    /// Where neighbours may connect, in the order of the configuration.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.0.addresses
    }

    pub fn register(&self, registry: &telemetry::Registry) {
        registry.register(Metrics {
            board: Arc::clone(&self.0.board),
            counters: self.0.counters.clone(),
        });
        let names = self.0.config.neighbours.iter().map(|n| n.name.clone());
        let desks = names.zip(self.0.desks.iter().cloned()).collect();
        registry.register(Gauges { desks });
    }

    /// Whether neighbours with `announce` are to be told the service addresses. Not before this
    /// was called with `true`.
    pub fn offer(&self, wanted: bool) {
        self.0.offer.send_if_modified(|offer| {
            let is_news = *offer != wanted;
            *offer = wanted;
            is_news
        });
    }

    /// Reads the password files again; nothing is changed before [`Handle::use_keys`].
    pub fn read_keys(&self) -> Result<Keys, BgpError> {
        let read = expected(&self.0.config)?;
        let changed = self.changed(&read);
        for neighbour in changed {
            // The kernel does not replace a key of TCP-AO.
            if neighbour.transport.tcp_ao_id.is_some() {
                let neighbour = neighbour.name.clone();
                return Err(BgpError::FixedKey { neighbour });
            }
        }
        Ok(Keys(read))
    }

    /// For connections from here on; sessions that stand go on.
    pub fn use_keys(&self, keys: Keys) {
        for NeighbourConfig { name, .. } in self.changed(&keys.0) {
            tracing::info!(neighbour = %name, "another password for the next connection");
        }
        self.0.expected.send_replace(keys.0);
    }

    fn changed(&self, read: &[Expected]) -> Vec<&NeighbourConfig> {
        let before = self.0.expected.borrow();
        let pairs = read.iter().zip(&**before).zip(&self.0.config.neighbours);
        let changed = pairs.filter(|((one, before), _)| one != before);
        changed.map(|(_, neighbour)| neighbour).collect()
    }

    /// Each neighbour in full, in the order of the configuration.
    pub fn details(&self) -> Vec<Detail> {
        self.0.desks.iter().map(|desk| desk.detail()).collect()
    }

    /// The neighbour whose name this is, or unambiguously begins so, in the order of the
    /// configuration.
    pub fn meant(&self, name: &str) -> Result<usize, OrderError> {
        let names = self.0.config.neighbours.iter();
        let names: Vec<&str> = names.map(|neighbour| &*neighbour.name).collect();
        desk::meant(&names, name)
    }

    /// Gives an order to a neighbour's session and waits until it was taken; its whole name.
    pub async fn order(&self, name: &str, order: Order) -> Result<String, OrderError> {
        let index = self.meant(name)?;
        self.0.desks[index].order(order).await?;
        Ok(self.0.config.neighbours[index].name.clone())
    }

    /// All routes of this moment for the tools of others (MRT, RFC 6396).
    pub fn table_dump(&self) -> TableDump {
        let unknown = std::net::Ipv4Addr::UNSPECIFIED;
        let ids = self.0.desks.iter();
        let ids = ids.map(|desk| desk.router_id().unwrap_or(unknown));
        let own = self.0.config.router_id;
        TableDump::new(self.snapshot(), own, ids.collect(), clock::wall())
    }

    /// Messages as they pass, as MRT records; see [`TapPage`].
    pub fn tap(&self, after: Option<u64>) -> TapPage {
        self.0.tap.page(clock::now(), after)
    }

    /// Sends CEASE with `text` for the neighbours' operators (RFC 9003: at most 255 bytes), waits
    /// a bounded time until it has left, and publishes a last snapshot without routes.
    pub async fn stop(&self, text: &str) {
        let take = |tasks: &Mutex<JoinSet<()>>| {
            std::mem::take(&mut *tasks.lock().unwrap_or_else(PoisonError::into_inner))
        };
        drop(take(&self.0.listeners));
        self.0.stop.send_replace(Some(text.to_owned()));
        let mut tasks = take(&self.0.tasks);
        let ended = async { while tasks.join_next().await.is_some() {} };
        if clock::within(STOP_TIME, ended).await.is_err() {
            tracing::warn!("BGP sessions did not end in time and are cut off");
        }
    }
}

/// Whom to let in, in the order of the configuration, with the keys from their files.
fn expected(config: &Config) -> Result<Arc<[Expected]>, BgpError> {
    let one = |neighbour: &NeighbourConfig| {
        Ok(Expected {
            address: neighbour.address,
            local: neighbour.local_address,
            guard: Guard::new(&neighbour.transport, neighbour.key()?),
        })
    };
    config.neighbours.iter().map(one).collect()
}

/// Passwords as their files have them.
#[derive(Debug)]
pub struct Keys(Arc<[Expected]>);

type Bound = (Vec<Box<dyn Listener>>, Vec<SocketAddr>);

fn bind(config: &Config, net: &dyn Net, expected: &Arc<[Expected]>) -> Result<Bound, BgpError> {
    let mut bound = Vec::new();
    let mut addresses = Vec::new();
    for address in &config.listen {
        let failed = |error| BgpError::Listen {
            address: *address,
            error,
        };
        let listener = net.listen(*address, expected).map_err(failed)?;
        addresses.push(listener.address().map_err(failed)?);
        bound.push(listener);
    }
    Ok((bound, addresses))
}

/// What one neighbour alone cannot tell.
fn check(config: &Config) -> Result<(), BgpError> {
    for (index, one) in config.neighbours.iter().enumerate() {
        for other in &config.neighbours[..index] {
            if one.name == other.name {
                return Err(BgpError::SameName {
                    name: one.name.clone(),
                });
            }
            let apart = one.local_address != other.local_address || one.port != other.port;
            if one.address == other.address && !apart {
                return Err(BgpError::SameAddress {
                    one: other.name.clone(),
                    other: one.name.clone(),
                });
            }
        }
    }
    Ok(())
}
