//! The list of files to prefill: sorted, bounded, without surprises.
//!
//! Symbolic links are refused (they lead out of the directory, or make one file two), names with a
//! leading dot skipped, types that a browser would run refused, as are names that are no keys.
//!
//! I/O: reads the operator's directory tree.

use super::PrefillError;
use super::Summary;
use crate::key;
use crate::key::Key;
use crate::media_type;
use crate::store::layout;
use std::ffi::OsString;
use std::fs::DirEntry;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

/// Directories below one another. A key has at most 1,024 bytes; media trees have five levels.
const DEPTH_MAX: usize = 32;

/// A file to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) key: Key,
    /// As the walk saw it, for the progress only.
    pub(super) length: u64,
}

/// Lists the files below `dir` in key order of their directories; refusals go to `summary`.
pub(super) fn walk(dir: &Path, summary: &mut Summary) -> Result<Vec<Found>, PrefillError> {
    let mut found = Vec::new();
    let outcome = directory(dir, b"", 0, &mut found, summary);
    outcome.map_err(|error| PrefillError::Directory {
        path: dir.to_owned(),
        problem: error.to_string(),
    })?;
    Ok(found)
}

fn directory(
    dir: &Path,
    prefix: &[u8],
    depth: usize,
    found: &mut Vec<Found>,
    summary: &mut Summary,
) -> io::Result<()> {
    if dir.join(layout::DISK_FILE).is_file() {
        // Its objects would be published again under their digests, and the disk fill itself.
        return Err(io::Error::other("it is a content disk of oca, not media"));
    }
    let mut entries: Vec<(OsString, DirEntry)> = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        entries.push((entry.file_name(), entry));
    }
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (name, entry) in entries {
        let path = entry.path();
        if name.as_bytes().starts_with(b".") {
            summary.skipped += 1;
            tracing::info!(path = %path.display(), "skipped: the name begins with a dot");
            continue;
        }
        let key = [prefix, name.as_bytes()].concat();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            let below = [&key[..], b"/"].concat();
            let read = if depth + 1 < DEPTH_MAX {
                directory(&path, &below, depth + 1, found, summary)
            } else {
                Err(io::Error::other("directories are nested too deeply"))
            };
            if let Err(error) = read {
                let remedy = "check its permissions and depth; its files are left out";
                summary.refuse(&path, format!("cannot be read: {error}"), remedy.into());
            }
            continue;
        }
        match file(&path, &key, kind, &entry) {
            Ok(file) => found.push(file),
            Err((problem, remedy)) => summary.refuse(&path, problem, remedy.into()),
        }
    }
    Ok(())
}

fn file(
    path: &Path,
    key: &[u8],
    kind: std::fs::FileType,
    entry: &DirEntry,
) -> Result<Found, (String, &'static str)> {
    if kind.is_symlink() {
        let remedy = "copy the file there: links are not followed";
        return Err(("it is a symbolic link".into(), remedy));
    }
    if !kind.is_file() {
        let remedy = "keep only regular files in the directory";
        return Err(("it is not a regular file".into(), remedy));
    }
    let key = Key::parse(key)
        .map_err(|error: key::KeyError| (format!("its path is no key: {error}"), "rename it"))?;
    if media_type::is_active(key.as_str()) {
        let problem = "a browser would run or render this type".to_owned();
        return Err((problem, "leave it out: the cache serves media, not pages"));
    }
    let length = entry
        .metadata()
        .map_err(|error| (format!("cannot be read: {error}"), "check its permissions"))?;
    Ok(Found {
        path: path.to_owned(),
        key,
        length: length.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_in_order_and_what_cannot_be_a_key_is_refused_with_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("t1/v1")).unwrap();
        std::fs::create_dir_all(at(".git")).unwrap();
        for name in [
            "t1/v1/b.m4s",
            "t1/a.m3u8",
            "z.mp4",
            ".hidden",
            "x y.mp4",
            "p.html",
        ] {
            std::fs::write(at(name), "x").unwrap();
        }
        std::os::unix::fs::symlink("z.mp4", at("l.mp4")).unwrap();
        std::os::unix::fs::symlink("/", at("root")).unwrap();
        let mut summary = Summary::default();
        let found = walk(dir.path(), &mut summary).unwrap();
        let keys: Vec<&str> = found.iter().map(|found| found.key.as_str()).collect();
        assert_eq!(keys, ["t1/a.m3u8", "t1/v1/b.m4s", "z.mp4"]);
        let refused: Vec<&Path> = summary.refused.iter().map(|r| r.path.as_path()).collect();
        assert_eq!(
            refused,
            [at("l.mp4"), at("p.html"), at("root"), at("x y.mp4")]
        );
        assert!(summary.refused.iter().all(|r| !r.remedy.is_empty()));
        assert_eq!(summary.skipped, 2);
    }

    #[test]
    fn a_tree_that_is_too_deep_is_cut_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let deep: PathBuf = std::iter::repeat_n("d", DEPTH_MAX + 3).collect();
        std::fs::create_dir_all(dir.path().join(&deep)).unwrap();
        std::fs::write(dir.path().join(&deep).join("f.mp4"), "x").unwrap();
        let mut summary = Summary::default();
        assert_eq!(walk(dir.path(), &mut summary).unwrap(), []);
        assert_eq!(summary.refused_total, 1);
        assert!(walk(&dir.path().join("absent"), &mut summary).is_err());
    }

    #[test]
    fn a_content_disk_is_not_media() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk1");
        std::fs::create_dir(&disk).unwrap();
        std::fs::write(disk.join(layout::DISK_FILE), "{}").unwrap();
        std::fs::write(dir.path().join("a.mp4"), "x").unwrap();
        let mut summary = Summary::default();
        assert_eq!(walk(dir.path(), &mut summary).unwrap().len(), 1);
        assert!(summary.refused[0].problem.contains("content disk"));
        assert!(walk(&disk, &mut summary).is_err());
    }
}
