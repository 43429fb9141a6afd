//! RFC 4648 section 5 without padding, for the 32 bytes of a MAC and nothing else: one spelling.

/// 32 bytes in sixes.
const TEXT_BYTES: usize = 43;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

pub(super) fn encode(bytes: &[u8; 32]) -> String {
    let mut text = String::with_capacity(TEXT_BYTES);
    for three in bytes.chunks(3) {
        let mut bits = 0_u32;
        for at in 0..3 {
            bits = bits << 8 | u32::from(three.get(at).copied().unwrap_or(0));
        }
        for at in 0..=three.len() {
            let six = bits >> (18 - 6 * at) & 63;
            let letter = ALPHABET.get(six as usize).copied().unwrap_or(b'A');
            text.push(char::from(letter));
        }
    }
    text
}

/// `None` for padding, other letters, another length, and set bits behind the last byte.
pub(super) fn decode(text: &str) -> Option<[u8; 32]> {
    if text.len() != TEXT_BYTES {
        return None;
    }
    let mut bytes = [0; 32];
    let (mut bits, mut count, mut at) = (0_u32, 0, 0);
    for letter in text.bytes() {
        let six = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            *bytes.get_mut(at)? = u8::try_from(bits >> count & 255).ok()?;
            at += 1;
        }
    }
    (at == 32 && bits & ((1 << count) - 1) == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_second_spelling_of_the_last_letter_is_refused() {
        let text = encode(&[0; 32]);
        assert_eq!(text, "A".repeat(43));
        assert_eq!(decode(&text), Some([0; 32]));
        let other = format!("{}B", "A".repeat(42));
        assert_eq!(decode(&other), None);
        assert_eq!(decode(&format!("{}=", "A".repeat(42))), None);
        assert_eq!(decode(&"A".repeat(44)), None);
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(text in "[A-Za-z0-9_=+-]{42,44}") {
            if let Some(bytes) = decode(&text) {
                prop_assert_eq!(encode(&bytes), text);
            }
        }

        #[test]
        fn what_is_written_is_read(bytes in any::<[u8; 32]>()) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }
    }
}
