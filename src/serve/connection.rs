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

use super::alarm::Alarm;
use super::at_once::Turn;
use super::at_once::Waiting;
use super::card::Card;
use super::card::TlsFacts;
use super::delivery::Delivery;
use super::head_scan::HeadScan;
use super::head_scan::Scan;
use super::request::Fault;
use super::send::TURN_BYTES;
use super::transport::Transport;
use super::worker::Settings;
use super::worker::Worker;
use crate::clock;
use crate::clock::Instant;
use std::future::poll_fn;
use std::io;
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
    pub(super) worker: Arc<Worker>,
    pub(super) settings: Arc<Settings>,
    /// Of `settings`.
    edition: u64,
    pub(super) transport: Transport,
    pub(super) card: Arc<Card>,
    pub(super) tls: Option<TlsFacts>,
    pub(super) alarm: Alarm,
    /// What the viewer sent and nobody has answered yet.
    pub(super) buffer: Vec<u8>,
    pub(super) out: Vec<u8>,
    pub(super) requests: u32,
    pub(super) delivery: Delivery,
    /// Since when it is nobody's turn but the viewer's: the end of the last response, or the
    /// beginning.
    pub(super) since: Instant,
    /// When this connection tells the table of viewers again.
    pub(super) record_at: Option<Instant>,
    /// Bytes sent since others had a turn, by responses that did not wait.
    pub(super) turn: u64,
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

impl Connection {
    pub(super) fn new(
        worker: Arc<Worker>,
        transport: Transport,
        card: Arc<Card>,
        tls: Option<TlsFacts>,
        alarm: Alarm,
    ) -> Self {
        Self {
            edition: worker.house.edition(),
            settings: worker.house.settings.load_full(),
            worker,
            transport,
            delivery: Delivery::new(card.peer.ip()),
            card,
            tls,
            alarm,
            buffer: Vec::new(),
            out: Vec::new(),
            requests: 0,
            since: clock::now(),
            record_at: None,
            turn: 0,
        }
    }

    /// Serves until the end, and says goodbye unless the connection is broken.
    pub(super) async fn run(mut self) {
        loop {
            let (waiting, end) = match self.next_head().await {
                Arrival::Head(head) => {
                    let end = head.end;
                    match poll_fn(|cx| Poll::Ready(self.answer(head.clone(), cx))).await {
                        Turn::Waits(waiting) => (waiting, end),
                        Turn::Over(Ok(true)) => {
                            forget(&mut self.buffer, end);
                            self.let_others().await;
                            continue;
                        }
                        Turn::Over(Ok(false)) => break,
                        Turn::Over(Err(())) => return,
                    }
                }
                Arrival::Fault(fault) => {
                    let exchange = self.refuse(fault.into(), None);
                    (Waiting::new(exchange), self.buffer.len())
                }
                Arrival::Over => break,
                Arrival::Gone => return,
            };
            self.card.busy.store(true, Relaxed);
            // On the heap while it runs: a connection is idle most of its life, and what a response
            // needs would be half of its memory.
            let outcome = Box::pin(self.respond_to(waiting, end)).await;
            self.card.busy.store(false, Relaxed);
            match outcome {
                Ok((true, end)) => forget(&mut self.buffer, end),
                Ok((false, _)) => break,
                Err(()) => return,
            }
        }
        self.transport.close(&mut self.alarm).await;
    }

    /// Receives what the request brings and responds; also says where the next request begins.
    async fn respond_to(
        &mut self,
        mut waiting: Box<Waiting>,
        mut end: usize,
    ) -> Result<(bool, usize), ()> {
        if waiting.exchange.is_upload() {
            end = Box::pin(self.receive(&mut waiting.exchange, end)).await;
            waiting.exchange.now = clock::now();
        }
        Ok((self.respond(&mut waiting).await?, end))
    }

    /// After many responses without a wait, the other viewers of this worker have a turn.
    async fn let_others(&mut self) {
        if self.turn >= TURN_BYTES {
            self.turn = 0;
            tokio::task::yield_now().await;
        }
    }

    async fn next_head(&mut self) -> Arrival {
        self.look_at_settings();
        let limits = &self.settings.limits;
        let mut scan = HeadScan::default();
        let idle_since = self.since;
        let mut head_since: Option<Instant> = None;
        loop {
            match scan.step(&self.buffer, limits.head) {
                Err(fault) => return Arrival::Fault(fault),
                Ok(Scan::Complete { start, end }) => return Arrival::Head(start..end),
                Ok(Scan::Incomplete) => {}
            }
            let idle = scan.is_untouched(&self.buffer);
            if idle {
                // Who has never asked has nothing to come back to, and holds a place of others.
                let time = match self.requests {
                    0 => limits.idle_time.min(limits.head_time),
                    1.. => limits.idle_time,
                };
                self.alarm.set(idle_since + time);
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

    pub(super) fn look_at_settings(&mut self) {
        let edition = self.worker.house.edition();
        if edition != self.edition {
            self.settings = self.worker.house.settings.load_full();
            self.edition = edition;
        }
    }
}

/// Drops the head that was answered from the buffer.
fn forget(buffer: &mut Vec<u8>, end: usize) {
    if end == buffer.len() {
        buffer.clear();
    } else {
        buffer.drain(..end);
    }
    // An empty line may be all that is left.
    if buffer.capacity() > IDLE_BUFFER_BYTES && buffer.len() <= IDLE_BUFFER_BYTES {
        buffer.shrink_to_fit();
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_given_back_though_an_empty_line_follows_the_request() {
        for (tail, room) in [(0, 0), (2, 64), (IDLE_BUFFER_BYTES, IDLE_BUFFER_BYTES)] {
            let mut buffer = Vec::with_capacity(17 * 1024);
            buffer.resize(500 + tail, b'x');
            forget(&mut buffer, 500);
            assert_eq!(buffer.len(), tail);
            assert!(buffer.capacity() <= room, "{tail}: {}", buffer.capacity());
        }
        // Requests that wait keep the room they came in.
        let mut buffer = vec![b'x'; 9_000];
        forget(&mut buffer, 500);
        assert!(buffer.capacity() >= 9_000);
    }
}
