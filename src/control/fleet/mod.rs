//! What the boxes say of themselves, in memory: reports and heartbeats in, one [`View`] out.
//!
//! `fleet` owns a record a box and takes reports and heartbeats with `now` (sans-IO); `staleness`
//! decides who is silent, and distrusts itself before it distrusts many.

use crate::ids::BoxId;
use crate::link::message::GateState;
use crate::link::message::Load;
use crate::link::message::Position;
use crate::route::Route;
use std::collections::BTreeMap;
use std::sync::Arc;

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
