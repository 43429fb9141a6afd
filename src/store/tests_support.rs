//! What tests of this room share.

use crate::clock;
use std::time::Duration;

/// Blocks until it holds; a test that waits in vain fails.
pub(super) fn until(mut holds: impl FnMut() -> bool) {
    let end = clock::now() + Duration::from_secs(30);
    while !holds() {
        assert!(clock::now() < end, "waited in vain");
        clock::block_for(Duration::from_millis(5));
    }
}
