//! What the control plane keeps for ever: one domain trait, one implementation over SQL.
//!
//! [`ControlStore`] speaks of partners, boxes and content, never of rows. `sql` implements it over
//! `sqlx`'s `Any` driver with portable SQL only (TEXT, BIGINT, DOUBLE PRECISION, BLOB; booleans as
//! 0/1, times as microseconds UTC, no server-side defaults), so that PostgreSQL can follow. `rules`
//! has what a value must be by itself; `registry_rows`, `identity_rows`, `fill_rows`,
//! `content_rows`, `tree_rows` and `work_rows` have the statements, `library` reads all content at
//! once.

mod content_rows;
mod fault;
mod fill_rows;
mod identity_rows;
mod library;
mod registry_rows;
mod rows;
mod rules;
mod sql;
mod tree_rows;
mod work_rows;

use crate::clock::Wall;
use crate::control::model::Appliance;
use crate::control::model::Approval;
use crate::control::model::Cluster;
use crate::control::model::FillCluster;
use crate::control::model::Grant;
use crate::control::model::Library;
use crate::control::model::Partner;
use crate::control::model::Registry;
use crate::control::model::Site;
use crate::control::model::TitleState;
use crate::ids::BoxId;
use crate::key::Key;
use crate::link::message::Position;
use crate::object::ChunkTree;
use crate::object::Digest;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;

pub use sql::SqlStore;

/// What every verb of the trait returns.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, ControlStoreError>> + Send + 'a>>;

/// Why the store did not do it. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ControlStoreError {
    #[error("{0} does not exist")]
    NotFound(String),
    /// A rule of the domain forbids it; the message says which and what to do.
    #[error("{0}")]
    Refused(String),
    #[error("the database failed: {0}")]
    Database(String),
}

/// Grows with each change: of partners, sites, clusters and boxes, or of content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revision {
    /// [`Registry::revision`].
    pub registry: u64,
    /// [`Library::revision`].
    pub library: u64,
}

/// One imported file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedKey {
    pub key: Key,
    pub digest: Digest,
    pub length: u64,
    /// Seconds since the Unix epoch.
    pub last_modified: u64,
    /// Chaining values of its chunks ([`crate::object::ChunkTree::chunks`]); `None` when only the
    /// digest is known. Empty for an object of one chunk.
    pub tree: Option<Vec<[u8; 32]>>,
}

/// Where an object's bytes are at its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// `file:///…` or `s3://bucket/…`.
    pub source: String,
    /// Path below it.
    pub path: String,
    pub size: u64,
    /// ETag, or the modification time of a file.
    pub tag: String,
}

/// Between a file's own tag and that of the `.b3` file that speaks for it, in
/// [`CachedDigest::tag`]. No ETag has a space.
pub const SIDECAR_MARK: &str = " b3 ";

/// What an earlier import read of a source file: valid while size and tag are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedDigest {
    pub size: u64,
    /// ETag, or the modification time of a file; [`SIDECAR_MARK`] and that of its `.b3` file.
    pub tag: String,
    pub digest: Digest,
}

/// A box's identity after a redemption or a renewal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    pub key_fingerprint: String,
    pub ends: Wall,
}

/// The control plane's memory. Every verb is one transaction; those that write raise the revision.
pub trait ControlStore: Send + Sync {
    /// Which half changed: a library is large and is read again only if it is the one.
    fn revision(&self) -> Answer<'_, Revision>;

    fn registry(&self) -> Answer<'_, Registry>;

    fn library(&self) -> Answer<'_, Library>;

    /// Adds or replaces, but for its approvals.
    fn put_partner(&self, partner: Partner) -> Answer<'_, ()>;

    fn approve(&self, partner: String, approval: Approval) -> Answer<'_, ()>;

    fn disapprove(&self, partner: String, approval: Approval) -> Answer<'_, ()>;

    fn put_site(&self, site: Site) -> Answer<'_, ()>;

    fn put_cluster(&self, cluster: Cluster) -> Answer<'_, ()>;

    fn put_fill_cluster(&self, fill_cluster: FillCluster) -> Answer<'_, ()>;

    /// Refused for the default one, and while clusters belong to it.
    fn remove_fill_cluster(&self, name: String) -> Answer<'_, ()>;

    /// Replaces the box's last grant; ended ones of all boxes vanish.
    fn put_grant(&self, id: BoxId, grant: Grant) -> Answer<'_, ()>;

    /// What an operator says of a title that the library has.
    fn set_title(&self, name: String, state: TitleState) -> Answer<'_, ()>;

    /// Adds or replaces what an operator says of a box; its identity stays, and so do `enabled`
    /// and quarantine, which have verbs of their own.
    fn put_appliance(&self, appliance: Appliance) -> Answer<'_, ()>;

    /// Enabling ends *prefilling*.
    fn set_enabled(&self, id: BoxId, enabled: bool) -> Answer<'_, ()>;

    /// May an operator fill it without window and cap? Refused while it is enabled.
    fn set_prefilling(&self, id: BoxId, prefilling: bool) -> Answer<'_, ()>;

    /// `None` lifts it.
    fn quarantine(&self, id: BoxId, reason: Option<String>) -> Answer<'_, ()>;

    /// Never again with its certificate; a new token makes it a new box.
    fn revoke(&self, id: BoxId) -> Answer<'_, ()>;

    /// Keeps the hash of a one-time token for a box; an older one is void. Lifts a revocation and
    /// frees the name from its key (`replace`).
    fn put_token(&self, id: BoxId, hash: Digest, ends: Wall) -> Answer<'_, ()>;

    /// Redeems a token for a key: which box? The same key may redeem again until the token's end;
    /// another key is refused. Two redemptions at once: one wins.
    fn redeem(&self, hash: Digest, key_fingerprint: String, now: Wall) -> Answer<'_, BoxId>;

    /// Keeps the end of what was issued; refused unless the box is bound to that key.
    fn put_issued(&self, id: BoxId, issued: Issued) -> Answer<'_, ()>;

    /// Takes imported keys. A key that is bound to another digest is refused, and with it the
    /// whole call (SAFETY: import). A key keeps the Last-Modified it first came with. Trees that
    /// come along are kept; one that is not its object's is refused. Returns how many keys are
    /// new.
    fn put_keys(&self, keys: Vec<ImportedKey>) -> Answer<'_, u64>;

    /// Keeps chunk trees, before or after the keys of their objects.
    fn put_trees(&self, trees: Vec<ChunkTree>) -> Answer<'_, ()>;

    /// Chaining values of those objects whose tree is kept. Objects of one chunk need none and are
    /// never in the answer.
    fn trees(&self, digests: Vec<Digest>) -> Answer<'_, BTreeMap<Digest, Vec<[u8; 32]>>>;

    /// Those of `digests` whose tree is kept.
    fn known_trees(&self, digests: Vec<Digest>) -> Answer<'_, BTreeSet<Digest>>;

    /// Where the origin has these objects: the file that an import read last.
    fn locations(&self, digests: Vec<Digest>) -> Answer<'_, BTreeMap<Digest, Location>>;

    /// What is known of the files of a source (`file:///…` or `s3://bucket/…`).
    fn cached_digests(&self, source: String) -> Answer<'_, BTreeMap<String, CachedDigest>>;

    fn put_cached_digests(
        &self,
        source: String,
        digests: BTreeMap<String, CachedDigest>,
    ) -> Answer<'_, ()>;

    /// Replaces the popularity of bundles by directory; unknown directories are counted and
    /// returned.
    fn put_popularity(&self, feed: BTreeMap<String, f64>) -> Answer<'_, u64>;

    /// The manifest last published for a box: its position and the hash of its content.
    fn published(&self) -> Answer<'_, BTreeMap<BoxId, (Position, Digest)>>;

    /// Refused unless `position` is later than the last one.
    fn put_published(&self, id: BoxId, position: Position, content: Digest) -> Answer<'_, ()>;
}
