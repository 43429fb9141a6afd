//! `TCP_AO_ADD_KEY`: the authentication option of RFC 5925, in kernels since Linux 6.7 that were
//! built with it. Called by `bgp` on sockets that listen and that connect.
//!
//! I/O: one system call that never waits.

use super::md5;
use super::socket_option;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::os::fd::BorrowedFd;

/// The kernel's longest key.
pub const KEY_BYTES_MAX: usize = 80;

const TCP_AO_ADD_KEY: libc::c_int = 38;

/// RFC 5926 section 3.2: the algorithm that every implementation has, and its code's length.
const ALGORITHM: &[u8] = b"hmac(sha1)";
const CODE_BYTES: u8 = 12;

/// `struct tcp_ao_add` of `linux/tcp.h`: a socket address of 128 bytes, the algorithm's name of 64,
/// interface, bits, padding, prefix length, both identifiers, lengths, flags, key.
const RECORD_BYTES: usize = 288;
const ALGORITHM_AT: usize = 128;
const PREFIX_AT: usize = 202;
const SEND_ID_AT: usize = 203;
const RECEIVE_ID_AT: usize = 204;
const CODE_LENGTH_AT: usize = 205;
const KEY_LENGTH_AT: usize = 207;
const KEY_AT: usize = 208;

/// Segments exchanged with `peer` carry a code made with `key`, which both sides know by `id`. A
/// socket of IPv6 that also takes IPv4 wants the mapped form of an IPv4 address.
pub fn add_key(socket: BorrowedFd<'_>, peer: IpAddr, id: u8, key: &[u8]) -> io::Result<()> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut record = [0_u8; RECORD_BYTES];
    record[..md5::SOCKET_ADDRESS_BYTES].copy_from_slice(&md5::socket_address(peer));
    record[ALGORITHM_AT..ALGORITHM_AT + ALGORITHM.len()].copy_from_slice(ALGORITHM);
    record[PREFIX_AT] = match peer {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    (record[SEND_ID_AT], record[RECEIVE_ID_AT]) = (id, id);
    record[CODE_LENGTH_AT] = CODE_BYTES;
    record[KEY_LENGTH_AT] = u8::try_from(key.len()).map_err(io::Error::other)?;
    record[KEY_AT..KEY_AT + key.len()].copy_from_slice(key);
    socket_option::write(socket, libc::IPPROTO_TCP, TCP_AO_ADD_KEY, &record)
}

/// Whether this kernel has it: a key is put on a socket that nobody uses.
pub fn is_supported() -> bool {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let peer = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    socket.is_ok_and(|socket| add_key(socket.as_fd(), peer, 1, b"probe").is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use std::net::TcpListener;
    use std::time::Duration;

    /// On a kernel without it the refusal is what there is to see.
    #[test]
    fn a_kernel_with_it_lets_in_who_has_the_key_and_one_without_says_so() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let added = add_key(listener.as_fd(), to.ip(), 7, b"one key");
        assert_eq!(added.is_ok(), is_supported(), "{added:?}");
        if let Err(error) = added {
            assert_eq!(error.raw_os_error(), Some(libc::ENOPROTOOPT), "{error}");
            return;
        }
        for (key, is_let_in) in [(&b"one key"[..], true), (b"another", false)] {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
            let socket = socket.unwrap();
            socket.bind(&SocketAddr::new(to.ip(), 0).into()).unwrap();
            add_key(socket.as_fd(), to.ip(), 7, key).unwrap();
            let outcome = socket.connect_timeout(&to.into(), Duration::from_millis(300));
            assert_eq!(outcome.is_ok(), is_let_in, "{outcome:?}");
        }
    }

    #[test]
    fn a_key_without_bytes_or_with_too_many_is_refused_here() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = "127.0.0.1".parse().unwrap();
        for key in [&[][..], &[7; KEY_BYTES_MAX + 1]] {
            let refused = add_key(listener.as_fd(), peer, 1, key).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
