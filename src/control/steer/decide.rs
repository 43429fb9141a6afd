//! One decision: which boxes, in which order, and what decided each place.
//!
//! Called for each question on the hot path; reads one snapshot, allocates nothing once its
//! [`Scratch`] has grown. The order: boxes that are open and hold the bundle → longest steerable
//! prefix → shortest AS path → lowest MED → nearest → weighted stable hash of client network and
//! bundle → name. The walk starts at the client's longest prefix and stops as soon as the answer,
//! and what its last box won against, are known.

use super::geo::Point;
use super::geo::Position;
use super::index::Group;
use super::index::NONE;
use super::index::Node;
use super::snapshot::Snapshot;
use super::trust::Approved;
use crate::prefix::Prefix;
use serde::Serialize;
use std::cmp::Ordering;
use std::net::IpAddr;

/// Clients of one such network are treated alike by the hash, so that a household that changes
/// addresses stays with its boxes.
const IPV4_NETWORK_BITS: u8 = 24;
const IPV6_NETWORK_BITS: u8 = 48;

/// Numbers of bundles are below it: the hash of a question without one.
const ANY_BUNDLE: u64 = u64::MAX;

/// A question, parsed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Query {
    /// Never an IPv4 address in IPv6 form.
    pub client: IpAddr,
    /// `None`: any box will do.
    pub bundle: Option<u32>,
    /// Boxes wanted; at least 1.
    pub answers: usize,
    /// `None`: the distance step is skipped.
    pub at: Option<Position>,
    /// Only boxes that have an address of this family.
    pub family: Option<crate::prefix::Family>,
}

/// The step that put a box before the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecidedBy {
    /// Nobody else may serve this client.
    OnlyCandidate,
    PrefixLength,
    AsPath,
    Med,
    Distance,
    Hash,
    /// It has the last place.
    Last,
}

/// A box that may serve the client, with all that it is compared by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) number: u32,
    pub(super) site: u32,
    /// [`NONE`]: nobody announces the client, and the box's site is open.
    pub(super) node: u32,
    pub(super) group: Option<Group>,
    /// 0 without the client's position.
    pub(super) distance: u32,
    score: f64,
}

/// A place in the answer.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    pub(super) candidate: Candidate,
    pub(super) decided_by: DecidedBy,
    /// What it was compared with.
    pub(super) against: Option<Candidate>,
}

/// Room for a decision, to be used again for the next.
#[derive(Debug, Default)]
pub struct Scratch {
    order: Vec<Candidate>,
    choices: Vec<Choice>,
}

/// What stays the same during one decision.
struct Asked<'a> {
    query: &'a Query,
    point: Option<Point>,
    seed: u64,
    /// Whose the client's address is, by the longest approved prefix.
    owners: &'a [u32],
}

impl Snapshot {
    /// The best boxes first, each once; empty when none may serve the client.
    pub fn decide<'s>(&self, query: &Query, scratch: &'s mut Scratch) -> &'s [Choice] {
        self.order(query, query.answers.max(1), scratch);
        let Scratch { order, choices } = scratch;
        choices.clear();
        let answers = order.len().min(query.answers);
        choices.extend((0..answers).map(|place| chosen(order, place)));
        choices
    }

    /// Everybody who may serve the client, in order.
    pub(super) fn everybody<'s>(&self, query: &Query, scratch: &'s mut Scratch) -> &'s [Candidate] {
        self.order(query, usize::MAX, scratch);
        &scratch.order
    }

    fn order(&self, query: &Query, enough: usize, scratch: &mut Scratch) {
        let order = &mut scratch.order;
        order.clear();
        let longest = self.index.find(query.client);
        let mut asked = Asked {
            query,
            point: query.at.map(Point::of),
            seed: seed(query),
            owners: &[],
        };
        let mut number = longest;
        if longest != NONE {
            let node = self.index.node(longest);
            asked.owners = self.index.owners(node);
            if self.index.groups(node).is_empty() {
                number = node.next;
            }
        }
        while number != NONE {
            let node = self.index.node(number);
            if self.walk(&asked, number, node, enough, order) {
                return;
            }
            number = node.next;
        }
        if order.is_empty() {
            let fallback = self.fallback.iter().map(|&number| (number, None));
            self.add(&asked, NONE, fallback, order);
        }
    }

    /// Adds the boxes of one prefix, tier by tier of AS path and MED. Is it enough?
    fn walk(
        &self,
        asked: &Asked<'_>,
        number: u32,
        node: &Node,
        enough: usize,
        order: &mut Vec<Candidate>,
    ) -> bool {
        let groups = self.index.groups(node);
        for tier in groups.chunk_by(|a, b| (a.as_path, a.med) == (b.as_path, b.med)) {
            let boxes = tier
                .iter()
                .filter(|group| self.may_serve(asked.owners, group))
                .flat_map(|group| {
                    let members = self.index.set(group.set).members.iter();
                    members.map(move |&number| (number, Some(*group)))
                });
            self.add(asked, number, boxes, order);
            if is_enough(order, enough) {
                return true;
            }
        }
        false
    }

    /// A route that only its origin AS vouches for does not reach clients whose addresses are
    /// approved for another partner.
    pub(super) fn may_serve(&self, owners: &[u32], group: &Group) -> bool {
        match group.approved {
            Approved::Prefix => true,
            Approved::Origin => {
                let partner = self.index.set(group.set).partner;
                owners.is_empty() || partner.is_some_and(|partner| owners.contains(&partner))
            }
        }
    }

    /// Appends those of `boxes` that are open, hold the bundle and are not there yet: nearest
    /// first, then by hash.
    fn add(
        &self,
        asked: &Asked<'_>,
        node: u32,
        boxes: impl Iterator<Item = (u32, Option<Group>)>,
        order: &mut Vec<Candidate>,
    ) {
        let before = order.len();
        let mut last_site = (NONE, 0);
        for (number, group) in boxes {
            let query = asked.query;
            let is_able = self.is_usable(number, query.family)
                && query.bundle.is_none_or(|bundle| self.holds(number, bundle));
            if !is_able || order[..before].iter().any(|c| c.number == number) {
                continue;
            }
            let machine = self.machine(number);
            if last_site.0 != machine.site {
                let distance = self.distance(asked.point.as_ref(), machine.site);
                last_site = (machine.site, distance);
            }
            order.push(Candidate {
                number,
                site: machine.site,
                node,
                group,
                distance: last_site.1,
                score: score(asked.seed, machine.seed, machine.weight),
            });
        }
        order[before..].sort_unstable_by(|a, b| {
            a.distance
                .cmp(&b.distance)
                .then_with(|| a.score.total_cmp(&b.score))
                .then_with(|| self.machine(a.number).id.cmp(&self.machine(b.number).id))
        });
    }

    /// 0 without the client's position.
    fn distance(&self, client: Option<&Point>, site: u32) -> u32 {
        match (client, &self.place(site).point) {
            (None, _) => 0,
            (Some(client), Some(site)) => client.distance_km(site),
            (Some(_), None) => u32::MAX,
        }
    }

    /// A box that lost before the order, for `explain`.
    pub(super) fn candidate(
        &self,
        query: &Query,
        node: u32,
        number: u32,
        group: Option<Group>,
    ) -> Candidate {
        let machine = self.machine(number);
        let point = query.at.map(Point::of);
        Candidate {
            number,
            site: machine.site,
            node,
            group,
            distance: self.distance(point.as_ref(), machine.site),
            score: score(seed(query), machine.seed, machine.weight),
        }
    }
}

/// There are `answers` boxes, and behind them one of another site that the last of them won
/// against.
fn is_enough(order: &[Candidate], answers: usize) -> bool {
    if order.len() <= answers {
        return false;
    }
    let site = order[answers - 1].site;
    order[answers..].iter().any(|other| other.site != site)
}

/// What decided the place is told against the best box of another site: against one beside it,
/// which hears the same routes, it would be the hash nearly always.
fn chosen(order: &[Candidate], place: usize) -> Choice {
    let candidate = order[place];
    let behind = &order[place + 1..];
    let elsewhere = behind.iter().find(|other| other.site != candidate.site);
    let against = elsewhere.or(behind.first()).copied();
    let decided_by = match &against {
        Some(other) => candidate.beats(other),
        None if place == 0 => DecidedBy::OnlyCandidate,
        None => DecidedBy::Last,
    };
    Choice {
        candidate,
        decided_by,
        against,
    }
}

impl Candidate {
    /// The first step by which it stands before `other`, which comes later in the order.
    pub(super) fn beats(&self, other: &Self) -> DecidedBy {
        let key = |group: Option<Group>| group.map_or((0, 0), |group| (group.as_path, group.med));
        let (mine, others) = (key(self.group), key(other.group));
        // Both prefixes contain the client: another prefix is another length.
        if self.node != other.node {
            DecidedBy::PrefixLength
        } else if mine.0 != others.0 {
            DecidedBy::AsPath
        } else if mine.1 != others.1 {
            DecidedBy::Med
        } else if self.distance.cmp(&other.distance) != Ordering::Equal {
            DecidedBy::Distance
        } else {
            DecidedBy::Hash
        }
    }
}

impl DecidedBy {
    pub(super) const ALL: [Self; 7] = [
        Self::OnlyCandidate,
        Self::PrefixLength,
        Self::AsPath,
        Self::Med,
        Self::Distance,
        Self::Hash,
        Self::Last,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::OnlyCandidate => "only-candidate",
            Self::PrefixLength => "prefix-length",
            Self::AsPath => "as-path",
            Self::Med => "med",
            Self::Distance => "distance",
            Self::Hash => "hash",
            Self::Last => "last",
        }
    }
}

/// The network that stands for the client in the hash.
pub(super) fn network(client: IpAddr) -> Prefix {
    let host = Prefix::host(client);
    let bits = match client {
        IpAddr::V4(_) => IPV4_NETWORK_BITS,
        IpAddr::V6(_) => IPV6_NETWORK_BITS,
    };
    host.shortened(bits).unwrap_or(host)
}

/// Of the client's network and the bundle.
pub(super) fn seed(query: &Query) -> u64 {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "networks have at most 48 bits"
    )]
    let network = (network(query.client).bits() >> 64) as u64;
    let bundle = query.bundle.map_or(ANY_BUNDLE, u64::from);
    mix(mix(network) ^ bundle)
}

/// Rendezvous hashing: the lowest score wins. A box's share is its weight's, and a box that comes
/// or goes moves only its own clients.
pub(super) fn score(asked: u64, machine: u64, weight: f64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
    let bits = (mix(asked ^ machine) >> 11) as f64;
    // In (0, 1): never 0, whose logarithm has no end.
    let uniform = (bits + 0.5) / (1_u64 << 53) as f64;
    -uniform.ln() / weight
}

/// Finaliser of SplitMix64: each bit of the input changes each bit of the output.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
