//! A response that has to wait for nothing: most small ones of plain HTTP.
//!
//! `connection` calls it with each head, in the turn in which the head arrived. Where the object is
//! open, its bytes are in memory and the socket takes them, the response is over before anything is
//! put on the heap. Whatever would have to wait is left to [`Connection::respond`], with what was
//! done so far; so nothing here decides anything that `respond` would decide differently.
//!
//! I/O: writes the stream, never waits.

use super::connection::Connection;
use super::exchange::Exchange;
use super::pages;
use super::pages::Pages;
use super::range::Part;
use super::scratch;
use super::send::Cut;
use super::send::Sent;
use super::send::TURN_BYTES;
use super::send::failed;
use super::transport::Transport;
use crate::clock;
use crate::store::ObjectFile;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

/// Of a turn, however small the response is: what it takes to decide.
const RESPONSE_COST: u64 = TURN_BYTES / 64;

/// What became of a head.
pub(super) enum Turn {
    /// Answered; see [`Connection::respond`].
    Over(Result<bool, ()>),
    /// Something has to be waited for.
    Waits(Box<Waiting>),
}

/// A response that is under way, or not begun.
pub(super) struct Waiting {
    pub(super) exchange: Exchange,
    pub(super) started: Option<Started>,
}

/// A response whose head is written, into `out`.
pub(super) struct Started {
    /// The object that follows the head, and how much of it.
    pub(super) body: Option<(Arc<ObjectFile>, Part)>,
    /// The connection goes on afterwards.
    pub(super) keep: bool,
    pub(super) begun: Begun,
}

/// How far a response has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Begun {
    pub(super) head: usize,
    pub(super) body: u64,
}

impl Waiting {
    pub(super) fn new(exchange: Exchange) -> Box<Self> {
        Box::new(Self {
            exchange,
            started: None,
        })
    }
}

impl Connection {
    /// Decides, and answers as far as that needs no wait.
    pub(super) fn answer(&mut self, head: Range<usize>, cx: &mut Context<'_>) -> Turn {
        let exchange = self.decide(head);
        if exchange.is_measured() || !matches!(self.transport, Transport::Plain(_)) {
            return Turn::Waits(Waiting::new(exchange));
        }
        let body = match exchange.part() {
            None => None,
            Some((entry, part)) => {
                let object = self.worker.files.get(entry.digest, exchange.now);
                match object.filter(|object| self.is_there(object, part, &exchange)) {
                    Some(object) => Some((object, part)),
                    None => return Turn::Waits(Waiting::new(exchange)),
                }
            }
        };
        if body.is_some() {
            self.pace(&exchange);
        }
        scratch::with_head(|head| self.write(exchange, body, head, cx))
    }

    /// Writes the head into `head`, and sends it and the body as far as the socket takes them.
    fn write(
        &mut self,
        exchange: Exchange,
        body: Option<(Arc<ObjectFile>, Part)>,
        head: &mut Vec<u8>,
        cx: &mut Context<'_>,
    ) -> Turn {
        let keep = self.write_head(&exchange, head);
        let mut begun = Begun::default();
        let Poll::Ready(outcome) = self.send_now(head, body.as_ref(), &mut begun, cx) else {
            self.out.clear();
            self.out.extend_from_slice(head);
            return Turn::Waits(Box::new(Waiting {
                exchange,
                started: Some(Started { body, keep, begun }),
            }));
        };
        self.turn += RESPONSE_COST;
        if let (Ok(()), Some((object, part))) = (&outcome, &body) {
            pages::note_sent(object, *part, exchange.now);
        }
        // Nothing has waited: no more time has passed than that of a few system calls. Only the
        // access log wants to know it.
        let since = match exchange.is_logged() {
            true => clock::now(),
            false => exchange.now,
        };
        let object = body.as_ref().map(|(object, _)| object);
        let sent = Sent {
            body: begun.body,
            outcome,
        };
        Turn::Over(self.finish(&exchange, object, sent, since).map(|()| keep))
    }

    /// All of the part is in memory.
    fn is_there(&self, object: &Arc<ObjectFile>, part: Part, exchange: &Exchange) -> bool {
        let content = &*self.worker.house.content;
        // Nothing is brought, so there is nothing to drop behind it.
        Pages::new(content, object, part, false, exchange.now).is_there()
    }

    /// Sends `head` and the body, as far as the socket takes them.
    fn send_now(
        &mut self,
        head: &[u8],
        body: Option<&(Arc<ObjectFile>, Part)>,
        begun: &mut Begun,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Cut>> {
        let Transport::Plain(stream) = &mut self.transport else {
            return Poll::Pending;
        };
        while let Some(rest) = head.get(begun.head..).filter(|rest| !rest.is_empty()) {
            let stream = Pin::new(&mut **stream);
            let written = ready!(match body {
                Some(_) => stream.poll_write_more(cx, rest),
                None => stream.poll_write(cx, rest),
            });
            match written {
                Ok(0) | Err(_) => return Poll::Ready(Err(Cut::Peer)),
                Ok(count) => begun.head += count,
            }
        }
        let Some((object, part)) = body else {
            return Poll::Ready(Ok(()));
        };
        // Pages can be evicted after the look at them: rarely, and then the disk may hang here.
        let _excuse = self.worker.heart.excuse();
        let mut at = part.first + begun.body;
        while at <= part.last {
            let length = usize::try_from(part.last - at + 1).unwrap_or(usize::MAX);
            let stream = Pin::new(&mut **stream);
            let count = match ready!(stream.poll_send_file(cx, &object.file, at, length)) {
                Ok(0) => return Poll::Pending,
                Ok(count) => count as u64,
                Err(error) => match failed(error) {
                    // Whose fault it is takes a wait to find out.
                    Cut::Read(_) => return Poll::Pending,
                    cut @ (Cut::Slow | Cut::Peer | Cut::Disk(_) | Cut::Host(_) | Cut::Tls(_)) => {
                        return Poll::Ready(Err(cut));
                    }
                },
            };
            at += count;
            begun.body += count;
            self.turn += count;
        }
        Poll::Ready(Ok(()))
    }
}
