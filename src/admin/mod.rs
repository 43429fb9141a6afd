//! The local admin sockets: HTTP and JSON over Unix sockets, on a thread and runtime of their own.
//!
//! `oca.sock` (0660) accepts commands, `oca-ro.sock` only questions. Answers come from the `View`s of
//! the other rooms, so a wedged subsystem can still be asked about.

use serde::Serialize;
use std::net::SocketAddr;
use std::path::PathBuf;

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
