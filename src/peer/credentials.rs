//! The TLS configuration for the certificate that the box has at the moment.
//!
//! Certificates renew while the daemon runs: a connection gets the configuration of the identity
//! that is valid when it comes, and building one for each would cost more than the handshake.

use crate::link::identity::Credentials;
use crate::link::identity::Identity;
use crate::link::peering;
use rustls::ServerConfig;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

#[derive(Default)]
pub(super) struct Cache(Mutex<Option<(Arc<Credentials>, Arc<ServerConfig>)>>);

impl Cache {
    /// `Err`: in words; the box is not enrolled, or its certificate cannot be used.
    pub(super) fn config(&self, identity: &Identity) -> Result<Arc<ServerConfig>, String> {
        let Some(credentials) = identity.credentials() else {
            return Err("this box is not enrolled yet".to_owned());
        };
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*held {
            Some((of, config)) if Arc::ptr_eq(of, credentials) => Ok(Arc::clone(config)),
            Some(_) | None => {
                let config =
                    peering::box_server_config(identity).map_err(|error| error.to_string())?;
                *held = Some((Arc::clone(credentials), Arc::clone(&config)));
                Ok(config)
            }
        }
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cache")
    }
}
