//! The link listener's certificate, made anew before its end while connections go on.
//!
//! I/O: waits for the time of renewal.

use super::authority::Authority;
use super::authority::AuthorityError;
use super::authority::ServerCertificate;
use crate::clock;
use crate::clock::Wall;
use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::server::ClientHello;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use std::sync::Arc;
use std::time::Duration;

/// Suspended machines and set clocks are noticed this soon.
const LOOK_EVERY: Duration = Duration::from_secs(3_600);

/// Shown to whoever connects.
#[derive(Debug)]
pub(super) struct LinkCertificate {
    current: ArcSwap<CertifiedKey>,
}

impl LinkCertificate {
    /// The first one, and when to make the next.
    pub(super) fn make(
        authority: &Authority,
        names: &[String],
    ) -> Result<(Arc<Self>, Wall), AuthorityError> {
        let made = authority.server(names, clock::wall())?;
        let renew_at = made.renew_at;
        let current = ArcSwap::from_pointee(certified(made)?);
        Ok((Arc::new(Self { current }), renew_at))
    }

    /// Replaces it in time, for ever. A failure leaves the old one and is tried again.
    pub(super) async fn keep(
        self: Arc<Self>,
        authority: Arc<Authority>,
        names: Vec<String>,
        mut renew_at: Wall,
    ) {
        loop {
            clock::sleep(LOOK_EVERY).await;
            if clock::wall() < renew_at {
                continue;
            }
            let made = authority.server(&names, clock::wall());
            let renewed = made.and_then(|made| Ok((made.renew_at, certified(made)?)));
            match renewed {
                Ok((next, certified)) => {
                    self.current.store(Arc::new(certified));
                    renew_at = next;
                    tracing::info!("the link listener has a fresh certificate");
                }
                Err(error) => tracing::error!(%error, "the link's certificate was not renewed"),
            }
        }
    }
}

impl ResolvesServerCert for LinkCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn certified(made: ServerCertificate) -> Result<CertifiedKey, AuthorityError> {
    let key = any_supported_type(&made.key)?;
    Ok(CertifiedKey::new(made.chain, key))
}
