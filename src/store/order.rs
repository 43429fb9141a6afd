//! What an operator orders for one disk: which disk is meant, and why it was not done.
//!
//! `comeback` (admit), `recheck` and `retire` carry the orders out.

use super::core::Shared;
use super::lane::Pulse;
use super::volume::Volume;
use std::path::Path;
use std::sync::Arc;

/// No path in an answer is longer.
const PATH_CHARS_MAX: usize = 200;

/// Why a disk is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskOrderError {
    #[error("{0} is the path of no [[disk]]; `oca show disks` lists them")]
    Unknown(String),
    #[error("disk {disk} is {state}: only one that is {needed} is {done}")]
    State {
        disk: String,
        state: &'static str,
        needed: &'static str,
        /// A participle.
        done: &'static str,
    },
    #[error("disk {disk} {problem}")]
    Refused { disk: String, problem: String },
    #[error("disk {disk}: {problem}; check the disk, its cable and controller")]
    NoAnswer { disk: String, problem: String },
}

/// The disk that is configured at `path`; `Err` has the path in printable form.
pub(super) fn disk_at<'a>(shared: &'a Shared, path: &Path) -> Result<&'a Arc<Volume>, String> {
    let mut volumes = shared.volumes.iter();
    let found = volumes.find(|volume| volume.config.path == path);
    found.ok_or_else(|| {
        crate::help::printable(path.display().to_string().as_bytes(), PATH_CHARS_MAX)
    })
}

/// Carries it out on the disk's own thread and waits for the outcome, within the disk's patience.
pub(super) async fn consult<E: std::fmt::Display + Send + 'static>(
    volume: &Arc<Volume>,
    work: impl FnOnce(&Volume, &Pulse) -> Result<(), E> + Send + 'static,
) -> Result<(), DiskOrderError> {
    let disk = volume.name();
    match volume.consult(work).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(problem)) => {
            let problem = problem.to_string();
            Err(DiskOrderError::Refused { disk, problem })
        }
        Err(problem) => {
            let problem = problem.to_string();
            Err(DiskOrderError::NoAnswer { disk, problem })
        }
    }
}
