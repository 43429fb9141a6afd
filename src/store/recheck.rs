//! A suspect disk, back in service: when it was mounted anew, or when an operator looked at it.
//!
//! ```text
//! suspect ─┬─ mounted anew, no failed flush recorded ─┐
//!          └─ `oca disk check` ──────────────────────┴─ look → claim → try out → scan → online
//! ```
//! A cable that was put back gives the disk another device number; its file system was mounted from
//! what the medium has, and nothing of it is doubted but what a failed flush left: that is for
//! somebody to judge. What was published was durable before; files whose flush failed are in
//! quarantine, and after an operator's word the scrub reads all of the disk again.
//!
//! I/O: on the disk's own thread; [`Handle::recheck`] waits for it.

use super::Handle;
use super::absent;
use super::alive;
use super::core::Shared;
use super::identity;
use super::identity::IdentityError;
use super::kept;
use super::lane::Pulse;
use super::layout;
use super::open;
use super::order;
use super::order::DiskOrderError;
use super::ours;
use super::root;
use super::root::Root;
use super::scan;
use super::scrub;
use super::state::Event;
use super::state::State;
use super::suspects;
use super::volume::Home;
use super::volume::Volume;
use std::io;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What a disk has to write, flush and give back before it is believed.
const TRIAL: &str = "trial";
const TRIAL_BYTES: usize = 4096;

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("is another disk than the one that was there; restart to use it")]
    Other,
    #[error("does not keep what it is given: {0}; replace it")]
    Trial(io::Error),
    #[error("stays suspect, for that it is not cannot be kept: {0}; check `state_dir`")]
    State(io::Error),
}

impl Handle {
    /// An operator has looked at a suspect disk: it is tried out and scanned again, and read by the
    /// scrub. Returns when it is accepted; its scan goes on.
    pub async fn recheck(&self, path: &Path) -> Result<(), DiskOrderError> {
        let shared = Arc::clone(self.shared());
        let volume = order::disk_at(&shared, path).map_err(DiskOrderError::Unknown)?;
        if !is_suspect(volume) {
            return Err(DiskOrderError::State {
                disk: volume.name(),
                state: volume.state().as_str(),
                needed: "suspect",
                done: "checked",
            });
        }
        let (own, taken) = (Arc::clone(&shared), Arc::clone(volume));
        order::consult(volume, move |_, pulse| rejoin(&own, &taken, pulse, true)).await
    }
}

/// Has the disk's thread see whether a suspect disk was mounted anew.
pub(super) fn ask(shared: &Arc<Shared>, volume: &Arc<Volume>) {
    if is_suspect(volume) && *shared.settled.borrow() {
        let (own, disk) = (Arc::clone(shared), Arc::clone(volume));
        // A full queue is a disk that does not answer: there is a next time.
        let _ = volume.write(volume.flush_patience(), move |_, pulse| {
            if may_rejoin(&own, &disk)
                && let Err(problem) = rejoin(&own, &disk, pulse, false)
                && disk.may_log().is_some()
            {
                let name = disk.name();
                tracing::warn!(disk = name, %problem, "disk {name} {problem}");
            }
        });
    }
}

fn is_suspect(volume: &Volume) -> bool {
    volume.state() == State::Suspect && volume.home().is_some()
}

/// Was it mounted anew, and did no flush of it fail?
fn may_rejoin(shared: &Shared, volume: &Volume) -> bool {
    let (Some(home), Ok(there)) = (volume.home(), Root::open(&volume.config.path)) else {
        return false;
    };
    let is_anew = match (there.device(), home.root.device()) {
        (Ok(there), Ok(here)) => there != here,
        (Err(_), _) | (_, Err(_)) => false,
    };
    let is_mounted = there.is_mount_point().unwrap_or(false);
    is_anew && is_mounted && suspects::recorded(&shared.state_dir, &home.uuid).is_none()
}

/// On the disk's thread.
fn rejoin(
    shared: &Arc<Shared>,
    volume: &Arc<Volume>,
    pulse: &Pulse,
    is_looked_at: bool,
) -> Result<(), Problem> {
    let Some(old) = volume.home().filter(|_| is_suspect(volume)) else {
        return Ok(());
    };
    let home = take(shared, volume, &old)?;
    let accepted = try_out(&home.root)
        .map_err(Problem::Trial)
        .and_then(|()| match is_looked_at {
            true => {
                promise_scrub(shared, volume, &home.root).map_err(Problem::Trial)?;
                suspects::absolve(&shared.state_dir, &home.uuid).map_err(Problem::State)
            }
            false => Ok(()),
        });
    if let Err(problem) = accepted {
        drop(home);
        // The same directory as before, if it was not mounted anew: nobody else is to take it.
        let _ = old.root.lock();
        return Err(problem);
    }
    let (disk, uuid) = (volume.name(), home.uuid.clone());
    tracing::warn!(disk, uuid, "disk {disk} is back, and is scanned");
    absent::remember(&shared.state_dir, volume, &uuid);
    // What is being received has files of the mount that is gone.
    shared.staging.abandon(volume.number);
    volume.set_home(home);
    volume.fan_out.forget();
    if is_looked_at {
        volume.scrub.begin_anew();
    }
    volume.report(shared, Event::Returned, "");
    let (own, scanned) = (Arc::clone(shared), Arc::clone(volume));
    let queued = volume.write(Duration::MAX, move |volume, pulse| {
        pulse.beat(volume.deadline());
        scan::scan(&own, &scanned, pulse);
        ours::take_over(&own, volume, pulse);
    });
    if let Err(error) = queued {
        volume.report(shared, Event::Broken, &error.to_string());
    }
    pulse.beat(volume.deadline());
    Ok(())
}

/// Opens, identifies and locks what is mounted there.
fn take(shared: &Shared, volume: &Volume, old: &Home) -> Result<Home, Problem> {
    // Not one at a time as `comeback`: this disk may hang, and its home, which it keeps meanwhile,
    // has others of its uuid refused.
    let seen = identity::look(&volume.config)?;
    if seen.uuid.as_ref() != Some(&old.uuid) {
        return Err(Problem::Other);
    }
    volume.note_space(seen.space);
    // Where it was not mounted anew the lock is our own.
    old.root.unlock();
    let claimed = open::claim(shared, seen);
    Ok(claimed.inspect_err(|_| {
        let _ = old.root.lock();
    })?)
}

/// All of the disk is due for the scrub, after a restart too. One that takes no writes has it read
/// by this process.
fn promise_scrub(shared: &Shared, volume: &Volume, root: &Root) -> io::Result<()> {
    if root.space()?.read_only {
        return Ok(());
    }
    let schedule = scrub::all_due(volume.upkeep.scrub_every);
    kept::keep_below(root.top(), scrub::KEPT, &schedule, &shared.probe, &|_| ())
}

/// Writes, flushes and reads back past the page cache. One that takes no writes is read only.
fn try_out(root: &Root) -> io::Result<()> {
    if root.space()?.read_only {
        return alive::read(root, layout::DISK_FILE).map(drop);
    }
    let staging = root.dir(layout::STAGING)?;
    root::remove(&staging, TRIAL)?;
    let written = [0x5a; TRIAL_BYTES];
    let mut file = root::create_in(&staging, TRIAL)?;
    file.write_all(&written)?;
    file.sync_all()?;
    staging.sync_all()?;
    // Dropped from memory, so that the disk is asked.
    let length = TRIAL_BYTES as u64;
    let dropped = crate::sys::page_cache::drop_cached(&file, 0, length);
    let mut read = [0; TRIAL_BYTES];
    dropped.and_then(|()| file.read_exact_at(&mut read, 0))?;
    root::remove(&staging, TRIAL)?;
    match read == written {
        true => Ok(()),
        false => Err(io::Error::other("it gave back other bytes")),
    }
}

#[cfg(test)]
#[path = "recheck_tests.rs"]
mod tests;
