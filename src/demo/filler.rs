//! Filler: titles without pictures, for nights that need bytes more than films.
//!
//! What is in a file follows from its key alone, so that every run of the demo fills the same.
//!
//! I/O: writes files.

use anyhow::Context as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;

/// Written at a time.
const PIECE_BYTES: usize = 1 << 20;

/// Titles and what is in each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filler {
    pub(super) titles: usize,
    pub(super) files: usize,
    pub(super) file_bytes: u64,
}

/// `filler-03`.
pub(super) fn title(number: usize) -> String {
    format!("filler-{number:02}")
}

/// `filler-03/video/part-4.m4s`.
pub(super) fn key(number: usize, file: usize) -> String {
    format!("{}/video/part-{file}.m4s", title(number))
}

impl Filler {
    pub(super) fn write(&self, dir: &Path) -> anyhow::Result<()> {
        (0..self.titles).try_for_each(|number| self.write_title(dir, number))
    }

    pub(super) fn write_title(&self, dir: &Path, number: usize) -> anyhow::Result<()> {
        (0..self.files).try_for_each(|file| write(dir, &key(number, file), self.file_bytes))
    }

    pub(super) fn title_bytes(&self) -> u64 {
        self.file_bytes * self.files as u64
    }
}

/// One file of `bytes` below `dir`.
pub(super) fn write(dir: &Path, key: &str, bytes: u64) -> anyhow::Result<()> {
    let path = dir.join(key);
    let failed = || format!("cannot write {}", path.display());
    fs::create_dir_all(path.parent().unwrap_or(dir)).with_context(failed)?;
    let mut file = fs::File::create(&path).with_context(failed)?;
    let mut stream = blake3::Hasher::new().update(key.as_bytes()).finalize_xof();
    let mut piece = vec![0; PIECE_BYTES];
    let mut left = bytes;
    while left > 0 {
        let count = usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
        stream.fill(&mut piece[..count]);
        file.write_all(&piece[..count]).with_context(failed)?;
        left -= count as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::scratch::Scratch;

    #[test]
    fn the_same_key_has_the_same_bytes_and_no_two_keys_do() {
        let scratch = Scratch::new("oca-filler-test").unwrap();
        let filler = Filler {
            titles: 2,
            files: 2,
            file_bytes: 70_001,
        };
        filler.write(scratch.path()).unwrap();
        let read = |number, file| fs::read(scratch.path().join(key(number, file))).unwrap();
        let first = read(1, 1);
        assert_eq!(first.len(), 70_001);
        assert_ne!(first, read(1, 0));
        assert_ne!(first, read(0, 1));
        filler.write(scratch.path()).unwrap();
        assert_eq!(first, read(1, 1));
    }
}
