//! Signing and verifying what a box should hold.
//!
//! The control plane's `publish` signs with [`Signer::sign`]; the box's `health` verifies with
//! [`Verifier::verify`] before the store sees a row. Nothing is decompressed that was not signed.
//!
//! A body is one line of JSON (the [`Envelope`]) and the compressed rows that it vouches for.

use super::body::BodyError;
use super::body::Encoding;
use super::body::Limits;
use super::body::Text;
use super::hex;
use super::message::Envelope;
use super::message::Position;
use super::message::Row;
use super::message::VERSION;
use crate::clock;
use crate::clock::Wall;
use crate::help::printable;
use crate::ids::BoxId;
use crate::key::Key;
use crate::key::KeyError;
use crate::object::Digest;
use aws_lc_rs::signature::ED25519;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair;
use aws_lc_rs::signature::UnparsedPublicKey;
use std::fmt;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::time::Duration;

/// As many keys as the store's index has objects.
pub const KEYS_MAX: usize = 1 << 24;

/// Ten million keys take 400 MB compressed: a digest has 32 bytes that nothing can squeeze.
pub const LIMITS: Limits = Limits {
    compressed: 768 << 20,
    decompressed: 4 << 30,
};

/// How far a control plane's clock may be ahead of ours.
pub const ISSUED_AHEAD_MAX: Duration = Duration::from_secs(600);

/// Longest line of the envelope, and of a row: a key of 1,024 bytes and three numbers.
const LINE_BYTES_MAX: u64 = 4_096;

/// Half the time of the next level for two percent more bytes; digests do not compress.
const ZSTD_LEVEL: i32 = 3;

/// The control plane's manifest key.
pub struct Signer {
    pair: Ed25519KeyPair,
    pkcs8: Vec<u8>,
}

/// The keys a box believes.
#[derive(Clone, Debug)]
pub struct Verifier {
    keys: Vec<[u8; 32]>,
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
    /// In key order, each key once.
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
    #[error("the manifest key cannot be used: {0}")]
    Key(String),
    #[error("the manifest could not be written: {0}")]
    Write(String),
    #[error("the manifest does not begin with its envelope: {0}")]
    Envelope(String),
    #[error("the manifest has version {0}; this program reads {VERSION}")]
    Version(u64),
    #[error(
        "the manifest is signed with the key {0}, which this box was not told to believe; a \
         renewal of its certificate (`renew`) brings the keys"
    )]
    UnknownKey(String),
    #[error("the manifest's signature is wrong: it was changed, or somebody else made it")]
    Signature,
    #[error("the manifest was cut or changed: it should have {expected} bytes of rows, not {got}")]
    Bytes { expected: u64, got: u64 },
    #[error("the manifest was changed: the rows do not have the hash in its envelope")]
    Hash,
    #[error("the manifest is for the box `{for_box}`, not for `{own}`")]
    Foreign { for_box: String, own: String },
    #[error("the manifest ended at {0}; the control plane must publish another one")]
    Expired(Wall),
    #[error("the manifest is issued for {0}, in the future; one of the clocks is wrong")]
    NotYet(Wall),
    #[error("the manifest is older ({got}) than one this box has seen ({highest})")]
    Older { got: Position, highest: Position },
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("row {row} of the manifest: {problem}")]
    Row { row: u64, problem: String },
    #[error("the manifest names `{0}` twice")]
    Duplicate(Key),
}

impl Signer {
    pub fn generate() -> Result<Self, ManifestError> {
        let pair = Ed25519KeyPair::generate()
            .map_err(|_| ManifestError::Key("no random numbers".to_owned()))?;
        let pkcs8 = pair
            .to_pkcs8()
            .map_err(|_| ManifestError::Key("it has no PKCS #8 form".to_owned()))?;
        Self::from_pkcs8(pkcs8.as_ref())
    }

    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, ManifestError> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8)
            .map_err(|problem| ManifestError::Key(format!("no Ed25519 PKCS #8: {problem}")))?;
        Ok(Self {
            pair,
            pkcs8: pkcs8.to_vec(),
        })
    }

    /// What to keep, in a file that nobody else can read.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// Hexadecimal: what boxes are told at enrolment.
    pub fn public_hex(&self) -> String {
        hex::encode(self.pair.public_key().as_ref())
    }

    /// The body of `GET /v1/manifest` for one box. Times are seconds since the Unix epoch. The
    /// same rows give the same content hash.
    pub fn sign(
        &self,
        id: &BoxId,
        position: Position,
        issued: u64,
        expires: u64,
        rows: impl IntoIterator<Item = Row>,
    ) -> Result<Vec<u8>, ManifestError> {
        let compressed = compress(rows).map_err(|e| ManifestError::Write(e.to_string()))?;
        let mut envelope = Envelope {
            v: VERSION,
            id: id.to_string(),
            position,
            issued,
            expires,
            bytes: compressed.len() as u64,
            blake3: Digest::of(&compressed),
            key: self.public_hex(),
            signature: String::new(),
        };
        let signature = self.pair.sign(envelope.signed_text().as_bytes());
        envelope.signature = hex::encode(signature.as_ref());
        let mut body =
            serde_json::to_vec(&envelope).map_err(|e| ManifestError::Write(e.to_string()))?;
        body.push(b'\n');
        body.extend_from_slice(&compressed);
        Ok(body)
    }
}

impl Signer {
    /// Signs `bytes` for one purpose: the name of the purpose and a line end come first, so that
    /// no signature means anything elsewhere.
    pub(super) fn sign_text(&self, purpose: &str, bytes: &[u8]) -> Vec<u8> {
        let signature = self.pair.sign(&purposed(purpose, bytes));
        signature.as_ref().to_vec()
    }
}

impl Verifier {
    /// Did one of the keys sign `bytes` for this purpose?
    pub(super) fn is_signed(&self, purpose: &str, bytes: &[u8], signature: &[u8; 64]) -> bool {
        let text = purposed(purpose, bytes);
        let good = |key: &[u8; 32]| {
            let key = UnparsedPublicKey::new(&ED25519, key);
            key.verify(&text, signature).is_ok()
        };
        self.keys.iter().any(good)
    }
}

fn purposed(purpose: &str, bytes: &[u8]) -> Vec<u8> {
    [purpose.as_bytes(), b"\n", bytes].concat()
}

impl Verifier {
    /// Public keys, hexadecimal, as the enrolment brought them.
    pub fn new(keys: &[String]) -> Result<Self, ManifestError> {
        let parse = |key: &String| {
            hex::decode(key).ok_or_else(|| {
                let key = printable(key.as_bytes(), 80);
                ManifestError::Key(format!("`{key}` is not 64 hexadecimal digits"))
            })
        };
        keys.iter()
            .map(parse)
            .collect::<Result<_, _>>()
            .map(|keys| Self { keys })
    }

    /// Believes `body` only if it is signed for `id`, in its time, and not older than `highest`.
    /// A body at `highest` itself is believed; whether its `content` is the one that was seen
    /// there is for the caller to compare. CPU-bound, seconds for millions of keys: not for a
    /// runtime's thread.
    pub fn verify(
        &self,
        body: &[u8],
        id: &BoxId,
        now: Wall,
        highest: Option<Position>,
    ) -> Result<Verified, ManifestError> {
        let (envelope, rows) = self.signed(body)?;
        in_its_place(&envelope, id, now, highest)?;
        Ok(Verified {
            position: envelope.position,
            issued: envelope.issued,
            expires: envelope.expires,
            content: envelope.blake3,
            keys: read_rows(rows)?,
        })
    }

    /// The envelope and the compressed rows, with signature, count and hash in order.
    fn signed<'a>(&self, body: &'a [u8]) -> Result<(Envelope, &'a [u8]), ManifestError> {
        let bad = |problem: &str| ManifestError::Envelope(problem.to_owned());
        let head = &body[..body.len().min(4_096)];
        let end = head.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or_else(|| bad("no line of at most 4,096 bytes"))?;
        let envelope: Envelope = serde_json::from_slice(&body[..end])
            .map_err(|e| bad(&printable(e.to_string().as_bytes(), 200)))?;
        if envelope.v != VERSION {
            return Err(ManifestError::Version(envelope.v));
        }
        let key = hex::decode::<32>(&envelope.key).filter(|key| self.keys.contains(key));
        let Some(key) = key else {
            let key = printable(envelope.key.as_bytes(), 64);
            return Err(ManifestError::UnknownKey(key));
        };
        let signature =
            hex::decode::<64>(&envelope.signature).ok_or_else(|| bad("no signature in it"))?;
        UnparsedPublicKey::new(&ED25519, key)
            .verify(envelope.signed_text().as_bytes(), &signature)
            .map_err(|_| ManifestError::Signature)?;
        let rows = &body[end + 1..];
        let got = rows.len() as u64;
        if got != envelope.bytes {
            let expected = envelope.bytes;
            return Err(ManifestError::Bytes { expected, got });
        }
        if Digest::of(rows) != envelope.blake3 {
            return Err(ManifestError::Hash);
        }
        Ok((envelope, rows))
    }
}

fn in_its_place(
    envelope: &Envelope,
    id: &BoxId,
    now: Wall,
    highest: Option<Position>,
) -> Result<(), ManifestError> {
    if envelope.id != id.as_str() {
        return Err(ManifestError::Foreign {
            for_box: printable(envelope.id.as_bytes(), 80),
            own: id.to_string(),
        });
    }
    let wall = |seconds: u64| {
        i64::try_from(seconds)
            .ok()
            .and_then(|seconds| Wall::from_second(seconds).ok())
            .unwrap_or(Wall::MAX)
    };
    let seconds = clock::unix_seconds(now);
    if envelope.expires <= seconds {
        return Err(ManifestError::Expired(wall(envelope.expires)));
    }
    if envelope.issued > seconds.saturating_add(ISSUED_AHEAD_MAX.as_secs()) {
        return Err(ManifestError::NotYet(wall(envelope.issued)));
    }
    let got = envelope.position;
    match highest {
        Some(highest) if got < highest => Err(ManifestError::Older { got, highest }),
        Some(_) | None => Ok(()),
    }
}

fn compress(rows: impl IntoIterator<Item = Row>) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
    for row in rows {
        serde_json::to_writer(&mut encoder, &row)?;
        encoder.write_all(b"\n")?;
    }
    encoder.finish()
}

fn read_rows(compressed: &[u8]) -> Result<Vec<ManifestKey>, ManifestError> {
    let text = Text::new(compressed, Encoding::Zstd, LIMITS)?;
    let mut text = BufReader::with_capacity(128 * 1024, text);
    let mut keys = Vec::new();
    let mut bundle: Option<(String, u32)> = None;
    let mut line = Vec::new();
    for row in 1.. {
        line.clear();
        let read = (&mut text)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line);
        let length = read.map_err(|error| text.get_ref().explain(&error))?;
        if length == 0 {
            break;
        }
        let bad = |problem: String| ManifestError::Row { row, problem };
        if line.last() != Some(&b'\n') {
            return Err(bad(format!("no end within {LINE_BYTES_MAX} bytes")));
        }
        let parsed = serde_json::from_slice(&line)
            .map_err(|e| bad(printable(e.to_string().as_bytes(), 200)))?;
        match parsed {
            Row::Bundle {
                bundle: directory,
                rank,
            } => bundle = Some((directory, rank)),
            Row::Key { k, d, n, t } => {
                let (directory, rank) = bundle
                    .as_ref()
                    .ok_or_else(|| bad("a key before any bundle".to_owned()))?;
                if keys.len() == KEYS_MAX {
                    return Err(bad(format!("more than {KEYS_MAX} keys")));
                }
                let key = join(directory, &k).map_err(|error| {
                    let key = printable(format!("{directory}/{k}").as_bytes(), 120);
                    bad(format!("`{key}`: {error}"))
                })?;
                keys.push(ManifestKey {
                    key,
                    digest: d,
                    length: n,
                    last_modified: t,
                    rank: *rank,
                });
            }
        }
    }
    keys.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    let twice = keys.windows(2).find(|pair| pair[0].key == pair[1].key);
    if let Some(pair) = twice {
        return Err(ManifestError::Duplicate(pair[0].key.clone()));
    }
    Ok(keys)
}

/// The last segment has no slash: each key has one way to be written.
fn join(directory: &str, name: &str) -> Result<Key, KeyError> {
    if let Some(at) = name.bytes().position(|byte| byte == b'/') {
        return Err(KeyError::Byte { byte: b'/', at });
    }
    if directory.is_empty() {
        Key::parse(name.as_bytes())
    } else {
        Key::parse(format!("{directory}/{name}").as_bytes())
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("public", &self.public_hex())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
