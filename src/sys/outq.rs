//! `SIOCOUTQ`: how much of what a socket was given its peer has not acknowledged. Used where a
//! viewer's progress must not be mistaken for the kernel's.
//!
//! I/O: one system call that never waits.

use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;

/// Bytes of a TCP socket that are not acknowledged yet, sent or not.
pub fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open for the length of the borrow, and for this request (`TIOCOUTQ`
    // is the same number under its older name) the kernel writes one `int`, which is live.
    let outcome = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if outcome < 0 {
        return Err(io::Error::last_os_error());
    }
    u64::try_from(bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::io::Write;
    use std::net::TcpListener;
    use std::net::TcpStream;
    use std::os::fd::AsFd;

    #[test]
    fn what_the_peer_does_not_take_stays_in_the_queue() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut writer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut reader, _) = listener.accept().unwrap();
        writer.set_nonblocking(true).unwrap();
        let mut given = 0;
        while let Ok(count) = writer.write(&[0; 65_536]) {
            given += count as u64;
        }
        let waiting = unacknowledged(writer.as_fd()).unwrap();
        assert!(waiting > 0 && waiting <= given, "{waiting} of {given}");
        let mut taken = vec![0; usize::try_from(given).unwrap()];
        reader.read_exact(&mut taken).unwrap();
        while unacknowledged(writer.as_fd()).unwrap() > 0 {
            std::thread::yield_now();
        }
    }
}
