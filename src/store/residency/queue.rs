//! What waits for one disk: chunks wanted, chunks guessed, and the table of flights.
//!
//! Plain data under the lock of [`super::pool`]; nothing here waits.

use super::super::ObjectFile;
use super::super::lane::Pulse;
use super::super::lane::Ticks;
use super::FillError;
use super::Urgency;
use super::behind::Passed;
use crate::object::Digest;
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
    pub(super) wanted: VecDeque<Job>,
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
    /// Counts a thread that is about to be started; its number.
    pub(super) fn enlist(&mut self, ticks: &Ticks) -> usize {
        self.alive += 1;
        self.idle += 1;
        self.pulses.push(Arc::new(Pulse::new(ticks.clone())));
        self.pulses.len() - 1
    }

    pub(super) fn has_room(&self, urgency: Urgency) -> bool {
        match urgency {
            Urgency::Runs => self.wanted.len() < RUNS_MAX,
            Urgency::Begins => self.wanted.len() < BEGINS_MAX,
            Urgency::Ahead => self.ahead.len() < AHEAD_MAX,
        }
    }

    pub(super) fn pop(&mut self) -> Option<Job> {
        while let Some(job) = self.wanted.pop_front() {
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

    /// A job that was queued before `limit_ms` and that no thread has taken, as if one had.
    pub(super) fn pop_older(&mut self, limit_ms: u64) -> Option<Job> {
        let is_old = |job: &mut Job| match job {
            Job::Fill(flight) => flight.queued_ms < limit_ms,
            Job::Copy(copy) => copy.queued_ms < limit_ms,
            Job::Drop(_) => false,
        };
        while let Some(job) = self.wanted.pop_front_if(is_old) {
            match &job {
                Job::Fill(flight) if !flight.start() => {}
                Job::Fill(_) | Job::Copy(_) | Job::Drop(_) => return Some(job),
            }
        }
        let is_old = |flight: &mut Arc<Flight>| flight.queued_ms < limit_ms;
        while let Some(flight) = self.ahead.pop_front_if(is_old) {
            if flight.start() {
                return Some(Job::Fill(flight));
            }
        }
        None
    }
}

impl Flight {
    pub(super) fn is_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    /// True for the first who takes it.
    pub(super) fn start(&self) -> bool {
        !self.started.swap(true, Ordering::AcqRel)
    }
}
