//! Pays for bytes before they may come.
//!
//! A source can put on the wire what has been read plus one receive buffer. [`Purse::poll_pay`]
//! therefore buys turns for that much and a little more, ahead of the reading, and raises the
//! connection's allowance ([`super::meter`]) by what was bought, less the buffer. Turns are told
//! what has come: what is bought and has not may come in a burst. What was bought and never came
//! goes back when the purse is dropped, however the transfer ends.
//!
//! I/O: waits for turns.

use super::meter::Meter;
use crate::clock;
use crate::clock::Instant;
use crate::fill::Class;
use crate::fill::Closed;
use crate::fill::Turns;
use crate::fill::overhead::Framing;
use futures_util::future::BoxFuture;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

/// Bought beyond the receive buffer, so that reading goes on while the next turn is waited for: a
/// quarter of the buffer within these. The least is what nobody buys turns in the middle of.
const LEAD_BYTES_MIN: u64 = HEAD_BYTES;
const LEAD_BYTES_MAX: u64 = 64 << 10;

/// One turn: a quarter of the receive buffer, and no more than this. A shorter one only for what
/// is left.
const QUANTUM_BYTES_MAX: u64 = 128 << 10;

/// Handshake and head of an answer.
const HEAD_BYTES: u64 = 24 << 10;

/// What TLS adds if records are as short as a segment: 22 bytes in 1,400.
const RECORD_SHARE: u64 = 60;

/// As long as part of the body is missing, this much more may be on its way.
const TAIL_BYTES: u64 = 16 << 10;

/// What frames the last of it.
const END_BYTES: u64 = 1 << 10;

/// Counts in bytes at the socket; pays for the frames around them too, as they turn out to be.
pub(super) struct Purse {
    turns: Arc<dyn Turns>,
    class: Class,
    /// What the kernel may hold of a connection.
    buffer: u64,
    paid: u64,
    paid_wire: u64,
    /// What turns know to have come.
    told_wire: u64,
    /// On connections that are done with: at the socket, and as the cap counts.
    used_before: u64,
    wire_before: u64,
    connection: Option<Arc<Meter>>,
    /// Of the answer at hand, as it was asked for.
    body: u64,
    /// What that answer needs in all, `used_before` included.
    whole: u64,
    paying: Option<Paying>,
    waited: Duration,
    blocked_before: Duration,
}

struct Paying {
    bytes: u64,
    wire: u64,
    turn: BoxFuture<'static, Result<(), Closed>>,
}

/// What the kernel may hold of a connection, for a purse that never has more than `ahead` bytes
/// bought that have not come: buffer, lead and turn.
pub(super) fn buffer_for(ahead: u64) -> u64 {
    let with_quarters = ahead * 2 / 3;
    let with_least_lead = ahead.saturating_sub(LEAD_BYTES_MIN) * 4 / 5;
    with_quarters.min(with_least_lead)
}

impl Purse {
    /// `buffer`: as `SO_RCVBUF` is set, which the kernel doubles.
    pub(super) fn new(turns: Arc<dyn Turns>, class: Class, buffer: u32) -> Self {
        Self {
            turns,
            class,
            buffer: 2 * u64::from(buffer),
            paid: 0,
            paid_wire: 0,
            told_wire: 0,
            used_before: 0,
            wire_before: 0,
            connection: None,
            body: 0,
            whole: 0,
            paying: None,
            waited: Duration::ZERO,
            blocked_before: Duration::ZERO,
        }
    }

    /// An answer of `body` bytes is to be asked for: waits for its first turn.
    pub(super) async fn begin(&mut self, body: u64) -> Result<(), Closed> {
        self.body = body;
        self.whole = self.used() + body + body / RECORD_SHARE + HEAD_BYTES;
        let start = clock::now();
        let paid = poll_fn(|context| self.poll_pay(context, body)).await;
        self.waited += clock::now() - start;
        paid
    }

    /// The connection on which bytes come from here on.
    pub(super) fn attach(&mut self, meter: Arc<Meter>) {
        meter.start(0);
        self.connection = Some(meter);
        self.allow();
    }

    /// It is done with. `clean`: nothing of the answer is left, neither in the kernel nor beyond.
    pub(super) fn detach(&mut self, clean: bool) {
        let Some(meter) = self.connection.take() else {
            return;
        };
        let read = meter.read();
        let left = if clean || read == 0 { 0 } else { self.buffer };
        let used = (read + left).min(self.paid.saturating_sub(self.used_before));
        self.used_before += used;
        self.wire_before += meter.framing().wire(used);
        self.blocked_before += meter.blocked(clock::now());
        if clean {
            meter.rest();
        }
    }

    /// Buys what is due while `rest` bytes of the body are missing. Pending: a turn is waited for.
    pub(super) fn poll_pay(
        &mut self,
        context: &mut Context<'_>,
        rest: u64,
    ) -> Poll<Result<(), Closed>> {
        self.tell();
        loop {
            if self.paying.is_none() {
                let bytes = self.due(rest);
                if bytes == 0 {
                    self.allow();
                    return Poll::Ready(Ok(()));
                }
                let wire = self.price(bytes);
                let (turns, class) = (Arc::clone(&self.turns), self.class);
                let turn = Box::pin(async move { turns.lend(class, wire).await });
                self.paying = Some(Paying { bytes, wire, turn });
            }
            if let Some(paying) = &mut self.paying {
                let taken = std::task::ready!(paying.turn.as_mut().poll(context));
                let (bytes, wire) = (paying.bytes, paying.wire);
                self.paying = None;
                taken?;
                self.paid += bytes;
                self.paid_wire += wire;
                self.allow();
            }
        }
    }

    /// Frames that came after the last payment and were more than was thought.
    pub(super) async fn settle(&mut self) {
        let short = self.wire(self.used()).saturating_sub(self.paid_wire);
        if short > 0 && self.turns.lend(self.class, short).await.is_ok() {
            self.paid_wire += short;
        }
    }

    /// Bytes at the socket, all connections together.
    pub(super) fn used(&self) -> u64 {
        let read = self.connection.as_ref().map_or(0, |meter| meter.read());
        self.used_before + read
    }

    /// Of the connection at hand.
    pub(super) fn read(&self) -> u64 {
        self.connection.as_ref().map_or(0, |meter| meter.read())
    }

    /// Of the connection at hand.
    pub(super) fn blocked(&self, now: Instant) -> Duration {
        let meter = self.connection.as_ref();
        meter.map_or(Duration::ZERO, |meter| meter.blocked(now))
    }

    /// Time without turns, from the first connection on.
    pub(super) fn waited(&self) -> Duration {
        self.waited + self.blocked_before + self.blocked(clock::now())
    }

    /// As the cap counts them.
    pub(super) fn received(&self) -> u64 {
        let received = self.wire(self.used()).min(self.paid_wire);
        received.max(self.told_wire)
    }

    /// The first `bytes` of the transfer as the cap counts them.
    fn wire(&self, bytes: u64) -> u64 {
        let framing = self.connection.as_ref().map(|meter| meter.framing());
        let here = bytes.saturating_sub(self.used_before);
        self.wire_before + framing.unwrap_or(Framing::UNKNOWN).wire(here)
    }

    /// What so many bytes more cost. The frames of those before are known better each time: too
    /// little for them is made up for, too much is set off.
    fn price(&self, bytes: u64) -> u64 {
        let wire = self.wire(self.paid + bytes);
        wire.saturating_sub(self.paid_wire).max(bytes)
    }

    fn due(&mut self, rest: u64) -> u64 {
        let used = self.used();
        self.whole = if rest < self.body {
            // The head is there, and whatever is not body: bought turns that nothing comes in
            // are lost to everybody.
            used + rest + rest / RECORD_SHARE + END_BYTES
        } else {
            // Records shorter than was thought; and the end of a body is more than its last byte.
            self.whole.max(used + rest.min(TAIL_BYTES) + END_BYTES)
        };
        let lead = (self.buffer / 4).clamp(LEAD_BYTES_MIN, LEAD_BYTES_MAX);
        let wanted = (used + self.buffer + lead).min(self.whole);
        if self.paid >= wanted {
            return 0;
        }
        let turn = (self.buffer / 4).clamp(1, QUANTUM_BYTES_MAX);
        turn.min(self.whole - self.paid)
    }

    /// What has come was bought before; framing that is known better may make it less.
    fn tell(&mut self) {
        let arrived = self.connection.as_ref().map_or(0, |meter| meter.arrived());
        let came = self.wire(self.used_before + arrived).min(self.paid_wire);
        if came > self.told_wire {
            self.turns.came(came - self.told_wire);
            self.told_wire = came;
        }
    }

    fn allow(&self) {
        if let Some(meter) = &self.connection {
            let here = self.paid.saturating_sub(self.used_before);
            // When all that can come is paid for, the buffer is in it.
            let kept = if self.paid >= self.whole {
                0
            } else {
                self.buffer
            };
            meter.allow(here.saturating_sub(kept));
        }
    }
}

impl Drop for Purse {
    fn drop(&mut self) {
        self.detach(false);
        self.tell();
        let unused = self.paid_wire - self.told_wire;
        if unused > 0 {
            self.turns.give_back(self.class, unused);
        }
    }
}

impl fmt::Debug for Purse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Purse")
            .field("paid", &self.paid)
            .field("used_before", &self.used_before)
            .finish_non_exhaustive()
    }
}
