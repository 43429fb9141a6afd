//! Is the box fit to serve? First form: the gate's decision from facts.

use serde::Serialize;

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
