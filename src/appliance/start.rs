//! Start order: one short builder a subsystem, everything that can fail before READY.

use super::Appliance;
use super::ApplianceError;
use super::Effective;
use super::Gatekeeper;
use super::Night;
use super::PrefillJob;
use super::Seams;
use super::night;
use super::own_heartbeat;
use super::pressure;
use super::viewer_keys::KeyCupboard;
use crate::admin;
use crate::bgp;
use crate::clock;
use crate::command;
use crate::config::Config;
use crate::config::Loaded;
use crate::fill;
use crate::health;
use crate::ids::BoxId;
use crate::link;
use crate::link::dial::Dial;
use crate::link::message::Position;
use crate::link::message::QUALITY_NETWORKS_MAX;
use crate::link::steps::CatalogueChanges;
use crate::load;
use crate::prefix::Prefix;
use crate::serve;
use crate::store;
use crate::task::Heartbeat;
use crate::task::PhaseRx;
use crate::task::notify;
use crate::task::phase;
use crate::telemetry;
use serde_json::Value;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Open connections that `oca show connections` lists; the counts beside them are complete.
const VIEWERS_SHOWN_MAX: usize = 1_000;

/// Client networks that `oca show quality` lists, those with most bytes.
const NETWORKS_SHOWN_MAX: usize = 1_000;

pub(super) fn start(
    main_file: PathBuf,
    loaded: Loaded,
    seams: Seams,
    sender: &mpsc::Sender<command::Request>,
) -> Result<Appliance, ApplianceError> {
    let registry = telemetry::Registry::new(env!("CARGO_PKG_VERSION"), clock::now());
    let config = loaded.config.clone();
    // Identifying disks may cost a hung one's deadline or two before READY.
    seams.notifier.extend_timeout(config.store.deadline * 3);
    let store = store::start(&config.store)?;
    let state_dir = config.store.state_dir.clone();
    let mut gatekeeper = Gatekeeper::new(&config.health, state_dir, &store.view());
    let (phase_owner, phase) = phase::channel();
    let keys = KeyCupboard::open(&config.store.state_dir, config.fill.deletion_grace);
    let serve = serve::start(
        &config.serve,
        serve::Deps {
            content: Arc::new(store.clone()),
            gate: gatekeeper.subscribe(),
            tokens: keys.feed(),
            phase: phase.clone(),
            speedtest_file: Some(config.store.state_dir.join("speedtest.bin")),
        },
        serve::Seams {
            bind: seams.bind,
            spawn: seams.spawn,
        },
    )?;
    serve.register(&registry);
    let bgp = start_bgp(config.bgp.as_ref(), seams.bgp, &registry, &mut gatekeeper)?;
    let mut rooms = Rooms {
        store: &store,
        serve: &serve,
        bgp: bgp.as_ref(),
        control: None,
        night: None,
        keys: &keys,
    };
    let ears = (&mut gatekeeper, seams.dial);
    let (control, night) = start_linked(&config, &rooms, ears, (phase, &registry))?;
    (rooms.control, rooms.night) = (control.as_ref(), night.as_ref());
    let (effective, own) = (in_effect(loaded), own_heartbeat());
    let mut heartbeats = heartbeats(&serve, night.as_deref(), &own);
    let prefill = PrefillJob::default();
    let deps = admin::Deps {
        commands: sender.clone(),
        views: views(&gatekeeper, &rooms, &effective, &prefill),
        metrics: registry,
        heartbeats: heartbeats.clone(),
        reply_time: admin::REPLY_TIME,
    };
    let admin = { seams.admin_sockets }.then(|| admin::start(&config.admin, deps));
    let admin = admin.transpose()?;
    heartbeats.extend(admin.as_ref().map(admin::Handle::heartbeat));
    let mut appliance = Appliance {
        main_file,
        effective,
        logs: seams.logs,
        watchdog: watch(&seams.notifier, heartbeats),
        heartbeat: tokio::spawn(own.run()),
        notifier: seams.notifier,
        presser: press_alone(&rooms),
        store,
        serve,
        bgp,
        control,
        night,
        admin,
        gatekeeper,
        tokens: keys.feed(),
        prefill,
        reloading: None,
        phase: phase_owner,
    };
    appliance.announce();
    Ok(appliance)
}

/// Without a night there is no fill to slow down, and moves between disks all the same.
fn press_alone(rooms: &Rooms<'_>) -> Option<JoinHandle<()>> {
    rooms.night.is_none().then(|| {
        let (shown, _) = tokio::sync::watch::channel(load::View::default());
        let (serve, store) = (rooms.serve.clone(), rooms.store.clone());
        tokio::spawn(pressure::run(serve, store, None, shown))
    })
}

fn in_effect(loaded: Loaded) -> Arc<Mutex<Effective>> {
    let Loaded {
        config, settings, ..
    } = loaded;
    Arc::new(Mutex::new(Effective { config, settings }))
}

fn start_bgp(
    config: Option<&bgp::Config>,
    seams: bgp::Seams,
    registry: &telemetry::Registry,
    gatekeeper: &mut Gatekeeper,
) -> Result<Option<bgp::Handle>, ApplianceError> {
    let Some(config) = config else {
        return Ok(None);
    };
    let bgp = bgp::start(config, seams)?;
    bgp.register(registry);
    gatekeeper.listen_to_bgp(bgp.subscribe());
    Ok(Some(bgp))
}

/// What several builders need of those that are there.
#[derive(Clone, Copy)]
struct Rooms<'a> {
    store: &'a store::Handle,
    serve: &'a serve::Handle,
    bgp: Option<&'a bgp::Handle>,
    control: Option<&'a health::Handle>,
    night: Option<&'a Arc<Night>>,
    keys: &'a Arc<KeyCupboard>,
}

/// The control link, and what it makes possible. Each needs the other: the link comes first, with
/// what the night has by then, its larder, and a place where it will say how far it is.
fn start_linked(
    config: &Config,
    rooms: &Rooms<'_>,
    (gatekeeper, dial): (&mut Gatekeeper, Arc<dyn Dial>),
    (phase, metrics): (PhaseRx, &telemetry::Registry),
) -> Result<(Option<health::Handle>, Option<Arc<Night>>), ApplianceError> {
    let Some(link) = &config.control else {
        return Ok((None, None));
    };
    let progress = night::Progress::default();
    let content = fill::StoreContent::new(rooms.store.clone());
    let larder = Arc::new(fill::Larder::load(&config.fill, Arc::new(content)));
    let seams = (dial, &progress, Arc::clone(&larder));
    let control = start_control((link, &config.appliance.id), rooms, gatekeeper, seams);
    let night = Night::start(&night::Ground {
        config,
        control: link,
        store: rooms.store,
        serve: rooms.serve,
        line: control.line(),
        larder,
        phase,
        metrics,
    })?;
    // Set once, here.
    let _ = progress.set(night.fill.clone());
    Ok((Some(control), Some(Arc::new(night))))
}

fn start_control(
    (link, id): (&link::Config, &BoxId),
    rooms: &Rooms<'_>,
    gatekeeper: &mut Gatekeeper,
    (dial, progress, pay): (Arc<dyn Dial>, &night::Progress, Arc<fill::Larder>),
) -> health::Handle {
    let (held, adopting) = (rooms.store.clone(), rooms.store.clone());
    let (changed, progress) = (rooms.store.clone(), Arc::clone(progress));
    let (serving, keys) = (rooms.serve.clone(), Arc::clone(rooms.keys));
    let delivering = rooms.serve.clone();
    let deps = health::Deps {
        id: id.clone(),
        gate: gatekeeper.subscribe(),
        store: rooms.store.subscribe(),
        held: Arc::new(move || held.held()),
        changes: Arc::new(move |since| changed.changes(since).map(catalogue_changes)),
        fill: Arc::new(move || progress.get().map(fill::Handle::progress)),
        adopt: Arc::new(move |signed: health::SignedManifest| {
            let Position { epoch, generation } = signed.position;
            adopting.adopt(epoch, generation, signed.rows)
        }),
        viewer_keys: Arc::new(move |told| keys.take(told)),
        bgp: rooms.bgp.map(bgp::Handle::subscribe),
        serve: Arc::new(move || serving.view()),
        quality: Arc::new(move || delivering.quality(QUALITY_NETWORKS_MAX)),
        interfaces: Arc::new(interfaces),
        dial,
        pay,
        seed: health::entropy(),
    };
    let control = health::start(link, deps);
    gatekeeper.listen_to_control(control.subscribe());
    control
}

fn catalogue_changes(changes: store::Changes) -> CatalogueChanges {
    CatalogueChanges {
        generation: changes.generation,
        added: changes.added,
        removed: changes.removed,
    }
}

/// A box without a list of its interfaces is still a box.
fn interfaces() -> Vec<Prefix> {
    health::report::interfaces().unwrap_or_else(|error| {
        tracing::warn!(%error, "the network interfaces cannot be listed");
        Vec::new()
    })
}

impl Appliance {
    fn announce(&mut self) {
        self.refresh();
        let gate = self.gate_words();
        for listener in self.serve.view().listeners {
            tracing::info!(address = %listener.address, tls = listener.tls, "listening");
        }
        tracing::info!(%gate, version = env!("CARGO_PKG_VERSION"), "ready");
        self.notifier.ready(&gate);
    }
}

pub(super) fn effective(shared: &Mutex<Effective>) -> MutexGuard<'_, Effective> {
    // A panic while it was held leaves a whole configuration: it is replaced field by field only
    // by moves that cannot panic.
    shared
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The watchdog runs where it is itself one of the watched: on the control runtime.
fn heartbeats(serve: &serve::Handle, night: Option<&Night>, own: &Heartbeat) -> Vec<Heartbeat> {
    let night = night.map_or_else(Vec::new, Night::heartbeats);
    [serve.heartbeats(), night, vec![own.clone()]].concat()
}

fn watch(notifier: &notify::Notifier, heartbeats: Vec<Heartbeat>) -> JoinHandle<()> {
    let period = notify::watchdog_period();
    let notifier = notifier.clone();
    tokio::spawn(async move {
        match period {
            Some(period) => notify::watchdog(notifier, heartbeats, period).await,
            None => std::future::pending().await,
        }
    })
}

fn views(
    gatekeeper: &Gatekeeper,
    rooms: &Rooms<'_>,
    effective: &Arc<Mutex<Effective>>,
    prefill: &PrefillJob,
) -> admin::Views {
    let identity = self::effective(effective).config.appliance.clone();
    let (drain, prefill) = (gatekeeper.shown_drain(), prefill.clone());
    let (of_store, rows) = (rooms.store.clone(), rooms.store.clone());
    let serve = rooms.serve;
    let (of_serve, of_tls, viewers) = (serve.clone(), serve.clone(), serve.clone());
    let delivering = serve.clone();
    let (bgp, of_bgp) = (rooms.bgp.cloned(), rooms.bgp.cloned());
    let (table, tap) = (rooms.bgp.cloned(), rooms.bgp.cloned());
    let control = rooms.control.map(health::Handle::subscribe);
    let night = rooms.night.cloned();
    let effective = Arc::clone(effective);
    admin::Views {
        identity,
        version: env!("CARGO_PKG_VERSION"),
        started: clock::now(),
        gate: gatekeeper.subscribe(),
        drain: Arc::new(move || match drain.lock() {
            Ok(record) => json!(*record),
            Err(_) => Value::Null,
        }),
        store: Arc::new(move || of_store.view()),
        catalogue: Arc::new(move |prefix, after, most| rows.catalogue(prefix, after, most)),
        bgp: Arc::new(move || bgp.as_ref().map(bgp::Handle::snapshot).unwrap_or_default()),
        bgp_detail: Arc::new(move || json!(of_bgp.as_ref().map(bgp::Handle::details))),
        bgp_table: Arc::new(move || table.as_ref().map(bgp::Handle::table_dump)),
        bgp_tap: Arc::new(move |after| tap.as_ref().map(|bgp| bgp.tap(after))),
        serve: Arc::new(move || json!(of_serve.view())),
        viewers: Arc::new(move || json!(viewers.connections(VIEWERS_SHOWN_MAX))),
        tls: Arc::new(move || json!(of_tls.view().tls)),
        quality: Arc::new(move || json!(delivering.quality(NETWORKS_SHOWN_MAX))),
        config: Arc::new(move || shown_config(&effective)),
        control: Arc::new(move || match &control {
            Some(view) => view.borrow().value(clock::boot()),
            None => Value::Null,
        }),
        prefill: Arc::new(move || prefill.view()),
        fill: Arc::new(move || night.as_ref().map_or(Value::Null, |night| night.value())),
    }
}

/// The whole configuration, and each key with its origin.
fn shown_config(shared: &Mutex<Effective>) -> Value {
    let effective = effective(shared);
    json!({ "config": effective.config, "settings": effective.settings })
}
