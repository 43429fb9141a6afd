//! The receiving side of the record layer, TLS 1.2 and 1.3: ciphertext in, contents out. Sans-IO.
//!
//! [`super::opened`] feeds it after the handover. It is strict: whatever a viewer's library does
//! not send ends the connection with the alert that RFC 8446 or RFC 5246 names. It holds one record
//! at most beyond what it was given at once.

use crate::sys::ktls::Cipher;
use crate::sys::ktls::IV_BYTES;
use crate::sys::ktls::Version;
use aws_lc_rs::aead;
use aws_lc_rs::aead::Aad;
use aws_lc_rs::aead::LessSafeKey;
use aws_lc_rs::aead::Nonce;
use aws_lc_rs::aead::UnboundKey;
use std::ops::Range;

/// Record types (RFC 8446 section 5.1).
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const DATA: u8 = 23;

/// Type, version, length.
const HEADER_BYTES: usize = 5;

/// RFC 8446 section 5.1, RFC 5246 section 6.2.1.
const PLAIN_BYTES_MAX: usize = 1 << 14;

/// RFC 8446 section 5.2: 256 for type, padding and tag.
const SEALED_13_BYTES_MAX: usize = PLAIN_BYTES_MAX + 256;

/// What the ciphers of TLS 1.2 here add at most, an explicit nonce and a tag. RFC 5246 section
/// 6.2.3 allows 2048 for ciphers with padding, of which there are none here.
const SEALED_12_BYTES_MAX: usize = PLAIN_BYTES_MAX + EXPLICIT_BYTES + TAG_BYTES;

const TAG_BYTES: usize = 16;
const EXPLICIT_BYTES: usize = 8;

/// Records without contents cost work and move nothing; an honest library sends none or one.
const EMPTY_RECORDS_MAX: u8 = 32;

/// RFC 8446 section 4.6.3: type 24, length 1; the request follows.
const KEY_UPDATE_HEAD: [u8; 4] = [24, 0, 0, 1];

/// RFC 5246 section 7.4: type 1.
const CLIENT_HELLO: u8 = 1;

/// One direction's key for one epoch.
pub(super) struct Key {
    pub(super) version: Version,
    pub(super) cipher: Cipher,
    opener: LessSafeKey,
    iv: [u8; IV_BYTES],
    /// Of the next record.
    sequence: u64,
}

pub(super) struct Records {
    key: Key,
    held: Vec<u8>,
    start: usize,
    empty: u8,
}

/// What one record holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content<'a> {
    Data(&'a [u8]),
    Alert {
        is_fatal: bool,
        description: u8,
    },
    /// The peer's next record has the next key: [`Records::rekey`] comes first.
    KeyUpdate {
        is_answer_asked: bool,
    },
}

/// Why the peer's bytes cannot be taken. The connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RecordFault {
    #[error("a record longer than TLS allows")]
    TooLong,
    #[error("a record that does not open: damaged, replayed or forged")]
    NotAuthentic,
    #[error("a record or message that has no place here")]
    Unexpected,
    #[error("a value that has no meaning")]
    Illegal,
    #[error("a message of another length than its own")]
    Undecodable,
    #[error("a renegotiation, which is refused")]
    Renegotiation,
    #[error("more key updates or empty records than anybody needs")]
    TooMany,
    #[error("a key that is used up or cannot be made")]
    Key,
}

impl RecordFault {
    /// RFC 8446 section 6.2; RFC 5246 section 7.2.2 for the renegotiation.
    pub(super) fn alert(self) -> u8 {
        match self {
            Self::TooLong => 22,
            Self::NotAuthentic => 20,
            Self::Unexpected | Self::TooMany => 10,
            Self::Illegal => 47,
            Self::Undecodable => 50,
            Self::Renegotiation => 100,
            Self::Key => 80,
        }
    }
}

impl Key {
    pub(super) fn new(
        version: Version,
        cipher: Cipher,
        key: &[u8],
        iv: &[u8],
        sequence: u64,
    ) -> Option<Self> {
        let algorithm = match cipher {
            Cipher::Aes128Gcm => &aead::AES_128_GCM,
            Cipher::Aes256Gcm => &aead::AES_256_GCM,
            Cipher::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        };
        Some(Self {
            version,
            cipher,
            opener: LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?),
            iv: iv.try_into().ok()?,
            sequence,
        })
    }

    /// TLS 1.2 sends half of an AES-GCM nonce along (RFC 5288 section 3).
    fn is_explicit(&self) -> bool {
        match (self.version, self.cipher) {
            (Version::Tls12, Cipher::Aes128Gcm | Cipher::Aes256Gcm) => true,
            (Version::Tls12, Cipher::ChaCha20Poly1305) | (Version::Tls13, _) => false,
        }
    }

    /// RFC 8446 section 5.3, RFC 7905 section 2; RFC 5288 section 3 with an explicit half.
    fn nonce(&self, explicit: Option<[u8; EXPLICIT_BYTES]>) -> Nonce {
        let mut nonce = self.iv;
        let half = &mut nonce[IV_BYTES - EXPLICIT_BYTES..];
        match explicit {
            Some(explicit) => half.copy_from_slice(&explicit),
            None => {
                for (byte, count) in half.iter_mut().zip(self.sequence.to_be_bytes()) {
                    *byte ^= count;
                }
            }
        }
        Nonce::assume_unique_for_key(nonce)
    }

    /// Opens a whole record in place; the range of its plain bytes, padding and all.
    fn open(&mut self, record: &mut [u8]) -> Result<Range<usize>, RecordFault> {
        let (header, payload) = record
            .split_first_chunk_mut::<HEADER_BYTES>()
            .ok_or(RecordFault::NotAuthentic)?;
        let explicit_bytes = match self.is_explicit() {
            true => EXPLICIT_BYTES,
            false => 0,
        };
        let plain_bytes = payload
            .len()
            .checked_sub(explicit_bytes + TAG_BYTES)
            .ok_or(RecordFault::NotAuthentic)?;
        let (explicit, sealed) = payload.split_at_mut(explicit_bytes);
        let nonce = self.nonce((&*explicit).try_into().ok());
        let opened = match self.version {
            // RFC 8446 section 5.2: the header as it was sent.
            Version::Tls13 => self.opener.open_in_place(nonce, Aad::from(*header), sealed),
            // RFC 5246 section 6.2.3.3: sequence number, type, version, plain length.
            Version::Tls12 => {
                let mut about = [0; 13];
                about[..8].copy_from_slice(&self.sequence.to_be_bytes());
                about[8..11].copy_from_slice(&header[..3]);
                let length = u16::try_from(plain_bytes).map_err(|_| RecordFault::TooLong)?;
                about[11..].copy_from_slice(&length.to_be_bytes());
                self.opener.open_in_place(nonce, Aad::from(about), sealed)
            }
        };
        opened.map_err(|_| RecordFault::NotAuthentic)?;
        self.sequence = self.sequence.checked_add(1).ok_or(RecordFault::Key)?;
        let from = HEADER_BYTES + explicit_bytes;
        Ok(from..from + plain_bytes)
    }
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records")
            .field("held", &(self.held.len() - self.start))
            .finish_non_exhaustive()
    }
}

impl Records {
    pub(super) fn new(key: Key) -> Self {
        Self {
            key,
            held: Vec::new(),
            start: 0,
            empty: 0,
        }
    }

    /// Ciphertext arrived. The caller takes every content before it gives more.
    pub(super) fn push(&mut self, ciphertext: &[u8]) {
        self.held.extend_from_slice(ciphertext);
    }

    /// Opens the records to come with `key`. What is held is of the peer's next epoch already.
    pub(super) fn rekey(&mut self, key: Key) {
        self.key = key;
    }

    pub(super) fn version(&self) -> Version {
        self.key.version
    }

    /// The next record's content; `None` until more arrives.
    pub(super) fn next(&mut self) -> Result<Option<Content<'_>>, RecordFault> {
        let Some(bytes) = self.record()? else {
            self.held.drain(..self.start);
            self.start = 0;
            if self.held.is_empty() {
                // An idle connection keeps no buffer.
                self.held = Vec::new();
            }
            return Ok(None);
        };
        let outer = self.held[bytes.start];
        let from = bytes.start;
        let plain = self.key.open(&mut self.held[bytes])?;
        let plain = &self.held[from + plain.start..from + plain.end];
        let (kind, content) = match self.key.version {
            Version::Tls12 => (outer, plain),
            Version::Tls13 => inner(plain)?,
        };
        if content.len() > PLAIN_BYTES_MAX {
            return Err(RecordFault::TooLong);
        }
        if kind == DATA {
            self.empty = match content.len() {
                0 => self.empty + 1,
                _ => 0,
            };
            if self.empty > EMPTY_RECORDS_MAX {
                return Err(RecordFault::TooMany);
            }
            return Ok(Some(Content::Data(content)));
        }
        message(self.key.version, kind, content).map(Some)
    }

    /// The place of the next whole record. Its header is judged as soon as it is there.
    fn record(&mut self) -> Result<Option<Range<usize>>, RecordFault> {
        let rest = &self.held[self.start..];
        let Some(&[kind, major, minor, high, low]) = rest.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let most = match self.key.version {
            // RFC 8446 section 5.2: every protected record looks like data; its version says
            // nothing, but is authenticated. A change_cipher_spec after the handshake is a fault.
            Version::Tls13 if kind != DATA => return Err(RecordFault::Unexpected),
            Version::Tls13 => SEALED_13_BYTES_MAX,
            Version::Tls12 if !matches!(kind, ALERT | HANDSHAKE | DATA) => {
                return Err(RecordFault::Unexpected);
            }
            Version::Tls12 if (major, minor) != (3, 3) => return Err(RecordFault::Unexpected),
            Version::Tls12 => SEALED_12_BYTES_MAX,
        };
        if length > most {
            return Err(RecordFault::TooLong);
        }
        if rest.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        let from = self.start;
        self.start += HEADER_BYTES + length;
        Ok(Some(from..self.start))
    }
}

/// Type and content of a TLS 1.3 record: the last byte that is not padding is the type (RFC 8446
/// section 5.4).
fn inner(plain: &[u8]) -> Result<(u8, &[u8]), RecordFault> {
    let padded = plain.iter().rposition(|byte| *byte != 0);
    let at = padded.ok_or(RecordFault::Unexpected)?;
    Ok((plain[at], &plain[..at]))
}

/// Anything but data. Each record holds exactly one message: libraries send these alone, and a key
/// update must end its record (RFC 8446 section 5.1).
fn message(version: Version, kind: u8, content: &[u8]) -> Result<Content<'_>, RecordFault> {
    match (version, kind, content) {
        (_, ALERT, &[level, description]) => Ok(Content::Alert {
            is_fatal: level != 1,
            description,
        }),
        (_, ALERT | HANDSHAKE, []) => Err(RecordFault::Unexpected),
        (_, ALERT, _) => Err(RecordFault::Undecodable),
        (Version::Tls13, HANDSHAKE, [head @ .., asked]) if *head == KEY_UPDATE_HEAD => {
            match asked {
                0 | 1 => Ok(Content::KeyUpdate {
                    is_answer_asked: *asked == 1,
                }),
                _ => Err(RecordFault::Illegal),
            }
        }
        (Version::Tls12, HANDSHAKE, [CLIENT_HELLO, ..]) => Err(RecordFault::Renegotiation),
        _ => Err(RecordFault::Unexpected),
    }
}
