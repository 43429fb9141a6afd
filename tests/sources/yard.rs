//! A control plane's sources over a registry, a library and a fleet that tests change at will.

use oca::clock::Wall;
use oca::control::ImportConfig;
use oca::control::fleet::Bitmap;
use oca::control::fleet::BoxView;
use oca::control::fleet::Shut;
use oca::control::fleet::View;
use oca::control::model::Appliance;
use oca::control::model::Bundle;
use oca::control::model::BundleKey;
use oca::control::model::Cluster;
use oca::control::model::FillCluster;
use oca::control::model::Library;
use oca::control::model::Object;
use oca::control::model::Registry;
use oca::control::sources::Config;
use oca::control::sources::Deps;
use oca::control::sources::Shelves;
use oca::control::sources::Sources;
use oca::control::store::Answer;
use oca::control::store::Location;
use oca::ids::BoxId;
use oca::ids::Profile;
use oca::link::manifest::Signer;
use oca::link::manifest::Verifier;
use oca::link::message::FillProgress;
use oca::link::message::Load;
use oca::object::CHUNK_BYTES;
use oca::object::Digest;
use oca::telemetry;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

pub(crate) struct Yard {
    pub(crate) sources: Sources,
    pub(crate) registry: watch::Sender<Arc<Registry>>,
    pub(crate) view: watch::Sender<Arc<View>>,
    pub(crate) library: Arc<Library>,
    pub(crate) verifier: Verifier,
    pub(crate) metrics: telemetry::Registry,
    _library: watch::Sender<Arc<Library>>,
}

/// Trees of the right length and locations in one directory, named by digest.
#[derive(Debug)]
struct Shelf {
    lengths: BTreeMap<Digest, u64>,
    locations: BTreeMap<Digest, Location>,
}

pub(crate) fn wall() -> Wall {
    "2030-01-01T02:00:00Z".parse().unwrap()
}

pub(crate) fn digest(object: u32) -> Digest {
    Digest::of(&object.to_le_bytes())
}

pub(crate) fn id(number: u32) -> BoxId {
    BoxId::parse(&format!("c{:03}-tls001-isp", number + 1)).unwrap()
}

/// Titles of so many objects each, of one length.
pub(crate) fn library(titles: u32, objects: u32, length: u64) -> Library {
    let all = 0..titles * objects;
    let bundle = |title: u32| Bundle {
        number: title,
        directory: format!("title{title}/hd"),
        title: format!("title{title}"),
        keys: (title * objects..(title + 1) * objects)
            .map(|object| BundleKey {
                name: object.to_string(),
                object,
                last_modified: 0,
            })
            .collect(),
        bytes: length * u64::from(objects),
        popularity: 1.0,
    };
    let object = |number| Object {
        digest: digest(number),
        length,
    };
    Library {
        revision: 1,
        objects: all.clone().map(object).collect(),
        object_numbers: all.map(|number| (digest(number), number)).collect(),
        bundles: (0..titles).map(|title| Some(bundle(title))).collect(),
        ..Library::default()
    }
}

/// `clusters`: for each its fill cluster; boxes go round.
pub(crate) fn registry(boxes: u32, clusters: &[&str], policies: Vec<FillCluster>) -> Registry {
    let count = u32::try_from(clusters.len()).unwrap();
    let appliance = |number: u32| Appliance {
        id: id(number),
        site: "tls001-isp".to_owned(),
        cluster: format!("cluster{:05}", number % count),
        profile: Profile::Storage,
        ipv4: Some((0xc612_0000 + number).into()),
        ipv6: None,
        https_port: 443,
        peer_port: 7443,
        capacity: u64::MAX,
        enabled: true,
        quarantined: None,
        revoked: false,
        key_fingerprint: None,
        certificate_ends: None,
    };
    let cluster = |(number, fill_cluster): (u32, &&str)| {
        let name = format!("cluster{number:05}");
        let fill_cluster = (*fill_cluster).to_owned();
        (name.clone(), Cluster { name, fill_cluster })
    };
    Registry {
        revision: 1,
        appliances: (0..boxes).map(|n| (id(n), appliance(n))).collect(),
        clusters: (0..).zip(clusters).map(cluster).collect(),
        fill_clusters: { policies.into_iter() }
            .map(|policy| (policy.name.clone(), policy))
            .collect(),
        ..Registry::default()
    }
}

/// A box that fills and gives, and holds these.
pub(crate) fn seen(known: Arc<Bitmap>) -> BoxView {
    BoxView {
        open: Ok(()),
        bundles: Arc::default(),
        objects: 0,
        known,
        interfaces: Arc::default(),
        fill: Some(FillProgress {
            window_open: true,
            gives: true,
            ..FillProgress::default()
        }),
        quality: None,
        routes: [].into(),
        gate: None,
        load: Load::default(),
        boot_id: None,
        manifest: None,
        last_report: None,
        last_heartbeat: None,
        version: None,
    }
}

impl Yard {
    pub(crate) fn new(registry: Registry, library: Library, origin: &Path) -> Self {
        Self::with(registry, library, origin, BTreeMap::new())
    }

    /// `tags`: of the files that are really there.
    pub(crate) fn with(
        registry: Registry,
        library: Library,
        origin: &Path,
        tags: BTreeMap<Digest, String>,
    ) -> Self {
        let boxes = registry.appliances.keys();
        let empty = || Arc::new(seen(Arc::default()));
        let view = View {
            generation: 1,
            boxes: boxes.map(|id| (id.clone(), empty())).collect(),
            frozen: None,
        };
        let location = |object: &Object| Location {
            source: format!("file://{}", origin.display()),
            path: object.digest.to_string(),
            size: object.length,
            tag: tags.get(&object.digest).cloned().unwrap_or_default(),
        };
        let objects = library.objects.iter();
        let shelf = Shelf {
            lengths: { objects.clone() }.map(|o| (o.digest, o.length)).collect(),
            locations: objects.map(|o| (o.digest, location(o))).collect(),
        };
        let library = Arc::new(library);
        let (registry, registry_rx) = watch::channel(Arc::new(registry));
        let (library_tx, library_rx) = watch::channel(Arc::clone(&library));
        let (view, view_rx) = watch::channel(Arc::new(view));
        let signer = Arc::new(Signer::generate().unwrap());
        let verifier = Verifier::new(&[signer.public_hex()]).unwrap();
        let metrics = telemetry::Registry::new("0", oca::clock::now());
        let config = Config {
            ask_again: Duration::from_secs(10),
        };
        let deps = Deps {
            registry: registry_rx,
            library: library_rx,
            view: view_rx,
            shelves: Arc::new(shelf),
            signer,
            import: ImportConfig {
                endpoint: None,
                region: "us-east-1".to_owned(),
                credentials_file: None,
            },
            metrics: metrics.clone(),
        };
        Self {
            sources: Sources::new(config, deps).unwrap(),
            registry,
            view,
            library,
            verifier,
            metrics,
            _library: library_tx,
        }
    }

    /// Changes what is seen of one box.
    pub(crate) fn see(&self, number: u32, change: impl FnOnce(&mut BoxView)) {
        self.view.send_modify(|view| {
            let view = Arc::make_mut(view);
            view.generation += 1;
            change(Arc::make_mut(view.boxes.get_mut(&id(number)).unwrap()));
        });
    }

    pub(crate) fn hold(&self, number: u32, objects: impl IntoIterator<Item = u32>) {
        let mut known = Bitmap::default();
        objects.into_iter().for_each(|object| known.insert(object));
        self.see(number, |view| view.known = Arc::new(known));
    }

    pub(crate) fn kill(&self, number: u32) {
        self.see(number, |view| view.open = Err(Shut::Silent));
    }
}

impl Shelves for Shelf {
    fn trees(&self, digests: Vec<Digest>) -> Answer<'_, BTreeMap<Digest, Vec<[u8; 32]>>> {
        let tree = |digest: &Digest| {
            let chunks = self.lengths[digest].div_ceil(CHUNK_BYTES);
            vec![[7; 32]; usize::try_from(chunks).unwrap()]
        };
        let trees = digests.iter().map(|digest| (*digest, tree(digest)));
        Box::pin(std::future::ready(Ok(trees.collect())))
    }

    fn locations(&self, digests: Vec<Digest>) -> Answer<'_, BTreeMap<Digest, Location>> {
        let known = digests
            .into_iter()
            .map(|digest| (digest, self.locations[&digest].clone()));
        Box::pin(std::future::ready(Ok(known.collect())))
    }
}
