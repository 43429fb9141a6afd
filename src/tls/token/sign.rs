//! Making tokens: the control plane's steering, `oca token make`, tests.

use super::claims;
use super::claims::Claims;
use super::claims::ClientPrefix;
use super::keys::HostKey;
use super::mac;
use super::mac::Scope;
use crate::key;
use crate::units::BytesPerSecond;

/// The one path that is no key and may need a token.
const SPEEDTEST: &str = "speedtest";

/// What is to be signed.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    pub scope: Scope<'a>,
    /// Seconds since the Unix epoch.
    pub issued: u64,
    pub expires: u64,
    pub session: Option<&'a str>,
    pub client: Option<ClientPrefix>,
    pub rate: Option<BytesPerSecond>,
}

/// A token as it stands in a URL: `/t/<token>/<key>` for a directory, `?<token>` for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed(pub String);

/// Why nothing was signed. The message says what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    #[error("`{0}` is no key or directory: {1}")]
    Path(String, key::KeyError),
    #[error("a session id has 1 to 64 letters, digits, `-` and `_`")]
    Session,
    #[error("the token ends before it is issued; let it end later")]
    Times,
    #[error("a rate of nothing lets nothing through; leave it out, or write more")]
    Rate,
}

/// Signs for the host of `key`.
pub fn sign(key: &HostKey, claim: &Claim<'_>) -> Result<Signed, SignError> {
    let path = claim.scope.path();
    let is_speedtest = claim.scope == Scope::Key(SPEEDTEST);
    if let (false, Err(error)) = (is_speedtest, key::check(path.as_bytes())) {
        return Err(SignError::Path(path.to_owned(), error));
    }
    if claim.session.is_some_and(|text| !claims::is_session(text)) {
        return Err(SignError::Session);
    }
    if claim.expires <= claim.issued {
        return Err(SignError::Times);
    }
    if claim.rate == Some(BytesPerSecond(0)) {
        return Err(SignError::Rate);
    }
    let claims = Claims {
        issued: claim.issued,
        expires: claim.expires,
        id: key.id.as_str(),
        session: claim.session,
        client: claim.client,
        rate: claim.rate.map(|rate| rate.0),
    };
    let text = mac::text(&key.host, claim.scope, &claims);
    let mac = mac::sign(&mac::ready(&key.key), &text);
    Ok(Signed(match claim.scope {
        Scope::Key(_) => claims.write(None, &mac, '&'),
        Scope::Directory(path) => claims.write(Some(path.split('/').count()), &mac, ','),
    }))
}
