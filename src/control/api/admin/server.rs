//! The two socket files and what listens on them.
//!
//! `control.sock` (0660) takes commands, `control-ro.sock` beside it only questions.
//!
//! I/O: binds Unix sockets; one task each.

use super::Deps;
use super::REPLY_TIME;
use super::gauges::Gauges;
use super::routes;
use super::routes::Shared;
use crate::control::AdminConfig;
use crate::local;
use crate::local::Accept;
use crate::local::Counters;
use crate::local::SocketError;
use crate::local::SocketFile;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio::task::JoinSet;

/// The open door. Dropping it closes it, stops a running import after the file at hand, and
/// removes the socket files.
#[derive(Debug)]
pub struct Handle {
    shared: Shared,
    tasks: JoinSet<()>,
    _files: [SocketFile; 2],
}

/// Binds both sockets, then starts; on an error nothing is left behind.
pub fn start(config: &AdminConfig, deps: Deps) -> Result<Handle, SocketError> {
    let (full, full_file) = bind(&config.socket, local::FULL_MODE)?;
    let (read_only, read_only_file) = bind(&twin(&config.socket), local::READ_ONLY_MODE)?;
    let counters = Arc::new(Counters::default());
    deps.metrics.register(Gauges {
        books: deps.books.clone(),
        fleet: deps.fleet.clone(),
        counters: counters.clone(),
    });
    let shared = Shared::new(deps, &config.socket);
    let accept = |router| Accept::new(router, REPLY_TIME, &counters);
    let mut tasks = JoinSet::new();
    tasks.spawn(accept(routes::full(shared.clone())).unix(full));
    tasks.spawn(accept(routes::read_only(shared.clone())).unix(read_only));
    Ok(Handle {
        shared,
        tasks,
        _files: [full_file, read_only_file],
    })
}

impl Handle {
    /// Ends open conversations and removes the socket files.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.import.stop();
        self.tasks.abort_all();
    }
}

fn bind(path: &Path, mode: u32) -> Result<(UnixListener, SocketFile), SocketError> {
    let (listener, file) = local::bind(path, mode)?;
    let listener = UnixListener::from_std(listener).map_err(|error| SocketError::Io {
        path: path.to_owned(),
        error,
    })?;
    Ok((listener, file))
}

/// `control.sock` → `control-ro.sock`.
fn twin(socket: &Path) -> PathBuf {
    let mut name = socket.file_stem().unwrap_or_default().to_owned();
    name.push("-ro");
    let mut twin = socket.with_file_name(name);
    if let Some(extension) = socket.extension() {
        twin.as_mut_os_string().push(".");
        twin.as_mut_os_string().push(extension);
    }
    twin
}
