//! One connection's bytes: a buffer to read into, and a task that writes, so that a neighbour who
//! does not read never holds anything up.
//!
//! I/O: reads and writes a stream.

use super::metrics::Counters;
use super::net::ByteStream;
use super::session::ConnectionId;
use crate::clock;
use crate::clock::Instant;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use tokio::io::AsyncRead as _;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::io::ReadBuf;
use tokio::io::ReadHalf;
use tokio::io::WriteHalf;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Sixteen of the longest ordinary messages a read, or one extended one.
const BUFFER_BYTES: usize = 64 * 1024;

/// Messages that wait to be written: an OPEN, a NOTIFICATION and keepalives of several hold times.
const QUEUE: usize = 16;

/// For one message to leave. A neighbour that reads nothing for so long is gone (RFC 9687).
const WRITE_TIME: Duration = Duration::from_secs(60);

/// For the last messages of a connection that is closed, and then for the neighbour to close too:
/// closing with unread bytes would reset the connection and lose our NOTIFICATION.
const LINGER_TIME: Duration = Duration::from_secs(2);

pub(super) struct Pipe {
    id: ConnectionId,
    /// Our end.
    local: IpAddr,
    reader: ReadHalf<Box<dyn ByteStream>>,
    buffer: Box<[u8]>,
    /// Read and not yet consumed: `start..end` of the buffer.
    start: usize,
    end: usize,
    /// What is unread is not yet looked at.
    has_more: bool,
    queue: mpsc::Sender<Outgoing>,
    writer: JoinHandle<()>,
}

/// A message, and when it should have left if that is known.
struct Outgoing {
    message: Vec<u8>,
    due: Option<Instant>,
}

/// A pipe's buffer, in other hands.
pub(super) struct Lent {
    buffer: Box<[u8]>,
    unread: Range<usize>,
}

impl Lent {
    pub(super) fn unread(&self) -> &[u8] {
        &self.buffer[self.unread.clone()]
    }
}

impl Pipe {
    pub(super) fn new(
        id: ConnectionId,
        local: IpAddr,
        stream: Box<dyn ByteStream>,
        counters: Arc<Counters>,
    ) -> Self {
        let (reader, half) = tokio::io::split(stream);
        let (queue, messages) = mpsc::channel(QUEUE);
        Self {
            id,
            local,
            reader,
            buffer: vec![0; BUFFER_BYTES].into(),
            start: 0,
            end: 0,
            has_more: false,
            queue,
            writer: tokio::spawn(write(half, messages, counters)),
        }
    }

    pub(super) fn id(&self) -> ConnectionId {
        self.id
    }

    pub(super) fn local(&self) -> IpAddr {
        self.local
    }

    /// False if the neighbour does not read. `due`: when it should have left.
    pub(super) fn send(&self, message: Vec<u8>, due: Option<Instant>) -> bool {
        self.queue.try_send(Outgoing { message, due }).is_ok()
    }

    /// Does nothing wait to be written?
    pub(super) fn has_sent_all(&self) -> bool {
        self.queue.capacity() == self.queue.max_capacity()
    }

    /// What has been read, until [`Pipe::take_back`]: nothing is read meanwhile.
    pub(super) fn lend(&mut self) -> Lent {
        Lent {
            buffer: std::mem::take(&mut self.buffer),
            unread: self.start..self.end,
        }
    }

    /// After `consumed` bytes of it are done with. `has_more`: and the rest can be gone on with.
    pub(super) fn take_back(&mut self, lent: Lent, consumed: usize, has_more: bool) {
        self.has_more = has_more;
        self.buffer = lent.buffer;
        self.start = (self.start + consumed).min(self.end);
    }

    /// Lets everything leave, then closes; bounded.
    pub(super) async fn close(mut self) {
        drop(self.queue);
        let finish = async {
            let _ = (&mut self.writer).await;
            let mut sink = vec![0; 4096];
            while self.reader.read(&mut sink).await.is_ok_and(|read| read > 0) {}
        };
        let _ = clock::within(LINGER_TIME, finish).await;
        self.writer.abort();
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if std::mem::take(&mut self.has_more) {
            return Poll::Ready(Ok(self.end - self.start));
        }
        // What is left is less than one message, and a buffer holds one of any size.
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let mut room = ReadBuf::new(&mut self.buffer[self.end..]);
        match Pin::new(&mut self.reader).poll_read(context, &mut room) {
            Poll::Ready(Ok(())) => {
                let read = room.filled().len();
                self.end += read;
                Poll::Ready(Ok(read))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// The first of `pipes` that has bytes, an end or an error. Never ready without pipes.
pub(super) async fn read_any(pipes: &mut [Pipe]) -> (ConnectionId, io::Result<usize>) {
    poll_fn(|context| {
        for pipe in &mut *pipes {
            if let Poll::Ready(read) = pipe.poll_read(context) {
                return Poll::Ready((pipe.id, read));
            }
        }
        Poll::Pending
    })
    .await
}

async fn write(
    mut half: WriteHalf<Box<dyn ByteStream>>,
    mut messages: mpsc::Receiver<Outgoing>,
    counters: Arc<Counters>,
) {
    while let Some(Outgoing { message, due }) = messages.recv().await {
        let written = clock::within(WRITE_TIME, half.write_all(&message)).await;
        if !matches!(written, Ok(Ok(()))) {
            return;
        }
        if let Some(due) = due {
            let late = clock::now().saturating_duration_since(due).as_micros();
            let late = u64::try_from(late).unwrap_or(u64::MAX);
            counters.keepalive_late_us.fetch_max(late, Relaxed);
        }
    }
    let _ = clock::within(LINGER_TIME, half.shutdown()).await;
}
