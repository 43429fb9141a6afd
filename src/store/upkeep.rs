//! `[store]`: how the disks are kept in good order. Plain values; `config` makes them.

use crate::units::Bytes;
use crate::units::BytesPerSecond;
use serde::Serialize;
use std::time::Duration;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Upkeep {
    /// Each object is read and verified at least this often.
    pub scrub_every: Duration,
    /// The rate of that, a disk.
    pub scrub_rate: BytesPerSecond,
    /// What was found damaged is kept for this long …
    pub quarantine_time: Duration,
    /// … and up to this much of it, a disk.
    pub quarantine_bytes: Bytes,
    /// Objects of a disk that went out of service are fetched again after this time: it may come
    /// back.
    pub refill_after: Duration,
    /// The most popular of them are missed sooner.
    pub refill_hot_after: Duration,
    /// What a night's moves between disks may write. 0: there are none.
    pub moves_per_night: Bytes,
    /// Of all that the disks can hold, the part that second copies of the most popular may take.
    pub replicas_percent: u32,
}

impl Default for Upkeep {
    /// As `config/oca.toml` says and gives reasons for.
    fn default() -> Self {
        Self {
            scrub_every: Duration::from_secs(30 * DAY),
            scrub_rate: BytesPerSecond(32_000_000),
            quarantine_time: Duration::from_secs(7 * DAY),
            quarantine_bytes: Bytes(10_000_000_000),
            refill_after: Duration::from_secs(DAY),
            refill_hot_after: Duration::from_secs(HOUR),
            moves_per_night: Bytes(200_000_000_000),
            replicas_percent: 2,
        }
    }
}
