//! A token becomes an identity, and an identity a later one.
//!
//! [`link::Enrolment`] of the link listener, which has read the body and verified the peer's
//! certificate. Refusals carry the code that the box acts on; each is logged here, because an
//! operator looks for a box that does not come up on both sides.
//!
//! I/O: waits for the store.

use super::Authority;
use super::AuthorityError;
use super::BoxCertificate;
use super::issue;
use super::token;
use crate::clock;
use crate::clock::Wall;
use crate::control::api::link;
use crate::control::books::Books;
use crate::control::store::ControlStoreError;
use crate::control::store::Issued;
use crate::ids::BoxId;
use crate::link::identity;
use crate::link::identity::RENEWABLE_AFTER_END;
use crate::link::message::Code;
use crate::link::message::Enrol;
use crate::link::message::Enrolled;
use crate::link::message::Renew;
use crate::link::message::VERSION;
use crate::telemetry::LogLimit;
use rustls::pki_types::CertificateDer;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

/// Refusals in the log: strangers can provoke as many as they like.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// Enrols and renews. Clones share everything.
#[derive(Clone, Debug)]
pub struct Enrolment {
    books: Books,
    authority: Arc<Authority>,
    refusals: Arc<Mutex<LogLimit>>,
}

/// The code for the box and the sentence for people.
type Refused = (Code, String);

impl Enrolment {
    pub fn new(books: Books, authority: Arc<Authority>) -> Self {
        Self {
            books,
            authority,
            refusals: Arc::new(Mutex::new(LogLimit::new(LOG_EVERY))),
        }
    }

    /// `POST /v1/enrol`. The same key may ask again until the token ends: replies get lost.
    async fn enrolled(&self, now: Wall, enrol: &Enrol) -> Result<Enrolled, Refused> {
        let outcome = self.try_enrol(now, enrol).await;
        match &outcome {
            Ok(enrolled) => tracing::info!(id = enrolled.id, "box enrolled"),
            Err((code, problem)) => {
                if let Some(left_out) = self.may_log() {
                    tracing::warn!(?code, problem, left_out, "enrolment refused");
                }
            }
        }
        outcome
    }

    /// `POST /v1/renew` by the box of `certificate`. The listener has verified it, but for an end
    /// that has passed by at most [`RENEWABLE_AFTER_END`].
    async fn renewed(
        &self,
        now: Wall,
        id: &BoxId,
        certificate: &CertificateDer<'_>,
        renew: &Renew,
    ) -> Result<Enrolled, Refused> {
        let outcome = match identity::key_fingerprint_of_certificate(certificate) {
            Ok(key) => self.try_renew(now, id, &key, renew).await,
            Err(error) => Err((Code::Identity, error.to_string())),
        };
        match &outcome {
            Ok(_) => tracing::info!(%id, "certificate renewed"),
            Err((code, problem)) => {
                if let Some(left_out) = self.may_log() {
                    tracing::warn!(%id, ?code, problem, left_out, "renewal refused");
                }
            }
        }
        outcome
    }

    /// `Some(left out)` if a refusal may be written.
    fn may_log(&self) -> Option<u64> {
        let refusals = self.refusals.lock();
        let mut refusals = refusals.unwrap_or_else(PoisonError::into_inner);
        refusals.step(clock::now())
    }

    async fn try_enrol(&self, now: Wall, enrol: &Enrol) -> Result<Enrolled, Refused> {
        same_version(enrol.v)?;
        if enrol.token.len() > token::TEXT_BYTES_MAX {
            return Err((Code::Token, "that is no token of ours".to_owned()));
        }
        let key = issue::key_of_request(&enrol.csr).map_err(refused_request)?;
        let hash = token::hash(&enrol.token);
        let redeemed = self.books.store().redeem(hash, key, now).await;
        let id = redeemed.map_err(|error| match error {
            ControlStoreError::NotFound(_) => {
                let problem = "the token is unknown: it was mistyped, replaced by a later one or \
                               made by another control plane; make another one with `oca \
                               control appliance token`";
                (Code::Token, problem.to_owned())
            }
            ControlStoreError::Refused(_) | ControlStoreError::Database(_) => {
                refused_store(error, Code::Token)
            }
        })?;
        self.issue(now, &id, &enrol.csr, Code::Token).await
    }

    async fn try_renew(
        &self,
        now: Wall,
        id: &BoxId,
        key_fingerprint: &str,
        renew: &Renew,
    ) -> Result<Enrolled, Refused> {
        same_version(renew.v)?;
        let refused = |problem: &str| Err((Code::Identity, problem.to_owned()));
        let registry = self.books.registry();
        let Some(appliance) = registry.appliances.get(id) else {
            return refused("no box of this name is registered");
        };
        if appliance.revoked {
            return refused("this box was revoked; it needs a token to enrol again");
        }
        if appliance.key_fingerprint.as_deref() != Some(key_fingerprint) {
            return refused("the name is bound to another key: this box was replaced");
        }
        if let Some(reason) = &appliance.quarantined {
            return Err((Code::Quarantined, reason.clone()));
        }
        let ends = appliance.certificate_ends.unwrap_or(Wall::MIN);
        if now > ends.checked_add(RENEWABLE_AFTER_END).unwrap_or(Wall::MAX) {
            return refused("the certificate ended over 30 days ago; the box needs a token");
        }
        let key = issue::key_of_request(&renew.csr).map_err(refused_request)?;
        if key != key_fingerprint {
            return refused("a renewal is for the key that the certificate has");
        }
        self.issue(now, id, &renew.csr, Code::Identity).await
    }

    /// The store has the last word: it takes the certificate only while the name is bound to its
    /// key.
    async fn issue(
        &self,
        now: Wall,
        id: &BoxId,
        csr: &str,
        code: Code,
    ) -> Result<Enrolled, Refused> {
        let BoxCertificate {
            pem,
            key_fingerprint,
            ends,
        } = self
            .authority
            .issue(id, csr, now)
            .map_err(refused_request)?;
        let issued = Issued {
            key_fingerprint,
            ends,
        };
        let store = self.books.store();
        let kept = store.put_issued(id.clone(), issued).await;
        kept.map_err(|error| refused_store(error, code))?;
        // The listener must know the key before the box comes back with it.
        let fresh = self.books.refresh().await;
        fresh.map_err(|error| refused_store(error, Code::Internal))?;
        Ok(Enrolled {
            v: VERSION,
            id: id.to_string(),
            certificate: pem,
            ca: self.authority.certificate_pem().to_owned(),
            manifest_keys: self.authority.manifest_keys(),
        })
    }
}

impl link::Enrolment for Enrolment {
    fn enrol(&self, now: Wall, enrol: Enrol) -> link::Issuing<'_> {
        Box::pin(async move { self.enrolled(now, &enrol).await })
    }

    fn renew(
        &self,
        now: Wall,
        id: BoxId,
        certificate: CertificateDer<'static>,
        renew: Renew,
    ) -> link::Issuing<'_> {
        Box::pin(async move { self.renewed(now, &id, &certificate, &renew).await })
    }
}

fn same_version(version: u64) -> Result<(), Refused> {
    if version == VERSION {
        return Ok(());
    }
    let problem = format!("version {version} is not spoken here; this is version {VERSION}");
    Err((Code::BadRequest, problem))
}

fn refused_request(error: AuthorityError) -> Refused {
    match error {
        AuthorityError::Request(_) => (Code::BadRequest, error.to_string()),
        AuthorityError::File { .. } | AuthorityError::Listener(_) | AuthorityError::Library(_) => {
            (Code::Internal, error.to_string())
        }
    }
}

fn refused_store(error: ControlStoreError, code: Code) -> Refused {
    match error {
        ControlStoreError::Refused(problem) => (code, problem),
        ControlStoreError::NotFound(what) => (code, format!("{what} does not exist")),
        ControlStoreError::Database(problem) => (Code::Internal, problem),
    }
}
