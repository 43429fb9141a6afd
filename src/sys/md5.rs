//! `TCP_MD5SIG`: segments to and from an address carry a signature under a shared key (RFC 2385),
//! and the kernel drops those that do not. Called by `bgp` on sockets that listen and that connect.
//!
//! I/O: one system call that never waits.

use super::socket_option;
use std::io;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

/// The kernel's longest key.
pub const KEY_BYTES_MAX: usize = 80;

/// `struct tcp_md5sig` of `linux/tcp.h`: a socket address of 128 bytes, flags, prefix length, key
/// length, interface, key.
const RECORD_BYTES: usize = 216;
const KEY_LENGTH_AT: usize = 130;
const KEY_AT: usize = 136;

/// Segments exchanged with `peer` are signed with `key` from here on; an empty key ends that. A
/// socket of IPv6 that also takes IPv4 wants the mapped form of an IPv4 address.
pub fn set_key(socket: BorrowedFd<'_>, peer: IpAddr, key: &[u8]) -> io::Result<()> {
    if key.len() > KEY_BYTES_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut record = [0_u8; RECORD_BYTES];
    record[..SOCKET_ADDRESS_BYTES].copy_from_slice(&socket_address(peer));
    let length = u16::try_from(key.len()).map_err(io::Error::other)?;
    record[KEY_LENGTH_AT..KEY_LENGTH_AT + 2].copy_from_slice(&length.to_ne_bytes());
    record[KEY_AT..KEY_AT + key.len()].copy_from_slice(key);
    socket_option::write(socket, libc::IPPROTO_TCP, libc::TCP_MD5SIG, &record)
}

/// `struct __kernel_sockaddr_storage`.
pub(super) const SOCKET_ADDRESS_BYTES: usize = 128;

/// An address without a port, as the kernel wants it.
pub(super) fn socket_address(address: IpAddr) -> [u8; SOCKET_ADDRESS_BYTES] {
    let mut bytes = [0; SOCKET_ADDRESS_BYTES];
    let family = match address {
        IpAddr::V4(v4) => {
            bytes[4..8].copy_from_slice(&v4.octets());
            libc::AF_INET
        }
        IpAddr::V6(v6) => {
            bytes[8..24].copy_from_slice(&v6.octets());
            libc::AF_INET6
        }
    };
    // AF_INET and AF_INET6 are small.
    let family = u16::try_from(family).unwrap_or(0);
    bytes[..2].copy_from_slice(&family.to_ne_bytes());
    bytes
}

/// `peer` as a socket bound to `bound` sees it.
pub fn as_seen_by(bound: SocketAddr, peer: IpAddr) -> IpAddr {
    match (bound, peer) {
        (SocketAddr::V6(_), IpAddr::V4(v4)) => IpAddr::V6(v4.to_ipv6_mapped()),
        (SocketAddr::V4(_), IpAddr::V6(v6)) => v6
            .to_ipv4_mapped()
            .map_or(peer, |v4: Ipv4Addr| IpAddr::V4(v4)),
        (SocketAddr::V4(_), IpAddr::V4(_)) | (SocketAddr::V6(_), IpAddr::V6(_)) => peer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::net::TcpStream;
    use std::os::fd::AsFd;
    use std::time::Duration;

    /// A connection from `from` to a listener on `bind` that expects `key` of it.
    fn connects(bind: &str, to: &str, expected: &[u8], offered: &[u8]) -> bool {
        let listener = TcpListener::bind(bind).unwrap();
        let bound = listener.local_addr().unwrap();
        let to: IpAddr = to.parse().unwrap();
        // The client's address is the one it connects to: all of 127/8 is one machine.
        set_key(listener.as_fd(), as_seen_by(bound, to), expected).unwrap();
        let target = SocketAddr::new(to, bound.port());
        let domain = socket2::Domain::for_address(target);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(to, 0).into()).unwrap();
        set_key(socket.as_fd(), to, offered).unwrap_or_else(|error| {
            // Nothing to remove.
            assert!(offered.is_empty(), "{error}");
        });
        let outcome = socket.connect_timeout(&target.into(), Duration::from_millis(300));
        outcome.is_ok() && TcpStream::from(socket).peer_addr().is_ok()
    }

    #[test]
    fn only_who_has_the_key_is_let_in_also_by_a_socket_of_both_families() {
        for (bind, to) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("[::]:0", "127.0.0.1"),
            ("[::1]:0", "::1"),
        ] {
            assert!(connects(bind, to, b"one key", b"one key"), "{bind}");
            assert!(!connects(bind, to, b"one key", b"another"), "{bind}");
            assert!(!connects(bind, to, b"one key", b""), "{bind}");
        }
    }

    #[test]
    fn a_key_that_is_too_long_is_refused_here() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = "127.0.0.1".parse().unwrap();
        assert!(set_key(listener.as_fd(), peer, &[7; KEY_BYTES_MAX]).is_ok());
        assert!(set_key(listener.as_fd(), peer, &[7; KEY_BYTES_MAX + 1]).is_err());
    }
}
