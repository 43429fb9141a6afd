//! Logs, metrics and the access log's writer.

use serde::Serialize;

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
