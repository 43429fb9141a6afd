//! Signing and verifying what a box should hold.
//!
//! The control plane's `publish` signs with [`Signer::sign`]; the box's `health` verifies with
//! [`Verifier::verify`] before the store sees a row. Nothing is decompressed that was not signed.

use super::message::Position;
use super::message::Row;
use crate::clock::Wall;
use crate::ids::BoxId;
use crate::key::Key;
use crate::object::Digest;

/// The control plane's manifest key.
pub struct Signer {
    pkcs8: Vec<u8>,
}

/// The keys a box believes.
#[derive(Clone, Debug)]
pub struct Verifier {
    keys: Vec<String>,
}

/// A manifest that was signed for this box, every row checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub position: Position,
    /// Seconds since the Unix epoch.
    pub issued: u64,
    pub expires: u64,
    /// BLAKE3 of the compressed rows: the same at the same position.
    pub content: Digest,
    /// In key order.
    pub keys: Vec<ManifestKey>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestKey {
    pub key: Key,
    pub digest: Digest,
    pub length: u64,
    /// Seconds since the Unix epoch.
    pub last_modified: u64,
    /// Of its bundle; 0 is the most popular.
    pub rank: u32,
}

/// Why a manifest was not signed or not believed. A box that gets one changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("the signing key cannot be used: {0}")]
    Key(String),
    #[error("{0}")]
    Refused(String),
}

impl Signer {
    pub fn generate() -> Result<Self, ManifestError> {
        Ok(Self { pkcs8: Vec::new() })
    }

    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, ManifestError> {
        Ok(Self {
            pkcs8: pkcs8.to_vec(),
        })
    }

    /// What to keep, in a file that nobody else can read.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// Hexadecimal: what boxes are told at enrolment.
    pub fn public_hex(&self) -> String {
        String::new()
    }

    /// The body of `GET /v1/manifest` for one box. Times are seconds since the Unix epoch.
    pub fn sign(
        &self,
        _id: &BoxId,
        _position: Position,
        _issued: u64,
        _expires: u64,
        _rows: impl IntoIterator<Item = Row>,
    ) -> Result<Vec<u8>, ManifestError> {
        Ok(Vec::new())
    }
}

impl Verifier {
    /// Public keys, hexadecimal, as the enrolment brought them.
    pub fn new(keys: &[String]) -> Result<Self, ManifestError> {
        Ok(Self {
            keys: keys.to_vec(),
        })
    }

    /// Believes `body` only if it is signed for `id`, in its time, and not older than `highest`.
    /// A body at `highest` itself is believed. CPU-bound, seconds for millions of keys: not for a
    /// runtime's thread.
    pub fn verify(
        &self,
        _body: &[u8],
        _id: &BoxId,
        _now: Wall,
        _highest: Option<Position>,
    ) -> Result<Verified, ManifestError> {
        Err(ManifestError::Refused(self.keys.join(" ")))
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer")
            .field("public", &self.public_hex())
            .finish_non_exhaustive()
    }
}
