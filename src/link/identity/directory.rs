//! The identity directory: `key.pem`, `certificate.pem`, `ca.pem`, `manifest-keys`.
//!
//! Each file is written beside the old one, synced and renamed. The certificate comes last: with it
//! the box is enrolled, and everything it needs is there. Contents are [`super`]'s matter.
//!
//! I/O: reads and writes files, blocks.

use super::IdentityError;
use crate::durable;
use std::fs::DirBuilder;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

pub(super) const KEY: &str = "key.pem";
pub(super) const CERTIFICATE: &str = "certificate.pem";
pub(super) const CA: &str = "ca.pem";
pub(super) const MANIFEST_KEYS: &str = "manifest-keys";

/// A chain of a few certificates; anything larger is not ours.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// The directory, made if it was missing.
pub(super) fn make(directory: &Path) -> Result<(), IdentityError> {
    if directory.is_dir() {
        return Ok(());
    }
    let made = || -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let parent = directory
            .parent()
            .filter(|path| !path.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    };
    made().map_err(|error| failed(directory, &error))
}

/// `None`: there is no such file.
pub(super) fn read(directory: &Path, name: &str) -> Result<Option<String>, IdentityError> {
    let path = directory.join(name);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&path, &error)),
    };
    let read = || -> io::Result<String> {
        let mut text = String::new();
        let length = (&file).take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
        if u64::try_from(length).is_ok_and(|length| length <= FILE_BYTES_MAX) {
            Ok(text)
        } else {
            Err(io::Error::other("it is too large to be ours"))
        }
    };
    read().map(Some).map_err(|error| failed(&path, &error))
}

/// The key, which nobody else may be able to read.
pub(super) fn read_key(directory: &Path) -> Result<Option<String>, IdentityError> {
    let path = directory.join(KEY);
    match std::fs::metadata(&path) {
        Ok(meta) if meta.permissions().mode() & 0o077 != 0 => Err(IdentityError::File {
            problem: "others may read this private key; if nobody has, `chmod 600` it, \
                      otherwise remove the directory and enrol with another token"
                .to_owned(),
            path,
        }),
        Ok(_) => read(directory, KEY),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(&path, &error)),
    }
}

/// Mode 0600 whatever it is.
pub(super) fn write(directory: &Path, name: &str, text: &str) -> Result<(), IdentityError> {
    let path = directory.join(name);
    let written = durable::replace(&path, text.as_bytes(), 0o600);
    written.map_err(|error| failed(&path, &error))
}

fn failed(path: &Path, error: &io::Error) -> IdentityError {
    IdentityError::File {
        path: PathBuf::from(path),
        problem: error.to_string(),
    }
}
