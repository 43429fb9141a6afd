//! Steps between positions of a set: what a box sends of its catalogue and routes, and how the
//! control plane checks it before it believes it. Sans-IO.
//!
//! `health` keeps an [`Outbox`] a boot; the control plane's `fleet` keeps a [`Place`] a box and set
//! and calls [`take_catalogue`] and [`take_routes`]. A position is a generation plus one, so that
//! position 0 is always the empty set.

mod outbox;

pub use outbox::CatalogueChanges;
pub use outbox::Holdings;
pub use outbox::Outbox;

use super::message::Ack;
use super::message::Catalogue;
use super::message::Code;
use super::message::RouteGroup;
use super::message::Routes;
use crate::object::Digest;
use crate::route::Attributes;
use crate::route::Item;
use crate::route::Packer;
use crate::route::Route;
use crate::route_table::RouteTable;
use crate::route_table::Seen;
use crate::route_table::Share;
use crate::set_hash::SetHash;
use std::collections::HashMap;
use std::sync::Arc;

/// What the receiver knows of the set it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub ack: Ack,
    pub count: u64,
    pub hash: SetHash,
}

/// A step that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<T> {
    /// What is held is what there is.
    Same,
    /// Forget what is held; this is everything, sorted.
    Whole { place: Place, items: Vec<T> },
    /// Change what is held.
    Change {
        place: Place,
        added: Vec<T>,
        removed: Vec<T>,
    },
}

/// Why a step was refused. What was held stays; the box sends everything with its next report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    #[error(
        "the step of the {set} goes from {from} to {to} of epoch {epoch}, but {held} is held; \
         send a step from 0"
    )]
    Position {
        set: &'static str,
        epoch: u64,
        from: u64,
        to: u64,
        held: Held,
    },
    #[error("the {set} step says that the set has {claimed} items, but it has {counted}")]
    Count {
        set: &'static str,
        claimed: u64,
        counted: u64,
    },
    #[error("the {set} step names an item twice, or removes from nothing")]
    NoSet { set: &'static str },
    #[error("the set hash of the {set} is {claimed}, but that of the items is {computed}")]
    Digest {
        set: &'static str,
        claimed: Digest,
        computed: Digest,
    },
}

/// For messages: what the receiver has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held(Option<Ack>);

/// A step without its items: the same for both sets.
struct Claim {
    set: &'static str,
    epoch: u64,
    from: u64,
    to: u64,
    count: u64,
    digest: Digest,
}

enum Kind {
    Same,
    Whole,
    Change(Place),
}

impl StepError {
    pub fn code(&self) -> Code {
        match self {
            Self::Position { .. } => Code::WrongPosition,
            Self::Count { .. } | Self::NoSet { .. } | Self::Digest { .. } => Code::WrongDigest,
        }
    }
}

/// Checks a step of a catalogue against what is held.
pub fn take_catalogue(held: Option<&Place>, step: &Catalogue) -> Result<Step<Digest>, StepError> {
    let claim = Claim {
        set: "catalogue",
        epoch: step.epoch,
        from: step.from,
        to: step.to,
        count: step.count,
        digest: step.digest,
    };
    let (added, removed) = (step.added.clone(), step.removed.clone());
    claim.take(held, added, removed, |hash, item, adds| {
        if adds {
            hash.add(&item.0);
        } else {
            hash.remove(&item.0);
        }
    })
}

/// Checks a step of the routes against what is held.
pub fn take_routes(held: Option<&Place>, step: &Routes) -> Result<Step<Route>, StepError> {
    let claim = Claim {
        set: "routes",
        epoch: step.epoch,
        from: step.from,
        to: step.to,
        count: step.count,
        digest: step.digest,
    };
    let (added, removed) = (ungroup(&step.added), ungroup(&step.removed));
    let mut items = Items::default();
    claim.take(held, added, removed, |hash, route, adds| {
        let item = items.of(route);
        if adds {
            hash.add(item);
        } else {
            hash.remove(item);
        }
    })
}

/// Items of many routes: the digest of attributes that routes share is made once, because a router
/// chooses how long they are and how many routes share them.
#[derive(Debug, Default)]
struct Items {
    packer: Packer,
    /// Kept alive, so that no place is that of others later.
    digests: HashMap<usize, (Arc<Attributes>, Digest)>,
    item: Item,
}

impl Items {
    fn of(&mut self, route: &Route) -> &[u8] {
        let (packer, attributes) = (&mut self.packer, &route.attributes);
        let place = Arc::as_ptr(attributes).addr();
        let (_, digest) = self.digests.entry(place).or_insert_with(|| {
            let digest = Digest::of(packer.pack(attributes));
            (Arc::clone(attributes), digest)
        });
        self.item.attributes(digest);
        self.item
            .source(route.class, &route.neighbour, route.filtered);
        self.item.place(&route.prefix, route.path_id);
        self.item.bytes()
    }
}

impl Claim {
    fn take<T: Ord>(
        &self,
        held: Option<&Place>,
        mut added: Vec<T>,
        mut removed: Vec<T>,
        mut change: impl FnMut(&mut SetHash, &T, bool),
    ) -> Result<Step<T>, StepError> {
        let set = self.set;
        added.sort_unstable();
        removed.sort_unstable();
        let twice = |items: &[T]| items.windows(2).any(|pair| pair[0] == pair[1]);
        if twice(&added) || twice(&removed) {
            return Err(StepError::NoSet { set });
        }
        let kind = self.kind(held, added.is_empty() && removed.is_empty())?;
        let (mut hash, count) = match kind {
            Kind::Same => return Ok(Step::Same),
            Kind::Whole if removed.is_empty() => (SetHash::default(), 0),
            Kind::Whole => return Err(StepError::NoSet { set }),
            Kind::Change(place) => (place.hash, place.count),
        };
        removed
            .iter()
            .for_each(|item| change(&mut hash, item, false));
        added.iter().for_each(|item| change(&mut hash, item, true));
        let counted = count
            .checked_sub(removed.len() as u64)
            .ok_or(StepError::NoSet { set })?
            .saturating_add(added.len() as u64);
        let place = self.believed(counted, hash)?;
        Ok(match kind {
            Kind::Same | Kind::Whole => Step::Whole {
                place,
                items: added,
            },
            Kind::Change(_) => Step::Change {
                place,
                added,
                removed,
            },
        })
    }

    /// Where the step begins, and whether that is where we are.
    fn kind(&self, held: Option<&Place>, is_empty: bool) -> Result<Kind, StepError> {
        if self.from == 0 {
            return Ok(Kind::Whole);
        }
        let wrong = || StepError::Position {
            set: self.set,
            epoch: self.epoch,
            from: self.from,
            to: self.to,
            held: Held(held.map(|place| place.ack)),
        };
        let from = Ack {
            epoch: self.epoch,
            position: self.from,
        };
        let place = held.filter(|place| place.ack == from).ok_or_else(wrong)?;
        if self.to > self.from {
            return Ok(Kind::Change(*place));
        }
        if self.to < self.from || !is_empty {
            return Err(wrong());
        }
        self.believed(place.count, place.hash)?;
        Ok(Kind::Same)
    }

    fn believed(&self, counted: u64, hash: SetHash) -> Result<Place, StepError> {
        let (set, claimed) = (self.set, self.count);
        if counted != claimed {
            return Err(StepError::Count {
                set,
                claimed,
                counted,
            });
        }
        let (claimed, computed) = (self.digest, hash.digest());
        if claimed != computed {
            return Err(StepError::Digest {
                set,
                claimed,
                computed,
            });
        }
        let ack = Ack {
            epoch: self.epoch,
            position: self.to,
        };
        Ok(Place {
            ack,
            count: counted,
            hash,
        })
    }
}

/// Routes that share everything but prefix and path identifier, together. The same routes make the
/// same groups, whatever the order was.
pub fn group(routes: &[Route]) -> Vec<RouteGroup> {
    let table: RouteTable = routes.iter().cloned().collect();
    group_seen(table.iter())
}

/// The same of a table's routes. Attributes are unpacked once a set, however many groups have it:
/// a router chooses how large a set is and how often it is used.
pub(super) fn group_seen<'a>(routes: impl Iterator<Item = Seen<'a>>) -> Vec<RouteGroup> {
    let mut routes: Vec<(Share, Seen<'a>)> = routes.map(|seen| (seen.share(), seen)).collect();
    // Stable: the prefixes of a group stay sorted.
    routes.sort_by_key(|(share, _)| *share);
    let shared = routes.chunk_by(|(one, _), (other, _)| one == other);
    let mut last: Option<(Arc<Attributes>, &Share)> = None;
    let groups = shared.map(|group| {
        let (share, first) = &group[0];
        let attributes = match &last {
            Some((attributes, before)) if before.is_of_set(share) => Arc::clone(attributes),
            Some(_) | None => Arc::new(first.packed().attributes()),
        };
        last = Some((Arc::clone(&attributes), share));
        (attributes, group)
    });
    let mut groups: Vec<_> = groups.collect();
    groups.sort_by(|(_, one), (_, other)| one[0].1.place().cmp(&other[0].1.place()));
    let groups = groups.into_iter().map(|(attributes, group)| {
        let first = &group[0].1;
        let has_paths = group.iter().any(|(_, seen)| seen.path_id != 0);
        let paths = group.iter().filter(|_| has_paths);
        RouteGroup {
            neighbour: first.neighbour().to_string(),
            class: first.class(),
            attributes,
            filtered: first.filtered(),
            prefixes: group.iter().map(|(_, seen)| seen.prefix).collect(),
            path_ids: paths.map(|(_, seen)| seen.path_id).collect(),
        }
    });
    groups.collect()
}

/// The routes of groups, in their order; those of a group share their attributes.
pub fn ungroup(groups: &[RouteGroup]) -> Vec<Route> {
    let mut routes = Vec::with_capacity(groups.iter().map(|group| group.prefixes.len()).sum());
    for group in groups {
        let neighbour: Arc<str> = group.neighbour.as_str().into();
        let paths = group.path_ids.iter().copied().chain(std::iter::repeat(0));
        routes.extend(
            group
                .prefixes
                .iter()
                .zip(paths)
                .map(|(prefix, path_id)| Route {
                    prefix: *prefix,
                    neighbour: Arc::clone(&neighbour),
                    path_id,
                    class: group.class,
                    attributes: Arc::clone(&group.attributes),
                    filtered: group.filtered,
                }),
        );
    }
    routes
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(ack) => write!(f, "position {} of epoch {}", ack.position, ack.epoch),
            None => f.write_str("nothing"),
        }
    }
}

#[cfg(test)]
mod tests;
