//! A small fleet for the tests of this room, in few words.

use super::stage::Inputs;
use super::stage::Seat;
use super::stage::Stage;
use super::stage::Who;
use crate::control::fleet::Bitmap;
use crate::control::fleet::BoxView;
use crate::control::fleet::Shut;
use crate::control::fleet::View;
use crate::control::model::Bundle;
use crate::control::model::BundleKey;
use crate::control::model::Cluster;
use crate::control::model::FILL_CLUSTER;
use crate::control::model::FillCluster;
use crate::control::model::Library;
use crate::control::model::Object;
use crate::control::model::Registry;
use crate::control::steer::testing::World;
use crate::ids::BoxId;
use crate::link::message::FillProgress;
use crate::object::Digest;
use std::sync::Arc;

/// Each box has a site, clusters go round, and every box fills and gives.
#[derive(Clone, Debug)]
pub(super) struct Yard {
    pub(super) registry: Registry,
    pub(super) library: Library,
    pub(super) view: View,
    pub(super) ids: Vec<BoxId>,
}

pub(super) fn digest(object: u32) -> Digest {
    Digest::of(&object.to_le_bytes())
}

/// Every bundle's objects; object `n` has `digest(n)` and a million bytes.
pub(super) fn library(bundles: &[(&str, std::ops::Range<u32>)]) -> Library {
    let most = bundles.iter().map(|(_, objects)| objects.end).max();
    let numbers = 0..most.unwrap_or(0);
    let bundle = |number: u32, directory: &str, objects: std::ops::Range<u32>| Bundle {
        number,
        directory: directory.to_owned(),
        title: directory.split('/').next().unwrap().to_owned(),
        keys: objects
            .map(|object| BundleKey {
                name: object.to_string(),
                object,
                last_modified: 0,
            })
            .collect(),
        bytes: 0,
        popularity: 0.0,
    };
    Library {
        revision: 1,
        objects: { numbers.clone() }
            .map(|number| Object {
                digest: digest(number),
                length: 1_000_000,
            })
            .collect(),
        object_numbers: numbers.map(|number| (digest(number), number)).collect(),
        bundles: (0..)
            .zip(bundles)
            .map(|(number, (directory, objects))| Some(bundle(number, directory, objects.clone())))
            .collect(),
        ..Library::default()
    }
}

/// A seat alone, in a cluster, with one address.
pub(super) fn seat(number: u32, cluster: u32, address: &str) -> Seat {
    let id = BoxId::parse(&format!("c{number:03}-tls001-isp")).unwrap();
    Seat {
        who: Who::of(id.as_str()),
        id,
        cluster,
        region: 0,
        site: number,
        addresses: vec![address.parse().unwrap()],
        port: 7443,
        capacity: 1,
        alive: Ok(()),
        gives: true,
        works: true,
        paused: false,
        known: Arc::default(),
        interfaces: Arc::default(),
        routes: [].into(),
    }
}

impl Yard {
    /// One bundle of 256 objects.
    pub(super) fn new(boxes: usize, clusters: usize) -> Self {
        let mut world = World::new();
        let ids: Vec<BoxId> = (0..boxes)
            .map(|number| {
                let site = world.site(&format!("TLS{number:03}.isp"), "isp", (43.6, 1.4));
                world.appliance(u32::try_from(number).unwrap() + 1, &site, Vec::new())
            })
            .collect();
        let mut yard = Self {
            registry: world.registry,
            library: library(&[("film/hd", 0..256)]),
            view: world.view,
            ids,
        };
        let region = FillCluster::named(FILL_CLUSTER);
        yard.registry
            .fill_clusters
            .insert(FILL_CLUSTER.to_owned(), region);
        for number in 0..boxes {
            let cluster = format!("cluster{}", number % clusters);
            let id = yard.ids[number].clone();
            let appliance = yard.registry.appliances.get_mut(&id).unwrap();
            appliance.cluster.clone_from(&cluster);
            appliance.capacity = u64::MAX;
            let own = u8::try_from(number).unwrap();
            appliance.ipv4 = Some([192, 0, 2, own].into());
            appliance.ipv6 = None;
            let fill_cluster = FILL_CLUSTER.to_owned();
            let cluster = Cluster {
                name: cluster,
                fill_cluster,
            };
            yard.registry.clusters.insert(cluster.name.clone(), cluster);
            yard.change(number, |view| {
                view.fill = Some(FillProgress {
                    window_open: true,
                    gives: true,
                    ..FillProgress::default()
                });
            });
        }
        yard
    }

    pub(super) fn policy(&mut self) -> &mut FillCluster {
        self.registry.fill_clusters.get_mut(FILL_CLUSTER).unwrap()
    }

    pub(super) fn change(&mut self, number: usize, change: impl FnOnce(&mut BoxView)) {
        let view = self.view.boxes.get_mut(&self.ids[number]).unwrap();
        change(Arc::make_mut(view));
    }

    pub(super) fn fill(&mut self, number: usize, change: impl FnOnce(&mut FillProgress)) {
        self.change(number, |view| change(view.fill.as_mut().unwrap()));
    }

    pub(super) fn kill(&mut self, number: usize) {
        self.change(number, |view| view.open = Err(Shut::Silent));
    }

    pub(super) fn hold(&mut self, number: usize, objects: std::ops::Range<u32>) {
        let mut known = Bitmap::default();
        objects.for_each(|object| known.insert(object));
        self.change(number, |view| view.known = Arc::new(known));
    }

    pub(super) fn inputs(&self) -> Inputs {
        Inputs {
            registry: Arc::new(self.registry.clone()),
            library: Arc::new(self.library.clone()),
            view: Arc::new(self.view.clone()),
        }
    }

    /// The seats are in the order of `ids`.
    pub(super) fn stage(&self) -> Stage {
        let wall = "2030-01-01T00:00:00Z".parse().unwrap();
        Stage::build(&Stage::default(), self.inputs(), wall)
    }
}
