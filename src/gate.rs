//! The gate: may this box serve viewers now, and if not, why not.
//!
//! `health` decides it, `appliance` carries it in a `watch`, `serve` obeys it. Nobody else may
//! open or close a box.

use serde::Deserialize;
use serde::Serialize;
use std::fmt;

/// The decision. Reasons are sorted and never empty when closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    Serving,
    Closed(Vec<Reason>),
}

/// Why a box is closed. The names are part of the wire and of the JSON answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    NoManifest,
    NotEnabled,
    LeaseExpired,
    NoRoutes,
    Drained,
    Disks,
    Clock,
    Stopping,
}

impl Gate {
    /// Closed if there is any reason.
    pub fn from_reasons(mut reasons: Vec<Reason>) -> Self {
        if reasons.is_empty() {
            return Self::Serving;
        }
        reasons.sort_unstable();
        reasons.dedup();
        Self::Closed(reasons)
    }

    pub fn is_serving(&self) -> bool {
        matches!(self, Self::Serving)
    }

    pub fn reasons(&self) -> &[Reason] {
        match self {
            Self::Serving => &[],
            Self::Closed(reasons) => reasons,
        }
    }

    /// `drained, disks`; empty while serving.
    pub fn reasons_in_words(&self) -> String {
        let names: Vec<&str> = self
            .reasons()
            .iter()
            .map(|reason| reason.as_str())
            .collect();
        names.join(", ")
    }

    /// `serving` or `closed`, as shown by `oca show status`.
    pub fn state(&self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Closed(_) => "closed",
        }
    }
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoManifest => "no-manifest",
            Self::NotEnabled => "not-enabled",
            Self::LeaseExpired => "lease-expired",
            Self::NoRoutes => "no-routes",
            Self::Drained => "drained",
            Self::Disks => "disks",
            Self::Clock => "clock",
            Self::Stopping => "stopping",
        }
    }
}

impl fmt::Display for Gate {
    /// `serving`, or `closed: drained, disks`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serving => f.write_str(self.state()),
            Self::Closed(_) => write!(f, "{}: {}", self.state(), self.reasons_in_words()),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
