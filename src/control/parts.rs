//! The moving parts of a running control plane: every channel and task between its rooms.
//!
//! ```text
//! books ─ registry, library ─┬→ publisher ─ positions ─→ fleet ←─ reports ─ link listener
//!                            └──────────→ steering ←──── view ──┘  ↓ quarantine → store
//!                                            ↑ questions: public listener, operator's socket
//! ```
//! Called by `run`, which decides what the end of a part means.
//!
//! I/O: binds, spawns, waits for news.

use super::Config;
use super::api::link;
use super::api::public;
use super::authority::Authority;
use super::authority::Enrolment;
use super::books::Books;
use super::certificate::LinkCertificate;
use super::fleet;
use super::publish::Publisher;
use super::run::ControlError;
use super::steer;
use super::steer::Steering;
use crate::clock;
use crate::clock::Instant;
use crate::clock::Wall;
use crate::ids::BoxId;
use crate::link::body;
use crate::link::identity;
use crate::link::message::Code;
use crate::link::message::Enrol;
use crate::link::message::Position;
use crate::link::message::Renew;
use crate::telemetry;
use rustls::pki_types::CertificateDer;
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

type Positions = Arc<BTreeMap<BoxId, Position>>;

/// What runs. Dropping it closes the doors.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) fleet: fleet::Handle,
    pub(super) steering: Arc<Steering>,
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
    let positions = watch::Sender::new(Positions::default());
    let (actions, orders) = mpsc::channel(ACTIONS_MAX);
    let fleet = fleet::start(
        fleet::Config {
            lease: config.lease,
            report_every: config.report_every,
            staleness: config.staleness.clone(),
        },
        fleet::Deps {
            registry: books.watch_registry(),
            library: books.watch_library(),
            manifests: positions.subscribe(),
            actions,
            metrics: metrics.clone(),
        },
    );
    let steering = Arc::new(Steering::new(steer::Config {
        domain: config.domain.clone(),
        answers: config.public.answers,
    }));
    tasks.spawn(obey(orders, books.clone()));
    tasks.spawn(publish(Arc::clone(&publisher), books.clone(), positions));
    tasks.spawn(follow(Arc::clone(&steering), books.clone(), fleet.view()));
    let link = start_link(ground, &fleet, publisher, tasks)?;
    let public = public::start(
        &config.public,
        public::Deps {
            steering: Arc::clone(&steering),
            limits: public::Limits::default(),
            metrics: metrics.clone(),
        },
    )?;
    Ok(Parts {
        fleet,
        steering,
        link,
        public,
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
    let names = config.link.names.clone();
    let (certificate, renew_at) = LinkCertificate::make(authority, &names)?;
    let keeping = Arc::clone(&certificate).keep(Arc::clone(authority), names, renew_at);
    tasks.spawn(async move {
        keeping.await;
        "the renewal of the link's certificate"
    });
    let deps = link::Deps {
        tls: link::server_config(&[authority.certificate().clone()], certificate)?,
        fleet: fleet.inbox(),
        registry: books.watch_registry(),
        library: books.watch_library(),
        enrolment: Arc::new(Issuer(Enrolment::new(books.clone(), Arc::clone(authority)))),
        manifests: publisher,
        bodies: body::Limits {
            compressed: config.link.body,
            decompressed: config.link.body_decompressed,
        },
        limits: link::Limits::default(),
        metrics: metrics.clone(),
    };
    Ok(link::start(&config.link, deps)?)
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
async fn publish(
    publisher: Arc<Publisher>,
    books: Books,
    positions: watch::Sender<Positions>,
) -> &'static str {
    let (mut registry, mut library) = (books.watch_registry(), books.watch_library());
    loop {
        let (people, content) = (
            registry.borrow_and_update().clone(),
            library.borrow_and_update().clone(),
        );
        let outcome = publisher.refresh(&people, &content, clock::wall()).await;
        let told = Arc::new(publisher.positions());
        positions.send_if_modified(|old| {
            let differs = *old != told;
            old.clone_from(&told);
            differs
        });
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
) -> &'static str {
    let (mut registry, mut library) = (books.watch_registry(), books.watch_library());
    loop {
        let inputs = steer::Inputs {
            registry: registry.borrow_and_update().clone(),
            library: library.borrow_and_update().clone(),
            view: view.borrow_and_update().clone(),
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
            Ok(()) = view.changed() => {}
            else => return "the fleet",
        }
    }
}

/// The authority as the link listener asks it.
#[derive(Debug)]
struct Issuer(Enrolment);

impl link::Enrolment for Issuer {
    fn enrol(&self, now: Wall, enrol: Enrol) -> link::Issuing<'_> {
        Box::pin(async move { self.0.enrol(now, &enrol).await })
    }

    fn renew(
        &self,
        now: Wall,
        id: BoxId,
        certificate: CertificateDer<'static>,
        renew: Renew,
    ) -> link::Issuing<'_> {
        Box::pin(async move {
            let key = identity::key_fingerprint_of_certificate(&certificate)
                .map_err(|error| (Code::Identity, error.to_string()))?;
            self.0.renew(now, &id, &key, &renew).await
        })
    }
}
