//! Who is at the other end: read from the certificate that the handshake verified, from nothing
//! else (SAFETY: identity is the certificate's URI SAN).

use crate::clock::Wall;
use crate::control::fleet::Refused;
use crate::control::model::Registry;
use crate::ids::BoxId;
use crate::link::identity;
use crate::link::identity::RENEWABLE_AFTER_END;
use crate::link::message::Code;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::FromDer;
use x509_parser::prelude::X509Certificate;

/// A box that showed its certificate.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) id: BoxId,
    pub(super) certificate: CertificateDer<'static>,
    /// Of its public key, as the registry has it.
    key: String,
    ends: Wall,
}

impl Peer {
    /// Of the chain that was verified, leaf first.
    pub(super) fn of(chain: &[CertificateDer<'_>]) -> Result<Option<Self>, Refused> {
        let Some(leaf) = chain.first() else {
            return Ok(None);
        };
        let unreadable =
            |error: identity::IdentityError| Refused::new(Code::Identity, error.to_string());
        Ok(Some(Self {
            id: identity::box_of(leaf).map_err(unreadable)?,
            key: identity::key_fingerprint_of_certificate(leaf).map_err(unreadable)?,
            ends: ends(leaf)?,
            certificate: leaf.clone().into_owned(),
        }))
    }

    /// Does the registry still want to hear of it? A machine that was replaced has a certificate
    /// that is good for days, and only its key tells it from the one that came after it.
    pub(super) fn must_be_known(&self, registry: &Registry) -> Result<(), Refused> {
        let id = &self.id;
        let message = match registry.appliances.get(id) {
            Some(appliance) if appliance.revoked => format!(
                "{id} is revoked; `oca control appliance replace {id}` gives it a token to enrol \
                 again"
            ),
            None => format!("{id} is not in the registry; an operator has to add it"),
            Some(appliance) if appliance.key_fingerprint.as_ref() != Some(&self.key) => format!(
                "the name {id} is not bound to this machine's key: it was replaced; with a token \
                 of `oca control appliance replace {id}`, and without its old identity, it may \
                 enrol again"
            ),
            Some(_) => return Ok(()),
        };
        Err(Refused::new(Code::Identity, message))
    }

    /// Is the certificate good for anything but its own renewal?
    pub(super) fn must_be_valid(&self, now: Wall) -> Result<(), Refused> {
        if now <= self.ends {
            return Ok(());
        }
        let message = format!(
            "the certificate of {} ended at {}; renew it, or check the box's clock",
            self.id, self.ends
        );
        Err(Refused::new(Code::Identity, message))
    }

    /// May the certificate be renewed? A connection can outlive the time that the handshake saw.
    pub(super) fn must_be_renewable(&self, now: Wall) -> Result<(), Refused> {
        let last = self
            .ends
            .checked_add(RENEWABLE_AFTER_END)
            .unwrap_or(self.ends);
        if now <= last {
            return Ok(());
        }
        let message = format!(
            "the certificate of {} ended at {}, too long ago to renew it; enrol with a new token",
            self.id, self.ends
        );
        Err(Refused::new(Code::Identity, message))
    }
}

/// The last second of a certificate.
pub(super) fn ends(certificate: &CertificateDer<'_>) -> Result<Wall, Refused> {
    let refused = |problem: &str| {
        let message = format!("the certificate cannot be read: {problem}");
        Refused::new(Code::Identity, message)
    };
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|error| refused(&error.to_string()))?;
    let seconds = parsed.validity().not_after.timestamp();
    Wall::from_second(seconds).map_err(|error| refused(&error.to_string()))
}
