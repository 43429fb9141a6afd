//! A volume's directory, held open: nothing is reached except from this descriptor.
//!
//! `identity` opens it once; `volume`, `scan`, `writer`, `quarantine` and `copies` resolve every
//! path from it with `openat2(RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS)`, so that a
//! disk that is unmounted, covered by another mount or full of planted links never leads elsewhere.
//!
//! I/O: every function is a system call that a sick disk may hang; only disk threads call them.

use nix::dir::Dir;
use nix::fcntl::AtFlags;
use nix::fcntl::FallocateFlags;
use nix::fcntl::FcntlArg;
use nix::fcntl::OFlag;
use nix::fcntl::OpenHow;
use nix::fcntl::ResolveFlag;
use nix::fcntl::fcntl;
use nix::fcntl::openat2;
use nix::sys::stat::Mode;
use nix::sys::stat::major;
use nix::sys::stat::minor;
use nix::sys::statvfs::FsFlags;
use nix::unistd::UnlinkatFlags;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The open directory.
#[derive(Debug)]
pub(super) struct Root(File);

/// One directory entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) text: String,
    pub(super) is_dir: bool,
}

/// What `statvfs` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Space {
    pub(super) size: u64,
    pub(super) free: u64,
    pub(super) read_only: bool,
}

/// What one `stat` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) length: u64,
    pub(super) is_file: bool,
}

impl Root {
    /// Opens the directory at `path`, where following links is the operator's business.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        std::fs::OpenOptions::new()
            .read(true)
            .custom_flags((OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).bits())
            .open(path)
            .map(Self)
    }

    /// Is another file system mounted here than at the parent?
    pub(super) fn is_mount_point(&self) -> io::Result<bool> {
        let parent = nix::sys::stat::fstatat(&self.0, "..", AtFlags::empty())?;
        Ok(self.0.metadata()?.dev() != parent.st_dev)
    }

    /// The number of its mount's device: another one after it was unmounted and mounted anew.
    /// Memory only.
    pub(super) fn device(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.dev())
    }

    /// One process owns a volume: false when another holds the lock.
    pub(super) fn lock(&self) -> io::Result<bool> {
        match self.0.try_lock() {
            Ok(()) => Ok(true),
            Err(std::fs::TryLockError::WouldBlock) => Ok(false),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }

    pub(super) fn unlock(&self) {
        // Closing the descriptor releases it as well; nothing depends on the answer.
        let _ = self.0.unlock();
    }

    pub(super) fn space(&self) -> io::Result<Space> {
        let found = nix::sys::statvfs::fstatvfs(&self.0)?;
        let unit = found.fragment_size();
        Ok(Space {
            size: found.blocks().saturating_mul(unit),
            free: found.blocks_available().saturating_mul(unit),
            read_only: found.flags().contains(FsFlags::ST_RDONLY),
        })
    }

    /// A regular file for reading. `O_NONBLOCK` so that a planted FIFO cannot hang the thread.
    pub(super) fn file(&self, path: &str) -> io::Result<File> {
        open_in(&self.0, path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)
    }

    /// A regular file that viewers read: the time of access is nobody's interest, and noting it
    /// costs each `sendfile`. Refused to those who do not own the file, who do without.
    pub(super) fn content(&self, path: &str) -> io::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOATIME;
        match open_in(&self.0, path, flags) {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => self.file(path),
            outcome => outcome,
        }
    }

    pub(super) fn dir(&self, path: &str) -> io::Result<File> {
        open_in(&self.0, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
    }

    /// The volume's own directory, for names at its top.
    pub(super) fn top(&self) -> &File {
        &self.0
    }
}

/// Opens an existing `path` below `dir`.
pub(super) fn open_in(dir: &File, path: &str, flags: OFlag) -> io::Result<File> {
    open(dir, path, flags, Mode::empty())
}

/// A regular file of `dir` for reading. `O_NONBLOCK` as in [`Root::file`].
pub(super) fn open_file(dir: &File, name: &str) -> io::Result<File> {
    open_in(dir, name, OFlag::O_RDONLY | OFlag::O_NONBLOCK)
}

/// A file that exists, for reading and writing.
pub(super) fn open_for_writing(dir: &File, name: &str) -> io::Result<File> {
    open_in(dir, name, OFlag::O_RDWR | OFlag::O_NONBLOCK)
}

/// As [`open_for_writing`], past the page cache: addresses, offsets and lengths are aligned.
pub(super) fn open_direct(dir: &File, name: &str) -> io::Result<File> {
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_DIRECT;
    let file = open_in(dir, name, flags)?;
    // io_uring takes O_NONBLOCK for "never wait": before Linux 6.5 it fails each write to a device
    // that cannot say whether it would.
    fcntl(&file, FcntlArg::F_SETFL(OFlag::O_DIRECT))?;
    Ok(file)
}

/// As [`open_file`], past the page cache.
pub(super) fn open_direct_read(dir: &File, name: &str) -> io::Result<File> {
    open_in(
        dir,
        name,
        OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_DIRECT,
    )
}

/// A file without a name, written past the page cache; it goes with its descriptor.
pub(super) fn unnamed_direct(dir: &File) -> io::Result<File> {
    let flags = OFlag::O_WRONLY | OFlag::O_TMPFILE | OFlag::O_DIRECT;
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV;
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .mode(Mode::from_bits_truncate(0o600))
        .resolve(resolve);
    Ok(File::from(openat2(dir, ".", how)?))
}

/// A fresh file for writing; it must not exist.
pub(super) fn create_in(dir: &File, name: &str) -> io::Result<File> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL;
    open(dir, name, flags, Mode::from_bits_truncate(0o644))
}

fn open(dir: &File, path: &str, flags: OFlag, mode: Mode) -> io::Result<File> {
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_XDEV
        | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW)
        .mode(mode)
        .resolve(resolve);
    Ok(File::from(openat2(dir, path, how)?))
}

/// Makes a directory; one that exists is as good. Tells whether it was made.
pub(super) fn make_dir(dir: &File, name: &str) -> io::Result<bool> {
    match nix::sys::stat::mkdirat(dir, name, Mode::from_bits_truncate(0o755)) {
        Ok(()) => Ok(true),
        Err(nix::errno::Errno::EEXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Renames a single name; the new name is replaced if it exists.
pub(super) fn rename(from: &File, old: &str, to: &File, new: &str) -> io::Result<()> {
    Ok(nix::fcntl::renameat(from, old, to, new)?)
}

/// Gives a file of `dir` a second name, which must be free.
pub(super) fn link(dir: &File, old: &str, new: &str) -> io::Result<()> {
    Ok(nix::unistd::linkat(dir, old, dir, new, AtFlags::empty())?)
}

/// Who holds the lock of a directory that another process has, for a message: its number in
/// brackets, or nothing where the kernel does not tell it. Never waits for a disk.
pub(super) fn lock_holder(dir: &File) -> String {
    let holder = || {
        let found = dir.metadata().ok()?;
        let (major, minor) = (major(found.dev()), minor(found.dev()));
        let place = format!("{major:02x}:{minor:02x}:{}", found.ino());
        let locks = std::fs::read_to_string("/proc/locks").ok()?;
        // proc_locks(5): number, kind, advisory or not, mode, process, place, first and last byte.
        locks.lines().find_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let (kind, process, at) = (words.next()?, words.nth(2)?, words.next()?);
            // 0: a process that is outside of what this one may see.
            let process = Some(process).filter(|process| *process != "0")?;
            (kind == "FLOCK" && at == place).then(|| format!(" (pid {process})"))
        })
    };
    holder().unwrap_or_default()
}

/// Removes a single name; one that is absent is as good.
pub(super) fn remove(dir: &File, name: &str) -> io::Result<()> {
    match nix::unistd::unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(nix::errno::Errno::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Length and kind of a single name, not following a link.
pub(super) fn stat(dir: &File, name: &str) -> io::Result<Stat> {
    let found = nix::sys::stat::fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    Ok(Stat {
        length: u64::try_from(found.st_size).unwrap_or(0),
        is_file: found.st_mode & libc::S_IFMT == libc::S_IFREG,
    })
}

/// Names in a directory, without `.` and `..`, sorted; an error is never an empty list.
pub(super) fn list(dir: File) -> io::Result<Vec<Name>> {
    let mut open = Dir::from_fd(OwnedFd::from(dir))?;
    let mut names = Vec::new();
    for entry in open.iter() {
        let entry = entry?;
        let text = entry.file_name().to_string_lossy().into_owned();
        if text != "." && text != ".." {
            let is_dir = entry.file_type() == Some(nix::dir::Type::Directory);
            names.push(Name { text, is_dir });
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Reads a small file whole; more than `most` bytes is an error, not an allocation.
pub(super) fn read_small(file: &File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let problem = format!("larger than the {most} bytes such a file may have");
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    Ok(bytes)
}

/// Asks for the room of a file beforehand: a full disk is found before the copy, and the file lies
/// in one piece. A file system without `fallocate` is fine.
pub(super) fn reserve(file: &File, length: u64) -> io::Result<()> {
    let Ok(length) = libc::off_t::try_from(length) else {
        return Err(io::ErrorKind::FileTooLarge.into());
    };
    if length == 0 {
        return Ok(());
    }
    match nix::fcntl::fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, length) {
        Ok(()) | Err(nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::ENOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Does this error speak of the medium or its file system, rather than of one name?
pub fn is_medium_error(error: &io::Error) -> bool {
    let known = [
        libc::EIO,
        libc::ENXIO,
        libc::ENODEV,
        libc::EREMOTEIO,
        libc::ESHUTDOWN,
        // EFSCORRUPTED and EFSBADCRC of ext4 and XFS.
        libc::EUCLEAN,
        libc::EBADMSG,
    ];
    error
        .raw_os_error()
        .is_some_and(|code| known.contains(&code))
}

/// Is it the process that has too little of something, for the while?
pub(super) fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EAGAIN)
    )
}

pub(super) fn is_read_only(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EROFS)
}

pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_or_a_dotdot_never_leads_out_of_the_volume() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("disk");
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink("../secret", inside.join("link")).unwrap();
        std::os::unix::fs::symlink("..", inside.join("up")).unwrap();
        let root = Root::open(&inside).unwrap();
        for path in ["../secret", "link", "up/secret", "/etc/passwd"] {
            assert!(root.file(path).is_err(), "{path}");
        }
        assert!(!root.is_mount_point().unwrap());
    }

    #[test]
    fn a_mount_below_the_volume_is_not_entered() {
        let root = Root::open(Path::new("/")).unwrap();
        let error = root.file("proc/self/status").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EXDEV));
    }

    #[test]
    fn a_large_file_is_not_read_as_a_small_one() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), [0; 11]).unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert!(read_small(&root.file("f").unwrap(), 10).is_err());
        assert_eq!(read_small(&root.file("f").unwrap(), 11).unwrap().len(), 11);
    }
}
