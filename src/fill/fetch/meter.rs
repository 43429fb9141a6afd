//! A TCP stream that is read no further than its allowance, and counts what is read.
//!
//! [`super::dial`] makes it beneath TLS, so that every byte is seen as the wire carries it;
//! [`super::purse`] raises the allowance with each payment. Where the allowance ends the kernel's
//! receive buffer fills up, and TCP stops the sender.
//!
//! I/O: reads and writes a socket.

use super::socket::Socket;
use crate::clock;
use crate::clock::Instant;
use crate::fill::overhead::Framing;
use crate::sys::arrivals;
use crate::sys::arrivals::Arrivals;
use std::fmt;
use std::io;
use std::io::IoSlice;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::Weak;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::task::ready;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

/// A kept connection may say that it closes: an alert, a page of plain text.
pub(super) const IDLE_BYTES: u64 = 4 << 10;

/// What one connection has read, and how far it may.
#[derive(Debug, Default)]
pub(super) struct Meter(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    read: u64,
    allowed: u64,
    /// The socket, as long as the stream lives.
    socket: Weak<OwnedFd>,
    /// Of the connection's family; `None` before it is known.
    framing: Option<Framing>,
    /// As of the last read, and when the answer at hand began.
    arrived: Arrivals,
    before: Arrivals,
    /// Since when reading waits for its allowance.
    blocked_since: Option<Instant>,
    blocked: Duration,
    reader: Option<Waker>,
}

/// The stream beneath TLS.
pub(super) struct Metered {
    socket: Socket,
    meter: Arc<Meter>,
    /// For the meter, which outlives the stream: its own way to the socket must not.
    _socket: Option<Arc<OwnedFd>>,
}

impl Meter {
    /// Counts from zero, for the next answer.
    pub(super) fn start(&self, allowed: u64) {
        let reader = {
            let mut state = self.state();
            let reader = state.reader.take();
            *state = State {
                allowed,
                socket: state.socket.clone(),
                framing: state.framing,
                arrived: state.arrived,
                before: state.arrived,
                ..State::default()
            };
            reader
        };
        wake(reader);
    }

    /// Raises the allowance; never lowers it.
    pub(super) fn allow(&self, allowed: u64) {
        let reader = {
            let mut state = self.state();
            if allowed <= state.allowed {
                return;
            }
            state.allowed = allowed;
            if let Some(since) = state.blocked_since.take() {
                state.blocked += clock::now() - since;
            }
            state.reader.take()
        };
        wake(reader);
    }

    /// The answer is read; the connection waits for the next.
    pub(super) fn rest(&self) {
        let read = self.read();
        self.allow(read + IDLE_BYTES);
    }

    pub(super) fn read(&self) -> u64 {
        self.state().read
    }

    /// Of this answer, what waits in the kernel included, as of the last read.
    pub(super) fn arrived(&self) -> u64 {
        let state = self.state();
        let arrived = state.arrived.bytes.saturating_sub(state.before.bytes);
        arrived.max(state.read)
    }

    /// What waits in the kernel at this moment and was not read; zero where it does not tell.
    pub(super) fn beyond(&self) -> u64 {
        let mut state = self.state();
        if let Some(socket) = state.socket.upgrade() {
            let arrived = arrivals::arrivals(socket.as_fd());
            state.arrived = arrived.unwrap_or(state.arrived);
        }
        let arrived = state.arrived.bytes.saturating_sub(state.before.bytes);
        arrived.saturating_sub(state.read)
    }

    /// What the frames around this answer cost, as far as that is known.
    pub(super) fn framing(&self) -> Framing {
        let state = self.state();
        let (now, before) = (state.arrived, state.before);
        let framing = state.framing.unwrap_or(Framing::UNKNOWN);
        framing.measured(
            // The counter is short, and no connection lives long enough to pass its end twice.
            now.segments.wrapping_sub(before.segments).into(),
            now.bytes.saturating_sub(before.bytes),
            now.payload_max.into(),
        )
    }

    /// Time that reading waited for its allowance.
    pub(super) fn blocked(&self, now: Instant) -> Duration {
        let state = self.state();
        let open = state.blocked_since;
        state.blocked + open.map_or(Duration::ZERO, |since| now - since)
    }

    /// How much may be read; zero waits to be woken.
    fn room(&self, context: &Context<'_>) -> u64 {
        let mut state = self.state();
        let room = state.allowed.saturating_sub(state.read);
        if room == 0 {
            state.blocked_since.get_or_insert_with(clock::now);
            state.reader = Some(context.waker().clone());
        }
        room
    }

    /// `arrived`: none if the kernel does not tell, or was not asked.
    fn count(&self, bytes: usize, arrived: Option<Arrivals>) {
        let mut state = self.state();
        state.read += bytes as u64;
        state.arrived = arrived.unwrap_or(state.arrived);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(reader: Option<Waker>) {
    if let Some(reader) = reader {
        reader.wake();
    }
}

impl Metered {
    pub(super) fn new(stream: TcpStream, meter: Arc<Meter>) -> Self {
        let remote = stream.peer_addr();
        // A socket that takes both families shows IPv4 in the clothes of IPv6.
        let framing = remote.map(|remote| Framing::of_family(remote.ip().to_canonical().is_ipv4()));
        let socket = stream.as_fd().try_clone_to_owned().ok().map(Arc::new);
        let mut state = meter.state();
        state.framing = framing.ok();
        state.socket = socket.as_ref().map(Arc::downgrade).unwrap_or_default();
        drop(state);
        Self {
            socket: Socket::new(stream),
            meter,
            _socket: socket,
        }
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let room = this.meter.room(context);
        if room == 0 {
            this.socket.deregister();
            return Poll::Pending;
        }
        let most = usize::try_from(room).unwrap_or(usize::MAX);
        let most = most.min(into.remaining());
        let mut fresh = ReadBuf::new(into.initialize_unfilled_to(most));
        ready!(this.socket.poll_read(context, &mut fresh))?;
        let count = fresh.filled().len();
        into.advance(count);
        // With more room the next read follows at once, and asks.
        let is_last = count < most || count as u64 == room;
        let arrived = match is_last {
            true => this.socket.as_fd().and_then(arrivals::arrivals).ok(),
            false => None,
        };
        this.meter.count(count, arrived);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_write(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_write(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing is kept between here and the kernel.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_shutdown(context)
    }
}

impl fmt::Debug for Metered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metered")
            .field("meter", &self.meter)
            .finish_non_exhaustive()
    }
}
