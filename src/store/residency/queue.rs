//! What waits for one disk: chunks wanted, chunks guessed, and the table of flights.
//!
//! Whose turn it is among those who want something, [`super::shares`] knows. How many may wait is
//! decided here.
//!
//! Plain data under the lock of [`super::pool`]; nothing here waits.

use super::super::ObjectFile;
use super::super::lane::Pulse;
use super::super::lane::Ticks;
use super::CHUNK_BYTES;
use super::FillError;
use super::Household;
use super::Urgency;
use super::behind::Passed;
use super::shares::Shares;
use crate::lock::lock;
use crate::object::Digest;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;
use tokio::sync::watch;

/// Chunks wanted of one disk beyond which no response begins: a hard disk needs seconds for them,
/// and another box is sooner.
pub(super) const BEGINS_MAX: usize = 512;

/// Chunks wanted of one disk in all; responses that run have this much room more, and are cut when
/// it is taken too. A response wants one chunk at a time, so the waiters are no more than the
/// connections.
pub(super) const RUNS_MAX: usize = 4096;

/// Of these two, the most that one household may take.
pub(super) const BEGINS_EACH_MAX: usize = BEGINS_MAX / 2;
pub(super) const RUNS_EACH_MAX: usize = RUNS_MAX / 4;

/// Every household may have so many chunks wanted although the room above is taken by others: what
/// a home watches at a time. It has its turn soon, however long the queue is.
pub(super) const EACH_MIN: usize = 4;

/// That room, beyond the other: what the networks of a few hundred households can take of it.
const BEGINS_MIN_MAX: usize = BEGINS_MAX + 2048;
const RUNS_MIN_MAX: usize = RUNS_MAX + 2048;

/// Chunks asked for ahead. When there are more, the disk is too busy for guesses.
pub(super) const AHEAD_MAX: usize = 256;

/// What a read costs a disk beside its bytes, in bytes. Without it a crowd that asks for small
/// objects would hold up everybody else; with more, small objects would wait for the large.
const READ_COST: u64 = 64 * 1024;

/// One chunk on its way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) object: Arc<ObjectFile>,
    pub(super) chunk: u64,
    pub(super) queued_ms: u64,
    /// A thread has it.
    pub(super) started: AtomicBool,
    /// Those in whose turn it may be read. Nobody: it stands in the queue of guesses.
    pub(super) wanted_by: Mutex<BTreeSet<Household>>,
    pub(super) outcome: watch::Sender<Option<Result<(), FillError>>>,
}

#[derive(Default)]
pub(super) struct Queue {
    shares: Shares,
    pub(super) ahead: VecDeque<Arc<Flight>>,
    pub(super) flights: HashMap<(Digest, u64), Arc<Flight>>,
    /// One a thread.
    pub(super) pulses: Vec<Arc<Pulse>>,
    pub(super) alive: usize,
    pub(super) idle: usize,
    /// As many as the disk does well at once; fewer once no more could be started.
    pub(super) threads_max: usize,
    pub(super) silent: bool,
    pub(super) closed: bool,
}

pub(super) enum Job {
    Fill(Arc<Flight>),
    Copy(Copy),
    Drop(Passed),
}

pub(super) struct Copy {
    pub(super) object: Arc<ObjectFile>,
    pub(super) at: u64,
    pub(super) length: u64,
    pub(super) queued_ms: u64,
    pub(super) reply: oneshot::Sender<io::Result<Vec<u8>>>,
}

impl Queue {
    pub(super) fn new(threads_max: usize) -> Self {
        Self {
            threads_max,
            ..Self::default()
        }
    }

    /// Counts a thread that is about to be started; its number.
    pub(super) fn enlist(&mut self, ticks: &Ticks) -> usize {
        self.alive += 1;
        self.idle += 1;
        self.pulses.push(Arc::new(Pulse::new(ticks.clone())));
        self.pulses.len() - 1
    }

    pub(super) fn has_room(&self, urgency: Urgency, household: Household) -> bool {
        let (all, own) = (self.wanted(), self.shares.len_of(household));
        match urgency {
            Urgency::Runs if own < EACH_MIN => all < RUNS_MIN_MAX,
            Urgency::Runs => all < RUNS_MAX && own < RUNS_EACH_MAX,
            Urgency::Begins if own < EACH_MIN => all < BEGINS_MIN_MAX,
            Urgency::Begins => all < BEGINS_MAX && own < BEGINS_EACH_MAX,
            Urgency::Ahead => self.ahead.len() < AHEAD_MAX,
        }
    }

    /// Chunks and pieces that somebody waits for.
    pub(super) fn wanted(&self) -> usize {
        self.shares.len()
    }

    /// Somebody waits for it.
    pub(super) fn push(&mut self, household: Household, job: Job) {
        self.shares.push(household, job);
    }

    /// Nobody is waited for any more.
    pub(super) fn clear(&mut self) {
        self.shares.clear();
        self.ahead.clear();
    }

    pub(super) fn pop(&mut self) -> Option<Job> {
        let begins = |job: &Job| match job {
            // It may have been read in another's turn.
            Job::Fill(flight) => flight.start(),
            Job::Copy(_) | Job::Drop(_) => true,
        };
        if let Some(job) = self.shares.pop(begins) {
            return Some(job);
        }
        while let Some(flight) = self.ahead.pop_front() {
            if flight.start() {
                return Some(Job::Fill(flight));
            }
        }
        None
    }

    /// The jobs that were queued before `limit_ms` and that no thread has taken, as if one had.
    pub(super) fn take_older(&mut self, limit_ms: u64) -> Vec<Job> {
        let is_old = |job: &Job| match job {
            Job::Fill(flight) => flight.queued_ms < limit_ms,
            Job::Copy(copy) => copy.queued_ms < limit_ms,
            Job::Drop(_) => false,
        };
        let mut old = self.shares.extract(is_old);
        let is_old = |flight: &mut Arc<Flight>| flight.queued_ms < limit_ms;
        while let Some(flight) = self.ahead.pop_front_if(is_old) {
            old.push(Job::Fill(flight));
        }
        old.retain(|job| match job {
            Job::Fill(flight) => flight.start(),
            Job::Copy(_) | Job::Drop(_) => true,
        });
        old
    }
}

impl Job {
    /// Of the disk's time, in bytes.
    pub(super) fn cost(&self) -> u64 {
        match self {
            Self::Fill(flight) => READ_COST + flight.length(),
            Self::Copy(copy) => READ_COST + copy.length,
            Self::Drop(_) => 0,
        }
    }
}

impl Flight {
    /// Bytes of the chunk; the last one of an object is shorter.
    pub(super) fn length(&self) -> u64 {
        let at = self.chunk.saturating_mul(CHUNK_BYTES);
        CHUNK_BYTES.min(self.object.length.saturating_sub(at))
    }

    pub(super) fn is_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    /// True once for each household.
    pub(super) fn is_news_to(&self, household: Household) -> bool {
        lock(&self.wanted_by).insert(household)
    }

    /// Nobody waits for it yet.
    pub(super) fn is_guess(&self) -> bool {
        lock(&self.wanted_by).is_empty()
    }

    /// True for the first who takes it.
    pub(super) fn start(&self) -> bool {
        !self.started.swap(true, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An object of a name of its own, of which nothing is ever read.
    fn object(name: u64, length: u64) -> Arc<ObjectFile> {
        Arc::new(ObjectFile {
            file: tempfile::tempfile().unwrap(),
            length,
            digest: Digest::of(&name.to_le_bytes()),
            volume: 0,
        })
    }

    const HOME: Household = Household(1);

    fn want(queue: &mut Queue, object: &Arc<ObjectFile>, chunk: u64) {
        want_of(queue, HOME, object, chunk);
    }

    fn want_of(queue: &mut Queue, household: Household, object: &Arc<ObjectFile>, chunk: u64) {
        let flight = Flight {
            object: Arc::clone(object),
            chunk,
            queued_ms: 0,
            started: AtomicBool::new(false),
            wanted_by: Mutex::default(),
            outcome: watch::Sender::new(None),
        };
        queue.push(household, Job::Fill(Arc::new(flight)));
    }

    fn next(queue: &mut Queue) -> Arc<Flight> {
        match queue.pop() {
            Some(Job::Fill(flight)) => flight,
            Some(Job::Copy(_) | Job::Drop(_)) | None => panic!("no chunk is wanted"),
        }
    }

    #[test]
    fn each_response_gets_as_many_bytes_as_any_other() {
        let mut queue = Queue::default();
        // One that streams segments of a chunk and a bit, among many that stream whole chunks.
        let film = object(0, CHUNK_BYTES + 90_000);
        let others: Vec<_> = (1..=24)
            .map(|name| object(name, 1000 * CHUNK_BYTES))
            .collect();
        for other in &others {
            want(&mut queue, other, 0);
        }
        want(&mut queue, &film, 0);
        let (mut of_film, mut of_others) = (0, 0);
        for _ in 0..25 * 100 {
            let flight = next(&mut queue);
            if Arc::ptr_eq(&flight.object, &film) {
                of_film += flight.length() + READ_COST;
                want(&mut queue, &film, 1 - flight.chunk);
            } else {
                of_others += flight.length() + READ_COST;
                want(&mut queue, &flight.object, flight.chunk + 1);
            }
        }
        let share = of_film as f64 / (of_others as f64 / others.len() as f64);
        assert!((0.9..1.1).contains(&share), "{share}");
    }

    #[test]
    fn the_small_goes_first_and_holds_the_large_up_for_no_more_than_its_share() {
        let mut queue = Queue::default();
        let large = object(0, CHUNK_BYTES);
        for chunk in 0..3 {
            want(&mut queue, &object(chunk + 1, CHUNK_BYTES), 0);
        }
        want(&mut queue, &large, 0);
        want(&mut queue, &object(10, 1000), 0);
        assert_eq!(next(&mut queue).length(), 1000);
        // However many of the small come after another, the large have their turn.
        let mut served = Vec::new();
        for name in 0..100 {
            want(&mut queue, &object(20 + name, 1000), 0);
            served.push(next(&mut queue).length());
        }
        let first = served.iter().position(|length| *length == CHUNK_BYTES);
        assert!(matches!(first, Some(5..10)), "{first:?}");
        let large = served.iter().filter(|length| **length == CHUNK_BYTES);
        assert_eq!(large.count(), 4);
    }

    #[test]
    fn a_household_gets_no_more_of_a_disk_by_asking_over_more_connections() {
        let mut queue = Queue::default();
        // Two films of one connection each, beside a crowd behind one address.
        let films = [object(0, CHUNK_BYTES + 90_000), object(1, 1 << 40)];
        let crowd = object(2, 1 << 40);
        for chunk in 0..300 {
            want(&mut queue, &crowd, chunk);
        }
        for (number, film) in (2..).zip(&films) {
            want_of(&mut queue, Household(number), film, 0);
        }
        let (mut of_films, mut of_crowd, mut longest) = ([0, 0], 0, 0);
        let mut waited = 0;
        for count in 0..3_000 {
            let flight = next(&mut queue);
            let film = films
                .iter()
                .position(|film| Arc::ptr_eq(&flight.object, film));
            let cost = flight.length() + READ_COST;
            waited += 1;
            match film {
                Some(film) => {
                    of_films[film] += cost;
                    longest = longest.max(if film == 1 { waited } else { 0 });
                    waited = if film == 1 { 0 } else { waited };
                    let next = if film == 0 {
                        1 - flight.chunk
                    } else {
                        flight.chunk + 1
                    };
                    let household = Household(film as u64 + 2);
                    want_of(&mut queue, household, &films[film], next);
                }
                None => {
                    of_crowd += cost;
                    want(&mut queue, &crowd, 1_000 + count);
                }
            }
        }
        for film in of_films {
            let share = f64::from(u32::try_from(film / 1000).unwrap())
                / f64::from(u32::try_from(of_crowd / 1000).unwrap());
            assert!((0.9..1.1).contains(&share), "{share}");
        }
        assert!(longest <= 6, "a film waited for {longest} others");
    }

    #[test]
    fn places_are_bounded_for_each_household_and_a_newcomer_finds_one() {
        let mut queue = Queue::default();
        let object = object(0, 1 << 40);
        let fill = |queue: &mut Queue, household: u64, urgency| {
            let household = Household(household);
            let before = queue.shares.len_of(household);
            while queue.has_room(urgency, household) {
                want_of(queue, household, &object, 0);
            }
            queue.shares.len_of(household) - before
        };
        assert_eq!(fill(&mut queue, 1, Urgency::Begins), BEGINS_EACH_MAX);
        assert_eq!(
            fill(&mut queue, 2, Urgency::Begins),
            BEGINS_MAX - BEGINS_EACH_MAX
        );
        // A home has a /56, which is 256 networks.
        for network in 3..256 {
            assert_eq!(fill(&mut queue, network, Urgency::Begins), EACH_MIN);
        }
        assert_eq!(fill(&mut queue, 1_000, Urgency::Begins), EACH_MIN);
        // What runs has more room, and that is bounded too.
        let more = fill(&mut queue, 1, Urgency::Runs);
        assert_eq!(more, RUNS_EACH_MAX - BEGINS_EACH_MAX);
        for network in 0..100_000 {
            fill(&mut queue, network, Urgency::Runs);
        }
        assert_eq!(queue.wanted(), RUNS_MIN_MAX);
    }

    #[test]
    fn what_is_read_in_anothers_turn_costs_nobody_a_turn() {
        let mut queue = Queue::default();
        let (shared, own) = (object(0, 3 * CHUNK_BYTES), object(1, CHUNK_BYTES));
        want_of(&mut queue, Household(1), &shared, 0);
        let flight = next(&mut queue);
        // It stood in the second household's queue, too, before what that wants next.
        queue.push(Household(2), Job::Fill(flight));
        want_of(&mut queue, Household(2), &own, 0);
        want_of(&mut queue, Household(1), &shared, 1);
        want_of(&mut queue, Household(1), &shared, 2);
        assert!(Arc::ptr_eq(&next(&mut queue).object, &own));
        assert_eq!(queue.wanted(), 2);
    }

    #[test]
    fn what_is_too_old_is_taken_wherever_it_stands() {
        let mut queue = Queue::default();
        for (name, length) in [(1, CHUNK_BYTES), (2, 10), (3, CHUNK_BYTES)] {
            want(&mut queue, &object(name, length), 0);
        }
        assert_eq!(queue.take_older(0).len(), 0);
        assert_eq!(queue.wanted(), 3);
        assert_eq!(queue.take_older(1).len(), 3);
        assert!(queue.pop().is_none());
    }
}
