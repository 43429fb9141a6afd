//! The key of a session, from its file. It is never shown, and wiped when it is dropped.
//!
//! I/O: reads a small file.

use super::BgpError;
use super::NeighbourConfig;
use crate::sys::md5;
use crate::sys::tcp_ao;
use std::fmt;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use zeroize::Zeroizing;

/// With its line end, and room to see that it is too long.
const FILE_BYTES_MAX: u64 = 1024;

/// A key of TCP-MD5, or of TCP-AO with its identifier.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    pub(super) ao_id: Option<u8>,
}

/// What is wrong with the file, for the end of a sentence.
#[derive(Debug, thiserror::Error)]
pub(super) enum PasswordError {
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    #[error("is not a file")]
    NoFile,
    #[error("can be read by everybody; take that right away: chmod o= and the owner that runs oca")]
    Open,
    #[error(
        "must hold one line of 1 to {} bytes: the password",
        md5::KEY_BYTES_MAX
    )]
    Strange,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("ao_id", &self.ao_id)
            .finish_non_exhaustive()
    }
}

impl Key {
    /// The file's one line.
    pub(super) fn read(path: &Path, ao_id: Option<u8>) -> Result<Self, PasswordError> {
        // Looked at before it is opened: opening a pipe would wait.
        let about = std::fs::metadata(path)?;
        if !about.is_file() {
            return Err(PasswordError::NoFile);
        }
        // A systemd credential may carry its access list in the group's bits.
        if about.permissions().mode() & 0o007 != 0 {
            return Err(PasswordError::Open);
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(1024));
        let file = std::fs::File::open(path)?;
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        for end in [b'\n', b'\r'] {
            if bytes.last() == Some(&end) {
                bytes.pop();
            }
        }
        let is_line = !bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r' | 0));
        if is_line && (1..=md5::KEY_BYTES_MAX).contains(&bytes.len()) {
            Ok(Self { bytes, ao_id })
        } else {
            Err(PasswordError::Strange)
        }
    }
}

/// What of a neighbour this machine cannot do, for `oca check`.
#[derive(Debug)]
pub struct Unusable {
    pub key: &'static str,
    pub problem: String,
    pub remedy: &'static str,
}

impl NeighbourConfig {
    /// Its key, if it has one, as this machine can use it.
    pub(super) fn key(&self) -> Result<Option<Key>, BgpError> {
        let Some(path) = &self.transport.password_file else {
            return Ok(None);
        };
        let ao_id = self.transport.tcp_ao_id;
        let key = Key::read(path, ao_id).map_err(|problem| BgpError::Password {
            neighbour: self.name.clone(),
            path: path.clone(),
            problem: problem.to_string(),
        })?;
        if ao_id.is_some() && !tcp_ao::is_supported() {
            let neighbour = self.name.clone();
            return Err(BgpError::NoTcpAo { neighbour });
        }
        Ok(Some(key))
    }

    /// The same question without an answer that is kept. Reads the password file.
    pub fn unusable(&self) -> Option<Unusable> {
        let (key, problem, remedy) = match self.key() {
            Ok(_) => return None,
            Err(error @ BgpError::NoTcpAo { .. }) => {
                let remedy = "leave the key out, on the router too, or use such a kernel";
                ("tcp_ao_id", error, remedy)
            }
            Err(error) => {
                let remedy = "put the password there, in one line, and let the user that runs \
                              oca read it; check as that user or as root";
                ("password_file", error, remedy)
            }
        };
        Some(Unusable {
            key,
            problem: problem.to_string(),
            remedy,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8], mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(file.path(), permissions).unwrap();
        file
    }

    fn read(content: &[u8], mode: u32) -> Result<Key, PasswordError> {
        Key::read(file(content, mode).path(), None)
    }

    #[test]
    fn what_this_machine_cannot_do_is_told_by_its_key() {
        let file = file(b"s3cret\n", 0o600);
        let mut neighbour = super::super::tests_support::neighbour("edge", crate::route::Asn(1));
        assert!(neighbour.unusable().is_none());
        neighbour.transport.password_file = Some(file.path().to_owned());
        assert!(neighbour.unusable().is_none());
        neighbour.transport.tcp_ao_id = Some(1);
        let told = neighbour.unusable();
        assert_eq!(told.is_none(), tcp_ao::is_supported());
        if let Some(told) = told {
            assert_eq!(told.key, "tcp_ao_id");
            assert!(told.problem.contains("CONFIG_TCP_AO"), "{}", told.problem);
        }
        neighbour.transport.password_file = Some("/nonexistent/password".into());
        let told = neighbour.unusable().unwrap();
        assert_eq!(told.key, "password_file");
        assert!(told.problem.contains("cannot be read"), "{}", told.problem);
    }

    #[test]
    fn a_password_is_one_line_that_nobody_else_can_read_and_is_never_shown() {
        for content in [&b"s3cret"[..], b"s3cret\n", b"s3cret\r\n"] {
            let key = read(content, 0o640).unwrap();
            assert_eq!(&key.bytes[..], b"s3cret");
            assert!(!format!("{key:?}").contains("s3cret"));
        }
        let longest = [b'x'; md5::KEY_BYTES_MAX];
        assert_eq!(read(&longest, 0o600).unwrap().bytes.len(), longest.len());
        let too_long = [b'x'; md5::KEY_BYTES_MAX + 1];
        for bad in [&b""[..], b"\n", b"two\nlines\n", b"a\0b", &too_long] {
            let refused = read(bad, 0o600);
            assert!(matches!(refused, Err(PasswordError::Strange)), "{bad:?}");
        }
        assert!(matches!(read(b"x", 0o604), Err(PasswordError::Open)));
        let nowhere = Key::read(Path::new("/nonexistent/password"), None);
        assert!(matches!(nowhere, Err(PasswordError::Io(_))));
        let directory = Key::read(Path::new("/"), None);
        assert!(matches!(directory, Err(PasswordError::NoFile)));
    }
}
