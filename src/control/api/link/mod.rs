//! Where boxes report: HTTPS with mutual TLS, contract in docs/LINK.md.
//!
//! `listener` accepts, within `limits` → `tls` checks the certificate → `peer` reads who that is →
//! `connection` speaks HTTP until the box leaves or is revoked → `requests` decides what is asked
//! and whether this peer may → `bodies` reads it, bounded, heavy ones on other threads → the
//! fleet's task, the enrolment, the manifest source or the fill's sources answer → `answer` writes
//! it.

mod answer;
mod bodies;
mod connection;
mod limits;
mod listener;
mod metrics;
mod peer;
mod requests;
mod tls;

use crate::clock::Wall;
use crate::control::fleet;
use crate::control::model::Library;
use crate::control::model::Registry;
use crate::ids::BoxId;
use crate::link::body;
use crate::link::message::Code;
use crate::link::message::Enrol;
use crate::link::message::Enrolled;
use crate::link::message::FillSources;
use crate::link::message::FillSourcesRequest;
use crate::link::message::Position;
use crate::link::message::Renew;
use crate::object::Digest;
use crate::origin::Reading;
use crate::telemetry;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::watch;

pub use limits::Limits;
pub use listener::Door;
pub use listener::Handle;
pub use listener::start;
pub use tls::server_config;

/// What the certificate authority answers, or the refusal that the box is told.
pub type Issuing<'a> = Pin<Box<dyn Future<Output = Result<Enrolled, (Code, String)>> + Send + 'a>>;

/// Gives boxes their certificates.
pub trait Enrolment: fmt::Debug + Send + Sync {
    /// A token and a request, from somebody who has no name yet.
    fn enrol(&self, now: Wall, enrol: Enrol) -> Issuing<'_>;

    /// For the box of this certificate, which was verified; it may have ended up to 30 days ago.
    fn renew(
        &self,
        now: Wall,
        id: BoxId,
        certificate: CertificateDer<'static>,
        renew: Renew,
    ) -> Issuing<'_>;
}

/// Has the signed manifest of each box.
pub trait ManifestSource: fmt::Debug + Send + Sync {
    /// `None` before the first. Never waits.
    fn manifest(&self, id: &BoxId) -> Option<ManifestBody>;
}

/// Says who may fetch what from whom.
pub trait FillSourcesSource: fmt::Debug + Send + Sync {
    fn fill_sources(
        &self,
        id: BoxId,
        request: FillSourcesRequest,
    ) -> BoxFuture<'_, Result<FillSources, fleet::Refused>>;
}

/// Gives out the files of a directory origin.
pub trait OriginGateway: fmt::Debug + Send + Sync {
    /// Everything that may be refused is refused here; the body can only break off.
    fn open(&self, id: BoxId, ask: OriginAsk) -> BoxFuture<'_, Result<OriginBody, OriginRefusal>>;
}

/// `GET /v1/origin/<digest>`, header values as they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginAsk {
    pub digest: Digest,
    pub authorization: Option<String>,
    pub range: Option<Vec<u8>>,
    pub if_match: Option<Vec<u8>>,
}

/// An object of the origin, or a part of it.
pub struct OriginBody {
    /// Of the whole object.
    pub length: u64,
    /// First and last byte; `None`: all of it.
    pub part: Option<(u64, u64)>,
    pub etag: String,
    pub pieces: Reading,
}

/// Why there is no body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginRefusal {
    Refused(fleet::Refused),
    /// The file is not the one that was imported.
    Changed,
    /// The range lies behind the end.
    Unsatisfiable {
        length: u64,
    },
}

impl fmt::Debug for OriginBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginBody")
            .field("length", &self.length)
            .field("part", &self.part)
            .finish_non_exhaustive()
    }
}

/// One box's manifest as it goes out: the rows are not copied for each box that fetches them.
#[derive(Clone, Debug)]
pub struct ManifestBody {
    pub position: Position,
    /// Signed for the box, with the end of its line.
    pub envelope: Bytes,
    /// Compressed; boxes with the same content share them.
    pub rows: Bytes,
}

/// What the listener needs from the wiring.
#[derive(Clone, Debug)]
pub struct Deps {
    /// From [`server_config`].
    pub tls: Arc<ServerConfig>,
    pub fleet: fleet::Inbox,
    pub registry: watch::Receiver<Arc<Registry>>,
    pub library: watch::Receiver<Arc<Library>>,
    pub enrolment: Arc<dyn Enrolment>,
    pub manifests: Arc<dyn ManifestSource>,
    pub sources: Arc<dyn FillSourcesSource>,
    pub origin: Arc<dyn OriginGateway>,
    /// Of `[link] body` and `body_decompressed`.
    pub bodies: body::Limits,
    pub limits: Limits,
    pub metrics: telemetry::Registry,
}

/// Why the listener could not be started. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum LinkListenerError {
    #[error("[link] listen {address}: {error}")]
    Bind {
        address: SocketAddr,
        error: std::io::Error,
    },
    #[error("[link] listen is empty: boxes could not report; give it at least one address")]
    Nowhere,
    #[error("the certificate authority is not usable: {0}; restore it from the backup")]
    Authority(String),
    #[error("the TLS library refused its set-up: {0}")]
    Library(#[from] rustls::Error),
}
