//! The answer's text: URLs, and one ticket a source for as many objects as it may name.
//!
//! Nothing is written for a source whose time has not come: no URL and no ticket (SAFETY: fill).
//! CPU-bound: signs.

use super::GRANTED;
use super::ORIGIN_ID;
use super::desk::Offers;
use super::desk::Plan;
use super::metrics::Counters;
use super::origins::Url;
use super::origins::Way;
use super::stage::Seat;
use super::stage::Stage;
use crate::clock;
use crate::clock::Wall;
use crate::control::model::Object;
use crate::ids::BoxId;
use crate::link::manifest::Signer;
use crate::link::message;
use crate::link::message::FillSource;
use crate::link::message::FillSources;
use crate::link::message::ObjectSources;
use crate::link::message::SourceKind;
use crate::link::ticket::DIGESTS_MAX;
use crate::link::ticket::Ticket;
use crate::object::Digest;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// A box whose clock is a little behind may begin at once.
const BACKDATED_S: u64 = 30;

/// What one object may cost beyond twice its length: heads of many small resumptions.
const OBJECT_EXTRA_BYTES: u64 = 1 << 20;

/// A box that is itself receiving an object is named for so long: then others may have it.
const UNFINISHED_S: u64 = 60;

/// How much longer a box may wait that is served, or that nobody is about to serve.
const CALM: u32 = 6;

/// An object of the question.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) digest: Digest,
    pub(super) number: u32,
    pub(super) length: u64,
    pub(super) tree: Vec<[u8; 32]>,
    /// In the plan.
    pub(super) place: Option<usize>,
    pub(super) problem: Option<&'static str>,
}

/// Everything that the answer is written from.
pub(super) struct Paper {
    pub(super) stage: Arc<Stage>,
    pub(super) asker: u32,
    pub(super) found: Vec<Found>,
    pub(super) plan: Plan,
    /// By place in the plan.
    pub(super) ways: Vec<Option<Way>>,
    pub(super) ask_again: Duration,
    /// 0 to 1.
    pub(super) jitter: f64,
    pub(super) wall: Wall,
}

/// Tickets under way: by source the objects of each, with their bytes.
#[derive(Default)]
struct Drafts {
    tickets: Vec<Draft>,
    /// The ticket of a source that still has room.
    open: BTreeMap<String, usize>,
}

struct Draft {
    source: String,
    digests: Vec<Digest>,
    bytes: u64,
}

impl Found {
    pub(super) fn of(number: u32, object: &Object) -> Self {
        Self {
            digest: object.digest,
            number,
            length: object.length,
            tree: Vec::new(),
            place: None,
            problem: None,
        }
    }

    pub(super) fn not(digest: Digest, problem: &'static str) -> Self {
        Self {
            digest,
            number: u32::MAX,
            length: 0,
            tree: Vec::new(),
            place: None,
            problem: Some(problem),
        }
    }
}

/// Writes and signs.
pub(super) fn write(paper: Paper, signer: &Signer, counters: &Counters) -> FillSources {
    let mut drafts = Drafts::default();
    let mut answered = Vec::with_capacity(paper.found.len());
    for found in &paper.found {
        let offers = found.place.and_then(|place| paper.plan.objects.get(place));
        let sources = offers.map_or_else(Vec::new, |offers| {
            sources(&paper, found, offers, &mut drafts)
        });
        count(&paper, found, &sources, counters);
        let is_usable = sources.iter().any(|source| !source.urls.is_empty());
        answered.push(ObjectSources {
            digest: found.digest,
            length: found.length,
            // Of no use without a source.
            tree: if is_usable {
                text(&found.tree)
            } else {
                String::new()
            },
            problem: problem(found, offers, &sources),
            sources,
        });
    }
    let tickets = match paper.stage.seat(paper.asker) {
        Some(asker) => drafts.sign(&asker.id, rate_bps(&paper.stage, asker), paper.wall, signer),
        None => Vec::new(),
    };
    FillSources {
        v: message::VERSION,
        ask_again_s: ask_again(&paper, &answered),
        objects: answered,
        tickets,
    }
}

/// What the site of the asker lets it receive: no source need send faster.
fn rate_bps(stage: &Stage, asker: &Seat) -> Option<u64> {
    let appliance = stage.registry.appliances.get(&asker.id)?;
    let site = stage.registry.sites.get(&appliance.site)?;
    site.fill.rate_limit_bps
}

fn sources(paper: &Paper, found: &Found, offers: &Offers, drafts: &mut Drafts) -> Vec<FillSource> {
    let mut sources = Vec::new();
    for offer in &offers.boxes {
        let Some(seat) = paper.stage.seat(offer.place) else {
            continue;
        };
        let is_time = offer.not_before.is_zero();
        let url = |address: &IpAddr| {
            let digest = found.digest;
            match address {
                IpAddr::V4(address) => format!("https://{address}:{}/fill/{digest}", seat.port),
                IpAddr::V6(address) => format!("https://[{address}]:{}/fill/{digest}", seat.port),
            }
        };
        let addresses = offer.addresses.iter().filter(|_| is_time);
        sources.push(FillSource {
            id: seat.id.to_string(),
            kind: offer.kind,
            urls: addresses.map(url).collect(),
            not_before_s: seconds(offer.not_before),
            ticket: is_time.then(|| drafts.add(seat.id.as_str(), found)),
            etag: None,
            expires_s: if offer.is_unfinished {
                UNFINISHED_S
            } else {
                GRANTED.as_secs()
            },
        });
    }
    let way = found
        .place
        .and_then(|place| paper.ways.get(place)?.as_ref());
    match (offers.origin, way) {
        (Some(Duration::ZERO), Some(way)) => sources.push(origin(found, way, drafts)),
        // It may not be offered, or cannot be.
        (Some(Duration::ZERO), None) | (None, _) => {}
        (Some(later), _) => sources.push(FillSource {
            not_before_s: seconds(later),
            ..blank_origin()
        }),
    }
    sources
}

fn origin(found: &Found, way: &Way, drafts: &mut Drafts) -> FillSource {
    let (url, ticket) = match &way.url {
        Url::Presigned(url) => (url.clone(), None),
        Url::Gateway => {
            let url = format!("/v1/origin/{}", found.digest);
            (url, Some(drafts.add(ORIGIN_ID, found)))
        }
    };
    FillSource {
        urls: vec![url],
        ticket,
        etag: Some(way.etag.clone()),
        ..blank_origin()
    }
}

fn blank_origin() -> FillSource {
    FillSource {
        id: ORIGIN_ID.to_owned(),
        kind: SourceKind::Origin,
        urls: Vec::new(),
        not_before_s: 0,
        ticket: None,
        etag: None,
        expires_s: GRANTED.as_secs(),
    }
}

/// Rounded up: never before its time.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

fn text(tree: &[[u8; 32]]) -> String {
    let mut text = String::with_capacity(64 * tree.len());
    for chunk in tree {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{}", Digest(*chunk));
    }
    text
}

/// Why there is no source at all. That another box of the region fetches it first is none.
fn problem(found: &Found, offers: Option<&Offers>, sources: &[FillSource]) -> Option<String> {
    if !sources.is_empty() {
        return None;
    }
    let problem = match (found.problem, offers) {
        (Some(problem), _) => problem,
        (None, Some(offers)) if offers.are_busy => {
            "every box that has it is giving to as many others as it may; ask again"
        }
        (None, Some(offers)) if offers.origin == Some(Duration::ZERO) => {
            "the place it was imported from cannot be used; see the control plane's log"
        }
        (None, Some(offers)) if offers.is_awaited => return None,
        (None, Some(_) | None) => {
            "no box within reach has it, and this box may not fetch it from the origin"
        }
    };
    Some(problem.to_owned())
}

fn count(paper: &Paper, found: &Found, sources: &[FillSource], counters: &Counters) {
    match sources.iter().find(|source| !source.urls.is_empty()) {
        Some(first) => counters.offer(first.kind),
        None => Counters::add(&counters.waiting, 1),
    }
    let place = found.place;
    let way = place.and_then(|place| paper.ways.get(place)?.as_ref());
    let offers = place.and_then(|place| paper.plan.objects.get(place));
    let is_presigned = way.is_some_and(|way| matches!(way.url, Url::Presigned(_)));
    if is_presigned && offers.is_some_and(|offers| offers.is_new_at_origin) {
        Counters::add(&counters.presigned_bytes, found.length);
    }
}

/// Soon while somebody is at work on what is missing, else when there is more to be had.
fn ask_again(paper: &Paper, answered: &[ObjectSources]) -> u64 {
    let is_served = |object: &ObjectSources| {
        let mut sources = object.sources.iter();
        sources.any(|source| !source.urls.is_empty())
    };
    let base = paper.ask_again;
    let time = if paper.plan.is_master_at_work {
        base / 2
    } else {
        let waiting = { answered.iter() }.filter(|object| !is_served(object));
        let next = waiting.flat_map(|object| &object.sources);
        let next = next.map(|source| source.not_before_s).min();
        let next = next.map_or(base * CALM, Duration::from_secs);
        next.clamp(base, base * CALM)
    };
    // Up to a quarter more, so that boxes of a site do not come back together.
    seconds(time.mul_f64(1.0 + paper.jitter.clamp(0.0, 1.0) / 4.0)).max(1)
}

impl Drafts {
    /// The ticket for this object at this source.
    fn add(&mut self, source: &str, found: &Found) -> usize {
        let bytes = found.length.saturating_mul(2);
        let bytes = bytes.saturating_add(OBJECT_EXTRA_BYTES);
        if let Some(at) = self.open.get(source)
            && let Some(draft) = self.tickets.get_mut(*at)
            && draft.digests.len() < DIGESTS_MAX
        {
            draft.digests.push(found.digest);
            draft.bytes = draft.bytes.saturating_add(bytes);
            return *at;
        }
        self.tickets.push(Draft {
            source: source.to_owned(),
            digests: vec![found.digest],
            bytes,
        });
        let at = self.tickets.len() - 1;
        self.open.insert(source.to_owned(), at);
        at
    }

    fn sign(
        self,
        asker: &BoxId,
        rate_bps: Option<u64>,
        wall: Wall,
        signer: &Signer,
    ) -> Vec<String> {
        let now = clock::unix_seconds(wall);
        let drafts = self.tickets.into_iter();
        drafts
            .map(|draft| {
                signer.ticket(&Ticket {
                    asker: asker.clone(),
                    source: draft.source,
                    digests: draft.digests,
                    not_before: now.saturating_sub(BACKDATED_S),
                    expires: now.saturating_add(GRANTED.as_secs()),
                    bytes: draft.bytes,
                    rate_bps,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Yard;
    use super::*;

    #[test]
    fn a_ticket_has_the_rate_of_the_site_of_its_asker_where_there_is_one() {
        let mut yard = Yard::new(2, 1);
        let site = yard.registry.appliances[&yard.ids[1]].site.clone();
        let fill = &mut yard.registry.sites.get_mut(&site).unwrap().fill;
        fill.rate_limit_bps = Some(400_000_000);
        let stage = yard.stage();
        let rates = [0, 1].map(|place| rate_bps(&stage, stage.seat(place).unwrap()));
        assert_eq!(rates, [None, Some(400_000_000)]);
    }
}
