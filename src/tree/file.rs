//! One file of a media tree: read in order, and noticed when it changes under the reader.
//!
//! I/O: reads a file of the operator's directory; blocks.

use nix::fcntl::OFlag;
use std::fs::File;
use std::fs::Metadata;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

/// One piece; the disk writes one while the next is read and hashed.
const PIECE_BYTES: usize = 1 << 20;

/// A regular file that is open for reading.
#[derive(Debug)]
pub struct StableFile {
    path: PathBuf,
    file: File,
    stamp: Stamp,
    read: u64,
}

/// What differs when a file is not the same any more. The change time notices a writer who sets
/// the modification time back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Why a file was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is not a regular file")]
    Kind,
    #[error("the file changed while it was read")]
    Changed,
}

impl FileError {
    /// What the operator can do.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Io(_) => "check its permissions and the disk it is on",
            Self::Kind => "keep only regular files in the directory",
            Self::Changed => "wait until its writer has finished, then try again",
        }
    }
}

impl StableFile {
    /// Opens a regular file; neither follows a link nor waits for a FIFO.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        // Not followed if it became a link since the walk; not waited for if it became a FIFO.
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits())
            .open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(FileError::Kind);
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            stamp: Stamp::of(&metadata),
            read: 0,
        })
    }

    /// Bytes it had when it was opened.
    pub fn length(&self) -> u64 {
        self.stamp.length
    }

    /// Seconds since the Unix epoch; earlier times count as the epoch.
    pub fn modified(&self) -> u64 {
        u64::try_from(self.stamp.modified.0).unwrap_or(0)
    }

    /// Nanoseconds since the Unix epoch, for comparing.
    pub fn modified_ns(&self) -> i128 {
        super::nanoseconds(self.stamp.modified)
    }

    /// The next piece; `None` at the end. More bytes than the file had is a change.
    pub fn next_piece(&mut self) -> Result<Option<Vec<u8>>, FileError> {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        let most = PIECE_BYTES as u64;
        (&self.file).take(most).read_to_end(&mut piece)?;
        self.read += piece.len() as u64;
        if self.read > self.stamp.length {
            return Err(FileError::Changed);
        }
        Ok((!piece.is_empty()).then_some(piece))
    }

    /// After the last piece: is it still the file that was opened, and was it read whole?
    pub fn check(&self) -> Result<(), FileError> {
        self.check_same()?;
        if self.read == self.stamp.length {
            Ok(())
        } else {
            Err(FileError::Changed)
        }
    }

    /// `most` bytes from `offset` on; fewer than that is a change.
    pub fn piece_at(&self, offset: u64, most: usize) -> Result<Vec<u8>, FileError> {
        let mut piece = vec![0; most];
        match self.file.read_exact_at(&mut piece, offset) {
            Ok(()) => Ok(piece),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(FileError::Changed),
            Err(error) => Err(error.into()),
        }
    }

    /// Is it still the file that was opened, however much of it was read?
    pub fn check_same(&self) -> Result<(), FileError> {
        let open = Stamp::of(&self.file.metadata()?);
        let named = Stamp::of(&std::fs::symlink_metadata(&self.path)?);
        if open == self.stamp && named == self.stamp {
            Ok(())
        } else {
            Err(FileError::Changed)
        }
    }

    /// Back to the first byte.
    pub fn rewind(&mut self) -> Result<(), FileError> {
        self.file.rewind()?;
        self.read = 0;
        Ok(())
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::time::Duration;
    use std::time::SystemTime;

    fn read(source: &mut StableFile) -> Result<usize, FileError> {
        let mut total = 0;
        while let Some(piece) = source.next_piece()? {
            total += piece.len();
        }
        source.check().map(|()| total)
    }

    #[test]
    fn a_file_that_grows_shrinks_is_rewritten_or_replaced_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        type Spoil = (&'static str, fn(&Path));
        let spoil: [Spoil; 5] = [
            ("grow", |p| {
                let mut file = File::options().append(true).open(p).unwrap();
                file.write_all(b"x").unwrap();
            }),
            ("shrink", |p| {
                File::options()
                    .write(true)
                    .open(p)
                    .unwrap()
                    .set_len(3)
                    .unwrap()
            }),
            ("rewrite with the old time", |p| {
                let before = p.metadata().unwrap().modified().unwrap();
                let mut file = File::options().write(true).open(p).unwrap();
                file.write_all(b"y").unwrap();
                file.set_modified(before).unwrap();
            }),
            ("touch", |p| {
                let later = SystemTime::UNIX_EPOCH + Duration::from_secs(5);
                File::options()
                    .write(true)
                    .open(p)
                    .unwrap()
                    .set_modified(later)
                    .unwrap();
            }),
            ("replace", |p| {
                let new = p.with_extension("new");
                std::fs::write(&new, vec![0; 2_000_000]).unwrap();
                std::fs::rename(&new, p).unwrap();
            }),
        ];
        for (what, spoil) in spoil {
            std::fs::write(&path, vec![0; 2_000_000]).unwrap();
            assert_eq!(
                read(&mut StableFile::open(&path).unwrap()).unwrap(),
                2_000_000
            );
            let mut source = StableFile::open(&path).unwrap();
            source.next_piece().unwrap();
            spoil(&path);
            assert!(
                matches!(read(&mut source), Err(FileError::Changed)),
                "{what}"
            );
        }
    }

    #[test]
    fn a_link_and_a_fifo_are_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("l")).unwrap();
        assert!(StableFile::open(&dir.path().join("l")).is_err());
        let fifo = dir.path().join("p");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(StableFile::open(&fifo), Err(FileError::Kind)));
    }
}
