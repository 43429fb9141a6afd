//! May a title be shown to viewers? Enough clusters of a region must hold it.
//!
//! A region is a fill cluster. One of its clusters holds a title when its boxes that serve viewers
//! hold, between them, every bundle of it that was allocated to them. `api::public` tells back
//! ends, `api::admin` operators. Pure, but for the index of titles that [`Liveness`] keeps.

use crate::clock::Wall;
use crate::control::allocate::Listed;
use crate::control::fleet::View;
use crate::control::model::Bundle;
use crate::control::model::Library;
use crate::control::model::Registry;
use crate::ids::BoxId;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

/// Everything that decides, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub registry: Arc<Registry>,
    pub library: Arc<Library>,
    pub view: Arc<View>,
    /// What the published manifests list; a box without one is to hold everything.
    pub listed: Arc<BTreeMap<BoxId, Arc<Listed>>>,
}

/// A title, as it stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Standing {
    pub title: String,
    /// In one region at least, and not withdrawn.
    pub live: bool,
    pub withdrawn: bool,
    /// While it lasts.
    pub urgent_until: Option<Wall>,
    pub bundles: usize,
    /// Of its bundles, added up.
    pub bytes: u64,
    /// Of its most popular bundle.
    pub popularity: f64,
    /// Boxes that serve viewers and hold every bundle.
    pub boxes: usize,
    pub regions: Vec<Region>,
}

/// A title in one fill cluster that has boxes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Region {
    pub name: String,
    /// Clusters that hold it.
    pub holding: usize,
    /// Clusters with a box that is meant to serve viewers.
    pub clusters: usize,
    /// Clusters that must hold it.
    pub needed: usize,
    pub live: bool,
}

/// Title → numbers of its bundles.
type Titles = BTreeMap<String, Vec<u32>>;

/// Asks with the facts of the moment. One a process.
pub struct Liveness {
    facts: Box<dyn Fn() -> Facts + Send + Sync>,
    /// Of the last library that was asked about: a title's bundles are found without a walk.
    titles: Mutex<(Arc<Library>, Arc<Titles>)>,
}

impl Liveness {
    pub fn new(facts: impl Fn() -> Facts + Send + Sync + 'static) -> Self {
        Self {
            facts: Box::new(facts),
            titles: Mutex::default(),
        }
    }

    /// `None`: the library has no such title.
    pub fn title(&self, name: &str, now: Wall) -> Option<Standing> {
        let facts = (self.facts)();
        let titles = self.titles(&facts.library);
        Some(standing(&facts, name, titles.get(name)?, now))
    }

    /// All of them, by name. A walk over every cluster and bundle: not for a runtime's thread.
    pub fn titles_standing(&self, now: Wall) -> Vec<Standing> {
        let facts = (self.facts)();
        let titles = self.titles(&facts.library);
        let all = titles.iter();
        all.map(|(name, bundles)| standing(&facts, name, bundles, now))
            .collect()
    }

    fn titles(&self, library: &Arc<Library>) -> Arc<Titles> {
        let mut kept = self.titles.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&kept.0, library) {
            let mut titles = Titles::new();
            for bundle in library.bundles.iter().flatten() {
                let numbers = titles.entry(bundle.title.clone()).or_default();
                numbers.push(bundle.number);
            }
            *kept = (library.clone(), Arc::new(titles));
        }
        kept.1.clone()
    }
}

impl std::fmt::Debug for Liveness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Liveness").finish_non_exhaustive()
    }
}

/// A cluster's bundles of a title, by their place in the list: allocated, and held.
struct Share<'a> {
    region: &'a str,
    allocated: Vec<bool>,
    held: Vec<bool>,
}

impl Share<'_> {
    fn is_whole(&self) -> bool {
        let mut both = self.allocated.iter().zip(&self.held);
        self.allocated.contains(&true) && both.all(|(allocated, held)| *held || !allocated)
    }
}

/// How a title stands that has these bundles.
fn standing(facts: &Facts, name: &str, bundles: &[u32], now: Wall) -> Standing {
    let state = facts.library.titles.get(name).copied().unwrap_or_default();
    let (shares, boxes) = shares(facts, bundles);
    let mut regions: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for share in shares.values() {
        let (holding, clusters) = regions.entry(share.region).or_default();
        *holding += usize::from(share.is_whole());
        *clusters += 1;
    }
    let regions: Vec<Region> = regions
        .into_iter()
        .map(|(region, (holding, clusters))| {
            let policy = facts.registry.fill_clusters.get(region);
            // A region whose policy is not known any more shows nothing before all hold it.
            let percent = policy.map_or(100, |policy| policy.live_share as usize);
            let needed = (clusters * percent).div_ceil(100).max(1);
            Region {
                name: region.to_owned(),
                holding,
                clusters,
                needed,
                live: holding >= needed && !state.withdrawn,
            }
        })
        .collect();
    let found = || bundles.iter().filter_map(|one| facts.library.bundle(*one));
    Standing {
        title: name.to_owned(),
        live: regions.iter().any(|region| region.live),
        withdrawn: state.withdrawn,
        urgent_until: state.urgent_until.filter(|until| *until > now),
        bundles: bundles.len(),
        bytes: found().fold(0, |sum: u64, one: &Bundle| sum.saturating_add(one.bytes)),
        popularity: found().map(|one| one.popularity).fold(0.0, f64::max),
        boxes,
        regions,
    }
}

/// What each cluster has of it, and how many boxes hold all of it.
fn shares<'a>(facts: &'a Facts, bundles: &[u32]) -> (BTreeMap<&'a str, Share<'a>>, usize) {
    let mut shares: BTreeMap<&str, Share<'_>> = BTreeMap::new();
    let mut boxes = 0;
    let appliances = facts.registry.appliances.values();
    // A box that died still counts as one that should hold it; one that was taken away does not.
    for appliance in appliances.filter(|one| one.enabled && !one.revoked) {
        let Some(cluster) = facts.registry.clusters.get(&appliance.cluster) else {
            continue;
        };
        let share = shares.entry(&cluster.name).or_insert_with(|| Share {
            region: &cluster.fill_cluster,
            allocated: vec![false; bundles.len()],
            held: vec![false; bundles.len()],
        });
        let listed = facts.listed.get(&appliance.id);
        let seen = facts.view.boxes.get(&appliance.id);
        let seen = seen.filter(|seen| seen.open.is_ok());
        let mut holds_all = seen.is_some();
        for (place, bundle) in bundles.iter().enumerate() {
            let holds = seen.is_some_and(|seen| seen.bundles.contains(*bundle));
            let is_meant = listed.is_none_or(|listed| !listed.is_leaving(*bundle));
            share.allocated[place] |= is_meant;
            share.held[place] |= holds;
            holds_all &= holds;
        }
        boxes += usize::from(holds_all);
    }
    (shares, boxes)
}

#[cfg(test)]
mod tests;
