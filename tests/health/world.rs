//! One box without disks or sockets: everything `health::start` asks for, in the test's hands.

use crate::lab;
use crate::lab::BOX;
use crate::plane::Plane;
use crate::plane::TOKEN;
use crate::shelf::Shelf;
use oca::bgp;
use oca::clock;
use oca::gate::Gate;
use oca::health;
use oca::health::ControlView;
use oca::health::SignedManifest;
use oca::ids::BoxId;
use oca::link::message::FillProgress;
use oca::link::message::Position;
use oca::link::message::ViewerKeys;
use oca::object::Digest;
use oca::route::Attributes;
use oca::route::Class;
use oca::route::Route;
use oca::serve;
use oca::set_hash::SetHash;
use oca::store;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::watch;

pub(crate) struct Box {
    pub control: health::Handle,
    pub gate: watch::Sender<Gate>,
    pub store: Arc<watch::Sender<Arc<store::View>>>,
    pub bgp: watch::Sender<Arc<bgp::Snapshot>>,
    pub adopted: Arc<Mutex<Vec<SignedManifest>>>,
    pub shelf: Arc<Shelf>,
    pub fill: Arc<Mutex<Option<FillProgress>>>,
    pub delivered: Arc<Mutex<Vec<ViewerKeys>>>,
    pub dir: TempDir,
}

pub(crate) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(crate) fn digests() -> Vec<Digest> {
    (0..5_u8).map(|number| Digest::of(&[number])).collect()
}

/// Whoever calls it: with a token file or not, then `change` on the configuration.
pub(crate) fn start(plane: &Arc<Plane>, change: impl FnOnce(&mut oca::link::Config)) -> Box {
    start_as(plane, BOX, change)
}

pub(crate) fn start_as(
    plane: &Arc<Plane>,
    id: &str,
    change: impl FnOnce(&mut oca::link::Config),
) -> Box {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("token"), format!("{TOKEN}\n")).unwrap();
    let mut config = lab::config(&plane.pin);
    config.identity = dir.path().join("identity");
    config.token_file = Some(dir.path().join("token"));
    change(&mut config);
    let (gate, _) = watch::channel(Gate::Serving);
    let first = store::View {
        generation: 1,
        manifest_loaded: true,
        ..store::View::default()
    };
    let store = Arc::new(watch::Sender::new(Arc::new(first)));
    let bgp = watch::Sender::new(Arc::new(snapshot(1, &["192.0.2.0/24", "198.51.100.0/24"])));
    let adopted = Arc::new(Mutex::new(Vec::new()));
    let (kept, shown) = (Arc::clone(&adopted), Arc::clone(&store));
    let shelf = Arc::new(Shelf::new(digests()));
    let (held, changes) = (Arc::clone(&shelf), Arc::clone(&shelf));
    let fill = Arc::new(Mutex::new(None));
    let progress = Arc::clone(&fill);
    let delivered = Arc::new(Mutex::new(Vec::new()));
    let keys = Arc::clone(&delivered);
    let deps = health::Deps {
        id: BoxId::parse(id).unwrap(),
        gate: gate.subscribe(),
        store: store.subscribe(),
        held: Arc::new(move || held.held()),
        changes: Arc::new(move |since| changes.since(since)),
        fill: Arc::new(move || progress.lock().unwrap().clone()),
        adopt: Arc::new(move |manifest: SignedManifest| {
            let (position, keys) = (manifest.position, manifest.rows.len() as u64);
            // Before the view: whoever sees it may look here.
            kept.lock().unwrap().push(manifest);
            shown.send_modify(|view| {
                let mut next = store::View::clone(view);
                next.manifest = Some(store::ManifestView {
                    epoch: position.epoch,
                    generation: position.generation,
                    keys,
                    missing: 0,
                });
                *view = Arc::new(next);
            });
            Ok(store::Adopted {
                epoch: position.epoch,
                generation: position.generation,
                ..store::Adopted::default()
            })
        }),
        viewer_keys: Arc::new(move |told| keys.lock().unwrap().push(told)),
        bgp: Some(bgp.subscribe()),
        serve: Arc::new(serve::View::default),
        quality: Arc::new(quality),
        interfaces: Arc::new(|| vec!["203.0.113.0/24".parse().unwrap()]),
        dial: Arc::clone(plane) as _,
        pay: Arc::clone(plane) as _,
        seed: 7,
    };
    let control = health::start(&config, deps);
    Box {
        control,
        gate,
        store,
        bgp,
        adopted,
        shelf,
        fill,
        delivered,
        dir,
    }
}

pub(crate) fn snapshot(generation: u64, prefixes: &[&str]) -> bgp::Snapshot {
    let route = |prefix: &&str| Route {
        prefix: prefix.parse().unwrap(),
        neighbour: "edge-1".into(),
        path_id: 0,
        class: Class::Embedded,
        attributes: Arc::new(Attributes::new(
            "64500".parse().unwrap(),
            "198.51.100.1".parse().unwrap(),
        )),
        filtered: None,
    };
    let routes: Vec<Route> = prefixes.iter().map(route).collect();
    bgp::Snapshot {
        generation,
        hash: SetHash::of(routes.iter().map(Route::item)),
        steerable: routes.len(),
        routes: routes.into_iter().collect(),
        neighbours: Vec::new(),
    }
}

impl Box {
    /// An object comes, or one that was there goes.
    pub(crate) fn toggle(&self, number: u32) {
        let (generation, objects) = self.shelf.toggle(Digest::of(&number.to_le_bytes()));
        self.store.send_modify(|view| {
            let next = store::View {
                generation,
                objects,
                bytes: objects * 1_000,
                ..store::View::clone(view)
            };
            *view = Arc::new(next);
        });
    }

    /// What the store has read from its disks; `None`: nothing yet.
    pub(crate) fn has_read(&self, manifest: Option<Position>) {
        self.store.send_modify(|view| {
            let mut next = store::View::clone(view);
            next.manifest_loaded = manifest.is_some();
            next.manifest = manifest.map(|position| store::ManifestView {
                epoch: position.epoch,
                generation: position.generation,
                keys: 1,
                missing: 0,
            });
            *view = Arc::new(next);
        });
    }

    /// The store's next view, with one disk in this state.
    pub(crate) fn disk(&self, state: &'static str) {
        let generation = self.shelf.bump();
        self.store.send_modify(|view| {
            let disk = store::DiskView {
                writes: None,
                path: "/srv/oca/disk1".into(),
                uuid: None,
                class: store::DiskClass::Ssd,
                zone: oca::store::Zone::None,
                state,
                reason: None,
                since: String::new(),
                objects: 5,
                bytes: 5,
                free: 0,
                quarantined: 0,
                quarantined_bytes: 0,
                cold: store::ColdView::default(),
                scrub: store::ScrubView::default(),
                scan: store::ScanView::default(),
                retire: None,
            };
            let next = store::View {
                generation,
                disks: vec![disk],
                ..store::View::clone(view)
            };
            *view = Arc::new(next);
        });
    }

    pub(crate) fn view(&self) -> Arc<ControlView> {
        self.control.view()
    }

    /// Until the view is as wanted; at most two hours of the paused clock.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&ControlView) -> bool) {
        let mut views = self.control.subscribe();
        let seen = clock::within(seconds(7_200), views.wait_for(|view| wanted(view))).await;
        if let Ok(seen) = seen {
            seen.unwrap();
        } else {
            panic!("waited in vain: {what}; {:?}", self.view());
        }
    }
}

/// What serving says of two client networks.
pub(crate) fn quality() -> serve::QualityView {
    let delivery = serve::DeliveryView {
        responses: 4,
        bytes: 9_000,
        starvations: 1,
        p50_kbps: Some(25_000),
        ..serve::DeliveryView::default()
    };
    let row = |prefix: &str| serve::NetworkView {
        prefix: prefix.parse().unwrap(),
        delivery,
    };
    serve::QualityView {
        window_s: 300,
        networks: 2,
        total: delivery,
        rows: vec![row("192.0.2.0/24"), row("2001:db8:1::/48")],
        ..serve::QualityView::default()
    }
}
