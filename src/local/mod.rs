//! A local HTTP and JSON socket: how a daemon of ours answers its operator.
//!
//! `socket` binds the file with its permissions → `accept` takes connections, knows who is there,
//! bounds time and bytes and speaks HTTP/1.1 → `body` reads a command → `answer` writes JSON. What
//! is asked and answered belongs to the rooms that use it: `admin` of the box, `control`.

mod accept;
mod answer;
mod body;
mod socket;

use std::path::Path;
use std::path::PathBuf;

pub use accept::Accept;
pub use accept::Counters;
pub use accept::Peer;
pub use answer::Failure;
pub use answer::ok;
pub use body::BODY_BYTES_MAX;
pub use body::optional;
pub use body::parse;
pub use body::read;
pub use socket::FULL_MODE;
pub use socket::READ_ONLY_MODE;
pub use socket::SocketFile;
pub use socket::bind;

/// Why a socket could not be opened. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("{path}: another oca answers there; stop it, or set [admin] socket to another path")]
    InUse { path: PathBuf },
    #[error(
        "{path}: it exists and is not a socket; remove it, or set [admin] socket to \
             another path"
    )]
    NotASocket { path: PathBuf },
    #[error(
        "{path}: the directory {} is missing; create it (the package's tmpfiles.d entry and \
             systemd's RuntimeDirectory= do)",
        parent(path)
    )]
    NoDirectory { path: PathBuf },
    #[error(
        "{path}: the path has more than {} bytes, the kernel's limit for sockets; set a \
             shorter one",
        socket::PATH_BYTES_MAX
    )]
    PathTooLong { path: PathBuf },
    #[error("{path}: {error}")]
    Io {
        path: PathBuf,
        error: std::io::Error,
    },
}

fn parent(path: &Path) -> String {
    path.parent()
        .map_or_else(String::new, |dir| dir.display().to_string())
}
