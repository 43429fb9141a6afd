//! Starting, reloading and looking at the serving side.
//!
//! Everything that can fail (binds, certificates, the access log, threads) happens in `start` and
//! `prepare`, before anything is switched; `commit` cannot fail.
//!
//! I/O: binds sockets, reads certificates, opens the access log.

use super::Config;
use super::Deps;
use super::Limits;
use super::Offload;
use super::Seams;
use super::ServeError;
use super::Verdict;
use super::access;
use super::admit::Door;
use super::admit::Population;
use super::admit::Recent;
use super::files;
use super::kernel;
use super::life;
use super::listener::Bind;
use super::places::Opened;
use super::places::Place;
use super::places::open_all;
use super::places::places;
use super::quality;
use super::quality::QualityView;
use super::sessions::Sessions;
use super::speedtest::Speedtest;
use super::token::TokenSettings;
use super::view;
use super::view::ConnectionView;
use super::view::ListenerView;
use super::view::View;
use super::worker::House;
use super::worker::Listen;
use super::worker::Order;
use super::worker::Settings;
use super::worker::Worker;
use crate::clock;
use crate::lock::lock;
use crate::task::Heartbeat;
use crate::tls;
use crate::tls::Outside;
use crate::tls::Tickets;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::watch;

/// While the process stops, the access log's writer is looked at this often.
const SETTLE_LOOK_EVERY: Duration = Duration::from_millis(5);

/// The running workers. Clones share them.
#[derive(Clone)]
pub struct Handle {
    inner: Arc<Inner>,
}

struct Inner {
    workers: Vec<Arc<Worker>>,
    house: Arc<House>,
    bind: Arc<dyn Bind>,
    tickets: Tickets,
    counts: Arc<access::Counts>,
    listeners: Mutex<BTreeMap<Place, SocketAddr>>,
    running: watch::Receiver<usize>,
}

/// A new configuration, ready to be switched to. Dropping it changes nothing.
pub struct Prepared {
    inner: Arc<Inner>,
    settings: Arc<Settings>,
    opened: Vec<Opened>,
    left: Vec<Place>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle")
            .field("workers", &self.inner.workers.len())
            .finish()
    }
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

/// Says that a worker has ended, however it ended.
struct Ended {
    worker: Arc<Worker>,
    running: Arc<watch::Sender<usize>>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.worker.alive.store(false, Relaxed);
        self.running
            .send_modify(|running| *running = running.saturating_sub(1));
    }
}

/// Binds, loads, and starts the workers. On an error nothing has been started.
pub fn start(config: &Config, deps: Deps, seams: Seams) -> Result<Handle, ServeError> {
    let count = workers(config);
    let tickets = Tickets::new()?;
    let counts = Arc::new(access::Counts::default());
    let offload = offload(config, &*seams.bind, &kernel::Wanted::default())?;
    let settings = settings(config, &tickets, &counts, Outside::Logged, offload)?;
    let opened = open_all(&places(config)?, &BTreeMap::new(), &*seams.bind, count)?;
    let house = Arc::new(House {
        content: deps.content,
        settings: ArcSwap::from_pointee(settings),
        edition: AtomicU64::new(0),
        population: Arc::new(Population::default()),
        recent: Recent::default(),
        sessions: Sessions::default(),
        tokens: deps.tokens,
        speedtest: Speedtest::new(deps.speedtest_file),
        handshakes: Arc::default(),
        files_max: files::room(count),
    });
    let now = clock::now();
    let workers: Vec<Arc<Worker>> = (0..count)
        .map(|number| {
            let door = Door::new(deps.gate.clone(), now);
            let name = format!("serve-{number}");
            Arc::new(Worker::new(name, Arc::clone(&house), door, now))
        })
        .collect();
    let (go, may_go) = watch::channel(false);
    let (ended, running) = watch::channel(workers.len());
    let ended = Arc::new(ended);
    for worker in &workers {
        let guard = Ended {
            worker: Arc::clone(worker),
            running: Arc::clone(&ended),
        };
        let life = life::run(Arc::clone(worker), may_go.clone(), deps.phase.clone());
        let life = async move {
            let _guard = guard;
            life.await;
        };
        let spawned = seams.spawn.spawn(worker.name.clone(), Box::pin(life));
        spawned.map_err(ServeError::Worker)?;
    }
    let inner = Arc::new(Inner {
        workers,
        house,
        bind: seams.bind,
        tickets,
        counts,
        listeners: Mutex::default(),
        running,
    });
    inner.house.speedtest.prepare(&config.speedtest, now);
    inner.listen(opened);
    go.send_replace(true);
    Ok(Handle { inner })
}

impl Handle {
    /// Prepares a switch to `new`: binds what is new, loads certificates, opens the access log.
    /// The number of workers is fixed at start.
    pub fn prepare(&self, new: &Config) -> Result<Prepared, ServeError> {
        let inner = &self.inner;
        let before = inner.house.settings.load();
        let offload = offload(new, &*inner.bind, &before.offload)?;
        let (tickets, counts) = (&inner.tickets, &inner.counts);
        let settings = settings(new, tickets, counts, Outside::Refused, offload)?;
        let places = places(new)?;
        let present = lock(&inner.listeners).clone();
        let opened = open_all(&places, &present, &*inner.bind, inner.workers.len())?;
        let left = present.keys().filter(|place| !places.contains(place));
        Ok(Prepared {
            inner: Arc::clone(inner),
            settings: Arc::new(settings),
            opened,
            left: left.copied().collect(),
        })
    }

    /// How long each worker has worked since the start, waiting left out.
    pub fn busy(&self) -> Vec<Duration> {
        let workers = self.inner.workers.iter();
        workers.map(|worker| worker.busy()).collect()
    }

    pub fn view(&self) -> View {
        let listeners = lock(&self.inner.listeners)
            .iter()
            .map(|((_, tls), actual)| ListenerView {
                address: *actual,
                tls: *tls,
            })
            .collect();
        let settings = self.inner.house.settings.load();
        let mut view = view::gather(
            &self.inner.workers,
            listeners,
            &settings,
            &self.inner.counts,
        );
        view.tokens = self.inner.house.tokens.view(&settings.tokens);
        view.speedtest = self.inner.house.speedtest.view(&settings.speedtest);
        view
    }

    /// Opens the access log anew, after somebody has renamed its file. Never waits.
    pub fn reopen_access_log(&self) {
        if let Some(sink) = &self.inner.house.settings.load().access {
            sink.reopen();
        }
    }

    /// Waits until every line of the access log that was queued is written, or lost and counted.
    pub async fn access_log_settled(&self) {
        while !self.inner.counts.is_settled() {
            clock::sleep(SETTLE_LOOK_EVERY).await;
        }
    }

    /// Up to `most` open connections, oldest first within each worker.
    pub fn connections(&self, most: usize) -> Vec<ConnectionView> {
        view::connections(&self.inner.workers, most)
    }

    /// Delivery by client network, over the last minutes: at most `most` networks.
    pub fn quality(&self, most: usize) -> QualityView {
        quality::gather(&self.inner.workers, most, clock::now())
    }

    pub(super) fn workers(&self) -> &[Arc<Worker>] {
        &self.inner.workers
    }

    /// One scheduler a worker, for the watchdog.
    pub fn heartbeats(&self) -> Vec<Heartbeat> {
        self.inner
            .workers
            .iter()
            .map(|worker| worker.heart.clone())
            .collect()
    }

    /// Waits until a worker has ended, whatever the others do.
    pub async fn worker_ended(&self) {
        let mut running = self.inner.running.clone();
        let all = self.inner.workers.len();
        let _ = running.wait_for(|running| *running < all).await;
    }

    /// Waits until every worker has ended.
    pub async fn finished(&self) {
        let mut running = self.inner.running.clone();
        // An error means that every worker has dropped its end, which is the same.
        let _ = running.wait_for(|running| *running == 0).await;
    }
}

impl Prepared {
    /// Switches. Open connections live on; requests from now on see the new settings.
    pub fn commit(self) {
        let inner = self.inner;
        let speedtest = &self.settings.speedtest;
        inner.house.speedtest.prepare(speedtest, clock::now());
        inner.house.change(self.settings);
        inner.listen(self.opened);
        let mut listeners = lock(&inner.listeners);
        for place in self.left {
            listeners.remove(&place);
            let (configured, tls) = place;
            for worker in &inner.workers {
                worker.order(Order::Leave { configured, tls });
            }
        }
    }
}

impl Inner {
    /// Hands each worker its socket of each address.
    fn listen(&self, opened: Vec<Opened>) {
        let mut listeners = lock(&self.listeners);
        for Opened {
            place,
            actual,
            sockets,
        } in opened
        {
            listeners.insert(place, actual);
            for (worker, bound) in self.workers.iter().zip(sockets) {
                let (configured, tls) = place;
                worker.order(Order::Listen(Listen {
                    configured,
                    tls,
                    bound,
                }));
            }
        }
    }
}

fn workers(config: &Config) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    match config.workers {
        0 => cores(),
        count => count,
    }
}

/// Asks the kernel what TLS it takes, unless it has said that it takes all of it.
fn offload(
    config: &Config,
    bind: &dyn Bind,
    before: &kernel::Wanted,
) -> Result<kernel::Wanted, ServeError> {
    let word = config.tls_offload;
    let verdict = match word {
        Offload::Off => Verdict::none("it is switched off"),
        Offload::Auto | Offload::Require if config.listen.is_empty() => Verdict::default(),
        Offload::Auto | Offload::Require if before.verdict.is_complete() => before.verdict.clone(),
        Offload::Auto | Offload::Require => bind.tls_offload(),
    };
    if verdict != before.verdict {
        let (rekey, zero_copy) = (verdict.rekey, verdict.zero_copy);
        tracing::info!(rekey, zero_copy, "kernel TLS: {}", verdict.summary());
    }
    let needed = word == Offload::Require && !config.listen.is_empty();
    if needed && !verdict.is_complete() {
        return Err(ServeError::TlsOffload(verdict.summary()));
    }
    Ok(kernel::Wanted { word, verdict })
}

fn settings(
    config: &Config,
    tickets: &Tickets,
    counts: &Arc<access::Counts>,
    outside: Outside,
    offload: kernel::Wanted,
) -> Result<Settings, ServeError> {
    let material = if config.listen.is_empty() {
        None
    } else {
        Some(Arc::new(tls::load(
            &config.tls,
            tickets,
            clock::wall(),
            outside,
        )?))
    };
    let access = match &config.access_log {
        None => None,
        Some(path) => {
            let sink = access::open(path, counts);
            Some(sink.map_err(|source| ServeError::AccessLog {
                path: path.clone(),
                source,
            })?)
        }
    };
    let limits: Limits = config.limits.clone();
    Ok(Settings {
        limits,
        tls: material,
        access,
        tokens: TokenSettings::load(&config.tokens)?,
        access_sample: config.access_log_sample,
        speedtest: config.speedtest.clone(),
        offload,
        drop_behind: config.drop_behind,
        pacing: config.pacing,
    })
}
