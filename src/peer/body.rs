//! The bytes of a response: read in pieces on blocking threads, paced, counted.
//!
//! While one piece leaves, the next is read: two are in memory and no more, because hyper asks for
//! a piece only when the one before is almost gone. A disk that fails or hangs cuts the response;
//! the store is told of what fails.
//!
//! I/O: reads files on blocking threads; sleeps.

use super::budget::Reserved;
use super::counters::Counters;
use super::listener::Shared;
use super::range::Part;
use super::refusal::Reason;
use crate::clock;
use crate::clock::Instant;
use crate::ids::BoxId;
use crate::store::ObjectFile;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Frame;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// One read. A chunk of the tree that the other side verifies by.
const PIECE_BYTES: u64 = 256 * 1024;

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A response under way.
#[derive(Debug)]
struct Sending {
    shared: Arc<Shared>,
    asker: BoxId,
    object: Arc<ObjectFile>,
    /// Where the next read begins, and where the part ends.
    next: u64,
    end: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    reserved: Reserved,
    /// Of the whole response.
    deadline: Instant,
}

pub(super) fn full(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes))
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// The part of the object, as it is read. Ends with an error when it cannot be whole.
pub(super) fn part(
    shared: &Arc<Shared>,
    asker: &BoxId,
    object: Arc<ObjectFile>,
    part: Part,
    reserved: Reserved,
) -> Body {
    let sending = Sending {
        shared: Arc::clone(shared),
        asker: asker.clone(),
        object,
        next: part.first,
        end: part.first + part.length,
        reading: None,
        reserved,
        deadline: clock::now() + shared.deps.limits.response,
    };
    let pieces = stream::unfold(Some(sending), |state| async {
        let mut sending = state?;
        match sending.piece().await {
            Ok(None) => None,
            Ok(Some(bytes)) => Some((Ok(Frame::data(bytes)), Some(sending))),
            // After an error there is nothing more.
            Err(error) => Some((Err(error), None)),
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}

impl Sending {
    /// The next piece when it is read and its turn has come; `None` at the end.
    async fn piece(&mut self) -> io::Result<Option<Bytes>> {
        let Some(reading) = self.reading.take().or_else(|| self.read()) else {
            return Ok(None);
        };
        let limits = self.shared.deps.limits;
        let bytes = match clock::within(limits.read, reading).await {
            Ok(Ok(Ok(bytes))) => bytes,
            Ok(Ok(Err(error))) => return Err(self.cut(Reason::Disk, &error.to_string())),
            Ok(Err(ended)) => return Err(self.cut(Reason::Disk, &ended.to_string())),
            Err(_) => return Err(self.cut(Reason::Disk, "the disk does not answer")),
        };
        self.reading = self.read();
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let now = clock::now();
        let turn = self.shared.pacer.turn(now, length, self.shared.rate);
        if turn > self.deadline || now > self.deadline {
            let message = "the response took too long; go on with another ticket";
            return Err(self.cut(Reason::TooLong, message));
        }
        if turn > now {
            clock::sleep_until(turn).await;
        }
        self.reserved.spend(length);
        Counters::add(&self.shared.counters.bytes_sent, length);
        Ok(Some(bytes))
    }

    /// Starts to read what comes next.
    fn read(&mut self) -> Option<JoinHandle<io::Result<Bytes>>> {
        let (first, length) = (self.next, PIECE_BYTES.min(self.end - self.next));
        let length = usize::try_from(length).ok().filter(|length| *length > 0)?;
        self.next += PIECE_BYTES.min(self.end - first);
        let (object, store) = (Arc::clone(&self.object), self.shared.deps.store.clone());
        Some(tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; length];
            match object.file.read_exact_at(&mut bytes, first) {
                Ok(()) => Ok(bytes.into()),
                Err(error) => {
                    store.read_failed(&object, &error);
                    Err(error)
                }
            }
        }))
    }

    fn cut(&self, reason: Reason, message: &str) -> io::Error {
        let message = format!("{} was cut: {message}", self.object.digest);
        self.shared.refuse(reason, self.asker.as_str(), &message);
        io::Error::other(message)
    }
}
