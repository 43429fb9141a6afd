//! What boxes and control plane say of the fill: progress, orders, sources.

use super::Position;
use crate::object::Digest;
use serde::Deserialize;
use serde::Serialize;

/// How the fill stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FillProgress {
    pub window_open: bool,
    pub paused: bool,
    /// Objects and bytes that the manifest lists and the box does not hold.
    pub wanted_objects: u64,
    pub wanted_bytes: u64,
    /// Of these, what does not fit into this window, or the next one when it is shut.
    pub carried_over_bytes: u64,
    /// Received in the last 24 h, by source, as the cap counts.
    pub received: ReceivedBytes,
    /// Announced for deletion and still served.
    pub leaving_objects: u64,
    pub leaving_bytes: u64,
    /// Other boxes may fetch from its peer listener.
    pub gives: bool,
}

/// Bytes by kind of source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceivedBytes {
    pub peer: u64,
    pub tier: u64,
    pub network: u64,
    pub origin: u64,
}

impl ReceivedBytes {
    pub fn add(&mut self, kind: SourceKind, bytes: u64) {
        let sum = match kind {
            SourceKind::Peer => &mut self.peer,
            SourceKind::Tier => &mut self.tier,
            SourceKind::Network => &mut self.network,
            SourceKind::Origin => &mut self.origin,
        };
        *sum = sum.saturating_add(bytes);
    }

    pub fn of(&self, kind: SourceKind) -> u64 {
        match kind {
            SourceKind::Peer => self.peer,
            SourceKind::Tier => self.tier,
            SourceKind::Network => self.network,
            SourceKind::Origin => self.origin,
        }
    }

    pub fn total(&self) -> u64 {
        let all = [self.peer, self.tier, self.network, self.origin];
        all.into_iter().fold(0, u64::saturating_add)
    }
}

/// When and how a site fills.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FillOrders {
    /// `HH:MM` or `HH:MM:SS`, by the site's wall clock.
    pub window_start: String,
    pub window_s: u64,
    /// IANA name.
    pub timezone: String,
    /// Lowers the box's cap, never raises it. Bits a second.
    pub rate_limit_bps: Option<u64>,
    /// Directories (bundles or whole titles) to be fetched at any hour.
    #[serde(default)]
    pub urgent: Vec<String>,
    #[serde(default)]
    pub deletion_override: Option<DeletionOverride>,
    /// The box stands where it is filled before it is shipped: an operator at it may order a fill
    /// without window and cap.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub prefilling: bool,
}

/// The signed permission to delete faster than the box's own pace, or under another epoch.
///
/// `signature` is Ed25519 over `oca-deletion-override-v1`, a line end, and the text of
/// [`DeletionOverride::signed_text`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletionOverride {
    #[serde(rename = "box")]
    pub id: String,
    /// For manifests from this position on, within its epoch.
    #[serde(flatten)]
    pub position: Position,
    /// How much may be deleted beyond the pace while it is valid.
    pub bytes: u64,
    /// Seconds since the Unix epoch.
    pub issued: u64,
    pub expires: u64,
    /// The public key, hexadecimal.
    pub key: String,
    /// Hexadecimal.
    pub signature: String,
}

/// `POST /v1/fill-sources`: what the box wants next, in its order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FillSourcesRequest {
    pub v: u64,
    /// At most [`FILL_WANTED_MAX`].
    pub wanted: Vec<Digest>,
    /// Sources that sent wrong bytes or nothing: source id → objects of `wanted`.
    #[serde(default)]
    pub complaints: Vec<Complaint>,
}

/// Objects in one question.
pub const FILL_WANTED_MAX: usize = 256;

/// A box's word about a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaint {
    pub source: String,
    pub digest: Digest,
    /// `wrong-bytes`, `not-found`, `changed`, `refused`, `broken` or `slow`.
    pub problem: String,
}

/// The answer: per object who has it, in the order in which to ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FillSources {
    pub v: u64,
    pub objects: Vec<ObjectSources>,
    /// What sources refer to by index; see docs/LINK.md for their text.
    pub tickets: Vec<String>,
    /// When to ask again for what has no usable source.
    pub ask_again_s: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectSources {
    pub digest: Digest,
    pub length: u64,
    /// Chaining values of its 256 KiB chunks, hexadecimal, one after the other; empty for an
    /// object of one chunk.
    #[serde(default)]
    pub tree: String,
    pub sources: Vec<FillSource>,
    /// Why there is none.
    #[serde(default)]
    pub problem: Option<String>,
}

/// One place where an object can be fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FillSource {
    /// A box of the registry, or `origin`.
    pub id: String,
    pub kind: SourceKind,
    /// `https://<address>[:<port>]/fill/<digest>`, a presigned URL, or a path of the link
    /// (`/v1/origin/<digest>`). Empty: not before its time; ask again then.
    pub urls: Vec<String>,
    /// Seconds from this answer.
    #[serde(default)]
    pub not_before_s: u64,
    /// Index into [`FillSources::tickets`].
    #[serde(default)]
    pub ticket: Option<usize>,
    /// For `If-Match`.
    #[serde(default)]
    pub etag: Option<String>,
    /// Seconds from this answer, after which the URL or ticket is void.
    pub expires_s: u64,
}

/// How far away a source is, in the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// A box of the same cluster or subnet.
    Peer,
    /// A box that is mutually reachable over BGP.
    Tier,
    /// Any box.
    Network,
    /// The content owner's store.
    Origin,
}

impl DeletionOverride {
    /// What is signed: binds the permission to one box, place in time and amount.
    pub fn signed_text(&self) -> String {
        format!(
            "{}\n{}\n{}\n{}\n{}\n{}\n",
            self.id,
            self.position.epoch,
            self.position.generation,
            self.bytes,
            self.issued,
            self.expires,
        )
    }
}
