//! Why a call over the link failed, in words that say whose fault it is and what to do.
//!
//! [`super::client`] returns it; `health` decides by [`LinkError::code`] and shows the message.

use super::body::BodyError;
use super::identity::IdentityError;
use super::message::Code;
use std::time::Duration;

/// A call that did not succeed. Nothing that the box holds has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    #[error("`{0}` is no control plane's address: write `https://<host>[:<port>]`")]
    Url(String),
    /// The control plane's own words, made printable.
    #[error("the control plane at {url} refuses ({}): {message}", code.as_str())]
    Refused {
        url: String,
        code: Code,
        message: String,
        /// Not before.
        retry_after: Option<Duration>,
    },
    #[error("no answer from the control plane at {url}: {problem}")]
    Unreachable { url: String, problem: String },
    #[error(
        "the control plane at {url} presented a certificate authority with fingerprint \
         {presented}, provisioning pins {pinned}: wrong control plane, or somebody in between"
    )]
    Authority {
        url: String,
        presented: String,
        pinned: String,
    },
    #[error("the certificate of the control plane at {url} cannot be believed: {problem}")]
    Certificate { url: String, problem: String },
    #[error(
        "the control plane at {url} does not take this box's certificate ({problem}): it is \
         revoked, ended or somebody else's; `oca control appliance` tells, and gives a token"
    )]
    Rejected { url: String, problem: String },
    #[error("this box is not enrolled: `[control] token_file` must name a one-time token")]
    NotEnrolled,
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("the control plane at {url} answers outside the contract (docs/LINK.md): {problem}")]
    Protocol { url: String, problem: String },
    /// Our own report is too large, or cannot be written as JSON.
    #[error(transparent)]
    Body(BodyError),
}

impl LinkError {
    /// The control plane's word for it.
    pub fn code(&self) -> Option<Code> {
        if let Self::Refused { code, .. } = self {
            Some(*code)
        } else {
            None
        }
    }

    /// When the control plane wants to hear of us again.
    pub fn retry_after(&self) -> Option<Duration> {
        if let Self::Refused { retry_after, .. } = self {
            *retry_after
        } else {
            None
        }
    }

    /// Nobody answered: neither side is known to be at fault.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// The other end is not the control plane that provisioning names, or not provably.
    pub fn is_authority(&self) -> bool {
        matches!(self, Self::Authority { .. } | Self::Certificate { .. })
    }

    /// The control plane does not know this box by its certificate, or knows better.
    pub fn is_identity(&self) -> bool {
        matches!(self, Self::Rejected { .. } | Self::NotEnrolled)
            || matches!(self.code(), Some(Code::Identity | Code::Token))
    }
}
