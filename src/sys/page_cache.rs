//! A file's pages in memory: which are there, which should be, which may go.
//!
//! Asked by `store::residency` (is a chunk in memory? bring it, drop it) and by `serve`, which
//! reads what is there without ever waiting for a disk.
//!
//! I/O: [`read_now`] and [`pages_cached`] never wait; the advices may wait for the disk's queue.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;

/// Used if the kernel does not say; every machine this runs on has it or a multiple of it.
const PAGE_BYTES: u64 = 4096;

/// `cachestat(2)` has this number on every architecture (Linux 6.5).
const CACHESTAT: libc::c_long = 451;

/// `struct cachestat_range`.
#[repr(C)]
struct Range {
    offset: u64,
    length: u64,
}

/// `struct cachestat`: pages.
#[repr(C)]
#[derive(Default)]
struct Counts {
    cached: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// Bytes of a page.
pub fn page_bytes() -> u64 {
    static BYTES: OnceLock<u64> = OnceLock::new();
    *BYTES.get_or_init(|| {
        // SAFETY: `sysconf` takes a number and touches no memory of ours.
        let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        u64::try_from(bytes).unwrap_or(PAGE_BYTES).max(1)
    })
}

/// How many pages of a range are in memory, those still being read from the disk included.
/// Errors with `ENOSYS` before Linux 6.5, and with `EPERM` for a file that is not ours.
pub fn pages_cached(file: &File, offset: u64, length: u64) -> io::Result<u64> {
    count(file, offset, length).map(|counts| counts.cached)
}

/// How many pages of a range are absent because the kernel wanted their memory: not those that
/// somebody dropped. Errors as [`pages_cached`] does.
pub fn pages_evicted(file: &File, offset: u64, length: u64) -> io::Result<u64> {
    count(file, offset, length).map(|counts| counts.evicted)
}

fn count(file: &File, offset: u64, length: u64) -> io::Result<Counts> {
    let range = Range { offset, length };
    let mut counts = Counts::default();
    // SAFETY: both pointers are to live values of the layout the kernel expects: it reads the
    // first and writes the second. The descriptor is open for the length of the borrow.
    let outcome = unsafe {
        libc::syscall(
            CACHESTAT,
            file.as_raw_fd(),
            &raw const range,
            &raw mut counts,
            0_u32,
        )
    };
    if outcome == 0 {
        Ok(counts)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Reads what is in memory at `offset` and stops before the first page that is not
/// (`RWF_NOWAIT`): `WouldBlock` if that is the first one, `Unsupported` where the file system
/// cannot tell, 0 at the end of the file.
pub fn read_now(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let offset = i64::try_from(offset).map_err(io::Error::other)?;
    let part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: the one part names `buffer`, which is ours alone and lives through the call; the
    // kernel writes at most its length.
    let count = unsafe {
        libc::preadv2(
            file.as_raw_fd(),
            &raw const part,
            1,
            offset,
            libc::RWF_NOWAIT,
        )
    };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Starts reading a range that will be wanted soon. The kernel may take less of it than asked.
pub fn will_need(file: &File, offset: u64, length: u64) -> io::Result<()> {
    advise(file, offset, length, libc::POSIX_FADV_WILLNEED)
}

/// Drops a range from memory, except pages that somebody holds, such as a socket's send queue.
pub fn drop_cached(file: &File, offset: u64, length: u64) -> io::Result<()> {
    advise(file, offset, length, libc::POSIX_FADV_DONTNEED)
}

/// The kernel shall not read ahead in this open file: whoever reads says what is wanted.
pub fn no_readahead(file: &File) -> io::Result<()> {
    advise(file, 0, 0, libc::POSIX_FADV_RANDOM)
}

fn advise(file: &File, offset: u64, length: u64, advice: libc::c_int) -> io::Result<()> {
    let offset = i64::try_from(offset).map_err(io::Error::other)?;
    let length = i64::try_from(length).map_err(io::Error::other)?;
    // SAFETY: takes numbers and an open descriptor, touches no memory of ours.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), offset, length, advice) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// On a disk: file systems in memory have no absent pages.
    fn written(bytes: usize) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; bytes]).unwrap();
        file.sync_all().unwrap();
        file
    }

    #[test]
    fn what_was_written_is_in_memory_and_can_be_dropped_and_brought_back() {
        let bytes = 64 * page_bytes();
        let file = written(usize::try_from(bytes).unwrap());
        assert_eq!(pages_cached(&file, 0, bytes).unwrap(), 64);
        let mut buffer = vec![0; 10_000];
        assert_eq!(read_now(&file, &mut buffer, 100).unwrap(), 10_000);
        assert!(buffer.iter().all(|byte| *byte == 7));
        assert_eq!(read_now(&file, &mut buffer, bytes).unwrap(), 0);
        drop_cached(&file, 0, 0).unwrap();
        assert_eq!(pages_cached(&file, 0, bytes).unwrap(), 0);
        let absent = read_now(&file, &mut buffer, 0).unwrap_err();
        assert_eq!(absent.kind(), io::ErrorKind::WouldBlock);
        will_need(&file, 0, bytes).unwrap();
        assert_eq!(pages_cached(&file, 0, bytes).unwrap(), 64);
        no_readahead(&file).unwrap();
    }

    #[test]
    fn one_page_counts_for_a_range_within_it() {
        let file = written(10);
        assert_eq!(pages_cached(&file, 3, 4).unwrap(), 1);
        assert!(pages_cached(&File::open("/proc/self/stat").unwrap(), 0, 1).is_ok_and(|n| n == 0));
    }
}
