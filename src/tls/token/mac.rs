//! The one text that is authenticated, and how a host's key comes from the fleet's secret.
//!
//! Every field carries its length, so that no two different tokens have one text; the version
//! stands first, so that no other use of a key has a text of this form.

use super::TokenKeyError;
use super::claims::Claims;
use super::secret::SECRET_BYTES;
use super::secret::Secret;
use aws_lc_rs::hkdf;
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

/// Of the authenticated text.
const VERSION: &str = "oca-url-v1";

/// Of the text that a host's key is derived for.
const KEY_VERSION: &str = "oca-host-key-v1";

/// RFC 1035 section 2.3.4, less the root.
const HOST_BYTES_MAX: usize = 253;

/// What a token admits to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// One key, or `speedtest`.
    Key(&'a str),
    /// Every key below a directory: whole segments, without a slash at the end.
    Directory(&'a str),
}

impl<'a> Scope<'a> {
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::Directory(_) => "directory",
        }
    }

    pub(super) fn path(self) -> &'a str {
        match self {
            Self::Key(path) | Self::Directory(path) => path,
        }
    }
}

/// Lower case, without port, brackets kept, without a dot at the end. `None` for what is no host.
pub fn canonical_host(authority: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(authority).ok()?;
    let host = match text.strip_prefix('[') {
        Some(rest) => {
            let end = rest.find(']')?;
            // With both brackets.
            text.get(..end + 2)?
        }
        None => text.split(':').next()?,
    };
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    is_canonical_host(&host).then_some(host)
}

pub(super) fn is_canonical_host(host: &str) -> bool {
    if let Some(literal) = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return literal.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._~".contains(&b);
    (1..=HOST_BYTES_MAX).contains(&host.len()) && host.bytes().all(good) && !host.ends_with('.')
}

/// The key of a host: HKDF-SHA256 of the fleet's secret, without salt, for key id and host.
pub(super) fn host_key(secret: &Secret, id: &str, host: &str) -> Result<Secret, TokenKeyError> {
    let info = [KEY_VERSION, id, host].map(field).concat();
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]);
    let mut key = Zeroizing::new([0; SECRET_BYTES]);
    let pseudorandom = salt.extract(secret.bytes());
    let failed = |_| TokenKeyError::Random;
    let info = [info.as_bytes()];
    let expanded = pseudorandom.expand(&info, Bytes32);
    expanded
        .and_then(|expanded| expanded.fill(key.as_mut_slice()))
        .map_err(failed)?;
    Ok(Secret::from_bytes(*key))
}

/// The length of what is derived.
struct Bytes32;

impl hkdf::KeyType for Bytes32 {
    fn len(&self) -> usize {
        SECRET_BYTES
    }
}

/// A host's key, ready for use. The library clears its memory.
pub(super) fn ready(key: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key.bytes())
}

/// The text itself, for docs/TOKENS.md and `oca token check`.
pub fn input(host: &str, scope: Scope<'_>, presented: &super::Presented<'_>) -> String {
    text(host, scope, &presented.claims)
}

pub(super) fn text(host: &str, scope: Scope<'_>, claims: &Claims<'_>) -> String {
    let (issued, expires) = (claims.issued.to_string(), claims.expires.to_string());
    let or_nothing = |value: Option<String>| value.unwrap_or_default();
    let client = or_nothing(claims.client.map(|client| client.to_string()));
    let rate = or_nothing(claims.rate.map(|rate| rate.to_string()));
    let fields: [&str; 10] = [
        VERSION,
        host,
        scope.kind(),
        scope.path(),
        &issued,
        &expires,
        claims.id,
        claims.session.unwrap_or_default(),
        &client,
        &rate,
    ];
    fields.map(field).concat()
}

pub(super) fn sign(key: &hmac::Key, text: &str) -> [u8; 32] {
    let tag = hmac::sign(key, text.as_bytes());
    let mut mac = [0; 32];
    // HMAC-SHA256 has 32 bytes.
    for (to, from) in mac.iter_mut().zip(tag.as_ref()) {
        *to = *from;
    }
    mac
}

/// Takes the same time wherever the first difference is.
pub(super) fn fits(key: &hmac::Key, text: &str, mac: &[u8; 32]) -> bool {
    hmac::verify(key, text.as_bytes(), mac).is_ok()
}

/// A netstring: the length in bytes, a colon, the bytes, a comma.
fn field(value: &str) -> String {
    format!("{}:{value},", value.len())
}
