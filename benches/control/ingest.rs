//! Report ingest: how many reports one core reads, checks and takes in a second, as the link
//! listener and the fleet's task do it: decompress, parse, check, apply, and publish the view.
//!
//! Boxes are of clusters of ten that hold the same 20,000 objects and learn the same 500 routes.

use super::core;
use super::figure::Bar;
use super::figure::Figure;
use super::network::appliance;
use oca::clock;
use oca::control::StalenessConfig;
use oca::control::fleet::Config;
use oca::control::fleet::Counters;
use oca::control::fleet::Fleet;
use oca::control::fleet::Prepared;
use oca::control::model::Bundle;
use oca::control::model::BundleKey;
use oca::control::model::Library;
use oca::control::model::Object;
use oca::control::model::Registry;
use oca::ids::BoxId;
use oca::link::body;
use oca::link::body::Encoding;
use oca::link::body::Limits;
use oca::link::message::Catalogue;
use oca::link::message::GateState;
use oca::link::message::Heartbeat;
use oca::link::message::Load;
use oca::link::message::Report;
use oca::link::message::Routes;
use oca::link::message::VERSION;
use oca::link::steps;
use oca::object::Digest;
use oca::prefix::Prefix;
use oca::route::AsPath;
use oca::route::Asn;
use oca::route::Attributes;
use oca::route::Class;
use oca::route::Route;
use oca::route::Segment;
use oca::set_hash::SetHash;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

const BOXES: u32 = 2_000;
const CLUSTER: u32 = 10;
const OBJECTS: u32 = 20_000;
const OBJECTS_OF_BUNDLE: u32 = 20;
const ROUTES: u32 = 500;
/// Of one step: a night's worth of an hour, and a router that wavers.
const OBJECTS_CHANGED: u32 = 50;
const ROUTES_CHANGED: u32 = 10;
/// The fleet's task takes so many messages before it looks at the view.
const BATCH: usize = 256;
const ROUNDS: usize = 5;

/// DESIGN.md section 6: ten times the need of 18,000 boxes.
const REPORTS_MIN: f64 = 600.0;

const LIMITS: Limits = Limits {
    compressed: 64 << 20,
    decompressed: 512 << 20,
};

struct Bench {
    fleet: Fleet,
    library: Arc<Library>,
    ids: Vec<BoxId>,
}

pub(crate) fn figures() -> anyhow::Result<Vec<Figure>> {
    let mut bench = Bench::new()?;
    let whole = bench.bodies(0)?;
    let mut rates = vec![bench.take(&whole)?];
    let whole_rate = rates.remove(0);
    let mut beats = Vec::new();
    for round in 1..=ROUNDS as u64 {
        let bodies = bench.bodies(round)?;
        rates.push(bench.take(&bodies)?);
        beats.push(bench.beat(round)?);
    }
    let size = whole.first().map_or(0, Vec::len);
    eprintln!("ingest: {BOXES} boxes, a first report has {size} bytes");
    Ok(vec![
        Figure::rounds(
            "ingest, one core: reports a second, 100 objects and 20 routes changed",
            rates,
            Bar::AtLeast(REPORTS_MIN),
        ),
        Figure::one(
            "ingest, one core: first reports a second, 20,000 objects and 500 routes",
            whole_rate,
            Bar::None,
        ),
        Figure::rounds("ingest, one core: heartbeats a second", beats, Bar::None),
    ])
}

impl Bench {
    fn new() -> anyhow::Result<Self> {
        let config = Config {
            lease: Duration::from_secs(1_800),
            report_every: Duration::from_secs(300),
            staleness: StalenessConfig {
                heartbeat: Duration::from_secs(3_600),
                reports: 3,
                share: 30,
                always: 3,
            },
        };
        let mut registry = Registry::default();
        let mut ids = Vec::new();
        for number in 1..=BOXES {
            let id = BoxId::parse(&format!("c{number:04}-tls001-isp"))?;
            let appliance = appliance(id.clone(), "tls001-isp", number / CLUSTER);
            registry.appliances.insert(id.clone(), appliance);
            ids.push(id);
        }
        let library = Arc::new(library());
        let mut fleet = Fleet::new(clock::now(), config, Arc::<Counters>::default());
        fleet.registry(Arc::new(registry));
        fleet.library(Arc::clone(&library));
        Ok(Self {
            fleet,
            library,
            ids,
        })
    }

    /// One body a box: everything in round 0, a step from the round before in the others.
    fn bodies(&self, round: u64) -> anyhow::Result<Vec<Vec<u8>>> {
        let boxes = u32::try_from(self.ids.len())?;
        (0..boxes)
            .map(|number| Ok(body::encode(&report(number, round))?))
            .collect()
    }

    /// Reports a second.
    fn take(&mut self, bodies: &[Vec<u8>]) -> anyhow::Result<f64> {
        let (view, took) = core::timed(|| {
            for (index, (id, bytes)) in self.ids.iter().zip(bodies).enumerate() {
                let report: Report = body::decode(bytes, Encoding::Zstd, LIMITS)?;
                let (now, wall) = (clock::now(), clock::wall());
                let prepared = Prepared::new(report, &self.library, now)?;
                let reply = self.fleet.report_prepared(now, wall, id, prepared)?;
                anyhow::ensure!(reply.acked.catalogue.is_some(), "{id} was not acknowledged");
                if index % BATCH == 0 {
                    self.fleet.view();
                }
            }
            Ok(self.fleet.view())
        })?;
        let open = view.boxes.values().filter(|seen| seen.open.is_ok()).count();
        anyhow::ensure!(open == bodies.len(), "{open} boxes are open");
        Ok(bodies.len() as f64 / took)
    }

    /// Heartbeats a second.
    fn beat(&mut self, round: u64) -> anyhow::Result<f64> {
        let bodies: Vec<Vec<u8>> = (0..u32::try_from(self.ids.len())?)
            .map(|number| serde_json::to_vec(&heartbeat(number, round)))
            .collect::<Result<_, _>>()?;
        let ((), took) = core::timed(|| {
            for (index, (id, bytes)) in self.ids.iter().zip(&bodies).enumerate() {
                let beat: Heartbeat = body::decode(bytes, Encoding::Plain, LIMITS)?;
                let (now, wall) = (clock::now(), clock::wall());
                self.fleet.heartbeat(now, wall, id, beat)?;
                if index % BATCH == 0 {
                    self.fleet.view();
                }
            }
            Ok(())
        })?;
        Ok(bodies.len() as f64 / took)
    }
}

fn object(number: u32) -> Digest {
    Digest(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

/// Bundles of 20 objects; some more than any box holds.
fn library() -> Library {
    let mut library = Library {
        revision: 1,
        ..Library::default()
    };
    let objects = 2 * OBJECTS;
    for number in 0..objects {
        let digest = object(number);
        library.objects.push(Object {
            digest,
            length: 1 << 20,
        });
        library.object_numbers.insert(digest, number);
    }
    for number in 0..objects / OBJECTS_OF_BUNDLE {
        let directory = format!("title-{number}/r1");
        let first = number * OBJECTS_OF_BUNDLE;
        let keys = (first..first + OBJECTS_OF_BUNDLE).map(|object| BundleKey {
            name: format!("seg-{object}.m4s"),
            object,
            last_modified: 0,
        });
        library.bundle_numbers.insert(directory.clone(), number);
        library.bundles.push(Some(Bundle {
            number,
            title: format!("title-{number}"),
            directory,
            keys: keys.collect(),
            bytes: u64::from(OBJECTS_OF_BUNDLE) << 20,
            popularity: 0.0,
        }));
    }
    library
}

/// Objects that a box of this cluster holds after `round`: the oldest make room for others.
fn held(round: u64) -> std::ops::Range<u32> {
    let shift = u32::try_from(round).unwrap_or(0) * OBJECTS_CHANGED;
    shift..shift + OBJECTS
}

fn route(cluster: u32, number: u32, round: u64) -> Route {
    let address = 0x0a00_0000 + (cluster << 17) + (number << 8);
    let address = IpAddr::V4(Ipv4Addr::from(address));
    let med = if number < ROUTES_CHANGED { round } else { 0 };
    Route {
        prefix: Prefix::new(address, 24).unwrap_or(Prefix::host(address)),
        neighbour: "edge-1".into(),
        path_id: 0,
        class: Class::Embedded,
        attributes: Arc::new(Attributes {
            med: u32::try_from(med).ok(),
            ..Attributes::new(
                AsPath(vec![Segment::Sequence(vec![
                    Asn(4_200_000_000 + cluster),
                    Asn(4_200_100_000 + number % 50),
                ])]),
                IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            )
        }),
        filtered: None,
    }
}

fn report(number: u32, round: u64) -> Report {
    let cluster = number / CLUSTER;
    let epoch = u64::from(number) + 1;
    let now = held(round);
    let (from, added, removed) = match round.checked_sub(1) {
        None => (0, now.clone(), 0..0),
        Some(before) => (
            round,
            held(before).end..now.end,
            held(before).start..now.start,
        ),
    };
    let all: Vec<Route> = (0..ROUTES).map(|at| route(cluster, at, round)).collect();
    let changed = |round| -> Vec<Route> {
        let wavering = 0..ROUTES_CHANGED;
        wavering.map(|at| route(cluster, at, round)).collect()
    };
    let (came, went) = match round.checked_sub(1) {
        None => (all.clone(), Vec::new()),
        Some(before) => (changed(round), changed(before)),
    };
    Report {
        v: VERSION,
        boot_id: format!("{:032x}", number + 1),
        sequence: round + 1,
        sent_at: "2026-01-01T00:00:00Z".to_owned(),
        version: "0.1.0".to_owned(),
        gate: serving(),
        catalogue: Catalogue {
            epoch,
            from,
            to: round + 1,
            count: u64::from(OBJECTS),
            digest: SetHash::of(now.map(|at| object(at).0)).digest(),
            added: added.map(object).collect(),
            removed: removed.map(object).collect(),
        },
        routes: Routes {
            epoch,
            from,
            to: round + 1,
            count: u64::from(ROUTES),
            digest: SetHash::of(all.iter().map(Route::item)).digest(),
            added: steps::group(&came),
            removed: steps::group(&went),
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

fn heartbeat(number: u32, round: u64) -> Heartbeat {
    Heartbeat {
        v: VERSION,
        boot_id: format!("{:032x}", number + 1),
        sequence: round,
        gate: serving(),
        load: Load::default(),
    }
}

fn serving() -> GateState {
    GateState {
        state: "serving".to_owned(),
        reasons: Vec::new(),
    }
}
