//! Is the disk there? It is asked all the time, past the page cache.
//!
//! What viewers watch is in memory, so a disk that was pulled might not be missed for hours, and a
//! cold request would be the one to find out. `watcher` has one block of each disk in service read
//! a few times a second: a drive answers that from its own memory. No answer is a call over its
//! deadline like any other; errors at two places in a row take the disk out of service.
//!
//! I/O: reads, on a thread of the disk that does nothing else.

use super::core::Shared;
use super::kept;
use super::layout;
use super::root;
use super::root::Root;
use super::scrub;
use super::state::Event;
use super::volume::Volume;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// Address and length of a direct read: no disk has larger sectors.
const BLOCK_BYTES: usize = 4096;

/// A question that is older than this makes the disk doubtful: see [`Fills::is_in_doubt`]. A disk
/// that is only busy answers sooner, most of the time.
///
/// [`Fills::is_in_doubt`]: super::Fills::is_in_doubt
const DOUBT_AFTER_MS: u64 = 200;

/// Since when a question is under way; 0: none is. In the watch thread's time.
#[derive(Debug, Default)]
pub(super) struct Alive(AtomicU64);

#[repr(align(4096))]
struct Block([u8; BLOCK_BYTES]);

/// One question; the next may be asked when it is over, also when it was never run.
struct Question(Arc<Volume>);

impl Drop for Question {
    fn drop(&mut self) {
        self.0.alive.0.store(0, Ordering::Release);
    }
}

/// Has a thread of the disk read a block, unless it still does.
pub(super) fn ask(shared: &Arc<Shared>, volume: &Arc<Volume>) {
    if !volume.state().is_readable() {
        // What is being sent from it goes on without waiting for it.
        volume.fills.set_in_doubt(true);
        return;
    }
    let (asked, now) = (
        volume.alive.0.load(Ordering::Acquire),
        shared.ticks.now_ms(),
    );
    let waited = now.saturating_sub(asked);
    volume
        .fills
        .set_in_doubt(asked > 0 && waited >= DOUBT_AFTER_MS);
    if asked > 0 {
        return;
    }
    // The watch thread alone asks.
    volume.alive.0.store(now.max(1), Ordering::Release);
    let (own, question) = (Arc::clone(shared), Question(Arc::clone(volume)));
    let _ = volume.queue_question(move |volume| {
        let first = volume
            .root()
            .and_then(|root| read(&root, layout::DISK_FILE));
        let outcome = match &first {
            Err(error) if root::is_medium_error(error) => elsewhere(volume),
            Ok(_) | Err(_) => Ok(()),
        };
        match outcome {
            Err(error) if root::is_medium_error(&error) => {
                let reason = format!(
                    "{} cannot be read: {error}; check the disk, its cable and controller",
                    layout::DISK_FILE
                );
                volume.report(&own, Event::Broken, &reason);
            }
            // Descriptors or memory used up say nothing of the disk.
            Ok(()) | Err(_) => {}
        }
        if let Err(error) = first
            && volume.state().is_readable()
            && volume.may_log().is_some()
        {
            let (disk, file) = (volume.name(), layout::DISK_FILE);
            tracing::warn!(disk, %error, "disk {disk}: {file} cannot be read: {error}");
        }
        drop(question);
    });
}

/// Another place of the disk: one bad sector is no lost disk.
fn elsewhere(volume: &Volume) -> io::Result<()> {
    let root = volume.root()?;
    for name in [layout::MANIFEST, &kept::file_name(scrub::KEPT)] {
        match read(&root, name) {
            // Not every disk has each, and an empty file asks nothing of the disk.
            Ok(0) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            read => return read.map(drop),
        }
    }
    read(&root, layout::DISK_FILE).map(drop)
}

/// The first bytes of a file, from the medium; how many.
pub(super) fn read(root: &Root, name: &str) -> io::Result<usize> {
    let mut block = Box::new(Block([0; BLOCK_BYTES]));
    let file = match root::open_direct_read(root.top(), name) {
        // A file system that has no such reads (in memory, on a network).
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => root.file(name)?,
        opened => opened?,
    };
    match file.read_at(&mut block.0, 0) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            root.file(name)?.read_at(&mut block.0, 0)
        }
        read => read,
    }
}
