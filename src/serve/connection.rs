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
use super::card::Card;
use super::card::TlsFacts;
use super::delivery::Delivery;
use super::head_scan::HeadScan;
use super::head_scan::Scan;
use super::request::Fault;
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
    /// When this connection last told the table of viewers.
    pub(super) recorded: Option<Instant>,
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
            recorded: None,
        }
    }

    /// Serves until the end, and says goodbye unless the connection is broken.
    pub(super) async fn run(mut self) {
        loop {
            let (mut exchange, end) = match self.next_head().await {
                Arrival::Head(head) => {
                    let exchange = self.decide(head.clone());
                    if exchange.is_upload() {
                        let (mut exchange, end) = Box::pin(self.receive(exchange, head.end)).await;
                        exchange.now = clock::now();
                        (exchange, end)
                    } else {
                        (exchange, head.end)
                    }
                }
                Arrival::Fault(fault) => (self.refuse(fault.into(), None), self.buffer.len()),
                Arrival::Over => break,
                Arrival::Gone => return,
            };
            self.card.busy.store(true, Relaxed);
            // On the heap while it runs: a connection is idle most of its life, and what a response
            // needs would be half of its memory.
            let outcome = Box::pin(self.respond(&mut exchange)).await;
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

    pub(super) fn look_at_settings(&mut self) {
        let newest = self.worker.house.settings.load();
        if !Arc::ptr_eq(&newest, &self.settings) {
            self.settings = Arc::clone(&newest);
        }
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
