//! Starting and stopping the room: one task a neighbour, one an address, one that publishes.
//!
//! I/O: binds, spawns on the runtime that calls it.

use super::BgpError;
use super::Config;
use super::NeighbourConfig;
use super::Seams;
use super::Snapshot;
use super::command;
use super::command::Asked;
use super::command::Command;
use super::command::CommandError;
use super::listener;
use super::listener::Door;
use super::metrics::Counters;
use super::metrics::Metrics;
use super::net::Expected;
use super::net::Guard;
use super::peer;
use super::peer::Peer;
use super::publish;
use super::publish::Board;
use super::publish::Index;
use super::publish::Publisher;
use crate::clock;
use crate::telemetry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Batches of changes on their way to the publisher; a neighbour whose batch finds no room reads on
/// later. The publisher takes them without a rest, on the thread that keepalives leave from.
const EVENTS: usize = 8;

/// Connections that wait for their neighbour's task.
const ARRIVALS: usize = 4;

/// For CEASE to leave and to be read, before the rest is cut off.
const STOP_TIME: Duration = Duration::from_secs(5);

/// For a neighbour's task to begin with what an operator wants.
const COMMAND_TIME: Duration = Duration::from_secs(5);

/// The running speaker. Clones share it; it is stopped with the last one.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    board: Arc<Board>,
    counters: Vec<Arc<Counters>>,
    /// By the neighbours' names.
    commands: Vec<(String, mpsc::Sender<Asked>)>,
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
    let publisher = Publisher::new(config, now);
    let board = Arc::new(Board::new(&publisher, now));
    let expected = expected(config)?;
    let mut bound = Vec::new();
    let mut addresses = Vec::new();
    for address in &config.listen {
        let failed = |error| BgpError::Listen {
            address: *address,
            error,
        };
        let listener = seams.net.listen(*address, &expected).map_err(failed)?;
        addresses.push(listener.address().map_err(failed)?);
        bound.push(listener);
    }
    let (events, receiver) = mpsc::channel(EVENTS);
    let (stop, stopped) = watch::channel(None);
    let mut tasks = JoinSet::new();
    tasks.spawn(publish::run(publisher, receiver, Arc::clone(&board)));
    let (mut doors, mut counters, mut commands) = (Vec::new(), Vec::new(), Vec::new());
    let mut random = fastrand::Rng::with_seed(seams.seed);
    for (index, (neighbour, expected)) in config.neighbours.iter().zip(&*expected).enumerate() {
        let (sender, arrivals) = mpsc::channel(ARRIVALS);
        let (commander, asked) = mpsc::channel(command::QUEUE);
        commands.push((neighbour.name.clone(), commander));
        let counted = Arc::new(Counters::default());
        let (passive, way_in) = (neighbour.passive, expected.clone());
        doors.push(Door::new(
            way_in,
            passive,
            sender,
            Arc::clone(&counted),
            now,
        ));
        counters.push(Arc::clone(&counted));
        let peer = Peer {
            index: Index(index),
            config: config.clone(),
            neighbour: neighbour.clone(),
            guard: expected.guard.clone(),
            net: Arc::clone(&seams.net),
            random: random.fork(),
            events: events.clone(),
            arrivals,
            commands: asked,
            stop: stopped.clone(),
            counters: counted,
        };
        tasks.spawn(peer::run(peer));
    }
    let doors: Arc<[Door]> = doors.into();
    let mut listeners = JoinSet::new();
    for listener in bound {
        listeners.spawn(listener::run(listener, Arc::clone(&doors)));
    }
    Ok(Handle(Arc::new(Shared {
        board,
        counters,
        commands,
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

    /// Has one neighbour's task do something; answers when it has begun.
    pub async fn command(&self, neighbour: &str, command: Command) -> Result<(), CommandError> {
        let name = neighbour.to_owned();
        let mut all = self.0.commands.iter();
        let Some((_, queue)) = all.find(|(name, _)| name == neighbour) else {
            return Err(CommandError::Unknown { name });
        };
        let (answer, answered) = oneshot::channel();
        let busy = || CommandError::Busy {
            name: neighbour.to_owned(),
        };
        let asked = Asked { command, answer };
        queue.try_send(asked).map_err(|_| busy())?;
        match clock::within(COMMAND_TIME, answered).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Err(busy()),
        }
    }

    pub fn register(&self, registry: &telemetry::Registry) {
        registry.register(Metrics {
            board: Arc::clone(&self.0.board),
            counters: self.0.counters.clone(),
        });
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
