//! What the demo plays: a directory of media as keys, with the digest of each file.
//!
//! The digests are taken from the source files, so that what a viewer receives is compared with
//! what went in and not with what the box believes.
//!
//! I/O: reads files.

use super::playlist;
use super::playlist::Playlist;
use crate::key;
use crate::media_type;
use crate::object::Digest;
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;

/// More files than any title has; a wrong directory (`/`) is noticed before it is hashed.
const FILES_MAX: usize = 200_000;

/// A playlist larger than this is not one.
pub(super) const PLAYLIST_BYTES_MAX: u64 = 4 << 20;

/// One file: where it is and what it must hash to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub path: PathBuf,
    pub length: u64,
    pub digest: Digest,
}

/// Everything below one directory that can be prefilled.
#[derive(Clone, Debug)]
pub(super) struct Content {
    pub dir: PathBuf,
    pub files: BTreeMap<String, Source>,
    /// Keys of the HLS master playlists, or of lone media playlists when there is no master.
    pub playlists: Vec<String>,
}

impl Content {
    /// Walks and hashes `dir`. Blocks.
    pub(super) fn read(dir: &Path) -> anyhow::Result<Self> {
        let mut files = BTreeMap::new();
        for (key, path) in walk(dir)? {
            let (length, digest) = hash(&path)?;
            let source = Source {
                path,
                length,
                digest,
            };
            files.insert(key, source);
        }
        anyhow::ensure!(
            !files.is_empty(),
            "{} holds no file that can be served; --content takes a directory of media",
            dir.display()
        );
        let playlists = entry_playlists(&files)?;
        Ok(Self {
            dir: dir.to_owned(),
            files,
            playlists,
        })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.files.values().map(|source| source.length).sum()
    }

    /// Files with different bytes: equal ones are one object.
    pub(super) fn distinct(&self) -> usize {
        let digests: BTreeSet<Digest> = self.files.values().map(|file| file.digest).collect();
        digests.len()
    }

    /// The largest file; of equals the last by key.
    pub(super) fn largest(&self) -> Option<(&str, &Source)> {
        self.files
            .iter()
            .max_by_key(|(_, source)| source.length)
            .map(|(key, source)| (key.as_str(), source))
    }
}

impl Source {
    /// The bytes `first..first + length` of the file.
    pub(super) fn slice(&self, first: u64, length: u64) -> anyhow::Result<Vec<u8>> {
        use std::os::unix::fs::FileExt as _;
        let mut bytes = vec![0; usize::try_from(length).context("a slice larger than memory")?];
        fs::File::open(&self.path)
            .and_then(|file| file.read_exact_at(&mut bytes, first))
            .with_context(|| format!("cannot read {}", self.path.display()))?;
        Ok(bytes)
    }
}

/// Keys and paths of the regular files below `dir` that prefill accepts: no symbolic links, no
/// hidden names, no active types, names within the key grammar.
pub(super) fn walk(dir: &Path) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(next) = pending.pop() {
        let entries =
            fs::read_dir(&next).with_context(|| format!("cannot read {}", next.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot read {}", next.display()))?;
            let (path, name) = (entry.path(), entry.file_name());
            let kind = entry
                .file_type()
                .with_context(|| format!("cannot look at {}", path.display()))?;
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if kind.is_dir() {
                pending.push(path);
            } else if kind.is_file()
                && let Some(key) = key_of(dir, &path)
            {
                found.insert(key, path);
            }
        }
        anyhow::ensure!(
            found.len() <= FILES_MAX && pending.len() <= FILES_MAX,
            "{} holds more than {FILES_MAX} files; --content takes the directory of a few titles",
            dir.display()
        );
    }
    Ok(found)
}

fn key_of(dir: &Path, path: &Path) -> Option<String> {
    let below = path.strip_prefix(dir).ok()?.to_str()?;
    let good = key::check(below.as_bytes()).is_ok() && !media_type::is_active(below);
    good.then(|| below.to_owned())
}

fn hash(path: &Path) -> anyhow::Result<(u64, Digest)> {
    let failed = || format!("cannot read {}", path.display());
    let mut file = fs::File::open(path).with_context(failed)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut length = 0;
    loop {
        let count = file.read(&mut buffer).with_context(failed)?;
        if count == 0 {
            return Ok((length, Digest(*hasher.finalize().as_bytes())));
        }
        hasher.update(&buffer[..count]);
        length += count as u64;
    }
}

/// Where a player begins: the masters, or every media playlist if there is no master.
fn entry_playlists(files: &BTreeMap<String, Source>) -> anyhow::Result<Vec<String>> {
    let (mut masters, mut media) = (Vec::new(), Vec::new());
    for (key, source) in files {
        let is_playlist = key.ends_with(".m3u8") && source.length <= PLAYLIST_BYTES_MAX;
        if !is_playlist {
            continue;
        }
        let text = fs::read_to_string(&source.path)
            .with_context(|| format!("cannot read the playlist {}", source.path.display()))?;
        match playlist::parse(key, &text)
            .with_context(|| format!("the playlist {} cannot be played", source.path.display()))?
        {
            Playlist::Master { .. } => masters.push(key.clone()),
            Playlist::Media { .. } => media.push(key.clone()),
        }
    }
    Ok(if masters.is_empty() { media } else { masters })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::scratch::Scratch;

    #[test]
    fn only_what_prefill_accepts_is_expected_to_be_served() {
        let scratch = Scratch::new("oca-content-test").unwrap();
        let dir = scratch.path();
        for name in [
            "a.mp4",
            "page.html",
            ".hidden",
            "sp ace.mp4",
            "deep/er/b.ts",
        ] {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        std::os::unix::fs::symlink(dir.join("a.mp4"), dir.join("link.mp4")).unwrap();
        let content = Content::read(dir).unwrap();
        let keys: Vec<&String> = content.files.keys().collect();
        assert_eq!(keys, ["a.mp4", "deep/er/b.ts"]);
        assert_eq!(content.files["a.mp4"].digest, Digest::of(b"a.mp4"));
        assert_eq!(content.largest().unwrap().0, "deep/er/b.ts");
    }

    #[test]
    fn an_empty_directory_says_what_is_wanted() {
        let scratch = Scratch::new("oca-content-test").unwrap();
        let error = Content::read(scratch.path()).unwrap_err().to_string();
        assert!(error.contains("directory of media"), "{error}");
    }
}
