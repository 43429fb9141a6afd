//! How long responses took: a histogram of fixed size, exact to about three per cent.
//!
//! A client records; `measure` asks for the median and the 99th percentile of a round.

use std::time::Duration;

/// Slots a power of two.
const STEPS: u64 = 32;

/// Enough for the whole range of a `u64` of nanoseconds.
const SLOTS: usize = 64 * 32;

#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            counts: vec![0; SLOTS],
            total: 0,
        }
    }
}

impl Latencies {
    pub(crate) fn record(&mut self, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.counts[slot(nanoseconds)] += 1;
        self.total += 1;
    }

    /// The time within which this share of the responses was complete; `None` without responses.
    pub(crate) fn quantile_us(&self, share: f64) -> Option<f64> {
        #[allow(clippy::cast_precision_loss)]
        let wanted = self.total as f64 * share;
        let mut seen = 0;
        for (slot, count) in self.counts.iter().enumerate() {
            seen += count;
            #[allow(clippy::cast_precision_loss)]
            if seen > 0 && seen as f64 >= wanted {
                return Some(start(slot as u64) as f64 / 1e3);
            }
        }
        None
    }
}

fn slot(value: u64) -> usize {
    let shift = value.max(1).ilog2().saturating_sub(STEPS.ilog2());
    let place = u64::from(shift) * STEPS + (value >> shift);
    usize::try_from(place).unwrap_or(SLOTS - 1)
}

/// The least value of a slot.
fn start(slot: u64) -> u64 {
    match (slot / STEPS).checked_sub(1) {
        None | Some(0) => slot,
        Some(shift) => (slot % STEPS + STEPS) << shift,
    }
}
