//! Is the box fit to serve? First form: the gate's decision from facts, and the drain state.
//!
//! `appliance` collects [`Facts`], asks [`decide`] and publishes the answer in its `watch`; nothing
//! else may open or close a box. [`drain`] is the operator's wish, [`drain_file`] keeps it over a
//! restart. Probes and scores come with later work.

pub mod drain;
pub mod drain_file;
mod gate;
pub mod lease;
pub mod schedule;

use serde::Serialize;

pub use drain::Drain;
pub use gate::Facts;
pub use gate::decide;
pub use gate::readable_disks;

/// `[gate]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    /// What must hold before viewers are served. `[]` for a stand-alone box.
    pub require: Vec<Requirement>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Requirement {
    /// Enabled by a control plane, with a lease that has not ended.
    Control,
    /// At least one steerable route.
    Bgp,
    /// A synchronised clock.
    Clock,
}
