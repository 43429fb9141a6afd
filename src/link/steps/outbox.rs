//! The sender's side of the steps: what the box tells next, by what the control plane has.
//!
//! Owned by `health`'s task, and by a report while it is under way. A step begins at the position
//! that the last reply acknowledged. A reply that is lost leaves two places where the control plane
//! may stand: the step from the first is sent, its refusal leads to the step from the second, and
//! only then everything goes. Sans-IO but for a line in the log.
//!
//! The set hash is carried along with each step. A journal that lies would be carried with it, so
//! that now and then the hash is made from the set itself; they differ: everything goes.

mod fit;

use super::group_seen;
use crate::link::message::Acked;
use crate::link::message::Catalogue;
use crate::link::message::RouteGroup;
use crate::link::message::Routes;
use crate::object::Digest;
use crate::route_table::RouteTable;
use crate::set_hash::SetHash;
use std::collections::BTreeSet;

/// The greatest integer that every JSON reader has exactly (RFC 8259 section 6).
const EPOCH_MAX: u64 = (1 << 53) - 1;

/// Reports between two comparisons of the carried hash with the set itself, which cost a second of
/// one core for millions of objects: hourly at the usual pace.
const AUDIT_EVERY: u32 = 12;

/// Set and journal are read one after the other while both may move.
const AUDIT_TRIES: u32 = 4;

/// Steps without a reply whose ends are remembered: the first of a silence, whose reply may have
/// been lost, and the last.
const UNANSWERED_MAX: usize = 2;

/// Routes in one step: as many as a control plane takes (docs/LINK.md). More is told as a whole.
const ROUTES_STEP_MAX: usize = 50_000;

/// What changed in a set since some generation: net, so that an item is in at most one list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CatalogueChanges {
    /// The set with them is that of this generation.
    pub generation: u64,
    pub added: Vec<Digest>,
    pub removed: Vec<Digest>,
}

/// The set, as its owner keeps it. Blocking.
pub trait Holdings {
    /// All items, each once, and a generation that they are at least as late as.
    fn all(&self) -> (u64, Vec<Digest>);

    /// What changed since then; `None` when the journal does not go back so far.
    fn since(&self, generation: u64) -> Option<CatalogueChanges>;
}

/// One a boot.
#[derive(Clone, Debug)]
pub struct Outbox {
    epoch: u64,
    /// Where the control plane stands with the catalogue.
    catalogue: Option<Known>,
    /// The same of the routes.
    routes: Option<Told>,
    routes_sent: Option<Told>,
    /// Where the step of the first report without a reply led.
    routes_unanswered: Option<Told>,
    /// Where it may stand, the latest last.
    unanswered: Vec<Known>,
    /// The end of the step that was made last.
    sent: Option<Known>,
    /// Did the last steps of catalogue and routes begin at 0?
    whole: (bool, bool),
    /// Digests in the catalogue's last step.
    catalogue_items: usize,
    /// Reports until the carried hash is compared.
    until_audit: u32,
}

/// A set that was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    generation: u64,
    count: u64,
    hash: SetHash,
    /// It is the set of exactly this generation, so that the journal's changes belong to it.
    exact: bool,
}

/// Routes that were told; they share memory with those of today.
#[derive(Clone, Debug)]
struct Told {
    position: u64,
    routes: RouteTable,
    /// Count and hash of what was told, where that was not everything.
    cut: Option<(u64, SetHash)>,
    /// That there was for it.
    room: usize,
}

impl Outbox {
    /// `drawn`: a random number, once a boot. The epoch is its lower 53 bits, so that no reader of
    /// JSON has to round it.
    pub fn new(drawn: u64) -> Self {
        Self {
            epoch: drawn & EPOCH_MAX,
            catalogue: None,
            routes: None,
            routes_sent: None,
            routes_unanswered: None,
            unanswered: Vec::new(),
            sent: None,
            whole: (true, true),
            catalogue_items: 0,
            until_audit: AUDIT_EVERY,
        }
    }

    /// Takes the positions of a reply.
    pub fn acknowledge(&mut self, acked: Acked) {
        let place = acked.catalogue.filter(|ack| ack.epoch == self.epoch);
        let told = self.sent.iter().chain(&self.catalogue);
        let mut told = told.chain(&self.unanswered);
        self.catalogue = place.and_then(|ack| {
            let known = told.find(|known| known.position() == ack.position);
            known.copied()
        });
        let place = acked.routes.filter(|ack| ack.epoch == self.epoch);
        let told = [
            self.routes_sent.take(),
            self.routes.take(),
            self.routes_unanswered.take(),
        ];
        let mut told = told.into_iter().flatten();
        self.routes = place.and_then(|ack| told.find(|told| told.position == ack.position));
        self.unanswered.clear();
    }

    /// No reply came, or none that says whether the report was taken.
    pub fn unanswered(&mut self) {
        let known = self.routes.as_ref().map(|told| told.position);
        if self.routes_unanswered.is_none() {
            let sent = self.routes_sent.take();
            self.routes_unanswered = sent.filter(|told| Some(told.position) != known);
        }
        let Some(sent) = self.sent.filter(|sent| Some(*sent) != self.catalogue) else {
            return;
        };
        self.unanswered.retain(|known| *known != sent);
        if self.unanswered.len() == UNANSWERED_MAX {
            self.unanswered.pop();
        }
        self.unanswered.push(sent);
    }

    /// After `wrong-position` or `wrong-digest`: the next report begins elsewhere. False when this
    /// one was whole already, so that hurrying helps nobody.
    pub fn refused(&mut self) -> bool {
        let again = self.whole != (true, true);
        let other = self.unanswered.pop().filter(|_| !self.whole.0);
        let routes = self.routes_unanswered.take().filter(|_| !self.whole.1);
        if other.is_some() || routes.is_some() {
            // A report is taken as a whole: both stand where the same one led.
            self.catalogue = other.or(self.catalogue);
            self.routes = routes.or(self.routes.take());
        } else {
            self.forget();
        }
        again
    }

    /// Everything goes with the next report.
    pub fn forget(&mut self) {
        self.catalogue = None;
        self.routes = None;
        self.routes_sent = None;
        self.routes_unanswered = None;
        self.unanswered.clear();
    }

    /// The step of a set without a journal; `items` is called only when they are needed.
    pub fn catalogue<I>(&mut self, generation: u64, items: impl FnOnce() -> I) -> Catalogue
    where
        I: IntoIterator<Item = Digest>,
    {
        if let Some(known) = self
            .catalogue
            .filter(|known| known.generation == generation)
        {
            return self.told(known, Some(known), Vec::new(), Vec::new());
        }
        let items: Vec<Digest> = items().into_iter().collect();
        let known = Known::of(generation, &items, false);
        self.told(known, None, items, Vec::new())
    }

    /// The step from where the control plane stands to the set as it is, which is at least as late
    /// as `generation`: what changed if the journal goes back so far, everything otherwise.
    pub fn catalogue_of(&mut self, generation: u64, holdings: &dyn Holdings) -> Catalogue {
        if let Some(step) = self.change(generation, holdings) {
            return step;
        }
        let (known, items) = settled(holdings);
        self.until_audit = AUDIT_EVERY;
        self.told(known, None, items, Vec::new())
    }

    fn change(&mut self, generation: u64, holdings: &dyn Holdings) -> Option<Catalogue> {
        let base = self.catalogue?;
        let changes = holdings.since(base.generation).filter(|_| base.exact);
        let Some(changes) = changes else {
            let is_same = base.generation >= generation;
            return is_same.then(|| self.told(base, Some(base), Vec::new(), Vec::new()));
        };
        let known = base.with(&changes)?;
        let items = (changes.added.len() + changes.removed.len()) as u64;
        // More than everything: a disk came or went.
        if items > known.count.max(1) {
            return None;
        }
        self.until_audit = self.until_audit.saturating_sub(1);
        if self.until_audit == 0 {
            if has_drifted(known, holdings) {
                tracing::error!(
                    generation = known.generation,
                    "the journal of the catalogue does not lead to what is held; everything is \
                     reported again"
                );
                return None;
            }
            self.until_audit = AUDIT_EVERY;
        }
        Some(self.told(known, Some(base), changes.added, changes.removed))
    }

    fn told(
        &mut self,
        known: Known,
        from: Option<Known>,
        added: Vec<Digest>,
        removed: Vec<Digest>,
    ) -> Catalogue {
        self.sent = Some(known);
        self.whole.0 = from.is_none();
        self.catalogue_items = added.len() + removed.len();
        Catalogue {
            epoch: self.epoch,
            from: from.map_or(0, |known| known.position()),
            to: known.position(),
            count: known.count,
            digest: known.hash.digest(),
            added,
            removed,
        }
    }

    /// The same of the routes, whose generations share what did not change: that is their journal.
    /// The catalogue's step comes first: both share the room of a report.
    pub fn routes(&mut self, generation: u64, hash: &SetHash, routes: &RouteTable) -> Routes {
        let room = fit::room(self.catalogue_items);
        self.routes_within(room, generation, hash, routes)
    }

    fn routes_within(
        &mut self,
        room: usize,
        generation: u64,
        hash: &SetHash,
        routes: &RouteTable,
    ) -> Routes {
        let position = position(generation);
        let base = self.routes.as_ref();
        let change = base.and_then(|base| base.changes(position, routes, room));
        let from = change.as_ref().and(base).map_or(0, |base| base.position);
        self.whole.1 = change.is_none();
        let (added, removed, cut) = match change {
            Some((added, removed)) => (added, removed, base.and_then(|base| base.cut)),
            None => match fit::fit(group_seen(routes.iter()), room) {
                Ok(groups) => (groups, Vec::new(), None),
                Err(fitted) => {
                    tell_cut(routes.len(), fitted.count);
                    let cut = Some((fitted.count, fitted.hash));
                    (fitted.groups, Vec::new(), cut)
                }
            },
        };
        self.routes_sent = Some(Told {
            position,
            routes: routes.clone(),
            cut,
            room,
        });
        let (count, hash) = cut.unwrap_or((routes.len() as u64, *hash));
        Routes {
            epoch: self.epoch,
            from,
            to: position,
            count,
            digest: hash.digest(),
            added,
            removed,
        }
    }
}

/// Everything goes seldom enough for a line each time.
fn tell_cut(routes: usize, reported: u64) {
    tracing::error!(
        routes,
        reported,
        "the routes are more than a report has room for, and those are not reported that serve \
         least; lower max_prefixes or attribute_memory of the neighbours that send so much"
    );
}

impl Told {
    /// What leads from here to `routes`, added and removed; `None` when that is no shorter than
    /// everything, or more than a control plane takes in one step. What was cut cannot be changed.
    fn changes(
        &self,
        position: u64,
        routes: &RouteTable,
        room: usize,
    ) -> Option<(Vec<RouteGroup>, Vec<RouteGroup>)> {
        // What was cut beside a whole catalogue may fit beside a step of it.
        if self.cut.is_some() && room > self.room {
            return None;
        }
        if self.position == position {
            return Some((Vec::new(), Vec::new()));
        }
        if self.position > position || self.cut.is_some() {
            return None;
        }
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        routes.compare(&self.routes, |was, is| {
            removed.extend(was);
            added.extend(is);
        });
        let most = ROUTES_STEP_MAX.min(routes.len());
        if added.len() + removed.len() > most {
            return None;
        }
        let added = group_seen(added.into_iter());
        let removed = group_seen(removed.into_iter());
        fit::fits(added.iter().chain(&removed), room).then_some((added, removed))
    }
}

impl Known {
    fn of(generation: u64, items: &[Digest], exact: bool) -> Self {
        Self {
            generation,
            count: items.len() as u64,
            hash: SetHash::of(items.iter().map(|digest| digest.0)),
            exact,
        }
    }

    fn position(&self) -> u64 {
        position(self.generation)
    }

    /// This set with changes; `None` if they cannot be its.
    fn with(&self, changes: &CatalogueChanges) -> Option<Self> {
        let nothing = changes.added.is_empty() && changes.removed.is_empty();
        let fits = changes.generation > self.generation
            || (nothing && changes.generation == self.generation);
        if !fits {
            return None;
        }
        let mut hash = self.hash;
        for digest in &changes.removed {
            hash.remove(&digest.0);
        }
        for digest in &changes.added {
            hash.add(&digest.0);
        }
        let count = self.count.checked_sub(changes.removed.len() as u64)?;
        Some(Self {
            generation: changes.generation,
            count: count.checked_add(changes.added.len() as u64)?,
            hash,
            exact: true,
        })
    }
}

/// Everything, as of one generation where there is a journal: what changed while it was collected
/// may be in it or not.
fn settled(holdings: &dyn Holdings) -> (Known, Vec<Digest>) {
    let (generation, mut items) = holdings.all();
    let Some(changes) = holdings.since(generation) else {
        return (Known::of(generation, &items, false), items);
    };
    if !changes.added.is_empty() || !changes.removed.is_empty() {
        let lists = changes.added.iter().chain(&changes.removed);
        let touched: BTreeSet<Digest> = lists.copied().collect();
        items.retain(|digest| !touched.contains(digest));
        items.extend_from_slice(&changes.added);
    }
    (Known::of(changes.generation, &items, true), items)
}

/// Does the set itself have another hash than what was carried along?
fn has_drifted(mut carried: Known, holdings: &dyn Holdings) -> bool {
    let (mut own, _) = settled(holdings);
    for _ in 0..AUDIT_TRIES {
        if own.generation == carried.generation {
            return own != carried;
        }
        let roll = |known: Known| known.with(&holdings.since(known.generation)?);
        let (Some(next), Some(other)) = (roll(own), roll(carried)) else {
            return true;
        };
        (own, carried) = (next, other);
    }
    // It moves too fast to be looked at; the next time is as good.
    false
}

fn position(generation: u64) -> u64 {
    generation.saturating_add(1)
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod routes_tests;
