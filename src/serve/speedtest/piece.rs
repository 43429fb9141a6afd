//! How much of a transfer goes in one turn of the direction's pacer. Sans-IO; `transfer` asks.

use crate::units::BytesPerSecond;
use std::time::Duration;

/// What a piece takes of the line's time: short, so that many transfers take turns smoothly.
const PIECE_TIME: Duration = Duration::from_millis(10);

/// A piece is at least this, or heads and wake-ups would outweigh it, and at most that: what one
/// viewer may move before others have a turn (`send`).
const PIECE_BYTES_MIN: u64 = 16 * 1024;
const PIECE_BYTES_MAX: u64 = 512 * 1024;

/// Bytes that one turn is for.
pub(super) fn bytes(rate: BytesPerSecond) -> u64 {
    let earned = u128::from(rate.0) * PIECE_TIME.as_nanos() / 1_000_000_000;
    u64::try_from(earned)
        .unwrap_or(PIECE_BYTES_MAX)
        .clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_neither_a_crumb_nor_a_loaf() {
        assert_eq!(bytes(BytesPerSecond(1)), PIECE_BYTES_MIN);
        assert_eq!(bytes(BytesPerSecond(10_000_000)), 100_000);
        assert_eq!(bytes(BytesPerSecond(u64::MAX)), PIECE_BYTES_MAX);
    }
}
