//! One connection: handshake, who is it, then HTTP/1.1 until it leaves, falls silent or is cut.
//!
//! ```text
//! handshake → ┌ wait for a head ─ decide ─ give, or refuse ┐ → say goodbye
//!             └──────────────── keep-alive ────────────────┘
//! ```
//! Requests that arrive together are answered in order from the buffer they came in, which never
//! grows beyond one head and one read.
//!
//! I/O: reads and writes the stream.

use super::body;
use super::body::Cut;
use super::counters::Counters;
use super::crowd::Full;
use super::crowd::Stranger;
use super::listener::Shared;
use super::refusal::Reason;
use super::refusal::Refused;
use super::reply;
use super::reply::Persistence;
use super::request;
use crate::clock;
use crate::clock::Instant;
use crate::help::printable;
use crate::ids::BoxId;
use crate::link::peering;
use crate::serve::Carrier;
use crate::serve::CarryError;
use crate::serve::FIELDS_MAX;
use crate::serve::Fault;
use crate::serve::Head;
use crate::serve::HeadScan;
use crate::serve::Method;
use crate::serve::Received;
use crate::serve::Scan;
use crate::serve::listener::ViewerStream;
use crate::task::Phase;
use crate::task::PhaseRx;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

/// Request line and headers: a ticket of 8 KiB and little else.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Each request has some ten.
const HEADERS_MAX: usize = 64;

/// What a connection is told that cannot be served.
type Refusal = Option<(Reason, &'static str)>;

/// A box that asks.
struct Talk<'a> {
    shared: &'a Arc<Shared>,
    asker: &'a BoxId,
    carrier: Carrier,
    /// What the box sent and nobody has answered yet.
    buffer: Vec<u8>,
    /// The one answer there is.
    refusal: Refusal,
    phase: PhaseRx,
}

/// What ended the wait for a head.
enum Arrival {
    Head(Range<usize>),
    Fault(Fault),
    /// Idle for too long, or the box stops.
    Over,
    Gone,
}

/// `stranger` is its place until it is known which box it is.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    (stream, remote): (Box<dyn ViewerStream>, SocketAddr),
    stranger: Stranger,
) {
    let (carrier, asker) = match shake_hands(shared, stream, remote).await {
        Ok(met) => met,
        Err((reason, message)) => return shared.refuse(reason, &remote.to_string(), &message),
    };
    let refusal = match shared.askers.enter(asker.clone()) {
        Ok(place) if shared.deps.phase.now() == Phase::Serving => {
            drop(stranger);
            Counters::add(&shared.counters.connections, 1);
            converse(shared, carrier, &asker).await;
            drop(place);
            return;
        }
        Ok(_) => (Reason::Stopping, request::STOPPING),
        Err(Full::House) => (Reason::Crowded, "all connections are taken; come again"),
        Err(Full::Visitor) => (Reason::Asker, "your box has too many connections here"),
    };
    // Told in words, at a stranger's place, by the answer to one request; whoever does not ask is
    // not told.
    let told = Talk::new(shared, carrier, &asker, Some(refusal)).run();
    let _ = clock::within(shared.deps.limits.handshake, told).await;
    drop(stranger);
}

/// TLS, and the name in the certificate of the other end.
async fn shake_hands(
    shared: &Shared,
    stream: Box<dyn ViewerStream>,
    remote: SocketAddr,
) -> Result<(Carrier, BoxId), (Reason, String)> {
    let Some((identity, _)) = (shared.deps.identity)() else {
        let message = "this box is not enrolled yet, and has no certificate to show";
        return Err((Reason::NotEnrolled, message.to_owned()));
    };
    let config = shared.credentials.config(&identity);
    let config = config.map_err(|problem| (Reason::NotEnrolled, problem))?;
    let until = clock::now() + shared.deps.limits.handshake;
    let meeting = Carrier::meet((stream, remote), config, until, Arc::clone(&shared.terms));
    let carrier = meeting.await.map_err(|error: CarryError| {
        let problem = printable(error.to_string().as_bytes(), 300);
        (Reason::Handshake, problem)
    })?;
    match carrier.certificate().and_then(peering::box_of) {
        Some(asker) => Ok((carrier, asker)),
        None => Err((Reason::Handshake, "the certificate names no box".to_owned())),
    }
}

/// HTTP until either end has had enough.
async fn converse(shared: &Arc<Shared>, carrier: Carrier, asker: &BoxId) {
    let limits = shared.deps.limits;
    let talk = Talk::new(shared, carrier, asker, None).run();
    // However little an asker reads at a time.
    if clock::within(limits.connection + limits.response, talk)
        .await
        .is_err()
    {
        let message = "the connection was cut at the end of its time";
        shared.refuse(Reason::TooLong, asker.as_str(), message);
    }
}

impl<'a> Talk<'a> {
    fn new(shared: &'a Arc<Shared>, carrier: Carrier, asker: &'a BoxId, refusal: Refusal) -> Self {
        Self {
            phase: shared.deps.phase.clone(),
            shared,
            asker,
            carrier,
            buffer: Vec::new(),
            refusal,
        }
    }

    async fn run(mut self) {
        let ends = clock::now() + self.shared.deps.limits.connection;
        loop {
            let outcome = match self.next_head(ends).await {
                Arrival::Head(head) => {
                    let end = head.end;
                    let answered = self.answer(head).await;
                    self.buffer.drain(..end);
                    answered
                }
                Arrival::Fault(fault) => self.refuse(Refused::head(&fault), false).await,
                Arrival::Over => Ok(false),
                Arrival::Gone => return,
            };
            match outcome {
                Ok(true) => {}
                Ok(false) => return self.carrier.close().await,
                Err(Cut) => return,
            }
        }
    }

    async fn next_head(&mut self, ends: Instant) -> Arrival {
        let until = clock::now() + self.shared.deps.limits.idle;
        let mut scan = HeadScan::default();
        loop {
            match scan.step(&self.buffer, HEAD_BYTES_MAX) {
                Err(fault) => return Arrival::Fault(fault),
                Ok(Scan::Complete { start, end }) => return Arrival::Head(start..end),
                Ok(Scan::Incomplete) => {}
            }
            let is_idle = scan.is_untouched(&self.buffer);
            let is_kept = is_idle && self.refusal.is_none();
            let until = if is_kept { until.min(ends) } else { until };
            let received = tokio::select! {
                biased;
                phase = self.phase.leaving(), if is_kept => match phase {
                    Phase::Stopped => return Arrival::Gone,
                    Phase::Serving | Phase::Draining { .. } => return Arrival::Over,
                },
                received = self.carrier.receive(&mut self.buffer, until) => received,
            };
            match received {
                Received::More => {}
                Received::End | Received::Late if is_idle => return Arrival::Over,
                Received::Late => return Arrival::Fault(Fault::Slow),
                Received::End | Received::Broken => return Arrival::Gone,
            }
        }
    }

    /// Answers one request. True if the connection goes on.
    async fn answer(&mut self, head: Range<usize>) -> Result<bool, Cut> {
        let shared = self.shared;
        let mut room = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let parsed = Head::parse(&self.buffer[head], &mut room, HEADERS_MAX);
        let is_head = parsed
            .as_ref()
            .is_ok_and(|head| head.method == Method::Head);
        if let Some((reason, message)) = self.refusal {
            return self.refuse(Refused::new(reason, message), is_head).await;
        }
        Counters::add(&shared.counters.requests, 1);
        let head = match parsed {
            // An upload goes elsewhere; what follows it on the connection could be anything.
            Ok(head) if head.upload.is_none() => head,
            Ok(_) => return self.refuse(Refused::method(), false).await,
            Err(fault) => return self.refuse(Refused::head(&fault), false).await,
        };
        let (keep_alive, is_http_1_0) = (head.keep_alive, head.is_http_1_0);
        let persistence = |goes_on: bool| match (goes_on, is_http_1_0) {
            (false, _) => Persistence::Closes,
            (true, true) => Persistence::StaysSaid,
            (true, false) => Persistence::Stays,
        };
        match request::decide(shared, self.asker, &head).await {
            Ok(gift) => {
                Counters::add(&shared.counters.responses, 1);
                let goes_on = keep_alive && !self.carrier.is_used_up();
                let head = reply::gift(&gift, persistence(goes_on));
                let carrier = &mut self.carrier;
                body::give(shared, self.asker, carrier, &head, gift).await?;
                Ok(goes_on)
            }
            Err(refused) => {
                let goes_on = keep_alive && refused.reason != Reason::Stopping;
                self.say(refused, is_head, persistence(goes_on)).await?;
                Ok(goes_on)
            }
        }
    }

    /// The last answer of the connection.
    async fn refuse(&mut self, refused: Refused, is_head: bool) -> Result<bool, Cut> {
        self.say(refused, is_head, Persistence::Closes).await?;
        Ok(false)
    }

    async fn say(
        &mut self,
        refused: Refused,
        is_head: bool,
        persistence: Persistence,
    ) -> Result<(), Cut> {
        let (reason, who) = (refused.reason, self.asker.as_str());
        self.shared.refuse(reason, who, &refused.message);
        let answer = reply::refusal(refused, is_head, persistence);
        // Nobody is left to be told.
        self.carrier.send_head(&answer).await.map_err(|_| Cut)
    }
}
