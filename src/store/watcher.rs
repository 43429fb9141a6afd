//! The watch thread, which is the store's clock.
//!
//! `open` starts it. It isolates disks whose calls hang, asks for free space and read-only
//! remounts, has refused disks looked at again, and builds the view. It touches no disk itself.
//!
//! I/O: waits; what it asks of a disk runs on the disk's own thread.

use super::alive;
use super::catch_up;
use super::comeback;
use super::core::Shared;
use super::lengths;
use super::ours;
use super::recheck;
use super::state::Event;
use super::state::State;
use super::view;
use super::volume::Volume;
use crate::clock;
use crate::clock::Instant;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

/// The watch thread looks at least this often, and asks each disk whether it is there: viewers of a
/// disk that was pulled are sent elsewhere within a second. More often when the deadline is short.
const LOOK_EVERY_MAX: Duration = Duration::from_millis(250);

/// Free space, the read-only flag and refused disks are asked for this often.
const SPACE_EVERY: Duration = Duration::from_secs(10);

/// The thread's life.
pub(super) fn run(shared: &Arc<Shared>, woken: &Receiver<()>, deadline: Duration) {
    let (mut seen, mut passed) = (clock::now(), Duration::ZERO);
    let every = (deadline / 8).clamp(Duration::from_millis(10), LOOK_EVERY_MAX);
    let mut asked: Option<Instant> = None;
    let mut shown = u64::MAX;
    while !shared.is_stopping() {
        let waited = woken.recv_timeout(every);
        let now = clock::now();
        // A process that was stopped, or a machine too busy to run this thread, is no hung disk:
        // what was not watched does not count.
        passed += now.duration_since(seen).min(every * 2);
        seen = now;
        shared.ticks.set(passed);
        for volume in &shared.volumes {
            if volume.watch(shared) {
                lengths::ask_if_settled(shared);
            }
            alive::ask(shared, volume);
        }
        let asks = asked.is_none_or(|at| now.duration_since(at) >= SPACE_EVERY);
        if asks {
            asked = Some(now);
            for volume in &shared.volumes {
                ask_space(shared, volume);
                comeback::ask(shared, volume);
                recheck::ask(shared, volume);
            }
        }
        let settles = !*shared.settled.borrow() && is_settled(shared);
        let changes = shared.changes.load(Ordering::Acquire);
        let scanning = |v: &Arc<Volume>| v.state() == State::Scanning;
        if changes != shown || settles || waited == Ok(()) {
            shown = changes;
            view::publish(shared);
        } else if asks || shared.volumes.iter().any(scanning) {
            view::refresh_disks(shared);
        }
        // After the view: who waited for it finds every disk in it as it is.
        if settles {
            shared.settled.send_replace(true);
            // A scan that ends from here on asks for itself.
            lengths::ask(shared);
        }
        if waited == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}

/// Is the manifest loaded, and has every scan ended (or its disk gone out of service)?
fn is_settled(shared: &Shared) -> bool {
    let scanning = |v: &Arc<Volume>| v.state() == State::Scanning;
    shared.manifest_loaded.load(Ordering::Acquire) && !shared.volumes.iter().any(scanning)
}

/// Free space, and whether the file system turned read-only by itself, as ext4 does on errors.
fn ask_space(shared: &Arc<Shared>, volume: &Arc<Volume>) {
    if !volume.state().is_readable() {
        return;
    }
    let own = Arc::clone(shared);
    // A full queue means that writes are under way, and they tell the same.
    let _ = volume.write(volume.deadline(), move |volume, pulse| -> io::Result<()> {
        if let Err(error) = volume.sweep() {
            own.note_write_error(volume, &error);
        }
        let space = volume.root()?.space()?;
        volume.note_space(space);
        if space.read_only {
            let reason = "its file system is mounted read-only; check the kernel log";
            volume.report(&own, Event::TurnedReadOnly, reason);
        }
        ours::take_over(&own, volume, pulse);
        catch_up::catch_up(&own, volume, pulse);
        Ok(())
    });
}
