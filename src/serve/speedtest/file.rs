//! The file that downloads are made of: the same incompressible bytes on every box.
//!
//! It is checked byte by byte at each start, so it need not be durable, and a damaged one is
//! replaced. Runs on a thread of its own.
//!
//! I/O: reads and writes the file.

use crate::object::Digest;
use crate::store::ObjectFile;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// `range/0-26214400` is what clients of such tests ask for: 25 MiB and one byte.
pub(in crate::serve) const LENGTH: u64 = 25 * 1024 * 1024 + 1;

/// What the bytes are derived from. Another text is another file.
const SEED: &[u8] = b"oca speed test, first file";

/// Bytes compared or written at once.
const BLOCK_BYTES: usize = 256 * 1024;

/// The bytes from the first on.
struct Stream {
    reader: blake3::OutputReader,
    left: u64,
    block: Vec<u8>,
}

impl Stream {
    fn new() -> Self {
        Self {
            reader: blake3::Hasher::new().update(SEED).finalize_xof(),
            left: LENGTH,
            block: vec![0; BLOCK_BYTES],
        }
    }

    /// The next block; empty at the end.
    fn next(&mut self) -> &[u8] {
        let length = usize::try_from(self.left).map_or(BLOCK_BYTES, |left| left.min(BLOCK_BYTES));
        self.left -= length as u64;
        let block = &mut self.block[..length];
        self.reader.fill(block);
        block
    }
}

/// Opens the file at `path`; makes it where it is missing or not what it should be.
pub(super) fn obtain(path: &Path) -> io::Result<ObjectFile> {
    let file = match check(path) {
        Ok(Some(file)) => file,
        // Whatever is wrong with the old one, the new one takes its place.
        Ok(None) | Err(_) => {
            make(path)?;
            let unlike = || io::Error::new(io::ErrorKind::InvalidData, "it reads back otherwise");
            check(path)?.ok_or_else(unlike)?
        }
    };
    Ok(ObjectFile {
        file,
        length: LENGTH,
        digest: Digest::of(SEED),
        // No disk of the store: what happens to it is not told to one.
        volume: u16::MAX,
    })
}

/// The file, if each of its bytes is right.
fn check(path: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    // A pipe in its place must not be waited for.
    let open = options.read(true).custom_flags(libc::O_NONBLOCK);
    let mut file = open.open(path)?;
    let about = file.metadata()?;
    if !about.is_file() || about.len() != LENGTH {
        return Ok(None);
    }
    let (mut stream, mut found) = (Stream::new(), vec![0; BLOCK_BYTES]);
    loop {
        let block = stream.next();
        if block.is_empty() {
            return Ok(Some(file));
        }
        file.read_exact(&mut found[..block.len()])?;
        if found[..block.len()] != *block {
            return Ok(None);
        }
    }
}

fn make(path: &Path) -> io::Result<()> {
    let draft = path.with_extension("tmp");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o640)
        .custom_flags(libc::O_NONBLOCK)
        .open(&draft)?;
    let mut stream = Stream::new();
    let outcome = loop {
        let block = stream.next();
        if block.is_empty() {
            break std::fs::rename(&draft, path);
        }
        if let Err(error) = file.write_all(block) {
            break Err(error);
        }
    };
    if outcome.is_err() {
        // Its room is wanted by whatever filled the disk.
        let _ = std::fs::remove_file(&draft);
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn the_file_is_made_once_checked_and_healed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("speedtest.bin");
        let made = obtain(&path).unwrap();
        assert_eq!(made.file.metadata().unwrap().len(), LENGTH);
        let mut tail = [0; 100];
        made.file.read_exact_at(&mut tail, LENGTH - 100).unwrap();
        assert!(tail.iter().any(|byte| *byte != tail[0]));
        let inode = |file: &File| std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap());
        let again = obtain(&path).unwrap();
        assert_eq!(inode(&made.file), inode(&again.file), "a good one stays");
        // One byte is wrong; then it is short; then it is no file at all.
        let writer = OpenOptions::new().write(true).open(&path).unwrap();
        writer.write_all_at(&[!tail[0]], LENGTH - 100).unwrap();
        let healed = obtain(&path).unwrap();
        assert_ne!(inode(&made.file), inode(&healed.file));
        OpenOptions::new().write(true).open(&path).unwrap();
        std::fs::write(&path, b"short").unwrap();
        assert!(obtain(&path).is_ok());
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(obtain(&path).is_ok());
        assert!(!path.with_extension("tmp").exists());
    }

    #[test]
    fn where_it_cannot_be_made_the_reason_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let error = obtain(&dir.path().join("absent/speedtest.bin")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
