//! Where does a request head end, and may it be looked at further?
//!
//! Sans-IO. Fed with the connection's growing buffer, it looks at each byte once and refuses,
//! before any parser sees them, the bytes over which two readers of HTTP could disagree: a bare CR
//! or LF, NUL and other controls, folded lines. What passes ends in CRLF CRLF and has CRLF line
//! ends only.

use super::request::Fault;

/// Empty lines tolerated in front of a request line (RFC 9112 section 2.2 asks for one).
const EMPTY_LINES_MAX: usize = 2;

/// What is known of the head so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    Incomplete,
    /// The head lies in `start..end` of the buffer, its closing empty line included.
    Complete {
        start: usize,
        end: usize,
    },
}

/// The position in one head. A fresh one for each request.
#[derive(Clone, Debug, Default)]
pub struct HeadScan {
    /// Every byte before this one has been looked at.
    at: usize,
    /// First byte of the request line, once empty lines before it are behind.
    start: usize,
    /// First byte of the current line.
    line: usize,
    empty_lines: usize,
}

impl HeadScan {
    /// Nothing but empty lines has come.
    pub fn is_untouched(&self, buffer: &[u8]) -> bool {
        buffer.len() <= self.start
    }

    /// Looks at the bytes that are new in `buffer`. `limit` bounds the head.
    pub fn step(&mut self, buffer: &[u8], limit: usize) -> Result<Scan, Fault> {
        if self.at == 0 && buffer.len() <= limit && is_one_head(buffer) {
            let end = buffer.len();
            (self.at, self.line) = (end, end);
            return Ok(Scan::Complete { start: 0, end });
        }
        loop {
            // RFC 9112 section 5.2: a line that begins with white space continues the one before.
            if self.line > self.start && matches!(buffer.get(self.line), Some(b' ' | b'\t')) {
                return Err(Fault::Folded);
            }
            let rest = buffer.get(self.at..).unwrap_or_default();
            let Some(next) = next_control(rest) else {
                self.at = buffer.len();
                return self.incomplete(limit);
            };
            self.at += next;
            match buffer[self.at] {
                b'\t' => self.at += 1,
                b'\n' => return Err(Fault::BareLf),
                b'\r' => match buffer.get(self.at + 1) {
                    None => return self.incomplete(limit),
                    Some(b'\n') => {
                        if let Some(end) = self.end_line()? {
                            return self.complete(end, limit);
                        }
                    }
                    Some(_) => return Err(Fault::BareCr),
                },
                byte => return Err(Fault::Control(byte)),
            }
        }
    }

    /// Steps over CRLF; tells the end of the head if this was its empty line.
    fn end_line(&mut self) -> Result<Option<usize>, Fault> {
        let empty = self.at == self.line;
        let first = self.line == self.start;
        self.at += 2;
        self.line = self.at;
        if empty && !first {
            return Ok(Some(self.at));
        }
        if empty {
            self.start = self.at;
            self.empty_lines += 1;
            if self.empty_lines > EMPTY_LINES_MAX {
                return Err(Fault::EmptyLines);
            }
        }
        Ok(None)
    }

    fn incomplete(&self, limit: usize) -> Result<Scan, Fault> {
        if self.at.saturating_sub(self.start) >= limit {
            return Err(Fault::TooLarge(limit));
        }
        Ok(Scan::Incomplete)
    }

    fn complete(&self, end: usize, limit: usize) -> Result<Scan, Fault> {
        if end - self.start > limit {
            return Err(Fault::TooLarge(limit));
        }
        Ok(Scan::Complete {
            start: self.start,
            end,
        })
    }
}

/// Bytes looked at together.
const LANES: usize = 16;

/// One head, all of it and nothing else: what most reads bring. Every byte is looked at beside the
/// one after it, many at a time; what is not as simple as that is for [`HeadScan::step`] to judge.
fn is_one_head(bytes: &[u8]) -> bool {
    let Some((lines, b"\n\r\n")) = bytes.split_last_chunk::<3>() else {
        return false;
    };
    // The last line ends in the first LF of the three.
    let (Some(first), Some(next)) = (lines.first(), bytes.get(1..bytes.len() - 2)) else {
        return false;
    };
    let (Some(last), Some(last_next)) = (lines.last_chunk(), next.last_chunk()) else {
        return false;
    };
    let (chunks, _) = lines.as_chunks::<LANES>();
    let (next_chunks, _) = next.as_chunks::<LANES>();
    let mut odd = is_odd(last, last_next);
    for (chunk, next) in chunks.iter().zip(next_chunks) {
        odd |= is_odd(chunk, next);
    }
    !odd && *first > b' '
}

/// Is a byte refused, or part of anything but a line that ends in CRLF and is followed by another?
fn is_odd(bytes: &[u8; LANES], next: &[u8; LANES]) -> bool {
    let mut odd = 0;
    for (byte, next) in bytes.iter().zip(next) {
        let (is_cr, is_lf) = (*byte == b'\r', *byte == b'\n');
        let is_control = (*byte < b' ') & !is_cr & !is_lf & (*byte != b'\t');
        let is_cut = is_cr != (*next == b'\n');
        let ends_or_folds = is_lf & ((*next == b'\r') | (*next == b' ') | (*next == b'\t'));
        odd |= u8::from(is_control | (*byte == 0x7f) | is_cut | ends_or_folds);
    }
    odd != 0
}

/// Position of the first control byte (below 0x20, or 0x7f). Eight bytes at a time, because this
/// runs over every byte a viewer sends.
fn next_control(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES * 0x80;
    let is_control = |byte: &u8| *byte < 0x20 || *byte == 0x7f;
    let (words, tail) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let value = u64::from_le_bytes(*word);
        // A hit may set the high bit of an innocent byte after it, never of one before it: the
        // lowest bit is right.
        let below = value.wrapping_sub(ONES * 0x20) & !value & HIGH;
        let delete = value ^ (ONES * 0x7f);
        let is_delete = delete.wrapping_sub(ONES) & !delete & HIGH;
        let hits = below | is_delete;
        if hits != 0 {
            return Some(index * 8 + hits.trailing_zeros() as usize / 8);
        }
    }
    let at = tail.iter().position(is_control)?;
    Some(words.len() * 8 + at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: usize = 1000;

    fn whole(bytes: &[u8]) -> Result<Scan, Fault> {
        HeadScan::default().step(bytes, LIMIT)
    }

    #[test]
    fn a_head_ends_at_its_empty_line_and_empty_lines_before_it_are_skipped() {
        let get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /next";
        assert_eq!(whole(get), Ok(Scan::Complete { start: 0, end: 27 }));
        let late = b"\r\nGET / HTTP/1.1\r\n\r\n";
        assert_eq!(whole(late), Ok(Scan::Complete { start: 2, end: 20 }));
        assert_eq!(whole(b"\r\n\r\n\r\n"), Err(Fault::EmptyLines));
        assert_eq!(whole(b"GET / HTTP/1.1\r\n\r"), Ok(Scan::Incomplete));
    }

    #[test]
    fn bytes_that_two_readers_could_read_differently_are_refused() {
        assert_eq!(whole(b"GET / HTTP/1.1\nHost: a\n\n"), Err(Fault::BareLf));
        assert_eq!(whole(b"GET / HTTP/1.1\r\nA: b\rc\r\n"), Err(Fault::BareCr));
        assert_eq!(whole(b"GET /\0 HTTP/1.1"), Err(Fault::Control(0)));
        assert_eq!(whole(b"GET /\x7f HTTP/1.1"), Err(Fault::Control(0x7f)));
        assert_eq!(whole(b"GET / HTTP/1.1\r\nA: b\r\n c"), Err(Fault::Folded));
        assert_eq!(whole(b"GET / HTTP/1.1\r\n\tA: b"), Err(Fault::Folded));
        assert!(whole(b"GET / HTTP/1.1\r\nA:\tb\r\n\r\n").is_ok());
    }

    #[test]
    fn a_head_is_bounded_whether_or_not_it_ends() {
        assert_eq!(whole(&[b'a'; LIMIT]), Err(Fault::TooLarge(LIMIT)));
        let mut long = vec![b'a'; LIMIT];
        long.extend(b"\r\n\r\n");
        assert_eq!(whole(&long), Err(Fault::TooLarge(LIMIT)));
        assert_eq!(whole(&[b'a'; LIMIT - 1]), Ok(Scan::Incomplete));
    }

    proptest! {
        #[test]
        fn the_pieces_in_which_a_head_arrives_do_not_matter(
            bytes in proptest::collection::vec(
                prop_oneof![Just(b'\r'), Just(b'\n'), Just(b' '), Just(b'a'), any::<u8>()], 0..60),
            cuts in proptest::collection::vec(0usize..60, 0..5),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(bytes.len())).collect();
            cuts.sort_unstable();
            cuts.push(bytes.len());
            let mut scan = HeadScan::default();
            let mut last = Ok(Scan::Incomplete);
            for cut in cuts {
                last = scan.step(&bytes[..cut], LIMIT);
                if last != Ok(Scan::Incomplete) {
                    break;
                }
            }
            prop_assert_eq!(last, whole(&bytes));
        }

        #[test]
        fn all_bytes_at_once_are_judged_as_one_by_one(
            lines in proptest::collection::vec("[a-c \t]{0,12}", 1..6),
            odd in any::<u8>(),
            place in proptest::option::of(any::<proptest::sample::Index>()),
        ) {
            let mut bytes = (lines.join("\r\n") + "\r\n\r\n").into_bytes();
            if let Some(place) = place {
                let at = place.index(bytes.len());
                bytes[at] = odd;
            }
            let mut slow = HeadScan::default();
            // What has come in two pieces is judged byte by byte.
            let first = slow.step(&bytes[..1], LIMIT);
            let expected = match first {
                Ok(Scan::Incomplete) => slow.step(&bytes, LIMIT),
                other => other,
            };
            prop_assert_eq!(whole(&bytes), expected);
        }

        #[test]
        fn control_bytes_are_found_where_a_byte_by_byte_search_finds_them(
            bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let naive = bytes.iter().position(|b| *b < 0x20 || *b == 0x7f);
            prop_assert_eq!(next_control(&bytes), naive);
        }
    }
}
