//! The one owner of the fleet: a task that feeds the machine and publishes its view.
//!
//! Whatever is heavy was done before a message reaches its queue, so that a heartbeat never waits
//! behind a full table. A full queue is a refusal with a time to come back.
//!
//! I/O: waits on channels, sleeps.

use super::Action;
use super::Config;
use super::Counters;
use super::Fleet;
use super::Prepared;
use super::Refused;
use super::View;
use super::metrics;
use crate::clock;
use crate::clock::Instant;
use crate::control::model::Library;
use crate::control::model::Registry;
use crate::control::orders::FillBook;
use crate::control::signing;
use crate::ids::BoxId;
use crate::link::message::Code;
use crate::link::message::Heartbeat;
use crate::link::message::HeartbeatReply;
use crate::link::message::Position;
use crate::link::message::ReportReply;
use crate::telemetry;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;

/// Two seconds of the heartbeats of 18,000 boxes; longer waits are better spent at home.
const QUEUE: usize = 4_096;

/// Told to a box that found the queue full.
const QUEUE_RETRY: Duration = Duration::from_secs(5);

/// Messages taken before the view is looked at.
const BATCH: usize = 256;

/// The view is copied at most this often, however many boxes change. A withdrawal must leave
/// steering within 10 s.
const PUBLISH_EVERY: Duration = Duration::from_millis(100);

/// Times and loads, which only people read, are brought up to date this often.
const REFRESH_EVERY: Duration = Duration::from_secs(5);

/// What the task needs from the wiring.
#[derive(Debug)]
pub struct Deps {
    pub registry: watch::Receiver<Arc<Registry>>,
    pub library: watch::Receiver<Arc<Library>>,
    /// The manifest each box should have.
    pub manifests: watch::Receiver<Arc<BTreeMap<BoxId, Position>>>,
    /// What replies say of the fill.
    pub fill: watch::Receiver<Arc<FillBook>>,
    /// Whose keys replies carry.
    pub signing: watch::Receiver<signing::Current>,
    /// For the store. A full channel loses nothing: the machine asks again.
    pub actions: mpsc::Sender<Action>,
    pub metrics: telemetry::Registry,
}

/// The running fleet. Dropping it ends the task.
#[derive(Debug)]
pub struct Handle {
    inbox: Inbox,
    view: watch::Receiver<Arc<View>>,
    task: tokio::task::JoinHandle<()>,
}

/// Where boxes' words are handed in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Inbox {
    sender: mpsc::Sender<Message>,
    counters: Arc<Counters>,
}

#[derive(Debug)]
enum Message {
    Report(
        BoxId,
        Box<Prepared>,
        oneshot::Sender<Result<ReportReply, Refused>>,
    ),
    Heartbeat(
        BoxId,
        Heartbeat,
        oneshot::Sender<Result<HeartbeatReply, Refused>>,
    ),
}

/// Starts the task on the current runtime.
pub fn start(config: Config, deps: Deps) -> Handle {
    let counters = Arc::<Counters>::default();
    let (sender, messages) = mpsc::channel(QUEUE);
    let mut fleet = Fleet::new(clock::now(), config, Arc::clone(&counters));
    let (view_sender, view) = watch::channel(fleet.view());
    metrics::register(&deps.metrics, &counters, &view);
    let keeper = Keeper {
        fleet,
        messages,
        deps,
        view: view_sender,
        published: clock::now(),
        refreshed: clock::now(),
    };
    Handle {
        inbox: Inbox { sender, counters },
        view,
        task: tokio::spawn(keeper.run()),
    }
}

impl Handle {
    pub fn inbox(&self) -> Inbox {
        self.inbox.clone()
    }

    /// The fleet as it is; a changed `generation` is what steering needs to follow.
    pub fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Inbox {
    /// Hands in a report and waits for its answer.
    pub async fn report(&self, id: BoxId, report: Prepared) -> Result<ReportReply, Refused> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Report(id, Box::new(report), reply))?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Hands in a heartbeat and waits for its answer.
    pub async fn heartbeat(&self, id: BoxId, beat: Heartbeat) -> Result<HeartbeatReply, Refused> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Heartbeat(id, beat, reply))?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    fn send(&self, message: Message) -> Result<(), Refused> {
        self.sender.try_send(message).map_err(|error| {
            let refused = match error {
                mpsc::error::TrySendError::Full(_) => {
                    Refused::busy("the control plane is behind with its boxes", QUEUE_RETRY)
                }
                mpsc::error::TrySendError::Closed(_) => gone(),
            };
            self.counters.refuse(refused.code);
            refused
        })
    }
}

fn gone() -> Refused {
    Refused::new(Code::Internal, "the control plane is stopping")
}

struct Keeper {
    fleet: Fleet,
    messages: mpsc::Receiver<Message>,
    deps: Deps,
    view: watch::Sender<Arc<View>>,
    published: Instant,
    refreshed: Instant,
}

impl Keeper {
    async fn run(mut self) {
        self.follow_library();
        self.follow_registry();
        self.follow_manifests();
        self.follow_fill();
        self.follow_signing();
        self.publish();
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let next = self.next_wake();
            tokio::select! {
                count = self.messages.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    self.take(&mut batch);
                }
                // A wiring that is gone changes nothing any more.
                Ok(()) = self.deps.registry.changed() => self.follow_registry(),
                Ok(()) = self.deps.library.changed() => self.follow_library(),
                Ok(()) = self.deps.manifests.changed() => self.follow_manifests(),
                Ok(()) = self.deps.fill.changed() => self.follow_fill(),
                Ok(()) = self.deps.signing.changed() => self.follow_signing(),
                () = clock::sleep_until(next) => {}
            }
            let now = clock::now();
            if now >= self.fleet.deadline() {
                self.fleet.tick(now);
            }
            self.act();
            if now.saturating_duration_since(self.published) >= PUBLISH_EVERY {
                self.publish();
            }
        }
    }

    /// The machine's deadline, or earlier if it has news that were not yet due to be published.
    fn next_wake(&self) -> Instant {
        let deadline = self.fleet.deadline();
        match self.fleet.has_news() {
            true => deadline.min(self.published + PUBLISH_EVERY),
            false => deadline,
        }
    }

    fn take(&mut self, batch: &mut Vec<Message>) {
        let wall = clock::wall();
        for message in batch.drain(..) {
            let now = clock::now();
            // Whoever asked may have left; what the box said counts all the same.
            match message {
                Message::Report(id, report, reply) => {
                    let answer = self.fleet.report_prepared(now, wall, &id, *report);
                    drop(reply.send(answer));
                }
                Message::Heartbeat(id, beat, reply) => {
                    let answer = self.fleet.heartbeat(now, wall, &id, beat);
                    drop(reply.send(answer));
                }
            }
        }
    }

    fn publish(&mut self) {
        let now = clock::now();
        self.published = now;
        let is_time = now.saturating_duration_since(self.refreshed) >= REFRESH_EVERY;
        let view = if is_time {
            self.refreshed = now;
            self.fleet.refreshed_view()
        } else {
            self.fleet.view()
        };
        self.view.send_if_modified(|published| {
            let is_news = !Arc::ptr_eq(published, &view);
            *published = view;
            is_news
        });
    }

    fn act(&mut self) {
        for action in self.fleet.actions() {
            if let Err(error) = self.deps.actions.try_send(action) {
                tracing::error!(%error, "the store does not take a quarantine; it is asked again");
            }
        }
    }

    fn follow_registry(&mut self) {
        let registry = Arc::clone(&self.deps.registry.borrow_and_update());
        self.fleet.registry(registry);
    }

    fn follow_library(&mut self) {
        let library = Arc::clone(&self.deps.library.borrow_and_update());
        self.fleet.library(library);
    }

    fn follow_manifests(&mut self) {
        let manifests = Arc::clone(&self.deps.manifests.borrow_and_update());
        self.fleet.manifests(BTreeMap::clone(&manifests));
    }

    fn follow_fill(&mut self) {
        let book = Arc::clone(&self.deps.fill.borrow_and_update());
        self.fleet.fill(book);
    }

    fn follow_signing(&mut self) {
        let signing = self.deps.signing.borrow_and_update().clone();
        self.fleet.signing(signing);
    }
}
