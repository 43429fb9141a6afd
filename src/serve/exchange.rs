//! One request of a connection: decided, opened, its first bytes waited for, sent, accounted for.
//!
//! `at_once` decides with each head that has arrived; [`Connection::respond`] goes on with what had
//! to wait. Nothing borrowed from the buffer outlives the decision.
//!
//! I/O: writes the stream, opens objects, waits for disks.

use super::access;
use super::access::Ending;
use super::access::Record;
use super::admit;
use super::answer;
use super::answer::Answer;
use super::answer::Refused;
use super::at_once::Begun;
use super::at_once::Waiting;
use super::cmcd::Cmcd;
use super::connection::Connection;
use super::counters::Refusal;
use super::counters::count;
use super::kernel::Path;
use super::pages::Pages;
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
use super::speedtest::FILE_BYTES;
use super::speedtest::Measure;
use super::speedtest::Seat;
use super::transport::Transport;
use super::worker::Worker;
use crate::clock;
use crate::clock::Instant;
use crate::store::Entry;
use crate::store::FillError;
use crate::store::ObjectFile;
use crate::units::BytesPerSecond;
use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

/// One request on its way through.
pub(super) struct Exchange {
    pub(super) answer: Answer,
    method: Method,
    keep_alive: bool,
    is_http_1_0: bool,
    record: Option<Record>,
    /// What the player said of itself.
    pub(super) cmcd: Option<Box<Cmcd>>,
    /// Why the object could not be opened: for the access log, never for the viewer.
    trouble: Option<String>,
    /// What the viewer's token lets it have; pacing takes the least of all bounds.
    pub(super) token_rate: Option<BytesPerSecond>,
    /// Of the speed test.
    seat: Option<Seat>,
    /// The time. Read when the head was there and after whatever has waited since, because a clock
    /// call at each step would be a tenth of what a small response costs us.
    pub(super) now: Instant,
}

impl Connection {
    /// Parses the head and decides. Nothing borrowed from the buffer leaves this function.
    pub(super) fn decide(&mut self, head: Range<usize>) -> Exchange {
        let now = clock::now();
        self.requests += 1;
        // A reload during the wait counts from this request on.
        self.look_at_settings();
        let settings = &*self.settings;
        let mut room = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let head = match Head::parse(&self.buffer[head], &mut room, settings.limits.headers) {
            Ok(head) => head,
            Err(fault) => return self.refuse(fault.into(), None),
        };
        let record = settings.access.as_ref().map(|_| Record::new(&head, now));
        let house = &self.worker.house;
        let peer = self.card.peer.ip();
        let admission = self.worker.admits(peer, &settings.limits, now);
        let mut guard = self.worker.guard(settings, &admission, peer, now);
        let mut answer = match answer::answer(&head, &admission, &*house.content, &mut guard) {
            Ok(answer) => answer,
            Err(refused) => Answer::Refused(refused),
        };
        let seat = self.seat(&mut answer, head.method, now);
        // The body of a refused upload was not read and must not be taken for a request.
        if let (Answer::Refused(refused), Some(_)) = (&mut answer, head.upload) {
            refused.close = true;
        }
        let due = self.record_at.is_none_or(|at| now >= at);
        let pass = guard.pass;
        let session = pass.as_ref().and_then(|pass| pass.session.clone());
        if answer.is_content() && due {
            house.recent.record(peer, now);
            if let Some(session) = &session {
                house.sessions.record(session, now);
            }
            self.record_at = Some(now + admit::RECORD_EVERY);
        }
        Exchange {
            answer,
            method: head.method,
            keep_alive: head.keep_alive,
            is_http_1_0: head.is_http_1_0,
            record: record.map(|record| record.with_session(session)),
            cmcd: Cmcd::of(&head),
            trouble: None,
            token_rate: pass.and_then(|pass| pass.rate),
            seat,
            now,
        }
    }

    /// The exchange for a head that could not be read.
    pub(super) fn refuse(&self, refused: Refused, record: Option<Record>) -> Exchange {
        let access = self.settings.access.as_ref();
        let now = clock::now();
        let unreadable = || access.map(|_| Record::unreadable(now));
        Exchange {
            answer: Answer::Refused(refused),
            method: Method::Get,
            keep_alive: false,
            is_http_1_0: false,
            record: record.or_else(unreadable),
            cmcd: None,
            trouble: None,
            token_rate: None,
            seat: None,
            now,
        }
    }

    /// Opens what is to be sent, sends it, writes it down. True if the connection goes on.
    pub(super) async fn respond(&mut self, waiting: &mut Waiting) -> Result<bool, ()> {
        let worker = Arc::clone(&self.worker);
        let Waiting { exchange, started } = waiting;
        let mut object = None;
        let drop_behind = self.settings.drop_behind;
        let mut body = match started {
            None => exchange.body(&worker, drop_behind, &mut object).await,
            Some(started) => started.body.take().map(|(file, part)| {
                let file = object.insert(file);
                let mut body = Body::new(&worker, file, part, drop_behind, exchange.now);
                body.pages.read_for(admit::household(self.card.peer.ip()));
                body
            }),
        };
        let (keep, begun) = match started {
            Some(started) => (started.keep, started.begun),
            None => {
                if let Some(reading) = &mut body
                    && !exchange.begin(&worker, self.card.peer.ip(), reading).await
                {
                    body = None;
                }
                if body.is_some() {
                    self.pace(exchange);
                }
                let mut out = std::mem::take(&mut self.out);
                out.clear();
                let keep = self.write_head(exchange, &mut out);
                self.out = out;
                (keep, Begun::default())
            }
        };
        let measured = match (&exchange.answer, exchange.method) {
            (Answer::Speedtest(Measure::Download(part)), Method::Get) => {
                let file = exchange.seat.as_ref().and_then(|seat| seat.file.as_ref());
                file.zip(part.or_else(|| whole(FILE_BYTES)))
            }
            _ => None,
        };
        let sent = match measured {
            Some((file, part)) => {
                self.pace(exchange);
                Box::pin(self.send_measured(file, part)).await
            }
            None => self.send(body.as_mut(), begun, exchange.now).await,
        };
        drop(body);
        self.finish(exchange, object.as_ref(), sent, clock::now())
            .map(|()| keep)
    }

    /// The response is over, `now`: whoever wants to know of it is told. An error: nothing more can
    /// be sent.
    pub(super) fn finish(
        &mut self,
        exchange: &Exchange,
        object: Option<&Arc<ObjectFile>>,
        sent: send::Sent,
        now: Instant,
    ) -> Result<(), ()> {
        self.since = now;
        if !exchange.is_measured() && sent.body > 0 {
            self.note(exchange, sent.body);
        }
        self.account(exchange, &sent);
        match (sent.outcome, object) {
            (Ok(()), _) => return Ok(()),
            (Err(Cut::Read(error)), Some(object)) => self.worker.read_failed(object, &error),
            (Err(Cut::Disk(FillError::NoAnswer)), Some(object)) => {
                self.worker.files.forget(object.digest);
            }
            (Err(Cut::Slow), _) => self.transport.give_up(),
            (Err(_), _) => {}
        }
        Err(())
    }

    /// Writes the head into `out`, an error's text with it. True if the connection goes on.
    pub(super) fn write_head(&self, exchange: &Exchange, out: &mut Vec<u8>) -> bool {
        let refused = match &exchange.answer {
            Answer::Refused(refused) => Some(refused),
            Answer::Options
            | Answer::Speedtest(_)
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
        self.worker.with_date(exchange.now, |date| {
            reply::write(out, &exchange.answer, exchange.method, persistence, date);
        });
        keep
    }

    /// Sends what is left of `out` and `body`; it is `now`.
    pub(super) async fn send(
        &mut self,
        body: Option<&mut Body<'_>>,
        begun: Begun,
        now: Instant,
    ) -> send::Sent {
        let mut now = now;
        if let (Some(Body { part, .. }), Transport::Tls(_)) = (&body, &self.transport) {
            if !Box::pin(self.hand_over(part.last - part.first + 1)).await {
                return send::Sent {
                    body: 0,
                    outcome: Err(Cut::Tls(SessionError::NoOffload)),
                };
            }
            now = clock::now();
        }
        send::send(
            &mut self.transport,
            &mut self.alarm,
            self.settings.limits.patience(),
            &self.out,
            body,
            begun,
            now,
        )
        .await
    }

    /// Asks the speed test for a seat, if that is where the request goes.
    fn seat(&self, answer: &mut Answer, method: Method, now: Instant) -> Option<Seat> {
        let Answer::Speedtest(measure) = answer else {
            return None;
        };
        let settings = &self.settings;
        let who = (self.card.peer.ip(), &settings.speedtest);
        let has_body = method != Method::Head;
        let speedtest = &self.worker.house.speedtest;
        match speedtest.admit(*measure, has_body, who, now) {
            Ok(seat) => Some(seat),
            Err(refused) => {
                *answer = Answer::Refused(refused);
                None
            }
        }
    }

    fn account(&self, exchange: &Exchange, sent: &send::Sent) {
        let counters = &self.worker.counters;
        let status = exchange.answer.status();
        counters.status(status);
        // Of objects alone; the speed test counts its own.
        if exchange.seat.is_none() {
            count(&counters.body_bytes, sent.body);
        }
        count(&self.card.requests, 1);
        count(&self.card.bytes, sent.body);
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
            Err(Cut::Disk(error)) => {
                counters.refused(Refusal::Read);
                Some(format!("the object could not be read: {error}"))
            }
            Err(Cut::Host(error)) => Some(format!("the host could not send: {error}")),
            Err(Cut::Tls(error)) => Some(format!("TLS: {error}")),
        };
        if let (Some(sink), Some(record)) = (&self.settings.access, &exchange.record) {
            let is_success = cut.is_none() && status < 400;
            let sample = match is_success {
                true => access::sampled(counters, self.settings.access_sample),
                false => Some(1),
            };
            let Some(sample) = sample else {
                return;
            };
            let refused = match &exchange.answer {
                Answer::Refused(refused) => Some(refused.text.as_ref()),
                Answer::Options
                | Answer::Speedtest(_)
                | Answer::Content(..)
                | Answer::NotModified(_)
                | Answer::Unsatisfiable(_) => None,
            };
            let ending = Ending {
                peer: self.card.peer,
                token_rate: exchange.token_rate,
                tls: self.tls.as_ref(),
                tls_path: self.card.path().map(Path::word),
                status,
                bytes: sent.body,
                received: exchange.answer.received(),
                sample: (sample > 1).then_some(sample),
                cmcd: exchange.cmcd.as_deref(),
                reason: cut.as_deref().or(exchange.trouble.as_deref()).or(refused),
            };
            sink.write(record, &ending, self.since);
        }
    }
}

impl Exchange {
    /// A body follows its head.
    pub(super) fn is_upload(&self) -> bool {
        matches!(self.answer, Answer::Speedtest(Measure::Upload(_)))
    }

    /// A place of the speed test is taken.
    pub(super) fn is_measured(&self) -> bool {
        self.seat.is_some()
    }

    /// The access log has a line for it.
    pub(super) fn is_logged(&self) -> bool {
        self.record.is_some()
    }

    /// What of which object follows the head.
    pub(super) fn part(&self) -> Option<(Entry, Part)> {
        let (Answer::Content(found, part), Method::Get) = (&self.answer, self.method) else {
            return None;
        };
        Some((found.entry, part.or_else(|| whole(found.entry.length))?))
    }

    /// Opens the object of the answer. What fails here becomes a 503: the head is not written yet.
    async fn body<'a>(
        &mut self,
        worker: &'a Worker,
        drop_behind: bool,
        opened: &'a mut Option<Arc<ObjectFile>>,
    ) -> Option<Body<'a>> {
        let (entry, part) = self.part()?;
        let object = match worker.files.get(entry.digest, self.now) {
            Some(object) => object,
            None => {
                let outcome = Box::pin(worker.open(entry)).await;
                self.now = clock::now();
                match outcome {
                    Ok(object) => object,
                    Err(error) => {
                        worker.open_refused(entry, &error);
                        self.fail(&error);
                        return None;
                    }
                }
            }
        };
        let object = opened.insert(object);
        Some(Body::new(worker, object, part, drop_behind, self.now))
    }

    /// Waits for the first bytes to be in memory; what fails here still becomes a 503. Apart from
    /// [`Exchange::body`], so that the state of the pages stays where it is made.
    async fn begin(&mut self, worker: &Worker, peer: IpAddr, body: &mut Body<'_>) -> bool {
        body.pages.read_for(admit::household(peer));
        let begun = body.pages.begin().await;
        self.now = body.pages.looked_at();
        let Err(error) = begun else {
            if let Answer::Content(found, _) = &mut self.answer {
                found.waited = body.pages.waited();
            }
            return true;
        };
        self.fail(&error);
        // Another disk may have it: the store is asked next time.
        if matches!(error, FillError::NoAnswer) {
            worker.files.forget(body.object.digest);
        }
        if let Some(error) = error.into_io() {
            worker.read_failed(body.object, &error);
        }
        false
    }

    fn fail(&mut self, error: &dyn std::error::Error) {
        self.trouble = Some(error.to_string());
        self.answer = Answer::Refused(Refused::unavailable());
    }
}

impl<'a> Body<'a> {
    fn new(
        worker: &'a Worker,
        object: &'a Arc<ObjectFile>,
        part: Part,
        drop_behind: bool,
        now: Instant,
    ) -> Self {
        let content = &*worker.house.content;
        Self {
            object,
            part,
            heart: &worker.heart,
            pages: Pages::new(content, object, part, drop_behind, now),
        }
    }
}

impl Worker {
    /// An object could not be read to its end: its disk is told, and asked anew next time.
    fn read_failed(&self, object: &ObjectFile, error: &io::Error) {
        self.files.forget(object.digest);
        self.house.content.read_failed(object, error);
    }
}

/// The whole of an object, unless there is nothing of it.
fn whole(length: u64) -> Option<Part> {
    Some(Part {
        first: 0,
        last: length.checked_sub(1)?,
    })
}
