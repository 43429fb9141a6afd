//! `Repr-Digest` (RFC 9530) between boxes: the object's digest, whatever part of it is sent.
//!
//! `peer` writes it, `fill` reads it before a byte of the body. The algorithm `blake3` is of this
//! link, not of the registry, which has SHA-2 alone: whoever does not know it passes over it, and
//! viewers are not sent it. Sans-IO.

use crate::object::Digest;

/// The field's name.
pub const REPR_DIGEST: &str = "Repr-Digest";

/// The algorithm's key.
const KEY: &str = "blake3";

/// Members of a field that are read.
const MEMBERS_MAX: usize = 16;

/// The field's value.
pub fn text(digest: Digest) -> String {
    format!("{KEY}=:{}:", base64(&digest.0))
}

/// Does a field say that the bytes are those of `digest`? None: it does not say it in our terms.
pub fn names(value: &str, digest: Digest) -> Option<bool> {
    // RFC 8941 section 3.2: of members with one key the last one counts.
    let mut members = value.rsplit(',').take(MEMBERS_MAX).map(str::trim);
    let last = members.find_map(|member| {
        let value = member.strip_prefix(KEY)?.strip_prefix("=:")?;
        value.strip_suffix(':')
    })?;
    // Section 4.2.7: a sender may leave the padding out.
    let own = base64(&digest.0);
    Some(last.trim_end_matches('=') == own.trim_end_matches('='))
}

/// RFC 4648 section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |place: usize| u32::from(three.get(place).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let index = bits >> (18 - 6 * place) & 63;
            let letter = ALPHABET.get(index as usize).copied().unwrap_or(b'=');
            text.push(if place > three.len() {
                '='
            } else {
                char::from(letter)
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_other_algorithms_say_nothing() {
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        let value = text(one);
        assert_eq!(names(&value, one), Some(true));
        assert_eq!(names(&value, two), Some(false));
        let sha = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:";
        assert_eq!(names(sha, one), None);
        assert_eq!(names(&format!("{sha}, {value}"), one), Some(true));
        for nothing in ["", "blake3", "blake3=", "blake3=:", "blake3=::x"] {
            assert_eq!(names(nothing, one), None, "{nothing}");
        }
        assert_eq!(names("blake3=:!!:", one), Some(false));
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        let vectors = ["", "f", "fo", "foo", "foob", "fooba", "foobar"];
        let texts = [
            "", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy",
        ];
        for (bytes, text) in vectors.iter().zip(texts) {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
