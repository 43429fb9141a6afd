//! The moving parts of a running control plane: every channel and task between its rooms.
//!
//! ```text
//! books ─ registry, library ─┬→ publisher ─ positions ─┬→ fleet ←─ reports ─ link listener
//!                            │      │                  └→ fill book ─↑  ↓ quarantine → store
//!                            │      └─── listed ──┐                  │
//!                            └────────────────→ steering ←── view ───┘
//!                                                 ↑ questions: public listener, operator's socket
//! ```
//! Called by `run`, which decides what the end of a part means.
//!
//! I/O: binds, spawns, waits for news.

use super::Config;
use super::allocate::Listed;
use super::api::link;
use super::api::public;
use super::authority::Authority;
use super::authority::Enrolment;
use super::authority::LinkCertificate;
use super::books::Books;
use super::fleet;
use super::liveness;
use super::liveness::Liveness;
use super::orders;
use super::orders::FillBook;
use super::publish::Publisher;
use super::run::ControlError;
use super::signing;
use super::sources;
use super::steer;
use super::steer::Steering;
use super::store::Answer;
use super::store::Location;
use crate::clock;
use crate::clock::Instant;
use crate::ids::BoxId;
use crate::link::body;
use crate::link::manifest::Signer;
use crate::link::message::Position;
use crate::object::Digest;
use crate::telemetry;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Quarantines that wait for the database; the fleet asks again for what finds no room.
const ACTIONS_MAX: usize = 64;

/// After a failure of the database or of signing.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Signatures are looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What has an end on the calendar is looked at this often: clocks are set.
const LOOK_AT_ENDS: Duration = Duration::from_secs(30);

type Positions = Arc<BTreeMap<BoxId, Position>>;

type AllListed = Arc<BTreeMap<BoxId, Arc<Listed>>>;

/// What is said of the published manifests.
struct Said {
    positions: watch::Sender<Positions>,
    listed: watch::Sender<AllListed>,
}

/// What runs. Dropping it closes the doors.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) fleet: fleet::Handle,
    pub(super) steering: Arc<Steering>,
    pub(super) liveness: Arc<Liveness>,
    pub(super) link: link::Handle,
    pub(super) public: public::Handle,
}

/// What the parts are made from.
pub(super) struct Ground<'a> {
    pub(super) config: &'a Config,
    pub(super) books: &'a Books,
    pub(super) authority: &'a Arc<Authority>,
    pub(super) metrics: &'a telemetry::Registry,
}

/// Starts everything; a task that ends by itself returns its name from `tasks`.
pub(super) fn start(
    ground: &Ground<'_>,
    tasks: &mut JoinSet<&'static str>,
) -> Result<Parts, ControlError> {
    let Ground {
        config,
        books,
        authority,
        metrics,
    } = *ground;
    let store = Arc::clone(books.store());
    let signer = Arc::clone(authority.signer());
    let publisher = Arc::new(Publisher::new(store, signer, config.manifest_validity));
    let said = Said {
        positions: watch::Sender::default(),
        listed: watch::Sender::default(),
    };
    let book = watch::Sender::<Arc<FillBook>>::default();
    let (actions, orders) = mpsc::channel(ACTIONS_MAX);
    let (steering, signing) = start_steering(config, tasks)?;
    let fleet = fleet::start(
        fleet::Config {
            lease: config.lease,
            report_every: config.report_every,
            staleness: config.staleness.clone(),
        },
        fleet::Deps {
            registry: books.watch_registry(),
            library: books.watch_library(),
            manifests: said.positions.subscribe(),
            fill: book.subscribe(),
            signing,
            actions,
            metrics: metrics.clone(),
        },
    );
    let liveness = Arc::new(liveness(books, &fleet, said.listed.subscribe()));
    tasks.spawn(obey(orders, books.clone()));
    tasks.spawn(keep_book(
        Arc::clone(authority.signer()),
        config.fill.urgent_max,
        books.clone(),
        said.positions.subscribe(),
        book,
    ));
    tasks.spawn(follow(
        Arc::clone(&steering),
        books.clone(),
        fleet.view(),
        said.listed.subscribe(),
    ));
    tasks.spawn(publish(Arc::clone(&publisher), books.clone(), said));
    let link = start_link(ground, &fleet, publisher, tasks)?;
    let public = public::start(
        &config.public,
        public::Deps {
            steering: Arc::clone(&steering),
            liveness: Arc::clone(&liveness),
            limits: public::Limits::default(),
            metrics: metrics.clone(),
        },
    )?;
    Ok(Parts {
        fleet,
        steering,
        liveness,
        link,
        public,
    })
}

/// Steering with what it signs URLs with, which follows its file.
fn start_steering(
    config: &Config,
    tasks: &mut JoinSet<&'static str>,
) -> Result<(Arc<Steering>, watch::Receiver<signing::Current>), ControlError> {
    let current = signing::load(&config.tokens, &config.domain)?;
    let steering = Arc::new(Steering::new(steer::Config {
        domain: config.domain.clone(),
        answers: config.public.answers,
    }));
    steering.sign_with(current.clone());
    let (sender, signing) = watch::channel(current);
    let (tokens, domain) = (config.tokens.clone(), config.domain.clone());
    tasks.spawn(signing::follow(
        tokens,
        domain,
        Arc::clone(&steering),
        sender,
    ));
    Ok((steering, signing))
}

fn liveness(books: &Books, fleet: &fleet::Handle, listed: watch::Receiver<AllListed>) -> Liveness {
    let (books, view) = (books.clone(), fleet.view());
    Liveness::new(move || liveness::Facts {
        registry: books.registry(),
        library: books.library(),
        view: view.borrow().clone(),
        listed: listed.borrow().clone(),
    })
}

fn start_link(
    ground: &Ground<'_>,
    fleet: &fleet::Handle,
    publisher: Arc<Publisher>,
    tasks: &mut JoinSet<&'static str>,
) -> Result<link::Handle, ControlError> {
    let Ground {
        config,
        books,
        authority,
        metrics,
    } = *ground;
    let names = &config.link.names;
    let certificate = LinkCertificate::new(Arc::clone(authority), names, clock::wall())?;
    let keeping = certificate.clone();
    tasks.spawn(async move {
        keeping.run().await;
        "the renewal of the link's certificate"
    });
    let sources = sources::Sources::new(
        sources::Config {
            ask_again: config.fill.ask_again,
        },
        sources::Deps {
            registry: books.watch_registry(),
            library: books.watch_library(),
            view: fleet.view(),
            shelves: Arc::new(Shelf(books.clone())),
            signer: Arc::clone(authority.signer()),
            import: config.import.clone(),
            metrics: metrics.clone(),
        },
    );
    let sources = Arc::new(sources.map_err(|error| ControlError::Key(error.to_string()))?);
    let deps = link::Deps {
        tls: link::server_config(&[authority.certificate().clone()], Arc::new(certificate))?,
        fleet: fleet.inbox(),
        registry: books.watch_registry(),
        library: books.watch_library(),
        enrolment: Arc::new(Enrolment::new(books.clone(), Arc::clone(authority))),
        manifests: publisher,
        sources: Arc::clone(&sources) as _,
        origin: sources,
        bodies: body::Limits {
            compressed: config.link.body,
            decompressed: config.link.body_decompressed,
        },
        limits: link::Limits::default(),
        metrics: metrics.clone(),
    };
    Ok(link::start(&config.link, deps)?)
}

/// The store as the sources see it.
#[derive(Debug)]
struct Shelf(Books);

impl sources::Shelves for Shelf {
    fn trees(&self, digests: Vec<Digest>) -> Answer<'_, BTreeMap<Digest, Vec<[u8; 32]>>> {
        self.0.store().trees(digests)
    }

    fn locations(&self, digests: Vec<Digest>) -> Answer<'_, BTreeMap<Digest, Location>> {
        self.0.store().locations(digests)
    }
}

/// Keeps what the fleet wants kept.
async fn obey(mut orders: mpsc::Receiver<fleet::Action>, books: Books) -> &'static str {
    while let Some(fleet::Action::Quarantine { id, reason }) = orders.recv().await {
        let kept = books.store().quarantine(id.clone(), Some(reason)).await;
        let seen = match kept {
            Ok(()) => books.refresh().await,
            Err(error) => Err(error),
        };
        if let Err(error) = seen {
            tracing::error!(%id, %error, "the quarantine was not kept; it will be asked for again");
        }
    }
    "the fleet"
}

/// Publishes at each change of what there is and who there is, and before signatures age.
async fn publish(publisher: Arc<Publisher>, books: Books, said: Said) -> &'static str {
    let (mut registry, mut library) = (books.watch_registry(), books.watch_library());
    loop {
        let (people, content) = (
            registry.borrow_and_update().clone(),
            library.borrow_and_update().clone(),
        );
        let outcome = publisher.refresh(&people, &content, clock::wall()).await;
        // Steering first: whoever is told to let content go gets no viewers for it any more.
        say(&said.listed, Arc::new(publisher.listed()));
        say(&said.positions, Arc::new(publisher.positions()));
        let retry = match outcome {
            Ok(0) => None,
            Ok(changed) => {
                tracing::info!(boxes = changed, "manifests published");
                None
            }
            Err(error) => {
                tracing::error!(%error, "manifests were not published");
                Some(clock::now() + RETRY_AFTER)
            }
        };
        tokio::select! {
            Ok(()) = registry.changed() => {}
            Ok(()) = library.changed() => {}
            () = due(&publisher, retry) => {}
            else => return "the publication of manifests",
        }
    }
}

fn say<T: PartialEq>(sender: &watch::Sender<T>, told: T) {
    sender.send_if_modified(|old| {
        let differs = *old != told;
        *old = told;
        differs
    });
}

/// Writes the orders of the night again at each change, and when something in them ends.
async fn keep_book(
    signer: Arc<Signer>,
    urgent_max: usize,
    books: Books,
    mut positions: watch::Receiver<Positions>,
    book: watch::Sender<Arc<FillBook>>,
) -> &'static str {
    let (mut registry, mut library) = (books.watch_registry(), books.watch_library());
    loop {
        let before = book.borrow().clone();
        let fresh = FillBook::new(
            &orders::Ground {
                registry: &registry.borrow_and_update().clone(),
                library: &library.borrow_and_update().clone(),
                positions: &positions.borrow_and_update().clone(),
                signer: &signer,
                urgent_max,
            },
            &before,
            clock::wall(),
        );
        let has_ends = fresh.due().is_some();
        let until = fresh.due().map_or(LOOK_AT_ENDS, |due| {
            let left = due.duration_since(clock::wall());
            left.unsigned_abs().min(LOOK_AT_ENDS)
        });
        say(&book, Arc::new(fresh));
        tokio::select! {
            Ok(()) = registry.changed() => {}
            Ok(()) = library.changed() => {}
            Ok(()) = positions.changed() => {}
            () = clock::sleep(until), if has_ends => {}
            else => return "the orders of the night",
        }
    }
}

/// Until it is time to look again.
async fn due(publisher: &Publisher, retry: Option<Instant>) {
    if let Some(at) = retry {
        return clock::sleep_until(at).await;
    }
    loop {
        clock::sleep(LOOK_EVERY).await;
        if publisher.due().is_some_and(|at| at <= clock::wall()) {
            return;
        }
    }
}

/// Steering sees each change of the fleet, the registry and the library.
async fn follow(
    steering: Arc<Steering>,
    books: Books,
    mut view: watch::Receiver<Arc<fleet::View>>,
    mut listed: watch::Receiver<AllListed>,
) -> &'static str {
    let (mut registry, mut library) = (books.watch_registry(), books.watch_library());
    loop {
        let seen = view.borrow_and_update().clone();
        let inputs = steer::Inputs {
            registry: registry.borrow_and_update().clone(),
            library: library.borrow_and_update().clone(),
            view: Arc::clone(&seen),
            listed: listed.borrow_and_update().clone(),
            ..steer::Inputs::default()
        };
        let steering = Arc::clone(&steering);
        let built = tokio::task::spawn_blocking(move || steering.refresh(inputs)).await;
        if built.is_err() {
            return "the building of steering's snapshot";
        }
        tokio::select! {
            Ok(()) = registry.changed() => {}
            Ok(()) = library.changed() => {}
            Ok(_) = view.wait_for(|now| is_news(now, &seen)) => {}
            Ok(()) = listed.changed() => {}
            else => return "the fleet",
        }
    }
}

/// Fresh times and loads alone are for people.
fn is_news(now: &fleet::View, seen: &fleet::View) -> bool {
    now.generation != seen.generation || now.frozen != seen.frozen
}
