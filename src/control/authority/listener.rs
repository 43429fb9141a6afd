//! The link listener's certificate: made at each start, and again before it ends.
//!
//! TLS asks for it at each handshake, so nobody has to restart anything.
//!
//! I/O: looks at the calendar now and then.

use super::Authority;
use super::AuthorityError;
use super::ServerCertificate;
use crate::clock;
use crate::clock::Wall;
use arc_swap::ArcSwap;
use rustls::server::ClientHello;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use std::sync::Arc;
use std::time::Duration;

/// How often the calendar is looked at: it may be set while the timers run on.
const LOOK_EVERY: Duration = Duration::from_secs(3_600);

/// What the listener shows. Clones share it.
#[derive(Clone, Debug)]
pub struct LinkCertificate {
    authority: Arc<Authority>,
    /// Host names and addresses.
    names: Arc<[String]>,
    current: Arc<ArcSwap<Shown>>,
}

#[derive(Debug)]
struct Shown {
    key: Arc<CertifiedKey>,
    made: Wall,
    renew_at: Wall,
}

impl LinkCertificate {
    pub fn new(
        authority: Arc<Authority>,
        names: &[String],
        now: Wall,
    ) -> Result<Self, AuthorityError> {
        let shown = make(&authority, names, now)?;
        Ok(Self {
            authority,
            names: names.into(),
            current: Arc::new(ArcSwap::from_pointee(shown)),
        })
    }

    /// Makes a fresh one if it is time, or if the calendar was set back before this one's making.
    /// Tells whether it did.
    pub fn refresh(&self, now: Wall) -> Result<bool, AuthorityError> {
        let shown = self.current.load();
        if now < shown.renew_at && now >= shown.made {
            return Ok(false);
        }
        let fresh = make(&self.authority, &self.names, now)?;
        self.current.store(Arc::new(fresh));
        Ok(true)
    }

    /// Keeps it fresh for ever.
    pub async fn run(self) {
        loop {
            clock::sleep(LOOK_EVERY).await;
            match self.refresh(clock::wall()) {
                Ok(true) => tracing::info!("the link listener has a fresh certificate"),
                Ok(false) => {}
                Err(error) => tracing::error!(%error, "the link listener's certificate gets old"),
            }
        }
    }
}

impl ResolvesServerCert for LinkCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.load().key))
    }
}

fn make(authority: &Authority, names: &[String], now: Wall) -> Result<Shown, AuthorityError> {
    let ServerCertificate {
        chain,
        key,
        renew_at,
        ..
    } = authority.server(names, now)?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = CertifiedKey::from_der(chain, key, &provider)
        .map_err(|error| AuthorityError::Listener(error.to_string()))?;
    Ok(Shown {
        key: Arc::new(key),
        made: now,
        renew_at,
    })
}
