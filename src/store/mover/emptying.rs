//! Disks that are to leave: all that they have goes to the others, the most popular first.
//!
//! `mover` gives a turn at each of its looks. Picks one object after another and where it goes.
//! What could not be moved is tried again a minute later. Nothing here is kept: a restart goes on
//! with what still lies on the disk.
//!
//! I/O: waits for the disks' threads.

use super::super::core::Shared;
use super::super::handle;
use super::super::index::Places;
use super::super::manifest::UNLISTED_RANK;
use super::super::relocate::RelocateError;
use super::super::relocate::Relocation;
use super::super::retire::RetireView;
use super::super::volume::Volume;
use super::super::writer::PublishError;
use super::FAILED_MAX;
use super::RETRY_AFTER;
use super::pace::Pace;
use super::ranks;
use crate::clock;
use crate::clock::Instant;
use crate::object::Digest;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What is known of the disks that retire.
#[derive(Debug, Default)]
pub(super) struct Emptying {
    /// Disks with something that could not be moved.
    not_before: BTreeMap<u16, Instant>,
    read_back: ReadBack,
}

/// Objects of disks that take no writes, with the disk, whose copies elsewhere were read: the only
/// ones that may be pulled with it.
type ReadBack = BTreeSet<(u16, u32)>;

/// What a retiring disk has.
struct Load {
    number: u32,
    rank: u32,
    digest: Digest,
    length: u64,
}

/// What one pass over a disk came to.
#[derive(Debug, Default)]
struct Pass {
    failed_in_a_row: u32,
    last_failure: Option<String>,
    /// Disks whose copies were not what was written.
    rotten: BTreeSet<u16>,
}

impl Emptying {
    /// What could not be moved is tried again at once.
    pub(super) fn look_again(&mut self) {
        self.not_before.clear();
    }

    /// Moves all that can be moved off the disks that retire.
    pub(super) fn turn(&mut self, shared: &Arc<Shared>) {
        let now = clock::now();
        for volume in shared.volumes.iter().filter(|v| v.retire.is_on()) {
            let is_empty = volume.tally.objects.load(Ordering::Relaxed) == 0;
            if is_empty && volume.state().is_writable() {
                ended(shared, volume);
                continue;
            }
            let last = self.not_before.get(&volume.number);
            let is_due = last.is_none_or(|at| *at <= now);
            if is_due && !shared.is_stopping() {
                match retire(shared, volume, &mut self.read_back) {
                    // What may still land there is moved at once.
                    true => self.not_before.remove(&volume.number),
                    false => {
                        let later = clock::now() + RETRY_AFTER;
                        self.not_before.insert(volume.number, later)
                    }
                };
                shared.wake();
            }
        }
    }
}

/// Moves what a retiring disk has. True: it was emptied.
fn retire(shared: &Arc<Shared>, volume: &Arc<Volume>, read_back: &mut ReadBack) -> bool {
    let state = volume.state();
    if !state.is_readable() {
        let state = state.as_str();
        volume.retire.show(|view| {
            view.state = "retiring";
            view.reason = Some(format!("it waits: the disk is {state}"));
        });
        return false;
    }
    let loads = loads(shared, volume, read_back);
    if loads.is_empty() {
        ended(shared, volume);
        return volume.state().is_writable();
    }
    let bytes = loads.iter().map(|load| load.length).sum();
    volume.retire.show(|view| {
        *view = RetireView {
            state: "retiring",
            objects_left: loads.len() as u64,
            bytes_left: bytes,
            no_room_objects: 0,
            no_room_bytes: 0,
            reason: None,
            ..view.clone()
        };
    });
    let mut pass = Pass::default();
    for load in &loads {
        let goes_on = !shared.is_stopping() && volume.retire.is_on();
        if !goes_on || !volume.state().is_readable() || pass.failed_in_a_row >= FAILED_MAX {
            break;
        }
        if one(shared, volume, load, &mut pass) {
            read_back.insert((volume.number, load.number));
        }
    }
    volume.retire.show(|view| view.reason = pass.last_failure);
    // What came meanwhile, as the end of a transfer, is found by another look.
    let is_empty = self::loads(shared, volume, read_back).is_empty() && !shared.is_stopping();
    if is_empty && volume.retire.is_on() {
        ended(shared, volume);
    }
    is_empty && volume.state().is_writable()
}

/// One object to where there is room. What becomes of it is shown. True: another disk has it, where
/// it was read.
fn one(shared: &Arc<Shared>, volume: &Arc<Volume>, load: &Load, pass: &mut Pass) -> bool {
    let (mut without, mut full) = (pass.rotten.clone(), pass.rotten.len());
    while volume.retire.is_on() {
        let to = match target(shared, volume, load, &without) {
            Ok(to) => to,
            // Also when a disk with room for it by the numbers was full.
            Err(PublishError::NoRoom { .. }) if without.len() == full => {
                volume.retire.show(|view| {
                    view.no_room_objects += 1;
                    view.no_room_bytes += load.length;
                });
                return false;
            }
            Err(error) => {
                pass.last_failure = Some(error.to_string());
                pass.failed_in_a_row += 1;
                return false;
            }
        };
        let was_there = shared.index.places(load.number).has(to.number);
        let tell = |why: Option<String>| {
            let reason = why.map(|why| format!("it waits: {why}"));
            volume.retire.show(|view| view.reason = reason);
        };
        let pace = Pace::begin(shared, &tell);
        let relocation = Relocation {
            shared,
            number: load.number,
            digest: load.digest,
            length: load.length,
            from: volume,
            to,
            // What was begun is ended, also when the disk is to stay: it would lie on two.
            go_on: &|_| pace.turn(&|| true),
        };
        let problem = match relocation.run() {
            Ok(()) => {
                pass.failed_in_a_row = 0;
                settled(volume, load, !was_there || volume.state().is_writable());
                return true;
            }
            Err(RelocateError::Stopped) => return false,
            Err(RelocateError::Target(error)) => {
                full += usize::from(matches!(error, PublishError::Full { .. }));
                if error.volume().is_some_and(|number| without.insert(number)) {
                    tracing::warn!(digest = %load.digest, %error, "{error}; another disk is tried");
                    continue;
                }
                error.to_string()
            }
            Err(
                error @ (RelocateError::Gone
                | RelocateError::Damaged { .. }
                | RelocateError::Unread { .. }
                | RelocateError::NotRemoved { .. }),
            ) => {
                // Deleted meanwhile, or out of the catalogue: it is not on this disk any more. Of
                // the copy the same may be said, and then it still is.
                if !shared.index.places(load.number).has(volume.number) {
                    settled(volume, load, false);
                    return false;
                }
                if matches!(error, RelocateError::Damaged { .. }) {
                    pass.rotten.insert(to.number);
                }
                error.to_string()
            }
        };
        stays(volume, load, pass, problem);
        return false;
    }
    false
}

fn stays(volume: &Volume, load: &Load, pass: &mut Pass, problem: String) {
    let (disk, digest) = (volume.name(), load.digest);
    if volume.may_log().is_some() {
        tracing::warn!(disk, %digest, problem, "disk {disk}: {digest} stays there: {problem}");
    }
    pass.last_failure = Some(problem);
    pass.failed_in_a_row += 1;
}

fn settled(volume: &Volume, load: &Load, is_moved: bool) {
    volume.retire.show(|view| {
        if is_moved {
            view.objects_moved += 1;
            view.bytes_moved += load.length;
        }
        view.objects_left = view.objects_left.saturating_sub(1);
        view.bytes_left = view.bytes_left.saturating_sub(load.length);
    });
}

/// Nothing is left on the disk, or nothing that no other has.
fn ended(shared: &Shared, volume: &Volume) {
    let is_receiving = shared.staging.is_receiving(volume.number);
    let (mut is_first, mut is_news) = (false, false);
    volume.retire.show(|view| {
        is_first = !is_receiving && view.state != "retired";
        let before = view.reason.take();
        *view = RetireView {
            state: match is_receiving {
                true => "retiring",
                false => "retired",
            },
            objects_left: 0,
            bytes_left: 0,
            no_room_objects: 0,
            no_room_bytes: 0,
            reason: Some(match is_receiving {
                true => "a transfer to it ends first".to_owned(),
                false => "it may be pulled; take its [[disk]] out of the configuration".to_owned(),
            }),
            ..view.clone()
        };
        is_news = is_first || before != view.reason;
    });
    if is_first {
        let disk = volume.name();
        tracing::warn!(disk, "disk {disk} is retired: it may be pulled");
    }
    if is_news {
        shared.wake();
    }
}

/// What the disk has to give away, the most popular first. Of one that takes no writes nothing is
/// removed: what another disk has, where it was read, is done.
fn loads(shared: &Shared, volume: &Volume, read_back: &ReadBack) -> Vec<Load> {
    let index = &shared.index;
    let is_kept = !volume.state().is_writable();
    let others = staying(shared);
    let ranks = ranks(shared);
    let here = (0..index.len()).filter(|number| index.places(*number).has(volume.number));
    let is_done = |number: &u32| {
        is_kept
            && index.readable(*number).meets(others)
            && read_back.contains(&(volume.number, *number))
    };
    let left = here.filter(|number| !is_done(number));
    let loads = left.filter_map(|number| {
        let (digest, length) = index.object(number)?;
        let rank = ranks.get(number as usize).copied();
        Some(Load {
            number,
            rank: rank.unwrap_or(UNLISTED_RANK),
            digest,
            length,
        })
    });
    let mut loads: Vec<Load> = loads.collect();
    loads.sort_unstable_by_key(|load| (load.rank, load.digest));
    loads
}

/// Disks that do not retire.
fn staying(shared: &Shared) -> Places {
    let mut places = Places::default();
    for volume in &shared.volumes {
        if !volume.retire.is_on() {
            places.insert(volume.number);
        }
    }
    places
}

/// Another disk that has it already; otherwise one with room, of the speed that its rank deserves.
fn target<'a>(
    shared: &'a Shared,
    volume: &Volume,
    load: &Load,
    without: &BTreeSet<u16>,
) -> Result<&'a Arc<Volume>, PublishError> {
    let has = |v: &&Arc<Volume>| v.number != volume.number && !v.retire.is_on();
    let mut holders = shared.holders(load.number).into_iter().filter(has);
    // Of one that takes no writes nobody knows how long it will be read.
    if let Some(holder) = holders.find(|v| v.state().is_writable()) {
        return Ok(holder);
    }
    // Itself it may be again, if the disk is to stay after all.
    let mut without = without.clone();
    without.insert(volume.number);
    handle::choose(shared, &load.digest.0, load.length, load.rank, &without)
}
