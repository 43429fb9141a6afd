//! Moves a response to the viewer: the head from memory, the object's bytes from its file.
//!
//! Plain HTTP: the head with `MSG_MORE`, then `sendfile(2)`. TLS in user space: `pread` into the
//! worker's scratch area, encrypt a large piece at once, write. Kernel TLS takes the plain path, on
//! a socket that seals. Reads of cold pages block the worker here; the asynchronous fill of
//! the page cache (per-disk queues) will run ahead of both paths.
//!
//! I/O: writes the stream, reads files.

use super::Limits;
use super::alarm::Alarm;
use super::kernel::KernelTransport;
use super::listener::ViewerStream;
use super::range::Part;
use super::scratch;
use super::session::SessionError;
use super::transport::TlsTransport;
use super::transport::Transport;
use crate::clock;
use crate::clock::Instant;
use crate::store;
use crate::store::ObjectFile;
use crate::task::Heartbeat;
use std::future::poll_fn;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

/// Bytes one viewer may move before the others of its worker have a turn.
const TURN_BYTES: u64 = 1024 * 1024;

/// Plain bytes encrypted at once: small for a viewer that is slow to take them, because they wait
/// in memory, and growing for one that takes all of it.
const PIECE_MIN: usize = 64 * 1024;
const PIECE_MAX: usize = scratch::SCRATCH_BYTES;

/// The file part of a response.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body<'a> {
    pub(super) object: &'a ObjectFile,
    pub(super) part: Part,
    /// Reads of the object may hang with its disk; the watchdog must not blame the worker.
    pub(super) heart: &'a Heartbeat,
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

/// How far a response has come within the present period of `limits.progress_time`.
struct Progress<'a> {
    alarm: &'a mut Alarm,
    limits: &'a Limits,
    since: Instant,
    moved: u64,
    turn: u64,
    /// Steps that moved something.
    steps: u64,
}

/// Sends `head` and then the body.
pub(super) async fn send(
    transport: &mut Transport,
    alarm: &mut Alarm,
    limits: &Limits,
    head: &[u8],
    body: Option<Body<'_>>,
) -> Sent {
    let mut progress = Progress {
        since: clock::now(),
        alarm,
        limits,
        moved: 0,
        turn: 0,
        steps: 0,
    };
    let mut moved = 0;
    let outcome = match transport {
        Transport::Plain(stream) => plain(stream, &mut progress, head, body, &mut moved).await,
        Transport::Tls(tls) => encrypted(tls, &mut progress, head, body, &mut moved).await,
        Transport::Kernel(kernel) => sealed(kernel, &mut progress, head, body, &mut moved).await,
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
    body: Option<Body<'_>>,
    moved: &mut u64,
) -> Result<(), Cut> {
    let mut rest = head;
    while !rest.is_empty() {
        let write = |cx: &mut Context<'_>| {
            let stream = Pin::new(&mut **stream);
            let count = ready!(match body {
                Some(_) => stream.poll_write_more(cx, rest),
                None => stream.poll_write(cx, rest),
            });
            Poll::Ready(count.and_then(not_zero).map_err(|_| Cut::Peer))
        };
        let count = progress.poll(write).await?;
        rest = &rest[count..];
    }
    let Some(Body {
        object,
        part,
        heart,
    }) = body
    else {
        return Ok(());
    };
    let mut at = part.first;
    while at <= part.last {
        let length = (part.last - at + 1).min(TURN_BYTES);
        let length = usize::try_from(length).unwrap_or(PIECE_MAX);
        let write = |cx: &mut Context<'_>| {
            let stream = Pin::new(&mut **stream);
            let excuse = heart.excuse();
            let count = ready!(stream.poll_send_file(cx, &object.file, at, length));
            drop(excuse);
            Poll::Ready(match count {
                Ok(0) => Err(Cut::Read(shorter(at))),
                Ok(count) => Ok(count),
                Err(error) => Err(failed(error)),
            })
        };
        let count = progress.poll(write).await? as u64;
        at += count;
        *moved += count;
    }
    Ok(())
}

/// The plain path on a socket whose kernel seals.
async fn sealed(
    kernel: &mut KernelTransport,
    progress: &mut Progress<'_>,
    head: &[u8],
    body: Option<Body<'_>>,
    moved: &mut u64,
) -> Result<(), Cut> {
    let flush = |cx: &mut Context<'_>| {
        let flushed = ready!(kernel.poll_flush(cx));
        Poll::Ready(flushed.map(|()| 0).map_err(|_| Cut::Peer))
    };
    progress.poll(flush).await?;
    if !kernel.opened.may_send() {
        return Err(Cut::Tls(SessionError::CannotSend));
    }
    let steps = progress.steps;
    let outcome = plain(&mut kernel.stream, progress, head, body, moved).await;
    let bytes = head.len() as u64 + *moved;
    kernel.opened.sealed(bytes, progress.steps - steps);
    outcome
}

async fn encrypted(
    tls: &mut TlsTransport,
    progress: &mut Progress<'_>,
    head: &[u8],
    body: Option<Body<'_>>,
    moved: &mut u64,
) -> Result<(), Cut> {
    // An error text rides in the same buffer as its head, so a head may be longer than usual, but
    // never as long as a piece.
    let mut head = head;
    let mut at = body.map_or(0, |body| body.part.first);
    let mut piece = PIECE_MIN;
    loop {
        let taken = scratch::with(|area| {
            let head_length = head.len().min(area.len());
            area[..head_length].copy_from_slice(&head[..head_length]);
            let (_, room) = area.split_at_mut(head_length);
            let read = match body {
                Some(body) => read_piece(body, at, room, piece)?,
                None => 0,
            };
            let sealed = tls.session.seal(&area[..head_length + read]);
            sealed.map_err(Cut::Tls)?;
            Ok(read)
        })?;
        head = &[];
        let whole = tls.session.outgoing().len();
        let mut first = None;
        while !tls.session.outgoing().is_empty() {
            let write = |cx: &mut Context<'_>| tls.poll_flush_some(cx).map_err(|_| Cut::Peer);
            let count = progress.poll(write).await?;
            first.get_or_insert(count);
        }
        piece = match first {
            Some(count) if count == whole => (piece * 2).min(PIECE_MAX),
            Some(_) | None => PIECE_MIN,
        };
        at += taken as u64;
        *moved += taken as u64;
        if body.is_none_or(|body| at > body.part.last) {
            return Ok(());
        }
    }
}

/// Reads the next piece of the body, whole.
fn read_piece(body: Body<'_>, at: u64, room: &mut [u8], piece: usize) -> Result<usize, Cut> {
    let left = (body.part.last + 1).saturating_sub(at);
    let most = room.len().min(piece);
    let length = usize::try_from(left).map_or(most, |left| left.min(most));
    let _excuse = body.heart.excuse();
    match body.object.file.read_exact_at(&mut room[..length], at) {
        Ok(()) => Ok(length),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Cut::Read(shorter(at))),
        Err(error) => Err(failed(error)),
    }
}

impl Progress<'_> {
    /// Does one step of a response; waits for the viewer no longer than the limits say, and lets
    /// other viewers in between.
    async fn poll(
        &mut self,
        mut step: impl FnMut(&mut Context<'_>) -> Poll<Result<usize, Cut>>,
    ) -> Result<usize, Cut> {
        if self.turn >= TURN_BYTES {
            self.turn = 0;
            tokio::task::yield_now().await;
        }
        let count = poll_fn(|cx| {
            loop {
                if let Poll::Ready(outcome) = step(cx) {
                    return Poll::Ready(outcome);
                }
                self.alarm.set(self.since + self.limits.progress_time);
                ready!(self.alarm.poll(cx));
                if self.moved < self.limits.progress {
                    return Poll::Ready(Err(Cut::Slow));
                }
                self.since = clock::now();
                self.moved = 0;
            }
        })
        .await?;
        self.moved += count as u64;
        self.turn += count as u64;
        self.steps += 1;
        Ok(count)
    }
}

fn not_zero(count: usize) -> io::Result<usize> {
    match count {
        0 => Err(io::ErrorKind::WriteZero.into()),
        count => Ok(count),
    }
}

fn shorter(at: u64) -> io::Error {
    let text = format!("the file ends at or before byte {at}, short of its object's length");
    io::Error::new(io::ErrorKind::UnexpectedEof, text)
}

/// `sendfile` reports trouble of the socket, of the host and of the file through one number. Only
/// the medium's is told to the store: a viewer or a host short of memory must not cost a disk.
fn failed(error: io::Error) -> Cut {
    if store::is_medium_error(&error) {
        Cut::Read(error)
    } else if is_peer(&error) {
        Cut::Peer
    } else {
        Cut::Host(error)
    }
}

fn is_peer(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::BrokenPipe
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::NotConnected
            | Kind::TimedOut
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::WriteZero
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_of_the_medium_are_the_disks_fault() {
        let cut = |code| failed(io::Error::from_raw_os_error(code));
        for code in [libc::EIO, libc::EREMOTEIO, libc::EUCLEAN] {
            assert!(matches!(cut(code), Cut::Read(_)), "{code}");
        }
        for code in [libc::EPIPE, libc::ECONNRESET, libc::ETIMEDOUT] {
            assert!(matches!(cut(code), Cut::Peer), "{code}");
        }
        for code in [libc::ENOBUFS, libc::ENOMEM, libc::EINVAL] {
            assert!(matches!(cut(code), Cut::Host(_)), "{code}");
        }
    }
}
