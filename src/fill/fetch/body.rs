//! The body of an answer, read past hyper where its length is known.
//!
//! hyper reads into memory of its own and gives frames of it, which whoever wants the bytes
//! elsewhere must copy. With a Content-Length there is nothing left to parse: the stream is taken
//! back, with what hyper has read of the body, and read to where [`super::gather`] wants it. hyper
//! goes on parsing any other body.
//!
//! I/O: reads a connection.

use super::dial::Io;
use super::exchange::Driver;
use bytes::Buf;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::Body as _;
use hyper::body::Frame;
use hyper::body::Incoming;
use hyper::header;
use hyper::http::Version;
use hyper::http::response;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::task::ready;
use tokio::io::AsyncRead;
use tokio::io::ReadBuf;

/// Reading zero bytes into some room is its end, or that of the connection: see
/// [`Body::is_at_end`].
pub(super) enum Body {
    Counted(Counted),
    Parsed(Box<Parsed>),
}

/// Of a known length.
pub(super) struct Counted {
    io: Box<dyn Io>,
    /// Read before the rest was read past hyper.
    early: VecDeque<Bytes>,
    /// Not given yet, `early` included.
    rest: u64,
    /// Of the connection, behind `early`.
    failure: Option<io::Error>,
    is_kept: bool,
}

/// In chunks, or until the connection ends.
pub(super) struct Parsed {
    driver: Driver,
    incoming: Incoming,
    /// Of the last frame.
    left: Bytes,
    is_at_end: bool,
    is_kept: bool,
}

impl Body {
    pub(super) fn new(head: &response::Parts, incoming: Incoming, driver: Driver) -> Self {
        let is_kept = is_kept(head);
        match incoming.size_hint().exact() {
            Some(length) => Self::Counted(Counted::new(length, incoming, driver, is_kept)),
            None => Self::Parsed(Box::new(Parsed {
                driver,
                incoming,
                left: Bytes::new(),
                is_at_end: false,
                is_kept,
            })),
        }
    }

    /// All of it was given, as far as is known without reading.
    pub(super) fn is_at_end(&self) -> bool {
        match self {
            Self::Counted(counted) => counted.rest == 0,
            Self::Parsed(parsed) => parsed.is_at_end,
        }
    }

    /// The stream after the end, if it can carry another request. Whether something unasked has
    /// come on it is for whoever uses it to see.
    pub(super) fn into_io(self) -> Option<Box<dyn Io>> {
        match self {
            Self::Counted(counted) => (counted.rest == 0 && counted.is_kept).then_some(counted.io),
            Self::Parsed(parsed) => {
                let Parsed {
                    driver,
                    is_at_end,
                    is_kept,
                    ..
                } = *parsed;
                let is_usable = is_at_end && is_kept && !driver.has_ended();
                let (io, beyond) = driver.into_parts();
                (is_usable && beyond.is_empty()).then_some(io)
            }
        }
    }
}

impl Counted {
    fn new(length: u64, mut incoming: Incoming, driver: Driver, is_kept: bool) -> Self {
        let (mut early, mut rest, mut failure) = (VecDeque::new(), length, None);
        // What hyper has parsed of it. Not after hyper is gone, for then this ends in an error.
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(frame)) = Pin::new(&mut incoming).poll_frame(&mut context) {
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) => {
                    rest = rest.saturating_sub(data.len() as u64);
                    early.push_back(data);
                }
                Ok(Err(_trailers)) => {}
                Err(error) => {
                    failure = Some(io::Error::other(error));
                    break;
                }
            }
        }
        let (io, read) = driver.into_parts();
        let of_body = read.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
        let has_more = read.len() > of_body;
        early.push_back(read.slice(..of_body));
        early.retain(|bytes| !bytes.is_empty());
        Self {
            io,
            early,
            rest: length,
            failure,
            is_kept: is_kept && !has_more,
        }
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = usize::try_from(self.rest).unwrap_or(usize::MAX);
        let most = rest.min(into.remaining());
        if most == 0 {
            return Poll::Ready(Ok(()));
        }
        let count = match self.early.front_mut() {
            Some(early) => {
                let count = most.min(early.len());
                into.put_slice(&early[..count]);
                early.advance(count);
                if early.is_empty() {
                    self.early.pop_front();
                }
                count
            }
            None => {
                if let Some(failure) = self.failure.take() {
                    return Poll::Ready(Err(failure));
                }
                let mut fresh = ReadBuf::new(into.initialize_unfilled_to(most));
                ready!(Pin::new(&mut self.io).poll_read(context, &mut fresh))?;
                let count = fresh.filled().len();
                into.advance(count);
                count
            }
        };
        self.rest -= count as u64;
        Poll::Ready(Ok(()))
    }
}

impl Parsed {
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.left.is_empty() && !self.is_at_end {
            self.driver.poll(context);
            match ready!(Pin::new(&mut self.incoming).poll_frame(context)) {
                None => self.is_at_end = true,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                // Trailers say nothing to us.
                Some(Ok(frame)) => self.left = frame.into_data().unwrap_or_default(),
            }
        }
        let count = self.left.len().min(into.remaining());
        into.put_slice(&self.left[..count]);
        self.left.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Body {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Counted(counted) => counted.poll_read(context, into),
            Self::Parsed(parsed) => parsed.poll_read(context, into),
        }
    }
}

/// RFC 9112 section 9.3. After a switch of protocols (RFC 9110 section 15.2.2) no answer comes.
fn is_kept(head: &response::Parts) -> bool {
    let told = head.headers.get_all(header::CONNECTION).iter();
    let mut options = told.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let closes = options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
    let switches = head.status == StatusCode::SWITCHING_PROTOCOLS;
    head.version == Version::HTTP_11 && !closes && !switches
}

#[cfg(test)]
#[path = "body_tests.rs"]
#[allow(clippy::cast_possible_truncation)]
mod tests;
