//! The list of files below a directory: sorted, bounded in depth, without surprises.
//!
//! Symbolic links are refused (they lead out of the directory, or make one file two), names with a
//! leading dot skipped, content disks refused. What the names mean is the caller's business.
//!
//! I/O: reads the operator's directory tree; blocks.

use super::CONTENT_DISK_FILE;
use super::Refusal;
use std::ffi::OsString;
use std::fs::DirEntry;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

/// Directories below one another. A key has at most 1,024 bytes; media trees have five levels.
const DEPTH_MAX: usize = 32;

/// A regular file, as the walk saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub path: PathBuf,
    /// Relative to the directory that was walked; need not be UTF-8.
    pub name: Vec<u8>,
    pub length: u64,
    /// Nanoseconds since the Unix epoch.
    pub modified_ns: i128,
}

/// What a walk comes across.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    File(Found),
    /// Neither a file nor a directory that can be read.
    Refused {
        path: PathBuf,
        refusal: Refusal,
    },
    /// The name begins with a dot.
    Skipped(PathBuf),
}

/// Hands every item below `dir` to `each`, directory by directory in the order of their names.
/// `each` ends the walk by answering `false`.
pub fn walk(dir: &Path, each: &mut dyn FnMut(Item) -> bool) -> io::Result<()> {
    directory(dir, b"", 0, each).map(|_| ())
}

/// Answers whether to go on.
fn directory(
    dir: &Path,
    prefix: &[u8],
    depth: usize,
    each: &mut dyn FnMut(Item) -> bool,
) -> io::Result<bool> {
    if dir.join(CONTENT_DISK_FILE).is_file() {
        // Its objects would be taken again under their digests, and a disk fill itself.
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
            if !each(Item::Skipped(path)) {
                return Ok(false);
            }
            continue;
        }
        let name = [prefix, name.as_bytes()].concat();
        let item = if entry.file_type()?.is_dir() {
            let below = [&name[..], b"/"].concat();
            let read = if depth + 1 < DEPTH_MAX {
                directory(&path, &below, depth + 1, each)
            } else {
                Err(io::Error::other("directories are nested too deeply"))
            };
            match read {
                Ok(true) => continue,
                Ok(false) => return Ok(false),
                Err(error) => refused(
                    path,
                    format!("cannot be read: {error}"),
                    "check its permissions and depth; its files are left out",
                ),
            }
        } else {
            file(path, name, &entry)?
        };
        if !each(item) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn file(path: PathBuf, name: Vec<u8>, entry: &DirEntry) -> io::Result<Item> {
    let kind = entry.file_type()?;
    if kind.is_symlink() {
        let remedy = "copy the file there: links are not followed";
        return Ok(refused(path, "it is a symbolic link", remedy));
    }
    if !kind.is_file() {
        let remedy = "keep only regular files in the directory";
        return Ok(refused(path, "it is not a regular file", remedy));
    }
    Ok(match entry.metadata() {
        Ok(metadata) => Item::File(Found {
            path,
            name,
            length: metadata.len(),
            modified_ns: super::nanoseconds((metadata.mtime(), metadata.mtime_nsec())),
        }),
        Err(error) => refused(
            path,
            format!("cannot be read: {error}"),
            "check its permissions",
        ),
    })
}

fn refused(path: PathBuf, problem: impl Into<String>, remedy: &str) -> Item {
    Item::Refused {
        path,
        refusal: Refusal::new(problem, remedy),
    }
}
