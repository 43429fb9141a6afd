//! The local admin sockets: HTTP and JSON over Unix sockets, on a thread and runtime of their own.
//!
//! `server` binds them and lets `local` accept, bound and speak HTTP → `routes` answers questions
//! from the `View`s of the other rooms, so a wedged subsystem can still be asked about → `commands`
//! turns a POST into a [`command::Request`] for `appliance` and waits for the reply within a bound.
//! `gauges` shows the views as metrics.
//!
//! `oca.sock` (0660) accepts commands, `oca-ro.sock` only questions.

mod commands;
mod gauges;
mod routes;
mod routing;
mod server;
mod speaker;
mod views;

use crate::command;
use crate::local::SocketError;
use crate::task::Heartbeat;
use crate::telemetry;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;

pub use server::Handle;
pub use server::start;
pub use views::BgpFn;
pub use views::CatalogueFn;
pub use views::StoreFn;
pub use views::TableFn;
pub use views::TapFn;
pub use views::ValueFn;
pub use views::Views;

/// `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    /// Default `/run/oca/oca.sock`.
    pub socket: PathBuf,
    /// Default `/run/oca/oca-ro.sock`.
    pub read_only_socket: PathBuf,
    /// OpenMetrics over TCP as well as over the sockets. Default none.
    pub metrics_listen: Option<SocketAddr>,
}

/// What the room needs from the wiring.
#[derive(Debug)]
pub struct Deps {
    /// Bounded; full or unread means that commands are refused while questions go on.
    pub commands: mpsc::Sender<command::Request>,
    pub views: Views,
    pub metrics: telemetry::Registry,
    /// Of every other scheduler; shown in status and metrics. This room's own is in [`Handle`].
    pub heartbeats: Vec<Heartbeat>,
    /// How long a command may take to be answered: [`REPLY_TIME`], shorter in tests.
    pub reply_time: Duration,
}

/// A reload prepares listeners and certificates within seconds; long work (prefill) is to reply
/// when it has begun.
pub const REPLY_TIME: Duration = Duration::from_secs(30);

/// Why the sockets could not be opened. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error(
        "the two sockets have one path, {path}; give [admin] socket and read_only_socket \
             different ones"
    )]
    SamePath { path: PathBuf },
    #[error("[admin] metrics_listen {address}: {error}")]
    Metrics {
        address: SocketAddr,
        error: std::io::Error,
    },
    #[error("the admin thread cannot be started: {0}")]
    Thread(std::io::Error),
}
