//! Boxes that fill in a simulated night: they ask, fetch at a rate, report every few seconds, and
//! complain. Seconds are numbers; nothing waits.

use super::yard;
use super::yard::Yard;
use oca::clock;
use oca::clock::Instant;
use oca::link::message::Complaint;
use oca::link::message::FillSource;
use oca::link::message::FillSources;
use oca::link::message::FillSourcesRequest;
use oca::link::message::SourceKind;
use oca::object::Digest;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

/// Transfers of one box at a time.
const STREAMS: usize = 4;

/// Bytes a second of one box.
const RATE: u64 = 2_000_000;

/// What is held is told this often.
const REPORT_EVERY: u64 = 5;

/// From this length on a box is sent to one that is itself fetching the object.
const UNFINISHED: u64 = 32 << 20;

/// A dead box is noticed after so long.
const NOTICED_AFTER: u64 = 25;

pub(crate) struct Night<'a> {
    yard: &'a Yard,
    pub(crate) boxes: Vec<SimBox>,
    start: Instant,
    pub(crate) second: u64,
    /// Bytes fetched from the origin, whole objects or not.
    pub(crate) origin_bytes: u64,
    pub(crate) bytes: BTreeMap<SourceKind, u64>,
}

#[derive(Debug, Default)]
pub(crate) struct SimBox {
    number: u32,
    /// It begins to fill then.
    pub(crate) begins: u64,
    pub(crate) held: BTreeSet<u32>,
    pub(crate) lies: bool,
    died: Option<u64>,
    ask_at: u64,
    /// Usable sources of what is missing, best first.
    sources: BTreeMap<u32, Vec<FillSource>>,
    transfers: Vec<Transfer>,
    /// What is left of objects whose source had no more of them yet.
    staged: BTreeMap<u32, u64>,
    complaints: Vec<Complaint>,
}

#[derive(Clone, Debug)]
struct Transfer {
    object: u32,
    source: FillSource,
    left: u64,
}

impl<'a> Night<'a> {
    pub(crate) fn new(yard: &'a Yard) -> Self {
        let count = yard.registry.borrow().appliances.len();
        let boxes = (0..u32::try_from(count).unwrap()).map(|number| SimBox {
            number,
            ..SimBox::default()
        });
        Self {
            yard,
            boxes: boxes.collect(),
            start: clock::now(),
            second: 0,
            origin_bytes: 0,
            bytes: BTreeMap::new(),
        }
    }

    pub(crate) fn objects(&self) -> u32 {
        u32::try_from(self.yard.library.objects.len()).unwrap()
    }

    /// The box that fetches most from the origin at this moment.
    pub(crate) fn busiest(&self) -> u32 {
        let load = |one: &&SimBox| {
            let transfers = one.transfers.iter();
            let at_origin = transfers.filter(|t| t.source.kind == SourceKind::Origin);
            at_origin.count() + one.held.len()
        };
        self.boxes.iter().max_by_key(load).unwrap().number
    }

    pub(crate) fn kill(&mut self, number: u32) {
        self.boxes[number as usize].died = Some(self.second);
    }

    pub(crate) fn is_complete(&self) -> bool {
        let all = self.objects() as usize;
        let mut alive = self.boxes.iter().filter(|one| one.died.is_none());
        alive.all(|one| one.held.len() == all)
    }

    /// Has everybody everything who begins before?
    pub(crate) fn is_complete_until(&self, second: u64) -> bool {
        let all = self.objects() as usize;
        let mut early = self.boxes.iter().filter(|one| one.begins < second);
        early.all(|one| one.held.len() == all)
    }

    /// Nothing happens until then, but that everybody reports.
    pub(crate) fn skip_to(&mut self, second: u64) {
        self.second = second;
        for one in self.boxes.iter().filter(|one| one.begins < second) {
            self.yard.hold(one.number, one.held.iter().copied());
        }
    }

    /// Runs until everybody alive has everything; the second in which that was.
    pub(crate) async fn run(&mut self, limit: u64) -> u64 {
        while !self.is_complete() {
            assert!(self.second < limit, "{:?}", self.state());
            self.tick().await;
        }
        self.second
    }

    pub(crate) async fn tick(&mut self) {
        for number in 0..self.boxes.len() {
            let one = &self.boxes[number];
            if one.died.is_none() && self.second >= one.begins {
                self.report(number);
                self.ask(number).await;
                self.fetch(number);
            } else if one
                .died
                .is_some_and(|died| self.second == died + NOTICED_AFTER)
            {
                self.yard.kill(u32::try_from(number).unwrap());
            }
        }
        self.second += 1;
    }

    fn report(&mut self, number: usize) {
        let one = &self.boxes[number];
        if (self.second + number as u64).is_multiple_of(REPORT_EVERY) && !one.held.is_empty() {
            self.yard.hold(one.number, one.held.iter().copied());
        }
    }

    async fn ask(&mut self, number: usize) {
        let all = self.objects();
        let one = &mut self.boxes[number];
        let under_way: BTreeSet<u32> = one.transfers.iter().map(|t| t.object).collect();
        let missing = (0..all).filter(|object| {
            let has = one.held.contains(object) || under_way.contains(object);
            !has && one.sources.get(object).is_none_or(Vec::is_empty)
        });
        let missing: Vec<Digest> = missing.take(256).map(yard::digest).collect();
        if missing.is_empty() || (self.second < one.ask_at && one.complaints.is_empty()) {
            return;
        }
        let request = FillSourcesRequest {
            v: 1,
            wanted: missing,
            complaints: std::mem::take(&mut one.complaints),
        };
        let id = yard::id(one.number);
        let now = self.start + Duration::from_secs(self.second);
        let wall = yard::wall() + Duration::from_secs(self.second);
        let answer = self.yard.sources.answer(&id, request, now, wall).await;
        let answer = answer.unwrap();
        check(self.yard, one.number, &answer, wall);
        one.ask_at = self.second + answer.ask_again_s;
        for object in answer.objects {
            let number = self.yard.library.object_numbers[&object.digest];
            let usable = object.sources.into_iter().filter(|s| !s.urls.is_empty());
            one.sources.insert(number, usable.collect());
        }
    }

    fn fetch(&mut self, number: usize) {
        let length = self.yard.library.objects[0].length;
        let one = &mut self.boxes[number];
        while one.transfers.len() < STREAMS {
            let next = one.sources.iter().find(|(_, sources)| !sources.is_empty());
            let Some(object) = next.map(|(object, _)| *object) else {
                break;
            };
            // When this one fails it asks again.
            let mut sources = one.sources.remove(&object).unwrap();
            one.transfers.push(Transfer {
                object,
                source: sources.remove(0),
                left: one.staged.get(&object).copied().unwrap_or(length),
            });
        }
        let share = RATE / one.transfers.len().max(1) as u64;
        let transfers = std::mem::take(&mut one.transfers);
        for mut transfer in transfers {
            let Some(there) = self.there(&transfer) else {
                self.fail(number, transfer, "not-found");
                continue;
            };
            let step = transfer.left.min(share);
            let step = step.min(there.saturating_sub(length - transfer.left));
            if step == 0 && transfer.left > 0 {
                // It is fetching the object itself: the next answer may name another.
                let one = &mut self.boxes[number];
                one.staged.insert(transfer.object, transfer.left);
                continue;
            }
            transfer.left -= step;
            *self.bytes.entry(transfer.source.kind).or_default() += step;
            if transfer.source.kind == SourceKind::Origin {
                self.origin_bytes += step;
            }
            self.settle(number, transfer);
        }
    }

    /// How much of its object a source has; none: nothing, and it is not about to.
    fn there(&self, transfer: &Transfer) -> Option<u64> {
        let length = self.yard.library.objects[0].length;
        let mut boxes = self.boxes.iter();
        let source = boxes.find(|one| yard::id(one.number).as_str() == transfer.source.id);
        let Some(source) = source.filter(|one| one.died.is_none()) else {
            return Some(length);
        };
        if source.held.contains(&transfer.object) {
            return Some(length);
        }
        let under_way = source.transfers.iter();
        let mut under_way = under_way.filter(|one| one.object == transfer.object);
        let left = under_way.next().map(|one| one.left);
        let left = left.or_else(|| source.staged.get(&transfer.object).copied());
        left.map(|left| length - left)
    }

    /// Goes on, ends well, or ends with a complaint.
    fn settle(&mut self, number: usize, transfer: Transfer) {
        let source = { self.boxes.iter() }.find(|one| {
            let id = yard::id(one.number);
            id.as_str() == transfer.source.id
        });
        let problem = match source {
            Some(source) if source.died.is_some() => Some("broken"),
            Some(source) if transfer.left == 0 && source.lies => Some("wrong-bytes"),
            Some(source) => {
                let is_large = self.yard.library.objects[0].length >= UNFINISHED;
                assert!(
                    is_large || source.held.contains(&transfer.object),
                    "sent where it is not"
                );
                None
            }
            None => None,
        };
        let one = &mut self.boxes[number];
        match problem {
            None if transfer.left > 0 => one.transfers.push(transfer),
            None => {
                one.sources.remove(&transfer.object);
                one.held.insert(transfer.object);
            }
            Some(problem) => self.fail(number, transfer, problem),
        }
    }

    fn fail(&mut self, number: usize, transfer: Transfer, problem: &str) {
        let one = &mut self.boxes[number];
        one.sources.remove(&transfer.object);
        one.complaints.push(Complaint {
            source: transfer.source.id,
            digest: yard::digest(transfer.object),
            problem: problem.to_owned(),
        });
    }

    fn state(&self) -> Vec<(u32, usize, usize)> {
        let boxes = self.boxes.iter();
        boxes
            .map(|one| (one.number, one.held.len(), one.transfers.len()))
            .collect()
    }
}

/// What must hold for every answer: nothing to fetch with before its time, and tickets that are
/// good for nobody else and nowhere else.
fn check(yard: &Yard, asker: u32, answer: &FillSources, wall: clock::Wall) {
    let (own, other) = (yard::id(asker), yard::id(asker + 1));
    for object in &answer.objects {
        for source in &object.sources {
            assert_eq!(
                source.urls.is_empty(),
                source.not_before_s > 0,
                "{source:?}"
            );
            assert_eq!(
                source.urls.is_empty(),
                source.ticket.is_none(),
                "{source:?}"
            );
        }
        let first = object.sources.iter().find_map(|s| Some((s, s.ticket?)));
        let Some((source, ticket)) = first else {
            continue;
        };
        let ticket = yard.verifier.ticket(&answer.tickets[ticket]).unwrap();
        let check = |asker, source: &str| ticket.check(asker, source, object.digest, wall);
        assert_eq!(check(&own, &source.id), Ok(()));
        assert!(check(&other, &source.id).is_err(), "a third box");
        assert!(check(&own, "c999-tls001-isp").is_err(), "another source");
        let late = wall + Duration::from_secs(661);
        assert!(ticket.check(&own, &source.id, object.digest, late).is_err());
    }
}
