//! One object against its sidecar: every byte is read from the disk, past the page cache.
//!
//! `O_DIRECT` reads what the medium has, not what memory remembers of it, and leaves the pages of
//! viewers where they are. A file system that has no such reads is read the ordinary way, and pages
//! that were not there before are dropped again. Changes nothing.
//!
//! I/O: reads one object and its sidecar, on the scrub's own thread.

use super::super::layout;
use super::super::root;
use super::super::root::Root;
use super::super::sidecar;
use super::super::sidecar::SidecarError;
use crate::object::CHUNK_BYTES;
use crate::object::ChunkTree;
use crate::object::Digest;
use crate::sys::page_cache;
use nix::fcntl::OFlag;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Read at once: four chunks, 5 ms of a hard disk, which is what a viewer may have to wait longer.
pub(in crate::store) const PIECE_BYTES: u64 = 4 * CHUNK_BYTES;

/// Of memory, offset and length: no disk has larger sectors.
const ALIGN: usize = 4096;

/// Why an object was not found whole.
#[derive(Debug)]
pub(in crate::store) enum Fault {
    /// Its bytes, its length or its sidecar are wrong.
    Damaged(String),
    /// It is not there.
    Gone,
    /// It cannot be read.
    Read(io::Error),
    /// Whoever asked does not want to know any more.
    Stopped,
}

/// Memory for one piece, aligned as `O_DIRECT` wants it.
#[derive(Debug)]
pub(in crate::store) struct Buffer(Vec<u8>);

impl Buffer {
    pub(in crate::store) fn new() -> Self {
        let bytes = usize::try_from(PIECE_BYTES).unwrap_or(0);
        Self(vec![0; bytes + ALIGN])
    }

    fn aligned(&mut self, bytes: usize) -> &mut [u8] {
        let from = self.0.as_ptr().align_offset(ALIGN).min(ALIGN);
        &mut self.0[from..from + bytes]
    }
}

/// An object that is being read, and what it must consist of.
#[derive(Debug)]
pub(in crate::store) struct Reading {
    source: Source,
    tree: Arc<ChunkTree>,
}

/// An open file, read around the page cache where that is possible.
#[derive(Debug)]
struct Source {
    file: File,
    direct: bool,
}

/// Reads the whole object. `pause` is asked before each piece with its bytes: false ends it.
pub(in crate::store) fn verify(
    root: &Root,
    digest: Digest,
    length: u64,
    buffer: &mut Buffer,
    pause: &mut dyn FnMut(u64) -> bool,
) -> Result<(), Fault> {
    let mut reading = Reading::open(root, digest, length, buffer, pause)?;
    for at in (0..length).step_by(index(PIECE_BYTES)) {
        if !pause((length - at).min(PIECE_BYTES)) {
            return Err(Fault::Stopped);
        }
        reading.piece(buffer, at)?;
    }
    Ok(())
}

impl Reading {
    /// Opens an object of `length` bytes and reads its sidecar; `pause` as for [`verify`].
    pub(in crate::store) fn open(
        root: &Root,
        digest: Digest,
        length: u64,
        buffer: &mut Buffer,
        pause: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Self, Fault> {
        let dir = root.dir(&layout::object_dir(digest)).map_err(fault)?;
        let mut meta = Source::open(&dir, &layout::sidecar_name(digest)).map_err(|error| {
            let absent = error.kind() == io::ErrorKind::NotFound;
            // An object that is deleted meanwhile loses its own name first.
            match absent && root::stat(&dir, &digest.to_string()).is_ok() {
                true => Fault::Damaged("its sidecar is missing".into()),
                false => fault(error),
            }
        })?;
        let source = Source::open(&dir, &digest.to_string()).map_err(fault)?;
        let found = source.file.metadata().map_err(fault)?.len();
        if found != length {
            let problem = format!("it is {found} bytes long and should be {length}");
            return Err(Fault::Damaged(problem));
        }
        let mut text = Vec::new();
        let size = meta.file.metadata().map_err(fault)?.len();
        for at in (0..size.min(sidecar::SIDECAR_BYTES_MAX + 1)).step_by(index(PIECE_BYTES)) {
            if !pause((size - at).min(PIECE_BYTES)) {
                return Err(Fault::Stopped);
            }
            text.extend_from_slice(meta.read(buffer, at, size).map_err(fault)?);
        }
        let tree = sidecar::decode(&text, digest).map_err(|problem| match problem {
            // A later release wrote it: its object is not for this one to judge, or to move.
            SidecarError::Version(_) => Fault::Read(io::Error::other(problem)),
            SidecarError::Size(_)
            | SidecarError::Checksum
            | SidecarError::Magic
            | SidecarError::OtherObject(_)
            | SidecarError::Tree => Fault::Damaged(problem.to_string()),
        })?;
        if tree.length() != length {
            let claimed = tree.length();
            let problem = format!("its sidecar says {claimed} bytes and it has {length}");
            return Err(Fault::Damaged(problem));
        }
        let tree = Arc::new(tree);
        Ok(Self { source, tree })
    }

    pub(in crate::store) fn tree(&self) -> &Arc<ChunkTree> {
        &self.tree
    }

    /// The piece that begins at `at`, a multiple of [`PIECE_BYTES`]; every chunk of it is verified.
    pub(in crate::store) fn piece<'a>(
        &mut self,
        buffer: &'a mut Buffer,
        at: u64,
    ) -> Result<&'a [u8], Fault> {
        let read = self.source.read(buffer, at, self.tree.length());
        let piece = read.map_err(fault)?;
        let chunks = piece.chunks(index(CHUNK_BYTES));
        for (number, chunk) in (at / CHUNK_BYTES..).zip(chunks) {
            if !self.tree.verify_chunk(number, chunk) {
                let from = number * CHUNK_BYTES;
                let problem = format!("its bytes from {from} on are not what they should be");
                return Err(Fault::Damaged(problem));
            }
        }
        Ok(piece)
    }
}

impl Source {
    fn open(dir: &File, name: &str) -> io::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
        match root::open_in(dir, name, flags | OFlag::O_DIRECT) {
            Ok(file) => Ok(Self { file, direct: true }),
            Err(error) if is_unsupported(&error) => {
                let file = root::open_in(dir, name, flags)?;
                page_cache::no_readahead(&file)?;
                Ok(Self {
                    file,
                    direct: false,
                })
            }
            Err(error) => Err(error),
        }
    }

    /// A piece from `at`, which ends at `end` at the latest. One that is shorter is an error.
    fn read<'a>(&mut self, buffer: &'a mut Buffer, at: u64, end: u64) -> io::Result<&'a [u8]> {
        let wanted = index((end - at).min(PIECE_BYTES));
        let slice = buffer.aligned(wanted.next_multiple_of(ALIGN));
        let before = match self.direct {
            true => 0,
            false => page_cache::pages_cached(&self.file, at, wanted as u64).unwrap_or(1),
        };
        let mut filled = 0;
        while filled < wanted {
            let from = at + filled as u64;
            match self.file.read_at(&mut slice[filled..], from) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A device with larger sectors, or a read that was cut at an odd place.
                Err(error) if self.direct && is_unsupported(&error) => self.go_ordinary()?,
                Err(error) => return Err(error),
            }
        }
        if !self.direct && before == 0 {
            // What nobody had in memory need not stay there. A failure costs memory alone.
            let _ = page_cache::drop_cached(&self.file, at, wanted as u64);
        }
        Ok(&slice[..wanted])
    }

    fn go_ordinary(&mut self) -> io::Result<()> {
        let flags = nix::fcntl::fcntl(&self.file, nix::fcntl::FcntlArg::F_GETFL)?;
        let flags = OFlag::from_bits_truncate(flags) - OFlag::O_DIRECT;
        nix::fcntl::fcntl(&self.file, nix::fcntl::FcntlArg::F_SETFL(flags))?;
        self.direct = false;
        Ok(())
    }
}

fn fault(error: io::Error) -> Fault {
    if error.kind() == io::ErrorKind::NotFound {
        Fault::Gone
    } else if error.kind() == io::ErrorKind::UnexpectedEof {
        Fault::Damaged("it ends before its length".into())
    } else if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::EXDEV)) {
        Fault::Damaged("it is not a regular file".into())
    } else {
        Fault::Read(error)
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP))
}

/// Of what fits into memory.
fn index(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
