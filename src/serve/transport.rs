//! A viewer's byte stream, plain or TLS, as the steps after the handshake see it.
//!
//! I/O: reads and writes the stream. Only [`Transport::close`] waits.

use super::alarm::Alarm;
use super::kernel::KernelTransport;
use super::listener::ViewerStream;
use super::scratch;
use super::session::Session;
use super::session::SessionError;
use crate::clock;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;
use tokio::io::ReadBuf;

/// Bytes taken from the stream at once: one TLS record, many requests.
const READ_BYTES: usize = 17 * 1024;

/// After the last response the viewer has this long, and may send this much, before the connection
/// is dropped: closing with unread bytes would reset it and could eat the response's tail.
const GOODBYE_TIME: Duration = Duration::from_secs(2);
const GOODBYE_BYTES: usize = 256 * 1024;

pub(super) enum Transport {
    Plain(Box<dyn ViewerStream>),
    Tls(TlsTransport),
    /// The kernel seals what is sent.
    Kernel(KernelTransport),
    /// Lost between the two: nothing can be sent or received.
    Closed,
}

/// A session and the stream that carries it.
pub(super) struct TlsTransport {
    pub(super) session: Box<Session>,
    pub(super) stream: Box<dyn ViewerStream>,
    /// Never goes to the kernel.
    pub(super) stays: bool,
}

impl Transport {
    /// Appends what the viewer sent to `into`; 0 is the end.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => poll_read(stream, cx, |bytes| into.extend_from_slice(bytes)),
            Self::Tls(tls) => tls.poll_fill(cx, into),
            Self::Kernel(kernel) => kernel.poll_fill(cx, into),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Sends what waits, a TLS close_notify, and the end of the stream.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            Self::Tls(tls) => {
                // After a fatal alert there is nothing to be said, and that is no news.
                let _ = tls.session.close();
                ready!(tls.poll_flush(cx))?;
                Pin::new(&mut *tls.stream).poll_shutdown(cx)
            }
            Self::Kernel(kernel) => kernel.poll_shutdown(cx),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Reads and forgets; 0 is the end.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream)
            | Self::Tls(TlsTransport { stream, .. })
            | Self::Kernel(KernelTransport { stream, .. }) => poll_read(stream, cx, |_| {}),
            Self::Closed => Poll::Ready(Ok(0)),
        }
    }

    /// The session's keys are used up: the response that runs is the last one.
    pub(super) fn is_used_up(&self) -> bool {
        match self {
            Self::Kernel(kernel) => kernel.opened.is_used_up(),
            Self::Plain(_) | Self::Tls(_) | Self::Closed => false,
        }
    }
}

impl Transport {
    /// Lingering close (RFC 9112 section 9.6): our end first, then what the viewer still says.
    pub(super) async fn close(&mut self, alarm: &mut Alarm) {
        alarm.set(clock::now() + GOODBYE_TIME);
        let mut left = GOODBYE_BYTES;
        let mut shut = false;
        poll_fn(|cx| {
            if !shut {
                match self.poll_shutdown(cx) {
                    Poll::Ready(Ok(())) => shut = true,
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return alarm.poll(cx),
                }
            }
            while left > 0 {
                match self.poll_discard(cx) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                    Poll::Ready(Ok(count)) => left = left.saturating_sub(count),
                    Poll::Pending => return alarm.poll(cx),
                }
            }
            Poll::Ready(())
        })
        .await;
    }
}

impl TlsTransport {
    fn poll_fill(&mut self, cx: &mut Context<'_>, into: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        loop {
            // Answers of the protocol itself (a key update) leave whenever there is a turn; a peer
            // that does not take them must not stop us from reading.
            if !self.session.outgoing().is_empty()
                && let Poll::Ready(outcome) = self.poll_flush(cx)
            {
                outcome?;
            }
            match self.session.take_plain(into) {
                0 if self.session.is_peer_closed() => return Poll::Ready(Ok(0)),
                0 => {}
                count => return Poll::Ready(Ok(count)),
            }
            if ready!(self.poll_receive(cx))? == 0 {
                return Poll::Ready(Ok(0));
            }
        }
    }

    /// Feeds the session once from the stream; 0 is the end.
    pub(super) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Self {
            session, stream, ..
        } = self;
        let mut outcome: Result<(), SessionError> = Ok(());
        let count = ready!(poll_read(stream, cx, |bytes| outcome = session.receive(bytes)))?;
        Poll::Ready(outcome.map(|()| count).map_err(io::Error::other))
    }

    /// Writes what waits, to its end.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.session.outgoing().is_empty() {
            ready!(self.poll_flush_some(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes some of what waits.
    pub(super) fn poll_flush_some(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let count = ready!(poll_write(&mut self.stream, cx, self.session.outgoing()))?;
        self.session.sent(count);
        Poll::Ready(Ok(count))
    }
}

/// Writes some of `bytes`, which is not empty. A stream that takes nothing is broken.
pub(super) fn poll_write(
    stream: &mut Box<dyn ViewerStream>,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    match ready!(Pin::new(&mut **stream).poll_write(cx, bytes)) {
        Ok(0) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        outcome => Poll::Ready(outcome),
    }
}

pub(super) fn poll_read(
    stream: &mut Box<dyn ViewerStream>,
    cx: &mut Context<'_>,
    take: impl FnOnce(&[u8]),
) -> Poll<io::Result<usize>> {
    scratch::with(|area| {
        let mut buffer = ReadBuf::new(&mut area[..READ_BYTES]);
        ready!(Pin::new(&mut **stream).poll_read(cx, &mut buffer))?;
        let bytes = buffer.filled();
        if !bytes.is_empty() {
            take(bytes);
        }
        Poll::Ready(Ok(bytes.len()))
    })
}
