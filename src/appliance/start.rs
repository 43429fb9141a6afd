//! Start order: one short builder a subsystem, everything that can fail before READY.

use super::Appliance;
use super::ApplianceError;
use super::Effective;
use super::Gatekeeper;
use super::PrefillJob;
use super::Seams;
use super::own_heartbeat;
use crate::admin;
use crate::bgp;
use crate::clock;
use crate::command;
use crate::config::Config;
use crate::config::Loaded;
use crate::health;
use crate::link;
use crate::link::dial::Dial;
use crate::link::message::Position;
use crate::prefix::Prefix;
use crate::serve;
use crate::store;
use crate::task::Heartbeat;
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
    let serve = serve::start(
        &config.serve,
        serve::Deps {
            content: Arc::new(store.clone()),
            gate: gatekeeper.subscribe(),
            phase,
        },
        serve::Seams {
            bind: seams.bind,
            spawn: seams.spawn,
        },
    )?;
    serve.register(&registry);
    let bgp = start_bgp(config.bgp.as_ref(), seams.bgp, &registry, &mut gatekeeper)?;
    let control = config.control.as_ref().map(|link| {
        let control = start_control(
            link,
            &config,
            &store,
            &serve,
            bgp.as_ref(),
            &gatekeeper,
            seams.dial,
        );
        gatekeeper.listen_to_control(control.subscribe());
        control
    });
    let effective = Arc::new(Mutex::new(Effective {
        config: loaded.config,
        settings: loaded.settings,
    }));
    let own = own_heartbeat();
    let mut heartbeats = serve.heartbeats();
    heartbeats.push(own.clone());
    let prefill = PrefillJob::default();
    let admin = if seams.admin_sockets {
        let views = views(&gatekeeper, &store, &serve, &effective, &prefill);
        let deps = admin::Deps {
            commands: sender.clone(),
            views,
            metrics: registry,
            heartbeats: heartbeats.clone(),
            reply_time: admin::REPLY_TIME,
        };
        Some(admin::start(&config.admin, deps)?)
    } else {
        None
    };
    heartbeats.extend(admin.as_ref().map(admin::Handle::heartbeat));
    let mut appliance = Appliance {
        main_file,
        effective,
        logs: seams.logs,
        watchdog: watch(&seams.notifier, heartbeats),
        heartbeat: tokio::spawn(own.run()),
        notifier: seams.notifier,
        store,
        serve,
        bgp,
        control,
        admin,
        gatekeeper,
        prefill,
        reloading: None,
        phase: phase_owner,
    };
    appliance.announce();
    Ok(appliance)
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

fn start_control(
    link: &link::Config,
    config: &Config,
    store: &store::Handle,
    serve: &serve::Handle,
    bgp: Option<&bgp::Handle>,
    gatekeeper: &Gatekeeper,
    dial: Arc<dyn Dial>,
) -> health::Handle {
    let (held, adopting, serving) = (store.clone(), store.clone(), serve.clone());
    let deps = health::Deps {
        id: config.appliance.id.clone(),
        gate: gatekeeper.subscribe(),
        store: store.subscribe(),
        held: Arc::new(move || held.held()),
        adopt: Arc::new(move |signed: health::SignedManifest| {
            let Position { epoch, generation } = signed.position;
            adopting.adopt(epoch, generation, signed.rows)
        }),
        bgp: bgp.map(bgp::Handle::subscribe),
        serve: Arc::new(move || serving.view()),
        interfaces: Arc::new(interfaces),
        dial,
        seed: health::entropy(),
    };
    health::start(link, deps)
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
    store: &store::Handle,
    serve: &serve::Handle,
    effective: &Arc<Mutex<Effective>>,
    prefill: &PrefillJob,
) -> admin::Views {
    let identity = self::effective(effective).config.appliance.clone();
    let (drain, prefill) = (gatekeeper.shown_drain(), prefill.clone());
    let (of_store, rows) = (store.clone(), store.clone());
    let (of_serve, of_tls, viewers) = (serve.clone(), serve.clone(), serve.clone());
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
        serve: Arc::new(move || json!(of_serve.view())),
        viewers: Arc::new(move || json!(viewers.connections(VIEWERS_SHOWN_MAX))),
        tls: Arc::new(move || json!(of_tls.view().tls)),
        config: Arc::new(move || shown_config(&effective)),
        control: Arc::new(|| Value::Null),
        prefill: Arc::new(move || prefill.view()),
    }
}

/// The whole configuration, and each key with its origin.
fn shown_config(shared: &Mutex<Effective>) -> Value {
    let effective = effective(shared);
    json!({ "config": effective.config, "settings": effective.settings })
}
