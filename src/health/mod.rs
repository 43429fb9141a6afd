//! Is the box fit to serve, and does its control plane know how it is?
//!
//! `appliance` collects [`Facts`], asks [`decide`] and publishes the answer in its `watch`; nothing
//! else may open or close a box. [`drain`] is the operator's wish, [`drain_file`] keeps it over a
//! restart. The control plane's part: [`start`] (`handle`) runs `task`, which makes the `calls`
//! that `schedule` decides on, holds the `lease`, watches the `skew` of both clocks, composes each
//! `report`, hears `news` of the other rooms, keeps its `complaints` and shows it all in a `view`.
//! The other rooms speak with the control plane over a `line`.

mod calls;
mod complaints;
pub mod drain;
pub mod drain_file;
mod gate;
mod handle;
pub mod lease;
mod line;
mod news;
mod quality;
pub mod report;
pub mod schedule;
mod skew;
mod task;
mod view;

use serde::Serialize;

pub use crate::link::steps::CatalogueChanges;
pub use drain::Drain;
pub use gate::Facts;
pub use gate::decide;
pub use gate::readable_disks;
pub use handle::AdoptFn;
pub use handle::ChangesFn;
pub use handle::Deps;
pub use handle::FillFn;
pub use handle::Handle;
pub use handle::HeldFn;
pub use handle::InterfacesFn;
pub use handle::QualityFn;
pub use handle::ServeFn;
pub use handle::SignedManifest;
pub use handle::ViewerKeysFn;
pub use handle::entropy;
pub use handle::start;
pub use line::Line;
pub use view::ControlView;
pub use view::LinkState;

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
