//! A night's moves: the plan that `arrange` makes is carried out, one errand a turn.
//!
//! ```text
//! signed manifest, window open ─ plan ─┬─ errand: is it still worth it? ─ the budget ─ `errand` ─┐
//!                                      └───────────────── the next one ──────────────────────────┘
//! nothing left: at once another plan, if this one did something; otherwise later
//! ```
//! Somebody who found no room (a fill, a prefill) opens no window, but has second copies removed at
//! any hour.
//!
//! I/O: keeps the budget in a small file of the state directory; waits for the disks' threads.

use super::super::arrange::Arranger;
use super::super::arrange::Disk;
use super::super::arrange::Errand;
use super::super::arrange::Item;
use super::super::arrange::Terms;
use super::super::core::Shared;
use super::super::handle::candidate;
use super::super::manifest::Manifest;
use super::super::manifest::Position;
use super::super::manifest::UNLISTED_RANK;
use super::super::relocate::RelocateError;
use super::FAILED_MAX;
use super::RETRY_AFTER;
use super::budget::Answer;
use super::budget::Budget;
use super::budget::RECORD_BYTES_MAX;
use super::device;
use super::errand;
use super::errand::Job;
use super::pace::Pace;
use super::ranks;
use super::view::MovedView;
use crate::clock;
use crate::clock::Instant;
use crate::durable;
use crate::units::Bytes;
use jiff::civil::Date;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// In the state directory.
const LEDGER: &str = "moves.ledger";

/// When nothing is to be done, the next plan is made after this time: one is a walk over all that
/// the box has.
const PLAN_EVERY: Duration = Duration::from_secs(600);

/// What a plan is made for. With other ones it is another plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Grounds {
    manifest: Position,
    night: Option<Date>,
    lacks_room: bool,
}

/// The thread's.
#[derive(Debug)]
pub(super) struct Arranging {
    budget: Budget,
    grounds: Option<Grounds>,
    plan: VecDeque<Errand>,
    pass: Pass,
    /// The next plan is not made before this.
    not_before: Option<Instant>,
    /// Disks whose copies were not what was written: for the life of this process they get no more.
    rotten: BTreeSet<u16>,
}

/// What one plan has come to.
#[derive(Debug, Default)]
struct Pass {
    has_begun: bool,
    done: u64,
    /// Something did not fit into what is left of the budget.
    is_short: bool,
    failed_in_a_row: u32,
    last_failure: Option<String>,
}

impl Arranging {
    /// Goes on with the night's budget as the last life left it.
    pub(super) fn load(shared: &Shared) -> Self {
        let budget = Budget::read(read(shared).as_deref());
        if budget.is_in_doubt() {
            let path = shared.state_dir.path.join(LEDGER);
            let path = path.display();
            tracing::error!("{path} cannot be believed: nothing is moved in the next night");
        }
        let bytes = shared.upkeep.moves_per_night.0;
        shared.mover.show(|view| view.budget_bytes = bytes);
        Self {
            budget,
            grounds: None,
            plan: VecDeque::new(),
            pass: Pass::default(),
            not_before: None,
            rotten: BTreeSet::new(),
        }
    }

    /// Whoever waited for another plan waits no more.
    pub(super) fn look_again(&mut self) {
        self.not_before = None;
    }

    /// One errand at most. True: there is more to do at once.
    pub(super) fn turn(&mut self, shared: &Arc<Shared>) -> bool {
        let manifest = shared.manifest.load_full();
        let Some(manifest) = manifest.filter(|manifest| manifest.is_signed()) else {
            self.rest(shared, "no signed manifest says what belongs where");
            return false;
        };
        let now = clock::now();
        let (night, lacks_room) = (shared.mover.night(now), shared.mover.lacks_room(now));
        if night.is_none() && !lacks_room {
            self.rest(shared, "it is outside the night's window");
            return false;
        }
        let grounds = Grounds {
            manifest: manifest.position,
            night: night.map(|night| night.date),
            lacks_room,
        };
        if self.grounds != Some(grounds) {
            self.begin(shared, grounds);
        }
        let Some(errand) = self.plan.pop_front() else {
            return self.make(shared, &manifest, grounds);
        };
        self.run(shared, errand);
        if self.pass.failed_in_a_row >= FAILED_MAX {
            self.plan.clear();
        }
        self.show_left(shared);
        true
    }

    /// Nothing may be done.
    fn rest(&mut self, shared: &Shared, reason: &str) {
        if self.grounds.take().is_some() {
            let done = shared.mover.view().tonight;
            if done != MovedView::default() {
                tell(&done);
            }
        }
        self.plan.clear();
        self.show_left(shared);
        show_reason(shared, Some(reason.to_owned()));
    }

    fn begin(&mut self, shared: &Shared, grounds: Grounds) {
        self.grounds = Some(grounds);
        self.plan.clear();
        self.pass = Pass::default();
        self.not_before = None;
        if let Some(date) = grounds.night {
            let was_in_doubt = self.budget.is_in_doubt();
            if self.budget.begin(date) && was_in_doubt {
                // The next start need not doubt it again. What fails here fails before a write.
                let _ = self.keep(shared);
            }
            let (used, night) = (self.budget.used(), Some(date.to_string()));
            shared.mover.show(|view| {
                if view.night != night {
                    (view.night, view.tonight) = (night, MovedView::default());
                }
                view.budget_used_bytes = used.min(view.budget_bytes);
            });
        }
    }

    /// The next plan, when its time has come. True: it has something to do.
    fn make(&mut self, shared: &Arc<Shared>, manifest: &Manifest, grounds: Grounds) -> bool {
        let now = clock::now();
        let pass = std::mem::take(&mut self.pass);
        if pass.has_begun && pass.done == 0 {
            let failed = pass.last_failure.is_some();
            self.not_before = Some(now + if failed { RETRY_AFTER } else { PLAN_EVERY });
            let limit = shared.upkeep.moves_per_night;
            let reason = match (pass.is_short, limit) {
                (true, Bytes(0)) => Some("`[store] moves_per_night` is 0".to_owned()),
                (true, limit) => Some(format!("this night's budget of {limit} is used")),
                (false, _) => pass.last_failure,
            };
            show_reason(shared, reason);
        }
        if self.not_before.is_some_and(|at| now < at) {
            return false;
        }
        let terms = Terms {
            replica_percent: match grounds.lacks_room {
                true => 0,
                false => shared.upkeep.replicas_percent,
            },
        };
        let mut plan = plan(shared, manifest, terms);
        plan.retain(|errand| grounds.night.is_some() || !errand::writes(errand));
        // A disk that is out of service comes back with its copies, and its room.
        if shared.is_one_away() {
            plan.retain(|errand| matches!(errand, Errand::Move { .. }));
        }
        self.plan = plan.into();
        self.pass.has_begun = !self.plan.is_empty();
        self.show_left(shared);
        if self.plan.is_empty() {
            self.not_before = Some(now + PLAN_EVERY);
            show_reason(shared, None);
        }
        !self.plan.is_empty()
    }

    fn run(&mut self, shared: &Arc<Shared>, errand: Errand) {
        let Some(job) = Job::of(shared, errand) else {
            return;
        };
        if !errand::writes(&errand) && self.is_in_vain(shared) {
            self.pass.is_short = true;
            return;
        }
        let cost = job.cost();
        if (cost > 0 && self.rotten.contains(&job.to.number)) || !self.pay(shared, cost) {
            return;
        }
        let tell = |reason: Option<String>| {
            let reason = reason.map(|why| format!("it waits: {why}"));
            shared.mover.show(|view| view.reason = reason);
        };
        let (pace, written) = (Pace::begin(shared, &tell), Cell::new(0));
        // What is on two disks is brought to its end: the window is for what is written.
        let is_night = || shared.mover.night(clock::now()).is_some();
        let may_go_on = || cost == 0 || job.is_at_target() || is_night();
        let go_on = |bytes| {
            let goes_on = pace.turn(&may_go_on);
            if goes_on && !job.is_at_target() {
                written.set(written.get() + bytes);
            }
            goes_on
        };
        show_reason(shared, None);
        let outcome = job.run(&go_on);
        self.budget.give_back(cost.saturating_sub(written.get()));
        let used = self.budget.used();
        shared.mover.show(|view| {
            view.budget_used_bytes = used.min(view.budget_bytes);
            if outcome.is_ok() {
                job.count(&mut view.tonight);
                job.count(&mut view.total);
            }
        });
        match outcome {
            Ok(()) => {
                self.pass.done += 1;
                self.pass.failed_in_a_row = 0;
            }
            Err(RelocateError::Stopped | RelocateError::Gone) => {}
            Err(error) => self.failed(shared, &job, cost > 0, &error),
        }
    }

    /// Takes from the night's budget, durably. False: there is not so much left.
    fn pay(&mut self, shared: &Shared, bytes: u64) -> bool {
        let limit = shared.upkeep.moves_per_night.0;
        match self.budget.take(bytes, limit) {
            Answer::Yes => true,
            Answer::No => {
                self.pass.is_short = true;
                false
            }
            Answer::Keep => {
                let kept = self.keep(shared);
                let is_kept = kept.is_ok();
                if let Err(problem) = kept {
                    self.budget.not_kept(bytes);
                    tracing::error!("nothing is moved: {problem}");
                    self.pass.last_failure = Some(problem);
                    // Nothing else that writes would fare better.
                    self.plan.clear();
                }
                is_kept
            }
        }
    }

    fn keep(&self, shared: &Shared) -> Result<(), String> {
        let path = shared.state_dir.path.join(LEDGER);
        let kept = durable::replace(&path, self.budget.record().as_bytes(), 0o644);
        kept.map_err(|error| format!("{} cannot be written: {error}", path.display()))
    }

    /// Second copies make room for what comes after them: not for what cannot be paid.
    fn is_in_vain(&self, shared: &Shared) -> bool {
        let next = self.plan.iter().find(|errand| errand::writes(errand));
        let next = next.and_then(|errand| shared.index.object(errand.number()));
        let limit = shared.upkeep.moves_per_night.0;
        next.is_some_and(|(_, length)| self.budget.used().saturating_add(length) > limit)
    }

    fn failed(&mut self, shared: &Shared, job: &Job<'_>, has_written: bool, error: &RelocateError) {
        let (disk, digest) = (job.to.name(), job.digest);
        // The damaged one may have been the source: it is not there any more then.
        let is_rotten = matches!(error, RelocateError::Damaged { .. }) && job.is_at_source();
        if has_written && is_rotten && self.rotten.insert(job.to.number) {
            tracing::error!(
                disk,
                "disk {disk} gave back something else than was written to it"
            );
        }
        let pass = &mut self.pass;
        if job.to.may_log().is_some() {
            tracing::warn!(disk, %digest, %error, "{digest} was not moved to disk {disk}: {error}");
        }
        pass.last_failure = Some(error.to_string());
        pass.failed_in_a_row += 1;
        shared.wake();
    }

    fn show_left(&self, shared: &Shared) {
        let writing = self.plan.iter().filter(|errand| errand::writes(errand));
        let lengths = writing.filter_map(|errand| shared.index.object(errand.number()));
        let (objects, bytes) = lengths.fold((0, 0), |(objects, bytes), (_, length)| {
            (objects + 1, bytes + length)
        });
        shared
            .mover
            .show(|view| (view.objects_left, view.bytes_left) = (objects, bytes));
    }
}

/// Who asks sees it soon.
fn show_reason(shared: &Shared, reason: Option<String>) {
    let mut is_news = false;
    shared.mover.show(|view| {
        is_news = view.reason != reason;
        view.reason = reason;
    });
    if is_news {
        shared.wake();
    }
}

fn tell(done: &MovedView) {
    let (moved, copied) = (Bytes(done.moved_bytes), Bytes(done.copied_bytes));
    tracing::info!(
        "moves between disks end for this night: {} objects with {moved} moved, {} with {copied} \
         copied, {} spare copies removed",
        done.moved_objects,
        done.copied_objects,
        done.removed_objects,
    );
}

/// All that the disks have, before the planner.
fn plan(shared: &Shared, manifest: &Manifest, terms: Terms) -> Vec<Errand> {
    #[cfg(test)]
    if let Some(given) = *crate::lock::lock(&shared.mover.given) {
        return given(shared, terms);
    }
    let devices = device::numbers(&shared.volumes);
    let disks = { shared.volumes.iter().zip(devices) }.filter_map(|(volume, device)| {
        Some(Disk {
            candidate: candidate(volume)?,
            is_readable: volume.state().is_readable(),
            takes_objects: volume.takes_objects(),
            retires: volume.retire.is_on(),
            device,
            held: volume.tally.bytes.load(Ordering::Relaxed),
        })
    });
    let mut arranger = Arranger::new(disks.collect(), &manifest.demand, terms);
    let (index, ranks) = (&shared.index, ranks(shared));
    for number in 0..index.len() {
        if let Some((digest, length)) = index.object(number) {
            let rank = ranks.get(number as usize).copied();
            arranger.offer(&Item {
                number,
                digest,
                length,
                rank: rank.unwrap_or(UNLISTED_RANK),
                places: index.places(number),
            });
        }
    }
    arranger.errands()
}

/// The record as it is; one that cannot be read is empty, which nobody believes.
fn read(shared: &Shared) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let opened = File::open(shared.state_dir.path.join(LEDGER));
    match opened.and_then(|file| file.take(RECORD_BYTES_MAX).read_to_end(&mut bytes)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Ok(_) => Some(bytes),
        Err(_) => Some(Vec::new()),
    }
}
