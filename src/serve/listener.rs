//! Where viewers come from: sockets in the daemon, in-memory streams in the world test.
//!
//! The wiring passes a [`Bind`] and a [`SpawnWorker`] in; nothing below knows which kind it has.
//! The real ones are in [`super::socket`], the in-memory ones in [`super::memory`].

use super::kernel::Verdict;
use crate::sys::ktls::TransmitKey;
use crate::sys::tcp::TcpInfo;
use crate::units::BytesPerSecond;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;

/// A viewer's connection.
pub trait ViewerStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Moves up to `length` bytes of `file` from `offset` to the peer, inside the kernel where the
    /// stream is a socket (`sendfile(2)`). Returns how many were accepted; 0 means that the file
    /// ended before `length`, which for an immutable object is a fault.
    fn poll_send_file(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        file: &std::fs::File,
        offset: u64,
        length: usize,
    ) -> Poll<io::Result<usize>>;

    /// Writes bytes that more will follow at once, so that the kernel may hold them back and fill
    /// a packet (`MSG_MORE`).
    fn poll_write_more(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write(cx, bytes)
    }

    /// Bytes that the stream has taken and the peer has not acknowledged; `None` where the stream
    /// cannot tell.
    fn unacknowledged(&self) -> Option<u64> {
        None
    }

    /// The peer is given up: dropping the stream throws away what waits instead of sending it.
    fn give_up(&mut self) {}

    /// Attaches the kernel's TLS (`TCP_ULP`), which changes nothing until a key is set.
    /// `Unsupported`: this is no socket.
    fn attach_tls(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Has the kernel seal everything that is sent from here on. Called once before the first
    /// byte under this key; a second time only where [`Verdict::rekey`] says so.
    fn set_transmit_key(&mut self, _key: &TransmitKey) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Sends one whole TLS record of another type than application data, sealed by the kernel.
    fn poll_send_record(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _kind: u8,
        _body: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    /// No faster than `rate` from here on; `None`: as fast as the network takes it. A stream
    /// without a network has no rate.
    fn set_pacing(&self, _rate: Option<BytesPerSecond>) -> io::Result<()> {
        Ok(())
    }

    /// What the kernel knows of the connection, where there is one.
    fn tcp_info(&self) -> Option<TcpInfo> {
        None
    }

    /// `cubic`, `bbr` …, where there is one.
    fn congestion_control(&self) -> Option<String> {
        None
    }
}

/// One worker's accept queue.
pub trait Listener: Send {
    fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Box<dyn ViewerStream>, SocketAddr)>>;
}

/// A bound address, not yet attached to a runtime.
pub trait Bound: Send {
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Starts to accept; called on the worker's own runtime.
    fn listen(self: Box<Self>) -> io::Result<Box<dyn Listener>>;
}

/// Binds addresses. Several binds of one address share its load (`SO_REUSEPORT`).
pub trait Bind: Send + Sync {
    fn bind(&self, address: SocketAddr) -> io::Result<Box<dyn Bound>>;

    /// Fails if somebody else listens there already. `bind` does not see it: sockets that share an
    /// address also share it with another process of the same user, and with it the viewers.
    fn check_free(&self, _address: SocketAddr) -> io::Result<()> {
        Ok(())
    }

    /// What the kernel behind these streams does for TLS. May wait for its own loopback.
    fn tls_offload(&self) -> Verdict {
        Verdict::none("these are no sockets")
    }
}

/// A worker's whole life.
pub type WorkerFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Starts data-plane workers: threads with a runtime each in the daemon, tasks in the world test.
pub trait SpawnWorker: Send + Sync {
    fn spawn(&self, name: String, worker: WorkerFuture) -> io::Result<()>;
}
