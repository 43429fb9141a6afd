//! Hexadecimal text of keys, signatures and fingerprints. Used by `identity`, `manifest` and
//! `ticket`.

use std::fmt::Write;

/// Lower case.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Exactly `N` bytes, of either case.
pub(super) fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    Some(bytes)
}

/// However many bytes there are; the caller bounds the text.
pub(super) fn decode_any(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let byte = |pair: &[u8]| {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        u8::try_from(high << 4 | low).ok()
    };
    digits.chunks_exact(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_right_length_are_read_back_and_others_are_not() {
        assert_eq!(encode(&[0, 0xab, 0x0f]), "00ab0f");
        assert_eq!(decode("00AB0f"), Some([0, 0xab, 0x0f]));
        assert_eq!(decode::<2>("00ab0f"), None);
        assert_eq!(decode::<2>("00g0"), None);
        assert_eq!(decode::<2>("+1+1"), None);
        assert_eq!(decode::<2>("é0é"), None);
    }
}
