//! From counts of bytes to a rate that can be trusted, and from round trips to latency. Sans-IO.
//!
//! What comes first is left out: connections are still finding their pace. Then the rate of the
//! last two seconds is looked at five times a second, and once a second's worth of looks agree,
//! more time would not say more.

use crate::clock::Instant;
use std::collections::VecDeque;
use std::time::Duration;

/// Looks come this often.
pub(super) const STEP: Duration = Duration::from_millis(200);

/// What is left out at the beginning.
const RAMP: Duration = Duration::from_secs(1);

/// The time that one estimate looks back on.
const WINDOW: Duration = Duration::from_secs(2);

/// Estimates in a row that must agree, and how well: the highest and the lowest, of their mean.
const AGREEING: usize = 5;
const TOLERANCE: f64 = 0.05;

/// Round trips kept of one phase: more than its time has room for.
const ROUND_TRIPS_MAX: usize = 1_000;

/// One direction's measurement.
#[derive(Debug)]
pub(super) struct Estimate {
    begun: Instant,
    /// After the ramp, no older than what the last estimates looked back on.
    looks: VecDeque<(Instant, u64)>,
    rates: VecDeque<f64>,
}

/// What a look has found. Rates are bytes a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    Ramping,
    Measuring(f64),
    Agreed(f64),
}

/// Round trips of one phase.
#[derive(Clone, Debug, Default)]
pub(super) struct Latency(Vec<Duration>);

impl Estimate {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            begun: now,
            looks: VecDeque::new(),
            rates: VecDeque::new(),
        }
    }

    /// `bytes` have come in all.
    pub(super) fn step(&mut self, now: Instant, bytes: u64) -> Verdict {
        if now.saturating_duration_since(self.begun) < RAMP {
            return Verdict::Ramping;
        }
        self.looks.push_back((now, bytes));
        let kept = WINDOW + STEP * u32::try_from(AGREEING).unwrap_or(0);
        while self.looks.len() > 2 && now - self.looks[1].0 >= kept {
            self.looks.pop_front();
        }
        let since = self.looks.iter().rev().find(|look| now - look.0 >= WINDOW);
        let Some(since) = since else {
            let rate = self.looks.front().map(|first| rate(*first, (now, bytes)));
            return Verdict::Measuring(rate.unwrap_or(0.0));
        };
        self.rates.push_back(rate(*since, (now, bytes)));
        if self.rates.len() > AGREEING {
            self.rates.pop_front();
        }
        let found = self.found(now, bytes);
        if self.agrees() {
            Verdict::Agreed(found)
        } else {
            Verdict::Measuring(found)
        }
    }

    /// The rate over everything that the last estimates have seen.
    fn found(&self, now: Instant, bytes: u64) -> f64 {
        let first = self.looks.front();
        first.map_or(0.0, |first| rate(*first, (now, bytes)))
    }

    fn agrees(&self) -> bool {
        let (low, high) = self
            .rates
            .iter()
            .fold((f64::MAX, 0.0_f64), |(low, high), rate| {
                (low.min(*rate), high.max(*rate))
            });
        let mean = self.rates.iter().sum::<f64>() / AGREEING as f64;
        self.rates.len() == AGREEING && mean > 0.0 && high - low <= TOLERANCE * mean
    }
}

/// Bytes a second from one look to a later one.
fn rate(from: (Instant, u64), to: (Instant, u64)) -> f64 {
    let time = to.0.saturating_duration_since(from.0).as_secs_f64();
    if time > 0.0 {
        to.1.saturating_sub(from.1) as f64 / time
    } else {
        0.0
    }
}

impl Latency {
    pub(super) fn add(&mut self, time: Duration) {
        if self.0.len() < ROUND_TRIPS_MAX {
            self.0.push(time);
        }
    }

    /// Milliseconds; `None` without a round trip.
    pub(super) fn median_ms(&self) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let middle = sorted.len() / 2;
        let upper = milliseconds(*sorted.get(middle)?);
        let even = sorted.len().is_multiple_of(2);
        let lower = if even { middle - 1 } else { middle };
        Some(f64::midpoint(upper, milliseconds(sorted[lower])))
    }

    /// The mean difference between one round trip and the next, in milliseconds.
    pub(super) fn jitter_ms(&self) -> Option<f64> {
        let pairs = self.0.windows(2);
        let count = pairs.len();
        let sum: f64 = pairs
            .map(|pair| milliseconds(pair[0].abs_diff(pair[1])))
            .sum();
        (count > 0).then(|| sum / count as f64)
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    /// Looks at a line whose rate is a function of the time; tells when and with what it ended.
    fn ends(rate_at: impl Fn(f64) -> f64) -> Option<(f64, f64)> {
        let begun = clock::now();
        let (mut estimate, mut bytes) = (Estimate::new(begun), 0.0);
        for look in 1..150_u32 {
            let at = STEP * look;
            bytes += rate_at(at.as_secs_f64()) * STEP.as_secs_f64();
            // Counts are whole.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let verdict = estimate.step(begun + at, bytes as u64);
            if let Verdict::Agreed(rate) = verdict {
                return Some((at.as_secs_f64(), rate));
            }
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn a_steady_line_is_known_in_a_few_seconds_and_its_slow_start_does_not_count() {
        let (time, rate) = ends(|at| if at < 0.9 { 1e5 } else { 1e7 }).unwrap();
        assert!((3.0..5.0).contains(&time), "{time}");
        assert!((rate / 1e7 - 1.0).abs() < 0.01, "{rate}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_is_still_growing_is_measured_on_until_it_has_grown() {
        let (time, rate) = ends(|at| 1e7 * (at / 6.0).min(1.0)).unwrap();
        assert!(time > 6.5, "{time}");
        assert!((rate / 1e7 - 1.0).abs() < 0.1, "{rate}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_swings_or_stands_still_never_agrees() {
        let swings = |at: f64| if at % 6.0 < 3.0 { 1e7 } else { 1e6 };
        let found = ends(swings);
        assert!(found.is_none_or(|(_, rate)| rate > 5e5), "{found:?}");
        assert_eq!(ends(|_| 0.0), None);
    }

    #[test]
    fn latency_is_the_median_and_jitter_what_lies_between_neighbours() {
        let mut latency = Latency::default();
        assert_eq!((latency.median_ms(), latency.jitter_ms()), (None, None));
        for ms in [10, 12, 11, 500] {
            latency.add(Duration::from_millis(ms));
        }
        assert_eq!(latency.median_ms(), Some(11.5));
        assert_eq!(latency.jitter_ms(), Some((2.0 + 1.0 + 489.0) / 3.0));
    }
}
