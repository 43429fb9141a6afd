//! The socket files: made with their permissions before anybody can connect, stale ones replaced,
//! live ones respected, removed at the end.
//!
//! I/O: binds, connects to and renames Unix sockets.

use super::SocketError;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;

/// `sun_path` of unix(7) holds 108 bytes with the final zero, and we bind at `<path>.new` first.
pub(super) const PATH_BYTES_MAX: usize = 103;

/// Owner and group may give commands.
pub const FULL_MODE: u32 = 0o660;

/// Everybody on the box may ask: the answers hold no secrets, and monitoring agents need no group.
pub const READ_ONLY_MODE: u32 = 0o666;

/// A bound socket and the file that leads to it; the file goes with it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode: a file that another process put in our place is not ours to remove.
    identity: (u64, u64),
}

/// Binds `path` with `mode`. Non-blocking.
pub fn bind(path: &Path, mode: u32) -> Result<(UnixListener, SocketFile), SocketError> {
    let failed = |error| SocketError::Io {
        path: path.to_owned(),
        error,
    };
    if path.as_os_str().len() > PATH_BYTES_MAX {
        let path = path.to_owned();
        return Err(SocketError::PathTooLong { path });
    }
    refuse_if_taken(path)?;
    // Bound beside, given its mode, then renamed: the final name never leads to a socket with the
    // wrong permissions, and a stale file is replaced in one step.
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    remove_socket(&beside).map_err(failed)?;
    let listener = match UnixListener::bind(&beside) {
        Ok(listener) => listener,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let path = path.to_owned();
            return Err(SocketError::NoDirectory { path });
        }
        Err(error) => return Err(failed(error)),
    };
    let placed = || -> io::Result<(u64, u64)> {
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(mode))?;
        listener.set_nonblocking(true)?;
        let about = std::fs::symlink_metadata(&beside)?;
        std::fs::rename(&beside, path)?;
        Ok((about.dev(), about.ino()))
    };
    match placed() {
        Ok(identity) => {
            let path = path.to_owned();
            Ok((listener, SocketFile { path, identity }))
        }
        Err(error) => {
            let _ = std::fs::remove_file(&beside);
            Err(failed(error))
        }
    }
}

fn refuse_if_taken(path: &Path) -> Result<(), SocketError> {
    let owned = || path.to_owned();
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            let path = owned();
            return Err(SocketError::Io { path, error });
        }
        Ok(about) if !about.file_type().is_socket() => {
            return Err(SocketError::NotASocket { path: owned() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        // Nobody listens: left by a process that died.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A full backlog (EAGAIN) and a refused permission both mean that somebody is there.
        Ok(_) | Err(_) => Err(SocketError::InUse { path: owned() }),
    }
}

fn remove_socket(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(about) if about.file_type().is_socket() => std::fs::remove_file(path),
        Ok(_) => Err(io::Error::other(format!(
            "{} is in the way; remove it",
            path.display()
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|about| (about.dev(), about.ino()) == self.identity);
        if ours {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_respected() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("oca.sock");
        // Dropping a std listener leaves its file behind, as a killed process does.
        drop(UnixListener::bind(&path).unwrap());
        let (listener, file) = bind(&path, FULL_MODE).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        let error = bind(&path, FULL_MODE).unwrap_err();
        assert!(matches!(error, SocketError::InUse { .. }), "{error}");
        drop((listener, file));
        assert!(!path.exists());
    }

    #[test]
    fn what_is_not_ours_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("oca.sock");
        std::fs::write(&path, "precious").unwrap();
        let error = bind(&path, FULL_MODE).unwrap_err();
        assert!(matches!(error, SocketError::NotASocket { .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        std::fs::remove_file(&path).unwrap();

        let (_listener, file) = bind(&path, FULL_MODE).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "another's").unwrap();
        drop(file);
        assert!(path.exists());
    }

    #[test]
    fn a_missing_directory_and_a_long_path_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = bind(&dir.path().join("no/oca.sock"), FULL_MODE).unwrap_err();
        assert!(error.to_string().contains("directory"), "{error}");
        let long = dir.path().join("x".repeat(120));
        let error = bind(&long, FULL_MODE).unwrap_err();
        assert!(matches!(error, SocketError::PathTooLong { .. }), "{error}");
    }
}
