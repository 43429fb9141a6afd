//! Keys: the paths by which viewers name objects.
//!
//! A key is bound to one digest for ever. Its grammar is so narrow that two spellings of one key
//! cannot exist: no percent-encoding, no dot segments, no empty segments. The URL path of a key is
//! `/` followed by the key.

use serde::Serialize;
use std::fmt;

/// No longer key is accepted anywhere (request line, manifest, prefill).
pub const KEY_BYTES_MAX: usize = 1024;

/// First segments that belong to the appliance itself: path tokens, box-to-box fill, speed test.
const RESERVED_FIRST: [&str; 3] = ["t", "fill", "speedtest"];

/// The bytes of the grammar: A-Z a-z 0-9 - . _ ~ and /.
const MAY_STAND: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] =
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/');
        byte += 1;
    }
    table
};

/// Is `byte` one of those that keys are made of, `/` included?
pub fn may_stand(byte: u8) -> bool {
    MAY_STAND[usize::from(byte)]
}

/// A valid key. Ordered and hashed by its bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Key(Box<str>);

/// Why a path is not a key. The message names what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("the key is empty")]
    Empty,
    #[error("the key has {0} bytes; at most {KEY_BYTES_MAX} are allowed")]
    TooLong(usize),
    #[error("byte 0x{byte:02x} at offset {at}: keys are made of A-Z a-z 0-9 - . _ ~ and /")]
    Byte { byte: u8, at: usize },
    #[error("an empty path segment; keys have no leading, trailing or doubled slash")]
    EmptySegment,
    #[error("a `.` or `..` path segment")]
    DotSegment,
    #[error("a segment named `range`; that word marks a byte range in the path")]
    RangeSegment,
    #[error("the first segment `{0}` is reserved for the appliance")]
    Reserved(&'static str),
}

impl Key {
    /// Parses a key (no leading slash).
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyError> {
        check(bytes).map(|text| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Checks without allocating: the request path uses it for each request.
pub fn check(bytes: &[u8]) -> Result<&str, KeyError> {
    if bytes.is_empty() {
        return Err(KeyError::Empty);
    }
    if bytes.len() > KEY_BYTES_MAX {
        return Err(KeyError::TooLong(bytes.len()));
    }
    if let Some(at) = bytes.iter().position(|byte| !may_stand(*byte)) {
        return Err(KeyError::Byte {
            byte: bytes[at],
            at,
        });
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(KeyError::Byte {
            byte: bytes[0],
            at: 0,
        });
    };
    let mut first = true;
    for segment in bytes.split(|byte| *byte == b'/') {
        match segment {
            b"" => return Err(KeyError::EmptySegment),
            b"." | b".." => return Err(KeyError::DotSegment),
            b"range" => return Err(KeyError::RangeSegment),
            segment if std::mem::take(&mut first) => {
                let is_it = |word: &&&str| word.as_bytes() == segment;
                if let Some(word) = RESERVED_FIRST.iter().find(is_it) {
                    return Err(KeyError::Reserved(word));
                }
            }
            _ => {}
        }
    }
    Ok(text)
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_grammar_refuses_every_second_spelling() {
        assert_eq!(
            Key::parse(b"title/v1/seg-1.m4s").unwrap().as_str(),
            "title/v1/seg-1.m4s"
        );
        for (path, error) in [
            (&b""[..], KeyError::Empty),
            (b"/a", KeyError::EmptySegment),
            (b"a//b", KeyError::EmptySegment),
            (b"a/", KeyError::EmptySegment),
            (b"a/../b", KeyError::DotSegment),
            (b"./a", KeyError::DotSegment),
            (b"a/range/b", KeyError::RangeSegment),
            (b"t/x", KeyError::Reserved("t")),
            (b"fill", KeyError::Reserved("fill")),
            (b"a%2fb", KeyError::Byte { byte: b'%', at: 1 }),
            (b"a\0", KeyError::Byte { byte: 0, at: 1 }),
        ] {
            assert_eq!(Key::parse(path), Err(error), "{path:?}");
        }
        assert_eq!(Key::parse(&[b'a'; 1025]), Err(KeyError::TooLong(1025)));
    }

    #[test]
    fn exactly_the_bytes_of_the_grammar_may_stand() {
        let grammar = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/";
        for byte in 0..=u8::MAX {
            let stands = grammar.as_bytes().contains(&byte);
            assert_eq!(MAY_STAND[usize::from(byte)], stands, "{byte}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_what_is_accepted_is_unchanged(
            bytes in proptest::collection::vec(any::<u8>(), 0..1100)
        ) {
            if let Ok(key) = Key::parse(&bytes) {
                prop_assert_eq!(key.as_str().as_bytes(), &bytes[..]);
            }
        }

        #[test]
        fn accepted_keys_have_no_surprising_segment(path in "[a-z./]{0,12}") {
            if let Ok(key) = Key::parse(path.as_bytes()) {
                for segment in key.as_str().split('/') {
                    prop_assert!(!matches!(segment, "" | "." | ".." | "range"));
                }
            }
        }
    }
}
