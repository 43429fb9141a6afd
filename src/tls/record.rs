//! The record layer of TLS 1.2 and 1.3 after a handshake that rustls did: whole records are opened,
//! where they lie or into other memory, and short messages sealed. Sans-IO.
//!
//! `serve::kernel` opens what viewers send when the kernel seals for it; `fill::fetch` reads
//! gigabytes through it, because rustls copies each byte three times. It is strict: whatever an
//! honest library does not send is a [`RecordFault`], with the alert that RFC 8446 or RFC 5246
//! names.

use crate::sys::ktls::Cipher;
use crate::sys::ktls::IV_BYTES;
use crate::sys::ktls::Version;
use aws_lc_rs::aead;
use aws_lc_rs::aead::Aad;
use aws_lc_rs::aead::LessSafeKey;
use aws_lc_rs::aead::Nonce;
use aws_lc_rs::aead::UnboundKey;
use rustls::ConnectionTrafficSecrets as Secrets;
use std::ops::Range;

/// Record types (RFC 8446 section 5.1).
pub const ALERT: u8 = 21;
pub const HANDSHAKE: u8 = 22;
pub const DATA: u8 = 23;

/// RFC 8446 section 4.6.3: a key update that asks for none.
pub const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// The alert that ends a session in good order, and the level of every other one that is sent for
/// a fault (RFC 8446 section 6).
pub const CLOSE_NOTIFY: [u8; 2] = [1, 0];
pub const FATAL: u8 = 2;
const USER_CANCELED: u8 = 90;

/// RFC 5246 section 7.4.1.1: type 0, no length.
const HELLO_REQUEST: [u8; 4] = [0; 4];

/// Type, version, length.
pub const HEADER_BYTES: usize = 5;

/// RFC 8446 section 5.1, RFC 5246 section 6.2.1.
pub const PLAIN_BYTES_MAX: usize = 1 << 14;

/// RFC 8446 section 5.2: 256 for type, padding and tag.
const SEALED_13_BYTES_MAX: usize = PLAIN_BYTES_MAX + 256;

/// What the ciphers of TLS 1.2 here add at most, an explicit nonce and a tag. RFC 5246 section
/// 6.2.3 allows 2048 for ciphers with padding, of which there are none here.
const SEALED_12_BYTES_MAX: usize = PLAIN_BYTES_MAX + EXPLICIT_BYTES + TAG_BYTES;

const TAG_BYTES: usize = 16;
const EXPLICIT_BYTES: usize = 8;

/// RFC 8446 section 4.6.3: type 24, length 1; the request follows.
const KEY_UPDATE_HEAD: [u8; 4] = [24, 0, 0, 1];

/// RFC 8446 section 4: type 4.
pub const NEW_SESSION_TICKET: u8 = 4;

/// RFC 5246 section 7.4: type 1.
const CLIENT_HELLO: u8 = 1;

/// Records under one sealing key. AES-GCM is good for 2^24.5 of full size (RFC 8446 section 5.5);
/// half of that leaves a response time to finish.
pub const RECORDS_MAX: u64 = 1 << 23;

/// The version that every record of TLS 1.2 and 1.3 says it has.
const LEGACY_VERSION: [u8; 2] = [3, 3];

/// One direction's key for one epoch. It opens or it seals: never both, for nonces count records.
pub struct Key {
    pub version: Version,
    pub cipher: Cipher,
    secret: LessSafeKey,
    iv: [u8; IV_BYTES],
    /// Of the next record.
    sequence: u64,
}

/// What one record holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Content<'a> {
    Data(&'a [u8]),
    Alert {
        is_fatal: bool,
        description: u8,
    },
    /// The peer's next record has the next key.
    KeyUpdate {
        is_answer_asked: bool,
    },
    /// Handshake messages of TLS 1.3, of which the first is a new session ticket: a client's.
    Tickets(&'a [u8]),
    /// A server of TLS 1.2 would like to begin anew (RFC 5246 section 7.4.1.1).
    HelloRequest,
}

/// What an alert means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Nothing more comes, in good order.
    Goodbye,
    /// Nothing follows from it.
    Warning,
    Failure,
}

/// Why the peer's bytes cannot be taken. The connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
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
    pub fn alert(self) -> u8 {
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

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("version", &self.version)
            .field("cipher", &self.cipher)
            .finish_non_exhaustive()
    }
}

impl Key {
    /// `iv`: 12 bytes. `sequence`: of the next record. None for a key or IV of another length.
    pub fn new(
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
            secret: LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?),
            iv: iv.try_into().ok()?,
            sequence,
        })
    }

    /// Of a secret that the library gave away; none for a cipher that a later one may add.
    pub fn of(version: Version, secret: &Secrets, sequence: u64) -> Option<Self> {
        let (cipher, key, iv) = parts_of(secret)?;
        Self::new(version, cipher, key, iv, sequence)
    }

    /// Opens the whole record, header and all, where it lies, and judges what it holds.
    pub fn content<'a>(&mut self, record: &'a mut [u8]) -> Result<Content<'a>, RecordFault> {
        let outer = record.first().copied().ok_or(RecordFault::NotAuthentic)?;
        let plain = self.open(record)?;
        self.judge(outer, &record[plain])
    }

    /// As [`Key::content`], but the record stays as it is and is opened into the beginning of
    /// `into`, which has room for [`Key::opened_bytes`] of it. What is there after an error means
    /// nothing.
    pub fn content_into<'a>(
        &mut self,
        record: &[u8],
        into: &'a mut [u8],
    ) -> Result<Content<'a>, RecordFault> {
        let outer = record.first().copied().ok_or(RecordFault::NotAuthentic)?;
        let plain_bytes = self.opened_bytes(record)?;
        let into = into.get_mut(..plain_bytes).ok_or(RecordFault::TooLong)?;
        let (about, nonce) = self.about_and_nonce(record, plain_bytes)?;
        let from = self.content_at();
        let (sealed, tag) = record[from..].split_at(plain_bytes);
        let opened = self
            .secret
            .open_separate_gather(nonce, about, sealed, tag, into);
        opened.map_err(|_| RecordFault::NotAuthentic)?;
        self.sequence = self.sequence.checked_add(1).ok_or(RecordFault::Key)?;
        self.judge(outer, into)
    }

    /// What opening a whole record yields: contents, type and padding.
    pub fn opened_bytes(&self, record: &[u8]) -> Result<usize, RecordFault> {
        let around = self.content_at() + TAG_BYTES;
        let left = record.len().checked_sub(around);
        left.ok_or(RecordFault::NotAuthentic)
    }

    /// What an opened record holds. `outer`: the type in its header.
    fn judge<'a>(&self, outer: u8, plain: &'a [u8]) -> Result<Content<'a>, RecordFault> {
        let (kind, content) = match self.version {
            Version::Tls12 => (outer, plain),
            // RFC 8446 section 5.4: padding counts, and one byte is the type.
            Version::Tls13 if plain.len() > PLAIN_BYTES_MAX + 1 => {
                return Err(RecordFault::TooLong);
            }
            Version::Tls13 => inner(plain)?,
        };
        if content.len() > PLAIN_BYTES_MAX {
            return Err(RecordFault::TooLong);
        }
        match kind {
            DATA => Ok(Content::Data(content)),
            _ => message(self.version, kind, content),
        }
    }

    /// Where in a record its contents begin.
    pub fn content_at(&self) -> usize {
        match self.is_explicit() {
            true => HEADER_BYTES + EXPLICIT_BYTES,
            false => HEADER_BYTES,
        }
    }

    /// Adds one record of `plain`, [`PLAIN_BYTES_MAX`] bytes at most, behind `into`. Its nonce is
    /// made as the library makes them, with explicit halves too, and `sequence` begins where the
    /// library stopped: none comes twice. `Err`: [`RecordFault::TooLong`] for more than a record
    /// holds, [`RecordFault::Key`] once [`RECORDS_MAX`] are sealed.
    pub fn seal(&mut self, kind: u8, plain: &[u8], into: &mut Vec<u8>) -> Result<(), RecordFault> {
        if self.sequence >= RECORDS_MAX {
            return Err(RecordFault::Key);
        }
        let plain_bytes = u16::try_from(plain.len()).map_err(|_| RecordFault::TooLong)?;
        let (outer, tail) = match self.version {
            Version::Tls13 => (DATA, &[kind][..]),
            Version::Tls12 => (kind, &[][..]),
        };
        let explicit = self.is_explicit().then(|| self.counted());
        let length = self.content_at() - HEADER_BYTES + plain.len() + tail.len() + TAG_BYTES;
        let length = u16::try_from(length).map_err(|_| RecordFault::TooLong)?;
        let [major, minor] = LEGACY_VERSION;
        let [high, low] = length.to_be_bytes();
        let header = [outer, major, minor, high, low];
        into.extend_from_slice(&header);
        into.extend_from_slice(explicit.as_ref().map_or(&[], |explicit| explicit));
        let from = into.len();
        into.extend_from_slice(plain);
        into.extend_from_slice(tail);
        let nonce = self.nonce(explicit);
        let sealed = &mut into[from..];
        let tag = match self.version {
            Version::Tls13 => {
                let about = Aad::from(header);
                self.secret.seal_in_place_separate_tag(nonce, about, sealed)
            }
            Version::Tls12 => {
                let about = Aad::from(self.about([outer, major, minor], plain_bytes));
                self.secret.seal_in_place_separate_tag(nonce, about, sealed)
            }
        };
        into.extend_from_slice(tag.map_err(|_| RecordFault::Key)?.as_ref());
        self.sequence += 1;
        Ok(())
    }

    /// RFC 5246 section 6.2.3.3: sequence number, type, version, plain length.
    fn about(&self, kind: [u8; 3], plain_bytes: u16) -> [u8; 13] {
        let mut about = [0; 13];
        about[..8].copy_from_slice(&self.sequence.to_be_bytes());
        about[8..11].copy_from_slice(&kind);
        about[11..].copy_from_slice(&plain_bytes.to_be_bytes());
        about
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
        let half = explicit.unwrap_or_else(|| self.counted());
        let mut nonce = self.iv;
        nonce[IV_BYTES - EXPLICIT_BYTES..].copy_from_slice(&half);
        Nonce::assume_unique_for_key(nonce)
    }

    /// The half of a nonce that counts records.
    fn counted(&self) -> [u8; EXPLICIT_BYTES] {
        let mut half = self.sequence.to_be_bytes();
        let base = &self.iv[IV_BYTES - EXPLICIT_BYTES..];
        half.iter_mut()
            .zip(base)
            .for_each(|(byte, base)| *byte ^= base);
        half
    }

    /// Opens a whole record in place; the range of its plain bytes, padding and all.
    fn open(&mut self, record: &mut [u8]) -> Result<Range<usize>, RecordFault> {
        let plain_bytes = self.opened_bytes(record)?;
        let (about, nonce) = self.about_and_nonce(record, plain_bytes)?;
        let from = self.content_at();
        let opened = self.secret.open_in_place(nonce, about, &mut record[from..]);
        opened.map_err(|_| RecordFault::NotAuthentic)?;
        self.sequence = self.sequence.checked_add(1).ok_or(RecordFault::Key)?;
        Ok(from..from + plain_bytes)
    }

    /// Additional data and nonce of a whole record.
    fn about_and_nonce(
        &self,
        record: &[u8],
        plain_bytes: usize,
    ) -> Result<(Aad<About>, Nonce), RecordFault> {
        let header = record.first_chunk::<HEADER_BYTES>();
        let header = *header.ok_or(RecordFault::NotAuthentic)?;
        let explicit = &record[HEADER_BYTES..self.content_at()];
        let about = match self.version {
            // RFC 8446 section 5.2: the header as it was sent.
            Version::Tls13 => About::Tls13(header),
            Version::Tls12 => {
                let length = u16::try_from(plain_bytes).map_err(|_| RecordFault::TooLong)?;
                let [kind, major, minor, ..] = header;
                About::Tls12(self.about([kind, major, minor], length))
            }
        };
        Ok((Aad::from(about), self.nonce(explicit.try_into().ok())))
    }
}

/// Additional data: what a record's tag vouches for beside its contents.
enum About {
    Tls12([u8; 13]),
    Tls13([u8; HEADER_BYTES]),
}

impl AsRef<[u8]> for About {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Tls12(about) => about,
            Self::Tls13(header) => header,
        }
    }
}

/// What an alert means to who receives it.
pub fn said(version: Version, is_fatal: bool, description: u8) -> Said {
    let is_warning = match version {
        // RFC 8446 section 6.2: the level says nothing.
        Version::Tls13 => description == USER_CANCELED,
        Version::Tls12 => !is_fatal,
    };
    match description {
        description if description == CLOSE_NOTIFY[1] => Said::Goodbye,
        _ if is_warning => Said::Warning,
        _ => Said::Failure,
    }
}

/// The length of the whole record that `bytes` begin with; `None` until all of it is there. Its
/// header is judged as soon as it is there.
pub fn whole(version: Version, bytes: &[u8]) -> Result<Option<usize>, RecordFault> {
    let Some(&[kind, major, minor, high, low]) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let most = match version {
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
    let whole = HEADER_BYTES + length;
    Ok((bytes.len() >= whole).then_some(whole))
}

/// Cipher, key and initialisation vector; none for a cipher that a later library may add.
pub fn parts_of(secret: &Secrets) -> Option<(Cipher, &[u8], &[u8])> {
    let (cipher, key, iv) = match secret {
        Secrets::Aes128Gcm { key, iv } => (Cipher::Aes128Gcm, key, iv),
        Secrets::Aes256Gcm { key, iv } => (Cipher::Aes256Gcm, key, iv),
        Secrets::Chacha20Poly1305 { key, iv } => (Cipher::ChaCha20Poly1305, key, iv),
        _ => return None,
    };
    Some((cipher, key.as_ref(), iv.as_ref()))
}

/// Type and content of a TLS 1.3 record: the last byte that is not padding is the type (RFC 8446
/// section 5.4).
fn inner(plain: &[u8]) -> Result<(u8, &[u8]), RecordFault> {
    let padded = plain.iter().rposition(|byte| *byte != 0);
    let at = padded.ok_or(RecordFault::Unexpected)?;
    Ok((plain[at], &plain[..at]))
}

/// Anything but data. A record holds whole messages: tickets may be several, everything else comes
/// alone, and a key update must end its record (RFC 8446 section 5.1).
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
        (Version::Tls13, HANDSHAKE, [NEW_SESSION_TICKET, ..]) => Ok(Content::Tickets(content)),
        (Version::Tls12, HANDSHAKE, message) if *message == HELLO_REQUEST => {
            Ok(Content::HelloRequest)
        }
        (Version::Tls12, HANDSHAKE, [CLIENT_HELLO, ..]) => Err(RecordFault::Renegotiation),
        _ => Err(RecordFault::Unexpected),
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
