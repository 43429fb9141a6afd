//! `SO_MAX_PACING_RATE`: the kernel spreads a socket's packets over time. Used where a connection
//! must not burst beyond a rate that user space can only keep on average. The first ten segments of
//! a connection go unpaced.
//!
//! I/O: one system call that never waits.

use super::socket_option;
use crate::units::BytesPerSecond;
use std::io;
use std::os::fd::BorrowedFd;

/// The kernel's word for no cap.
const UNLIMITED: u64 = u64::MAX;

/// No faster than `rate` from here on. Zero would mean never: it is taken as one.
pub fn set_max_pacing_rate(socket: BorrowedFd<'_>, rate: BytesPerSecond) -> io::Result<()> {
    set(socket, rate.0.max(1))
}

/// As fast as the network takes it from here on. Once paced, a socket's packets stay spread over
/// time at the congestion control's own rate, which is above what the network takes.
pub fn lift_max_pacing_rate(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, UNLIMITED)
}

fn set(socket: BorrowedFd<'_>, rate: u64) -> io::Result<()> {
    // The kernel takes a `u64` since Linux 4.20.
    let rate = rate.to_ne_bytes();
    socket_option::write(socket, libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE, &rate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_tcp_socket_takes_a_rate() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        set_max_pacing_rate(socket.as_fd(), BytesPerSecond(150_000_000)).unwrap();
        set_max_pacing_rate(socket.as_fd(), BytesPerSecond(0)).unwrap();
    }
}
