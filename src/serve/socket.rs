//! The real seams: TCP sockets with `sendfile(2)`, and a thread with a runtime for each worker.
//!
//! Passed in by `appliance`; the demo and the tests over real sockets use it too.
//!
//! I/O: sockets, threads.

use super::kernel;
use super::kernel::Verdict;
use super::listener::Bind;
use super::listener::Bound;
use super::listener::Listener;
use super::listener::SpawnWorker;
use super::listener::ViewerStream;
use super::listener::WorkerFuture;
use crate::sys::ktls;
use crate::sys::ktls::TransmitKey;
use crate::sys::outq;
use crate::sys::pacing;
use crate::sys::tcp;
use crate::sys::tcp::TcpInfo;
use crate::units::BytesPerSecond;
use nix::sys::sendfile::sendfile;
use socket2::Domain;
use socket2::Protocol;
use socket2::SockRef;
use socket2::Socket;
use socket2::Type;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::Interest;
use tokio::io::ReadBuf;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

/// Connections the kernel completes ahead of `accept`; it caps this at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// What a peer leaves unacknowledged, or takes nothing of, for this long ends its connection in the
/// kernel too: after the last response, or after we have closed, nobody else looks. Longer than
/// any outage that a player survives.
const STALLED_TIME: Duration = Duration::from_secs(60);

/// Binds TCP addresses.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpBind;

/// Runs each worker on a thread of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadWorkers;

#[derive(Debug)]
struct TcpBound(Socket);

#[derive(Debug)]
struct TcpAccept(TcpListener);

/// A viewer's TCP connection.
#[derive(Debug)]
struct TcpViewer(TcpStream);

impl Bind for TcpBind {
    /// The socket listens at once: whatever can fail has failed before a caller commits to the
    /// address, and a viewer that is early waits in the backlog.
    fn bind(&self, address: SocketAddr) -> io::Result<Box<dyn Bound>> {
        let socket = unbound(address)?;
        socket.set_reuse_port(true)?;
        // Linux hands this down to the accepted sockets. Heads go out with MSG_MORE instead.
        socket.set_tcp_nodelay(true)?;
        // And this.
        socket.set_tcp_user_timeout(Some(STALLED_TIME))?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(bound(socket))
    }

    fn check_free(&self, address: SocketAddr) -> io::Result<()> {
        // Without SO_REUSEPORT the kernel refuses what another socket listens on.
        unbound(address)?.bind(&address.into())
    }

    fn tls_offload(&self) -> Verdict {
        kernel::probe()
    }
}

/// A socket that listens, to be accepted from like any other of this room.
pub fn bound(socket: Socket) -> Box<dyn Bound> {
    Box::new(TcpBound(socket))
}

/// A socket with the options that every use of an address shares.
fn unbound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` means every address of the box, IPv4 too. Where `0.0.0.0` is listed as well,
        // the kernel prefers that socket for IPv4 and both binds succeed (SO_REUSEPORT).
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    Ok(socket)
}

impl Bound for TcpBound {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        let address = self.0.local_addr()?.as_socket();
        address.ok_or_else(|| io::Error::other("not an internet address"))
    }

    fn listen(self: Box<Self>) -> io::Result<Box<dyn Listener>> {
        let listener = TcpListener::from_std(self.0.into())?;
        Ok(Box::new(TcpAccept(listener)))
    }
}

impl Listener for TcpAccept {
    fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Box<dyn ViewerStream>, SocketAddr)>> {
        let (stream, peer) = ready!(self.0.poll_accept(cx))?;
        Poll::Ready(Ok((Box::new(TcpViewer(stream)), peer)))
    }
}

impl TcpViewer {
    /// Runs a system call on the socket when it is writable, until the kernel says EAGAIN itself:
    /// `sendfile` may stop early for other reasons than a full socket buffer, and an edge of
    /// readiness that was never used up would not come again.
    fn poll_when_writable(
        &self,
        cx: &mut Context<'_>,
        mut call: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_io(Interest::WRITABLE, || call(&self.0)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return Poll::Ready(outcome),
            }
        }
    }
}

impl ViewerStream for TcpViewer {
    fn poll_send_file(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        file: &File,
        offset: u64,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        let offset = i64::try_from(offset).map_err(io::Error::other)?;
        self.poll_when_writable(cx, |socket| {
            // Through the page cache and the socket, no byte in user space. A page that is not in
            // memory would block here; `send` waits for it before this call.
            let mut at = offset;
            Ok(sendfile(socket, file, Some(&mut at), length)?)
        })
    }

    fn poll_write_more(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_when_writable(cx, |socket| {
            SockRef::from(socket).send_with_flags(bytes, libc::MSG_MORE | libc::MSG_NOSIGNAL)
        })
    }

    fn unacknowledged(&self) -> Option<u64> {
        outq::unacknowledged(self.0.as_fd()).ok()
    }

    fn give_up(&mut self) {
        // Closing then resets. Otherwise the kernel would keep megabytes for a peer that takes
        // nothing, without a limit that viewers share. A failure costs that memory and no more.
        let _ = SockRef::from(&self.0).set_linger(Some(Duration::ZERO));
    }

    fn attach_tls(&mut self) -> io::Result<()> {
        ktls::attach(self.0.as_fd())
    }

    fn set_transmit_key(&mut self, key: &TransmitKey) -> io::Result<()> {
        ktls::set_transmit_key(self.0.as_fd(), key)?;
        // Objects never change. A kernel that is too old for it copies, which is as right.
        let _ = ktls::set_zero_copy(self.0.as_fd());
        Ok(())
    }

    fn poll_send_record(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        kind: u8,
        body: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_when_writable(cx, |socket| ktls::send_record(socket.as_fd(), kind, body))
    }

    fn set_pacing(&self, rate: Option<BytesPerSecond>) -> io::Result<()> {
        match rate {
            Some(rate) => pacing::set_max_pacing_rate(self.0.as_fd(), rate),
            None => pacing::lift_max_pacing_rate(self.0.as_fd()),
        }
    }

    fn tcp_info(&self) -> Option<TcpInfo> {
        tcp::info(self.0.as_fd()).ok()
    }

    fn congestion_control(&self) -> Option<String> {
        tcp::congestion_control(self.0.as_fd()).ok()
    }
}

impl AsyncRead for TcpViewer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for TcpViewer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl SpawnWorker for ThreadWorkers {
    fn spawn(&self, name: String, worker: WorkerFuture) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name(name)
            .spawn(move || runtime.block_on(worker))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_is_listened_on_is_not_free_though_it_can_be_shared() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let first = TcpBind.bind(any).unwrap();
        let address = first.local_addr().unwrap();
        let second = TcpBind.bind(address).unwrap();
        let error = TcpBind.check_free(address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop((first, second));
        TcpBind.check_free(address).unwrap();
    }
}
