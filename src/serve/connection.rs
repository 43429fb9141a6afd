//! One viewer's connection: request after request, until somebody ends it.
//!
//! ```text
//! handshake → ┌ wait for a head ─ decide ─ open ─ send ─ log ┐ → say goodbye
//!             └──────────────── keep-alive ──────────────────┘
//! ```
//! Requests that arrive together (pipelining) are answered in order from the buffer they came in,
//! which never grows beyond one head and one read. A panic in here ends this connection only.
//!
//! I/O: reads and writes the stream, opens objects.

use super::access::Ending;
use super::access::Record;
use super::admit;
use super::alarm::Alarm;
use super::answer;
use super::answer::Answer;
use super::answer::Refused;
use super::card::Card;
use super::card::TlsFacts;
use super::counters::Refusal;
use super::counters::add;
use super::head_scan::HeadScan;
use super::head_scan::Scan;
use super::range::Part;
use super::reply;
use super::reply::Persistence;
use super::request::FIELDS_MAX;
use super::request::Fault;
use super::request::Head;
use super::request::Method;
use super::send;
use super::send::Body;
use super::send::Cut;
use super::transport::Transport;
use super::worker::Settings;
use super::worker::Worker;
use crate::clock;
use crate::clock::Instant;
use crate::store::ObjectFile;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

/// While the box stops, a viewer that was watching may fetch again within this time; others are
/// closed as soon as they are idle.
const STOPPING_IDLE_TIME: Duration = Duration::from_secs(5);

/// A buffer larger than this is not kept while its connection is idle.
const IDLE_BUFFER_BYTES: usize = 2048;

/// A connection after its handshake, if it has one.
pub(super) struct Connection {
    worker: Arc<Worker>,
    settings: Arc<Settings>,
    transport: Transport,
    card: Arc<Card>,
    tls: Option<TlsFacts>,
    alarm: Alarm,
    /// What the viewer sent and nobody has answered yet.
    buffer: Vec<u8>,
    out: Vec<u8>,
    requests: u32,
    /// When this connection last told the table of viewers.
    recorded: Option<Instant>,
}

/// What ended the wait for a head.
enum Arrival {
    Head(Range<usize>),
    Fault(Fault),
    /// Idle for too long, idle while the box stops, or TLS failed: what waits is still sent.
    Over,
    /// The viewer left.
    Gone,
}

/// One request on its way through.
struct Exchange {
    answer: Answer,
    method: Method,
    keep_alive: bool,
    is_http_1_0: bool,
    record: Option<Record>,
    /// Why the object could not be opened: for the access log, never for the viewer.
    trouble: Option<String>,
}

impl Connection {
    pub(super) fn new(
        worker: Arc<Worker>,
        transport: Transport,
        card: Arc<Card>,
        tls: Option<TlsFacts>,
        alarm: Alarm,
    ) -> Self {
        Self {
            settings: worker.house.settings.load_full(),
            worker,
            transport,
            card,
            tls,
            alarm,
            buffer: Vec::new(),
            out: Vec::new(),
            requests: 0,
            recorded: None,
        }
    }

    /// Serves until the end, and says goodbye unless the connection is broken.
    pub(super) async fn run(mut self) {
        loop {
            let (exchange, end) = match self.next_head().await {
                Arrival::Head(head) => (self.decide(head.clone()), head.end),
                Arrival::Fault(fault) => (self.refuse(fault.into(), None), self.buffer.len()),
                Arrival::Over => break,
                Arrival::Gone => return,
            };
            self.card.busy.store(true, Relaxed);
            let outcome = self.respond(exchange).await;
            self.card.busy.store(false, Relaxed);
            match outcome {
                Ok(true) => self.forget(end),
                Ok(false) => break,
                Err(()) => return,
            }
        }
        self.transport.close(&mut self.alarm).await;
    }

    /// Drops the head that was answered from the buffer.
    fn forget(&mut self, end: usize) {
        self.buffer.drain(..end);
        if self.buffer.is_empty() && self.buffer.capacity() > IDLE_BUFFER_BYTES {
            self.buffer = Vec::new();
        }
    }

    async fn next_head(&mut self) -> Arrival {
        self.look_at_settings();
        let limits = &self.settings.limits;
        let mut scan = HeadScan::default();
        let idle_since = clock::now();
        let mut head_since: Option<Instant> = None;
        loop {
            match scan.step(&self.buffer, limits.head) {
                Err(fault) => return Arrival::Fault(fault),
                Ok(Scan::Complete { start, end }) => return Arrival::Head(start..end),
                Ok(Scan::Incomplete) => {}
            }
            let idle = scan.is_untouched(&self.buffer);
            if idle {
                self.alarm.set(idle_since + limits.idle_time);
            } else {
                let since = *head_since.get_or_insert_with(clock::now);
                self.alarm.set(since + limits.head_time);
            }
            let waited = poll_fn(|cx| {
                poll_more(
                    cx,
                    idle,
                    &self.worker,
                    &self.card,
                    &mut self.transport,
                    &mut self.alarm,
                    &mut self.buffer,
                )
            })
            .await;
            match waited {
                Waited::More => {}
                Waited::End if idle => return Arrival::Over,
                Waited::Fault => return Arrival::Over,
                Waited::End | Waited::Broken => return Arrival::Gone,
                Waited::Alarm if idle => return Arrival::Over,
                Waited::Alarm => return Arrival::Fault(Fault::Slow),
            }
        }
    }

    fn look_at_settings(&mut self) {
        let newest = self.worker.house.settings.load();
        if !Arc::ptr_eq(&newest, &self.settings) {
            self.settings = Arc::clone(&newest);
        }
    }

    /// Parses the head and decides. Nothing borrowed from the buffer leaves this function.
    fn decide(&mut self, head: Range<usize>) -> Exchange {
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
    fn refuse(&self, refused: Refused, record: Option<Record>) -> Exchange {
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
    async fn respond(&mut self, mut exchange: Exchange) -> Result<bool, ()> {
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

/// What a wait for bytes ended with.
enum Waited {
    More,
    End,
    Broken,
    /// TLS failed; an alert waits to be sent.
    Fault,
    Alarm,
}

/// Waits for bytes, the alarm, or the bell that says that the box stops.
fn poll_more(
    cx: &mut Context<'_>,
    idle: bool,
    worker: &Worker,
    card: &Card,
    transport: &mut Transport,
    alarm: &mut Alarm,
    buffer: &mut Vec<u8>,
) -> Poll<Waited> {
    match transport.poll_fill(cx, buffer) {
        Poll::Ready(Ok(0)) => return Poll::Ready(Waited::End),
        Poll::Ready(Ok(_)) => return Poll::Ready(Waited::More),
        Poll::Ready(Err(error)) if is_worth_a_goodbye(&error) => return Poll::Ready(Waited::Fault),
        Poll::Ready(Err(_)) => return Poll::Ready(Waited::Broken),
        Poll::Pending => {}
    }
    if idle && card.poll_rung(cx).is_ready() {
        let now = clock::now();
        if !worker.is_watching(card.peer.ip(), now) {
            return Poll::Ready(Waited::Alarm);
        }
        alarm.set(alarm.at().min(now + STOPPING_IDLE_TIME));
    }
    alarm.poll(cx).map(|()| Waited::Alarm)
}

/// A TLS fault leaves an alert to be sent; a broken socket leaves nothing.
fn is_worth_a_goodbye(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Other
}
