//! Byte ranges (RFC 9110 section 14), header form and path form.
//!
//! Sans-IO; called by `answer`. Several ranges in one header are answered with the whole object:
//! RFC 9110 section 14.2 lets a server ignore any `Range`, and no player asks for them.

/// The part of an object that a response carries. Never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub first: u64,
    /// Inclusive, below the object's length.
    pub last: u64,
}

/// What a range means for an object of a known length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selected {
    /// No range, or one to be ignored: 200.
    Whole,
    /// 206.
    Part(Part),
    /// 416.
    Unsatisfiable,
}

/// One syntactically valid range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spec {
    From(u64),
    Between(u64, u64),
    Suffix(u64),
}

impl Part {
    pub fn length(self) -> u64 {
        self.last - self.first + 1
    }
}

/// Resolves a `Range` field value. Other units, bad syntax and several ranges are ignored.
pub fn header(value: &[u8], length: u64) -> Selected {
    match parse(value) {
        Some(spec) => resolve(spec, length),
        None => Selected::Whole,
    }
}

/// Resolves the path form. `last` beyond the end is clamped.
pub(super) fn path(first: u64, last: u64, length: u64) -> Selected {
    resolve(Spec::Between(first, last), length)
}

/// Decimal digits; saturates, because no object is that long.
pub(super) fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = text.iter().fold(0u64, |value, digit| {
        let digit = u64::from(digit - b'0');
        value.saturating_mul(10).saturating_add(digit)
    });
    Some(value)
}

/// The only range of the value, if it is valid and there is just one.
fn parse(value: &[u8]) -> Option<Spec> {
    let (unit, set) = value.split_at_checked(6)?;
    // RFC 9110 section 14.1: range units are case-insensitive.
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    let mut only = None;
    // RFC 9110 section 5.6.1.2: empty list elements are to be parsed and ignored.
    for element in set.split(|byte| *byte == b',') {
        let element = element.trim_ascii();
        if element.is_empty() {
            continue;
        }
        let spec = spec(element)?;
        if only.replace(spec).is_some() {
            return None;
        }
    }
    only
}

fn spec(element: &[u8]) -> Option<Spec> {
    let dash = element.iter().position(|byte| *byte == b'-')?;
    let (first, last) = (&element[..dash], &element[dash + 1..]);
    match (first.is_empty(), last.is_empty()) {
        (true, true) => None,
        (true, false) => digits(last).map(Spec::Suffix),
        (false, true) => digits(first).map(Spec::From),
        (false, false) => {
            let (first, last) = (digits(first)?, digits(last)?);
            // RFC 9110 section 14.1.1: a last position below the first is invalid.
            (first <= last).then_some(Spec::Between(first, last))
        }
    }
}

fn resolve(spec: Spec, length: u64) -> Selected {
    let (first, last) = match spec {
        Spec::Suffix(0) => return Selected::Unsatisfiable,
        // Satisfiable (RFC 9110 section 14.1.2), yet no Content-Range can describe zero bytes.
        Spec::Suffix(_) if length == 0 => return Selected::Whole,
        Spec::Suffix(count) => (length.saturating_sub(count), u64::MAX),
        Spec::From(first) => (first, u64::MAX),
        Spec::Between(first, last) => (first, last),
    };
    if first >= length {
        return Selected::Unsatisfiable;
    }
    Selected::Part(Part {
        first,
        last: last.min(length - 1),
    })
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn part(first: u64, last: u64) -> Selected {
        Selected::Part(Part { first, last })
    }

    #[test]
    fn the_three_forms_select_what_the_rfc_says() {
        for (value, length, expected) in [
            ("bytes=0-0", 10, part(0, 0)),
            ("bytes=2-4", 10, part(2, 4)),
            ("bytes=2-", 10, part(2, 9)),
            ("bytes=-3", 10, part(7, 9)),
            ("bytes=-30", 10, part(0, 9)),
            ("bytes=5-500", 10, part(5, 9)),
            ("BYTES=5-500", 10, part(5, 9)),
            ("bytes=0-99999999999999999999999999", 10, part(0, 9)),
            ("bytes= , 1-2 ,", 10, part(1, 2)),
            ("bytes=10-", 10, Selected::Unsatisfiable),
            ("bytes=-0", 10, Selected::Unsatisfiable),
            ("bytes=0-", 0, Selected::Unsatisfiable),
            ("bytes=-5", 0, Selected::Whole),
        ] {
            assert_eq!(
                header(value.as_bytes(), length),
                expected,
                "{value} of {length}"
            );
        }
    }

    #[test]
    fn what_is_not_one_valid_byte_range_is_ignored() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=4-2",
            "bytes=a-b",
            "bytes=1-2,4-5",
            "bytes 1-2",
            "items=0-1",
            "bytes=1--2",
            "bytes=+1-2",
            "bytes=0x1-2",
            "bytes=1 -2",
            "bytes=1-2;q",
        ] {
            assert_eq!(header(value.as_bytes(), 10), Selected::Whole, "{value}");
        }
    }

    /// Which bytes RFC 9110 section 14.1.2 gives, one byte position at a time.
    fn naive(first: Option<u64>, last: Option<u64>, length: u64) -> Vec<u64> {
        let chosen = |at: &u64| match (first, last) {
            (Some(first), Some(last)) => (first..=last).contains(at),
            (Some(first), None) => *at >= first,
            (None, Some(count)) => *at + count >= length,
            (None, None) => false,
        };
        (0..length).filter(chosen).collect()
    }

    /// `a-b` with a <= b, `a-`, or `-n`.
    fn bounds() -> impl Strategy<Value = (Option<u64>, Option<u64>)> {
        prop_oneof![
            (0u64..40, 0u64..40).prop_map(|(first, more)| (Some(first), Some(first + more))),
            (0u64..40).prop_map(|first| (Some(first), None)),
            (0u64..40).prop_map(|count| (None, Some(count))),
        ]
    }

    proptest! {
        #[test]
        fn ranges_select_the_bytes_of_a_naive_reading(
            (first, last) in bounds(), length in 0u64..32) {
            let text = |n: Option<u64>| n.map(|n| n.to_string()).unwrap_or_default();
            let value = format!("bytes={}-{}", text(first), text(last));
            let expected = naive(first, last, length);
            match header(value.as_bytes(), length) {
                Selected::Part(part) => {
                    let got: Vec<u64> = (part.first..=part.last).collect();
                    prop_assert_eq!(part.length(), got.len() as u64);
                    prop_assert_eq!(got, expected);
                }
                Selected::Unsatisfiable => prop_assert!(expected.is_empty()),
                Selected::Whole => prop_assert!(length == 0 && first.is_none()),
            }
        }

        #[test]
        fn no_value_panics_and_no_part_leaves_the_object(
            value in proptest::collection::vec(any::<u8>(), 0..40), length in any::<u64>()) {
            let mut prefixed = b"bytes=".to_vec();
            prefixed.extend(&value);
            for value in [&value, &prefixed] {
                if let Selected::Part(part) = header(value, length) {
                    prop_assert!(part.first <= part.last && part.last < length);
                }
            }
        }
    }
}
