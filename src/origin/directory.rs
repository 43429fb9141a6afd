//! A directory as an origin: the files of a media tree.
//!
//! I/O: reads the directory, on threads of the runtime for blocking work; an abandoned listing or
//! reading ends its thread at its next piece.

use super::Entry;
use super::Listed;
use super::Listing;
use super::Origin;
use super::OriginError;
use super::Reading;
use crate::key;
use crate::tree;
use crate::tree::FileError;
use crate::tree::Item;
use crate::tree::StableFile;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream;
use std::path::Path;
use std::path::PathBuf;
use tokio::sync::mpsc;

/// Listed files that wait for their reader.
const LISTED_MAX: usize = 256;

/// Pieces of 1 MiB that wait for their reader: one is hashed while the next is read.
const PIECES_MAX: usize = 2;

/// Pieces of a range: many are read at a time, for boxes.
const RANGE_PIECE_BYTES: usize = 256 * 1024;

/// The files below one directory.
#[derive(Clone, Debug)]
pub struct DirectoryOrigin {
    root: PathBuf,
}

impl DirectoryOrigin {
    /// The directory must exist; links on the way to it are resolved once, here.
    pub fn new(directory: &Path) -> Result<Self, OriginError> {
        let refused = |problem: String| OriginError::Config {
            what: directory.display().to_string(),
            problem,
        };
        let root = std::fs::canonicalize(directory).map_err(|error| refused(error.to_string()))?;
        if !root.is_dir() {
            return Err(refused("it is not a directory".into()));
        }
        if root.to_str().is_none() {
            return Err(refused("its path is not UTF-8; rename it".into()));
        }
        Ok(Self { root })
    }
}

impl DirectoryOrigin {
    /// Reads the bytes from `first` up to `end`, which is one past the last, of a file with this
    /// size and tag. Whether it can be read, and is the same, is known before the first piece;
    /// whether it still was at the last piece is known at the end.
    pub async fn read_range(
        &self,
        entry: &Entry,
        first: u64,
        end: u64,
    ) -> Result<Reading, OriginError> {
        let path = self.root.join(&entry.name);
        let entry = entry.clone();
        let begin = tokio::task::spawn_blocking(move || {
            let file = open(&path, &entry.name)?;
            let now = state(&file, &entry.name);
            if (now.size, &now.tag) != (entry.size, &entry.tag) || end > entry.size {
                return Err(changed(&path));
            }
            Ok((file, path))
        });
        let (mut file, path) = begin.await.unwrap_or_else(|error| Err(panicked(&error)))?;
        Ok(pieces(PIECES_MAX, move |send| {
            if let Err(error) = read_part(&mut file, &path, first, end, send) {
                send(Err(error));
            }
        }))
    }
}

impl Origin for DirectoryOrigin {
    fn name(&self) -> String {
        format!("file://{}", self.root.display())
    }

    fn list(&self) -> Listing {
        let root = self.root.clone();
        pieces(LISTED_MAX, move |send| {
            let mut each = |item| send(Ok(listed(item, &root)));
            if let Err(error) = tree::walk(&root, &mut each) {
                send(Err(failed(&root, &error.to_string())));
            }
        })
    }

    fn look(&self, name: &str) -> BoxFuture<'static, Result<Entry, OriginError>> {
        let path = self.root.join(name);
        let name = name.to_owned();
        let look = tokio::task::spawn_blocking(move || {
            let file = open(&path, &name)?;
            Ok(state(&file, &name))
        });
        async move { look.await.unwrap_or_else(|error| Err(panicked(&error))) }.boxed()
    }

    fn read(&self, entry: &Entry) -> Reading {
        let path = self.root.join(&entry.name);
        let entry = entry.clone();
        pieces(PIECES_MAX, move |send| {
            if let Err(error) = read(&path, &entry, send) {
                send(Err(error));
            }
        })
    }
}

fn listed(item: Item, root: &Path) -> Listed {
    match item {
        Item::File(found) => match String::from_utf8(found.name) {
            Ok(name) => Listed::File(Entry {
                name,
                size: found.length,
                tag: found.modified_ns.to_string(),
                last_modified: u64::try_from(found.modified_ns / 1_000_000_000).unwrap_or(0),
            }),
            Err(error) => Listed::Refused {
                name: String::from_utf8_lossy(error.as_bytes()).into_owned(),
                why: "its name is not UTF-8; rename it".into(),
            },
        },
        Item::Refused { path, refusal } => Listed::Refused {
            name: path
                .strip_prefix(root)
                .unwrap_or(&path)
                .display()
                .to_string(),
            why: format!("{}; {}", refusal.problem, refusal.remedy),
        },
        Item::Skipped(_) => Listed::Skipped,
    }
}

fn read(
    path: &Path,
    entry: &Entry,
    send: &mut dyn FnMut(Result<Bytes, OriginError>) -> bool,
) -> Result<(), OriginError> {
    let mut file = open(path, &entry.name)?;
    if state(&file, &entry.name) != *entry {
        return Err(changed(path));
    }
    while let Some(piece) = file.next_piece().map_err(|error| told(path, error))? {
        if !send(Ok(piece.into())) {
            return Ok(());
        }
    }
    file.check().map_err(|error| told(path, error))
}

fn read_part(
    file: &mut StableFile,
    path: &Path,
    first: u64,
    end: u64,
    send: &mut dyn FnMut(Result<Bytes, OriginError>) -> bool,
) -> Result<(), OriginError> {
    let mut at = first;
    while at < end {
        let most = usize::try_from(end - at).unwrap_or(RANGE_PIECE_BYTES);
        let most = most.min(RANGE_PIECE_BYTES);
        let piece = file.piece_at(at, most).map_err(|error| told(path, error))?;
        at += piece.len() as u64;
        // Before the last piece goes out: a reader that has it all has what was imported.
        if at >= end {
            file.check_same().map_err(|error| told(path, error))?;
        }
        if !send(Ok(piece.into())) {
            return Ok(());
        }
    }
    Ok(())
}

fn open(path: &Path, name: &str) -> Result<StableFile, OriginError> {
    // The key grammar has no way out of the directory: no `..`, no leading slash.
    if let Err(error) = key::check(name.as_bytes()) {
        return Err(unreadable(path, &error.to_string(), "rename it"));
    }
    StableFile::open(path).map_err(|error| told(path, error))
}

fn state(file: &StableFile, name: &str) -> Entry {
    Entry {
        name: name.to_owned(),
        size: file.length(),
        tag: file.modified_ns().to_string(),
        last_modified: file.modified(),
    }
}

fn told(path: &Path, error: FileError) -> OriginError {
    match error {
        FileError::Changed => changed(path),
        FileError::Io(error) if error.kind() == std::io::ErrorKind::NotFound => {
            OriginError::NotFound {
                what: path.display().to_string(),
            }
        }
        FileError::Io(_) | FileError::Kind => unreadable(path, &error.to_string(), error.remedy()),
    }
}

fn unreadable(path: &Path, problem: &str, remedy: &str) -> OriginError {
    OriginError::Unreadable {
        what: path.display().to_string(),
        problem: problem.to_owned(),
        remedy: remedy.to_owned(),
    }
}

fn changed(path: &Path) -> OriginError {
    OriginError::Changed {
        what: path.display().to_string(),
    }
}

fn failed(path: &Path, problem: &str) -> OriginError {
    OriginError::Failed {
        what: path.display().to_string(),
        problem: problem.to_owned(),
    }
}

fn panicked(error: &tokio::task::JoinError) -> OriginError {
    OriginError::Failed {
        what: "the directory".into(),
        problem: error.to_string(),
    }
}

/// Runs blocking `work` on a thread of its own and streams what it sends. `send` answers `false`
/// once nobody listens.
fn pieces<T: Send + 'static>(
    waiting_max: usize,
    work: impl FnOnce(&mut dyn FnMut(Result<T, OriginError>) -> bool) + Send + 'static,
) -> stream::BoxStream<'static, Result<T, OriginError>> {
    let begin = async move {
        let (sender, receiver) = mpsc::channel(waiting_max);
        let thread = tokio::task::spawn_blocking(move || {
            work(&mut |piece| sender.blocking_send(piece).is_ok());
        });
        stream::unfold(
            (receiver, Some(thread)),
            |(mut receiver, thread)| async move {
                if let Some(piece) = receiver.recv().await {
                    return Some((piece, (receiver, thread)));
                }
                // A thread that panicked must not look like a file that ended.
                let error = thread?.await.err()?;
                Some((Err(panicked(&error)), (receiver, None)))
            },
        )
    };
    stream::once(begin).flatten().boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn entries(origin: &DirectoryOrigin) -> Vec<Listed> {
        origin.list().map(Result::unwrap).collect().await
    }

    async fn read(origin: &DirectoryOrigin, entry: &Entry) -> Result<Vec<u8>, OriginError> {
        let mut bytes = Vec::new();
        let mut reading = origin.read(entry);
        while let Some(piece) = reading.next().await {
            bytes.extend_from_slice(&piece?);
        }
        Ok(bytes)
    }

    fn file(listed: &Listed) -> &Entry {
        match listed {
            Listed::File(entry) => entry,
            other @ (Listed::Refused { .. } | Listed::Skipped) => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_directory_is_listed_and_read_and_what_changed_since_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("film")).unwrap();
        let path = dir.path().join("film/a.mp4");
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|at| at.to_le_bytes()[1]).collect();
        std::fs::write(&path, &bytes).unwrap();
        std::fs::write(dir.path().join(".hidden"), "x").unwrap();
        std::os::unix::fs::symlink("film/a.mp4", dir.path().join("z")).unwrap();
        let origin = DirectoryOrigin::new(dir.path()).unwrap();
        let listed = entries(&origin).await;
        assert_eq!(listed.len(), 3, "{listed:?}");
        assert!(matches!(&listed[0], Listed::Skipped));
        assert!(matches!(&listed[2], Listed::Refused { name, .. } if name == "z"));
        let entry = file(&listed[1]).clone();
        assert_eq!((entry.name.as_str(), entry.size), ("film/a.mp4", 3_000_000));
        assert_eq!(read(&origin, &entry).await.unwrap(), bytes);
        std::fs::write(&path, b"other").unwrap();
        let error = read(&origin, &entry).await.unwrap_err();
        assert!(matches!(error, OriginError::Changed { .. }), "{error}");
        std::fs::remove_file(&path).unwrap();
        let error = read(&origin, &entry).await.unwrap_err();
        assert!(matches!(error, OriginError::NotFound { .. }), "{error}");
    }

    #[tokio::test]
    async fn no_name_leads_out_of_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("in")).unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        let origin = DirectoryOrigin::new(&dir.path().join("in")).unwrap();
        for name in ["../secret", "/etc/passwd", "a/../../secret", ""] {
            let entry = Entry {
                name: name.into(),
                size: 1,
                tag: String::new(),
                last_modified: 0,
            };
            assert!(read(&origin, &entry).await.is_err(), "{name}");
        }
        assert!(DirectoryOrigin::new(&dir.path().join("absent")).is_err());
        assert!(DirectoryOrigin::new(&dir.path().join("secret")).is_err());
    }

    #[tokio::test]
    async fn a_thread_that_panics_is_not_the_end_of_a_file() {
        let pieces: Vec<Result<u8, OriginError>> = pieces(1, |send| {
            send(Ok(1));
            panic!("on purpose");
        })
        .collect()
        .await;
        assert!(matches!(pieces[..], [Ok(1), Err(_)]), "{pieces:?}");
    }
}
