//! A viewer asks which box: the best boxes for a client's address and a bundle, with reasons.
//!
//! `trust` decides which routes may steer → `routes` keeps the best of each box → `index` makes
//! them searchable → `snapshot` joins them with who is open and holds what → `decide` orders the
//! boxes → `answer` says it in JSON, `explain` with everybody who lost and why. `geo` measures
//! distances, `counters` counts. In memory: no database and no lock on the path.

mod answer;
mod counters;
mod decide;
mod explain;
mod geo;
mod index;
#[cfg(test)]
mod naive;
mod question;
mod routes;
mod snapshot;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod trust;

use crate::clock::Wall;
use crate::control::allocate::Listed;
use crate::control::fleet::View;
use crate::control::model::Library;
use crate::control::model::Registry;
use crate::control::signing;
use crate::control::signing::Signing;
use crate::ids::BoxId;
use arc_swap::ArcSwap;
use arc_swap::ArcSwapOption;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

pub use counters::Counters;
pub use decide::Choice;
pub use decide::DecidedBy;
pub use decide::Query;
pub use decide::Scratch;
pub use geo::Locator;
pub(in crate::control) use geo::Point;
pub use geo::Position;
pub use geo::PositionError;
pub use question::ANSWERS_MAX;
pub use question::QuestionError;
pub use question::RawQuestion;
pub use snapshot::Snapshot;

/// From `[control]` and `[public]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What box names end in.
    pub domain: String,
    /// Boxes in an answer when the question does not say.
    pub answers: usize,
}

/// What a snapshot is made of.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    pub registry: Arc<Registry>,
    pub library: Arc<Library>,
    pub view: Arc<View>,
    /// What the published manifests list; boxes without one are taken by what they hold.
    pub listed: Arc<BTreeMap<BoxId, Arc<Listed>>>,
    /// The operator's table of client positions.
    pub locator: Arc<Locator>,
}

/// The room's handle: one a process, shared by the listeners.
#[derive(Debug)]
pub struct Steering {
    config: Config,
    current: ArcSwap<Snapshot>,
    /// One build at a time, so that an older one never replaces a newer one.
    building: Mutex<()>,
    counters: Counters,
    /// What URLs are signed with; none: they are not.
    signing: ArcSwapOption<Signing>,
}

impl Steering {
    /// Knows no box until the first [`Steering::refresh`].
    pub fn new(config: Config) -> Self {
        Self {
            config,
            current: ArcSwap::from_pointee(Snapshot::empty()),
            building: Mutex::new(()),
            counters: Counters::default(),
            signing: ArcSwapOption::empty(),
        }
    }

    /// From here on URLs are signed with this, or not at all.
    pub fn sign_with(&self, signing: signing::Current) {
        self.signing.store(signing);
    }

    /// Builds and swaps in a new snapshot; returns its generation. CPU-bound, up to seconds when
    /// all routes of a large fleet changed: not for a runtime's thread.
    pub fn refresh(&self, inputs: Inputs) -> u64 {
        let _one = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        let built = Snapshot::build(inputs, Some(&self.current.load()));
        let generation = built.generation;
        self.current.store(Arc::new(built));
        generation
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Answers one question as `GET /v1/steer` and `oca control steer|explain` show it. `peer`
    /// stands for a client that is not named.
    pub fn question(
        &self,
        raw: &RawQuestion,
        peer: Option<IpAddr>,
        now: Wall,
    ) -> Result<Value, QuestionError> {
        let asked = raw.parse(peer, self.config.answers)?;
        let snapshot = self.snapshot();
        let body = self.one(&snapshot, &asked, now);
        Ok(answer::framed(&snapshot, now, body))
    }

    /// As [`Steering::question`] for several keys; `raw.key` is not looked at.
    pub fn questions(
        &self,
        raw: &RawQuestion,
        keys: &[String],
        peer: Option<IpAddr>,
        now: Wall,
    ) -> Result<Value, QuestionError> {
        let asked = question::parse_many(raw, keys, peer, self.config.answers)?;
        let snapshot = self.snapshot();
        let answers: Vec<Value> = asked
            .iter()
            .map(|asked| self.one(&snapshot, asked, now))
            .collect();
        let body = serde_json::json!({ "answers": answers });
        Ok(answer::framed(&snapshot, now, body))
    }

    fn one(&self, snapshot: &Snapshot, asked: &question::Question, now: Wall) -> Value {
        let signing = self.signing.load();
        let names = answer::Names {
            domain: &self.config.domain,
            signing: signing.as_deref(),
            now,
        };
        answer::answer(snapshot, asked, &names, &self.counters)
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}
