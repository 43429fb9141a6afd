//! `IP_MINTTL` and `IPV6_MINHOPCOUNT`: the kernel drops what has crossed too many routers
//! (RFC 5082). Called by `bgp` on its sockets; `socket2` has the other half, the hops of what is
//! sent.
//!
//! I/O: one system call each that never waits.

use super::socket_option;
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

/// Packets that arrive with fewer hops left than `least` are dropped; 0 takes all. `bound` is the
/// socket's own address: one of IPv6 may take IPv4 as well.
pub fn set_least(socket: BorrowedFd<'_>, bound: SocketAddr, least: u8) -> io::Result<()> {
    let value = libc::c_int::from(least).to_ne_bytes();
    if bound.is_ipv6() {
        let level = libc::IPPROTO_IPV6;
        socket_option::write(socket, level, libc::IPV6_MINHOPCOUNT, &value)?;
    }
    socket_option::write(socket, libc::IPPROTO_IP, libc::IP_MINTTL, &value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::fd::AsFd;
    use std::time::Duration;

    fn connects(bind: &str, to: &str, hops: u32) -> bool {
        let listener = TcpListener::bind(bind).unwrap();
        let bound = listener.local_addr().unwrap();
        set_least(listener.as_fd(), bound, 255).unwrap();
        let target = SocketAddr::new(to.parse().unwrap(), bound.port());
        let domain = socket2::Domain::for_address(target);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
        if target.is_ipv6() {
            socket.set_unicast_hops_v6(hops).unwrap();
        } else {
            socket.set_ttl_v4(hops).unwrap();
        }
        let time = Duration::from_millis(300);
        socket.connect_timeout(&target.into(), time).is_ok()
    }

    #[test]
    fn only_who_is_near_enough_is_let_in_also_by_a_socket_of_both_families() {
        for (bind, to) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("[::]:0", "127.0.0.1"),
            ("[::1]:0", "::1"),
        ] {
            assert!(connects(bind, to, 255), "{bind} from {to}");
            assert!(!connects(bind, to, 254), "{bind} from {to}");
        }
    }
}
