//! Scrub: bytes that rot on a disk are found by the box, before a viewer meets them.
//!
//! `schedule` says which part of a disk was verified longest ago and when it is due → `round`, a
//! thread of the disk, takes the part's objects from the index, and asks `manners` before each
//! piece → `verify` reads one object past the page cache and compares it with its chunk tree →
//! one that is damaged leaves the catalogue at once and goes to `quarantine`; the plan of the fill
//! wants it again. When each part was verified is kept on the disk.

mod manners;
mod round;
mod schedule;
mod verify;

pub(super) use round::KEPT;
pub(super) use round::Scrub;
pub(super) use round::start;
pub(super) use verify::Buffer;
pub(super) use verify::Fault as AuditFault;
pub(super) use verify::PIECE_BYTES;
pub(super) use verify::Reading;
pub(super) use verify::verify as audit;

use crate::clock;
use schedule::Schedule;
use serde::Serialize;
use std::time::Duration;

/// One disk's scrub, as `oca show disks` and the metrics tell it. Counts are since the start of
/// the process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ScrubView {
    /// `waiting` for its disk, `resting`, `reading`, `yielding` to viewers and fills.
    pub state: &'static str,
    /// Every object of the disk was verified since (RFC 3339); what is younger, when it was
    /// written.
    pub verified_since: Option<String>,
    /// The promised time is running out, so viewers are not yielded to.
    pub pressing: bool,
    pub objects: u64,
    pub bytes: u64,
    /// Objects that were damaged, lost or could not be read.
    pub found: u64,
    /// What was found last.
    pub last_found: Option<String>,
}

/// The schedule of a disk that was doubted, as it is kept on it.
pub(super) fn all_due(every: Duration) -> Vec<u8> {
    Schedule::due(every, now_ms()).encode()
}

/// Milliseconds since the Unix epoch, none before it.
fn now_ms() -> u64 {
    u64::try_from(clock::wall().as_millisecond()).unwrap_or(0)
}
