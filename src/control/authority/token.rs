//! One-time tokens: what provisioning carries to a box, once.
//!
//! The text is shown to the operator when it is made and is nowhere afterwards; the store keeps its
//! hash.

use crate::clock::Wall;
use crate::object::Digest;
use std::fmt::Write as _;
use std::time::Duration;

/// From the making to the last redemption: a long weekend for whoever carries the box.
pub const VALIDITY: Duration = Duration::from_secs(72 * 3_600);

/// Random bytes of a token: nobody guesses it, so its hash needs no salt and no stretching.
const BYTES: usize = 32;

/// Text longer than this is no token.
pub const TEXT_BYTES_MAX: usize = 256;

/// The text of a fresh token and its hash.
pub fn make() -> Result<(String, Digest), aws_lc_rs::error::Unspecified> {
    let mut bytes = [0_u8; BYTES];
    aws_lc_rs::rand::fill(&mut bytes)?;
    let mut text = String::with_capacity(2 * BYTES);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    let hash = hash(&text);
    Ok((text, hash))
}

/// What the store knows of a token.
pub fn hash(text: &str) -> Digest {
    Digest::of(text.trim().as_bytes())
}

/// When a token that is made now ends.
pub fn ends(now: Wall) -> Wall {
    now.checked_add(VALIDITY).unwrap_or(Wall::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_tokens_are_alike_and_a_final_newline_is_forgiven() {
        let (one, hash_of_one) = make().unwrap();
        let (other, _) = make().unwrap();
        assert_ne!(one, other);
        assert_eq!((one.len(), hash(&format!("{one}\n"))), (64, hash_of_one));
        assert_ne!(hash(&one[..63]), hash_of_one);
    }
}
