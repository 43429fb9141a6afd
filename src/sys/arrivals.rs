//! `TCP_INFO` of a receiving socket: how many segments brought how many bytes.
//!
//! The fill's price of a byte is made from it: what frames cost on this very path, and not on one
//! that is thought of. Nothing is guessed here: an old kernel that does not tell is an error.
//!
//! I/O: one system call that never waits.

use super::socket_option;
use std::io;
use std::os::fd::BorrowedFd;

/// Since the connection began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// Segments, those without content and those sent twice included. Counted as the wire carried
    /// them, before the kernel merges any.
    pub segments: u32,
    /// Of content, each once.
    pub bytes: u64,
    /// No segment has more content: what this side offered, less the options that it agreed to.
    pub payload_max: u32,
}

/// `struct tcp_info` of the kernel, whose fields never move: only new ones are added behind.
const SIZE: usize = 160;
const OPTIONS: usize = 5;
const ADVMSS: usize = 84;
const BYTES_RECEIVED: usize = 128;
const SEGS_IN: usize = 140;

/// Everything that is read here has been told since Linux 4.6.
const KNOWN: usize = SEGS_IN + 4;

/// `TCPI_OPT_TIMESTAMPS`, and what they take of each segment.
const HAS_TIMESTAMPS: u8 = 1;
const TIMESTAMPS: u32 = 12;

/// What `socket`, which is a TCP connection, has received.
pub fn arrivals(socket: BorrowedFd<'_>) -> io::Result<Arrivals> {
    let mut info = [0_u8; SIZE];
    let length = socket_option::read(socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info)?;
    if length < KNOWN {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let options = if info[OPTIONS] & HAS_TIMESTAMPS == 0 {
        0
    } else {
        TIMESTAMPS
    };
    Ok(Arrivals {
        segments: u32::from_ne_bytes(field(&info, SEGS_IN)),
        bytes: u64::from_ne_bytes(field(&info, BYTES_RECEIVED)),
        payload_max: u32::from_ne_bytes(field(&info, ADVMSS)).saturating_sub(options),
    })
}

fn field<const N: usize>(info: &[u8; SIZE], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&info[at..at + N]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::io::Write as _;
    use std::net::TcpListener;
    use std::net::TcpStream;
    use std::os::fd::AsFd as _;

    #[test]
    fn every_byte_and_the_segments_that_brought_it_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut receiver, _) = listener.accept().unwrap();
        let before = arrivals(receiver.as_fd()).unwrap();
        assert_eq!(before.bytes, 0);
        sender.write_all(&[7; 100_000]).unwrap();
        receiver.read_exact(&mut [0; 100_000]).unwrap();
        let after = arrivals(receiver.as_fd()).unwrap();
        assert_eq!(after.bytes, 100_000);
        let most = u64::from(after.payload_max);
        assert!((500..=65_535).contains(&most), "{after:?}");
        let segments = u64::from(after.segments - before.segments);
        assert!(segments >= 100_000_u64.div_ceil(most), "{after:?}");
        assert!(segments < 1_000, "{after:?}");
    }

    #[test]
    fn what_is_no_connection_tells_nothing() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(arrivals(socket.as_fd()).is_err());
    }
}
