//! The keys: of a fleet (the control plane's, never a box's) and of a host (a box's own names).

use super::SKEW_SECONDS;
use super::TokenKeyError;
use super::mac;
use super::secret::Secret;
use crate::help;
use aws_lc_rs::hmac;
use serde::Deserialize;
use serde::Serialize;
use std::fmt;

/// Longest key id.
const KEY_ID_BYTES_MAX: usize = 16;

/// Names a key in a URL: 1 to 16 letters, digits, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct KeyId(String);

/// One secret of a fleet. It signs from `from` on, until the next one does; what it signed is good
/// until `until` at most. Both in seconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetKey {
    pub id: KeyId,
    pub from: u64,
    pub until: u64,
    pub secret: Secret,
}

/// All secrets of a fleet: the last one, the current one, the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetSecret(Vec<FleetKey>);

/// The key of one host name for one key id. Whoever has it can sign for that host alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawHostKey")]
pub struct HostKey {
    /// Canonical: lower case, no port.
    pub host: String,
    pub id: KeyId,
    /// Seconds since the Unix epoch; good from `from` to `until`.
    pub from: u64,
    pub until: u64,
    pub key: Secret,
}

/// Mirrors the JSON.
#[derive(Deserialize)]
struct RawHostKey {
    host: String,
    id: KeyId,
    from: u64,
    until: u64,
    key: Secret,
}

/// What may be shown of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostKeyView {
    pub host: String,
    pub id: KeyId,
    pub from: u64,
    pub until: u64,
}

/// A box's keys, ready for use. Immutable; replaced whole.
#[derive(Clone, Default)]
pub struct Keyring(Vec<(HostKey, hmac::Key)>);

pub(super) fn is_key_id(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=KEY_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(good)
}

impl KeyId {
    pub fn parse(text: &str) -> Result<Self, TokenKeyError> {
        if is_key_id(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(TokenKeyError::KeyId(help::printable(text.as_bytes(), 40)))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.0
    }
}

impl TryFrom<String> for KeyId {
    type Error = TokenKeyError;

    fn try_from(text: String) -> Result<Self, TokenKeyError> {
        Self::parse(&text)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FleetSecret {
    /// Sorted by the time from which each signs; ids differ and each is good for some time.
    pub fn new(mut keys: Vec<FleetKey>) -> Result<Self, TokenKeyError> {
        keys.sort_by(|a, b| (a.from, &a.id).cmp(&(b.from, &b.id)));
        for (at, key) in keys.iter().enumerate() {
            if key.from >= key.until {
                return Err(TokenKeyError::Period(key.id.to_string()));
            }
            if keys.iter().skip(at + 1).any(|other| other.id == key.id) {
                return Err(TokenKeyError::Twice(key.id.to_string()));
            }
        }
        Ok(Self(keys))
    }

    pub fn keys(&self) -> &[FleetKey] {
        &self.0
    }

    /// The one that signs: of those in force, the one that began last.
    pub fn signing(&self, now: u64) -> Option<&FleetKey> {
        let in_force = |key: &&FleetKey| (key.from..key.until).contains(&now);
        self.0.iter().rfind(in_force)
    }

    /// What a box with these names is to have: every key that has not ended, for each name.
    pub fn host_keys(&self, hosts: &[String], now: u64) -> Result<Vec<HostKey>, TokenKeyError> {
        let alive = self.0.iter().filter(|key| now < key.until);
        let pairs = alive.flat_map(|key| hosts.iter().map(move |host| (key, host)));
        pairs.map(|(key, host)| key.host_key(host)).collect()
    }
}

impl FleetKey {
    /// `host`: canonical.
    pub fn host_key(&self, host: &str) -> Result<HostKey, TokenKeyError> {
        if !mac::is_canonical_host(host) {
            return Err(TokenKeyError::Host(help::printable(host.as_bytes(), 80)));
        }
        Ok(HostKey {
            host: host.to_owned(),
            id: self.id.clone(),
            from: self.from,
            until: self.until,
            key: mac::host_key(&self.secret, self.id.as_str(), host)?,
        })
    }
}

impl HostKey {
    /// A token's MAC may be checked with it at `now`, on a clock that is a little ahead or behind.
    pub(super) fn is_in_force(&self, now: u64) -> bool {
        now.saturating_add(SKEW_SECONDS) >= self.from && now < self.until
    }

    fn view(&self) -> HostKeyView {
        HostKeyView {
            host: self.host.clone(),
            id: self.id.clone(),
            from: self.from,
            until: self.until,
        }
    }
}

impl TryFrom<RawHostKey> for HostKey {
    type Error = TokenKeyError;

    fn try_from(raw: RawHostKey) -> Result<Self, TokenKeyError> {
        if !mac::is_canonical_host(&raw.host) {
            return Err(TokenKeyError::Host(help::printable(
                raw.host.as_bytes(),
                80,
            )));
        }
        if raw.from >= raw.until {
            return Err(TokenKeyError::Period(raw.id.to_string()));
        }
        Ok(Self {
            host: raw.host,
            id: raw.id,
            from: raw.from,
            until: raw.until,
            key: raw.key,
        })
    }
}

impl Keyring {
    pub fn new(keys: Vec<HostKey>) -> Self {
        let ready = |key: HostKey| {
            let mac = mac::ready(&key.key);
            (key, mac)
        };
        Self(keys.into_iter().map(ready).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// With the keys themselves: for the file that keeps them.
    pub fn keys(&self) -> impl Iterator<Item = &HostKey> {
        self.0.iter().map(|(key, _)| key)
    }

    pub fn view(&self) -> Vec<HostKeyView> {
        self.keys().map(HostKey::view).collect()
    }

    pub(super) fn has_host(&self, host: &str) -> bool {
        self.keys().any(|key| key.host == host)
    }

    /// Every key of that name and id: a file and the control plane may both have given one.
    pub(super) fn find<'k>(
        &'k self,
        host: &'k str,
        id: &'k str,
    ) -> impl Iterator<Item = (&'k HostKey, &'k hmac::Key)> {
        let is_it = move |key: &HostKey| key.host == host && key.id.as_str() == id;
        let found = self.0.iter().filter(move |(key, _)| is_it(key));
        found.map(|(key, mac)| (key, mac))
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.view()).finish()
    }
}
