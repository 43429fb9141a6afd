//! What to announce, delete and download, in order.
//!
//! Pure: the `survey` calls it with what the store and the budget say. It plans nothing that has no
//! room, and a plan carried out leaves nothing to be planned. What is staged has its room already.

use super::Class;
use super::Space;
use super::Want;
use crate::object::Digest;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Downloads kept of one plan: an hour's work of small objects; the machine plans again before they
/// run out.
pub(super) const PLANNED_MAX: usize = 50_000;

/// All that a plan depends on.
#[derive(Debug)]
pub(super) struct Given<'a> {
    /// Urgent first, then by rank.
    pub(super) wants: &'a [Want],
    pub(super) space: &'a Space,
    pub(super) budget: Budget,
    /// Held, and not to be held: no key of the manifest names it.
    pub(super) surplus: &'a [(Digest, u64)],
    pub(super) announced: &'a BTreeSet<Digest>,
    /// Announced, past its grace and within the pace.
    pub(super) due: &'a [Digest],
}

/// What may be received, in bytes as the cap counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Budget {
    /// The window is open and nothing forbids to use it.
    pub(super) night_open: bool,
    /// Of this window, or of the next one when it is shut.
    pub(super) night_left: u64,
    pub(super) urgent_open: bool,
    pub(super) urgent_left: u64,
    /// What 1,000,000 bytes of content cost.
    pub(super) cost_of_million: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Said first, deleted later.
    pub(super) announce: Vec<(Digest, u64)>,
    pub(super) delete: Vec<Digest>,
    /// Staged for an object that nothing wants.
    pub(super) discard: Vec<Digest>,
    /// In order. The last one of the night may end in the next.
    pub(super) download: Vec<(Want, Class)>,
    /// There is more to download than the plan keeps.
    pub(super) more: bool,
    pub(super) totals: Totals,
}

/// The plan in figures; bytes are of content that is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) wanted_objects: u64,
    pub(super) wanted_bytes: u64,
    /// Objects that this window, or the next one when it is shut, will not finish.
    pub(super) carried_objects: u64,
    pub(super) carried_bytes: u64,
    /// The best rank that is carried over.
    pub(super) carried_from_rank: Option<u32>,
    /// Objects that no volume has room for.
    pub(super) homeless_objects: u64,
    pub(super) homeless_bytes: u64,
}

pub(super) fn plan(given: &Given<'_>) -> Plan {
    let wanted: BTreeSet<Digest> = given.wants.iter().map(|want| want.digest).collect();
    let unwanted = |digest: &Digest| !wanted.contains(digest);
    let surplus: BTreeSet<Digest> = given.surplus.iter().map(|(digest, _)| *digest).collect();
    let fresh =
        |(digest, _): &&(Digest, u64)| !given.announced.contains(digest) && unwanted(digest);
    let staged = given.space.staged.iter();
    let mut plan = Plan {
        announce: given.surplus.iter().filter(fresh).copied().collect(),
        discard: staged
            .map(|(digest, _, _)| *digest)
            .filter(unwanted)
            .collect(),
        ..Plan::default()
    };
    if given.budget.night_open {
        let may_go = |digest: &&Digest| surplus.contains(*digest) && unwanted(digest);
        plan.delete = given.due.iter().filter(may_go).copied().collect();
    }
    // Without a manifest nothing is wanted, and nothing is known to be unwanted.
    if given.space.manifest.is_none() {
        return Plan::default();
    }
    downloads(given, &mut plan);
    plan
}

fn downloads(given: &Given<'_>, plan: &mut Plan) {
    let staged = given.space.staged.iter();
    let staged: BTreeMap<Digest, u64> = staged.map(|(name, _, done)| (*name, *done)).collect();
    let mut free = given.space.free.clone();
    let mut budget = given.budget;
    let mut totals = Totals::default();
    for want in given.wants {
        let done = staged.get(&want.digest);
        let missing = want.length.saturating_sub(done.copied().unwrap_or(0));
        totals.wanted_objects += 1;
        totals.wanted_bytes += missing;
        if done.is_none() && !place(&mut free, want.length) {
            totals.homeless_objects += 1;
            totals.homeless_bytes += missing;
            continue;
        }
        let (class, carried) = budget.spend(want, missing);
        if carried > 0 {
            totals.carried_objects += 1;
            totals.carried_bytes += carried;
            totals.carried_from_rank.get_or_insert(want.rank);
        }
        match class {
            Some(class) if plan.download.len() < PLANNED_MAX => plan.download.push((*want, class)),
            Some(_) => plan.more = true,
            None => {}
        }
    }
    plan.totals = totals;
}

/// Takes the room on the roomiest volume: an object is never split.
fn place(free: &mut [u64], length: u64) -> bool {
    match free.iter_mut().max() {
        Some(room) if *room >= length => {
            *room -= length;
            true
        }
        Some(_) | None => false,
    }
}

impl Budget {
    /// The class in which it is fetched, if at all, and the bytes of it that are left for later.
    fn spend(&mut self, want: &Want, missing: u64) -> (Option<Class>, u64) {
        let cost = self.cost(missing);
        if want.urgent && self.urgent_open && cost <= self.urgent_left {
            self.urgent_left -= cost;
            return (Some(Class::Urgent), 0);
        }
        // In the window an urgent object is the first of the night's.
        let paid = cost.min(self.night_left);
        // Of an empty budget not even an empty object is promised.
        let begun = self.night_open && self.night_left > 0;
        self.night_left -= paid;
        let carried = if paid == cost {
            0
        } else {
            missing - self.content(paid).min(missing)
        };
        (begun.then_some(Class::Night), carried)
    }

    fn cost(&self, content: u64) -> u64 {
        scaled(content, self.cost_of_million, 1_000_000)
    }

    fn content(&self, cost: u64) -> u64 {
        scaled(cost, 1_000_000, self.cost_of_million.max(1))
    }
}

fn scaled(bytes: u64, by: u64, of: u64) -> u64 {
    let product = u128::from(bytes) * u128::from(by) / u128::from(of);
    u64::try_from(product).unwrap_or(u64::MAX)
}
