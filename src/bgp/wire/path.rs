//! AS_PATH and AS4_PATH (RFC 4271 section 4.3, RFC 6793): the width of a number is an argument,
//! never a guess.

use super::open::AS_TRANS;
use super::reader::Reader;
use crate::route::AsPath;
use crate::route::Asn;
use crate::route::Segment;

const SET: u8 = 1;
const SEQUENCE: u8 = 2;
const CONFED_SEQUENCE: u8 = 3;
const CONFED_SET: u8 = 4;

/// Most AS numbers that one segment's length can say.
const SEGMENT_NUMBERS_MAX: usize = 255;

/// Why a path cannot be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathFault {
    /// A segment that is empty, cut off, of no known type, or of a confederation that we are not
    /// part of (RFC 7606 section 7.2, RFC 5065 section 5).
    Malformed,
    /// AS 0 (RFC 7607).
    Zero,
}

/// Width of the numbers on this session, and what confederation segments mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    TwoOctets,
    FourOctets,
    /// AS4_PATH: four octets; confederation segments are dropped (RFC 6793 section 6).
    As4Path,
}

pub(super) fn decode(mut value: Reader<'_>, form: Form) -> Result<AsPath, PathFault> {
    let mut segments: Vec<Segment> = Vec::new();
    while !value.is_empty() {
        let (kind, count) = (value.u8(), value.u8());
        let (Some(kind), Some(count @ 1..)) = (kind, count) else {
            return Err(PathFault::Malformed);
        };
        let width = match form {
            Form::TwoOctets => 2,
            Form::FourOctets | Form::As4Path => 4,
        };
        let octets = value.take(usize::from(count) * width);
        let octets = octets.ok_or(PathFault::Malformed)?;
        let numbers = octets.chunks_exact(width).map(|octets| {
            let number = octets.iter().fold(0, |n, octet| n << 8 | u32::from(*octet));
            Asn(number)
        });
        match (kind, form) {
            (SEQUENCE, _) => match segments.last_mut() {
                // One sequence in the text form: more than 255 numbers come in several.
                Some(Segment::Sequence(before)) => before.extend(numbers),
                Some(Segment::Set(_)) | None => {
                    segments.push(Segment::Sequence(numbers.collect()));
                }
            },
            (SET, _) => segments.push(Segment::Set(numbers.collect())),
            (CONFED_SEQUENCE | CONFED_SET, Form::As4Path) => {}
            (_, _) => return Err(PathFault::Malformed),
        }
    }
    let path = AsPath(segments);
    if path.contains(Asn(0)) {
        return Err(PathFault::Zero);
    }
    Ok(path)
}

/// The true path of a session with two-octet numbers (RFC 6793 section 4.2.3): the front of
/// AS_PATH, as far as it is longer, before AS4_PATH. A longer AS4_PATH is not believed.
pub(super) fn merge(path: AsPath, as4: AsPath) -> AsPath {
    let Some(mut front) = path.length().checked_sub(as4.length()) else {
        return path;
    };
    let mut merged: Vec<Segment> = Vec::new();
    for segment in path.0 {
        if front == 0 {
            break;
        }
        match segment {
            Segment::Sequence(mut numbers) => {
                numbers.truncate(front);
                front -= numbers.len();
                merged.push(Segment::Sequence(numbers));
            }
            Segment::Set(numbers) => {
                front -= 1;
                merged.push(Segment::Set(numbers));
            }
        }
    }
    for segment in as4.0 {
        match (merged.last_mut(), segment) {
            (Some(Segment::Sequence(before)), Segment::Sequence(numbers)) => {
                before.extend(numbers);
            }
            (_, segment) => merged.push(segment),
        }
    }
    AsPath(merged)
}

/// The attribute's value. With two octets, what does not fit is written as `AS_TRANS`.
pub(super) fn encode(path: &AsPath, four_octets: bool, out: &mut Vec<u8>) {
    for segment in &path.0 {
        let (kind, numbers) = match segment {
            Segment::Set(numbers) => (SET, numbers),
            Segment::Sequence(numbers) => (SEQUENCE, numbers),
        };
        for part in numbers.chunks(SEGMENT_NUMBERS_MAX) {
            out.extend_from_slice(&[kind, u8::try_from(part.len()).unwrap_or(u8::MAX)]);
            for number in part {
                if four_octets {
                    out.extend_from_slice(&number.0.to_be_bytes());
                } else {
                    let [high, low] = AS_TRANS.0.to_be_bytes().last_chunk().map_or([0; 2], |c| *c);
                    let short = u16::try_from(number.0).map_or([high, low], u16::to_be_bytes);
                    out.extend_from_slice(&short);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> AsPath {
        text.parse().unwrap()
    }

    #[test]
    fn the_width_is_what_was_negotiated_even_where_the_bytes_fit_the_other() {
        // Both readings of these bytes are well formed; only one is meant.
        let mut bytes = Vec::new();
        encode(&path("64500 258 3356"), true, &mut bytes);
        let four = decode(Reader::new(&bytes), Form::FourOctets);
        assert_eq!(four, Ok(path("64500 258 3356")));
        let two = decode(Reader::new(&bytes), Form::TwoOctets);
        assert_ne!(two, Ok(path("64500 258 3356")));
    }

    #[test]
    fn as4_path_is_merged_behind_the_front_that_only_as_path_has() {
        let merged = |long, four| merge(path(long), path(four)).to_string();
        assert_eq!(
            merged("64500 23456 23456", "65551 65550"),
            "64500 65551 65550"
        );
        assert_eq!(merged("64500 64501", "65551"), "64500 65551");
        assert_eq!(merged("23456", "65551"), "65551");
        assert_eq!(merged("64500 {1 2} 23456", "65551"), "64500 {1 2} 65551");
        // Longer than the path itself: somebody behind lied.
        assert_eq!(merged("64500", "65551 65550"), "64500");
        assert_eq!(merged("64500 64501", ""), "64500 64501");
    }

    #[test]
    fn broken_segments_are_refused() {
        let form = Form::FourOctets;
        for bytes in [
            &[2, 0][..],
            &[2],
            &[2, 1, 0, 0, 0],
            &[5, 1, 0, 0, 0, 1],
            &[3, 1, 0, 0, 0, 1],
            &[2, 1, 0, 0, 0, 1, 9],
        ] {
            let refused = decode(Reader::new(bytes), form);
            assert_eq!(refused, Err(PathFault::Malformed), "{bytes:?}");
        }
        let zero = decode(Reader::new(&[2, 1, 0, 0, 0, 0]), form);
        assert_eq!(zero, Err(PathFault::Zero));
        let confed = decode(Reader::new(&[3, 1, 0, 0, 0, 1]), Form::As4Path);
        assert_eq!(confed, Ok(AsPath::default()));
    }
}
