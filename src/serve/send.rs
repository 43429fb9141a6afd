//! Moves a response to the viewer: the head from memory, the object's bytes from its file.
//!
//! Plain HTTP: the head with `MSG_MORE`, then `sendfile(2)` of what [`super::pages`] has seen in
//! memory. TLS in user space: what is in memory is read (`RWF_NOWAIT`) into the worker's scratch
//! area, a large piece encrypted at once, and written. Absent pages are waited for before the file
//! is touched, and that time is not counted against the viewer. Kernel TLS takes the plain path, on
//! a socket that seals.
//!
//! I/O: writes the stream, reads files, waits for disks.

mod blame;

use super::alarm::Alarm;
use super::at_once::Begun;
use super::kernel::KernelTransport;
use super::listener::ViewerStream;
use super::pages::Pages;
use super::range::Part;
use super::scratch;
use super::session::SessionError;
use super::transport::TlsTransport;
use super::transport::Transport;
use crate::clock;
use crate::clock::Instant;
use crate::store::FillError;
use crate::store::ObjectFile;
use crate::store::Supply;
use crate::task::Heartbeat;
pub(super) use blame::failed;
use blame::judged;
use blame::shorter;
use blame::unread;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

/// Bytes one viewer may move before the others of its worker have a turn: a third of a millisecond.
/// Fewer fill a socket so little that each of its segments is a call of ours.
pub(super) const TURN_BYTES: u64 = 2 * 1024 * 1024;

/// Plain bytes encrypted at once: small for a viewer that is slow to take them, because they wait
/// in memory, and growing for one that takes all of it.
const PIECE_MIN: usize = 64 * 1024;
const PIECE_FIRST: usize = 128 * 1024;
const PIECE_MAX: usize = scratch::SCRATCH_BYTES;

/// The file part of a response.
pub(super) struct Body<'a> {
    pub(super) object: &'a ObjectFile,
    pub(super) part: Part,
    /// A read may hang with its disk after all; the watchdog must not blame the worker.
    pub(super) heart: &'a Heartbeat,
    /// Asked before the file is touched.
    pub(super) pages: Pages<'a>,
}

/// How a response ended early. The connection cannot be used further.
#[derive(Debug)]
pub(super) enum Cut {
    /// The viewer took less than the limits ask for.
    Slow,
    /// The viewer left, or its connection broke.
    Peer,
    /// The object could not be read: its disk is to be told.
    Read(io::Error),
    /// The object's disk is too busy or does not answer: it knows.
    Disk(FillError),
    /// The kernel could not send, for want of memory for example: nobody else is to blame.
    Host(io::Error),
    /// The TLS session cannot send.
    Tls(SessionError),
}

/// What was moved. `body` counts bytes of the object.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) body: u64,
    pub(super) outcome: Result<(), Cut>,
}

/// Whoever takes fewer `bytes` in this `time` is cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) time: Duration,
    pub(super) bytes: u64,
}

/// Where a response goes, as far as its progress is concerned.
trait Outlet {
    /// See [`ViewerStream::unacknowledged`].
    fn unacknowledged(&self) -> Option<u64>;
}

/// How far a response has come within the present period of `patience.time`.
struct Progress<'a> {
    alarm: &'a mut Alarm,
    patience: Patience,
    since: Instant,
    moved: u64,
    /// What the viewer had not acknowledged when the period began, where that is known.
    waiting: Option<u64>,
    turn: u64,
    /// Steps that moved something.
    steps: u64,
    /// The time, as long as nothing has waited since it was read.
    now: Option<Instant>,
}

/// Sends what is left of `head` and then of the body, which is lent from step to step: its state is
/// moved once. `now` is the time of this turn.
pub(super) async fn send(
    transport: &mut Transport,
    alarm: &mut Alarm,
    patience: Patience,
    head: &[u8],
    body: Option<&mut Body<'_>>,
    begun: Begun,
    now: Instant,
) -> Sent {
    let mut progress = Progress {
        since: now,
        alarm,
        patience,
        moved: 0,
        waiting: None,
        turn: 0,
        steps: 0,
        now: Some(now),
    };
    let (head, mut moved) = (&head[begun.head..], begun.body);
    let outcome = match transport {
        Transport::Plain(stream) => plain(stream, &mut progress, head, body, &mut moved).await,
        // Apart: what sealing needs would be half of the state of a response that is not sealed.
        Transport::Tls(tls) => {
            Box::pin(encrypted(tls, &mut progress, head, body, &mut moved)).await
        }
        Transport::Kernel(kernel) => {
            Box::pin(sealed(kernel, &mut progress, head, body, &mut moved)).await
        }
        Transport::Closed => Err(Cut::Peer),
    };
    Sent {
        body: moved,
        outcome,
    }
}

async fn plain(
    stream: &mut Box<dyn ViewerStream>,
    progress: &mut Progress<'_>,
    head: &[u8],
    body: Option<&mut Body<'_>>,
    moved: &mut u64,
) -> Result<(), Cut> {
    let mut rest = head;
    while !rest.is_empty() {
        let more = body.is_some();
        rest = &rest[write_some(stream, progress, rest, more).await?..];
    }
    let Some(body) = body else {
        return Ok(());
    };
    let mut at = body.part.first + *moved;
    while at <= body.part.last {
        let seen = match body.pages.is_in_doubt() {
            // Nothing is sent from the file: what leaves memory meanwhile would be waited for.
            true => match copy_some(stream, progress, body, at).await? {
                0 => None,
                count => {
                    at += count as u64;
                    *moved += count as u64;
                    continue;
                }
            },
            false => body.pages.look(at),
        };
        let count = match seen {
            Some(there) => match send_some(stream, progress, body, at, there).await {
                Ok(0) => {
                    body.pages.doubt(at);
                    0
                }
                Ok(count) => count,
                Err(Cut::Read(error)) if error.raw_os_error().is_some() => {
                    return Err(Box::pin(judged(progress, body, at, error)).await);
                }
                Err(cut) => return Err(cut),
            },
            None => match progress.for_disk(Box::pin(body.pages.supply(at))).await? {
                Supply::Cached => 0,
                Supply::Bytes(bytes) => {
                    // What is left over here would be read from the disk for a second time.
                    let mut rest = &bytes[..];
                    while !rest.is_empty() {
                        let count = write_some(stream, progress, rest, false).await?;
                        rest = &rest[count..];
                        at += count as u64;
                        *moved += count as u64;
                    }
                    0
                }
            },
        };
        at += count as u64;
        *moved += count as u64;
    }
    Ok(())
}

/// The plain path on a socket whose kernel seals.
async fn sealed(
    kernel: &mut KernelTransport,
    progress: &mut Progress<'_>,
    head: &[u8],
    body: Option<&mut Body<'_>>,
    moved: &mut u64,
) -> Result<(), Cut> {
    let flush = |kernel: &mut KernelTransport, cx: &mut Context<'_>| {
        let flushed = ready!(kernel.poll_flush(cx));
        Poll::Ready(flushed.map(|()| 0).map_err(|_| Cut::Peer))
    };
    progress.poll(kernel, flush).await?;
    if !kernel.opened.may_send() {
        return Err(Cut::Tls(SessionError::CannotSend));
    }
    let steps = progress.steps;
    let outcome = plain(&mut kernel.stream, progress, head, body, moved).await;
    let bytes = head.len() as u64 + *moved;
    kernel.opened.sealed(bytes, progress.steps - steps);
    outcome
}

async fn write_some(
    stream: &mut Box<dyn ViewerStream>,
    progress: &mut Progress<'_>,
    bytes: &[u8],
    more: bool,
) -> Result<usize, Cut> {
    let write = |stream: &mut Box<dyn ViewerStream>, cx: &mut Context<'_>| {
        let stream = Pin::new(&mut **stream);
        let count = ready!(if more {
            stream.poll_write_more(cx, bytes)
        } else {
            stream.poll_write(cx, bytes)
        });
        Poll::Ready(count.and_then(not_zero).map_err(|_| Cut::Peer))
    };
    progress.poll(stream, write).await
}

/// Sends from the file what was seen in memory; 0 if that was too long ago.
async fn send_some(
    stream: &mut Box<dyn ViewerStream>,
    progress: &mut Progress<'_>,
    body: &Body<'_>,
    at: u64,
    there: u64,
) -> Result<usize, Cut> {
    let length = usize::try_from(there.min(TURN_BYTES)).unwrap_or(PIECE_MAX);
    let mut now = progress.now.take();
    let mut is_new = body.pages.is_new();
    let write = |stream: &mut Box<dyn ViewerStream>, cx: &mut Context<'_>| {
        // Whoever waited for the viewer is neither at the time of the turn nor of the look.
        let (known, is_new) = (now.take(), std::mem::take(&mut is_new));
        if !is_new && !body.pages.is_fresh(known.unwrap_or_else(clock::now)) {
            return Poll::Ready(Ok(0));
        }
        let stream = Pin::new(&mut **stream);
        // Pages can be evicted after the look at them: rarely, and then the disk may hang here.
        let excuse = body.heart.excuse();
        let count = ready!(stream.poll_send_file(cx, &body.object.file, at, length));
        drop(excuse);
        Poll::Ready(match count {
            Ok(0) => Err(Cut::Read(shorter(at))),
            Ok(count) => Ok(count),
            Err(error) => Err(failed(error)),
        })
    };
    progress.poll(stream, write).await
}

/// Sends by way of our own memory what is in memory of the file at this moment; 0: nothing is.
async fn copy_some(
    stream: &mut Box<dyn ViewerStream>,
    progress: &mut Progress<'_>,
    body: &mut Body<'_>,
    at: u64,
) -> Result<usize, Cut> {
    progress.now = None;
    let write = |stream: &mut Box<dyn ViewerStream>, cx: &mut Context<'_>| {
        scratch::with(|area| {
            let read = read_piece(body, at, area, PIECE_MIN)?;
            let Some(count) = read else {
                return Poll::Ready(Ok(0));
            };
            let stream = Pin::new(&mut **stream);
            let count = ready!(stream.poll_write(cx, &area[..count]));
            Poll::Ready(count.and_then(not_zero).map_err(|_| Cut::Peer))
        })
    };
    progress.poll(stream, write).await
}

async fn encrypted(
    tls: &mut TlsTransport,
    progress: &mut Progress<'_>,
    head: &[u8],
    mut body: Option<&mut Body<'_>>,
    moved: &mut u64,
) -> Result<(), Cut> {
    let mut head = head;
    let mut at = body.as_ref().map_or(0, |body| body.part.first + *moved);
    let mut piece = PIECE_FIRST;
    loop {
        let taken = seal_piece(tls, progress, head, body.as_deref_mut(), at, piece).await?;
        head = &[];
        let whole = tls.session.outgoing().len();
        let mut first = None;
        while !tls.session.outgoing().is_empty() {
            let write = |tls: &mut TlsTransport, cx: &mut Context<'_>| {
                tls.poll_flush_some(cx).map_err(|_| Cut::Peer)
            };
            let count = progress.poll(tls, write).await?;
            first.get_or_insert(count);
        }
        piece = match first {
            Some(count) if count == whole => (piece * 2).min(PIECE_MAX),
            Some(_) | None => PIECE_MIN,
        };
        at += taken as u64;
        *moved += taken as u64;
        if body.as_ref().is_none_or(|body| at > body.part.last) {
            return Ok(());
        }
    }
}

/// Encrypts `head` and the next piece of the body together, once it is in memory; how many bytes
/// of the body that were.
async fn seal_piece(
    tls: &mut TlsTransport,
    progress: &mut Progress<'_>,
    head: &[u8],
    mut body: Option<&mut Body<'_>>,
    at: u64,
    piece: usize,
) -> Result<usize, Cut> {
    let mut copied = Vec::new();
    loop {
        let sealed = scratch::with(|area| {
            // An error text rides in the same buffer as its head, so a head may be longer than
            // usual, but never as long as a piece.
            let head_length = head.len().min(area.len());
            area[..head_length].copy_from_slice(&head[..head_length]);
            let (_, room) = area.split_at_mut(head_length);
            let read = match &mut body {
                None => 0,
                Some(_) if !copied.is_empty() => {
                    let count = copied.len().min(room.len());
                    room[..count].copy_from_slice(&copied[..count]);
                    count
                }
                Some(body) => match read_piece(body, at, room, piece)? {
                    Some(read) => read,
                    None => return Ok(None),
                },
            };
            let sealed = tls.session.seal(&area[..head_length + read]);
            sealed.map_err(Cut::Tls)?;
            Ok(Some(read))
        })?;
        match (sealed, &mut body) {
            (Some(read), _) => return Ok(read),
            (None, Some(body)) => match progress.for_disk(Box::pin(body.pages.supply(at))).await? {
                Supply::Cached => {}
                Supply::Bytes(bytes) => copied = bytes,
            },
            (None, None) => return Ok(0),
        }
    }
}

/// Reads what is in memory of the next piece of the body; `None` if its first byte is not.
fn read_piece(
    body: &mut Body<'_>,
    at: u64,
    room: &mut [u8],
    piece: usize,
) -> Result<Option<usize>, Cut> {
    let left = (body.part.last + 1).saturating_sub(at);
    let most = room.len().min(piece);
    let length = usize::try_from(left).map_or(most, |left| left.min(most));
    match body.pages.read_now(&mut room[..length], at, body.heart) {
        Ok(Some(0)) => Err(Cut::Read(shorter(at))),
        Ok(read) => Ok(read),
        Err(error) => Err(failed(error)),
    }
}

impl Progress<'_> {
    /// Waits for the disk, which has bounds of its own: this time is not the viewer's.
    async fn for_disk(
        &mut self,
        supply: impl Future<Output = Result<Supply, FillError>>,
    ) -> Result<Supply, Cut> {
        self.now = None;
        let since = clock::now();
        let outcome = supply.await;
        self.since += clock::now().saturating_duration_since(since);
        outcome.map_err(|error| match error {
            FillError::Busy | FillError::NoAnswer => Cut::Disk(error),
            FillError::Read(_) => error.into_io().map_or(Cut::Peer, unread),
        })
    }

    /// Does one step of a response; waits for the viewer no longer than the limits say, and lets
    /// other viewers in between.
    async fn poll<O: Outlet>(
        &mut self,
        outlet: &mut O,
        mut step: impl FnMut(&mut O, &mut Context<'_>) -> Poll<Result<usize, Cut>>,
    ) -> Result<usize, Cut> {
        if self.turn >= TURN_BYTES {
            self.turn = 0;
            self.now = None;
            tokio::task::yield_now().await;
        }
        let count = poll_fn(|cx| {
            loop {
                if let Poll::Ready(outcome) = step(outlet, cx) {
                    return Poll::Ready(outcome);
                }
                self.now = None;
                self.alarm.set(self.since + self.patience.time);
                ready!(self.alarm.poll(cx));
                let waiting = outlet.unacknowledged();
                if self.taken(waiting) < self.patience.bytes {
                    return Poll::Ready(Err(Cut::Slow));
                }
                self.since = clock::now();
                self.moved = 0;
                self.waiting = waiting;
            }
        })
        .await?;
        self.moved += count as u64;
        self.turn += count as u64;
        self.steps += 1;
        Ok(count)
    }

    /// What the viewer has taken in this period. A kernel whose buffer has grown takes bytes in
    /// steps of a megabyte, and none for half a minute from a viewer that takes them steadily:
    /// where it tells what waits, the viewer's own pace counts.
    fn taken(&self, waiting: Option<u64>) -> u64 {
        let before = self.waiting.or(waiting).unwrap_or(0);
        (self.moved + before).saturating_sub(waiting.unwrap_or(0))
    }
}

impl Outlet for Box<dyn ViewerStream> {
    fn unacknowledged(&self) -> Option<u64> {
        (**self).unacknowledged()
    }
}

impl Outlet for KernelTransport {
    fn unacknowledged(&self) -> Option<u64> {
        self.stream.unacknowledged()
    }
}

impl Outlet for TlsTransport {
    fn unacknowledged(&self) -> Option<u64> {
        self.stream.unacknowledged()
    }
}

fn not_zero(count: usize) -> io::Result<usize> {
    match count {
        0 => Err(io::ErrorKind::WriteZero.into()),
        count => Ok(count),
    }
}

#[cfg(test)]
mod tests;
