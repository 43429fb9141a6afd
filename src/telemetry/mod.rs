//! Logs and metrics: what the box tells about itself.
//!
//! [`start`] is called once, first of all rooms, by `appliance`. `filter` reads what to log, `logs`
//! chooses how to write it, `json` is the line format, `limit` keeps one cause from flooding the
//! log. `metrics` is the registry that every room adds its collectors to; `admin` renders it.
//! This room never decides anything about serving.

mod filter;
mod json;
mod limit;
mod logs;
mod metrics;

use serde::Serialize;

pub use filter::check_filter;
pub use limit::LogLimit;
pub use logs::Handle;
pub use logs::start;
pub use metrics::Collector;
pub use metrics::Exposition;
pub use metrics::Registry;
pub use metrics::Sample;

/// `[telemetry]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    /// Filter in `tracing` syntax. Default `info`.
    pub log_level: String,
    pub log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// journald when systemd gave us its stream, text on a terminal, JSON otherwise.
    Auto,
    Json,
    Text,
    Journald,
}

/// Why logging could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error(
        "log filter `{filter}`: {problem}; write a level (error, warn, info, debug, trace, \
             off) or directives such as `oca::serve=debug,info`"
    )]
    Filter { filter: String, problem: String },
    #[error(
        "journald does not answer on /run/systemd/journal/socket ({0}); set [telemetry] \
             log_format to \"json\", \"text\" or \"auto\""
    )]
    Journald(std::io::Error),
    #[error("logging is already set up in this process; start the telemetry room only once")]
    AlreadyStarted,
    #[error("the log filter cannot be changed: {0}; restart the daemon")]
    Gone(String),
}
