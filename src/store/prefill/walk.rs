//! The list of files to prefill: those of the media tree whose names are keys.
//!
//! I/O: reads the operator's directory tree.

use super::PrefillError;
use super::Summary;
use crate::key::Key;
use crate::tree;
use std::path::Path;
use std::path::PathBuf;

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
    let outcome = tree::walk(dir, &mut |item| {
        match item {
            tree::Item::File(file) => match tree::key_of(&file.name) {
                Ok(key) => found.push(Found {
                    path: file.path,
                    key,
                    length: file.length,
                }),
                Err(refusal) => summary.refuse(&file.path, refusal.problem, refusal.remedy),
            },
            tree::Item::Refused { path, refusal } => {
                summary.refuse(&path, refusal.problem, refusal.remedy);
            }
            tree::Item::Skipped(path) => {
                summary.skipped += 1;
                tracing::info!(path = %path.display(), "skipped: the name begins with a dot");
            }
        }
        true
    });
    outcome.map_err(|error| PrefillError::Directory {
        path: dir.to_owned(),
        problem: error.to_string(),
    })?;
    Ok(found)
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
        let deep: PathBuf = std::iter::repeat_n("d", 40).collect();
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
        std::fs::write(disk.join(tree::CONTENT_DISK_FILE), "{}").unwrap();
        std::fs::write(dir.path().join("a.mp4"), "x").unwrap();
        let mut summary = Summary::default();
        assert_eq!(walk(dir.path(), &mut summary).unwrap().len(), 1);
        assert!(summary.refused[0].problem.contains("content disk"));
        assert!(walk(&disk, &mut summary).is_err());
    }
}
