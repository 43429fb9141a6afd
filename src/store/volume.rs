//! One disk: its descriptor, its threads, its state and its counts.
//!
//! Everybody who wants something of a disk asks here, waits for the answer or for the disk to go
//! out of service, whichever comes first, and reports what was seen. What it means is decided by
//! [`super::state`].
//!
//! I/O: waits for the disk's threads; touches no disk itself.

mod fitness;

use super::DiskConfig;
use super::Upkeep;
use super::alive::Alive;
use super::catch_up::ManifestCopy;
use super::census::Census;
use super::damaged::Damaged;
use super::lane::Busy;
use super::lane::Lane;
use super::lane::Pulse;
use super::lane::Ticks;
use super::layout;
use super::layout::FanOut;
use super::residency::Fills;
use super::retire::Retire;
use super::root;
use super::root::Root;
use super::root::Space;
use super::scrub::Scrub;
use super::state::Health;
use super::state::State;
use super::writes::Writes;
use crate::clock;
use crate::clock::Instant;
use crate::clock::Wall;
use crate::telemetry::LogLimit;
use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::sync_channel;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::sync::watch;

/// Data writes and flushes may take this many deadlines: a flush covers up to 64 MiB, which a busy
/// hard disk writes in seconds, while a metadata call moves a few KiB.
const FLUSH_PATIENCE: u32 = 6;

/// How often a blocked caller looks whether its disk went out of service.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Failed opens and reads come as often as requests; a line in ten seconds tells as much.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Staging files remembered for removal; the next start removes any more. A publisher leaves one at
/// a time, so this is thousands of failures at a disk that takes no call.
const LITTER_MAX: usize = 4096;

#[derive(Debug)]
pub(super) struct Volume {
    pub(super) number: u16,
    pub(super) config: DiskConfig,
    pub(super) upkeep: Upkeep,
    pub(super) tally: Tally,
    deadline: Duration,
    readers: Lane,
    writers: Lane,
    /// Asks whether the disk is there: on a busy disk that takes its time, and nobody's opens wait.
    asker: Lane,
    pub(super) fills: Fills,
    pub(super) writes: Arc<Writes>,
    pub(super) scrub: Scrub,
    pub(super) alive: Alive,
    pub(super) damaged: Damaged,
    pub(super) retire: Retire,
    pub(super) census: Census,
    home: RwLock<Option<Arc<Home>>>,
    health: Mutex<Health>,
    status: watch::Sender<Status>,
    pub(super) fan_out: FanOut,
    /// For failures that say nothing about the disk and come with each viewer.
    log: Mutex<LogLimit>,
    /// Staging files that nobody owns, until the disk's thread removes them.
    litter: Mutex<Vec<String>>,
}

/// What is known once the disk is identified and locked.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) root: Root,
    pub(super) uuid: String,
    /// Copies of this box's state count here: see `ours`.
    pub(super) is_ours: AtomicBool,
    /// Of the manifest.
    pub(super) copy: ManifestCopy,
}

/// A volume's directory for as long as somebody works with it, also when another takes its place.
#[derive(Clone, Debug)]
pub(super) struct OpenRoot(Arc<Home>);

impl OpenRoot {
    /// Of the manifest, there.
    pub(super) fn copy(&self) -> &ManifestCopy {
        &self.0.copy
    }
}

impl Deref for OpenRoot {
    type Target = Root;

    fn deref(&self) -> &Root {
        &self.0.root
    }
}

/// The state as it is shown.
#[derive(Clone, Debug)]
pub(super) struct Status {
    pub(super) state: State,
    pub(super) reason: Option<String>,
    pub(super) since: Wall,
    /// When it went out of service, on the clock that nobody sets. `None`: it is in service.
    pub(super) lost: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) objects: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) quarantined: AtomicU64,
    pub(super) quarantined_bytes: AtomicU64,
    /// Calls that write or flush data.
    pub(super) data_calls: AtomicU64,
    pub(super) size: AtomicU64,
    pub(super) free: AtomicU64,
}

impl Tally {
    /// So many bytes are not there any more.
    pub(super) fn less(&self, bytes: u64) {
        let less = |sum: u64| Some(sum.saturating_sub(bytes));
        let _ = (self.bytes).fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

/// A call got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    #[error("too many calls wait for it")]
    Busy,
    #[error("it does not answer")]
    NoAnswer,
}

impl Volume {
    pub(super) fn new(
        number: u16,
        config: DiskConfig,
        deadline: Duration,
        upkeep: &Upkeep,
        ticks: &Ticks,
    ) -> io::Result<Self> {
        let status = Status {
            state: State::Scanning,
            reason: None,
            since: clock::wall(),
            lost: Some(clock::now()),
        };
        let fills = Fills::start(number, config.class, deadline, ticks.clone())?;
        let writes = Arc::new(Writes::default());
        let written = Arc::clone(&writes);
        let behind = move |pulse: &Pulse| {
            let waits = written.are_under_way();
            if waits {
                pulse.beat(deadline * FLUSH_PATIENCE);
                written.wait();
            }
            waits
        };
        let behind = Box::new(behind);
        Ok(Self {
            number,
            config,
            fills,
            writes,
            scrub: Scrub::new(ticks.clone()),
            alive: Alive::default(),
            damaged: Damaged::default(),
            retire: Retire::default(),
            census: Census::new(ticks),
            upkeep: upkeep.clone(),
            tally: Tally::default(),
            deadline,
            readers: Lane::start(format!("disk{number}-read"), ticks.clone())?,
            writers: Lane::start_with(format!("disk{number}-write"), ticks.clone(), behind)?,
            asker: Lane::start(format!("disk{number}-alive"), ticks.clone())?,
            home: RwLock::default(),
            health: Mutex::default(),
            status: watch::Sender::new(status),
            fan_out: FanOut::default(),
            log: Mutex::new(LogLimit::new(LOG_EVERY)),
            litter: Mutex::default(),
        })
    }

    /// The disk's path, as logs and views name it.
    pub(super) fn name(&self) -> String {
        self.config.path.display().to_string()
    }

    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(super) fn flush_patience(&self) -> Duration {
        self.deadline * FLUSH_PATIENCE
    }

    pub(super) fn state(&self) -> State {
        self.status.borrow().state
    }

    pub(super) fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    pub(super) fn home(&self) -> Option<Arc<Home>> {
        let home = self.home.read().unwrap_or_else(PoisonError::into_inner);
        home.clone()
    }

    /// At its identification, and when it was mounted anew.
    pub(super) fn set_home(&self, home: Home) {
        let mut place = self.home.write().unwrap_or_else(PoisonError::into_inner);
        *place = Some(Arc::new(home));
    }

    /// Is it still the mount that it was then?
    pub(super) fn is_at(&self, home: Option<&Arc<Home>>) -> bool {
        let own = self.home();
        own.zip(home)
            .is_some_and(|(own, then)| Arc::ptr_eq(&own, then))
    }

    /// The open directory, for work on this disk's threads.
    pub(super) fn root(&self) -> io::Result<OpenRoot> {
        let home = self.home();
        home.map(OpenRoot)
            .ok_or_else(|| io::Error::other("the disk is not identified"))
    }

    /// Finds out how fills can write here, once. On the disk's own thread.
    pub(super) fn decide_writes(&self) -> io::Result<()> {
        if !self.state().is_writable() {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        self.writes.decide(&*self.root()?, &self.name())
    }

    pub(super) fn note_space(&self, space: Space) {
        self.tally.size.store(space.size, Ordering::Relaxed);
        self.tally.free.store(space.free, Ordering::Relaxed);
    }

    /// Grows with what viewers' cold reads and fills do with the disk: a scrub waits for a pause.
    pub(super) fn activity(&self) -> u64 {
        let cold = self.fills.view();
        // A read that has not ended counts for as long as it lasts, by what it was when it began.
        let read = cold.misses + cold.prefetches + cold.fills + cold.copies + cold.queued;
        read.wrapping_add(self.tally.data_calls.load(Ordering::Relaxed))
    }

    /// Data is written and flushed with more patience than names.
    fn note_call(&self, patience: Duration) {
        if patience >= self.flush_patience() {
            self.tally.data_calls.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Runs `work` on the readers' thread.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, CallError> {
        self.answer(&mut self.queue_read(work)?).await
    }

    /// Queues `work` on the readers' thread; the answer is waited for with [`Volume::answer`].
    pub(super) fn queue_read<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<oneshot::Receiver<T>, CallError> {
        let (reply, answer) = oneshot::channel();
        let volume = Arc::clone(self);
        self.readers.submit(self.deadline, move |_| {
            // Nobody waits any more when the viewer left.
            let _ = reply.send(work(&volume));
        })?;
        Ok(answer)
    }

    /// Queues `work` on the writers' thread; the answer is waited for with [`Volume::answer`].
    pub(super) fn queue<T: Send + 'static>(
        self: &Arc<Self>,
        patience: Duration,
        work: impl FnOnce(&Self, &Pulse) -> T + Send + 'static,
    ) -> Result<oneshot::Receiver<T>, CallError> {
        self.queue_late(patience, move |volume, pulse, reply| {
            // Nobody waits any more when the transfer was stopped.
            let _ = reply.send(work(volume, pulse));
        })
    }

    /// As [`Volume::queue`], answered within the patience for a flush: a disk that is refused or
    /// suspect is not isolated, so nobody else ends this wait.
    pub(super) async fn consult<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self, &Pulse) -> T + Send + 'static,
    ) -> Result<T, CallError> {
        let patience = self.flush_patience();
        let mut answer = self.queue(patience, work)?;
        let bounded = clock::within(patience, self.answer(&mut answer));
        bounded.await.unwrap_or(Err(CallError::NoAnswer))
    }

    /// As [`Volume::queue`], for work that ends after its call has returned.
    pub(super) fn queue_late<T: Send + 'static>(
        self: &Arc<Self>,
        patience: Duration,
        work: impl FnOnce(&Arc<Self>, &Pulse, oneshot::Sender<T>) + Send + 'static,
    ) -> Result<oneshot::Receiver<T>, CallError> {
        self.note_call(patience);
        let (reply, answer) = oneshot::channel();
        let volume = Arc::clone(self);
        self.writers
            .submit(patience, move |pulse| work(&volume, pulse, reply))?;
        Ok(answer)
    }

    /// Waits for an answer, or until the disk is isolated. May be dropped and called again.
    pub(super) async fn answer<T>(
        &self,
        answer: &mut oneshot::Receiver<T>,
    ) -> Result<T, CallError> {
        let mut status = self.status.subscribe();
        tokio::select! {
            biased;
            answer = answer => answer.map_err(|_| CallError::NoAnswer),
            _ = status.wait_for(|status| status.state == State::Isolated) => {
                Err(CallError::NoAnswer)
            }
        }
    }

    /// Runs `work` on the readers' thread and blocks for its answer.
    pub(super) fn read_blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, CallError> {
        let (reply, answer) = sync_channel(1);
        let volume = Arc::clone(self);
        self.readers.submit(self.deadline, move |_| {
            let _ = reply.send(work(&volume));
        })?;
        self.wait(&answer)
    }

    /// Queues `work` on the writers' thread; the answer is waited for with [`Volume::wait`].
    pub(super) fn write<T: Send + 'static>(
        self: &Arc<Self>,
        patience: Duration,
        work: impl FnOnce(&Self, &Pulse) -> T + Send + 'static,
    ) -> Result<Receiver<T>, CallError> {
        self.note_call(patience);
        let (reply, answer) = sync_channel(1);
        let volume = Arc::clone(self);
        self.writers.submit(patience, move |pulse| {
            let _ = reply.send(work(&volume, pulse));
        })?;
        Ok(answer)
    }

    /// `Some(left out since the last line)` if a line about a failed read may be written.
    pub(super) fn may_log(&self) -> Option<u64> {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.step(clock::now())
    }

    /// A staging file has no owner left: the disk's thread removes it, now or in the next sweep.
    pub(super) fn discard(self: &Arc<Self>, name: String) {
        let mut litter = self.litter.lock().unwrap_or_else(PoisonError::into_inner);
        if litter.len() < LITTER_MAX {
            litter.push(name);
        }
        drop(litter);
        // A refusal, or a call dropped unrun, leaves the list for the next sweep.
        let _ = self.write(self.deadline, |volume, _| volume.sweep());
    }

    /// Removes staging files without owners. On the disk's own thread.
    pub(super) fn sweep(&self) -> io::Result<()> {
        let mut litter = self.litter.lock().unwrap_or_else(PoisonError::into_inner);
        let names = std::mem::take(&mut *litter);
        drop(litter);
        if names.is_empty() {
            return Ok(());
        }
        let staging = self.root()?.dir(layout::STAGING)?;
        for name in names {
            root::remove(&staging, &name)?;
            root::remove(&staging, &layout::staged_sidecar(&name))?;
        }
        Ok(())
    }

    /// Returns when the disk takes no writes.
    pub(super) async fn until_unwritable(&self) {
        let mut status = self.status.subscribe();
        // The sender lives as long as this volume.
        let _ = status.wait_for(|status| !status.state.is_writable()).await;
    }

    /// Has the thread that asks for the disk run `work`; nobody waits for it.
    pub(super) fn queue_question(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<Self>) + Send + 'static,
    ) -> Result<(), CallError> {
        let volume = Arc::clone(self);
        Ok(self.asker.submit(self.deadline, move |_| work(&volume))?)
    }

    /// Blocks for an answer, no longer than until the disk is isolated. One that is suspect is not,
    /// if its call hangs: then for a flush's patience.
    pub(super) fn wait<T>(&self, answer: &Receiver<T>) -> Result<T, CallError> {
        let since = clock::now();
        let is_late = || clock::now().saturating_duration_since(since) > self.flush_patience();
        loop {
            match answer.recv_timeout(LOOK_EVERY) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Disconnected) => return Err(CallError::NoAnswer),
                Err(RecvTimeoutError::Timeout) if self.state() == State::Isolated => {
                    return Err(CallError::NoAnswer);
                }
                Err(RecvTimeoutError::Timeout) if self.state() == State::Suspect && is_late() => {
                    return Err(CallError::NoAnswer);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Takes no more calls; those queued still run, and `last` after those that write.
    pub(super) fn close(&self, last: impl FnOnce(&Pulse) + Send + 'static) {
        self.scrub.close();
        self.readers.close();
        self.asker.close();
        self.writers.close_after(last);
        self.fills.close();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.readers.has_ended()
            && self.asker.has_ended()
            && self.writers.has_ended()
            && self.fills.has_ended()
            && self.scrub.has_ended()
            && self.census.has_ended()
    }

    pub(super) fn unlock(&self) {
        if let Some(home) = self.home() {
            home.root.unlock();
        }
    }
}

impl From<Busy> for CallError {
    fn from(_: Busy) -> Self {
        Self::Busy
    }
}
