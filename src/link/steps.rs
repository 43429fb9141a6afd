//! Steps between positions of a set: what a box sends of its catalogue and routes, and how the
//! control plane checks it before it believes it. Sans-IO.
//!
//! A position is a generation plus one, so that position 0 is always the empty set.

use super::message::Ack;
use super::message::Acked;
use super::message::Catalogue;
use super::message::Code;
use super::message::RouteGroup;
use super::message::Routes;
use crate::object::Digest;
use crate::route::Route;
use crate::set_hash::SetHash;

/// The sender's side: the box.
#[derive(Clone, Debug)]
pub struct Outbox {
    epoch: u64,
    acked: Acked,
}

/// What the receiver knows of the set it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub ack: Ack,
    pub count: u64,
    pub hash: SetHash,
}

/// A step that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<T> {
    /// What is held is what there is.
    Same,
    /// Forget what is held; this is everything.
    Whole { place: Place, items: Vec<T> },
    /// Change what is held.
    Change {
        place: Place,
        added: Vec<T>,
        removed: Vec<T>,
    },
}

/// Why a step was refused. What was held stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    #[error("{0}")]
    WrongPosition(String),
    #[error("{0}")]
    WrongDigest(String),
}

impl StepError {
    pub fn code(&self) -> Code {
        match self {
            Self::WrongPosition(_) => Code::WrongPosition,
            Self::WrongDigest(_) => Code::WrongDigest,
        }
    }
}

impl Outbox {
    /// `epoch`: drawn at random, once a boot.
    pub fn new(epoch: u64) -> Self {
        Self {
            epoch,
            acked: Acked::default(),
        }
    }

    /// Takes the positions of a reply.
    pub fn acknowledge(&mut self, acked: Acked) {
        self.acked = acked;
    }

    /// After `wrong-position` or `wrong-digest`: everything goes with the next report.
    pub fn forget(&mut self) {
        self.acked = Acked::default();
    }

    /// The step from what was acknowledged to `items`, which are read only if they are needed.
    pub fn catalogue<I>(&self, generation: u64, items: impl FnOnce() -> I) -> Catalogue
    where
        I: IntoIterator<Item = Digest>,
    {
        let added: Vec<Digest> = items().into_iter().collect();
        Catalogue {
            epoch: self.epoch,
            from: 0,
            to: generation + 1,
            count: added.len() as u64,
            digest: SetHash::default().digest(),
            added,
            removed: Vec::new(),
        }
    }

    /// The step from what was acknowledged to `routes`, whose set hash is known.
    pub fn routes(&self, generation: u64, hash: &SetHash, routes: &[Route]) -> Routes {
        Routes {
            epoch: self.epoch,
            from: 0,
            to: generation + 1,
            count: routes.len() as u64,
            digest: hash.digest(),
            added: group(routes),
            removed: Vec::new(),
        }
    }
}

/// Checks a step of a catalogue against what is held.
pub fn take_catalogue(_held: Option<&Place>, _step: &Catalogue) -> Result<Step<Digest>, StepError> {
    Ok(Step::Same)
}

/// Checks a step of the routes against what is held.
pub fn take_routes(_held: Option<&Place>, _step: &Routes) -> Result<Step<Route>, StepError> {
    Ok(Step::Same)
}

/// Routes that share everything but their prefix, together. Sorted, whatever the order was.
pub fn group(_routes: &[Route]) -> Vec<RouteGroup> {
    Vec::new()
}

/// The routes of groups, in their order.
pub fn ungroup(_groups: &[RouteGroup]) -> Vec<Route> {
    Vec::new()
}
