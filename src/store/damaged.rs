//! Damaged objects that could not be moved to quarantine: remembered on the system disk.
//!
//! On a disk that is mounted read-only a damaged file stays in its place, and a scan, which does
//! not read what objects consist of, would take it for whole again. `quarantine` keeps its digest
//! here until a move succeeds; `verdict` asks before it believes a file; `view` tells an operator.
//!
//! I/O: a small file of the state directory, on the disk's own thread.

use super::copies::StateDir;
use crate::durable;
use crate::lock::lock;
use crate::object::Digest;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Mutex;

/// A disk with more of them is no disk to serve from: it is found so by the scrub, or by readers.
const REMEMBERED_MAX: usize = 4096;
const LINE_BYTES: u64 = 65;

#[derive(Debug, Default)]
pub(super) struct Damaged(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    uuid: String,
    digests: BTreeSet<Digest>,
}

impl Damaged {
    /// Reads what is remembered of a disk. Lines that are no digest are left out.
    pub(super) fn load(&self, state_dir: &StateDir, uuid: &str) {
        let mut text = String::new();
        let most = LINE_BYTES * REMEMBERED_MAX as u64;
        let opened = File::open(path(state_dir, uuid));
        match opened.and_then(|file| file.take(most).read_to_string(&mut text)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => tracing::error!(
                %error,
                "{} cannot be read: {error}; damaged objects of the disk may be served",
                path(state_dir, uuid).display()
            ),
            Ok(_) | Err(_) => {}
        }
        *lock(&self.0) = Known {
            uuid: uuid.to_owned(),
            digests: text.lines().filter_map(|line| line.parse().ok()).collect(),
        };
    }

    /// Is nothing bad known of the object? In words, if there is.
    pub(super) fn vouch(&self, digest: Digest) -> Result<(), String> {
        match lock(&self.0).digests.contains(&digest) {
            false => Ok(()),
            true => Err("it was found damaged while its disk was read-only".into()),
        }
    }

    /// It stays where it is.
    pub(super) fn keep(&self, state_dir: &StateDir, uuid: &str, disk: &str, digest: Digest) {
        let mut known = lock(&self.0);
        uuid.clone_into(&mut known.uuid);
        if known.digests.len() >= REMEMBERED_MAX || !known.digests.insert(digest) {
            return;
        }
        if let Err(error) = save(state_dir, &known) {
            let path = path(state_dir, uuid);
            let path = path.display();
            tracing::error!(
                disk,
                %digest,
                %error,
                "disk {disk}: that {digest} is damaged cannot be kept in {path}: {error}; a \
                 restart would serve it"
            );
        }
    }

    /// It is out of the way.
    pub(super) fn settled(&self, state_dir: &StateDir, digest: Digest) {
        let mut known = lock(&self.0);
        if known.digests.remove(&digest) {
            // Kept once too often it is looked for in vain.
            let _ = save(state_dir, &known);
        }
    }

    /// For the operator; `None`: there is nothing to tell.
    pub(super) fn told(&self) -> Option<String> {
        let count = lock(&self.0).digests.len();
        (count > 0).then(|| {
            format!(
                "{count} damaged objects stay on it and are not served: mount it for writing, or \
                 replace it, and restart"
            )
        })
    }
}

fn path(state_dir: &StateDir, uuid: &str) -> PathBuf {
    state_dir.path.join(format!("damaged-{uuid}"))
}

/// Whole, durable, or as it was.
fn save(state_dir: &StateDir, known: &Known) -> io::Result<()> {
    let lines: String = { known.digests.iter() }
        .map(|digest| format!("{digest}\n"))
        .collect();
    durable::replace(&path(state_dir, &known.uuid), lines.as_bytes(), 0o644)
}
