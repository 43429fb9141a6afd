//! What the boxes say of themselves, in memory: reports and heartbeats in, one [`View`] out.
//!
//! `prepared` checks a report and does its heavy part before anybody waits for it → `machine` owns
//! a `record` a box and takes reports and heartbeats with `now` (sans-IO) → `held` and `routes`
//! apply the steps of both sets, all or nothing → `resync` bounds how many boxes send everything at
//! once → `staleness` decides who is silent, and distrusts itself before it distrusts many.
//! `task` runs the machine and publishes the [`View`].

mod apply;
mod counters;
#[cfg(test)]
mod fixtures;
mod held;
mod machine;
mod metrics;
mod prepared;
mod record;
mod resync;
mod routes;
mod sharing;
mod staleness;
mod task;

use crate::ids::BoxId;
use crate::link::message::Code;
use crate::link::message::FillProgress;
use crate::link::message::GateState;
use crate::link::message::Load;
use crate::link::message::Position;
use crate::link::message::Quality;
use crate::prefix::Prefix;
use crate::route::Route;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use counters::Counters;
pub use machine::Action;
pub use machine::Config;
pub use machine::Fleet;
pub use prepared::Prepared;
pub use task::Deps;
pub use task::Handle;
pub use task::Inbox;
pub use task::start;

/// A report or a heartbeat that was not taken. The old state stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    pub code: Code,
    /// A sentence: whose fault it is and what to do.
    pub message: String,
    /// When to come again, for [`Code::Busy`].
    pub retry_after: Option<Duration>,
}

impl Refused {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after: None,
        }
    }

    pub fn busy(message: impl Into<String>, retry_after: Duration) -> Self {
        Self {
            code: Code::Busy,
            message: message.into(),
            retry_after: Some(retry_after),
        }
    }
}

/// The fleet at one moment: immutable, shared, swapped whole.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Grows with each change that steering could notice.
    pub generation: u64,
    pub boxes: BTreeMap<BoxId, Arc<BoxView>>,
    /// Too many boxes went silent at once: their last state is kept, and somebody should look.
    pub frozen: Option<String>,
}

/// One box, as its last accepted report and heartbeat have it.
#[derive(Clone, Debug)]
pub struct BoxView {
    /// May viewers be sent there? `Err` says why not, for `explain`.
    pub open: Result<(), Shut>,
    /// Bundles that it holds whole.
    pub bundles: Arc<Bitmap>,
    /// Objects that it holds, known to the library or not.
    pub objects: u64,
    /// Numbers of the library's objects that it holds.
    pub known: Arc<Bitmap>,
    /// Networks of its own interfaces.
    pub interfaces: Arc<[Prefix]>,
    /// As its last report has it; `None`: it fills nothing.
    pub fill: Option<FillProgress>,
    /// As its last report has it, but for the networks beyond the busiest.
    pub quality: Option<Arc<Quality>>,
    pub routes: Arc<[Route]>,
    pub gate: Option<GateState>,
    pub load: Load,
    pub boot_id: Option<String>,
    pub manifest: Option<Position>,
    /// RFC 3339.
    pub last_report: Option<String>,
    pub last_heartbeat: Option<String>,
    pub version: Option<String>,
}

/// Why a box gets no viewers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shut {
    /// It has not reported since this control plane started.
    Unknown,
    /// The box's own gate: `closed: drained`.
    Gate(String),
    NotEnabled,
    Quarantined,
    Revoked,
    /// No heartbeat within the time.
    Silent,
    /// Reports missed.
    Stale,
}

/// A set of dense numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bitmap(Vec<u64>);

impl Bitmap {
    pub fn insert(&mut self, number: u32) {
        let word = (number / 64) as usize;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (number % 64);
    }

    /// Equal sets stay equal values: no empty words are left at the end.
    pub fn remove(&mut self, number: u32) {
        if let Some(word) = self.0.get_mut((number / 64) as usize) {
            *word &= !(1 << (number % 64));
        }
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    pub fn contains(&self, number: u32) -> bool {
        let word = self.0.get((number / 64) as usize);
        word.is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }
}
