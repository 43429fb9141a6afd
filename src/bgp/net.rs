//! The network as this room sees it: byte streams with two addresses. Real TCP here, a network in
//! memory for tests in `memory`.
//!
//! TCP-MD5, GTSM and TCP-AO are options of these sockets and would be set here.
//!
//! I/O: binds, accepts, connects.

use futures_util::future::BoxFuture;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::net::TcpSocket;

/// Connections that wait to be accepted: routers are few.
const BACKLOG: u32 = 64;

/// Both directions of a connection.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for T {}

/// A connection and its ends. IPv4 addresses are never in their IPv6-mapped form.
pub struct Link {
    pub stream: Box<dyn ByteStream>,
    pub local: SocketAddr,
    pub remote: SocketAddr,
}

/// A bound address.
pub trait Listener: Send {
    fn address(&self) -> io::Result<SocketAddr>;
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Link>>;
}

/// Where connections come from. The daemon uses [`Tcp`].
pub trait Net: fmt::Debug + Send + Sync {
    fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Listener>>;

    /// Connects to `remote`, from `local` if it is given.
    fn connect(
        &self,
        local: Option<IpAddr>,
        remote: SocketAddr,
    ) -> BoxFuture<'static, io::Result<Link>>;
}

/// Sockets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} - {}", self.local, self.remote)
    }
}

impl Net for Tcp {
    fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Listener>> {
        let socket = socket_for(address.ip())?;
        socket.set_reuseaddr(true)?;
        if address.is_ipv6() {
            // `[::]:179` is for routers of both families, whatever the system's default says.
            let only_ipv6 = !address.ip().is_unspecified();
            socket2::SockRef::from(&socket).set_only_v6(only_ipv6)?;
        }
        socket.bind(address)?;
        Ok(Box::new(socket.listen(BACKLOG)?))
    }

    fn connect(
        &self,
        local: Option<IpAddr>,
        remote: SocketAddr,
    ) -> BoxFuture<'static, io::Result<Link>> {
        Box::pin(async move {
            let socket = socket_for(remote.ip())?;
            if let Some(local) = local {
                socket.bind(SocketAddr::new(local, 0))?;
            }
            let stream = socket.connect(remote).await?;
            stream.set_nodelay(true)?;
            let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
            Ok(link(stream, local, remote))
        })
    }
}

impl Listener for TcpListener {
    fn address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Link>> {
        Box::pin(async move {
            let (stream, remote) = TcpListener::accept(self).await?;
            stream.set_nodelay(true)?;
            let local = stream.local_addr()?;
            Ok(link(stream, local, remote))
        })
    }
}

fn socket_for(address: IpAddr) -> io::Result<TcpSocket> {
    match address {
        IpAddr::V4(_) => TcpSocket::new_v4(),
        IpAddr::V6(_) => TcpSocket::new_v6(),
    }
}

fn link(stream: impl ByteStream, local: SocketAddr, remote: SocketAddr) -> Link {
    let canonical =
        |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    Link {
        stream: Box::new(stream),
        local: canonical(local),
        remote: canonical(remote),
    }
}
