//! Writes that the kernel does by itself: an io_uring with a bounded number under way.
//!
//! `store::writes` has one for each disk, on the thread of the disk that writes: it begins
//! [`Piece`]s and takes them back with what the kernel says of each. The ring owns what it writes
//! from and to until then. It judges nothing: a short write is told as such.
//!
//! I/O: [`Ring::submit`] and [`Ring::landed`] may wait for the kernel's queues, [`Ring::wait`]
//! waits for the disk. All on the thread that made the ring.

use super::blocks;
use crate::clock;
use bytes::Bytes;
use io_uring::EnterFlags;
use io_uring::IoUring;
use io_uring::opcode;
use io_uring::types::Fd;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread::ThreadId;
use std::time::Duration;

/// An error of `io_uring_enter` that says "again" is believed so often in a row.
const AGAIN_MAX: u32 = 1000;

/// Between two of these: what the kernel is short of comes back when others have had a turn.
const AGAIN_PAUSE: Duration = Duration::from_millis(1);

/// Bytes for a place in a file, and what their owner wants to know them by.
#[derive(Debug)]
pub struct Piece<T> {
    pub file: Arc<File>,
    pub bytes: Bytes,
    pub offset: u64,
    pub token: T,
}

/// What the kernel wrote of a piece, which is given back.
#[derive(Debug)]
pub struct Landed<T> {
    pub piece: Piece<T>,
    pub outcome: io::Result<usize>,
}

/// Submission and completion queue with the pieces under way.
pub struct Ring<T> {
    kernel: IoUring,
    /// By the number that the kernel knows them by.
    under_way: Vec<Option<Piece<T>>>,
    idle: Vec<usize>,
    /// The region of blocks is buffer 0.
    is_registered: bool,
    owner: ThreadId,
}

impl<T> Ring<T> {
    /// For the thread that calls, which alone may use it. Errors with `ENOSYS` or `EPERM` where the
    /// kernel, the administrator or a sandbox refuses.
    pub fn new(depth: u16) -> io::Result<Self> {
        let entries = u32::from(depth);
        // Completions wait until we wait for as many, and wake us once; they say so in the queue.
        let mut polite = IoUring::builder();
        polite.setup_single_issuer().setup_defer_taskrun();
        polite.setup_taskrun_flag();
        let kernel = match polite.build(entries) {
            // Before Linux 6.1.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => IoUring::new(entries)?,
            other => other?,
        };
        Ok(Self::over(kernel, depth))
    }

    fn over(kernel: IoUring, depth: u16) -> Self {
        let is_registered = blocks::region().is_some_and(|(at, length)| {
            let region = libc::iovec {
                iov_base: at.cast_mut().cast(),
                iov_len: length,
            };
            // SAFETY: the region is mapped for the life of the process.
            let registered = unsafe { kernel.submitter().register_buffers(&[region]) };
            // Refused where little memory may be locked: the same writes cost a little more.
            registered.is_ok()
        });
        Self {
            kernel,
            under_way: (0..depth).map(|_| None).collect(),
            idle: (0..usize::from(depth)).rev().collect(),
            is_registered,
            owner: std::thread::current().id(),
        }
    }

    /// One wake-up for all completions that are waited for.
    pub fn is_deferred(&self) -> bool {
        self.kernel.params().is_setup_single_issuer()
    }

    /// The memory of blocks is known to the kernel.
    pub fn is_registered(&self) -> bool {
        self.is_registered
    }

    /// No piece more can begin before one has landed.
    pub fn is_full(&self) -> bool {
        self.idle.is_empty()
    }

    pub fn is_empty(&self) -> bool {
        self.idle.len() == self.under_way.len()
    }

    /// Takes a piece, which is under way from here on; gives it back, if the ring is full. The
    /// kernel has it after the next [`Ring::submit`] or [`Ring::wait`].
    pub fn begin(&mut self, piece: Piece<T>) -> Result<(), Piece<T>> {
        let Some(number) = self.idle.pop() else {
            return Err(piece);
        };
        let entry = self.entry(&piece).user_data(number as u64);
        self.under_way[number] = Some(piece);
        // SAFETY: file and bytes live in `under_way` until their completion is taken, longer if
        // none comes; moving a `Bytes` does not move what it points to.
        let pushed = unsafe { self.kernel.submission().push(&entry) };
        if pushed.is_err() {
            // The queue is as long as `under_way`: all of them fit.
            self.idle.push(number);
            return self.under_way[number].take().map_or(Ok(()), Err);
        }
        Ok(())
    }

    /// Gives the kernel all that was begun: what lies side by side may become one request of the
    /// disk. What the kernel does not take shows in the next [`Ring::wait`].
    pub fn submit(&mut self) {
        if !self.kernel.submission().is_empty() {
            let _ = self.enter(0);
        }
    }

    fn entry(&self, piece: &Piece<T>) -> io_uring::squeue::Entry {
        let file = Fd(piece.file.as_raw_fd());
        let (at, offset) = (piece.bytes.as_ptr(), piece.offset);
        // More than that would be a short write.
        let length = u32::try_from(piece.bytes.len()).unwrap_or(u32::MAX);
        if self.is_registered && blocks::is_of_region(&piece.bytes) {
            let fixed = opcode::WriteFixed::new(file, at, length, 0);
            fixed.offset(offset).build()
        } else {
            opcode::Write::new(file, at, length).offset(offset).build()
        }
    }

    /// Waits until `want` pieces have landed, or all that are under way, and returns all that have;
    /// at once if any has already. An error is the ring's own: it takes nothing any more, and only
    /// [`Ring::abandon`] is left.
    pub fn wait(&mut self, want: usize) -> io::Result<Vec<Landed<T>>> {
        let mut landed = self.landed();
        while landed.is_empty() && !self.is_empty() {
            let under_way = self.under_way.len() - self.idle.len();
            self.enter(want.clamp(1, under_way))?;
            landed = self.landed();
        }
        Ok(landed)
    }

    /// What has landed already.
    pub fn landed(&mut self) -> Vec<Landed<T>> {
        self.check_thread();
        if self.kernel.submission().taskrun() {
            let take = EnterFlags::GETEVENTS.bits();
            // SAFETY: nothing is submitted, and nothing is pointed to. An error shows in the next
            // wait.
            let _ = unsafe { self.kernel.submitter().enter::<()>(0, 0, take, None) };
        }
        let mut landed = Vec::new();
        for entry in self.kernel.completion() {
            let number = usize::try_from(entry.user_data()).unwrap_or(usize::MAX);
            let piece = self.under_way.get_mut(number).and_then(Option::take);
            if let Some(piece) = piece {
                self.idle.push(number);
                let result = entry.result();
                let failed = |_| io::Error::from_raw_os_error(-result);
                let outcome = usize::try_from(result).map_err(failed);
                landed.push(Landed { piece, outcome });
            }
        }
        landed
    }

    /// Ends a ring that takes nothing any more. What is under way may still be written, at any
    /// time: its memory is never used again.
    pub fn abandon(mut self) -> Vec<T> {
        let under_way = std::mem::take(&mut self.under_way);
        let tokens = under_way.into_iter().flatten().map(|piece| {
            std::mem::forget(piece.bytes);
            std::mem::forget(piece.file);
            piece.token
        });
        let tokens = tokens.collect();
        self.idle.clear();
        tokens
    }

    /// The kernel refuses any other with `EEXIST`, and the ring is then as good as broken.
    fn check_thread(&self) {
        debug_assert_eq!(self.owner, std::thread::current().id(), "not its thread");
    }

    fn enter(&mut self, want: usize) -> io::Result<()> {
        self.check_thread();
        let mut tries = 0;
        loop {
            let error = match self.kernel.submit_and_wait(want) {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            tries += 1;
            match pause_before(&error, tries) {
                Some(pause) => clock::block_for(pause),
                None => return Err(error),
            }
        }
    }
}

/// How long to wait before the next try; `None` if there is none.
fn pause_before(error: &io::Error, tries: u32) -> Option<Duration> {
    let pause = match error.raw_os_error() {
        Some(libc::EINTR) => Duration::ZERO,
        Some(libc::EAGAIN | libc::EBUSY) => AGAIN_PAUSE,
        Some(_) | None => return None,
    };
    (tries <= AGAIN_MAX).then_some(pause)
}

impl<T> Drop for Ring<T> {
    /// The kernel reads what is under way: its memory outlives that.
    fn drop(&mut self) {
        while !self.is_empty() {
            if self.wait(1).is_err() {
                std::mem::forget(std::mem::take(&mut self.under_way));
                return;
            }
        }
    }
}

impl<T> fmt::Debug for Ring<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("idle", &self.idle.len())
            .field("is_registered", &self.is_registered)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::blocks::Block;
    use super::*;
    use std::os::unix::fs::FileExt;

    fn piece(file: &Arc<File>, bytes: Bytes, offset: u64) -> Piece<u64> {
        let (file, token) = (Arc::clone(file), offset);
        Piece {
            file,
            bytes,
            offset,
            token,
        }
    }

    /// As kernels since Linux 6.1 have them, and as older ones.
    fn rings(depth: u16) -> [Ring<u64>; 2] {
        let plain = IoUring::new(u32::from(depth)).unwrap();
        let rings = [Ring::new(depth).unwrap(), Ring::over(plain, depth)];
        let deferred = rings.each_ref().map(Ring::is_deferred);
        assert_eq!(deferred, [true, false], "this needs Linux 6.1");
        rings
    }

    #[test]
    fn pieces_land_where_they_belong_from_blocks_and_from_elsewhere() {
        for mut ring in rings(4) {
            let file = Arc::new(tempfile::tempfile().unwrap());
            let mut block = Block::take();
            block.extend_from_slice(&[1; 5000]);
            let block = Bytes::from_owner(block);
            ring.begin(piece(&file, block, 10)).unwrap();
            ring.begin(piece(&file, Bytes::from(vec![2; 700]), 6000))
                .unwrap();
            let mut told = Vec::new();
            while !ring.is_empty() {
                for landed in ring.wait(1).unwrap() {
                    told.push((landed.piece.token, landed.outcome.unwrap()));
                }
            }
            told.sort_unstable();
            assert_eq!(told, [(10, 5000), (6000, 700)]);
            let mut found = vec![9; 6700];
            file.read_exact_at(&mut found, 0).unwrap();
            assert_eq!(found[..10], [0; 10]);
            assert!(found[10..5010].iter().all(|byte| *byte == 1));
            assert!(found[6000..].iter().all(|byte| *byte == 2));
            assert!(ring.wait(3).unwrap().is_empty(), "nothing to wait for");
        }
    }

    #[test]
    fn a_full_ring_gives_a_piece_back_and_an_error_is_told_of_its_own_piece() {
        for mut ring in rings(2) {
            let file = Arc::new(tempfile::tempfile().unwrap());
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            let unwritable = Arc::new(File::open(path).unwrap());
            ring.begin(piece(&file, Bytes::from_static(b"x"), 0))
                .unwrap();
            ring.begin(piece(&unwritable, Bytes::from_static(b"y"), 1))
                .unwrap();
            assert!(ring.is_full());
            let back = ring.begin(piece(&file, Bytes::from_static(b"z"), 2));
            assert_eq!(back.unwrap_err().token, 2);
            let mut failed = Vec::new();
            while !ring.is_empty() {
                for landed in ring.wait(1).unwrap() {
                    if let Err(error) = landed.outcome {
                        failed.push((landed.piece.token, error.raw_os_error()));
                    }
                }
            }
            assert_eq!(failed, [(1, Some(libc::EBADF))]);
        }
    }

    #[test]
    fn a_kernel_that_is_short_of_something_gets_time_before_the_next_try() {
        let pause = |code, tries| pause_before(&io::Error::from_raw_os_error(code), tries);
        for code in [libc::EAGAIN, libc::EBUSY] {
            assert_eq!(pause(code, 1), Some(AGAIN_PAUSE));
            assert_eq!(pause(code, AGAIN_MAX), Some(AGAIN_PAUSE));
            assert_eq!(pause(code, AGAIN_MAX + 1), None);
        }
        assert!(AGAIN_PAUSE * AGAIN_MAX >= Duration::from_secs(1));
        assert_eq!(pause(libc::EINTR, 1), Some(Duration::ZERO));
        assert_eq!(pause(libc::EBADF, 1), None);
    }

    #[test]
    fn nothing_is_written_before_it_is_submitted_and_as_many_are_waited_for_as_are_wanted() {
        for mut ring in rings(8) {
            let file = Arc::new(tempfile::tempfile().unwrap());
            for number in 0..6 {
                let bytes = Bytes::from(vec![7; 50_000]);
                ring.begin(piece(&file, bytes, number * 50_000)).unwrap();
            }
            assert_eq!(file.metadata().unwrap().len(), 0);
            assert!(ring.landed().is_empty());
            ring.submit();
            let (begun, mut landed) = (clock::now(), 0);
            while landed == 0 {
                assert!(begun.elapsed() < Duration::from_secs(10), "nothing lands");
                clock::block_for(Duration::from_millis(1));
                landed = ring.landed().len();
            }
            // More are wanted than there are.
            while !ring.is_empty() {
                landed += ring.wait(usize::MAX).unwrap().len();
            }
            assert_eq!(landed, 6);
            assert_eq!(file.metadata().unwrap().len(), 300_000);
        }
    }

    #[test]
    fn a_ring_that_ends_waits_for_what_is_under_way() {
        for mut ring in rings(8) {
            let file = Arc::new(tempfile::tempfile().unwrap());
            for number in 0..8 {
                let bytes = Bytes::from(vec![7; 100_000]);
                ring.begin(piece(&file, bytes, number * 100_000)).unwrap();
            }
            drop(ring);
            assert_eq!(file.metadata().unwrap().len(), 800_000);
            assert_eq!(Arc::strong_count(&file), 1);
        }
    }
}
