//! The one byte range that a request may have (RFC 9110 section 14). Sans-IO.
//!
//! Stricter than what viewers are given: both ends are ours, and a range that cannot be read is a
//! fault that is told, not an invitation to send everything.

/// The part of the object to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) first: u64,
    pub(super) length: u64,
    /// 206 and not 200.
    pub(super) is_range: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RangeError {
    /// 400.
    Syntax,
    /// 416.
    Unsatisfiable,
}

/// What `value` means for an object of `length` bytes.
pub(super) fn select(value: Option<&[u8]>, length: u64) -> Result<Part, RangeError> {
    let Some(value) = value else {
        return Ok(Part {
            first: 0,
            length,
            is_range: false,
        });
    };
    let text = std::str::from_utf8(value).map_err(|_| RangeError::Syntax)?;
    let (unit, spec) = text.split_once('=').ok_or(RangeError::Syntax)?;
    let (first, last) = spec.split_once('-').ok_or(RangeError::Syntax)?;
    // RFC 9110 section 14.1: range units are case-insensitive.
    if !unit.eq_ignore_ascii_case("bytes") {
        return Err(RangeError::Syntax);
    }
    let (first, last) = match (first, last) {
        ("", count) => {
            let count = digits(count)?;
            if count == 0 {
                return Err(RangeError::Unsatisfiable);
            }
            (length.saturating_sub(count), u64::MAX)
        }
        (first, "") => (digits(first)?, u64::MAX),
        (first, last) => (digits(first)?, digits(last)?),
    };
    if first > last {
        return Err(RangeError::Syntax);
    }
    if first >= length {
        return Err(RangeError::Unsatisfiable);
    }
    let last = last.min(length - 1);
    Ok(Part {
        first,
        length: last - first + 1,
        is_range: true,
    })
}

/// Only digits (no sign, which `parse` would take), and no more than an object can have.
fn digits(text: &str) -> Result<u64, RangeError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(RangeError::Syntax);
    }
    text.parse().map_err(|_| RangeError::Syntax)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_three_forms_select_what_the_rfc_says_and_everything_else_is_told() {
        let part = |first, length| {
            Ok(Part {
                first,
                length,
                is_range: true,
            })
        };
        for (value, expected) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=2-4", part(2, 3)),
            ("Bytes=2-", part(2, 8)),
            ("bytes=-3", part(7, 3)),
            ("bytes=-30", part(0, 10)),
            ("bytes=5-500", part(5, 5)),
            ("bytes=10-", Err(RangeError::Unsatisfiable)),
            ("bytes=-0", Err(RangeError::Unsatisfiable)),
            ("bytes=4-2", Err(RangeError::Syntax)),
            ("bytes=0-1,3-4", Err(RangeError::Syntax)),
            ("bytes=+1-2", Err(RangeError::Syntax)),
            ("bytes=-", Err(RangeError::Syntax)),
            ("bytes=99999999999999999999-", Err(RangeError::Syntax)),
            ("lines=1-2", Err(RangeError::Syntax)),
            ("", Err(RangeError::Syntax)),
        ] {
            assert_eq!(select(Some(value.as_bytes()), 10), expected, "{value}");
        }
        let whole = select(None, 0).unwrap();
        assert_eq!((whole.first, whole.length, whole.is_range), (0, 0, false));
        let empty = select(Some(b"bytes=0-0"), 0);
        assert_eq!(empty, Err(RangeError::Unsatisfiable));
    }

    proptest! {
        #[test]
        fn no_text_selects_bytes_outside_the_object(text in "(bytes=)?[0-9,=-]{0,24}", length: u64) {
            if let Ok(part) = select(Some(text.as_bytes()), length) {
                let end = part.first.checked_add(part.length);
                prop_assert!(part.length > 0 && end.is_some_and(|end| end <= length));
            }
        }
    }
}
