//! What the tests of this room share.

use super::Limits;
use std::time::Duration;

/// The defaults of the configuration.
pub(super) fn limits() -> Limits {
    Limits {
        connections: 100_000,
        connections_per_address: 1000,
        head: 16 * 1024,
        headers: 64,
        handshake_time: Duration::from_secs(10),
        head_time: Duration::from_secs(10),
        idle_time: Duration::from_secs(60),
        progress_time: Duration::from_secs(20),
        progress: 16 * 1024,
        requests: 10_000,
        linger_time: Duration::from_secs(600),
        linger_limit: Duration::from_secs(7200),
    }
}
