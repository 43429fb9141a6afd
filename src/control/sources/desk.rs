//! One question answered: per wanted object, who is offered, in which order and from when.
//!
//! The core of the room, sans-IO: a function of the [`super::stage`], of what was asked and
//! granted before, and of `now`. `candidates` finds and orders the boxes, [`super::masters`] and
//! [`super::asked`] say who may go farther; `mod` fetches what the answer's text needs.

use super::ORIGIN;
use super::asked::Asked;
use super::candidates;
use super::candidates::Candidate;
use super::candidates::Candidates;
use super::complaints::Complaints;
use super::load::Loads;
use super::masters::Electorate;
use super::rank;
use super::stage::Region;
use super::stage::Seat;
use super::stage::Stage;
use super::stage::Who;
use crate::clock::Instant;
use crate::control::model::Escalation;
use crate::link::message::SourceKind;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// Boxes named for one object. The fill machine tries them one after the other; with four refusals
/// something else is wrong.
pub(super) const BOXES_MAX: usize = 4;

/// From this length on an object is worth fetching from a box that is itself fetching it: some
/// seconds at the cap. A smaller one is there, and told of, before it is asked for twice.
const UNFINISHED_BYTES: u64 = 32 << 20;

/// An elected master that has not asked for anything for so long is passed over for objects that
/// have waited as long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is remembered between questions.
#[derive(Debug, Default)]
pub(super) struct Desk {
    pub(super) asked: Asked,
    pub(super) loads: Loads,
    pub(super) complaints: Complaints,
    /// Last question of each box; as long as the registry.
    last: HashMap<Who, Instant>,
}

/// An object of the question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) object: u32,
    pub(super) length: u64,
}

/// The answer, without text.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// As wanted.
    pub(super) objects: Vec<Offers>,
    /// Somebody is likely to have more soon.
    pub(super) is_master_at_work: bool,
}

#[derive(Debug, Default)]
pub(super) struct Offers {
    pub(super) boxes: Vec<Offer>,
    /// From when on; zero: at once.
    pub(super) origin: Option<Duration>,
    /// It was not sent to the origin for it before, as far as is remembered.
    pub(super) is_new_at_origin: bool,
    /// Every box that has it has enough askers.
    pub(super) are_busy: bool,
    /// Somebody of the region is fetching it.
    pub(super) is_awaited: bool,
}

#[derive(Debug)]
pub(super) struct Offer {
    /// In the stage.
    pub(super) place: u32,
    pub(super) kind: SourceKind,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) not_before: Duration,
    /// It is fetching the object itself, and gives the chunks that it has.
    pub(super) is_unfinished: bool,
}

/// One question under way.
struct Question<'a> {
    now: Instant,
    stage: &'a Stage,
    asker: &'a Seat,
    region: &'a Region,
    candidates: Candidates,
    electorate: Electorate<'a>,
    /// By bundle.
    elected: BTreeMap<u32, Vec<Who>>,
    /// What this answer grants so far.
    granted: BTreeMap<Who, u64>,
}

/// How one object stands for the asker.
struct Standing {
    waited: Duration,
    /// Fetches it first for its region: from anywhere, without waiting.
    goes_first: bool,
    /// Others of the region that were sent to the origin for it.
    fetching: Vec<Who>,
    is_somebody_at_work: bool,
}

impl Offers {
    /// Can all of it be fetched from somewhere at once?
    pub(super) fn is_usable(&self) -> bool {
        let is_usable = |offer: &Offer| offer.not_before.is_zero() && !offer.is_unfinished;
        self.origin == Some(Duration::ZERO) || self.boxes.iter().any(is_usable)
    }
}

impl Desk {
    /// Answers, and counts what it grants.
    pub(super) fn plan(
        &mut self,
        stage: &Stage,
        asker: u32,
        wanted: &[Wanted],
        now: Instant,
    ) -> Plan {
        let Some(seat) = stage.seat(asker) else {
            return Plan::default();
        };
        let Some(region) = stage.regions.get(seat.region as usize) else {
            return Plan::default();
        };
        self.loads.sweep(now);
        self.loads.take_back(seat.who);
        self.last.insert(seat.who, now);
        if self.last.len() > 2 * stage.seats.len() + 16 {
            self.last.retain(|who, _| stage.place(*who).is_some());
        }
        let hops = region.policy.escalation.hops_allowed;
        let numbers: Vec<u32> = wanted.iter().map(|wanted| wanted.object).collect();
        let candidates = candidates::find(stage, asker, &numbers, hops, now, self);
        let mut question = Question {
            now,
            stage,
            asker: seat,
            region,
            candidates,
            electorate: Electorate::of(stage, region, |who| self.complaints.is_demoted(now, who)),
            elected: BTreeMap::new(),
            granted: BTreeMap::new(),
        };
        let mut plan = Plan::default();
        for (place, wanted) in wanted.iter().enumerate() {
            let standing = question.standing(self, place, *wanted);
            let offers = question.offers(self, place, *wanted, &standing);
            let is_coming = offers.boxes.iter().any(|offer| offer.is_unfinished);
            let is_at_work = standing.is_somebody_at_work || is_coming;
            plan.is_master_at_work |= is_at_work && !offers.is_usable();
            plan.objects.push(offers);
        }
        let granted = std::mem::take(&mut question.granted);
        self.loads.grant(now, seat.who, granted);
        plan
    }

    /// Was the box sent to the origin for it, so that it may not have come to it yet?
    pub(super) fn is_fetching(&self, now: Instant, region: u64, object: u32, who: Who) -> bool {
        let leased = self.asked.leased(now, region, object, |other| other == who);
        !leased.is_empty()
    }

    fn is_present(&self, now: Instant, who: Who) -> bool {
        let last = self.last.get(&who);
        last.is_some_and(|last| now.saturating_duration_since(*last) < PATIENCE)
    }
}

impl Question<'_> {
    /// Is the asker one of those who fetch the object first for their region?
    fn standing(&mut self, desk: &mut Desk, place: usize, wanted: Wanted) -> Standing {
        let (now, own) = (self.now, self.asker.who);
        let first = desk.asked.ask(now, self.region.key, wanted.object);
        let waited = now.saturating_duration_since(first);
        let stage = self.stage;
        // What a liar fetches is of no use to the region.
        let counts = |who| {
            let lives = stage.of_who(who).is_some_and(|seat| seat.alive.is_ok());
            lives && !desk.complaints.is_demoted(now, who)
        };
        let leased = desk
            .asked
            .leased(now, self.region.key, wanted.object, |who| {
                who == own || counts(who)
            });
        let masters = self.masters(desk, wanted.object, waited);
        let is_master = masters.contains(&own);
        let served = self.candidates.region_holders(place) + leased.len();
        let at_work = leased.iter().chain(&masters).filter(|who| **who != own);
        Standing {
            waited,
            goes_first: leased.contains(&own) || (is_master && served < self.electorate.masters()),
            is_somebody_at_work: { at_work }.any(|who| desk.is_present(now, *who)),
            fetching: leased.into_iter().filter(|who| *who != own).collect(),
        }
    }

    /// The elected, without those who do not come.
    fn masters(&mut self, desk: &Desk, object: u32, waited: Duration) -> Vec<Who> {
        let bundle = self.stage.content.bundle_of(object);
        let (bundle, title) = bundle.unwrap_or((u32::MAX, 0));
        let elected = self
            .elected
            .entry(bundle)
            .or_insert_with(|| self.electorate.elect(title, bundle));
        let comes = |who: &&Who| {
            let is_in_time = waited < PATIENCE || desk.is_present(self.now, **who);
            is_in_time && !desk.complaints.is_demoted(self.now, **who)
        };
        let mut masters: Vec<Who> = elected.iter().filter(comes).copied().collect();
        masters.truncate(self.electorate.masters());
        if masters.is_empty() {
            // Nobody else is there to do it.
            masters.push(self.asker.who);
        }
        masters
    }

    fn offers(
        &mut self,
        desk: &mut Desk,
        place: usize,
        wanted: Wanted,
        standing: &Standing,
    ) -> Offers {
        let policy = self.region.policy.escalation;
        let mut candidates = self.candidates.of(place);
        // A small object is no reason to go elsewhere, many of them are.
        candidates.sort_by_cached_key(|candidate| {
            let granted = self.granted.get(&candidate.who).copied().unwrap_or(0);
            candidate.order(granted, self.asker.who, wanted.object)
        });
        let mut offers = Offers {
            are_busy: self.candidates.are_busy(place),
            is_awaited: standing.is_somebody_at_work,
            ..Offers::default()
        };
        let mut usable = 0;
        let mut named: Vec<SourceKind> = Vec::new();
        for candidate in &candidates {
            let Some(not_before) = not_before(&policy, candidate.kind, standing) else {
                continue;
            };
            if not_before.is_zero() && usable < BOXES_MAX {
                usable += 1;
            } else if not_before.is_zero() || named.contains(&candidate.kind) {
                continue;
            } else {
                named.push(candidate.kind);
            }
            offers.boxes.push(self.offer(candidate, not_before));
        }
        offers
            .boxes
            .sort_by_key(|offer| !offer.not_before.is_zero());
        let first = offers
            .boxes
            .first()
            .filter(|offer| offer.not_before.is_zero());
        if let Some(seat) = first.and_then(|offer| self.stage.seat(offer.place)) {
            let granted = self.granted.entry(seat.who).or_default();
            *granted = granted.saturating_add(wanted.length);
        }
        let is_held = candidates.iter().any(|candidate| {
            let at = not_before(&policy, candidate.kind, standing);
            !candidate.is_demoted && at == Some(Duration::ZERO)
        });
        offers.origin = self.origin(desk, wanted.object, standing, is_held);
        if offers.origin == Some(Duration::ZERO) {
            let region = self.region.key;
            let who = self.asker.who;
            offers.is_new_at_origin = desk.asked.lease(self.now, region, wanted.object, who);
        }
        if wanted.length >= UNFINISHED_BYTES && !offers.is_usable() {
            self.unfinished(desk, wanted, standing, &mut offers);
        }
        offers
    }

    /// Boxes of the region that are at the origin for it at this moment: what they have of it need
    /// not be waited for. The origin gives no byte more by it.
    fn unfinished(
        &mut self,
        desk: &Desk,
        wanted: Wanted,
        standing: &Standing,
        offers: &mut Offers,
    ) {
        let policy = self.region.policy.escalation;
        for who in standing.fetching.iter().take(BOXES_MAX) {
            let Some(place) = self.stage.place(*who) else {
                continue;
            };
            let seat = self.stage.seat(place).filter(|seat| seat.gives);
            let relation =
                seat.and_then(|seat| rank::relation(self.asker, seat, policy.hops_allowed));
            let Some(relation) = relation else {
                continue;
            };
            let key = (self.asker.who, *who, wanted.object);
            let is_crowded = desk.loads.of(*who).askers >= candidates::ASKERS_MAX;
            let wait = not_before(&policy, relation.kind, standing);
            let is_named = offers.boxes.iter().any(|offer| offer.place == place);
            let is_shunned = is_crowded || is_named || desk.complaints.is_avoided(self.now, key);
            if wait == Some(Duration::ZERO) && !is_shunned {
                let offer = Offer {
                    place,
                    kind: relation.kind,
                    addresses: relation.addresses,
                    not_before: Duration::ZERO,
                    is_unfinished: true,
                };
                offers.boxes.insert(0, offer);
                let granted = self.granted.entry(*who).or_default();
                *granted = granted.saturating_add(wanted.length);
            }
        }
    }

    fn offer(&self, candidate: &Candidate, not_before: Duration) -> Offer {
        Offer {
            place: candidate.place,
            kind: candidate.kind,
            addresses: self.candidates.addresses(self.stage, self.asker, candidate),
            not_before,
            is_unfinished: false,
        }
    }

    /// From when on the asker may go to the origin. A master goes at once, unless somebody within
    /// its reach has the object already.
    fn origin(
        &self,
        desk: &mut Desk,
        object: u32,
        standing: &Standing,
        is_held: bool,
    ) -> Option<Duration> {
        let key = (self.asker.who, ORIGIN, object);
        if desk.complaints.is_avoided(self.now, key) {
            return None;
        }
        let goes_at_once = standing.goes_first && !is_held;
        let wait = self.region.policy.escalation.origin_wait;
        let wait = wait.map(|wait| wait.saturating_sub(standing.waited));
        if goes_at_once {
            Some(Duration::ZERO)
        } else {
            wait
        }
    }
}

/// From when on a box of this kind may be asked; `None`: never.
fn not_before(policy: &Escalation, kind: SourceKind, standing: &Standing) -> Option<Duration> {
    if standing.goes_first {
        return Some(Duration::ZERO);
    }
    let wait = match kind {
        SourceKind::Peer => Some(Duration::ZERO),
        SourceKind::Tier => Some(policy.hops_wait),
        SourceKind::Network => policy.network_wait,
        SourceKind::Origin => policy.origin_wait,
    };
    wait.map(|wait| wait.saturating_sub(standing.waited))
}
