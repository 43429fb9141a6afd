//! Tickets: the control plane's signed word that one box may fetch these objects from one source.
//!
//! `control::sources` writes them with the manifest key; the source's `peer` listener (or the
//! control plane's own gateway) reads them. A ticket says who asks, so that it is worth nothing to
//! anybody else (SAFETY: fill).

use super::hex;
use super::manifest::Signer;
use super::manifest::Verifier;
use crate::clock;
use crate::clock::Wall;
use crate::ids::BoxId;
use crate::object::Digest;
use serde::Deserialize;
use serde::Serialize;

/// The scheme of the `Authorization` header.
pub const SCHEME: &str = "OCA-Ticket";

/// Objects of one ticket: it must fit in a request head.
pub const DIGESTS_MAX: usize = 32;

/// A ticket's text is no longer.
pub const TEXT_BYTES_MAX: usize = 8 * 1024;

/// How far the control plane's clock may be from ours.
pub const CLOCK_SLACK_S: u64 = 60;

/// What may be fetched by whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The box that may fetch.
    pub asker: BoxId,
    /// The box that may be asked, or `origin`.
    pub source: String,
    pub digests: Vec<Digest>,
    /// Seconds since the Unix epoch.
    pub not_before: u64,
    pub expires: u64,
    /// All bodies together.
    pub bytes: u64,
}

/// Why a ticket is worth nothing here and now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    #[error("this is not a ticket of version 1")]
    Form,
    #[error("the ticket is not signed by this box's control plane")]
    Signature,
    #[error("the ticket is for {0}, and not for the box that shows it")]
    Asker(BoxId),
    #[error("the ticket is for the source {0}")]
    Source(String),
    #[error("the ticket does not name the object")]
    Object,
    #[error("the ticket is not valid before {0} (seconds since the epoch)")]
    Early(u64),
    #[error("the ticket ended at {0} (seconds since the epoch)")]
    Ended(u64),
}

impl Ticket {
    /// May `asker` fetch `digest` from `source` at `now`? The byte budget is the caller's to keep.
    pub fn check(
        &self,
        asker: &BoxId,
        source: &str,
        digest: Digest,
        now: Wall,
    ) -> Result<(), TicketError> {
        let now = clock::unix_seconds(now);
        if self.asker != *asker {
            return Err(TicketError::Asker(self.asker.clone()));
        }
        if self.source != source {
            return Err(TicketError::Source(self.source.clone()));
        }
        if !self.digests.contains(&digest) {
            return Err(TicketError::Object);
        }
        if now.saturating_add(CLOCK_SLACK_S) < self.not_before {
            return Err(TicketError::Early(self.not_before));
        }
        if now >= self.expires.saturating_add(CLOCK_SLACK_S) {
            return Err(TicketError::Ended(self.expires));
        }
        Ok(())
    }
}

impl Signer {
    /// `<JSON in hexadecimal>.<signature in hexadecimal>`: nothing in it needs escaping.
    pub fn ticket(&self, ticket: &Ticket) -> String {
        let json = serde_json::to_vec(ticket).unwrap_or_default();
        let signature = self.sign_text("oca-ticket-v1", &json);
        format!("{}.{}", hex::encode(&json), hex::encode(&signature))
    }
}

impl Verifier {
    /// Believes a ticket that a control plane's key signed; [`Ticket::check`] comes next.
    pub fn ticket(&self, text: &str) -> Result<Ticket, TicketError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(TicketError::Form);
        }
        // One ticket has one text: sources count its bytes by it.
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(TicketError::Form);
        }
        let (json, signature) = text.split_once('.').ok_or(TicketError::Form)?;
        let json = hex::decode_any(json).ok_or(TicketError::Form)?;
        let signature: [u8; 64] = hex::decode(signature).ok_or(TicketError::Form)?;
        if !self.is_signed("oca-ticket-v1", &json, &signature) {
            return Err(TicketError::Signature);
        }
        let ticket: Ticket = serde_json::from_slice(&json).map_err(|_| TicketError::Form)?;
        if ticket.digests.len() > DIGESTS_MAX {
            return Err(TicketError::Form);
        }
        Ok(ticket)
    }
}
