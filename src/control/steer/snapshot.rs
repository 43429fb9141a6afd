//! Everything a decision needs, at one moment: immutable, shared, swapped whole.
//!
//! [`Snapshot::build`] runs off the hot path. What is expensive (judging routes, the index) is
//! taken over from the previous snapshot where nothing of it changed, so that a box that opens or
//! closes costs a few bit sets and not a fleet of routes.

use super::Inputs;
use super::geo::Point;
use super::geo::Position;
use super::index::Index;
use super::index::Set;
use super::index::at;
use super::routes::Compiled;
use super::routes::compile;
use super::trust::Trust;
use crate::control::allocate::Listed;
use crate::control::fleet::Bitmap;
use crate::control::fleet::BoxView;
use crate::control::fleet::Shut;
use crate::control::model::Appliance;
use crate::control::model::Partner;
use crate::control::model::Registry;
use crate::ids::BoxId;
use crate::ids::Profile;
use crate::prefix::Family;
use crate::route::Route;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// What one box serves of its kind, Gb/s: its weight among equals. Only the ratios matter.
const STORAGE_WEIGHT: f32 = 200.0;
const GLOBAL_WEIGHT: f32 = 80.0;
const FLASH_WEIGHT: f32 = 100.0;

/// Names of sites and boxes, rules of partners, and the content, numbered and ready.
#[derive(Debug)]
pub struct Snapshot {
    /// Grows with each snapshot of this process.
    pub generation: u64,
    pub(super) inputs: Inputs,
    pub(super) ground: Arc<Ground>,
    pub(super) index: Arc<Index>,
    /// One bit a box: open to viewers, and has an address of the family (any, IPv4, IPv6).
    usable: [Vec<u64>; 3],
    /// What each box holds, by number.
    holds: Vec<Option<Arc<Bitmap>>>,
    /// What of it each box is to keep, by number; shared by boxes with the same manifest.
    listed: Vec<Option<Arc<Listed>>>,
    /// The routes that `index` was made of, by number.
    heard: Vec<Option<Heard>>,
    /// Boxes of open sites.
    pub(super) fallback: Vec<u32>,
}

/// What the registry says of partners, sites and boxes, as far as steering goes.
#[derive(Debug, Default)]
pub(super) struct Ground {
    partners: BTreeMap<String, Partner>,
    pub(super) sites: Vec<Place>,
    /// By site, then name: boxes of one site are neighbours in every table.
    pub(super) boxes: Vec<Machine>,
    /// Of the same boxes: what a decision reads of each candidate, packed.
    pub(super) hot: Vec<Hot>,
    pub(super) trust: Trust,
}

/// A site.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) label: String,
    partner: String,
    coordinates: (f64, f64),
    open: bool,
    /// `None`: the registry's coordinates are not on Earth; the site counts as farthest.
    pub(super) point: Option<Point>,
}

/// A box.
#[derive(Debug, PartialEq)]
pub(super) struct Machine {
    pub(super) id: BoxId,
    pub(super) site: u32,
    weight: f32,
    pub(super) has_ipv4: bool,
    pub(super) has_ipv6: bool,
    pub(super) https_port: u16,
}

/// 16 bytes: the boxes of a site lie in a cache line or two.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hot {
    /// Stable over restarts and renumbering: it decides which clients a box gets among equals.
    pub(super) seed: u64,
    pub(super) weight: f32,
    pub(super) site: u32,
}

#[derive(Clone, Debug)]
struct Heard {
    routes: Arc<[Route]>,
    compiled: Arc<Compiled>,
}

impl Snapshot {
    /// CPU-bound, up to seconds for a large fleet whose routes all changed: not for a runtime's
    /// thread.
    pub(super) fn build(inputs: Inputs, previous: Option<&Self>) -> Self {
        let ground = Ground::of(&inputs.registry, previous.map(|old| &old.ground));
        let old = previous.filter(|old| Arc::ptr_eq(&old.ground, &ground));
        let views = ground.views(&inputs);
        let (heard, index) = index(&ground, &views, old);
        let fallback = ground.fallback();
        let mut usable = [const { Vec::new() }; 3];
        for (family, bits) in [None, Some(Family::Ipv4), Some(Family::Ipv6)]
            .into_iter()
            .zip(&mut usable)
        {
            let open = ground.boxes.iter().zip(&views).map(|(machine, view)| {
                view.is_some_and(|view| view.open.is_ok()) && machine.has_address(family)
            });
            *bits = bit_set(open);
        }
        Self {
            generation: previous.map_or(0, |old| old.generation) + 1,
            holds: views
                .iter()
                .map(|view| view.map(|view| view.bundles.clone()))
                .collect(),
            listed: ground
                .boxes
                .iter()
                .map(|machine| inputs.listed.get(&machine.id).cloned())
                .collect(),
            heard,
            index,
            usable,
            fallback,
            ground,
            inputs,
        }
    }

    /// Before the first build: no box, no content.
    pub(super) fn empty() -> Self {
        let mut empty = Self::build(Inputs::default(), None);
        empty.generation = 0;
        empty
    }

    pub(super) fn is_usable(&self, number: u32, family: Option<Family>) -> bool {
        let bits = match family {
            None => &self.usable[0],
            Some(Family::Ipv4) => &self.usable[1],
            Some(Family::Ipv6) => &self.usable[2],
        };
        let word = bits.get(at(number / 64));
        word.is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    /// May viewers fetch it there for as long as a film lasts?
    pub(super) fn holds(&self, number: u32, bundle: u32) -> bool {
        let held = self.holds.get(at(number)).and_then(Option::as_ref);
        held.is_some_and(|held| held.contains(bundle)) && !self.is_unlisted(number, bundle)
    }

    /// The box holds it, and its manifest does not list it: it is about to be deleted.
    pub(super) fn is_leaving(&self, number: u32, bundle: u32) -> bool {
        let held = self.holds.get(at(number)).and_then(Option::as_ref);
        held.is_some_and(|held| held.contains(bundle)) && self.is_unlisted(number, bundle)
    }

    fn is_unlisted(&self, number: u32, bundle: u32) -> bool {
        let listed = self.listed.get(at(number)).and_then(Option::as_ref);
        listed.is_some_and(|listed| listed.is_leaving(bundle))
    }

    /// Did an operator take the bundle's title away?
    pub(super) fn is_withdrawn(&self, bundle: u32) -> bool {
        let library = &self.inputs.library;
        let found = library.bundle(bundle);
        found.is_some_and(|bundle| library.is_withdrawn(bundle))
    }

    pub(super) fn machine(&self, number: u32) -> &Machine {
        &self.ground.boxes[at(number)]
    }

    pub(super) fn hot(&self, number: u32) -> Hot {
        self.ground.hot[at(number)]
    }

    pub(super) fn place(&self, number: u32) -> &Place {
        &self.ground.sites[at(number)]
    }

    /// Why a box gets no viewers; `Unknown` for one that the fleet has no word of.
    pub(super) fn shut(&self, number: u32) -> Option<&Shut> {
        match self.inputs.view.boxes.get(&self.machine(number).id) {
            Some(view) => view.open.as_ref().err(),
            None => Some(&Shut::Unknown),
        }
    }

    /// Where a client is, by the operator's table.
    pub(super) fn locate(&self, client: IpAddr) -> Option<Position> {
        self.inputs.locator.locate(client)
    }

    /// Is it the directory of a bundle, and no key of the one above?
    pub(super) fn is_directory(&self, key: &str) -> bool {
        let library = &self.inputs.library;
        let number = self.bundle_of(key);
        let bundle = number.and_then(|number| library.bundle(number));
        bundle.is_some_and(|bundle| bundle.directory == key)
    }

    /// The bundle of a key, or of a directory; `None` for what nobody imported.
    pub(super) fn bundle_of(&self, key: &str) -> Option<u32> {
        let library = &self.inputs.library;
        let named = |directory: &str| {
            let number = library.bundle_numbers.get(directory)?;
            library.bundle(*number)
        };
        let (directory, name) = key.rsplit_once('/').unwrap_or(("", key));
        let has_key = |bundle: &&crate::control::model::Bundle| {
            let found = bundle
                .keys
                .binary_search_by(|known| known.name.as_str().cmp(name));
            found.is_ok()
        };
        let bundle = named(directory).filter(has_key).or_else(|| named(key));
        bundle.map(|bundle| bundle.number)
    }

    /// Boxes known, and those open to viewers.
    pub fn boxes(&self) -> (usize, usize) {
        let open = self.usable[0]
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum();
        (self.ground.boxes.len(), open)
    }

    /// Prefixes in the index.
    pub fn prefixes(&self) -> usize {
        self.index.prefixes()
    }
}

impl Ground {
    /// The old one, if the registry says the same.
    fn of(registry: &Registry, old: Option<&Arc<Self>>) -> Arc<Self> {
        let fresh = Self::new(registry);
        match old {
            Some(old) if old.is_same(&fresh) => old.clone(),
            _ => Arc::new(fresh),
        }
    }

    fn new(registry: &Registry) -> Self {
        let mut ground = Self {
            partners: registry.partners.clone(),
            trust: Trust::new(registry),
            ..Self::default()
        };
        let mut by_site: BTreeMap<&str, Vec<&Appliance>> = BTreeMap::new();
        for appliance in registry.appliances.values() {
            by_site.entry(&appliance.site).or_default().push(appliance);
        }
        for ((label, site), number) in registry.sites.iter().zip(0_u32..) {
            let position = Position::new(site.latitude, site.longitude);
            ground.sites.push(Place {
                label: label.clone(),
                partner: site.partner.clone(),
                coordinates: (site.latitude, site.longitude),
                open: site.open,
                point: position.map(Point::of),
            });
            for appliance in by_site.remove(label.as_str()).unwrap_or_default() {
                ground.boxes.push(Machine::new(appliance, number));
            }
        }
        ground.hot = ground.boxes.iter().map(Machine::hot).collect();
        ground
    }

    fn is_same(&self, other: &Self) -> bool {
        let same_sites = self.sites.len() == other.sites.len()
            && self.sites.iter().zip(&other.sites).all(|(a, b)| {
                (&a.label, &a.partner, a.coordinates, a.open)
                    == (&b.label, &b.partner, b.coordinates, b.open)
            });
        same_sites && self.partners == other.partners && self.boxes == other.boxes
    }

    /// What the fleet says of each box, by number.
    fn views<'a>(&self, inputs: &'a Inputs) -> Vec<Option<&'a BoxView>> {
        let views = &inputs.view.boxes;
        let boxes = self.boxes.iter();
        boxes
            .map(|machine| views.get(&machine.id).map(Arc::as_ref))
            .collect()
    }

    fn fallback(&self) -> Vec<u32> {
        let boxes = self.boxes.iter().zip(0_u32..);
        boxes
            .filter(|(machine, _)| self.sites[at(machine.site)].open)
            .map(|(_, number)| number)
            .collect()
    }

    pub(super) fn partner_of(&self, site: u32) -> Option<u32> {
        self.trust.number(&self.sites[at(site)].partner)
    }
}

impl Machine {
    fn new(appliance: &Appliance, site: u32) -> Self {
        Self {
            id: appliance.id.clone(),
            site,
            weight: match appliance.profile {
                Profile::Storage => STORAGE_WEIGHT,
                Profile::Global => GLOBAL_WEIGHT,
                Profile::Flash => FLASH_WEIGHT,
            },
            has_ipv4: appliance.ipv4.is_some(),
            has_ipv6: appliance.ipv6.is_some(),
            https_port: appliance.https_port,
        }
    }

    fn hot(&self) -> Hot {
        let hash = blake3::hash(self.id.as_str().as_bytes());
        let mut seed = [0; 8];
        seed.copy_from_slice(&hash.as_bytes()[..8]);
        Hot {
            seed: u64::from_le_bytes(seed),
            weight: self.weight,
            site: self.site,
        }
    }

    pub(super) fn has_address(&self, family: Option<Family>) -> bool {
        match family {
            None => true,
            Some(Family::Ipv4) => self.has_ipv4,
            Some(Family::Ipv6) => self.has_ipv6,
        }
    }

    /// `c009-tls001-example-isp.<domain>`, with `ipv4-` or `ipv6-` before it for one family.
    pub(super) fn host_name(&self, family: Option<Family>, domain: &str) -> String {
        let form = match family {
            None => "",
            Some(Family::Ipv4) => "ipv4-",
            Some(Family::Ipv6) => "ipv6-",
        };
        format!("{form}{}.{domain}", self.id)
    }
}

/// The index, and what it was made of. Taken from `old` as far as the routes are the same lists.
fn index(
    ground: &Ground,
    views: &[Option<&BoxView>],
    old: Option<&Snapshot>,
) -> (Vec<Option<Heard>>, Arc<Index>) {
    let nothing = Arc::new(Compiled::default());
    let mut all_same = true;
    let mut heard = Vec::with_capacity(views.len());
    let mut sets: Vec<Set> = Vec::new();
    for ((view, machine), number) in views.iter().zip(&ground.boxes).zip(0_u32..) {
        let before = old.and_then(|old| old.heard[at(number)].as_ref());
        let Some(routes) = view.map(|view| &view.routes) else {
            all_same &= before.is_none();
            heard.push(None);
            join(&mut sets, ground, machine.site, number, &nothing);
            continue;
        };
        let compiled = match before {
            Some(before) if Arc::ptr_eq(&before.routes, routes) => before.compiled.clone(),
            _ => {
                all_same = false;
                Arc::new(compile(
                    &ground.trust,
                    ground.partner_of(machine.site),
                    routes,
                ))
            }
        };
        let compiled = join(&mut sets, ground, machine.site, number, &compiled);
        heard.push(Some(Heard {
            routes: routes.clone(),
            compiled,
        }));
    }
    match old {
        Some(old) if all_same => (heard, old.index.clone()),
        _ => {
            let approved = approved(ground);
            (heard, Arc::new(Index::build(sets, approved)))
        }
    }
}

/// Adds a box to the set of its site that hears the same, or begins one. Returns what they share.
fn join(
    sets: &mut Vec<Set>,
    ground: &Ground,
    site: u32,
    number: u32,
    compiled: &Arc<Compiled>,
) -> Arc<Compiled> {
    // Boxes come site by site: only the last sets can be this site's.
    let mine = sets.iter_mut().rev().take_while(|set| set.site == site);
    for set in mine {
        if Arc::ptr_eq(&set.compiled, compiled) || set.compiled == *compiled {
            set.members.push(number);
            return set.compiled.clone();
        }
    }
    sets.push(Set {
        site,
        partner: ground.partner_of(site),
        members: vec![number],
        compiled: compiled.clone(),
    });
    compiled.clone()
}

fn approved(ground: &Ground) -> BTreeMap<crate::prefix::Prefix, Vec<u32>> {
    let prefixes = Trust::approved_prefixes(ground.partners.values());
    prefixes
        .into_iter()
        .map(|prefix| (prefix, ground.trust.owners(prefix).to_vec()))
        .collect()
}

fn bit_set(flags: impl Iterator<Item = bool>) -> Vec<u64> {
    let mut words = Vec::new();
    for (place, flag) in flags.enumerate() {
        if place % 64 == 0 {
            words.push(0);
        }
        if let (true, Some(word)) = (flag, words.last_mut()) {
            *word |= 1 << (place % 64);
        }
    }
    words
}
