//! What a box has of an object that it is itself receiving: the field `OCA-Held` of its answer.
//!
//! `peer` writes it, `fill` reads it. Byte ranges in order, both ends inclusive, with commas
//! between them; a part that is left out is there later. Sans-IO.

use std::ops::Range;

/// The field's name.
pub const FIELD: &str = "OCA-Held";

/// Ranges of one answer: streams of one object and holes of an earlier transfer are some ten.
pub const RANGES_MAX: usize = 64;

/// The field's value: the first ranges, as many as it may have.
pub fn text(held: &[Range<u64>]) -> String {
    let ranges = held.iter().filter(|range| !range.is_empty());
    let texts = ranges.map(|range| format!("{}-{}", range.start, range.end - 1));
    texts.take(RANGES_MAX).collect::<Vec<_>>().join(", ")
}

/// None: not such a value.
pub fn parse(text: &str) -> Option<Vec<Range<u64>>> {
    let mut held: Vec<Range<u64>> = Vec::new();
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (first, last) = part.split_once('-')?;
        let (first, end) = (number(first)?, number(last)?.checked_add(1)?);
        let is_in_order = held.last().is_none_or(|before| before.end <= first);
        if !is_in_order || first >= end || held.len() >= RANGES_MAX {
            return None;
        }
        held.push(first..end);
    }
    Some(held)
}

/// Digits alone; `parse` would take a sign.
fn number(text: &str) -> Option<u64> {
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    is_digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_are_inclusive_in_order_and_few() {
        let held = [0..262_144, 1_048_576..1_048_581];
        assert_eq!(text(&held), "0-262143, 1048576-1048580");
        assert_eq!(parse("0-262143, 1048576-1048580").unwrap(), held);
        assert_eq!(parse("").unwrap(), []);
        for wrong in [
            "1",
            "2-1",
            "5-9, 0-4",
            "0-4, 4-9",
            "+1-2",
            "a-b",
            "0-18446744073709551615",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        let many: Vec<_> = (0..100).map(|at| 2 * at..2 * at + 1).collect();
        assert_eq!(parse(&text(&many)).unwrap(), many[..RANGES_MAX]);
        assert_eq!(parse(&"0-0,".repeat(2)), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,80}") {
            let _ = parse(&text);
        }
    }
}
