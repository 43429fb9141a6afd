//! What waits for one disk: chunks wanted, chunks guessed, and the table of flights.
//!
//! The disk's time is shared by bytes (self-clocked fair queueing): what is wanted has its turn
//! when as much has been read for others who wait as it needs itself. A response wants one chunk at
//! a time, so each connection gets an equal share of the disk, and a playlist or the end of a
//! segment does not wait for a whole chunk of everybody who streams.
//!
//! Plain data under the lock of [`super::pool`]; nothing here waits.

use super::super::ObjectFile;
use super::super::lane::Pulse;
use super::super::lane::Ticks;
use super::CHUNK_BYTES;
use super::FillError;
use super::Urgency;
use super::behind::Passed;
use crate::object::Digest;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
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
    /// Nobody waits for it yet; it stands in the queue of guesses.
    pub(super) ahead: AtomicBool,
    /// A thread has it.
    pub(super) started: AtomicBool,
    pub(super) outcome: watch::Sender<Option<Result<(), FillError>>>,
}

#[derive(Default)]
pub(super) struct Queue {
    /// By turn; of equal turns, in the order of arrival.
    wanted: BTreeMap<(u64, u64), Job>,
    /// Of the job that was taken last.
    turn: u64,
    arrivals: u64,
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

    pub(super) fn has_room(&self, urgency: Urgency) -> bool {
        match urgency {
            Urgency::Runs => self.wanted() < RUNS_MAX,
            Urgency::Begins => self.wanted() < BEGINS_MAX,
            Urgency::Ahead => self.ahead.len() < AHEAD_MAX,
        }
    }

    /// Chunks and pieces that somebody waits for.
    pub(super) fn wanted(&self) -> usize {
        self.wanted.len()
    }

    /// Somebody waits for it.
    pub(super) fn push(&mut self, job: Job) {
        self.arrivals += 1;
        let place = (self.turn + job.cost(), self.arrivals);
        self.wanted.insert(place, job);
    }

    /// Nobody is waited for any more.
    pub(super) fn clear(&mut self) {
        self.wanted.clear();
        self.ahead.clear();
    }

    pub(super) fn pop(&mut self) -> Option<Job> {
        while let Some(((turn, _), job)) = self.wanted.pop_first() {
            self.turn = turn;
            match &job {
                Job::Fill(flight) if !flight.start() => {}
                Job::Fill(_) | Job::Copy(_) | Job::Drop(_) => return Some(job),
            }
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
        let is_old = |_: &(u64, u64), job: &mut Job| match job {
            Job::Fill(flight) => flight.queued_ms < limit_ms,
            Job::Copy(copy) => copy.queued_ms < limit_ms,
            Job::Drop(_) => false,
        };
        let wanted = self.wanted.extract_if(.., is_old).map(|(_, job)| job);
        let mut old: Vec<Job> = wanted.collect();
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
    fn cost(&self) -> u64 {
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

    fn want(queue: &mut Queue, object: &Arc<ObjectFile>, chunk: u64) {
        queue.push(Job::Fill(Arc::new(Flight {
            object: Arc::clone(object),
            chunk,
            queued_ms: 0,
            ahead: AtomicBool::new(false),
            started: AtomicBool::new(false),
            outcome: watch::Sender::new(None),
        })));
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
