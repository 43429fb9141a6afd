//! How a disk writes what fills bring: by itself, from the memory that it came in, and past the
//! page cache, which is the viewers'.
//!
//! `landing` hands over some chunks at a time, `relocate` one, on the disk's thread that writes;
//! `lane` lets that thread wait here for what is under way, a few writes at a time, whenever no
//! call waits. A chunk goes to an io_uring
//! (`O_DIRECT`, [`DEPTH`] at a time); where io_uring is refused it is written directly but one at a
//! time, and where the file system refuses that, through the page cache. What a file has beyond
//! its last whole [`ALIGNMENT`] is written ordinarily: it is never longer than its object.
//!
//! A chunk is answered when its write has ended, never before: a short write goes on with the rest,
//! one that writes nothing is an error, and so is whatever the kernel says.
//!
//! I/O: writes, and waits for the disk; only its own thread calls.

use super::layout;
use super::root;
use super::root::Root;
use crate::lock::lock;
use crate::sys::blocks;
use crate::sys::blocks::ALIGNMENT;
use crate::sys::blocks::Block;
use crate::sys::ring::Landed;
use crate::sys::ring::Piece;
use crate::sys::ring::Ring;
use bytes::Bytes;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::Once;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

/// Writes that a disk has at a time: 4 MiB, enough for any to be busy while its thread does
/// something else, and little to wait for when a flush is due.
const DEPTH: u16 = 16;

/// Writes that are waited for together, if so many are under way: to wake a thread for each costs
/// more than they do. As many as `staged` hands over at a time, and few beside [`DEPTH`].
const WAITED_TOGETHER: usize = 4;

/// A write that the kernel wants to be asked for again is asked for so often.
const AGAIN_MAX: u32 = 16;

/// Called on the disk's thread when all of it is written, or has failed.
type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// What to write. It begins at a multiple of [`ALIGNMENT`] of the file, and ends at one or at the
/// file's end.
pub(super) struct Put {
    bytes: Bytes,
    offset: u64,
    done: Done,
}

/// The writes of one disk.
#[derive(Default)]
pub(super) struct Writes {
    way: OnceLock<Way>,
    /// Only the lane's thread works with it, which made it; dropped by anybody, but empty.
    ring: Mutex<Option<Ring<Waiting>>>,
    /// Told to whoever asks without waiting: `ring` is locked while the disk is waited for.
    is_ring_broken: AtomicBool,
    #[cfg(test)]
    pub(super) faults: Mutex<std::collections::VecDeque<io::Result<usize>>>,
}

/// What the kernel and the disk's file system allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Ring,
    Direct,
    Ordinary,
}

/// A file that is being received.
#[derive(Debug)]
pub(super) struct Target {
    /// For what is not written directly, and for everything else.
    pub(super) file: File,
    /// The same file, past the page cache.
    pub(super) direct: Option<Arc<File>>,
}

struct Waiting {
    done: Done,
    again: u32,
}

/// A write that has ended, or goes on.
enum Verdict {
    Ended(Done, io::Result<()>),
    More(Piece<Waiting>),
}

impl Put {
    pub(super) fn new(
        bytes: Bytes,
        offset: u64,
        done: impl FnOnce(io::Result<()>) + Send + 'static,
    ) -> Self {
        Self {
            bytes,
            offset,
            done: Box::new(done),
        }
    }
}

impl Writes {
    /// Finds out what is possible, once. Errors leave it open: a disk that cannot be written now.
    pub(super) fn decide(&self, root: &Root, disk: &str) -> io::Result<()> {
        if self.way.get().is_some() {
            return Ok(());
        }
        let way = if is_direct_possible(root, disk)? {
            self.open_ring()
        } else {
            Way::Ordinary
        };
        // Only the disk's thread decides.
        let _ = self.way.set(way);
        Ok(())
    }

    fn open_ring(&self) -> Way {
        static SAID: Once = Once::new();
        static LOCKED: Once = Once::new();
        match Ring::new(DEPTH) {
            Ok(ring) => {
                let (registered, deferred) = (ring.is_registered(), ring.is_deferred());
                tracing::debug!(registered, deferred, "fills write by io_uring");
                if !registered {
                    LOCKED.call_once(|| {
                        tracing::warn!(
                            "too little memory may be locked: each write of a fill looks up its \
                             pages anew; raise LimitMEMLOCK to 26 MiB for each disk"
                        );
                    });
                }
                *self.lock() = Some(ring);
                Way::Ring
            }
            Err(error) => {
                SAID.call_once(|| {
                    tracing::warn!(
                        %error,
                        "io_uring is refused ({error}): each disk writes one chunk of a fill at \
                         a time; allow it (kernel.io_uring_disabled, SystemCallFilter) for more"
                    );
                });
                Way::Direct
            }
        }
    }

    /// As `oca show disks` tells it. `None` before it is known.
    pub(super) fn name(&self) -> Option<&'static str> {
        let is_broken = self.is_ring_broken.load(Ordering::Relaxed);
        self.way.get().map(|way| match way {
            Way::Ring if !is_broken => "direct io_uring",
            Way::Ring | Way::Direct => "direct",
            Way::Ordinary => "buffered",
        })
    }

    /// `file`, of this name in `staging`, as something to [`Writes::put`] to.
    pub(super) fn target(&self, staging: &File, name: &str, file: File) -> io::Result<Target> {
        let direct = match self.way.get() {
            Some(Way::Ring | Way::Direct) => Some(Arc::new(root::open_direct(staging, name)?)),
            Some(Way::Ordinary) | None => None,
        };
        Ok(Target { file, direct })
    }

    /// Begins to write all of them; the kernel is told once, if there is room for them. `beat`
    /// before each wait for the disk.
    pub(super) fn put(
        &self,
        target: &Target,
        puts: impl IntoIterator<Item = Put>,
        beat: &dyn Fn(),
    ) {
        for put in puts {
            self.put_one(target, put, beat);
        }
        if let Some(ring) = self.lock().as_mut() {
            ring.submit();
        }
    }

    /// What the kernel has after the next submission, or wait.
    fn put_one(&self, target: &Target, put: Put, beat: &dyn Fn()) {
        let Put {
            bytes,
            offset,
            done,
        } = put;
        let Some(direct) = &target.direct else {
            // Loops over short writes; one of zero bytes is an error.
            return done(target.file.write_all_at(&bytes, offset));
        };
        let whole = bytes.len() - bytes.len() % ALIGNMENT;
        let tail = target
            .file
            .write_all_at(&bytes[whole..], offset + whole as u64);
        if tail.is_err() || whole == 0 {
            return done(tail);
        }
        let bytes = aligned(bytes.slice(..whole));
        self.take_in(0);
        while self.lock().as_ref().is_some_and(Ring::is_full) {
            beat();
            self.take_in(1);
        }
        let mut ring = self.lock();
        let Some(ring) = ring.as_mut() else {
            return done(write_all_directly(direct, &bytes, offset));
        };
        let begun = ring.begin(Piece {
            file: Arc::clone(direct),
            bytes,
            offset,
            token: Waiting { done, again: 0 },
        });
        if let Err(piece) = begun {
            // Nobody else began one since there was room.
            (piece.token.done)(Err(io::ErrorKind::ResourceBusy.into()));
        }
    }

    /// Returns when nothing is under way.
    pub(super) fn drain(&self, beat: &dyn Fn()) {
        while self.are_under_way() {
            beat();
            self.wait();
        }
    }

    /// Waits for some of what is under way.
    pub(super) fn wait(&self) {
        self.take_in(WAITED_TOGETHER);
    }

    pub(super) fn are_under_way(&self) -> bool {
        self.lock().as_ref().is_some_and(|ring| !ring.is_empty())
    }

    /// Answers what has ended, after waiting for `want` writes or all that are under way; with 0
    /// without waiting, and without submitting anything.
    fn take_in(&self, want: usize) {
        let mut ended = Vec::new();
        let mut guard = self.lock();
        let Some(ring) = guard.as_mut() else {
            return;
        };
        let landed = match want {
            0 => Ok(ring.landed()),
            want => ring.wait(want),
        };
        match landed {
            Ok(landed) => {
                for landed in landed {
                    match self.judge(landed) {
                        Verdict::Ended(done, outcome) => ended.push((done, outcome)),
                        Verdict::More(piece) => {
                            // Its place is free.
                            if let Err(piece) = ring.begin(piece) {
                                let refused = io::ErrorKind::ResourceBusy.into();
                                ended.push((piece.token.done, Err(refused)));
                            }
                        }
                    }
                }
                // Whoever does not wait has more to begin.
                if want > 0 {
                    ring.submit();
                }
            }
            Err(error) => {
                let problem = format!("io_uring broke: {error}");
                tracing::error!(problem, "{problem}; the disk writes a chunk at a time");
                self.is_ring_broken.store(true, Ordering::Relaxed);
                let lost = guard.take().map_or_else(Vec::new, Ring::abandon);
                for waiting in lost {
                    ended.push((waiting.done, Err(io::Error::other(problem.clone()))));
                }
            }
        }
        drop(guard);
        for (done, outcome) in ended {
            done(outcome);
        }
    }

    fn judge(&self, landed: Landed<Waiting>) -> Verdict {
        let Landed { mut piece, outcome } = landed;
        let outcome = self.faulted(outcome);
        match outcome.map(|written| rest(written, piece.bytes.len())) {
            Ok(Ok(0)) => Verdict::Ended(piece.token.done, Ok(())),
            Ok(Ok(left)) => {
                let written = piece.bytes.len() - left;
                piece.bytes = piece.bytes.slice(written..);
                piece.offset += written as u64;
                Verdict::More(piece)
            }
            Err(error) if is_again(&error) && piece.token.again < AGAIN_MAX => {
                piece.token.again += 1;
                Verdict::More(piece)
            }
            Ok(Err(error)) | Err(error) => Verdict::Ended(piece.token.done, Err(error)),
        }
    }

    /// What a test wants the kernel to have said.
    #[cfg(test)]
    fn faulted(&self, outcome: io::Result<usize>) -> io::Result<usize> {
        let mut faults = lock(&self.faults);
        faults.pop_front().unwrap_or(outcome)
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self, reason = "as the tests have it")]
    fn faulted(&self, outcome: io::Result<usize>) -> io::Result<usize> {
        outcome
    }

    fn lock(&self) -> MutexGuard<'_, Option<Ring<Waiting>>> {
        lock(&self.ring)
    }
}

impl fmt::Debug for Writes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writes")
            .field("way", &self.way)
            .finish_non_exhaustive()
    }
}

/// Tries it: what a file system says of itself and what it does may differ.
fn is_direct_possible(root: &Root, disk: &str) -> io::Result<bool> {
    let mut block = Block::take();
    block.extend_from_slice(&[0; ALIGNMENT]);
    let tried = root::unnamed_direct(&root.dir(layout::STAGING)?)
        .and_then(|file| write_all_directly(&file, block.as_ref(), 0));
    match tried {
        Ok(()) => Ok(true),
        Err(error) if is_refusal(&error) => {
            tracing::warn!(
                disk,
                %error,
                "disk {disk}: its file system refuses direct writes ({error}): fills go through \
                 the page cache"
            );
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        // The last where a file must have a name.
        Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSYS | libc::EISDIR)
    )
}

fn is_again(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN))
}

/// Bytes to write again after a write of `written` out of `length`: from the last one that is
/// aligned.
fn rest(written: usize, length: usize) -> io::Result<usize> {
    if written >= length {
        return Ok(0);
    }
    match written - written % ALIGNMENT {
        0 => Err(io::Error::new(
            io::ErrorKind::WriteZero,
            format!("{written} of {length} bytes were written, and no more"),
        )),
        whole => Ok(length - whole),
    }
}

/// As [`FileExt::write_all_at`], each time from an aligned place.
fn write_all_directly(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    let mut again = 0;
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(written) => {
                let done = bytes.len() - rest(written, bytes.len())?;
                bytes = &bytes[done..];
                offset += done as u64;
            }
            Err(error) if is_again(&error) && again < AGAIN_MAX => again += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// As it is, or copied where a disk can read it.
fn aligned(bytes: Bytes) -> Bytes {
    if blocks::is_aligned(&bytes) {
        return bytes;
    }
    let mut block = Block::take();
    block.extend_from_slice(&bytes);
    Bytes::from_owner(block)
}

#[cfg(test)]
#[path = "writes_tests.rs"]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
mod tests;
