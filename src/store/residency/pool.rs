//! One disk's fill queue and its threads: single-flight, bounded, and no thread of anybody else's
//! ever waits here.
//!
//! There is always one thread to spare, up to the disk's number: a thread that takes work starts
//! the next one first, so that no data-plane worker ever starts a thread.
//!
//! I/O: spawns threads, which do what `bring` and `behind` do.

use super::super::ObjectFile;
use super::super::lane::Pulse;
use super::super::lane::Ticks;
use super::CHUNK_BYTES;
use super::FillError;
use super::Household;
use super::Urgency;
use super::behind::Behind;
use super::bring;
use super::counts::ColdView;
use super::counts::Counts;
use super::queue::Copy;
use super::queue::Flight;
use super::queue::Job;
use super::queue::Queue;
use crate::object::Digest;
use std::io;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::sync::watch;

/// Brings a range of an object into memory. A test gives another one.
pub(super) type Bring = Box<dyn Fn(&ObjectFile, u64, u64) -> io::Result<()> + Send + Sync>;

pub(super) struct Pool {
    pub(super) ticks: Ticks,
    pub(super) counts: Counts,
    pub(super) behind: Behind,
    disk: u16,
    deadline: Duration,
    bring: Bring,
    queue: Mutex<Queue>,
    work: Condvar,
    /// Length of the table of flights, for who only wants to know that it is empty.
    flying: AtomicUsize,
    /// See [`super::Fills::is_in_doubt`].
    pub(super) in_doubt: AtomicBool,
    /// False while the disk is isolated: everybody who waits is released.
    answering: watch::Sender<bool>,
}

impl Pool {
    pub(super) fn new(
        disk: u16,
        threads_max: usize,
        deadline: Duration,
        ticks: Ticks,
        bring: Bring,
    ) -> Self {
        Self {
            ticks,
            counts: Counts::default(),
            behind: Behind::default(),
            disk,
            deadline,
            bring,
            queue: Mutex::new(Queue::new(threads_max)),
            work: Condvar::new(),
            flying: AtomicUsize::new(0),
            in_doubt: AtomicBool::new(false),
            answering: watch::Sender::new(true),
        }
    }

    pub(super) fn start(self: &Arc<Self>) -> io::Result<()> {
        let number = self.lock().enlist(&self.ticks);
        self.spawn(number)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn under_way(&self) -> usize {
        self.flying.load(Ordering::Relaxed)
    }

    pub(super) fn is_flying(&self, digest: Digest, chunk: u64) -> bool {
        self.flying.load(Ordering::Acquire) > 0
            && self.lock().flights.contains_key(&(digest, chunk))
    }

    /// The one flight of a chunk, started if there is none.
    pub(super) fn join(
        &self,
        object: &Arc<ObjectFile>,
        chunk: u64,
        urgency: Urgency,
        household: Household,
    ) -> Result<Arc<Flight>, FillError> {
        let mut queue = self.lock();
        if queue.silent || queue.closed {
            return Err(FillError::NoAnswer);
        }
        let key = (object.digest, chunk);
        if let Some(flight) = queue.flights.get(&key).cloned() {
            if urgency != Urgency::Ahead {
                self.counts.add(&self.counts.joined);
                let waits = !flight.is_started();
                if waits && queue.has_room(urgency, household) {
                    // Somebody waits for what was a guess, or has a turn sooner than who came
                    // first: it moves up. Its other places are passed over.
                    if flight.is_news_to(household) {
                        queue.push(household, Job::Fill(Arc::clone(&flight)));
                        self.work.notify_one();
                    }
                } else if waits && flight.is_guess() {
                    self.counts.add(&self.counts.refused);
                    return Err(FillError::Busy);
                }
            }
            return Ok(flight);
        }
        if !queue.has_room(urgency, household) {
            self.counts.add(&self.counts.refused);
            return Err(FillError::Busy);
        }
        let is_ahead = urgency == Urgency::Ahead;
        let flight = Arc::new(Flight {
            object: Arc::clone(object),
            chunk,
            queued_ms: self.ticks.now_ms(),
            started: AtomicBool::new(false),
            wanted_by: Mutex::default(),
            outcome: watch::Sender::new(None),
        });
        queue.flights.insert(key, Arc::clone(&flight));
        self.flying.store(queue.flights.len(), Ordering::Release);
        if is_ahead {
            self.counts.add(&self.counts.prefetches);
            queue.ahead.push_back(Arc::clone(&flight));
        } else {
            flight.is_news_to(household);
            queue.push(household, Job::Fill(Arc::clone(&flight)));
        }
        self.work.notify_one();
        Ok(flight)
    }

    /// Waits for a flight's end, or for the disk to go out of reach. May be dropped.
    pub(super) async fn arrival(&self, flight: &Flight) -> Result<(), FillError> {
        let mut outcome = flight.outcome.subscribe();
        let mut answering = self.answering.subscribe();
        tokio::select! {
            biased;
            outcome = outcome.wait_for(Option::is_some) => match outcome.as_deref() {
                Ok(Some(outcome)) => outcome.clone(),
                Ok(None) | Err(_) => Err(FillError::NoAnswer),
            },
            _ = answering.wait_for(|answering| !*answering) => Err(FillError::NoAnswer),
        }
    }

    /// Reads on the disk's thread into memory of our own.
    pub(super) async fn copy(
        &self,
        object: &Arc<ObjectFile>,
        at: u64,
        length: u64,
        household: Household,
    ) -> Result<Vec<u8>, FillError> {
        let (reply, answer) = oneshot::channel();
        {
            let mut queue = self.lock();
            if queue.silent || queue.closed {
                return Err(FillError::NoAnswer);
            }
            if !queue.has_room(Urgency::Runs, household) {
                self.counts.add(&self.counts.refused);
                return Err(FillError::Busy);
            }
            let copy = Copy {
                object: Arc::clone(object),
                at,
                length,
                queued_ms: self.ticks.now_ms(),
                reply,
            };
            queue.push(household, Job::Copy(copy));
            self.work.notify_one();
        }
        let mut answering = self.answering.subscribe();
        tokio::select! {
            biased;
            answer = answer => match answer {
                Ok(read) => Ok(read?),
                Err(_) if self.lock().silent => Err(FillError::NoAnswer),
                // Given up because it waited too long, or by a panic.
                Err(_) => Err(FillError::Busy),
            },
            _ = answering.wait_for(|answering| !*answering) => Err(FillError::NoAnswer),
        }
    }

    pub(super) fn set_answering(&self, answering: bool) {
        let mut queue = self.lock();
        if queue.closed {
            return;
        }
        queue.silent = !answering;
        if !answering {
            self.give_up(&mut queue, &FillError::NoAnswer);
        }
        drop(queue);
        self.answering
            .send_if_modified(|now| std::mem::replace(now, answering) != answering);
    }

    /// Ends everything that no thread has taken, and forgets what hangs with one.
    fn give_up(&self, queue: &mut Queue, why: &FillError) {
        queue.clear();
        self.behind.clear();
        for (_, flight) in queue.flights.drain() {
            if !flight.is_started() {
                flight.outcome.send_replace(Some(Err(why.clone())));
            }
        }
        self.flying.store(0, Ordering::Release);
    }

    pub(super) fn watch(&self) {
        let now = self.ticks.now_ms();
        let patience = u64::try_from(self.deadline.as_millis()).unwrap_or(u64::MAX);
        let mut queue = self.lock();
        for job in queue.take_older(now.saturating_sub(patience)) {
            self.counts.add(&self.counts.refused);
            // Dropping a copy's place for the answer says the same.
            if let Job::Fill(flight) = job {
                self.land(&mut queue, &flight, Err(FillError::Busy));
            }
        }
        drop(queue);
        if self.behind.is_due(now) {
            self.work.notify_one();
        }
    }

    /// Takes a flight off the table and tells who waits for it.
    fn land(&self, queue: &mut Queue, flight: &Arc<Flight>, outcome: Result<(), FillError>) {
        let key = (flight.object.digest, flight.chunk);
        // After an isolation another flight may have taken its place.
        if queue
            .flights
            .get(&key)
            .is_some_and(|known| Arc::ptr_eq(known, flight))
        {
            queue.flights.remove(&key);
            self.flying.store(queue.flights.len(), Ordering::Release);
        }
        flight.outcome.send_replace(Some(outcome));
    }

    pub(super) fn is_overdue(&self) -> bool {
        self.lock().pulses.iter().any(|pulse| pulse.is_overdue())
    }

    pub(super) fn is_idle(&self) -> bool {
        self.lock().pulses.iter().all(|pulse| pulse.is_idle())
    }

    pub(super) fn close(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        self.give_up(&mut queue, &FillError::NoAnswer);
        drop(queue);
        self.answering.send_replace(false);
        self.work.notify_all();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.lock().alive == 0
    }

    fn spawn(self: &Arc<Self>, number: usize) -> io::Result<()> {
        let (pool, pulse) = {
            let queue = self.lock();
            (Arc::clone(self), Arc::clone(&queue.pulses[number]))
        };
        let name = format!("disk{}-fill{number}", self.disk);
        let spawned = std::thread::Builder::new()
            .name(name)
            .spawn(move || pool.run(&pulse));
        if let Err(error) = spawned {
            let mut queue = self.lock();
            queue.alive -= 1;
            queue.idle -= 1;
            queue.threads_max = queue.alive;
            return Err(error);
        }
        Ok(())
    }

    fn run(self: &Arc<Self>, pulse: &Pulse) {
        while let Some((job, spare)) = self.next() {
            pulse.beat(self.deadline);
            if let Some(number) = spare
                && let Err(error) = self.spawn(number)
            {
                tracing::warn!(%error, "a disk's reads get no more threads; check LimitNPROC");
            }
            // A panic costs one job. Who waits for a copy sees the place for its answer dropped.
            if catch_unwind(AssertUnwindSafe(|| self.carry_out(job))).is_err() {
                tracing::error!("a disk's read panicked; its viewer gets an error");
            }
            pulse.rest();
            self.lock().idle += 1;
        }
    }

    /// The next job, and the number of the thread to be started before it.
    fn next(&self) -> Option<(Job, Option<usize>)> {
        let mut queue = self.lock();
        loop {
            if queue.closed {
                queue.alive -= 1;
                return None;
            }
            let job = queue.pop();
            let job = job.or_else(|| self.behind.due(self.ticks.now_ms()).map(Job::Drop));
            let Some(job) = job else {
                let waited = self.work.wait(queue);
                queue = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            queue.idle -= 1;
            let needs_spare = queue.idle == 0 && queue.alive < queue.threads_max;
            let spare = needs_spare.then(|| queue.enlist(&self.ticks));
            return Some((job, spare));
        }
    }

    fn carry_out(&self, job: Job) {
        match job {
            Job::Fill(flight) => {
                let at = flight.chunk * CHUNK_BYTES;
                let length = flight.length();
                // A panic in here must not leave waiters behind.
                let work = AssertUnwindSafe(|| (self.bring)(&flight.object, at, length));
                let outcome = match catch_unwind(work) {
                    Ok(outcome) => outcome.map_err(FillError::from),
                    Err(_) => Err(FillError::NoAnswer),
                };
                let count = match &outcome {
                    Ok(()) => &self.counts.fills,
                    Err(_) => &self.counts.errors,
                };
                self.counts.add(count);
                self.land(&mut self.lock(), &flight, outcome);
            }
            Job::Copy(copy) => {
                let read = bring::copy(&copy.object, copy.at, copy.length);
                if read.is_err() {
                    self.counts.add(&self.counts.errors);
                }
                // Nobody waits any more when the viewer left.
                let _ = copy.reply.send(read);
            }
            Job::Drop(passed) => {
                if self.behind.carry_out(&passed) {
                    self.counts.add(&self.counts.dropped);
                }
            }
        }
    }

    pub(super) fn view(&self) -> ColdView {
        let queue = self.lock();
        let (queued, reading) = (queue.wanted(), queue.alive.saturating_sub(queue.idle));
        drop(queue);
        self.counts.view(queued, reading)
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("disk", &self.disk)
            .field("flying", &self.flying)
            .finish_non_exhaustive()
    }
}
