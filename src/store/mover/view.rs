//! What moves between disks have done and still have to do, as `oca show disks` tells it.

use serde::Serialize;

/// A plan, what was done of it, and why it waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MovesView {
    /// Of the plan that is being carried out: objects to be moved or copied.
    pub objects_left: u64,
    pub bytes_left: u64,
    /// The night whose numbers follow, by the date on which it opened; `None` before the first.
    pub night: Option<String>,
    /// Since that night opened, or since the start of the process.
    pub tonight: MovedView,
    /// Since the start of the process.
    pub total: MovedView,
    /// What a night may write, and what this one has, restarts included.
    pub budget_bytes: u64,
    pub budget_used_bytes: u64,
    /// Why nothing is moved at this moment; `None` while something is, or nothing is to be.
    pub reason: Option<String>,
}

/// Objects and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MovedView {
    /// To the speed that their ranks deserve.
    pub moved_objects: u64,
    pub moved_bytes: u64,
    /// Second copies that were made.
    pub copied_objects: u64,
    pub copied_bytes: u64,
    /// Copies that went because another one stays.
    pub removed_objects: u64,
    pub removed_bytes: u64,
}
