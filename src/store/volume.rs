//! One disk: its descriptor, its threads, its state and its counts.
//!
//! Everybody who wants something of a disk asks here, waits for the answer or for the disk to go
//! out of service, whichever comes first, and reports what was seen. What it means is decided by
//! [`super::state`].
//!
//! I/O: waits for the disk's threads; touches no disk itself.

use super::DiskConfig;
use super::OpenError;
use super::core::Shared;
use super::lane::Busy;
use super::lane::Lane;
use super::lane::Pulse;
use super::lane::Ticks;
use super::layout;
use super::layout::FanOut;
use super::residency::Fills;
use super::root;
use super::root::Root;
use super::root::Space;
use super::state::Event;
use super::state::Health;
use super::state::State;
use crate::clock;
use crate::clock::Instant;
use crate::clock::Wall;
use crate::telemetry::LogLimit;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;
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

/// Failed opens and reads come at the rate of requests; a line in ten seconds tells as much.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Staging files remembered for removal; the scan of the next start removes any more. A publisher
/// leaves one at a time, so this is thousands of failures at a disk that takes no call.
const LITTER_MAX: usize = 4096;

#[derive(Debug)]
pub(super) struct Volume {
    pub(super) number: u16,
    pub(super) config: DiskConfig,
    pub(super) tally: Tally,
    deadline: Duration,
    readers: Lane,
    writers: Lane,
    pub(super) fills: Fills,
    home: OnceLock<Home>,
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
}

/// The state as it is shown.
#[derive(Clone, Debug)]
pub(super) struct Status {
    pub(super) state: State,
    pub(super) reason: Option<String>,
    pub(super) since: Wall,
    /// The same moment on the clock that nobody sets.
    pub(super) entered: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) objects: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) quarantined: AtomicU64,
    pub(super) size: AtomicU64,
    pub(super) free: AtomicU64,
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
        ticks: &Ticks,
    ) -> io::Result<Self> {
        let status = Status {
            state: State::Scanning,
            reason: None,
            since: clock::wall(),
            entered: clock::now(),
        };
        let fills = Fills::start(number, config.class, deadline, ticks.clone())?;
        Ok(Self {
            number,
            config,
            fills,
            tally: Tally::default(),
            deadline,
            readers: Lane::start(format!("disk{number}-read"), ticks.clone())?,
            writers: Lane::start(format!("disk{number}-write"), ticks.clone())?,
            home: OnceLock::new(),
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

    pub(super) fn home(&self) -> Option<&Home> {
        self.home.get()
    }

    pub(super) fn set_home(&self, home: Home) {
        // Identification happens once a volume; a second home cannot come.
        let _ = self.home.set(home);
    }

    /// The open directory, for work on this disk's threads.
    pub(super) fn root(&self) -> io::Result<&Root> {
        let home = self.home.get();
        home.map(|home| &home.root)
            .ok_or_else(|| io::Error::other("the disk is not identified"))
    }

    pub(super) fn note_space(&self, space: Space) {
        self.tally.size.store(space.size, Ordering::Relaxed);
        self.tally.free.store(space.free, Ordering::Relaxed);
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
        let (reply, answer) = oneshot::channel();
        let volume = Arc::clone(self);
        self.writers.submit(patience, move |pulse| {
            // Nobody waits any more when the transfer was stopped.
            let _ = reply.send(work(&volume, pulse));
        })?;
        Ok(answer)
    }

    /// Waits for an answer, no longer than until the disk is isolated. May be dropped and called
    /// again.
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

    /// A staging file has no owner left: it is removed by the disk's thread, at once or, when that
    /// takes no call, with the next [`Volume::sweep`].
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

    /// Blocks for an answer, no longer than until the disk is isolated.
    pub(super) fn wait<T>(&self, answer: &Receiver<T>) -> Result<T, CallError> {
        loop {
            match answer.recv_timeout(LOOK_EVERY) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Disconnected) => return Err(CallError::NoAnswer),
                Err(RecvTimeoutError::Timeout) if self.state() == State::Isolated => {
                    return Err(CallError::NoAnswer);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Something was seen that bears on the disk's fitness.
    pub(super) fn report(&self, shared: &Shared, event: Event, reason: &str) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(state) = health.step(clock::now(), event) else {
            return;
        };
        // Under the lock, so that two events cannot leave the index in the state of the first.
        shared.set_online(self.number, state.is_readable());
        self.fills.set_answering(state != State::Isolated);
        let well = state == State::Online;
        self.status.send_replace(Status {
            state,
            reason: (!well && !reason.is_empty()).then(|| reason.to_owned()),
            since: clock::wall(),
            entered: clock::now(),
        });
        drop(health);
        let (disk, state_name) = (self.name(), state.as_str());
        match state {
            State::Scanning | State::Online => {
                tracing::info!(disk, state = state_name, "disk {disk} is {state_name}");
            }
            State::ReadOnly => {
                tracing::warn!(
                    disk,
                    state = state_name,
                    "disk {disk} is read-only: {reason}"
                );
            }
            State::Suspect | State::Isolated | State::Refused => tracing::error!(
                disk,
                state = state_name,
                urgent = true,
                "disk {disk} is {state_name} and out of the catalogue: {reason}"
            ),
        }
        shared.changed();
        shared.wake();
    }

    /// Called by the watch thread: is a call over its deadline, or has the last one returned?
    pub(super) fn watch(&self, shared: &Shared) {
        self.fills.watch();
        let lanes = [&self.readers, &self.writers];
        let overdue = self.fills.is_overdue() || lanes.iter().any(|lane| lane.is_overdue());
        let idle = self.fills.is_idle() && lanes.iter().all(|lane| lane.is_idle());
        if overdue {
            let reason = format!(
                "a call did not return within {} s; check the disk, its cable and controller",
                self.deadline.as_secs_f64()
            );
            self.report(shared, Event::Hung, &reason);
        } else if idle && self.home.get().is_some() && self.state() == State::Isolated {
            // One that never identified itself stays out: nobody would scan it.
            self.report(shared, Event::Answers, "answers again");
        }
    }

    /// Why an object here cannot be read.
    pub(super) fn unavailable(&self, problem: Option<String>) -> OpenError {
        let status = self.status();
        OpenError::Unavailable {
            disk: self.name(),
            state: status.state.as_str(),
            reason: problem
                .or(status.reason)
                .unwrap_or_else(|| "try again".into()),
        }
    }

    /// Takes no more calls; those queued still run.
    pub(super) fn close(&self) {
        self.readers.close();
        self.writers.close();
        self.fills.close();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.readers.has_ended() && self.writers.has_ended() && self.fills.has_ended()
    }

    pub(super) fn unlock(&self) {
        if let Some(home) = self.home.get() {
            home.root.unlock();
        }
    }
}

impl From<Busy> for CallError {
    fn from(_: Busy) -> Self {
        Self::Busy
    }
}
