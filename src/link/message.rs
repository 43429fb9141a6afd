//! Every JSON body of the link, both directions. Fields that are not known are ignored, so that
//! either side may be newer; a missing field is an error unless it has a default here.
//!
//! `tests/link/golden` has one file for each type of this file.

mod fill;
mod keys;
mod quality;

pub use fill::Complaint;
pub use fill::DeletionOverride;
pub use fill::FILL_WANTED_MAX;
pub use fill::FillOrders;
pub use fill::FillProgress;
pub use fill::FillSource;
pub use fill::FillSources;
pub use fill::FillSourcesRequest;
pub use fill::ObjectSources;
pub use fill::ReceivedBytes;
pub use fill::SourceKind;
pub use keys::VIEWER_KEYS_MAX;
pub use keys::ViewerKeys;
pub use quality::Delivery;
pub use quality::NetworkDelivery;
pub use quality::QUALITY_NETWORKS_MAX;
pub use quality::Quality;

use crate::gate::Reason;
use crate::object::Digest;
use crate::prefix::Prefix;
use crate::route::Attributes;
use crate::route::Class;
use crate::route::Filtered;
use serde::Deserialize;
use serde::Serialize;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// The version in every body.
pub const VERSION: u64 = 1;

/// `POST /v1/report`, zstd: everything the box says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub v: u64,
    /// Random, one a start of the daemon: 32 hexadecimal digits.
    pub boot_id: String,
    /// From 1, one a report of this boot. A repeated one is answered again and changes nothing.
    pub sequence: u64,
    /// RFC 3339 UTC.
    pub sent_at: String,
    /// Of `oca`.
    pub version: String,
    pub gate: GateState,
    pub catalogue: Catalogue,
    pub routes: Routes,
    /// Networks of the box's own interfaces.
    pub interfaces: Vec<Prefix>,
    pub bgp: Vec<BgpSession>,
    pub disks: Vec<Disk>,
    pub load: Load,
    /// The manifest that is in effect; `None` before the first.
    pub manifest: Option<Position>,
    /// `None`: this box fills nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fill: Option<FillProgress>,
    /// `None`: nothing was delivered of late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
}

/// The gate, as decided by the box.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateState {
    /// `serving` or `closed`.
    pub state: String,
    /// Empty while serving.
    pub reasons: Vec<Reason>,
}

/// What the box holds, as a step from one position to another of this boot's epoch. `from` 0 is
/// the empty set: `added` is then everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalogue {
    /// Positions of different epochs cannot be compared. A box draws one a boot, below 2^53.
    pub epoch: u64,
    pub from: u64,
    pub to: u64,
    /// Objects at `to`.
    pub count: u64,
    /// Set hash at `to`; an item is the 32 bytes of an object's digest.
    pub digest: Digest,
    pub added: Vec<Digest>,
    pub removed: Vec<Digest>,
}

/// What the box learned over BGP, as a step like [`Catalogue`]'s.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routes {
    pub epoch: u64,
    pub from: u64,
    pub to: u64,
    pub count: u64,
    /// Set hash at `to`; an item is what [`crate::route::Item`] makes of a route.
    pub digest: Digest,
    pub added: Vec<RouteGroup>,
    pub removed: Vec<RouteGroup>,
}

/// Routes that share everything but prefix and path identifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteGroup {
    pub neighbour: String,
    pub class: Class,
    #[serde(flatten, with = "shared")]
    pub attributes: Arc<Attributes>,
    /// `null`: steerable.
    pub filtered: Option<Filtered>,
    pub prefixes: Vec<Prefix>,
    /// Of RFC 7911, one for each prefix; left out when all are 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path_ids: Vec<u32>,
}

/// Attributes that several groups share, in each of them.
mod shared {
    use crate::route::Attributes;
    use serde::Deserialize as _;
    use serde::Deserializer;
    use serde::Serialize as _;
    use serde::Serializer;
    use std::sync::Arc;

    pub(super) fn serialize<S: Serializer>(
        attributes: &Arc<Attributes>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        attributes.as_ref().serialize(serializer)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(
        deserializer: D,
    ) -> Result<Arc<Attributes>, D::Error> {
        Attributes::deserialize(deserializer).map(Arc::new)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BgpSession {
    pub neighbour: String,
    pub address: IpAddr,
    pub asn: u32,
    pub class: Class,
    /// RFC 4271 section 8.2.2, in kebab case.
    pub state: String,
    pub routes: u64,
    pub filtered: u64,
    pub uptime_s: Option<u64>,
    pub last_error: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    pub path: String,
    pub uuid: Option<String>,
    pub class: String,
    pub state: String,
    pub reason: Option<String>,
    pub objects: u64,
    pub bytes: u64,
    pub free: u64,
}

/// Counters since the daemon's start, and what is open now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    pub connections: u64,
    pub requests_total: u64,
    pub sent_bytes_total: u64,
}

/// The answer to a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportReply {
    pub v: u64,
    /// Positions up to which the control plane has everything; `None` asks for a step from 0.
    pub acked: Acked,
    #[serde(flatten)]
    pub orders: Orders,
    /// When the next report is due, before jitter.
    pub next_report_s: u64,
    /// `None`: from a control plane that signs no URLs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub viewer_keys: Option<ViewerKeys>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acked {
    pub catalogue: Option<Ack>,
    pub routes: Option<Ack>,
}

/// A position of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    pub epoch: u64,
    pub position: u64,
}

/// What every reply tells the box.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// The desired state: may this box serve viewers?
    pub enabled: bool,
    /// From the receipt of this reply, on the box's boot-time clock.
    pub lease_s: u64,
    /// The manifest this box should have.
    pub manifest: Option<Position>,
    /// The box's certificate is to be renewed before its time.
    pub renew: bool,
    /// Send a report at once.
    pub report_now: bool,
    /// RFC 3339 UTC.
    pub server_time: String,
    /// `None`: from a control plane that leaves the fill to the box's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fill: Option<FillOrders>,
}

/// Place of a manifest in time: compared as a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    pub epoch: u64,
    pub generation: u64,
}

/// `POST /v1/heartbeat`, every 10 s.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    pub v: u64,
    pub boot_id: String,
    /// From 1, one a heartbeat of this boot.
    pub sequence: u64,
    pub gate: GateState,
    pub load: Load,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatReply {
    pub v: u64,
    #[serde(flatten)]
    pub orders: Orders,
}

/// `POST /v1/enrol`: a one-time token and a request for a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrol {
    pub v: u64,
    pub token: String,
    /// PEM, PKCS #10. Its names are ignored: the registry knows the box of the token.
    pub csr: String,
}

/// `POST /v1/renew`, over mutual TLS with the certificate that is to be renewed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renew {
    pub v: u64,
    /// For the same key as the certificate's.
    pub csr: String,
}

/// The answer to both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    pub v: u64,
    /// The box's name, from the registry.
    pub id: String,
    /// PEM, leaf first; its URI SAN is `oca://box/<id>`.
    pub certificate: String,
    /// PEM of the certificate authority, whose fingerprint is pinned.
    pub ca: String,
    /// Ed25519 public keys, hexadecimal, one of which signs manifests.
    pub manifest_keys: Vec<String>,
}

/// `GET /v1/manifest`: the first line of the body, before the compressed rows it vouches for.
///
/// `signature` is Ed25519 over the text of [`Envelope::signed_text`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    pub v: u64,
    #[serde(rename = "box")]
    pub id: String,
    #[serde(flatten)]
    pub position: Position,
    /// Seconds since the Unix epoch.
    pub issued: u64,
    pub expires: u64,
    /// Of the compressed rows that follow the line.
    pub bytes: u64,
    /// BLAKE3 of the compressed rows.
    pub blake3: Digest,
    /// The public key, hexadecimal.
    pub key: String,
    /// Hexadecimal.
    pub signature: String,
}

/// One line of the rows, which are zstd-compressed JSON Lines: a bundle, then its keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Row {
    /// A directory with its rank; 0 is the most popular.
    Bundle { bundle: String, rank: u32 },
    /// A key of the last bundle: its last segment, digest, length, and Last-Modified in seconds
    /// since the Unix epoch.
    Key {
        k: String,
        d: Digest,
        n: u64,
        t: u64,
    },
}

/// The body of every refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub v: u64,
    pub error: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub code: Code,
    /// A sentence: whose fault it is and what to do.
    pub message: String,
}

/// Why the control plane refuses. The box acts on these; the message is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The body is not what the contract says.
    BadRequest,
    TooLarge,
    /// The set hash does not belong to the set. Send a step from 0.
    WrongDigest,
    /// The step does not begin at the acknowledged position. Send a step from 0.
    WrongPosition,
    /// No, a foreign, an ended or a revoked certificate.
    Identity,
    /// The token is unknown, used, ended or another box's.
    Token,
    /// Two boot ids under one name: an operator must decide (`oca control appliance replace`).
    Quarantined,
    NotFound,
    /// Too much at a time; `Retry-After` says when.
    Busy,
    /// The control plane's own fault.
    Internal,
}

impl Refusal {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            v: VERSION,
            error: Problem {
                code,
                message: message.into(),
            },
        }
    }
}

impl Code {
    /// The HTTP status that a refusal with this code has.
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Identity | Self::Token | Self::Quarantined => 403,
            Self::NotFound => 404,
            Self::WrongDigest | Self::WrongPosition => 409,
            Self::TooLarge => 413,
            Self::Busy => 429,
            Self::Internal => 500,
        }
    }

    /// As on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::TooLarge => "too-large",
            Self::WrongDigest => "wrong-digest",
            Self::WrongPosition => "wrong-position",
            Self::Identity => "identity",
            Self::Token => "token",
            Self::Quarantined => "quarantined",
            Self::NotFound => "not-found",
            Self::Busy => "busy",
            Self::Internal => "internal",
        }
    }
}

impl Position {
    /// `"<epoch>.<generation>"`, as `ETag` and `If-None-Match` carry it.
    pub fn etag(&self) -> String {
        format!("\"{self}\"")
    }

    /// `None` for anything that [`Position::etag`] would not write.
    pub fn from_etag(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?.trim();
        let (epoch, generation) = text.strip_prefix('"')?.strip_suffix('"')?.split_once('.')?;
        let position = Self {
            epoch: epoch.parse().ok()?,
            generation: generation.parse().ok()?,
        };
        (position.etag() == text).then_some(position)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.generation)
    }
}

impl Envelope {
    /// What is signed: binds the rows to one box, place in time and validity.
    pub fn signed_text(&self) -> String {
        format!(
            "oca-manifest-v1\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n",
            self.id,
            self.position.epoch,
            self.position.generation,
            self.issued,
            self.expires,
            self.bytes,
            self.blake3,
        )
    }
}
