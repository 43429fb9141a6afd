//! What tests of this room share: a small registry, a library, and a simulated box.

use super::Config;
use crate::clock::Wall;
use crate::control::StalenessConfig;
use crate::control::model::Appliance;
use crate::control::model::Bundle;
use crate::control::model::BundleKey;
use crate::control::model::Library;
use crate::control::model::Object;
use crate::control::model::Registry;
use crate::gate::Reason;
use crate::ids::BoxId;
use crate::ids::Profile;
use crate::link::message;
use crate::link::message::Ack;
use crate::link::message::Catalogue;
use crate::link::message::GateState;
use crate::link::message::Heartbeat;
use crate::link::message::Load;
use crate::link::message::Report;
use crate::link::message::ReportReply;
use crate::link::message::Routes;
use crate::link::steps;
use crate::object::Digest;
use crate::prefix::Prefix;
use crate::route::Attributes;
use crate::route::Class;
use crate::route::Route;
use crate::set_hash::SetHash;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

pub(super) const BOOT_A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
pub(super) const BOOT_B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// A box that keeps its own books.
#[derive(Clone, Debug)]
pub(super) struct Sim {
    pub(super) id: BoxId,
    pub(super) sequence: u64,
    boot_id: String,
    position: u64,
    objects: BTreeSet<Digest>,
    routes: BTreeSet<Route>,
    acked: Option<(u64, BTreeSet<Digest>, BTreeSet<Route>)>,
}

pub(super) fn id(number: usize) -> BoxId {
    BoxId::parse(&format!("c{:03}-tls001-isp", number + 1)).unwrap()
}

pub(super) fn wall() -> Wall {
    "2030-01-01T00:00:00Z".parse().unwrap()
}

pub(super) fn digest(number: u32) -> Digest {
    Digest::of(&number.to_le_bytes())
}

pub(super) fn config() -> Config {
    Config {
        lease: Duration::from_secs(1_800),
        report_every: Duration::from_secs(300),
        staleness: StalenessConfig {
            heartbeat: Duration::from_secs(25),
            reports: 3,
            share: 30,
            always: 3,
        },
    }
}

pub(super) fn closed() -> GateState {
    GateState {
        state: "closed".to_owned(),
        reasons: vec![Reason::Drained],
    }
}

pub(super) fn registry(boxes: usize) -> Registry {
    let appliance = |number| Appliance {
        id: id(number),
        site: "tls001-isp".to_owned(),
        cluster: "one".to_owned(),
        profile: Profile::Global,
        ipv4: None,
        ipv6: None,
        https_port: 443,
        peer_port: 7443,
        capacity: 1,
        enabled: true,
        quarantined: None,
        revoked: false,
        key_fingerprint: Some("00".to_owned()),
        certificate_ends: None,
    };
    let appliances = (0..boxes).map(|number| (id(number), appliance(number)));
    Registry {
        appliances: appliances.collect(),
        ..Registry::default()
    }
}

/// Object `n` has `digest(n)`; each list is a bundle.
pub(super) fn library(bundles: &[&[u32]]) -> Library {
    let objects = bundles.iter().flat_map(|keys| keys.iter().copied());
    let most = objects.max().map_or(0, |most| most + 1);
    let bundle = |number: u32, keys: &[u32]| Bundle {
        number,
        directory: format!("title/{number}"),
        title: "title".to_owned(),
        keys: keys
            .iter()
            .map(|object| BundleKey {
                name: object.to_string(),
                object: *object,
                last_modified: 0,
            })
            .collect(),
        bytes: 0,
        popularity: 0.0,
    };
    let objects = (0..most).map(|number| Object {
        digest: digest(number),
        length: 1,
    });
    let bundles = (0..).zip(bundles);
    Library {
        revision: u64::from(most),
        objects: objects.collect(),
        bundles: bundles
            .map(|(number, keys)| Some(bundle(number, keys)))
            .collect(),
        object_numbers: (0..most).map(|number| (digest(number), number)).collect(),
        ..Library::default()
    }
}

impl Sim {
    pub(super) fn new(number: usize, boot_id: &str) -> Self {
        Self {
            id: id(number),
            sequence: 1,
            boot_id: boot_id.to_owned(),
            position: 1,
            objects: BTreeSet::new(),
            routes: BTreeSet::new(),
            acked: None,
        }
    }

    /// From the next report on it holds exactly these.
    pub(super) fn hold(&mut self, objects: impl IntoIterator<Item = u32>) {
        self.objects = objects.into_iter().map(digest).collect();
        self.position += 1;
        self.sequence += 1;
    }

    /// From the next report on it knows a route of each of these lengths.
    pub(super) fn announce(&mut self, lengths: impl IntoIterator<Item = u8>) {
        let neighbour: Arc<str> = "router".into();
        let attributes = Arc::new(Attributes::new(
            "64500".parse().unwrap(),
            "192.0.2.1".parse().unwrap(),
        ));
        let route = |length| Route {
            prefix: Prefix::new("198.51.100.0".parse().unwrap(), length).unwrap(),
            neighbour: Arc::clone(&neighbour),
            path_id: 0,
            class: Class::Embedded,
            attributes: Arc::clone(&attributes),
            filtered: None,
        };
        self.routes = lengths.into_iter().map(route).collect();
        self.position += 1;
        self.sequence += 1;
    }

    pub(super) fn acknowledge(&mut self, reply: &ReportReply) {
        let ack = Some(Ack {
            epoch: 1,
            position: self.position,
        });
        assert_eq!((reply.acked.catalogue, reply.acked.routes), (ack, ack));
        self.acknowledge_own();
    }

    /// Believes that the other side has everything.
    pub(super) fn acknowledge_own(&mut self) {
        self.acked = Some((self.position, self.objects.clone(), self.routes.clone()));
    }

    /// Tells everything again next time.
    pub(super) fn forget(&mut self) {
        self.acked = None;
    }

    pub(super) fn heartbeat(&self, sequence: u64) -> Heartbeat {
        Heartbeat {
            v: message::VERSION,
            boot_id: self.boot_id.clone(),
            sequence,
            gate: serving(),
            load: Load::default(),
        }
    }

    pub(super) fn report(&self) -> Report {
        let nothing = (0, BTreeSet::new(), BTreeSet::new());
        let (from, objects, routes) = self.acked.as_ref().unwrap_or(&nothing);
        let lines = self.routes.iter().map(Route::item);
        let list = |routes: Vec<&Route>| -> Vec<Route> { routes.into_iter().cloned().collect() };
        Report {
            v: message::VERSION,
            boot_id: self.boot_id.clone(),
            sequence: self.sequence,
            sent_at: "2030-01-01T00:00:00Z".to_owned(),
            version: "1.0.0".to_owned(),
            gate: serving(),
            catalogue: Catalogue {
                epoch: 1,
                from: *from,
                to: self.position,
                count: self.objects.len() as u64,
                digest: SetHash::of(self.objects.iter().map(|digest| digest.0)).digest(),
                added: self.objects.difference(objects).copied().collect(),
                removed: objects.difference(&self.objects).copied().collect(),
            },
            routes: Routes {
                epoch: 1,
                from: *from,
                to: self.position,
                count: self.routes.len() as u64,
                digest: SetHash::of(lines).digest(),
                added: steps::group(&list(self.routes.difference(routes).collect())),
                removed: steps::group(&list(routes.difference(&self.routes).collect())),
            },
            interfaces: Vec::new(),
            bgp: Vec::new(),
            disks: Vec::new(),
            load: Load::default(),
            manifest: None,
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
