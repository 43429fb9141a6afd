//! The keys of a box's own names, with which it checks viewers' tokens.

use crate::tls::token::HostKey;
use serde::Deserialize;
use serde::Serialize;

/// Keys in one delivery: three names, and some more ids than a rotation needs.
pub const VIEWER_KEYS_MAX: usize = 64;

/// All of the box's keys: whatever it was told before and is not here is good no longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewerKeys {
    /// How long the control plane's signed URLs are good.
    pub lifetime_s: u64,
    /// At most [`VIEWER_KEYS_MAX`].
    pub keys: Vec<HostKey>,
}
