//! AS_PATH and AS4_PATH (RFC 4271 section 4.3, RFC 6793) as they lie in the message: the width of
//! a number is an argument, never a guess, and both are read as one path without copying.

use super::open::AS_TRANS;
use super::reader::Reader;
use crate::route;
use crate::route::AsPath;
use crate::route::Asn;

const SET: u8 = 1;
const SEQUENCE: u8 = 2;
const CONFED_SEQUENCE: u8 = 3;
const CONFED_SET: u8 = 4;

/// Most AS numbers that one segment's length can say.
const SEGMENT_NUMBERS_MAX: usize = 255;

/// Numbers of a path that are kept in a copy: as many as a message of ordinary size has room for.
/// An extended message can bring sixteen times as many; no such route steers, and remembering or
/// reporting it whole would only cost memory.
pub const PATH_NUMBERS_KEPT: usize = 1024;

/// Why a path cannot be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathFault {
    /// A segment that is empty, cut off or of no known type (RFC 7606 section 7.2).
    Malformed,
    /// Segments of a confederation that we are not part of (RFC 5065 section 5).
    Confederation,
    /// AS 0 (RFC 7607).
    Zero,
}

/// A checked path: the front of AS_PATH, then AS4_PATH where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path<'a> {
    own: Reader<'a>,
    width: usize,
    /// Numbers of `own` that come before `as4`, as [`Path::length`] counts.
    front: usize,
    as4: Reader<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    Set,
    Sequence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    pub kind: SegmentKind,
    pub numbers: Numbers<'a>,
}

/// AS numbers of one segment, as they lie in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers<'a> {
    octets: Reader<'a>,
    width: usize,
}

#[derive(Clone, Copy, Debug)]
struct Segments<'a>(Path<'a>);

impl Default for Path<'_> {
    fn default() -> Self {
        Self {
            own: Reader::NONE,
            width: 4,
            front: usize::MAX,
            as4: Reader::NONE,
        }
    }
}

impl<'a> Path<'a> {
    /// Confederation segments of a neighbour inside are of our own confederation: they are read
    /// over, as they count nothing (RFC 5065 section 5.3). AS4_PATH never has them (RFC 6793
    /// section 6: what is there is left out).
    pub(super) fn decode(
        value: Reader<'a>,
        four_octets: bool,
        allows_confederation: bool,
    ) -> Result<Self, PathFault> {
        let width = if four_octets { 4 } else { 2 };
        let (mut rest, mut fault) = (value, None);
        while !rest.is_empty() {
            let (kind, mut numbers) = segment(&mut rest, width).ok_or(PathFault::Malformed)?;
            match kind {
                SET | SEQUENCE => {}
                CONFED_SEQUENCE | CONFED_SET if allows_confederation => {}
                CONFED_SEQUENCE | CONFED_SET => fault = Some(PathFault::Confederation),
                _ => return Err(PathFault::Malformed),
            }
            if fault.is_none() && numbers.any(|asn| asn.0 == 0) {
                fault = Some(PathFault::Zero);
            }
        }
        let path = Self {
            own: value,
            width,
            ..Self::default()
        };
        fault.map_or(Ok(path), Err)
    }

    /// The true path of a session with two-octet numbers (RFC 6793 section 4.2.3): the front of
    /// AS_PATH, as far as it is longer, before AS4_PATH. A longer AS4_PATH is not believed.
    pub(super) fn with_as4(self, as4: Self) -> Self {
        match self.length().checked_sub(as4.length()) {
            Some(front) => Self {
                front,
                as4: as4.own,
                ..self
            },
            None => self,
        }
    }

    pub fn segments(self) -> impl Iterator<Item = Segment<'a>> {
        Segments(self)
    }

    /// Every number in order, those of sets too.
    pub fn numbers(self) -> impl Iterator<Item = Asn> {
        self.segments().flat_map(|segment| segment.numbers)
    }

    /// AS numbers as the decision counts them: a set counts as one (RFC 4271 section 9.1.2.2).
    pub fn length(self) -> usize {
        let count = |segment: Segment<'_>| match segment.kind {
            SegmentKind::Sequence => segment.numbers.len(),
            SegmentKind::Set => 1,
        };
        self.segments().map(count).sum()
    }

    pub fn contains(self, asn: Asn) -> bool {
        self.numbers().any(|number| number == asn)
    }

    /// A copy of the first [`PATH_NUMBERS_KEPT`] numbers.
    pub fn into_owned(self) -> AsPath {
        let mut segments: Vec<route::Segment> = Vec::new();
        let mut left = PATH_NUMBERS_KEPT;
        for Segment { kind, numbers } in self.segments() {
            let kept = numbers.take(left);
            left -= kept.len();
            match (kind, segments.last_mut()) {
                // One sequence in the text form: more than 255 numbers come in several.
                (SegmentKind::Sequence, Some(route::Segment::Sequence(before))) => {
                    before.extend(kept);
                }
                (SegmentKind::Sequence, _) => {
                    segments.push(route::Segment::Sequence(kept.collect()));
                }
                (SegmentKind::Set, _) => segments.push(route::Segment::Set(kept.collect())),
            }
            if left == 0 {
                break;
            }
        }
        AsPath(segments)
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    fn next(&mut self) -> Option<Segment<'a>> {
        let path = &mut self.0;
        loop {
            let is_front = path.front > 0 && !path.own.is_empty();
            let (kind, numbers) = if is_front {
                segment(&mut path.own, path.width)?
            } else {
                segment(&mut path.as4, 4)?
            };
            let mut unlimited = usize::MAX;
            let left = if is_front {
                &mut path.front
            } else {
                &mut unlimited
            };
            let (kind, numbers) = match kind {
                SEQUENCE => {
                    let numbers = numbers.first(*left);
                    *left -= numbers.len();
                    (SegmentKind::Sequence, numbers)
                }
                SET => {
                    *left -= 1;
                    (SegmentKind::Set, numbers)
                }
                // Checked before: of our own confederation.
                _ => continue,
            };
            return Some(Segment { kind, numbers });
        }
    }
}

impl<'a> Numbers<'a> {
    fn first(self, count: usize) -> Self {
        let mut octets = self.octets;
        let cut = octets.part(count.saturating_mul(self.width));
        Self {
            octets: cut.unwrap_or(self.octets),
            width: self.width,
        }
    }
}

impl Iterator for Numbers<'_> {
    type Item = Asn;

    fn next(&mut self) -> Option<Asn> {
        let number = match self.width {
            2 => self.octets.u16().map(u32::from),
            _ => self.octets.u32(),
        };
        number.map(Asn)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let count = self.octets.len() / self.width;
        (count, Some(count))
    }
}

impl ExactSizeIterator for Numbers<'_> {}

/// The next segment's type and its numbers, at least one.
fn segment<'a>(rest: &mut Reader<'a>, width: usize) -> Option<(u8, Numbers<'a>)> {
    let kind = rest.u8()?;
    let count = rest.u8().filter(|count| *count > 0)?;
    let octets = rest.part(usize::from(count) * width)?;
    Some((kind, Numbers { octets, width }))
}

/// The attribute's value. With two octets, what does not fit is written as `AS_TRANS`.
pub(super) fn encode(path: &AsPath, four_octets: bool, out: &mut Vec<u8>) {
    for segment in &path.0 {
        let (kind, numbers) = match segment {
            route::Segment::Set(numbers) => (SET, numbers),
            route::Segment::Sequence(numbers) => (SEQUENCE, numbers),
        };
        for part in numbers.chunks(SEGMENT_NUMBERS_MAX) {
            out.extend_from_slice(&[kind, u8::try_from(part.len()).unwrap_or(u8::MAX)]);
            for number in part {
                if four_octets {
                    out.extend_from_slice(&number.0.to_be_bytes());
                } else {
                    let [_, _, high, low] = AS_TRANS.0.to_be_bytes();
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

    fn bytes(text: &str, four_octets: bool) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&path(text), four_octets, &mut out);
        out
    }

    fn decoded(bytes: &[u8], four_octets: bool) -> Result<AsPath, PathFault> {
        Path::decode(Reader::new(bytes), four_octets, false).map(Path::into_owned)
    }

    #[test]
    fn the_width_is_what_was_negotiated_even_where_the_bytes_fit_the_other() {
        // Both readings of these bytes are well formed; only one is meant.
        let bytes = bytes("64500 258 3356", true);
        assert_eq!(decoded(&bytes, true), Ok(path("64500 258 3356")));
        assert_ne!(decoded(&bytes, false), Ok(path("64500 258 3356")));
    }

    #[test]
    fn as4_path_is_merged_behind_the_front_that_only_as_path_has() {
        for (long, four, expected) in [
            ("64500 23456 23456", "65551 65550", "64500 65551 65550"),
            ("64500 64501", "65551", "64500 65551"),
            ("23456", "65551", "65551"),
            ("64500 {1 2} 23456", "65551", "64500 {1 2} 65551"),
            // Longer than the path itself: somebody behind lied.
            ("64500", "65551 65550", "64500"),
            ("64500 64501", "", "64500 64501"),
        ] {
            let (long, four) = (bytes(long, false), bytes(four, true));
            let long = Path::decode(Reader::new(&long), false, false).unwrap();
            let four = Path::decode(Reader::new(&four), true, true).unwrap();
            let merged = long.with_as4(four);
            assert_eq!(merged.into_owned().to_string(), expected);
            assert_eq!(merged.length(), path(expected).length());
        }
    }

    #[test]
    fn broken_segments_are_refused() {
        for bytes in [
            &[2, 0][..],
            &[2],
            &[2, 1, 0, 0, 0],
            &[5, 1, 0, 0, 0, 1],
            &[0, 1, 0, 0, 0, 1],
            &[2, 1, 0, 0, 0, 1, 9],
            // What is cut off outweighs what came before it.
            &[3, 1, 0, 0, 0, 1, 2, 1],
        ] {
            assert_eq!(decoded(bytes, true), Err(PathFault::Malformed), "{bytes:?}");
        }
        let zero = decoded(&[2, 1, 0, 0, 0, 0], true);
        assert_eq!(zero, Err(PathFault::Zero));
        for kind in [3, 4] {
            let confederation = [kind, 1, 0, 0, 0, 1, 2, 1, 0, 0, 0, 7];
            let refused = decoded(&confederation, true);
            assert_eq!(refused, Err(PathFault::Confederation));
            let inside = Path::decode(Reader::new(&confederation), true, true).unwrap();
            assert_eq!((inside.into_owned(), inside.length()), (path("7"), 1));
        }
    }

    #[test]
    fn a_copy_of_the_longest_path_has_a_bound() {
        let long = AsPath(vec![route::Segment::Sequence(vec![Asn(64500); 16_000])]);
        let mut bytes = Vec::new();
        encode(&long, true, &mut bytes);
        let path = Path::decode(Reader::new(&bytes), true, false).unwrap();
        assert_eq!((path.length(), path.numbers().count()), (16_000, 16_000));
        assert_eq!(path.into_owned().length(), PATH_NUMBERS_KEPT);
    }
}
