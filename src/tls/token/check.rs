//! Is this token good for this request? Called by `serve` for each request, by `oca token check`.
//!
//! Sans-IO. What is cheap and says most comes first; nothing is admitted before the MAC fits.

use super::SKEW_SECONDS;
use super::claims::Presented;
use super::keys::Keyring;
use super::mac;
use super::mac::Scope;
use crate::units::BytesPerSecond;
use std::net::IpAddr;

/// What is asked for, by whom and when.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Host and port as the viewer wrote them; `None`: it named none.
    pub host: Option<&'a [u8]>,
    /// A valid key, or `speedtest`.
    pub key: &'a str,
    pub client: IpAddr,
    /// Seconds since the Unix epoch; `None`: the clock is not to be trusted, and times are not
    /// judged. Only for boxes that serve without tokens too.
    pub now: Option<u64>,
}

/// What a good token grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Seconds since the Unix epoch.
    pub issued: u64,
    pub expires: u64,
    pub session: Option<String>,
    /// The viewer is to get no more than this.
    pub rate: Option<BytesPerSecond>,
}

/// Why a request is refused. The text goes to the viewer: it helps whoever writes the player or
/// signs the URLs, and says nothing of any key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    #[error("a token is needed: get a signed URL from steering or from your back end")]
    Missing,
    #[error("malformed token: {0}")]
    Malformed(&'static str),
    #[error("wrong host: sign for the name in the URL, which must be one of this box's own")]
    Host,
    #[error("unknown key id: sign with a key of this fleet that is in force")]
    KeyId,
    #[error("expired: get a fresh URL")]
    Expired,
    #[error("not valid yet: it was issued later than this moment; check the signer's clock")]
    Early,
    #[error("wrong client: the token is for another network than the viewer's")]
    Client,
    #[error("wrong key: the token covers a directory that this key is not in")]
    Scope,
    #[error("bad MAC: the token is for another host or key, or a part of it was changed")]
    Mac,
    #[error("this box's clock is not set, so no token can be judged; try another box")]
    Clock,
}

/// Decides. `rings` are looked at in their order.
pub fn check(
    rings: &[&Keyring],
    presented: &Presented<'_>,
    asked: &Asked<'_>,
) -> Result<Pass, TokenFault> {
    let claims = &presented.claims;
    let host = asked.host.and_then(mac::canonical_host);
    let host = host.ok_or(TokenFault::Host)?;
    if !rings.iter().any(|ring| ring.has_host(&host)) {
        return Err(TokenFault::Host);
    }
    let is_in_force = |key: &super::HostKey| asked.now.is_none_or(|now| key.is_in_force(now));
    let found = rings.iter().flat_map(|ring| ring.find(&host, claims.id));
    let keys: Vec<_> = found.filter(|(key, _)| is_in_force(key)).collect();
    if keys.is_empty() {
        return Err(TokenFault::KeyId);
    }
    if let Some(now) = asked.now {
        if now >= claims.expires {
            return Err(TokenFault::Expired);
        }
        if claims.issued > now.saturating_add(SKEW_SECONDS) {
            return Err(TokenFault::Early);
        }
    }
    if claims
        .client
        .is_some_and(|client| !client.contains(asked.client))
    {
        return Err(TokenFault::Client);
    }
    let scope = presented.scope(asked.key).ok_or(TokenFault::Scope)?;
    let text = mac::text(&host, scope, claims);
    if !keys
        .iter()
        .any(|(_, key)| mac::fits(key, &text, &presented.mac))
    {
        return Err(TokenFault::Mac);
    }
    Ok(Pass {
        issued: claims.issued,
        expires: claims.expires,
        session: claims.session.map(str::to_owned),
        rate: claims.rate.map(BytesPerSecond),
    })
}

impl Presented<'_> {
    /// What the token must have been signed for if it is to admit to `key`; `None`: it covers a
    /// directory that is too deep for it.
    pub fn scope<'k>(&self, key: &'k str) -> Option<Scope<'k>> {
        match self.depth {
            None => Some(Scope::Key(key)),
            Some(depth) => first_segments(key, depth).map(Scope::Directory),
        }
    }
}

/// The first `depth` whole segments of `key`, if there is more behind them.
fn first_segments(key: &str, depth: u64) -> Option<&str> {
    let depth = usize::try_from(depth).ok()?.checked_sub(1)?;
    let (end, _) = key.match_indices('/').nth(depth)?;
    key.get(..end)
}
