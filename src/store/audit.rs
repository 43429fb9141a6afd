//! One object read whole from its disks and compared with its chunk tree, because somebody asks.
//!
//! The check of a certificate of content calls it for everything it lists. It reads past the page
//! cache, as the scrub does, and what it finds damaged has the same fate. It keeps no pace.
//!
//! I/O: reads one object, on the caller's thread.

use super::Handle;
use super::index::Places;
use super::opener::untried;
use super::root;
use super::scrub::AuditFault;
use super::scrub::Buffer;
use super::scrub::audit;
use crate::object::Digest;

/// Memory for one reader, made once.
#[derive(Debug)]
pub struct AuditBuffer(Buffer);

/// Why no whole copy was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    #[error("no disk holds it")]
    NotHeld,
    #[error("disk {disk}: {problem}")]
    Damaged { disk: String, problem: String },
    /// It may be whole: its disk is out of service, or cannot be read at this moment.
    #[error("disk {disk} cannot be read: {problem}")]
    Unread { disk: String, problem: String },
    #[error("stopped")]
    Stopped,
}

impl AuditBuffer {
    #[allow(clippy::new_without_default, reason = "a megabyte is not a default")]
    pub fn new() -> Self {
        Self(Buffer::new())
    }
}

impl Handle {
    /// `Ok`: a disk holds it whole. Damaged copies go to quarantine on the way. `go_on` is asked
    /// before each piece, with its bytes. Blocks: for threads outside runtimes.
    pub fn audit(
        &self,
        digest: Digest,
        buffer: &mut AuditBuffer,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), AuditError> {
        let shared = self.shared();
        let number = shared.index.find(digest).ok_or(AuditError::NotHeld)?;
        let (_, length) = shared.index.object(number).ok_or(AuditError::NotHeld)?;
        let mut error = AuditError::NotHeld;
        let mut tried = Places::default();
        // Asked anew after each: an object may be moved from one to another meanwhile.
        while let Some(volume) = untried(shared, number, tried) {
            tried.insert(volume.number);
            let disk = volume.name().to_string();
            if !volume.state().is_readable() {
                let problem = "it is out of service; `oca show disks` says why".to_owned();
                error = AuditError::Unread { disk, problem };
                continue;
            }
            // Before it is opened: a mount that changes in between is one too many.
            let home = volume.home();
            let outcome = match volume.root() {
                Ok(root) => audit(&root, digest, length, &mut buffer.0, go_on),
                Err(problem) => Err(AuditFault::Read(problem)),
            };
            if outcome.is_err() && !volume.is_at(home.as_ref()) {
                let problem = "it was mounted anew".to_owned();
                error = AuditError::Unread { disk, problem };
                continue;
            }
            error = match outcome {
                Ok(()) => return Ok(()),
                Err(AuditFault::Stopped) => return Err(AuditError::Stopped),
                Err(AuditFault::Gone) => {
                    shared.forget(digest, volume);
                    let problem = "it is gone".to_owned();
                    AuditError::Damaged { disk, problem }
                }
                Err(AuditFault::Damaged(problem)) => {
                    shared.quarantine(digest, volume, problem.clone());
                    AuditError::Damaged { disk, problem }
                }
                Err(AuditFault::Read(read)) => {
                    if root::is_medium_error(&read) {
                        shared.quarantine(digest, volume, format!("it cannot be read: {read}"));
                        shared.note_read_error(volume, digest, &read);
                    }
                    let problem = read.to_string();
                    AuditError::Unread { disk, problem }
                }
            };
        }
        Err(error)
    }
}
