//! Who has what, in which order to ask, and who is left alone for a while.
//!
//! The machine keeps one [`Sources`] for all objects and one [`Candidates`] for each object that
//! the control plane has answered for. A fault counts against the source for that object; a wrong
//! byte counts against it for every object. Sans-IO.

use super::Fault;
use super::Want;
use crate::clock::Instant;
use crate::link::message::FillSource;
use crate::link::message::FillSources;
use crate::link::message::ObjectSources;
use crate::link::message::SourceKind;
use crate::link::ticket;
use crate::object::ChunkTree;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A source that sent wrong bytes is asked for nothing during this time.
pub(super) const QUARANTINE: Duration = Duration::from_secs(3_600);

/// Sources of one object that are kept: the farthest are left away.
const CANDIDATES_MAX: usize = 32;

/// Sources that are remembered: a box has at most some hundred of them a night.
const SOURCES_MAX: usize = 4_096;

/// First and longest rest of a source after a fault, for that object.
const REST_FIRST: Duration = Duration::from_secs(5);
const REST_MAX: Duration = Duration::from_secs(600);

/// Bounds of the rest that a source wants which is itself receiving an object.
const NOT_YET_MIN: Duration = Duration::from_secs(1);
const NOT_YET_MAX: Duration = Duration::from_secs(30);

/// First and longest rest of a busy or unreachable source, for every object.
const BUSY_FIRST: Duration = Duration::from_secs(1);
const BUSY_MAX: Duration = Duration::from_secs(300);

/// Broken transfers in a row, of any objects, before a source rests for all.
const BROKEN_MOST: u32 = 3;

/// A longer promise of the control plane is not kept in mind: the answer is asked for again.
const PROMISE_MAX_S: u64 = 24 * 3_600;

/// What is known of each source, whatever the object.
#[derive(Debug, Default)]
pub(super) struct Sources {
    by_id: BTreeMap<String, Known>,
}

#[derive(Debug)]
struct Known {
    rests_until: Instant,
    /// Why it rests: wrong bytes, and not only traffic.
    quarantined: bool,
    busy: u32,
    broken: u32,
}

/// Where one object can be had.
#[derive(Clone, Debug)]
pub(super) struct Candidates {
    pub(super) tree: ChunkTree,
    list: Vec<Candidate>,
}

#[derive(Clone, Debug)]
struct Candidate {
    source: FillSource,
    ticket: Option<Arc<str>>,
    from: Instant,
    until: Instant,
    tries: u32,
    /// It has not got the object, or may not give it: not before the next answer.
    is_out: bool,
}

/// Why an answer names nobody who may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// Others go first, and nothing is wrong: from when on a source may be asked, if one is named.
    Later(Option<Instant>),
    /// In words.
    Problem(String),
}

/// Which source is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pick {
    /// The candidate of this number, at once.
    Use(usize),
    /// None at present; one from then on.
    At(Instant),
    /// None any more: what was promised has expired.
    Stale,
    /// None, unless the control plane is asked again.
    Nobody,
}

impl Sources {
    /// Takes note of how a transfer ended.
    pub(super) fn note(&mut self, now: Instant, source: &FillSource, end: &Result<(), Fault>) {
        if matches!(end, Ok(())) {
            // A lie is not made up for by what it gave beside it.
            let known = self.by_id.get(&source.id);
            if !known.is_some_and(|known| known.is_quarantined(now)) {
                self.by_id.remove(&source.id);
            }
            return;
        }
        self.forget_rested(now);
        if self.by_id.len() >= SOURCES_MAX && !self.by_id.contains_key(&source.id) {
            return;
        }
        let known = self.by_id.entry(source.id.clone()).or_insert(Known {
            rests_until: now,
            quarantined: false,
            busy: 0,
            broken: 0,
        });
        known.quarantined = known.is_quarantined(now);
        match end {
            Err(Fault::Busy { retry_after }) => {
                known.busy = known.busy.saturating_add(1);
                let rest = retry_after.unwrap_or_else(|| doubled(BUSY_FIRST, known.busy));
                known.rest(now + rest.clamp(BUSY_FIRST, BUSY_MAX));
            }
            Err(Fault::Broken(_) | Fault::Slow(_)) => {
                known.broken = known.broken.saturating_add(1);
                if known.broken >= BROKEN_MOST {
                    let rest = doubled(BUSY_FIRST, known.broken - BROKEN_MOST + 3);
                    known.rest(now + rest.min(BUSY_MAX));
                }
            }
            // Nothing comes behind the origin: it is left for that object alone.
            Err(Fault::WrongBytes(_)) if source.kind != SourceKind::Origin => {
                known.quarantined = true;
                known.rest(now + QUARANTINE);
            }
            Err(
                Fault::WrongBytes(_)
                | Fault::NotFound
                | Fault::NotYet { .. }
                | Fault::Refused(_)
                | Fault::Changed(_)
                | Fault::Store(_)
                | Fault::Stopped,
            )
            | Ok(()) => {}
        }
    }

    /// The ids of those that lied and are still left alone.
    pub(super) fn quarantined(&self, now: Instant) -> Vec<String> {
        let known = self.by_id.iter();
        let lying = known.filter(|(_, known)| known.is_quarantined(now));
        lying.map(|(id, _)| id.clone()).collect()
    }

    fn rests_until(&self, source: &FillSource) -> Option<Instant> {
        self.by_id.get(&source.id).map(|known| known.rests_until)
    }

    /// A source that has rested long ago starts with a clean slate, and the list stays short.
    fn forget_rested(&mut self, now: Instant) {
        if self.by_id.len() >= SOURCES_MAX {
            self.by_id.retain(|_, known| known.rests_until > now);
        }
    }
}

impl Known {
    fn is_quarantined(&self, now: Instant) -> bool {
        self.quarantined && self.rests_until > now
    }

    fn rest(&mut self, until: Instant) {
        self.rests_until = self.rests_until.max(until);
    }
}

impl Candidates {
    /// What the control plane's answer is worth for an object at this moment.
    pub(super) fn read(
        now: Instant,
        want: &Want,
        answer: &ObjectSources,
        tickets: &[Arc<str>],
    ) -> Result<Self, Unread> {
        if answer.length != want.length {
            return Err(Unread::Problem(format!(
                "the control plane says {} bytes and the manifest {}",
                answer.length, want.length
            )));
        }
        let list: Vec<Candidate> = answer
            .sources
            .iter()
            .take(CANDIDATES_MAX)
            .filter_map(|source| Candidate::read(now, source, tickets))
            .collect();
        if list.is_empty() {
            let problem = answer.problem.clone();
            return Err(problem.map_or(Unread::Later(None), Unread::Problem));
        }
        // A control plane spares the tree while no source may be asked.
        if !list.iter().any(Candidate::has_address) {
            let problem = answer.problem.clone();
            let next = list.iter().map(|candidate| candidate.from).min();
            return Err(problem.map_or(Unread::Later(next), Unread::Problem));
        }
        let tree = answer.chunk_tree().map_err(|error| {
            let digest = want.digest;
            let problem = format!("object {digest}: {error}; import it again at the control plane");
            Unread::Problem(problem)
        })?;
        Ok(Self { tree, list })
    }

    /// The first in order that may be asked at this moment.
    pub(super) fn pick(&self, now: Instant, sources: &Sources) -> Pick {
        let (mut next, mut is_stale) = (None::<Instant>, false);
        for (number, candidate) in self.list.iter().enumerate() {
            let rests_until = sources.rests_until(&candidate.source);
            let from = rests_until.map_or(candidate.from, |until| candidate.from.max(until));
            if candidate.is_out || from >= candidate.until || now >= candidate.until {
                is_stale |= !candidate.is_out && now >= candidate.until;
                continue;
            }
            // Without an address its time is the time to ask again.
            if from <= now && candidate.has_address() {
                return Pick::Use(number);
            }
            if from > now {
                next = Some(next.map_or(from, |next| next.min(from)));
            }
        }
        let without = if is_stale { Pick::Stale } else { Pick::Nobody };
        next.map_or(without, Pick::At)
    }

    /// Who may be asked at this moment beside `first`, in order: boxes that are no farther. The
    /// origin is asked alone, for what others can give costs nothing there.
    pub(super) fn beside(&self, now: Instant, sources: &Sources, first: usize) -> Vec<usize> {
        let Some(kind) = self.list.get(first).map(|candidate| candidate.source.kind) else {
            return Vec::new();
        };
        let mut named: Vec<&str> = vec![&self.list[first].source.id];
        let mut beside = Vec::new();
        for (number, candidate) in self.list.iter().enumerate() {
            let rests_until = sources.rests_until(&candidate.source);
            let is_time = candidate.from <= now && rests_until.is_none_or(|until| until <= now);
            let is_good = !candidate.is_out && now < candidate.until && candidate.has_address();
            let id = candidate.source.id.as_str();
            let is_near = candidate.source.kind == kind && kind != SourceKind::Origin;
            if is_near && is_time && is_good && !named.contains(&id) {
                named.push(id);
                beside.push(number);
            }
        }
        beside
    }

    pub(super) fn source(&self, number: usize) -> Option<(&FillSource, Option<String>)> {
        let candidate = self.list.get(number)?;
        let ticket = candidate.ticket.as_deref().map(str::to_owned);
        Some((&candidate.source, ticket))
    }

    /// Was it promised until before now? A ticket that ends during a transfer is refused.
    pub(super) fn is_stale(&self, now: Instant, number: usize) -> bool {
        let candidate = self.list.get(number);
        candidate.is_some_and(|candidate| now >= candidate.until)
    }

    /// A source failed for this object: it rests, or is out of the question until the next answer.
    pub(super) fn failed(&mut self, now: Instant, number: usize, fault: &Fault) {
        let Some(candidate) = self.list.get_mut(number) else {
            return;
        };
        candidate.tries = candidate.tries.saturating_add(1);
        match fault {
            Fault::NotFound | Fault::Refused(_) | Fault::Changed(_) | Fault::WrongBytes(_) => {
                candidate.is_out = true;
            }
            Fault::NotYet { retry_after, .. } => {
                let rest = retry_after.unwrap_or(REST_FIRST);
                let rest = rest.clamp(NOT_YET_MIN, NOT_YET_MAX);
                candidate.from = candidate.from.max(now + rest);
            }
            Fault::Slow(_) | Fault::Broken(_) => {
                let rest = doubled(REST_FIRST, candidate.tries).min(REST_MAX);
                candidate.from = candidate.from.max(now + rest);
            }
            // The source rests as a whole; our own troubles are not its fault.
            Fault::Busy { .. } | Fault::Store(_) | Fault::Stopped => {}
        }
    }
}

impl Candidate {
    fn read(now: Instant, source: &FillSource, tickets: &[Arc<str>]) -> Option<Self> {
        let ticket = match source.ticket {
            Some(number) => Some(Arc::clone(tickets.get(number)?)),
            None => None,
        };
        let seconds = |count: u64| Duration::from_secs(count.min(PROMISE_MAX_S));
        Some(Self {
            from: now + seconds(source.not_before_s),
            until: now + seconds(source.expires_s),
            source: source.clone(),
            ticket,
            tries: 0,
            is_out: false,
        })
    }

    fn has_address(&self) -> bool {
        !self.source.urls.is_empty()
    }
}

/// The tickets of an answer, each once in memory; one that no listener would read is empty.
pub(super) fn tickets(answer: &FillSources) -> Vec<Arc<str>> {
    let texts = answer.tickets.iter().map(|text| {
        let fits = text.len() <= ticket::TEXT_BYTES_MAX;
        Arc::from(if fits { text.as_str() } else { "" })
    });
    texts.collect()
}

/// The word for a fault in a complaint; none when it is nobody's or our own.
pub(super) fn complaint(fault: &Fault) -> Option<&'static str> {
    match fault {
        Fault::NotFound => Some("not-found"),
        Fault::Refused(_) => Some("refused"),
        Fault::WrongBytes(_) => Some("wrong-bytes"),
        Fault::Changed(_) => Some("changed"),
        Fault::Slow(_) => Some("slow"),
        Fault::Broken(_) => Some("broken"),
        Fault::NotYet { .. } | Fault::Busy { .. } | Fault::Store(_) | Fault::Stopped => None,
    }
}

/// `first`, twice that, four times …
pub(super) fn doubled(first: Duration, times: u32) -> Duration {
    first.saturating_mul(1 << times.saturating_sub(1).min(16))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::object::Digest;

    #[test]
    fn an_object_without_a_tree_says_whether_it_waits_or_is_broken() {
        let want = Want {
            digest: Digest::of(b"film"),
            length: 300_000,
            rank: 0,
            urgent: false,
        };
        let now = clock::now();
        let read = |urls: Vec<String>| {
            let source = FillSource {
                kind: SourceKind::Network,
                id: "c001-tls001-example-isp".to_owned(),
                urls,
                ticket: None,
                not_before_s: 60,
                etag: None,
                expires_s: 600,
            };
            let answer = ObjectSources {
                digest: want.digest,
                length: want.length,
                tree: String::new(),
                sources: vec![source],
                problem: None,
            };
            Candidates::read(now, &want, &answer, &[]).unwrap_err()
        };
        let later = Some(now + Duration::from_secs(60));
        assert_eq!(read(Vec::new()), Unread::Later(later));
        let unread = read(vec!["https://192.0.2.9:7443/fill/".to_owned()]);
        assert!(
            matches!(&unread, Unread::Problem(problem) if problem.contains("import it again")),
            "{unread:?}"
        );
    }
}
