//! Every byte's turn: the cap and the budget of this box, for all its transfers.
//!
//! `task` opens and shuts the classes and sets the limits; transfers take turns through
//! [`Turns`]. Nobody is granted a byte before the ledger that counts it is durable. For a wire
//! that never carries more than the cap and 50 ms, a transfer is lent its turns, tells what has
//! come of them, and holds so little that all transfers together hold no more than the bucket's
//! depth, as its `Share` says.
//!
//! I/O: waits for turns; keeps the ledger on blocking threads, never under the lock.

use super::Class;
use super::Closed;
use super::KeepLedger;
use super::Limits;
use super::Moment;
use super::Night;
use super::Nights;
use super::Turns;
use super::ledger::Book;
use super::ledger::Ledger;
use super::queue::At;
use super::queue::Id;
use super::queue::Queue;
use crate::clock;
use crate::clock::Instant;
use crate::clock::Wall;
use futures_util::future::BoxFuture;
use jiff::civil::Date;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use tokio::runtime::Handle;
use tokio::sync::Notify;

/// The pace of one box. Clones share it.
#[derive(Clone, Debug)]
pub struct Pace(Arc<Shared>);

/// For `oca show fill` and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PaceView {
    pub cap_bps: u64,
    /// Bits of the last second.
    pub rate_bps: u64,
    /// Over the last ten seconds.
    pub rate_10s_bps: u64,
    /// The most bits of any second since the start.
    pub worst_second_bps: u64,
    pub night: Budget,
    pub urgent: Budget,
}

/// One class's part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Budget {
    pub open: bool,
    /// Granted since the start, less what was given back.
    pub granted_bytes: u64,
    /// Granted or reserved within 24 h.
    pub counted_bytes: u64,
    /// Of any 24 h.
    pub limit_bytes: u64,
}

#[derive(Debug)]
struct Shared {
    desk: Mutex<Desk>,
    keeper: Arc<dyn KeepLedger>,
}

#[derive(Debug)]
struct Desk {
    queue: Queue,
    bells: BTreeMap<Id, Arc<Notify>>,
    /// The one who sleeps until the queue's deadline, and that deadline.
    watcher: Option<(Id, Option<Instant>)>,
}

/// An ask that has not been answered. Dropping it withdraws it.
struct Seat<'a> {
    pace: &'a Pace,
    class: Class,
    bytes: u64,
    is_lent: bool,
    id: Id,
    bell: Arc<Notify>,
}

enum Look {
    Answer(Result<(), Closed>),
    Until(Instant),
    Wait,
}

impl Pace {
    /// Goes on from the kept ledger; every class is shut. `built`: no calendar is believed that is
    /// earlier, see [`super::BUILT`]. Reads disks: called where that is allowed.
    pub fn load(limits: Limits, keeper: Arc<dyn KeepLedger>, built: Wall) -> Self {
        let at = at();
        let ledger = Ledger::new(keeper.kept(), built);
        let desk = Desk {
            queue: Queue::new(limits, ledger, at.now),
            bells: BTreeMap::new(),
            watcher: None,
        };
        Self(Arc::new(Shared {
            desk: Mutex::new(desk),
            keeper,
        }))
    }

    /// Holds from here on, for those who wait too.
    pub fn set_limits(&self, limits: Limits) {
        self.change(|queue, at| {
            if queue.limits() != limits {
                queue.set_limits(at, limits);
            }
        });
    }

    /// Viewers leave so much of the cap. Who waits for a turn waits longer, without any for as long
    /// as there is nothing.
    pub fn ease(&self, percent: u32) {
        self.change(|queue, at| queue.ease(at, percent));
    }

    /// Turns are granted before `until`, none at or after it. Opening twice only moves `until`.
    pub fn open(&self, class: Class, until: Option<Instant>) {
        self.change(|queue, at| queue.open(at, class, until));
    }

    /// So much has come on the wire that waits for no turn, and that no budget counts. Those who
    /// wait for theirs wait longer. Returns when more of it may be read.
    pub async fn pay(&self, bytes: u64) {
        let paid = self.change(|queue, at| queue.charge(at, bytes));
        clock::sleep_until(paid).await;
    }

    /// So much may come, all at once, before it is paid for: savings make room for it.
    pub fn expect(&self, bytes: u64) {
        self.change(|queue, at| queue.expect(at, bytes));
    }

    /// What was expected does not come any more, or has come.
    pub fn expect_no_more(&self, bytes: u64) {
        self.change(|queue, at| queue.came(at, bytes));
    }

    /// No more turns; whoever waits gets [`Closed`] at once.
    pub fn shut(&self, class: Class) {
        self.change(|queue, at| queue.shut(at, class));
    }

    /// The calendar is earlier than it can be: no fill, no deletion.
    pub fn is_below_floor(&self, wall: Wall) -> bool {
        self.desk().queue.ledger().is_below_floor(wall)
    }

    /// Changes what is kept of a night. Durable with the next reservation, or at once while
    /// nothing is open.
    pub fn tally(&self, date: Date, change: impl FnOnce(&mut Night)) {
        self.change(|queue, at| {
            let classes = [Class::Night, Class::Urgent];
            let is_idle = !classes.iter().any(|class| queue.is_open(*class, at.now));
            let peak = queue.meter().take_peak().saturating_mul(8);
            let night = queue.ledger_mut().nights_mut(is_idle).entry(date);
            night.highest_second_bps = night.highest_second_bps.max(peak);
            change(night);
        });
    }

    pub fn nights(&self) -> Nights {
        self.desk().queue.ledger().nights().clone()
    }

    pub fn view(&self) -> PaceView {
        let at = at();
        let queue = &mut self.desk().queue;
        let (second, ten_seconds) = queue.meter().rates(at.now);
        let budget = |queue: &Queue, class| Budget {
            open: queue.is_open(class, at.now),
            granted_bytes: queue.granted(class),
            counted_bytes: queue.ledger().counted(class, at.moment),
            limit_bytes: queue.limit(class),
        };
        PaceView {
            cap_bps: queue.limits().rate.0.saturating_mul(8),
            rate_bps: second.saturating_mul(8),
            rate_10s_bps: ten_seconds.saturating_mul(8),
            worst_second_bps: queue.meter().worst().saturating_mul(8),
            night: budget(queue, Class::Night),
            urgent: budget(queue, Class::Urgent),
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        // Nothing in the queue can be half done: a panic under the lock leaves it usable.
        self.0.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `what` under the lock, then what follows from it.
    fn change<T>(&self, what: impl FnOnce(&mut Queue, At) -> T) -> T {
        // Under the lock: an earlier moment would trim savings by how long it waited.
        let mut desk = self.desk();
        let at = at();
        let result = what(&mut desk.queue, at);
        desk.ring();
        let book = desk.queue.write(at);
        drop(desk);
        if let Some(book) = book {
            self.keep(book);
        }
        result
    }

    fn keep(&self, book: Book) {
        let runtime = Handle::try_current();
        let Ok(runtime) = runtime.map_err(|_| ()).and_then(|runtime| {
            let is_instant = self.0.keeper.is_instant();
            (!is_instant).then_some(runtime).ok_or(())
        }) else {
            let outcome = self.0.keeper.keep(&book);
            self.kept(outcome);
            return;
        };
        // A task of its own: whoever asked may be gone before the disk has answered.
        let (pace, keeper) = (self.clone(), Arc::clone(&self.0.keeper));
        runtime.spawn(async move {
            let kept = tokio::task::spawn_blocking(move || keeper.keep(&book)).await;
            pace.kept(kept.unwrap_or_else(|error| Err(error.to_string())));
        });
    }

    fn kept(&self, outcome: Result<(), String>) {
        if let Err(problem) = &outcome {
            tracing::warn!(
                problem,
                "the fill ledger cannot be kept; nothing is received until it can"
            );
        }
        self.change(|queue, at| queue.written(at, outcome.is_ok()));
    }

    fn sit(&self, class: Class, bytes: u64, is_lent: bool) -> Seat<'_> {
        let bell = Arc::new(Notify::new());
        let mut desk = self.desk();
        let at = at();
        let id = desk.queue.ask(at, class, bytes, is_lent);
        desk.bells.insert(id, Arc::clone(&bell));
        desk.ring();
        let book = desk.queue.write(at);
        drop(desk);
        if let Some(book) = book {
            self.keep(book);
        }
        Seat {
            pace: self,
            class,
            bytes,
            is_lent,
            id,
            bell,
        }
    }

    fn look(&self, id: Id) -> Look {
        self.change(|queue, at| queue.step(at));
        let mut desk = self.desk();
        if let Some(answer) = desk.queue.answer(id) {
            desk.bells.remove(&id);
            return Look::Answer(answer);
        }
        match desk.watcher {
            Some((watcher, Some(until))) if watcher == id => Look::Until(until),
            Some(_) | None => Look::Wait,
        }
    }
}

impl Desk {
    /// Wakes those who have an answer, and the watcher if there is something earlier to do.
    fn ring(&mut self) {
        for id in self.queue.answered() {
            if let Some(bell) = self.bells.remove(&id) {
                bell.notify_one();
            }
        }
        let deadline = self.queue.deadline();
        let before = self.watcher.filter(|(id, _)| self.queue.is_waiting(*id));
        let Some(id) = before.map(|(id, _)| id).or_else(|| self.queue.watcher()) else {
            self.watcher = None;
            return;
        };
        let known = before.map(|(_, until)| until);
        self.watcher = Some((id, deadline));
        if known.is_none_or(|until| is_sooner(deadline, until))
            && let Some(bell) = self.bells.get(&id)
        {
            bell.notify_one();
        }
    }
}

/// Of two deadlines. Whoever sleeps until an earlier one looks then, and sleeps on.
fn is_sooner(this: Option<Instant>, than: Option<Instant>) -> bool {
    this.is_some_and(|this| than.is_none_or(|than| this < than))
}

impl Seat<'_> {
    async fn wait(&self) -> Result<(), Closed> {
        loop {
            match self.pace.look(self.id) {
                Look::Answer(answer) => return answer,
                Look::Until(at) => {
                    tokio::select! {
                        () = clock::sleep_until(at) => {}
                        () = self.bell.notified() => {}
                    }
                }
                Look::Wait => self.bell.notified().await,
            }
        }
    }
}

impl Drop for Seat<'_> {
    /// Nothing to withdraw if the answer was fetched.
    fn drop(&mut self) {
        let (class, id, asked) = (self.class, self.id, (self.bytes, self.is_lent));
        self.pace.desk().bells.remove(&id);
        self.pace
            .change(|queue, at| queue.withdraw(at, class, id, asked));
    }
}

impl Turns for Pace {
    fn take(&self, class: Class, bytes: u64) -> BoxFuture<'_, Result<(), Closed>> {
        Box::pin(async move { self.sit(class, bytes, false).wait().await })
    }

    fn lend(&self, class: Class, bytes: u64) -> BoxFuture<'_, Result<(), Closed>> {
        Box::pin(async move { self.sit(class, bytes, true).wait().await })
    }

    fn came(&self, bytes: u64) {
        self.change(|queue, at| queue.came(at, bytes));
    }

    fn give_back(&self, class: Class, bytes: u64) {
        self.change(|queue, at| queue.give_back(at, class, bytes));
    }
}

fn at() -> At {
    At {
        now: clock::now(),
        moment: Moment {
            wall: clock::wall(),
            boot: clock::boot(),
        },
    }
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
