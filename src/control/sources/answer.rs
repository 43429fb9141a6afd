//! From a box's question to the text of its answer: the I/O around [`super::desk`].
//!
//! I/O: asks the store, opens origins; plans and signs on blocking threads.

use super::Config;
use super::Deps;
use super::ORIGIN;
use super::ORIGIN_ID;
use super::complaints::Problem;
use super::desk::Desk;
use super::desk::Plan;
use super::desk::Wanted;
use super::metrics::Counters;
use super::origins::Origins;
use super::origins::Way;
use super::stage::Inputs;
use super::stage::Seat;
use super::stage::Stage;
use super::stage::Who;
use super::tickets;
use super::tickets::Found;
use super::tickets::Paper;
use crate::clock::Instant;
use crate::clock::Wall;
use crate::control::fleet::Refused;
use crate::control::fleet::Shut;
use crate::control::store::Location;
use crate::ids::BoxId;
use crate::link::message;
use crate::link::message::Code;
use crate::link::message::Complaint;
use crate::link::message::FILL_WANTED_MAX;
use crate::link::message::FillSources;
use crate::link::message::FillSourcesRequest;
use crate::lock::lock;
use crate::object::CHUNK_BYTES;
use crate::object::Digest;
use crate::telemetry::LogLimit;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Questions at once, each with its own thread for some milliseconds.
const TURNS: usize = 4;

/// Questions that wait for their turn: some seconds of work.
const QUEUE: usize = 256;

/// When a box that found the queue full is to come again, at least.
const RETRY: Duration = Duration::from_secs(3);

/// Objects of one question with several sources each.
const COMPLAINTS_MAX: usize = 4 * FILL_WANTED_MAX;

/// Chunk trees of one answer, before they become text of twice the size. The first object has its
/// tree whatever its size: 8 MiB at most.
const TREES_BYTES_MAX: u64 = 8 << 20;

/// Wrong bytes and unusable origins, in the log.
const LOG_EVERY: Duration = Duration::from_secs(10);

pub(super) struct Answers {
    config: Config,
    deps: Deps,
    origins: Arc<Origins>,
    counters: Arc<Counters>,
    desk: Arc<Mutex<Desk>>,
    stage: tokio::sync::Mutex<Arc<Stage>>,
    turns: Semaphore,
    queue: Semaphore,
    log: Mutex<LogLimit>,
}

/// What of a question can be answered, and why the rest cannot.
#[derive(Default)]
struct Sorted {
    found: Vec<Found>,
    /// Of `found`: those with a known tree.
    wanted: Vec<Wanted>,
}

impl Answers {
    pub(super) fn new(
        config: Config,
        deps: Deps,
        origins: Arc<Origins>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            config,
            deps,
            origins,
            counters,
            desk: Arc::default(),
            stage: tokio::sync::Mutex::default(),
            turns: Semaphore::new(TURNS),
            queue: Semaphore::new(QUEUE),
            log: Mutex::new(LogLimit::new(LOG_EVERY)),
        }
    }

    pub(super) async fn answer(
        &self,
        id: &BoxId,
        request: FillSourcesRequest,
        now: Instant,
        wall: Wall,
    ) -> Result<FillSources, Refused> {
        check(&request)?;
        let Ok(_queued) = self.queue.try_acquire() else {
            let message = "many boxes ask for sources at the moment; this one is to wait";
            let more = Duration::from_millis(fastrand::u64(0..3_000));
            return Err(Refused::busy(message, RETRY + more));
        };
        let Ok(_turn) = self.turns.acquire().await else {
            return Err(stopping());
        };
        let stage = self.stage(wall).await?;
        let asker = admit(&stage, id)?;
        self.complain(&stage, id, &request.complaints, now);
        let sorted = self.sort(&stage, &request.wanted).await?;
        let wanted = sorted.wanted;
        let (plan, wanted) = {
            let (stage, desk) = (Arc::clone(&stage), Arc::clone(&self.desk));
            let counters = Arc::clone(&self.counters);
            blocking(move || {
                let mut desk = lock(&desk);
                let plan = desk.plan(&stage, asker, &wanted, now);
                let asked = u64::try_from(desk.asked.len()).unwrap_or(u64::MAX);
                counters
                    .asked
                    .store(asked, std::sync::atomic::Ordering::Relaxed);
                (plan, wanted)
            })
            .await?
        };
        let ways = self.ways(&stage, &wanted, &plan, now).await?;
        let paper = Paper {
            stage,
            asker,
            found: sorted.found,
            plan,
            ways,
            ask_again: self.config.ask_again,
            jitter: fastrand::f64(),
            wall,
        };
        let (signer, counters) = (Arc::clone(&self.deps.signer), Arc::clone(&self.counters));
        Counters::add(&self.counters.questions, 1);
        blocking(move || tickets::write(paper, &signer, &counters)).await
    }

    /// The present one, built if something has changed.
    async fn stage(&self, wall: Wall) -> Result<Arc<Stage>, Refused> {
        let inputs = Inputs {
            registry: Arc::clone(&self.deps.registry.borrow()),
            library: Arc::clone(&self.deps.library.borrow()),
            view: Arc::clone(&self.deps.view.borrow()),
        };
        // Whoever waits here finds the work done.
        let mut stage = self.stage.lock().await;
        if !stage.is_of(&inputs) {
            let old = Arc::clone(&stage);
            *stage = blocking(move || Arc::new(Stage::build(&old, inputs, wall))).await?;
        }
        Ok(Arc::clone(&stage))
    }

    fn complain(&self, stage: &Stage, id: &BoxId, complaints: &[Complaint], now: Instant) {
        let asker = Who::of(id.as_str());
        let mut desk = lock(&self.desk);
        for complaint in complaints {
            let numbers = &stage.content.library.object_numbers;
            let (Some(object), Some(source)) =
                (numbers.get(&complaint.digest), source(stage, complaint))
            else {
                continue;
            };
            let problem = Problem::of(&complaint.problem);
            // Who is sent for it may be named before it has come to it: that is nobody's fault.
            let seat = stage
                .of_who(source)
                .filter(|_| complaint.problem == "not-found");
            let region = seat.and_then(|seat| stage.regions.get(seat.region as usize));
            if region.is_some_and(|region| desk.is_fetching(now, region.key, *object, source)) {
                continue;
            }
            let counter = match problem {
                Problem::WrongBytes => &self.counters.wrong_bytes,
                Problem::Changed | Problem::Other => &self.counters.complaints,
            };
            Counters::add(counter, 1);
            let is_news = desk.complaints.take(now, (asker, source, *object), problem);
            let is_of_origin = source == ORIGIN && problem == Problem::Changed;
            if (is_news || is_of_origin)
                && let Some(left_out) = lock(&self.log).step(now)
            {
                let (digest, source) = (complaint.digest, &complaint.source);
                let what = match problem {
                    Problem::WrongBytes => "sent wrong bytes; look at its disks and memory",
                    Problem::Changed | Problem::Other => "has another file; import it again",
                };
                tracing::warn!(%id, %digest, left_out, "fill: the source {source} {what}");
            }
        }
    }

    /// Which objects are known, with their trees. Each is answered once.
    async fn sort(&self, stage: &Stage, wanted: &[Digest]) -> Result<Sorted, Refused> {
        let library = &stage.content.library;
        let mut sorted = Sorted::default();
        let (mut ask, mut room) = (Vec::new(), TREES_BYTES_MAX);
        let mut seen = BTreeSet::new();
        for digest in wanted.iter().filter(|digest| seen.insert(**digest)) {
            let number = library.object_numbers.get(digest);
            let object = number.and_then(|number| Some((*number, library.object(*number)?)));
            let Some((number, object)) = object else {
                sorted
                    .found
                    .push(Found::not(*digest, "the library does not know it"));
                continue;
            };
            let bytes = tree_bytes(object.length);
            let mut found = Found::of(number, object);
            if bytes > room && !ask.is_empty() {
                found.problem = Some("the answer is full; ask for it again");
            } else if bytes > 0 {
                room = room.saturating_sub(bytes);
                ask.push(*digest);
            }
            sorted.found.push(found);
        }
        let mut trees = match ask.is_empty() {
            true => BTreeMap::new(),
            false => self.deps.shelves.trees(ask).await.map_err(unread)?,
        };
        for found in &mut sorted.found {
            if found.problem.is_some() {
                continue;
            }
            let bytes = tree_bytes(found.length);
            let tree = trees.remove(&found.digest).unwrap_or_default();
            if 32 * tree.len() as u64 != bytes {
                found.problem = Some("the chunk tree is not known; import again");
                continue;
            }
            found.tree = tree;
            found.place = Some(sorted.wanted.len());
            sorted.wanted.push(Wanted {
                object: found.number,
                length: found.length,
            });
        }
        Ok(sorted)
    }

    /// How to get at the origin, for each object of the plan that may go there at once.
    async fn ways(
        &self,
        stage: &Stage,
        wanted: &[Wanted],
        plan: &Plan,
        now: Instant,
    ) -> Result<Vec<Option<Way>>, Refused> {
        let library = &stage.content.library;
        let digest = |wanted: &Wanted| library.object(wanted.object).map(|object| object.digest);
        let goes = |place: usize| {
            let offers = plan.objects.get(place);
            offers.is_some_and(|offers| offers.origin == Some(Duration::ZERO))
        };
        let places = wanted.iter().enumerate();
        let asked: Vec<Digest> = { places }
            .filter_map(|(place, wanted)| digest(wanted).filter(|_| goes(place)))
            .collect();
        let mut ways = vec![None; wanted.len()];
        if asked.is_empty() {
            return Ok(ways);
        }
        let locations = self.deps.shelves.locations(asked).await.map_err(unread)?;
        for (place, wanted) in wanted.iter().enumerate().filter(|(place, _)| goes(*place)) {
            let location = digest(wanted).and_then(|digest| locations.get(&digest));
            if let (Some(location), Some(way)) = (location, ways.get_mut(place)) {
                *way = self.way(now, location).await;
            }
        }
        Ok(ways)
    }

    async fn way(&self, now: Instant, location: &Location) -> Option<Way> {
        match self.origins.way(now, location).await {
            Ok(way) => Some(way),
            Err(error) => {
                if let Some(left_out) = lock(&self.log).step(now) {
                    tracing::error!(%error, left_out, "fill: the origin cannot be offered");
                }
                None
            }
        }
    }
}

fn check(request: &FillSourcesRequest) -> Result<(), Refused> {
    if request.v != message::VERSION {
        let (v, own) = (request.v, message::VERSION);
        let message = format!("version {v} of the link is not spoken here, only {own}");
        return Err(Refused::new(Code::BadRequest, message));
    }
    let lists = [
        ("wanted", request.wanted.len(), FILL_WANTED_MAX),
        ("complaints", request.complaints.len(), COMPLAINTS_MAX),
    ];
    for (name, count, most) in lists {
        if count > most {
            let message = format!("{name}: {count} objects; at most {most} are taken at a time");
            return Err(Refused::new(Code::TooLarge, message));
        }
    }
    Ok(())
}

/// May it ask? Where it sits in the stage.
fn admit(stage: &Stage, id: &BoxId) -> Result<u32, Refused> {
    let appliance = stage.registry.appliances.get(id);
    let place = stage.place(Who::of(id.as_str()));
    let (Some(appliance), Some(place)) = (appliance, place) else {
        let message = format!("{id} is not in the registry; an operator has to add it");
        return Err(Refused::new(Code::Identity, message));
    };
    if appliance.revoked {
        let message = format!("{id} is revoked");
        return Err(Refused::new(Code::Identity, message));
    }
    let view = stage.view.boxes.get(id);
    if appliance.quarantined.is_some()
        || view.is_some_and(|view| view.open == Err(Shut::Quarantined))
    {
        let message = format!("{id} is quarantined until an operator decides");
        return Err(Refused::new(Code::Quarantined, message));
    }
    Ok(place)
}

/// Whom a complaint is about.
fn source(stage: &Stage, complaint: &Complaint) -> Option<Who> {
    if complaint.source == ORIGIN_ID {
        return Some(ORIGIN);
    }
    let seat: Option<&Seat> = stage.of_who(Who::of(&complaint.source));
    seat.map(|seat| seat.who)
}

/// Of the chaining values of an object; none for one chunk.
fn tree_bytes(length: u64) -> u64 {
    match length <= CHUNK_BYTES {
        true => 0,
        false => 32 * length.div_ceil(CHUNK_BYTES),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refused> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "fill: answering a question failed");
        Refused::new(Code::Internal, "the question could not be answered")
    })
}

fn unread(error: crate::control::store::ControlStoreError) -> Refused {
    tracing::error!(%error, "fill: the store cannot be asked for sources");
    Refused::new(Code::Internal, "the control plane cannot read its store")
}

fn stopping() -> Refused {
    Refused::new(Code::Internal, "the control plane is stopping")
}
