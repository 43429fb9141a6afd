//! Questions, answers and ends: what moves an object from place to place.

use super::Action;
use super::Inquiry;
use super::Machine;
use super::Now;
use crate::clock::Instant;
use crate::fill::Class;
use crate::fill::Fault;
use crate::fill::Outcome;
use crate::fill::Part;
use crate::fill::places::Place;
use crate::fill::sources;
use crate::fill::sources::Candidates;
use crate::fill::sources::Pick;
use crate::fill::sources::Unread;
use crate::link::message::Complaint;
use crate::link::message::FILL_WANTED_MAX;
use crate::link::message::FillSource;
use crate::link::message::FillSources;
use crate::link::message::FillSourcesRequest;
use crate::link::message::VERSION;
use crate::object::CHUNK_BYTES;
use crate::object::Digest;
use crate::store::PublishError;
use std::collections::BTreeSet;
use std::time::Duration;

/// Ready objects for each stream, so that no stream waits for a question: small objects take less
/// time than an answer.
const READY_PER_STREAM: usize = 16;

/// Objects whose sources are known, those that wait for the sources' time included.
const READY_MAX: usize = 2_048;

/// Content asked for at a time: its chunk trees are 4 MB of hexadecimal.
const ASKED_BYTES_MAX: u64 = 16 << 30;

/// What an answer has besides its objects, of each object and of each of its chunks, from above:
/// heads and the signatures of tickets; digest and URLs; chaining values in hexadecimal. As they
/// come compressed.
const ANSWER_HEAD_BYTES: u64 = 4 << 10;
const ANSWER_BYTES: u64 = 768;
const ANSWER_CHUNK_BYTES: u64 = 36;

/// SAFETY: cap. An answer comes in one burst: about several objects it brings no more than the cap
/// does in these, which is what `bucket::DEPTH` leaves of the interface's 50 ms. One object is
/// asked for in any case: above 400 MB at 100 Mbit/s its answer takes longer.
const ANSWER_TIME: Duration = Duration::from_millis(5);

/// Between two questions, and after the first that failed.
const ASK_GAP: Duration = Duration::from_millis(100);
const ASK_FAILED_FIRST: Duration = Duration::from_secs(1);
const ASK_FAILED_MAX: Duration = Duration::from_secs(60);

/// Bounds of the control plane's `ask_again_s`.
const ASK_AGAIN_MIN: Duration = Duration::from_secs(1);
pub(super) const ASK_AGAIN_MAX: Duration = Duration::from_secs(3_600);

/// First and longest rest of an object that nobody could give. The control plane says when there
/// may be more, which is soon while somebody fetches it: so many times that are the longest too.
const MISS_FIRST: Duration = Duration::from_secs(1);
const MISS_MAX: Duration = Duration::from_secs(300);
const MISS_PATIENCE: u32 = 4;

/// First and longest rest of an object that our own disks did not take.
const STORE_FIRST: Duration = Duration::from_secs(60);
const STORE_MAX: Duration = Duration::from_secs(3_600);

/// First and longest rest of a class that got no turns.
const DRY_FIRST: Duration = Duration::from_secs(1);
const DRY_MAX: Duration = Duration::from_secs(60);

/// Complaints that wait for the next question.
const COMPLAINTS_MAX: usize = 256;

/// Failed questions in a row after which the complaints of one are forgotten with it.
const TELL_TRIES: u32 = 8;

impl Machine {
    /// Nothing is asked twice at a time, nor of a control plane that is silent.
    pub(super) fn may_ask(&self, now: Now) -> bool {
        if !self.orders.connected || self.asked.is_some() || self.queue.ready_count() >= READY_MAX {
            return false;
        }
        let enough = self.config.streams.max(1) * READY_PER_STREAM;
        let usable = self.queue.ready().filter(|(_, object)| {
            let candidates = object.candidates.as_ref();
            let pick = candidates.map(|list| list.pick(now.at, &self.sources));
            self.is_open(object.class) && matches!(pick, Some(Pick::Use(_)))
        });
        usable.take(enough).count() < enough
    }

    /// Asks for the next objects in order, as many as one question and its answer take.
    pub(super) fn ask(&mut self, now: Now, actions: &mut Vec<Action>) {
        if now.at < self.ask_at || !self.may_ask(now) {
            return;
        }
        let most = u128::from(self.rate.0) * ANSWER_TIME.as_millis() / 1_000;
        let most = u64::try_from(most).unwrap_or(u64::MAX);
        let (mut bytes, mut answer, mut numbers) = (0_u64, ANSWER_HEAD_BYTES, Vec::new());
        let mut payer = None;
        for (number, object) in self.queue.queued() {
            if !self.may_pay(object.class, now.at) {
                continue;
            }
            // Each class pays for its own.
            if payer.is_some_and(|payer| payer != object.class) {
                break;
            }
            let length = object.want.length;
            let of_answer = ANSWER_BYTES + length.div_ceil(CHUNK_BYTES) * ANSWER_CHUNK_BYTES;
            let is_enough = numbers.len() >= FILL_WANTED_MAX
                || bytes.saturating_add(length) > ASKED_BYTES_MAX
                || answer + of_answer > most;
            if is_enough && !numbers.is_empty() {
                break;
            }
            bytes = bytes.saturating_add(length);
            answer += of_answer;
            payer = Some(object.class);
            numbers.push(number);
        }
        let mut wanted = Vec::with_capacity(numbers.len());
        for number in numbers {
            wanted.extend(self.queue.get(number).map(|object| object.want.digest));
            self.queue.put(number, Place::Asked);
        }
        let Some(class) = payer else {
            // The plan keeps a part of what there is: the rest comes with the next one.
            if self.more && self.queue.len() == 0 {
                self.survey_soon(now);
            }
            return;
        };
        self.asked = Some(wanted.clone());
        self.ask_at = now.at + ASK_GAP;
        let complaints = std::mem::take(&mut self.complaints);
        self.telling.clone_from(&complaints);
        actions.push(Action::Ask(Inquiry {
            request: FillSourcesRequest {
                v: VERSION,
                wanted,
                complaints,
            },
            class,
            bytes: answer,
        }));
    }

    pub(super) fn answered(&mut self, now: Now, answer: Result<FillSources, String>) {
        let asked = self.asked.take().unwrap_or_default();
        let telling = std::mem::take(&mut self.telling);
        let answer = match answer {
            Ok(answer) => answer,
            Err(problem) => {
                self.ask_failures = self.ask_failures.saturating_add(1);
                let rest = sources::doubled(ASK_FAILED_FIRST, self.ask_failures);
                self.ask_at = now.at + rest.min(ASK_FAILED_MAX);
                self.problem = Some(problem);
                // A busy control plane must hear of a liar; one that chokes on it need not.
                if self.ask_failures <= TELL_TRIES {
                    self.tell_again(telling);
                }
                for number in self.queue.numbers(&asked) {
                    self.queue.put(number, Place::Queued);
                }
                return;
            }
        };
        self.ask_failures = 0;
        self.deferred = false;
        let again = Duration::from_secs(answer.ask_again_s);
        let again = now.at + again.clamp(ASK_AGAIN_MIN, ASK_AGAIN_MAX);
        let tickets = sources::tickets(&answer);
        let mut unanswered: BTreeSet<Digest> = asked.into_iter().collect();
        // What was not asked for, or comes twice, is not read.
        for object in &answer.objects {
            if !unanswered.remove(&object.digest) {
                continue;
            }
            let Some(number) = self.queue.number(&object.digest) else {
                continue;
            };
            let Some(planned) = self.queue.get_mut(number) else {
                continue;
            };
            planned.ask_again = Some(again);
            match Candidates::read(now.at, &planned.want, object, &tickets) {
                Ok(candidates) => {
                    planned.candidates = Some(candidates);
                    self.settle(now, number);
                }
                Err(Unread::Later(from)) => {
                    self.deferred = true;
                    self.wait(now, number, from.map_or(Pick::Nobody, Pick::At));
                }
                Err(Unread::Problem(problem)) => {
                    self.problem = Some(problem);
                    self.wait(now, number, Pick::Nobody);
                }
            }
        }
        for number in self.queue.numbers(&unanswered) {
            if let Some(planned) = self.queue.get_mut(number) {
                planned.ask_again = Some(again);
            }
            self.wait(now, number, Pick::Nobody);
        }
    }

    /// The budget of those that were to be asked for is spent, or their class is shut.
    pub(super) fn unasked(&mut self, now: Now) {
        let asked = self.asked.take().unwrap_or_default();
        let telling = std::mem::take(&mut self.telling);
        self.tell_again(telling);
        for number in self.queue.numbers(&asked) {
            let class = self.queue.get(number).map(|object| object.class);
            if let Some(class) = class.filter(|class| self.may_pay(*class, now.at)) {
                self.rest_class(now.at, class, false);
            }
            self.queue.put(number, Place::Queued);
        }
    }

    /// Nobody has heard of these: the next question tells them, before newer ones.
    fn tell_again(&mut self, telling: Vec<Complaint>) {
        let newer = std::mem::replace(&mut self.complaints, telling);
        self.complaints.extend(newer);
        self.complaints.truncate(COMPLAINTS_MAX);
    }

    pub(super) fn ended(&mut self, now: Now, id: u64, outcome: Outcome) {
        let was_stopped = self.stopping.remove(&id);
        let Some(number) = self.queue.ended(id) else {
            return;
        };
        let Some(object) = self.queue.get_mut(number) else {
            return;
        };
        if outcome.verified > 0 {
            object.misses = 0;
        }
        let (class, source) = (object.class, object.source);
        let digest = object.want.digest;
        let is_parted = !outcome.parts.is_empty();
        self.parted(now, number, &outcome.parts);
        let asked = self.candidate(number, source).filter(|_| !is_parted);
        if let Some(asked) = &asked {
            self.sources.note(now.at, asked, &outcome.end);
        }
        let fault = match outcome.end {
            Ok(()) => {
                self.dry.remove(&class);
                self.finished.insert(digest);
                self.queue.remove(number);
                return;
            }
            Err(fault) => fault,
        };
        match &fault {
            Fault::Stopped => {
                if !was_stopped && self.is_open(class) {
                    self.rest_class(now.at, class, outcome.received > 0);
                }
                self.queue.put(number, Place::Ready);
            }
            Fault::Store(problem) => self.store_failed(now, number, problem),
            Fault::NotFound
            | Fault::NotYet { .. }
            | Fault::Busy { .. }
            | Fault::Refused(_)
            | Fault::WrongBytes(_)
            | Fault::Changed(_)
            | Fault::Slow(_)
            | Fault::Broken(_) => {
                if let Some(asked) = asked {
                    self.failed(now, number, source, (asked, &fault));
                }
                self.settle(now, number);
            }
        }
    }

    /// What each of several sources did, whatever became of the object.
    fn parted(&mut self, now: Now, number: usize, parts: &[Part]) {
        for part in parts {
            let object = self.queue.get(number);
            let source = object.and_then(|object| match part.source.checked_sub(1) {
                None => Some(object.source),
                Some(other) => object.others.get(other).copied(),
            });
            let Some(source) = source else {
                continue;
            };
            let Some(asked) = self.candidate(number, source) else {
                continue;
            };
            self.sources.note(now.at, &asked, &part.end);
            if let Err(fault) = &part.end {
                self.failed(now, number, source, (asked, fault));
            }
        }
    }

    /// A candidate of an object, by its number.
    fn candidate(&self, number: usize, source: usize) -> Option<FillSource> {
        let candidates = self.queue.get(number)?.candidates.as_ref()?;
        candidates.source(source).map(|(source, _)| source.clone())
    }

    fn failed(&mut self, now: Now, number: usize, source: usize, why: (FillSource, &Fault)) {
        let Some(object) = self.queue.get_mut(number) else {
            return;
        };
        let (digest, (asked, fault)) = (object.want.digest, why);
        if let Some(candidates) = object.candidates.as_mut() {
            // Nobody's fault: the ticket ended before the object. Another answer has another one.
            if matches!(fault, Fault::Refused(_)) && candidates.is_stale(now.at, source) {
                return;
            }
            candidates.failed(now.at, source, fault);
        }
        self.complain(asked.id, digest, fault);
    }

    /// Ready, if a source is near; otherwise it waits without its answer.
    fn settle(&mut self, now: Now, number: usize) {
        let candidates = self
            .queue
            .get(number)
            .and_then(|object| object.candidates.as_ref());
        let pick = candidates.map_or(Pick::Nobody, |list| list.pick(now.at, &self.sources));
        match pick {
            Pick::Use(_) => self.queue.put(number, Place::Ready),
            Pick::At(from) if from <= now.at + super::READY_WAIT_MAX => {
                self.queue.put(number, Place::Ready);
            }
            Pick::At(_) | Pick::Stale | Pick::Nobody => self.wait(now, number, pick),
        }
    }

    /// Until its next source's time, or until the control plane may know of another one.
    pub(super) fn wait(&mut self, now: Now, number: usize, pick: Pick) {
        let Some(object) = self.queue.get_mut(number) else {
            return;
        };
        let asked_again = object.ask_again.unwrap_or(now.at).max(now.at);
        // Whoever still hopes is not asked for more often than the control plane wants.
        object.misses = match pick {
            Pick::At(_) | Pick::Nobody => object.misses.saturating_add(1),
            Pick::Use(_) | Pick::Stale => object.misses,
        };
        let most = (asked_again - now.at).saturating_mul(MISS_PATIENCE);
        let most = most.clamp(MISS_FIRST, MISS_MAX);
        let rest = sources::doubled(MISS_FIRST, object.misses).min(most);
        let hoped = asked_again.max(now.at + rest);
        let at = match pick {
            Pick::At(from) => from.min(hoped),
            Pick::Use(_) | Pick::Stale => asked_again,
            Pick::Nobody => hoped,
        };
        object.candidates = None;
        self.queue
            .put(number, Place::Waiting(at.min(now.at + ASK_AGAIN_MAX)));
    }

    /// Our own disks did not take it: no source is to blame, and other objects may fit.
    fn store_failed(&mut self, now: Now, number: usize, problem: &PublishError) {
        self.problem = Some(problem.to_string());
        let Some(object) = self.queue.get_mut(number) else {
            return;
        };
        object.store_faults = object.store_faults.saturating_add(1);
        let rest = sources::doubled(STORE_FIRST, object.store_faults).min(STORE_MAX);
        object.candidates = None;
        self.queue.put(number, Place::Waiting(now.at + rest));
        self.survey_soon(now);
    }

    /// No turns although the class is open: the budget is spent, or about to be.
    fn rest_class(&mut self, now: Instant, class: Class, has_moved: bool) {
        let times = match self.dry.get(&class) {
            // Streams of one class end together: that is one rest.
            Some((until, times)) if *until > now => (*times).max(1),
            Some((_, times)) if !has_moved => times.saturating_add(1),
            Some(_) | None => 1,
        };
        let rest = sources::doubled(DRY_FIRST, times).min(DRY_MAX);
        self.dry.insert(class, (now + rest, times));
    }

    fn complain(&mut self, source: String, digest: Digest, fault: &Fault) {
        let Some(problem) = sources::complaint(fault) else {
            return;
        };
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(Complaint {
                source,
                digest,
                problem: problem.to_owned(),
            });
        }
    }
}
