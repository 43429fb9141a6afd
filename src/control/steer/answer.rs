//! Decisions in JSON, as docs/STEERING.md has them: boxes with their addresses and reasons.

use super::counters::Counters;
use super::counters::Empty;
use super::decide::Candidate;
use super::decide::Choice;
use super::decide::DecidedBy;
use super::decide::Query;
use super::decide::Scratch;
use super::decide::network;
use super::explain;
use super::question::Question;
use super::snapshot::Snapshot;
use crate::clock::Wall;
use crate::control::signing::SignedPath;
use crate::control::signing::Signing;
use crate::ids::BoxId;
use crate::prefix::Family;
use crate::prefix::Prefix;
use crate::route::Class;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;

/// The version in every answer.
const VERSION: u64 = 1;

/// The port that a URL leaves away.
const HTTPS_PORT: u16 = 443;

/// What URLs are made with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names<'a> {
    pub(super) domain: &'a str,
    pub(super) signing: Option<&'a Signing>,
    pub(super) now: Wall,
}

/// One box of an answer.
#[derive(Debug, Serialize)]
struct Row<'a> {
    #[serde(rename = "box")]
    id: &'a BoxId,
    site: &'a str,
    /// The name that has only the client's family first, if the box has an address of it.
    urls: Vec<String>,
    /// RFC 3339, of signed URLs.
    #[serde(skip_serializing_if = "Option::is_none")]
    urls_expire: Option<String>,
    /// From 1.
    rank: usize,
    reason: Reason<'a>,
}

/// Why a box has its place.
#[derive(Debug, Serialize)]
struct Reason<'a> {
    decided_by: DecidedBy,
    #[serde(flatten)]
    facts: Facts<'a>,
    /// The box it was compared with: the best of another site behind it.
    against: Option<&'a BoxId>,
    words: String,
}

/// What a box is compared by. All `null` but the distance for a box of an open site that hears no
/// route for the client.
#[derive(Debug, Default, Serialize)]
pub(super) struct Facts<'a> {
    pub(super) prefix: Option<Prefix>,
    pub(super) neighbour: Option<&'a str>,
    pub(super) class: Option<Class>,
    pub(super) as_path_length: Option<u32>,
    /// With the addition of the class.
    pub(super) med: Option<u32>,
    /// `null` without the client's position.
    pub(super) distance_km: Option<u32>,
}

/// The common frame: version, generation of the snapshot, time.
pub(super) fn framed(snapshot: &Snapshot, now: Wall, body: Value) -> Value {
    let mut framed = json!({
        "v": VERSION,
        "generation": snapshot.generation,
        "server_time": now.to_string(),
    });
    if let (Value::Object(framed), Value::Object(body)) = (&mut framed, body) {
        framed.extend(body);
    }
    framed
}

/// One question's answer, counted.
pub(super) fn answer(
    snapshot: &Snapshot,
    asked: &Question,
    names: &Names<'_>,
    counters: &Counters,
) -> Value {
    let located = asked.at.or_else(|| snapshot.locate(asked.client));
    let at_source = match (asked.at, located) {
        (Some(_), _) => Some("question"),
        (None, Some(_)) => Some("table"),
        (None, None) => None,
    };
    let mut body = json!({
        "client": asked.client.to_string(),
        "key": asked.key,
        "at": located.map(|at| at.to_string()),
        "at_source": at_source,
        "boxes": [],
        "empty": null,
    });
    let bundle = asked.key.as_deref().map(|key| snapshot.bundle_of(key));
    let nothing = match bundle {
        Some(None) => Some(Empty::UnknownKey),
        Some(Some(number)) if snapshot.is_withdrawn(number) => Some(Empty::Withdrawn),
        Some(Some(_)) | None => None,
    };
    if let Some(reason) = nothing {
        counters.empty(reason);
        body["empty"] = empty(reason);
        return body;
    }
    let query = Query {
        client: asked.client,
        bundle: bundle.flatten(),
        answers: asked.answers,
        at: located,
        family: asked.family,
    };
    let mut scratch = Scratch::default();
    let choices = snapshot.decide(&query, &mut scratch);
    if let Some(first) = choices.first() {
        counters.answered(first.decided_by, first.candidate.group.is_none());
        let rows: Vec<Row<'_>> = choices
            .iter()
            .zip(1..)
            .map(|(choice, rank)| row(snapshot, asked, &query, names, choice, rank))
            .collect();
        body["boxes"] = json!(rows);
    } else {
        let reason = explain::why_empty(snapshot, &query);
        counters.empty(reason);
        body["empty"] = empty(reason);
    }
    if asked.explain {
        body["explain"] = explain::explain(snapshot, &query);
    }
    body
}

fn empty(reason: Empty) -> Value {
    json!({ "reason": reason, "words": reason.words() })
}

fn row<'a>(
    snapshot: &'a Snapshot,
    asked: &Question,
    query: &Query,
    names: &Names<'_>,
    choice: &Choice,
    rank: usize,
) -> Row<'a> {
    let machine = snapshot.machine(choice.candidate.number);
    let family = asked.family.unwrap_or(Family::of(asked.client));
    let matched = machine.has_address(Some(family)).then_some(Some(family));
    let port = match machine.https_port {
        HTTPS_PORT => String::new(),
        other => format!(":{other}"),
    };
    let path = asked.key.as_deref().unwrap_or_default();
    let mut expires = None;
    let urls = matched.into_iter().chain([None]).map(|family| {
        let host = machine.host_name(family, names.domain);
        match signed(snapshot, asked, names, &host) {
            Some(signed) => {
                expires = Some(signed.expires);
                format!("https://{host}{port}/{}", signed.text)
            }
            None => format!("https://{host}{port}/{path}"),
        }
    });
    let urls: Vec<String> = urls.collect();
    Row {
        id: &machine.id,
        site: &snapshot.place(machine.site).label,
        urls,
        urls_expire: expires.and_then(rfc_3339),
        rank,
        reason: Reason {
            decided_by: choice.decided_by,
            facts: facts(snapshot, query, &choice.candidate),
            against: choice
                .against
                .map(|other| &snapshot.machine(other.number).id),
            words: words(snapshot, query, choice),
        },
    }
}

/// `None` without a secret, and for a question without a key: there is nothing to admit to.
fn signed(
    snapshot: &Snapshot,
    asked: &Question,
    names: &Names<'_>,
    host: &str,
) -> Option<SignedPath> {
    let (key, signing) = (asked.key.as_deref()?, names.signing?);
    let is_directory = snapshot.is_directory(key);
    let session = asked.session.as_deref();
    signing.path(host, key, is_directory, session, names.now)
}

fn rfc_3339(seconds: u64) -> Option<String> {
    let seconds = i64::try_from(seconds).ok()?;
    Wall::from_second(seconds).ok().map(|at| at.to_string())
}

pub(super) fn facts<'a>(snapshot: &'a Snapshot, query: &Query, candidate: &Candidate) -> Facts<'a> {
    let distance_km = query.at.map(|_| candidate.distance);
    let Some(group) = &candidate.group else {
        return Facts {
            distance_km,
            ..Facts::default()
        };
    };
    let (compiled, best) = snapshot.index.best(group);
    Facts {
        prefix: Some(best.prefix),
        neighbour: Some(compiled.neighbour_name(best)),
        class: Some(best.class),
        as_path_length: Some(best.as_path),
        med: Some(best.med),
        distance_km,
    }
}

fn words(snapshot: &Snapshot, query: &Query, choice: &Choice) -> String {
    let Some(other) = &choice.against else {
        let is_last = choice.decided_by == DecidedBy::Last;
        let words = if is_last {
            "the last that may serve this client"
        } else {
            "no other box may serve this client"
        };
        return words.to_owned();
    };
    compared(snapshot, query, &choice.candidate, other)
}

/// Why `better` stands before `worse`, in words.
pub(super) fn compared(
    snapshot: &Snapshot,
    query: &Query,
    better: &Candidate,
    worse: &Candidate,
) -> String {
    let name = &snapshot.machine(worse.number).id;
    let mine = facts(snapshot, query, better);
    let others = facts(snapshot, query, worse);
    let number = |value: Option<u32>| value.map_or_else(|| "-".to_owned(), |v| v.to_string());
    let prefix = |value: Option<Prefix>| value.map_or_else(|| "-".to_owned(), |v| v.to_string());
    match better.beats(worse) {
        DecidedBy::PrefixLength => format!(
            "{} is longer than {} of {name}",
            prefix(mine.prefix),
            prefix(others.prefix)
        ),
        DecidedBy::AsPath => format!(
            "an AS path of {} is shorter than {} of {name}",
            number(mine.as_path_length),
            number(others.as_path_length)
        ),
        DecidedBy::Med => format!(
            "MED {} is lower than {} of {name}",
            number(mine.med),
            number(others.med)
        ),
        DecidedBy::Distance => format!(
            "{} km is nearer than {} km of {name}",
            number(mine.distance_km),
            number(others.distance_km)
        ),
        DecidedBy::Hash | DecidedBy::OnlyCandidate | DecidedBy::Last => format!(
            "equal to {name} in every step; the hash of {} and the bundle chose{}",
            network(query.client),
            if query.at.is_none() {
                " (the client's position is not known, so that distance did not count)"
            } else {
                ""
            }
        ),
    }
}
