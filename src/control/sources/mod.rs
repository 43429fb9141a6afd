//! Who may fetch what from whom: the answer to `POST /v1/fill-sources`, and the origin's gateway.
//!
//! `stage` is who is there and holds what, `rank` how far they are from each other → `desk` answers
//! one question, sans-IO: `candidates` finds the boxes that have an object and orders them (`load`
//! and `complaints` have a say), `masters` elects who goes to the origin for a title and region,
//! `asked` knows how long the region has waited → `answer` writes it down with signed tickets.
//! `origins` makes presigned URLs; `gateway` gives out the files of a directory, within `budget`.
//!
//! What is asked and granted is kept in the memory of one process: several control planes at one
//! database each have their own, and as many masters together.
//!
//! I/O: asks the store for trees and locations; works on blocking threads.

mod answer;
mod asked;
mod budget;
mod candidates;
mod complaints;
mod desk;
mod gateway;
mod load;
mod masters;
mod metrics;
mod origins;
mod rank;
mod stage;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tickets;

use crate::clock;
use crate::clock::Instant;
use crate::clock::Wall;
use crate::control::ImportConfig;
use crate::control::api::link;
use crate::control::fleet;
use crate::control::fleet::Refused;
use crate::control::model::Library;
use crate::control::model::Registry;
use crate::control::store::Answer;
use crate::control::store::Location;
use crate::ids::BoxId;
use crate::link::manifest::ManifestError;
use crate::link::manifest::Signer;
use crate::link::message::FillSources;
use crate::link::message::FillSourcesRequest;
use crate::object::Digest;
use crate::telemetry;
use futures_util::future::BoxFuture;
use stage::Who;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A ticket or presigned URL ends so long after it was given out: time for one answer's objects
/// under the cap, and no longer.
const GRANTED: Duration = Duration::from_secs(600);

/// The origin among the boxes: no name of a box hashes to zero.
const ORIGIN: Who = Who(0);

/// The origin's name in answers and tickets.
pub const ORIGIN_ID: &str = "origin";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How soon a box that misses a source is to ask again: half of it while somebody is at work
    /// on it, up to six times otherwise. Default 10 s.
    pub ask_again: Duration,
}

/// What the store knows of objects beyond the library.
pub trait Shelves: fmt::Debug + Send + Sync {
    /// Chaining values of the objects' chunks; one that is not known is left out.
    fn trees(&self, digests: Vec<Digest>) -> Answer<'_, BTreeMap<Digest, Vec<[u8; 32]>>>;

    /// Where the objects' bytes are at their origin; one that is not known is left out.
    fn locations(&self, digests: Vec<Digest>) -> Answer<'_, BTreeMap<Digest, Location>>;
}

/// What the room needs from the wiring.
#[derive(Debug)]
pub struct Deps {
    pub registry: watch::Receiver<Arc<Registry>>,
    pub library: watch::Receiver<Arc<Library>>,
    pub view: watch::Receiver<Arc<fleet::View>>,
    pub shelves: Arc<dyn Shelves>,
    pub signer: Arc<Signer>,
    /// How to reach buckets.
    pub import: ImportConfig,
    pub metrics: telemetry::Registry,
}

/// The room's handle: one a process.
pub struct Sources {
    answers: answer::Answers,
    gateway: gateway::Gateway,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ask_again: Duration::from_secs(10),
        }
    }
}

impl Sources {
    pub fn new(config: Config, deps: Deps) -> Result<Self, ManifestError> {
        let counters = Arc::<metrics::Counters>::default();
        let origins = Arc::new(origins::Origins::new(deps.import.clone()));
        let gateway = gateway::Gateway::new(&deps, &origins, &counters)?;
        metrics::register(&deps.metrics, &counters);
        Ok(Self {
            answers: answer::Answers::new(config, deps, origins, counters),
            gateway,
        })
    }

    /// Answers one box's question. Its identity is the caller's to know.
    pub async fn answer(
        &self,
        id: &BoxId,
        request: FillSourcesRequest,
        now: Instant,
        wall: Wall,
    ) -> Result<FillSources, Refused> {
        self.answers.answer(id, request, now, wall).await
    }

    /// Bytes that the gateway sent, by object.
    pub fn gateway_bytes(&self) -> BTreeMap<Digest, u64> {
        self.gateway.bytes()
    }
}

impl link::FillSourcesSource for Sources {
    fn fill_sources(
        &self,
        id: BoxId,
        request: FillSourcesRequest,
    ) -> BoxFuture<'_, Result<FillSources, Refused>> {
        let (now, wall) = (clock::now(), clock::wall());
        Box::pin(async move { self.answer(&id, request, now, wall).await })
    }
}

impl link::OriginGateway for Sources {
    fn open(
        &self,
        id: BoxId,
        ask: link::OriginAsk,
    ) -> BoxFuture<'_, Result<link::OriginBody, link::OriginRefusal>> {
        let (now, wall) = (clock::now(), clock::wall());
        Box::pin(async move { self.gateway.open(&id, ask, now, wall).await })
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}
