//! Is a part of a file in memory? A few microseconds at most, never a wait.
//!
//! `cachestat(2)` counts pages, but those that are still being read as well; `RWF_NOWAIT` sees only
//! one place, but surely. So the pages are counted and, if none is absent, both ends are probed.
//! Where the kernel has no `cachestat` or refuses it, more places are probed; that is found out
//! once.

use crate::sys::page_cache;
use std::fs::File;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

/// Distance of the places probed where pages cannot be counted: what a kernel reads at once by
/// default, so that a gap is rarely smaller.
const PROBE_STRIDE: u64 = 64 * 1024;

/// `cachestat` was answered with `ENOSYS` (before Linux 6.5, or filtered) or `EPERM`.
static UNCOUNTABLE: AtomicBool = AtomicBool::new(false);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Present,
    Absent,
    /// Neither call works here: a file system without `RWF_NOWAIT` on an old kernel.
    Unknown,
}

/// Looks at `length` bytes from `at`, which lie within the file.
pub(super) fn look(file: &File, at: u64, length: u64) -> Presence {
    let page = page_cache::page_bytes();
    let last = at + length.max(1) - 1;
    let (first_page, last_page) = (at / page, last / page);
    // Counted first: a kernel that is to read what is absent asks the disk for it, even if nobody
    // would wait, and who asks may have to wait for a place in the disk's queue.
    let counted = count(file, at, length);
    if counted.is_some_and(|pages| pages <= last_page - first_page) {
        return Presence::Absent;
    }
    let ends = match (probe(file, at), first_page == last_page) {
        (Presence::Present, false) => probe(file, last),
        (end, _) => end,
    };
    match (ends, counted) {
        (Presence::Absent, _) => Presence::Absent,
        (Presence::Present, None) if last_page - first_page > 1 => probe_all(file, at, last),
        (Presence::Unknown, None) => Presence::Unknown,
        (Presence::Present, _) | (Presence::Unknown, Some(_)) => Presence::Present,
    }
}

/// Are all pages of `length` bytes from `at` in memory, read or being read? False where pages
/// cannot be counted.
pub(super) fn is_counted(file: &File, at: u64, length: u64) -> bool {
    let page = page_cache::page_bytes();
    let last = at + length.max(1) - 1;
    count(file, at, length).is_some_and(|pages| pages > last / page - at / page)
}

/// Is the page of this byte in memory and read?
fn probe(file: &File, at: u64) -> Presence {
    match page_cache::read_now(file, &mut [0], at) {
        // At the end of the file there is nothing to wait for; the reader finds out.
        Ok(_) => Presence::Present,
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Presence::Unknown,
        // `WouldBlock`; and an error is better met on the disk's thread.
        Err(_) => Presence::Absent,
    }
}

fn probe_all(file: &File, at: u64, last: u64) -> Presence {
    let stride = usize::try_from(PROBE_STRIDE).unwrap_or(usize::MAX);
    let absent = (at..last)
        .step_by(stride)
        .skip(1)
        .any(|at| probe(file, at) == Presence::Absent);
    if absent {
        Presence::Absent
    } else {
        Presence::Present
    }
}

fn count(file: &File, at: u64, length: u64) -> Option<u64> {
    if UNCOUNTABLE.load(Relaxed) {
        return None;
    }
    match page_cache::pages_cached(file, at, length) {
        Ok(pages) => Some(pages),
        Err(error) => {
            let code = error.raw_os_error();
            if (code == Some(libc::ENOSYS) || code == Some(libc::EPERM))
                && !UNCOUNTABLE.swap(true, Relaxed)
            {
                tracing::warn!(
                    %error,
                    "cachestat cannot be used ({error}): pages in memory are probed one by one; \
                     run Linux 6.5 or later, as the owner of the disks' files"
                );
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    const LENGTH: u64 = 1024 * 1024;
    const HOLE: std::ops::Range<u64> = 256 * 1024..320 * 1024;

    fn on_disk() -> File {
        let mut file = tempfile::tempfile().unwrap();
        let length = usize::try_from(LENGTH).unwrap();
        file.write_all(&vec![1; length]).unwrap();
        file.sync_all().unwrap();
        page_cache::no_readahead(&file).unwrap();
        file
    }

    /// A page that another core holds for a moment is not dropped at the first try.
    fn forget(file: &File) {
        for _ in 0..1_000 {
            page_cache::drop_cached(file, 0, 0).unwrap();
            // Counted: a probe would have the kernel bring what is absent.
            if matches!(count(file, 0, LENGTH), None | Some(0)) {
                return;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_hole_in_the_middle_is_seen() {
        let file = on_disk();
        assert_eq!(look(&file, 0, LENGTH), Presence::Present);
        forget(&file);
        // Reading waits for what is under way.
        for at in (0..LENGTH).step_by(4096).filter(|at| !HOLE.contains(at)) {
            file.read_exact_at(&mut [0], at).unwrap();
        }
        assert_eq!(look(&file, 0, LENGTH), Presence::Absent);
        let counted = [
            (0, LENGTH),
            (HOLE.end - 1, 1),
            (0, HOLE.start),
            (HOLE.end, 9),
        ];
        let counted = counted.map(|(at, length)| is_counted(&file, at, length));
        assert_eq!(counted, [false, false, true, true]);
        assert_eq!(look(&file, 0, HOLE.start), Presence::Present);
        assert_eq!(look(&file, HOLE.end, LENGTH - HOLE.end), Presence::Present);
        // Last: a probe has the kernel bring what it finds absent.
        assert_eq!(probe_all(&file, 0, LENGTH - 1), Presence::Absent);
        forget(&file);
        assert_eq!(look(&file, LENGTH - 1, 1), Presence::Absent);
    }

    #[test]
    fn a_file_system_in_memory_is_always_present() {
        let mut file = tempfile::tempfile_in("/dev/shm").unwrap();
        file.write_all(&[1; 100_000]).unwrap();
        assert_eq!(look(&file, 0, 100_000), Presence::Present);
        assert_eq!(look(&file, 50_000, 1), Presence::Present);
    }
}
