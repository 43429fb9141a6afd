//! Where other boxes' connections come from: TCP in the daemon, something in memory in tests.
//!
//! I/O: binds and accepts.

use crate::sys::pacing;
use crate::units::BytesPerSecond;
use futures_util::future::BoxFuture;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;

/// Connections that wait to be accepted: boxes of a few clusters, at the start of a night.
const BACKLOG: i32 = 256;

/// What the kernel may hold of a connection and has not sent. The send buffer itself is left to the
/// kernel's tuning: a fixed one would cap what a distant box gets.
const UNSENT_BYTES_MAX: u32 = 512 * 1024;

/// Both directions of a connection.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for T {}

/// What [`Listener::accept`] returns.
pub type Accepted = io::Result<(Box<dyn ByteStream>, SocketAddr)>;

/// A bound address.
pub trait Listener: Send {
    fn address(&self) -> io::Result<SocketAddr>;
    fn accept(&mut self) -> BoxFuture<'_, Accepted>;
}

/// Binds addresses. Called on the runtime that accepts.
pub trait Bind: fmt::Debug + Send + Sync {
    /// `rate`: no single connection need be faster, where sockets can be told so.
    fn bind(&self, address: SocketAddr, rate: BytesPerSecond) -> io::Result<Box<dyn Listener>>;
}

/// Sockets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

#[derive(Debug)]
struct TcpAccept {
    listener: TcpListener,
    rate: BytesPerSecond,
}

impl Bind for Tcp {
    fn bind(&self, address: SocketAddr, rate: BytesPerSecond) -> io::Result<Box<dyn Listener>> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        // A restart must not wait for the connections of the last life.
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            // `[::]` takes IPv4 too, whatever the system's default is.
            socket.set_only_v6(!address.ip().is_unspecified())?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from_std(socket.into())?;
        Ok(Box::new(TcpAccept { listener, rate }))
    }
}

impl Listener for TcpAccept {
    fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    fn accept(&mut self) -> BoxFuture<'_, Accepted> {
        Box::pin(async move {
            let (stream, remote) = self.listener.accept().await?;
            stream.set_nodelay(true)?;
            socket2::SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
            // Only a smoother flow: the common rate is kept by `pacer` in any case.
            let _ = pacing::set_max_pacing_rate(stream.as_fd(), self.rate);
            Ok((Box::new(stream) as Box<dyn ByteStream>, remote))
        })
    }
}
