//! A client's TLS whose records are opened into the memory of whoever reads.
//!
//! rustls does the handshake and then gives its keys away: it would copy each byte three times, in
//! pieces of 4 KiB, and give one record at a time. Here all records of a read of the socket are
//! opened to where they are wanted; one that does not fit there is opened where it lies and given
//! in parts. [`super::dial`] makes one of each connection.
//!
//! I/O: reads and writes the stream beneath.

use super::buffers;
use super::buffers::PART_BYTES;
use crate::tls::record;
use crate::tls::record::ALERT;
use crate::tls::record::CLOSE_NOTIFY;
use crate::tls::record::Content;
use crate::tls::record::DATA;
use crate::tls::record::FATAL;
use crate::tls::record::HANDSHAKE;
use crate::tls::record::KEY_UPDATE;
use crate::tls::record::Key;
use crate::tls::record::PLAIN_BYTES_MAX;
use crate::tls::record::RecordFault;
use crate::tls::record::Said;
use rustls::AlertDescription;
use rustls::client::ClientConnectionData as Side;
use rustls::kernel::KernelConnection;
use std::fmt;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

/// Records without a byte of data in a row: tickets, key updates, warnings, empty ones.
const IDLE_RECORDS_MAX: u32 = 32;

/// On one connection in all, as for viewers.
const KEY_UPDATES_MAX: u32 = 1024;

/// A warning (RFC 5246 section 7.2.2).
const NO_RENEGOTIATION: [u8; 2] = [1, 100];

/// Type and length of a handshake message (RFC 8446 section 4).
const MESSAGE_HEAD_BYTES: usize = 4;

/// Sealed bytes that wait for the socket; a request has a tenth of it.
const OUTGOING_BYTES_MAX: usize = 64 << 10;

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum SealedError {
    #[error("its TLS sent {0}")]
    Source(RecordFault),
    #[error("this box's own TLS failed: {0}")]
    Ours(RecordFault),
    #[error("it was read again after its TLS had failed, which is a fault of this box")]
    ReadAgain,
}

/// The two keys of a session and what the library keeps of it.
pub(super) struct Keys {
    pub(super) opening: Key,
    pub(super) sealing: Key,
    pub(super) later: KernelConnection<Side>,
}

pub(super) struct Sealed<S> {
    inner: S,
    keys: Keys,
    /// While there is more in it than a part of a record.
    buffer: Option<Box<[u8]>>,
    /// Of the buffer: sealed bytes that have come.
    held: Range<usize>,
    /// Of the buffer, before `held`: opened, and nobody has taken it.
    plain: Range<usize>,
    /// Without a buffer: sealed bytes that have come, fewer than a record.
    part: Vec<u8>,
    /// Since the last byte of data.
    idle_records: u32,
    key_updates: u32,
    is_ended: bool,
    is_broken: bool,
    /// It came after bytes that were given first.
    failure: Option<io::Error>,
    outgoing: Vec<u8>,
    sent: usize,
    is_closing: bool,
}

impl<S> Sealed<S> {
    /// `early`: sealed bytes that came with the handshake, at most [`buffers::READ_BYTES`].
    pub(super) fn new(inner: S, keys: Keys, early: &[u8]) -> Self {
        let mut buffer = buffers::take();
        buffer[..early.len()].copy_from_slice(early);
        Self {
            inner,
            keys,
            buffer: Some(buffer),
            held: 0..early.len(),
            plain: 0..0,
            part: Vec::new(),
            idle_records: 0,
            key_updates: 0,
            is_ended: false,
            is_broken: false,
            failure: None,
            outgoing: Vec::new(),
            sent: 0,
            is_closing: false,
        }
    }

    /// Opens the next record, into `into` if it fits there. `false`: more must come first.
    fn open(&mut self, into: &mut ReadBuf<'_>) -> io::Result<bool> {
        let Some(buffer) = &mut self.buffer else {
            return Ok(false);
        };
        let sealed = &mut buffer[self.held.clone()];
        let Some(length) = record::whole(self.keys.opening.version, sealed).map_err(refused)?
        else {
            return Ok(false);
        };
        let (record, key) = (&mut sealed[..length], &mut self.keys.opening);
        let from = self.held.start + key.content_at();
        self.held.start += length;
        let opened = key.opened_bytes(record).map_err(refused)?;
        // The last record of a chunk does not, with the byte that TLS 1.3 adds: it is copied.
        let fits = opened <= into.remaining();
        let content = match fits {
            true => key.content_into(record, into.initialize_unfilled_to(opened)),
            false => key.content(record),
        };
        self.idle_records += 1;
        match content.map_err(refused)? {
            Content::Data(data) => {
                let count = data.len();
                if count > 0 {
                    self.idle_records = 0;
                }
                if fits {
                    into.advance(count);
                } else {
                    self.plain = from..from + count;
                }
            }
            Content::Alert {
                is_fatal,
                description,
            } => self.is_ended = is_goodbye(is_fatal, description, &self.keys.opening)?,
            Content::Tickets(messages) => {
                tickets(messages, &mut self.keys.later).map_err(refused)?;
            }
            Content::HelloRequest => {
                self.seal(ALERT, &NO_RENEGOTIATION)?;
            }
            Content::KeyUpdate { is_answer_asked } => {
                self.update_keys(is_answer_asked).map_err(refused)?;
            }
        }
        match self.idle_records > IDLE_RECORDS_MAX {
            true => Err(refused(RecordFault::TooMany)),
            false => Ok(true),
        }
    }

    /// RFC 8446 section 4.6.3.
    fn update_keys(&mut self, is_answer_asked: bool) -> Result<(), RecordFault> {
        self.key_updates += 1;
        if self.key_updates > KEY_UPDATES_MAX {
            return Err(RecordFault::TooMany);
        }
        let Keys {
            opening,
            sealing,
            later,
        } = &mut self.keys;
        let next = later.update_rx_secret();
        let (sequence, secret) = next.map_err(|_| RecordFault::Key)?;
        *opening = Key::of(opening.version, &secret, sequence).ok_or(RecordFault::Key)?;
        if is_answer_asked {
            sealing.seal(HANDSHAKE, &KEY_UPDATE, &mut self.outgoing)?;
            let next = later.update_tx_secret();
            let (sequence, secret) = next.map_err(|_| RecordFault::Key)?;
            *sealing = Key::of(sealing.version, &secret, sequence).ok_or(RecordFault::Key)?;
        }
        Ok(())
    }

    /// Gives what is opened.
    fn give(&mut self, into: &mut ReadBuf<'_>) {
        let most = into.remaining().min(self.plain.len());
        let end = self.plain.start + most;
        if let Some(buffer) = &self.buffer {
            into.put_slice(&buffer[self.plain.start..end]);
        }
        self.plain.start = end;
    }

    /// Others may have the buffer if no more than a part of a record is in it.
    fn part_with_buffer(&mut self) {
        let Some(buffer) = self.buffer.take() else {
            return;
        };
        let held = &buffer[self.held.clone()];
        let is_part = matches!(record::whole(self.keys.opening.version, held), Ok(None));
        if self.plain.is_empty() && is_part {
            self.part.extend_from_slice(held);
            self.held = 0..0;
            buffers::give_back(buffer);
        } else {
            self.buffer = Some(buffer);
        }
    }

    /// Opens and gives until there is no more of either, or no room.
    fn drain(&mut self, into: &mut ReadBuf<'_>) -> io::Result<()> {
        loop {
            self.give(into);
            if into.remaining() == 0 || self.is_ended || !self.open(into)? {
                return Ok(());
            }
        }
    }

    fn seal(&mut self, kind: u8, bytes: &[u8]) -> io::Result<()> {
        let sealed = self.keys.sealing.seal(kind, bytes, &mut self.outgoing);
        sealed.map_err(refused)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sealed<S> {
    /// Reads once behind what is held, which is fewer than a record.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.part_with_buffer();
        debug_assert!(self.buffer.is_none(), "what is held would be written over");
        let mut buffer = buffers::take();
        let mut fresh = ReadBuf::new(&mut buffer[PART_BYTES..]);
        let read = Pin::new(&mut self.inner).poll_read(context, &mut fresh);
        let count = fresh.filled().len();
        if !matches!(read, Poll::Ready(Ok(()))) {
            buffers::give_back(buffer);
            return read.map_ok(|()| 0);
        }
        let from = PART_BYTES - self.part.len();
        buffer[from..PART_BYTES].copy_from_slice(&self.part);
        self.part.clear();
        self.held = from..PART_BYTES + count;
        self.plain = from..from;
        self.buffer = Some(buffer);
        Poll::Ready(Ok(count))
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.outgoing.len() {
            let rest = &self.outgoing[self.sent..];
            match ready!(Pin::new(&mut self.inner).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.sent += count,
            }
        }
        (self.outgoing, self.sent) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }

    /// Answers of the protocol leave when there is a turn; who does not take them is read from all
    /// the same.
    fn answer(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.poll_send(context) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending if self.outgoing.len() > OUTGOING_BYTES_MAX => {
                Err(refused(RecordFault::TooMany))
            }
            Poll::Pending => Ok(()),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sealed<S> {
    fn poll_open(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self;
        if let Some(failure) = this.failure.take() {
            return Poll::Ready(Err(failure));
        }
        if this.is_broken {
            let error = SealedError::ReadAgain;
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        let before = into.filled().len();
        loop {
            let drained = this.drain(into);
            if let Err(error) = &drained
                && let Some(fault) = fault_of(error)
            {
                // For the other end to know; it may not hear of it.
                let _ = this.seal(ALERT, &[FATAL, fault.alert()]);
            }
            let drained = drained.and(this.answer(context));
            this.is_broken = drained.is_err();
            let is_given = into.filled().len() > before;
            match drained {
                Err(failure) if is_given => {
                    this.failure = Some(failure);
                    return Poll::Ready(Ok(()));
                }
                Err(failure) => return Poll::Ready(Err(failure)),
                Ok(()) if is_given || this.is_ended || into.remaining() == 0 => {
                    return Poll::Ready(Ok(()));
                }
                Ok(()) => {}
            }
            if ready!(this.poll_fill(context))? == 0 {
                let problem = "it closed the connection without a TLS close_notify";
                let error = io::Error::new(io::ErrorKind::UnexpectedEof, problem);
                return Poll::Ready(Err(error));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Sealed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.poll_open(context, into);
        self.part_with_buffer();
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Sealed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.poll_send(context))?;
        let most = bytes.len().min(PLAIN_BYTES_MAX);
        this.seal(DATA, &bytes[..most])?;
        // What the socket does not take now is flushed.
        match this.poll_send(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(most)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !std::mem::replace(&mut this.is_closing, true) {
            this.seal(ALERT, &CLOSE_NOTIFY)?;
        }
        ready!(this.poll_send(context))?;
        Pin::new(&mut this.inner).poll_shutdown(context)
    }
}

/// Is it the end, in good order?
fn is_goodbye(is_fatal: bool, description: u8, key: &Key) -> io::Result<bool> {
    match record::said(key.version, is_fatal, description) {
        Said::Goodbye => Ok(true),
        Said::Warning => Ok(false),
        Said::Failure => {
            let alert = rustls::Error::AlertReceived(AlertDescription::from(description));
            Err(io::Error::new(io::ErrorKind::InvalidData, alert))
        }
    }
}

/// Each is for a later session with the same server. RFC 8446 section 4.6.1.
fn tickets(mut messages: &[u8], later: &mut KernelConnection<Side>) -> Result<(), RecordFault> {
    while let Some((&[kind, high, middle, low], rest)) =
        messages.split_first_chunk::<MESSAGE_HEAD_BYTES>()
    {
        let length = u32::from_be_bytes([0, high, middle, low]);
        let length = usize::try_from(length).map_err(|_| RecordFault::Undecodable)?;
        // Not joined: one that is split ends the connection, as after the kernel's handover.
        let ticket = rest.get(..length).ok_or(RecordFault::Undecodable)?;
        if kind != record::NEW_SESSION_TICKET {
            return Err(RecordFault::Unexpected);
        }
        let taken = later.handle_new_session_ticket(ticket);
        taken.map_err(|_| RecordFault::Undecodable)?;
        messages = &rest[length..];
    }
    match messages {
        [] => Ok(()),
        _ => Err(RecordFault::Undecodable),
    }
}

fn refused(fault: RecordFault) -> io::Error {
    let error = match fault == RecordFault::Key {
        true => SealedError::Ours(fault),
        false => SealedError::Source(fault),
    };
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// None: the other end knows.
fn fault_of(error: &io::Error) -> Option<RecordFault> {
    match *error.get_ref()?.downcast_ref()? {
        SealedError::Source(fault) | SealedError::Ours(fault) => Some(fault),
        SealedError::ReadAgain => None,
    }
}

impl<S: fmt::Debug> fmt::Debug for Sealed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed")
            .field("inner", &self.inner)
            .field("held", &self.held.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
