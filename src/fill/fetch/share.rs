//! How many streams there may be at a rate, and what each of them may hold.
//!
//! What a stream has paid for and not received may come late, and all at once. `machine` reckons
//! [`Share::of`] whenever the rate in effect is another, begins no more streams than it says and
//! gives each job its share; a transfer keeps to the share it began with. Pure.

use super::purse;
use crate::fill::bucket::DEPTH;
use crate::units::BytesPerSecond;

/// Of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// `SO_RCVBUF` of its connection, in bytes. The kernel doubles it for its own book-keeping and
    /// never holds more than that.
    pub receive_buffer: u32,
    /// Of the cap, when all streams have the same: a source may be slow by it, if others are not.
    pub part: BytesPerSecond,
}

/// Eight streams at 1.2 Gbit/s have this much.
const RECEIVE_BUFFER_MAX: u32 = 256 << 10;

/// Eleven segments of Ethernet in its window.
const RECEIVE_BUFFER_MIN: u32 = 16 << 10;

/// Frames are at most one byte in so many.
const FRAMES_SHARE: u64 = 16;

impl Share {
    /// SAFETY: cap. All streams together hold at most what the cap's bucket does, at every rate
    /// from 12.5 Mbit/s on: with that little each, there are fewer streams than `streams`. Below
    /// it the one stream that is left has the least buffer. Eight streams at 1.2 Gbit/s have
    /// windows that carry it over 14 ms.
    pub(in crate::fill) fn of(rate: BytesPerSecond, streams: usize) -> (usize, Self) {
        let room = u128::from(rate.0) * DEPTH.as_millis() / 1_000;
        let room = u64::try_from(room).unwrap_or(u64::MAX);
        let most = room / wire(purse::hold_of(RECEIVE_BUFFER_MIN));
        let streams = usize::try_from(most).unwrap_or(usize::MAX).min(streams);
        let streams = streams.max(1);
        let count = u64::try_from(streams).unwrap_or(u64::MAX);
        let of_stream = room / count;
        let buffer = purse::buffer_for(of_stream - of_stream.div_ceil(FRAMES_SHARE)) / 2;
        let buffer = u32::try_from(buffer).unwrap_or(u32::MAX);
        let share = Self {
            receive_buffer: buffer.clamp(RECEIVE_BUFFER_MIN, RECEIVE_BUFFER_MAX),
            part: BytesPerSecond(rate.0 / count),
        };
        (streams, share)
    }

    /// The most that it lets a stream hold, as the cap counts.
    #[cfg(test)]
    pub(in crate::fill) fn hold(&self) -> u64 {
        wire(purse::hold_of(self.receive_buffer))
    }
}

/// With its frames, from above.
fn wire(bytes: u64) -> u64 {
    (bytes * FRAMES_SHARE).div_ceil(FRAMES_SHARE - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A rate at which the least buffer is not too much.
    const LEAST_RATE: u64 = 12_500_000 / 8;

    fn of(rate: u64, streams: usize) -> (usize, u32) {
        let (streams, share) = Share::of(BytesPerSecond(rate), streams);
        (streams, share.receive_buffer)
    }

    #[test]
    fn a_lower_rate_has_smaller_buffers_and_then_fewer_streams() {
        assert_eq!(of(150_000_000, 8), (8, RECEIVE_BUFFER_MAX));
        assert_eq!(of(150_000_000, 16), (16, 131_835));
        assert_eq!(of(37_500_000, 8), (8, 65_917));
        assert_eq!(of(12_500_000, 8), (8, 16_536));
        assert_eq!(of(12_500_000, 64), (8, 16_536));
        assert_eq!(of(37_500_000, 64).0, 24);
        assert_eq!(of(6_250_000, 8).0, 4);
        assert_eq!(of(125_000, 8), (1, RECEIVE_BUFFER_MIN));
        assert_eq!(of(0, 0), (1, RECEIVE_BUFFER_MIN));
    }

    proptest! {
        #[test]
        fn all_streams_together_hold_no_more_than_the_bucket_at_any_rate(
            rate in LEAST_RATE..1_250_000_000,
            wanted in 0_usize..=64,
        ) {
            let (streams, buffer) = of(rate, wanted);
            prop_assert!((1..=wanted.max(1)).contains(&streams));
            let held = streams as u64 * wire(purse::hold_of(buffer));
            let room = rate * 45 / 1_000;
            prop_assert!(held <= room, "{streams} streams hold {held} of {room}");
        }
    }
}
