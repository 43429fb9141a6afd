//! Which boxes have which of the wanted objects, the nearest and least busy first.
//!
//! One pass over the boxes, each with the set of wanted objects that it holds; boxes with the same
//! content are looked at once. Peers are enough where there are enough of them: only for what they
//! do not have are routes compared. Sans-IO; called by [`super::desk`].

use super::desk::BOXES_MAX;
use super::desk::Desk;
use super::masters::mix;
use super::rank;
use super::stage::Seat;
use super::stage::Stage;
use super::stage::Who;
use crate::clock::Instant;
use crate::control::fleet::Bitmap;
use crate::link::message::FILL_WANTED_MAX;
use crate::link::message::SourceKind;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Boxes that fetch from one box at a time. More would each get little, and hold connections.
pub(super) const ASKERS_MAX: usize = 32;

/// So many bytes more on the way from one source than from another are a reason to take the other,
/// even if it is farther.
const LOAD_STEP: u64 = 64 << 20;

/// Boxes considered for one object: twice what is offered, so that what this very answer grants
/// spreads over some.
const CONSIDERED_MAX: usize = 8;

/// A set of places in the question.
type Places = [u64; FILL_WANTED_MAX.div_ceil(64)];

/// A box that has something of what is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) place: u32,
    pub(super) who: Who,
    pub(super) kind: SourceKind,
    /// Somebody got wrong bytes from it.
    pub(super) is_demoted: bool,
    /// Bytes granted to others.
    bytes: u64,
    is_elsewhere: bool,
    distance: u32,
}

/// The first difference decides.
type Order = (bool, SourceKind, u64, bool, u32, u64);

#[derive(Debug, Default)]
pub(super) struct Candidates {
    all: Vec<Candidate>,
    /// By place in the question: indexes into `all`.
    by_object: Vec<Vec<usize>>,
    region_holders: Vec<usize>,
    busy: Places,
    hops: u32,
}

struct Holder {
    place: u32,
    places: Places,
}

impl Candidate {
    /// `granted`: bytes of the present answer that come on top.
    pub(super) fn order(&self, granted: u64, asker: Who, object: u32) -> Order {
        (
            self.is_demoted,
            self.kind,
            self.bytes.saturating_add(granted) / LOAD_STEP,
            self.is_elsewhere,
            self.distance,
            mix(mix(asker.0 ^ u64::from(object)) ^ self.who.0),
        )
    }
}

impl Candidates {
    pub(super) fn of(&self, place: usize) -> Vec<Candidate> {
        let indexes = self.by_object.get(place).into_iter().flatten();
        indexes
            .filter_map(|at| self.all.get(*at))
            .copied()
            .collect()
    }

    /// Boxes of the asker's region that are alive, give, hold it, and sent nobody wrong bytes.
    pub(super) fn region_holders(&self, place: usize) -> usize {
        self.region_holders.get(place).copied().unwrap_or(0)
    }

    /// Somebody has it, and all of them have too many askers.
    pub(super) fn are_busy(&self, place: usize) -> bool {
        let none_left = self.by_object.get(place).is_none_or(Vec::is_empty);
        none_left && contains(&self.busy, place)
    }

    /// What has enough sources needs none that are farther.
    fn close(&self, left: &mut Places) {
        for (place, list) in self.by_object.iter().enumerate() {
            let candidates = list.iter().filter_map(|at| self.all.get(*at));
            let sound = candidates.filter(|candidate| !candidate.is_demoted);
            if sound.count() >= BOXES_MAX {
                left[place / 64] &= !(1 << (place % 64));
            }
        }
    }

    /// Where the asker may reach it.
    pub(super) fn addresses(&self, stage: &Stage, asker: &Seat, of: &Candidate) -> Vec<IpAddr> {
        let seat = stage.seat(of.place);
        let relation = seat.and_then(|seat| rank::relation(asker, seat, self.hops));
        relation.map_or_else(Vec::new, |relation| relation.addresses)
    }
}

/// Everybody who has something of `wanted`.
pub(super) fn find(
    stage: &Stage,
    asker: u32,
    wanted: &[u32],
    hops: u32,
    now: Instant,
    desk: &Desk,
) -> Candidates {
    let Some(own) = stage.seat(asker) else {
        return Candidates::default();
    };
    let mut found = Candidates {
        by_object: vec![Vec::new(); wanted.len()],
        region_holders: vec![0; wanted.len()],
        hops,
        ..Candidates::default()
    };
    let (mut peers, mut others) = (Vec::new(), Vec::new());
    for holder in holders(stage, asker, wanted) {
        let Some(seat) = stage.seat(holder.place) else {
            continue;
        };
        if seat.region == own.region && !desk.complaints.is_demoted(now, seat.who) {
            each(&holder.places, |place| found.region_holders[place] += 1);
        }
        let load = desk.loads.of(seat.who);
        if load.askers >= ASKERS_MAX && !desk.loads.is_granted(own.who, seat.who) {
            union(&mut found.busy, &holder.places);
        } else if rank::is_peer(own, seat) {
            peers.push(holder);
        } else {
            others.push(holder);
        }
    }
    let mut left = all(wanted.len());
    let context = Context {
        stage,
        own,
        wanted,
        now,
        desk,
    };
    context.take(&mut found, peers, &mut left);
    found.close(&mut left);
    context.take(&mut found, others, &mut left);
    found
}

struct Context<'a> {
    stage: &'a Stage,
    own: &'a Seat,
    wanted: &'a [u32],
    now: Instant,
    desk: &'a Desk,
}

impl Context<'_> {
    /// Ranks the holders of what is `left` and keeps the best of each object.
    fn take(&self, found: &mut Candidates, mut holders: Vec<Holder>, left: &mut Places) {
        holders.retain(|holder| {
            holder
                .places
                .iter()
                .zip(&*left)
                .any(|(has, left)| has & left > 0)
        });
        let mut distances: HashMap<u32, u32> = HashMap::new();
        let mut ranked: Vec<(Candidate, Places)> = holders
            .iter()
            .filter_map(|holder| {
                let candidate = self.candidate(holder.place, found.hops, &mut distances)?;
                Some((candidate, holder.places))
            })
            .collect();
        ranked.sort_by_cached_key(|(candidate, _)| candidate.order(0, self.own.who, 0));
        for (candidate, places) in ranked {
            if left.iter().all(|word| *word == 0) {
                return;
            }
            let index = found.all.len();
            found.all.push(candidate);
            let places = std::array::from_fn(|at| places[at] & left[at]);
            each(&places, |place| {
                let key = (self.own.who, candidate.who, self.wanted[place]);
                if self.desk.complaints.is_avoided(self.now, key) {
                    return;
                }
                let list = &mut found.by_object[place];
                list.push(index);
                if list.len() >= CONSIDERED_MAX {
                    left[place / 64] &= !(1 << (place % 64));
                }
            });
        }
    }

    fn candidate(
        &self,
        place: u32,
        hops: u32,
        distances: &mut HashMap<u32, u32>,
    ) -> Option<Candidate> {
        let (stage, own) = (self.stage, self.own);
        let seat = stage.seat(place)?;
        let distance = *distances
            .entry(seat.site)
            .or_insert_with(|| stage.distance(own.site, seat.site));
        Some(Candidate {
            place,
            who: seat.who,
            kind: rank::relation(own, seat, hops)?.kind,
            is_demoted: self.desk.complaints.is_demoted(self.now, seat.who),
            bytes: self.desk.loads.of(seat.who).bytes,
            is_elsewhere: seat.site != own.site,
            distance,
        })
    }
}

/// Boxes from which something can be had, with what of `wanted` they hold.
fn holders(stage: &Stage, asker: u32, wanted: &[u32]) -> Vec<Holder> {
    let mut seen: HashMap<*const Bitmap, Places> = HashMap::new();
    let mut holders = Vec::new();
    for (seat, place) in stage.seats.iter().zip(0_u32..) {
        if place == asker || !seat.gives || seat.alive.is_err() {
            continue;
        }
        let held = seen
            .entry(Arc::as_ptr(&seat.known))
            .or_insert_with(|| held(&seat.known, wanted));
        if held.iter().any(|word| *word > 0) {
            let places = *held;
            holders.push(Holder { place, places });
        }
    }
    holders
}

fn held(known: &Bitmap, wanted: &[u32]) -> Places {
    let mut places = Places::default();
    for (place, object) in wanted.iter().enumerate().take(FILL_WANTED_MAX) {
        if known.contains(*object) {
            places[place / 64] |= 1 << (place % 64);
        }
    }
    places
}

fn all(count: usize) -> Places {
    let mut places = Places::default();
    for place in 0..count.min(FILL_WANTED_MAX) {
        places[place / 64] |= 1 << (place % 64);
    }
    places
}

fn contains(places: &Places, place: usize) -> bool {
    let word = places.get(place / 64);
    word.is_some_and(|word| word & (1 << (place % 64)) > 0)
}

fn union(into: &mut Places, from: &Places) {
    for (into, from) in into.iter_mut().zip(from) {
        *into |= from;
    }
}

fn each(places: &Places, mut with: impl FnMut(usize)) {
    for (at, word) in places.iter().enumerate() {
        let mut rest = *word;
        while rest > 0 {
            with(at * 64 + rest.trailing_zeros() as usize);
            rest &= rest - 1;
        }
    }
}
