//! In-memory seams: viewers without sockets, workers as tasks of the caller's runtime.
//!
//! For the world test and the tests of this room: a paused clock drives a whole box on one
//! `current_thread` runtime. The daemon never uses it.
//!
//! I/O: spawns tasks; reads files where a socket would use `sendfile`.

use super::listener::Bind;
use super::listener::Bound;
use super::listener::Listener;
use super::listener::SpawnWorker;
use super::listener::ViewerStream;
use super::listener::WorkerFuture;
use super::scratch;
use crate::lock::lock;
use crate::sys::tcp::TcpInfo;
use crate::units::BytesPerSecond;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::DuplexStream;
use tokio::io::ReadBuf;
use tokio::sync::mpsc;

/// Connections waiting to be accepted, a listener.
const BACKLOG: usize = 128;

/// Rates that are remembered: more than any test sets.
const RATES_MAX: usize = 1024;

/// The "socket buffer" of each direction.
const PIPE_BYTES: usize = 64 * 1024;

type Arrival = (Box<dyn ViewerStream>, SocketAddr);
type Doors = BTreeMap<SocketAddr, Vec<mpsc::Sender<Arrival>>>;

/// A network in memory. Clones share it.
#[derive(Clone, Default)]
pub struct MemoryNet {
    doors: Arc<Mutex<Doors>>,
    wire: Arc<Mutex<Wire>>,
}

/// What a kernel would know of the connections.
#[derive(Debug, Default)]
struct Wire {
    /// The rates that were set, oldest first; at most [`RATES_MAX`].
    rates: Vec<Option<BytesPerSecond>>,
    info: Option<TcpInfo>,
}

/// Spawns workers on the runtime that calls it.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaskWorkers;

struct MemoryBound {
    address: SocketAddr,
    queue: mpsc::Receiver<Arrival>,
}

struct MemoryViewer(DuplexStream, Arc<Mutex<Wire>>);

impl std::fmt::Debug for MemoryNet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryNet").finish_non_exhaustive()
    }
}

impl MemoryNet {
    /// Connects from `viewer` to `address` as a viewer would; refused where nobody listens.
    /// Binds that share an address are tried in turn.
    pub async fn connect(
        &self,
        viewer: SocketAddr,
        address: SocketAddr,
    ) -> io::Result<DuplexStream> {
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let door = {
            let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
            let open = doors.get_mut(&address);
            open.and_then(|open| {
                open.retain(|door| !door.is_closed());
                let first = open.first().cloned();
                if !open.is_empty() {
                    open.rotate_left(1);
                }
                first
            })
        };
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let door = door.ok_or_else(refused)?;
        let far = MemoryViewer(far, Arc::clone(&self.wire));
        let arrival: Arrival = (Box::new(far), viewer);
        door.send(arrival).await.map_err(|_| refused())?;
        Ok(near)
    }

    /// The rates set for viewers since the last call, oldest first.
    pub fn take_rates(&self) -> Vec<Option<BytesPerSecond>> {
        std::mem::take(&mut lock(&self.wire).rates)
    }

    /// What every connection's `TCP_INFO` says from here on.
    pub fn set_tcp_info(&self, info: TcpInfo) {
        lock(&self.wire).info = Some(info);
    }
}

impl Bind for MemoryNet {
    fn bind(&self, address: SocketAddr) -> io::Result<Box<dyn Bound>> {
        let (door, queue) = mpsc::channel(BACKLOG);
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        doors.entry(address).or_default().push(door);
        Ok(Box::new(MemoryBound { address, queue }))
    }
}

impl Bound for MemoryBound {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn listen(self: Box<Self>) -> io::Result<Box<dyn Listener>> {
        Ok(self)
    }
}

impl Listener for MemoryBound {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Arrival>> {
        match ready!(self.queue.poll_recv(cx)) {
            Some(arrival) => Poll::Ready(Ok(arrival)),
            // The network is gone: nobody will ever call again.
            None => Poll::Pending,
        }
    }
}

impl ViewerStream for MemoryViewer {
    fn poll_send_file(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        file: &File,
        offset: u64,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        scratch::with(|buffer| {
            let most = length.min(PIPE_BYTES).min(buffer.len());
            let read = file.read_at(&mut buffer[..most], offset)?;
            if read == 0 {
                return Poll::Ready(Ok(0));
            }
            Pin::new(&mut self.0).poll_write(cx, &buffer[..read])
        })
    }

    fn set_pacing(&self, rate: Option<BytesPerSecond>) -> io::Result<()> {
        let mut wire = lock(&self.1);
        if wire.rates.len() < RATES_MAX {
            wire.rates.push(rate);
        }
        Ok(())
    }

    fn tcp_info(&self) -> Option<TcpInfo> {
        lock(&self.1).info
    }
}

impl AsyncRead for MemoryViewer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for MemoryViewer {
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

impl SpawnWorker for TaskWorkers {
    fn spawn(&self, _name: String, worker: WorkerFuture) -> io::Result<()> {
        let runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        runtime.spawn(worker);
        Ok(())
    }
}
