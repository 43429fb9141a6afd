//! Everybody who was considered, and why he lost: for operators, not on the hot path.
//!
//! Bounded: a client that thousands of boxes hear (a default route) gets the first of them and a
//! count of the rest.

use super::answer::Facts;
use super::answer::compared;
use super::answer::facts;
use super::counters::Empty;
use super::decide::Candidate;
use super::decide::Query;
use super::decide::Scratch;
use super::index::NONE;
use super::index::Node;
use super::snapshot::Snapshot;
use crate::control::fleet::Shut;
use crate::ids::BoxId;
use crate::prefix::Prefix;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;

/// Rows of each list.
const ROWS_MAX: usize = 200;

/// One box.
#[derive(Debug, Serialize)]
struct Considered<'a> {
    #[serde(rename = "box")]
    id: &'a BoxId,
    site: &'a str,
    /// `chosen`, or where it lost: `trust`, `open`, `family`, `leaving`, `content`, or a step of
    /// the order.
    stage: &'static str,
    #[serde(flatten)]
    facts: Facts<'a>,
    words: String,
}

/// A route over the client that does not steer.
#[derive(Debug, Serialize)]
struct RefusedRoute<'a> {
    #[serde(rename = "box")]
    id: &'a BoxId,
    prefix: Prefix,
    /// `not-approved`, `conflict:<partner>` or `filtered:<reason>`.
    reason: String,
}

/// A list that stops at its limit and counts what is beyond.
struct Bounded<T> {
    rows: Vec<T>,
    left_off: usize,
}

impl<T> Bounded<T> {
    fn new() -> Self {
        Self {
            rows: Vec::new(),
            left_off: 0,
        }
    }

    fn push(&mut self, row: impl FnOnce() -> T) {
        if self.rows.len() < ROWS_MAX {
            self.rows.push(row());
        } else {
            self.left_off += 1;
        }
    }
}

/// Which boxes might have served the client: the first thing that stands in the way of all of them.
pub(super) fn why_empty(snapshot: &Snapshot, query: &Query) -> Empty {
    let mut somebody = false;
    let mut somebody_open = false;
    let mut somebody_lets_go = false;
    let mut look = |number: u32| {
        let is_open = snapshot.is_usable(number, query.family);
        let bundle = query.bundle;
        let is_leaving = bundle.is_some_and(|bundle| snapshot.is_leaving(number, bundle));
        somebody = true;
        somebody_open |= is_open;
        somebody_lets_go |= is_open && is_leaving;
    };
    let owners = owners(snapshot, query);
    for (_, node) in over(snapshot, query) {
        for group in snapshot.index.groups(node) {
            if snapshot.may_serve(owners, group) {
                let members = &snapshot.index.set(group.set).members;
                members.iter().copied().for_each(&mut look);
            }
        }
    }
    snapshot.fallback.iter().copied().for_each(&mut look);
    match (somebody, somebody_open) {
        (false, _) => Empty::NoRoute,
        (true, false) => Empty::NoOpenBox,
        (true, true) if somebody_lets_go => Empty::Leaving,
        (true, true) => Empty::NoBoxHoldsIt,
    }
}

pub(super) fn explain(snapshot: &Snapshot, query: &Query) -> Value {
    let mut boxes = Bounded::new();
    let mut seen = BTreeSet::new();
    let mut scratch = Scratch::default();
    let order = snapshot.everybody(query, &mut scratch);
    let last = order.get(query.answers.min(order.len()).wrapping_sub(1));
    for (place, candidate) in order.iter().enumerate() {
        seen.insert(candidate.number);
        boxes.push(|| match last {
            Some(last) if place >= query.answers => lost(snapshot, query, last, candidate),
            _ => Considered {
                stage: "chosen",
                words: "has its place in the answer".to_owned(),
                ..about(snapshot, query, candidate)
            },
        });
    }
    let mut refused = Bounded::new();
    unable(snapshot, query, &mut seen, &mut boxes);
    untrusted(snapshot, query, &mut seen, &mut boxes, &mut refused);
    json!({
        "considered": boxes.rows,
        "considered_left_off": boxes.left_off,
        "refused_routes": refused.rows,
        "refused_routes_left_off": refused.left_off,
        "fallback": order.first().is_some_and(|first| first.group.is_none()),
    })
}

/// A box that was good enough, but not for the places there were.
fn lost<'a>(
    snapshot: &'a Snapshot,
    query: &Query,
    last: &Candidate,
    candidate: &Candidate,
) -> Considered<'a> {
    let winner = &snapshot.machine(last.number).id;
    Considered {
        stage: last.beats(candidate).as_str(),
        words: format!(
            "behind {winner}: {}",
            compared(snapshot, query, last, candidate)
        ),
        ..about(snapshot, query, candidate)
    }
}

fn about<'a>(snapshot: &'a Snapshot, query: &Query, candidate: &Candidate) -> Considered<'a> {
    let machine = snapshot.machine(candidate.number);
    Considered {
        id: &machine.id,
        site: &snapshot.place(machine.site).label,
        stage: "",
        facts: facts(snapshot, query, candidate),
        words: String::new(),
    }
}

/// Boxes that hear the client, or stand at an open site, and are closed or lack something.
fn unable<'a>(
    snapshot: &'a Snapshot,
    query: &Query,
    seen: &mut BTreeSet<u32>,
    boxes: &mut Bounded<Considered<'a>>,
) {
    let owners = owners(snapshot, query);
    let mut consider = |node: u32, number: u32, group: Option<_>| {
        if !seen.insert(number) {
            return;
        }
        let candidate = snapshot.candidate(query, node, number, group);
        let (stage, words) = why_unable(snapshot, query, number);
        boxes.push(|| Considered {
            stage,
            words,
            ..about(snapshot, query, &candidate)
        });
    };
    for (number, node) in over(snapshot, query) {
        for group in snapshot.index.groups(node) {
            if snapshot.may_serve(owners, group) {
                for &member in &snapshot.index.set(group.set).members {
                    consider(number, member, Some(*group));
                }
            }
        }
    }
    for &number in &snapshot.fallback {
        consider(NONE, number, None);
    }
}

fn why_unable(snapshot: &Snapshot, query: &Query, number: u32) -> (&'static str, String) {
    if let Some(shut) = snapshot.shut(number) {
        return ("open", shut_in_words(shut));
    }
    if !snapshot.is_usable(number, query.family) {
        let words = "has no address of the family that was asked for";
        return ("family", words.to_owned());
    }
    if query
        .bundle
        .is_some_and(|bundle| snapshot.is_leaving(number, bundle))
    {
        let words = "holds the bundle, but its manifest does not list it: it is about to go";
        return ("leaving", words.to_owned());
    }
    if query
        .bundle
        .is_some_and(|bundle| !snapshot.holds(number, bundle))
    {
        return ("content", "does not hold the whole bundle".to_owned());
    }
    // It could serve; but clients whom somebody announces are not sent to open sites.
    let words = "is at an open site and hears no route; boxes that hear one go first";
    ("prefix-length", words.to_owned())
}

/// The fleet's words for a closed box.
fn shut_in_words(shut: &Shut) -> String {
    match shut {
        Shut::Unknown => "has not reported since the control plane started".to_owned(),
        Shut::Gate(gate) => gate.clone(),
        Shut::NotEnabled => "is not enabled; enable it when it may serve viewers".to_owned(),
        Shut::Quarantined => "is quarantined: two machines use its name".to_owned(),
        Shut::Revoked => "is revoked".to_owned(),
        Shut::Silent => "sends no heartbeat".to_owned(),
        Shut::Stale => "has missed its reports".to_owned(),
    }
}

/// Routes that nobody may be steered by, and the boxes that hear nothing better.
fn untrusted<'a>(
    snapshot: &'a Snapshot,
    query: &Query,
    seen: &mut BTreeSet<u32>,
    boxes: &mut Bounded<Considered<'a>>,
    refused: &mut Bounded<RefusedRoute<'a>>,
) {
    let owners = owners(snapshot, query);
    let trust = &snapshot.ground.trust;
    for (_, node) in over(snapshot, query) {
        let groups = snapshot.index.groups(node).iter();
        let foreign = groups.filter(|group| !snapshot.may_serve(owners, group));
        let conflict = owners.first().map_or_else(String::new, |owner| {
            format!("conflict:{}", trust.name(*owner))
        });
        let foreign = foreign.map(|group| (group.set, conflict.clone()));
        let judged = snapshot.index.refused(node).iter();
        let judged = judged.map(|(set, refusal)| (*set, refusal.text(trust)));
        for (set, reason) in foreign.chain(judged) {
            for &number in &snapshot.index.set(set).members {
                let machine = snapshot.machine(number);
                refused.push(|| RefusedRoute {
                    id: &machine.id,
                    prefix: node.prefix,
                    reason: reason.clone(),
                });
                if seen.insert(number) {
                    boxes.push(|| Considered {
                        id: &machine.id,
                        site: &snapshot.place(machine.site).label,
                        stage: "trust",
                        facts: Facts {
                            prefix: Some(node.prefix),
                            ..Facts::default()
                        },
                        words: reason.clone(),
                    });
                }
            }
        }
    }
}

/// Every node over the client, longest first.
fn over<'a>(snapshot: &'a Snapshot, query: &Query) -> impl Iterator<Item = (u32, &'a Node)> {
    let mut number = snapshot.index.find(query.client);
    std::iter::from_fn(move || {
        let this = (number != NONE).then(|| (number, snapshot.index.node(number)));
        if let Some((_, node)) = this {
            number = node.parent;
        }
        this
    })
}

fn owners<'a>(snapshot: &'a Snapshot, query: &Query) -> &'a [u32] {
    let longest = over(snapshot, query).next();
    longest.map_or(&[], |(_, node)| snapshot.index.owners(node))
}
