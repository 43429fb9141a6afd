//! A disk's scrub thread: reads what the schedule says, and carries the consequences.
//!
//! It stands behind everybody else at the cores and at the disk. A read that hangs is seen by the
//! store's watch, as on the disk's lanes.
//!
//! I/O: spawns one thread a disk, which reads objects and waits; writes go to the disk's own
//! thread.

use super::ScrubView;
use super::manners::Manners;
use super::manners::Wait;
use super::now_ms;
use super::schedule::Schedule;
use super::schedule::Turn;
use super::verify;
use super::verify::Buffer;
use super::verify::Fault;
use crate::clock;
use crate::clock::Instant;
use crate::clock::Wall;
use crate::lock::lock;
use crate::object::Digest;
use crate::store::core::Shared;
use crate::store::kept;
use crate::store::lane::Pulse;
use crate::store::lane::Ticks;
use crate::store::quarantine;
use crate::store::root;
use crate::store::volume::Volume;
use crate::sys::priority;
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;

/// Behind the workers and the peer listener, which serve somebody.
const NICE: i32 = 15;

/// While nothing is due, or the disk is out of service, the thread looks this often.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How far is written to the disk this often: a restart reads no more than this again.
const KEEP_EVERY: Duration = Duration::from_secs(300);

/// Expired objects of the quarantine are looked for this often.
const REAP_EVERY: Duration = Duration::from_secs(600);

/// Name of the small file that has the schedule: `scrub.kept`, on the disk itself.
pub(in crate::store) const KEPT: &str = "scrub";

/// One disk's scrub, seen from outside its thread.
#[derive(Debug)]
pub(in crate::store) struct Scrub {
    pulse: Pulse,
    stop: Mutex<Option<SyncSender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    view: Mutex<ScrubView>,
    /// Nothing that was verified counts any more.
    anew: AtomicBool,
}

/// What the thread has at hand.
struct Round<'a> {
    shared: &'a Arc<Shared>,
    volume: &'a Arc<Volume>,
    stopped: &'a Receiver<()>,
    schedule: Schedule,
    manners: Manners,
    kept_at: Instant,
    /// The disk does not have the schedule as it is.
    changed: bool,
    pressing: bool,
}

/// The thread is to end.
struct Stopped;

/// What became of one object.
enum Outcome {
    /// It is verified, or out of the catalogue.
    Settled,
    /// It cannot be read, and says nothing of the others.
    Unread,
    /// None can be read at this moment.
    NotNow,
}

/// Starts the thread of one disk.
pub(in crate::store) fn start(shared: &Arc<Shared>, volume: &Arc<Volume>) -> io::Result<()> {
    let (stop, stopped) = sync_channel(1);
    let (own, disk) = (Arc::clone(shared), Arc::clone(volume));
    let thread = std::thread::Builder::new()
        .name(format!("disk{}-scrub", volume.number))
        .spawn(move || {
            // Without these it is less polite, and its rate still holds.
            let _ = priority::stand_back(NICE).and(priority::stand_back_at_disks());
            let Err(Stopped) = live(&own, &disk, &stopped);
            disk.scrub.pulse.rest();
        })?;
    *lock(&volume.scrub.stop) = Some(stop);
    *lock(&volume.scrub.thread) = Some(thread);
    Ok(())
}

impl Scrub {
    pub(in crate::store) fn new(ticks: Ticks) -> Self {
        let view = ScrubView {
            state: "waiting",
            ..ScrubView::default()
        };
        Self {
            pulse: Pulse::new(ticks),
            stop: Mutex::default(),
            thread: Mutex::default(),
            view: Mutex::new(view),
            anew: AtomicBool::new(false),
        }
    }

    /// The disk was doubted: all of it is read at once, at the rate of a scrub.
    pub(in crate::store) fn begin_anew(&self) {
        self.anew.store(true, Ordering::Release);
    }

    pub(in crate::store) fn is_overdue(&self) -> bool {
        self.pulse.is_overdue()
    }

    pub(in crate::store) fn is_idle(&self) -> bool {
        self.pulse.is_idle()
    }

    pub(in crate::store) fn view(&self) -> ScrubView {
        lock(&self.view).clone()
    }

    pub(in crate::store) fn close(&self) {
        lock(&self.stop).take();
    }

    pub(in crate::store) fn has_ended(&self) -> bool {
        let thread = lock(&self.thread);
        thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn show(&self, change: impl FnOnce(&mut ScrubView)) {
        change(&mut lock(&self.view));
    }
}

fn wait(stopped: &Receiver<()>, time: Duration) -> Result<(), Stopped> {
    match stopped.recv_timeout(time) {
        Err(RecvTimeoutError::Timeout) => Ok(()),
        Ok(()) | Err(RecvTimeoutError::Disconnected) => Err(Stopped),
    }
}

/// The thread's life.
fn live(
    shared: &Arc<Shared>,
    volume: &Arc<Volume>,
    stopped: &Receiver<()>,
) -> Result<std::convert::Infallible, Stopped> {
    let look_every = LOOK_EVERY.min(volume.upkeep.scrub_every / 16);
    while !volume.state().is_readable() {
        wait(stopped, look_every)?;
    }
    let now = clock::now();
    let (schedule, is_fresh) = match load(volume) {
        Some(schedule) => (schedule, false),
        None => (Schedule::new(volume.upkeep.scrub_every, now_ms()), true),
    };
    let mut round = Round {
        shared,
        volume,
        stopped,
        schedule,
        manners: Manners::new(volume.upkeep.scrub_rate, now, volume.activity()),
        kept_at: now,
        changed: is_fresh,
        pressing: false,
    };
    let mut reaped = now;
    loop {
        if volume.scrub.anew.swap(false, Ordering::AcqRel) {
            round.schedule = Schedule::due(volume.upkeep.scrub_every, now_ms());
            round.changed = true;
        }
        round.keep_in_time();
        if clock::now().saturating_duration_since(reaped) >= REAP_EVERY.min(look_every * 4) {
            reaped = clock::now();
            quarantine::ask(shared, volume);
        }
        let turn = match volume.state().is_readable() {
            true => round.schedule.step(now_ms()),
            false => {
                volume.scrub.show(|view| view.state = "waiting");
                wait(stopped, look_every)?;
                continue;
            }
        };
        round.show(matches!(turn, Turn::Rest { .. }).then_some("resting"));
        match turn {
            Turn::Rest { until_ms } => {
                let left = Duration::from_millis(until_ms.saturating_sub(now_ms()));
                wait(stopped, left.clamp(Duration::from_millis(1), look_every))?;
            }
            Turn::Read { current, pressing } => {
                round.pressing = pressing;
                round.part(current.part, current.after)?;
            }
        }
    }
}

/// What was kept of the last process's schedule. A disk that has none was written by one, and
/// what is written is verified.
fn load(volume: &Arc<Volume>) -> Option<Schedule> {
    let read = volume.read_blocking(|v| {
        let file = v.root()?.file(&kept::file_name(KEPT))?;
        kept::read(&file).map(|(_, bytes)| bytes)
    });
    match read {
        Ok(Ok(bytes)) => Schedule::decode(volume.upkeep.scrub_every, &bytes),
        Ok(Err(_)) | Err(_) => None,
    }
}

impl Round<'_> {
    /// One part, from behind `after`, as far as the disk stays in service.
    fn part(&mut self, part: u8, after: Option<Digest>) -> Result<(), Stopped> {
        let mut buffer = Buffer::new();
        let mut is_whole = true;
        for (number, digest) in self.objects(part, after) {
            if !self.volume.state().is_readable() {
                return Ok(());
            }
            let turn = self.schedule.step(now_ms());
            if let Turn::Read { pressing, .. } = turn {
                self.pressing = pressing;
            }
            match self.object(number, digest, &mut buffer)? {
                Outcome::Settled => {}
                Outcome::Unread => is_whole = false,
                Outcome::NotNow => {
                    let every = LOOK_EVERY.min(self.volume.upkeep.scrub_every / 16);
                    return wait(self.stopped, every);
                }
            }
            if is_whole {
                // Never past an object that was not read: a restart would count it as verified.
                self.schedule.passed(digest);
                self.changed = true;
            }
            self.keep_in_time();
        }
        match is_whole {
            true => self.schedule.finished(),
            false => self.schedule.passed_over(),
        }
        self.changed = true;
        // An hour's work or more is done, except on a small disk.
        self.shared.wake();
        Ok(())
    }

    /// What the disk holds of a part, in the order of digests. One walk over the index, a few
    /// hundred times a month.
    fn objects(&self, part: u8, after: Option<Digest>) -> Vec<(u32, Digest)> {
        let index = &self.shared.index;
        let behind = (
            after.map_or(Bound::Unbounded, Bound::Excluded),
            Bound::Unbounded,
        );
        let mut found: Vec<(u32, Digest)> = (0..index.len())
            .filter_map(|number| Some((number, index.digest(number)?)))
            .filter(|(_, digest)| digest.0[0] == part)
            .filter(|(_, digest)| std::ops::RangeBounds::contains(&behind, digest))
            .filter(|(number, _)| index.places(*number).has(self.volume.number))
            .collect();
        found.sort_unstable_by_key(|(_, digest)| *digest);
        found
    }

    fn object(
        &mut self,
        number: u32,
        digest: Digest,
        buffer: &mut Buffer,
    ) -> Result<Outcome, Stopped> {
        let (shared, volume, stopped) = (self.shared, self.volume, self.stopped);
        let held = shared.index.places(number).has(volume.number);
        let Some((_, length)) = shared.index.object(number).filter(|_| held) else {
            // Deleted meanwhile.
            return Ok(Outcome::Settled);
        };
        // Before it is opened: a mount that changes in between is one too many.
        let home = volume.home();
        let Ok(root) = volume.root() else {
            return Ok(Outcome::NotNow);
        };
        let (manners, pressing) = (&mut self.manners, self.pressing);
        let mut ended = false;
        let mut pause = |bytes| {
            volume.scrub.pulse.rest();
            ended = await_turn(volume, manners, stopped, pressing).is_err();
            manners.took(clock::now(), bytes);
            volume.scrub.pulse.beat(volume.flush_patience());
            !ended && volume.state().is_readable()
        };
        volume.scrub.pulse.beat(volume.flush_patience());
        let outcome = verify::verify(&root, digest, length, buffer, &mut pause);
        volume.scrub.pulse.rest();
        if ended {
            return Err(Stopped);
        }
        if let Err(fault) = outcome {
            // Of a mount that is gone it says nothing.
            return Ok(match volume.is_at(home.as_ref()) {
                true => self.found(digest, fault),
                false => Outcome::NotNow,
            });
        }
        volume.scrub.show(|view| {
            view.objects += 1;
            view.bytes += length;
        });
        Ok(Outcome::Settled)
    }

    /// Out of the catalogue first: the file can wait.
    fn found(&self, digest: Digest, fault: Fault) -> Outcome {
        let (shared, volume) = (self.shared, self.volume);
        let told = match fault {
            Fault::Stopped => return Outcome::NotNow,
            // It is the disk, and says nothing of the object.
            Fault::Read(_) | Fault::Gone if !volume.state().is_readable() => {
                return Outcome::NotNow;
            }
            // A deletion forgets before it unlinks: this one was not deleted.
            Fault::Gone if shared.forget(digest, volume) => {
                let disk = volume.name();
                tracing::error!(disk, %digest, "disk {disk}: object {digest} is gone");
                "it is gone".to_owned()
            }
            Fault::Gone => return Outcome::Settled,
            Fault::Damaged(reason) => {
                if !shared.quarantine(digest, volume, reason.clone()) {
                    return Outcome::Settled;
                }
                reason
            }
            Fault::Read(error) if root::is_medium_error(&error) => {
                let reason = format!("it cannot be read: {error}");
                if !shared.quarantine(digest, volume, reason.clone()) {
                    return Outcome::Settled;
                }
                shared.note_read_error(volume, digest, &error);
                reason
            }
            Fault::Read(error) => {
                // Neither the disk's fault nor, for all that is known, the object's.
                let disk = volume.name();
                if volume.may_log().is_some() {
                    tracing::warn!(disk, %digest, %error, "scrub cannot read {digest}: {error}");
                }
                return match root::is_passing(&error) {
                    true => Outcome::NotNow,
                    false => Outcome::Unread,
                };
            }
        };
        volume.scrub.show(|view| {
            view.found += 1;
            view.last_found = Some(format!("{} {digest}: {told}", clock::wall()));
        });
        shared.wake();
        Outcome::Settled
    }

    fn show(&self, state: Option<&'static str>) {
        let since = Wall::from_millisecond(self.schedule.oldest_ms().cast_signed());
        let pressing = self.pressing;
        self.volume.scrub.show(|view| {
            view.state = state.unwrap_or("reading");
            view.verified_since = since.ok().map(|at| at.to_string());
            view.pressing = pressing && state.is_none();
        });
    }

    /// Writes down now and then how far it came. A disk that takes no writes does without.
    fn keep_in_time(&mut self) {
        let every = KEEP_EVERY.min(self.volume.upkeep.scrub_every / 16);
        let since = clock::now().saturating_duration_since(self.kept_at);
        // What does not count any more is not kept.
        let is_void = self.volume.scrub.anew.load(Ordering::Acquire);
        if !self.changed || since < every || is_void || !self.volume.state().is_writable() {
            return;
        }
        (self.kept_at, self.changed) = (clock::now(), false);
        let (own, bytes) = (Arc::clone(self.shared), self.schedule.encode());
        // Not waited for: a restart that comes first reads a little again.
        let _ = self.volume.write(self.volume.deadline(), move |volume, _| {
            if let Err(error) = kept::keep_on(&own, volume, KEPT, &bytes) {
                own.note_write_error(volume, &error);
            }
        });
    }
}

/// Waits until the disk is ours to read.
fn await_turn(
    volume: &Volume,
    manners: &mut Manners,
    stopped: &Receiver<()>,
    pressing: bool,
) -> Result<(), Stopped> {
    loop {
        let (time, state) = match manners.step(clock::now(), volume.activity(), pressing) {
            Wait::No => {
                volume.scrub.show(|view| view.state = "reading");
                // Also without a wait: whoever stops the store does not wait for a whole part.
                return wait(stopped, Duration::ZERO);
            }
            Wait::Rate(time) => (time, "reading"),
            Wait::Others(time) => (time, "yielding"),
        };
        volume.scrub.show(|view| view.state = state);
        wait(stopped, time)?;
    }
}
