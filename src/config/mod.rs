//! TOML to each module's `Config`, or every problem at once.

use crate::admin;
use crate::health;
use crate::ids::Identity;
use crate::serve;
use crate::store;
use crate::telemetry;
use serde::Serialize;
use std::time::Duration;

/// The whole configuration, valid by construction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    pub appliance: Identity,
    /// `[appliance] stop_time`: how long TERM lets running responses finish. Default 30 s.
    pub stop_time: Duration,
    pub serve: serve::Config,
    pub store: store::Config,
    pub health: health::Config,
    pub admin: admin::Config,
    pub telemetry: telemetry::Config,
}
