//! The fleet's secret at work: steering's URLs are signed with it, and each box is told the keys of
//! its own names.
//!
//! `parts` keeps the file's content up to date and hands it to `steer` and `fleet`. docs/TOKENS.md
//! has the form of a token.
//!
//! I/O: [`follow`] reads the file, sleeps.

use super::TokensConfig;
use super::model::Appliance;
use super::steer::Steering;
use crate::clock;
use crate::clock::Wall;
use crate::link::message::ViewerKeys;
use crate::prefix::Family;
use crate::tls::token;
use crate::tls::token::Claim;
use crate::tls::token::FleetSecret;
use crate::tls::token::KeyFileError;
use crate::tls::token::Scope;
use crate::tls::token::Signed;
use crate::tls::token::TokenKeyError;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The file is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Immutable; swapped whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signing {
    pub secret: FleetSecret,
    /// How long a URL is good.
    pub lifetime: Duration,
    /// What box names end in.
    pub domain: String,
}

/// What those who sign hold; `None`: nothing is signed.
pub type Current = Option<Arc<Signing>>;

/// A path and query that admit to a key, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedPath {
    pub text: String,
    pub expires: u64,
}

impl Signing {
    /// For a box: the keys of its three names. It may be asked by each of them, whatever addresses
    /// the registry knows.
    pub fn keys_of(&self, appliance: &Appliance, now: Wall) -> Result<ViewerKeys, TokenKeyError> {
        let families = [None, Some(Family::Ipv4), Some(Family::Ipv6)];
        let hosts = families.map(|family| appliance.host_name(family, &self.domain));
        Ok(ViewerKeys {
            lifetime_s: self.lifetime.as_secs(),
            keys: self.secret.host_keys(&hosts, clock::unix_seconds(now))?,
        })
    }

    /// `/t/<token>/<key>` for the key's whole directory, so that the relative URLs of a playlist
    /// inherit it; `/<key>?<token>` for a key without a directory. `is_directory`: the key itself
    /// is one. `None` while no key is in force.
    pub fn path(
        &self,
        host: &str,
        key: &str,
        is_directory: bool,
        session: Option<&str>,
        now: Wall,
    ) -> Option<SignedPath> {
        let issued = clock::unix_seconds(now);
        let fleet_key = self.secret.signing(issued)?;
        let expires = issued.saturating_add(self.lifetime.as_secs());
        let expires = expires.min(fleet_key.until);
        let scope = match key.rsplit_once('/') {
            _ if is_directory => Scope::Directory(key),
            Some((directory, _)) => Scope::Directory(directory),
            None => Scope::Key(key),
        };
        let claim = Claim {
            scope,
            issued,
            expires,
            session,
            client: None,
            rate: None,
        };
        let Signed(token) = token::sign(&fleet_key.host_key(host).ok()?, &claim).ok()?;
        let text = match scope {
            Scope::Directory(_) => format!("t/{token}/{key}"),
            Scope::Key(_) => format!("{key}?{token}"),
        };
        Some(SignedPath { text, expires })
    }
}

/// What a reply tells a box. Derived for each report: cheaper than keeping them for a fleet.
pub fn told(current: &Current, to: Option<&Appliance>, now: Wall) -> Option<ViewerKeys> {
    current.as_ref()?.keys_of(to?, now).ok()
}

/// Reads the file. At start an unreadable one is an error; later the old content stays.
pub fn load(config: &TokensConfig, domain: &str) -> Result<Current, KeyFileError> {
    let Some(path) = &config.secret_file else {
        return Ok(None);
    };
    Ok(Some(Arc::new(Signing {
        secret: token::load_fleet(path)?,
        lifetime: config.lifetime,
        domain: domain.to_owned(),
    })))
}

/// Takes a changed file, for as long as the control plane runs.
pub(super) async fn follow(
    config: TokensConfig,
    domain: String,
    steering: Arc<Steering>,
    current: watch::Sender<Current>,
) -> &'static str {
    let mut complained = false;
    loop {
        warn_of_the_end(&current.borrow());
        clock::sleep(LOOK_EVERY).await;
        let (again, suffix) = (config.clone(), domain.clone());
        let read = tokio::task::spawn_blocking(move || load(&again, &suffix)).await;
        match read {
            Ok(Ok(fresh)) => {
                complained = false;
                if *current.borrow() == fresh {
                    continue;
                }
                tracing::info!("the secrets of viewers' URLs were read again");
                steering.sign_with(fresh.clone());
                current.send_replace(fresh);
            }
            Ok(Err(error)) => {
                if !std::mem::replace(&mut complained, true) {
                    tracing::error!(%error, "the old secrets of viewers' URLs go on: {error}");
                }
            }
            Err(_) => return "the reading of the viewers' secret",
        }
    }
}

/// A fleet whose last secret ends stops signing.
fn warn_of_the_end(current: &Current) {
    let Some(signing) = current else {
        return;
    };
    let now = clock::unix_seconds(clock::wall());
    let soon = now.saturating_add(signing.lifetime.as_secs().saturating_mul(2));
    if signing.secret.signing(soon).is_none() {
        tracing::warn!(
            "the last secret of viewers' URLs ends within two lifetimes of a URL; add the next one \
             with `oca control secret rotate`"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::token::Asked;
    use crate::tls::token::FleetKey;
    use crate::tls::token::KeyId;
    use crate::tls::token::Keyring;
    use crate::tls::token::Presented;
    use crate::tls::token::Secret;

    const HOST: &str = "ipv4-c001-lhr001-ix.oca.example.net";

    fn signing(until: u64) -> Signing {
        let key = FleetKey {
            id: KeyId::parse("a1").unwrap(),
            from: 1_000,
            until,
            secret: Secret::from_bytes([9; 32]),
        };
        Signing {
            secret: FleetSecret::new(vec![key]).unwrap(),
            lifetime: Duration::from_secs(600),
            domain: "oca.example.net".to_owned(),
        }
    }

    #[test]
    fn what_is_signed_is_admitted_by_the_keys_that_the_box_is_told() {
        let signing = signing(1_000_000);
        let now: Wall = Wall::from_second(2_000).unwrap();
        let keys = signing.secret.host_keys(&[HOST.to_owned()], 2_000).unwrap();
        let ring = Keyring::new(keys);
        let key = "film/v1/hd/seg-1.m4s";
        let signed = signing.path(HOST, key, false, Some("s-1"), now).unwrap();
        assert_eq!(signed.expires, 2_600);
        let rest = signed.text.strip_prefix("t/").unwrap();
        let (token, path) = rest.split_once('/').unwrap();
        assert_eq!(path, key);
        let asked = |key| Asked {
            host: Some(HOST.as_bytes()),
            key,
            client: "192.0.2.1".parse().unwrap(),
            now: Some(2_000),
        };
        let presented = Presented::from_path(token).unwrap();
        let other = "film/v1/hd/seg-2.m4s";
        let pass = token::check(&[&ring], &presented, &asked(other)).unwrap();
        assert_eq!(pass.session.as_deref(), Some("s-1"));
        let whole = signing.path(HOST, "film/v1/hd", true, None, now).unwrap();
        assert!(whole.text.starts_with("t/d=3,"));
        let alone = signing.path(HOST, "clip.mp4", false, None, now).unwrap();
        let (path, query) = alone.text.split_once('?').unwrap();
        let presented = Presented::from_query(query.as_bytes()).unwrap().unwrap();
        assert!(token::check(&[&ring], &presented, &asked(path)).is_ok());
    }

    #[test]
    fn no_url_outlives_its_key_and_without_a_key_nothing_is_signed() {
        let now: Wall = Wall::from_second(2_000).unwrap();
        let ends = signing(2_100).path(HOST, "a/b", false, None, now).unwrap();
        assert_eq!(ends.expires, 2_100);
        assert_eq!(signing(2_000).path(HOST, "a/b", false, None, now), None);
    }
}
