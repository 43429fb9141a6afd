//! Rates in a few bytes: a histogram whose classes grow by half an octave.
//!
//! Sans-IO; `quality` keeps two a client network. A percentile read from it is right to a fifth.

/// Rates below are one class. kbit/s.
const FIRST_KBPS: u64 = 100;

/// Two an octave: from 100 kbit/s to 4.6 Gbit/s, and all that is above in the last.
const CLASSES: usize = 32;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Histogram {
    counts: [u16; CLASSES],
}

impl Histogram {
    pub(super) fn add(&mut self, kbps: u64) {
        let class = class(kbps);
        if self.counts[class] == u16::MAX {
            // The shape stays, and the young weigh more.
            for count in &mut self.counts {
                *count /= 2;
            }
        }
        self.counts[class] += 1;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        let sum = |ours: u16, theirs: u16| u32::from(ours) + u32::from(theirs);
        let pairs = || self.counts.iter().zip(&other.counts);
        let halve = pairs().any(|(ours, theirs)| sum(*ours, *theirs) > u32::from(u16::MAX));
        for (ours, theirs) in self.counts.iter_mut().zip(&other.counts) {
            let whole = sum(*ours, *theirs);
            let kept = if halve { whole.div_ceil(2) } else { whole };
            *ours = u16::try_from(kept).unwrap_or(u16::MAX);
        }
    }

    /// The rate that `percent` of the values do not exceed: the middle of its class. `None` when
    /// there are no values.
    pub(super) fn percentile(&self, percent: u64) -> Option<u64> {
        let all: u64 = self.counts.iter().copied().map(u64::from).sum();
        let rank = (all * percent).div_ceil(100).max(1);
        let mut seen = 0;
        for (class, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= rank {
                return Some(middle(class));
            }
        }
        None
    }
}

fn class(kbps: u64) -> usize {
    let kbps = kbps.min(u32::MAX.into());
    let steps = kbps / FIRST_KBPS;
    let Some(octave) = steps.checked_ilog2() else {
        return 0;
    };
    // Is it in the upper half of its octave, beyond the root of two?
    let base = FIRST_KBPS << octave;
    let is_upper = u128::from(kbps).pow(2) >= 2 * u128::from(base).pow(2);
    let class = 2 * usize::try_from(octave).unwrap_or(CLASSES) + usize::from(is_upper);
    class.min(CLASSES - 1)
}

/// The geometric middle: 2^(1/4) or 2^(3/4) above the octave's beginning.
fn middle(class: usize) -> u64 {
    let thousandths = if class.is_multiple_of(2) {
        1_189
    } else {
        1_682
    };
    (FIRST_KBPS << (class / 2)) * thousandths / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_histogram_has_no_percentile_and_one_value_is_all_of_them() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile(50), None);
        histogram.add(25_000);
        for percent in [1, 50, 100] {
            let found = histogram.percentile(percent).unwrap();
            assert!((20_000..=30_000).contains(&found), "{found}");
        }
    }

    #[test]
    fn a_class_that_is_full_halves_all_and_keeps_the_shape() {
        let mut histogram = Histogram::default();
        for _ in 0..50_000 {
            histogram.add(1_000);
            histogram.add(10_000);
        }
        let before = histogram.percentile(25);
        for _ in 0..50_000 {
            histogram.add(1_000);
            histogram.add(10_000);
        }
        assert_eq!(histogram.percentile(25), before);
        assert!(histogram.percentile(75) > before);
        let mut sum = histogram;
        sum.merge(&histogram);
        assert_eq!(sum.percentile(25), before);
        assert_eq!(sum.percentile(75), histogram.percentile(75));
    }

    proptest! {
        #[test]
        fn any_rate_has_a_class_and_the_middle_of_it_is_near(kbps in any::<u64>()) {
            let class = class(kbps);
            if (FIRST_KBPS..4_000_000).contains(&kbps) {
                let found = middle(class);
                prop_assert!(found * 100 >= kbps * 83 && found * 83 <= kbps * 100, "{kbps} {found}");
            }
        }

        #[test]
        fn percentiles_are_those_of_the_sorted_values_to_a_fifth(
            mut values in proptest::collection::vec(100_u64..4_000_000, 1..200),
            percent in 1_u64..=100,
        ) {
            let mut histogram = Histogram::default();
            values.iter().for_each(|value| histogram.add(*value));
            values.sort_unstable();
            let rank = (values.len() as u64 * percent).div_ceil(100).max(1);
            let exact = values[usize::try_from(rank).unwrap() - 1];
            let found = histogram.percentile(percent).unwrap();
            prop_assert!(found * 100 >= exact * 83 && found * 83 <= exact * 100);
        }
    }
}
