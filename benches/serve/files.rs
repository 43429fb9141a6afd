//! The files that are served: several sizes, each many, so that none lives in the last-level cache.
//!
//! I/O: writes and reads files.

use nix::fcntl::PosixFadviseAdvice;
use nix::fcntl::posix_fadvise;
use oca::object::Digest;
use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Small,
    Large,
    Huge,
    /// 1 MB, on a slow disk and not in memory.
    Cold,
}

impl Kind {
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Small => 16 << 10,
            Self::Large | Self::Cold => 1_000_000,
            Self::Huge => 10_000_000,
        }
    }

    /// Each kind together is larger than the last-level cache of 32 MB, and all fit in memory. Not
    /// more small ones than a box keeps open where it may have 20,000 descriptors.
    pub(crate) fn count(self) -> u64 {
        match self {
            Self::Small => 2_400,
            Self::Large => 500,
            Self::Huge => 50,
            Self::Cold => 600,
        }
    }

    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
            Self::Huge => "huge",
            Self::Cold => "cold",
        }
    }

    pub(crate) fn size(self) -> &'static str {
        match self {
            Self::Small => "16 KB",
            Self::Large | Self::Cold => "1 MB",
            Self::Huge => "10 MB",
        }
    }

    fn files(self, media: &Path) -> impl Iterator<Item = PathBuf> {
        let dir = media.join(self.prefix());
        (0..self.count()).map(move |number| dir.join(format!("{number}.bin")))
    }
}

/// Different bytes in each file; which ones does not matter.
pub(crate) fn write(media: &Path, kind: Kind) -> anyhow::Result<()> {
    fs::create_dir_all(media.join(kind.prefix()))?;
    let mut bytes = vec![0; kind.bytes()];
    for path in kind.files(media) {
        let mut stream = blake3::Hasher::new();
        stream.update(path.as_os_str().as_encoded_bytes());
        stream.finalize_xof().fill(&mut bytes);
        fs::write(path, &bytes)?;
    }
    Ok(())
}

/// Lets nginx serve the very files of our store: the same pages in the page cache, laid out the
/// same way, for both. Copies differ in the sizes of their folios, which decides more than code.
pub(crate) fn share(dir: &Path, media: &Path, kind: Kind) -> anyhow::Result<()> {
    for path in kind.files(media) {
        let digest = Digest::of(&fs::read(&path)?).to_string();
        let objects = dir.join("disk1/objects");
        let object = objects.join(&digest[..2]).join(&digest[2..4]).join(&digest);
        anyhow::ensure!(object.is_file(), "there is no {}", object.display());
        fs::remove_file(&path)?;
        std::os::unix::fs::symlink(&object, &path)?;
    }
    Ok(())
}

/// Brings the files into the page cache.
pub(crate) fn warm(media: &Path, kind: Kind) -> anyhow::Result<()> {
    kind.files(media).try_for_each(|path| {
        fs::read(path)?;
        Ok(())
    })
}

/// Drops the files from the page cache; they must have been written out.
pub(crate) fn chill(media: &Path, kind: Kind) -> anyhow::Result<()> {
    kind.files(media).try_for_each(|path| {
        let file = File::open(path)?;
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        Ok(())
    })
}
