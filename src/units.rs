//! Units as people write them, and as types.
//!
//! `1.2 Gbit/s`, `500 MB`, `64 MiB`, `30m`: decimal prefixes are powers of ten, binary ones powers
//! of two, a rate is given in bits and kept in bytes. Parsing names what is wrong and what to
//! write instead; nothing here rounds silently to zero.

use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// A count of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// A rate in bytes a second. Written and shown in bits a second, the field's habit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct BytesPerSecond(pub u64);

/// Why a quantity was refused; the message names the form to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    #[error("`{0}` has no number in front; write for example `{1}`")]
    NoNumber(String, &'static str),
    #[error("`{0}` has no unit; write for example `{1}`")]
    NoUnit(String, &'static str),
    #[error("`{unit}` is not a unit known here; use one of {known}")]
    UnknownUnit { unit: String, known: &'static str },
    #[error("`{0}` is too large to be kept")]
    TooLarge(String),
    #[error("`{0}` is not a whole number of {1}; write it in a smaller unit")]
    Fraction(String, &'static str),
}

const BYTE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Bits a second.
const RATE_UNITS: &[(&str, u64)] = &[
    ("bit/s", 1),
    ("kbit/s", 1_000),
    ("Mbit/s", 1_000_000),
    ("Gbit/s", 1_000_000_000),
    ("Tbit/s", 1_000_000_000_000),
];

/// Nanoseconds.
const TIME_UNITS: &[(&str, u64)] = &[
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

impl Bytes {
    /// Parses `500 MB`, `64 MiB`, `0 B`; a space before the unit is optional.
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        let known = "B, kB, MB, GB, TB, KiB, MiB, GiB, TiB";
        quantity(text, BYTE_UNITS, known, "64 MiB", "bytes").map(Self)
    }
}

impl BytesPerSecond {
    /// Parses `1.2 Gbit/s`; the value must be a whole number of bytes a second.
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        let known = "bit/s, kbit/s, Mbit/s, Gbit/s, Tbit/s";
        let bits = quantity(text, RATE_UNITS, known, "1.2 Gbit/s", "bits a second")?;
        if bits.is_multiple_of(8) {
            Ok(Self(bits / 8))
        } else {
            Err(UnitError::Fraction(text.to_owned(), "bytes a second"))
        }
    }
}

/// Parses `500ms`, `30m`, `3h`, `1.5h`; a space before the unit is optional.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    quantity(text, TIME_UNITS, "ms, s, m, h, d", "30m", "nanoseconds").map(Duration::from_nanos)
}

/// The shortest exact form that [`parse_duration`] reads back; milliseconds are the smallest unit.
pub fn show_duration(time: Duration) -> String {
    let ms = time.as_millis();
    for (unit, size_ms) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
    ] {
        if ms > 0 && ms.is_multiple_of(size_ms) {
            return format!("{}{unit}", ms / size_ms);
        }
    }
    format!("{ms}ms")
}

impl fmt::Display for Bytes {
    /// Three significant digits with a decimal unit: for people, not for parsing back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&scaled(self.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB"]))
    }
}

impl fmt::Display for BytesPerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [
            "bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s", "Pbit/s", "Ebit/s",
        ];
        f.write_str(&scaled(self.0.saturating_mul(8), &units))
    }
}

fn scaled(value: u64, units: &[&str; 7]) -> String {
    let (mut whole, mut step) = (value, 0);
    let mut rest = 0;
    while whole >= 1_000 && step < units.len() - 1 {
        rest = whole % 1_000;
        whole /= 1_000;
        step += 1;
    }
    let unit = units[step];
    match (step, whole) {
        (0, _) | (_, 100..) => format!("{whole} {unit}"),
        (_, 10..) => format!("{whole}.{} {unit}", rest / 100),
        _ => format!("{whole}.{:02} {unit}", rest / 10),
    }
}

/// `number unit` to a count of the smallest unit, exactly.
fn quantity(
    text: &str,
    units: &[(&str, u64)],
    known: &'static str,
    example: &'static str,
    smallest: &'static str,
) -> Result<u64, UnitError> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = (&text[..end], text[end..].trim_start());
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || number.ends_with('.') {
        return Err(UnitError::NoNumber(text.to_owned(), example));
    }
    if unit.is_empty() {
        return Err(UnitError::NoUnit(text.to_owned(), example));
    }
    let Some((_, size)) = units.iter().find(|(name, _)| *name == unit) else {
        let unit = unit.to_owned();
        return Err(UnitError::UnknownUnit { unit, known });
    };
    exact(whole, fraction, *size)
        .ok_or_else(|| UnitError::TooLarge(text.to_owned()))?
        .ok_or_else(|| UnitError::Fraction(text.to_owned(), smallest))
}

/// `whole.fraction × size`: `None` when too large, `Some(None)` when not a whole number.
fn exact(whole: &str, fraction: &str, size: u64) -> Option<Option<u64>> {
    let whole: u64 = whole.parse().ok()?;
    let mut total = u128::from(whole) * u128::from(size);
    let fraction = fraction.trim_end_matches('0');
    if !fraction.is_empty() {
        let digits: u128 = fraction.parse().ok()?;
        let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let part = digits.checked_mul(u128::from(size))?;
        if part % scale != 0 {
            return Some(None);
        }
        total += part / scale;
    }
    Some(Some(u64::try_from(total).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_people_write_is_read_exactly() {
        assert_eq!(Bytes::parse("500 MB"), Ok(Bytes(500_000_000)));
        assert_eq!(Bytes::parse("64MiB"), Ok(Bytes(67_108_864)));
        assert_eq!(Bytes::parse("1.5 KiB"), Ok(Bytes(1_536)));
        assert_eq!(
            BytesPerSecond::parse("1.2 Gbit/s"),
            Ok(BytesPerSecond(150_000_000))
        );
        assert_eq!(parse_duration("30m"), Ok(Duration::from_secs(1_800)));
        assert_eq!(parse_duration("1.5h"), Ok(Duration::from_secs(5_400)));
    }

    #[test]
    fn what_is_wrong_is_named_with_the_form_to_write() {
        let message = |text| Bytes::parse(text).unwrap_err().to_string();
        assert!(message("500").contains("no unit"));
        assert!(message("MB").contains("no number"));
        assert!(message("5 mb").contains("`mb` is not a unit"));
        assert!(message("1.5 B").contains("whole number"));
        assert!(message("99999999999 TB").contains("too large"));
        assert!(BytesPerSecond::parse("1 bit/s").is_err());
    }

    proptest! {
        #[test]
        fn durations_survive_showing_and_reading(ms in 0_u64..10_000_000_000) {
            let time = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&show_duration(time)), Ok(time));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = (Bytes::parse(&text), BytesPerSecond::parse(&text), parse_duration(&text));
        }

        #[test]
        fn every_byte_count_is_read_back(n in any::<u64>()) {
            prop_assert_eq!(Bytes::parse(&format!("{n} B")), Ok(Bytes(n)));
        }
    }
}
