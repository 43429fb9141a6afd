//! Signing rows that are compressed already: one set of rows, many boxes.
//!
//! `control::publish` compresses what boxes of equal capacity share once, and seals it for each.

use super::manifest::ManifestError;
use super::manifest::Signer;
use super::message::Envelope;
use super::message::Position;
use super::message::VERSION;
use crate::ids::BoxId;
use crate::object::Digest;
use aws_lc_rs::signature::Ed25519KeyPair;
use std::fmt::Write as _;

/// Rows as they stand in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Of the compressed rows.
    pub bytes: u64,
    /// BLAKE3 of the compressed rows.
    pub content: Digest,
}

impl Signer {
    /// The envelope, with the end of its line, that goes before the compressed rows.
    pub fn seal(
        &self,
        id: &BoxId,
        position: Position,
        issued: u64,
        expires: u64,
        rows: Sealed,
    ) -> Result<Vec<u8>, ManifestError> {
        let refused = |problem: String| ManifestError::Key(problem);
        let pair = Ed25519KeyPair::from_pkcs8(self.pkcs8()).map_err(|e| refused(e.to_string()))?;
        let mut envelope = Envelope {
            v: VERSION,
            id: id.to_string(),
            position,
            issued,
            expires,
            bytes: rows.bytes,
            blake3: rows.content,
            key: self.public_hex(),
            signature: String::new(),
        };
        for byte in pair.sign(envelope.signed_text().as_bytes()).as_ref() {
            let _ = write!(envelope.signature, "{byte:02x}");
        }
        let mut line = serde_json::to_vec(&envelope).map_err(|e| refused(e.to_string()))?;
        line.push(b'\n');
        Ok(line)
    }
}
