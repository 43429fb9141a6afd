//! One simulated box: the real link client with a made-up appliance behind it.
//!
//! It enrols, and then runs as a box does: a report at once, the manifest as soon as a reply names
//! one, everything of the manifest in its catalogue, a report with full jitter, a heartbeat on a
//! connection of its own. Some boxes lose a route now and then and say so at once.
//!
//! I/O: calls the control plane, sleeps.

use super::Options;
use super::SITE_BOXES;
use super::lines::Lines;
use super::operator;
use super::routes;
use super::tally::Sort;
use super::tally::Tally;
use super::viewer::Asker;
use anyhow::Context as _;
use oca::clock;
use oca::clock::Instant;
use oca::gate::Reason;
use oca::ids::BoxId;
use oca::link::Config;
use oca::link::client::Client;
use oca::link::identity::Identity;
use oca::link::message::Code;
use oca::link::message::GateState;
use oca::link::message::Heartbeat;
use oca::link::message::Load;
use oca::link::message::Position;
use oca::link::message::Report;
use oca::link::message::VERSION;
use oca::link::steps::Outbox;
use oca::link::timing;
use oca::object::Digest;
use oca::route_table::RouteTable;
use oca::set_hash::SetHash;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

/// One box of so many withdraws a route with each of its reports, or learns it again.
const WAVERING: u32 = 10;

/// How long steering may take to follow before it counts as never, and how often it is asked.
const FOLLOW_TIME_MAX: Duration = Duration::from_secs(30);
const FOLLOW_ASKED_EVERY: Duration = Duration::from_millis(100);

/// Tries of an enrolment that is told to come again.
const ENROL_TRIES: u32 = 20;

/// What the boxes hold is the same for most of them: kept once for all.
static HELD: Mutex<Vec<(Digest, Arc<[Digest]>)>> = Mutex::new(Vec::new());

pub(super) struct Machine {
    id: BoxId,
    number: u32,
    client: Client,
    boot_id: String,
    epoch: u64,
    tally: Arc<Tally>,
}

/// What reports carry from one to the next.
struct Told {
    sequence: u64,
    outbox: Outbox,
    manifest: Option<Position>,
    /// Position 0 is nothing.
    catalogue: Arc<[Digest]>,
    catalogue_generation: u64,
    routes: RouteTable,
    routes_generation: u64,
    has_own: bool,
}

impl Machine {
    pub(super) fn new(
        number: u32,
        link: SocketAddr,
        pin: &str,
        tally: Arc<Tally>,
    ) -> anyhow::Result<Self> {
        let config = Config {
            url: format!("https://{link}"),
            ca: pin.to_owned(),
            token_file: None,
            identity: PathBuf::new(),
            report_every: Duration::from_secs(300),
            heartbeat_every: Duration::from_secs(10),
            growth_every: Duration::from_secs(60),
        };
        let lines = Arc::new(Lines::new(number, Arc::clone(&tally)));
        let identity = Identity::transient(pin)?;
        let client = Client::new(&config, identity, lines)?;
        let mut random = fastrand::Rng::with_seed(u64::from(number) + 1);
        Ok(Self {
            id: operator::box_id(number)?,
            number,
            client,
            boot_id: format!("{:032x}", random.u128(1..)),
            epoch: random.u64(1..),
            tally,
        })
    }

    pub(super) fn id(&self) -> &BoxId {
        &self.id
    }

    /// Redeems the token; comes again when it is told to.
    pub(super) async fn enrol(self, token: &str) -> anyhow::Result<Self> {
        for _ in 0..ENROL_TRIES {
            let begun = clock::now();
            let outcome = self.client.enrol(token).await;
            match self.tally.count(Sort::Enrolment, begun.elapsed(), outcome) {
                Ok(()) => return Ok(self),
                Err(error) => match error.retry_after() {
                    Some(time) => clock::sleep(time.min(Duration::from_secs(2))).await,
                    None => return Err(error).context(self.id.to_string()),
                },
            }
        }
        anyhow::bail!("{} was told {ENROL_TRIES} times to come again", self.id)
    }

    /// Reports and beats until it is dropped.
    pub(super) async fn run(self, options: Options, public: SocketAddr) {
        let mut random = fastrand::Rng::with_seed(u64::from(self.number) << 32);
        // Boxes are switched on one after the other, within one interval of their heartbeats.
        clock::sleep(options.heartbeat_every.mul_f64(random.f64())).await;
        let gate = Mutex::new(GateState {
            state: "closed".to_owned(),
            reasons: vec![Reason::NoManifest],
        });
        let beats = self.beat(options.heartbeat_every, &gate, random.fork());
        let reports = self.report(options.report_every, &gate, random, public);
        tokio::join!(beats, reports);
    }

    async fn beat(&self, every: Duration, gate: &Mutex<GateState>, mut random: fastrand::Rng) {
        for sequence in 1.. {
            let heartbeat = Heartbeat {
                v: VERSION,
                boot_id: self.boot_id.clone(),
                sequence,
                gate: copied(gate),
                load: load(&mut random),
            };
            let begun = clock::now();
            let outcome = self.client.heartbeat(&heartbeat).await;
            let _ = self.tally.count(Sort::Heartbeat, begun.elapsed(), outcome);
            clock::sleep_until(begun + timing::heartbeat_delay(every, random.f64())).await;
        }
    }

    async fn report(
        &self,
        mut every: Duration,
        gate: &Mutex<GateState>,
        mut random: fastrand::Rng,
        public: SocketAddr,
    ) {
        let mut told = Told::new(self);
        let mut failures = 0;
        loop {
            let begun = clock::now();
            let withdrew =
                told.sequence > 1 && self.number.is_multiple_of(WAVERING) && told.waver(self);
            let report = Arc::new(told.report(self, copied(gate), load(&mut random)));
            let outcome = self.client.report(Arc::clone(&report)).await;
            let outcome = self.tally.count(Sort::Report, begun.elapsed(), outcome);
            let next = match outcome {
                Ok(reply) => {
                    failures = 0;
                    told.outbox.acknowledge(reply.acked);
                    every = Duration::from_secs(reply.next_report_s.max(1));
                    if withdrew {
                        self.follow(begun, public).await;
                    }
                    let wanted = reply.orders.manifest;
                    if wanted.is_some() && wanted != told.manifest && self.fetch(&mut told).await {
                        *gate.lock().unwrap_or_else(PoisonError::into_inner) = serving();
                        continue;
                    }
                    timing::report_delay(every, random.f64())
                }
                Err(error) => {
                    if matches!(error.code(), Some(Code::WrongDigest | Code::WrongPosition)) {
                        told.outbox.forget();
                    }
                    failures += 1;
                    timing::retry_delay(every, failures, error.retry_after(), random.f64())
                }
            };
            clock::sleep_until(begun + next).await;
        }
    }

    /// Fetches and believes the manifest, and "fills" everything of it.
    async fn fetch(&self, told: &mut Told) -> bool {
        let begun = clock::now();
        let fetched = self.manifest(told.manifest).await;
        match self.tally.count(Sort::Manifest, begun.elapsed(), fetched) {
            Ok((position, held)) => {
                told.manifest = Some(position);
                if held != told.catalogue {
                    told.catalogue = held;
                    told.catalogue_generation += 1;
                }
                true
            }
            Err(_) => false,
        }
    }

    async fn manifest(&self, have: Option<Position>) -> anyhow::Result<(Position, Arc<[Digest]>)> {
        let body = self.client.manifest(have).await?;
        let body = body.context("the manifest is said to be the same")?;
        let verifier = self.client.verifier()?;
        let verified = verifier.verify(&body, &self.id, clock::wall(), have)?;
        let mut kept = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept
            .iter()
            .find(|(content, _)| *content == verified.content);
        let held = match known {
            Some((_, held)) => Arc::clone(held),
            None => {
                let mut digests: Vec<Digest> = verified.keys.iter().map(|key| key.digest).collect();
                digests.sort_unstable();
                digests.dedup();
                let held: Arc<[Digest]> = digests.into();
                kept.push((verified.content, Arc::clone(&held)));
                held
            }
        };
        Ok((verified.position, held))
    }

    /// How long it takes until viewers of the withdrawn prefix are not steered by it any more.
    async fn follow(&self, begun: Instant, public: SocketAddr) {
        let place = self.number % SITE_BOXES;
        let client = routes::own_client(self.number / SITE_BOXES, place);
        let mut asker = Asker::default();
        let gone = async {
            loop {
                let answer = asker.steer(public, client, None).await?;
                let first = &answer["boxes"][0];
                let is_still = first["box"] == self.id.as_str()
                    && first["reason"]["prefix"]
                        .as_str()
                        .is_some_and(|prefix| prefix.ends_with("/56"));
                if !is_still {
                    return anyhow::Ok(());
                }
                clock::sleep(FOLLOW_ASKED_EVERY).await;
            }
        };
        let outcome = clock::within(FOLLOW_TIME_MAX, gone).await;
        let outcome = outcome.context("steering does not follow").flatten();
        let _ = self.tally.count(Sort::Withdrawal, begun.elapsed(), outcome);
    }
}

impl Told {
    fn new(machine: &Machine) -> Self {
        let mut told = Self {
            sequence: 0,
            outbox: Outbox::new(machine.epoch),
            manifest: None,
            catalogue: Vec::new().into(),
            catalogue_generation: 0,
            routes: RouteTable::default(),
            routes_generation: 0,
            has_own: true,
        };
        told.learn(machine);
        told
    }

    fn learn(&mut self, machine: &Machine) {
        let (provider, place) = (machine.number / SITE_BOXES, machine.number % SITE_BOXES);
        let learned = routes::learned(provider, place, self.has_own);
        self.routes = learned.into_iter().collect();
        self.routes_generation += 1;
    }

    /// Loses the own prefix, or learns it again. Was it lost?
    fn waver(&mut self, machine: &Machine) -> bool {
        self.has_own = !self.has_own;
        self.learn(machine);
        !self.has_own
    }

    fn report(&mut self, machine: &Machine, gate: GateState, load: Load) -> Report {
        self.sequence += 1;
        let catalogue = Arc::clone(&self.catalogue);
        let hash = SetHash::of(self.routes.iter().map(|seen| seen.route().item()));
        Report {
            v: VERSION,
            boot_id: machine.boot_id.clone(),
            sequence: self.sequence,
            sent_at: clock::wall().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            gate,
            catalogue: self
                .outbox
                .catalogue(self.catalogue_generation, move || catalogue.to_vec()),
            routes: self
                .outbox
                .routes(self.routes_generation, &hash, &self.routes),
            interfaces: Vec::new(),
            bgp: Vec::new(),
            disks: Vec::new(),
            load,
            manifest: self.manifest,
            fill: None,
            quality: None,
        }
    }
}

fn serving() -> GateState {
    GateState {
        state: "serving".to_owned(),
        reasons: Vec::new(),
    }
}

fn load(random: &mut fastrand::Rng) -> Load {
    Load {
        connections: random.u64(..10_000),
        requests_total: random.u64(..1_000_000),
        sent_bytes_total: random.u64(..1 << 50),
    }
}

fn copied(gate: &Mutex<GateState>) -> GateState {
    gate.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
