//! 32 secret bytes: cleared when dropped, never printed.

use super::TokenKeyError;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use std::fmt;
use zeroize::Zeroizing;

pub(super) const SECRET_BYTES: usize = 32;

/// A fleet's secret or a host's key. Its text form (64 lower-case hexadecimal digits) is for key
/// files and for the link.
#[derive(Clone)]
pub struct Secret(Zeroizing<[u8; SECRET_BYTES]>);

impl Secret {
    pub fn random() -> Result<Self, TokenKeyError> {
        let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
        rand::fill(bytes.as_mut_slice()).map_err(|_| TokenKeyError::Random)?;
        Ok(Self(bytes))
    }

    pub fn from_bytes(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub fn from_hex(text: &str) -> Result<Self, TokenKeyError> {
        let digits = text.as_bytes();
        if digits.len() != 2 * SECRET_BYTES {
            return Err(TokenKeyError::Secret);
        }
        let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| match pair.get(at) {
                Some(letter @ b'0'..=b'9') => Ok(letter - b'0'),
                Some(letter @ b'a'..=b'f') => Ok(letter - b'a' + 10),
                Some(_) | None => Err(TokenKeyError::Secret),
            };
            *byte = digit(0)? << 4 | digit(1)?;
        }
        Ok(Self(bytes))
    }

    /// For a key file and for the link: nowhere else.
    pub fn to_hex(&self) -> Zeroizing<String> {
        let digit = |four: u8| char::from_digit(four.into(), 16).unwrap_or('0');
        let digits = self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        // The room is there from the start: a text that grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(2 * SECRET_BYTES));
        text.extend(digits.map(digit));
        text
    }

    pub(super) fn bytes(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(self.bytes(), other.bytes()).is_ok()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_hex())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        Self::from_hex(&text).map_err(serde::de::Error::custom)
    }
}
