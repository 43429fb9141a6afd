//! A listening TCP socket, as both of the control plane's doors to the network want it.
//!
//! I/O: binds.

use std::io;
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// Must be called on a runtime.
pub(super) fn bind(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    // A restart must not wait for the connections of the last life.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` takes IPv4 too, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    TcpListener::from_std(socket.into())
}
