//! What an operator may ask a running box to do.
//!
//! `admin` parses these from the socket and sends them to `appliance`, which owns the state they
//! change. Each carries its own reply; a dropped reply means the daemon is stopping.

use crate::prefix::Family;
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::oneshot;

/// Where an answer goes.
pub type Reply = oneshot::Sender<Result<Value, Refusal>>;

/// One request with the place for its answer.
#[derive(Debug)]
pub struct Request {
    pub command: Command,
    pub reply: Reply,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Take no new viewers; for good, or until the time has passed.
    Drain {
        time: Option<Duration>,
    },
    Undrain,
    /// Read the configuration again, all or nothing.
    Reload,
    /// Set the log filter (`info`, `debug`, `oca::serve=trace,info` …).
    LogLevel {
        filter: String,
    },
    /// Hash, place and publish a directory of media on the server's own file system.
    Prefill {
        dir: PathBuf,
    },
    /// Stop a running prefill at the next file; what is published stays.
    PrefillStop,
    /// Plan the fill and ask for sources at once; `prefill`: without window and cap.
    FillStart {
        prefill: bool,
    },
    /// Read what the disks hold, and compare it with a certificate of content.
    CertificateCheck {
        path: PathBuf,
    },
    /// Receive nothing until it is resumed, restarts included.
    FillPause,
    FillResume,
    /// Look again at a disk that was refused, and take it if it can be used.
    DiskAdopt {
        path: PathBuf,
    },
    /// The same; a blank one is made ours.
    DiskFormat {
        path: PathBuf,
    },
    /// Try a suspect disk that somebody looked at, and take it back.
    DiskCheck {
        path: PathBuf,
    },
    /// Empty a disk that is to leave, or let it stay after all.
    DiskRetire {
        path: PathBuf,
        undo: bool,
    },
    /// Something for one BGP session; the name may be an unambiguous beginning.
    Bgp {
        neighbour: String,
        order: BgpOrder,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BgpOrder {
    Up,
    /// With a text for the neighbour's operator (RFC 9003).
    Down {
        text: String,
    },
    /// Of both families if none is named.
    Refresh {
        family: Option<Family>,
    },
}

/// Why a command was not carried out. The kind decides the exit code of the command line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// What was asked for is wrong; asking again will not help.
    #[error("{0}")]
    BadRequest(String),
    #[error("{0}")]
    NotFound(String),
    /// The box is not in a state in which it can do that.
    #[error("{0}")]
    State(String),
    /// It was tried and failed.
    #[error("{0}")]
    Failed(String),
}
