//! A private temporary directory that goes away with its owner.
//!
//! Used by the demo, the tests with real peers and the benches.
//!
//! I/O: makes and removes directories.

use crate::clock;
use anyhow::Context as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A Unix socket's path has at most 108 bytes; the names put below the directory are short.
const PATH_BYTES_MAX: usize = 85;

/// A process that was just killed may still be writing below the directory.
const REMOVE_TRIES: u32 = 20;

#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes an empty directory that only this user can enter.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{name}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        anyhow::ensure!(
            path.as_os_str().len() <= PATH_BYTES_MAX,
            "{} is too long for a Unix socket below it; set TMPDIR to a shorter path",
            path.display()
        );
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot make the directory {}", path.display()))?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for _ in 0..REMOVE_TRIES {
            match std::fs::remove_dir_all(&self.0) {
                Ok(()) => return,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
                Err(_) => clock::block_for(Duration::from_millis(50)),
            }
        }
        eprintln!("{} could not be removed; remove it", self.0.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_and_what_is_in_it_go_with_the_owner() {
        let scratch = Scratch::new("oca-scratch-test").unwrap();
        let path = scratch.path().to_owned();
        std::fs::create_dir(path.join("below")).unwrap();
        std::fs::write(path.join("below/file"), b"x").unwrap();
        drop(scratch);
        assert!(!path.exists());
    }
}
