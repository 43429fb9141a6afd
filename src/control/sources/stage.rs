//! Who could give what at this moment: the fleet, the registry and the library side by side.
//!
//! Built when one of the three has changed, off the runtime; every question of the meantime reads
//! the same one. Sans-IO.

use crate::clock;
use crate::clock::Wall;
use crate::control::allocate::allocate;
use crate::control::fleet;
use crate::control::fleet::Bitmap;
use crate::control::fleet::BoxView;
use crate::control::fleet::Shut;
use crate::control::model::Appliance;
use crate::control::model::FILL_CLUSTER;
use crate::control::model::FillCluster;
use crate::control::model::Library;
use crate::control::model::Registry;
use crate::control::steer;
use crate::control::steer::Point;
use crate::ids::BoxId;
use crate::prefix::Prefix;
use crate::route::Route;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// A box that an operator has not enabled is alive if its heartbeat is no older. Three heartbeats,
/// and the seconds by which the published times may be behind.
const HEARTBEAT_AGE_S: u64 = 60;

/// No site.
const NOWHERE: u32 = u32::MAX;

/// A name as a number, so that tables need not keep names. Names come from the registry alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Who(pub(super) u64);

/// Everything about one box that a question needs.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) id: BoxId,
    pub(super) who: Who,
    pub(super) cluster: u32,
    pub(super) region: u32,
    pub(super) site: u32,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) port: u16,
    pub(super) capacity: u64,
    /// `Err`: why nothing can be had from it.
    pub(super) alive: Result<(), &'static str>,
    pub(super) gives: bool,
    /// Its window is open and nobody paused it.
    pub(super) works: bool,
    /// An operator paused it: it fetches nothing, though it may give.
    pub(super) paused: bool,
    pub(super) known: Arc<Bitmap>,
    pub(super) interfaces: Arc<[Prefix]>,
    pub(super) routes: Arc<[Route]>,
}

/// A fill cluster and who is in it.
#[derive(Clone, Debug)]
pub(super) struct Region {
    pub(super) key: u64,
    pub(super) policy: FillCluster,
    pub(super) members: Vec<u32>,
}

/// What follows from the library alone.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) library: Arc<Library>,
    /// By object number: the first bundle that names it.
    first_bundle: Vec<u32>,
    /// By bundle number: its title as a number.
    titles: Vec<u64>,
    /// By capacity: what is allocated to a box of it.
    allocated: BTreeMap<u64, Bitmap>,
}

#[derive(Debug, Default)]
pub(super) struct Stage {
    pub(super) registry: Arc<Registry>,
    pub(super) view: Arc<fleet::View>,
    pub(super) content: Arc<Content>,
    /// By name.
    pub(super) seats: Vec<Seat>,
    pub(super) regions: Vec<Region>,
    pub(super) points: Vec<Option<Point>>,
    places: HashMap<Who, u32>,
}

/// What a stage is made of.
#[derive(Clone, Debug, Default)]
pub(super) struct Inputs {
    pub(super) registry: Arc<Registry>,
    pub(super) library: Arc<Library>,
    pub(super) view: Arc<fleet::View>,
}

impl Who {
    pub(super) fn of(name: &str) -> Self {
        Self(number(name))
    }
}

/// The first eight bytes of the hash.
pub(super) fn number(name: &str) -> u64 {
    let hash = blake3::hash(name.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(first)
}

impl Stage {
    /// Takes over from `old` what is still true. CPU-bound: a library of millions takes a second.
    pub(super) fn build(old: &Self, inputs: Inputs, wall: Wall) -> Self {
        let Inputs {
            registry,
            library,
            view,
        } = inputs;
        let content = Content::build(&old.content, library, &registry);
        let mut stage = Self {
            content,
            view,
            ..Self::default()
        };
        let clusters = stage.take_regions(&registry);
        let sites = stage.take_sites(&registry);
        for (id, appliance) in &registry.appliances {
            let cluster = clusters.get(appliance.cluster.as_str()).copied();
            let (cluster, region) = cluster.unwrap_or((NOWHERE, 0));
            let seat = Seat {
                cluster,
                region,
                site: sites
                    .get(appliance.site.as_str())
                    .copied()
                    .unwrap_or(NOWHERE),
                ..seat(id, appliance, stage.view.boxes.get(id), wall)
            };
            let place = u32::try_from(stage.seats.len()).unwrap_or(u32::MAX);
            if let Some(region) = stage.regions.get_mut(region as usize) {
                region.members.push(place);
            }
            stage.places.insert(seat.who, place);
            stage.seats.push(seat);
        }
        stage.registry = registry;
        stage
    }

    /// Is it made of these?
    pub(super) fn is_of(&self, inputs: &Inputs) -> bool {
        Arc::ptr_eq(&self.registry, &inputs.registry)
            && Arc::ptr_eq(&self.content.library, &inputs.library)
            && Arc::ptr_eq(&self.view, &inputs.view)
    }

    pub(super) fn seat(&self, place: u32) -> Option<&Seat> {
        self.seats.get(place as usize)
    }

    pub(super) fn place(&self, who: Who) -> Option<u32> {
        self.places.get(&who).copied()
    }

    pub(super) fn of_who(&self, who: Who) -> Option<&Seat> {
        self.seat(self.place(who)?)
    }

    /// Kilometres between two sites; far away if one of them is not known.
    pub(super) fn distance(&self, from: u32, to: u32) -> u32 {
        let point = |site: u32| self.points.get(site as usize)?.as_ref();
        match (point(from), point(to)) {
            (Some(from), Some(to)) => from.distance_km(to),
            (_, _) if from == to => 0,
            (_, _) => u32::MAX,
        }
    }

    /// Every cluster's number and region. Region 0 is the one that always exists.
    fn take_regions<'a>(&mut self, registry: &'a Registry) -> BTreeMap<&'a str, (u32, u32)> {
        let mut numbers: BTreeMap<&str, u32> = BTreeMap::new();
        let regions = &mut self.regions;
        let mut region_of = |name: &'a str| -> u32 {
            *numbers.entry(name).or_insert_with(|| {
                let policy = registry.fill_clusters.get(name).cloned();
                regions.push(Region {
                    key: number(name),
                    policy: policy.unwrap_or_else(|| FillCluster::named(name)),
                    members: Vec::new(),
                });
                u32::try_from(regions.len() - 1).unwrap_or(u32::MAX)
            })
        };
        region_of(FILL_CLUSTER);
        let clusters = registry.clusters.iter().zip(0_u32..);
        clusters
            .map(|((name, cluster), number)| {
                (name.as_str(), (number, region_of(&cluster.fill_cluster)))
            })
            .collect()
    }

    fn take_sites<'a>(&mut self, registry: &'a Registry) -> BTreeMap<&'a str, u32> {
        let sites = registry.sites.iter().zip(0_u32..);
        sites
            .map(|((label, site), number)| {
                let position = steer::Position::new(site.latitude, site.longitude);
                self.points.push(position.map(Point::of));
                (label.as_str(), number)
            })
            .collect()
    }
}

fn seat(id: &BoxId, appliance: &Appliance, view: Option<&Arc<BoxView>>, wall: Wall) -> Seat {
    let fill = view.and_then(|view| view.fill.as_ref());
    let ipv4 = appliance.ipv4.map(IpAddr::V4);
    let ipv6 = appliance.ipv6.map(IpAddr::V6);
    Seat {
        id: id.clone(),
        who: Who::of(id.as_str()),
        cluster: NOWHERE,
        region: 0,
        site: NOWHERE,
        addresses: ipv4.into_iter().chain(ipv6).collect(),
        port: appliance.peer_port,
        capacity: appliance.capacity,
        alive: view.map_or(Err("it has never reported"), |view| alive(view, wall)),
        gives: fill.is_some_and(|fill| fill.gives),
        works: fill.is_some_and(|fill| fill.window_open && !fill.paused),
        paused: fill.is_some_and(|fill| fill.paused),
        known: view.map_or_else(Arc::default, |view| Arc::clone(&view.known)),
        interfaces: view.map_or_else(Arc::default, |view| Arc::clone(&view.interfaces)),
        routes: match view {
            Some(view) => Arc::clone(&view.routes),
            None => Arc::from([]),
        },
    }
}

/// Can anything be had from it? A box that viewers are not sent to may still give to others.
fn alive(view: &BoxView, wall: Wall) -> Result<(), &'static str> {
    match &view.open {
        Ok(()) | Err(Shut::Gate(_)) => Ok(()),
        // Its silence is not watched; its own words are dated.
        Err(Shut::NotEnabled) if view.last_report.is_none() => Err("it has never reported"),
        Err(Shut::NotEnabled) => {
            let heard = [&view.last_report, &view.last_heartbeat];
            let heard = heard
                .into_iter()
                .flatten()
                .filter_map(|at| at.parse::<Wall>().ok());
            let last = heard.map(clock::unix_seconds).max().unwrap_or(0);
            let age = clock::unix_seconds(wall).saturating_sub(last);
            if age <= HEARTBEAT_AGE_S {
                Ok(())
            } else {
                Err("it is silent")
            }
        }
        Err(Shut::Unknown) => Err("it has not reported since this control plane started"),
        Err(Shut::Silent) => Err("it is silent"),
        Err(Shut::Stale) => Err("its reports are missing"),
        Err(Shut::Quarantined) => Err("it is quarantined"),
        Err(Shut::Revoked) => Err("it is revoked"),
    }
}

impl Content {
    /// Takes over what is still true.
    fn build(old: &Arc<Self>, library: Arc<Library>, registry: &Registry) -> Arc<Self> {
        let mut capacities: Vec<u64> = registry.appliances.values().map(|a| a.capacity).collect();
        capacities.sort_unstable();
        capacities.dedup();
        let is_same = Arc::ptr_eq(&old.library, &library);
        if is_same && old.allocated.keys().eq(&capacities) {
            return Arc::clone(old);
        }
        let allocated = capacities.into_iter().map(|capacity| {
            let known = old.allocated.get(&capacity).filter(|_| is_same).cloned();
            (
                capacity,
                known.unwrap_or_else(|| chosen(&library, capacity)),
            )
        });
        let allocated = allocated.collect();
        let mut first_bundle = vec![u32::MAX; library.objects.len()];
        let mut titles = vec![0; library.bundles.len()];
        for bundle in library.bundles.iter().flatten() {
            if let Some(title) = titles.get_mut(bundle.number as usize) {
                *title = number(&bundle.title);
            }
            for key in &bundle.keys {
                if let Some(first) = first_bundle.get_mut(key.object as usize) {
                    *first = (*first).min(bundle.number);
                }
            }
        }
        Arc::new(Self {
            library,
            first_bundle,
            titles,
            allocated,
        })
    }

    /// The bundle and the title (as a number) that an object counts for.
    pub(super) fn bundle_of(&self, object: u32) -> Option<(u32, u64)> {
        let bundle = *self.first_bundle.get(object as usize)?;
        Some((bundle, *self.titles.get(bundle as usize)?))
    }

    /// Should a box of this capacity hold the bundle?
    pub(super) fn is_allocated(&self, capacity: u64, bundle: u32) -> bool {
        let allocated = self.allocated.get(&capacity);
        allocated.is_some_and(|bundles| bundles.contains(bundle))
    }
}

fn chosen(library: &Library, capacity: u64) -> Bitmap {
    let mut bundles = Bitmap::default();
    for number in allocate(library, capacity) {
        bundles.insert(number);
    }
    bundles
}
