//! The thread that moves objects between disks: what a retiring disk has at any hour, and what a
//! night's plan says.
//!
//! `open` starts it. A look: `emptying` gives a retiring disk's objects to the others, all of them;
//! then `arranging` runs one errand of the plan that `arrange` made (`errand`), while the window of
//! [`Handle::allow_moves`] is open and the night's `budget` lasts. Both wait while viewers press on
//! the box (`pace`); how one object is moved is `relocate`'s. Of the retiring disks nothing is
//! kept: a restart goes on with what still lies there. Of the night its budget is.
//!
//! I/O: spawns nothing and touches no disk; waits for the disks' threads; keeps a small file.

mod arranging;
#[cfg(test)]
mod arranging_tests;
mod budget;
mod device;
mod emptying;
mod errand;
mod pace;
mod view;

pub use view::MovedView;
pub use view::MovesView;

use super::Handle;
use super::core::Shared;
use super::manifest::UNLISTED_RANK;
use super::writer::PublishError;
use crate::clock;
use crate::clock::Instant;
use crate::lock::lock;
use arranging::Arranging;
use emptying::Emptying;
use jiff::civil::Date;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// Whether there is something to do is looked at this often; a look is a few loads.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What could not be moved is tried again after this time: room comes with the next deletions, a
/// disk with its cable.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// So many that fail in a row have another trouble than their own: the rest waits for the next try.
const FAILED_MAX: u32 = 8;

/// After somebody found no room, second copies are nobody's wish for this time: the next night's
/// fill comes first.
const NO_ROOM_FOR: Duration = Duration::from_secs(24 * 3600);

/// When objects may be moved to where they belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Night {
    /// Of its opening, by the site's calendar: a night has one budget, restarts included.
    pub date: Date,
    pub until: Instant,
}

/// What the thread and those who tell it something share.
#[derive(Debug)]
pub(super) struct Mover {
    waker: SyncSender<()>,
    /// Of the time, what viewers leave.
    percent: AtomicU32,
    because: Mutex<Option<String>>,
    night: Mutex<Option<Night>>,
    /// Somebody found no room for an object, and until when that counts.
    no_room: Mutex<Option<Instant>>,
    view: Mutex<MovesView>,
    /// A plan of a test's own.
    #[cfg(test)]
    given: Mutex<Option<arranging_tests::Planner>>,
}

impl Handle {
    /// Moves take this part of the time that they could, because of `because`: viewers come first.
    pub fn ease_moves(&self, percent: u32, because: Option<String>) {
        let mover = &self.shared().mover;
        *lock(&mover.because) = because;
        mover.percent.store(percent.min(100), Ordering::Release);
    }

    /// Objects may be moved to where their ranks belong for as long as this night lasts; before
    /// anybody says so, never. A disk that retires is emptied at any hour.
    pub fn allow_moves(&self, night: Option<Night>) {
        let mover = &self.shared().mover;
        let before = std::mem::replace(&mut *lock(&mover.night), night);
        // The end is computed anew each time; only a night that begins or ends is news.
        if before.map(|night| night.date) != night.map(|night| night.date) {
            mover.wake();
        }
    }

    /// Objects that the box should hold have no room: second copies go, at any hour.
    pub fn note_no_room(&self) {
        note_no_room(self.shared());
    }
}

impl Mover {
    pub(super) fn new() -> (Self, Receiver<()>) {
        let (waker, woken) = sync_channel(1);
        let mover = Self {
            waker,
            percent: AtomicU32::new(100),
            because: Mutex::default(),
            night: Mutex::default(),
            no_room: Mutex::default(),
            view: Mutex::default(),
            #[cfg(test)]
            given: Mutex::default(),
        };
        (mover, woken)
    }

    /// There may be something to do, or the store stops.
    pub(super) fn wake(&self) {
        // A full channel is a wake-up that has not been served yet.
        let _ = self.waker.try_send(());
    }

    /// The night that it is.
    fn night(&self, now: Instant) -> Option<Night> {
        lock(&self.night).filter(|night| now < night.until)
    }

    fn lacks_room(&self, now: Instant) -> bool {
        lock(&self.no_room).is_some_and(|until| now < until)
    }

    fn show(&self, change: impl FnOnce(&mut MovesView)) {
        change(&mut lock(&self.view));
    }

    pub(super) fn view(&self) -> MovesView {
        lock(&self.view).clone()
    }
}

/// Somebody could not place an object: is it for want of room?
///
/// `without`: the disks that had refused it.
pub(super) fn note_refusal(shared: &Shared, without: &BTreeSet<u16>, error: &PublishError) {
    // Without those disks the others may be full.
    if without.is_empty() && matches!(error, PublishError::NoRoom { .. }) {
        note_no_room(shared);
    }
}

fn note_no_room(shared: &Shared) {
    // The room of a disk that is out of service comes back with it.
    if shared.is_one_away() {
        return;
    }
    let now = clock::now();
    let before = lock(&shared.mover.no_room).replace(now + NO_ROOM_FOR);
    if before.is_none_or(|until| until <= now) {
        shared.mover.wake();
    }
}

/// The thread's life.
pub(super) fn run(shared: &Arc<Shared>, woken: &Receiver<()>) {
    let mut emptying = Emptying::default();
    let mut arranging = Arranging::load(shared);
    let mut has_more = false;
    while !shared.is_stopping() {
        let patience = if has_more { Duration::ZERO } else { LOOK_EVERY };
        match woken.recv_timeout(patience) {
            Ok(()) => {
                emptying.look_again();
                arranging.look_again();
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        has_more = false;
        if *shared.settled.borrow() {
            emptying.turn(shared);
            has_more = !shared.is_stopping() && arranging.turn(shared);
        }
    }
}

/// The best rank of each object, by number: one walk over the manifest.
fn ranks(shared: &Shared) -> Vec<u32> {
    let mut ranks = vec![UNLISTED_RANK; shared.index.len() as usize];
    let manifest = shared.manifest.load();
    for (_, row) in manifest.iter().flat_map(|manifest| manifest.rows()) {
        if let Some(rank) = ranks.get_mut(row.object as usize) {
            *rank = row.rank.min(*rank);
        }
    }
    ranks
}
