//! What an S3 service says of an object's bytes, compared with what arrives.
//!
//! Services keep a checksum with each upload of a current client (CRC64-NVME by default) and tell
//! it when `x-amz-checksum-mode` asks for it. It finds what TCP and a careless proxy let through.
//! An ETag is never a checksum: of a multipart upload it is no hash of the bytes.

use aws_lc_rs::digest;
use crc_fast::CrcAlgorithm;
use hyper::HeaderMap;
use hyper::header::HeaderName;

/// The request header that makes a service tell what it keeps.
pub(super) const ASK: (HeaderName, &str) =
    (HeaderName::from_static("x-amz-checksum-mode"), "ENABLED");

/// In the order of preference.
const HEADERS: [(&str, Kind); 4] = [
    ("x-amz-checksum-sha256", Kind::Sha256),
    ("x-amz-checksum-crc64nvme", Kind::Crc64),
    ("x-amz-checksum-crc32c", Kind::Crc32C),
    ("x-amz-checksum-crc32", Kind::Crc32),
];

/// Base64 of the longest (SHA-256) has 44 letters.
const TEXT_BYTES_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sha256,
    Crc64,
    Crc32C,
    Crc32,
}

/// The checksum of a whole object, as its service has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checksum {
    kind: Kind,
    /// Base64.
    text: String,
}

/// A checksum in the making.
pub(super) struct Running {
    expected: Checksum,
    state: State,
}

enum State {
    Sha256(digest::Context),
    Crc(Box<crc_fast::Digest>),
}

/// Reads the headers of an answer that carries the whole object. A checksum made of the checksums
/// of parts cannot be compared and does not count.
pub(super) fn told(headers: &HeaderMap) -> Option<Checksum> {
    let composite = |value: &hyper::header::HeaderValue| value.as_bytes() == b"COMPOSITE";
    if headers.get("x-amz-checksum-type").is_some_and(composite) {
        return None;
    }
    HEADERS.iter().find_map(|(name, kind)| {
        let text = headers.get(*name)?.to_str().ok()?;
        let whole = text.len() <= TEXT_BYTES_MAX && !text.contains('-');
        whole.then(|| Checksum {
            kind: *kind,
            text: text.to_owned(),
        })
    })
}

impl Checksum {
    pub(super) fn begin(self) -> Running {
        let state = match self.kind {
            Kind::Sha256 => State::Sha256(digest::Context::new(&digest::SHA256)),
            Kind::Crc64 => State::Crc(crc(CrcAlgorithm::Crc64Nvme)),
            Kind::Crc32C => State::Crc(crc(CrcAlgorithm::Crc32Iscsi)),
            Kind::Crc32 => State::Crc(crc(CrcAlgorithm::Crc32IsoHdlc)),
        };
        Running {
            expected: self,
            state,
        }
    }
}

impl Running {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Sha256(context) => context.update(bytes),
            State::Crc(digest) => digest.update(bytes),
        }
    }

    /// Are these the bytes that the service keeps? `Err` tells both checksums.
    pub(super) fn finish(self) -> Result<(), String> {
        let Checksum { kind, text } = self.expected;
        let arrived = match self.state {
            State::Sha256(context) => base64(context.finish().as_ref()),
            State::Crc(digest) => {
                let all = digest.finalize().to_be_bytes();
                match kind {
                    Kind::Crc32 | Kind::Crc32C => base64(&all[4..]),
                    Kind::Crc64 | Kind::Sha256 => base64(&all),
                }
            }
        };
        if arrived == text {
            return Ok(());
        }
        Err(format!(
            "its {kind:?} is {arrived}, while the origin keeps {text}"
        ))
    }
}

fn crc(algorithm: CrcAlgorithm) -> Box<crc_fast::Digest> {
    Box::new(crc_fast::Digest::new(algorithm))
}

/// RFC 4648 section 4, with padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let byte = |at: usize| usize::from(group.get(at).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let letter = LETTERS[word >> (18 - 6 * place) & 63];
            text.push(if place <= group.len() {
                char::from(letter)
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(name: &'static str, value: &'static str, bytes: &[u8]) -> Option<bool> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        let mut running = told(&headers)?.begin();
        bytes.chunks(4).for_each(|piece| running.update(piece));
        Some(running.finish().is_ok())
    }

    #[test]
    fn each_kind_knows_its_check_value_and_notices_a_changed_byte() {
        // The CRC catalogue's check values of `123456789`; FIPS 180 for SHA-256.
        let sha256 = "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=";
        for (name, value) in [
            ("x-amz-checksum-crc32", "y/Q5Jg=="),
            ("x-amz-checksum-crc32c", "4waSgw=="),
            ("x-amz-checksum-crc64nvme", "rosUhgp5mIg="),
        ] {
            assert_eq!(verdict(name, value, b"123456789"), Some(true), "{name}");
            assert_eq!(verdict(name, value, b"123456780"), Some(false), "{name}");
        }
        let wrong = verdict("x-amz-checksum-sha256", sha256, b"123456780");
        assert_eq!(wrong, Some(false));
        let right = verdict("x-amz-checksum-sha256", sha256, b"123456789");
        assert_eq!(right, Some(true));
    }

    #[test]
    fn checksums_of_parts_do_not_count() {
        assert_eq!(verdict("x-amz-checksum-crc32", "y/Q5Jg==-3", b""), None);
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-checksum-crc32", "y/Q5Jg==".parse().unwrap());
        headers.insert("x-amz-checksum-type", "COMPOSITE".parse().unwrap());
        assert_eq!(told(&headers), None);
        assert_eq!(told(&HeaderMap::new()), None);
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
