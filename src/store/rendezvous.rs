//! Weighted rendezvous hashing: who of several draws the best lot for a name.
//!
//! `place` asks. Each volume draws a number u in (0, 1) from its uuid and the name; the greatest
//! weight / −log(u) wins. So each wins by its weight, and one that is added takes its share from
//! all others alike and moves nothing between them. In integers alone: logarithms of floating point
//! differ between processors and libraries in their last digits, and an answer that is made again
//! elsewhere or by a later release must be this one. Pure.

use crate::object::Digest;
use std::cmp::Ordering;

/// Binary digits of the logarithm behind the point: 64, the largest there is, still fits.
const FRACTION_BITS: u32 = 57;

/// What one volume drew for one name. Greater is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lot {
    weight: u64,
    /// −log₂(u), at least one unit of the last digit.
    depth: u64,
}

impl Lot {
    /// Of a volume of this weight.
    pub(super) fn draw(name: &[u8], uuid: &str, weight: u64) -> Self {
        let mut text = uuid.as_bytes().to_vec();
        text.push(0);
        text.extend_from_slice(name);
        let [a, b, c, d, e, f, g, h, ..] = Digest::of(&text).0;
        let drawn = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        Self {
            weight,
            depth: depth(drawn),
        }
    }
}

impl Ord for Lot {
    /// Compares weight / depth, without the division: 64 bits by 63 fit in 128.
    fn cmp(&self, other: &Self) -> Ordering {
        let own = u128::from(self.weight) * u128::from(other.depth);
        own.cmp(&(u128::from(other.weight) * u128::from(self.depth)))
    }
}

impl PartialOrd for Lot {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// −log₂(`drawn` / 2⁶⁴) with [`FRACTION_BITS`] digits behind the point, never 0. Squaring a number
/// doubles its logarithm: each time one more digit comes before the point.
fn depth(drawn: u64) -> u64 {
    // Odd, so never 0; one in 2⁶⁴ is nobody's share.
    let drawn = drawn | 1;
    let shift = drawn.leading_zeros();
    // In [1, 2), with 63 digits behind the point.
    let mut rest = drawn << shift;
    let mut log = u64::from(63 - shift);
    for _ in 0..FRACTION_BITS {
        let square = u128::from(rest) * u128::from(rest);
        let is_two = square >> 127 == 1;
        // Below 2⁶⁴ either way.
        rest = u64::try_from(square >> if is_two { 64 } else { 63 }).unwrap_or(u64::MAX);
        log = log << 1 | u64::from(is_two);
    }
    ((64 << FRACTION_BITS) - log).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ONE: u64 = 1 << FRACTION_BITS;

    #[test]
    fn logarithms_are_those_of_the_books() {
        // The last digit of each: `depth` makes what it is given odd.
        let near = |drawn: u64, expected: u64| {
            let found = depth(drawn);
            assert!(found.abs_diff(expected) <= 4, "{found} for {expected}");
        };
        near(1 << 63, ONE);
        near(1 << 62, 2 * ONE);
        // log₂(4/3) and log₂(8/7), whose first digits are 0.41503749927884381 and
        // 0.19264507794239589.
        near(3 << 62, 59_813_207_267_103_472);
        near(7 << 61, 27_763_081_639_556_297);
        assert_eq!(depth(0), depth(1));
        assert_eq!(depth(1), 64 * ONE);
        assert_eq!(depth(u64::MAX), 1);
    }

    /// These do not change: what is placed by them is on the disks.
    #[test]
    fn the_same_lots_are_drawn_on_every_machine_and_by_every_release() {
        let lots = ["a", "b", "c"].map(|name| {
            let lot = Lot::draw(name.as_bytes(), "5c1d7a52-0c7f-4d0c-9d3f-a83c1d8d34c1", 7);
            lot.depth
        });
        assert_eq!(
            lots,
            [
                441_369_907_299_248_171,
                39_201_924_569_072_866,
                166_208_509_640_320_228,
            ]
        );
    }

    proptest! {
        /// Floating point is good enough to tell whether the integers are right.
        #[test]
        #[allow(clippy::cast_precision_loss)]
        fn logarithms_agree_with_floating_point(drawn in any::<u64>()) {
            let expected = -((drawn | 1) as f64 / 2_f64.powi(64)).log2();
            let found = depth(drawn) as f64 / ONE as f64;
            prop_assert!((found - expected).abs() < 1e-13 * expected.max(1.0), "{found} {expected}");
        }

        #[test]
        fn lots_are_ordered_whatever_they_weigh(
            weights in prop::array::uniform3(any::<u64>()),
            depths in prop::array::uniform3(1..=64 * ONE),
        ) {
            let [a, b, c] = [0, 1, 2].map(|n| Lot { weight: weights[n], depth: depths[n] });
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            if a >= b && b >= c {
                prop_assert!(a >= c);
            }
        }
    }
}
