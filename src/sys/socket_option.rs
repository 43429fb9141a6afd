//! Reads and writes what the kernel keeps of a socket. For the other files here.
//!
//! I/O: one system call that never waits.

use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;

/// `getsockopt(2)` into `value`; how many bytes of it the kernel has written.
pub(super) fn read(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: &mut [u8],
) -> io::Result<usize> {
    let mut length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the length of the borrow, and the kernel writes at most
    // `length` bytes, which is the length of `value`, and into `length`.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    nix::errno::Errno::result(outcome)?;
    usize::try_from(length).map_err(io::Error::other)
}

/// `setsockopt(2)` with the bytes of `value`.
pub(super) fn write(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: &[u8],
) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the length of the borrow, and the kernel reads `length`
    // bytes, which is the length of `value`.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            value.as_ptr().cast(),
            length,
        )
    };
    nix::errno::Errno::result(outcome)?;
    Ok(())
}
