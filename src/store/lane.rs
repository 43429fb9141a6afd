//! A disk's own thread: calls that a sick disk may hang for ever wait here and nowhere else.
//!
//! Each [`super::volume`] has three lanes: for readers, for writers and scans, and for the question
//! whether the disk is there, so that neither a flush nor that question on a busy disk ever stands
//! before a viewer's open. The queue is bounded; full is a refusal. Who waits
//! for an answer waits for the volume's state as well: the watch thread isolates a volume whose
//! lane is [`Lane::is_overdue`], which wakes everybody.
//!
//! I/O: runs what it is given, on a thread of its own.

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;

/// Calls waiting for one disk. At 0.1 ms an open this is a tenth of a second; at a hung disk it is
/// the memory that viewers of its objects can make us keep.
pub(super) const QUEUE_CALLS: usize = 1024;

/// Milliseconds that the watch thread has watched since the store started. Lanes compare with it
/// instead of reading a clock, so that callers on a paused test runtime and disk threads agree.
#[derive(Clone, Debug, Default)]
pub(super) struct Ticks(Arc<AtomicU64>);

/// When the call that runs must have returned.
#[derive(Debug)]
pub(super) struct Pulse {
    ticks: Ticks,
    /// 0 while idle.
    due_ms: AtomicU64,
}

/// One thread with its queue.
#[derive(Debug)]
pub(super) struct Lane {
    sender: RwLock<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    pulse: Arc<Pulse>,
}

/// The queue is full or the lane has been stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Busy;

/// Work that goes on behind the calls. Asked whenever no call waits: true, after waiting for some
/// of it; false, if there is none.
pub(super) type Behind = Box<dyn Fn(&Pulse) -> bool + Send>;

struct Job {
    queued_ms: u64,
    patience: Duration,
    work: Box<dyn FnOnce(&Pulse) + Send>,
}

impl Ticks {
    pub(super) fn set(&self, since_start: Duration) {
        let ms = u64::try_from(since_start.as_millis()).unwrap_or(u64::MAX);
        self.0.store(ms, Ordering::Release);
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl Pulse {
    pub(super) fn new(ticks: Ticks) -> Self {
        let due_ms = AtomicU64::new(0);
        Self { ticks, due_ms }
    }

    /// The work is a long row of short calls: the next may take `patience` again.
    pub(super) fn beat(&self, patience: Duration) {
        let patience = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let due = self.ticks.now_ms().saturating_add(patience).max(1);
        self.due_ms.store(due, Ordering::Release);
    }

    /// The work is done.
    pub(super) fn rest(&self) {
        self.due_ms.store(0, Ordering::Release);
    }

    pub(super) fn is_overdue(&self) -> bool {
        let due = self.due_ms.load(Ordering::Acquire);
        due != 0 && self.ticks.now_ms() > due
    }

    pub(super) fn is_idle(&self) -> bool {
        self.due_ms.load(Ordering::Acquire) == 0
    }
}

impl Lane {
    pub(super) fn start(name: String, ticks: Ticks) -> io::Result<Self> {
        Self::start_with(name, ticks, Box::new(|_| false))
    }

    /// As [`Lane::start`]; the thread ends when `behind` has nothing left.
    pub(super) fn start_with(name: String, ticks: Ticks, behind: Behind) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUE_CALLS);
        let pulse = Arc::new(Pulse::new(ticks));
        let own = Arc::clone(&pulse);
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || run(&receiver, &own, &behind))?;
        Ok(Self {
            sender: RwLock::new(Some(sender)),
            thread: Mutex::new(Some(thread)),
            pulse,
        })
    }

    /// Queues `work`; each of its calls may take `patience`. Work that waited longer than that in
    /// the queue is dropped unrun, and with it the place for its answer.
    pub(super) fn submit(
        &self,
        patience: Duration,
        work: impl FnOnce(&Pulse) + Send + 'static,
    ) -> Result<(), Busy> {
        let job = Job {
            queued_ms: self.pulse.ticks.now_ms(),
            patience,
            work: Box::new(work),
        };
        let sender = self.sender.read().unwrap_or_else(PoisonError::into_inner);
        let sender = sender.as_ref().ok_or(Busy)?;
        sender.try_send(job).map_err(|_| Busy)
    }

    pub(super) fn is_overdue(&self) -> bool {
        self.pulse.is_overdue()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.pulse.is_idle()
    }

    /// Takes no more work. What is queued still runs, and after it `last`, if there is room for it.
    pub(super) fn close_after(&self, last: impl FnOnce(&Pulse) + Send + 'static) {
        let mut sender = self.sender.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = sender.take() {
            let _ = sender.try_send(Job {
                queued_ms: self.pulse.ticks.now_ms(),
                patience: Duration::MAX,
                work: Box::new(last),
            });
        }
    }

    /// Takes no more work. What is queued still runs.
    pub(super) fn close(&self) {
        self.sender
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// Has the thread ended (after [`Lane::close`])?
    pub(super) fn has_ended(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

fn run(receiver: &Receiver<Job>, pulse: &Pulse, behind: &Behind) {
    while let Some(job) = next(receiver, pulse, behind) {
        let waited = pulse.ticks.now_ms().saturating_sub(job.queued_ms);
        if u128::from(waited) <= job.patience.as_millis() {
            pulse.beat(job.patience);
            guarded(|| (job.work)(pulse));
        }
    }
}

/// The next call; `None` when the lane is closed and nothing is left of anything.
fn next(receiver: &Receiver<Job>, pulse: &Pulse, behind: &Behind) -> Option<Job> {
    loop {
        if let Ok(job) = receiver.try_recv() {
            return Some(job);
        }
        // Whose answer panicked is behind us as well.
        if !guarded(|| behind(pulse)).unwrap_or(true) {
            pulse.rest();
            return receiver.recv().ok();
        }
    }
}

/// A panic in one call must not take the disk away from everybody. The caller sees its reply
/// dropped.
fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    if outcome.is_err() {
        tracing::error!("a disk call panicked; its caller gets an error");
    }
    outcome.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(100);

    #[test]
    fn a_hanging_call_is_overdue_and_the_queue_behind_it_is_bounded() {
        let ticks = Ticks::default();
        let lane = Lane::start("t".into(), ticks.clone()).unwrap();
        let (release, held) = sync_channel::<()>(0);
        let (started, begun) = sync_channel(1);
        lane.submit(PATIENCE, move |_| {
            started.send(()).unwrap();
            let _ = held.recv();
        })
        .unwrap();
        begun.recv().unwrap();
        assert!(!lane.is_overdue() && !lane.is_idle());
        let (late, answer) = sync_channel::<()>(1);
        lane.submit(PATIENCE, move |_| late.send(()).unwrap())
            .unwrap();
        let accepted = (0..2 * QUEUE_CALLS).take_while(|_| lane.submit(PATIENCE, |_| {}).is_ok());
        assert_eq!(accepted.count(), QUEUE_CALLS - 1);
        ticks.set(Duration::from_millis(102));
        assert!(lane.is_overdue());
        release.send(()).unwrap();
        assert!(answer.recv().is_err(), "what waited too long is not run");
        lane.close();
        while !lane.has_ended() {
            std::thread::yield_now();
        }
        assert!(lane.is_idle() && !lane.is_overdue());
    }

    #[test]
    fn a_panic_costs_one_call() {
        let lane = Lane::start("t".into(), Ticks::default()).unwrap();
        let (reply, answer) = sync_channel::<()>(1);
        lane.submit(PATIENCE, move |_| {
            let _reply = reply;
            panic!("on purpose");
        })
        .unwrap();
        assert!(answer.recv().is_err());
        let (reply, answer) = sync_channel(1);
        lane.submit(PATIENCE, move |_| reply.send(5).unwrap())
            .unwrap();
        assert_eq!(answer.recv(), Ok(5));
    }
}
