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
use crate::clock;
use crate::clock::Instant;
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
use std::cell::Cell;
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

/// Once a connection is ours no more, nobody looks at what waits for its peer in the kernel: one
/// that takes nothing of it for this long is reset. Longer than any outage that a player survives.
/// Not before: the kernel takes a window that opens in smaller steps than a packet of 64 KB for one
/// that is closed, and whoever reads slowly and steadily would be reset.
const STALLED_TIME: Duration = Duration::from_secs(60);

/// What the kernel may hold of a slow connection and has not sent: without a bound it is megabytes
/// for each of thousands. Others have none, because more turns for the same bytes cost a third more
/// CPU.
const UNSENT_BYTES_MAX: u32 = 512 * 1024;

/// Who leaves us waiting for so long at a time is slow.
const SLOW_WAIT: Duration = Duration::from_secs(1);

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
struct TcpViewer {
    stream: TcpStream,
    /// The kernel has taken no more since then.
    waits_since: Cell<Option<Instant>>,
}

impl Bind for TcpBind {
    fn bind(&self, address: SocketAddr) -> io::Result<Box<dyn Bound>> {
        Ok(bound(listening(address)?))
    }

    fn check_free(&self, address: SocketAddr) -> io::Result<()> {
        // Without SO_REUSEPORT the kernel refuses what another socket listens on.
        unbound(address)?.bind(&address.into())
    }

    fn tls_offload(&self) -> Verdict {
        kernel::probe()
    }
}

/// The socket listens at once: whatever can fail has failed before a caller commits to the address,
/// and a viewer that is early waits in the backlog.
fn listening(address: SocketAddr) -> io::Result<Socket> {
    let socket = unbound(address)?;
    socket.set_reuse_port(true)?;
    // Linux hands this down to the accepted sockets. Heads go out with MSG_MORE instead.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
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
        Poll::Ready(Ok((Box::new(TcpViewer::new(stream)), peer)))
    }
}

impl TcpViewer {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            waits_since: Cell::new(None),
        }
    }

    /// The kernel takes no more.
    fn wait(&self) {
        let since = self.waits_since.get().unwrap_or_else(clock::now);
        self.waits_since.set(Some(since));
    }

    /// Before the kernel is given more.
    fn go_on(&self) {
        let Some(since) = self.waits_since.take() else {
            return;
        };
        if clock::now().saturating_duration_since(since) >= SLOW_WAIT {
            // A failure costs memory and no more.
            let _ = SockRef::from(&self.stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX);
        }
    }

    /// Runs a system call on the socket when it is writable, until the kernel says EAGAIN itself:
    /// `sendfile` may stop early for other reasons than a full socket buffer, and an edge of
    /// readiness that was never used up would not come again. A socket is writable most of the
    /// time: whoever waits for that is registered only when it is not.
    fn poll_when_writable(
        &self,
        cx: &mut Context<'_>,
        mut call: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let called = self.stream.try_io(Interest::WRITABLE, || {
                self.go_on();
                call(&self.stream)
            });
            match called {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                outcome => return Poll::Ready(outcome),
            }
            ready!(self.stream.poll_write_ready(cx))?;
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
        outq::unacknowledged(self.stream.as_fd()).ok()
    }

    fn give_up(&mut self) {
        // Closing then resets. Otherwise the kernel would keep megabytes for a peer that takes
        // nothing, without a limit that viewers share. A failure costs that memory and no more.
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    fn attach_tls(&mut self) -> io::Result<()> {
        ktls::attach(self.stream.as_fd())
    }

    fn set_transmit_key(&mut self, key: &TransmitKey) -> io::Result<()> {
        ktls::set_transmit_key(self.stream.as_fd(), key)?;
        // Objects never change. A kernel that is too old for it copies, which is as right.
        let _ = ktls::set_zero_copy(self.stream.as_fd());
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
            Some(rate) => pacing::set_max_pacing_rate(self.stream.as_fd(), rate),
            None => pacing::lift_max_pacing_rate(self.stream.as_fd()),
        }
    }

    fn tcp_info(&self) -> Option<TcpInfo> {
        tcp::info(self.stream.as_fd()).ok()
    }

    fn congestion_control(&self) -> Option<String> {
        tcp::congestion_control(self.stream.as_fd()).ok()
    }
}

impl AsyncRead for TcpViewer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for TcpViewer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.stream.poll_write_ready(cx))?;
        self.go_on();
        let taken = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if taken.is_pending() {
            self.wait();
        }
        taken
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Drop for TcpViewer {
    fn drop(&mut self) {
        // A failure costs memory and no more: the kernel gives up by itself, some minutes later.
        let _ = SockRef::from(&self.stream).set_tcp_user_timeout(Some(STALLED_TIME));
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
    use tokio::io::AsyncWriteExt;

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

    /// A viewer's connection as it is accepted, and its far end.
    async fn pair() -> (TcpViewer, TcpStream) {
        let socket = listening(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let listener = TcpListener::from_std(socket.into()).unwrap();
        let (far, near) = tokio::join!(TcpStream::connect(address), listener.accept());
        (TcpViewer::new(near.unwrap().0), far.unwrap())
    }

    #[tokio::test]
    async fn the_kernel_gives_up_nobody_whom_we_look_at_and_in_the_end_everybody_else() {
        let (mut viewer, _far) = pair().await;
        let same = Socket::from(viewer.stream.as_fd().try_clone_to_owned().unwrap());
        assert_eq!(same.tcp_user_timeout().unwrap(), None);
        viewer.write_all(b"a response").await.unwrap();
        assert_eq!(same.tcp_user_timeout().unwrap(), None);
        drop(viewer);
        assert_eq!(same.tcp_user_timeout().unwrap(), Some(STALLED_TIME));
    }

    #[tokio::test]
    async fn only_a_connection_that_was_slow_is_kept_from_much_of_the_kernels_memory() {
        let (viewer, _far) = pair().await;
        let bound = || SockRef::from(&viewer.stream).tcp_notsent_lowat().unwrap();
        let unbound = bound();
        viewer.wait();
        viewer.go_on();
        assert_eq!(bound(), unbound);
        viewer.waits_since.set(Some(clock::now() - SLOW_WAIT));
        // However often it was tried since.
        viewer.wait();
        viewer.go_on();
        assert_eq!(bound(), UNSENT_BYTES_MAX);
    }

    #[tokio::test]
    async fn a_wait_begins_when_the_kernel_is_full() {
        let (mut viewer, _far) = pair().await;
        let bytes = vec![0; 1 << 20];
        let mut cx = Context::from_waker(std::task::Waker::noop());
        std::future::poll_fn(|cx| viewer.stream.poll_write_ready(cx))
            .await
            .unwrap();
        assert_eq!(viewer.waits_since.get(), None);
        while Pin::new(&mut viewer)
            .poll_write_more(&mut cx, &bytes)
            .is_ready()
        {}
        assert!(viewer.waits_since.get().is_some());
    }
}
