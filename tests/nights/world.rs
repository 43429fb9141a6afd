//! The simulated world: a store in memory, a network that takes turns, a control plane that knows
//! every source.
//!
//! A byte of content is a megabyte on this wire: windows, rates and budgets have their real size,
//! and objects have no chunk trees.

use super::ration::SimRation;
use futures_util::future::BoxFuture;
use oca::clock;
use oca::clock::Wall;
use oca::fill;
use oca::fill::Ask;
use oca::fill::Content;
use oca::fill::Deps;
use oca::fill::Fault;
use oca::fill::Fetch;
use oca::fill::Handle;
use oca::fill::Job;
use oca::fill::Orders;
use oca::fill::Outcome;
use oca::fill::Space;
use oca::fill::Turns;
use oca::fill::Want;
use oca::ids::BoxId;
use oca::link::manifest::Verifier;
use oca::link::message::Complaint;
use oca::link::message::FillSource;
use oca::link::message::FillSources;
use oca::link::message::FillSourcesRequest;
use oca::link::message::ObjectSources;
use oca::link::message::Position;
use oca::link::message::SourceKind;
use oca::object::Digest;
use oca::store;
use oca::units::Bytes;
use oca::units::BytesPerSecond;
use oca::window::Window;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::sync::watch;

/// What a byte of content costs on the wire.
pub(crate) const WIRE_PER_BYTE: u64 = 1_000_000;

/// Content bytes of one turn: 0.2 GB on the wire.
const PIECE: u64 = 200;

/// A terabyte on the wire, in bytes of content.
pub(crate) const TB: u64 = 1_000_000;

/// 1.2 Gbit/s.
pub(crate) const RATE: BytesPerSecond = BytesPerSecond(150_000_000);

/// An object of the manifest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listed {
    pub(crate) digest: Digest,
    pub(crate) length: u64,
    pub(crate) rank: u32,
    /// Named by the directory `urgent`.
    pub(crate) urgent: bool,
}

#[derive(Debug, Default)]
struct Disk {
    position: Option<Position>,
    listed: Vec<Listed>,
    held: BTreeMap<Digest, u64>,
    staged: BTreeMap<Digest, (u64, u64)>,
    capacity: u64,
    kept: BTreeMap<String, Vec<u8>>,
    deleted: Vec<(Digest, Wall)>,
}

#[derive(Debug)]
pub(crate) struct SimContent {
    disk: Mutex<Disk>,
    view: watch::Sender<Arc<store::View>>,
}

impl SimContent {
    fn disk(&self) -> std::sync::MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        let position = self.disk().position;
        self.view.send_modify(|view| {
            let manifest = position.map(|position| store::ManifestView {
                epoch: position.epoch,
                generation: position.generation,
                keys: 1,
                missing: 0,
            });
            *view = Arc::new(store::View {
                generation: view.generation + 1,
                manifest,
                ..store::View::default()
            });
        });
    }

    pub(crate) fn list(&self, position: Position, listed: Vec<Listed>) {
        let mut disk = self.disk();
        (disk.position, disk.listed) = (Some(position), listed);
        drop(disk);
        self.changed();
    }

    pub(crate) fn hold(&self, objects: &[Listed]) {
        let objects = objects.iter().map(|object| (object.digest, object.length));
        self.disk().held.extend(objects);
        self.changed();
    }

    pub(crate) fn holds(&self, object: &Listed) -> bool {
        self.disk().held.contains_key(&object.digest)
    }

    pub(crate) fn held(&self) -> usize {
        self.disk().held.len()
    }

    pub(crate) fn deleted(&self) -> Vec<(Digest, Wall)> {
        self.disk().deleted.clone()
    }

    pub(crate) fn staged(&self) -> usize {
        self.disk().staged.len()
    }

    /// More of an object, which is published when it is whole.
    fn receive(&self, want: &Want, bytes: u64) {
        let mut disk = self.disk();
        let staged = disk.staged.entry(want.digest).or_insert((want.length, 0));
        staged.1 += bytes;
        let is_whole = staged.1 >= want.length;
        if is_whole {
            disk.staged.remove(&want.digest);
            disk.held.insert(want.digest, want.length);
        }
        let used: u64 = disk.held.values().sum();
        let staged: u64 = disk.staged.values().map(|(length, _)| length).sum();
        assert!(used + staged <= disk.capacity, "space exceeded");
        drop(disk);
        if is_whole {
            self.changed();
        }
    }

    fn missing(&self, want: &Want) -> u64 {
        let disk = self.disk();
        if disk.held.contains_key(&want.digest) {
            return 0;
        }
        let staged = disk.staged.get(&want.digest).map_or(0, |(_, done)| *done);
        want.length - staged
    }
}

impl Content for SimContent {
    fn wanted(&self, urgent: &[String]) -> Vec<Want> {
        let disk = self.disk();
        let missing = disk
            .listed
            .iter()
            .filter(|object| !disk.held.contains_key(&object.digest));
        let mut wants: Vec<Want> = missing
            .map(|object| Want {
                digest: object.digest,
                length: object.length,
                rank: object.rank,
                urgent: object.urgent && urgent.contains(&"urgent".to_owned()),
            })
            .collect();
        wants.sort_by_key(|want| (!want.urgent, want.rank, want.digest));
        wants
    }

    fn surplus(&self) -> Vec<(Digest, u64)> {
        let disk = self.disk();
        let is_listed = |digest: &Digest| disk.listed.iter().any(|listed| listed.digest == *digest);
        let held = disk.held.iter().filter(|(digest, _)| !is_listed(digest));
        held.map(|(digest, length)| (*digest, *length)).collect()
    }

    fn space(&self) -> Space {
        let disk = self.disk();
        let held: u64 = disk.held.values().sum();
        let staged: u64 = disk.staged.values().map(|(length, _)| length).sum();
        let each = disk.staged.iter();
        Space {
            free: vec![disk.capacity.saturating_sub(held + staged)],
            held,
            staged: each
                .map(|(digest, (length, done))| (*digest, *length, *done))
                .collect(),
            manifest: disk.position,
        }
    }

    fn delete(&self, digests: &[Digest]) -> Result<u64, store::StoreError> {
        let mut freed = 0;
        for digest in digests {
            let mut disk = self.disk();
            freed += disk.held.remove(digest).unwrap_or(0);
            disk.deleted.push((*digest, Wall::UNIX_EPOCH));
        }
        self.changed();
        Ok(freed)
    }

    fn discard(&self, digest: Digest) {
        self.disk().staged.remove(&digest);
    }

    fn keep(&self, name: &str, bytes: &[u8]) -> Result<(), store::StoreError> {
        self.disk().kept.insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn kept(&self, name: &str) -> Vec<Vec<u8>> {
        // A torn copy beside the good one.
        let disk = self.disk();
        let good = disk.kept.get(name).into_iter();
        good.flat_map(|good| [good[..good.len() / 2].to_vec(), good.clone()])
            .collect()
    }
}

/// Sources by name: `liar…` sends wrong bytes, `panic…` panics, all others are honest.
#[derive(Debug)]
struct SimFetch {
    content: Arc<SimContent>,
    log: Arc<Mutex<Vec<(String, Digest, Wall)>>>,
}

impl Fetch for SimFetch {
    fn fetch(&self, job: Job, turns: Arc<dyn Turns>) -> BoxFuture<'static, Outcome> {
        let content = Arc::clone(&self.content);
        let entry = (job.source.id.clone(), job.want.digest, clock::wall());
        self.log.lock().unwrap().push(entry);
        Box::pin(async move {
            let (begun, mut verified) = (clock::now(), 0);
            assert!(
                !job.source.id.starts_with("panic"),
                "the source makes the transfer panic"
            );
            let end = loop {
                let missing = content.missing(&job.want).min(PIECE);
                if missing == 0 {
                    break Ok(());
                }
                if turns
                    .take(job.class, missing * WIRE_PER_BYTE)
                    .await
                    .is_err()
                {
                    break Err(Fault::Stopped);
                }
                if job.source.id.starts_with("liar") {
                    break Err(Fault::WrongBytes("chunk 0".to_owned()));
                }
                verified += missing;
                content.receive(&job.want, missing);
            };
            Outcome {
                received: verified * WIRE_PER_BYTE,
                verified,
                wasted: 0,
                seconds: (clock::now() - begun).as_secs_f64(),
                parts: Vec::new(),
                end,
            }
        })
    }
}

/// The control plane: the same sources for every object.
#[derive(Debug)]
struct SimAsk {
    content: Arc<SimContent>,
    sources: Arc<Mutex<Vec<FillSource>>>,
    complaints: Arc<Mutex<Vec<Complaint>>>,
}

impl Ask for SimAsk {
    fn ask(&self, request: FillSourcesRequest) -> BoxFuture<'_, Result<FillSources, String>> {
        Box::pin(async move {
            clock::sleep(Duration::from_millis(50)).await;
            self.complaints.lock().unwrap().extend(request.complaints);
            let sources = self.sources.lock().unwrap().clone();
            let listed = self.content.disk().listed.clone();
            let of = |digest: &Digest| listed.iter().find(|listed| listed.digest == *digest);
            let objects = request
                .wanted
                .iter()
                .filter_map(of)
                .map(|listed| ObjectSources {
                    digest: listed.digest,
                    length: listed.length,
                    tree: String::new(),
                    sources: sources.clone(),
                    problem: None,
                });
            Ok(FillSources {
                v: 1,
                objects: objects.collect(),
                tickets: Vec::new(),
                ask_again_s: 30,
            })
        })
    }
}

/// One box and its night.
pub(crate) struct World {
    pub(crate) content: Arc<SimContent>,
    pub(crate) ration: Arc<SimRation>,
    pub(crate) orders: watch::Sender<Orders>,
    pub(crate) sources: Arc<Mutex<Vec<FillSource>>>,
    pub(crate) complaints: Arc<Mutex<Vec<Complaint>>>,
    pub(crate) log: Arc<Mutex<Vec<(String, Digest, Wall)>>>,
    pub(crate) fill: Handle,
    config: fill::Config,
    verifier: Option<Verifier>,
}

impl World {
    /// A box whose site has this window, from `start` on, in this world's only calendar.
    pub(crate) fn new(window: Window, start: &str) -> Self {
        Self::believing(window, start, None)
    }

    pub(crate) fn believing(window: Window, start: &str, verifier: Option<Verifier>) -> Self {
        clock::pin_wall(start.parse().unwrap());
        let (view, _) = watch::channel(Arc::default());
        let disk = Disk {
            capacity: 100 * TB,
            ..Disk::default()
        };
        let content = Arc::new(SimContent {
            disk: Mutex::new(disk),
            view,
        });
        // 200 GB a day.
        let ration = Arc::new(SimRation::new(200_000_000_000));
        let orders = Orders {
            clock_sane: true,
            connected: true,
            ..Orders::default()
        };
        let (orders, _) = watch::channel(orders);
        let config = config(window);
        let (sources, complaints, log) = <_>::default();
        let deps = |log: &Arc<_>, sources: &Arc<_>, complaints: &Arc<_>| {
            deps(
                &content,
                &ration,
                &orders,
                &verifier,
                (log, sources, complaints),
            )
        };
        let fill = fill::start(config.clone(), deps(&log, &sources, &complaints));
        Self {
            content,
            ration,
            orders,
            sources,
            complaints,
            log,
            fill,
            config,
            verifier,
        }
        .with_sources(&[("origin", SourceKind::Origin)])
    }

    pub(crate) fn with_sources(self, sources: &[(&str, SourceKind)]) -> Self {
        *self.sources.lock().unwrap() =
            sources.iter().map(|(id, kind)| source(id, *kind)).collect();
        self
    }

    /// The process ends and starts again, with the same disks.
    pub(crate) async fn restart(&mut self) {
        self.fill.stop().await;
        let shared = (&self.log, &self.sources, &self.complaints);
        let deps = deps(
            &self.content,
            &self.ration,
            &self.orders,
            &self.verifier,
            shared,
        );
        self.fill = fill::start(self.config.clone(), deps);
    }

    pub(crate) fn order(&self, change: impl FnOnce(&mut Orders)) {
        self.orders.send_modify(change);
    }

    /// Lets the world go on until this moment of the calendar, and a little more.
    pub(crate) async fn until(&self, at: &str) {
        let at: Wall = at.parse().unwrap();
        let left = at.duration_since(clock::wall());
        let left = Duration::try_from(left).expect("the past");
        clock::sleep(left + Duration::from_millis(10)).await;
    }
}

type Shared<'a> = (
    &'a Arc<Mutex<Vec<(String, Digest, Wall)>>>,
    &'a Arc<Mutex<Vec<FillSource>>>,
    &'a Arc<Mutex<Vec<Complaint>>>,
);

fn deps(
    content: &Arc<SimContent>,
    ration: &Arc<SimRation>,
    orders: &watch::Sender<Orders>,
    verifier: &Option<Verifier>,
    (log, sources, complaints): Shared<'_>,
) -> Deps {
    let verifier = verifier.clone();
    Deps {
        id: BoxId::parse("c001-tls001-example-isp").unwrap(),
        fetch: Arc::new(SimFetch {
            content: Arc::clone(content),
            log: Arc::clone(log),
        }),
        ask: Arc::new(SimAsk {
            content: Arc::clone(content),
            sources: Arc::clone(sources),
            complaints: Arc::clone(complaints),
        }),
        content: Arc::<SimContent>::clone(content),
        ration: Arc::<SimRation>::clone(ration),
        orders: orders.subscribe(),
        store: content.view.subscribe(),
        verifier: Arc::new(move || verifier.clone()),
        gives: true,
        traffic: Arc::new(fill::Counters::default),
    }
}

fn source(id: &str, kind: SourceKind) -> FillSource {
    FillSource {
        id: id.to_owned(),
        kind,
        urls: vec!["https://192.0.2.1/fill/x".to_owned()],
        not_before_s: 0,
        ticket: None,
        etag: None,
        expires_s: 3_600,
    }
}

fn config(window: Window) -> fill::Config {
    fill::Config {
        window,
        rate_limit: RATE,
        urgent_bytes: Bytes(200_000_000_000),
        streams: 8,
        sources_at_once: 3,
        count_peers: true,
        deletion_grace: Duration::from_secs(3 * 3_600),
        deletion_share: 5,
        private_sources: false,
        plain_origin: false,
        origin_ca: None,
    }
}

pub(crate) fn window(zone: &str, hours: u64) -> Window {
    Window::new(zone, 2 * 3_600, Duration::from_secs(hours * 3_600)).unwrap()
}

/// `count` objects of the same length, ranked in order, named by `name`.
pub(crate) fn objects(name: &str, count: u32, length: u64) -> Vec<Listed> {
    let object = |rank| Listed {
        digest: Digest::of(format!("{name} {rank}").as_bytes()),
        length,
        rank,
        urgent: false,
    };
    (0..count).map(object).collect()
}

pub(crate) fn position(epoch: u64, generation: u64) -> Position {
    Position { epoch, generation }
}

pub(crate) fn wall(text: &str) -> Wall {
    text.parse().unwrap()
}
