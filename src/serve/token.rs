//! Tokens at the door: must a viewer show one, is it good, and what does it grant?
//!
//! `answer` asks before it looks for anything; `tls::token` decides. What the control plane
//! delivers and what is known of the clock come by [`TokenFeed`]: serving waits for neither.
//! Nothing of a key or a MAC leaves this file.

use super::Limits;
use super::admit::Admission;
use super::answer::Refused;
use super::counters::Refusal;
use super::request::Head;
use super::request::Method;
use super::sessions::Sessions;
use super::target::Route;
use super::target::Target;
use crate::clock;
use crate::clock::Instant;
use crate::clock::Wall;
use crate::tls::token;
use crate::tls::token::Asked;
use crate::tls::token::HostKeyView;
use crate::tls::token::Keyring;
use crate::tls::token::Pass;
use crate::tls::token::Presented;
use crate::tls::token::TokenFault;
use arc_swap::ArcSwap;
use serde::Serialize;
use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Steering goes on naming a box for so long after it has closed: a silent box is left after 25 s,
/// and clocks are not equal. Who was sent here in that time is served.
const STEERING_LAG: Duration = Duration::from_secs(60);

/// What a token must name to admit to the speed test.
const SPEEDTEST: &str = "speedtest";

/// `[serve.tokens]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TokensConfig {
    pub mode: TokenMode,
    /// Keys of this box's names, beside those that the control plane delivers.
    pub key_file: Option<PathBuf>,
}

/// What becomes of viewers without a good token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenMode {
    /// Served; a token in a URL does not count.
    #[default]
    Off,
    /// Served without one; a bad one is refused.
    Optional,
    /// Refused.
    Required,
}

/// How the wiring tells serving what it learns: keys from the control plane, and whether the clock
/// can be believed. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct TokenFeed(Arc<Feed>);

#[derive(Debug, Default)]
struct Feed {
    delivered: ArcSwap<Keyring>,
    clock_is_sane: AtomicBool,
}

/// What serving shows of its tokens.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TokensView {
    pub mode: TokenMode,
    pub clock_is_sane: bool,
    /// Times in seconds since the Unix epoch.
    pub keys: Vec<HostKeyView>,
}

/// What a reload changes.
#[derive(Debug, Default)]
pub(super) struct TokenSettings {
    pub(super) mode: TokenMode,
    pub(super) of_file: Keyring,
}

/// Everything that judges one request.
pub(super) struct Guard<'a> {
    pub(super) settings: &'a TokenSettings,
    pub(super) feed: &'a TokenFeed,
    pub(super) sessions: &'a Sessions,
    pub(super) limits: &'a Limits,
    pub(super) client: IpAddr,
    pub(super) now: Instant,
    pub(super) wall: Wall,
    /// For how long the gate has been closed, and why; `None` while it is open.
    pub(super) closed: Option<(Duration, Arc<str>)>,
    /// What a good token granted; `admit` leaves it here.
    pub(super) pass: Option<Pass>,
}

impl TokenFeed {
    /// The keys from here on, whole. Open connections go on.
    pub fn deliver(&self, keys: Keyring) {
        self.0.delivered.store(Arc::new(keys));
    }

    pub fn clock_is_sane(&self, sane: bool) {
        self.0.clock_is_sane.store(sane, Relaxed);
    }

    pub(super) fn view(&self, settings: &TokenSettings) -> TokensView {
        TokensView {
            mode: settings.mode,
            clock_is_sane: self.0.clock_is_sane.load(Relaxed),
            keys: [settings.of_file.view(), self.0.delivered.load().view()].concat(),
        }
    }
}

impl TokenSettings {
    /// I/O: reads the key file.
    pub(super) fn load(config: &TokensConfig) -> Result<Self, token::KeyFileError> {
        let keys = config
            .key_file
            .as_deref()
            .map(token::load_host)
            .transpose()?;
        Ok(Self {
            mode: config.mode,
            of_file: Keyring::new(keys.unwrap_or_default()),
        })
    }
}

impl Guard<'_> {
    /// May this request be answered? The gate's word and the token's, in one: of a closed box,
    /// whoever was sent here before it closed is still served.
    pub(super) fn admit(
        &mut self,
        head: &Head<'_, '_>,
        admission: &Admission,
    ) -> Result<(), Refused> {
        let by_gate = match admission {
            Admission::Open | Admission::Lingering => Ok(()),
            Admission::Closed(reasons) => Err(Refused::closed(reasons)),
        };
        // A preflight carries no more than a browser's curiosity.
        let is_free = head.method == Method::Options && by_gate.is_ok();
        if self.settings.mode == TokenMode::Off || is_free {
            return by_gate;
        }
        let Target::Path(path) = head.target else {
            return by_gate;
        };
        let (key, in_path) = match Route::parse(path) {
            Ok(Route::Content(place, token)) => (place.key, token),
            Ok(Route::Speedtest(_)) => (SPEEDTEST, None),
            // It names nothing here, which is told without a token.
            Err(_) => return by_gate,
        };
        let judged = self.judge(head, key, in_path);
        match (judged, &self.closed, self.settings.mode) {
            (Ok(Some(pass)), closed, _) => {
                if let Some((time, reasons)) = closed
                    && !self.may_linger(&pass, *time)
                {
                    return Err(Refused::closed(reasons));
                }
                self.pass = Some(pass);
                Ok(())
            }
            (Ok(None), _, TokenMode::Optional | TokenMode::Off) => by_gate,
            (Ok(None), _, TokenMode::Required) => {
                by_gate.and_then(|()| Err(TokenFault::Missing.into()))
            }
            (Err(fault), _, _) => by_gate.and_then(|()| Err(fault.into())),
        }
    }

    fn judge(
        &self,
        head: &Head<'_, '_>,
        key: &str,
        in_path: Option<&str>,
    ) -> Result<Option<Pass>, TokenFault> {
        let presented = match in_path {
            Some(text) => Some(Presented::from_path(text)?),
            None => Presented::from_query(head.query)?,
        };
        let Some(presented) = presented else {
            return Ok(None);
        };
        let now = match (self.feed.0.clock_is_sane.load(Relaxed), self.settings.mode) {
            (true, _) => Some(clock::unix_seconds(self.wall)),
            (false, TokenMode::Required) => return Err(TokenFault::Clock),
            // Whoever leaves the token out is served, so its times keep nobody away.
            (false, TokenMode::Optional | TokenMode::Off) => None,
        };
        let asked = Asked {
            host: head.host,
            key,
            client: self.client,
            now,
        };
        let delivered = self.feed.0.delivered.load();
        token::check(&[&self.settings.of_file, &delivered], &presented, &asked).map(Some)
    }

    /// Was this viewer sent here before the box closed, or is it one that plays?
    fn may_linger(&self, pass: &Pass, closed_for: Duration) -> bool {
        let closed_at = self.wall.checked_sub(closed_for).unwrap_or(self.wall);
        let last = closed_at.checked_add(STEERING_LAG).unwrap_or(closed_at);
        let was_sent_before = pass.issued <= clock::unix_seconds(last);
        let plays = |session: &String| {
            let time = self.limits.linger_time;
            self.sessions.fetched_within(session, time, self.now)
        };
        closed_for < self.limits.linger_limit
            && (was_sent_before || pass.session.as_ref().is_some_and(plays))
    }
}

impl From<TokenFault> for Refused {
    fn from(fault: TokenFault) -> Self {
        let counted = match fault {
            TokenFault::Missing => Refusal::TokenMissing,
            TokenFault::Malformed(_) => Refusal::TokenMalformed,
            TokenFault::Host => Refusal::TokenHost,
            TokenFault::KeyId => Refusal::TokenKeyId,
            TokenFault::Expired => Refusal::TokenExpired,
            TokenFault::Early => Refusal::TokenEarly,
            TokenFault::Client => Refusal::TokenClient,
            TokenFault::Scope => Refusal::TokenScope,
            TokenFault::Mac => Refusal::TokenMac,
            TokenFault::Clock => Refusal::TokenClock,
        };
        Self::by_token(fault == TokenFault::Clock, fault.to_string(), counted)
    }
}

/// The path for the access log: whoever reads the log shall not be able to fetch with it. A path
/// that is refused for its spelling may hold a good token: wherever one can stand, it is left out.
pub(super) fn without_token(path: &[u8]) -> Cow<'_, [u8]> {
    if !path.starts_with(b"/t/") && !path.starts_with(b"//") && !may_hold_token(path) {
        return Cow::Borrowed(path);
    }
    let mut shown = Vec::with_capacity(path.len());
    // The names before this one: none, `t` alone, or any.
    let (mut is_first, mut is_token) = (true, false);
    for (number, name) in path.split(|byte| *byte == b'/').enumerate() {
        if number > 0 {
            shown.push(b'/');
        }
        let is_hidden = !name.is_empty() && (is_token || may_hold_token(name));
        shown.extend_from_slice(if is_hidden { b"-" } else { name });
        if !name.is_empty() {
            is_token = is_first && name == b"t";
            is_first = false;
        }
    }
    Cow::Owned(shown)
}

/// A token is made of `name=value`. No key has that character, nor any that is encoded: `%3D`, or
/// `%253D` where somebody encoded twice.
pub(super) fn may_hold_token(text: &[u8]) -> bool {
    let encoded = |pair: &[u8]| pair.eq_ignore_ascii_case(b"3d");
    text.contains(&b'=') || (text.contains(&b'%') && text.windows(2).any(encoded))
}

impl fmt::Display for TokenMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Optional => "optional",
            Self::Required => "required",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_access_log_shows_no_token() {
        let shown = |path: &'static str| without_token(path.as_bytes()).into_owned();
        assert_eq!(shown("/t/d=1,t=secret/film/a"), b"/t/-/film/a");
        assert_eq!(shown("/t/secret"), b"/t/-");
        assert_eq!(shown("/title/t/a"), b"/title/t/a");
        for (path, safe) in [
            ("//t/e=1,t=secret/film/a", "//t/-/film/a"),
            ("///t//secret/film", "///t//-/film"),
            ("//film/a", "//film/a"),
            ("/x/../t/e=1,t=secret/a", "/x/../t/-/a"),
            ("/T/e=1,t=secret/a", "/T/-/a"),
            ("/%74/e%3D1%2ct%3dsecret/a", "/%74/-/a"),
            ("/t%2Fe=1,t=secret%2Fa", "/-"),
            ("/t/e%253d1,t%253Dsecret", "/t/-"),
            ("/film%20one/3d.m4s", "/film%20one/3d.m4s"),
        ] {
            let shown = String::from_utf8(shown(path)).unwrap();
            assert_eq!(shown, safe, "{path}");
        }
    }
}
