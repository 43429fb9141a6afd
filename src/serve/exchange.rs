//! One request of a connection: decided, opened, sent, accounted for.
//!
//! `connection` calls it with each head that has arrived. Nothing borrowed from the buffer outlives
//! the decision.
//!
//! I/O: writes the stream, opens objects.

use super::access::Ending;
use super::access::Record;
use super::admit;
use super::answer;
use super::answer::Answer;
use super::answer::Refused;
use super::connection::Connection;
use super::counters::Refusal;
use super::counters::add;
use super::kernel::Path;
use super::range::Part;
use super::reply;
use super::reply::Persistence;
use super::request::FIELDS_MAX;
use super::request::Head;
use super::request::Method;
use super::send;
use super::send::Body;
use super::send::Cut;
use super::session::SessionError;
use crate::clock;
use crate::store::ObjectFile;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::Arc;

/// One request on its way through.
pub(super) struct Exchange {
    answer: Answer,
    method: Method,
    keep_alive: bool,
    is_http_1_0: bool,
    record: Option<Record>,
    /// Why the object could not be opened: for the access log, never for the viewer.
    trouble: Option<String>,
}

impl Connection {
    /// Parses the head and decides. Nothing borrowed from the buffer leaves this function.
    pub(super) fn decide(&mut self, head: Range<usize>) -> Exchange {
        let now = clock::now();
        self.requests += 1;
        // A reload during the wait counts from this request on.
        self.look_at_settings();
        let settings = Arc::clone(&self.settings);
        let mut room = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let head = match Head::parse(&self.buffer[head], &mut room, settings.limits.headers) {
            Ok(head) => head,
            Err(fault) => return self.refuse(fault.into(), None),
        };
        let record = settings.access.as_ref().map(|_| Record::new(&head, now));
        let house = &self.worker.house;
        let peer = self.card.peer.ip();
        let admission = self.worker.admits(peer, &settings.limits, now);
        let answer = match answer::answer(&head, &admission, &*house.content) {
            Ok(answer) => answer,
            Err(refused) => Answer::Refused(refused),
        };
        let due = self
            .recorded
            .is_none_or(|last| now.saturating_duration_since(last) >= admit::RECORD_EVERY);
        if answer.is_content() && due {
            house.recent.record(peer, now);
            self.recorded = Some(now);
        }
        Exchange {
            answer,
            method: head.method,
            keep_alive: head.keep_alive,
            is_http_1_0: head.is_http_1_0,
            record,
            trouble: None,
        }
    }

    /// The exchange for a head that could not be read.
    pub(super) fn refuse(&self, refused: Refused, record: Option<Record>) -> Exchange {
        let access = self.settings.access.as_ref();
        let unreadable = || access.map(|_| Record::unreadable(clock::now()));
        Exchange {
            answer: Answer::Refused(refused),
            method: Method::Get,
            keep_alive: false,
            is_http_1_0: false,
            record: record.or_else(unreadable),
            trouble: None,
        }
    }

    /// Opens what is to be sent, sends it, writes it down. True if the connection goes on.
    pub(super) async fn respond(&mut self, mut exchange: Exchange) -> Result<bool, ()> {
        let mut body = None;
        if let (Answer::Content(found, part), Method::Get) = (&exchange.answer, exchange.method)
            && let Some(part) = part.or_else(|| whole(found.entry.length))
        {
            match self.worker.open(found.entry).await {
                Ok(object) => body = Some((object, part)),
                Err(error) => {
                    self.worker.open_refused(found.entry, &error);
                    exchange.trouble = Some(error.to_string());
                    exchange.answer = Answer::Refused(Refused::unavailable());
                }
            }
        }
        let refused = match &exchange.answer {
            Answer::Refused(refused) => Some(refused),
            Answer::Options
            | Answer::Content(..)
            | Answer::NotModified(_)
            | Answer::Unsatisfiable(_) => None,
        };
        if let Some(refusal) = refused.and_then(|refused| refused.counted) {
            self.worker.counters.refused(refusal);
        }
        let keep = exchange.keep_alive
            && !refused.is_some_and(|refused| refused.close)
            && self.requests < self.settings.limits.requests
            && !self.transport.is_used_up()
            && !self.worker.is_draining();
        let persistence = match (keep, exchange.is_http_1_0) {
            (false, _) => Persistence::Closes,
            (true, true) => Persistence::StaysSaid,
            (true, false) => Persistence::Stays,
        };
        self.out.clear();
        self.worker.with_date(|date| {
            reply::write(
                &mut self.out,
                &exchange.answer,
                exchange.method,
                persistence,
                date,
            );
        });
        let cut = self.send(body).await;
        self.account(&exchange, &cut);
        match cut.outcome {
            Ok(()) => Ok(keep),
            Err(_) => Err(()),
        }
    }

    async fn send(&mut self, body: Option<(Arc<ObjectFile>, Part)>) -> send::Sent {
        if let Some((_, part)) = &body
            && !self.hand_over(part.last - part.first + 1).await
        {
            return send::Sent {
                body: 0,
                outcome: Err(Cut::Tls(SessionError::NoOffload)),
            };
        }
        let body_parts = body.as_ref().map(|(object, part)| Body {
            object,
            part: *part,
            heart: &self.worker.heart,
        });
        let sent = send::send(
            &mut self.transport,
            &mut self.alarm,
            &self.settings.limits,
            &self.out,
            body_parts,
        )
        .await;
        if let (Err(Cut::Read(error)), Some((object, _))) = (&sent.outcome, &body) {
            self.worker.files.forget(object.digest);
            self.worker.house.content.read_failed(object, error);
        }
        sent
    }

    fn account(&self, exchange: &Exchange, sent: &send::Sent) {
        let counters = &self.worker.counters;
        let status = exchange.answer.status();
        counters.status(status);
        add(&counters.body_bytes, sent.body);
        add(&self.card.requests, 1);
        add(&self.card.bytes, sent.body);
        let cut = match &sent.outcome {
            Ok(()) => None,
            Err(Cut::Slow) => {
                counters.refused(Refusal::Progress);
                Some("the viewer was too slow".to_owned())
            }
            Err(Cut::Peer) => Some("the viewer left".to_owned()),
            Err(Cut::Read(error)) => {
                counters.refused(Refusal::Read);
                Some(format!("the object could not be read: {error}"))
            }
            Err(Cut::Host(error)) => Some(format!("the host could not send: {error}")),
            Err(Cut::Tls(error)) => Some(format!("TLS: {error}")),
        };
        if let (Some(sink), Some(record)) = (&self.settings.access, &exchange.record) {
            let refused = match &exchange.answer {
                Answer::Refused(refused) => Some(refused.text.as_ref()),
                Answer::Options
                | Answer::Content(..)
                | Answer::NotModified(_)
                | Answer::Unsatisfiable(_) => None,
            };
            let ending = Ending {
                peer: self.card.peer,
                tls: self.tls.as_ref(),
                tls_path: self.card.path().map(Path::word),
                status,
                bytes: sent.body,
                reason: cut.as_deref().or(exchange.trouble.as_deref()).or(refused),
            };
            sink.write(record, &ending, clock::now());
        }
    }
}

/// The whole of an object, unless there is nothing of it.
fn whole(length: u64) -> Option<Part> {
    Some(Part {
        first: 0,
        last: length.checked_sub(1)?,
    })
}
